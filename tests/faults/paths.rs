//! Images that are named by their path alone, or come through a pipe: what is there is recognised, and what
//! is no image is named for what it is.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Stdio;
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::fixture::{GOOD, Verdict, good, has_words, image_of};
use crate::shell::{Home, Outcome, run, text};
use crate::support::image::{
    Compression, compress, write_dir, write_docker_archive_legacy, write_docker_archive_modern,
    write_oci_archive, write_oci_layout,
};
use crate::support::tarball::{Entry, tar};

/// A folder to stand in, with an image in every form.
fn forms() -> Home {
    let home = Home::new();
    let at = |name: &str| home.path().join(name);
    let layer = tar(&[Entry::file("f", GOOD)]);
    let plain = image_of(&layer, Compression::None);
    write_oci_layout(&at("layout"), &[(Some("v1"), &good())]).unwrap();
    write_oci_layout(&at("app:1.0"), &[(Some("v1"), &good())]).unwrap();
    write_oci_archive(&at("oci.tar"), &[(Some("v1"), &good())]).unwrap();
    write_docker_archive_legacy(&at("saved.tar"), &plain, &[layer], &["app:v1"]).unwrap();
    write_docker_archive_modern(&at("modern.tar"), &good(), &["app:v1"]).unwrap();
    fs::create_dir(at("dir")).unwrap();
    write_dir(&at("dir"), &good()).unwrap();
    for (packed, compression) in
        [("packed.tar.gz", Compression::Gzip), ("packed", Compression::Zstd)]
    {
        let bytes = compress(&fs::read(at("saved.tar")).unwrap(), compression);
        fs::write(at(packed), bytes).unwrap();
    }
    for (archive, folder) in [("saved.tar", "unpacked"), ("modern.tar", "unpacked-modern")] {
        ::tar::Archive::new(File::open(at(archive)).unwrap()).unpack(at(folder)).unwrap();
    }
    fs::copy(at("saved.tar"), at("ubuntu:22.04.tar")).unwrap();
    for folder in ["layout", "unpacked", "dir"] {
        let mut packed = ::tar::Builder::new(File::create(at(&format!("{folder}.tar"))).unwrap());
        packed.append_dir_all(folder, at(folder)).unwrap();
        packed.finish().unwrap();
    }
    home
}

/// Runs `ocifs cat NAME f` in the folder of a home.
fn cat(home: &Home, name: &str) -> Outcome {
    run(home.ocifs(&["cat", name, "f"]).current_dir(home.path()))
}

fn shows(outcome: &Outcome) -> Result<(), String> {
    match (outcome.code, outcome.stdout.as_bytes()) {
        (0, GOOD) => Ok(()),
        _ => Err(format!("{outcome:?}")),
    }
}

#[test]
fn an_image_is_what_lies_at_a_path() {
    let home = forms();
    let mut verdict = Verdict::default();
    let here = home.path().display().to_string();
    for name in [
        "./layout",
        "./layout/",
        "./layout:v1",
        "layout",
        "layout/",
        "layout:v1",
        &format!("{here}/layout"),
        &format!("{here}/layout/:v1"),
        "./oci.tar",
        "oci.tar:v1",
        "./saved.tar",
        "saved.tar:app:v1",
        "saved.tar:docker.io/library/app:v1",
        "./modern.tar:app:v1",
        "./dir",
        "dir",
        "./packed.tar.gz",
        "packed.tar.gz:app:v1",
        "packed",
        "./unpacked",
        "unpacked:app:v1",
        "docker-archive:unpacked",
        "./unpacked-modern",
        "unpacked-modern:app:v1",
        "ubuntu:22.04.tar",
        "./ubuntu:22.04.tar",
        "./ubuntu:22.04.tar:app:v1",
        "docker-archive:ubuntu:22.04.tar",
        "docker-archive:ubuntu:22.04.tar:app:v1",
        "app:1.0",
        "oci:app:1.0",
        "oci:app:1.0:v1",
        &format!("oci:app:1.0@{}", good().manifest_digest),
        &format!("./layout@{}", good().manifest_digest),
        "layout:@0",
        // Packed with the folder around it.
        "layout.tar:v1",
        "oci-archive:layout.tar",
        "unpacked.tar:app:v1",
        "docker-archive:unpacked.tar",
        "dir.tar",
    ] {
        verdict.row(name, shows(&cat(&home, name)));
    }
    let tilde = home.ocifs(&["cat", "~/saved.tar", "f"]).env("HOME", home.path()).output().unwrap();
    assert_eq!(tilde.stdout, GOOD, "{tilde:?}");
    let tilde = home.ocifs(&["cat", "oci:~/layout:v1", "f"]).env("HOME", home.path()).output();
    assert_eq!(tilde.unwrap().stdout, GOOD);
    verdict.end();
}

/// A word may be the name of an image of a registry and of something in the folder. An image that lies there is
/// meant, and no registry is asked; anything else that lies there is not.
#[test]
fn words_that_could_be_both() {
    let home = forms();
    fs::create_dir(home.path().join("project")).unwrap();
    fs::write(home.path().join("notes"), "text").unwrap();
    fs::write(home.path().join("notes.tar"), "text").unwrap();
    let ls = |name: &str| {
        let mut command = home.ocifs(&["ls", "--offline", name]);
        run(command.current_dir(home.path()))
    };
    let outcome = ls("layout");
    assert!(
        outcome.code == 0 && outcome.stderr.contains("`layout` is read as the path `./layout`"),
        "{outcome:?}"
    );
    let outcome = ls("layout:none");
    assert!(
        outcome.stderr.contains("`layout:none` is read as the path `./layout:none`"),
        "{outcome:?}"
    );
    // One that is called like an archive is no surprise.
    assert_eq!(ls("saved.tar").stderr, "");
    // Files of the same names that belong to programs of another kind.
    for (folder, name, text) in [
        ("web", "manifest.json", r#"{"name":"app","icons":[]}"#),
        ("list", "manifest.json", r#"["a"]"#),
        ("apk", "repositories", "https://dl-cdn.alpinelinux.org/alpine/v3.20/main\n"),
        ("pages", "index.json", "{}"),
        ("store", "repositories/x", ""),
    ] {
        let path = home.path().join(folder).join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    for name in ["project", "notes", "web", "list", "apk", "pages", "store"] {
        ls(name).failed(1, &[&format!("docker.io/library/{name}:latest is not in the cache")]);
    }
    ls("notes.tar").failed(1, &["notes.tar", "not a tar archive"]);
    ls("gone.tar").failed(1, &["no file or folder `gone.tar`", "`docker.io/library/gone.tar`"]);
    ls("org/gone.tar.gz").failed(1, &["`docker.io/org/gone.tar.gz`"]);
    // Folders are called as hosts may be.
    for folder in ["Downloads", "v1.2"] {
        fs::create_dir(home.path().join(folder)).unwrap();
        fs::copy(home.path().join("saved.tar"), home.path().join(folder).join("app.tar")).unwrap();
        ls(&format!("{folder}/app.tar")).succeeded();
    }
    symlink("../layout", home.path().join("Downloads/layout")).unwrap();
    let outcome = ls("Downloads/layout");
    let words = "`Downloads/layout` is read as the path `./Downloads/layout`";
    assert!(outcome.code == 0 && outcome.stderr.contains(words), "{outcome:?}");
    ls("Downloads/gone.tar").failed(1, &["no file or folder `Downloads/gone.tar`"]);
    ls("v1.2/gone.tar").failed(1, &["v1.2/gone.tar:latest is not in the cache"]);
    // In full it is always the registry's.
    ls("docker.io/library/layout")
        .failed(1, &["docker.io/library/layout:latest is not in the cache"]);
    ls("docker://layout").failed(1, &["docker.io/library/layout:latest is not in the cache"]);
}

#[test]
fn what_is_no_image_is_named() {
    let home = forms();
    let at = |name: &str| home.path().join(name);
    let write = |name: &str, bytes: &[u8]| fs::write(at(name), bytes).unwrap();
    write("text", b"text");
    write("empty", b"");
    write("nulls", &[0; 10240]);
    write("program", b"\x7fELF\x02\x01\x01\0");
    write("script", b"#!/bin/sh\n");
    write("zip", b"PK\x03\x04");
    write("squashfs", b"hsqs\0\0\0\0");
    write("json", b"{}");
    write("xz", b"\xfd7zXZ\0\0\0");
    write("bzip2", b"BZh91AY&SY");
    write("text.gz", &compress(&[b'x'; 2000], Compression::Gzip));
    write("export.tar", &tar(&[Entry::dir("etc"), Entry::file("etc/passwd", "")]));
    write("other.tar", &tar(&[Entry::file("README", "")]));
    write("cut.tar", &fs::read(at("saved.tar")).unwrap()[..700]);
    let mut sif = vec![0; 512];
    sif[32..41].copy_from_slice(b"SIF_MAGIC");
    write("sif", &sif);
    for folder in
        ["void", "rootfs/etc", "podman/overlay-images", "ctd/io.containerd.content.v1.content"]
    {
        fs::create_dir_all(at(folder)).unwrap();
    }
    fs::create_dir_all(at("registry/docker/registry/v2")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let mut verdict = Verdict::default();
    for (name, words) in [
        ("./text", &["text", "not a tar archive"][..]),
        ("docker-archive:text", &["not a tar archive"]),
        ("./empty", &["it is empty"]),
        ("./nulls", &["it is zeros"]),
        ("./program", &["a program"]),
        ("./script", &["a script"]),
        ("./zip", &["a zip archive"]),
        ("./squashfs", &["squashfs"]),
        ("./sif", &["Apptainer"]),
        ("./json", &["JSON", "name the folder"]),
        ("./xz", &["compressed with xz", "`xz -dc FILE |"]),
        ("docker-archive:bzip2", &["compressed with bzip2", "`bzip2 -dc FILE |"]),
        ("./text.gz", &["text.gz"]),
        ("./export.tar", &["`docker export` writes it", "`docker save` writes images"]),
        ("./other.tar", &["no image", "`manifest.json`"]),
        ("./cut.tar", &["cut.tar"]),
        ("./void", &["no image", "`oci-layout`"]),
        ("./rootfs", &["directory of files"]),
        ("./podman", &["containers-storage:[overlay@", "podman]IMAGE"]),
        ("./ctd", &["containerd:", "ctd//IMAGE"]),
        ("./registry", &["registry-storage:", "registry//NAME:TAG"]),
        (".", &["in it are", "app:1.0"]),
        ("./socket", &["socket"]),
        ("./pipe", &["nothing came"]),
        ("docker-archive:pipe", &["nothing came"]),
        ("/dev/null", &["nothing came"]),
        ("/dev/zero", &["it is zeros"]),
        ("./gone", &["no file or folder `./gone`"]),
        ("oci:gone", &["no file or folder `gone`"]),
        ("dir:gone", &["no file or folder `gone`"]),
        ("docker-archive:u:1.tar", &["no file or folder `u:1.tar` or `u`"]),
        ("oci:saved.tar", &["no folder", "`./saved.tar`"]),
        ("dir:saved.tar", &["no folder", "`./saved.tar`"]),
        ("oci-archive:layout", &["a folder", "write `oci:`"]),
        ("oci-archive:saved.tar", &["`docker save`", "write `docker-archive:`"]),
        ("oci:unpacked", &["`docker save`", "write `docker-archive:`"]),
        ("oci:dir", &["write `dir:`"]),
        ("dir:layout", &["an OCI image layout", "write `oci:`"]),
        ("dir:unpacked", &["write `docker-archive:`"]),
        ("./saved.tar:/etc/passwd", &["after a space, `./saved.tar /etc/passwd`"]),
        ("oci:layout:/etc", &["after a space, `oci:layout /etc`"]),
        ("./saved.tar:other", &["no image `other`", "app:v1"]),
    ] {
        let outcome = cat(&home, name);
        let told = match outcome.code {
            1 => has_words(&outcome.stderr, words),
            _ => Err(format!("{outcome:?}")),
        };
        verdict.row(name, told);
    }
    verdict.end();
}

/// Runs `ocifs` with these bytes coming through a pipe, in pieces.
fn piped(home: &Home, words: &[&str], bytes: &[u8]) -> Outcome {
    let mut child = home
        .ocifs(words)
        .current_dir(home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = thread::spawn(move || {
        // A process that refuses does not read to the end.
        bytes.chunks(700).try_for_each(|piece| input.write_all(piece))
    });
    let output = child.wait_with_output().unwrap();
    let _ = writer.join().unwrap();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn archives_on_standard_input() {
    let home = forms();
    let bytes = |name: &str| fs::read(home.path().join(name)).unwrap();
    let mut verdict = Verdict::default();
    for (archive, name) in [
        ("saved.tar", "-"),
        ("modern.tar", "-"),
        ("oci.tar", "-"),
        ("packed.tar.gz", "-"),
        ("packed", "docker-archive:-"),
        ("saved.tar", "docker-archive:/dev/stdin"),
        ("saved.tar", "docker-archive:-:app:v1"),
        ("oci.tar", "oci-archive:/dev/fd/0"),
        ("oci.tar", "oci-archive:-:v1"),
    ] {
        let outcome = piped(&home, &["cat", name, "f"], &bytes(archive));
        verdict.row(&format!("{archive} {name}"), shows(&outcome));
    }
    for (what, sent, words) in [
        ("nothing", Vec::new(), &["nothing came"][..]),
        ("text", b"Error: no such image\n".repeat(100), &["what comes is no image", "tar"]),
        ("a little text", b"Error".to_vec(), &["what comes is no image"]),
        ("half", bytes("saved.tar")[..1000].to_vec(), &["standard input"]),
        ("no image", tar(&[Entry::file("etc/passwd", "")]), &["`docker export`"]),
        ("zeros without end", vec![0; 8 << 20], &["zeros"]),
    ] {
        let outcome = piped(&home, &["cat", "-", "f"], &sent);
        let told = match outcome.code {
            1 => has_words(&outcome.stderr, words),
            _ => Err(format!("{outcome:?}")),
        };
        verdict.row(what, told);
    }
    verdict.end();
    // A file that is put there is read in place, and from where it stands.
    for skipped in [0, 512] {
        let mut long = vec![7; skipped];
        long.extend(bytes("saved.tar"));
        fs::write(home.path().join("long"), long).unwrap();
        let mut file = File::open(home.path().join("long")).unwrap();
        std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(skipped as u64)).unwrap();
        let outcome = run(home.ocifs(&["cat", "-", "f"]).stdin(file));
        assert_eq!(outcome.stdout.as_bytes(), GOOD, "{outcome:?}");
    }
    // Nothing of it is left.
    let left = crate::fixture::files_below(&home.path().join("cache/v1/tmp"));
    assert!(left.is_empty(), "{left:?}");
}

/// The process that serves a mount reads the archive, not the one that the user waits for.
#[test]
fn a_mount_of_what_comes_through_a_pipe() {
    let home = forms();
    let place = home.mount_point();
    let archive = fs::read(home.path().join("packed.tar.gz")).unwrap();
    piped(&home, &["mount", "-", text(&place)], &archive).succeeded();
    assert_eq!(fs::read(place.join("f")).unwrap(), GOOD);
    home.run(&["umount", text(&place)]).succeeded();
    piped(&home, &["mount", "-", text(&place)], b"text").failed(1, &["no image"]);
    // Process substitution.
    let script = format!("exec \"$0\" mount <(cat packed) {}", place.display());
    let program = env!("CARGO_BIN_EXE_ocifs");
    let mut bash = home.command("bash");
    run(bash.args(["-c", &script, program]).current_dir(home.path())).succeeded();
    assert_eq!(fs::read(place.join("f")).unwrap(), GOOD);
    home.run(&["umount", text(&place)]).succeeded();
    home.is_quiet();
}

#[test]
fn swapped_words_of_mount() {
    let home = forms();
    fs::create_dir(home.path().join("mnt")).unwrap();
    let mount =
        |words: [&str; 2]| run(home.ocifs(&["mount", words[0], words[1]]).current_dir(home.path()));
    for words in [["mnt", "debian:12"], ["./mnt", "debian"], ["mnt", "ghcr.io/org/app"]] {
        let right = format!("`ocifs mount {} {}`", words[1], words[0]);
        mount(words).failed(2, &["the image comes first", &right]);
    }
    // Not swapped: a directory that is not there yet, an image that lies in one.
    mount(["./layout", "none"]).failed(1, &["mkdir"]);
    mount(["layout:v1", "none"]).failed(1, &["mkdir"]);
    home.is_quiet();
}
