//! A real registry that wants a password, and the places where the real tools leave it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::{Registry, program, run};
use crate::support::image::write_oci_layout;
use crate::support::tarball::{Entry, tar};

const PASSWORD: &str = "right-pa55word";

/// The line for `me` and [`PASSWORD`]: `htpasswd -nbB`, at the lowest cost.
const HTPASSWD: &str = "me:$2b$05$abcdefghijklmnopqrstuuhBHC/0haI4Po1OOrKnaBA/oAuCa3ykC\n";

/// A registry with an image that nobody gets without the password, and its name.
fn registry_with_image(scratch: &Path) -> (Registry, String) {
    let registry = Registry::with_passwords(HTPASSWD);
    let layout = scratch.join("layout");
    let image = gzip_image(&[tar(&[Entry::file("f", "content\n")])]);
    write_oci_layout(&layout, &[(Some("t"), &image)]).unwrap();
    let reference = format!("{}/team/app:t", registry.address());
    run(program("skopeo", "skopeo")
        .args(["copy", "--quiet", "--dest-tls-verify=false", "--dest-creds"])
        .arg(format!("me:{PASSWORD}"))
        .arg(format!("oci:{}:t", layout.display()))
        .arg(format!("docker://{reference}")));
    (registry, reference)
}

/// `ocifs cat` with a home of its own, in which the command may be changed first.
fn cat(reference: &str, change: impl FnOnce(&mut Command)) -> Output {
    let home = Home::new();
    let mut command = home.ocifs();
    command.args(["cat", reference, "f"]);
    change(&mut command);
    command.output().unwrap()
}

#[track_caller]
fn reads(reference: &str, change: impl FnOnce(&mut Command)) {
    let output = cat(reference, change);
    assert!(output.status.success() && output.stdout == b"content\n", "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[track_caller]
fn is_refused(reference: &str, words: &[&str], change: impl FnOnce(&mut Command)) {
    let output = cat(reference, change);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    for word in ["access denied (401)", "docker login", "podman login"].iter().chain(words) {
        assert!(stderr.contains(word), "`{word}` is not in {stderr}");
    }
}

#[test]
fn passwords_of_the_real_tools() {
    let scratch = tempfile::tempdir().unwrap();
    let (registry, reference) = registry_with_image(scratch.path());
    let path = |name: &str| scratch.path().join(name);
    is_refused(&reference, &["needs credentials", "config.json (not there)"], |_| {});

    // As skopeo and podman write it.
    let file = path("auth.json");
    run(program("skopeo", "skopeo")
        .args(["login", "--tls-verify=false", "-u", "me", "-p", PASSWORD, "--authfile"])
        .arg(&file)
        .arg(registry.address()));
    let text = fs::read_to_string(&file).unwrap();
    reads(&reference, |command| {
        command.arg("--authfile").arg(&file);
    });
    reads(&reference, |command| {
        command.env("REGISTRY_AUTH_FILE", &file);
    });
    reads(&reference, |command| {
        command.env("DOCKER_AUTH_CONFIG", &text);
    });
    for (variable, place) in [
        ("XDG_RUNTIME_DIR", "containers/auth.json"),
        ("XDG_CONFIG_HOME", "containers/auth.json"),
        ("DOCKER_CONFIG", "config.json"),
        ("HOME", ".config/containers/auth.json"),
        ("HOME", ".docker/config.json"),
    ] {
        let folder = path(&format!("{variable}-{}", place.replace('/', "-")));
        let place = folder.join(place);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, &text).unwrap();
        reads(&reference, |command| {
            command.env(variable, &folder);
        });
    }

    // On the command line, and in the variable for it.
    reads(&reference, |command| {
        command.args(["--creds", &format!("me:{PASSWORD}")]);
    });
    reads(&reference, |command| {
        command.env("OCIFS_CREDS", format!("me:{PASSWORD}"));
    });
    is_refused(&reference, &["from --creds are not accepted"], |command| {
        command.args(["--creds", "me:wrong"]).env("REGISTRY_AUTH_FILE", &file);
    });

    // From a helper in $PATH.
    let helper = path("docker-credential-test");
    let script = format!("#!/bin/sh\necho '{{\"Username\":\"me\",\"Secret\":\"{PASSWORD}\"}}'\n");
    fs::write(&helper, script).unwrap();
    fs::set_permissions(&helper, fs::Permissions::from_mode(0o755)).unwrap();
    let with_helper = |command: &mut Command, name: &str| {
        let config = format!(r#"{{"credHelpers":{{"{}":"{name}"}}}}"#, registry.address());
        command.env("DOCKER_AUTH_CONFIG", config).env("PATH", scratch.path());
    };
    reads(&reference, |command| with_helper(command, "test"));
    let output = cat(&reference, |command| with_helper(command, "missing"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    for words in
        ["warning: ", "docker-credential-missing", "no such program", "access denied (401)"]
    {
        assert!(stderr.contains(words), "`{words}` is not in {stderr}");
    }
}

/// What a mount that was given a password shows of it, and of its tag.
#[test]
fn a_mount_does_not_show_its_password() {
    let scratch = tempfile::tempdir().unwrap();
    let (registry, reference) = registry_with_image(scratch.path());
    let home = Home::new();
    let options = ["--creds", &format!("me:{PASSWORD}"), "--cache-size", "0"];
    let mounted = home.mount_with(&options, &reference);
    assert_eq!(fs::read(mounted.path().join("f")).unwrap(), b"content\n");
    let status = mounted.status();
    assert_eq!(
        (&status["tag"]["moved"], &status["tag"]["digest"]),
        (&false.into(), &status["digest"])
    );
    // The process that goes on running does not show the password.
    let words = fs::read(format!("/proc/{}/cmdline", status["pid"])).unwrap();
    let words = String::from_utf8_lossy(&words);
    assert!(words.contains("mount") && !words.contains(PASSWORD), "{words}");
    drop(registry);
    assert!(mounted.status()["tag"].is_null(), "nobody says what the tag means now");
}
