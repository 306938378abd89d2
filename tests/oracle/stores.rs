//! Images in the stores of other programs, put there by these programs.
//!
//! The mount from the registry, which `files`, `layers` and `storage` hold against umoci, is the
//! measure.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::forms::tars;
use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{Registry, has_kernel_metadata, program, run};
use crate::snapshot::Snapshot;
use crate::support::image::{
    Compression, ImageBuilder, push, push_index, write_docker_archive_legacy, write_oci_archive,
};
use crate::support::tarball::{Entry, tar};

/// What a command that has to fail says.
fn failure(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{command:?} fails");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn registry_storage() {
    let (registry, home) = (Registry::shared(), Home::new());
    let image = gzip_image(&tars());
    push(&image, registry.address(), "team/app", "v1").unwrap();
    let reference = format!("{}/team/app:v1", registry.address());
    let expected = Snapshot::of(home.mount(&reference).path());
    let root = registry.storage().display().to_string();
    let digest = &image.manifest_digest;
    for name in [
        format!("registry-storage:{root}//team/app:v1"),
        format!("registry-storage:{root}/docker/registry/v2//team/app:v1"),
        format!("registry-storage:{root}//team/app@{digest}"),
    ] {
        let home = Home::new();
        Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
    }
    for (name, words) in [
        ("team/app:v2", "there is no image `team/app:v2`"),
        ("team/app:v2", "there is team/app:v1"),
        ("team/apple:v1", "team/app"),
        (
            "team/app@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "e3b0c4",
        ),
    ] {
        let error = failure(home.ocifs().args(["ls", &format!("registry-storage:{root}//{name}")]));
        assert!(error.contains(words), "{name}: {error}");
    }
    let error = failure(home.ocifs().args(["ls", "registry-storage:/proc//app"]));
    assert!(error.contains("not the storage of a registry"), "{error}");
    // Of a link that leads elsewhere nothing is read.
    let tags = format!("{root}/docker/registry/v2/repositories/team/app/_manifests/tags");
    let planted = format!("{tags}/planted/current");
    std::fs::create_dir_all(&planted).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let secret = elsewhere.path().join("secret");
    std::fs::write(&secret, "not a digest").unwrap();
    std::os::unix::fs::symlink(&secret, format!("{planted}/link")).unwrap();
    let name = format!("registry-storage:{root}//team/app:planted");
    let error = failure(home.ocifs().args(["ls", &name]));
    assert!(error.contains("not a regular file") && !error.contains("not a digest"), "{error}");
    std::fs::remove_dir_all(format!("{tags}/planted")).unwrap();
}

/// How long a daemon may take until it answers.
const START: Duration = Duration::from_secs(60);

/// A daemon with its folders below a temporary one.
struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    /// Starts a daemon by a command that is given the folder, and waits until a question to it
    /// succeeds.
    fn start(command: impl Fn(&Path) -> Command, ask: impl Fn(&Path) -> Command) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let log = fs::File::create(folder.path().join("log")).unwrap();
        let mut command = command(folder.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut daemon = Daemon { child: command.spawn().unwrap(), folder };
        let until = Instant::now() + START;
        while !ask(daemon.path()).output().unwrap().status.success() {
            let ended = daemon.child.try_wait().unwrap();
            let log = fs::read_to_string(daemon.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < until, "{ended:?}: {log}");
            thread::sleep(Duration::from_millis(50));
        }
        daemon
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn place(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // So that it ends those that it has started, and unmounts what it has mounted.
        let id = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
        let until = Instant::now() + START;
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// containerd, and nothing of it that would run containers.
fn containerd() -> Daemon {
    let command = |folder: &Path| {
        let config = folder.join("config.toml");
        let place = folder.display();
        let text = format!(
            "version = 2\nroot = '{place}/root'\nstate = '{place}/state'\n\
             disabled_plugins = ['io.containerd.grpc.v1.cri', 'io.containerd.internal.v1.opt']\n\
             [grpc]\naddress = '{place}/socket'\n[ttrpc]\naddress = '{place}/socket.ttrpc'\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = program("containerd", "containerd");
        command.arg("--config").arg(config);
        command
    };
    Daemon::start(command, |folder| {
        let mut ask = ctr(&folder.join("socket"));
        ask.arg("version");
        ask
    })
}

fn ctr(socket: &Path) -> Command {
    let mut command = program("ctr", "containerd");
    command.arg("--address").arg(socket);
    command
}

#[test]
fn containerd_store() {
    let (registry, home) = (Registry::shared(), Home::new());
    let image = gzip_image(&tars());
    push(&image, registry.address(), "containerd", "v1").unwrap();
    let reference = format!("{}/containerd:v1", registry.address());
    let expected = Snapshot::of(home.mount(&reference).path());
    let daemon = containerd();
    let ctr = || ctr(&daemon.place("socket"));
    let archive = daemon.place("image.tar");
    write_oci_archive(&archive, &[(Some("docker.io/library/app:v1"), &image)]).unwrap();
    run(ctr().args(["images", "import", "--no-unpack"]).arg(&archive));
    run(ctr().args(["-n", "k8s.io", "content", "fetch", "--plain-http"]).arg(&reference));
    // So many that the names take several pages.
    for n in 0..60 {
        let name = format!("docker.io/library/app:copy-{n}");
        run(ctr().args(["images", "tag", "docker.io/library/app:v1", &name]));
    }
    let root = daemon.place("root").display().to_string();
    for name in [
        format!("containerd:{root}//app:v1"),
        format!("containerd:{root}//app:copy-37"),
        format!("containerd:{root}//default/docker.io/library/app:v1"),
        format!("containerd:{root}//{reference}"),
        format!("containerd:{root}//k8s.io/{reference}"),
        format!("containerd:{root}//{}", image.manifest_digest),
    ] {
        let home = Home::new();
        Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
    }
    // As `kind` and k3s hand images out, and compressed as people keep them.
    let exported = daemon.place("exported.tar").display().to_string();
    run(ctr().args(["images", "export", &exported, "docker.io/library/app:v1"]));
    run(Command::new("gzip").args(["--keep", &exported]));
    for name in [
        format!("oci-archive:{exported}"),
        format!("oci-archive:{exported}:app:v1"),
        format!("docker-archive:{exported}:docker.io/library/app:v1"),
        format!("docker-archive:{exported}.gz"),
    ] {
        let home = Home::new();
        Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
    }
    let ls = |name: &str| {
        let mut command = Home::new().ocifs();
        command.args(["ls", &format!("containerd:{root}//{name}")]);
        command
    };
    let error = failure(&mut ls("nothing:v1"));
    assert!(error.contains("there is no image `nothing:v1`"), "{error}");
    assert!(error.contains("default/docker.io/library/app:v1, "), "{error}");
    let error = failure(Home::new().ocifs().args(["ls", "containerd:/proc//app"]));
    assert!(error.contains("there is no containerd here"), "{error}");
    // What `discard_unpacked_layers` does.
    let layer = image.layer_digests()[1].replacen(':', "/", 1);
    let blobs = format!("{root}/io.containerd.content.v1.content/blobs");
    fs::remove_file(Path::new(&blobs).join(layer)).unwrap();
    let error = failure(&mut ls("app:v1"));
    assert!(error.contains("discard_unpacked_layers"), "{error}");
    assert!(error.contains("`docker.io/library/app:v1`"), "{error}");
    // The database of a containerd that is gone is read as well.
    drop(daemon);
}

/// What containerd has pulled is read from its store while the registry is asked for the name only; what
/// its garbage collection takes away comes from the registry.
#[test]
fn containerd_has_the_layers_of_a_registry_s_image() {
    let (registry, home) = (Registry::shared(), Home::new());
    let text: String = (0..300_000).map(|n| format!("{n:x} ")).collect();
    let mut layers = stack();
    layers.push(tar(&[Entry::file("only/in/this/test", text)]));
    let image = gzip_image(&layers);
    push(&image, registry.address(), "pulled", "v1").unwrap();
    let reference = format!("{}/pulled:v1", registry.address());
    let expected = Snapshot::of(home.mount(&reference).path());
    let daemon = containerd();
    let ctr = || ctr(&daemon.place("socket"));
    run(ctr().args(["content", "fetch", "--plain-http", &reference]));
    let root = daemon.place("root").display().to_string();
    let options = ["--content-store", &root];
    {
        let home = Home::new();
        let mounted = home.mount_with(&options, &reference);
        Snapshot::assert_same(&expected, &Snapshot::of(mounted.path()), "from the store");
        let status = mounted.status();
        for layer in status["layers"].as_array().unwrap() {
            assert_eq!(layer["store"], root, "{status}");
        }
        assert_eq!(status["network"]["requests"], 1, "{status}");
        assert_eq!(status["network"]["bytes"], image.manifest.len(), "{status}");
    }
    // Nothing of the last layer is left there: all of it can only come from the store.
    let hex = image.layer_digests().pop().unwrap()[7..].to_owned();
    let blob = format!("docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
    let (blob, aside) = (registry.storage().join(blob), registry.storage().join("aside"));
    fs::rename(&blob, &aside).unwrap();
    for options in [&options[..], &["--content-store", &root, "--kernel-metadata"]] {
        if options.len() > 2 && !has_kernel_metadata() {
            continue;
        }
        let home = Home::new();
        let mounted = home.mount_with(options, &reference);
        fs::read(mounted.path().join("only/in/this/test")).unwrap();
    }
    let mut pull = Home::new().ocifs();
    run(pull.args(["pull", "--content-store", &root, &reference]));
    fs::rename(&aside, &blob).unwrap();
    run(ctr().args(["images", "rm", "--sync", &reference]));
    let store = format!("{root}/io.containerd.content.v1.content/blobs/sha256/{hex}");
    assert!(!Path::new(&store).exists(), "containerd has collected its garbage");
    let home = Home::new();
    let mounted = home.mount_with(&options, &reference);
    Snapshot::assert_same(&expected, &Snapshot::of(mounted.path()), "after the collection");
    assert!(mounted.status()["network"]["bytes"].as_u64() > Some(image.manifest.len() as u64));
}

/// Of an image for several platforms containerd fetches one, and exports what it has.
#[test]
fn containerd_with_one_platform_of_several() {
    let registry = Registry::shared();
    let platform = |architecture: &str| {
        ImageBuilder::new()
            .platform("linux", architecture, None)
            .layer(&tar(&[Entry::file("architecture", architecture)]), Compression::Gzip)
            .build()
    };
    let (amd, arm) = (platform("amd64"), platform("arm64"));
    let pairs = [(&amd, "amd64"), (&arm, "arm64")]
        .map(|(built, arch)| (built, json!({ "os": "linux", "architecture": arch })));
    push_index(&pairs, registry.address(), "platforms", "v1").unwrap();
    let reference = format!("{}/platforms:v1", registry.address());
    let daemon = containerd();
    let ctr = || ctr(&daemon.place("socket"));
    let fetch = ["content", "fetch", "--plain-http", "--platform", "linux/arm64", &reference];
    run(ctr().args(fetch));
    let exported = daemon.place("exported.tar").display().to_string();
    run(ctr().args(["images", "export", "--platform", "linux/arm64", &exported, &reference]));
    let root = daemon.place("root").display().to_string();
    for name in [
        format!("containerd:{root}//{reference}"),
        format!("oci-archive:{exported}"),
        format!("docker-archive:{exported}"),
    ] {
        let home = Home::new();
        // Only one is there, so that it is meant wherever this runs.
        for options in [&[][..], &["--platform", "linux/arm64"]] {
            let cat = run(home.ocifs().args(["cat", &name, "architecture"]).args(options));
            assert_eq!(cat.stdout, b"arm64", "{name}");
        }
        let mut other = home.ocifs();
        other.args(["cat", &name, "architecture", "--platform", "linux/amd64"]);
        let error = failure(&mut other);
        assert!(error.contains("linux/arm64"), "{name}: {error}");
    }
}

/// Names come and go while the database is read: each answer is right or an error, never another
/// image.
#[test]
fn containerd_that_is_busy() {
    let daemon = containerd();
    let socket = daemon.place("socket");
    let archive = daemon.place("image.tar");
    let image = gzip_image(&tars());
    write_oci_archive(&archive, &[(Some("docker.io/library/app:v1"), &image)]).unwrap();
    run(ctr(&socket).args(["images", "import", "--no-unpack"]).arg(&archive));
    let root = daemon.place("root").display().to_string();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for n in 0..60 {
                let name = format!("docker.io/library/other:{n}");
                run(ctr(&socket).args(["images", "tag", "docker.io/library/app:v1", &name]));
                if n % 2 == 0 {
                    run(ctr(&socket).args(["images", "rm", &name]));
                }
            }
        });
        let home = Home::new();
        let mut answers = 0;
        while !writer.is_finished() {
            let name = format!("containerd:{root}//app:v1");
            let output = run(home.ocifs().args(["ls", &name]));
            assert!(!output.stdout.is_empty());
            answers += 1;
        }
        assert!(answers > 0);
    });
}

/// podman with a store of its own, and the settings that say where.
pub fn podman(folder: &Path, driver: &str) -> Command {
    let place = folder.display();
    let text = format!(
        "[storage]\ndriver = '{driver}'\ngraphroot = '{place}/root'\nrunroot = '{place}/run'\n"
    );
    fs::write(folder.join("storage.conf"), text).unwrap();
    let mut command = program("podman", "podman");
    command.arg("--tmpdir").arg(folder.join("tmp"));
    command.env("CONTAINERS_STORAGE_CONF", folder.join("storage.conf"));
    command
}

/// Whiteouts, opaque marks and attributes that overlayfs stores in its own ways. No hard links to
/// lower layers, which engines on overlayfs can't unpack.
fn stack() -> Vec<Vec<u8>> {
    let text: String = (0..200_000).map(|n| format!("{n:x}\n")).collect();
    let lower = [
        Entry::dir("./").mode(0o711).owner(1, 2).mtime(3, 4),
        Entry::dir("d").mode(0o1777).mtime(5, 250_000_000),
        Entry::file("d/text", &text).mode(0o640).owner(4_000_000_000, 3_000_000).mtime(7, 0),
        Entry::hardlink("d/hard", "d/text"),
        Entry::file("d/gone", "x"),
        Entry::file(b"d/latin1-\xe9", "x").xattr("user.binary", b"\0=\n\xff"),
        Entry::symlink("link", "d/text").mtime(10_000_000, 1),
        Entry::fifo("fifo").mode(0o600),
        Entry::char_device("null", 1, 3),
        Entry::file("setuid", "#!").mode(0o4755),
        Entry::dir("opaque").mode(0o750).owner(7, 8),
        Entry::file("opaque/old", "old"),
        Entry::dir("all"),
        Entry::file("all/deep", "x"),
        Entry::file("twice", "first"),
    ];
    let upper = [
        Entry::file("d/.wh.gone", ""),
        Entry::dir("opaque").mode(0o700).owner(100_000, 65_534).mtime(5, 6),
        Entry::file("opaque/.wh..wh..opq", ""),
        Entry::file("opaque/new", "new").owner(1234, 4321),
        Entry::file(".wh.all", ""),
        Entry::file("twice", "second"),
        Entry::file("zeros", vec![0; 100_000]),
        Entry::symlink("symlinked", "d"),
        Entry::file(format!("{}/{}", "n".repeat(200), "m".repeat(200)), "deep"),
    ];
    vec![tar(&lower), tar(&upper), tar(&[]), tar(&[Entry::file("d/new", &text[77..500_000])])]
}

#[test]
fn containers_storage() {
    let registry = Registry::shared();
    let image = gzip_image(&stack());
    push(&image, registry.address(), "podman", "v1").unwrap();
    let reference = format!("{}/podman:v1", registry.address());
    let home = Home::new();
    let expected = Snapshot::of(home.mount(&reference).path());
    for driver in ["overlay", "vfs"] {
        let folder = tempfile::tempdir().unwrap();
        let podman = || podman(folder.path(), driver);
        run(podman().args(["pull", "--quiet", "--tls-verify=false", &reference]));
        run(podman().args(["tag", &reference, "localhost/team/app:v1"]));
        let root = format!("[{driver}@{}+/run/x]", folder.path().join("root").display());
        let id = &crate::support::image::sha256(&image.config)[7..];
        let conf = folder.path().join("storage.conf").display().to_string();
        let home = Home::new().with_environment("CONTAINERS_STORAGE_CONF", &conf);
        let name = "containers-storage:team/app:v1";
        Snapshot::assert_same(&expected, &Snapshot::of(home.mount(name).path()), name);
        // The same by its path below a browsed directory.
        let place = tempfile::tempdir().unwrap();
        run(home.ocifs().arg("browse").arg(place.path()));
        let team = place.path().join("local/containers-storage/localhost/team");
        let listed: Vec<_> = fs::read_dir(&team).unwrap().map(|r| r.unwrap().file_name()).collect();
        assert_eq!(listed, ["app:v1"]);
        assert!(place.path().join(format!("local/containers-storage/{reference}/d")).is_dir());
        assert!(!place.path().join("local/containers-storage/localhost/other:v1").exists());
        // It has its own attributes once it was entered.
        assert!(fs::read_dir(team.join("app:v1")).unwrap().count() > 0);
        Snapshot::assert_same(&expected, &Snapshot::of(&team.join("app:v1")), "local/");
        run(home.ocifs().arg("umount").arg(place.path()));
        let save = |format: &str| {
            let file = folder.path().join(format).display().to_string();
            run(podman()
                .args(["save", "--quiet", "--format", format, "--output", &file, &reference]));
            file
        };
        let pushed = folder.path().join("buildah").display().to_string();
        let mut buildah = program("buildah", "buildah");
        buildah.env("CONTAINERS_STORAGE_CONF", &conf).args(["push", "--quiet", &reference]);
        run(buildah.arg(format!("oci:{pushed}:v1")));
        for name in [
            format!("oci-archive:{}", save("oci-archive")),
            format!("docker-archive:{}", save("docker-archive")),
            format!("oci:{}", save("oci-dir")),
            format!("dir:{}", save("docker-dir")),
            format!("oci:{pushed}:v1"),
        ] {
            let home = Home::new();
            Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
        }
        for name in [
            reference.clone(),
            "localhost/team/app:v1".to_owned(),
            "team/app:v1".to_owned(),
            format!("team/app@{}", image.manifest_digest),
            id.to_owned(),
            id[..12].to_owned(),
        ] {
            let name = format!("containers-storage:{root}{name}");
            let home = Home::new();
            Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
        }
        let ls = |name: &str| {
            let mut command = Home::new().ocifs();
            command.args(["ls", &format!("containers-storage:{root}{name}")]);
            command
        };
        let error = failure(&mut ls("other:v1"));
        assert!(error.contains("there is no image `other:v1`"), "{error}");
        assert!(error.contains("localhost/team/app:v1"), "{error}");
        // A file of the store that was changed in place: other bytes are not shown.
        let pattern = match driver {
            "overlay" => folder.path().join("root/overlay"),
            _ => folder.path().join("root/vfs/dir"),
        };
        let changed = find(&pattern, "twice");
        assert!(!changed.is_empty());
        for path in changed {
            fs::write(path, "SECOND").unwrap();
        }
        let error = failure(&mut ls("team/app:v1"));
        assert!(error.contains("does not match its digest"), "{error}");
        // Without its description a layer can't be put together.
        for path in find(&folder.path().join(format!("root/{driver}-layers")), ".tar-split.gz") {
            fs::remove_file(path).unwrap();
        }
        let error = failure(&mut ls("team/app:v1"));
        assert!(error.contains("name the image by its registry"), "{error}");
        // Advice to save it would be wrong: podman can't either.
        let file = folder.path().join("saved").display().to_string();
        let saved = podman().args(["save", "--output", &file, &reference]).output().unwrap();
        assert!(!saved.status.success(), "{saved:?}");
    }
    let error = failure(Home::new().ocifs().args(["ls", "containers-storage:[/proc]app"]));
    assert!(error.contains("no store of podman"), "{error}");
}

/// Sparse files in the forms of GNU tar, whose holes a store fills and its description leaves out.
#[test]
fn containers_storage_with_sparse_files() {
    let registry = Registry::shared();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sparse = |name: &str, size: u64, runs: &[u64]| {
        let file = fs::File::create(at(name)).unwrap();
        file.set_len(size).unwrap();
        for run in runs {
            file.write_all_at(&[b'x'; 4096], *run).unwrap();
        }
    };
    fs::write(at("first"), "1").unwrap();
    sparse("middle", 3 << 20, &[1 << 20]);
    sparse("ends", (2 << 20) + 4096, &[0, 2 << 20]);
    sparse("many", 64 << 16, &(0..64).map(|n| n << 16).collect::<Vec<u64>>());
    sparse("hole", 1 << 20, &[]);
    fs::write(at("last"), "2").unwrap();
    let names = ["first", "middle", "ends", "many", "hole", "last"];
    for version in ["0.0", "0.1", "1.0"] {
        let archive = at("layer.tar");
        let mut tar = program("tar", "tar");
        tar.args(["--format=posix", "--sparse", &format!("--sparse-version={version}"), "-cf"]);
        run(tar.arg(&archive).arg("-C").arg(folder.path()).args(names));
        let bytes = fs::read(&archive).unwrap();
        assert!(bytes.len() < 1 << 20, "the holes are left out");
        let image = gzip_image(&[bytes]);
        push(&image, registry.address(), "sparse", version).unwrap();
        let reference = format!("{}/sparse:{version}", registry.address());
        let home = Home::new();
        let expected = Snapshot::of(home.mount(&reference).path());
        for driver in ["overlay", "vfs"] {
            let store = tempfile::tempdir().unwrap();
            let pull = ["pull", "--quiet", "--tls-verify=false", &reference];
            run(podman(store.path(), driver).args(pull));
            let id = &crate::support::image::sha256(&image.config)[7..];
            let root = store.path().join("root");
            let name = format!("containers-storage:[{driver}@{}]{id}", root.display());
            let home = Home::new();
            if version != "1.0" {
                Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
                continue;
            }
            // The map is where the content is, and the store has only the latter: podman can't either.
            let error = failure(home.ocifs().args(["ls", &name]));
            assert!(error.contains("PAX 1.0") && !error.contains("podman save"), "{error}");
            let file = store.path().join("saved");
            let mut save = podman(store.path(), driver);
            let saved = save.args(["save", "--quiet", "--output"]).arg(&file).arg(id).output();
            assert!(!saved.unwrap().status.success());
        }
    }
}

/// An image whose base layers lie in a store that the engine only reads.
#[test]
fn containers_storage_on_additional_stores() {
    let registry = Registry::shared();
    let tars = stack();
    let (base, image) = (gzip_image(&tars[..2]), gzip_image(&tars));
    push(&base, registry.address(), "additional", "base").unwrap();
    push(&image, registry.address(), "additional", "v1").unwrap();
    let reference = |tag: &str| format!("{}/additional:{tag}", registry.address());
    let home = Home::new();
    let expected = Snapshot::of(home.mount(&reference("v1")).path());
    for driver in ["overlay", "vfs"] {
        let (below, above) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let pull = |folder: &Path, tag: &str, more: &str| {
            let mut command = podman(folder, driver);
            let conf = folder.join("storage.conf");
            let text = fs::read_to_string(&conf).unwrap() + more;
            fs::write(&conf, text).unwrap();
            run(command.args(["pull", "--quiet", "--tls-verify=false", &reference(tag)]));
            conf.display().to_string()
        };
        pull(below.path(), "base", "");
        let lower = below.path().join("root").display().to_string();
        let options = format!("[storage.options]\nadditionalimagestores = ['{lower}']\n");
        let conf = pull(above.path(), "v1", &options);
        let own = find(&above.path().join(format!("root/{driver}-layers")), ".tar-split.gz");
        assert_eq!(own.len(), 2, "the base layers are in the other store: {own:?}");
        let named = format!("[{driver}@{}]", above.path().join("root").display());
        for root in ["", &named] {
            let home = Home::new().with_environment("CONTAINERS_STORAGE_CONF", &conf);
            let name = format!("containers-storage:{root}{}", reference("v1"));
            Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
        }
        // By the options of the name.
        let home = Home::new();
        let place = above.path().join("root").display().to_string();
        let name = format!(
            "containers-storage:[{driver}@{place}+/run/x:{driver}.imagestore={lower}]{}",
            reference("v1")
        );
        Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
        // skopeo reads it by the same settings.
        let copy = above.path().join("copy").display().to_string();
        let mut skopeo = program("skopeo", "skopeo");
        skopeo.env("CONTAINERS_STORAGE_CONF", &conf).args(["copy", "--quiet"]);
        run(skopeo
            .args([&format!("containers-storage:{}", reference("v1")), &format!("dir:{copy}")]));
        let home = Home::new();
        let name = format!("dir:{copy}");
        Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
        // Without them the layers are in no store.
        let name = format!("containers-storage:{named}{}", reference("v1"));
        let error = failure(Home::new().ocifs().args(["ls", &name]));
        assert!(error.contains("is not there, nor in another store"), "{error}");
    }
}

/// Regular files below a folder whose names end so.
pub fn find(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![folder.to_owned()];
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(Result::unwrap) {
            let (path, kind) = (entry.path(), entry.file_type().unwrap());
            if kind.is_dir() {
                todo.push(path);
            } else if kind.is_file() && entry.file_name().to_string_lossy().ends_with(end) {
                found.push(path);
            }
        }
    }
    found
}

fn docker(daemon: &Path) -> Command {
    let mut command = program("docker", "docker.io");
    command.arg("--host").arg(format!("unix://{}/socket", daemon.display()));
    command
}

/// A Docker engine that touches nothing outside of its folder.
fn dockerd() -> Daemon {
    let command = |folder: &Path| {
        let mut command = program("dockerd", "docker.io");
        for (flag, name) in [("--data-root", "data"), ("--exec-root", "exec"), ("--pidfile", "pid")]
        {
            command.arg(flag).arg(folder.join(name));
        }
        command.arg("--host").arg(format!("unix://{}/socket", folder.display()));
        command.args(["--iptables=false", "--ip6tables=false", "--bridge=none"]);
        command.args(["--storage-driver=vfs"]);
        command
    };
    Daemon::start(command, |folder| {
        let mut ask = docker(folder);
        ask.arg("version");
        ask
    })
}

#[test]
fn docker_daemon() {
    let image = gzip_image(&stack());
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    write_docker_archive_legacy(&archive, &image, &stack(), &["team/app:v1"]).unwrap();
    let home = Home::new();
    let measure = format!("docker-archive:{}", archive.display());
    let expected = Snapshot::of(home.mount(&measure).path());
    let daemon = dockerd();
    run(docker(daemon.path()).arg("load").arg("--quiet").arg("--input").arg(&archive));
    let host = format!("unix://{}", daemon.place("socket").display());
    let id = crate::support::image::sha256(&image.config);
    for name in ["team/app:v1".to_owned(), id.clone(), id[7..].to_owned(), id[..20].to_owned()] {
        let home = Home::new().with_environment("DOCKER_HOST", &host);
        let name = format!("docker-daemon:{name}");
        Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&name).path()), &name);
    }
    let home = Home::new().with_environment("DOCKER_HOST", &host);
    let ls = |name: &str| {
        let mut command = home.ocifs();
        command.args(["ls", "-R", &format!("docker-daemon:{name}")]);
        command
    };
    let error = failure(&mut ls("other:v1"));
    assert!(error.contains("there is no image `docker.io/library/other:v1`"), "{error}");
    assert!(error.contains("there is team/app:v1"), "{error}");
    let first = run(&mut ls("team/app:v1")).stdout;
    // What `docker save` writes now is as good as what was read from it.
    let saved = folder.path().join("saved.tar");
    run(docker(daemon.path()).arg("save").arg("--output").arg(&saved).arg("team/app:v1"));
    let saved = format!("docker-archive:{}:team/app:v1", saved.display());
    Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&saved).path()), &saved);
    // In a pipe, and unpacked.
    let mut save =
        docker(daemon.path()).arg("save").arg("team/app:v1").stdout(Stdio::piped()).spawn();
    let output = save.as_mut().unwrap().stdout.take().unwrap();
    let listed = run(home.ocifs().args(["ls", "-R", "-"]).stdin(output)).stdout;
    assert!(save.unwrap().wait().unwrap().success());
    assert_eq!(listed, first);
    let unpacked = folder.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let archive = folder.path().join("saved.tar");
    run(program("tar", "tar").arg("-xf").arg(archive).arg("-C").arg(&unpacked));
    let unpacked = unpacked.display().to_string();
    Snapshot::assert_same(&expected, &Snapshot::of(home.mount(&unpacked).path()), &unpacked);
    drop(daemon);
    let error = failure(&mut ls("team/app:v1"));
    assert!(error.contains("no engine listens"), "{error}");
    assert!(!first.is_empty());
    let home = Home::new().with_environment("DOCKER_HOST", "tcp://127.0.0.1:2375");
    let error = failure(home.ocifs().args(["ls", "docker-daemon:app"]));
    assert!(error.contains("only engines on this machine"), "{error}");
}
