//! What answers have in common.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{Errno, ReplyXattr};

use crate::fs;

/// How long the kernel may keep what it was told: longer than any machine runs.
pub(super) const FOREVER: Duration = Duration::from_secs(1 << 30);

/// How often the page cache makes a read again by itself that has [failed](super::failures).
pub(super) const ECHOES: u32 = 1;

/// The errno of an error that is the caller's doing.
pub(super) fn refused(operation: &str, error: &fs::Error) -> Errno {
    log::debug!("{operation}: {error}");
    Errno::from_i32(error.errno().raw_os_error())
}

pub(super) fn system_time(seconds: i64, nanoseconds: u32) -> SystemTime {
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let base = match seconds >= 0 {
        true => UNIX_EPOCH.checked_add(whole),
        false => UNIX_EPOCH.checked_sub(whole),
    };
    base.and_then(|t| t.checked_add(Duration::from_nanos(nanoseconds.into()))).unwrap_or(UNIX_EPOCH)
}

/// The protocol of xattr calls: a size of 0 asks how much there is.
pub(super) fn xattr_answer(reply: ReplyXattr, size: u32, value: &[u8]) {
    if size == 0 {
        reply.size(value.len() as u32);
    } else if value.len() > size as usize {
        reply.error(Errno::ERANGE);
    } else {
        reply.data(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch() {
        let half = system_time(-2, 500_000_000);
        assert_eq!(UNIX_EPOCH.duration_since(half).ok(), Some(Duration::from_millis(1500)));
        assert_eq!(system_time(i64::MAX, 1_999_999_999), UNIX_EPOCH, "what does not fit");
    }
}
