//! What has to be proven before it is shown: `--proof`, its variable and its setting, the warning where less
//! is proven, and layers that a table of contents makes look like a tar.

use std::fs;

use serde_json::json;

use crate::external_fixture::{bulk, entries, image, ways};
use crate::fixture::{files_below, noise};
use crate::published::Published;
use crate::shell::{Outcome, run, text};
use crate::support::estargz::{self, Written};
use crate::support::image::{Compression, Layer, sha256};
use crate::support::registry::{Fault, Times};
use crate::support::tarball::{Entry, tar};

/// An image whose table shows `evil` where its tar has another file.
fn with_a_lie() -> Published {
    let way = &ways()[0];
    let layer = (way.write)(
        &entries(1),
        Some(&|json| {
            let rows = json["entries"].as_array_mut().unwrap();
            let name = bulk(1, 5);
            rows.iter_mut().find(|row| row["name"] == name.as_str()).unwrap()["name"] =
                json!("bulk1/evil");
        }),
    );
    Published::new(&image([way.layer(&layer)]))
}

/// The warnings about proof that a command printed.
fn warnings(outcome: &Outcome) -> Vec<&str> {
    outcome.stderr.lines().filter(|line| line.contains("proof `")).collect()
}

#[track_caller]
fn shows_evil(outcome: &Outcome, expected: bool, what: &str) {
    outcome.succeeded();
    assert_eq!(outcome.stdout.contains("evil"), expected, "{what}: {outcome:?}");
    assert_eq!(outcome.stdout.contains("005"), !expected, "{what}: {outcome:?}");
}

/// Said in three ways, the nearest of which counts.
#[test]
fn full_proof_shows_the_tar() {
    let setup = with_a_lie();
    let ls = |flags: &[&str], variable: &str| {
        setup.forget();
        let words = [&["ls"], flags, &[&setup.name, "bulk1"]].concat();
        run(setup.home.ocifs(&words).env("OCIFS_PROOF", variable))
    };
    shows_evil(&ls(&[], ""), true, "by default");
    shows_evil(&ls(&["--proof", "full"], ""), false, "flag");
    shows_evil(&ls(&[], "full"), false, "variable");
    shows_evil(&ls(&["--proof", "any"], "full"), true, "the flag counts before the variable");
    setup.configure("proof = \"full\"\n");
    shows_evil(&ls(&[], ""), false, "settings");
    shows_evil(&ls(&[], "any"), true, "the variable counts before the settings");
    shows_evil(&ls(&["--proof=any"], ""), true, "the flag counts before the settings");
    setup.configure("proof = \"some\"\n");
    ls(&[], "").failed(1, &["settings", "`full`, `any` or `transport`"]);
    for (flags, variable) in [(&["--proof", "toc"][..], ""), (&[], "most")] {
        ls(flags, variable).failed(2, &["`full`, `any` or `transport`"]);
    }
    // An index of a table that lies in the cache is not enough.
    setup.configure("");
    shows_evil(&setup.run(&["ls"], &["bulk1"]), true, "before");
    setup
        .run(&["cat", "--offline", "--proof", "full"], &["bulk1/006"])
        .failed(1, &["a proof", "without --offline"]);
    setup.run(&["cat", "--proof", "full"], &["bulk1/evil"]).failed(1, &["bulk1/evil"]);
}

/// What writes a whole tree down, and what fetches all of it anyway, proves it.
#[test]
fn export_and_pull_prove() {
    let setup = with_a_lie();
    shows_evil(&setup.run(&["ls"], &["bulk1"]), true, "ls");
    let exported = setup.run(&["export"], &[]);
    assert_eq!((exported.code, warnings(&exported)), (0, vec![]));
    assert!(!exported.stdout.contains("bulk1/evil") && exported.stdout.contains("bulk1/005"));
    setup.forget();
    let exported = setup.run(&["export"], &["--proof", "any"]);
    assert!(exported.code == 0 && exported.stdout.contains("bulk1/evil"));
    setup.forget();
    setup.run(&["pull"], &[]).succeeded();
    shows_evil(&setup.run(&["ls"], &["--offline", "bulk1"]), false, "after a pull");
}

/// One line an image, as long as less is proven; none for those who asked for it.
#[test]
fn weaker_proofs_are_told() {
    let setup = with_a_lie();
    for verb in [&["ls"][..], &["cat"]] {
        let outcome = setup.run(verb, &[&bulk(1, 6)]);
        let told = warnings(&outcome);
        assert_eq!(told.len(), 1, "{outcome:?}");
        for word in [&setup.name[..], "proof `toc`", "1 of 1 layers", "--proof full"] {
            assert!(told[0].contains(word), "{word}: {told:?}");
        }
        assert_eq!(warnings(&setup.run(verb, &["--proof", "any", &bulk(1, 6)])).len(), 0);
    }
    setup.configure("proof = \"any\"\n");
    assert_eq!(warnings(&setup.run(&["ls"], &[])).len(), 0);
    setup.configure("");
    // What is proven is not talked about.
    setup.run(&["cat", "--proof", "full"], &[&bulk(1, 6)]).succeeded();
    assert_eq!(warnings(&setup.run(&["ls"], &[])).len(), 0);
}

#[test]
fn mounts_tell_and_prove() {
    let setup = with_a_lie();
    setup.registry.add_image(
        "s",
        "t",
        &image([ways()[5].layer(&(ways()[5].write)(&entries(2), None))]),
    );
    let other = format!("{}/s:t", setup.registry.addr());
    let mount_point = setup.home.mount_point();
    let place = text(&mount_point);
    let is_there = |flags: &[&str]| {
        let outcome = setup.run(&["mount"], &[flags, &[place]].concat());
        let is_told = outcome.stderr.contains("is already mounted at");
        assert!(outcome.code == 0 && is_told, "{outcome:?}");
    };
    let outcome = setup.run(&["mount"], &[place]);
    outcome.succeeded();
    assert_eq!(warnings(&outcome).len(), 1, "{outcome:?}");
    assert!(mount_point.join("bulk1/evil").exists());
    // What is there is not what is asked for.
    setup.run(&["mount", "--proof", "full"], &[place]).failed(1, &["weaker proof"]);
    is_there(&[]);
    setup.home.run(&["umount", place]).succeeded();
    let outcome = setup.run(&["mount", "--proof", "full"], &[place]);
    outcome.succeeded();
    assert_eq!(warnings(&outcome).len(), 0, "{outcome:?}");
    assert!(!mount_point.join("bulk1/evil").exists() && mount_point.join(bulk(1, 5)).exists());
    is_there(&["--proof", "full"]);
    setup.home.run(&["umount", place]).succeeded();
    // Of several images each is told of once.
    setup.forget();
    let (a, b) = (format!("a={}", setup.name), format!("b={other}"));
    let outcome = setup.home.run(&["mount", &a, &b, place]);
    outcome.succeeded();
    let told = warnings(&outcome);
    assert!(told.len() == 2 && told[0].contains(&setup.name) && told[1].contains(&other));
    setup.home.run(&["umount", place]).succeeded();
    setup.home.is_quiet();
}

/// Content that a table shows, and no tar around it.
fn without_a_tar(before: &[u8]) -> Written {
    let content = noise(600_000, 9);
    estargz::compose(&[before.to_vec(), content.clone()], &|at| {
        vec![
            json!({ "name": "f", "type": "reg", "mode": 0o644, "size": content.len(), "offset": at[1],
            "chunkSize": content.len(), "chunkDigest": sha256(&content), "digest": sha256(&content) }),
        ]
    })
}

#[test]
fn no_tar_behind_a_table() {
    let way = &ways()[0];
    // Another word that no header begins with, and the end mark of a tar, behind which readers stop.
    for (before, words) in [(&b"# not a header\n"[..], "f"), (&[0; 1024], "no tar")] {
        let setup = Published::new(&image([way.layer(&without_a_tar(before))]));
        let outcome = setup.run(&["ls"], &[]);
        outcome.succeeded();
        assert_eq!((outcome.stdout.trim(), warnings(&outcome).len()), ("f", 1));
        for verb in [&["ls", "--proof", "full"][..], &["export"], &["pull"]] {
            setup.run(verb, &[]).failed(1, &[words, "layer sha256:"]);
        }
        let verified = setup.run(&["verify"], &[]);
        assert!(verified.code == 1 && verified.stdout.contains("WRONG"), "{verified:?}");
    }
    // An empty layer is none of these.
    let layer = (way.write)(&[], None);
    let setup = Published::new(&image([way.layer(&layer)]));
    assert_eq!(setup.run(&["ls", "--proof", "full"], &[]).code, 0);
    assert_eq!(setup.run(&["cat"], &["none"]).code, 1);
}

/// The layers of `verify --json`: whether they are good and were read, and whether it says when they were proven.
fn verified(outcome: &Outcome) -> Vec<(bool, bool, bool)> {
    let found: serde_json::Value = serde_json::from_str(&outcome.stdout).unwrap();
    let rows = found["layers"].as_array().unwrap().clone();
    let is = |row: &serde_json::Value, key: &str| row[key].as_bool().unwrap();
    rows.iter().map(|row| (is(row, "ok"), is(row, "read"), row["proven_at"].is_u64())).collect()
}

/// What was proven once is told apart from what was read now, and is read again if that is wanted.
#[test]
fn verify_says_what_it_has_not_read() {
    let layer = |seed| Layer::new(&tar(&entries(seed)), Compression::Gzip);
    let built = image([layer(1), layer(2)]);
    let setup = Published::new(&built);
    setup.run(&["cat"], &[&bulk(2, 1)]).succeeded();
    let rows = verified(&setup.run(&["verify"], &["--json"]));
    assert_eq!(rows, [(true, true, false), (true, false, true)], "the topmost was streamed before");
    let outcome = setup.run(&["verify"], &[]);
    outcome.succeeded();
    assert_eq!(outcome.stdout.matches(": ok").count(), 0, "{outcome:?}");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let year = 1970 + now / 31_556_952;
    let told: Vec<&str> =
        outcome.stdout.lines().filter(|line| line.ends_with(" UTC, not read again")).collect();
    assert_eq!(told.len(), 2, "{outcome:?}");
    assert!(told[0].contains(&format!(": proven on {year}-")), "{told:?}");
    // All of it is asked for, documents too, and that is told as such.
    let outcome = setup.run(&["verify", "--again"], &["--json"]);
    assert_eq!(verified(&outcome), [(true, true, false); 2]);
    let asked = setup.registry.requests();
    for (digest, size) in built.layer_digests().iter().zip(built.layer_sizes()) {
        assert_eq!(setup.asked_of(digest).1, size);
    }
    assert!(
        asked.iter().any(|request| request.path.contains("/manifests/") && request.method == "GET")
    );
    let outcome = setup.run(&["verify", "--again"], &[]);
    assert!(outcome.code == 0 && outcome.stdout.matches(": ok").count() == 2, "{outcome:?}");
    setup.run(&["verify", "--again", "--offline"], &[]).failed(2, &["--offline"]);
    // Changed in the registry since.
    let digest = &built.layer_digests()[1];
    setup.registry.fault(("GET", digest, Times::Always), Fault::FlipByte(5000));
    assert_eq!(setup.run(&["verify"], &[]).code, 0);
    let outcome = setup.run(&["verify", "--again"], &["--json"]);
    assert_eq!(
        (outcome.code, verified(&outcome)),
        (1, vec![(true, true, false), (false, true, false)])
    );
}

/// A span that was changed in the cache together with its checksum is found out and replaced.
#[test]
fn verify_again_compares_spans() {
    let content = noise(3_000_000, 4);
    let built = image([Layer::new(&tar(&[Entry::file("f", &content)]), Compression::Gzip)]);
    let setup = Published::new(&built);
    setup.run(&["pull"], &[]).succeeded();
    let spans = files_below(&setup.home.path().join("cache/v1/spans"));
    let span = spans.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut file = fs::read(span).unwrap();
    // The bytes, a digest of 32 bytes, and XXH3-64 of both.
    let digest_at = file.len() - 40;
    file[digest_at / 2] ^= 1;
    let checksum = xxhash_rust::xxh3::xxh3_64(&file[..digest_at + 32]);
    file[digest_at + 32..].copy_from_slice(&checksum.to_le_bytes());
    fs::write(span, &file).unwrap();
    let outcome = setup.run(&["verify", "--again"], &[]);
    assert!(outcome.code == 0 && outcome.stderr.contains("it is replaced"), "{outcome:?}");
    file[digest_at / 2] ^= 1;
    assert_eq!(fs::read(span).unwrap()[..digest_at], file[..digest_at]);
    setup.run(&["verify", "--again"], &[]).succeeded();
}

/// A blob that is nowhere, with the diff ID of a layer that is in the cache: what is shown is the right tar, and the
/// blob was not seen.
#[test]
fn a_blob_that_exists_nowhere() {
    let content = tar(&entries(1));
    let real = Layer::new(&content, Compression::Gzip);
    let setup = Published::new(&image([real]));
    setup.run(&["cat"], &[&bulk(1, 1)]).succeeded();
    let absent = image([Layer::new(&content, Compression::Gzip).digest(&sha256(b"nowhere"))]);
    setup.registry.add_image("absent", "t", &absent);
    let digest = &absent.layer_digests()[0];
    setup
        .registry
        .fault(("GET", digest, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    let name = format!("{}/absent:t", setup.registry.addr());
    let proofs = |name: &str| {
        let mount_point = setup.home.mount_point();
        let outcome = setup.home.run(&["mount", name, text(&mount_point)]);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        let mut value = [0; 16];
        let file = mount_point.join(bulk(1, 1));
        let length = rustix::fs::getxattr(&file, "user.ocifs.proof", &mut value).unwrap();
        let by_file = String::from_utf8(value[..length].to_vec()).unwrap();
        let status = setup.home.status();
        let by_status = status["layers"][0]["proof"].as_str().map(str::to_owned);
        setup.home.run(&["umount", text(&mount_point)]).succeeded();
        (by_file, by_status, warnings(&outcome).iter().any(|told| told.contains("proof `tar`")))
    };
    let (file, status, warned) = proofs(&name);
    assert_eq!((&file[..], status.as_deref(), warned), ("tar", Some("tar"), true));
    for words in [&["ls", "--proof", "full"][..], &["export"], &["pull"]] {
        setup.home.run(&[words, &[&name]].concat()).failed(1, &[digest]);
    }
    assert_eq!(setup.home.run(&["verify", &name]).code, 1);
    // The image whose blob was seen, and the same tar in a blob of its own once that was seen.
    let (file, _, warned) = proofs(&setup.name);
    assert_eq!((&file[..], warned), ("full", false));
    let plain = image([Layer::new(&content, Compression::Zstd)]);
    setup.registry.add_image("plain", "t", &plain);
    let name = format!("{}/plain:t", setup.registry.addr());
    assert_eq!(proofs(&name).0, "tar");
    setup.home.run(&["pull", &name]).succeeded();
    let (file, _, warned) = proofs(&name);
    assert_eq!((&file[..], warned), ("full", false));
}
