//! What a contained process needs lies elsewhere: behind links, where files of settings say, or in files that are replaced
//! while it runs.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::fixture::{GOOD, good, image_of, name_in};
use crate::shell::{Home, run, text};
use crate::support::image::{Compression, write_oci_layout};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};
use crate::users::home_of_nobody;

/// Moves the files of a folder elsewhere, and leaves links to them.
fn link_away(folder: &Path, elsewhere: &Path) {
    fs::create_dir_all(elsewhere).unwrap();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let target = elsewhere.join(path.file_name().unwrap());
        fs::rename(&path, &target).unwrap();
        symlink(&target, &path).unwrap();
    }
}

/// Bazel's rules make layouts whose blobs are links to what was built before.
#[test]
fn layouts_of_links() {
    let home = Home::new();
    let name = home.layout(&good());
    let layout = home.path().join("layout");
    let shows = |what: &str| {
        let outcome = home.run(&["cat", &name, "f"]);
        assert_eq!(outcome.stdout.as_bytes(), GOOD, "{what}: {outcome:?}");
        home.run(&["mount", &name, "M"]).succeeded();
        assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD, "{what}");
        home.run(&["umount", "M"]).succeeded();
        home.run(&["cache", "clear"]).succeeded();
    };
    link_away(&layout.join("blobs/sha256"), &home.path().join("built"));
    shows("blobs");
    let disk = home.path().join("disk");
    write_oci_layout(&disk, &[(None, &good())]).unwrap();
    fs::remove_dir_all(layout.join("blobs")).unwrap();
    symlink("../disk/blobs", layout.join("blobs")).unwrap();
    shows("the folder");
    home.is_quiet();
}

/// A folder of a stranger opens no other file of the user: where a blob should be is a link to what is none.
#[test]
fn links_to_what_is_no_blob() {
    let home = Home::new();
    let name = home.layout(&good());
    let layer = good().layer_digests().remove(0);
    let blob = home.path().join("layout/blobs/sha256").join(layer.strip_prefix("sha256:").unwrap());
    let secret = home.path().join("secret");
    fs::write(&secret, "of the user").unwrap();
    fs::remove_file(&blob).unwrap();
    symlink(&secret, &blob).unwrap();
    for words in [&["cat", &name, "f"][..], &["mount", &name, "M"]] {
        home.run(words).failed(
            1,
            &[text(&blob), "a link to a file that may not be read, or is not this blob"],
        );
    }
    let manifests = home.path().join("layout/blobs/sha256");
    fs::remove_dir_all(&manifests).unwrap();
    symlink(home.path(), &manifests).unwrap();
    home.run(&["ls", &name]).failed(1, &[text(&home.path().join("layout"))]);
    home.is_quiet();
}

/// What may not be read is told so, and not that there is no image.
#[test]
fn layouts_of_others() {
    let home = home_of_nobody();
    let name = home.layout(&good());
    for entry in fs::read_dir(home.path().join("layout/blobs/sha256")).unwrap() {
        fs::set_permissions(entry.unwrap().path(), Permissions::from_mode(0o600)).unwrap();
    }
    home.run(&["ls", &name]).failed(1, &["blobs/sha256", "Permission denied"]);
}

/// `hosts.toml` names certificates anywhere, and what lies beside it may be a link.
#[test]
fn certificates_elsewhere() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &good());
    let made = rcgen::generate_simple_self_signed(vec!["r".to_owned()]).unwrap();
    let pki = home.path().join("pki");
    fs::create_dir(&pki).unwrap();
    fs::write(pki.join("ca.pem"), made.cert.pem()).unwrap();
    fs::write(pki.join("me.key"), made.signing_key.serialize_pem()).unwrap();
    let place = format!("home/.config/containerd/certs.d/127.0.0.1_{}_", registry.addr().port());
    let place = home.path().join(place);
    fs::create_dir_all(&place).unwrap();
    symlink(pki.join("ca.pem"), place.join("linked.pem")).unwrap();
    for (ca, certificate) in
        [(text(&pki.join("ca.pem")), text(&pki.join("ca.pem"))), ("linked.pem", "linked.pem")]
    {
        let toml = format!(
            "server = 'http://{}'\nca = '{ca}'\nclient = [['{certificate}', '{}']]\n",
            registry.addr(),
            pki.join("me.key").display()
        );
        fs::write(place.join("hosts.toml"), toml).unwrap();
        let outcome = home.run(&["cat", &name_in(&registry), "f"]);
        assert_eq!(outcome.stdout.as_bytes(), GOOD, "{ca}: {outcome:?}");
        home.run(&["mount", "--cache-size=0", &name_in(&registry), "M"]).succeeded();
        assert_eq!(fs::read(home.mount_point().join("f")).unwrap(), GOOD, "{ca}");
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
}

/// The files that names are looked up with are replaced by others when a machine changes its network. What serves a mount
/// may read those that were there; another process takes over, and readers notice nothing.
#[test]
fn names_are_looked_up_as_they_are_by_now() {
    let (home, registry) = (Home::new(), Registry::start());
    let files = tar(&[Entry::file("f", GOOD), Entry::file("g", GOOD)]);
    registry.add_image("r", "t", &image_of(&files, Compression::Gzip));
    let script = format!(
        r#"
        # Mount namespaces are copies; those of other tests' mounts would keep these alive.
        umount --all --lazy --types fuse.ocifs,erofs || true
        cp -a /etc "$H/etc"; mount --bind "$H/etc" /etc
        replace() {{ (cat /etc/hosts; echo "127.0.0.1 $1") > /etc/hosts.new; mv /etc/hosts.new /etc/hosts; }}
        worker() {{ $O status --json "$M" | sed -n 's/.*"worker": *\([0-9]*\).*/\1/p'; }}
        replace registry.example
        $O mount --plain-http --cache-size=0 registry.example:{port}/r:t "$M"
        before=$(worker)
        cat "$M/f"
        replace other.example
        tries=0
        while [ "$(worker)" = "$before" ] || [ -z "$(worker)" ]; do
            sleep 0.2; tries=$((tries + 1)); [ $tries -lt 300 ] || {{ echo "the worker stays"; exit 1; }}
        done
        cat "$M/g"
        $O umount "$M"
        "#,
        port = registry.addr().port(),
    );
    let mut command = home.command("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", &script]);
    command
        .env("H", home.path())
        .env("M", home.mount_point())
        .env("O", env!("CARGO_BIN_EXE_ocifs"));
    let outcome = run(&mut command);
    let twice = [GOOD, GOOD].concat();
    assert_eq!((outcome.code, outcome.stdout.as_bytes()), (0, &twice[..]), "{outcome:?}");
    home.is_quiet();
}
