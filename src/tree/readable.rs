//! Extended attributes that Linux returns to no process.
//!
//! A tar can hold attributes that no system call returns: the kernel looks at the kind of the file, and at the values
//! that it uses itself. On a disk there are none such, because they can't be set. A file system that lists one
//! all the same makes every tool fail that copies what is listed.

use super::inode::FileKind;

const USER: &[u8] = b"user.";
const ACLS: [&[u8]; 2] = [b"system.posix_acl_access", b"system.posix_acl_default"];
const CAPABILITY: &[u8] = b"security.capability";

/// Whether the kernel returns this value to a process that may have it.
pub(super) fn is_readable(kind: FileKind, name: &[u8], value: &[u8]) -> bool {
    match kind {
        // `xattr_permission` in fs/xattr.c.
        _ if name.starts_with(USER) => matches!(kind, FileKind::Regular | FileKind::Directory),
        // `vfs_get_acl` in fs/posix_acl.c.
        _ if ACLS.contains(&name) => kind != FileKind::Symlink && is_acl(value),
        _ if name == CAPABILITY => is_capability(value),
        _ => true,
    }
}

/// What `posix_acl_from_xattr` (fs/posix_acl.c) reads: version 2, then rows of 8 bytes; those of a named user
/// or group have an id. Format: include/uapi/linux/posix_acl_xattr.h.
fn is_acl(value: &[u8]) -> bool {
    const VERSION: [u8; 4] = 2u32.to_le_bytes();
    const ROW_BYTES: usize = 8;
    let Some(rows) = value.strip_prefix(&VERSION) else { return false };
    let rows = rows.chunks(ROW_BYTES);
    rows.len() > 0
        && rows.into_iter().all(|row| match row {
            // User and group.
            [0x02 | 0x08, 0, _, _, id @ ..] => id.len() == 4 && id != [0xff; 4],
            // The owner, the owning group, the mask, and others.
            [0x01 | 0x04 | 0x10 | 0x20, 0, _, _, id @ ..] => id.len() == 4,
            _ => false,
        })
}

/// What `cap_inode_getsecurity` (security/commoncap.c) reads: revision 2 or 3 in the last byte of the first word, and
/// as long as that is. Format: `struct vfs_ns_cap_data` of include/uapi/linux/capability.h.
fn is_capability(value: &[u8]) -> bool {
    matches!((value.len(), value.get(3)), (20, Some(2)) | (24, Some(3)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_files() {
        use FileKind::{CharDevice, Directory, Fifo, Regular, Symlink};
        for (name, kinds) in [
            (USER, &[Regular, Directory][..]),
            (b"trusted.", &[Regular, Directory, Symlink, Fifo, CharDevice]),
            (b"security.selinux", &[Regular, Directory, Symlink, Fifo, CharDevice]),
        ] {
            for kind in [Regular, Directory, Symlink, Fifo, CharDevice] {
                let name = [name, b"x"].concat();
                assert_eq!(is_readable(kind, &name, b""), kinds.contains(&kind), "{kind:?}");
            }
        }
    }

    #[test]
    fn access_control_lists() {
        let acl = |rows: &[[u8; 8]]| [&2u32.to_le_bytes()[..], &rows.concat()].concat();
        let (owner, user) = ([1, 0, 6, 0, 255, 255, 255, 255], [2, 0, 4, 0, 232, 3, 0, 0]);
        let good = acl(&[owner, user]);
        for name in ACLS {
            assert!(is_readable(FileKind::Regular, name, &good));
            assert!(is_readable(FileKind::Fifo, name, &good));
            assert!(!is_readable(FileKind::Symlink, name, &good));
        }
        let foreign = [2, 0, 4, 0, 255, 255, 255, 255];
        let version_1 = [&1u32.to_le_bytes()[..], &owner].concat();
        for bad in [&b""[..], &acl(&[]), &acl(&[foreign]), &acl(&[[3; 8]]), &good[1..], &version_1]
        {
            assert!(!is_acl(bad), "{bad:?}");
        }
        (5..good.len()).filter(|end| *end != 12).for_each(|end| assert!(!is_acl(&good[..end])));
    }

    #[test]
    fn capabilities() {
        let value = |revision: u8, length: usize| {
            let mut value = vec![0; length];
            value[3] = revision;
            value
        };
        assert!(is_capability(&value(2, 20)) && is_capability(&value(3, 24)));
        for (revision, length) in [(1, 12), (2, 24), (3, 20), (2, 19), (4, 24), (0, 20)] {
            assert!(!is_capability(&value(revision, length)), "{revision} {length}");
        }
        assert!(!is_capability(b"") && !is_readable(FileKind::Regular, CAPABILITY, b"x"));
    }
}
