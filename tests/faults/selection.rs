//! Which image a name means where it could mean several, and documents that say more than they must.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocifs::image::ImageOptions;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};

use crate::fixture::{Sandbox, fails, good, image_with, name_in, open, opens, options, read};
use crate::support::image::{
    Built, Compression, ImageBuilder, Layer, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, sha256,
    write_oci_layout,
};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

/// An image for an architecture, whose file `f` holds a word.
pub fn image(architecture: &str, word: &str) -> Built {
    ImageBuilder::new()
        .platform("linux", architecture, None)
        .layer(&tar(&[Entry::file("f", word)]), Compression::Gzip)
        .build()
}

pub fn labelled(built: &Built, architecture: &str, variant: Option<&str>) -> Value {
    let mut descriptor = built.descriptor();
    descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
    if let Some(variant) = variant {
        descriptor["platform"]["variant"] = json!(variant);
    }
    descriptor
}

/// What BuildKit puts beside an image.
pub fn attestation() -> Built {
    let layer = Layer::new(b"{}", Compression::None).media_type("application/vnd.in-toto+json");
    ImageBuilder::new().platform("unknown", "unknown", None).push_layer(layer).build()
}

fn attestation_entry(built: &Built) -> Value {
    let mut descriptor = labelled(built, "unknown", None);
    descriptor["platform"]["os"] = json!("unknown");
    descriptor["annotations"] = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    descriptor
}

/// A registry with an index `r:t` of these entries, and these images and indexes to be found.
pub fn serve(entries: Vec<Value>, images: &[&Built], indexes: &[&[u8]]) -> Registry {
    let registry = Registry::start();
    for image in images {
        registry.add_image("r", "part", image);
    }
    for index in indexes {
        registry.add_manifest("r", "part", OCI_INDEX, index);
    }
    registry.add_manifest("r", "t", OCI_INDEX, &index_of(entries));
    registry
}

pub fn index_of(entries: Vec<Value>) -> Vec<u8> {
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries });
    index.to_string().into_bytes()
}

pub fn index_entry(index: &[u8]) -> Value {
    json!({ "mediaType": OCI_INDEX, "digest": sha256(index), "size": index.len() })
}

/// The word in `f` of `r:t`, for a platform.
pub fn chosen(registry: &Registry, platform: &str) -> Result<String, String> {
    let options = ImageOptions { platform: platform.parse().ok(), ..options() };
    let image = open(&name_in(registry), &Sandbox::new().cache(), &options)?;
    Ok(String::from_utf8(read(&image, "f")?).unwrap())
}

#[test]
fn nested_indexes_are_searched() {
    let images = ["arm64", "amd64", "s390x"].map(|arch| image(arch, arch));
    let [arm, amd, s390] = &images;
    let [lower, upper] = [(arm, "arm64"), (amd, "amd64")]
        .map(|(image, arch)| index_of(vec![labelled(image, arch, None)]));
    let middle = index_of(vec![index_entry(&upper)]);
    // Another entry says nothing of itself, and one stands twice.
    let entries =
        vec![index_entry(&lower), index_entry(&middle), index_entry(&lower), s390.descriptor()];
    let registry = serve(entries, &[arm, amd, s390], &[&lower, &middle, &upper]);
    for arch in ["amd64", "arm64", "s390x"] {
        assert_eq!(chosen(&registry, arch).as_deref(), Ok(arch));
    }
    let error = chosen(&registry, "riscv64").unwrap_err();
    assert!(error.contains("there is linux/amd64, linux/arm64, linux/s390x"), "{error}");
}

/// What stands in the index is believed, and nothing is opened to look for more.
#[test]
fn nothing_is_opened_where_the_index_says_enough() {
    let [first, second] = [image("amd64", "first"), image("amd64", "second")];
    let entries = vec![first.descriptor(), labelled(&second, "amd64", None)];
    let registry = serve(entries, &[&first, &second], &[]);
    assert_eq!(chosen(&registry, "amd64").as_deref(), Ok("second"));
    let asked = |digest: &str| registry.requests().iter().any(|r| r.path.contains(digest));
    assert!(!asked(&first.manifest_digest) && asked(&second.manifest_digest));
}

#[test]
fn a_tree_of_entries_that_say_nothing_ends() {
    let parts: Vec<Built> = (0..70).map(|n| image("s390x", &n.to_string())).collect();
    let entries = parts.iter().map(Built::descriptor).collect();
    let registry = serve(entries, &parts.iter().collect::<Vec<_>>(), &[]);
    let error = chosen(&registry, "arm64").unwrap_err();
    assert!(error.contains("more than 64 entries"), "{error}");
}

#[test]
fn what_is_about_an_image_is_not_chosen() {
    let (amd, about) = (image("amd64", "amd64"), attestation());
    let soci = {
        let mut descriptor = labelled(&about, "amd64", None);
        descriptor["artifactType"] = json!("application/vnd.amazon.soci.index.v2+json");
        descriptor
    };
    for entry in [attestation_entry(&about), soci, about.descriptor()] {
        for image in [labelled(&amd, "amd64", None), amd.descriptor()] {
            let registry = serve(vec![entry.clone(), image], &[&amd, &about], &[]);
            assert_eq!(chosen(&registry, "amd64").as_deref(), Ok("amd64"), "{entry}");
            assert_eq!(chosen(&registry, "").as_deref(), Ok("amd64"), "{entry}");
        }
    }
    // Alone, or asked for by digest, it is what is meant, though it is no image: it has a file.
    let registry = serve(vec![attestation_entry(&about)], &[&about], &[]);
    let by_digest = format!("{}/r@{}", registry.addr(), about.manifest_digest);
    for name in [name_in(&registry), by_digest] {
        let image = open(&name, &Sandbox::new().cache(), &options()).unwrap();
        let file = sha256(b"{}").replace(':', "-");
        assert_eq!(read(&image, &format!("{file}.json")).unwrap(), b"{}");
    }
}

#[test]
fn other_variants_will_do_where_nothing_runs() {
    let images = ["v2", "v3"].map(|word| image("amd64", word));
    let entries = ["v3", "v2"].map(|v| labelled(&images[usize::from(v == "v3")], "amd64", Some(v)));
    let registry = serve(entries.to_vec(), &[&images[0], &images[1]], &[]);
    assert_eq!(chosen(&registry, "linux/amd64").as_deref(), Ok("v2"));
    assert_eq!(chosen(&registry, "linux/amd64/v3").as_deref(), Ok("v3"));
    assert_eq!(chosen(&registry, "linux/amd64/v4").as_deref(), Ok("v3"));
    let mut special = entries[0].clone();
    special["platform"] =
        json!({ "os": "linux", "architecture": "amd64", "os.features": ["x"], "variant": null });
    let plain = labelled(&images[0], "amd64", None);
    let registry = serve(vec![special, plain], &[&images[0], &images[1]], &[]);
    assert_eq!(chosen(&registry, "linux/amd64").as_deref(), Ok("v2"));
}

/// A copy of a document in its descriptor is used if it is right.
#[test]
fn documents_in_descriptors() {
    let image = good();
    let with_config = |data: &[u8]| {
        let mut built = image.clone();
        let mut manifest: Value = serde_json::from_slice(&built.manifest).unwrap();
        manifest["config"]["data"] = json!(STANDARD.encode(data));
        built.manifest = manifest.to_string().into_bytes();
        built.manifest_digest = sha256(&built.manifest);
        built.blobs.remove(&sha256(&image.config));
        built
    };
    let embedding = |built: &Built| {
        let mut entry = labelled(built, "amd64", None);
        entry["data"] = json!(STANDARD.encode(&built.manifest));
        entry
    };
    let right = with_config(&image.config);
    let registry = serve(vec![embedding(&right)], &[], &[]);
    for (digest, blob) in &right.blobs {
        registry.add_blob("r", digest, blob);
    }
    opens(&Sandbox::new(), &name_in(&registry), &options()).unwrap();
    let wrong = with_config(&image.config.to_ascii_uppercase());
    registry.add_image("r", "t", &wrong);
    let missing = sha256(&image.config);
    fails(&Sandbox::new(), &name_in(&registry), &options(), &[&missing[7..]]).unwrap();
    registry.add_blob("r", &missing, &image.config);
    opens(&Sandbox::new(), &name_in(&registry), &options()).unwrap();
}

#[test]
fn layers_that_are_elsewhere_or_locked() {
    let foreign = Layer::new(&tar(&[]), Compression::Gzip)
        .media_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip");
    let mut image = image_with(foreign);
    let mut manifest: Value = serde_json::from_slice(&image.manifest).unwrap();
    manifest["layers"][0]["urls"] = json!(["https://elsewhere.example/layer?signature=secret"]);
    image.manifest = manifest.to_string().into_bytes();
    image.manifest_digest = sha256(&image.manifest);
    let registry = Registry::start();
    registry.add_image("r", "t", &image);
    // Many registries have such layers nonetheless.
    open(&name_in(&registry), &Sandbox::new().cache(), &options()).unwrap();
    image.blobs.remove(&image.layer_digests()[0]);
    let registry = Registry::start();
    registry.add_image("r", "t", &image);
    let words = ["foreign layer", "https://elsewhere.example/layer,", "nothing is fetched"];
    fails(&Sandbox::new(), &name_in(&registry), &options(), &words).unwrap();
    let error = open(&name_in(&registry), &Sandbox::new().cache(), &options()).unwrap_err();
    assert!(!error.contains("secret"), "{error}");

    let locked =
        Layer::new(b"?", Compression::None).media_type(&format!("{OCI_LAYER}+gzip+encrypted"));
    registry.add_image("r", "t", &image_with(locked));
    let words = ["encrypted", "decryption is not supported"];
    fails(&Sandbox::new(), &name_in(&registry), &options(), &words).unwrap();
}

/// An OCI layout of files, by their content, with this `index.json`.
pub fn write_layout(folder: &Path, entries: Vec<Value>, files: &[&[u8]]) {
    write_oci_layout(folder, &[]).unwrap();
    fs::create_dir_all(folder.join("blobs/sha256")).unwrap();
    for bytes in files {
        fs::write(folder.join("blobs/sha256").join(&sha256(bytes)[7..]), bytes).unwrap();
    }
    fs::write(folder.join("index.json"), index_of(entries)).unwrap();
}

pub fn files_of(image: &Built) -> Vec<&[u8]> {
    let blobs = image.blobs.values().map(Vec::as_slice);
    blobs.chain([&image.manifest[..]]).collect()
}

/// What `docker save` writes of a multi-platform image of which one platform was pulled, and
/// buildx with an attestation.
#[test]
fn sparse_layouts() {
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("layout");
    let (arm, s390, about) = (image("arm64", "arm64"), image("s390x", "s390x"), attestation());
    let index = index_of(vec![
        labelled(&arm, "arm64", None),
        labelled(&s390, "s390x", None),
        attestation_entry(&about),
    ]);
    let mut entry = index_entry(&index);
    entry["annotations"] = json!({
        "io.containerd.image.name": "docker.io/library/app:v1",
        "org.opencontainers.image.ref.name": "v1",
    });
    let mut files = files_of(&s390);
    files.push(&index);
    write_layout(&folder, vec![entry.clone()], &files);
    let name = |selector: &str| format!("oci:{}{selector}", folder.display());
    for selector in ["", ":v1", ":app:v1", ":docker.io/library/app:v1"] {
        let image = open(&name(selector), &sandbox.cache(), &options()).unwrap();
        assert_eq!(read(&image, "f").unwrap(), b"s390x", "{selector}");
    }
    // By digest also what the entries do not name.
    let by_digest = name(&format!("@{}", s390.manifest_digest));
    open(&by_digest, &sandbox.cache(), &options()).unwrap();
    let absent = name(&format!("@{}", arm.manifest_digest));
    fails(&Sandbox::new(), &absent, &options(), &["there is no image", "app:v1"]).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    write_layout(&folder, vec![entry], &[&index]);
    let words = ["linux/arm64, linux/s390x", "none of these manifests is there"];
    fails(&Sandbox::new(), &name(""), &options(), &words).unwrap();
}

/// Several entries of one name, or none, with platforms, are one image; others must be chosen from.
#[test]
fn flat_layouts() {
    let (arm, amd, about) = (image("arm64", "arm64"), image("amd64", "amd64"), attestation());
    let files: Vec<&[u8]> = [&arm, &amd, &about].into_iter().flat_map(files_of).collect();
    let named = |mut entry: Value, name: Option<&str>| {
        if let Some(name) = name {
            entry["annotations"]["org.opencontainers.image.ref.name"] = json!(name);
        }
        entry
    };
    for name in [None, Some("v1")] {
        let sandbox = Sandbox::new();
        let folder = sandbox.path().join("layout");
        let entries = [
            attestation_entry(&about),
            labelled(&arm, "arm64", None),
            labelled(&amd, "amd64", None),
        ];
        write_layout(&folder, entries.map(|entry| named(entry, name)).to_vec(), &files);
        for arch in ["arm64", "amd64"] {
            let options = ImageOptions { platform: arch.parse().ok(), ..options() };
            let image =
                open(&format!("oci:{}", folder.display()), &sandbox.cache(), &options).unwrap();
            assert_eq!(read(&image, "f").unwrap(), arch.as_bytes());
        }
    }
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("layout");
    let entries = vec![
        named(labelled(&arm, "arm64", None), Some("a")),
        named(labelled(&amd, "amd64", None), Some("b")),
    ];
    write_layout(&folder, entries, &files);
    let words = ["several images", "a, b"];
    let name = format!("oci:{}", folder.display());
    fails(&sandbox, &name, &options(), &words).unwrap();
    for (position, word) in ["arm64", "amd64"].iter().enumerate() {
        let image = open(&format!("{name}:@{position}"), &sandbox.cache(), &options()).unwrap();
        assert_eq!(read(&image, "f").unwrap(), word.as_bytes());
    }
    fails(&Sandbox::new(), &format!("{name}:@2"), &options(), &["no image `@2`"]).unwrap();
}

#[test]
fn sha512_in_a_layout() {
    let sha512 = |bytes: &[u8]| {
        let hex: String = Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("sha512:{hex}")
    };
    let archive = tar(&[Entry::file("f", "the right bytes")]);
    let config = json!({
        "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": [sha512(&archive)] },
    });
    let config = config.to_string().into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| json!({ "mediaType": kind, "digest": sha512(bytes), "size": bytes.len() });
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor(OCI_LAYER, &archive)],
    });
    let manifest = manifest.to_string().into_bytes();
    let sandbox = Sandbox::new();
    let folder = sandbox.path().join("layout");
    write_layout(&folder, vec![descriptor(OCI_MANIFEST, &manifest)], &[]);
    fs::create_dir_all(folder.join("blobs/sha512")).unwrap();
    let place = |bytes: &[u8]| folder.join("blobs/sha512").join(&sha512(bytes)[7..]);
    for bytes in [&archive, &config, &manifest] {
        fs::write(place(bytes), bytes).unwrap();
    }
    let name = format!("oci:{}", folder.display());
    opens(&sandbox, &name, &options()).unwrap();
    opens(&sandbox, &format!("{name}@{}", sha512(&manifest)), &options()).unwrap();
    fs::write(place(&archive), vec![0; archive.len()]).unwrap();
    opens(&sandbox, &name, &options()).unwrap();
    fails(&Sandbox::new(), &name, &options(), &["does not match its digest", "sha512"]).unwrap();
}
