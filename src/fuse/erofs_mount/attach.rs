//! Mounting EROFS over devices that this process serves, so that the process can be killed meanwhile.
//!
//! # Problem
//!
//! EROFS opens its devices when it is mounted, and the thread that mounts it waits for the answers. If the
//! process that is to give them is killed, the kernel ends the wait when the connection is closed; and that is
//! closed when no process has a descriptor of it any more. A thread that waits in the kernel does not end, and
//! threads share their descriptors: a thread of the server would keep open what it waits for to close, for ever.
//!
//! # Design
//!
//! A thread with a table of descriptors of its own (`CLONE_FILES` in unshare(2)), made before there is a
//! connection. It is told nothing but paths, which lead by way of `/proc/self/fd` to what the others have open
//! (`/proc/self` is the process, not the thread), and gives back nothing but a number.
//!
//! (Rejected: a process for it. It would do the same, and take longer to start than all the rest takes.)

#![allow(unsafe_code, reason = "one call; see there")]

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use rustix::fs::CWD;
use rustix::mount::MoveMountFlags;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::detached::{device_minor, mount_image};
use super::error::{Error, step};

/// What to mount, and where.
#[derive(Debug)]
pub(super) struct Task {
    /// The path of the image.
    pub(super) image: String,
    /// How many devices it has, and the folder they are in.
    pub(super) devices: usize,
    pub(super) folder: String,
    /// Followed, if it is a symlink.
    pub(super) mount_point: PathBuf,
    pub(super) no_exec: bool,
}

/// Who mounts.
#[derive(Debug)]
pub(super) struct Attacher {
    tasks: Sender<Task>,
    thread: JoinHandle<Result<u32, Error>>,
}

impl Attacher {
    /// Starts the thread. It has the descriptors that are open now, until it ends, and none that are opened later.
    pub(super) fn start() -> Result<Attacher, Error> {
        let (tasks, told) = channel();
        let (apart, is_apart) = channel::<()>();
        let work = move || {
            // SAFETY: the descriptors of this thread and those of the others have the same numbers and are not the same
            // from here on. It uses none from before, gets none and gives none away.
            let unshared = unsafe { unshare_unsafe(UnshareFlags::FILES) };
            drop(apart);
            unshared.map_err(step("a thread that mounts"))?;
            attach(&told)
        };
        let builder = thread::Builder::new().name("attach".into());
        let thread = builder.spawn(work).map_err(step("a thread that mounts"))?;
        // Until the other end is dropped. If it can't be apart, it says so when it is joined.
        let _ = is_apart.recv();
        Ok(Attacher { tasks, thread })
    }

    /// Mounts, and returns the minor number of the device of what is mounted then. It may be `abandoned` by those who are to
    /// answer, which is asked again and again, and waits a little.
    pub(super) fn attach(self, task: Task, abandoned: &dyn Fn() -> bool) -> Result<u32, Error> {
        drop(self.tasks.send(task));
        while !self.thread.is_finished() {
            if abandoned() {
                // The thread waits until the connection is closed.
                let ended = std::io::Error::other("the serving process has ended");
                return Err(step("mounting EROFS")(ended));
            }
        }
        let failed = |_| step("mounting EROFS")(std::io::Error::other("its thread died"));
        self.thread.join().map_err(failed)?
    }
}

fn attach(told: &Receiver<Task>) -> Result<u32, Error> {
    let failed =
        |_| step("mounting EROFS")(std::io::Error::other("the mounting thread got no task"));
    let task = told.recv().map_err(failed)?;
    let image = mount_image(&task.image, task.devices, &task.folder, task.no_exec)?;
    rustix::mount::move_mount(
        &image,
        "",
        CWD,
        &task.mount_point,
        // The place is a link to what is open.
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
    )
    .map_err(step("mounting"))?;
    device_minor(&image).map_err(step("the number of the mount"))
}
