//! `ocifs inspect` and `ocifs blob` beside skopeo, umoci and podman.

use std::process::Command;

use serde_json::Value;

use crate::mounted::Home;
use crate::servers::{Registry, program, run};
use crate::stores::podman;
use crate::support::content::{Content, multi};
use crate::support::image::sha256;

fn stdout(command: &mut Command) -> Vec<u8> {
    run(command).stdout
}

pub fn json(command: &mut Command) -> Value {
    serde_json::from_slice(&stdout(command)).unwrap()
}

pub fn skopeo(words: &[&str], name: &str) -> Command {
    let mut command = program("skopeo", "skopeo");
    command.args(words).arg("--tls-verify=false").arg(format!("docker://{name}"));
    command
}

#[test]
fn skopeo_says_the_same() {
    let (registry, home) = (Registry::shared(), Home::new());
    let mut content = Content::default();
    let (index, images) = multi(&mut content);
    content.tag("1.4", &index);
    content.push(registry.address(), "inspect/multi").unwrap();
    let name = format!("{}/inspect/multi:1.4", registry.address());
    for (architecture, image) in ["amd64", "arm64"].iter().zip(&images) {
        let platform = format!("linux/{architecture}");
        let ours = json(home.ocifs().args(["inspect", "--json", "--platform", &platform, &name]));
        let arch = format!("--override-arch={architecture}");
        let theirs = json(&mut skopeo(&[&arch, "inspect"], &name));
        let config = json(&mut skopeo(&[&arch, "inspect", "--config"], &name));
        // The digest that skopeo tells is that of what the name means.
        assert_eq!(ours["root"]["digest"], theirs["Digest"]);
        assert_eq!(ours["digest"], image.manifest_digest);
        let layers = ours["layers"].as_array().unwrap().iter();
        let layers: Vec<&Value> = layers.map(|layer| &layer["digest"]).collect();
        assert_eq!(layers, theirs["Layers"].as_array().unwrap().iter().collect::<Vec<_>>());
        assert_eq!(ours["config"]["labels"], theirs["Labels"]);
        assert_eq!(ours["config"]["env"], theirs["Env"]);
        assert_eq!(theirs["Architecture"], **architecture);
        assert_eq!(ours["platform"].as_str().unwrap().split('/').nth(1), Some(*architecture));
        for (our, their) in [("user", "User"), ("cmd", "Cmd"), ("entrypoint", "Entrypoint")] {
            assert_eq!(ours["config"][our], config["config"][their], "{our}");
        }
        assert_eq!(config["created"], "2024-01-02T03:04:06Z");
        assert_eq!(ours["created"], 1_704_164_646);

        let raw =
            stdout(home.ocifs().args(["inspect", "--config", "--platform", &platform, &name]));
        assert_eq!(raw, stdout(&mut skopeo(&[&arch, "inspect", "--config", "--raw"], &name)));
        assert_eq!(ours["image_id"], sha256(&raw)[..]);
    }
    let raw = stdout(home.ocifs().args(["inspect", "--raw", &name]));
    assert_eq!(raw, stdout(&mut skopeo(&["inspect", "--raw"], &name)));
    assert_eq!(sha256(&raw), index["digest"]);
    let layer = &images[0].layer_digests()[0];
    let blob = stdout(home.ocifs().args(["blob", &name, layer]));
    assert_eq!(&sha256(&blob), layer);
}

/// umoci's view of a layout, and podman's of its store.
#[test]
fn umoci_and_podman_say_the_same() {
    let (registry, home) = (Registry::shared(), Home::new());
    let folder = tempfile::tempdir().unwrap();
    let mut content = Content::default();
    let (_, images) = multi(&mut content);
    content.tag("one", &images[0].descriptor());
    content.push(registry.address(), "inspect/one").unwrap();
    let layout = folder.path().join("layout");
    content.write_layout(&layout).unwrap();
    let image = format!("{}:one", layout.display());
    let ours = json(home.ocifs().args(["inspect", "--json", &format!("oci:{image}")]));
    let stat = json(program("umoci", "umoci").args(["stat", "--json", "--image", &image]));
    let history = stat["history"].as_array().unwrap().iter();
    let theirs: Vec<(&Value, &Value)> =
        history.map(|step| (&step["layer"]["digest"], &step["layer"]["size"])).collect();
    let layers = ours["layers"].as_array().unwrap().iter();
    assert_eq!(layers.map(|layer| (&layer["digest"], &layer["size"])).collect::<Vec<_>>(), theirs);

    let reference = format!("{}/inspect/one:one", registry.address());
    let store = folder.path().join("store");
    std::fs::create_dir(&store).unwrap();
    let podman = || podman(&store, "vfs");
    run(podman().args(["pull", "--quiet", "--tls-verify=false", "--arch=amd64", &reference]));
    let theirs = json(podman().args(["image", "inspect", &reference]))[0].take();
    let root = json(podman().args(["info", "--format=json"]))["store"]["graphRoot"].take();
    let name = format!("containers-storage:[{}]{reference}", root.as_str().unwrap());
    for name in [&name, &reference] {
        let ours =
            json(home.ocifs().args(["inspect", "--json", "--platform", "linux/amd64", name]));
        let id = ours["image_id"].as_str().unwrap();
        assert_eq!(id.trim_start_matches("sha256:"), theirs["Id"], "{name}");
        // A store has no compressed layers any more, and so another manifest.
        assert_eq!(ours["digest"] == theirs["Digest"], *name == reference, "{name}");
        let layers = ours["layers"].as_array().unwrap().iter();
        let diff_ids: Vec<&Value> = layers.map(|layer| &layer["diff_id"]).collect();
        let expected = theirs["RootFS"]["Layers"].as_array().unwrap().iter();
        assert_eq!(diff_ids, expected.collect::<Vec<_>>(), "{name}");
        assert_eq!(ours["config"]["labels"], theirs["Labels"], "{name}");
        assert_eq!(ours["author"], theirs["Author"], "{name}");
        for (our, their) in [("user", "User"), ("working_dir", "WorkingDir"), ("env", "Env")] {
            assert_eq!(ours["config"][our], theirs["Config"][their], "{name}: {our}");
        }
    }
}
