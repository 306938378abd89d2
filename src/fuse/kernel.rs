//! Mounting and unmounting: `mount(2)` as root, `fusermount3` for everybody else.
//!
//! Our own code, because unmounting has to be exact: only a mount that is ours, at the place where
//! it is, and lazily when it must not fail. What is mounted on is held by a descriptor
//! ([`MountPoint`]), and what is unmounted is known by its number. Mounts are looked up in
//! `/proc/self/mountinfo` (proc(5)), never by touching them: a stale mount answers every touch with
//! ENOTCONN, and one's own mount would deadlock.

mod device;
mod erofs_source;
mod error;
mod fusermount;
mod holders;
mod ids;
mod mount_point;
mod mountinfo;
mod mounting;
mod namespace;
mod options;
mod overlay_source;
mod unmounting;

pub use device::FS_TYPE;
pub(super) use device::{MAX_READ_BYTES, open_device};
pub(super) use erofs_source::{DESCRIPTORS, FS_TYPE as EROFS_TYPE, image_path};
pub use error::Error;
pub use holders::{Holder, Process, holders};
pub(super) use ids::{CAP_SYS_ADMIN, INITIAL_USER_NAMESPACE, process_has_capability};
pub use ids::{has_all_ids, is_in_user_namespace, is_root};
pub use mount_point::{MountPoint, absolute};
pub use mountinfo::{Mounted, Unreadable, mounts, uppermost};
pub use mounting::{check_requirements, mount, prepare, try_mount};
pub use namespace::Namespace;
pub use options::{FuseMountOptions, Unmount};
pub use overlay_source::overlay_source;
pub use unmounting::{Answer, abort, answer, is_dead, unmount};
