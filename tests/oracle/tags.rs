//! `ocifs tags` beside skopeo, and the storage of a registry beside what was pushed to it.

use serde_json::Value;

use crate::inspect::{json, skopeo};
use crate::mounted::Home;
use crate::servers::Registry;
use crate::support::content::{Content, image_for, multi};

#[test]
fn skopeo_lists_the_same_and_the_storage_knows_what_was_before() {
    let (registry, home) = (Registry::shared(), Home::new());
    let mut content = Content::default();
    let (index, _) = multi(&mut content);
    let old = content.image(&image_for("amd64"));
    content.tag("moved", &old);
    for tag in ["1.4.2", "1.4", "latest", "moved"] {
        content.tag(tag, &index);
    }
    content.tag("1.3", &old);
    content.push(registry.address(), "tags/app").unwrap();
    let name = format!("{}/tags/app", registry.address());
    let theirs = json(&mut skopeo(&["list-tags"], &name))["Tags"].take();
    let mut theirs: Vec<String> = serde_json::from_value(theirs).unwrap();
    theirs.sort();
    let root = registry.storage().display().to_string();
    for name in [name.clone(), format!("registry-storage:{root}//tags/app")] {
        let document = json(home.ocifs().args(["tags", "--json", &name]));
        let groups = document["groups"].as_array().unwrap();
        let tags = groups.iter().flat_map(|group| group["tags"].as_array().unwrap());
        let mut ours: Vec<String> = tags.map(|tag| tag.as_str().unwrap().to_owned()).collect();
        ours.sort();
        assert_eq!(ours, theirs, "{name}");
        for group in groups {
            for tag in group["tags"].as_array().unwrap() {
                let image = format!("{}/tags/app:{}", registry.address(), tag.as_str().unwrap());
                let theirs = json(&mut skopeo(&["--override-arch=amd64", "inspect"], &image));
                assert_eq!(group["digest"], theirs["Digest"], "{image}");
            }
        }
        let moved = groups.iter().find(|group| group["digest"] == index["digest"]).unwrap();
        let earlier: Vec<(&Value, &Value)> = moved["earlier"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (&row["tag"], &row["digest"]))
            .collect();
        let expected = (&Value::from("moved"), &old["digest"]);
        let expected = if name.starts_with("registry-storage") { vec![expected] } else { vec![] };
        assert_eq!(earlier, expected, "{name}");
    }
    // What a registry's storage holds is looked at as through the registry.
    let ours = |name: &str| {
        let mut document = json(home.ocifs().args(["inspect", "--all", "--json", name]));
        document["image"].take();
        document
    };
    let stored = ours(&format!("registry-storage:{root}//tags/app:1.4"));
    assert_eq!(stored, ours(&format!("{name}:1.4")));
}
