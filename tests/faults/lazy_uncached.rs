//! Reads of a mount that keeps nothing: each byte of a layer comes once, as with a cache.

use std::fs;
use std::thread;

use crate::fixture::{name_in, noise};
use crate::lazy::cost_of;
use crate::shell::Home;
use crate::support::image::{Compression, ImageBuilder};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

const FILE_BYTES: usize = 48 << 20;

/// What the first step of a run may bring besides.
const SPAN_BYTES: u64 = 525 << 10;

/// Files larger than all that a mount keeps in memory, in layers of their own.
struct Setup {
    registry: Registry,
    home: Home,
    files: [Vec<u8>; 2],
    digests: Vec<String>,
}

impl Setup {
    fn new() -> Setup {
        let files = [noise(FILE_BYTES, 11), noise(FILE_BYTES, 12)];
        let layer = |n: usize| tar(&[Entry::file(format!("f{n}"), files[n].clone())]);
        let built = ImageBuilder::new()
            .layer(&layer(0), Compression::Gzip)
            .layer(&layer(1), Compression::None)
            .build();
        let (registry, home) = (Registry::start(), Home::new());
        registry.add_image("r", "t", &built);
        let digests = built.layer_digests();
        Setup { registry, home, files, digests }
    }

    fn mount(&self, words: &[&str]) {
        let name = name_in(&self.registry);
        let words = [&["mount"], words, &[&name, "M"]].concat();
        // It tells what the first pass downloads.
        let outcome = self.home.run(&words);
        assert_eq!(outcome.code, 0, "{outcome:?}");
        self.registry.clear_log();
    }

    #[track_caller]
    fn check(&self, n: usize) {
        let copy = self.home.path().join(format!("copy{n}"));
        // As `cp` and `cat` read, with the kernel reading ahead by requests that overtake each other.
        fs::copy(self.home.mount_point().join(format!("f{n}")), &copy).unwrap();
        assert!(fs::read(&copy).unwrap() == self.files[n], "f{n} has wrong bytes");
    }

    #[track_caller]
    fn cost_little(&self, n: usize, what: &str) {
        let cost = cost_of(&self.registry.requests(), &self.digests[n]);
        let most = FILE_BYTES as u64 / 100 * 102 + SPAN_BYTES;
        assert!(cost.bytes <= most, "{what}, f{n}: {cost:?} of {most}");
    }
}

#[test]
fn a_copy_fetches_each_byte_once() {
    let setup = Setup::new();
    for words in [&["--cache-size=0", "--connections=1"][..], &["--cache-size=0"]] {
        setup.mount(words);
        for n in [0, 1] {
            setup.check(n);
            setup.cost_little(n, &words.join(" "));
        }
        setup.home.run(&["umount", "M"]).succeeded();
    }
    setup.home.is_quiet();
}

#[test]
fn two_copies_at_once_do_not_push_out_each_other_s_bytes() {
    let setup = Setup::new();
    setup.mount(&["--cache-size=0"]);
    thread::scope(|scope| {
        for n in [0, 1] {
            let setup = &setup;
            scope.spawn(move || setup.check(n));
        }
    });
    for n in [0, 1] {
        setup.cost_little(n, "both");
    }
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

/// A cache that is there and holds less than what a fetch would be ahead.
#[test]
fn a_small_cache_is_no_worse() {
    let setup = Setup::new();
    setup.mount(&["--cache-size=20M"]);
    for n in [0, 1] {
        setup.check(n);
        setup.cost_little(n, "a small cache");
    }
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}
