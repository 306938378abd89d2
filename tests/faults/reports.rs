//! `--html`: reports of images whose makers would like to write them themselves.
//!
//! (That a browser runs nothing of them and shows them well is `scripts/check-report`.)

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use crate::shell::{Home, text};
use crate::support::image::{Built, Compression, ImageBuilder, write_oci_layout};
use crate::support::tarball::{Entry, tar};

/// Ends elements and attributes, runs, loads, commands a terminal, and turns the direction of text.
const EVIL: &str =
    "\"'><script>evil()</script><img src=//evil.example onerror=evil()>&lt;\u{1b}[2J\u{202e}";

/// The same as a name.
fn evil_name() -> String {
    EVIL.replace('/', "|")
}

/// Versions of an image with such texts wherever there are texts.
fn image(version: &str) -> Built {
    let deep = format!("{}file", "deep/".repeat(700));
    let base = tar(&[
        Entry::file(format!("gone-{}", evil_name()), vec![b'g'; 5000]),
        Entry::file(evil_name(), vec![b'x'; 20_000]),
        Entry::symlink(format!("link-{}", evil_name()), format!("{EVIL}{version}")),
        Entry::file(b"bytes-\xff\x9b", "x"),
        Entry::file(deep, version),
    ]);
    let above = tar(&[
        Entry::file(format!(".wh.gone-{}", evil_name()), ""),
        Entry::file(
            "lines.txt",
            format!("same\n{EVIL}\n{version}\n{}{version}\n", "<".repeat(5000)),
        ),
        Entry::file(format!("{version}/{}", evil_name()), vec![b'v'; 3000]),
    ]);
    let history = json!([
        { "created": EVIL, "created_by": EVIL, "comment": EVIL },
        { "created": "2026-11-02T00:00:00Z", "created_by": "x".repeat(100_000) },
        { "created": EVIL, "created_by": EVIL, "empty_layer": true },
    ]);
    let config = json!({
        "Labels": { format!("{EVIL}{version}"): EVIL.repeat(50_000) },
        "Env": [format!("{EVIL}={version}")],
        "Entrypoint": [EVIL],
        "User": EVIL,
    });
    let image = ImageBuilder::new().config("history", history).config("config", config);
    image.layer(&base, Compression::Gzip).layer(&above, Compression::Gzip).build()
}

struct Setup {
    home: Home,
    names: [String; 2],
}

impl Setup {
    fn new(images: [&Built; 2]) -> Setup {
        let home = Home::new();
        let layout = home.path().join("layout");
        write_oci_layout(&layout, &[(Some("1"), images[0]), (Some("2"), images[1])]).unwrap();
        let names = ["1", "2"].map(|tag| format!("oci:{}:{tag}", layout.display()));
        Setup { home, names }
    }

    fn path(&self) -> PathBuf {
        self.home.path().join("report.html")
    }

    /// The report of a verb, which ends with this code and says nothing.
    #[track_caller]
    fn report(&self, words: &[&str], code: i32) -> String {
        let path = self.path();
        let outcome = self.home.run(&[words, &["--html", text(&path)]].concat());
        assert_eq!((outcome.code, &outcome.stdout[..]), (code, ""), "{outcome:?}");
        fs::read_to_string(&path).unwrap()
    }

    fn all(&self) -> [String; 3] {
        let [old, new] = [&self.names[0][..], &self.names[1]];
        [
            self.report(&["inspect", new], 0),
            self.report(&["du", new], 0),
            self.report(&["diff", old, new], 1),
        ]
    }
}

/// A report without its style and script, each of which it has once.
#[track_caller]
fn without_ours(report: &str) -> String {
    let mut left = report.to_owned();
    for (begin, end) in [("<style>", "</style>"), ("<script>", "</script>")] {
        assert_eq!((left.matches(begin).count(), left.matches(end).count()), (1, 1), "{begin}");
        let (from, to) = (left.find(begin).unwrap(), left.find(end).unwrap());
        left.replace_range(from..to + end.len(), "");
    }
    left
}

#[test]
fn nothing_that_an_image_says_is_markup() {
    let setup = Setup::new([&image("1"), &image("2")]);
    for report in setup.all() {
        let left = without_ours(&report);
        // Every tag and attribute is one of those that the program writes.
        let known = [
            "!doctype", "html", "head", "meta", "title", "body", "a", "header", "h1", "h2", "p",
            "code", "bdi", "dl", "div", "dt", "dd", "nav", "ul", "li", "main", "section", "svg",
            "g", "rect", "text", "tspan", "table", "caption", "thead", "tbody", "tr", "th", "td",
            "span", "details", "summary", "pre", "footer",
        ];
        for tag in left.split('<').skip(1) {
            let name = tag.trim_start_matches('/').split([' ', '>']).next().unwrap();
            assert!(known.contains(&name), "<{tag}");
            let inside = tag.split('>').next().unwrap();
            assert_eq!(inside.matches('"').count() % 2, 0, "<{tag}");
            let outside_quotes: String = inside.split('"').step_by(2).collect();
            for attribute in [" on", " src", " style", " srcset", " srcdoc", " action"] {
                assert!(!outside_quotes.contains(attribute), "<{tag}");
            }
        }
        assert!(left.contains("&lt;script&gt;evil()"), "it is shown");
        assert!(!report.contains(['\u{1b}', '\u{202e}', '\u{9b}']));
        let links = left.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        assert!(links.clone().count() > 2 && links.clone().all(|link| link.starts_with('#')));
        let policy = "content=\"default-src 'none'; style-src 'sha256-";
        assert!(left.find(policy).unwrap() < left.find("<title>").unwrap());
        assert!(report.len() < 400_000, "{}", report.len());
    }
}

/// Sizes that a reader would compare with those of the command line.
#[test]
fn reports_say_what_the_commands_say() {
    let setup = Setup::new([&image("1"), &image("2")]);
    let [inspect, du, diff] = setup.all();
    for report in [&inspect, &du] {
        assert!(report.contains("2 layers") || report.contains("<dt>layers</dt><dd>2</dd>"));
    }
    // As the command line has it.
    let rows = setup.home.run(&["du", "-d1", "--json", &setup.names[1]]).stdout;
    let rows = rows.lines().map(|row| serde_json::from_str::<serde_json::Value>(row).unwrap());
    let of_two = rows.into_iter().find(|row| row["path"] == "/2").unwrap()["allocated"].clone();
    let row = format!("<code><bdi>/2/</bdi></code></th><td class=\"n\" data-v=\"{of_two}\">");
    assert!(du.contains(&row), "{row} in {du}");
    // `gone` is deleted by the layer above it.
    assert!(du.contains("<dt>wasted</dt><dd>4.88 KiB (15.1 % of content)</dd>"), "{du}");
    assert!(
        inspect.contains("(98000 more characters)"),
        "a long instruction says what it leaves out"
    );
    for word in [
        "1 renamed, 3 changed",
        "1 added",
        "1 removed",
        "<span class=\"del\">-1</span>",
        "<span class=\"add\">+2</span>",
    ] {
        assert!(diff.contains(word), "{word} in {diff}");
    }
    assert!(diff.contains(&format!("{}…</span>", "&lt;".repeat(399))), "long lines are cut");
}

#[test]
fn a_report_is_whole_or_not_there() {
    let setup = Setup::new([&image("1"), &image("2")]);
    let (home, new) = (&setup.home, &setup.names[1][..]);
    let path = setup.path();
    setup.report(&["inspect", new], 0);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
    // What fails leaves what was there, and nothing else.
    fs::write(&path, "before").unwrap();
    let missing = format!("oci:{}/none", home.path().display());
    for (words, code) in
        [(&["inspect", &missing][..], 1), (&["du", &missing], 1), (&["diff", &missing, new], 2)]
    {
        home.run(&[words, &["--html", text(&path)]].concat()).failed(code, &["none"]);
    }
    assert_eq!(fs::read(&path).unwrap(), b"before");
    let names = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(names.into_iter().all(|name| !name.to_str().unwrap().starts_with(".ocifs-")));
    // The place is tried first: no layer is streamed for a report that can't be written.
    let nowhere = home.path().join("none/report.html");
    home.run(&["du", new, "--html", text(&nowhere)])
        .failed(1, &["none/report.html", "No such file"]);
    home.run(&["du", new, "--html", text(&home.path())]).failed(1, &["s a directory"]);
    // A link stays.
    let link = home.path().join("link.html");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    home.run(&["inspect", new, "--html", text(&link)]).succeeded();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert!(fs::read_to_string(&path).unwrap().starts_with("<!doctype html>"));
    // And stdout.
    let printed = home.run(&["inspect", new, "--html", "-"]);
    printed.succeeded();
    assert_eq!(printed.stdout, fs::read_to_string(&path).unwrap());
}

#[test]
fn a_report_and_checks_go_together() {
    let setup = Setup::new([&image("1"), &image("2")]);
    let path = setup.path();
    let words = ["du", "--check=max-wasted=1%,max-layers=9", &setup.names[1], "--html"];
    let outcome = setup.home.run(&[&words[..], &[text(&path)]].concat());
    assert_eq!(outcome.code, 1, "{outcome:?}");
    assert!(outcome.stdout.starts_with("fails\tmax-wasted=1%\t"), "{outcome:?}");
    let report = fs::read_to_string(&path).unwrap();
    for word in ["max-wasted=1%", "class=\"v-fails\">fails<", "class=\"v-ok\">ok<"] {
        assert!(report.contains(word), "{word}");
    }
    let words = [&words[..], &["-"]].concat();
    setup.home.run(&words).failed(2, &["both print on stdout"]);
    let words = ["du", "--json", &setup.names[1], "--html", text(&path)];
    setup.home.run(&words).failed(2, &["what became of --check"]);
}

/// Two images that are the same, and one without layers.
#[test]
fn reports_of_nothing() {
    let empty = ImageBuilder::new().build();
    let setup = Setup::new([&empty, &empty]);
    let [old, new] = [&setup.names[0][..], &setup.names[1]];
    let diff = setup.report(&["diff", old, new], 0);
    assert!(diff.contains("0 changes") && diff.contains("The configs say the same"), "{diff}");
    let du = setup.report(&["du", new], 0);
    assert!(du.contains("Nothing is wasted"), "{du}");
    without_ours(&setup.report(&["inspect", new], 0));
}

/// A report of many files is no larger than one of some.
#[test]
fn reports_are_bounded() {
    let many = |version: usize| {
        let file = |at: usize| {
            let path = format!("d{}/e{}/f{at}", at % 40, at % 900);
            Entry::file(path, vec![b'x'; 10 + version * (at % 3)])
        };
        let files: Vec<Entry> = (0..20_000).map(file).collect();
        let other =
            |at: usize| Entry::file(format!("all-{version}/{at}"), format!("{version} {at}\n"));
        let files = files.into_iter().chain((0..5000).map(other)).collect::<Vec<_>>();
        ImageBuilder::new().layer(&tar(&files), Compression::Gzip).build()
    };
    let setup = Setup::new([&many(1), &many(2)]);
    let [_, du, diff] = setup.all();
    assert!(du.len() < 400_000, "{}", du.len());
    assert!(diff.len() < 3_000_000, "{}", diff.len());
    assert!(diff.contains("changes are left out here: ocifs diff --all lists them"));
    assert!(diff.contains("(5000 files, "), "a directory that came whole is a row");

    // Paths of 4,000 bytes, one version of which is deleted.
    let deep = |version: usize, is_deleted: bool| {
        let below = format!("{}/", "<".repeat(200)).repeat(20);
        let file = |at: usize| Entry::file(format!("{below}{at}"), format!("{version} {at}"));
        let files: Vec<Entry> = (0..2500).map(file).collect();
        let whiteout = [Entry::file(format!(".wh.{}", "<".repeat(200)), "")];
        let above = if is_deleted { &whiteout[..] } else { &[] };
        let image = ImageBuilder::new().layer(&tar(&files), Compression::Gzip);
        image.layer(&tar(above), Compression::Gzip).build()
    };
    let setup = Setup::new([&deep(1, false), &deep(2, false)]);
    let [_, du, diff] = setup.all();
    assert!(du.len() < 200_000, "{}", du.len());
    assert!(diff.len() < 4_000_000, "{}", diff.len());
    assert!(diff.contains("changes are left out here"));
    let deleted = Setup::new([&deep(1, true), &deep(2, true)]);
    let du = deleted.report(&["du", &deleted.names[0]], 0);
    assert!(du.len() < 2_000_000, "{}", du.len());
    assert!(
        du.contains("rows are left out here") && du.contains("Other paths waste"),
        "{}",
        du.len()
    );
}

/// Of very many changes, each directory has some, and those that are left out are counted where they are.
#[test]
fn very_many_changes_are_shared_out() {
    let many = |version: usize| {
        let file = |at: usize| Entry::file(format!("d{}/f{at}", at % 50), vec![b'x'; version]);
        let files: Vec<Entry> = (0..100_000).map(file).collect();
        let few = (0..3).map(|at| Entry::file(format!("few/{at}"), vec![b'x'; version]));
        let files: Vec<Entry> = files.into_iter().chain(few).collect();
        ImageBuilder::new().layer(&tar(&files), Compression::Gzip).build()
    };
    let setup = Setup::new([&many(1), &many(2)]);
    let [old, new] = [&setup.names[0][..], &setup.names[1]];
    let diff = setup.report(&["diff", old, new], 1);
    assert!(diff.len() < 2_500_000, "{}", diff.len());
    let left = without_ours(&diff);
    let rows = left.matches("<span class=\"sign chg\"").count();
    assert!((2500..=3000).contains(&rows), "{rows}");
    for dir in (0..50).map(|number| format!("d{number}")).chain(["few".to_owned()]) {
        let row = format!("<code><bdi>{dir}/</bdi></code></summary>");
        let (_, below) = left.split_once(&row).unwrap_or_else(|| panic!("{dir}"));
        assert!(below[..below.find("</ul>").unwrap()].contains("sign chg"), "{dir}");
    }
    assert!(["few/0", "few/1", "few/2"].iter().all(|path| left.contains(&format!("/{path}\">"))));
    let here: usize = left.split(" more changes here").map(number_before).sum();
    let (before, _) = left.split_once(" more changes are left out here: ocifs diff --all").unwrap();
    assert_eq!(number_before(before), here);
    assert_eq!(here + rows, 100_003);
}

/// The number at the end of a text, 0 if there is none.
fn number_before(text: &str) -> usize {
    let digits = text.bytes().rev().take_while(u8::is_ascii_digit).count();
    text[text.len() - digits..].parse().unwrap_or(0)
}
