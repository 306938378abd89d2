//! Whether the kernel has killed processes for want of memory.
//!
//! Who has sent `SIGKILL` is not told to the parent of the process that it ended. A request that takes all memory ends each
//! worker by it; but so does an operator, or a service manager, again and again, whatever is being read. The kernel counts
//! its own: as long as it has killed nobody, none of ours was.

use std::fs;

/// What the kernel has killed since it was asked last.
#[derive(Debug)]
pub(super) struct MemoryKills {
    /// All until then; `None` if it does not tell.
    counted: Option<u64>,
}

impl MemoryKills {
    pub(super) fn until_now() -> MemoryKills {
        MemoryKills { counted: counted() }
    }

    /// Whether there may have been one since this was made or asked.
    pub(super) fn may_be_more(&mut self) -> bool {
        let before = std::mem::replace(&mut self.counted, counted());
        before.is_none() || before != self.counted
    }
}

/// The counter of proc(5), which counts those of control groups too.
fn counted() -> Option<u64> {
    let text = fs::read_to_string("/proc/vmstat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::MemoryKills;

    #[test]
    fn what_is_not_told_may_have_been() {
        assert!(MemoryKills { counted: None }.may_be_more());
        assert!(MemoryKills { counted: Some(u64::MAX) }.may_be_more());
    }
}
