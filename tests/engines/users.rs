//! Containers in user namespaces (pods with `hostUsers: false`).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{UnmountFlags, unmount};
use tonic::Code;

use crate::containerd::{self, Containerd};
use crate::kubelet::Kubelet;
use crate::plugin::{Plugin, block_on, client, image, log_of};
use crate::proto::snapshots::MountsRequest;
use crate::proto::types::Mount;
use crate::shell::{Home, eventually, run};
use crate::snapshots::{
    Client, Labels, Mounted, commit, fixture, list, prepare, pull, refused, remove, stat, view,
};

const MAP: &str = "0:100000:65536";

fn labels(users: &str, groups: &str) -> Labels {
    let rows = [("uidmapping", users), ("gidmapping", groups)];
    let rows = rows.map(|(of, map)| (format!("containerd.io/snapshot/{of}"), map.to_owned()));
    rows.into()
}

/// What stands for an option of a mount.
fn option<'a>(mount: &'a Mount, name: &str) -> &'a str {
    let found =
        mount.options.iter().find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name} in {mount:?}"))
}

fn owner(path: &Path) -> (u32, u32) {
    let found = fs::symlink_metadata(path).unwrap();
    (found.uid(), found.gid())
}

async fn mounts(client: &mut Client, key: &str) -> Vec<Mount> {
    let request = MountsRequest { key: key.to_owned(), ..Default::default() };
    client.mounts(request).await.unwrap().into_inner().mounts
}

/// What root of a container sees and may do.
fn is_root_s(home: &Home, mounts: &[Mount], layer: &str) {
    let container = Mounted::new(home, "c", mounts);
    for path in ["", "bin/tool", "d/text", "etc"] {
        assert_eq!(owner(&container.path().join(path)), (100_000, 100_000), "{path}");
    }
    assert_eq!(owner(&container.path().join("d")), (100_003, 100_004));
    let script = "cat d/layer; echo mine >d/layer; echo new >new; rm d/text; head -c 2 d/more";
    let mut shell = Command::new("setpriv");
    shell.args(["--reuid=100000", "--regid=100000", "--clear-groups", "sh", "-ec", script]);
    let outcome = run(shell.current_dir(container.path()));
    assert_eq!((outcome.code, outcome.stdout), (0, format!("{layer}0\n")), "{}", outcome.stderr);
    assert_eq!(owner(&container.path().join("new")), (100_000, 100_000));
    assert!(!container.path().join("d/text").exists());
}

#[test]
fn files_have_the_owners_of_the_container() {
    let image = image("users");
    let (home, registry) = fixture(&image);
    let mut plugin = Plugin::start_with(&home, &["--remap-ids"]);
    block_on(async {
        let mut client = client(&plugin).await;
        let top = pull(&mut client, &registry, &image).await;
        let first = prepare(&mut client, "c", &top, &labels(MAP, MAP)).await.unwrap();
        is_root_s(&home, &first, "second of users");
        // The same after a restart, and after one of the machine.
        plugin.kill();
        plugin = Plugin::start_with(&home, &["--remap-ids"]);
        client = crate::plugin::client(&plugin).await;
        assert_eq!(mounts(&mut client, "c").await, first);
        plugin.stop();
        for place in home.mounts() {
            unmount(&place, UnmountFlags::DETACH).unwrap();
        }
        home.is_quiet();
        plugin = Plugin::start_with(&home, &["--remap-ids"]);
        client = crate::plugin::client(&plugin).await;
        assert_eq!(mounts(&mut client, "c").await, first);
        let container = Mounted::new(&home, "c", &first);
        assert_eq!(fs::read_to_string(container.path().join("d/layer")).unwrap(), "mine\n");
        assert_eq!(owner(&container.path().join("d/layer")), (100_000, 100_000));
        drop(container);
        // Others have the owners of the machine, on the same tree; and what is written there can be built on.
        let plain = prepare(&mut client, "plain", &top, &Labels::new()).await.unwrap();
        {
            let container = Mounted::new(&home, "plain", &plain);
            assert_eq!(owner(&container.path().join("d")), (3, 4));
            fs::write(container.path().join("d/layer"), "third").unwrap();
        }
        commit(&mut client, "derived", "plain").await.unwrap();
        let other = labels("0:100000:1000,1000:300000:1000", MAP);
        let mixed = prepare(&mut client, "mixed", "derived", &other).await.unwrap();
        is_root_s(&home, &mixed, "third");
        // A view, and one without layers, which is a directory of its own.
        let seen = prepare_view(&mut client, "seen", &top).await;
        {
            let seen = Mounted::new(&home, "seen", &seen);
            assert_eq!(owner(&seen.path().join("d")), (100_003, 100_004));
        }
        let empty = prepare(&mut client, "empty", "", &labels(MAP, "0:200000:1")).await.unwrap();
        assert_eq!(owner(Path::new(&empty[0].source)), (100_000, 200_000));
        let base = stat(&mut client, &top).await.unwrap().parent;
        for key in ["c", "mixed", "derived", "seen", "empty", &top, &base] {
            remove(&mut client, key).await.unwrap();
        }
    });
    assert!(fs::read_dir(plugin.root().join("mapped")).unwrap().next().is_none());
    plugin.stop();
    assert_eq!(home.mounts(), Vec::<PathBuf>::new(), "{}", log_of(&home));
}

async fn prepare_view(client: &mut Client, key: &str, parent: &str) -> Vec<Mount> {
    let request = crate::proto::snapshots::ViewSnapshotRequest {
        key: key.to_owned(),
        parent: parent.to_owned(),
        labels: labels(MAP, MAP),
        ..Default::default()
    };
    client.view(request).await.unwrap().into_inner().mounts
}

/// The server of a tree is gone for good: the next container has a new one below its owners.
#[test]
fn dead_trees_are_mapped_again() {
    let image = image("dead-users");
    let (home, registry) = fixture(&image);
    let plugin = Plugin::start_with(&home, &["--remap-ids"]);
    block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        let first = prepare(client, "c", &top, &labels(MAP, MAP)).await.unwrap();
        for pid in [home.serving(), home.workers()].concat() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        // Names may still be the kernel's.
        let content = || fs::read(Path::new(option(&first[0], "lowerdir")).join("d/text"));
        assert!(eventually(|| content().is_err()));
        let again = mounts(client, "c").await;
        is_root_s(&home, &again, "second of dead-users");
    });
}

/// containerd mounts what it is told, and makes no copy. (`ctr` of 1.6 trusts the snapshotter if it is told to.)
#[test]
fn containers_run_without_a_copy() {
    let image = image("mapped");
    let (home, registry) = fixture(&image);
    let mut plugin = Plugin::start_with(&home, &["--remap-ids"]);
    let mut containerd = Containerd::start(&home, &registry);
    // The root of the container has to get there.
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let name = format!("{}/app:1", registry.addr());
    block_on(async {
        let mut kubelet = Kubelet::new(&containerd).await;
        kubelet.pull(&name).await;
        let run = |words: &[&str]| {
            in_user_namespace(&containerd, &home, &name, &["--remap-labels"], words)
        };
        let map = run(&["cat", "/proc/self/uid_map"]);
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
        assert_eq!(run(&["owner", "/bin/tool"]), "0:0");
        assert_eq!(run(&["owner", "/d"]), "3:4");
        assert_eq!(run(&["cat", "/d/layer"]), "second of mapped");
        assert_eq!(run(&["write", "/d/layer", "mine"]), "");
        let snapshots = ["--namespace", "k8s.io", "snapshots", "--snapshotter", "ocifs", "list"];
        let snapshots = containerd.told(&snapshots);
        assert_eq!(snapshots.matches("Committed").count(), 2, "{snapshots}");
        kubelet.remove_image(&name).await;
    });
    containerd.stop();
    plugin.stop();
}

/// What `/bin/tool` of an image prints in a user namespace.
fn in_user_namespace(
    containerd: &Containerd<'_>,
    home: &Home,
    image: &str,
    flags: &[&str],
    words: &[&str],
) -> String {
    let id = containerd::container_id(home);
    let run = ["--namespace", "k8s.io", "run", "--rm", "--snapshotter", "ocifs"];
    let map = ["--uidmap", MAP, "--gidmap", MAP];
    containerd.told(&[&run[..], &map, flags, &[image, &id, "/bin/tool"], words].concat())
}

/// Without a word to the snapshotter containerd gives all files of the image other owners, in a copy.
#[test]
fn others_make_a_copy() {
    let image = image("copied");
    let (home, registry) = fixture(&image);
    let mut plugin = Plugin::start(&home);
    let mut containerd = Containerd::start(&home, &registry);
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let name = format!("{}/app:1", registry.addr());
    block_on(async {
        let mut kubelet = Kubelet::new(&containerd).await;
        kubelet.pull(&name).await;
        let run = |words: &[&str]| in_user_namespace(&containerd, &home, &name, &[], words);
        assert_eq!(run(&["owner", "/d"]), "3:4");
        assert_eq!(run(&["cat", "/d/layer"]), "second of copied");
        assert_eq!(run(&["write", "/d/layer", "mine"]), "");
        kubelet.remove_image(&name).await;
    });
    containerd.stop();
    plugin.stop();
}

/// A label becomes lines of a map, and has nothing else in it.
#[test]
fn maps_that_are_none_are_refused() {
    let image = image("maps");
    let (home, registry) = fixture(&image);
    let plugin = Plugin::start_with(&home, &["--remap-ids"]);
    block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        let before = list(client, &[]).await.unwrap().len();
        for (users, groups, told) in [
            ("0:1:1,lowerdir=/etc", MAP, "is no map of IDs"),
            (MAP, "0:0:1\n0:0:1", "is no map of IDs"),
            ("root", MAP, "is no map of IDs"),
            ("", "", "is no map of IDs"),
            ("1:100000:65536", MAP, "leave out root"),
        ] {
            let said = prepare(client, "c", &top, &labels(users, groups)).await;
            let said = refused(said, Code::InvalidArgument);
            assert!(said.contains(told), "{users} {groups}: {said}");
        }
        let mut one = labels(MAP, MAP);
        one.retain(|label, _| label.contains("uid"));
        let said = refused(prepare(client, "c", &top, &one).await, Code::InvalidArgument);
        assert!(said.contains("go together"), "{said}");
        // A map that the kernel refuses: the ranges are over each other.
        let over = labels("0:100000:10,5:200000:10", MAP);
        let said = refused(prepare(client, "c", &top, &over).await, Code::Internal);
        assert!(said.contains("in its user namespace"), "{said}");
        assert_eq!(list(client, &[]).await.unwrap().len(), before, "nothing is left of them");
    });
}

/// containerd that makes a copy by itself gives the same labels.
#[test]
fn unasked_labels_mean_nothing() {
    let image = image("unasked");
    let (home, registry) = fixture(&image);
    let plugin = Plugin::start(&home);
    block_on(async {
        let client = &mut client(&plugin).await;
        let top = pull(client, &registry, &image).await;
        for wanted in [labels(MAP, MAP), labels("anything", "at all")] {
            let mounts = prepare(client, "c", &top, &wanted).await.unwrap();
            assert!(option(&mounts[0], "lowerdir").contains("/trees/"));
            assert_eq!(owner(Path::new(option(&mounts[0], "upperdir"))), (0, 0));
            remove(client, "c").await.unwrap();
        }
        view(client, "v", &top).await.unwrap();
    });
}
