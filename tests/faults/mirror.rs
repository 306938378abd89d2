//! `ocifs mirror`: an engine that asks it finds the image in the store, or is left to pull it itself.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::fixture::{good, image_of, noise};
use crate::shell::{Home, eventually, run, text};
use crate::support::image::{Built, Compression, OCI_INDEX, image_index};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

fn image_with(entries: &[Entry]) -> Built {
    image_of(&tar(entries), Compression::Gzip)
}

/// A store without images, and a mirror for it.
struct Fixture {
    home: Home,
    registry: Registry,
    mirror: Child,
}

impl Fixture {
    fn new(flags: &[&str]) -> Fixture {
        Fixture::at(Home::new(), flags)
    }

    fn at(home: Home, flags: &[&str]) -> Fixture {
        let registry = Registry::start();
        let list = home.path().join("list");
        fs::write(&list, "# images that engines asked for").unwrap();
        home.run(&["store", "M", "--list", text(&list)]).succeeded();
        let address = format!("unix:{}", text(&home.path().join("s")));
        let mut command = home.ocifs(&["mirror", "--store", "M", "--list", text(&list)]);
        let mirror = command.args(flags).arg(address).spawn().unwrap();
        let fixture = Fixture { home, registry, mirror };
        assert!(eventually(|| UnixStream::connect(fixture.home.path().join("s")).is_ok()));
        fixture
    }

    /// Asks for something of a repository, below its own registry.
    fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let registry = self.registry.addr().to_string().replace(':', "_");
        self.send(&format!("{method} /v2/{registry}/{path} HTTP/1.1\r\n{headers}\r\n"))
    }

    fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "Host: x\r\nUser-Agent: containers/5\r\n")
    }

    fn send(&self, request: &str) -> Answer {
        let mut connection = UnixStream::connect(self.home.path().join("s")).unwrap();
        connection.write_all(request.as_bytes()).unwrap();
        let mut all = Vec::new();
        connection.read_to_end(&mut all).unwrap();
        let at = all.windows(4).position(|end| end == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(all[..at].to_vec()).unwrap();
        Answer { head, body: all.split_off(at + 4) }
    }

    /// The digests of the images that the store lists.
    fn listed(&self) -> Vec<String> {
        let path = self.home.mount_point().join("overlay-images/images.json");
        let rows: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        rows.iter().map(|row| row["digest"].as_str().unwrap().to_owned()).collect()
    }

    /// The lines of the list that are no comments.
    fn lines(&self) -> Vec<String> {
        let list = fs::read_to_string(self.home.path().join("list")).unwrap();
        list.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    fn name_of(&self, image: &Built) -> String {
        format!("{}/r@{}", self.registry.addr(), image.manifest_digest)
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let _ = self.mirror.kill();
        let _ = self.mirror.wait();
        let _ = self.home.run(&["umount", "M"]);
    }
}

#[derive(Debug)]
struct Answer {
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn status(&self) -> &str {
        let line = self.head.lines().next().unwrap();
        line.strip_prefix("HTTP/1.1 ").unwrap().split(' ').next().unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

#[test]
fn an_image_is_shown_before_it_is_answered() {
    let fixture = Fixture::new(&[]);
    let (first, second) = (good(), image_with(&[Entry::file("other", noise(100_000, 7))]));
    fixture.registry.add_image("r", "one", &first);
    fixture.registry.add_image("r", "two", &second);
    assert_eq!(fixture.send("GET /v2/ HTTP/1.1\r\n\r\n").status(), "200");
    // To look whether it is there shows nothing.
    let head = fixture.ask("HEAD", "r/manifests/one", "");
    assert_eq!((head.status(), head.body.len()), ("200", 0));
    assert_eq!(head.header("Docker-Content-Digest"), Some(first.manifest_digest.as_str()));
    assert_eq!(head.header("Content-Length"), Some(first.manifest.len().to_string().as_str()));
    assert_eq!(fixture.listed(), [""; 0]);
    let answer = fixture.get("r/manifests/one");
    assert_eq!(fixture.listed(), [first.manifest_digest.as_str()]);
    assert_eq!((answer.status(), &answer.body), ("200", &first.manifest));
    assert_eq!(answer.header("Content-Type"), Some(first.manifest_media_type.as_str()));
    // By its digest, and again, it adds nothing.
    for path in [format!("r/manifests/{}", first.manifest_digest), "r/manifests/one".to_owned()] {
        assert_eq!(fixture.get(&path).body, first.manifest, "{path}");
    }
    assert_eq!(fixture.lines(), [fixture.name_of(&first)]);
    // Config and layers, if an engine wants them.
    for (digest, bytes) in &first.blobs {
        let answer = fixture.get(&format!("r/blobs/{digest}"));
        assert_eq!((answer.status(), &answer.body), ("200", bytes), "{digest}");
    }
    assert_eq!(fixture.get("r/manifests/two").status(), "200");
    assert_eq!(fixture.listed(), [first.manifest_digest.clone(), second.manifest_digest.clone()]);
    assert_eq!(fixture.lines(), [fixture.name_of(&first), fixture.name_of(&second)]);
}

#[test]
fn of_an_index_only_what_is_asked_for_is_shown() {
    let fixture = Fixture::new(&[]);
    let (one, other) = (good(), image_with(&[Entry::file("other", "architecture")]));
    let platform = |name: &str| json!({ "os": "linux", "architecture": name });
    let (index, digest) = image_index(&[(&one, platform("amd64")), (&other, platform("riscv64"))]);
    fixture.registry.add_image("r", "one", &one);
    fixture.registry.add_image("r", "other", &other);
    fixture.registry.add_manifest("r", "t", OCI_INDEX, &index);
    let answer = fixture.get("r/manifests/t");
    assert_eq!((answer.status(), &answer.body), ("200", &index));
    assert_eq!(answer.header("Content-Type"), Some(OCI_INDEX));
    assert_eq!(answer.header("Docker-Content-Digest"), Some(digest.as_str()));
    assert_eq!(fixture.lines(), [""; 0]);
    let answer = fixture.get(&format!("r/manifests/{}", other.manifest_digest));
    assert_eq!((answer.status(), &answer.body), ("200", &other.manifest));
    assert_eq!(fixture.listed(), [other.manifest_digest.as_str()]);
}

#[test]
fn what_can_not_be_shown_is_left_to_the_registry() {
    let fixture = Fixture::new(&["--wait", "2s"]);
    let (image, broken) = (good(), image_with(&[Entry::file("f", noise(5_000, 3))]));
    fixture.registry.add_image("r", "t", &image);
    fixture.registry.add_image("r", "broken", &broken);
    let gone = Fault::Status(404, Vec::new(), Vec::new());
    for layer in broken.layer_digests() {
        fixture.registry.fault(("GET", &layer, Times::Always), gone.clone());
    }
    for path in ["r/manifests/none", "r/manifests/broken", "r/tags/list", "r", "../r/manifests/t"] {
        let answer = fixture.get(path);
        assert_eq!(answer.status(), "404", "{path}: {answer:?}");
    }
    assert_eq!(fixture.lines(), [fixture.name_of(&broken)], "it is tried again later");
    // No manifest that names it was asked for.
    assert_eq!(fixture.get(&format!("r/blobs/{}", image.layer_digests()[0])).status(), "404");
    assert_eq!(fixture.ask("DELETE", "r/manifests/t", "").status(), "405");
    assert_eq!(fixture.send("nonsense\r\n\r\n").status(), "400");
    // The process that serves the store reads the same list of mirrors.
    let own = fixture.ask("GET", "r/manifests/t", "user-agent: ocifs/1.2\r\n");
    assert_eq!(own.status(), "404");
    // One that is broken keeps no other.
    assert!(eventually(|| fixture.get("r/manifests/t").status() == "200"));
    fixture.home.run(&["umount", "M"]).succeeded();
    let answer = fixture.get("r/manifests/t");
    assert_eq!(answer.status(), "404", "{answer:?}");
    assert!(!String::from_utf8_lossy(&answer.body).is_empty());
}

#[test]
fn many_ask_at_the_same_time() {
    let fixture = Fixture::new(&[]);
    let images: Vec<Built> =
        (0..6).map(|n| image_with(&[Entry::file("f", noise(20_000, n))])).collect();
    for (at, image) in images.iter().enumerate() {
        fixture.registry.add_image("r", &format!("t{at}"), image);
    }
    std::thread::scope(|scope| {
        for (at, image) in images.iter().enumerate().chain(images.iter().enumerate()) {
            let fixture = &fixture;
            scope.spawn(move || {
                let answer = fixture.get(&format!("r/manifests/t{at}"));
                assert_eq!((answer.status(), &answer.body), ("200", &image.manifest));
                assert!(fixture.listed().contains(&image.manifest_digest));
            });
        }
    });
    let mut lines = fixture.lines();
    lines.sort();
    let mut expected: Vec<String> = images.iter().map(|image| fixture.name_of(image)).collect();
    expected.sort();
    assert_eq!(lines, expected);
}

/// How a mirror answers a client that means a host: the first line.
fn asked_for(host: &str, address: &str, path: &str) -> String {
    let mut connection = std::net::TcpStream::connect(address).unwrap();
    write!(connection, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
    let mut all = String::new();
    connection.read_to_string(&mut all).unwrap();
    all.lines().next().unwrap().to_owned()
}

/// A browser lets a page read what its own name leads to, which may be this machine.
#[test]
fn a_web_page_is_not_answered() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &good());
    let list = home.path().join("list");
    let mut command =
        home.ocifs(&["-v", "mirror", "127.0.0.1:0", "--store", "M", "--list", text(&list)]);
    let mut mirror = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(mirror.stderr.take().unwrap()).lines().map(Result::unwrap);
    let address = lines.find_map(|line| Some(line.rsplit_once(" at ")?.1.to_owned())).unwrap();
    let port = address.rsplit_once(':').unwrap().1;
    let path = format!("/v2/{}/r/manifests/t", registry.addr().to_string().replace(':', "_"));
    for host in ["rebound.example", &format!("rebound.example:{port}"), "127.0.0.1.example"] {
        let said = asked_for(host, &address, &path);
        assert!(said.contains("421"), "{host}: {said}");
    }
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
    for host in [&address, "localhost", &format!("[::1]:{port}")] {
        let said = asked_for(host, &address, "/v2/");
        assert!(said.contains("200"), "{host}: {said}");
    }
    mirror.kill().unwrap();
    mirror.wait().unwrap();
}

/// What a login is for is answered with it, to whichever process asks; the login itself is told to none of them, and root without
/// CAP_SYS_PTRACE, as in a container, does not look into the mirror.
#[test]
fn logins_of_a_mirror_are_its_own() {
    const PASSWORD: &str = "s3cret-of-the-mirror";
    const CONTAINED: [&str; 3] = ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-all"];
    let home = Home::new().with_prefix(&CONTAINED);
    let fixture = Fixture::at(home, &[]);
    fixture.registry.add_image("r", "t", &good());
    fixture.registry.require_basic("me", PASSWORD);
    let docker = fixture.home.path().join("home/.docker");
    fs::create_dir(&docker).unwrap();
    let auth = STANDARD.encode(format!("me:{PASSWORD}"));
    let config = json!({ "auths": { fixture.registry.addr().to_string(): { "auth": auth } } });
    fs::write(docker.join("config.json"), config.to_string()).unwrap();
    let head = fixture.ask("HEAD", "r/manifests/t", "");
    assert_eq!(head.status(), "200");
    let answer = fixture.get("r/manifests/t");
    assert_eq!(answer.status(), "200", "{answer:?}");
    let list = fs::read_to_string(fixture.home.path().join("list")).unwrap();
    let told = format!("{head:?} {answer:?} {} {list}", String::from_utf8_lossy(&answer.body));
    assert!(!told.contains(PASSWORD) && !told.contains(&auth), "{told}");
    let exe = format!("/proc/{}/exe", fixture.mirror.id());
    let outcome = run(fixture.home.command("readlink").arg("-v").arg(exe));
    assert!(outcome.stderr.contains("Permission denied"), "{outcome:?}");
}

#[test]
fn what_is_missing_is_said_before_an_engine_asks() {
    let home = Home::new();
    let list = home.path().join("list");
    let store = text(&home.mount_point()).to_owned();
    home.run(&["mirror", "--store", &store, "127.0.0.1:0"]).failed(2, &["--list"]);
    home.run(&["mirror", "--store", &store, "--list", text(&list), "nowhere"])
        .failed(2, &["HOST:PORT"]);
    let nowhere = home.path().join("no/list");
    home.run(&["mirror", "--store", &store, "--list", text(&nowhere), "127.0.0.1:0"])
        .failed(1, &["no/list", "No such file"]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    home.run(&["mirror", "--store", &store, "--list", text(&list), &taken])
        .failed(1, &[&taken, "in use"]);
}
