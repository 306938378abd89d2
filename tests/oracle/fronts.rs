//! What stands between registries and their users: storages with signed URLs, limits of requests,
//! compression, newer protocols, caches. All of it real; requests are counted from nginx's log.

use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::large::{self, FILES};
use crate::local::Signer;
use crate::mounted::{Home, Mounted};
use crate::nginx::{Authority, Nginx};
use crate::oracle::gzip_image;
use crate::servers::{Registry, program, run};
use crate::support::image::{Built, push};
use crate::support::tarball::{Entry, tar};

/// How long a condition is waited for that has to come true.
const LIMIT: Duration = Duration::from_secs(120);

/// Options with which nothing is kept: reads ask.
const UNCACHED: [&str; 2] = ["--cache-size", "0"];

/// The requests so far that were answered with this status.
fn answered(nginx: &Nginx, status: u16) -> usize {
    let status = format!("|{status}|");
    nginx.requests().iter().filter(|line| line.contains(&status)).count()
}

/// Where docker-registry keeps the bytes of a digest, below its storage.
fn stored(digest: &str) -> String {
    let hex = digest.strip_prefix("sha256:").unwrap();
    format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2])
}

/// Signed URLs end in the middle of reading, by both words that storages have for it: the registry
/// is asked for another one, and readers notice nothing.
#[test]
fn signed_urls_end_under_a_mount() {
    const ENDED: usize = 3;
    for status in [403, 410] {
        let mut registry = Registry::configured("");
        push(&large::image(), registry.address(), "team/app", "t").unwrap();
        let storage = registry.storage().display().to_string();
        let check = Signer::check(status);
        let server = format!("server {{ listen 127.0.0.1:PORT; root {storage}; {check} }}");
        let nginx = Nginx::start(&server, &[]);
        let address = format!("127.0.0.1:{}", nginx.port());
        let signer = Signer::start(&address, Duration::from_secs(2));
        registry.reconfigure(&signer.lines());
        let home = Home::new();
        let mounted = home.mount_with(&UNCACHED, &format!("{}/team/app:t", registry.address()));
        let started = Instant::now();
        let mut number = 0;
        while answered(&nginx, status) < ENDED {
            assert!(started.elapsed() < LIMIT, "{:?}", nginx.requests());
            large::check(mounted.path(), number % FILES);
            number += 1;
        }
        (0..FILES).for_each(|number| large::check(mounted.path(), number));
        let requests = nginx.requests();
        assert_eq!(answered(&nginx, 400), 0, "a storage was shown a password: {requests:?}");
        // What is signed is for the first look at a blob, or instead of what has ended. Two threads
        // may look at once.
        let (signed, ended) = (signer.signed(), answered(&nginx, status));
        let blobs = large::image().blobs.len();
        assert!(signed <= 2 * (blobs + ended), "{signed} signed, {ended} ended");
        assert!(answered(&nginx, 206) > signed, "URLs are used again: {requests:?}");
    }
}

/// Readers of a registry that allows few requests wait as it tells them to, and are served.
#[test]
fn limits_of_requests_are_kept() {
    const READERS: usize = 3;
    const REFUSED: usize = 3;
    let registry = Registry::shared();
    push(&large::image(), registry.address(), "fronts/limit", "t").unwrap();
    let nginx = Nginx::start(
        &format!(
            "limit_req_zone $binary_remote_addr zone=all:1m rate=5r/s; limit_req_status 429;
             server {{ listen 127.0.0.1:PORT; location / {{ limit_req zone=all burst=5 nodelay;
             add_header Retry-After 1 always; proxy_pass http://{};
             proxy_set_header Host $http_host; }} }}",
            registry.address()
        ),
        &[],
    );
    let home = Home::new();
    let reference = format!("127.0.0.1:{}/fronts/limit:t", nginx.port());
    let mounted = home.mount_with(&UNCACHED, &reference);
    let started = Instant::now();
    thread::scope(|scope| {
        for reader in 0..READERS {
            let (mounted, nginx) = (&mounted, &nginx);
            scope.spawn(move || {
                let mut number = reader;
                while answered(nginx, 429) < REFUSED {
                    assert!(started.elapsed() < LIMIT, "{:?}", nginx.requests());
                    large::check(mounted.path(), number % FILES);
                    number += 2 * reader + 1;
                }
            });
        }
    });
    (0..FILES).step_by(5).for_each(|number| large::check(mounted.path(), number));
    // They do not try again and again. (That many threads wait as one is shown in the fault tests.)
    let (refused, served) = (answered(&nginx, 429), answered(&nginx, 206) + answered(&nginx, 200));
    assert!(refused <= served, "{refused} refused, {served} served: {:?}", nginx.requests());
}

const CONTENT: &str = "what is read in the end\n";

fn small() -> Built {
    gzip_image(&[tar(&[Entry::file("f", CONTENT.repeat(1000))])])
}

fn cat(reference: &str) -> Result<(), String> {
    let output = Home::new().ocifs().args(["cat", reference, "f"]).output().unwrap();
    if output.status.success() {
        assert!(output.stdout == CONTENT.repeat(1000).as_bytes(), "wrong bytes");
        return Ok(());
    }
    assert!(output.stdout.is_empty(), "{output:?}");
    Err(String::from_utf8(output.stderr).unwrap())
}

/// A server that compresses what nobody asked to be compressed: `Content-Encoding: gzip`, and the
/// bytes are really encoded.
#[test]
fn what_comes_encoded_is_never_taken_for_content() {
    let registry = Registry::shared();
    let image = small();
    push(&image, registry.address(), "fronts/encoded", "t").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [layer] = &image.layer_digests()[..] else { panic!("one layer") };
    let config = image.blobs.keys().find(|digest| *digest != layer).unwrap();
    let manifest = &image.manifest_digest;
    for digest in [layer, config, manifest] {
        let to = folder.path().join(digest);
        std::fs::copy(registry.storage().join(stored(digest)), &to).unwrap();
        run(Command::new("gzip").arg("--keep").arg(to));
    }
    let pass =
        format!("proxy_pass http://{}; proxy_set_header Host $http_host;", registry.address());
    let address = |nginx: &Nginx| format!("127.0.0.1:{}/fronts/encoded", nginx.port());
    let (tag, by_digest) = (":t".to_owned(), format!("@{manifest}"));
    for (what, path, digest, reference) in [
        ("a layer", format!("blobs/{layer}"), layer, &tag),
        ("a config", format!("blobs/{config}"), config, &tag),
        ("a manifest", "manifests/t".to_owned(), manifest, &tag),
        ("a manifest by digest", format!("manifests/{manifest}"), manifest, &by_digest),
    ] {
        let server = format!(
            "server {{ listen 127.0.0.1:PORT; location / {{ {pass} }}
             location = /v2/fronts/encoded/{path} {{ gzip_static always; alias {}/{digest};
             types {{ }} default_type {}; }} }}",
            folder.path().display(),
            image.manifest_media_type
        );
        let nginx = Nginx::start(&server, &[]);
        let shown = cat(&format!("{}{reference}", address(&nginx)));
        assert!(nginx.requests().iter().any(|line| line.contains(&path)), "{what} is asked for");
        // A manifest is decoded, and what comes out has the digest.
        let error = match path.starts_with("manifests/") {
            true => shown.map(|()| String::new()).unwrap(),
            false => shown.unwrap_err(),
        };
        for words in ["`Content-Encoding: gzip`", "was not asked for", digest_or_tag(&path)] {
            let is_right = error.is_empty() || error.contains(words);
            assert!(is_right, "{what}: `{words}` is not in {error}");
        }
        // Who sends what it has is believed, whatever the label.
        let server = format!(
            "server {{ listen 127.0.0.1:PORT; location / {{ {pass} add_header Content-Encoding gzip; }} }}"
        );
        let nginx = Nginx::start(&server, &[]);
        cat(&format!("{}{reference}", address(&nginx))).unwrap();
    }
}

/// The last part of a path.
fn digest_or_tag(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// TLS 1.3 and nothing else, and a server that offers HTTP/2.
#[test]
fn newer_protocols() {
    let registry = Registry::shared();
    push(&large::image(), registry.address(), "fronts/newer", "t").unwrap();
    let authority = Authority::new("for newer protocols");
    let pair = authority.sign(&["localhost"], |_| {});
    let server = format!(
        "server {{ listen 127.0.0.1:PORT ssl http2; ssl_certificate DIR/server.crt;
         ssl_certificate_key DIR/server.key; ssl_protocols TLSv1.3;
         location / {{ proxy_pass http://{}; proxy_set_header Host $http_host; }} }}",
        registry.address()
    );
    let files = [
        ("server.crt", pair.certificate.as_str()),
        ("server.key", &pair.key),
        ("ca.pem", &authority.pem()),
    ];
    let nginx = Nginx::start(&server, &files);
    let trusted = nginx.folder().join("ca.pem").display().to_string();
    let home = Home::new().with_environment("SSL_CERT_FILE", &trusted);
    let mounted = home.mount_with(&UNCACHED, &format!("localhost:{}/fronts/newer:t", nginx.port()));
    (0..FILES).for_each(|number| large::check(mounted.path(), number));
    let served = answered(&nginx, 206);
    assert!(served > 0, "{:?}", nginx.requests());
}

/// Reads everything of a mount, and all of it again.
fn read_twice(mounted: &Mounted<'_>) {
    (0..FILES).chain((0..FILES).rev()).for_each(|number| large::check(mounted.path(), number));
}

/// A server that knows no ranges: layers come whole, and once.
#[test]
fn blobs_that_come_whole() {
    let registry = Registry::shared();
    let image = large::image();
    push(&image, registry.address(), "fronts/whole", "t").unwrap();
    let server = format!(
        "server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://{};
         proxy_set_header Host $http_host; proxy_set_header Range ''; }} }}",
        registry.address()
    );
    let nginx = Nginx::start(&server, &[]);
    let reference = format!("127.0.0.1:{}/fronts/whole:t", nginx.port());
    let home = Home::new();
    let mounted = home.mount(&reference);
    read_twice(&mounted);
    assert_eq!(answered(&nginx, 206), 0, "{:?}", nginx.requests());
    for digest in image.layer_digests() {
        let requests = nginx.requests();
        let count = requests.iter().filter(|line| line.contains(&digest)).count();
        assert_eq!(count, 1, "{requests:?}");
    }
    // Without a cache it takes more than one, but never wrong bytes.
    let home = Home::new();
    read_twice(&home.mount_with(&UNCACHED, &reference));
}

/// A running haproxy that caches what comes from `upstream`.
struct Haproxy {
    child: Child,
    port: u16,
}

impl Haproxy {
    fn start(upstream: u16) -> Haproxy {
        let folder = tempfile::tempdir().unwrap();
        // Another process may take the port between our choice and the start.
        let started = (0..5).find_map(|_| {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config = folder.path().join("haproxy.cfg");
            let text = format!(
                "defaults\n mode http\n timeout connect 30s\n timeout client 30s\n \
                 timeout server 30s\ncache blobs\n total-max-size 200\n \
                 max-object-size 20000000\n max-age 3600\nlisten front\n \
                 bind 127.0.0.1:{port}\n http-request cache-use blobs\n \
                 http-response cache-store blobs\n server nginx 127.0.0.1:{upstream}\n"
            );
            std::fs::write(&config, text).unwrap();
            let mut child =
                program("haproxy", "haproxy").args(["-db", "-f"]).arg(&config).spawn().unwrap();
            let started = Instant::now();
            while started.elapsed() < LIMIT && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Some(Haproxy { child, port });
                }
                thread::sleep(Duration::from_millis(20));
            }
            None
        });
        started.expect("haproxy starts within 5 attempts")
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        // It has no processes of its own, and may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// haproxy answers ranges of what it has with all of it, unless it is asked not to.
#[test]
fn a_cache_that_knows_no_ranges() {
    let registry = Registry::shared();
    let image = large::image();
    push(&image, registry.address(), "fronts/haproxy", "t").unwrap();
    let server = format!(
        "server {{ listen 127.0.0.1:PORT; location / {{ proxy_pass http://{};
         proxy_set_header Host $http_host; }} }}",
        registry.address()
    );
    let nginx = Nginx::start(&server, &[]);
    let haproxy = Haproxy::start(nginx.port());
    let reference = format!("127.0.0.1:{}/fronts/haproxy:t", haproxy.port);
    let home = Home::new();
    // The first pass fills its cache.
    let mounted = home.mount_with(&UNCACHED, &reference);
    assert_eq!(answered(&nginx, 206), 0, "{:?}", nginx.requests());
    read_twice(&mounted);
    assert!(answered(&nginx, 206) > FILES, "{:?}", nginx.requests());
    for digest in image.layer_digests() {
        let requests = nginx.requests();
        let whole = requests.iter().filter(|l| l.contains(&digest) && l.contains("|200|"));
        assert_eq!(whole.count(), 1, "{requests:?}");
    }
}

/// A registry that fetches from another what it is asked for.
#[test]
fn a_registry_that_is_a_cache_of_another() {
    let registry = Registry::shared();
    push(&large::image(), registry.address(), "fronts/upstream", "t").unwrap();
    for options in [&UNCACHED[..], &[]] {
        // A cold one answers the first requests for ranges with the whole blob.
        let lines = format!("proxy: {{remoteurl: 'http://{}'}}\n", registry.address());
        let cache = Registry::configured(&lines);
        let home = Home::new();
        let reference = format!("{}/fronts/upstream:t", cache.address());
        let mounted = home.mount_with(options, &reference);
        read_twice(&mounted);
        assert_mirrors(&cache, mounted.path(), &large::image());
    }
}

/// Waits until the cache has what was read, and reads once more from there.
fn assert_mirrors(cache: &Registry, mount: &Path, image: &Built) {
    let started = Instant::now();
    for digest in image.layer_digests() {
        let path = cache.storage().join(stored(&digest));
        while !path.exists() {
            assert!(started.elapsed() < LIMIT, "{} is not fetched", path.display());
            thread::sleep(Duration::from_millis(20));
        }
    }
    (0..FILES).for_each(|number| large::check(mount, number));
}
