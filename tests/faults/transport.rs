//! Large layers that are plain tars, shown by their headers before they are proven: what that costs, what is shown, when
//! it is given up, and what becomes of what turns out wrong.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ocifs::image::{Image, ImageOptions, LayeredImage};
use ocifs::index::Proof;
use ocifs::tree::{Ino, Order};
use rustix::process::{Signal, kill_process};

use crate::fixture::{Sandbox, image_of, name_in, noise, open, options, read};
use crate::kernel_metadata;
use crate::published::Published;
use crate::shell::{Outcome, eventually, eventually_within};
use crate::support::image::{Built, Compression, ImageBuilder};
use crate::support::registry::{Fault, Registry, Times};
use crate::support::tarball::{Entry, TarWriter, octal, put, tar};

const FLAG: &str = "--proof=transport";

/// Bytes of each of nine files.
const FILE: usize = 2_500_000;

/// How long a layer may take to be proven in the background.
const LONG: Duration = Duration::from_secs(30);

fn by_headers() -> ImageOptions {
    ImageOptions { headers: true, ..options() }
}

fn plain(tar: &[u8]) -> Built {
    image_of(tar, Compression::None)
}

fn nine(seed: u64) -> Vec<u8> {
    tar(&(0..9).map(|n| Entry::file(format!("f{n}"), noise(FILE, seed + n))).collect::<Vec<_>>())
}

/// Requests for a layer, and bytes of bodies.
fn cost(registry: &Registry, built: &Built) -> (usize, u64) {
    let layer = &built.layer_digests()[0];
    let asked = registry.requests().into_iter().filter(|request| request.path.contains(layer));
    asked.fold((0, 0), |(n, bytes), request| (n + 1, bytes + request.body_bytes_sent))
}

fn serving(built: &Built) -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", built);
    registry
}

/// Names, attributes and contents of an image.
fn everything(image: &Image) -> Vec<String> {
    let filesystem = image.filesystem();
    let tree = filesystem.tree();
    let mut all = Vec::new();
    let mut walk = tree.walk(Ino::ROOT, Order::Name);
    while let Some((path, ino)) = walk.next() {
        let shown = tree.attributes(ino);
        let xattrs: Vec<_> = tree.xattrs(ino).map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
        let content = filesystem.file(ino).ok().map(|file| {
            let mut bytes = vec![0; file.readable(0, usize::MAX)];
            file.read(0, &mut bytes, filesystem.deadline()).unwrap();
            ocifs::digest::Digest::sha256(&bytes)
        });
        let path = String::from_utf8_lossy(path).into_owned();
        all.push(format!("{path} {shown:?} {xattrs:?} {:?} {content:?}", tree.symlink(ino)));
    }
    all
}

#[test]
fn a_layer_of_nine_large_files_costs_its_headers() {
    let built = plain(&nine(1));
    let (registry, sandbox) = (serving(&built), Sandbox::new());
    let image = open(&name_in(&registry), &sandbox.cache(), &by_headers()).unwrap();
    let (requests, bytes) = cost(&registry, &built);
    assert!(requests <= 10 && bytes <= 10 * (32 << 10), "{requests} requests, {bytes} bytes");
    assert_eq!(image.proofs(), [Proof::Transport]);
    // A file costs itself.
    registry.clear_log();
    assert!(read(&image, "f4").unwrap() == noise(FILE, 5));
    let (requests, bytes) = cost(&registry, &built);
    assert!(requests <= 8 && bytes <= FILE as u64 + (2 << 20), "{requests} {bytes}");
    // All of it is proven when it was read, and each byte comes once.
    for n in 0..9 {
        assert!(read(&image, &format!("f{n}")).unwrap() == noise(FILE, 1 + n));
    }
    let (_, bytes) = cost(&registry, &built);
    assert!(bytes <= built.layer_sizes()[0], "{bytes}");
    assert_eq!(image.filesystem().contents().layers()[0].proof(), Proof::Full);
    drop(image);
    // The next one knows, whatever it asks for.
    for options in [options(), by_headers(), ImageOptions { prove: true, ..options() }] {
        registry.clear_log();
        let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
        assert_eq!(image.proofs(), [Proof::Full]);
        assert!(read(&image, "f8").unwrap() == noise(FILE, 9));
        assert_eq!(cost(&registry, &built), (0, 0));
    }
}

#[test]
fn without_being_asked_it_is_streamed_first() {
    let built = plain(&nine(1));
    for options in [options(), ImageOptions { prove: true, ..by_headers() }] {
        let (registry, sandbox) = (serving(&built), Sandbox::new());
        let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
        assert_eq!(image.proofs(), [Proof::Full]);
        assert_eq!(cost(&registry, &built).1, built.layer_sizes()[0]);
    }
}

/// Everything that a tar can say, with large files between it.
fn tricky() -> TarWriter {
    let mut writer = TarWriter::new();
    let long = "long/".repeat(40);
    let large = |writer: &mut TarWriter, n: u64| {
        writer.entry(&Entry::file(format!("large{n}"), noise(2_200_001, 100 + n)));
    };
    writer.entry(&Entry::dir("d").mode(0o1777).owner(7, 8));
    large(&mut writer, 0);
    writer.entry(&Entry::file(format!("{long}pax"), b"by pax").xattr("user.a", "b").mtime(-7, 5));
    writer.gnu_long_name(format!("{long}gnu").as_bytes());
    writer.raw_header(|header| {
        header.gnu();
        put(&mut header.name, "cut");
        octal(&mut header.size, 3);
    });
    writer.data(b"gnu");
    large(&mut writer, 1);
    let part = noise(1 << 20, 7);
    let regions: [(u64, &[u8]); 6] = [
        (4096, &part[..512]),
        (8192, &part[..1024]),
        (1 << 20, &part[..]),
        (3 << 20, &part[..512]),
        (4 << 20, &part[..512]),
        (5 << 20, &part[..700]),
    ];
    writer.sparse_old_gnu("sparse/gnu", 6 << 20, &regions);
    writer.sparse_pax_0_0("sparse/00", 6 << 20, &regions);
    large(&mut writer, 2);
    writer.sparse_pax_0_1("sparse/01", 6 << 20, &regions);
    writer.sparse_pax_1_0("sparse/10", 6 << 20, &regions);
    large(&mut writer, 3);
    // A map of a PAX 1.0 file that is longer than a stretch.
    let many: Vec<(u64, &[u8])> = (0..5000).map(|n| (n * 8192, &part[..512])).collect();
    writer.sparse_pax_1_0("sparse/many", 5000 * 8192, &many);
    writer.entry(&Entry::hardlink("d/link", "large1"));
    writer.entry(&Entry::symlink("symlink", "large2"));
    writer.entry(&Entry::char_device("null", 1, 3));
    writer.entry(&Entry::fifo("fifo"));
    writer.entry(&Entry::file("empty", b""));
    writer.entry(&Entry::file(".wh.gone", b""));
    writer.entry(&Entry::file("opaque/.wh..wh..opq", b""));
    writer.entry(&Entry::file("opaque/new", b"new"));
    large(&mut writer, 4);
    writer.entry(&Entry::file("large0", b"again, and small"));
    large(&mut writer, 5);
    writer
}

#[test]
fn what_is_shown_is_what_a_first_pass_shows() {
    let below = tar(&[
        Entry::file("gone", b"x"),
        Entry::file("opaque/old", b"x"),
        Entry::file("stays", b"x"),
    ]);
    let mut padded = tricky().finish();
    padded.resize(padded.len() + 40_000, 0);
    let mut odd = tricky().finish();
    odd.extend(noise(3_000_000, 9));
    let mut unpadded = tricky().finish_without_end();
    unpadded.truncate(unpadded.len() - 60);
    let tars = [
        ("usual", tricky().finish()),
        ("padded", padded),
        ("with something behind its end", odd),
        ("without an end", tricky().finish_without_end()),
        ("without the padding of its last file", unpadded),
    ];
    for (what, tar) in tars {
        let image = ImageBuilder::new().layer(&below, Compression::Gzip);
        let built = image.layer(&tar, Compression::None).build();
        let registry = serving(&built);
        let (first, second) = (Sandbox::new(), Sandbox::new());
        let shown = open(&name_in(&registry), &first.cache(), &by_headers()).unwrap();
        let streamed = open(&name_in(&registry), &second.cache(), &options()).unwrap();
        assert_eq!(shown.proofs(), [Proof::Full, Proof::Transport], "{what}");
        assert_eq!(everything(&shown), everything(&streamed), "{what}");
        // What lies behind the last file is read by none.
        shown.pull(Duration::from_secs(9), 1, &ocifs::layer::Quiet).unwrap();
        assert_eq!(shown.filesystem().contents().layers()[1].proof(), Proof::Full, "{what}");
        // What is kept of it has the digests of its files.
        let digests = |sandbox: &Sandbox| {
            let name = name_in(&registry).parse().unwrap();
            let options = options();
            let quiet = &ocifs::layer::Quiet;
            let open = LayeredImage::open(&name, &sandbox.cache(), &options, quiet).unwrap();
            let index = &open.indexes()[1];
            let of = |entry: ocifs::index::Entry<'_>| {
                (index.path(entry.dir, entry.name), index.content_digest(&entry))
            };
            (index.diff_id(), index.entries().map(of).collect::<Vec<_>>())
        };
        assert_eq!(digests(&first), digests(&second), "{what}");
    }
}

#[test]
fn small_files_are_streamed_with_little_in_vain() {
    let entries = (0..2000).map(|n| Entry::file(format!("d{}/{n}", n / 50), noise(12_000, n)));
    let small = tar(&entries.collect::<Vec<_>>());
    let medium = (0..60).map(|n| Entry::file(format!("f{n}"), noise(400_000, n)));
    let medium = tar(&medium.collect::<Vec<_>>());
    for tar in [small, medium] {
        let built = plain(&tar);
        let (registry, sandbox) = (serving(&built), Sandbox::new());
        let image = open(&name_in(&registry), &sandbox.cache(), &by_headers()).unwrap();
        assert_eq!(image.proofs(), [Proof::Full]);
        let (requests, bytes) = cost(&registry, &built);
        let in_vain = bytes - built.layer_sizes()[0];
        assert!(in_vain <= 5 << 18 && requests <= 24, "{requests} requests, {in_vain} in vain");
    }
}

/// A layer that is small, compressed, or local costs not a request more.
#[test]
fn what_is_not_worth_it_is_not_tried() {
    let small = plain(&tar(&[Entry::file("f", noise(9 << 20, 1))]));
    let compressed = image_of(&nine(1), Compression::Gzip);
    let zstd = image_of(&nine(1), Compression::Zstd);
    for built in [small, compressed, zstd] {
        let (registry, sandbox) = (serving(&built), Sandbox::new());
        let image = open(&name_in(&registry), &sandbox.cache(), &by_headers()).unwrap();
        assert_eq!(image.proofs(), [Proof::Full]);
        assert_eq!(cost(&registry, &built).1, built.layer_sizes()[0]);
    }
}

#[test]
fn servers_that_can_not_are_streamed_from() {
    let built = plain(&nine(1));
    let layer = built.layer_digests().remove(0);
    let other = Arc::new(nine(50));
    let faults: [(&str, Times, Fault); 8] = [
        ("no ranges", Times::Always, Fault::IgnoreRange),
        ("no ranges any more", Times::Nth(3), Fault::IgnoreRange),
        ("cut short", Times::First(9), Fault::Truncate(1000)),
        ("too much", Times::Nth(2), Fault::ExtraBytes(10)),
        ("another range", Times::Nth(2), Fault::WrongContentRange),
        ("a header that is damaged", Times::Nth(2), Fault::FlipByte(700)),
        ("nothing", Times::Nth(2), Fault::Status(404, Vec::new(), Vec::new())),
        ("the start of another version", Times::Nth(1), Fault::Other(other)),
    ];
    for (what, times, fault) in faults {
        let (registry, sandbox) = (serving(&built), Sandbox::new());
        registry.fault(("GET", &layer, times), fault);
        let image = open(&name_in(&registry), &sandbox.cache(), &by_headers());
        let image = image.unwrap_or_else(|e| panic!("{what}: {e}"));
        for n in 0..9 {
            let bytes = read(&image, &format!("f{n}"));
            assert!(bytes.is_ok_and(|bytes| bytes == noise(FILE, 1 + n)), "{what}");
        }
        assert_eq!(image.filesystem().contents().layers()[0].proof(), Proof::Full, "{what}");
        let (_, bytes) = cost(&registry, &built);
        assert!(bytes <= 3 * built.layer_sizes()[0], "{what}: {bytes}");
    }
}

/// What is wrong with a tar is told by a first pass, in its words.
#[test]
fn damaged_and_hostile_tars_are_refused_as_ever() {
    let file = |writer: &mut TarWriter, size: u64| {
        writer.raw_header(|header| {
            put(&mut header.name, "f");
            octal(&mut header.size, size);
        });
    };
    let large = |writer: &mut TarWriter| {
        writer.entry(&Entry::file("large", noise(17 << 20, 3)));
    };
    let mut past_end = TarWriter::new();
    large(&mut past_end);
    file(&mut past_end, 1 << 32);
    let mut absurd = TarWriter::new();
    large(&mut absurd);
    absurd.pax(&[("size", u64::MAX.to_string())]);
    file(&mut absurd, 1);
    let mut endless = TarWriter::new();
    large(&mut endless);
    let comment = "x".repeat(900_000);
    for _ in 0..30 {
        endless.pax(&[("comment", &comment)]);
    }
    let mut climbing = TarWriter::new();
    large(&mut climbing);
    climbing.entry(&Entry::file("../../etc/passwd", b"x"));
    let mut cut = nine(1);
    cut.truncate(cut.len() - FILE);
    let mut damaged = nine(1);
    damaged[(FILE + 512).next_multiple_of(512) + 20] ^= 1;
    let rows = [
        ("a file past the end", past_end.finish()),
        ("an absurd size", absurd.finish()),
        ("endless PAX headers", endless.finish()),
        ("a name that climbs out", climbing.finish()),
        ("a tar that was cut", cut),
        ("a damaged header", damaged),
    ];
    for (what, tar) in rows {
        let built = plain(&tar);
        let registry = serving(&built);
        let errors = [options(), by_headers()].map(|options| {
            let sandbox = Sandbox::new();
            let error = open(&name_in(&registry), &sandbox.cache(), &options).expect_err(what);
            assert!(sandbox.cached("layers").is_empty() && sandbox.cached("arrived").is_empty());
            error
        });
        assert_eq!(errors[0], errors[1], "{what}");
    }
}

/// The place of the layer's index in the cache.
fn layer_indexes(setup: &Published) -> PathBuf {
    setup.home.path().join("cache/v1/layers")
}

fn proof(setup: &Published) -> String {
    setup.home.status()["layers"][0]["proof"].as_str().unwrap().to_owned()
}

#[track_caller]
fn warned(outcome: &Outcome) {
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let told = outcome.stderr.lines().filter(|line| line.contains("proof `transport`"));
    assert_eq!(told.count(), 1, "{outcome:?}");
}

#[test]
fn a_mount_proves_it_in_the_background() {
    let built = plain(&nine(1));
    let setup = Published::new(&built);
    let layer = setup.layer();
    warned(&setup.run(&["mount"], &[FLAG, "M"]));
    let file = setup.home.mount_point().join("f7");
    assert!(fs::read(&file).unwrap() == noise(FILE, 8));
    assert!(eventually_within(LONG, || proof(&setup) == "full"));
    let mut value = [0; 16];
    let length = rustix::fs::getxattr(&file, "user.ocifs.proof", &mut value).unwrap();
    assert_eq!(&value[..length], b"full");
    // Each byte came once, beside the headers.
    let (requests, bytes) = setup.asked_of(&layer);
    let size = built.layer_sizes()[0];
    assert!(bytes <= size + 10 * (32 << 10), "{bytes} of {size}");
    assert!(requests <= 30, "{requests}");
    setup.home.run(&["umount", "M"]).succeeded();
    // The next mount knows, and asks for nothing of the layer.
    setup.run(&["mount"], &["--proof=full", "M"]).succeeded();
    assert_eq!(proof(&setup), "full");
    assert!(fs::read(&file).unwrap() == noise(FILE, 8));
    assert_eq!(setup.asked_of(&layer), (0, 0));
    setup.home.run(&["umount", "M"]).succeeded();
    setup.run(&["verify"], &[]).succeeded_with_words();
    assert_eq!(setup.asked_of(&layer), (0, 0));
    setup.home.is_quiet();
}

/// Says only that it went well: `verify` prints.
trait WithWords {
    fn succeeded_with_words(&self);
}

impl WithWords for Outcome {
    #[track_caller]
    fn succeeded_with_words(&self) {
        assert_eq!(self.code, 0, "{self:?}");
    }
}

/// What came before a mount ended counts for the next.
#[test]
fn the_next_mount_goes_on() {
    let built = plain(&nine(1));
    let setup = Published::new(&built);
    let layer = setup.layer();
    let path = format!("/blobs/{layer}");
    // Nothing is fetched but the headers and one file.
    let (registry, size) = (&setup.registry, built.layer_sizes()[0]);
    warned(&setup.run(&["mount"], &[FLAG, "M"]));
    assert!(fs::read(setup.home.mount_point().join("f0")).unwrap() == noise(FILE, 1));
    registry.fault(("GET", &path, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    setup.home.run(&["umount", "M"]).succeeded();
    let (_, before) = setup.asked_of(&layer);
    registry.clear_faults();
    warned(&setup.run(&["mount"], &[FLAG, "M"]));
    assert!(eventually_within(LONG, || proof(&setup) == "full"));
    let (_, after) = setup.asked_of(&layer);
    assert!(before + after <= size + (2 << 20), "{before} {after} {size}");
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

#[test]
fn wrong_content_is_an_error_in_the_end_and_never_proven() {
    let right = nine(1);
    let built = plain(&right);
    let setup = Published::new(&built);
    let mut wrong = right.clone();
    let place = right.len() - FILE / 2;
    wrong[place] ^= 1;
    setup.registry.add_blob("r", &setup.layer(), &wrong);
    warned(&setup.run(&["mount"], &[FLAG, "M"]));
    let file = setup.home.mount_point().join("f0");
    assert!(fs::read(&file).unwrap() == noise(FILE, 1));
    let is_told = || setup.home.status()["layers"][0]["error"].is_string();
    assert!(eventually_within(LONG, is_told));
    let status = setup.home.status();
    assert_eq!(status["layers"][0]["proof"], "transport");
    let error = status["layers"][0]["error"].as_str().unwrap();
    assert!(error.contains("do not match its digest"), "{status}");
    // What the kernel had of it is forgotten, too.
    assert!(eventually(|| fs::read(&file).is_err()));
    for n in 0..9 {
        let error = fs::read(setup.home.mount_point().join(format!("f{n}"))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(5), "{error}");
    }
    assert!(
        !layer_indexes(&setup).exists()
            || fs::read_dir(layer_indexes(&setup)).unwrap().next().is_none()
    );
    setup.home.run(&["umount", "M"]).succeeded();
    setup.run(&["pull"], &[FLAG]).failed(1, &["do not match its digest"]);
    setup.run(&["mount"], &["M"]).failed(1, &["does not match"]);
    // Nothing wrong is left for when the registry has the right one.
    setup.registry.add_blob("r", &setup.layer(), &right);
    warned(&setup.run(&["mount"], &[FLAG, "M"]));
    for n in 0..9 {
        let bytes = fs::read(setup.home.mount_point().join(format!("f{n}"))).unwrap();
        assert!(bytes == noise(FILE, 1 + n));
    }
    assert!(eventually_within(LONG, || proof(&setup) == "full"));
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

/// The registry sends other headers than it sends later, when all of it comes and has its digest.
#[test]
fn other_headers_are_found_out() {
    let right = nine(1);
    let built = plain(&right);
    let setup = Published::new(&built);
    let names = (0..9).map(|n| Entry::file(format!("e{n}"), noise(FILE, 1 + n)));
    let other = tar(&names.collect::<Vec<_>>());
    assert_eq!(other.len(), right.len());
    setup.registry.add_blob("r", &setup.layer(), &other);
    warned(&setup.run(&["mount"], &[FLAG, "M"]));
    setup.registry.add_blob("r", &setup.layer(), &right);
    assert!(setup.home.mount_point().join("e3").exists());
    let is_told = || setup.home.status()["layers"][0]["error"].is_string();
    assert!(eventually_within(LONG, is_told));
    let status = setup.home.status();
    assert!(status["layers"][0]["error"].to_string().contains("headers"), "{status}");
    assert_eq!(status["layers"][0]["proof"], "transport");
    let error = fs::read(setup.home.mount_point().join("e3")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(5), "{error}");
    setup.home.run(&["umount", "M"]).succeeded();
    warned_or_proven(&setup);
    assert!(fs::read(setup.home.mount_point().join("f3")).unwrap() == noise(FILE, 4));
    assert!(eventually_within(LONG, || proof(&setup) == "full"));
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

fn warned_or_proven(setup: &Published) {
    assert_eq!(setup.run(&["mount"], &[FLAG, "M"]).code, 0);
}

/// A worker that dies, before and after all is proven: the one that follows shows the same, with the same numbers.
#[test]
fn workers_go_on() {
    use std::os::unix::fs::MetadataExt;
    let built = plain(&nine(1));
    let setup = Published::new(&built);
    warned(&setup.run(&["mount"], &[FLAG, "M"]));
    let file = setup.home.mount_point().join("f7");
    let number = fs::metadata(&file).unwrap().ino();
    for _ in 0..2 {
        let workers = setup.home.workers();
        workers.iter().for_each(|worker| kill_process(*worker, Signal::KILL).unwrap());
        assert!(eventually(|| !setup.home.workers().contains(&workers[0])));
        assert_eq!(fs::metadata(&file).unwrap().ino(), number);
        assert!(fs::read(&file).unwrap() == noise(FILE, 8));
        assert!(eventually_within(LONG, || {
            let shown = setup.home.run(&["status", "--json", "M"]).stdout;
            shown.contains("\"proof\": \"full\"") || shown.contains("\"proof\":\"full\"")
        }));
        // The next one needs no registry.
        let path = format!("/blobs/{}", setup.layer());
        let gone = Fault::Status(404, Vec::new(), Vec::new());
        setup.registry.fault(("GET", &path, Times::Always), gone);
    }
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

#[test]
fn other_ways_to_look_at_it() {
    let built = plain(&nine(1));
    let setup = Published::new(&built);
    let layer = setup.layer();
    let outcome = setup.run(&["ls"], &[FLAG]);
    warned(&outcome);
    assert_eq!(outcome.stdout.lines().count(), 9);
    assert!(setup.asked_of(&layer).1 <= 10 * (32 << 10));
    warned(&setup.run(&["find"], &[FLAG]));
    let copy = setup.home.path().join("copy");
    warned(&setup.run(&["cp"], &["f3", copy.to_str().unwrap(), FLAG]));
    assert!(fs::read(&copy).unwrap() == noise(FILE, 4));
    assert!(setup.asked_of(&layer).1 <= FILE as u64 + (3 << 20));
    let outcome = setup.run(&["du"], &[FLAG]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let other = plain(&nine(2));
    setup.registry.add_image("r", "other", &other);
    let name = format!("{}/r:other", setup.registry.addr());
    let outcome = setup.home.run(&["diff", &setup.name, &name, FLAG]);
    assert!(outcome.code <= 1, "{outcome:?}");
    let archive = setup.home.path().join("a.tar");
    let outcome = setup.run(&["export"], &[FLAG, "-o", archive.to_str().unwrap()]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(fs::metadata(&archive).unwrap().len() >= 9 * FILE as u64);
    // Offline there is what is proven, or nothing.
    setup.forget();
    setup.run(&["ls"], &[FLAG, "--offline"]).failed(1, &["offline"]);
    setup.run(&["ls"], &[FLAG]);
    setup.run(&["ls"], &[FLAG, "--offline"]).failed(1, &[]);
    // What is streamed is streamed.
    let outcome = setup.run(&["verify"], &[FLAG]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert_eq!(setup.asked_of(&layer).1, built.layer_sizes()[0]);
    setup.run(&["ls"], &[FLAG, "--offline"]).succeeded_with_words();
}

/// Several images with one layer, the kernel's own metadata, and registries as directories.
#[test]
fn in_other_mounts() {
    let built = plain(&nine(1));
    let setup = Published::new(&built);
    setup.registry.add_image("r", "u", &built);
    let other = format!("{}/r:u", setup.registry.addr());
    let size = built.layer_sizes()[0];
    let layer = setup.layer();
    let outcome = setup.home.run(&["mount", FLAG, &setup.name, &other, "M"]);
    assert_eq!(outcome.code, 0, "{outcome:?}");
    let all_full = || {
        let status = setup.home.status();
        let images = status["images"].as_array().unwrap();
        images.iter().all(|image| image["layers"][0]["proof"] == "full")
    };
    assert!(eventually_within(LONG, all_full));
    let (_, bytes) = setup.asked_of(&layer);
    assert!(bytes <= size + 20 * (32 << 10), "{bytes} of {size}");
    setup.home.run(&["umount", "M"]).succeeded();
    setup.forget();
    if kernel_metadata::can() {
        warned(&setup.run(&["mount"], &["--kernel-metadata", FLAG, "M"]));
        assert!(fs::read(setup.home.mount_point().join("f2")).unwrap() == noise(FILE, 3));
        assert!(eventually_within(LONG, || proof(&setup) == "full"));
        setup.home.run(&["umount", "M"]).succeeded();
        setup.forget();
    }
    setup.registry.clear_log();
    setup.home.run(&["browse", FLAG, "M"]).succeeded();
    let image = format!("{}/r/t", setup.registry.addr());
    let place = setup.home.mount_point().join(&image);
    let found = [place.join("f2"), setup.home.mount_point().join(image.replace("/r/t", "/r:t/f2"))];
    let read = found.iter().find_map(|path| fs::read(path).ok()).unwrap();
    assert!(read == noise(FILE, 3));
    let is_proven = || setup.home.status().to_string().contains("\"proof\":\"full\"");
    assert!(eventually_within(LONG, is_proven), "{}", setup.home.status());
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

/// What does not fit into the cache is not fetched to be proven.
#[test]
fn a_small_cache_is_left_alone() {
    let built = plain(&nine(1));
    let setup = Published::new(&built);
    let layer = setup.layer();
    let log = setup.home.path().join("log");
    let flags = [FLAG, "--cache-size=16M", "--log-file", log.to_str().unwrap(), "M"];
    setup.run(&["mount"], &flags);
    let is_told =
        || fs::read_to_string(&log).is_ok_and(|log| log.contains("do not fit into half of"));
    assert!(eventually_within(LONG, is_told));
    assert_eq!(proof(&setup), "transport");
    assert!(setup.asked_of(&layer).1 <= 10 * (32 << 10));
    assert!(fs::read(setup.home.mount_point().join("f2")).unwrap() == noise(FILE, 3));
    setup.home.run(&["umount", "M"]).succeeded();
    setup.home.is_quiet();
}

#[test]
fn the_settings_and_the_variable_say_it_too() {
    let built = plain(&nine(1));
    let setup = Published::new(&built);
    let layer = setup.layer();
    setup.configure("proof = \"transport\"\n");
    warned(&setup.run(&["ls"], &[]));
    assert!(setup.asked_of(&layer).1 <= 10 * (32 << 10));
    setup.configure("");
    setup.registry.clear_log();
    let words = ["ls", &setup.name];
    let outcome = crate::shell::run(setup.home.ocifs(&words).env("OCIFS_PROOF", "transport"));
    warned(&outcome);
    assert!(setup.asked_of(&layer).1 <= 10 * (32 << 10));
    setup.run(&["ls"], &["--proof=some"]).failed(2, &["`full`, `any` or `transport`"]);
}
