//! `ocifs tags`: what is asked for, and lists that never end.

use std::fs;

use serde_json::{Value, json};

use crate::inspect::Repository;
use crate::shell::Home;
use crate::support::content::{Content, image_for, multi};
use crate::support::image::sha256;
use crate::support::registry::{Fault, TagPages, Times};
use crate::support::tarball::{Entry, tar};

/// Versions, some of which are one image, and a signature.
fn repository() -> (Repository, Value) {
    let mut content = Content::default();
    let (index, _) = multi(&mut content);
    let old = content.image(&image_for("amd64"));
    for tag in ["1.10.2", "1.10", "1", "latest"] {
        content.tag(tag, &index);
    }
    for tag in ["1.9", "1.9.4", "1.11-rc1", "20240101"] {
        content.tag(tag, &old);
    }
    let digest = index["digest"].as_str().unwrap().replace(':', "-");
    content.tag(&format!("{digest}.sig"), &old);
    (Repository::new(&content), index)
}

fn layer() -> Vec<u8> {
    tar(&[Entry::file("f", b"content")])
}

fn tags(document: &Value) -> Vec<String> {
    let groups = document["groups"].as_array().unwrap().iter();
    let tags = groups.map(|group| {
        let tags = group["tags"].as_array().unwrap().iter();
        tags.map(|tag| tag.as_str().unwrap()).collect::<Vec<_>>().join(" ")
    });
    tags.collect()
}

#[test]
fn a_page_and_a_head_for_each_tag() {
    let (repository, index) = repository();
    let document = repository.json("tags", "", &[]);
    assert_eq!(tags(&document), ["20240101 1.11-rc1 1.9.4 1.9", "1.10.2 1.10 1 latest"]);
    assert_eq!(document["groups"][1]["digest"], index["digest"]);
    assert_eq!(document["groups"][1]["platforms"], Value::Null, "that is not asked for");
    assert_eq!(document["hidden"], 1);
    let asked = repository.asked();
    assert_eq!(asked.len(), 9, "{asked:?}");
    let heads = asked.iter().filter(|request| request.starts_with("HEAD manifests/"));
    assert_eq!((heads.count(), &*asked[0]), (8, "GET tags/list"));

    let names = repository.run("tags", "", &["--names"]);
    names.succeeded();
    assert_eq!((names.stdout.lines().count(), repository.asked().len()), (8, 1));
    let all = repository.json("tags", "", &["--all"]);
    assert!(tags(&all).concat().contains(".sig"), "{all}");
    // The highest version: neither a prerelease nor a date.
    let latest = repository.json("tags", "", &["--latest"]);
    assert_eq!((tags(&latest), repository.asked().len()), (vec!["1.10.2".into()], 2));
}

/// A document for each digest, and the config of what is no index; what is in the cache then costs nothing.
#[test]
fn platforms_where_they_are_wanted() {
    let (repository, _) = repository();
    let document = repository.json("tags", "", &["--long"]);
    let gets = |repository: &Repository| {
        repository.asked().iter().filter(|request| request.starts_with("GET")).count()
    };
    assert_eq!(gets(&repository), 1 + 2 + 1, "{:?}", repository.asked());
    assert_eq!(document["groups"][0]["platforms"], json!(["linux/amd64"]));
    assert_eq!(document["groups"][0]["created"], 1_704_164_646);
    assert_eq!(document["groups"][1]["platforms"], json!(["linux/amd64", "linux/arm64"]));
    let document = repository.json("tags", "", &[]);
    assert_eq!(document["groups"][1]["platforms"], json!(["linux/amd64", "linux/arm64"]));
    assert_eq!(gets(&repository), 1);
}

#[test]
fn lists_in_pages() {
    let (repository, _) = repository();
    let whole = tags(&repository.json("tags", "", &["--all"]));
    for is_absolute in [false, true] {
        for count in [1, 4, 9] {
            repository.registry.set_tag_pages(TagPages::Paged { count, is_absolute });
            let document = repository.json("tags", "", &["--all"]);
            assert_eq!(
                (tags(&document), &document["cut"]),
                (whole.clone(), &Value::Null),
                "{count}"
            );
            let pages = repository.asked().iter().filter(|p| p.contains("tags/list")).count();
            assert_eq!(pages, 9usize.div_ceil(count));
        }
    }
}

#[test]
fn lists_that_never_end() {
    let (repository, _) = repository();
    let elsewhere = TagPages::Elsewhere("http://127.0.0.1:1/v2/r/tags/list?last=x".to_owned());
    for (pages, words, most) in [
        (TagPages::Circle, "had no tags that others had not", 2),
        (TagPages::Endless, "more than 1000 pages", 1000),
        (elsewhere, "at another host", 1),
    ] {
        repository.registry.set_tag_pages(pages);
        let outcome = repository.run("tags", "", &["--names"]);
        assert!(outcome.code == 0 && outcome.stderr.contains(words), "{}", outcome.stderr);
        assert_eq!(repository.asked().len(), most, "{words}");
    }
    // Of the tags of such a list not all are asked about.
    repository.registry.set_tag_pages(TagPages::Endless);
    let outcome = repository.run("tags", "", &["--json"]);
    assert!(outcome.stderr.contains("were not asked about"), "{}", outcome.stderr);
    let heads = repository.asked().iter().filter(|request| request.starts_with("HEAD")).count();
    assert_eq!(heads, 1000);
}

#[test]
fn lists_that_are_none_and_registries_that_do_not_say() {
    let (repository, _) = repository();
    let body = br#"{"tags":["ok",null,"\u001b[2J","../../x/manifests/y","",{}]}"#.to_vec();
    repository
        .registry
        .fault(("GET", "/tags/list", Times::Nth(1)), Fault::Status(200, vec![], body));
    let outcome = repository.run("tags", "", &["--names"]);
    outcome.succeeded();
    assert_eq!(outcome.stdout, "ok\n");
    repository.registry.clear_faults();
    // HEAD is refused: the digest is not known, and the tag is listed.
    let refused = Fault::Status(405, vec![], vec![]);
    repository.registry.fault(("HEAD", "/manifests/latest", Times::Always), refused);
    let document = repository.json("tags", "", &[]);
    let last = document["groups"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["tags"], &last["digest"]), (&json!(["latest"]), &Value::Null));
    let outcome = repository.home.run(&["tags", &repository.name(":1")]);
    outcome.failed(2, &["without `1`"]);
    let outcome = repository.home.run(&["tags", &format!("{}/none", repository.registry.addr())]);
    outcome.failed(1, &["none"]);
}

#[test]
fn layouts() {
    let mut content = Content::default();
    let (index, _) = multi(&mut content);
    let old = content.image(&image_for("amd64"));
    for (tag, row) in [("2.0", &index), ("latest", &index), ("1.9", &old)] {
        content.tag(tag, row);
    }
    let home = Home::new();
    let layout = home.path().join("layout");
    content.write_layout(&layout).unwrap();
    let shown = home.run(&["tags", "--json", &format!("oci:{}", layout.display())]);
    let document: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!(tags(&document), ["2.0 latest", "1.9"]);
    assert_eq!(document["groups"][0]["platforms"], json!(["linux/amd64", "linux/arm64"]));
    assert_eq!(document["groups"][1]["created"], 1_704_164_646);
    home.run(&["tags", "docker-daemon:app"]).failed(1, &[]);
}

/// Archives of `docker save` without a layout: since Docker 1.10, and before.
#[test]
fn archives() {
    let (home, layer) = (Home::new(), layer());
    let image = |label: &str| -> Vec<u8> {
        let diff_id = sha256(&layer);
        json!({
            "architecture": "arm64", "os": "linux", "created": "2024-01-02T03:04:06Z",
            "config": { "Labels": { "of": label } }, "rootfs": { "type": "layers", "diff_ids": [diff_id] },
        })
        .to_string()
        .into_bytes()
    };
    let row = |config: &str, tags: &[&str]| json!({ "Config": config, "RepoTags": tags, "Layers": ["l.tar"] });
    let rows = json!([row("a.json", &["app:1.9"]), row("b.json", &["app:1.10", "app:latest"])]);
    let listed = tar(&[
        Entry::file("manifest.json", rows.to_string().into_bytes()),
        Entry::file("a.json", image("a")),
        Entry::file("b.json", image("b")),
        Entry::file("l.tar", layer.clone()),
    ]);
    let (one, two) = ("1".repeat(64), "2".repeat(64));
    let repositories = json!({ "app": { "1.9": one, "1.10": two, "latest": two } });
    let chain = |id: &str, label: &str| {
        let json = json!({ "id": id, "created": "2024-01-02T03:04:06Z", "architecture": "arm64", "author": label });
        [
            Entry::file(format!("{id}/json"), json.to_string().into_bytes()),
            Entry::file(format!("{id}/layer.tar"), layer.clone()),
        ]
    };
    let mut chains = vec![Entry::file("repositories", repositories.to_string().into_bytes())];
    chains.extend(chain(&one, "a").into_iter().chain(chain(&two, "b")));
    for (archive, bytes) in [("listed.tar", listed), ("chains.tar", tar(&chains))] {
        let name = format!("docker-archive:{}", home.path().join(archive).display());
        fs::write(home.path().join(archive), bytes).unwrap();
        let shown = home.run(&["tags", "--json", &name]);
        shown.succeeded();
        let document: Value = serde_json::from_str(&shown.stdout).unwrap();
        assert_eq!(tags(&document), ["app:1.10 app:latest", "app:1.9"], "{archive}: {document}");
        for group in document["groups"].as_array().unwrap() {
            assert_eq!(group["platforms"], json!(["linux/arm64"]), "{archive}");
            assert_eq!(group["created"], 1_704_164_646, "{archive}");
        }
        // The digests are those under which the images are shown.
        let selected = home.run(&["inspect", "--json", &format!("{name}:app:1.9")]);
        let selected: Value = serde_json::from_str(&selected.stdout).unwrap();
        assert_eq!(selected["root"]["digest"], document["groups"][1]["digest"], "{archive}");
        home.run(&["ls", &name]).failed(1, &["app:1.9"]);
    }
}
