//! How much memory an image of names and attributes may take.

/// The part of the machine's memory that one mount may take: room for a million files on a machine of 4 GiB.
const SHARE: u64 = 16;

/// Where the size of the machine's memory can't be read.
const UNKNOWN_BYTES: u64 = 128 << 20;

/// The limit for one mount, in bytes.
pub(super) fn share() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    total(&text).map_or(UNKNOWN_BYTES, |bytes| bytes / SHARE)
}

/// What `/proc/meminfo` (proc(5)) says of all memory, in bytes.
fn total(text: &str) -> Option<u64> {
    let row = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = row.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_the_machine() {
        let text = "MemTotal:       16384000 kB\nMemFree:          100 kB\n";
        assert_eq!(total(text), Some(16_384_000 << 10));
        for odd in ["", "MemTotal: x kB\n", "MemTotal: 18446744073709551615 kB\n", "MemTotal: 5"] {
            assert_eq!(total(odd), None, "{odd}");
        }
        assert!(share() > 0);
    }
}
