//! `ocifs doctor`: what is fine is said to be, what would make a mount fail fails, and nothing is left
//! behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::fixture::{image_of, name_in, noise};
use crate::shell::{Home, run};
use crate::support::image::{Built, Compression};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};
use crate::users::home_of_nobody;

/// An image with a layer that is worth asking for a part of.
fn image() -> Built {
    image_of(&tar(&[Entry::file("f", noise(50_000, 1))]), Compression::Gzip)
}

fn registry() -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", &image());
    registry
}

/// The exit code, and the verdict and text of each check.
fn doctor(home: &Home, words: &[&str]) -> (i32, Vec<(String, String, String)>) {
    let outcome = home.run(&[&["doctor", "--json"], words].concat());
    let rows: Vec<Value> = serde_json::from_str(&outcome.stdout).unwrap();
    let field = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    let rows =
        rows.iter().map(|row| (field(row, "check"), field(row, "verdict"), field(row, "text")));
    (outcome.code, rows.collect())
}

#[track_caller]
fn verdict<'a>(rows: &'a [(String, String, String)], check: &str) -> (&'a str, &'a str) {
    let (_, verdict, text) = rows.iter().find(|(name, ..)| name == check).unwrap();
    (verdict, text)
}

#[test]
fn a_healthy_machine() {
    let (registry, home) = (registry(), Home::new());
    let name = name_in(&registry);
    let (code, rows) = doctor(&home, &[&name]);
    assert!(code == 0 && rows.iter().all(|(_, verdict, _)| verdict == "ok"), "{rows:?}");
    assert!(verdict(&rows, "image").1.contains(&image().manifest_digest), "{rows:?}");
    home.is_quiet();
    // Nothing that it fetched is kept, and of the layer only a few bytes were asked for.
    let asked = registry.requests();
    assert!(asked.iter().all(|request| request.method == "GET"), "{asked:?}");
    assert_eq!(home.run(&["ls", "--offline", &name]).code, 1);
    // The same in words.
    let outcome = home.run(&["doctor", &name]);
    assert!(outcome.code == 0 && outcome.stdout.lines().all(|line| line.starts_with("ok ")));
    assert_eq!(outcome.stdout.lines().count(), rows.len());
}

#[test]
fn credentials_are_told_but_not_shown() {
    let (registry, home) = (registry(), Home::new());
    let name = name_in(&registry);
    registry.require_basic("user", "secret");
    let (code, rows) = doctor(&home, &[&name]);
    assert!(code == 1 && verdict(&rows, "image").1.contains("docker login"), "{rows:?}");
    assert!(verdict(&rows, "credentials").1.contains("none for"), "{rows:?}");
    let file = home.path().join("auth.json");
    let row = r#"{"username":"user","password":"secret"}"#;
    fs::write(&file, format!(r#"{{"auths":{{"{}":{row}}}}}"#, registry.addr())).unwrap();
    let (code, rows) = doctor(&home, &["--authfile", file.to_str().unwrap(), &name]);
    assert!(code == 0 && verdict(&rows, "credentials").1.contains("auth.json"), "{rows:?}");
    assert!(!format!("{rows:?}").contains("secret"), "{rows:?}");
}

#[test]
fn aliases_of_short_names_are_followed_and_told() {
    let (registry, home) = (registry(), Home::new());
    let folder = home.path().join("home/.config/containers");
    fs::create_dir_all(&folder).unwrap();
    let conf = folder.join("registries.conf");
    let name = name_in(&registry);
    let write =
        |target: &str| fs::write(&conf, format!("[aliases]\nshort = '{target}'\n")).unwrap();
    write(name.trim_end_matches(":t"));
    let (code, rows) = doctor(&home, &["short:t"]);
    assert_eq!(code, 0, "{rows:?}");
    let (verdict_of, text) = verdict(&rows, "alias");
    let tells = text.contains(&name) && text.contains(conf.to_str().unwrap());
    assert!(verdict_of == "ok" && tells, "{rows:?}");
    // It is told with -v, and the cache knows the image by its real name.
    let outcome = home.run(&["-v", "ls", "short:t"]);
    let says = |text: &str| text.contains(&format!("means {name}, as {}", conf.display()));
    assert!(outcome.code == 0 && outcome.stdout == "f\n" && says(&outcome.stderr), "{outcome:?}");
    home.run(&["ls", "short:t"]).succeeded();
    for offline in ["short:t", &name] {
        home.run(&["ls", "--offline", offline]).succeeded();
    }
    home.run(&["ls", "--offline", "docker.io/library/short:t"]).failed(1, &["docker.io/library"]);
    home.run(&["ls", "short:t", "none"]).failed(1, &[&name]);
    home.run(&["ls", "--offline", "docker://short:t"]).failed(1, &["docker.io/library"]);
    // Several images in one mount are called as they were written.
    let point = home.mount_point();
    home.run(&["mount", "short:t", "x=short:t", point.to_str().unwrap()]).succeeded();
    assert_eq!(fs::read(point.join("short-t/f")).unwrap(), noise(50_000, 1));
    home.run(&["umount", point.to_str().unwrap()]).succeeded();
    // One that is wrong is told; those who say which registry they mean do not need it.
    write("no-registry");
    for words in [&["ls", "short:t"][..], &["ls", "--offline", "short:t"]] {
        home.run(words).failed(1, &["registries.conf", "`short`", "lacks the registry"]);
    }
    let (code, rows) = doctor(&home, &["short:t"]);
    assert!(code == 1 && verdict(&rows, "settings").0 == "fails", "{rows:?}");
    home.run(&["ls", "--offline", &name]).succeeded();
    home.is_quiet();
}

#[test]
fn registries_that_make_mounts_fail_or_slow() {
    let (registry, home) = (registry(), Home::new());
    let name = name_in(&registry);
    registry.fault(("GET", "/blobs/", Times::Always), Fault::IgnoreRange);
    let (code, rows) = doctor(&home, &[&name]);
    assert!(code == 0 && verdict(&rows, "ranges").0 == "note", "{rows:?}");
    registry.clear_faults();
    let (code, rows) = doctor(&home, &[&name.replace("r:t", "r:none")]);
    let (verdict, text) = verdict(&rows, "image");
    assert!(code == 1 && verdict == "fails" && text.contains("not found"), "{rows:?}");
}

#[test]
fn a_machine_without_fuse() {
    let home = Home::new().through(&[], env!("CARGO_BIN_EXE_ocifs").into());
    run(home.command("umount").arg("/dev/fuse")).succeeded();
    run(home.command("mount").args(["--bind", "/dev/null", "/dev/fuse"])).succeeded();
    let (code, rows) = doctor(&home, &[]);
    assert!(code == 1 && verdict(&rows, "fuse").0 == "fails", "{rows:?}");
}

#[test]
fn an_ordinary_user() {
    let home = home_of_nobody();
    let (code, rows) = doctor(&home, &[]);
    assert!(code == 0 && verdict(&rows, "fuse").1.contains("fusermount3"), "{rows:?}");
    assert_eq!(verdict(&rows, "cache").0, "ok", "{rows:?}");
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o555)).unwrap();
    fs::remove_dir_all(home.path().join("cache")).unwrap();
    let (code, rows) = doctor(&home, &[]);
    assert!(code == 0 && verdict(&rows, "cache").0 == "note", "{rows:?}");
    home.is_quiet();
}
