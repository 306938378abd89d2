//! Stores of engines that are not what they should be: an engine that hangs up or lies, and folders
//! that another program has written.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use ocifs::image::ImageOptions;
use ocifs::oci::Platform;
use ocifs::source::LocalStores;
use serde_json::{Value, json};

use crate::fixture::{
    GOOD, Sandbox, Verdict, fails, has_words, image_of, open, opens, options, read,
};
use crate::support::image::{
    Built, Compression, OCI_INDEX, sha256, write_docker_archive_legacy, write_docker_archive_modern,
};
use crate::support::tarball::{Entry, tar};

/// What an engine answers to a path.
pub type Answers = Box<dyn Fn(&str) -> Vec<u8> + Send>;

/// An engine made of answers.
pub struct Engine {
    pub socket: PathBuf,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Engine {
    pub fn start(folder: &Path, answers: Answers) -> Engine {
        let socket = folder.join("socket");
        // A socket of a former engine.
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let first = lines.next().unwrap().unwrap();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                let path = first.split(' ').nth(1).unwrap().to_owned();
                let answer = answers(&path);
                log.lock().unwrap().push(path);
                // Who hangs up before the end is tested as well.
                let _ = stream.write_all(&answer);
            }
        });
        Engine { socket, requests }
    }

    fn options(&self) -> ImageOptions {
        let stores =
            LocalStores { docker_sockets: vec![self.socket.clone()], ..LocalStores::default() };
        ImageOptions { stores, ..options() }
    }

    /// How often the image was taken.
    fn taken(&self) -> usize {
        self.requests.lock().unwrap().iter().filter(|path| path.ends_with("/get")).count()
    }
}

pub fn answer(status: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut all = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in body.chunks(1000) {
        all.extend([format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    [&all[..], b"0\r\n\r\n"].concat()
}

/// The good image as an archive of an old engine, and itself.
fn archive(folder: &Path) -> (Built, Vec<u8>) {
    let layer = tar(&[Entry::file("f", GOOD)]);
    let image = image_of(&layer, Compression::None);
    let path = folder.join("image.tar");
    write_docker_archive_legacy(&path, &image, &[layer], &["r:t"]).unwrap();
    (image, fs::read(path).unwrap())
}

fn inspected(id: &str) -> Vec<u8> {
    answer("200 OK", json!({ "Id": id, "Size": 1, "Other": [1] }).to_string().as_bytes())
}

const NAME: &str = "docker-daemon:r:t";

#[test]
fn an_image_is_taken_once() {
    for modern in [false, true] {
        let sandbox = Sandbox::new();
        let (image, mut bytes) = archive(sandbox.path());
        let mut id = sha256(&image.config);
        if modern {
            // The ID of engines with containerd's store.
            id = image.manifest_digest.clone();
            let path = sandbox.path().join("modern.tar");
            write_docker_archive_modern(&path, &image, &["r:t"]).unwrap();
            bytes = fs::read(path).unwrap();
        }
        let expected = format!("/images/{id}/get");
        let engine = Engine::start(
            sandbox.path(),
            Box::new(move |path| match path {
                "/images/docker.io/library/r:t/json" => inspected(&id),
                path if path == expected => chunked(&bytes),
                _ => answer("404 Not Found", b"{}"),
            }),
        );
        for _ in 0..3 {
            opens(&sandbox, NAME, &engine.options()).unwrap();
        }
        assert_eq!(engine.taken(), 1, "modern: {modern}");
        // What the cache has lost is taken again.
        for span in sandbox.cached("spans") {
            fs::remove_file(span).unwrap();
        }
        opens(&sandbox, NAME, &engine.options()).unwrap();
        assert_eq!(engine.taken(), 2);
    }
}

/// What is wrong, the answers to a question and for an image, and the words of the error.
type EngineRow<'a> = (&'a str, Vec<u8>, Vec<u8>, &'a [&'a str]);

/// An index of images for these architectures, and the archive in which some of them are.
fn several(images: &[(&Built, &str)], present: &[&Built]) -> (String, Vec<u8>) {
    let entries: Vec<Value> = images
        .iter()
        .map(|(built, architecture)| {
            let mut descriptor = built.descriptor();
            descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
            descriptor
        })
        .collect();
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
    let index = index.to_string().into_bytes();
    let outer = json!({ "schemaVersion": 2, "manifests": [
        { "mediaType": OCI_INDEX, "digest": sha256(&index), "size": index.len() },
    ]});
    let blobs = present.iter().flat_map(|built| built.blobs.values().chain([&built.manifest]));
    let mut entries: Vec<Entry> = blobs
        .chain([&index])
        .map(|bytes| Entry::file(format!("blobs/sha256/{}", &sha256(bytes)[7..]), bytes))
        .collect();
    entries.push(Entry::file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#));
    entries.push(Entry::file("index.json", outer.to_string()));
    (sha256(&index), tar(&entries))
}

/// An engine that gives this archive.
fn giving(folder: &Path, id: String, bytes: Vec<u8>) -> Engine {
    Engine::start(
        folder,
        Box::new(move |path| if path.ends_with("/get") { chunked(&bytes) } else { inspected(&id) }),
    )
}

/// The platform of this machine, and another one.
fn architectures() -> (String, &'static str) {
    let host = Platform::host().architecture;
    let other = if host == "s390x" { "riscv64" } else { "s390x" };
    (host, other)
}

/// An engine with containerd's store has some platforms of an image: what is wanted is not looked for
/// again, and what was not there may be by now.
#[test]
fn one_platform_of_several_is_taken_once() {
    let sandbox = Sandbox::new();
    let (image, _) = archive(sandbox.path());
    let foreign = image_of(&tar(&[Entry::file("f", "foreign")]), Compression::Gzip);
    let (host, other) = architectures();
    let images = [(&foreign, other), (&image, &host)];
    let (id, bytes) = several(&images, &[&foreign]);
    let engine = giving(sandbox.path(), id.clone(), bytes);
    for _ in 0..2 {
        // With a warning.
        let image = open(NAME, &sandbox.cache(), &engine.options()).unwrap();
        assert_eq!(read(&image, "f").unwrap(), b"foreign");
    }
    let named = ImageOptions { platform: other.parse().ok(), ..engine.options() };
    let taken = engine.taken();
    open(NAME, &sandbox.cache(), &named).unwrap();
    assert_eq!(engine.taken(), taken, "it is remembered");
    // The engine has pulled the right one meanwhile; the ID stays the same.
    let (_, bytes) = several(&images, &[&foreign, &image]);
    let engine = giving(sandbox.path(), id, bytes);
    for _ in 0..3 {
        opens(&sandbox, NAME, &engine.options()).unwrap();
    }
    open(NAME, &sandbox.cache(), &named).unwrap();
    assert_eq!(engine.taken(), 1);
}

/// What an engine gives under an ID of something else is not remembered for others.
#[test]
fn an_engine_that_gives_another_image() {
    for modern in [false, true] {
        let sandbox = Sandbox::new();
        let (image, bytes) = archive(sandbox.path());
        let id = if modern { image.manifest_digest.clone() } else { sha256(&image.config) };
        let layer = tar(&[Entry::file("f", "evil")]);
        let evil = image_of(&layer, Compression::None);
        let path = sandbox.path().join("evil.tar");
        match modern {
            false => write_docker_archive_legacy(&path, &evil, &[layer], &["r:t"]).unwrap(),
            true => write_docker_archive_modern(&path, &evil, &["r:t"]).unwrap(),
        }
        let engine = giving(sandbox.path(), id.clone(), fs::read(path).unwrap());
        let _ = open(NAME, &sandbox.cache(), &engine.options());
        let (_, index) = several(&[(&evil, &architectures().0)], &[&evil]);
        let engine = giving(sandbox.path(), id.clone(), index);
        let _ = open(NAME, &sandbox.cache(), &engine.options());
        let engine = giving(sandbox.path(), id, bytes);
        opens(&sandbox, NAME, &engine.options()).unwrap();
    }
}

/// An index may name one manifest of megabytes thousands of times.
#[test]
fn an_index_of_too_many_is_not_remembered() {
    let sandbox = Sandbox::new();
    let (image, _) = archive(sandbox.path());
    let host = architectures().0;
    let (id, bytes) = several(&vec![(&image, &host[..]); 2000], &[&image]);
    let engine = giving(sandbox.path(), id, bytes);
    for _ in 0..2 {
        opens(&sandbox, NAME, &engine.options()).unwrap();
    }
    assert_eq!(engine.taken(), 2);
}

#[test]
fn engines_that_fail() {
    let folder = Sandbox::new();
    let (image, bytes) = archive(folder.path());
    let id = sha256(&image.config);
    let good = chunked(&bytes);
    let cut = good[..good.len() / 2].to_vec();
    let mut changed = bytes.clone();
    let at = changed.windows(GOOD.len()).position(|w| w == GOOD).unwrap();
    changed[at] ^= 1;
    let unframed = [b"HTTP/1.1 200 OK\r\n\r\n", &bytes[..]].concat();
    let refusal = answer("500 Internal Server Error", br#"{"message":"no space left"}"#);
    let rows: Vec<EngineRow<'_>> = vec![
        ("hangs up", Vec::new(), Vec::new(), &["hung up"]),
        ("web page", answer("200 OK", b"<html>"), Vec::new(), &["the engine's answer"]),
        ("no HTTP", b"SSH-2.0\r\n\r\n".to_vec(), Vec::new(), &["not valid HTTP"]),
        ("ID with a path", inspected("../../x"), Vec::new(), &["the engine's answer"]),
        ("refuses", refusal.clone(), Vec::new(), &["status 500", "no space left"]),
        (
            "refuses in other words",
            answer("500 Internal Server Error", b"{\"Message\":\"no space\"}\n{}"),
            Vec::new(),
            &["status 500: no space"],
        ),
        (
            "refuses without words",
            answer("500 Internal Server Error", br#"{"message":null}"#),
            Vec::new(),
            &["status 500: {\"message\":null}"],
        ),
        ("refuses later", inspected(&id), refusal, &["status 500", "no space left"]),
        ("hangs up in the middle", inspected(&id), cut, &["hung up"]),
        ("does not say where it ends", inspected(&id), unframed, &["where it ends"]),
        ("no archive", inspected(&id), chunked(b"nothing"), &["not"]),
        ("nothing", inspected(&id), chunked(b""), &["not the output of `docker save`"]),
        ("other bytes", inspected(&id), chunked(&changed), &["does not match its digest"]),
    ];
    let mut verdict = Verdict::default();
    for (what, inspect, get, words) in rows {
        let sandbox = Sandbox::new();
        let engine = Engine::start(
            sandbox.path(),
            Box::new(
                move |path| if path.ends_with("/get") { get.clone() } else { inspect.clone() },
            ),
        );
        verdict.row(what, fails(&sandbox, NAME, &engine.options(), words));
        let (id, good) = (id.clone(), good.clone());
        let engine = Engine::start(
            sandbox.path(),
            Box::new(
                move |path| if path.ends_with("/get") { good.clone() } else { inspected(&id) },
            ),
        );
        verdict.row(what, opens(&sandbox, NAME, &engine.options()));
    }
    verdict.end();
    // An image that the engine does not have; what there is, it says.
    let sandbox = Sandbox::new();
    let list = answer("200 OK", br#"[{"RepoTags":null},5,{"repoTags":["a:1","b:2"]},{}]"#);
    let engine = Engine::start(
        sandbox.path(),
        Box::new(move |path| match path {
            "/images/json" => list.clone(),
            _ => answer("404 Not Found", br#"{"message":"No such image"}"#),
        }),
    );
    fails(&sandbox, NAME, &engine.options(), &["there is no image", "b:2, a:1"]).unwrap();
    fs::remove_file(&engine.socket).unwrap();
    fails(&sandbox, NAME, &engine.options(), &["no engine listens", "DOCKER_HOST"]).unwrap();
}

/// A store of podman's whose lists are these.
fn storage(root: &Path, image: &Built, images: &Value, layers: &Value) {
    let documents = root.join("overlay-images/abc123");
    fs::create_dir_all(&documents).unwrap();
    fs::create_dir_all(root.join("overlay-layers")).unwrap();
    fs::write(root.join("overlay-images/images.json"), images.to_string()).unwrap();
    fs::write(root.join("overlay-layers/layers.json"), layers.to_string()).unwrap();
    fs::write(documents.join("manifest"), &image.manifest).unwrap();
    let name =
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sha256(&image.config));
    fs::write(documents.join(format!("={name}")), &image.config).unwrap();
}

#[test]
fn stores_of_podman_that_lie() {
    let layer = tar(&[Entry::file("f", GOOD)]);
    let image = image_of(&layer, Compression::Gzip);
    let images = json!([{ "id": "abc123", "names": ["localhost/r:t"], "layer": "aaa" }]);
    let row = |id: &str, parent: &str| json!({ "id": id, "parent": parent, "diff-digest": sha256(&layer), "diff-size": layer.len() });
    let with = |key: &str, value: Value| {
        let mut row = row("aaa", "");
        row[key] = value;
        json!([row])
    };
    let rows: Vec<(&str, Value, Value, &[&str])> = vec![
        (
            "circle",
            images.clone(),
            json!([row("aaa", "bbb"), row("bbb", "aaa")]),
            &["by its registry"],
        ),
        ("no layer", images.clone(), json!([]), &["layer aaa is not there", "pull it again"]),
        ("no digest", images.clone(), with("diff-digest", json!(null)), &["no digest of its tar"]),
        ("no size", images.clone(), with("diff-size", json!(-1)), &["no digest of its tar"]),
        ("incomplete", images.clone(), with("flags", json!({"incomplete": true})), &["incomplete"]),
        ("undescribed", images.clone(), json!([row("aaa", "")]), &["put together again"]),
        ("no JSON", images.clone(), json!("x"), &["layers.json"]),
        ("no images", json!([]), json!([]), &["there is no image `r:t`"]),
        ("too many rows", images.clone(), json!(vec![row("a", ""); 100_001]), &["100000 rows"]),
        (
            "a path for an ID",
            json!([{ "id": "../abc123", "names": ["localhost/r:t"], "layer": "aaa" }]),
            json!([]),
            &["there is no image `r:t`"],
        ),
        (
            "a path for a layer",
            json!([{ "id": "abc123", "names": ["localhost/r:t"], "layer": "../x" }]),
            json!([row("../x", "")]),
            &["no ID"],
        ),
    ];
    let mut verdict = Verdict::default();
    for (what, images, layers, words) in rows {
        let sandbox = Sandbox::new();
        let root = sandbox.path().join("root");
        storage(&root, &image, &images, &layers);
        let name = format!("containers-storage:[{}]r:t", root.display());
        verdict.row(what, fails(&sandbox, &name, &options(), words));
    }
    // Described, but without its file, and with another.
    for (content, words) in
        [(None, "f` of the unpacked layer"), (Some("xxx bytes are not"), "digest")]
    {
        let sandbox = Sandbox::new();
        let root = sandbox.path().join("root");
        storage(&root, &image, &images, &json!([row("aaa", "")]));
        let file = layer.windows(GOOD.len()).position(|w| w == GOOD).unwrap();
        let (head, tail) = (&layer[..file], &layer[file + GOOD.len()..]);
        let encode = |bytes: &[u8]| {
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, bytes)
        };
        let lines = [
            json!({ "type": 2, "payload": encode(head) }),
            json!({ "type": 1, "name": "f", "size": GOOD.len() }),
            json!({ "type": 2, "payload": encode(tail) }),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let split = crate::support::image::compress(text.as_bytes(), Compression::Gzip);
        fs::write(root.join("overlay-layers/aaa.tar-split.gz"), split).unwrap();
        fs::create_dir_all(root.join("overlay/aaa/diff")).unwrap();
        let place = root.join("overlay/aaa/diff/f");
        let name = format!("containers-storage:[{}]r:t", root.display());
        if let Some(content) = content {
            fs::write(&place, content).unwrap();
        }
        verdict.row(words, fails(&sandbox, &name, &options(), &[words]));
        fs::write(&place, GOOD).unwrap();
        verdict.row("right", opens(&sandbox, &name, &options()));
        // The lists as Go reads them: null, keys in another case, and rows of other images that are odd.
        let odd = "sha999:00";
        let digests = json!({ "manifest": image.manifest_digest, "x": odd, "y": null });
        let images = json!([
            { "id": "abc1", "names": null, "digest": odd, "layer": null, "big-data-digests": null },
            { "ID": "abc123", "Names": ["localhost/r:t"], "LAYER": "aaa", "created": 5,
              "Big-Data-Digests": digests },
        ]);
        let layers = json!([
            { "id": "bbb", "parent": null, "diff-digest": odd, "diff-size": 1.5, "flags": null },
            { "Id": "aaa", "parent": null, "Diff-Digest": sha256(&layer), "FLAGS": null,
              "diff-SIZE": layer.len() },
        ]);
        storage(&root, &image, &images, &layers);
        fs::write(root.join("overlay-layers/volatile-layers.json"), "null").unwrap();
        for name in ["r:t".to_owned(), format!("r@{}", image.manifest_digest)] {
            let name = format!("containers-storage:[{}]{name}", root.display());
            verdict.row(&format!("odd lists, {name}"), opens(&Sandbox::new(), &name, &options()));
        }
    }
    verdict.end();
}

#[test]
fn stores_of_registries_that_lie() {
    let image = image_of(&tar(&[Entry::file("f", GOOD)]), Compression::Gzip);
    let sandbox = Sandbox::new();
    let root = sandbox.path().join("root");
    let write = |path: &str, bytes: &[u8]| {
        let path = root.join("docker/registry/v2").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    let blob = |digest: &str| format!("blobs/sha256/{}/{}/data", &digest[7..9], &digest[7..]);
    for (digest, bytes) in &image.blobs {
        write(&blob(digest), bytes);
    }
    write(&blob(&image.manifest_digest), &image.manifest);
    let link = "repositories/a/r/_manifests/tags/t/current/link";
    let name = format!("registry-storage:{}//a/r:t", root.display());
    let mut verdict = Verdict::default();
    let absent = sha256(b"absent");
    for (what, content, words) in [
        ("empty", &b""[..], &["not a digest"][..]),
        ("a path", b"sha256:../../../../etc/passwd", &["hexadecimal"]),
        ("endless", &[b'x'; 5000], &["more than the 256"]),
        ("absent", absent.as_bytes(), &["is not in"]),
    ] {
        write(link, content);
        verdict.row(what, fails(&sandbox, &name, &options(), words));
    }
    write(link, format!("{}\n", image.manifest_digest).as_bytes());
    verdict.row("right", opens(&sandbox, &name, &options()));
    // A manifest of another repository is not one of this.
    let by_digest = format!("registry-storage:{}//a/r@{}", root.display(), image.manifest_digest);
    let error = open(&by_digest, &sandbox.cache(), &options()).unwrap_err();
    verdict.row("not linked", has_words(&error, &["there is no image", "a/r:t"]));
    // The wrong bytes under a right name.
    write(&blob(&image.manifest_digest), index().as_bytes());
    let error = open(&name, &Sandbox::new().cache(), &options()).unwrap_err();
    verdict.row("other manifest", has_words(&error, &["does not match its digest"]));
    verdict.end();
}

fn index() -> String {
    json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [] }).to_string()
}

#[test]
fn stores_of_containerd_that_lie() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("root/io.containerd.metadata.v1.bolt");
    fs::create_dir_all(&folder).unwrap();
    let name = format!("containerd:{}//app", sandbox.path().join("root").display());
    for junk in [&b""[..], b"junk", &[0; 100_000], &[0xff; 100_000]] {
        fs::write(folder.join("meta.db"), junk).unwrap();
        fails(&sandbox, &name, &options(), &["meta.db", "not a bbolt database"]).unwrap();
    }
}
