//! `diff`: what it costs, what it says where digests are missing, and images that are made to be expensive.

use serde_json::Value;

use crate::shell::Home;
use crate::support::estargz;
use crate::support::image::{Built, Compression, ImageBuilder, Layer};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

const BASE: usize = 300_000;

fn image(layers: &[&[Entry]]) -> Built {
    let add =
        |builder: ImageBuilder, layer: &&[Entry]| builder.layer(&tar(layer), Compression::Gzip);
    layers.iter().fold(ImageBuilder::new(), add).build()
}

fn versions() -> [Built; 2] {
    let base = [
        Entry::dir("etc"),
        Entry::file("etc/a", "one\n"),
        Entry::file("etc/moved", "the same words\n"),
        Entry::file("base", crate::fixture::noise(BASE, 1)),
    ];
    let upper = [
        Entry::dir("etc"),
        Entry::file("etc/a", "two\n"),
        Entry::file("etc/.wh.moved", ""),
        Entry::file("etc/here", "the same words\n"),
    ];
    [image(&[&base]), image(&[&base, &upper])]
}

struct Pushed {
    registry: Registry,
    names: [String; 2],
}

fn pushed(images: &[Built; 2]) -> Pushed {
    let registry = Registry::start();
    let names = ["a", "b"].map(|tag| format!("{}/r:{tag}", registry.addr()));
    for (tag, image) in ["a", "b"].iter().zip(images) {
        registry.add_image("r", tag, image);
    }
    Pushed { registry, names }
}

impl Pushed {
    fn diff(&self, home: &Home, flags: &[&str]) -> crate::shell::Outcome {
        home.run(&[&["diff"], flags, &[&self.names[0], &self.names[1]]].concat())
    }

    /// Requests for layers since the log was cleared.
    fn layer_requests(&self, images: &[Built; 2]) -> usize {
        let digests: Vec<String> = images.iter().flat_map(|image| image.layer_digests()).collect();
        let log = self.registry.requests();
        self.registry.clear_log();
        let is_layer = |path: &str| digests.iter().any(|digest| path.ends_with(digest.as_str()));
        log.iter().filter(|request| is_layer(&request.path)).count()
    }
}

#[test]
fn layers_are_fetched_once_and_then_never_again() {
    let images = versions();
    let (pushed, home) = (pushed(&images), Home::new());
    let first = pushed.diff(&home, &["--json"]);
    assert_eq!(first.code, 1, "{}", first.stderr);
    assert_eq!(pushed.layer_requests(&images), 2, "the common layer once");
    for flags in [&["--json"][..], &["--stat"], &["--name-only"], &["--layers"], &["--config"], &[]]
    {
        let outcome = pushed.diff(&home, flags);
        assert_eq!(outcome.code, i32::from(flags != ["--config"]), "{flags:?}: {}", outcome.stderr);
        assert_eq!(pushed.layer_requests(&images), 0, "{flags:?}");
    }
    let document: Value = serde_json::from_str(&first.stdout).unwrap();
    assert_eq!(document["bytes_read"], 0);
    assert_eq!(document["layers"], serde_json::json!({ "common": 1, "old": 0, "new": 1 }));
    let rows = document["changes"].as_array().unwrap();
    let rows: Vec<(&str, &str)> = rows
        .iter()
        .map(|row| (row["change"].as_str().unwrap(), row["path"].as_str().unwrap()))
        .collect();
    assert_eq!(rows, [("changed", "etc/a"), ("renamed", "etc/here")]);
}

#[test]
fn documents_are_compared_without_any_layer() {
    let images = versions();
    let (pushed, home) = (pushed(&images), Home::new());
    let outcome = pushed.diff(&home, &["--layers", "--config", "--json"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert_eq!(pushed.layer_requests(&images), 0);
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(document["layer_list"].as_array().unwrap().len(), 2);
    assert_eq!(document["config"], serde_json::json!([]));
}

#[test]
fn exit_codes_are_those_of_diff() {
    let images = versions();
    let (pushed, home) = (pushed(&images), Home::new());
    let [a, b] = &pushed.names;
    assert_eq!(home.run(&["diff", a, a]).code, 0);
    assert_eq!(home.run(&["diff", a, b]).code, 1);
    assert_eq!(home.run(&["diff", "--path", "/none/*", a, b]).code, 0);
    let outcome = home.run(&["diff", a, &format!("{b}-none")]);
    outcome.failed(2, &["b-none"]);
    assert_eq!(home.run(&["diff", "--path", "relative", a, b]).code, 2);
    assert_eq!(home.run(&["diff", a]).code, 2);
}

/// Equal but for one file, in layers whose tables of contents have no digests of files: chunks alone are sure.
#[test]
fn bytes_are_read_where_digests_are_missing() {
    let of = |text: &str| -> Built {
        let entries =
            [Entry::file("same", crate::fixture::noise(BASE, 2)), Entry::file("other", text)];
        let without_digests = |toc: &mut Value| {
            for row in toc["entries"].as_array_mut().unwrap() {
                row.as_object_mut().unwrap().remove("digest");
            }
        };
        let options = estargz::Options { edit: Some(&without_digests), ..Default::default() };
        let written = estargz::write(&entries, &options);
        let layer = Layer::from_blob(written.blob, "gzip", &written.tar);
        let layer = layer.annotations(&written.annotations);
        ImageBuilder::new().push_layer(layer).build()
    };
    let images = [of("old\n"), of("new\n")];
    let (pushed, home) = (pushed(&images), Home::new());
    let outcome = pushed.diff(&home, &["--json"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert!(document["bytes_read"].as_u64().unwrap() >= BASE as u64, "{document}");
    let rows = document["changes"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["path"]), (1, &Value::from("other")));
}

/// Very many files that hold the same and have all been renamed: pairing them takes steps in proportion.
#[test]
fn equal_files_by_the_thousands_are_paired() {
    const FILES: usize = 60_000;
    let of = |prefix: &str| -> Built {
        let entries: Vec<Entry> = (0..FILES)
            .map(|at| Entry::file(format!("{prefix}/{at}-{prefix}"), "the same"))
            .collect();
        image(&[&entries])
    };
    let images = [of("a"), of("b")];
    let (pushed, home) = (pushed(&images), Home::new());
    let outcome = pushed.diff(&home, &["--stat"]);
    assert_eq!(outcome.code, 1, "{}", outcome.stderr);
    assert!(outcome.stdout.contains(&format!("renamed\t{FILES}\t")), "{}", outcome.stdout);
}

#[test]
fn names_do_not_command_the_terminal() {
    let images = [image(&[&[]]), image(&[&[Entry::file("\u{1b}]0;x\u{7}\nfake", "\u{1b}[2J\n")]])];
    let (pushed, home) = (pushed(&images), Home::new());
    let patch = pushed.diff(&home, &["--patch"]);
    assert!(patch.stdout.contains("+++ \"b/\\033]0;x\\007\\nfake\""), "{}", patch.stdout);
    let json = pushed.diff(&home, &["--json"]);
    assert!(!json.stdout.trim_end().contains(char::is_control), "{}", json.stdout);
}
