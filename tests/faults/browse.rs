//! Registries as directories: what is asked for and when, tags that move, hosts that are dead.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::engines::{Engine, answer};
use crate::fixture::noise;
use crate::shell::{Home, eventually_within, names};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Gate, Registry, TagPages, Times};
use crate::support::tarball::{Entry, tar};

/// An image with a base that all have, and a file of its own.
fn image(word: &str) -> Built {
    let base = tar(&[Entry::dir("etc"), Entry::file("etc/base", noise(200_000, 1))]);
    ImageBuilder::new()
        .layer(&base, Compression::Gzip)
        .layer(&tar(&[Entry::file("word", word), Entry::dir("d")]), Compression::Gzip)
        .build()
}

/// A registry, and a directory in which it is browsed.
pub struct Setup {
    pub registry: Registry,
    pub home: Home,
}

impl Setup {
    pub fn new(words: &[&str]) -> Setup {
        let setup = Setup { registry: Registry::start(), home: Home::new() };
        setup.home.run(&[&["browse"], words, &["M"]].concat()).succeeded();
        setup
    }

    pub fn add(&self, repository: &str, tag: &str, word: &str) {
        self.registry.add_image(repository, tag, &image(word));
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.home.mount_point().join(self.registry.addr().to_string()).join(path)
    }

    /// Requests for manifests and for tags, and for blobs.
    fn asked(&self) -> (usize, usize) {
        let requests = self.registry.requests();
        let blobs = requests.iter().filter(|request| request.path.contains("/blobs/")).count();
        let others = requests.iter().filter(|request| request.path.len() > "/v2/".len()).count();
        (others - blobs, blobs)
    }

    pub fn end(self) {
        self.home.run(&["umount", "M"]).succeeded();
        self.home.is_quiet();
    }
}

#[test]
fn images_are_directories() {
    let setup = Setup::new(&[]);
    for (tag, word) in [("1.0", "one"), ("1.1", "two"), ("1.2", "three")] {
        setup.add("team/app", tag, word);
    }
    assert!(names(&setup.home.mount_point()).is_empty(), "no host was named");
    assert_eq!(names(&setup.at("team/app")), [":1.0", ":1.1", ":1.2"]);
    assert_eq!(setup.asked(), (1, 0), "the list of tags, and nothing else");
    // As `ls -l` and completion look at them.
    for tag in names(&setup.at("team/app")) {
        assert!(fs::metadata(setup.at("team/app").join(tag)).unwrap().is_dir());
    }
    assert_eq!(setup.asked(), (1, 0), "no image is looked up by that");
    assert_eq!(fs::read(setup.at("team/app/:1.1/word")).unwrap(), b"two");
    assert_eq!(names(&setup.at("team/app/:1.1")), ["d", "etc", "word"]);
    // As it is typed elsewhere.
    assert_eq!(fs::read(setup.at("team/app:1.0/word")).unwrap(), b"one");
    let digest = image("three").manifest_digest;
    let by_digest = setup.at(&format!("team/app/@{digest}/word"));
    assert_eq!(fs::read(by_digest).unwrap(), b"three");
    // What was named is listed from then on.
    let host = setup.registry.addr().to_string();
    assert_eq!(names(&setup.home.mount_point()), [host.as_str()]);
    assert_eq!(names(&setup.at("")), ["team"]);
    assert_eq!(names(&setup.at("team")), ["app"]);
    let status = setup.home.status();
    let images = status["images"].as_array().unwrap();
    let shown: Vec<&str> = images.iter().map(|row| row["directory"].as_str().unwrap()).collect();
    assert!(shown.contains(&format!("{host}/team/app/:1.1").as_str()), "{status}");
    // It is there already.
    let again = setup.home.run(&["browse", "M"]);
    assert!(again.code == 0 && again.stderr.contains("already"), "{again:?}");
    setup.end();
}

/// A listing comes in parts: what is named meanwhile moves none of the names that have yet to come.
#[test]
fn names_that_come_while_others_are_listed() {
    let setup = Setup::new(&[]);
    let named: Vec<String> = (0..1500).map(|at| format!("{}{at:04}", "n".repeat(60))).collect();
    for name in &named {
        assert!(fs::metadata(setup.at("team").join(name)).unwrap().is_dir());
    }
    let mut rows = fs::read_dir(setup.at("team")).unwrap();
    let mut listed = vec![rows.next().unwrap().unwrap().file_name()];
    for at in 0..40 {
        assert!(fs::metadata(setup.at(&format!("team/a{at}"))).unwrap().is_dir());
    }
    listed.extend(rows.map(|row| row.unwrap().file_name()));
    let mut listed: Vec<String> =
        listed.into_iter().map(|name| name.into_string().unwrap()).collect();
    listed.sort();
    assert_eq!(listed, named);
    assert_eq!(names(&setup.at("team")).len(), 1540);
    setup.end();
}

/// A host that lists its repositories has them as directories, asked for once in a while; others have what was named.
#[test]
fn hosts_list_their_repositories() {
    let setup = Setup::new(&[]);
    for repository in ["team/app", "team/tools/lint", "base"] {
        setup.add(repository, "1", repository);
    }
    assert!(names(&setup.at("")).is_empty(), "it does not tell");
    assert_eq!(setup.asked(), (1, 0));
    setup.end();
    for bearer in [false, true] {
        let setup = Setup::new(&[]);
        setup.registry.set_catalog(true);
        setup.registry.set_tag_pages(TagPages::Paged { count: 2, is_absolute: true });
        if bearer {
            setup.registry.require_bearer(None);
        }
        for repository in ["team/app", "team/tools/lint", "base"] {
            setup.add(repository, "1", repository);
        }
        assert_eq!(names(&setup.at("")), ["base", "team"], "{bearer}");
        assert_eq!(names(&setup.at("")), ["base", "team"]);
        let pages = setup.registry.requests().into_iter();
        let pages =
            pages.filter(|request| request.path.contains("_catalog") && request.status == 200);
        assert_eq!(pages.count(), 2, "{bearer}");
        assert_eq!(names(&setup.at("team/tools")), ["lint"]);
        assert_eq!(names(&setup.at("base")), [":1"]);
        assert_eq!(fs::read(setup.at("team/tools/lint/:1/word")).unwrap(), b"team/tools/lint");
        setup.end();
    }
}

/// Images of a Docker engine. The machine's own stores may have images as well.
#[test]
fn stores_of_this_machine_are_below_local() {
    let home = Home::new();
    let list = answer("200 OK", br#"[{"RepoTags":["team/app:1","x:2","../y:3"]}]"#);
    let answers = move |path: &str| match path {
        "/images/json" => list.clone(),
        _ => answer("500 Broken", br#"{"message":"on purpose"}"#),
    };
    let engine = Engine::start(&home.path(), Box::new(answers));
    let browse = |socket: &std::path::Path| {
        let mut browse = home.ocifs(&["browse", "M"]);
        browse.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        crate::shell::run(&mut browse).succeeded();
    };
    browse(&engine.socket);
    let at = |path: &str| home.mount_point().join(path);
    assert!(names(&at("local")).contains(&"docker-daemon".to_owned()));
    assert_eq!(names(&at("local/docker-daemon")), ["team", "x:2"]);
    assert_eq!(names(&at("local/docker-daemon/team")), ["app:1"]);
    assert!(fs::metadata(at("local/docker-daemon/team/app:1")).unwrap().is_dir());
    for path in ["local/docker-daemon/other", "local/docker-daemon/team/app:9", "local/podman"] {
        assert_eq!(fs::metadata(at(path)).unwrap_err().raw_os_error(), Some(2), "{path}");
    }
    // What can't be had is an error of that image.
    let error = fs::read_dir(at("local/docker-daemon/x:2")).map(|mut rows| rows.next().unwrap());
    assert_eq!(error.unwrap().unwrap_err().raw_os_error(), Some(5));
    home.run(&["umount", "M"]).succeeded();
    // A store that is not there is no directory.
    browse(&home.path().join("no.sock"));
    assert!(!names(&at("local")).contains(&"docker-daemon".to_owned()));
    assert_eq!(fs::metadata(at("local/docker-daemon")).unwrap_err().raw_os_error(), Some(2));
    home.run(&["umount", "M"]).succeeded();
    home.is_quiet();
}

/// A catalog that lies or does not end.
#[test]
fn catalogs_that_lie() {
    let setup = Setup::new(&[]);
    setup.registry.set_catalog(true);
    setup.add("good/app", "1", "x");
    for name in ["../up", "a b", "UPPER", "x:1", "a//b", "", "_catalog"] {
        setup.registry.add_manifest(name, "1", "application/json", b"{}");
    }
    assert_eq!(names(&setup.at("")), ["good"]);
    assert_eq!(names(&setup.at("good/app")), [":1"]);
    setup.end();
    let setup = Setup::new(&[]);
    setup.registry.set_catalog(true);
    setup.registry.set_tag_pages(TagPages::Circle);
    setup.add("good/app", "1", "x");
    assert_eq!(names(&setup.at("")), ["good"]);
    setup.end();
}

/// `grep -r` over all tags of a repository: each distinct layer comes once.
#[test]
fn a_walk_over_all_tags_fetches_each_layer_once() {
    let setup = Setup::new(&[]);
    for n in 0..12 {
        setup.add("app", &format!("1.{n}"), &format!("word {n}"));
    }
    let found = setup.home.command("grep");
    let mut found = found;
    let found = found.args(["-r", "--include=word", "word"]).arg(setup.at("app")).output().unwrap();
    let lines = String::from_utf8(found.stdout).unwrap();
    assert_eq!(lines.lines().count(), 12, "{lines}");
    let base = &image("x").layer_digests()[0];
    let requests = setup.registry.requests();
    let of_base: u64 = requests
        .iter()
        .filter(|request| request.path.ends_with(base))
        .map(|request| request.body_bytes_sent)
        .sum();
    assert!(of_base <= image("x").layer_sizes()[0], "{of_base}");
    setup.end();
}

#[test]
fn what_no_reference_has_is_not_there_and_costs_nothing() {
    let setup = Setup::new(&[]);
    setup.add("app", "1", "x");
    for path in [".git", "Makefile", "app/.hidden", "app/README.md", "a b", ":1"] {
        let error = fs::metadata(setup.at(path)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(2), "{path}");
    }
    for name in ["debian", ".Trash", "desktop.ini "] {
        let error = fs::metadata(setup.home.mount_point().join(name)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(2), "{name}");
    }
    assert_eq!(setup.asked(), (0, 0));
    let error = fs::metadata(setup.at("app/:nothing")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(2));
    let error = fs::metadata(setup.at("nothing/:1")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(2));
    assert!(names(&setup.at("nothing")).is_empty());
    // Nothing can be changed.
    let error = fs::create_dir(setup.at("app/NEW")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(30), "{error}");
    setup.end();
}

/// A host that takes connections and says nothing, and one that is not there, keep no other waiting.
#[test]
fn dead_hosts_keep_nothing_else_waiting() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let setup = Setup::new(&["--timeout", "3"]);
    setup.add("app", "1", "x");
    let dead = setup.home.mount_point().join(silent.local_addr().unwrap().to_string());
    let waits: Vec<_> = (0..20)
        .map(|n| {
            let path = dead.join(format!("app/:{n}/word"));
            thread::spawn(move || {
                let started = Instant::now();
                (fs::read(path).unwrap_err(), started.elapsed())
            })
        })
        .collect();
    thread::sleep(Duration::from_millis(300));
    let started = Instant::now();
    assert_eq!(fs::read(setup.at("app/:1/word")).unwrap(), b"x");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    for wait in waits {
        let (error, took) = wait.join().unwrap();
        assert!([5, 110].contains(&error.raw_os_error().unwrap()), "{error}");
        assert!(took < Duration::from_secs(15), "{took:?}");
    }
    setup.end();
}

/// Sixty-four readers of as many images.
#[test]
fn many_images_at_once() {
    let setup = Setup::new(&[]);
    for n in 0..64 {
        setup.add("app", &format!("{n}"), &format!("word {n}"));
    }
    let readers: Vec<_> = (0..64)
        .map(|n| {
            let path = setup.at(&format!("app/:{n}/word"));
            thread::spawn(move || fs::read(path).unwrap())
        })
        .collect();
    for (n, reader) in readers.into_iter().enumerate() {
        assert_eq!(reader.join().unwrap(), format!("word {n}").into_bytes());
    }
    let base = &image("x").layer_digests()[0];
    let requests = setup.registry.requests();
    assert_eq!(requests.iter().filter(|request| request.path.ends_with(base)).count(), 1);
    // What a first pass has seen is in the cache, and that is told of all images together.
    let spans = &setup.home.status()["spans"];
    assert!(spans["hits"].as_u64().unwrap() >= 64 && spans["misses"] == 0, "{spans}");
    // More than stay open: the first is opened again.
    for n in 64..70 {
        setup.add("app", &format!("{n}"), &format!("word {n}"));
        assert_eq!(
            fs::read(setup.at(&format!("app/:{n}/word"))).unwrap(),
            format!("word {n}").into_bytes()
        );
    }
    let status = setup.home.status();
    assert!(status["images"].as_array().unwrap().len() <= 64, "{status}");
    for n in 0..70 {
        assert_eq!(names(&setup.at(&format!("app/:{n}"))), ["d", "etc", "word"]);
    }
    setup.end();
}

/// A layer that does not come keeps only those waiting whose image has it, and comes once for all of them.
#[test]
fn images_of_one_host_do_not_wait_for_each_other() {
    let setup = Setup::new(&[]);
    let slow = tar(&[Entry::file("slow", noise(400_000, 7))]);
    let with_slow = |word: &str| {
        let own = tar(&[Entry::file("word", word)]);
        ImageBuilder::new().layer(&slow, Compression::Gzip).layer(&own, Compression::Gzip).build()
    };
    let built = ["one", "two"].map(with_slow);
    setup.registry.add_image("slow", "1", &built[0]);
    setup.registry.add_image("slow", "2", &built[1]);
    setup.add("fast", "1", "fast");
    let (gate, layer) = (Gate::default(), built[0].layer_digests()[0].clone());
    setup.registry.fault(("GET", &layer, Times::Always), Fault::Hold(gate.clone()));
    let readers: Vec<_> = ["slow/:1/word", "slow/:2/word", "slow/:2/slow"]
        .into_iter()
        .map(|path| setup.at(path))
        .map(|path| thread::spawn(move || fs::read(path).unwrap()))
        .collect();
    let is_asked = |what: &str| setup.registry.requests().iter().any(|r| r.path.ends_with(what));
    let own = |n: usize| built[n].layer_digests()[1].clone();
    let wait = Duration::from_secs(30);
    assert!(eventually_within(wait, || is_asked(&layer) && is_asked(&own(0)) && is_asked(&own(1))));
    assert_eq!(fs::read(setup.at("fast/:1/word")).unwrap(), b"fast");
    gate.open();
    let read: Vec<_> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    assert!(read == [b"one".to_vec(), b"two".to_vec(), noise(400_000, 7)]);
    let requests = setup.registry.requests();
    assert_eq!(requests.iter().filter(|request| request.path.ends_with(&layer)).count(), 1);
    setup.end();
}

/// A registry that is down is an error for what was not opened yet, and is over when it is back.
#[test]
fn a_registry_that_comes_back() {
    let setup = Setup::new(&["--timeout", "3"]);
    setup.add("app", "1", "x");
    setup.add("app", "2", "y");
    assert_eq!(fs::read(setup.at("app/:1/word")).unwrap(), b"x");
    assert_eq!(names(&setup.at("app")), [":1", ":2"]);
    setup.registry.fault(("", "/v2/", Times::Always), Fault::CloseBeforeResponse);
    assert_eq!(fs::read(setup.at("app/:1/word")).unwrap(), b"x", "it is open");
    let error = fs::read(setup.at("app/:2/word")).unwrap_err();
    assert!([5, 110].contains(&error.raw_os_error().unwrap()), "{error}");
    // Another process knows which tags there were.
    let home = &setup.home;
    let other = home.path().join("other");
    fs::create_dir(&other).unwrap();
    home.run(&["browse", "--offline", crate::shell::text(&other)]).succeeded();
    let host = setup.registry.addr().to_string();
    assert_eq!(names(&other.join(&host).join("app")), [":1", ":2"]);
    assert_eq!(fs::read(other.join(&host).join("app/:1/word")).unwrap(), b"x");
    home.run(&["umount", crate::shell::text(&other)]).succeeded();
    setup.registry.clear_faults();
    let path = setup.at("app/:2/word");
    let is_back = || fs::read(&path).is_ok_and(|bytes| bytes == b"y");
    assert!(eventually_within(Duration::from_secs(30), is_back));
    setup.end();
}

/// A first use that takes longer than a reader may wait: it goes on, and is there later.
#[test]
fn an_image_that_takes_long_is_there_later() {
    let setup = Setup::new(&["--timeout", "2"]);
    setup.add("app", "1", "x");
    let layer = format!("/blobs/{}", image("x").layer_digests()[0]);
    setup.registry.fault(("GET", &layer, Times::First(1)), Fault::Drip(400));
    let (path, is_over) = (setup.at("app/:1/word"), AtomicBool::new(false));
    let started = Instant::now();
    if let Err(error) = fs::read(&path) {
        assert!([5, 110].contains(&error.raw_os_error().unwrap()), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
        is_over.store(true, Ordering::SeqCst);
    }
    let is_there = || fs::read(&path).is_ok_and(|bytes| bytes == b"x");
    assert!(eventually_within(Duration::from_secs(40), is_there));
    assert!(is_over.into_inner(), "it was fast");
    setup.end();
}
