//! `ocifs doctor`: whether a mount would work here, and what to do if not.
//!
//! Each check does what a mount does, as far as that can be undone: it mounts something on a
//! temporary directory, writes to the cache, resolves the image. One row a check on stdout; the
//! exit code is 1 if one of them would make a mount fail.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use ocifs::cache::Cache;
use ocifs::fuse::kernel;
use ocifs::image::{self, Probe};
use ocifs::reference::{ImageName, Reference};
use ocifs::source::registry::{self, Aliased, Clock, Credentials, Route, Session};
use serde_json::json;

use crate::args::{self, ImageArgs};
use crate::commands::open::failed;
use crate::commands::probe;
use crate::commands::run::try_here;
use crate::environment::{self, Settings};
use crate::render::errors::{self, AnyError, FAILED};
use crate::render::json::line;
use crate::render::output;
use crate::render::text::{self, printable};

/// How far clocks may differ: the least that token servers, signed URLs and certificates commonly bear.
const MAX_SKEW: Duration = Duration::from_secs(3 * 60);

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Ok,
    /// It works, but worse than it could.
    Note,
    /// A mount would fail.
    Fails,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::Note => "note",
            Verdict::Fails => "fails",
        }
    }

    /// The terminal's colour for it.
    fn colour(self) -> &'static str {
        match self {
            Verdict::Ok => "\x1b[32m",
            Verdict::Note => "\x1b[33m",
            Verdict::Fails => "\x1b[31m",
        }
    }
}

/// One row of the report.
struct Check {
    name: &'static str,
    verdict: Verdict,
    text: String,
}

impl Check {
    fn ok(name: &'static str, text: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Ok, text: text.into() }
    }

    fn note(name: &'static str, text: impl Into<String>) -> Check {
        Check { name, verdict: Verdict::Note, text: text.into() }
    }

    fn fails(name: &'static str, error: &(dyn Error + 'static)) -> Check {
        Check { name, verdict: Verdict::Fails, text: errors::chain(error) }
    }
}

pub(crate) fn run(args: &args::Doctor) -> Result<ExitCode, AnyError> {
    let mut checks =
        vec![fuse(), allow_other(), cache(&args.image_args), containment(), programs()];
    let settings = Settings::read()
        .and_then(|settings| settings.required_proof(&args.image_args).map(|_| settings));
    match (&settings, &args.image) {
        (Err(e), _) => checks.push(Check::fails("settings", e.as_ref())),
        (Ok(_), None) => checks.push(settings_found()),
        (Ok(settings), Some(name)) => checks.extend(image(name, &args.image_args, settings)),
    }
    output::ignore_closed_pipe(print(&checks, args.json))?;
    let fails = checks.iter().any(|check| check.verdict == Verdict::Fails);
    Ok(if fails { ExitCode::from(FAILED) } else { ExitCode::SUCCESS })
}

fn print(checks: &[Check], json: bool) -> io::Result<()> {
    let mut out = output::stdout();
    if json {
        let rows: Vec<_> = checks
            .iter()
            .map(|check| json!({ "check": check.name, "verdict": check.verdict.word(), "text": check.text }))
            .collect();
        return writeln!(out, "{}", line(serde_json::Value::from(rows)));
    }
    let coloured = out.is_terminal();
    for check in checks {
        let (on, off) = if coloured { (check.verdict.colour(), "\x1b[0m") } else { ("", "") };
        let word = format!("{on}{:5}{off}", check.verdict.word());
        writeln!(out, "{word}  {:12}  {}", check.name, printable(&check.text))?;
    }
    Ok(())
}

/// Whether a FUSE file system can be mounted.
fn fuse() -> Check {
    let name = "fuse";
    let tried = tempfile::tempdir()
        .map_err(|e| AnyError::from(format!("making a temporary directory: {e}")))
        .and_then(|folder| Ok(kernel::try_mount(folder.path())?));
    match tried {
        Ok(()) if kernel::is_root() && !kernel::has_all_ids() => {
            let text = "mounted and unmounted, as root of a user namespace without all user IDs: an \
                        image's permission bits are checked with --strict-modes only, and \
                        --kernel-metadata needs root of the machine";
            Check::ok(name, text)
        }
        Ok(()) if kernel::is_root() => Check::ok(name, "mounted and unmounted, as root"),
        Ok(()) => Check::ok(name, "mounted and unmounted, with fusermount3"),
        Err(e) => Check::fails(name, e.as_ref()),
    }
}

/// Whether others can be let in.
fn allow_other() -> Check {
    let name = "allow-other";
    if kernel::is_root() && !kernel::has_all_ids() {
        let text = "--allow-other admits users of this user namespace, and none outside it";
        return Check::ok(name, text);
    }
    if kernel::is_root() {
        return Check::ok(name, "root can always use --allow-other");
    }
    let path = Path::new("/etc/fuse.conf");
    let is_allowed = std::fs::read_to_string(path)
        .is_ok_and(|text| text.lines().any(|line| line.trim() == "user_allow_other"));
    match is_allowed {
        true => Check::ok(name, "user_allow_other is set in /etc/fuse.conf"),
        false => Check::note(
            name,
            "only you can read your mounts; --allow-other needs the line `user_allow_other` in \
             /etc/fuse.conf",
        ),
    }
}

/// Whether the cache can be written, and how large it may grow.
fn cache(args: &ImageArgs) -> Check {
    let name = "cache";
    let without = "nothing is kept, and what is read again is fetched again";
    let Some(folder) = environment::cache_folder(&args.cache_args) else {
        return Check::note(name, format!("there is no place for it (--cache-dir): {without}"));
    };
    let place = folder.display();
    let cache = Cache::open_limited(&folder, args.cache_args.cache_size.unwrap_or_default());
    if !cache.is_writable() {
        return Check::note(name, format!("{place} can't be written (--cache-dir): {without}"));
    }
    let limit = match cache.limit() {
        Some(limit) => format!("of at most {}", HumanBytes(limit)),
        None => "without a limit".to_owned(),
    };
    match cache.usage() {
        Ok(usage) => Check::ok(name, format!("{place}: {} {limit}", HumanBytes(usage.total.bytes))),
        Err(e) => Check::note(name, format!("{place}: {e}")),
    }
}

/// Whether a process that serves gives up what it does not need, which is tried in one of its own.
fn containment() -> Check {
    let name = "containment";
    let tried = tempfile::tempdir()
        .map_err(|e| AnyError::from(format!("making a temporary directory: {e}")))
        .and_then(|folder| probe::start(folder.path()));
    let probe::Report { is_whole, text, tried, has_what_it_needs } = match tried {
        Ok(report) => report,
        Err(e) => return Check::note(name, e.to_string()),
    };
    if !has_what_it_needs {
        return Check::note(name, format!("refused what is needed, too: {text}"));
    }
    let open: Vec<&str> =
        tried.iter().filter(|(_, is_refused)| !is_refused).map(|(what, _)| what.as_str()).collect();
    match &open[..] {
        [] if is_whole => Check::ok(
            name,
            "what serves a mount can open, run and reach nothing that it does not need",
        ),
        [] => Check::note(name, format!("in part: {text}")),
        open => Check::note(name, format!("not refused: {}; {text}", open.join(", "))),
    }
}

/// Whether programs of images can be run, which no mount needs.
fn programs() -> Check {
    let name = "run";
    match try_here() {
        Ok(how) => Check::ok(name, format!("`ocifs run` runs programs {how}")),
        Err(e) => Check::note(name, format!("`ocifs run` can't run programs: {e}")),
    }
}

/// The user's settings, which can be used.
fn settings_found() -> Check {
    let text = match Settings::path() {
        Some(path) if path.exists() => format!("read from {}", path.display()),
        Some(path) => format!("defaults: there is no {}", path.display()),
        None => "defaults: no home directory is set".to_owned(),
    };
    Check::ok("settings", text)
}

/// Whether an image can be had, which way and with whose credentials, whether parts of its layers can, and
/// whether its registry agrees on what time it is.
fn image(name: &ImageName, args: &ImageArgs, settings: &Settings) -> Vec<Check> {
    let image = environment::image(name, args, settings);
    let (alias, (name, options)) = match (environment::alias(name), image) {
        (Ok(alias), Ok(image)) => (alias, image),
        (Err(e), _) | (_, Err(e)) => return vec![Check::fails("settings", e.as_ref())],
    };
    let mut checks = vec![settings_found()];
    if let Some(Aliased { name, reference, path }) = alias {
        let text = format!("`{name}` means {reference}, as {} says", path.display());
        checks.push(Check::ok("alias", text));
    }
    if args.offline {
        checks.push(Check::note("image", format!("{name} is not asked for: --offline")));
        return checks;
    }
    if let ImageName::Registry(reference) = &name {
        // What makes this fail is told by asking for the image.
        let routes = registry::routes(reference, &options.registry).unwrap_or_default();
        checks.extend(routes.iter().map(|(host, route)| proxy(host, route, &options.registry)));
        checks.push(credentials(reference, &options.registry.credentials));
    }
    let session = Session::default();
    match image::probe(&name, &options, &session) {
        Ok(probe) => checks.extend(found(&name, &probe)),
        Err(e) => checks.push(Check::fails("image", &failed(&name)(e))),
    }
    if let ImageName::Registry(_) = &name {
        checks.push(clock(session.traffic().clock()));
    }
    checks
}

/// What was found of an image.
fn found(name: &ImageName, probe: &Probe) -> [Check; 2] {
    let image = &probe.image;
    let bytes = image.layers.iter().map(|layer| layer.descriptor.size).fold(0, u64::saturating_add);
    let found = format!(
        "{name} is {} for {}, {}, {}",
        image.digest,
        image.platform,
        text::count(image.layers.len(), "layer", "layers"),
        HumanBytes(bytes)
    );
    let ranges = match probe.sends_ranges {
        Some(true) => Check::ok("ranges", "only what is read of a layer is sent"),
        Some(false) => Check::note(
            "ranges",
            "asked for a part of a layer, it was sent from its start: a read of what is not cached \
             downloads the layer",
        ),
        None => Check::ok("ranges", "not asked: no layer is large enough to matter"),
    };
    [Check::ok("image", found), ranges]
}

/// Whether a host is reached through a proxy, and whether that answers.
fn proxy(host: &str, route: &Route, options: &registry::RegistryOptions) -> Check {
    let name = "proxy";
    match route {
        Route::Direct => Check::ok(name, format!("{host} is reached directly: no proxy is set")),
        Route::Loopback => {
            Check::ok(name, format!("{host} is reached directly: it is this machine"))
        }
        Route::Exempt(entry) => {
            Check::ok(name, format!("{host} is reached directly: NO_PROXY has `{entry}`"))
        }
        Route::Proxy(proxy) => {
            let way = format!("{host} is reached through {proxy} ({})", proxy.variable());
            match proxy.check(options.connect_timeout) {
                Ok(()) => Check::ok(name, way),
                Err(e) => {
                    let text = format!(
                        "{way}, which does not answer: {e}; every mount from there fails until it \
                         does, or the variable is put right, or NO_PROXY has the host"
                    );
                    Check { name, verdict: Verdict::Fails, text }
                }
            }
        }
    }
}

/// Whether this machine's clock is right, as far as the registry's is.
fn clock(clock: Option<Clock>) -> Check {
    let name = "clock";
    let Some(Clock { host, theirs, ours }) = clock else {
        return Check::ok(name, "not compared: the registry has not said what time it is");
    };
    let (skew, direction) = match ours.duration_since(theirs) {
        Ok(skew) => (skew, "ahead of"),
        Err(e) => (e.duration(), "behind"),
    };
    if skew <= MAX_SKEW {
        return Check::ok(name, format!("shows the same time as that of {host}"));
    }
    let skew = HumanDuration(skew);
    let text = format!(
        "{skew} {direction} that of {host}: tokens, signed URLs and certificates may be refused as not \
         yet or no longer valid; set it right, by NTP for example"
    );
    Check::note(name, text)
}

/// Where the credentials for an image's registry are from. Which they are is never shown.
fn credentials(reference: &Reference, credentials: &Credentials) -> Check {
    let name = "credentials";
    let found = credentials.for_repository(reference.registry(), reference.repository());
    let registry = reference.registry();
    match found.source {
        Some(source) => Check::ok(name, format!("for {registry} from {source}")),
        None if found.searched.is_empty() => Check::ok(name, format!("none for {registry}")),
        None => {
            let places = found.searched.join(", ");
            Check::ok(name, format!("none for {registry}; searched: {places}"))
        }
    }
}
