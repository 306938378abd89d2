//! `ocifs explore` on a real terminal: keys, sizes, a registry that dies, and a terminal that is as it was afterwards.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::fixture::noise;
use crate::screen::Screen;
use crate::shell::Home;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};

const EVIL: &str = "\x1b[2J\x1b]0;x\x07\u{9b}31m\u{202e}gpj";

fn image() -> Built {
    let base = [
        Entry::dir("etc"),
        Entry::file("etc/hosts", "127.0.0.1 localhost\n"),
        Entry::file("etc/secret", "key"),
        Entry::file("noise", noise(300_000, 5)),
        Entry::file(format!("evil{EVIL}"), format!("content {EVIL}\n")),
    ];
    let top = [Entry::file("etc/.wh.secret", ""), Entry::file("motd", "welcome\n")];
    let steps = json!([
        { "created": "2024-01-01T00:00:00Z", "created_by": "ADD rootfs /" },
        { "created": "2024-01-02T00:00:00Z", "created_by": format!("RUN rm secret {EVIL}") },
    ]);
    let builder = ImageBuilder::new().layer(&tar(&base), Compression::Gzip);
    builder.layer(&tar(&top), Compression::Gzip).config("history", steps).build()
}

fn explore(home: &Home, words: &[&str]) -> Command {
    home.ocifs(&[&["explore"], words].concat())
}

#[test]
fn keys_and_sizes() {
    let home = Home::new();
    let name = home.layout(&image());
    let mut screen = Screen::start(&mut explore(&home, &[&name]), (80, 24));
    screen.shows("layers 0 to 1");
    screen.shows("ADD rootfs /");
    screen.shows("wasted");
    screen.press("*\x1b[B\x1b[B");
    screen.shows("etc/secret");
    screen.shows("  1 key");
    screen.press("/motd\r");
    screen.shows("  1 welcome");
    for size in [(40, 12), (300, 50), (79, 23)] {
        screen.resize(size);
        screen.shows("motd");
        let lines = screen.lines();
        assert_eq!(lines.len(), size.1);
    }
    screen.press("y");
    screen.shows("copied the path: /motd");
    // base64 of /motd
    assert_eq!(screen.copied(), ["L21vdGQ="]);
    screen.press("/evil\r");
    screen.shows("content ?[2J");
    screen.press("?");
    screen.shows("Moving");
    screen.press("\x1bq");
    assert_eq!(screen.ends(), 0);
}

/// Names as `ls -R` lists them, and in their order.
#[test]
fn names_are_those_of_ls() {
    let home = Home::new();
    let name = home.layout(&image());
    let listed = home.run(&["ls", "-R", "--json", &name]).stdout;
    let path = |line: &str| -> String {
        let row: serde_json::Value = serde_json::from_str(line).unwrap();
        row["path"].as_str().unwrap().to_owned()
    };
    let last = |path: String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let expected: Vec<String> = listed.lines().map(path).map(last).collect();
    let mut screen = Screen::start(&mut explore(&home, &[&name]), (300, 50));
    screen.shows("layers 0 to 1");
    screen.press("*");
    screen.shows("\u{25be}");
    let rows = screen.lines().into_iter().filter(|line| line.contains("rw"));
    // What the layer removed is no name of the image.
    let rows = rows.filter_map(|line| {
        let row = line.split('\u{2502}').nth(1)?.to_owned();
        (!row.starts_with('-')).then_some(row)
    });
    let name =
        |row: String| row.split_whitespace().last().unwrap().trim_end_matches('/').to_owned();
    let shown: Vec<String> = rows.map(name).collect();
    let plain = |name: &String| name.chars().all(|c| c.is_ascii_graphic());
    assert_eq!(shown.len(), expected.len(), "{shown:?} {expected:?}");
    for (shown, expected) in shown.iter().zip(&expected) {
        assert!(
            shown == expected || !plain(expected) && shown.starts_with("evil?"),
            "{shown} {expected:?}"
        );
    }
    screen.press("q");
    assert_eq!(screen.ends(), 0);
}

#[test]
fn a_registry_dies_in_the_middle() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &image());
    let name = format!("{}/r:t", registry.addr());
    home.run(&["ls", &name]).succeeded();
    // Names are known; the bytes are not.
    fs::remove_dir_all(home.path().join("cache/v1/spans")).unwrap();
    registry.clear_log();
    let mut screen = Screen::start(&mut explore(&home, &["--timeout", "2", &name]), (80, 24));
    screen.shows("layers 0 to 1");
    screen.press("*");
    screen.shows("etc/");
    let is_blob = |path: &str| path.contains("/blobs/");
    let blobs = || registry.requests().iter().filter(|r| is_blob(&r.path)).count();
    assert_eq!(blobs(), 0, "nothing is fetched that is not in sight");
    screen.press("/motd\r");
    screen.shows("  1 welcome");
    assert!(blobs() > 0);
    drop(registry);
    screen.press("/hosts\r");
    screen.shows("refused");
    screen.press("/etc\ri");
    screen.shows("path         /etc");
    screen.press("[");
    screen.shows("layers 0 to 0");
    screen.press("q");
    assert_eq!(screen.ends(), 0);
}

/// Whatever ends it, and whenever.
#[test]
fn the_terminal_is_given_back() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &image());
    let gate = Gate::default();
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Hold(gate.clone()));
    let stalled = format!("{}/r:t", registry.addr());
    let name = home.layout(&image());
    for (image, shown) in [(&stalled, "opening"), (&name, "layers 0 to 1")] {
        for (keys, signal, code) in [
            ("q", None, 0),
            ("\x03", None, 0),
            ("", Some(Signal::TERM), 128 + 15),
            ("", Some(Signal::HUP), 128 + 1),
            ("", Some(Signal::INT), 128 + 2),
        ] {
            let mut screen = Screen::start(&mut explore(&home, &[image]), (80, 24));
            screen.shows(shown);
            screen.press(keys);
            signal.into_iter().for_each(|signal| screen.signal(signal));
            assert_eq!(screen.ends(), code, "{image} {keys:?} {signal:?}");
        }
    }
    gate.open();
}

/// While it waits for a registry it says so, and an error of opening is told as by every other verb.
#[test]
fn opening_is_shown_and_its_errors_are_told() {
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &image());
    registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(1000));
    let name = format!("{}/r:t", registry.addr());
    let mut screen = Screen::start(&mut explore(&home, &[&name]), (80, 24));
    screen.shows("ADD rootfs /");
    screen.shows("first use here");
    screen.shows(" of 294 KiB, ");
    screen.press("q");
    assert_eq!(screen.ends(), 0);
    let missing = format!("{}/r:none", registry.addr());
    let screen = Screen::start(&mut explore(&home, &[&missing]), (80, 24));
    screen.shows("error: ");
    screen.shows("none");
    assert_eq!(screen.ends(), 1);
}

/// Layers are shown as they come, the others are told to be missing, and directories open meanwhile.
#[test]
fn what_is_known_is_shown_while_layers_come() {
    let base = [
        Entry::dir("etc"),
        Entry::file("etc/hosts", "127.0.0.1 localhost\n"),
        Entry::file("noise", noise(300_000, 5)),
    ];
    let top = [Entry::file("etc/new", "new\n"), Entry::file("motd", "welcome\n")];
    let builder = ImageBuilder::new().layer(&tar(&base), Compression::Gzip);
    let built = builder.layer(&tar(&top), Compression::Gzip).build();
    let (home, registry) = (Home::new(), Registry::start());
    registry.add_image("r", "t", &built);
    let gate = Gate::default();
    let path = format!("/blobs/{}", built.layer_digests()[0]);
    registry.fault(("GET", &path, Times::Always), Fault::Hold(gate.clone()));
    let name = format!("{}/r:t", registry.addr());
    let mut screen = Screen::start(&mut explore(&home, &[&name]), (80, 24));
    screen.shows("layers 0 to 1, 1 layer missing");
    screen.shows("motd");
    screen.shows("first use here");
    assert!(!screen.lines().join("\n").contains("noise"));
    screen.press("g ");
    screen.shows("new");
    screen.press("C");
    screen.shows("looking");
    screen.press("C");
    screen.shows("motd");
    // What needs all of the image is done later.
    screen.press("/hosts\r");
    screen.shows("once the layers are read");
    gate.open();
    screen.shows("match 1 of 1");
    screen.shows("  1 127.0.0.1 localhost");
    assert!(!screen.lines().join("\n").contains("missing"));
    screen.press("q");
    assert_eq!(screen.ends(), 0);
}

/// What an image adds to its base comes first, however many layers the base has.
#[test]
fn the_topmost_layer_comes_first() {
    let (home, registry) = (Home::new(), Registry::start());
    let mut builder = ImageBuilder::new();
    for number in 0..6 {
        let base = [Entry::file(format!("base{number}"), noise(600_000, number))];
        builder = builder.layer(&tar(&base), Compression::Gzip);
    }
    let top = [Entry::file("top", noise(300_000, 9))];
    let built = builder.layer(&tar(&top), Compression::Gzip).build();
    registry.add_image("r", "t", &built);
    let gate = Gate::default();
    for digest in &built.layer_digests()[..6] {
        registry
            .fault(("GET", &format!("/blobs/{digest}"), Times::Always), Fault::Hold(gate.clone()));
    }
    let name = format!("{}/r:t", registry.addr());
    let mut screen = Screen::start(&mut explore(&home, &[&name]), (80, 24));
    screen.shows("layers 0 to 6, 6 layers missing");
    screen.shows("top");
    gate.open();
    screen.shows("base0");
    screen.press("q");
    assert_eq!(screen.ends(), 0);
}

/// Files are saved below the directory where it was started, by another process, and the images are read by one that may
/// write nowhere.
#[test]
fn it_is_contained_and_saves_all_the_same() {
    let home = Home::new();
    let name = home.layout(&image());
    let (folder, log) = (home.path().join("home"), home.path().join("log"));
    fs::create_dir(folder.join("sub")).unwrap();
    std::os::unix::fs::symlink(home.path(), folder.join("link")).unwrap();
    let mut command = explore(&home, &["-vv", "--log-file", log.to_str().unwrap(), &name]);
    let mut screen = Screen::start(command.current_dir(&folder), (120, 24));
    screen.shows("layers 0 to 1");
    let told = fs::read_to_string(&log).unwrap();
    assert!(told.contains("contained: Landlock yes, seccomp yes"), "{told}");
    screen.press("/motd\r");
    screen.shows("  1 welcome");
    screen.press("e");
    screen.shows("save as: motd");
    screen.press("\r");
    screen.shows("saved motd");
    screen.press("e\x15sub/of the day\r");
    screen.shows("saved sub/of the day");
    for saved in ["motd", "sub/of the day"] {
        assert_eq!(fs::read(folder.join(saved)).unwrap(), b"welcome\n", "{saved}");
    }
    for (to, why) in [
        ("motd", "File exists"),
        ("../motd", "or below it"),
        ("/tmp/motd", "or below it"),
        (".profile", "or below it"),
        ("sub/.x", "or below it"),
        ("link/motd", "symbolic links"),
    ] {
        screen.press(&format!("e\x15{to}\r"));
        screen.shows(why);
        // Any key takes the message away.
        screen.press("r");
        screen.hides(why);
    }
    let left: Vec<_> =
        fs::read_dir(home.path()).unwrap().map(|row| row.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name == "motd"), "{left:?}");
    assert!(!folder.join(".profile").exists());
    screen.press("q");
    assert_eq!(screen.ends(), 0);
}

#[test]
fn without_a_terminal_it_names_what_tells_the_same() {
    let home = Home::new();
    let name = home.layout(&image());
    home.run(&["explore", &name]).failed(1, &["needs a terminal", "`ocifs history`", "`ocifs ls`"]);
}
