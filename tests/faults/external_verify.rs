//! The program's verbs around proof: `verify`, `pull`, `index`, and what `status` says of a mount.

use std::fs;

use serde_json::{Value, json};

use crate::external_fixture::{
    BULK_BYTES, bulk, bulk_content, entries, image, upper_entries, ways,
};
use crate::fixture::noise;
use crate::published::Published;
use crate::shell::{Outcome, text};
use crate::support::image::{Built, Compression, ImageBuilder, Layer, sha256};
use crate::support::registry::{Fault, Referrers, Times};
use crate::support::tarball::{Entry, tar};

fn parsed(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.stdout).unwrap_or_else(|e| panic!("{e}: {outcome:?}"))
}

fn plain_image() -> Built {
    ImageBuilder::new()
        .layer(&tar(&entries(1)), Compression::Gzip)
        .layer(&tar(&upper_entries(2)), Compression::Gzip)
        .build()
}

#[test]
fn a_good_image() {
    for built in [
        plain_image(),
        image(ways().iter().take(1).flat_map(|way| {
            [(way.write)(&entries(1), None), (way.write)(&upper_entries(2), None)]
                .map(|layer| way.layer(&layer))
        })),
    ] {
        let setup = Published::new(&built);
        let [lower, upper] = &built.layer_digests()[..] else { panic!("two layers") };
        // One of the layers is known already.
        let lower_image = setup.run(&["cat"], &[&bulk(1, 3)]);
        lower_image.succeeded();
        setup.run(&["verify"], &[]).succeeded();
        let outcome = setup.run(&["verify"], &["--again"]);
        outcome.succeeded();
        assert_eq!(outcome.stdout.matches(": ok").count(), 2, "{outcome:?}");
        for word in [&built.manifest_digest, lower, upper] {
            assert!(outcome.stdout.contains(word), "{outcome:?}");
        }
        let outcome = setup.run(&["verify"], &["--json"]);
        outcome.succeeded();
        let found = parsed(&outcome);
        assert_eq!((&found["ok"], &found["digest"]), (&json!(true), &json!(built.manifest_digest)));
        for (layer, digest) in found["layers"].as_array().unwrap().iter().zip([lower, upper]) {
            assert_eq!((&layer["digest"], &layer["ok"]), (&json!(digest), &json!(true)));
            assert_eq!((&layer["error"], &layer["split_view"]), (&json!(null), &json!([])));
            assert!(layer["entries"].as_u64().unwrap() > 50);
        }
        // What is proven is not streamed again; a table is held against the tar each time.
        for (digest, size) in [lower, upper].into_iter().zip(built.layer_sizes()) {
            assert!(setup.asked_of(digest).1 < size / 2, "{:?}", setup.asked_of(digest));
        }
        let outcome = setup.run(&["verify"], &["--offline"]);
        outcome.succeeded();
        assert!(setup.registry.requests().is_empty());
    }
}

/// What is not proven is streamed; and offline that is what is wrong with it.
#[test]
fn offline_proves_what_is_here() {
    let way = &ways()[0];
    let built = image([way.layer(&(way.write)(&entries(1), None))]);
    let setup = Published::new(&built);
    setup.run(&["cat"], &[&bulk(1, 3)]).succeeded();
    let outcome = setup.run(&["verify"], &["--offline"]);
    assert!(outcome.code == 1 && outcome.stdout.contains("no full proof"), "{outcome:?}");
    assert!(setup.registry.requests().is_empty());
    setup.run(&["verify"], &[]).succeeded();
    setup.run(&["verify"], &["--offline"]).succeeded();
}

/// A blob that is not what the manifest says is named, and the others are still checked.
#[test]
fn layers_that_are_wrong() {
    let good = || Layer::new(&tar(&entries(1)), Compression::Gzip);
    let small = |name: &str| Layer::new(&tar(&[Entry::file(name, "x")]), Compression::Gzip);
    for (what, bad, words) in [
        ("diff ID", small("b").diff_id(&sha256(b"another")), "does not match the diff ID"),
        ("digest", small("b").digest(&sha256(b"another")), "digest"),
        ("size", small("b").size(99), "its descriptor says 99"),
    ] {
        let built =
            ImageBuilder::new().push_layer(small("a")).push_layer(bad).push_layer(good()).build();
        let setup = Published::new(&built);
        let outcome = setup.run(&["verify"], &["--json"]);
        assert_eq!(outcome.code, 1, "{what}: {outcome:?}");
        let found = parsed(&outcome);
        let rows = found["layers"].as_array().unwrap();
        let ok: Vec<bool> = rows.iter().map(|row| row["ok"].as_bool().unwrap()).collect();
        assert_eq!((ok, &found["ok"]), (vec![true, false, true], &json!(false)), "{what}");
        let error = rows[1]["error"].as_str().unwrap();
        assert!(error.contains(words), "{what}: {error}");
        let outcome = setup.run(&["verify"], &[]);
        let line = outcome.stdout.lines().find(|line| line.contains(&built.layer_digests()[1]));
        assert!(line.is_some_and(|line| line.ends_with("WRONG")), "{what}: {outcome:?}");
        // The good ones were proven by the first round.
        let good = outcome.stdout.matches(", not read again\n").count();
        assert_eq!((outcome.code, good), (1, 2), "{what}: {outcome:?}");
    }
    // Changed in the registry after it was pushed.
    let built = plain_image();
    let setup = Published::new(&built);
    let digest = &built.layer_digests()[1];
    setup.registry.fault(("GET", digest, Times::Always), Fault::FlipByte(5000));
    let outcome = setup.run(&["verify"], &[]);
    assert!(outcome.code == 1 && outcome.stdout.contains(": ok"), "{outcome:?}");
    setup.registry.clear_faults();
    setup.run(&["verify"], &[]).succeeded();
}

/// A table that tells something else than the tar, with digests that are right: mounts show what it
/// says, and `verify` says which paths.
#[test]
fn split_views() {
    let mode = |json: &mut Value, name: &str, mode: u32| {
        let rows = json["entries"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["name"] == name).unwrap()["mode"] = json!(mode);
    };
    let rename = |json: &mut Value, from: &str, to: &str| {
        for row in json["entries"].as_array_mut().unwrap() {
            if row["name"] == from {
                row["name"] = json!(to);
            }
        }
    };
    let edit = |json: &mut Value| {
        rename(json, &bulk(1, 5), "bulk1/evil");
        rename(json, &bulk(1, 6), "swap");
        rename(json, &bulk(1, 7), &bulk(1, 6));
        rename(json, "swap", &bulk(1, 7));
        mode(json, &bulk(1, 8), 0o4777);
        rename(json, "usr/empty1", "usr/.wh.hidden");
        let rows = json["entries"].as_array_mut().unwrap();
        rows.iter_mut().find(|row| row["name"] == "bin1").unwrap()["linkName"] = json!("/evil");
        rows.iter_mut().find(|row| row["name"] == "null1").unwrap()["devMinor"] = json!(5);
        rows.iter_mut().find(|row| row["name"] == "usr/small1").unwrap()["xattrs"] = json!({});
        rows.retain(|row| row["name"] != "pipe1");
    };
    let expected = [
        ("bin1", "links to something else"),
        ("bulk1/005", "is in the tar"),
        ("bulk1/006", "has other content"),
        ("bulk1/007", "has other content"),
        ("bulk1/008", "has another mode"),
        ("bulk1/evil", "not in the tar"),
        ("null1", "another device"),
        ("pipe1", "is in the tar"),
        ("usr/.wh.hidden", "not in the tar"),
        ("usr/empty1", "is in the tar"),
        ("usr/small1", "extended attributes"),
    ];
    for way in ways() {
        let what = way.what;
        let layer = (way.write)(&entries(1), Some(&edit));
        let built = image([way.layer(&layer)]);
        let setup = Published::new(&built);
        let outcome = setup.run(&["ls"], &["--json", "bulk1/evil"]);
        outcome.succeeded();
        let outcome = setup.run(&["cat"], &[&bulk(1, 6)]);
        assert_eq!(outcome.code, 0, "{what}");
        // Twice, as what was found out must not be forgotten.
        for round in 0..2 {
            let outcome = setup.run(&["verify"], &["--json"]);
            assert_eq!(outcome.code, 1, "{what} {round}");
            let found = parsed(&outcome);
            let rows = found["layers"][0]["split_view"].as_array().unwrap().clone();
            let paths: Vec<&str> = rows.iter().map(|row| row["path"].as_str().unwrap()).collect();
            let mut sorted = paths.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, expected.map(|(path, _)| path), "{what} {round}");
            for (path, word) in expected {
                let row = rows.iter().find(|row| row["path"] == path).unwrap();
                assert!(row["what"].as_str().unwrap().contains(word), "{what}: {row}");
            }
            let outcome = setup.run(&["verify"], &[]);
            assert!(outcome.code == 1 && outcome.stdout.contains("SPLIT VIEW"), "{outcome:?}");
            assert!(outcome.stdout.contains("/bulk1/evil is in the table"), "{outcome:?}");
        }
        // What has been streamed is shown by the tar from now on.
        assert_eq!(setup.run(&["cat"], &["bulk1/evil"]).code, 1, "{what}");
    }
}

/// A table that can't be read is wrong too: engines that read it would fail or be lied to.
#[test]
fn tables_that_cannot_be_read() {
    for way in ways() {
        let mut layer = (way.write)(&entries(1), None);
        for text in layer.annotations.values_mut().filter(|text| text.starts_with("sha256:")) {
            *text = sha256(b"another");
        }
        let setup = Published::new(&image([way.layer(&layer)]));
        let outcome = setup.run(&["verify"], &["--json"]);
        assert_eq!(outcome.code, 1, "{}: {outcome:?}", way.what);
        let found = parsed(&outcome);
        assert!(found["layers"][0]["error"].as_str().unwrap().contains("table of contents"));
    }
}

#[test]
fn pulled_images_need_no_network() {
    let way = &ways()[0];
    let layers = [(way.write)(&entries(1), None), (way.write)(&upper_entries(2), None)];
    for built in [plain_image(), image(layers.iter().map(|layer| way.layer(layer)))] {
        let setup = Published::new(&built);
        let outcome = setup.run(&["pull"], &[]);
        outcome.succeeded();
        for (digest, size) in built.layer_digests().iter().zip(built.layer_sizes()) {
            let (requests, bytes) = setup.asked_of(digest);
            assert!(requests <= 6 && bytes <= size * 3 / 2, "{bytes} of {size} in {requests}");
        }
        let outcome = setup.run(&["export"], &["--offline"]);
        assert_eq!((outcome.code, &outcome.stderr[..]), (0, ""));
        assert!(outcome.stdout.len() > 90 * BULK_BYTES && setup.registry.requests().is_empty());
        // And nothing comes twice.
        setup.run(&["pull"], &[]).succeeded();
        assert_eq!(setup.registry.requests().len(), 1);
        setup.run(&["pull"], &["--offline"]).succeeded();
    }
}

#[test]
fn an_interrupted_pull_goes_on() {
    let way = &ways()[0];
    let layer = (way.write)(&entries(1), None);
    let built = image([way.layer(&layer)]);
    let setup = Published::new(&built);
    let digest = &built.layer_digests()[0];
    // The table comes, then a part of the content, and then nothing any more.
    setup.registry.fault(("GET", digest, Times::Nth(1)), Fault::NoLength);
    setup.registry.fault(("GET", digest, Times::Nth(2)), Fault::NoLength);
    setup
        .registry
        .fault(("GET", digest, Times::Always), Fault::Status(403, Vec::new(), Vec::new()));
    let outcome = setup.run(&["pull"], &["--proof", "any"]);
    outcome.failed(1, &["403"]);
    setup.registry.clear_faults();
    let outcome = setup.run(&["pull"], &["--proof", "any"]);
    outcome.succeeded();
    assert!(setup.asked_of(digest).1 < built.layer_sizes()[0], "{:?}", setup.asked_of(digest));
    setup.run(&["cat"], &["--offline", &bulk(1, 47)]).succeeded_with(&bulk_content(1, 47));
}

/// A cache that can't hold the image: the pull says so, as its promise is not kept.
#[test]
fn a_pull_into_a_cache_too_small() {
    let setup = Published::new(&plain_image());
    for limit in ["0", "1M"] {
        let outcome = setup.run(&["pull"], &["--cache-size", limit]);
        outcome.failed(1, &["did not stay in the cache", "--cache-size"]);
    }
    setup.run(&["pull"], &["--cache-size", "100M"]).succeeded();
}

impl Outcome {
    #[track_caller]
    fn succeeded_with(&self, content: &[u8]) {
        assert_eq!(self.code, 0, "{self:?}");
        assert!(self.stdout == String::from_utf8_lossy(content));
    }
}

#[test]
fn status_says_what_is_proven() {
    let way = &ways()[0];
    let layers = [(way.write)(&entries(1), None), (way.write)(&[Entry::file("f", "x")], None)];
    let built = image(layers.iter().map(|layer| way.layer(layer)));
    let setup = Published::new(&built);
    let proofs = || {
        // This mount alone: others of this machine may be broken, by tests that run beside this one.
        let outcome = setup.home.run(&["status", "--json", "M"]);
        outcome.succeeded();
        let found = parsed(&outcome);
        let layers = found[0]["layers"].as_array().unwrap().clone();
        layers.iter().map(|row| row["proof"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    setup.run(&["mount"], &["M"]).succeeded();
    assert_eq!(proofs(), ["toc", "full"], "the second is small");
    let file = setup.home.mount_point().join(bulk(1, 9));
    assert!(fs::read(&file).unwrap() == bulk_content(1, 9));
    let outcome = setup.home.run(&["status", "M"]);
    assert!(outcome.stdout.contains("proof toc"), "{outcome:?}");
    setup.home.run(&["umount", "M"]).succeeded();
    setup.run(&["verify"], &[]).succeeded();
    setup.run(&["mount"], &["M"]).succeeded();
    assert_eq!(proofs(), ["full", "full"]);
    assert!(fs::read(&file).unwrap() == bulk_content(1, 9));
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

/// `index build`, `push` and `show` say what there is.
#[test]
fn the_verbs_of_index() {
    let built = plain_image();
    let setup = Published::new(&built);
    setup.registry.set_referrers(Referrers::Filtered);
    let layers = built.layer_digests();
    let outcome = setup.run(&["index", "show"], &[]);
    outcome.succeeded();
    assert_eq!(outcome.stdout.matches("not cached").count(), 2, "{outcome:?}");
    assert!(layers.iter().all(|layer| setup.asked_of(layer).0 == 0), "nothing is made");
    let outcome = setup.run(&["index", "build"], &["--json"]);
    outcome.succeeded();
    let built_indexes = parsed(&outcome);
    assert_eq!(built_indexes["artifact"], json!(null));
    let usage = parsed(&setup.home.run(&["cache", "du", "--json"]));
    assert_eq!(
        usage["kinds"]["spans"]["files"],
        json!(0),
        "who only builds keeps no content: {usage}"
    );
    assert_eq!(usage["kinds"]["layer-indexes"]["files"], json!(2), "{usage}");
    let outcome = setup.run(&["index", "push"], &["--json"]);
    outcome.succeeded();
    assert!(layers.iter().all(|layer| setup.asked_of(layer).0 == 0), "they are known");
    let pushed = parsed(&outcome);
    assert_eq!(pushed["indexes"], built_indexes["indexes"]);
    assert_eq!(pushed["digest"], built.manifest_digest);
    let artifact = pushed["artifact"].as_str().unwrap();
    let manifest = setup.registry.manifest("r", artifact).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    for (row, layer) in pushed["indexes"].as_array().unwrap().iter().zip(&layers) {
        assert_eq!(row["layer"], json!(layer));
        let blob = setup.registry.blob("r", row["blob"].as_str().unwrap()).unwrap();
        assert_eq!(row["size"], json!(blob.len()));
        assert!(row["head_size"].as_u64().unwrap() < blob.len() as u64);
    }
    assert_eq!(manifest["layers"].as_array().unwrap().len(), 2);
    let outcome = setup.run(&["index", "push"], &[]);
    outcome.succeeded();
    for word in ["2 layer indexes", "to mount", artifact, &built.manifest_digest] {
        assert!(outcome.stdout.contains(word), "{word}: {outcome:?}");
    }
    // Another user, with an empty cache, sees what was pushed, and trusts it or not.
    setup.forget();
    let outcome = setup.run(&["index", "show"], &["--json"]);
    outcome.succeeded();
    let found = parsed(&outcome);
    assert_eq!(found["pushed"].as_array().unwrap().len(), 2, "{found}");
    assert!(found["layers"].as_array().unwrap().iter().all(|row| row["cached"].is_null()));
    setup.run(&["ls"], &["--trust-referrers"]).succeeded();
    let outcome = setup.run(&["index", "show"], &["--trust-referrers"]);
    outcome.succeeded();
    assert_eq!(outcome.stdout.matches("proof hint").count(), 2, "{outcome:?}");
    assert_eq!(outcome.stdout.matches("pushed: ").count(), 2, "{outcome:?}");
    // Nowhere to push to.
    let local = setup.home.layout(&built);
    setup.home.run(&["index", "push", &local]).failed(1, &["not in a registry"]);
    setup.home.run(&["index", "build", &local]).succeeded();
}

/// The registries that the settings name, and no others.
#[test]
fn settings_of_a_registry() {
    let built = plain_image();
    let setup = Published::new(&built);
    setup.registry.set_referrers(Referrers::Filtered);
    setup.run(&["index", "push"], &[]).succeeded();
    let is_used = || {
        setup.forget();
        setup.run(&["ls"], &[]).succeeded();
        built.layer_digests().iter().all(|layer| setup.asked_of(layer).0 == 0)
    };
    let address = setup.registry.addr();
    let table =
        |host: &str, value: &str| format!("[registry.\"{host}\"]\ntrust-referrers = {value}\n");
    assert!(!is_used());
    setup.configure(&table(&address.to_string(), "true"));
    assert!(is_used());
    setup.configure(&table(&address.to_string(), "false"));
    assert!(!is_used());
    setup.configure(&table("127.0.0.1", "true"));
    assert!(!is_used(), "another port is another registry");
    setup.configure(&table("registry.example", "true"));
    assert!(!is_used());
    setup.configure("");
    assert!(!is_used());
    for broken in [
        "[registry",
        &table(&address.to_string(), "\"yes\""),
        "trust-referrers = true\n",
        "[registry.x]\ntrust-referers = true\n",
        "\u{0}",
    ] {
        let path = setup.configure(broken);
        setup.run(&["ls"], &[]).failed(1, &["settings", text(&path)]);
    }
    fs::remove_file(setup.configure("")).unwrap();
    fs::create_dir(setup.home.path().join("home/.config/ocifs/config.toml")).unwrap();
    setup.run(&["ls"], &[]).failed(1, &["settings", "config.toml"]);
}

/// Content like that of packages, in a few thousand files.
fn package_tar() -> Vec<u8> {
    let mut entries = vec![Entry::dir("usr").mtime(1_700_000_000, 0)];
    for dir in 0..60 {
        let name = format!("usr/lib/package-{dir}");
        entries.push(Entry::dir(&name).mtime(1_700_000_000, 0));
        for file in 0..60u64 {
            let seed = dir * 1000 + file;
            let length = 500 + (seed * 7919 % 9000) as usize;
            let words = noise(length / 2, seed + 1);
            let content: Vec<u8> = words.iter().flat_map(|b| [b'a' + b % 23, b'e']).collect();
            let name = format!("{name}/module_{:x}_{file}.py", seed * 2_654_435_761 % 65_521);
            entries.push(Entry::file(name, content).mtime(1_700_000_000 + dir as i64, 0));
        }
    }
    tar(&entries)
}

/// What has to travel before a mount is a small part of what it spares: of this layer (6.6 MB, 3661
/// entries) a head of 38 kB, which is 0.6 %, and a tail of 231 kB, of which a read needs one window.
#[test]
fn heads_are_small() {
    let built = ImageBuilder::new().layer(&package_tar(), Compression::Gzip).build();
    let setup = Published::new(&built);
    let outcome = setup.run(&["index", "build"], &["--json"]);
    outcome.succeeded();
    let row = parsed(&outcome)["indexes"][0].clone();
    let layer = built.layer_sizes()[0];
    let (head, all) = (row["head_size"].as_u64().unwrap(), row["size"].as_u64().unwrap());
    assert!(head * 50 <= layer, "{head} of {layer}");
    assert!(all * 20 <= layer, "{all} of {layer}");
}

/// Chunks of another file under the digest of the right one: each chunk is what it says, and the
/// file is not.
#[test]
fn chunks_of_another_file() {
    let edit = |json: &mut Value| {
        let rows = json["entries"].as_array_mut().unwrap();
        let of = |rows: &[Value], name: &str| -> Vec<usize> {
            (0..rows.len()).filter(|at| rows[*at]["name"] == name).collect()
        };
        let (one, other) = (of(rows, &bulk(1, 6)), of(rows, &bulk(1, 7)));
        for (one, other) in one.into_iter().zip(other) {
            for key in ["offset", "innerOffset", "chunkDigest"] {
                let value = rows[one][key].clone();
                rows[one][key] = rows[other][key].clone();
                rows[other][key] = value;
            }
            for row in [one, other] {
                rows[row].as_object_mut().unwrap().retain(|_, value| !value.is_null());
            }
        }
    };
    for way in ways().into_iter().filter(|way| way.what == "eStargz, several chunks a file") {
        let setup = Published::new(&image([way.layer(&(way.write)(&entries(1), Some(&edit)))]));
        let outcome = setup.run(&["cat"], &[&bulk(1, 6)]);
        outcome.succeeded_with(&bulk_content(1, 7));
        let outcome = setup.run(&["verify"], &[]);
        assert_eq!(outcome.code, 1, "{outcome:?}");
    }
}
