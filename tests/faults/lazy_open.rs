//! What opening an image costs: the first time, the second, and where only its index is known.

use ocifs::image::ImageOptions;

use crate::fixture::{Sandbox, name_in, open};
use crate::lazy::{Form, Lazy, corpus, cost_of, patient};
use crate::support::registry::Registry;

#[test]
fn a_first_pass_downloads_each_blob_once() {
    for form in Form::ALL {
        let corpus = corpus(form);
        for (digest, blob) in &corpus.built.blobs {
            let cost = cost_of(&corpus.first_pass, digest);
            assert_eq!((cost.requests, cost.bytes), (1, blob.len() as u64), "{form:?} {digest}");
        }
        // The manifest besides, once or twice: by its tag.
        let others = corpus.first_pass.len() - corpus.built.blobs.len();
        assert!(others <= 1, "{form:?}: {:?}", corpus.first_pass);
    }
}

#[test]
fn a_second_open_makes_one_request_and_an_offline_one_none() {
    let corpus = corpus(Form::Gzip);
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &corpus.built);
    let name = name_in(&registry);
    open(&name, &sandbox.cache(), &patient()).unwrap();
    registry.clear_log();
    let offline = ImageOptions { offline: true, ..patient() };
    for (options, most) in [(&patient(), 1), (&offline, 0)] {
        let image = open(&name, &sandbox.cache(), options).unwrap();
        let image = std::sync::Arc::new(image);
        let lazy = Lazy { image, registry: Registry::start(), sandbox: Sandbox::new(), corpus };
        lazy.listed("").into_iter().for_each(|file| lazy.check_whole(file));
        let log = registry.requests();
        assert!(log.iter().all(|request| request.method == "HEAD"), "{log:?}");
        assert_eq!((log.len(), lazy.image.traffic().body_bytes()), (most, 0), "{log:?}");
        registry.clear_log();
    }
}

#[test]
fn an_indexed_image_opens_without_its_layers() {
    for form in Form::ALL {
        let lazy = Lazy::open(form);
        let layers = lazy.corpus.sizes.len();
        let bytes = |lazy: &Lazy| -> u64 {
            lazy.registry.requests().iter().map(|request| request.body_bytes_sent).sum()
        };
        let log = lazy.registry.requests();
        assert!(log.len() <= 2 + layers, "{form:?}: {log:?}");
        let most = lazy.corpus.sizes.iter().sum::<u64>() / 100;
        assert!(bytes(&lazy) <= most, "{form:?}: {} bytes of {most}", bytes(&lazy));

        // `ls -lR`.
        lazy.registry.clear_log();
        let tree = lazy.image.filesystem().tree();
        let mut total = 0;
        for ino in tree.inos() {
            total += tree.attributes(ino).size;
            assert_eq!((tree.xattrs(ino).count(), tree.symlink(ino)), (0, None));
            total += tree.children_by_name(ino).map(|child| child.name.len() as u64).sum::<u64>();
        }
        assert!(total > 0);
        assert_eq!(lazy.listed("").len(), lazy.corpus.files.len());
        assert_eq!(lazy.registry.requests(), [], "{form:?}");
    }
}
