//! What the kernel shows as the source of an overlay over a mount of ours: `ocifs-CONNECTION-PID/SOURCE`.
//!
//! The mount below is not in the table of mounts, as it was made in another namespace.

/// The file system type that `/proc/mounts` shows.
pub(super) const FS_TYPE: &str = "overlay";

const MARK: &str = "ocifs-";

/// The kernel takes no longer values for options, in bytes.
const MAX_VALUE_BYTES: usize = 255;

/// The source to mount an overlay with, over what a process serves for a connection.
pub fn overlay_source(connection: u32, pid: u32, source: &str) -> String {
    let mut text = format!("{MARK}{connection}-{pid}/{source}");
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=text.len().min(MAX_VALUE_BYTES)).rev().find(fits).unwrap_or(0);
    text.truncate(end);
    text
}

/// The connection, the process and what is mounted, if it is such an overlay.
pub(super) fn parse(source: &str) -> Option<(u32, u32, &str)> {
    let (numbers, source) = source.strip_prefix(MARK)?.split_once('/')?;
    let (connection, pid) = numbers.split_once('-')?;
    Some((connection.parse().ok()?, pid.parse().ok()?, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_found_again() {
        let source = "docker.io/library/debian:12";
        assert_eq!(parse(&overlay_source(52, 7, source)), Some((52, 7, source)));
        assert_eq!(parse(&overlay_source(52, 7, &"\u{fc}".repeat(400))).map(|all| all.0), Some(52));
        for other in ["", "overlay", "ocifs", "ocifs-/x", "ocifs-1-x/y", "ocifs-1-2"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
