//! `ocifs doctor`: what is fine is said to be, what would make a mount fail fails, and nothing is left
//! behind.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, SystemTime};

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
    let says = |text: &str| text.contains(&format!("`short` means {name}, as {}", conf.display()));
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

/// A home that asks through these proxies.
fn proxied(variables: &[&str]) -> Home {
    let home = Home::new();
    let words = [&["env"], variables].concat();
    home.with_prefix(&words)
}

#[test]
fn proxies_are_told() {
    let registry = registry();
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listening.local_addr().unwrap();
    let https = format!("https_proxy=http://me:hidden@{proxy}");
    let name = name_in(&registry);
    // This machine is never asked through one.
    let (code, rows) = doctor(&proxied(&[&https, "HTTP_PROXY=http://127.0.0.1:1"]), &[&name]);
    let (verdict_of, text) = verdict(&rows, "proxy");
    assert!(code == 0 && verdict_of == "ok" && text.contains("this machine"), "{rows:?}");
    drop(listening);
    // One that does not answer is what fails, and is called by its name without the password.
    let (code, rows) = doctor(&proxied(&[&https]), &["registry.example/r:t"]);
    let (verdict_of, text) = verdict(&rows, "proxy");
    let way = format!("https://registry.example is reached through http://{proxy} (HTTPS_PROXY)");
    assert!(code == 1 && verdict_of == "fails" && text.contains(&way), "{rows:?}");
    assert!(text.contains("does not answer") && text.contains("NO_PROXY"), "{rows:?}");
    let (verdict_of, text) = verdict(&rows, "image");
    let asked = format!("asked through the proxy http://{proxy}");
    assert!(verdict_of == "fails" && text.contains(&asked), "{rows:?}");
    assert!(!format!("{rows:?}").contains("hidden"), "{rows:?}");
    // Nothing is asked without being told to.
    let (_, rows) = doctor(&proxied(&[&https]), &["--offline", "registry.example/r:t"]);
    assert!(!rows.iter().any(|(name, ..)| name == "proxy" || name == "clock"), "{rows:?}");
    let (code, rows) = doctor(&proxied(&[&https]), &[]);
    assert!(code == 0 && !rows.iter().any(|(name, ..)| name == "proxy"), "{rows:?}");
}

#[test]
fn proxies_that_answer_and_exceptions_are_told() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listening.local_addr().unwrap();
    // It hangs up on everybody.
    thread::spawn(move || listening.incoming().for_each(drop));
    let all = format!("ALL_PROXY=socks5h://{proxy}");
    let (code, rows) = doctor(&proxied(&[&all]), &["--timeout", "2", "registry.invalid/r:t"]);
    let (verdict_of, text) = verdict(&rows, "proxy");
    let way = format!("through socks5h://{proxy} (ALL_PROXY)");
    assert!(code == 1 && verdict_of == "ok" && text.contains(&way), "{rows:?}");
    let text = verdict(&rows, "clock").1;
    assert!(text.contains("not compared"), "{rows:?}");
    let (_, rows) = doctor(&proxied(&[&all, "NO_PROXY=a,.invalid"]), &["registry.invalid/r:t"]);
    let (verdict_of, text) = verdict(&rows, "proxy");
    assert!(verdict_of == "ok" && text.contains("directly: NO_PROXY has `.invalid`"), "{rows:?}");
}

#[test]
fn clocks_are_compared() {
    let (registry, home) = (registry(), Home::new());
    let name = name_in(&registry);
    let image = image();
    let at = |offset: i64, age: u64| {
        let now = SystemTime::now();
        let then = match offset {
            0.. => now + Duration::from_secs(offset.unsigned_abs()),
            _ => now - Duration::from_secs(offset.unsigned_abs()),
        };
        let headers = vec![
            ("Date".to_owned(), httpdate::fmt_http_date(then)),
            ("Age".to_owned(), age.to_string()),
            ("Content-Type".to_owned(), image.manifest_media_type.clone()),
        ];
        registry.clear_faults();
        let answer = Fault::Status(200, headers, image.manifest.clone());
        registry.fault(("GET", "/manifests/", Times::Always), answer);
        doctor(&home, &[&name])
    };
    let hour = 3600;
    for (offset, age, expected, words) in [
        (0, 0, "ok", "the same time"),
        (-hour, 3600, "ok", "the same time"),
        (60, 0, "ok", "the same time"),
        (hour, 0, "note", "behind"),
        (-hour, 0, "note", "ahead of"),
    ] {
        let (code, rows) = at(offset, age);
        let (verdict_of, text) = verdict(&rows, "clock");
        let told = verdict_of == expected && text.contains(words);
        assert!(code == 0 && told && text.contains("127.0.0.1"), "{offset}: {rows:?}");
    }
    registry.clear_faults();
    let (code, rows) = doctor(&home, &[&name]);
    assert!(code == 0 && verdict(&rows, "clock").1.contains("not compared"), "{rows:?}");
    // A registry that refuses has told the time all the same.
    let then = SystemTime::now() + Duration::from_secs(7200);
    let headers = vec![("Date".to_owned(), httpdate::fmt_http_date(then))];
    registry.fault(("", "", Times::Always), Fault::Status(403, headers, Vec::new()));
    let (code, rows) = doctor(&home, &[&name]);
    let (verdict_of, text) = verdict(&rows, "clock");
    assert!(code == 1 && verdict_of == "note" && text.contains("2 hours behind"), "{rows:?}");
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

/// Without an image too: a file of settings that is wrong fails every command.
#[test]
fn settings_are_checked() {
    let home = Home::new();
    let file = home.path().join("home/.config/ocifs/config.toml");
    let checked = |words: &[&str]| {
        let (code, rows) = doctor(&home, words);
        let settings: Vec<_> = rows.iter().filter(|row| row.0 == "settings").cloned().collect();
        assert_eq!(settings.len(), 1, "{rows:?}");
        let [(_, verdict, text)] = &settings[..] else { panic!("{rows:?}") };
        assert!(text.contains(file.to_str().unwrap()) || text.starts_with("settings: "), "{text}");
        (code, verdict.clone())
    };
    assert_eq!(checked(&[]), (0, "ok".to_owned()));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    for (text, code, verdict) in [
        ("proof = \"full\"", 0, "ok"),
        ("proff = \"full\"", 1, "fails"),
        ("proof = \"most\"", 1, "fails"),
        ("[registry", 1, "fails"),
    ] {
        fs::write(&file, text).unwrap();
        assert_eq!(checked(&[]), (code, verdict.to_owned()), "{text}");
        assert_eq!(checked(&["./missing.tar"]), (1, verdict.to_owned()), "{text}");
    }
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
