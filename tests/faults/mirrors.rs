//! Several hosts for one image, and what is wrong with some of them.

use std::fs;
use std::sync::Arc;

use ocifs::image::ImageOptions;
use ocifs::source::registry::{ConfigFiles, Credentials, HostsConfig, RegistryOptions};
use tempfile::TempDir;

use crate::fixture::{GOOD, Sandbox, good, has_words, image_of, noise, open, options, read};
use crate::shell::Home;
use crate::support::image::{Built, Compression, sha256};
use crate::support::registry::{Fault, Logged, Registry, Times};
use crate::support::tarball::{Entry, tar};

/// A registry and a mirror of it, and the files that say so.
struct Pair {
    registry: Registry,
    mirror: Registry,
    folder: TempDir,
}

impl Pair {
    /// Both have the image `r:t`.
    fn with(image: &Built) -> Pair {
        let pair = Pair {
            registry: Registry::start(),
            mirror: Registry::start(),
            folder: tempfile::tempdir().unwrap(),
        };
        pair.registry.add_image("r", "t", image);
        pair.mirror.add_image("r", "t", image);
        pair
    }

    fn name(&self) -> String {
        format!("{}/r:t", self.registry.addr())
    }

    /// RegistryOptions by a `registries.conf` with more settings of the registry and of the mirror.
    fn podman(&self, registry: &str, mirror: &str) -> ImageOptions {
        let path = self.folder.path().join("registries.conf");
        let text = format!(
            "[[registry]]\nlocation = '{}'\n{registry}\n\
             [[registry.mirror]]\nlocation = '{}'\n{mirror}\n",
            self.registry.addr(),
            self.mirror.addr()
        );
        fs::write(&path, text).unwrap();
        with_files(ConfigFiles { registries: vec![path], ..ConfigFiles::default() })
    }

    /// RegistryOptions by a `hosts.toml` with more settings of the mirror.
    fn containerd(&self, path: &str, mirror: &str) -> ImageOptions {
        let top = self.folder.path().join("certs.d");
        let folder = top.join(self.registry.addr().to_string());
        fs::create_dir_all(&folder).unwrap();
        let (server, mirror_url) = (self.registry.addr(), self.mirror.addr());
        let text =
            format!("server = 'http://{server}'\n[host.'http://{mirror_url}{path}']\n{mirror}\n");
        fs::write(folder.join("hosts.toml"), text).unwrap();
        with_files(ConfigFiles { containerd: vec![top], ..ConfigFiles::default() })
    }

    /// Opens the image with a fresh cache and reads its file.
    fn reads(&self, options: &ImageOptions) -> Result<Vec<u8>, String> {
        let sandbox = Sandbox::new();
        read(&open(&self.name(), &sandbox.cache(), options)?, "f")
    }

    /// How many requests for blobs and manifests the registry and its mirror got.
    fn counts(&self) -> (usize, usize) {
        (self.registry.requests().len(), self.mirror.requests().len())
    }
}

fn with_files(files: ConfigFiles) -> ImageOptions {
    let usual = options();
    let hosts = Arc::new(HostsConfig::new(files));
    ImageOptions { registry: RegistryOptions { hosts, ..usual.registry }, ..usual }
}

fn credentials(of: &[(&Registry, &str)]) -> Credentials {
    use base64::Engine as _;
    let auth =
        |password: &str| base64::engine::general_purpose::STANDARD.encode(format!("me:{password}"));
    let auths: serde_json::Map<String, serde_json::Value> = of
        .iter()
        .map(|(at, password)| {
            (at.addr().to_string(), serde_json::json!({ "auth": auth(password) }))
        })
        .collect();
    let mut credentials = Credentials::default();
    let file = serde_json::json!({ "auths": auths }).to_string();
    credentials.add_text("a test", file.as_bytes()).unwrap();
    credentials
}

fn of_blobs(requests: &[Logged]) -> usize {
    requests.iter().filter(|request| request.path.contains("/blobs/")).count()
}

#[test]
fn a_mirror_spares_the_registry() {
    let pair = Pair::with(&good());
    assert_eq!(pair.reads(&pair.podman("", "")).unwrap(), GOOD);
    let (registry, mirror) = pair.counts();
    assert_eq!(registry, 0);
    assert!(mirror >= 3, "manifest, config and layer: {mirror}");
    assert!(pair.mirror.requests().iter().all(|request| !request.path.contains("ns=")));
}

#[test]
fn a_mirror_that_is_down_is_left_alone() {
    let pair = Pair::with(&good());
    let options = pair.podman("", "");
    let fault = Fault::Status(503, Vec::new(), Vec::new());
    pair.mirror.fault(("", "", Times::Always), fault);
    assert_eq!(pair.reads(&options).unwrap(), GOOD);
    assert_eq!(pair.mirror.requests().len(), 1, "it was asked once and not again");

    let Pair { registry, mirror, folder } = pair;
    drop(mirror);
    let gone = Pair { registry, mirror: Registry::start(), folder };
    assert_eq!(gone.reads(&options).unwrap(), GOOD, "nobody listens at the mirror");
}

#[test]
fn a_mirror_may_lack_content() {
    let pair = Pair::with(&good());
    let missing = Fault::Status(404, Vec::new(), Vec::new());
    pair.mirror.fault(("", "/blobs/", Times::Always), missing.clone());
    assert_eq!(pair.reads(&pair.podman("", "")).unwrap(), GOOD);
    let (asked, answered) = (pair.mirror.requests(), pair.registry.requests());
    assert_eq!(asked.iter().filter(|r| r.path.contains("/manifests/")).count(), 1);
    assert_eq!(of_blobs(&answered), answered.len(), "the manifest came from the mirror");
    // Once for each blob: config and layer. The registry is asked at once after that.
    assert_eq!(of_blobs(&asked), 2);

    pair.mirror.clear_log();
    pair.registry.clear_log();
    pair.mirror.fault(("", "/manifests/", Times::Always), missing);
    assert_eq!(pair.reads(&pair.podman("", "")).unwrap(), GOOD);
}

#[test]
fn wrong_bytes_of_a_mirror_come_from_the_registry() {
    for path in ["/blobs/", "/manifests/"] {
        let pair = Pair::with(&good());
        pair.mirror.fault(("GET", path, Times::Always), Fault::FlipByte(3));
        let image = good();
        let digest = sha256(&image.manifest);
        let options = pair.podman("", "");
        let sandbox = Sandbox::new();
        // By digest, as a mirror decides what a tag means.
        let name = format!("{}/r@{digest}", pair.registry.addr());
        let image = open(&name, &sandbox.cache(), &options).unwrap();
        assert_eq!(read(&image, "f").unwrap(), GOOD, "{path}");
        let (registry, mirror) = pair.counts();
        assert!(registry >= 1 && mirror >= 1, "{path}: {registry} {mirror}");
    }
}

#[test]
fn wrong_bytes_of_everybody_are_refused() {
    let pair = Pair::with(&good());
    for host in [&pair.mirror, &pair.registry] {
        host.fault(("GET", "/blobs/", Times::Always), Fault::FlipByte(3));
    }
    let error = pair.reads(&pair.podman("", "")).unwrap_err();
    assert!(error.contains("digest"), "{error}");
}

#[test]
fn spans_that_a_mirror_spoils_come_from_the_registry() {
    let content = noise(4 << 20, 7);
    let image = image_of(&tar(&[Entry::file("f", content.clone())]), Compression::Gzip);
    let pair = Pair::with(&image);
    let options = pair.podman("", "");
    let sandbox = Sandbox::new();
    drop(open(&pair.name(), &sandbox.cache(), &options).unwrap());
    // The index is there now; the content comes anew, in ranges.
    for path in sandbox.cached("spans") {
        fs::remove_file(path).unwrap();
    }
    pair.mirror.fault(("GET", "/blobs/", Times::Always), Fault::FlipByte(1000));
    pair.mirror.clear_log();
    let image = open(&pair.name(), &sandbox.cache(), &options).unwrap();
    assert_eq!(read(&image, "f").unwrap(), content);
    assert!(of_blobs(&pair.mirror.requests()) >= 1);
    assert!(of_blobs(&pair.registry.requests()) >= 1);
}

#[test]
fn a_blob_that_breaks_off_goes_on_elsewhere() {
    let content = noise(3 << 20, 5);
    let image = image_of(&tar(&[Entry::file("f", content.clone())]), Compression::None);
    let pair = Pair::with(&image);
    let layer = image.blobs.iter().max_by_key(|(_, blob)| blob.len()).unwrap().0.clone();
    pair.mirror.fault(("GET", &layer, Times::Nth(1)), Fault::Truncate(1 << 20));
    let down = Fault::Status(503, Vec::new(), Vec::new());
    pair.mirror.fault(("GET", &layer, Times::Always), down);
    assert_eq!(pair.reads(&pair.podman("", "")).unwrap(), content);
    let rest = pair.registry.requests();
    assert_eq!(rest.len(), 1, "{rest:?}");
    let range = rest[0].range.as_deref().unwrap();
    assert!(range.starts_with("bytes=1048576-"), "{range}");
}

/// Where one has sent the first part of a blob and another the rest, a wrong digest may be the fault of
/// either.
#[test]
fn a_blob_of_two_hosts_blames_neither_at_first() {
    let content = noise(3 << 20, 8);
    let image = image_of(&tar(&[Entry::file("f", content.clone())]), Compression::None);
    let (layer, right) = image.blobs.iter().max_by_key(|(_, blob)| blob.len()).unwrap();
    let mut wrong = right.clone();
    for at in [1000, wrong.len() - 1000] {
        wrong[at] ^= 1;
    }
    for mirror_lies in [true, false] {
        let pair = Pair::with(&image);
        let liar = if mirror_lies { &pair.mirror } else { &pair.registry };
        liar.add_blob("r", layer, &wrong);
        pair.mirror.fault(("GET", layer, Times::Nth(1)), Fault::Truncate(1 << 20));
        assert_eq!(pair.reads(&pair.podman("", "")).unwrap(), content, "{mirror_lies}");
        let ranges = |registry: &Registry| {
            let requests = registry.requests().into_iter().filter(|r| r.path.contains(layer));
            requests.map(|request| request.range).collect::<Vec<_>>()
        };
        // The rest of it, and then all of it; of the mirror too if that was wrong again.
        let rest = Some("bytes=1048576-".to_owned() + &(right.len() - 1).to_string());
        assert_eq!(ranges(&pair.registry), [rest, None], "{mirror_lies}");
        let of_mirror = ranges(&pair.mirror);
        assert!(of_mirror.iter().all(Option::is_none), "{of_mirror:?}");
        assert_eq!(of_mirror.len(), if mirror_lies { 1 } else { 2 });
    }
    // All of it has to come from one then, be it in several pieces.
    let pair = Pair::with(&image);
    pair.mirror.add_blob("r", layer, &wrong);
    pair.mirror.fault(("GET", layer, Times::Nth(1)), Fault::Truncate(1 << 20));
    pair.registry.fault(("GET", layer, Times::Nth(2)), Fault::Truncate(2 << 20));
    assert_eq!(pair.reads(&pair.podman("", "")).unwrap(), content);
    let asked =
        |registry: &Registry| registry.requests().iter().filter(|r| r.path.contains(layer)).count();
    assert_eq!((asked(&pair.mirror), asked(&pair.registry)), (1, 3));
    // If both lie, that is told.
    let pair = Pair::with(&image);
    for host in [&pair.mirror, &pair.registry] {
        host.add_blob("r", layer, &wrong);
        host.fault(("GET", layer, Times::Nth(1)), Fault::Truncate(1 << 20));
    }
    let error = pair.reads(&pair.podman("", "")).unwrap_err();
    assert!(error.contains("digest"), "{error}");
}

#[test]
fn a_mirror_that_always_breaks_off_is_left() {
    let content = noise(3 << 20, 6);
    let image = image_of(&tar(&[Entry::file("f", content.clone())]), Compression::None);
    for fault in [Fault::Truncate(1 << 20), Fault::Reset(1 << 20), Fault::Truncate(0)] {
        let pair = Pair::with(&image);
        let layer = image.blobs.iter().max_by_key(|(_, blob)| blob.len()).unwrap().0.clone();
        pair.mirror.fault(("GET", &layer, Times::Always), fault);
        assert_eq!(pair.reads(&pair.podman("", "")).unwrap(), content);
        let asked = |registry: &Registry| {
            registry.requests().iter().filter(|request| request.path.contains(&layer)).count()
        };
        assert_eq!((asked(&pair.mirror), asked(&pair.registry)), (1, 1));
    }
}

#[test]
fn a_registry_that_pauses_is_waited_for() {
    // Its blob is known to be there, and a mirror that lacks it does not make it vanish.
    let content = noise(3 << 20, 9);
    let image = image_of(&tar(&[Entry::file("f", content.clone())]), Compression::None);
    let pair = Pair::with(&image);
    let layer = image.blobs.iter().max_by_key(|(_, blob)| blob.len()).unwrap().0.clone();
    pair.mirror.fault(("GET", &layer, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    pair.registry.fault(("GET", &layer, Times::Nth(1)), Fault::Truncate(1 << 20));
    let pause = Fault::Status(503, Vec::new(), Vec::new());
    pair.registry.fault(("GET", &layer, Times::First(3)), pause);
    assert_eq!(pair.reads(&pair.podman("", "")).unwrap(), content);
}

#[test]
fn credentials_stay_with_their_host() {
    let pair = Pair::with(&good());
    pair.registry.require_basic("me", "of the registry");
    pair.mirror.require_bearer(Some(("me", "of the mirror")));
    let with = |credentials: Credentials| {
        let options = pair.podman("", "");
        let registry = RegistryOptions { credentials, ..options.registry };
        ImageOptions { registry, ..options }
    };
    let both =
        with(credentials(&[(&pair.registry, "of the registry"), (&pair.mirror, "of the mirror")]));
    assert_eq!(pair.reads(&both).unwrap(), GOOD);
    assert_eq!(pair.counts().0, 0);

    pair.mirror.clear_log();
    let one = with(credentials(&[(&pair.registry, "of the registry")]));
    assert_eq!(pair.reads(&one).unwrap(), GOOD);
    assert!(pair.counts().0 > 0);
    let seen = pair.mirror.requests();
    assert!(
        !seen.is_empty() && seen.iter().all(|request| request.authorization.is_none()),
        "{seen:?}"
    );
}

#[test]
fn registries_that_are_blocked() {
    let pair = Pair::with(&good());
    let error = pair.reads(&pair.podman("blocked = true", "")).unwrap_err();
    let name = format!("{}/r", pair.registry.addr());
    has_words(&error, &[&name, "blocked", "registries.conf"]).unwrap();
    assert_eq!(pair.counts(), (0, 0));
}

#[test]
fn files_that_are_wrong_are_named() {
    let pair = Pair::with(&good());
    let error = pair.reads(&pair.podman("insecure = 'maybe'", "")).unwrap_err();
    has_words(&error, &["registries.conf", "line 3"]).unwrap();
    let error = pair.reads(&pair.containerd("", "ca = 'absent.pem'")).unwrap_err();
    has_words(&error, &["absent.pem"]).unwrap();
    assert_eq!(pair.counts(), (0, 0));
}

#[test]
fn mirrors_for_digests_only() {
    let pair = Pair::with(&good());
    let options = pair.podman("", "pull-from-mirror = 'digest-only'");
    assert_eq!(pair.reads(&options).unwrap(), GOOD);
    assert_eq!(pair.counts().1, 0, "it was asked for by its tag");
    let digest = sha256(&good().manifest);
    let name = format!("{}/r@{digest}", pair.registry.addr());
    pair.registry.clear_log();
    let sandbox = Sandbox::new();
    assert_eq!(read(&open(&name, &sandbox.cache(), &options).unwrap(), "f").unwrap(), GOOD);
    assert_eq!(pair.counts().0, 0);
}

#[test]
fn images_that_have_moved() {
    let pair = Pair::with(&good());
    pair.mirror.add_image("team/app", "v1", &good());
    let path = pair.folder.path().join("registries.conf");
    let text = format!(
        "[[registry]]\nprefix = 'old.example/group'\nlocation = '{}/team'\n",
        pair.mirror.addr()
    );
    fs::write(&path, text).unwrap();
    let options = with_files(ConfigFiles { registries: vec![path], ..ConfigFiles::default() });
    let sandbox = Sandbox::new();
    let image = open("old.example/group/app:v1", &sandbox.cache(), &options).unwrap();
    assert_eq!(read(&image, "f").unwrap(), GOOD);
}

#[test]
fn containerd_says_which_registry_a_mirror_stands_for() {
    let pair = Pair::with(&good());
    let missing = Fault::Status(404, Vec::new(), Vec::new());
    pair.mirror.fault(("", "/blobs/", Times::Always), missing);
    let header = "header = { authorization = 'Bearer of the mirror' }";
    assert_eq!(pair.reads(&pair.containerd("", header)).unwrap(), GOOD);
    let namespace = format!("ns={}", pair.registry.addr().to_string().replace(':', "%3A"));
    for request in pair.mirror.requests() {
        assert!(request.path.contains(&namespace), "{request:?}");
        assert_eq!(request.authorization.as_deref(), Some("Bearer of the mirror"));
    }
    let own = pair.registry.requests();
    assert!(!own.is_empty());
    for request in own {
        assert!(!request.path.contains("ns=") && request.authorization.is_none(), "{request:?}");
    }
}

#[test]
fn what_a_host_can_do_by_containerd() {
    let pair = Pair::with(&good());
    let tagged = |requests: &[Logged]| requests.iter().any(|r| r.path.contains("/manifests/t"));
    for (capabilities, tag_at_mirror, blobs_at_mirror) in [
        ("capabilities = ['pull']", false, true),
        ("capabilities = ['resolve']", true, false),
        ("capabilities = ['pull', 'resolve']", true, true),
        ("capabilities = ['push']", false, false),
    ] {
        pair.registry.clear_log();
        pair.mirror.clear_log();
        assert_eq!(pair.reads(&pair.containerd("", capabilities)).unwrap(), GOOD);
        let (own, mirror) = (pair.registry.requests(), pair.mirror.requests());
        assert_eq!(tagged(&mirror), tag_at_mirror, "{capabilities}");
        assert_eq!(tagged(&own), !tag_at_mirror, "{capabilities}");
        assert_eq!(of_blobs(&mirror) > 0, blobs_at_mirror, "{capabilities}");
        assert_eq!(of_blobs(&own) > 0, !blobs_at_mirror, "{capabilities}");
    }
    // Where it is asked is the whole URL, or below it.
    pair.mirror.add_image("proxy/r", "t", &good());
    pair.registry.clear_log();
    let options = pair.containerd("/v2/proxy", "override_path = true");
    assert_eq!(pair.reads(&options).unwrap(), GOOD);
    assert_eq!(pair.counts().0, 0);
}

#[test]
fn podmans_file_counts_before_containerds() {
    let pair = Pair::with(&good());
    let containerd = pair.containerd("", "").registry.hosts.files().containerd.clone();
    let podman = pair.podman("", "pull-from-mirror = 'digest-only'").registry.hosts;
    let both = with_files(ConfigFiles { containerd, ..podman.files().clone() });
    assert_eq!(pair.reads(&both).unwrap(), GOOD);
    assert_eq!(pair.counts().1, 0);
}

#[test]
fn what_was_tried_is_told() {
    let pair = Pair::with(&good());
    for host in [&pair.mirror, &pair.registry] {
        let fault = Fault::Status(404, Vec::new(), Vec::new());
        host.fault(("", "/manifests/", Times::Always), fault);
    }
    let options = pair.podman("", "");
    let error = pair.reads(&options).unwrap_err();
    let (own, mirror) = (pair.registry.addr().to_string(), pair.mirror.addr().to_string());
    has_words(&error, &[&own, &mirror, "before", "not found"]).unwrap();

    // What the registry itself says counts in the end, and be it nothing.
    pair.registry.clear_faults();
    pair.registry.fault(("", "", Times::Always), Fault::Status(503, Vec::new(), Vec::new()));
    let error = pair.reads(&options).unwrap_err();
    let first = format!("http://{own}/v2/r/manifests/t: the registry failed (503)");
    has_words(&error, &[&first, &mirror, "before", "not found"]).unwrap();
}

/// `daemon.json` of Docker: mirrors of Docker Hub, which are asked before it, and of no other registry.
#[test]
fn mirrors_of_docker() {
    let (mirror, other) = (Registry::start(), Registry::start());
    mirror.add_image("library/r", "t", &good());
    mirror.add_image("hub/team/r", "t", &good());
    let home = Home::new();
    let folder = home.path().join("home/.config/docker");
    fs::create_dir_all(&folder).unwrap();
    let conf = folder.join("daemon.json");
    let write = |mirrors: &[String]| {
        let text = serde_json::json!({ "debug": true, "registry-mirrors": mirrors });
        fs::write(&conf, text.to_string()).unwrap();
    };
    let (url, path) =
        (format!("http://{}/", mirror.addr()), format!("http://{}/hub", other.addr()));
    write(std::slice::from_ref(&url));
    let shown = |name: &str| {
        let outcome = home.run(&["cat", name, "f"]);
        assert!(outcome.code == 0 && outcome.stdout.as_bytes() == GOOD, "{name}: {outcome:?}");
    };
    shown("r:t");
    shown("docker.io/library/r:t");
    let asked = mirror.requests();
    assert!(asked.iter().all(|r| r.path.starts_with("/v2/library/r/") && !r.path.contains("ns=")));
    // The first that has it counts, by digest too; the way to its API may be longer.
    write(&[path, url]);
    home.run(&["cache", "clear"]);
    shown(&format!("r@{}", good().manifest_digest));
    let asked: Vec<String> = other.requests().into_iter().map(|request| request.path).collect();
    let manifest = format!("/hub/v2/library/r/manifests/{}", good().manifest_digest);
    assert_eq!(asked[..2], [manifest.as_str(), "/hub/v2/"]);
    // Other registries have nothing to do with it.
    mirror.clear_log();
    let name = format!("{}/library/r:t", other.addr());
    home.run(&["ls", &name]).failed(1, &["not found"]);
    assert!(mirror.requests().is_empty());
    // What `registries.conf` says of an image counts.
    let containers = home.path().join("home/.config/containers");
    fs::create_dir_all(&containers).unwrap();
    let rule = format!("[[registry]]\nprefix = 'docker.io'\nlocation = '{}'\n", other.addr());
    fs::write(containers.join("registries.conf"), rule).unwrap();
    home.run(&["cache", "clear"]);
    home.run(&["ls", "r:t"]).failed(1, &["not found"]);
    assert!(mirror.requests().is_empty());
}

/// A mistake in `daemon.json` is told, by its file, and no reason to fail.
#[test]
fn a_broken_daemon_json_is_told() {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    let name = format!("{}/r:t", registry.addr());
    let (home, words) = (Home::new(), ["cat", &name, "f"]);
    let folder = home.path().join("home/.config/docker");
    fs::create_dir_all(&folder).unwrap();
    let conf = folder.join("daemon.json");
    for (text, told) in [
        ("{", "line 1"),
        ("[]", "not the JSON"),
        (r#"{"insecure-registries": "a.example"}"#, "insecure-registries is not a list"),
        (r#"{"insecure-registries": [1]}"#, "not a text"),
        (r#"{"insecure-registries": ["ftp://x"]}"#, "`ftp://x`"),
        (r#"{"registry-mirrors": ["https://me:s3cret@x.example"]}"#, "registry-mirrors"),
        ("{} {}", "(line 1, column 4)"),
        ("{\n\"registry-mirrors\": [],\n}", "(line 3, column 1)"),
        // A secret in a wrong place.
        (r#"{"insecure-registries": "s3cret"}"#, "insecure-registries is not a list"),
        (r#"{"registry-mirrors": {"s3cret": 1}}"#, "registry-mirrors is not a list"),
        (r#"{"registry-mirrors": [{"s3cret": "s3cret"}]}"#, "not a text"),
        (r#"{"insecure-registries": ["https://me:s3cret@x.example"]}"#, "an entry with `@`"),
        (r#""s3cret""#, "(line 1, column 1)"),
        (r#"["s3cret"]"#, "(line 1, column 1)"),
        (r#"{"registry-mirrors": ["s3cret]}"#, "(line 1, column 32)"),
        (r#"{"registry-mirrors": s3cret}"#, "(line 1, column 22)"),
    ] {
        fs::write(&conf, text).unwrap();
        let outcome = home.run(&words);
        assert!(outcome.code == 0 && outcome.stdout.as_bytes() == GOOD, "{text}: {outcome:?}");
        let file = conf.display().to_string();
        assert_eq!(outcome.stderr.matches(&file).count(), 1, "{text}: {outcome:?}");
        assert!(outcome.stderr.contains(told), "{text}: {outcome:?}");
        assert!(!outcome.stderr.contains("s3cret"), "{text}: {outcome:?}");
    }
    for text in ["", "{}", "\u{feff}{\"hosts\": [\"fd://\"]}"] {
        fs::write(&conf, text).unwrap();
        let outcome = home.run(&words);
        assert!(outcome.code == 0 && outcome.stderr.is_empty(), "{text}: {outcome:?}");
    }
}
