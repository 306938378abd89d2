//! `history` and `which`: what they tell, what it costs, and images whose histories lie.

use serde_json::{Value, json};

use crate::shell::Home;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

/// Three layers: a base with a secret, a change, and its deletion.
fn builder() -> ImageBuilder {
    let layers = [
        vec![
            Entry::dir("etc"),
            Entry::file("etc/a", "one"),
            Entry::dir("root"),
            Entry::file("root/key", "secret"),
            Entry::dir("usr"),
            Entry::dir("usr/bin"),
            Entry::file("usr/bin/tool", "tool"),
            Entry::symlink("bin", "usr/bin"),
        ],
        vec![Entry::dir("etc"), Entry::file("etc/a", "two"), Entry::file("etc/new", "new")],
        vec![Entry::dir("root"), Entry::file("root/.wh.key", "")],
    ];
    let add =
        |builder: ImageBuilder, layer: &Vec<Entry>| builder.layer(&tar(layer), Compression::Gzip);
    layers.iter().fold(ImageBuilder::new(), add)
}

fn steps() -> Value {
    json!([
        { "created": "2024-01-01T00:00:00Z", "created_by": "ADD rootfs.tar /" },
        { "created": "2024-01-01T00:00:00Z", "created_by": "CMD [\"sh\"]", "empty_layer": true },
        { "created": "2024-02-01T00:00:00Z", "created_by": "RUN sed -i s/one/two/ /etc/a # buildkit" },
        { "created": "2024-02-01T00:00:00Z", "created_by": "RUN rm /root/key # buildkit" },
    ])
}

fn image() -> Built {
    builder().config("history", steps()).build()
}

/// An image in a registry, and the layers that were asked for since the log was cleared.
struct Pushed {
    registry: Registry,
    image: Built,
    name: String,
}

impl Pushed {
    fn new(image: Built) -> Pushed {
        let registry = Registry::start();
        registry.add_image("r", "t", &image);
        let name = format!("{}/r:t", registry.addr());
        Pushed { registry, image, name }
    }

    fn layers_asked_for(&self) -> Vec<usize> {
        let log = self.registry.requests();
        self.registry.clear_log();
        let digests = self.image.layer_digests();
        let asked = |at: &usize| log.iter().any(|request| request.path.ends_with(&digests[*at]));
        (0..digests.len()).filter(asked).collect()
    }
}

fn parsed(home: &Home, words: &[&str]) -> Value {
    let outcome = home.run(words);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    serde_json::from_str(&outcome.stdout).unwrap()
}

#[test]
fn history_reads_no_layer_unless_it_is_told_to() {
    let (pushed, home) = (Pushed::new(image()), Home::new());
    let document = parsed(&home, &["history", "--json", &pushed.name]);
    assert_eq!(pushed.layers_asked_for(), [0; 0]);
    let layers = |document: &Value| -> Vec<Value> {
        let steps = document["steps"].as_array().unwrap().iter();
        steps.map(|step| step["layer"].clone()).filter(|layer| !layer.is_null()).collect()
    };
    assert!(layers(&document).iter().all(|layer| layer["changes"].is_null()));
    assert_eq!(document["steps"][1]["layer"], Value::Null);
    assert_eq!(document["steps"][1]["instruction"]["created_by"], "CMD [\"sh\"]");

    let document = parsed(&home, &["history", "--json", "--all-layers", &pushed.name]);
    assert_eq!(pushed.layers_asked_for(), [0, 1, 2]);
    let changes: Vec<Value> =
        layers(&document).iter().map(|layer| layer["changes"].clone()).collect();
    assert_eq!(
        changes,
        [
            json!({ "added": 8, "changed": 0, "removed": 0 }),
            json!({ "added": 1, "changed": 1, "removed": 0 }),
            json!({ "added": 0, "changed": 0, "removed": 1 }),
        ]
    );
    let digests: Vec<Value> =
        layers(&document).iter().map(|layer| layer["digest"].clone()).collect();
    assert_eq!(digests, pushed.image.layer_digests());

    // Now every layer has an index.
    let document = parsed(&home, &["history", "--json", &pushed.name]);
    assert_eq!(pushed.layers_asked_for(), [0; 0]);
    assert_eq!(layers(&document)[0]["changes"]["added"], 8);
}

#[test]
fn in_a_pipe_a_step_is_a_row_of_exact_values() {
    let (pushed, home) = (Pushed::new(image()), Home::new());
    let outcome = home.run(&["history", "--all-layers", &pushed.name]);
    let rows: Vec<Vec<&str>> =
        outcome.stdout.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!(rows.len(), 4, "{}", outcome.stdout);
    let digests = pushed.image.layer_digests();
    assert_eq!(rows[0][..3], ["0", &digests[0], "2024-01-01T00:00:00Z"]);
    assert_eq!(rows[0][5..], ["+8", "ADD rootfs.tar /"]);
    assert_eq!(rows[1], ["-", "(empty layer)", "2024-01-01T00:00:00Z", "", "", "", "CMD [\"sh\"]"]);
    assert_eq!(rows[2][5..], ["+1 ~1", "RUN sed -i s/one/two/ /etc/a # buildkit"]);
    assert_eq!(rows[3][5], "-1");
}

#[test]
fn histories_that_do_not_fit_are_told_and_not_guessed() {
    let home = Home::new();
    let step = |by: &str, empty: bool| json!({ "created_by": by, "empty_layer": empty });
    for (history, steps, warns) in [
        (Value::Null, 0, false),
        (json!([]), 0, false),
        (json!("no list"), 0, false),
        (json!([step("A", false), step("B", false)]), 2, true),
        (json!([step("A", true), step("B", true)]), 2, true),
        (Value::from(vec![step("A", false); 4]), 4, true),
        (json!([step("A", false), null, 7, step("D", true)]), 0, false),
    ] {
        let text = history.to_string();
        let layout = home.layout(&builder().config("history", history).build());
        let outcome = home.run(&["history", "--json", &layout]);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
        assert_eq!(document["unmatched"].as_array().unwrap().len(), steps, "{text}");
        let with_layer = document["steps"].as_array().unwrap().iter();
        assert_eq!(with_layer.filter(|step| !step["layer"].is_null()).count(), 3, "{text}");
        assert_eq!(outcome.stderr.contains("which made which is not known"), warns, "{text}");
    }
}

#[test]
fn what_a_config_says_does_not_command_the_terminal() {
    let home = Home::new();
    let history = json!([
        { "created_by": "RUN \u{1b}]0;owned\u{7}\n\tx\u{202e}", "created": "\u{9b}2J" },
        { "created_by": "x".repeat(1 << 20) },
        { "created_by": "y" },
    ]);
    let image = builder().config("history", history).build();
    let layout = home.layout(&image);
    for words in [&["history", &layout][..], &["which", &layout, "/etc/a"]] {
        let outcome = home.run(words);
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        let is_obeyed = |c: char| c.is_control() && c != '\n' && c != '\t' || c == '\u{202e}';
        assert!(!outcome.stdout.contains(is_obeyed), "{:?}", &outcome.stdout[..200]);
        assert!(outcome.stdout.lines().all(|row| row.split('\t').count() == 7));
    }
}

#[test]
fn which_tells_versions_and_deletions() {
    let (pushed, home) = (Pushed::new(image()), Home::new());
    let paths = ["/etc/a", "/root/key", "bin/tool", "/etc/new"];
    let words = [&["which", "--json", "--all-layers", &pushed.name][..], &paths].concat();
    let document = parsed(&home, &words);
    let versions = |at: usize| document["paths"][at]["versions"].as_array().unwrap().clone();
    let of_a = versions(0);
    assert_eq!((&of_a[0]["layer"], &of_a[1]["layer"]), (&json!(0), &json!(1)));
    assert_eq!(of_a[0]["end"]["cause"], "replaced");
    assert_eq!((&of_a[1]["present"], &of_a[1]["end"]), (&json!(true), &Value::Null));
    assert_eq!(of_a[1]["created_by"], "RUN sed -i s/one/two/ /etc/a # buildkit");
    assert_eq!(of_a[1]["sha256"], crate::support::image::sha256(b"two")[7..]);
    let of_key = versions(1);
    assert_eq!(of_key.len(), 1);
    assert_eq!(of_key[0]["present"], false);
    let end =
        json!({ "layer": 2, "cause": "whiteout", "created_by": "RUN rm /root/key # buildkit" });
    assert_eq!(of_key[0]["end"], end);
    assert_eq!(document["paths"][2]["path"], "usr/bin/tool");
    assert_eq!(versions(3)[0]["layer"], 1);

    // Everything has an index now.
    pushed.registry.clear_log();
    let rows = home.run(&["which", &pushed.name, "/root/key", "/etc/a"]);
    assert_eq!(pushed.layers_asked_for(), [0; 0]);
    let rows: Vec<Vec<&str>> = rows.stdout.lines().map(|row| row.split('\t').collect()).collect();
    let begins: Vec<[&str; 3]> = rows.iter().map(|row| [row[0], row[1], row[2]]).collect();
    assert_eq!(
        begins,
        [
            ["/root/key", "2", "deleted"],
            ["/root/key", "0", "file (hidden)"],
            ["/etc/a", "1", "file"],
            ["/etc/a", "0", "file (hidden)"],
        ]
    );
}

#[test]
fn which_opens_no_more_layers_than_it_takes() {
    let home = Home::new();
    // Small layers come along with the first that is asked for.
    let large = |name: &str| Entry::file(name, crate::fixture::noise(600_000, name.len() as u64));
    let layers = [
        vec![Entry::dir("etc"), Entry::file("etc/a", "one"), large("base")],
        vec![Entry::dir("etc"), Entry::file("etc/a", "two"), large("middle")],
        vec![Entry::dir("etc"), Entry::file("etc/top", "top"), large("topmost")],
    ];
    let add =
        |builder: ImageBuilder, layer: &Vec<Entry>| builder.layer(&tar(layer), Compression::Gzip);
    let pushed = Pushed::new(layers.iter().fold(ImageBuilder::new(), add).build());
    let outcome = home.run(&["which", "--json", &pushed.name, "/etc/top"]);
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!(pushed.layers_asked_for(), [2]);
    assert_eq!(document["unopened_layers"], 2);
    assert_eq!(document["paths"][0]["versions"][0]["layer"], 2);
    let digest = crate::support::image::sha256(b"top");
    assert_eq!(document["paths"][0]["versions"][0]["sha256"], digest[7..]);

    let document = parsed(&home, &["which", "--json", &pushed.name, "/etc/a"]);
    assert_eq!(pushed.layers_asked_for(), [1]);
    assert_eq!(document["unopened_layers"], 1);
    assert_eq!(document["paths"][0]["versions"][0]["layer"], 1);

    let document = parsed(&home, &["which", "--json", "--all-layers", &pushed.name, "/etc/a"]);
    assert_eq!(pushed.layers_asked_for(), [0]);
    assert_eq!(document["paths"][0]["versions"].as_array().unwrap().len(), 2);
}

#[test]
fn a_path_that_no_layer_has_is_an_error() {
    let (pushed, home) = (Pushed::new(image()), Home::new());
    let outcome = home.run(&["which", "--all-layers", &pushed.name, "/etc/a", "/none"]);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stderr.contains("/none: no layer has it"), "{}", outcome.stderr);
    assert!(outcome.stdout.starts_with("/etc/a\t1\tfile\t"), "{}", outcome.stdout);
}
