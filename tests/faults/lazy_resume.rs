//! First passes that were interrupted, and what is left of them.

use std::fs;
use std::path::PathBuf;

use crate::fixture::{Sandbox, name_in, open};
use crate::lazy::{BIG, Form, Lazy, corpus, cost_of, patient, range_of};
use crate::support::registry::{Fault, Registry, Times};

/// Where the connection breaks.
const BROKEN_AT: u64 = 5_000_000;

/// A registry, and a cache in which an interrupted pass has left a partial download.
struct Interrupted {
    sandbox: Sandbox,
    registry: Registry,
    form: Form,
}

impl Interrupted {
    fn new(form: Form) -> Interrupted {
        let corpus = corpus(form);
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &corpus.built);
        let digest = &corpus.digests[0];
        registry.fault(("GET", digest, Times::First(1)), Fault::Truncate(BROKEN_AT as usize));
        let gone = Fault::Status(404, Vec::new(), Vec::new());
        registry.fault(("GET", digest, Times::Always), gone);
        open(&name_in(&registry), &sandbox.cache(), &patient()).unwrap_err();
        registry.clear_faults();
        registry.clear_log();
        for kind in ["layers", "spans", "streams", "tmp"] {
            assert!(sandbox.cached(kind).is_empty(), "{form:?}: {kind}");
        }
        let interrupted = Interrupted { sandbox, registry, form };
        let kept = fs::metadata(interrupted.partial()).unwrap().len();
        assert_eq!(kept, BROKEN_AT, "{form:?}");
        interrupted
    }

    /// The file of the partial download.
    fn partial(&self) -> PathBuf {
        let mut files = self.sandbox.cached("partial");
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    fn damage(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.partial()).unwrap();
        change(&mut bytes);
        fs::write(self.partial(), bytes).unwrap();
    }

    /// Opens the image again and reads some of it, which must be right; the ranges of the layer
    /// that were asked for, and how many bytes came.
    #[track_caller]
    fn go_on(&self) -> Result<(Vec<(u64, u64)>, u64), String> {
        let corpus = corpus(self.form);
        let image = open(&name_in(&self.registry), &self.sandbox.cache(), &patient())?;
        let log = self.registry.requests();
        let of_layer = log.iter().filter(|request| request.path.contains(&corpus.digests[0]));
        let ranges = of_layer.map(|request| range_of(request, corpus.sizes[0]));
        let ranges = ranges.map(|range| (range.start, range.end)).collect();
        let bytes = cost_of(&log, &corpus.digests[0]).bytes;
        let (registry, sandbox) = (Registry::start(), Sandbox::new());
        let lazy = Lazy { image: image.into(), registry, sandbox, corpus };
        lazy.check_whole(corpus.file(BIG));
        corpus.files.iter().step_by(20).for_each(|file| lazy.check_whole(file));
        assert!(self.sandbox.cached("partial").is_empty());
        Ok((ranges, bytes))
    }
}

#[test]
fn an_interrupted_pass_goes_on_where_it_was() {
    for form in [Form::LargeMembers, Form::OneFrame, Form::Plain] {
        let size = corpus(form).sizes[0];
        let (ranges, bytes) = Interrupted::new(form).go_on().unwrap();
        assert_eq!((ranges, bytes), (vec![(BROKEN_AT, size)], size - BROKEN_AT), "{form:?}");
    }
}

#[test]
fn a_server_that_sends_everything_again() {
    let interrupted = Interrupted::new(Form::LargeMembers);
    let size = corpus(Form::LargeMembers).sizes[0];
    interrupted.registry.fault(("GET", "/blobs/", Times::Always), Fault::IgnoreRange);
    let (ranges, bytes) = interrupted.go_on().unwrap();
    assert_eq!((ranges, bytes), (vec![(BROKEN_AT, size)], size));
}

/// A process may end between the last byte and the index.
#[test]
fn a_download_that_was_complete_costs_nothing() {
    let interrupted = Interrupted::new(Form::LargeMembers);
    let corpus = corpus(Form::LargeMembers);
    let blob = &corpus.built.blobs[&corpus.digests[0]];
    interrupted.damage(|bytes| *bytes = blob.clone());
    assert_eq!(interrupted.go_on().unwrap(), (vec![], 0));
}

/// Whatever is wrong with what was kept: it is found out, and one more download makes it good.
#[test]
fn a_damaged_partial_download_is_replaced() {
    type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);
    let damages: [(&str, Damage<'_>); 6] = [
        ("first byte", &|bytes| bytes[0] ^= 1),
        ("middle byte", &|bytes| bytes[2_500_000] ^= 1),
        ("last byte", &|bytes| *bytes.last_mut().unwrap() ^= 1),
        ("zeros at the end", &|bytes| bytes[4_000_000..].fill(0)),
        ("a byte more", &|bytes| bytes.push(7)),
        ("longer than the blob", &|bytes| bytes.resize(64 << 20, 0)),
    ];
    for (what, damage) in damages {
        let interrupted = Interrupted::new(Form::LargeMembers);
        let size = corpus(Form::LargeMembers).sizes[0];
        interrupted.damage(damage);
        let (_, bytes) = interrupted.go_on().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(bytes <= 2 * size, "{what}: {bytes} bytes of {size}");
    }
}
