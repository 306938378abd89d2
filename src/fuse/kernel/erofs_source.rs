//! What the kernel shows as the source of a mount of EROFS: it says which process is there as long as its
//! contents are served.
//!
//! The source of EROFS is the path of its image, so the path is chosen to tell what matters:
//! `STORE/ocifs-CONNECTION-PID/SOURCE`.

/// The file system type that `/proc/mounts` shows.
pub(in crate::fuse) const FS_TYPE: &str = "erofs";

/// The kernel takes no longer values for options, in bytes.
const MAX_VALUE_BYTES: usize = 255;

/// Where a process finds its own descriptors.
pub(in crate::fuse) const DESCRIPTORS: &str = "/proc/self/fd/";

/// Begins the name of the folder that the image is in; the numbers of the connection and of its process
/// follow.
const MARK: &str = "ocifs-";

/// `STORE/ocifs-CONNECTION-PID/SOURCE`, where the source is cut and changed so far that it is a path.
pub(in crate::fuse) fn image_path(store: &str, connection: u32, pid: u32, source: &str) -> String {
    let folder = format!("{store}/{MARK}{connection}-{pid}");
    let mut path = folder.clone();
    let components = source.split('/').filter(|name| !matches!(*name, "" | "." | ".."));
    for component in components {
        let room = (MAX_VALUE_BYTES - 1).saturating_sub(path.len());
        let fits = |end: &usize| *end <= room && component.is_char_boundary(*end);
        let end = (0..=component.len()).rev().find(fits).unwrap_or(0);
        if end > 0 {
            path.push('/');
            path.push_str(&component[..end]);
        }
        if end < component.len() {
            break;
        }
    }
    if path == folder {
        path.push_str("/image");
    }
    path
}

/// What the source that the kernel shows says of such a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin<'a> {
    pub(super) connection: u32,
    /// Who serves it.
    pub(super) pid: u32,
    /// What is mounted.
    pub(super) source: &'a str,
}

/// Reads the source that the kernel shows; `None` if the mount is not one of these.
pub(super) fn parse_source(source: &str) -> Option<Origin<'_>> {
    let (_, path) = source.strip_prefix(DESCRIPTORS)?.split_once('/')?;
    let (mark, source) = path.strip_prefix(MARK)?.split_once('/')?;
    let (connection, pid) = mark.split_once('-')?;
    Some(Origin { connection: connection.parse().ok()?, pid: pid.parse().ok()?, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_found_again() {
        let shown = |source: &str| {
            let path = image_path("/proc/self/fd/12", 345, 678, source);
            assert!(path.len() <= MAX_VALUE_BYTES);
            let origin = parse_source(&path).unwrap();
            assert_eq!((origin.connection, origin.pid), (345, 678));
            origin.source.to_owned()
        };
        assert_eq!(shown("docker.io/library/debian:12"), "docker.io/library/debian:12");
        assert_eq!(shown("oci:/a//b/../c/./d"), "oci:/a/b/c/d");
        assert_eq!(shown(""), "image");
        assert_eq!(shown("../.."), "image");
        assert!(shown(&"a/".repeat(400)).ends_with("/a"));
        let long = shown(&format!("x{}", "\u{fc}".repeat(400)));
        assert!(long.len() > 200 && long.starts_with("x\u{fc}"));
        for other in ["", "/dev/loop0", "/proc/self/fd/1/image", "/proc/self/fd/1/ocifs-/x"] {
            assert_eq!(parse_source(other), None, "{other}");
        }
    }
}
