//! `mount --lowest-layers`: what the lowest layers alone make.

use std::fs;

use rustix::process::{Signal, kill_process};

use crate::shell::{Home, eventually};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

fn image() -> Built {
    let layers = [
        vec![Entry::file("f", "first"), Entry::file("gone", "x")],
        vec![Entry::file("f", "second"), Entry::file(".wh.gone", "")],
        vec![Entry::file("top", "x")],
    ];
    let builder = ImageBuilder::new();
    layers.iter().fold(builder, |b, entries| b.layer(&tar(entries), Compression::Gzip)).build()
}

#[test]
fn each_number_of_layers_is_a_tree_of_its_own() {
    let (registry, home) = (Registry::start(), Home::new());
    registry.add_image("app", "1", &image());
    let name = format!("{}/app:1", registry.addr());
    let m = home.mount_point();
    for (count, f, has_gone, has_top) in
        [("1", "first", true, false), ("2", "second", false, false), ("3", "second", false, true)]
    {
        home.run(&["mount", "--lowest-layers", count, &name, "M"]).succeeded();
        let check = || {
            assert_eq!(fs::read_to_string(m.join("f")).unwrap(), f, "{count}");
            let there = (m.join("gone").exists(), m.join("top").exists());
            assert_eq!(there, (has_gone, has_top), "{count}");
        };
        check();
        let status = home.status();
        assert_eq!(status["options"]["lowest_layers"].to_string(), count);
        assert_eq!(status["layers"].as_array().unwrap().len().to_string(), count);
        // Another process goes on with the same.
        let worker = home.workers()[0];
        kill_process(worker, Signal::KILL).unwrap();
        assert!(eventually(|| !home.workers().contains(&worker)));
        check();
        // The same is there already, and something else is not.
        let again = home.run(&["mount", "--lowest-layers", count, &name, "M"]);
        assert!(again.code == 0 && again.stderr.contains("already mounted"), "{again:?}");
        home.run(&["mount", &name, "M"]).failed(1, &["mounted in another way"]);
        home.run(&["umount", "M"]).succeeded();
    }
    home.is_quiet();
}

#[test]
fn layers_that_the_image_has_not_are_told_of() {
    let (registry, home) = (Registry::start(), Home::new());
    registry.add_image("app", "1", &image());
    let name = format!("{}/app:1", registry.addr());
    for count in ["0", "4"] {
        let outcome = home.run(&["mount", "--lowest-layers", count, &name, "M"]);
        outcome.failed(
            1,
            &[&format!("the lowest {count} layers were asked for, and the image has 3")],
        );
    }
    home.is_quiet();
}
