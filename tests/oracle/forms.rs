//! One image in every form that it is stored in: the mounts must not differ by anything.
//!
//! Each form is written twice, by the writers of `tests/support` and by the real skopeo. The
//! mount from the registry, which `files`, `layers` and `storage` hold against umoci, is the
//! measure. `ocifs export` and `ocifs ls` are held against the mount by GNU tar and find.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{Registry, program, run};
use crate::snapshot::Snapshot;
use crate::support::image::{
    Built, Compression, ImageBuilder, push, write_dir, write_docker_archive_legacy,
    write_docker_archive_modern, write_docker_archive_skopeo, write_oci_archive, write_oci_layout,
};
use crate::support::tarball::{Entry, tar};

/// Something of every kind, in three layers.
pub fn tars() -> Vec<Vec<u8>> {
    let text: String = (0..200_000).map(|n| format!("{n:x}\n")).collect();
    let lower = [
        Entry::dir("./").mode(0o711).owner(1, 2).mtime(3, 4),
        Entry::dir("d").mode(0o1777).mtime(-5, 250_000_000),
        Entry::file("d/text", &text).mode(0o640).owner(4_000_000_000, 3_000_000).mtime(-7, 0),
        Entry::file("d/gone", "x"),
        Entry::file(b"d/latin1-\xe9", "x").xattr("user.binary", b"\0=\n\xff"),
        Entry::symlink("link", "d/text").mtime(10_000_000_000, 1),
        Entry::symlink("long.link", "t".repeat(300)),
        Entry::fifo("fifo").mode(0o600),
        Entry::char_device("null", 1, 3),
        Entry::block_device("disk", 259, 70_000),
        Entry::file("setuid", "#!").mode(0o4755).xattr("trusted.key", "value"),
    ];
    let middle = [
        Entry::file("d/.wh.gone", ""),
        Entry::file("d/empty", ""),
        Entry::hardlink("hard", "d/text"),
        Entry::hardlink("d/hard.too", "hard"),
        Entry::hardlink("hard.link", "link"),
        Entry::file(format!("{}/{}", "n".repeat(200), "m".repeat(200)), "deep"),
    ];
    let upper = [Entry::file("d/new", &text[77..500_000]), Entry::dir("empty")];
    vec![tar(&lower), tar(&middle), tar(&upper)]
}

/// The image, also in a registry, and a folder for its other forms.
struct Fixture {
    tars: Vec<Vec<u8>>,
    image: Built,
    registry: Arc<Registry>,
    folder: TempDir,
    home: Home,
}

impl Fixture {
    /// `name` keeps the tests' repositories apart.
    fn new(name: &str) -> Fixture {
        let tars = tars();
        let image = gzip_image(&tars);
        let registry = Registry::shared();
        push(&image, registry.address(), name, "v1").unwrap();
        Fixture { tars, image, registry, folder: tempfile::tempdir().unwrap(), home: Home::new() }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn reference(&self, name: &str) -> String {
        format!("{}/{name}:v1", self.registry.address())
    }

    fn mounted(&self, reference: &str) -> Snapshot {
        Snapshot::of(self.home.mount(reference).path())
    }

    fn skopeo_copy(&self, from: &str, to: &str) {
        let arguments = ["copy", "--quiet", "--src-tls-verify=false", from, to];
        run(program("skopeo", "skopeo").args(arguments));
    }
}

#[test]
fn forms_of_our_writers() {
    let fixture = Fixture::new("forms_of_our_writers");
    let expected = fixture.mounted(&fixture.reference("forms_of_our_writers"));
    let (image, tars) = (&fixture.image, &fixture.tars);
    let path = |name: &str| fixture.path(name);
    write_oci_layout(Path::new(&path("oci")), &[(Some("v1"), image)]).unwrap();
    write_oci_archive(Path::new(&path("oci.tar")), &[(Some("v1"), image)]).unwrap();
    let tags = ["name:v1"];
    write_docker_archive_legacy(Path::new(&path("legacy")), image, tars, &tags).unwrap();
    write_docker_archive_skopeo(Path::new(&path("skopeo")), image, tars, &tags).unwrap();
    write_docker_archive_modern(Path::new(&path("modern")), image, &tags).unwrap();
    fs::create_dir(path("dir")).unwrap();
    write_dir(Path::new(&path("dir")), image).unwrap();
    for reference in [
        format!("oci:{}:v1", path("oci")),
        format!("oci:{}", path("oci")),
        format!("oci-archive:{}:v1", path("oci.tar")),
        format!("docker-archive:{}:name:v1", path("legacy")),
        format!("docker-archive:{}", path("legacy")),
        format!("docker-archive:{}:name:v1", path("skopeo")),
        format!("docker-archive:{}", path("modern")),
        format!("dir:{}", path("dir")),
    ] {
        Snapshot::assert_same(&expected, &fixture.mounted(&reference), &reference);
    }
}

#[test]
fn forms_of_skopeo() {
    let fixture = Fixture::new("forms_of_skopeo");
    let reference = fixture.reference("forms_of_skopeo");
    let expected = fixture.mounted(&reference);
    for form in [
        format!("oci:{}:v1", fixture.path("oci")),
        format!("oci-archive:{}:v1", fixture.path("oci.tar")),
        format!("docker-archive:{}:name:v1", fixture.path("docker.tar")),
        format!("dir:{}", fixture.path("dir")),
    ] {
        fixture.skopeo_copy(&format!("docker://{reference}"), &form);
        // The archive has `docker.io/library/name:v1`, which is what the short name means.
        Snapshot::assert_same(&expected, &fixture.mounted(&form), &form);
    }
}

/// The same layout and the same `docker save`, packed and linked as people and build tools do it, named by the
/// path alone.
#[test]
fn forms_of_tar_and_bsdtar() {
    let fixture = Fixture::new("forms_of_tar_and_bsdtar");
    let reference = fixture.reference("forms_of_tar_and_bsdtar");
    let expected = fixture.mounted(&reference);
    let at = |name: &str| fixture.folder.path().join(name);
    // Uncompressed layers, so that there are holes to leave out.
    let plain = fixture.tars.iter().fold(ImageBuilder::new(), |image, tar| {
        image.layer(&[&tar[..], &[0; 1 << 20]].concat(), Compression::None)
    });
    let plain = plain.build();
    write_oci_layout(&at("layout"), &[(Some("v1"), &plain)]).unwrap();
    let blobs = at("layout/blobs/sha256");
    let layer = plain.layer_digests()[0][7..].to_owned();
    // A blob under two names, a blob behind two links, `blobs` itself behind one.
    fs::hard_link(blobs.join(&layer), at("layout/copy")).unwrap();
    let last = plain.layer_digests()[2][7..].to_owned();
    fs::rename(blobs.join(&last), at("layout/real")).unwrap();
    symlink("real", at("layout/middle")).unwrap();
    symlink("../../middle", blobs.join(&last)).unwrap();
    fs::rename(at("layout/blobs"), at("layout/store")).unwrap();
    symlink("store", at("layout/blobs")).unwrap();
    for entry in crate::stores::find(&at("layout"), "") {
        run(program("fallocate", "util-linux").arg("--dig-holes").arg(entry));
    }
    let pack = |number: usize, command: &mut Command| {
        let archive = at(&format!("{number}.tar"));
        run(command.arg("-f").arg(&archive).arg("-C").arg(at("layout")).arg("."));
        archive
    };
    let gnu = || program("tar", "tar");
    let mut archives = Vec::new();
    for options in [
        &["-c"][..],
        &["-c", "--sparse", "--format=gnu"],
        &["-c", "--sparse", "--format=posix", "--sparse-version=0.0"],
        &["-c", "--sparse", "--format=posix", "--sparse-version=0.1"],
        &["-c", "--sparse", "--format=posix"],
        &["-c", "--format=ustar"],
        &["-c", "--format=posix", "--xattrs", "--acls"],
        &["-c", "--sort=name", "-V", "label"],
        &["-cz"],
        &["-c", "--zstd"],
    ] {
        archives.push(pack(archives.len(), gnu().args(options)));
    }
    for options in
        [&["-c"][..], &["-c", "--format", "pax"], &["-c", "--format", "gnutar"], &["-cz"]]
    {
        archives.push(pack(archives.len(), program("bsdtar", "libarchive-tools").args(options)));
    }
    // Given twice, a file is a link to itself.
    let twice = at("twice.tar");
    let blob = format!("store/sha256/{layer}");
    let members = ["oci-layout", "index.json", "blobs", "store", "middle", "real", "copy", &blob];
    run(gnu().arg("-cf").arg(&twice).arg("-C").arg(at("layout")).args(members));
    archives.push(twice);
    archives.push(at("layout"));
    for archive in archives {
        let name = archive.display().to_string();
        Snapshot::assert_same(&expected, &fixture.mounted(&name), &name);
        Snapshot::assert_same(&expected, &fixture.mounted(&format!("{name}:v1")), &name);
    }
}

/// What skopeo and podman write into a pipe.
#[test]
fn forms_that_come_through_a_pipe() {
    let fixture = Fixture::new("forms_that_come_through_a_pipe");
    let reference = fixture.reference("forms_that_come_through_a_pipe");
    let expected = fixture.mounted(&reference);
    let archive = fixture.path("docker.tar");
    let form = format!("docker-archive:{archive}:name:v1");
    fixture.skopeo_copy(&format!("docker://{reference}"), &form);
    let place = fixture.folder.path().join("m");
    fs::create_dir(&place).unwrap();
    for (from, name) in [("cat", "-"), ("gzip -c", "docker-archive:-"), ("zstd -c", "/dev/stdin")] {
        let script = format!("{from} \"$1\" | \"$2\" mount {name} \"$3\"");
        let program = fixture.home.ocifs().get_program().to_owned();
        let mut shell = Command::new("sh");
        for (key, value) in fixture.home.ocifs().get_envs() {
            match value {
                Some(value) => shell.env(key, value),
                None => shell.env_remove(key),
            };
        }
        run(shell.args(["-c", &script, "sh", &archive]).arg(program).arg(&place));
        let shown = Snapshot::of(&place);
        run(fixture.home.ocifs().arg("umount").arg(&place));
        Snapshot::assert_same(&expected, &shown, from);
    }
}

/// A layout that umoci has changed: another name for an image, and an image of its own.
#[test]
fn forms_of_umoci() {
    let fixture = Fixture::new("forms_of_umoci");
    let reference = fixture.reference("forms_of_umoci");
    let expected = fixture.mounted(&reference);
    let layout = fixture.path("oci");
    fixture.skopeo_copy(&format!("docker://{reference}"), &format!("oci:{layout}:v1"));
    let umoci = |arguments: &[&str]| run(program("umoci", "umoci").args(arguments));
    umoci(&["tag", "--image", &format!("{layout}:v1"), "v2"]);
    umoci(&["config", "--image", &format!("{layout}:v2"), "--tag", "v3", "--author", "x"]);
    for tag in ["v1", "v2", "v3"] {
        let form = format!("oci:{layout}:{tag}");
        Snapshot::assert_same(&expected, &fixture.mounted(&form), &form);
    }
}

/// `docker-archive:FILE:NAME:TAG` means a tag of `manifest.json`, to skopeo also where the archive
/// has an OCI layout as well, whose own names may be others.
#[test]
fn docker_archive_with_a_layout_has_the_tags_of_its_manifest() {
    let fixture = Fixture::new("docker_archive_tags");
    let expected = fixture.mounted(&fixture.reference("docker_archive_tags"));
    let archive = fixture.path("modern");
    write_docker_archive_modern(Path::new(&archive), &fixture.image, &["name:v1"]).unwrap();
    let reference = format!("docker-archive:{archive}:name:v1");
    fixture.skopeo_copy(&reference, &format!("dir:{}", fixture.path("copied")));
    Snapshot::assert_same(&expected, &fixture.mounted(&reference), &reference);
}

#[test]
fn export_unpacked_by_tar_equals_the_mount() {
    let fixture = Fixture::new("export");
    let reference = fixture.reference("export");
    let expected = fixture.mounted(&reference);
    let unpacked = fixture.path("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let mut export =
        fixture.home.ocifs().args(["export", &reference]).stdout(Stdio::piped()).spawn().unwrap();
    let unpacking = run(Command::new("tar")
        .args(["-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-C", &unpacked])
        // Times before the epoch and after today are what this image is about.
        .arg("--warning=no-timestamp")
        .stdin(export.stdout.take().unwrap()));
    assert!(export.wait().unwrap().success());
    assert_eq!(String::from_utf8_lossy(&unpacking.stderr), "", "tar has nothing to warn of");
    Snapshot::assert_same(&expected, &Snapshot::of(Path::new(&unpacked)), "export");
}

#[test]
fn ls_names_what_find_finds() {
    let fixture = Fixture::new("ls");
    let reference = fixture.reference("ls");
    let listed = run(fixture.home.ocifs().args(["ls", "-R", &reference])).stdout;
    let mounted = fixture.home.mount(&reference);
    let find = ["-mindepth", "1", "-printf", "%P\\n"];
    let found = run(Command::new("find").arg(mounted.path()).args(find)).stdout;
    let names = |output: &[u8]| {
        let mut names: Vec<String> = output
            .split(|byte| *byte == b'\n')
            .map(|name| name.escape_ascii().to_string())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(&listed), names(&found));
    let paths = Snapshot::of(mounted.path());
    assert_eq!(
        names(&listed).len(),
        paths.paths().count() + 1,
        "all lines and the end of the last"
    );
}
