//! The snapshots API, called as containerd does.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::plugin::{
    Plugin, START, block_on, chain_ids, client, image, layer_requests, log_of, need_root_and_fuse,
};
use crate::proto::snapshots::snapshots_client::SnapshotsClient;
use crate::proto::snapshots::{
    CleanupRequest, CommitSnapshotRequest, Info, Kind, ListSnapshotsRequest, MountsRequest,
    PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest, UpdateSnapshotRequest,
    UsageRequest, ViewSnapshotRequest,
};
use crate::proto::types::Mount;
use crate::shell::{Home, eventually};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::kernel;
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};

pub type Client = SnapshotsClient<Channel>;
pub type Labels = HashMap<String, String>;

const REF: &str = "containerd.io/snapshot.ref";
const IMAGE: &str = "containerd.io/snapshot/cri.image-ref";
const MANIFEST: &str = "containerd.io/snapshot/cri.manifest-digest";
const LAYER: &str = "containerd.io/snapshot/cri.layer-digest";

pub async fn prepare(
    client: &mut Client,
    key: &str,
    parent: &str,
    labels: &Labels,
) -> Result<Vec<Mount>, Status> {
    let (key, parent, labels) = (key.to_owned(), parent.to_owned(), labels.clone());
    let request = PrepareSnapshotRequest { key, parent, labels, ..Default::default() };
    Ok(client.prepare(request).await?.into_inner().mounts)
}

pub async fn view(client: &mut Client, key: &str, parent: &str) -> Result<Vec<Mount>, Status> {
    let (key, parent) = (key.to_owned(), parent.to_owned());
    let request = ViewSnapshotRequest { key, parent, ..Default::default() };
    Ok(client.view(request).await?.into_inner().mounts)
}

pub async fn commit(client: &mut Client, name: &str, key: &str) -> Result<(), Status> {
    let (name, key) = (name.to_owned(), key.to_owned());
    let request = CommitSnapshotRequest { name, key, ..Default::default() };
    client.commit(request).await.map(drop)
}

pub async fn remove(client: &mut Client, key: &str) -> Result<(), Status> {
    let request = RemoveSnapshotRequest { key: key.to_owned(), ..Default::default() };
    client.remove(request).await.map(drop)
}

pub async fn stat(client: &mut Client, key: &str) -> Result<Info, Status> {
    let request = StatSnapshotRequest { key: key.to_owned(), ..Default::default() };
    Ok(client.stat(request).await?.into_inner().info.unwrap())
}

pub async fn list(client: &mut Client, filters: &[&str]) -> Result<Vec<Info>, Status> {
    let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
    let request = ListSnapshotsRequest { filters, ..Default::default() };
    let mut stream = client.list(request).await?.into_inner();
    let mut found = Vec::new();
    while let Some(message) = stream.message().await? {
        found.extend(message.info);
    }
    Ok(found)
}

pub fn refused<T: std::fmt::Debug>(result: Result<T, Status>, code: Code) -> String {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    status.message().to_owned()
}

/// The labels of a layer, as CRI, the transfer service and Docker give them.
fn labels(registry: &Registry, image: &Built, layer: usize) -> Labels {
    let rows = [
        (REF, chain_ids(image)[layer].clone()),
        (IMAGE, format!("{}/app:1", registry.addr())),
        (MANIFEST, image.manifest_digest.clone()),
        (LAYER, image.layer_digests()[layer].clone()),
    ];
    rows.map(|(label, value)| (label.to_owned(), value)).into()
}

/// Prepares all layers of an image, all of which have to be there; the name of the uppermost.
pub async fn pull(client: &mut Client, registry: &Registry, image: &Built) -> String {
    let mut parent = String::new();
    for (at, chain_id) in chain_ids(image).iter().enumerate() {
        let labels = labels(registry, image, at);
        let result = prepare(client, &format!("extract {chain_id}"), &parent, &labels).await;
        refused(result, Code::AlreadyExists);
        let filter =
            format!(r#"labels."containerd.io/snapshot.ref"=={chain_id},parent=="{parent}""#);
        let found = list(client, &[&filter]).await.unwrap();
        // containerd takes the first that is committed.
        assert!(!found.is_empty() && found[0].kind() == Kind::Committed, "{found:?}");
        assert!(found[0].name.starts_with("ocifs/"), "{found:?}");
        assert_eq!(stat(client, &found[0].name).await.unwrap(), found[0]);
        parent = found[0].name.clone();
    }
    parent
}

/// Mounts, as containerd does, for as long as this is there.
pub struct Mounted(PathBuf);

impl Mounted {
    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn new(home: &Home, name: &str, mounts: &[Mount]) -> Mounted {
        let place = home.path().join(name);
        fs::create_dir_all(&place).unwrap();
        let [only] = mounts else { panic!("{mounts:?}") };
        match &only.r#type[..] {
            "bind" => {
                rustix::mount::mount_bind_recursive(&only.source, &place).unwrap();
            }
            kind => {
                let data = std::ffi::CString::new(only.options.join(",")).unwrap();
                mount("overlay", &place, kind, MountFlags::empty(), Some(&*data)).unwrap();
            }
        }
        Mounted(place)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.join(path)).unwrap()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// An image in a registry, and a home.
pub fn fixture(image: &Built) -> (Home, Registry) {
    need_root_and_fuse();
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("app", "1", image);
    (home, registry)
}

fn with_image(name: &str) -> (Home, Registry, Built) {
    let image = image(name);
    let (home, registry) = fixture(&image);
    (home, registry, image)
}

#[test]
fn ordinary_snapshots() {
    need_root_and_fuse();
    let home = Home::new();
    let mut plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let none = Labels::new();
        let first = prepare(client, "a", "", &none).await.unwrap();
        assert_eq!((&first[0].r#type[..], &first[0].options.join(",")[..]), ("bind", "rw,rbind"));
        fs::write(Path::new(&first[0].source).join("f"), "first").unwrap();
        refused(prepare(client, "a", "", &none).await, Code::AlreadyExists);
        refused(prepare(client, "b", "a", &none).await, Code::InvalidArgument);
        refused(prepare(client, "b", "none", &none).await, Code::NotFound);
        commit(client, "A", "a").await.unwrap();
        refused(commit(client, "A", "a").await, Code::NotFound);
        std::os::unix::fs::chown(&first[0].source, Some(5), Some(6)).unwrap();
        let second = prepare(client, "../../b", "A", &none).await.unwrap();
        {
            let mounted = Mounted::new(&home, "b", &second);
            assert_eq!(mounted.read("f"), "first");
            assert_eq!(fs::metadata(&mounted.0).unwrap().uid(), 5);
            fs::write(mounted.0.join("f"), "second").unwrap();
        }
        let usage = UsageRequest { key: "../../b".to_owned(), ..Default::default() };
        assert_eq!(client.usage(usage).await.unwrap().into_inner().inodes, 2);
        commit(client, "B", "../../b").await.unwrap();
        let seen = Mounted::new(&home, "v", &view(client, "v", "B").await.unwrap());
        assert_eq!(seen.read("f"), "second");
        drop(seen);
        let again = MountsRequest { key: "v".to_owned(), ..Default::default() };
        assert_eq!(client.mounts(again).await.unwrap().into_inner().mounts.len(), 1);
        refused(remove(client, "A").await, Code::FailedPrecondition);
        assert_eq!(list(client, &["kind==committed"]).await.unwrap().len(), 2);
        refused(list(client, &["kind="]).await, Code::InvalidArgument);
        for key in ["v", "B", "A"] {
            remove(client, key).await.unwrap();
        }
        refused(stat(client, "A").await, Code::NotFound);
        client.cleanup(CleanupRequest::default()).await.unwrap();
        assert!(fs::read_dir(plugin.root().join("snapshots")).unwrap().next().is_none());
    });
    plugin.stop();
}

#[test]
fn labels_are_updated() {
    need_root_and_fuse();
    let home = Home::new();
    let plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        prepare(client, "a", "", &Labels::from([("x".into(), "1".into())])).await.unwrap();
        let update = |paths: &[&str], labels: &[(&str, &str)]| {
            let labels = labels.iter().map(|(l, v)| ((*l).to_owned(), (*v).to_owned())).collect();
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            UpdateSnapshotRequest {
                info: Some(Info { name: "a".to_owned(), labels, ..Default::default() }),
                update_mask: Some(prost_types::FieldMask { paths }),
                ..Default::default()
            }
        };
        let updated = client.update(update(&["labels.y"], &[("y", "2")])).await.unwrap();
        assert_eq!(updated.into_inner().info.unwrap().labels.len(), 2);
        client.update(update(&["labels"], &[("z", "3")])).await.unwrap();
        let labels = stat(client, "a").await.unwrap().labels;
        assert_eq!(labels, Labels::from([("z".into(), "3".into())]));
        refused(client.update(update(&["kind"], &[])).await, Code::InvalidArgument);
        let none = UpdateSnapshotRequest::default();
        refused(client.update(none).await, Code::InvalidArgument);
    });
}

#[test]
fn remote_snapshots_are_trees_of_their_layers() {
    let (home, registry, image) = with_image("remote");
    let mut plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        // Each layer was streamed once.
        assert_eq!(layer_requests(&registry, &image), 2, "{}", log_of(&home));
        // Other users see nothing of it: an image may have set-user-ID programs that are known to be wrong.
        let trees = fs::metadata(plugin.root().join("trees")).unwrap();
        assert_eq!(trees.mode() & 0o777, 0o700);
        let base = stat(client, &top).await.unwrap().parent;
        {
            let mounts = prepare(client, "c", &top, &Labels::new()).await.unwrap();
            let container = Mounted::new(&home, "c", &mounts);
            assert_eq!(container.read("d/layer"), "second of remote");
            assert!(!container.0.join("d/gone").exists());
            fs::write(container.0.join("d/layer"), "mine").unwrap();
            // The base alone: what is above it is not in its tree.
            let below = Mounted::new(&home, "b", &view(client, "b", &base).await.unwrap());
            assert_eq!((below.read("d/layer"), below.read("d/gone")), ("first".into(), "x".into()));
            assert!(!below.0.join("d/more").exists());
        }
        assert_eq!(layer_requests(&registry, &image), 2);
        // A second pull finds what is there, and asks nobody.
        registry.clear_log();
        assert_eq!(pull(client, &registry, &image).await, top);
        assert!(registry.requests().is_empty(), "{:?}", registry.requests());
        // Children first; then the trees are unmounted.
        refused(remove(client, &top).await, Code::FailedPrecondition);
        for key in ["c", "b", &top, &base] {
            remove(client, key).await.unwrap();
        }
    });
    plugin.stop();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new(), "{}", log_of(&home));
}

#[test]
fn common_layers_are_one_snapshot_and_other_images_are_others() {
    let (home, registry, first) = with_image("first");
    let second = image("second");
    registry.add_image("app", "2", &second);
    let plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let tops = [pull(client, &registry, &first).await, pull(client, &registry, &second).await];
        let mut bases = Vec::new();
        for (top, name) in tops.iter().zip(["first", "second"]) {
            bases.push(stat(client, top).await.unwrap().parent);
            let mounted = Mounted::new(&home, name, &view(client, name, top).await.unwrap());
            assert_eq!(mounted.read("d/layer"), format!("second of {name}"));
        }
        assert_eq!(bases[0], bases[1]);
        // The base was streamed for the first image, and not again for the second.
        assert_eq!(layer_requests(&registry, &first), 2);
        assert_eq!(layer_requests(&registry, &second), 2);
    });
}

/// Whatever labels say: the snapshot is an ordinary one, so that containerd unpacks, and no tree is shown.
#[test]
fn labels_that_lie_make_an_ordinary_snapshot() {
    let (home, registry, image_) = with_image("true");
    let other = image("other");
    registry.add_image("app", "2", &other);
    let plugin = Plugin::start(&home);
    let absent = format!("sha256:{}", "0".repeat(64));
    let diff_id = image_.diff_ids()[1].clone();
    block_on(async {
        let client = &mut client(&plugin).await;
        for (n, (label, value, told)) in [
            // Before the cache has anything of that digest.
            (IMAGE, format!("{}/missing:1", registry.addr()), "not found"),
            (REF, chain_ids(&other)[1].clone(), "do not fit"),
            // The diff ID of a layer that is not the lowest is nobody's chain ID.
            (REF, diff_id, "do not fit"),
            (REF, "../../etc".to_owned(), "is no digest"),
            (MANIFEST, absent.clone(), "not found"),
            (MANIFEST, image_.config_digest(), ""),
            (MANIFEST, "latest".to_owned(), "is no digest"),
            (LAYER, image_.layer_digests()[1].clone(), "not sha256:"),
            (IMAGE, "../../../etc/passwd".to_owned(), "cri.image-ref"),
            (IMAGE, format!("oci:{}", home.path().display()), "cri.image-ref"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut labels = labels(&registry, &image_, 0);
            labels.insert(label.to_owned(), value.clone());
            let mounts = prepare(client, &format!("n{n}"), "", &labels).await;
            let mounts = mounts.unwrap_or_else(|e| panic!("{label}={value}: {e}"));
            assert_eq!(mounts[0].r#type, "bind", "{label}={value}");
            let directory = Path::new(&mounts[0].source);
            assert!(fs::read_dir(directory).unwrap().next().is_none(), "{label}={value}");
            let log = log_of(&home);
            let last = log.lines().rfind(|line| line.contains("WARN")).unwrap_or_default();
            assert!(last.contains(told), "{label}={value}: `{told}` is not in {last}");
        }
        // Neither a tree on a parent that is not below it, nor the uppermost without one.
        let base = prepare(client, "base", "", &labels(&registry, &image_, 0)).await;
        refused(base, Code::AlreadyExists);
        for key in ["x", "y"] {
            let parent = if key == "x" {
                String::new()
            } else {
                let all = list(client, &["name~=^ocifs/"]).await.unwrap();
                all[0].name.clone()
            };
            let layer = if key == "x" { 1 } else { 0 };
            let result = prepare(client, key, &parent, &labels(&registry, &image_, layer)).await;
            assert!(!result.unwrap().is_empty(), "{key}");
        }
        // And what is right is right still.
        pull(client, &registry, &image_).await;
    });
}

#[test]
fn an_image_that_cannot_be_opened_is_left_to_containerd() {
    let (home, registry, image) = with_image("broken");
    let layer = image.layer_digests()[1].clone();
    registry.fault(("GET", &layer, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    let plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        // Nothing of it is remote, as the upper layers could not be shown on top of it.
        for n in 0..2 {
            let labels = labels(&registry, &image, 0);
            let mounts = prepare(client, &format!("a{n}"), "", &labels).await.unwrap();
            assert_eq!(mounts[0].r#type, "bind");
        }
        assert!(log_of(&home).contains("containerd fetches and unpacks"), "{}", log_of(&home));
    });
}

#[test]
fn restarts_lose_nothing() {
    let (home, registry, image) = with_image("restarted");
    let mut plugin = Plugin::start(&home);
    let (top, before, container) = block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        let mounts = prepare(client, "c", &top, &Labels::new()).await.unwrap();
        let container = Mounted::new(&home, "c", &mounts);
        fs::write(container.0.join("mine"), "x").unwrap();
        (top, list(client, &[]).await.unwrap(), container)
    });
    for is_killed in [false, true] {
        match is_killed {
            false => plugin.stop(),
            true => plugin.kill(),
        }
        // Containers run on.
        rustix::fs::sync();
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        assert_eq!(container.read("d/layer"), "second of restarted");
        // What a process that died has left.
        fs::create_dir_all(home.path().join("snapshotter/snapshots/999/fs")).unwrap();
        plugin = Plugin::start(&home);
        assert!(!plugin.root().join("snapshots/999").exists());
        block_on(async {
            let client = &mut client(&plugin).await;
            assert_eq!(list(client, &[]).await.unwrap(), before);
            let mounts = MountsRequest { key: "c".to_owned(), ..Default::default() };
            assert_eq!(client.mounts(mounts).await.unwrap().into_inner().mounts.len(), 1);
            assert_eq!(container.read("mine"), "x");
            assert_eq!(pull(client, &registry, &image).await, top);
        });
    }
    // After a restart of the machine nothing is mounted.
    drop(container);
    plugin.stop();
    for place in home.mounts() {
        unmount(&place, UnmountFlags::DETACH).unwrap();
    }
    home.is_quiet();
    plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let mounts = MountsRequest { key: "c".to_owned(), ..Default::default() };
        let mounts = client.mounts(mounts).await.unwrap().into_inner().mounts;
        let container = Mounted::new(&home, "c", &mounts);
        assert_eq!(container.read("mine"), "x");
        assert_eq!(container.read("d/layer"), "second of restarted");
    });
}

/// The program ends in the middle of a pull whose registry does not answer. Afterwards the pull goes on as if nothing had been.
#[test]
fn a_pull_that_is_under_way_does_not_hold_up_the_end() {
    let (home, registry, image) = with_image("halfway");
    let gate = Gate::default();
    let layer = image.layer_digests()[1].clone();
    let met = registry.counted_fault(("GET", &layer, Times::Always), Fault::Hold(gate.clone()));
    let mut plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let mut waiting = client.clone();
        let labels = labels(&registry, &image, 0);
        let pull = tokio::spawn(async move { prepare(&mut waiting, "a", "", &labels).await });
        let until = std::time::Instant::now() + START;
        while met.times() == 0 {
            assert!(std::time::Instant::now() < until, "{}", log_of(&home));
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        plugin.stop();
        assert!(pull.await.unwrap().is_err());
    });
    gate.open();
    plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        assert!(list(client, &[]).await.unwrap().is_empty());
        pull(client, &registry, &image).await;
    });
    plugin.stop();
}

/// The server of a tree is gone for good: readers get errors, and the next container gets a new one.
#[test]
fn dead_trees_are_mounted_again() {
    let (home, registry, image) = with_image("dead");
    let plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        let mounts = prepare(client, "c", &top, &Labels::new()).await.unwrap();
        let container = Mounted::new(&home, "c", &mounts);
        assert_eq!(container.read("d/layer"), "second of dead");
        for pid in [home.serving(), home.workers()].concat() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        assert!(fs::read(container.0.join("d/text")).is_err(), "never zeros");
        let mounts = prepare(client, "d", &top, &Labels::new()).await.unwrap();
        let container = Mounted::new(&home, "d", &mounts);
        assert_eq!(container.read("d/layer"), "second of dead");
    });
}

#[test]
fn databases_that_cannot_be_read_are_told_of() {
    need_root_and_fuse();
    let home = Home::new();
    let root = home.path().join("snapshotter");
    fs::create_dir(&root).unwrap();
    let database = root.join("snapshots.redb");
    fs::write(&database, "something else").unwrap();
    let plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let told = refused(prepare(client, "a", "", &Labels::new()).await, Code::Internal);
        assert!(told.contains("snapshots.redb is damaged"), "{told}");
        assert_eq!(fs::read(&database).unwrap(), b"something else", "it is left alone");
        // Once it is away everything works, without a restart.
        fs::rename(&database, root.join("away")).unwrap();
        prepare(client, "a", "", &Labels::new()).await.unwrap();
    });
    let second = home
        .command(env!("CARGO_BIN_EXE_ocifs-snapshotter"))
        .arg("--root")
        .arg(&root)
        .arg("--socket")
        .arg(plugin.socket())
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(told.contains("another process answers on the socket"), "{told}");
}

/// A database that a newer version has written is not touched.
#[test]
fn newer_databases_are_told_of() {
    need_root_and_fuse();
    let home = Home::new();
    let root = home.path().join("snapshotter");
    fs::create_dir(&root).unwrap();
    let database = root.join("snapshots.redb");
    {
        let newer = redb::Database::create(&database).unwrap();
        let writing = newer.begin_write().unwrap();
        let about = redb::TableDefinition::<&str, u64>::new("about");
        writing.open_table(about).unwrap().insert("version", 1000).unwrap();
        writing.commit().unwrap();
    }
    let plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let told = refused(prepare(client, "a", "", &Labels::new()).await, Code::Internal);
        assert!(told.contains("is of version 1000") && told.contains("newer program"), "{told}");
        refused(list(client, &[]).await, Code::Internal);
        refused(client.cleanup(CleanupRequest::default()).await, Code::Internal);
    });
    drop(plugin);
    assert!(eventually(|| redb::Database::open(&database).is_ok()), "it is as it was");
}

/// Names are containerd's, and no parts of paths.
#[test]
fn names_lead_nowhere() {
    need_root_and_fuse();
    let home = Home::new();
    let plugin = Plugin::start(&home);
    let long = "x".repeat(20_000);
    block_on(async {
        let client = &mut client(&plugin).await;
        let none = Labels::new();
        for name in ["..", "../../../etc", "/etc/passwd", ".", "a/../../b", "-", "a\0b", "\n", "é"]
        {
            let key = format!("{name} key");
            let mounts = prepare(client, &key, "", &none).await.unwrap();
            let directory = Path::new(&mounts[0].source).canonicalize().unwrap();
            assert!(directory.starts_with(plugin.root().join("snapshots")), "{directory:?}");
            commit(client, name, &key).await.unwrap();
            let mounts = view(client, &key, name).await.unwrap();
            assert_eq!(Path::new(&mounts[0].source).canonicalize().unwrap(), directory, "{name}");
            remove(client, &key).await.unwrap();
            remove(client, name).await.unwrap();
        }
        for name in ["", &long] {
            refused(prepare(client, name, "", &none).await, Code::InvalidArgument);
        }
        let label = Labels::from([("a".to_owned(), long.clone())]);
        refused(prepare(client, "a", "", &label).await, Code::InvalidArgument);
        assert!(list(client, &[]).await.unwrap().is_empty());
        assert!(fs::read_dir(plugin.root().join("snapshots")).unwrap().next().is_none());
    });
}

/// Workers are killed while a container reads: it is not noticed.
#[test]
fn killed_workers_are_not_noticed() {
    let (home, registry, image) = with_image("killed");
    let plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        let mounts = prepare(client, "c", &top, &Labels::new()).await.unwrap();
        let container = Mounted::new(&home, "c", &mounts);
        for path in ["d/text", "d/more", "bin/tool"] {
            let workers = home.workers();
            assert!(!workers.is_empty());
            for worker in workers {
                rustix::process::kill_process(worker, rustix::process::Signal::KILL).unwrap();
            }
            assert!(
                fs::read(container.0.join(path)).is_ok_and(|bytes| !bytes.is_empty()),
                "{path}"
            );
            assert!(eventually(|| !home.workers().is_empty()));
        }
    });
}

/// The disk with the database and what containers write is full for a while.
#[test]
fn a_full_disk_is_told_of_and_passes() {
    need_root_and_fuse();
    let home = Home::new();
    let root = home.path().join("snapshotter");
    fs::create_dir(&root).unwrap();
    mount("tmpfs", &root, "tmpfs", MountFlags::empty(), Some(c"size=8M")).unwrap();
    {
        let plugin = Plugin::start(&home);
        block_on(async {
            let client = &mut client(&plugin).await;
            let none = Labels::new();
            prepare(client, "first", "", &none).await.unwrap();
            let filler = root.join("filler");
            let _ = fs::write(&filler, vec![1; 16 << 20]);
            let mut told = None;
            // There may be room left in the database.
            for n in 0..10_000 {
                if let Err(status) = prepare(client, &format!("n{n}"), "", &none).await {
                    told = Some(status);
                    break;
                }
            }
            let told = told.expect("there is an end");
            assert_eq!(told.code(), Code::Internal, "{told:?}");
            assert!(told.message().contains("No space left"), "{told:?}");
            stat(client, "first").await.unwrap();
            fs::remove_file(&filler).unwrap();
            prepare(client, "second", "", &none).await.unwrap();
            stat(client, "first").await.unwrap();
        });
    }
    unmount(&root, UnmountFlags::DETACH).unwrap();
}

/// Whether names and attributes can be the kernel's here.
fn has_kernel_metadata() -> bool {
    use ocifs::fuse::erofs_mount::{self, Error};
    let checked = erofs_mount::check();
    let is_lack = matches!(
        checked,
        Err(Error::NoErofs | Error::NotFromFile | Error::ShortReads | Error::NotPermitted)
    );
    kernel::has_kernel_metadata(checked.map_err(|e| e.to_string()), is_lack)
}

/// Whether the trees below a mount of one layer or of several are the kernel's.
fn is_in_the_kernel(mounts: &[Mount]) -> bool {
    const EROFS_SUPER_MAGIC: i64 = 0xe0f5_e1e2;
    let options = &mounts[0].options;
    let lower = options.iter().find_map(|option| option.strip_prefix("lowerdir=")).unwrap();
    rustix::fs::statfs(lower).unwrap().f_type == EROFS_SUPER_MAGIC
}

/// Names and attributes are the kernel's, unless that is not wanted.
#[test]
fn trees_with_kernel_metadata() {
    if !has_kernel_metadata() {
        return;
    }
    let (home, registry, image) = with_image("kernel");
    let mut plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        let base = stat(client, &top).await.unwrap().parent;
        let mounts = prepare(client, "c", &top, &Labels::new()).await.unwrap();
        assert!(is_in_the_kernel(&mounts));
        let container = Mounted::new(&home, "c", &mounts);
        assert_eq!(container.read("d/layer"), "second of kernel");
        let below = Mounted::new(&home, "b", &view(client, "b", &base).await.unwrap());
        assert_eq!((below.read("d/layer"), below.read("d/gone")), ("first".into(), "x".into()));
        drop((container, below));
        // Mounted in another way than is asked for now, and the same all the same.
        plugin.stop();
        plugin = Plugin::start_with(&home, &["--kernel-metadata=never"]);
        let client = &mut crate::plugin::client(&plugin).await;
        assert!(is_in_the_kernel(&prepare(client, "d", &top, &Labels::new()).await.unwrap()));
        for key in ["b", "c", "d", &top, &base] {
            remove(client, key).await.unwrap();
        }
        let top = pull(client, &registry, &image).await;
        let mounts = prepare(client, "c", &top, &Labels::new()).await.unwrap();
        assert!(!is_in_the_kernel(&mounts));
        let container = Mounted::new(&home, "c", &mounts);
        assert_eq!(container.read("d/layer"), "second of kernel");
        drop(container);
        let base = stat(client, &top).await.unwrap().parent;
        for key in ["c", &top, &base] {
            remove(client, key).await.unwrap();
        }
    });
    plugin.stop();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new(), "{}", log_of(&home));
}

/// What EROFS has no room for is mounted without it.
#[test]
fn images_that_the_kernel_can_not_have() {
    if !has_kernel_metadata() {
        return;
    }
    need_root_and_fuse();
    let (home, registry) = (Home::new(), Registry::start());
    let large = Entry::file("f", "content").xattr("user.large", "v".repeat(1 << 16));
    let image = ImageBuilder::new().layer(&tar(&[large]), Compression::Gzip).build();
    registry.add_image("app", "1", &image);
    let mut plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        let mounts = prepare(client, "c", &top, &Labels::new()).await.unwrap();
        assert!(!is_in_the_kernel(&mounts));
        assert_eq!(Mounted::new(&home, "c", &mounts).read("f"), "content");
        assert!(
            log_of(&home).contains("is mounted without --kernel-metadata"),
            "{}",
            log_of(&home)
        );
        for key in ["c", &top] {
            remove(client, key).await.unwrap();
        }
    });
    plugin.stop();
}
