//! `cat` and `ls` of an image that is not in the cache ask for the layers that the answer needs, from the
//! top down, and for no other.

use crate::shell::Home;
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

fn image(layers: &[Vec<Entry>]) -> Built {
    let builder = ImageBuilder::new();
    let add =
        |builder: ImageBuilder, layer: &Vec<Entry>| builder.layer(&tar(layer), Compression::Gzip);
    layers.iter().fold(builder, add).build()
}

/// What a command says of an image in a registry, and the layers that it asked for, from the top.
struct Asked {
    code: i32,
    stdout: String,
    stderr: String,
    layers: Vec<usize>,
}

fn ask(image: &Built, registry: &Registry, home: &Home, words: &[&str]) -> Asked {
    let name = format!("{}/r:t", registry.addr());
    registry.add_image("r", "t", image);
    registry.clear_log();
    let words: Vec<&str> =
        words.iter().map(|word| if *word == "IMAGE" { &name[..] } else { *word }).collect();
    let outcome = home.run(&words);
    let log = registry.requests();
    let digests = image.layer_digests();
    let mut layers: Vec<usize> = (0..digests.len())
        .filter(|at| log.iter().any(|request| request.path.ends_with(&digests[*at])))
        .collect();
    layers.reverse();
    Asked { code: outcome.code, stdout: outcome.stdout, stderr: outcome.stderr, layers }
}

fn ask_cold(image: &Built, words: &[&str]) -> Asked {
    ask(image, &Registry::start(), &Home::new(), words)
}

fn four_layers() -> Vec<Vec<Entry>> {
    let dir = Entry::dir;
    vec![
        vec![
            dir("etc"),
            Entry::file("etc/base", "base"),
            Entry::file("etc/gone", "gone"),
            Entry::file("etc/was-a-file", "old"),
            dir("bin"),
            Entry::file("bin/tool", "tool"),
            Entry::symlink("link", "bin"),
            dir("cut"),
            Entry::file("cut/old", "old"),
        ],
        vec![dir("etc"), Entry::file("etc/low", "low"), Entry::hardlink("etc/tool", "bin/tool")],
        vec![
            dir("etc"),
            Entry::file("etc/mid", "mid"),
            Entry::file("etc/both", "lower"),
            Entry::symlink("etc/to-top", "/etc/top"),
            Entry::symlink("etc/to-base", "base"),
            Entry::symlink("etc/to-nothing", "/none/at/all"),
            Entry::symlink("etc/circle", "circle"),
            dir("cut"),
            Entry::file("cut/.wh..wh..opq", ""),
            Entry::file("cut/new", "new"),
        ],
        vec![
            dir("etc"),
            Entry::file("etc/top", "top"),
            Entry::file("etc/both", "upper"),
            Entry::file("etc/.wh.gone", ""),
            Entry::file("root-file", "root"),
            Entry::hardlink("etc/second", "etc/top"),
            dir("etc/was-a-file"),
            Entry::file("etc/was-a-file/x", "x"),
            dir("solo"),
            Entry::file("solo/.wh..wh..opq", ""),
            Entry::file("solo/x", "x"),
        ],
    ]
}

#[test]
fn layers_are_asked_for_from_the_top_down() {
    let image = image(&four_layers());
    for (words, code, expected, layers) in [
        (&["cat", "IMAGE", "/etc/top"][..], 0, "top", &[3][..]),
        (&["cat", "IMAGE", "root-file"], 0, "root", &[3]),
        (&["cat", "IMAGE", "//etc/./both"], 0, "upper", &[3]),
        (&["cat", "IMAGE", "etc/second"], 0, "top", &[3]),
        (&["cat", "IMAGE", "/etc/was-a-file/x"], 0, "x", &[3]),
        (&["cat", "IMAGE", "/etc/top", "/root-file"], 0, "toproot", &[3]),
        (&["cat", "IMAGE", "/etc/top", "/etc/mid"], 0, "topmid", &[3, 2]),
        (&["cat", "IMAGE", "/etc/mid"], 0, "mid", &[3, 2]),
        (&["cat", "IMAGE", "/etc/to-top"], 0, "top", &[3, 2]),
        (&["cat", "IMAGE", "/cut/new"], 0, "new", &[3, 2]),
        (&["cat", "IMAGE", "/etc/low"], 0, "low", &[3, 2, 1, 0]),
        (&["cat", "IMAGE", "/etc/tool"], 0, "tool", &[3, 2, 1, 0]),
        (&["cat", "IMAGE", "/etc/base"], 0, "base", &[3, 2, 1, 0]),
        (&["cat", "IMAGE", "/etc/to-base"], 0, "base", &[3, 2, 1, 0]),
        (&["cat", "IMAGE", "/link/tool"], 0, "tool", &[3, 2, 1, 0]),
        // A certain error needs no more than a certain file.
        (&["cat", "IMAGE", "/etc/gone"], 1, "no such file", &[3]),
        (&["cat", "IMAGE", "/etc/top/x"], 1, "not a directory", &[3]),
        (&["cat", "IMAGE", "/etc"], 1, "is a directory", &[3]),
        (&["cat", "IMAGE", "/cut/old"], 1, "no such file", &[3, 2]),
        (&["cat", "IMAGE", "/"], 1, "is a directory", &[3]),
        (&["cat", "IMAGE", "./.."], 1, "is a directory", &[3]),
        (&["which", "IMAGE", "/"], 0, "/\t3\tdirectory", &[3]),
        (&["cat", "IMAGE", "/none"], 1, "no such file", &[3, 2, 1, 0]),
        (&["ls", "IMAGE", "/etc/top"], 0, "/etc/top\n", &[3]),
        (&["ls", "IMAGE", "/etc/gone"], 1, "no such file", &[3]),
        (&["ls", "IMAGE", "/etc/to-nothing"], 0, "/etc/to-nothing\n", &[3, 2, 1, 0]),
        (&["ls", "IMAGE", "/etc/circle"], 0, "/etc/circle\n", &[3, 2, 1, 0]),
        (&["ls", "IMAGE", "/etc/circle/x"], 1, "too many levels", &[3, 2, 1, 0]),
        (&["cat", "IMAGE", "/etc/to-nothing"], 1, "no such file", &[3, 2, 1, 0]),
        (&["ls", "IMAGE", "/etc/was-a-file"], 0, "x\n", &[3, 2, 1, 0]),
        (&["ls", "IMAGE", "/solo"], 0, "x\n", &[3]),
        (&["ls", "-l", "IMAGE", "/etc/top"], 0, " 2 ", &[3]),
        (&["ls", "-lR", "IMAGE", "/solo"], 0, " x\n", &[3]),
        (&["ls", "IMAGE", "/cut"], 0, "new\n", &[3, 2, 1, 0]),
        (&["ls", "IMAGE", "/bin"], 0, "tool\n", &[3, 2, 1, 0]),
        (&["ls", "IMAGE"], 0, "bin\ncut\netc\nlink\nroot-file\nsolo\n", &[3, 2, 1, 0]),
    ] {
        let asked = ask_cold(&image, words);
        let said = if code == 0 { &asked.stdout } else { &asked.stderr };
        assert_eq!((asked.code, &asked.layers[..]), (code, layers), "{words:?}: {said}");
        match words[0] {
            "cat" if code == 0 => assert_eq!(said, expected, "{words:?}"),
            _ => assert!(said.contains(expected), "{words:?}: {said}"),
        }
    }
}

#[test]
fn an_image_without_layers_has_an_empty_root() {
    let (image, home) = (ImageBuilder::new().build(), Home::new());
    let name = home.layout(&image);
    home.run(&["cat", &name, "/"]).failed(1, &["is a directory"]);
    let which = home.run(&["which", &name, "/"]);
    assert!(which.code == 1 && which.stderr.ends_with(": /: no layer has it\n"), "{which:?}");
    for words in [&["ls", &name][..], &["ls", "-ld", &name], &["find", &name], &["du", &name]] {
        home.run(words).succeeded();
    }
}

/// Layers whose entries come without their directories, as some builders write them.
#[test]
fn files_of_undescribed_directories() {
    let base = vec![
        Entry::dir("usr"),
        Entry::dir("usr/bin"),
        Entry::file("usr/bin/tool", "lower"),
        Entry::symlink("bin", "usr/bin"),
        Entry::dir("app"),
    ];
    let middle = vec![Entry::dir("etc"), Entry::file("etc/x", "x")];
    let files = |paths: &[(&str, &str)]| -> Vec<Entry> {
        paths.iter().map(|(path, content)| Entry::file(path, content)).collect()
    };
    let top = files(&[("app/main.py", "main"), ("app/lib/a.py", "a"), ("bin/tool", "upper")]);
    let image_of = |top: Vec<Entry>| image(&[base.clone(), middle.clone(), top]);
    let plain = image_of(top.clone());
    let redirected = image_of([top.clone(), vec![Entry::symlink("z", "app")]].concat());
    let twice = image_of([top, files(&[("usr/bin/tool", "last")])].concat());
    for (image, words, expected, layers) in [
        (&plain, &["cat", "IMAGE", "/app/main.py"][..], "main", &[2][..]),
        (&plain, &["cat", "IMAGE", "/app/lib/a.py"], "a", &[2]),
        (&plain, &["cat", "IMAGE", "/bin/tool"], "upper", &[2]),
        (&plain, &["ls", "IMAGE", "/bin/tool"], "/bin/tool\n", &[2]),
        // The entry is where the lower symlink leads.
        (&plain, &["cat", "IMAGE", "/usr/bin/tool"], "upper", &[2, 1, 0]),
        // The upper entry might be here, or have made this file give way.
        (&plain, &["cat", "IMAGE", "/etc/x"], "x", &[2, 1, 0]),
        (&plain, &["ls", "-l", "IMAGE", "/app/main.py"], "main.py", &[2, 1, 0]),
        (&plain, &["cat", "IMAGE", "/app/../app/main.py"], "main", &[2, 1, 0]),
        (&redirected, &["cat", "IMAGE", "/app/main.py"], "main", &[2, 1, 0]),
        (&twice, &["cat", "IMAGE", "/bin/tool"], "last", &[2, 1, 0]),
        (&twice, &["cat", "IMAGE", "/app/main.py"], "main", &[2]),
    ] {
        let asked = ask_cold(image, words);
        assert_eq!((asked.code, &asked.layers[..]), (0, layers), "{words:?}: {}", asked.stderr);
        assert!(asked.stdout.contains(expected), "{words:?}: {}", asked.stdout);
    }
}

#[test]
fn layers_in_the_cache_are_used_at_once() {
    let image = image(&four_layers());
    let (registry, home) = (Registry::start(), Home::new());
    let ask = |words: &[&str]| {
        let asked = ask(&image, &registry, &home, words);
        assert_eq!(asked.code, 0, "{words:?}: {}", asked.stderr);
        (asked.stdout, asked.layers)
    };
    assert_eq!(ask(&["cat", "IMAGE", "/etc/top"]), ("top".to_owned(), vec![3]));
    assert_eq!(ask(&["cat", "IMAGE", "/etc/both"]), ("upper".to_owned(), vec![]));
    assert_eq!(ask(&["cat", "--offline", "IMAGE", "/etc/both"]), ("upper".to_owned(), vec![]));
    assert_eq!(ask(&["cat", "IMAGE", "/etc/mid"]), ("mid".to_owned(), vec![2]));
    assert_eq!(ask(&["ls", "IMAGE", "/cut"]), ("new\n".to_owned(), vec![]));
    assert_eq!(ask(&["cat", "IMAGE", "/etc/base"]), ("base".to_owned(), vec![1, 0]));
    assert_eq!(ask(&["cat", "IMAGE", "/etc/tool"]), ("tool".to_owned(), vec![]));
}

/// One layer may stand in an image several times, and is asked for once.
#[test]
fn a_layer_that_stands_twice_comes_once() {
    let layer = vec![Entry::dir("a"), Entry::file("a/x", "x")];
    let other = vec![Entry::dir("a"), Entry::file("a/y", "y")];
    let image = image(&[layer.clone(), other, layer]);
    let (registry, home) = (Registry::start(), Home::new());
    let without_cache = ["cat", "--cache-dir", "/proc/none", "IMAGE", "/none"];
    let asked = ask(&image, &registry, &home, &without_cache);
    assert_eq!(asked.code, 1, "{}", asked.stderr);
    let digest = &image.layer_digests()[0];
    let log = registry.requests();
    let count = log.iter().filter(|request| request.path.ends_with(digest)).count();
    assert_eq!(count, 1, "{log:?}");
}

/// What the answer does not need may be broken, and what it needs may not.
#[test]
fn only_layers_that_count_have_to_be_right() {
    let image = image(&four_layers());
    let registry = Registry::start();
    let mut broken = image;
    let base = broken.layer_digests()[0].clone();
    for (digest, blob) in &mut broken.blobs {
        if *digest == base {
            let last = blob.len() - 1;
            blob[last] ^= 1;
        }
    }
    let top = ask(&broken, &registry, &Home::new(), &["cat", "IMAGE", "/etc/top"]);
    assert_eq!((top.code, &top.stdout[..]), (0, "top"), "{}", top.stderr);
    let low = ask(&broken, &registry, &Home::new(), &["cat", "IMAGE", "/etc/low"]);
    assert_eq!((low.code, &low.stdout[..]), (1, ""));
    assert!(low.stderr.contains(&base), "{}", low.stderr);
}
