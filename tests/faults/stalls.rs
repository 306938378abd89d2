//! Servers that stop or crawl: whatever is asked for, and however often it is asked for again, it ends in
//! twice the deadline. Slow and honest ones are waited for.
//!
//! A new way to stall is a row of [`WAYS`]; a new thing that can stall is a row of [`PLACES`].

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use ocifs::image::{self, Image, ImageOptions};
use ocifs::layer::Quiet;
use ocifs::source::registry::{ConfigFiles, HostsConfig, Proxies};
use serde_json::json;

use crate::fixture::{Sandbox, Verdict, has_words, name_in, noise, open, options, read, with_hint};
use crate::shell::Home;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// What a user gives as `--timeout`.
const DEADLINE: Duration = Duration::from_secs(1);

/// The same where something has to succeed meanwhile.
const ROOMY: Duration = Duration::from_secs(3);

/// What a machine with more to do than it can may add to twice that.
const BUSY: Duration = Duration::from_secs(2);

/// So much that eight halves of it are enough to be called progress.
const LENGTH: usize = 300 << 10;

const LONG: Duration = Duration::from_secs(3600);

/// Ways to stall, by name.
fn ways() -> Vec<(&'static str, Fault)> {
    vec![
        ("silent", Fault::Hold(Gate::default())),
        ("silent in the status line", Fault::StallHead(10)),
        ("silent in a header", Fault::StallHead(40)),
        ("silent before the body", Fault::Stall(0, LONG)),
        ("silent in the body", Fault::Stall(10, LONG)),
        ("silent after half of what is left", Fault::StallHalf),
        ("a head that trickles", Fault::TrickleHead(40)),
        ("a body that trickles", Fault::Trickle(0)),
        ("a body that trickles later", Fault::Trickle(10)),
        ("framing that trickles", Fault::TrickleFraming),
    ]
}

/// What can stall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A manifest by its tag, and a config.
    Manifest,
    Config,
    /// A layer; one of several; one that broke in the middle before.
    Layer,
    Layers,
    Resumed,
    /// Where the registry redirects to.
    Storage,
    ResumedStorage,
    /// The redirect itself.
    Redirect,
    Token,
    Referrers,
    /// The table of contents in a layer.
    Everything,
}

const PLACES: [Place; 11] = [
    Place::Manifest,
    Place::Config,
    Place::Layer,
    Place::Layers,
    Place::Resumed,
    Place::Storage,
    Place::ResumedStorage,
    Place::Redirect,
    Place::Token,
    Place::Referrers,
    Place::Everything,
];

fn image() -> Built {
    let layer = |seed| tar(&[Entry::file(format!("f{seed}"), noise(LENGTH, seed))]);
    let layers = (0..6).fold(ImageBuilder::new(), |b, n| b.layer(&layer(n), Compression::None));
    layers.build()
}

fn impatient() -> ImageOptions {
    with_deadline(DEADLINE)
}

fn with_deadline(deadline: Duration) -> ImageOptions {
    let usual = options();
    let registry = usual.registry.clone().with_deadline(deadline);
    ImageOptions { registry, read_deadline: deadline, ..usual }
}

/// Registries with an image of which something stalls; the first is the one to ask.
fn stalling(place: Place, fault: &Fault) -> (Vec<Registry>, ImageOptions) {
    let (image, options) = (image(), impatient());
    let registry = Registry::start();
    registry.add_image("r", "t", &image);
    let layers = image.layer_digests();
    let (layer, always) = (&layers[5][..], Times::Always);
    let mut others = Vec::new();
    let half = Fault::Truncate(LENGTH / 2);
    let mut options = options;
    match place {
        Place::Manifest => registry.fault(("", "/manifests/t", always), fault.clone()),
        Place::Config => registry.fault(("", &image.config_digest(), always), fault.clone()),
        Place::Layer => registry.fault(("GET", layer, always), fault.clone()),
        Place::Layers => {
            for layer in &layers {
                registry.fault(("GET", layer, always), fault.clone());
            }
        }
        Place::Resumed => {
            registry.fault(("GET", layer, Times::First(1)), half);
            registry.fault(("GET", layer, always), fault.clone());
        }
        Place::Storage | Place::ResumedStorage => {
            let storage = Registry::start();
            storage.add_image("r", "t", &image);
            let to = format!("http://{}/v2/r/blobs/{layer}", storage.addr());
            registry.fault(("GET", layer, always), Fault::Redirect(307, to));
            if place == Place::ResumedStorage {
                storage.fault(("GET", layer, Times::First(1)), half);
            }
            storage.fault(("GET", layer, always), fault.clone());
            others.push(storage);
        }
        Place::Redirect => {
            registry.fault(("", "/manifests/", always), fault.clone());
            registry.fault(("", "/blobs/", always), fault.clone());
        }
        Place::Token => {
            registry.require_bearer(None);
            registry.fault(("", "/token", always), fault.clone());
        }
        Place::Referrers => {
            options.trust_referrers = true;
            registry.fault(("", "/referrers/", always), fault.clone());
            registry.fault(("GET", layer, always), fault.clone());
        }
        Place::Everything => registry.fault(("", "", always), fault.clone()),
    }
    let mut all = vec![registry];
    all.append(&mut others);
    (all, options)
}

/// Does something for each row, several at a time as they wait for the most part; what went wrong.
fn in_parallel<T: Sync>(rows: &[T], act: impl Fn(&T) -> (String, Result<(), String>) + Sync) {
    let verdict = Mutex::new(Verdict::default());
    let next = Mutex::new(rows.iter());
    thread::scope(|scope| {
        for _ in 0..24 {
            scope.spawn(|| {
                loop {
                    let Some(row) = next.lock().unwrap().next() else { return };
                    let (what, result) = act(row);
                    verdict.lock().unwrap().row(&what, result);
                }
            });
        }
    });
    verdict.into_inner().unwrap().end();
}

fn in_time<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<Result<T, String>, String> {
    in_time_for(DEADLINE, act)
}

fn in_time_for<T: Send + 'static>(
    deadline: Duration,
    act: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<Result<T, String>, String> {
    let limit = deadline * 2 + BUSY;
    let (sender, receiver) = mpsc::channel();
    // The receiver may have given up.
    thread::spawn(move || drop(sender.send(act())));
    let result = receiver.recv_timeout(limit);
    result.map_err(|_| format!("it took more than {limit:?}"))
}

#[test]
fn opening_ends_whatever_stalls() {
    let ways = ways();
    let rows: Vec<_> = PLACES.iter().flat_map(|p| ways.iter().map(move |w| (*p, w))).collect();
    in_parallel(&rows, |(place, (way, fault))| {
        let (registries, options) = stalling(*place, fault);
        let sandbox = Sandbox::new();
        let name = name_in(&registries[0]);
        let cache = sandbox.cache();
        let result = in_time(move || {
            let name = name.parse().map_err(|e| format!("{e}"))?;
            Image::open(&name, &cache, &options, &Quiet).map_err(|e| e.to_string())
        });
        let result = result.and_then(|result| {
            match result {
                Ok(_) => Err("it was opened".to_owned()),
                // Which server it was.
                Err(error) => {
                    let server = registries.last().map(|r| r.addr().to_string());
                    has_words(&error, &[&server.unwrap_or_default()])
                }
            }
        });
        (format!("{place:?} {way}"), result)
    });
}

/// All layers are at fault: what has to be looked at one by one does not add up either.
#[test]
fn other_verbs_end_too() {
    let fault = Fault::Stall(10, LONG);
    let (registries, options) = stalling(Place::Layers, &fault);
    let (name, cache) = (name_in(&registries[0]), Sandbox::new().cache());
    let verified = in_time({
        let (name, cache, options) = (name.parse().unwrap(), Arc::clone(&cache), options.clone());
        move || image::verify(&name, &cache, &options, &Quiet).map_err(|e| e.to_string())
    });
    let verified = verified.unwrap().unwrap();
    assert!(verified.layers.iter().all(|layer| layer.error.is_some()), "{verified:?}");

    // Open, and then nothing comes any more.
    let sandbox = Sandbox::new();
    registries[0].clear_faults();
    let image = open(&name, &sandbox.cache(), &options).unwrap();
    std::fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
    std::fs::create_dir(sandbox.path().join("cache/v1/spans")).unwrap();
    registries[0].fault(("", "", Times::Always), fault);
    let pulled = in_time(move || image.pull(DEADLINE, 4, &Quiet).map_err(|e| e.to_string()));
    has_words(&pulled.unwrap().unwrap_err(), &["of 308.7 KB had come"]).unwrap();
}

/// A mirror that stalls leaves time for the registry, whatever it stalls at.
#[test]
fn mirrors_that_stall_are_left() {
    in_parallel(&ways(), |(way, fault)| {
        let (mirror, registry, sandbox) = (Registry::start(), Registry::start(), Sandbox::new());
        let image = image();
        registry.add_image("r", "t", &image);
        mirror.add_image("r", "t", &image);
        mirror.fault(("", "", Times::Always), fault.clone());
        let path = sandbox.path().join("registries.conf");
        let (from, to) = (registry.addr(), mirror.addr());
        let text =
            format!("[[registry]]\nlocation = '{from}'\n[[registry.mirror]]\nlocation = '{to}'\n");
        std::fs::write(&path, text).unwrap();
        let mut options = with_deadline(ROOMY);
        let files = ConfigFiles { registries: vec![path], ..ConfigFiles::default() };
        options.registry.hosts = Arc::new(HostsConfig::new(files));
        let (name, cache) = (name_in(&registry).parse().unwrap(), sandbox.cache());
        let opened = in_time_for(ROOMY, move || {
            let opened = Image::open(&name, &cache, &options, &Quiet);
            opened.map(drop).map_err(|e| with_hint(&e, e.hint()))
        });
        (way.to_string(), opened.and_then(|result| result))
    });
}

/// A server may think about its first answer for most of the deadline.
#[test]
fn a_first_answer_may_take_its_time() {
    let registry = Registry::start();
    registry.add_image("r", "t", &image());
    let gate = Gate::default();
    registry.fault(("", "", Times::First(1)), Fault::Hold(gate.clone()));
    let opened = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(DEADLINE * 4 * 3 / 4);
            gate.open();
        });
        let options = with_deadline(DEADLINE * 4);
        open(&name_in(&registry), &Sandbox::new().cache(), &options).map(drop)
    });
    opened.unwrap();
    let asked = registry.requests().iter().filter(|r| r.path.contains("/manifests/t")).count();
    assert_eq!(asked, 1);
}

/// The answer to what asks how slow a link may be: as slow as any in use, for as long as it takes.
#[test]
fn slow_links_are_waited_for() {
    let rows = [("200 KB/s", 2000, 1 << 20), ("4 KB/s", 40, 20_000)];
    in_parallel(&rows, |(what, bytes, length)| {
        let registry = Registry::start();
        let layer = |seed| tar(&[Entry::file(format!("f{seed}"), noise(*length, seed))]);
        let layers = ImageBuilder::new().layer(&layer(1), Compression::None);
        registry.add_image("r", "t", &layers.layer(&layer(2), Compression::Gzip).build());
        registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(*bytes));
        let (sandbox, name) = (Sandbox::new(), name_in(&registry));
        let opened = open(&name, &sandbox.cache(), &with_deadline(ROOMY));
        let right = opened.and_then(|image| match read(&image, "f2")? == noise(*length, 2) {
            true => Ok(()),
            false => Err("wrong bytes".to_owned()),
        });
        ((*what).to_owned(), right)
    });
}

/// The whole program, whatever it is asked to do.
#[test]
fn commands_end() {
    let (registries, _) = stalling(Place::Everything, &Fault::Hold(Gate::default()));
    let home = Home::new();
    let name = name_in(&registries[0]);
    let point = home.mount_point();
    let point = point.to_str().unwrap();
    for words in [
        &["mount", &name, point][..],
        &["ls", &name],
        &["cat", &name, "f1"],
        &["pull", &name],
        &["verify", &name],
        &["index", "push", &name],
    ] {
        let started = Instant::now();
        let words = [words, &["--timeout", "1"]].concat();
        let outcome = home.run(&words);
        let took = started.elapsed();
        assert!(took < DEADLINE * 2 + BUSY, "{words:?} took {took:?}");
        outcome.failed(1, &["no answer in time"]);
    }
}

/// An engine's socket is waited for no longer than a registry, whatever it stalls at.
#[test]
fn engines_that_stall_are_left() {
    let head = "HTTP/1.1 200 OK\r\n";
    let rows = [
        ("silent", "", false),
        ("silent in the head", head, false),
        ("silent in the body", "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nx", false),
        ("a head that trickles", "HTTP/1.1 200 OK\r\nX: ", true),
        ("a body that trickles", "HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\nx", true),
        ("framing", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", true),
    ];
    // What an engine is asked first, and the image.
    let questions = ["/json", "/get"];
    let rows: Vec<_> =
        rows.iter().flat_map(|row| questions.iter().map(move |q| (row, q))).collect();
    in_parallel(&rows, |((what, begin, trickles), stalls_at)| {
        let sandbox = Sandbox::new();
        let socket = sandbox.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let (begin, trickles, stalls_at) = (*begin, *trickles, **stalls_at);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                let inspected = json!({ "Id": format!("sha256:{}", "0".repeat(64)) }).to_string();
                let answer = match first.contains(stalls_at) {
                    true => begin.to_owned(),
                    false => format!(
                        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{inspected}",
                        inspected.len()
                    ),
                };
                stream.write_all(answer.as_bytes()).unwrap();
                if first.contains(stalls_at) {
                    thread::spawn(move || {
                        while !trickles || stream.write_all(b"x").is_ok() {
                            thread::sleep(Duration::from_millis(100));
                        }
                    });
                }
            }
        });
        let mut options = impatient();
        options.stores.docker_sockets = vec![socket];
        let cache = sandbox.cache();
        let result = in_time(move || {
            let name = "docker-daemon:image:t".parse().map_err(|e| format!("{e}"))?;
            let opened = Image::open(&name, &cache, &options, &Quiet);
            opened.map(drop).map_err(|e| with_hint(&e, e.hint()))
        });
        let told = result.and_then(|result| match result {
            Ok(()) => Err("it was opened".to_owned()),
            Err(error) => has_words(&error, &["the engine does not answer", "[AllowMoreTime]"]),
        });
        (format!("{what} at {stalls_at}"), told)
    });
}

/// Servers that accept a connection and send nothing, before there is any HTTP: one that should speak
/// TLS, a proxy that should make a tunnel or be one of SOCKS.
#[test]
fn connections_that_stall_are_left() {
    let rows = ["tls", "http proxy", "socks proxy", "tls behind a proxy"];
    in_parallel(&rows, |row| {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let proxied = |proxy: String| Proxies::new(None, Some(&proxy), None, None).unwrap();
        let mut options = impatient();
        let name = match *row {
            "tls" => {
                options.registry.tls_verify = false;
                format!("{address}/r:t")
            }
            "socks proxy" => {
                options.registry.proxies = proxied(format!("socks5://{address}"));
                "203.0.113.1/r:t".to_owned()
            }
            "http proxy" => {
                options.registry.proxies = proxied(format!("http://{address}"));
                "registry.example/r:t".to_owned()
            }
            _ => {
                // It makes a tunnel, at the end of which nobody says anything.
                thread::spawn(move || {
                    for stream in silent.incoming() {
                        let mut stream = stream.unwrap();
                        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
                        thread::spawn(move || {
                            thread::sleep(LONG);
                            drop(stream);
                        });
                    }
                });
                options.registry.proxies = proxied(format!("http://{address}"));
                "registry.example/r:t".to_owned()
            }
        };
        let cache = Sandbox::new().cache();
        let result = in_time(move || {
            let name = name.parse().map_err(|e| format!("{e}"))?;
            let opened = Image::open(&name, &cache, &options, &Quiet);
            opened.map(drop).map_err(|e| with_hint(&e, e.hint()))
        });
        let told = result.and_then(|result| match result {
            Ok(()) => Err("it was opened".to_owned()),
            Err(error) => has_words(&error, &["no answer in time"]),
        });
        ((*row).to_owned(), told)
    });
}

/// When one layer can't be had, the others are not waited for, however long they take.
#[test]
fn a_layer_that_fails_ends_the_others() {
    let registry = Registry::start();
    let image = image();
    registry.add_image("r", "t", &image);
    let layers = image.layer_digests();
    let gone = Fault::Status(404, Vec::new(), Vec::new());
    registry.fault(("GET", &layers[5], Times::Always), gone);
    // At 30 KB a second it takes ten.
    registry.fault(("GET", "/blobs/", Times::Nth(2)), Fault::Drip(300));
    registry.fault(("GET", "/blobs/", Times::Nth(3)), Fault::Drip(300));
    let (name, cache) = (name_in(&registry).parse().unwrap(), Sandbox::new().cache());
    let options = impatient();
    let failed = in_time(move || {
        Image::open(&name, &cache, &options, &Quiet).map(drop).map_err(|e| e.to_string())
    });
    has_words(&failed.unwrap().unwrap_err(), &[&layers[5], "not found"]).unwrap();
}
