//! The process that a mount lives as long as: it keeps the connection to the kernel, and starts a worker that serves.
//!
//! # Problem
//!
//! The process that serves a mount reads images, which strangers have made, and takes the memory that they need. When it
//! dies, by a fault of its own, by `kill -9` or for want of memory, every program that reads from the mount fails, and what
//! is left is a mount that no process serves.
//!
//! # Design
//!
//! So it is another process, the *worker*. This one, the *supervisor*, opens no image, and mounts what the first worker
//! has opened: workers are contained, and may not ([`confined`](super::confined)). What else they may not do it does for
//! them ([`errands`](super::errands)). It hands over the connection, and to later workers what the names of the images meant
//! ([`Kept`]). When a worker has died, the kernel is told to send again what it had read and not answered, and the next
//! one is started. Readers wait meanwhile, for a few hundredths of a second as a rule, and notice nothing.
//!
//! What must happen once is done here: signals, unmounting, the status socket, the word to the process that was
//! asked for the mount.
//! `status` names this process, and SIGTERM to it unmounts. For want of memory the kernel kills workers first, as this
//! process is the smallest there is.
//!
//! What ends one worker after the other is refused in the end (`ocifs::fuse::Suspects`), and one that hangs is killed
//! ([`watch`](super::watch)).
//!
//! The first worker is started as the next ones are, so that what is needed rarely is tested all the time.
//!
//! (Rejected: to keep the descriptor in the service manager (`FDSTORE`), which most machines' users can't use. To fork
//! workers from a process that has the image open: there would be no gap, and its parsers would be where the
//! connection is.)
//!
//! # What is not replaced, and what is looked up
//!
//! An archive from standard input can't be read twice. With `--prefetch=push` a thread of a dead worker may wait in the
//! kernel for a page that another request has locked, so that its death would be noticed after that request only, which
//! waits for the next worker. These mounts have one worker, which is contained as all are, and die with it: the connection of
//! one that does not come to its end is aborted.
//!
//! What `ocifs browse` and `--layout` have looked up has numbers in that order. Workers write it down where the next one finds
//! it (`ocifs::space::Journal`); this process keeps the descriptor and reads nothing of it.
//!
//! # An overlay
//!
//! What can be written is an overlay over the mount, made in a mount namespace of its own (`crate::commands::run::Guest`),
//! and is all that is seen of both here: to unmount it ends everything. The scratch layer is in memory, and so leaves
//! nothing behind. (Rejected: two mounts over each other, of which umount(8) takes the upper one; a directory for temporary
//! files, which a killed process leaves.)
//!
//! # Invariants
//!
//! - One worker at a time reads requests, and there is none that this process has not waited for, but for those that were
//!   killed and can't end. Another one is there only while it takes over with another version ([`upgrade`](super::upgrade)).
//! - A worker may write to the folder of the cache that was there when it was started, and to no other one at its
//!   place. If that folder is removed, another worker is started, which makes it again.
//! - The same holds for the files that names of hosts are looked up with: if one is replaced, another worker takes over.
//! - If this process dies, its worker does, and the mount is dead.
//! - This process reads requests only while no worker does.
//! - Where requests can't be resent (before Linux 6.9), those that a dead worker has read would wait for ever: the mount
//!   dies with its worker then.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use ocifs::fuse::Death;
use ocifs::fuse::erofs_mount::Stage;
use ocifs::fuse::kernel::MountPoint;
use ocifs::mount::{
    self, Attached, Kept, MountOptions, StatusSocket, Supervision, Unmounter, check_free, found,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::background::detach;
use super::control::{OpenedImage, Word};
use super::desertion::Desertion;
use super::ending::Ending;
use super::errands::Helpers;
use super::memory_kills::MemoryKills;
use super::outage::Outage;
use super::signals;
use super::upgrade::{Ready, Upgrade};
use super::watch::Watch;
use super::worker::DIFFERENT;
use super::workers::{FolderId, ListId, Worker, Workers};
use crate::commands::process::{self, ProcessStage};
use crate::commands::run::{FAILED_BEFORE, Guest, Signals};
use crate::commands::secrets::hide_secrets;
use crate::contain::NameFiles;
use crate::environment;
use crate::notify;
use crate::render::errors::AnyError;
use crate::variables;

/// How often it is looked whether the connection has ended while a worker serves, which may be stopped.
const GLANCE: Duration = Duration::from_secs(10);

/// Mounts, and stays until it is unmounted.
pub(super) fn run(
    workers: Workers,
    mount_point: MountPoint,
    options: &MountOptions,
    mut overlay: Option<Guest>,
) -> Result<ExitCode, AnyError> {
    hide_secrets()?;
    check_free(&mount_point, options)?;
    let mut helpers = Helpers::default();
    let list = workers.list_now();
    let names = NameFiles::now();
    let mut worker = workers.start(None)?;
    let Some(Word::Opened(OpenedImage { source, digest, .. })) =
        worker.word_while(&workers, &mut helpers)?
    else {
        return worker.failed();
    };
    if let Some(overlay) = &overlay {
        overlay.claim_upper(&source, digest.as_deref())?;
    }
    // From here on a signal means: unmount and end. Before the mount exists it ends the program, and its worker with it.
    let signals = signals::ending_by_pipe()?;
    worker.may_read = true;
    let mut covered = None;
    let mounted = match (options.kernel_metadata, &mut overlay) {
        (_, Some(overlay)) => {
            let attached = overlay.attach(&source)?.shown_at(mount_point.path());
            worker.tell(|socket| socket.mounted(&attached))?;
            covered = Some(mount_point);
            attached.mounted().clone()
        }
        (false, None) => {
            let attached = Attached::new(mount_point, &source, options)?;
            worker.tell(|socket| socket.mounted(&attached))?;
            attached.mounted().clone()
        }
        (true, None) => {
            let stage = Stage::new(&source, std::process::id()).map_err(mount::Error::from)?;
            worker.tell(|socket| socket.stage(&stage))?;
            let Some(Word::Begun(contents)) = worker.word_while(&workers, &mut helpers)? else {
                return worker.failed();
            };
            let is_abandoned = || worker.has_ended(Duration::from_millis(1));
            let attached = stage.attach(contents, &mount_point, options.no_exec, &is_abandoned);
            let attached = attached.map_err(mount::Error::from)?;
            let mounted = found(&mount_point)?;
            worker.tell(|socket| socket.placed(&mounted, attached))?;
            mounted
        }
    };
    let Some(Word::Kept(kept)) = worker.word_while(&workers, &mut helpers)? else {
        Unmounter::new(mounted).unmount_lazily()?;
        return worker.failed();
    };
    let kept = match (&mut overlay, covered) {
        (Some(overlay), Some(mount_point)) => {
            let mounted = overlay.cover(&mount_point, kept.mounted(), options.no_exec)?;
            kept.shown_as(mounted)
        }
        _ => *kept,
    };
    let connection = kept.mounted().connection;
    let socket = environment::status_socket(connection);
    let outage = Outage::none(workers.patience, Instant::now());
    let has_log_file = workers.has_log_file;
    let cache = workers.cache_folder();
    let watch = Watch::new(connection, workers.patience);
    let upgrade = match workers.are_replaced && resends() {
        true => Upgrade::by_signal()?,
        false => Upgrade::default(),
    };
    let supervisor = Supervisor {
        workers,
        kept,
        signals: Ending::Mount(signals),
        socket,
        outage,
        worker: Some(worker),
        helpers,
        desertion: variables::is_background_child().then(Desertion::new).flatten(),
        cache,
        list,
        names,
        watch,
        upgrade,
        looked: Instant::now(),
        memory_kills: MemoryKills::until_now(),
        dying: None,
        restarts: 0,
    };
    if variables::is_background_child() {
        if let Err(e) = detach(has_log_file) {
            supervisor.end()?;
            return Err(format!("leaving for the background: {e}").into());
        }
        return supervisor.serve();
    }
    notify::tell(notify::READY);
    supervisor.serve()
}

/// Has a program run in a mount that is made in its namespaces, and stays until it has ended.
///
/// Status sockets, and what a namespace that is left means, are for mounts that others see.
pub(super) fn run_program(workers: Workers, mut guest: Guest) -> Result<ExitCode, AnyError> {
    hide_secrets()?;
    let mut helpers = Helpers::default();
    let names = NameFiles::now();
    let mut worker = workers.start(None)?;
    let failed_before = |worker: Worker| {
        // It has said why.
        worker.failed().map(|_| ExitCode::from(FAILED_BEFORE))
    };
    let Some(Word::Opened(OpenedImage { source, digest, process: Some(process) })) =
        worker.word_while(&workers, &mut helpers)?
    else {
        return failed_before(worker);
    };
    guest.claim_upper(&source, digest.as_deref())?;
    let attached = guest.attach(&source)?;
    // From here on a signal is for the program.
    let signals = Signals::take()?;
    worker.may_read = true;
    worker.tell(|socket| socket.mounted(&attached))?;
    drop(attached);
    let Some(Word::Kept(kept)) = worker.word_while(&workers, &mut helpers)? else {
        return failed_before(worker);
    };
    guest.go(&process)?;
    let supervisor = Supervisor {
        watch: Watch::new(kept.mounted().connection, workers.patience),
        upgrade: Upgrade::default(),
        looked: Instant::now(),
        dying: None,
        outage: Outage::none(workers.patience, Instant::now()),
        cache: workers.cache_folder(),
        workers,
        kept: *kept,
        signals: Ending::Program(guest, signals),
        socket: None,
        worker: Some(worker),
        helpers,
        desertion: None,
        memory_kills: MemoryKills::until_now(),
        restarts: 0,
        list: None,
        names,
    };
    supervisor.serve()
}

/// How often that is where a list is looked at as well.
const GLANCE_AT_LIST: Duration = Duration::from_secs(2);

/// Whether the kernel can send requests again (Linux 6.9).
fn resends() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>());
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (6, 9))
}

/// What has come.
#[derive(Default)]
struct News {
    has_signal: bool,
    /// The program has ended.
    is_done: bool,
    has_client: bool,
    /// The mount, or its connection, has ended.
    has_ended: bool,
    has_request: bool,
    /// Nothing, for a while.
    is_quiet: bool,
    has_word: bool,
    is_asked: bool,
    is_dead: bool,
    /// Another version is wanted.
    is_upgraded: bool,
}

/// Tells the service manager of a mount in the foreground.
fn tell_of_the_end() {
    if !variables::is_background_child() {
        notify::tell(notify::STOPPING);
    }
}

struct Supervisor {
    workers: Workers,
    kept: Kept,
    signals: Ending,
    socket: Option<StatusSocket>,
    outage: Outage,
    worker: Option<Worker>,
    helpers: Helpers,
    desertion: Option<Desertion>,
    /// The folder that the worker writes to.
    cache: Option<FolderId>,
    /// What was known of the list when the worker was started.
    list: Option<ListId>,
    /// What the worker looks names of hosts up with.
    names: NameFiles,
    watch: Watch,
    upgrade: Upgrade,
    /// When it was looked at the worker last.
    looked: Instant,
    memory_kills: MemoryKills,
    /// Since when the worker has been seen to be killed, and has not ended.
    dying: Option<Instant>,
    restarts: u32,
}

impl Supervisor {
    /// Until the mount has ended, or is to be ended.
    fn serve(mut self) -> Result<ExitCode, AnyError> {
        loop {
            // One of another version may have taken its place by now.
            if self.outage.starts(Instant::now()) && self.worker.is_none() {
                self.start();
            }
            let news = self.wait()?;
            self.helpers.reap();
            self.look_around();
            self.look_at_list()?;
            if news.has_signal {
                match &self.signals {
                    // First of all: it may have ended the worker too, which is not to be started again then.
                    Ending::Mount(_) => return self.end(),
                    Ending::Program(guest, signals) => guest.pass_on(signals),
                }
            }
            if news.is_done || news.has_ended && self.signals.program().is_some() {
                return self.end_with_program();
            }
            if news.has_ended {
                tell_of_the_end();
                if let Some(worker) = self.worker.take() {
                    worker.finish()?;
                }
                self.helpers.end_prefetcher();
                return Ok(ExitCode::SUCCESS);
            }
            // Before a client is handed on to it.
            if news.is_dead
                && let Some(error) = self.bury()?
            {
                return Err(error);
            }
            if news.has_client {
                self.tell_client();
            }
            if news.is_dead {
                continue;
            }
            if news.is_quiet || self.looked.elapsed() >= GLANCE {
                self.looked = Instant::now();
                self.look_at_cache()?;
                self.look_at_names();
                if let Some(error) = self.look_at_the_dying()? {
                    return Err(error);
                }
                self.look_at_the_silent()?;
            }
            if news.is_upgraded {
                self.upgrade.begin(&self.workers, &self.kept);
            }
            self.take_upgrade()?;
            if news.is_asked {
                self.help()?;
            }
            if news.has_word {
                self.hear()?;
            } else if news.has_request {
                self.refuse();
            }
        }
    }

    /// Waits until something has to be done.
    fn wait(&self) -> io::Result<News> {
        let now = Instant::now();
        let is_read = self.worker.as_ref().is_some_and(|worker| worker.may_read);
        let asked = match self.outage.is_hopeless(now) && !is_read {
            true => PollFlags::IN,
            false => PollFlags::empty(),
        };
        let socket = self.worker.as_ref().and_then(|worker| worker.socket.as_ref());
        let signals = self.signals.signals();
        let mut waits = vec![PollFd::new(&signals, PollFlags::IN)];
        let program = self.signals.program();
        waits.extend(program.as_ref().map(|end| PollFd::new(end, PollFlags::IN)));
        let program = waits.len();
        waits.extend(self.socket.as_ref().map(|socket| PollFd::new(socket, PollFlags::IN)));
        let client = waits.len();
        waits.extend(self.worker.as_ref().map(|worker| PollFd::new(&worker.end, PollFlags::IN)));
        let end = waits.len();
        waits.extend(socket.map(|socket| PollFd::new(socket, PollFlags::IN)));
        let word = waits.len();
        let errands = self.worker.as_ref().and_then(|worker| worker.errands.as_ref());
        waits.extend(errands.map(|errands| PollFd::new(errands, PollFlags::IN)));
        let asked_for = waits.len();
        let wanted = self.upgrade.wanted.as_ref().filter(|_| self.outage.is_over());
        waits.extend(wanted.map(|wanted| PollFd::new(wanted, PollFlags::IN)));
        let upgrade = waits.len();
        if let Some(worker) = self.upgrade.worker() {
            waits.extend(worker.socket.as_ref().map(|socket| PollFd::new(socket, PollFlags::IN)));
            waits.extend(worker.errands.as_ref().map(|asks| PollFd::new(asks, PollFlags::IN)));
        }
        let candidate = waits.len();
        // The kernel wakes who waits with the connection for each request, whatever is waited for; so what reads the
        // requests hears of the end first, and ends.
        let connection = self.kept.connection();
        waits.extend((!is_read).then(|| PollFd::new(connection, asked)));
        let glance = is_read.then_some(match self.workers.list {
            Some(_) => GLANCE_AT_LIST,
            None => GLANCE,
        });
        let look = self.desertion.as_ref().map(|desertion| desertion.wait(now));
        let limit = self.outage.wait(now).into_iter().chain(glance).chain(look);
        let limit = limit.chain(self.upgrade.wait(now)).min();
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        let ready = match poll(&mut waits, limit.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(News::default()),
            result => result?,
        };
        let is = |range: std::ops::Range<usize>| {
            waits
                .get(range)
                .is_some_and(|waits| waits.iter().any(|wait| !wait.revents().is_empty()))
        };
        let state = waits.get(candidate).map_or(PollFlags::empty(), PollFd::revents);
        Ok(News {
            has_signal: is(0..1),
            has_ended: state.contains(PollFlags::ERR) || ready == 0 && connection.has_ended()?,
            has_request: state.contains(PollFlags::IN),
            is_done: is(1..program),
            has_client: is(program..client),
            is_quiet: ready == 0,
            is_dead: is(client..end),
            has_word: is(end..word),
            is_asked: is(word..asked_for),
            is_upgraded: is(asked_for..upgrade),
        })
    }

    /// Starts the next worker.
    fn start(&mut self) {
        self.names = NameFiles::now();
        match self.workers.start(Some(&self.kept)) {
            Ok(worker) => {
                self.restarts = self.restarts.saturating_add(1);
                self.set(worker);
            }
            Err(e) => {
                log::warn!("{e}");
                self.outage.died(Instant::now());
            }
        }
    }

    /// Has a worker be the one that serves.
    fn set(&mut self, worker: Worker) {
        self.worker = Some(worker);
        self.dying = None;
    }

    /// Waits for a worker that is dead, and has another one take its place; why the mount can't go on, if so.
    fn bury(&mut self) -> Result<Option<AnyError>, AnyError> {
        let Some(mut worker) = self.worker.take() else { return Ok(None) };
        let status = worker.child.wait()?;
        self.go_on_without(worker.child.id(), Some(status))
    }

    /// Has the kernel send again what a worker has read that has ended, or never answers again; why the mount can't go on, if
    /// so.
    fn go_on_without(
        &mut self,
        pid: u32,
        status: Option<ExitStatus>,
    ) -> Result<Option<AnyError>, AnyError> {
        let ended = match status {
            Some(status) => format!("has ended ({status})"),
            None => {
                "has been killed, and waits for a disk or the like that does not answer".to_owned()
            }
        };
        self.helpers.end_prefetcher();
        if self.kept.connection().has_ended()? {
            // That is seen next.
            return Ok(None);
        }
        if !self.workers.are_replaced {
            let text = format!(
                "process {pid}, which served the mount, {ended}, and no other one can: the mount is dead"
            );
            return Ok(Some(text.into()));
        }
        if status.and_then(|status| status.code()) == Some(DIFFERENT.into()) {
            return Ok(Some(
                "the image can't be shown as it was mounted: the mount is dead".into(),
            ));
        }
        let resent = self.kept.connection().resend();
        if resent.is_err() && self.kept.connection().has_ended()? {
            return Ok(None);
        }
        if !resent? {
            let text = format!(
                "process {pid}, which served the mount, {ended}, and this kernel can't send requests again (Linux 6.9 \
                 can): the mount is dead"
            );
            return Ok(Some(text.into()));
        }
        log::warn!("process {pid}, which served the mount, {ended}: starting another");
        self.outage.died(Instant::now());
        let is_killed = status.is_none_or(|status| status.signal() == Some(Signal::KILL.as_raw()));
        let how = match is_killed {
            true if self.memory_kills.may_be_more() => Death::NoMemory,
            true => Death::Kill,
            false => Death::Crash,
        };
        self.workers.suspects.died(how, self.outage.goes_on())?;
        Ok(None)
    }

    /// Has a worker of another version take over, if one is ready.
    fn take_upgrade(&mut self) -> io::Result<()> {
        let Some(Ready { mut worker, program, names }) =
            self.upgrade.look(&self.workers, &mut self.helpers)
        else {
            return Ok(());
        };
        let old = self.worker.take();
        let pid = old.as_ref().map(|old| old.child.id()).unwrap_or_default();
        log::info!("process {} takes over from process {pid}", worker.child.id());
        if let Some(mut old) = old {
            old.child.kill()?;
            match old.has_ended(process::GRACE) {
                true => drop(old.child.wait()?),
                // As in `look_at_the_dying`.
                false => self.helpers.await_end(old.child),
            }
        }
        self.helpers.end_prefetcher();
        // If the connection has ended, that is seen next.
        if let Err(e) = self.kept.connection().resend() {
            log::debug!("{e}");
        }
        worker.go()?;
        self.set(worker);
        self.restarts = self.restarts.saturating_add(1);
        self.workers.program = program;
        self.names = names;
        Ok(())
    }

    /// Hears what the worker says.
    fn hear(&mut self) -> io::Result<()> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        match worker.word() {
            Ok(Some(Word::Opened(_))) => {
                if self.outage.is_hopeless(Instant::now()) {
                    // What has waited may be what kills every worker.
                    self.refuse();
                }
                // If it has died meanwhile, that is seen next.
                let _ = self.worker.as_mut().map(Worker::go);
            }
            Ok(Some(Word::Serves)) => {
                log::info!("process {} serves the mount", worker.child.id());
                self.cache = self.workers.cache_folder();
                self.outage.serves(Instant::now());
            }
            Ok(Some(Word::Kept(kept))) => self.kept = *kept,
            Ok(Some(Word::Begun(_)) | None) => {}
            Err(e) => worker.give_up(&e)?,
        }
        Ok(())
    }

    /// Does what the worker asks for.
    fn help(&mut self) -> io::Result<()> {
        let Some(worker) = &mut self.worker else { return Ok(()) };
        match worker.help(&self.workers, &mut self.helpers) {
            Ok(()) => Ok(()),
            Err(e) => worker.give_up(&e),
        }
    }

    /// Ends a worker that answers nothing any more and never will.
    fn look_at_the_silent(&mut self) -> io::Result<()> {
        let Some(worker) = self.worker.as_mut().filter(|_| self.outage.is_over()) else {
            return Ok(());
        };
        let pid = worker.child.id();
        if self.watch.hangs(pid, self.kept.connection().has_requests()?, Instant::now()) {
            log::error!(
                "process {pid}, which serves the mount, hangs: requests wait, and none of its threads runs; killing it"
            );
            worker.child.kill()?;
        }
        Ok(())
    }

    /// Goes on without a worker that has been killed and does not end; why the mount can't go on, if so.
    ///
    /// A thread of it waits in the kernel, for a disk of the cache that does not answer, and may do so for ever. None of them
    /// runs again, so that nothing of what it has read is answered twice. Where no other worker can take its place it may wait
    /// for its own connection, which is aborted.
    fn look_at_the_dying(&mut self) -> Result<Option<AnyError>, AnyError> {
        let Some(worker) = &self.worker else { return Ok(None) };
        let pid = worker.child.id();
        if process::stage(pid) == ProcessStage::Runs {
            self.dying = None;
            return Ok(None);
        }
        if !self.workers.are_replaced {
            log::warn!(
                "the serving process has been killed and does not end: aborting the connection"
            );
            Unmounter::new(self.kept.mounted().clone()).abort();
            return Ok(None);
        }
        // All of its threads have heard of it by then.
        if self.dying.get_or_insert_with(Instant::now).elapsed() < process::GRACE {
            return Ok(None);
        }
        if let Some(worker) = self.worker.take() {
            self.helpers.await_end(worker.child);
        }
        self.dying = None;
        self.go_on_without(pid, None)
    }

    /// Ends a worker that may not write to the cache any more, as its folder was removed, where another one can take
    /// its place.
    fn look_at_cache(&mut self) -> io::Result<()> {
        if !self.workers.are_replaced || !resends() {
            return Ok(());
        }
        let Some(worker) = self.worker.as_mut().filter(|_| self.outage.is_over()) else {
            return Ok(());
        };
        if self.cache.take_if(|cache| self.workers.cache_folder().as_ref() != Some(cache)).is_some()
        {
            log::info!("the folder of the cache was removed: starting another process for it");
            worker.child.kill()?;
        }
        Ok(())
    }

    /// Has another worker take over from one that may not read any more what names of hosts are looked up with.
    fn look_at_names(&mut self) {
        let now = NameFiles::now();
        if !self.outage.is_over() || !self.names.are_replaced(&now) {
            return;
        }
        if !self.workers.are_replaced || !resends() {
            self.names = now;
            log::warn!(
                "the files that host names are looked up with (/etc/resolv.conf, /etc/hosts) were replaced: if registries \
                 are not found any more, mount the image again, as no other process can take over here (Linux 6.9)"
            );
            return;
        }
        log::info!(
            "the files that host names are looked up with were replaced: starting another process"
        );
        self.upgrade.begin_anew(&self.workers, &self.kept);
    }

    /// Ends a worker that was started with another list, where another one can take its place.
    fn look_at_list(&mut self) -> io::Result<()> {
        let now = self.workers.list_now();
        let Some(worker) = self.worker.as_mut().filter(|_| self.outage.is_over()) else {
            return Ok(());
        };
        // A list that is just being replaced is not there for a moment.
        if now.is_none() || now == self.list {
            return Ok(());
        }
        self.list = now;
        if !resends() {
            log::warn!(
                "the list of images has changed, and counts when the store is mounted again: this kernel is too old"
            );
            return Ok(());
        }
        log::info!("the list of images has changed: starting another process for it");
        worker.child.kill()
    }

    /// Detaches the mount when its namespace is left.
    fn look_around(&mut self) {
        let worker = self.worker.as_ref().map(|worker| worker.child.id());
        if let Some(desertion) = &mut self.desertion
            && desertion.is_found(Instant::now(), worker)
        {
            desertion.detach(self.kept.mounted().connection);
        }
    }

    /// Answers requests that have waited for too long.
    fn refuse(&self) {
        if let Err(e) = self.kept.connection().refuse() {
            log::info!("refusing requests: {e}");
        }
    }

    /// Hands a client of the status socket on, if there is a worker that can answer.
    fn tell_client(&self) {
        let Some(Ok(client)) = self.socket.as_ref().map(StatusSocket::accept) else { return };
        let socket = self.worker.as_ref().and_then(|worker| worker.socket.as_ref());
        let told = match socket.filter(|_| self.outage.is_over()) {
            Some(socket) => socket.hand_on(&client, self.restarts),
            None => {
                let pid = std::process::id();
                Supervision { pid, restarts: self.restarts }.answer(client)
            }
        };
        if let Err(e) = told {
            log::debug!("status: {e}");
        }
    }

    /// Ends, as the program has, or the connection of its mount.
    fn end_with_program(self) -> Result<ExitCode, AnyError> {
        let Ending::Program(guest, _) = self.signals else { return Ok(ExitCode::SUCCESS) };
        let code = guest.finish()?;
        // With the last process of its mount namespace the mount has ended.
        if let Some(worker) = self.worker {
            worker.finish()?;
        }
        Ok(code)
    }

    /// Unmounts, and ends.
    fn end(mut self) -> Result<ExitCode, AnyError> {
        tell_of_the_end();
        let unmounter = Unmounter::new(self.kept.mounted().clone());
        // From here on no requests of the mount are answered: a process that still uses it gets an error.
        // Before anything else: once the mount is gone, another may have the connection's number.
        unmounter.abort();
        let result = unmounter.unmount_lazily();
        if let Some(worker) = self.worker {
            worker.finish()?;
        }
        self.helpers.end_prefetcher();
        result?;
        Ok(ExitCode::SUCCESS)
    }
}
