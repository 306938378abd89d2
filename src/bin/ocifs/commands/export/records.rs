//! The records of PAX headers, and the fields that they stand in for.

use ocifs::tree::Attributes;
use tar::Header;

/// The largest number that a seven-digit octal field holds.
const MAX_OCTAL_7: u64 = 0o7_777_777;

/// The largest size or time that an eleven-digit octal field holds.
const MAX_OCTAL_11: u64 = 0o77_777_777_777;

/// The records of a PAX header. (`tar`'s own builder takes only keys that are UTF-8, and names of
/// attributes need not be.)
#[derive(Default)]
pub(super) struct Records(pub(super) Vec<u8>);

impl Records {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = 1 + key.len() + 1 + value.len() + 1;
        // The length counts its own digits.
        let mut digits = 1;
        while (rest + digits).to_string().len() > digits {
            digits += 1;
        }
        self.0.extend_from_slice((rest + digits).to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.0.extend_from_slice(part);
        }
    }

    /// A name goes into its header field if it fits there, and into a record if not.
    pub(super) fn name(&mut self, header: &mut Header, key: &str, name: &[u8]) {
        let bytes = header.as_mut_bytes();
        let field = if key == "path" { &mut bytes[..100] } else { &mut bytes[157..257] };
        let fits = name.len() <= field.len();
        let length = name.len().min(field.len());
        field[..length].copy_from_slice(&name[..length]);
        if !fits || !name.is_ascii() {
            self.add(key.as_bytes(), name);
        }
    }

    pub(super) fn owner(&mut self, header: &mut Header, a: &Attributes) {
        header.set_uid(u64::from(a.uid).min(MAX_OCTAL_7));
        header.set_gid(u64::from(a.gid).min(MAX_OCTAL_7));
        for (key, id) in [(b"uid", a.uid), (b"gid", a.gid)] {
            if u64::from(id) > MAX_OCTAL_7 {
                self.add(key, id.to_string().as_bytes());
            }
        }
    }

    pub(super) fn size(&mut self, header: &mut Header, size: u64) {
        header.set_size(size);
        if size > MAX_OCTAL_11 {
            self.add(b"size", size.to_string().as_bytes());
        }
    }

    pub(super) fn time(&mut self, header: &mut Header, a: &Attributes) {
        let whole = u64::try_from(a.mtime_seconds).unwrap_or(0).min(MAX_OCTAL_11);
        header.set_mtime(whole);
        let (seconds, nanoseconds) = (a.mtime_seconds, a.mtime_nanoseconds);
        if i64::try_from(whole) == Ok(seconds) && nanoseconds == 0 {
            return;
        }
        // Rounded down in memory, signed magnitude on paper.
        let text = match seconds < 0 && nanoseconds > 0 {
            true => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
            false => format!("{seconds}.{nanoseconds:09}"),
        };
        self.add(b"mtime", text.as_bytes());
    }
}
