//! What a mount tells of itself: reads that wait, files that fail, metrics, the log in JSON; and panics, which end a
//! request and nothing else.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ocifs::fs::{Error, Filesystem};
use ocifs::fuse::kernel::{self, FuseMountOptions};
use ocifs::fuse::{Link, Ownership, Prefetch, Requests, ServeOptions, serve};
use ocifs::image::{Opened, Shown};
use ocifs::source::registry::Traffic;
use ocifs::space::{Directories, Named, Node, Space};
use serde_json::Value;

use crate::fixture::{HANG, good, image_of, name_in, noise, within};
use crate::shell::{Home, eventually, run, text};
use crate::support::image::Compression;
use crate::support::markdown::page;
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// A registry with an image of one large file, `dir/large`.
fn large() -> Registry {
    let registry = Registry::start();
    let tarball = tar(&[Entry::dir("dir"), Entry::file("dir/large", noise(1 << 20, 3))]);
    registry.add_image("r", "t", &image_of(&tarball, Compression::None));
    registry
}

fn forget_spans(home: &Home) {
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
}

#[test]
fn reads_that_wait_are_told_and_the_slowest_stays() {
    let (home, registry) = (Home::new(), large());
    home.run(&["mount", &name_in(&registry), "M"]).succeeded();
    let before = home.status();
    assert_eq!(before["reads"]["waiting"], 0);
    assert_eq!(before["layers"][0]["cached"], before["layers"][0]["size"]);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert!(before["started"].as_u64().unwrap().abs_diff(now) < 3600, "{before}");

    forget_spans(&home);
    assert_eq!(home.status()["layers"][0]["cached"], 0);
    let gate = Gate::default();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Hold(gate.clone()));
    let file = home.mount_point().join("dir/large");
    let reader = thread::spawn(move || fs::read(file).map(|bytes| bytes.len()));
    let is_told = || home.status()["reads"]["oldest"][0]["path"] == "dir/large";
    assert!(eventually(is_told), "{}", home.status());
    let waiting = home.status();
    assert!(waiting["reads"]["oldest"][0]["seconds"].as_f64().unwrap() > 0.0, "{waiting}");
    assert!(waiting["reads"]["slowest"].is_null(), "{waiting}");
    let text = home.run(&["status", "M"]).stdout;
    assert!(text.contains("  waiting   ") && text.contains(" s /dir/large from byte "), "{text}");

    registry.clear_faults();
    gate.open();
    assert_eq!(within(HANG, || reader.join().unwrap()).unwrap(), 1 << 20);
    assert!(eventually(|| home.status()["reads"]["waiting"] == 0));
    let after = home.status();
    assert_eq!(after["reads"]["slowest"]["path"], "dir/large");
    assert!(after["reads"]["slowest"]["ended"].as_u64().unwrap() >= now, "{after}");
    let text = home.run(&["status", "M"]).stdout;
    assert!(text.contains("  slowest   ") && text.contains(" s /dir/large\n"), "{text}");
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn files_that_fail_are_counted_by_path() {
    let (home, registry) = (Home::new(), large());
    home.run(&["mount", "--timeout", "5s", &name_in(&registry), "M"]).succeeded();
    assert_eq!(home.status()["failed_files"], Value::Array(Vec::new()));
    forget_spans(&home);
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    assert!(fs::read(home.mount_point().join("dir/large")).is_err());
    let status = home.status();
    let failed = &status["failed_files"][0];
    assert_eq!(failed["path"], "dir/large", "{status}");
    assert!(failed["count"].as_u64().unwrap() >= 1 && failed["last"].as_u64().unwrap() > 0);
    assert!(failed["cause"].as_str().unwrap().contains("not found"), "{status}");
    let text = home.run(&["status", "M"]).stdout;
    assert!(text.contains("  failed    /dir/large: "), "{text}");
    assert_eq!(status["panics"]["count"], 0);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// The metrics in a text, which has to be in Prometheus' format: each metric once, its samples behind its type.
fn metrics(text: &str) -> Vec<(String, String, f64)> {
    let (mut seen, mut current, mut rows) = (BTreeSet::new(), String::new(), Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge"].contains(&kind) && seen.insert(name.to_owned()), "{line}");
            current = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap();
            assert!(name == current && labels.ends_with('}'), "{line}");
            rows.push((name.to_owned(), labels.to_owned(), value.parse().unwrap()));
        }
    }
    rows
}

#[test]
fn metrics_of_all_mounts() {
    let (home, registry) = (Home::new(), large());
    let name = name_in(&registry);
    home.run(&["mount", &name, "M"]).succeeded();
    fs::read(home.mount_point().join("dir/large")).unwrap();
    let outcome = home.run(&["status", "--prometheus", "M"]);
    outcome.succeeded();
    let rows = metrics(&outcome.stdout);
    let value = |name: &str, label: &str| {
        let found = rows.iter().find(|(n, labels, _)| n == name && labels.contains(label));
        found.unwrap_or_else(|| panic!("no {name} {label} in {}", outcome.stdout)).2
    };
    let place = format!("mount_point=\"{}\"", home.mount_point().display());
    assert_eq!(value("ocifs_mount_up", &place), 1.0);
    assert_eq!(value("ocifs_image_info", &format!("image=\"{name}\"")), 1.0);
    assert!(value("ocifs_blob_bytes", &place) > 1e6);
    assert_eq!(value("ocifs_blob_bytes", &place), value("ocifs_blob_cached_bytes", &place));
    assert!(value("ocifs_requests_total", "kind=\"read\"") >= 1.0);
    assert!(value("ocifs_network_receive_bytes_total", &place) > 1e6);
    assert_eq!(value("ocifs_reads_waiting", &place), 0.0);
    assert_eq!(value("ocifs_panics_total", &place), 0.0);

    // Exactly these are described, and those of the snapshotter, which has a test of its own.
    let page = page("docs/metrics.md").text;
    let described = page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let described = described.filter(|name| !name.starts_with("ocifs_snapshotter_"));
    let described: BTreeSet<&str> = described.collect();
    let types = outcome.stdout.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let printed: BTreeSet<&str> = types.filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(described, printed);

    // A mount whose process has ended is down, and says nothing else.
    for pid in home.serving() {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    let down = || {
        let outcome = home.run(&["status", "--prometheus", "M"]);
        let rows = metrics(&outcome.stdout);
        outcome.code == 1 && rows.len() == 1 && rows[0].2 == 0.0 && rows[0].1.contains("dead")
    };
    assert!(eventually(down));
    assert_eq!(home.run(&["status", "--prometheus", "--json"]).code, 2);
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

#[test]
fn the_log_in_json() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &good());
    let name = name_in(&registry);
    let log = home.path().join("log");
    let log = log.to_str().unwrap();
    let words = ["-vv", "--log-format", "json", "--log-file", log, "mount", &name, "M"];
    home.run(&words).succeeded();
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
    let text = fs::read_to_string(log).unwrap();
    assert!(!text.is_empty());
    let described = page("docs/json.md").text;
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let keys: BTreeSet<&str> = row.as_object().unwrap().keys().map(String::as_str).collect();
        let expected = ["level", "message", "module", "pid", "thread", "time", "version"];
        assert_eq!(keys, BTreeSet::from(expected), "{line}");
        assert!(expected.iter().all(|key| described.contains(&format!("`{key}`"))), "{line}");
        let time = row["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.ends_with('Z'), "{line}");
        assert!(
            ["debug", "info", "warning", "error"].contains(&row["level"].as_str().unwrap()),
            "{line}"
        );
    }
    // On stderr too.
    let outcome = home.run(&["-vv", "--log-format", "json", "ls", &name]);
    assert!(outcome.code == 0 && !outcome.stderr.is_empty(), "{outcome:?}");
    for line in outcome.stderr.lines() {
        assert!(serde_json::from_str::<Value>(line).unwrap()["message"].is_string(), "{line}");
    }
    assert_eq!(home.run(&["--log-format", "xml", "status"]).code, 2);
}

/// Directories of which the root is sound and all else is a defect.
#[derive(Debug, Default)]
struct Defect(Arc<Traffic>);

impl Directories for Defect {
    fn node(&self, id: u32) -> Option<Node> {
        (id == 1).then_some(Node::Directory)
    }

    fn changed(&self, _: u32) -> SystemTime {
        SystemTime::UNIX_EPOCH
    }

    fn lookup(&self, _: u32, name: &[u8], _: Instant) -> Result<Named, Error> {
        match name {
            b"absent" => Err(Error::NotFound),
            _ => panic!("a name that the test made a defect of"),
        }
    }

    fn list(&self, _: u32, _: Instant) -> Result<Vec<(Vec<u8>, Named)>, Error> {
        panic!("a list that the test made a defect of")
    }

    fn opened(&self, _: u32) -> Result<Option<Arc<Filesystem>>, Error> {
        panic!("a volume that the test made a defect of")
    }

    fn open(&self, _: u32, _: Instant) -> Result<Arc<Filesystem>, Error> {
        panic!("a volume that the test made a defect of")
    }

    fn kept(&self) -> (Vec<Opened>, u64) {
        (Vec::new(), 0)
    }

    fn timeout(&self) -> Duration {
        HANG
    }

    fn shown(&self) -> Vec<(String, Shown)> {
        Vec::new()
    }

    fn traffic(&self) -> &Arc<Traffic> {
        &self.0
    }
}

/// The root answers, and so does what follows a panic, however many there were: more than there are threads.
#[test]
fn a_panic_ends_a_request_and_nothing_else() {
    let home = Home::new();
    let place = home.mount_point();
    let mount_point = kernel::prepare(&place, |_| false).unwrap();
    let options = FuseMountOptions {
        source: "defect".to_owned(),
        allow_other: false,
        default_permissions: true,
        no_exec: false,
    };
    let device = kernel::mount(&mount_point, &options).unwrap();
    drop(mount_point);
    let options = ServeOptions {
        suspects: None,
        ownership: Ownership::Image,
        default_permissions: true,
        prefetch: Prefetch::Off,
    };
    let space = Space::of_directories(Arc::new(Defect::default()));
    let server = serve(Link::New(device), space, &options, Arc::new(Requests::default())).unwrap();
    let errno = |path: &Path| fs::symlink_metadata(path).unwrap_err().raw_os_error();
    let eio = Some(rustix::io::Errno::IO.raw_os_error());
    let below = place.clone();
    within(HANG, move || {
        for n in 0..100 {
            assert_eq!(errno(&below.join(n.to_string())), eio);
        }
        assert!(fs::read_dir(&below).and_then(|mut rows| rows.next().transpose()).is_err());
        let absent = Some(rustix::io::Errno::NOENT.raw_os_error());
        assert_eq!(errno(&below.join("absent")), absent);
        assert!(fs::symlink_metadata(&below).unwrap().is_dir());
    });
    assert_eq!(run(Command::new("umount").arg(&place)).code, 0);
    within(HANG, || server.wait()).unwrap();
}

/// What a server answers to a request: the status line, and the body.
fn answer(mut connection: impl Read + Write, request: &str) -> (String, String) {
    connection.write_all(request.as_bytes()).unwrap();
    let mut all = String::new();
    connection.read_to_string(&mut all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
    match request.starts_with("HEAD") {
        true => assert!(body.is_empty() && length != "0", "{all}"),
        false => assert_eq!(length.parse::<usize>().unwrap(), body.len(), "{head}"),
    }
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[test]
fn metrics_over_a_socket() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &good());
    home.run(&["mount", &name_in(&registry), "M"]).succeeded();
    let socket = home.path().join("metrics");
    let address = format!("unix:{}", text(&socket));
    let start = |address: &str| {
        let mut command = home.command(env!("CARGO_BIN_EXE_ocifs"));
        command.args(["-v", "status", "--prometheus", "--listen", address]);
        command.arg(home.mount_point()).stderr(Stdio::piped()).spawn().unwrap()
    };
    const GET: &str = "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut server = start(&address);
    assert!(eventually(|| UnixStream::connect(&socket).is_ok()));
    // One that says nothing keeps no other waiting.
    let _silent = UnixStream::connect(&socket).unwrap();
    let get = |request: &str| answer(UnixStream::connect(&socket).unwrap(), request);
    let (status, body) = get(GET);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(metrics(&body).iter().any(|row| row.0 == "ocifs_mount_up" && row.2 == 1.0), "{body}");
    for (request, expected) in [
        ("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK"),
        ("GET /nothing HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
    ] {
        assert_eq!(get(request).0, format!("HTTP/1.1 {expected}"), "{request}");
    }
    // A head without an end.
    let mut endless = UnixStream::connect(&socket).unwrap();
    let _ = endless.write_all("X: y\r\n".repeat(10_000).as_bytes());
    assert_eq!(get(GET).0, "HTTP/1.1 200 OK");
    server.kill().unwrap();
    server.wait().unwrap();
    // The socket that it has left is in the way of no other.
    let mut server = start(&address);
    assert!(eventually(|| UnixStream::connect(&socket).is_ok()));
    assert_eq!(get(GET).0, "HTTP/1.1 200 OK");
    // Two can't have one, and what is no socket stays.
    let refused = home.run(&["status", "--prometheus", "--listen", &address]);
    assert!(refused.code == 1 && refused.stderr.contains("in use"), "{refused:?}");
    let file = home.path().join("file");
    fs::write(&file, "mine").unwrap();
    let at_file = format!("unix:{}", text(&file));
    assert_eq!(home.run(&["status", "--prometheus", "--listen", &at_file]).code, 1);
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    // Over TCP; the port is told.
    let mut over_tcp = start("127.0.0.1:0");
    let mut lines = BufReader::new(over_tcp.stderr.take().unwrap()).lines();
    let told = lines.find_map(|line| {
        Some(line.unwrap().split_once("http://")?.1.split_once("/metrics")?.0.to_owned())
    });
    let (status, body) = answer(TcpStream::connect(told.unwrap()).unwrap(), GET);
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(metrics(&body).iter().any(|row| row.0 == "ocifs_mount_up"), "{body}");
    over_tcp.kill().unwrap();
    over_tcp.wait().unwrap();
    // Metrics are asked for anew each time.
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
    assert_eq!(get(GET).0, "HTTP/1.1 500 Internal Server Error");
    server.kill().unwrap();
    server.wait().unwrap();
    assert_eq!(home.run(&["status", "--listen", &address]).code, 2, "--prometheus is needed");
}

#[test]
fn lines_for_the_journal_have_priorities() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &good());
    let path = home.path().join("stream");
    let write = |stream: Option<String>, format: &str| {
        let file = fs::File::create(&path).unwrap();
        let stat = file.metadata().unwrap();
        let stream = stream.unwrap_or(format!("{}:{}", stat.dev(), stat.ino()));
        let mut command = home.command(env!("CARGO_BIN_EXE_ocifs"));
        command.env("JOURNAL_STREAM", stream).args(["-vv", "--log-format", format, "ls"]);
        let code = command.arg(name_in(&registry)).stderr(file).stdout(Stdio::null()).status();
        assert!(code.unwrap().success());
        fs::read_to_string(&path).unwrap()
    };
    for format in ["text", "json"] {
        let written = write(None, format);
        let lines: Vec<&str> = written.lines().collect();
        assert!(lines.iter().any(|line| line.starts_with("<7>")), "{written}");
        assert!(lines.iter().all(|line| line.starts_with("<6>") || line.starts_with("<7>")));
        // The variable is of another stream.
        assert!(!write(Some("1:1".to_owned()), format).contains("<7>"));
    }
}
