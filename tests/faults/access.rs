//! Content that this machine has and that the registry would not give to this user: `--check-access`, its
//! variable and its setting.

use crate::external_fixture::{bulk, entries, image, ways};
use crate::fixture::{GOOD, image_of};
use crate::published::Published;
use crate::shell::{Outcome, run, text};
use crate::support::image::{Built, Compression, ImageBuilder, sha256};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, tar};

const FLAG: &str = "--check-access";

/// The tar whose content a repository keeps from others.
fn secret() -> Vec<u8> {
    tar(&[Entry::file("f", GOOD)])
}

/// A secret image of the repository `r`, seen on this machine before, and a name that its layer is to be had
/// by in the repository `theirs`, whose author knows the digests alone.
fn planted(blob: Option<&[u8]>) -> (Published, String) {
    let image = image_of(&secret(), Compression::Gzip);
    let setup = Published::new(&image);
    setup.run(&["cat"], &["f"]).succeeded();
    let (repo, registry) = ("theirs", &setup.registry);
    let Built { manifest, config, .. } = &image;
    let layer = &image.layer_digests()[0];
    let manifest = match blob {
        // Their own blob, which their config claims to be of that tar.
        Some(blob) => {
            let own = sha256(blob);
            let text = String::from_utf8(manifest.clone()).unwrap().replace(layer, &own);
            let size = image.layer_sizes()[0].to_string();
            registry.add_blob(repo, &own, blob);
            text.replace(&format!("\"size\":{size}"), &format!("\"size\":{}", blob.len())).into()
        }
        None => manifest.clone(),
    };
    registry.add_manifest(repo, "t", &image.manifest_media_type, &manifest);
    registry.add_blob(repo, &sha256(config), config);
    let name = format!("{}/{repo}:t", registry.addr());
    (setup, name)
}

/// The requests since the log was cleared, as `METHOD kind`.
fn asked(setup: &Published) -> Vec<String> {
    let kind = |path: &str| path.split('/').rev().nth(1).unwrap_or_default().to_owned();
    let requests = setup.registry.requests();
    requests.iter().map(|r| format!("{} {}", r.method, kind(&r.path))).collect()
}

#[test]
fn the_registry_is_asked_for_each_layer() {
    let tars = [tar(&[Entry::file("g", "")]), secret()];
    let setup = Published::new(
        &ImageBuilder::new()
            .layer(&tars[0], Compression::Gzip)
            .layer(&tars[1], Compression::Zstd)
            .layer(&tars[1], Compression::Zstd)
            .build(),
    );
    let cat = |flags: &[&str], variable: &str| {
        setup.registry.clear_log();
        let words = [&["cat"], flags, &[&setup.name, "f"]].concat();
        let outcome = run(setup.home.ocifs(&words).env("OCIFS_CHECK_ACCESS", variable));
        (outcome, asked(&setup))
    };
    let shows = |(outcome, asked): (Outcome, Vec<String>), heads: usize, what: &str| {
        outcome.succeeded();
        assert_eq!(outcome.stdout.as_bytes(), GOOD, "{what}");
        let blobs = asked.iter().filter(|request| *request == "HEAD blobs").count();
        assert_eq!(blobs, heads, "{what}: {asked:?}");
    };
    cat(&[], "").0.succeeded();
    let before = cat(&[], "");
    assert_eq!(before.1, ["HEAD manifests"]);
    shows(before, 0, "by default");
    // The manifest, its config, and each distinct layer once.
    let with = cat(&[FLAG], "");
    let documents = with.1.iter().filter(|request| *request != "HEAD blobs").cloned();
    assert_eq!(documents.collect::<Vec<_>>(), ["GET manifests", "GET blobs"], "{:?}", with.1);
    shows(with, 2, "flag");
    shows(cat(&[], "1"), 2, "variable");
    shows(cat(&[], "false"), 0, "variable that says no");
    setup.configure("check-access = true\n");
    shows(cat(&[], ""), 2, "settings");
    cat(&["--offline"], "").0.failed(1, &["offline", "check-access"]);
    // Where storage knows no HEAD, a GET of one byte tells as much.
    setup.registry.fault(("HEAD", "/blobs/", Times::Always), Fault::Status(405, vec![], vec![]));
    let (outcome, asked) = cat(&[], "");
    outcome.succeeded();
    let gets = asked.iter().filter(|request| *request == "GET blobs").count();
    assert_eq!(gets, 3, "the config and a byte of each layer: {asked:?}");
}

/// A digest alone is no right to what it names.
#[test]
fn layers_of_another_repository_are_not_shown() {
    let (setup, name) = planted(None);
    // What holds by default: content is known by its digest.
    let outcome = setup.home.run(&["cat", &name, "f"]);
    outcome.succeeded();
    let place = setup.home.mount_point();
    let mount = [FLAG, &name, text(&place)];
    let refused = ["blob sha256:", "theirs"];
    setup.home.run(&["cat", FLAG, &name, "f"]).failed(1, &refused);
    setup.home.run(&[&["mount"][..], &mount].concat()).failed(1, &refused);
    setup.home.run(&["cat", FLAG, &setup.name, "f"]).succeeded();
}

/// Nor is a diff ID in a config, which its author writes.
#[test]
fn tars_of_another_blob_are_not_shown() {
    let (setup, name) = planted(Some(b"no such tar"));
    setup.home.run(&["cat", &name, "f"]).succeeded();
    setup.home.run(&["cat", FLAG, &name, "f"]).failed(1, &["layer sha256:"]);
}

/// Who has a registry can have it say yes to everything: it has to send what it has not sent before.
#[test]
fn a_registry_that_grants_everything_has_to_send() {
    let image = image_of(&secret(), Compression::Gzip);
    let setup = Published::new(&image);
    setup.run(&["cat", FLAG], &["f"]).succeeded();
    // Another registry, of which the digests are known, and not the bytes.
    let other = Registry::start();
    other.add_image("theirs", "t", &image);
    let layer = &image.layer_digests()[0];
    other.add_blob("theirs", layer, &vec![0; image.layer_sizes()[0] as usize]);
    let name = format!("{}/theirs:t", other.addr());
    setup.home.run(&["cat", FLAG, &name, "f"]).failed(1, &[layer]);
    assert!(other.requests().iter().any(|r| r.method == "HEAD" && r.path.ends_with(&layer[..])));
    // What it does send is shown, and need not be sent again.
    other.add_image("theirs", "t", &image);
    setup.home.run(&["cat", FLAG, &name, "f"]).succeeded();
    other.clear_log();
    setup.home.run(&["cat", FLAG, &name, "f"]).succeeded();
    let sent = other.requests().into_iter().filter(|r| r.path.ends_with(&layer[..]));
    assert!(sent.clone().count() == 1 && sent.clone().all(|r| r.method == "HEAD"));
}

/// A page that is an answer to everything is none.
#[test]
fn a_login_portal_grants_nothing() {
    let setup = Published::new(&image_of(&secret(), Compression::Gzip));
    setup.run(&["cat", FLAG], &["f"]).succeeded();
    let page = || {
        let html = vec![("Content-Type".to_owned(), "text/html".to_owned())];
        Fault::Status(200, html, b"<html>Please log in.</html>".to_vec())
    };
    setup.registry.fault(("", "/blobs/", Times::Always), page());
    setup.run(&["cat", FLAG], &["f"]).failed(1, &["blob sha256:"]);
    setup.registry.clear_faults();
    for method in ["HEAD", "GET"] {
        let layer = format!("/blobs/{}", setup.layer());
        setup.registry.fault((method, &layer, Times::Always), page());
    }
    setup.run(&["cat", FLAG], &["f"]).failed(1, &["does not say that it has it"]);
}

/// An image that is in no registry is read whole: its folder may lack what the cache has.
#[test]
fn local_images_have_what_they_show() {
    let image = image_of(&secret(), Compression::Gzip);
    let setup = Published::new(&image);
    setup.run(&["cat"], &["f"]).succeeded();
    let name = setup.home.layout(&image);
    setup.home.run(&["cat", FLAG, &name, "f"]).succeeded();
    let blob = image.layer_digests()[0].replace(':', "/");
    let blob = setup.home.path().join("layout/blobs").join(blob);
    std::fs::write(&blob, vec![0; image.layer_sizes()[0] as usize]).unwrap();
    setup.home.run(&["cat", &name, "f"]).succeeded();
    setup.home.run(&["cat", FLAG, &name, "f"]).failed(1, &["layer sha256:"]);
}

/// A table of contents leads to content by its digest, whoever has fetched it.
#[test]
fn tables_lead_to_nothing_of_others() {
    let way = &ways()[0];
    let layer = (way.write)(&entries(1), None);
    let setup = Published::new(&image([way.layer(&layer)]));
    setup.run(&["cat"], &[&bulk(1, 6)]).succeeded();
    setup.registry.clear_log();
    let outcome = setup.run(&["cat", FLAG], &[&bulk(1, 6)]);
    outcome.succeeded();
    let layer = setup.layer();
    let (_, bytes) = setup.asked_of(&layer);
    assert!(bytes >= layer_bytes(&setup), "all of it is streamed: {bytes}");
}

/// The size of the only layer's blob.
fn layer_bytes(setup: &Published) -> u64 {
    let bytes = setup.registry.blob("r", &setup.layer()).unwrap();
    bytes.len() as u64
}

/// A layer under another size than its blob has is not what was proven.
#[test]
fn sizes_that_are_wrong_are_refused_from_the_cache_too() {
    let image = image_of(&secret(), Compression::Gzip);
    let setup = Published::new(&image);
    setup.run(&["cat"], &["f"]).succeeded();
    let size = image.layer_sizes()[0];
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    let text = text.replace(&format!("\"size\":{size}"), &format!("\"size\":{}", size + 5));
    setup.registry.add_manifest("r", "t", &image.manifest_media_type, text.as_bytes());
    setup.run(&["cat"], &["f"]).failed(1, &["layer sha256:"]);
}

/// An image by digest needs no request otherwise.
#[test]
fn manifests_by_digest_are_asked_for() {
    let image = image_of(&secret(), Compression::Gzip);
    let setup = Published::new(&image);
    let name = format!("{}/r@{}", setup.registry.addr(), image.manifest_digest);
    setup.home.run(&["cat", &name, "f"]).succeeded();
    setup.registry.clear_log();
    setup.home.run(&["cat", &name, "f"]).succeeded();
    assert_eq!(asked(&setup).len(), 0);
    let denied = Fault::Status(403, vec![], vec![]);
    setup.registry.fault(("", "/manifests/", Times::Always), denied);
    setup.home.run(&["cat", FLAG, &name, "f"]).failed(1, &["403"]);
}

/// What a tag meant over a connection that was not checked, by a flag of that time, is not used offline
/// without the flag.
#[test]
fn offline_tags_know_how_they_were_asked() {
    let setup = Published::new(&image_of(&secret(), Compression::Gzip));
    setup.run(&["cat"], &["--plain-http", "f"]).succeeded();
    let refused = setup.run(&["cat"], &["--offline", "f"]);
    refused.failed(1, &[&setup.name, "--plain-http", "by its digest"]);
    for flag in ["--plain-http", "--tls-verify=false"] {
        setup.run(&["cat"], &["--offline", flag, "f"]).succeeded();
    }
    setup.run(&["cat"], &["f"]).succeeded();
    setup.run(&["cat"], &["--offline", "f"]).succeeded();
}
