//! `du --check`: what builds are failed by, and how they learn why.

use serde_json::{Value, json};

use crate::shell::Home;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::tarball::{Entry, tar};

const KIB: usize = 1024;

/// 10 KiB that are replaced, 20 KiB with two names that are deleted, 30 KiB that stay, and 5 KiB in place of the first,
/// once more replaced: 35 of 70 KiB are wasted.
fn wasteful() -> Built {
    let bytes = |kib: usize, byte: u8| vec![byte; kib * KIB];
    let base = tar(&[
        Entry::file("again", bytes(10, b'1')),
        Entry::file("gone", bytes(20, b'g')),
        Entry::hardlink("gone-too", "gone"),
        Entry::file("stays", bytes(30, b's')),
    ]);
    let above = tar(&[
        Entry::file("again", bytes(5, b'2')),
        Entry::file(".wh.gone", ""),
        Entry::file(".wh.gone-too", ""),
    ]);
    let top = tar(&[Entry::file("again", bytes(5, b'3'))]);
    let history = json!([
        { "created_by": "ADD base /" },
        { "created_by": "RUN rm gone\u{1b}[2J" },
        { "created_by": "RUN again" },
    ]);
    let layers = [base, above, top];
    let image = ImageBuilder::new().config("history", history);
    layers.iter().fold(image, |image, layer| image.layer(layer, Compression::Gzip)).build()
}

#[test]
fn every_check_is_told_and_one_that_fails_fails_the_command() {
    let home = Home::new();
    let name = home.layout(&wasteful());
    let holds = home.run(&[
        "du",
        "--check",
        "max-wasted=50%",
        "--check=max-wasted=35K,max-layers=3,max-files=3,max-size=1M,max-user-wasted=100%",
        &name,
    ]);
    // 35 KiB are 350 % of what is above the first layer.
    assert_eq!(holds.code, 1, "{holds:?}");
    let rows: Vec<Vec<&str>> =
        holds.stdout.lines().map(|line| line.split('\t').collect()).collect();
    let verdicts: Vec<&str> = rows[..6].iter().map(|row| row[0]).collect();
    assert_eq!(verdicts, ["ok", "ok", "ok", "ok", "ok", "fails"], "{rows:#?}");
    assert_eq!(
        rows[0][1..],
        ["max-wasted=50%", "50.00% wasted: 35.0 KiB of 70.0 KiB of content (35840 of 71680 bytes)"]
    );
    assert_eq!(rows[3][2], "3 files");
    assert_eq!(rows[6], ["the paths that waste the most:"]);
    let (gone, again) = (&rows[7], &rows[8]);
    assert_eq!(gone[..4], ["20480", "1", "/gone", "1"]);
    assert_eq!(again[..4], ["15360", "2", "/again", "2"]);
    assert!(gone[4].contains("RUN rm gone") && !holds.stdout.contains('\u{1b}'), "{gone:?}");
    assert_eq!(rows.len(), 9);

    let lean = home.run(&["du", "--check", "max-wasted=50%,max-layer-size=1M", &name]);
    lean.succeeded();
    assert_eq!(lean.stdout.lines().count(), 2, "{lean:?}");
    for check in [
        "max-wasted=49.9999%",
        "max-wasted=35839",
        "max-size=60K",
        "max-compressed=10",
        "max-layers=2",
        "max-layer-size=60K",
        "max-files=2",
        "max-user-wasted=99%",
    ] {
        let fails = home.run(&["du", "--check", check, &name]);
        assert_eq!((fails.code, &fails.stderr[..]), (1, ""), "{fails:?}");
        assert!(fails.stdout.starts_with(&format!("fails\t{check}\t")), "{fails:?}");
    }
}

#[test]
fn programs_get_numbers() {
    let home = Home::new();
    let name = home.layout(&wasteful());
    let checks = "--check=max-wasted=5%,max-files=3,max-layer-size=1K";
    let outcome = home.run(&["du", "--json", checks, &name]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let document: Value = serde_json::from_str(&outcome.stdout).unwrap();
    assert_eq!((&document["ok"], &document["version"]), (&json!(false), &json!(1)));
    let [wasted, files, layer] = &document["checks"].as_array().unwrap()[..] else { panic!() };
    let key = |key: &str, values: [Value; 3]| {
        assert_eq!([&wasted[key], &files[key], &layer[key]], [&values[0], &values[1], &values[2]]);
    };
    key("ok", [false.into(), true.into(), false.into()]);
    key("found", [35840.into(), 3.into(), layer["found"].clone()]);
    key("limit", [Value::Null, 3.into(), 1024.into()]);
    key("limit_percent", [5.0.into(), Value::Null, Value::Null]);
    key("of", [71680.into(), Value::Null, Value::Null]);
    key("layer", [Value::Null, Value::Null, 0.into()]);
    let first = &document["wasted"]["paths"][0];
    assert_eq!(first["path"], "gone");
    assert_eq!((&first["layer"], &first["hidden_in"]), (&json!(0), &json!(1)));
    // As `du --layers` has it.
    let layers = home.run(&["du", "--layers", "--json", &name]);
    let rows = layers.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let hidden: u64 = rows.map(|row| row["hidden"].as_u64().unwrap()).sum();
    assert_eq!(document["wasted"]["bytes"], hidden);
}

/// An image without content wastes nothing of it.
#[test]
fn nothing_of_nothing_is_no_waste() {
    let home = Home::new();
    let empty = ImageBuilder::new().layer(&tar(&[Entry::dir("d")]), Compression::Gzip).build();
    let name = home.layout(&empty);
    home.run(&["du", "--check=max-wasted=0%,max-user-wasted=0%,max-wasted=0", &name]).succeeded();
}

#[test]
fn trouble_is_no_failed_check() {
    let home = Home::new();
    let missing = format!("oci:{}/none", home.path().display());
    home.run(&["du", "--check=max-size=1M", &missing]).failed(2, &["none"]);
    for (check, said) in [
        ("max-waste=5%", "there is no check `max-waste`; there are max-size, max-compressed,"),
        ("max-size=5%", "`max-size` takes bytes"),
        ("max-size=1M,max-files", "`max-files` takes a whole number"),
    ] {
        home.run(&["du", "--check", check, &missing]).failed(2, &[said]);
    }
    for flags in [&["--layers"][..], &["-s"], &["-a"]] {
        let words = [&["du", "--check=max-size=1M"], flags, &[&missing]].concat();
        home.run(&words).failed(2, &["cannot be used with"]);
    }
}
