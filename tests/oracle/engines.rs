//! `ocifs store` under podman and buildah: what they do with a store of their own has to come out the same.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::mounted::{Home, Mounted};
use crate::oracle::{gzip_image, prefixes, unpack};
use crate::servers::{Registry, need_root_and_fuse, program, run};
use crate::snapshot::Snapshot;
use crate::support::environment;
use crate::support::image::{Built, push};
use crate::support::tarball::{Entry, tar};

/// A program for containers that have nothing else.
const TOOL: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "cat")) {
        FILE *file = fopen(words[2], "r");
        if (!file) { perror(words[2]); return 1; }
        for (int c; (c = fgetc(file)) != EOF;) putchar(c);
        return ferror(file) ? 1 : 0;
    }
    if (count == 4 && !strcmp(words[1], "write")) {
        FILE *file = fopen(words[2], "w");
        if (!file) { perror(words[2]); return 1; }
        return fputs(words[3], file) < 0 || fclose(file);
    }
    if (count == 3 && !strcmp(words[1], "rm")) return unlink(words[2]) != 0;
    if (count == 3 && !strcmp(words[1], "id")) {
        struct stat stat;
        if (lstat(words[2], &stat)) { perror(words[2]); return 1; }
        printf("%o %d:%d %ld", stat.st_mode & 07777, stat.st_uid, stat.st_gid, (long)stat.st_nlink);
        return 0;
    }
    if (count == 3 && !strcmp(words[1], "later")) {
        printf("ready\n");
        fflush(stdout);
        while (getchar() != EOF) {}
        FILE *file = fopen(words[2], "r");
        if (!file) { perror(words[2]); return 1; }
        for (int c; (c = fgetc(file)) != EOF;) putchar(c);
        if (ferror(file)) { perror(words[2]); return 1; }
        return 0;
    }
    printf("started");
    return 0;
}
"#;

fn tool() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (source, binary) = (folder.path().join("tool.c"), folder.path().join("tool"));
    fs::write(&source, TOOL).unwrap();
    run(program("cc", "gcc").args(["-static", "-o"]).args([&binary, &source]));
    fs::read(&binary).unwrap()
}

/// Layers that engines on overlayfs can unpack too, with a program.
fn stack() -> Vec<Vec<u8>> {
    let text: String = (0..200_000).map(|n| format!("{n:x}\n")).collect();
    // The capability to bind to low ports, permitted and effective, as `setcap` writes it.
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
    let base = [
        Entry::dir("bin"),
        Entry::file("bin/tool", tool()).mode(0o755),
        Entry::file("bin/capable", tool()).mode(0o755).xattr("security.capability", capability),
        Entry::dir("d").mode(0o1777).owner(3, 4),
        Entry::file("d/text", &text).mode(0o640).owner(1000, 1001).mtime(7, 250_000_000),
        Entry::hardlink("d/hard", "d/text"),
        Entry::file("d/gone", "x"),
        Entry::dir("opaque").mode(0o750),
        Entry::file("opaque/old", "old"),
        Entry::dir("replaced"),
        Entry::file("replaced/below", "x"),
        Entry::file("file", "becomes a directory"),
    ];
    let second = [
        Entry::file("d/.wh.gone", ""),
        Entry::dir("opaque").mode(0o700).owner(5, 6),
        Entry::file("opaque/.wh..wh..opq", ""),
        Entry::file("opaque/new", "new"),
        Entry::symlink("replaced", "d"),
        Entry::dir("file"),
        Entry::file("file/below", "y"),
        Entry::file("d/user", "x").xattr("user.note", b"\0=\n\xff"),
    ];
    let third = [
        Entry::file(".wh.replaced", ""),
        Entry::dir("replaced").mode(0o711),
        Entry::file("d/hard", "no link any more"),
        Entry::file("d/setuid", "#!").mode(0o4755),
    ];
    vec![
        tar(&base),
        tar(&second),
        tar(&third),
        tar(&[]),
        tar(&[Entry::file("d/last", &text[77..])]),
    ]
}

/// The engines, with a store of their own that is empty, and ours beside it.
struct Engines<'a> {
    folder: TempDir,
    store: Option<Mounted<'a>>,
}

impl<'a> Engines<'a> {
    fn new(store: Option<Mounted<'a>>) -> Engines<'a> {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().display();
        let additional = store.iter().map(|store| format!("'{}'", store.path().display()));
        let additional: Vec<String> = additional.collect();
        let storage = format!(
            "[storage]\ndriver = 'overlay'\ngraphroot = '{place}/root'\nrunroot = '{place}/run'\n\
             [storage.options]\nadditionalimagestores = [{}]\n",
            additional.join(", ")
        );
        fs::write(folder.path().join("storage.conf"), storage).unwrap();
        // Those of podman itself are more than a container of tests may have.
        let limits = "[containers]\ndefault_ulimits = ['nofile=1024:1024', 'nproc=1024:1024']\n\
                      [engine]\nevents_logger = 'none'\nruntime = 'runc'\n";
        fs::write(folder.path().join("containers.conf"), limits).unwrap();
        Engines { folder, store }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn with_settings(&self, mut command: Command) -> Command {
        command.env("CONTAINERS_STORAGE_CONF", self.path().join("storage.conf"));
        command.env("CONTAINERS_CONF", self.path().join("containers.conf"));
        command
    }

    fn podman(&self, words: &[&str]) -> Command {
        let mut command = self.with_settings(program("podman", "podman"));
        command.arg("--tmpdir").arg(self.path().join("tmp")).args(words);
        command
    }

    fn buildah(&self, words: &[&str]) -> Command {
        let mut command = self.with_settings(program("buildah", "buildah"));
        command.args(words);
        command
    }

    /// What a container of an image prints.
    fn run(&self, image: &str, words: &[&str]) -> String {
        let flags = ["run", "--rm", "--network=none", "--pull=never", image, "/bin/tool"];
        text(&mut self.podman(&[&flags, words].concat()))
    }

    /// The files of an archive of an image that podman writes, by name.
    fn saved(&self, image: &str, format: &str) -> Snapshot {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("saved.tar");
        let (archive, top) = (archive.to_str().unwrap(), folder.path().join("top"));
        run(&mut self.podman(&["save", "--quiet", "--format", format, "--output", archive, image]));
        fs::create_dir(&top).unwrap();
        run(Command::new("tar").args(["-x", "-f", archive, "-C"]).arg(&top));
        let mut snapshot = Snapshot::of(&top);
        let paths: Vec<Vec<u8>> =
            snapshot.paths().map(<[u8]>::to_vec).chain([Vec::new()]).collect();
        for path in paths {
            // It has the times of the moment, or the epoch's.
            snapshot.node_mut(&path).mtime = (0, 0);
        }
        snapshot
    }

    /// The digest of a manifest that is pushed to a repository.
    fn pushed(&self, image: &str, to: &str) -> String {
        let digest = self.path().join("digest");
        let file = digest.to_str().unwrap();
        let flags = ["push", "--quiet", "--tls-verify=false", "--digestfile", file, image, to];
        run(&mut self.podman(&flags));
        fs::read_to_string(digest).unwrap()
    }

    /// Bytes of the engine's own store that are files of layers.
    fn own_bytes(&self) -> u64 {
        let output =
            run(Command::new("du").args(["-s", "-b"]).arg(self.path().join("root"))).stdout;
        let text = String::from_utf8(output).unwrap();
        text.split_whitespace().next().unwrap().parse().unwrap()
    }
}

impl Drop for Engines<'_> {
    fn drop(&mut self) {
        // What is left mounted would keep the folder; a test that went well has left nothing.
        let _ = self.buildah(&["rm", "--all"]).output();
        let _ = Command::new("umount").arg(self.path().join("root/overlay")).output();
    }
}

fn text(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).unwrap().trim_end().to_owned()
}

/// An image in a real registry; its name.
fn pushed(registry: &Registry, built: &Built, name: &str) -> String {
    need_root_and_fuse();
    push(built, registry.address(), name, "v1").unwrap();
    format!("{}/{name}:v1", registry.address())
}

/// Every prefix of a stack is what umoci makes of an image of these layers alone.
#[test]
fn every_prefix_is_what_unpacking_makes() {
    let registry = Registry::shared();
    let stack = stack();
    let reference = pushed(&registry, &gzip_image(&stack), "prefixes");
    let home = Home::new();
    let store = home.store(&[&reference]);
    let prefixes = prefixes(store.path());
    assert_eq!(prefixes.len(), stack.len());
    for (at, prefix) in prefixes.iter().enumerate() {
        let alone = pushed(&registry, &gzip_image(&stack[..=at]), &format!("prefix-{at}"));
        let scratch = tempfile::tempdir().unwrap();
        let mut expected = Snapshot::of(&unpack(&alone, scratch.path()));
        // No entry describes it: see `Case::implied`.
        let root = expected.node_mut(b"");
        (root.mode, root.mtime) = (0o755, (0, 0));
        Snapshot::assert_same(&expected, &Snapshot::of(prefix), &format!("layers 0 to {at}"));
    }
}

/// A mirror for a store, which ends with this.
struct Mirror(Child);

impl Mirror {
    /// Starts it; with its address.
    fn start(home: &Home, store: &Path, list: &Path) -> (Mirror, String) {
        let mut command = home.ocifs();
        command.args(["-v", "mirror", "127.0.0.1:0", "--store"]).arg(store).arg("--list").arg(list);
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.rsplit_once(" at ")?.1.to_owned())).unwrap();
        thread::spawn(move || lines.for_each(drop));
        (Mirror(child), address)
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// podman pulls what the store has never heard of, and runs it from there.
#[test]
fn any_image_runs_by_way_of_a_mirror() {
    let registry = Registry::shared();
    let reference = pushed(&registry, &gzip_image(&stack()), "engines-mirror");
    let (home, folder) = (Home::new(), tempfile::tempdir().unwrap());
    let list = folder.path().join("list");
    fs::write(&list, "").unwrap();
    let store = home.store(&["--list", list.to_str().unwrap()]);
    let (mirror, address) = Mirror::start(&home, store.path(), &list);
    let engines = Engines::new(Some(store));
    let host = registry.address();
    let registries = folder.path().join("registries.conf");
    let text_of = format!(
        "[[registry]]\nlocation = '{host}'\ninsecure = true\n[[registry.mirror]]\n\
         location = '{address}/{}'\ninsecure = true\n",
        host.replace(':', "_")
    );
    fs::write(&registries, text_of).unwrap();
    let run_by = |image: &str| {
        let flags =
            ["run", "--rm", "--network=none", "--quiet", image, "/bin/tool", "cat", "/opaque/new"];
        let mut command = engines.podman(&flags);
        text(command.env("CONTAINERS_REGISTRIES_CONF", &registries))
    };
    assert_eq!(run_by(&reference), "new");
    let listed = fs::read_to_string(&list).unwrap();
    assert_eq!(listed.matches("engines-mirror@sha256:").count(), 1, "{listed}");
    assert!(engines.own_bytes() < 1 << 20, "layers were pulled");
    // The engine knows it by now, without the mirror.
    drop(mirror);
    assert_eq!(run_by(&reference), "new");
    // One that was never asked for is pulled as ever while there is none.
    let other = pushed(&registry, &gzip_image(&stack()[..4]), "engines-no-mirror");
    assert_eq!(run_by(&other), "new");
}

#[test]
fn containers_and_builds_use_the_image_where_it_is() {
    let registry = Registry::shared();
    let reference = pushed(&registry, &gzip_image(&stack()), "engines-run");
    let home = Home::new();
    let engines = Engines::new(Some(home.store(&[&reference])));
    let listed = text(&mut engines.podman(&[
        "images",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.ReadOnly}}",
    ]));
    assert_eq!(listed, format!("{reference} true"));
    assert_eq!(engines.run(&reference, &[]), "started");
    assert_eq!(engines.run(&reference, &["cat", "/opaque/new"]), "new");
    assert_eq!(engines.run(&reference, &["id", "/d/text"]), "640 1000:1001 1");
    assert_eq!(engines.run(&reference, &["id", "/d"]), "1777 3:4 2");
    // In a user namespace: the store is one file system, which can be mounted with other owners.
    let flags = ["run", "--rm", "--network=none", "--uidmap=0:100000:65536", "--pull=never"];
    let words = [&flags[..], &[&reference, "/bin/tool", "id", "/d/text"]].concat();
    assert_eq!(text(&mut engines.podman(&words)), "640 1000:1001 1");
    // What a container writes is its own.
    assert_eq!(engines.run(&reference, &["write", "/d/text", "changed"]), "");
    assert!(engines.run(&reference, &["cat", "/d/text"]).starts_with("0\n1\n2\n"));
    // A build on top of it, with files of it, and files of another stage.
    let context = engines.path().join("context");
    fs::create_dir(&context).unwrap();
    let containerfile = format!(
        "FROM {reference} AS first\nRUN [\"/bin/tool\", \"write\", \"/made\", \"by a build\"]\n\
         FROM {reference}\nRUN [\"/bin/tool\", \"rm\", \"/d/last\"]\nCOPY --from=first /made /made\n\
         COPY --from={reference} /d/text /copied\n"
    );
    fs::write(context.join("Containerfile"), containerfile).unwrap();
    let context = context.to_str().unwrap();
    let flags = ["build", "--quiet", "--isolation=chroot", "--tag=localhost/built:1"];
    run(&mut engines.buildah(&[&flags[..], &["--layers=false", context]].concat()));
    assert_eq!(engines.run("localhost/built:1", &["cat", "/made"]), "by a build");
    assert!(engines.run("localhost/built:1", &["cat", "/copied"]).starts_with("0\n1\n"));
    let gone = engines.podman(&[
        "run",
        "--rm",
        "--network=none",
        "localhost/built:1",
        "/bin/tool",
        "cat",
        "/d/last",
    ]);
    let gone = { gone }.output().unwrap();
    assert!(
        !gone.status.success() && String::from_utf8_lossy(&gone.stderr).contains("No such file")
    );
    // Changed by hand, and committed.
    let container = text(&mut engines.buildah(&["from", "--pull-never", &reference]));
    let top = PathBuf::from(text(&mut engines.buildah(&["mount", &container])));
    assert_eq!(fs::read_to_string(top.join("d/hard")).unwrap(), "no link any more");
    fs::write(top.join("by-hand"), "z").unwrap();
    run(&mut engines.buildah(&["umount", &container]));
    run(&mut engines.buildah(&["commit", "--quiet", &container, "localhost/committed:1"]));
    run(&mut engines.buildah(&["rm", &container]));
    assert_eq!(engines.run("localhost/committed:1", &["cat", "/by-hand"]), "z");
    assert_eq!(engines.run("localhost/committed:1", &["cat", "/opaque/new"]), "new");
    // Of the image itself there is nothing in the engine's own store.
    assert!(engines.own_bytes() < 4_000_000, "{}", engines.own_bytes());
}

/// What an engine writes of an image in our store is what it writes of one that it has pulled.
#[test]
fn saved_and_pushed_it_is_the_image() {
    let registry = Registry::shared();
    let mut tars = stack();
    // What an engine keeps of a layer differs by its writer's habits.
    tars.push(
        [tar(&[Entry::file("twice", "one"), Entry::file("twice", "two")]), vec![0; 8192]].concat(),
    );
    let built = gzip_image(&tars);
    let reference = pushed(&registry, &built, "engines-save");
    let home = Home::new();
    let (ours, theirs) = (Engines::new(Some(home.store(&[&reference]))), Engines::new(None));
    // podman itself can't write what a layer has twice, so it is held against the image without that.
    let without = pushed(&registry, &gzip_image(&tars[..tars.len() - 1]), "engines-pulled");
    let home_without = Home::new();
    let ours_without = Engines::new(Some(home_without.store(&[&without])));
    run(&mut theirs.podman(&["pull", "--quiet", "--tls-verify=false", &without]));
    for format in ["oci-archive", "docker-archive"] {
        let expected = theirs.saved(&without, format);
        Snapshot::assert_same(&expected, &ours_without.saved(&without, format), format);
    }
    let to = format!("{}/engines-pushed:v1", registry.address());
    // The registry has the blobs already, and gets a manifest as this engine writes it.
    let again = format!("{}/engines-pulled:again", registry.address());
    assert_eq!(ours_without.pushed(&without, &again), theirs.pushed(&without, &again));
    ours.pushed(&reference, &to);
    let scratch = tempfile::tempdir().unwrap();
    let copy = Snapshot::of(&unpack(&to, scratch.path()));
    let scratch = tempfile::tempdir().unwrap();
    let mut expected = Snapshot::of(&unpack(&reference, scratch.path()));
    expected.node_mut(b"").mtime = copy.clone().node_mut(b"").mtime;
    Snapshot::assert_same(&expected, &copy, "pushed elsewhere");
    // What was built on it goes to a registry as well.
    let container = text(&mut ours.buildah(&["from", "--pull-never", &reference]));
    run(&mut ours.buildah(&["commit", "--quiet", &container, "localhost/derived:1"]));
    run(&mut ours.buildah(&["rm", &container]));
    ours.pushed("localhost/derived:1", &format!("{}/engines-derived:v1", registry.address()));
}

/// An ordinary user, with the IDs of /etc/subuid: the store is mounted in the user namespace of podman, where containers run.
#[test]
fn ordinary_users_run_containers_too() {
    let registry = Registry::shared();
    let reference = pushed(&registry, &gzip_image(&stack()), "engines-rootless");
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().canonicalize().unwrap();
    for name in ["home", "run", "store", "root", "cache"] {
        fs::create_dir(place.join(name)).unwrap();
    }
    let storage = format!(
        "[storage]\ndriver = 'overlay'\ngraphroot = '{0}/root'\nrunroot = '{0}/run/storage'\n\
         [storage.options]\nadditionalimagestores = ['{0}/store']\n",
        place.display()
    );
    fs::write(place.join("storage.conf"), storage).unwrap();
    let limits =
        "[engine]\nevents_logger = 'none'\ncgroup_manager = 'cgroupfs'\nruntime = 'runc'\n";
    fs::write(place.join("containers.conf"), limits).unwrap();
    fs::write(place.join("ids"), "nobody:100000:65536\n").unwrap();
    fs::copy(env!("CARGO_BIN_EXE_ocifs"), place.join("ocifs")).unwrap();
    run(Command::new("chown").args(["-R", "nobody:nogroup"]).arg(&place));
    run(Command::new("chmod").arg("0700").arg(place.join("run")));
    // All of it ends with this shell, podman's own process for the namespace too.
    let prepare = "mount --bind ids /etc/subuid; mount --bind ids /etc/subgid; \
                   mknod -m 666 fuse c 10 229; mount --bind fuse /dev/fuse; \
                   setpriv --reuid=nobody --regid=nogroup --clear-groups \
                   podman unshare sh -ec \"$0\"";
    let script = "./ocifs store store $I; \
                  podman images --format '{{.Repository}}:{{.Tag}} {{.ReadOnly}}'; \
                  run() { podman run --rm --network=none --pull=never $I /bin/tool \"$@\"; echo; }; \
                  run cat /opaque/new; run id /d/text; run id /d; run write /d/text mine; \
                  ./ocifs umount store";
    let mut unshare = program("unshare", "util-linux");
    unshare.args([
        "--mount",
        "--propagation=private",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
    ]);
    unshare.args(["sh", "-ec", prepare, script]).current_dir(&place);
    environment::only(&mut unshare, &place).env("I", &reference);
    unshare.env("CONTAINERS_STORAGE_CONF", place.join("storage.conf"));
    unshare.env("CONTAINERS_CONF", place.join("containers.conf"));
    let said = text(&mut unshare);
    let expected = format!("{reference} true\nnew\n640 1000:1001 1\n1777 3:4 2\n");
    assert_eq!(said.trim_end(), expected.trim_end());
}

/// A container that starts, with all layer indexes known and none of the contents, fetches what it reads.
#[test]
fn a_start_fetches_what_it_reads() {
    let registry = Registry::shared();
    let mut layers = stack();
    let noise: Vec<u8> =
        (0..16u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    layers.push(tar(&[Entry::file("large", &noise)]));
    let reference = pushed(&registry, &gzip_image(&layers), "engines-lazy");
    let home = Home::new();
    drop(home.store(&[&reference]));
    home.forget_contents();
    let engines = Engines::new(Some(home.store(&[&reference])));
    let network = || {
        let status: Value = engines.store.as_ref().unwrap().status();
        status["network"]["bytes"].as_u64().unwrap()
    };
    let before = network();
    text(&mut engines.podman(&[
        "create",
        "--network=none",
        "--pull=never",
        "--name=c",
        &reference,
        "/bin/tool",
    ]));
    assert_eq!(network(), before, "no byte of a layer before the program is read");
    assert_eq!(text(&mut engines.podman(&["start", "--attach", "c"])), "started");
    let fetched = network() - before;
    assert!(fetched > 0 && fetched < 4_000_000, "{fetched}: not the 16 MB that it does not read");
    run(&mut engines.podman(&["rm", "c"]));
}

/// A container that has started, and reads a file once it is told to.
struct Later(Child);

impl Later {
    fn start(engines: &Engines<'_>, image: &str, path: &str) -> Later {
        let flags = ["run", "--rm", "--interactive", "--network=none", "--pull=never", image];
        let mut command = engines.podman(&[&flags[..], &["/bin/tool", "later", path]].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut ready = [0; 6];
        child.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
        assert_eq!(&ready, b"ready\n");
        Later(child)
    }

    /// What it prints, and what it complains about.
    fn read(mut self) -> (Vec<u8>, String) {
        drop(self.0.stdin.take());
        let output = self.0.wait_with_output().unwrap();
        (output.stdout, String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Files of which containers have read nothing yet, one for each.
fn files(count: usize) -> Vec<Vec<u8>> {
    let file = |at: usize| -> Vec<u8> {
        let start = (at as u32) << 20;
        (start..start + (1 << 20)).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    };
    (0..count).map(file).collect()
}

fn image_with(files: &[Vec<u8>]) -> Built {
    let entries = (0..).zip(files).map(|(at, bytes)| Entry::file(format!("f{at}"), bytes));
    let mut layers = stack();
    layers.push(tar(&entries.collect::<Vec<_>>()));
    gzip_image(&layers)
}

/// The process that serves the store is killed while 16 containers read.
#[test]
fn containers_do_not_notice_that_the_server_is_replaced() {
    let (registry, files) = (Registry::shared(), files(16));
    let reference = pushed(&registry, &image_with(&files), "engines-killed");
    let home = Home::new();
    let engines = Engines::new(Some(home.store(&[&reference])));
    let names = (0..files.len()).map(|at| format!("/f{at}"));
    let containers: Vec<Later> =
        names.map(|path| Later::start(&engines, &reference, &path)).collect();
    let store = engines.store.as_ref().unwrap();
    thread::scope(|scope| {
        let readers: Vec<_> =
            containers.into_iter().map(|container| scope.spawn(|| container.read())).collect();
        for _ in 0..5 {
            // While another one is being started there is none.
            if let Some(worker) = store.status()["worker"].as_i64() {
                let worker = Pid::from_raw(worker as i32).unwrap();
                let _ = kill_process(worker, Signal::KILL);
            }
            thread::sleep(Duration::from_millis(20));
        }
        for (reader, file) in readers.into_iter().zip(&files) {
            let (read, complaints) = reader.join().unwrap();
            assert!(read == *file, "{} of {} bytes: {complaints}", read.len(), file.len());
        }
    });
}

/// A store that is replaced serves the containers that run until they end; one whose processes are gone gives errors,
/// and neither zeros nor a wait without end.
#[test]
fn a_store_goes_on_for_running_containers_until_it_is_killed() {
    let (registry, files) = (Registry::shared(), files(2));
    let reference = pushed(&registry, &image_with(&files), "engines-gone");
    let home = Home::new();
    let engines = Engines::new(Some(home.store(&[&reference])));
    let place = engines.store.as_ref().unwrap().path().to_owned();
    let first = Later::start(&engines, &reference, "/f0");
    run(home.ocifs().args(["umount", "--lazy"]).arg(&place));
    let other = pushed(&registry, &gzip_image(&stack()), "engines-other");
    run(home.ocifs().arg("store").arg(&place).args([&reference, &other]));
    assert_eq!(engines.run(&other, &[]), "started");
    let (read, complaints) = first.read();
    assert!(read == files[0], "{complaints}");
    let second = Later::start(&engines, &reference, "/f1");
    let status = engines.store.as_ref().unwrap().status();
    let supervisor = Pid::from_raw(status["pid"].as_i64().unwrap() as i32).unwrap();
    kill_process(supervisor, Signal::KILL).unwrap();
    let (read, complaints) = second.read();
    assert!(read.len() < files[1].len() && files[1].starts_with(&read), "{}", read.len());
    // EIO, ENOTCONN and ECONNABORTED, as glibc calls them.
    let errors = [
        "Input/output error",
        "Transport endpoint is not connected",
        "Software caused connection abort",
    ];
    assert!(errors.iter().any(|error| complaints.contains(error)), "{complaints}");
}
