//! `ocifs status`: all mounts, or one.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ocifs::fuse::kernel::{self, Holder, Mounted};
use ocifs::httpd::{Address, Listener};
use ocifs::metrics::{MAX_CLIENTS, answer};
use ocifs::mount::{ImageStatus, Status, StatusError, Supervision, WaitingRead};
use serde_json::{Value, json};

use crate::args;
use crate::commands::process::is_dead_behind;
use crate::environment;
use crate::render::errors::{AnyError, FAILED};
use crate::render::json::{line, set_name};
use crate::render::metrics::{self, Sample};
use crate::render::output;
use crate::render::text::{self, printable};
use crate::render::time::rfc3339;

/// A mount, and what is known of it.
struct Row {
    mount_point: PathBuf,
    source: String,
    user: Option<u32>,
    is_writable: bool,
    state: MountState,
}

/// The state of a mount.
enum MountState {
    /// Its process answers.
    Serves(Box<Status>),
    /// It is not mounted here, and still used.
    Held(Box<Status>, Vec<Holder>),
    /// Its process has ended.
    Dead,
    /// The process that serves it has died, and is being started again.
    Restarting(Supervision),
    /// Its process is there and does not answer anything.
    Silent,
    /// Another user has mounted it, and only that user can ask its process.
    Foreign,
    /// It is served, but its process can't be asked.
    Unasked(StatusError),
}

impl MountState {
    /// Its name in JSON.
    fn name(&self) -> &'static str {
        match self {
            MountState::Serves(_) => "mounted",
            MountState::Held(..) => "held",
            MountState::Dead => "dead",
            MountState::Restarting(_) => "restarting",
            MountState::Silent => "silent",
            MountState::Foreign => "foreign",
            MountState::Unasked(_) => "unasked",
        }
    }

    /// What its process has answered.
    fn status(&self) -> Option<&Status> {
        match self {
            MountState::Serves(status) | MountState::Held(status, _) => Some(status),
            _ => None,
        }
    }

    /// Whether files can't be read there any more.
    fn is_broken(&self) -> bool {
        matches!(self, MountState::Dead | MountState::Silent)
    }
}

pub(crate) fn run(args: &args::Status) -> Result<ExitCode, AnyError> {
    if let Some(address) = &args.listen {
        serve(address, args.mount_point.as_deref())?;
        return Ok(ExitCode::SUCCESS);
    }
    let rows = rows(args.mount_point.as_deref())?;
    let mut out = output::stdout();
    if args.prometheus {
        output::ignore_closed_pipe(out.write_all(metrics(&rows).as_bytes()))?;
    } else if args.json {
        let rows: Vec<Value> = rows.iter().map(Row::json).collect();
        output::ignore_closed_pipe(writeln!(out, "{}", line(Value::from(rows))))?;
    } else {
        output::ignore_closed_pipe(rows.iter().try_for_each(|row| row.print(&mut out)))?;
    }
    let is_broken = rows.iter().any(|row| row.state.is_broken());
    Ok(if is_broken { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

/// Serves the metrics until the process ends.
///
/// This process asks the mounts at each request. It serves no mount and reads no image, so that whatever comes from a
/// network reaches no process that does.
fn serve(address: &Address, place: Option<&Path>) -> Result<(), AnyError> {
    let listener = Listener::bind(address)?;
    if let Some(at) = listener.tcp_address() {
        log::info!("metrics at http://{at}/metrics");
    }
    let text = || rows(place).map(|rows| metrics(&rows)).map_err(|e| e.to_string());
    listener.serve(MAX_CLIENTS, |request| answer(request, text));
    Ok(())
}

/// All mounts, or the one at a place, as they are now.
fn rows(place: Option<&Path>) -> Result<Vec<Row>, AnyError> {
    let mut mounts = kernel::mounts()?;
    let connections: Vec<u32> = mounts.iter().map(|mount| mount.connection).collect();
    let mut rows = Vec::new();
    if let Some(place) = place {
        let absolute = kernel::absolute(place)?;
        mounts.retain(|mount| mount.mount_point == absolute);
        if mounts.is_empty() {
            return Err(kernel::Error::NotOurs(place.to_owned()).into());
        }
    } else {
        let sockets = environment::status_sockets().into_iter();
        rows.extend(sockets.filter(|n| !connections.contains(n)).filter_map(held));
    }
    let mounted = mounts.into_iter().map(|mount| Row {
        state: state(&mount, environment::query_status(mount.connection)),
        mount_point: mount.mount_point,
        source: mount.source,
        user: mount.user,
        is_writable: mount.is_writable,
    });
    rows.splice(0..0, mounted);
    Ok(rows)
}

/// All mounts as metrics.
fn metrics(rows: &[Row]) -> String {
    let mounts: Vec<Sample<'_>> = rows
        .iter()
        .map(|row| Sample {
            mount_point: row.mount_point.to_string_lossy(),
            state: row.state.name(),
            status: row.state.status(),
        })
        .collect();
    metrics::text(&mounts)
}

fn state(mount: &Mounted, asked: Result<Status, StatusError>) -> MountState {
    let error = match asked {
        Ok(status) => return MountState::Serves(Box::new(status)),
        Err(StatusError::Restarting(by)) => return MountState::Restarting(by),
        Err(StatusError::Silent) => return MountState::Silent,
        Err(error) => error,
    };
    if mount.user.is_some_and(|user| user != rustix::process::geteuid().as_raw()) {
        return MountState::Foreign;
    }
    let refused = || Err(io::Error::new(error.kind(), error.to_string()).into());
    if is_dead_behind(mount, refused) {
        return MountState::Dead;
    }
    // It has accepted, and says nothing.
    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) {
        return MountState::Silent;
    }
    match kernel::answer(mount) {
        kernel::Answer::Dead => MountState::Dead,
        kernel::Answer::None => MountState::Silent,
        kernel::Answer::Comes => MountState::Unasked(error),
    }
}

/// What goes on being served though it is not mounted here.
fn held(connection: u32) -> Option<Row> {
    let status = environment::query_status(connection).ok()?;
    let mount_point = PathBuf::from(&status.mounted_at);
    let places = [mount_point.clone()];
    let holders = kernel::holders(status.device?, &places);
    let images = status.shown.images().iter().map(|image| image.image.as_str());
    let source = images.collect::<Vec<_>>().join(",");
    Some(Row {
        mount_point,
        source,
        user: None,
        is_writable: false,
        state: MountState::Held(Box::new(status), holders),
    })
}

impl Row {
    fn json(&self) -> Value {
        let mut row = match &self.state {
            MountState::Serves(status) | MountState::Held(status, _) => {
                serde_json::to_value(status).unwrap_or_default()
            }
            state => json!({ "image": self.source, "error": self.reason(state) }),
        };
        row["state"] = self.state.name().into();
        row["writable"] = self.is_writable.into();
        set_name(&mut row, "mount_point", self.mount_point.as_os_str().as_bytes());
        if let MountState::Held(_, holders) = &self.state {
            row["held_by"] = holders.iter().map(Holder::to_string).collect();
        }
        if let MountState::Foreign = self.state {
            row["user"] = self.user.into();
        }
        row
    }

    fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", printable(&self.mount_point.display().to_string()))?;
        if self.is_writable {
            writeln!(out, "  writable  over the image, which stays as it is")?;
        }
        match &self.state {
            MountState::Serves(status) => print(out, status),
            MountState::Held(status, holders) => {
                writeln!(out, "  not mounted here, and still used")?;
                for holder in holders {
                    writeln!(out, "  used by   {}", printable(&holder.to_string()))?;
                }
                print(out, status)
            }
            state => {
                writeln!(out, "  image     {}", printable(&self.source))?;
                writeln!(out, "  {}", printable(&self.reason(state)))
            }
        }
    }

    /// Why there is no more to tell.
    fn reason(&self, state: &MountState) -> String {
        let place = self.mount_point.display();
        match state {
            MountState::Serves(_) | MountState::Held(..) => String::new(),
            MountState::Dead => format!(
                "dead: its process has ended; `ocifs umount {place}` removes it, and so does a new mount"
            ),
            MountState::Restarting(by) => format!(
                "its process has died, and process {} starts it again: files can be read as soon as it runs",
                by.pid
            ),
            MountState::Silent => format!(
                "no answer: its process is stopped or hangs; `ocifs umount {place}` ends it"
            ),
            MountState::Foreign => {
                let user = self.user.map_or_else(String::new, environment::user_name);
                format!("mounted by user {user}, who alone can ask its process")
            }
            MountState::Unasked(error) if error.kind() == io::ErrorKind::NotFound => {
                "it is served, but its process has no socket here: ask with the XDG_RUNTIME_DIR that it was mounted \
                 with"
                .to_owned()
            }
            MountState::Unasked(error) => {
                format!("it is served, but its process can't be asked: {error}")
            }
        }
    }
}

fn print(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let requests = |number: u64| {
        text::count(usize::try_from(number).unwrap_or(usize::MAX), "request", "requests")
    };
    let of_kernel = requests(status.requests.values().filter_map(Value::as_u64).sum());
    for image in status.shown.images() {
        print_image(out, image)?;
    }
    // Where names are looked up, none are counted.
    if status.inodes > 0 {
        writeln!(out, "  inodes    {}", status.inodes)?;
    }
    writeln!(
        out,
        "  network   {} in {}",
        indicatif::HumanBytes(status.network.bytes),
        requests(status.network.requests)
    )?;
    writeln!(
        out,
        "  spans     {} from the cache{}, {} fetched",
        status.spans.hits,
        percent(status.spans.hits, status.spans.hits + status.spans.misses),
        status.spans.misses
    )?;
    let Status { ahead, pushed, .. } = status;
    writeln!(out, "  kernel    {of_kernel}, {ahead} ahead of walks, {pushed} files pushed")?;
    let restarts = restarts(status.restarts);
    match status.started {
        0 => writeln!(out, "  process   {}{restarts}", status.pid)?,
        since => {
            let since = rfc3339(signed(since));
            writeln!(out, "  process   {} since {since}{restarts}", status.pid)?;
        }
    }
    print_reads(out, status)?;
    for error in &status.recent_errors {
        writeln!(out, "  error     {}", printable(error))?;
    }
    if let Some(last) = &status.refused.last {
        let refused = usize::try_from(status.refused.count).unwrap_or(usize::MAX);
        let refused = text::count(refused, "request", "requests");
        writeln!(out, "  refused   {refused}, the last: {}", printable(last))?;
    }
    if let Some(last) = &status.panics.last {
        let panics = usize::try_from(status.panics.count).unwrap_or(usize::MAX);
        let panics = text::count(panics, "panic", "panics");
        writeln!(out, "  defect    {panics}, the last: {}", printable(last))?;
    }
    Ok(())
}

/// What waits, what has waited longest, and what could not be read.
fn print_reads(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let read = |read: &WaitingRead| format!("{:.3} s /{}", read.seconds, printable(&read.path));
    if let Some(slowest) = &status.reads.slowest {
        writeln!(out, "  slowest   {}", read(slowest))?;
    }
    for waiting in &status.reads.oldest {
        writeln!(out, "  waiting   {} from byte {}", read(waiting), waiting.offset)?;
    }
    let more = status.reads.waiting.saturating_sub(status.reads.oldest.len());
    if more > 0 {
        writeln!(out, "  waiting   {}", text::count(more, "more read", "more reads"))?;
    }
    for failed in &status.failed_files {
        let (path, last) = (printable(&failed.path), rfc3339(signed(failed.last)));
        let cause = printable(&failed.cause);
        writeln!(out, "  failed    /{path}: {} times, the last at {last}: {cause}", failed.count)?;
    }
    Ok(())
}

fn signed(seconds: u64) -> i64 {
    i64::try_from(seconds).unwrap_or(i64::MAX)
}

/// What part of all something is, in parentheses; nothing of nothing.
fn percent(part: u64, of: u64) -> String {
    if of == 0 {
        return String::new();
    }
    // Of nearly all, a part is missing; of hardly any, there is some.
    let tenths = (part as f64 / of as f64 * 1000.0).round();
    let tenths = if part < of { tenths.min(999.0) } else { tenths };
    let tenths = if part > 0 { tenths.max(1.0) } else { tenths };
    format!(" ({:.1} %)", tenths / 10.0)
}

/// What a reader of files would not have noticed.
fn restarts(number: u32) -> String {
    match number {
        0 => String::new(),
        number => {
            let times = text::count(number as usize, "time", "times");
            format!(", which has started what serves it again {times}")
        }
    }
}

fn print_image(out: &mut impl Write, image: &ImageStatus) -> io::Result<()> {
    let proofs: Vec<&str> = image.layers.iter().map(|layer| layer.proof.as_str()).collect();
    let weakest = ["transport", "hint", "toc", "tar", "full"]
        .into_iter()
        .find(|proof| proofs.contains(proof));
    let size: u64 = image.layers.iter().map(|layer| layer.size).sum();
    let cached: u64 = image.layers.iter().map(|layer| layer.cached).sum();
    if let Some(name) = &image.directory {
        writeln!(out, "  directory {}", printable(name))?;
    }
    writeln!(out, "  image     {}", printable(&image.image))?;
    writeln!(out, "  digest    {}", printable(&image.digest))?;
    if let Some(tag) = image.tag.as_ref().filter(|tag| tag.moved) {
        writeln!(
            out,
            "  tag       moved: it is {} now; a new mount shows that",
            printable(&tag.digest)
        )?;
    }
    writeln!(out, "  platform  {}", printable(&image.platform))?;
    writeln!(
        out,
        "  layers    {}, {} compressed, {} cached{}, proof {}",
        image.layers.len(),
        indicatif::HumanBytes(size),
        indicatif::HumanBytes(cached),
        percent(cached, size),
        weakest.unwrap_or("full"),
    )?;
    for error in image.layers.iter().filter_map(|layer| layer.error.as_ref()) {
        writeln!(out, "  wrong     {}", printable(error))?;
    }
    let stores = image.layers.iter().filter_map(|layer| layer.store.as_ref());
    let places: BTreeSet<&str> = stores.clone().map(String::as_str).collect();
    match places.is_empty() {
        true => Ok(()),
        false => {
            let places = places.into_iter().collect::<Vec<_>>().join(", ");
            writeln!(
                out,
                "  store     {} of them are taken from {}",
                stores.count(),
                printable(&places)
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_never_rounded_to_none_or_all() {
        for (part, of, text) in [
            (0, 0, ""),
            (0, 10, " (0.0 %)"),
            (1, 100_000, " (0.1 %)"),
            (84, 571, " (14.7 %)"),
            (99_999, 100_000, " (99.9 %)"),
            (5, 5, " (100.0 %)"),
        ] {
            assert_eq!(percent(part, of), text, "{part} of {of}");
        }
    }
}
