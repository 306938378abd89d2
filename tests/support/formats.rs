//! Writes images in every form that they are stored and sent in.
//!
//! Each form is laid out as the tool does whose form it is, from the same bytes of a [`Built`], so
//! that a test can hold one form against another: OCI layouts and archives, three generations of
//! the archives of `docker save`, skopeo's `dir:`, and uploads to a registry.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::image::{Built, OCI_INDEX, image_index, sha256};
use crate::support::tarball::{self, Entry};

/// Files of a layout or archive, by their paths.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// Writes an OCI layout that holds `images`, each with its `org.opencontainers.image.ref.name`.
pub fn write_oci_layout(dir: &Path, images: &[(Option<&str>, &Built)]) -> io::Result<()> {
    write_files(dir, &oci_layout(images))
}

/// Writes an OCI layout whose `index.json` has one entry, which points to an image index.
pub fn write_oci_index_layout(
    dir: &Path,
    ref_name: Option<&str>,
    images: &[(&Built, Value)],
) -> io::Result<()> {
    let mut files = Files::new();
    for (built, _) in images {
        add_blobs(&mut files, built);
    }
    let (index, digest) = image_index(images);
    let descriptor = json!({ "mediaType": OCI_INDEX, "digest": digest, "size": index.len() });
    files.insert(blob_path(&digest), index);
    add_layout_files(&mut files, vec![with_ref_name(descriptor, ref_name)]);
    write_files(dir, &files)
}

/// Writes an OCI archive: the layout of [`write_oci_layout`] as a tar archive.
pub fn write_oci_archive(path: &Path, images: &[(Option<&str>, &Built)]) -> io::Result<()> {
    fs::write(path, tarball::tar(&archive_entries(&oci_layout(images))))
}

/// Writes what `docker save` wrote before Docker 25. `layer_tars` are the uncompressed layers.
pub fn write_docker_archive_legacy(
    path: &Path,
    image: &Built,
    layer_tars: &[Vec<u8>],
    repo_tags: &[&str],
) -> io::Result<()> {
    let mut entries = Vec::new();
    let mut layers = Vec::new();
    let mut parent = None;
    for tar in layer_tars {
        let id = legacy_id(parent.as_deref(), &sha256(tar));
        layers.push(format!("{id}/layer.tar"));
        entries.push(Entry::dir(&id));
        entries.push(Entry::file(format!("{id}/VERSION"), "1.0"));
        entries.push(Entry::file(format!("{id}/json"), legacy_json(&id, parent.as_deref())));
        entries.push(Entry::file(format!("{id}/layer.tar"), tar));
        parent = Some(id);
    }
    let config_name = format!("{}.json", bare_hex(&sha256(&image.config)));
    entries.push(Entry::file(&config_name, &image.config));
    entries.push(docker_manifest(&config_name, repo_tags, &layers));
    entries.push(docker_repositories(repo_tags, parent.as_deref()));
    fs::write(path, tarball::tar(&entries))
}

/// Writes what `skopeo copy … docker-archive:` writes: layers as `DIFFID.tar`, and the legacy
/// names as symlinks to them.
pub fn write_docker_archive_skopeo(
    path: &Path,
    image: &Built,
    layer_tars: &[Vec<u8>],
    repo_tags: &[&str],
) -> io::Result<()> {
    let mut entries = Vec::new();
    let mut links = Vec::new();
    let mut layers = Vec::new();
    let mut parent = None;
    for (tar, diff_id) in layer_tars.iter().zip(image.diff_ids()) {
        let member = format!("{}.tar", bare_hex(&diff_id));
        // A layer that occurs twice in the image is stored once.
        if !layers.contains(&member) {
            entries.push(Entry::file(&member, tar));
        }
        let id = legacy_id(parent.as_deref(), &diff_id);
        links.push(Entry::file(format!("{id}/VERSION"), "1.0"));
        links.push(Entry::symlink(format!("{id}/layer.tar"), format!("../{member}")));
        links.push(Entry::file(format!("{id}/json"), legacy_json(&id, parent.as_deref())));
        layers.push(member);
        parent = Some(id);
    }
    let config_name = format!("{}.json", bare_hex(&sha256(&image.config)));
    entries.push(Entry::file(&config_name, &image.config));
    entries.append(&mut links);
    entries.push(docker_repositories(repo_tags, parent.as_deref()));
    entries.push(docker_manifest(&config_name, repo_tags, &layers));
    fs::write(path, tarball::tar(&entries))
}

/// Writes what `docker save` writes since Docker 25: an OCI layout with a `manifest.json` that
/// refers to its blobs. The blobs stay as compressed as they are in `image`.
pub fn write_docker_archive_modern(
    path: &Path,
    image: &Built,
    repo_tags: &[&str],
) -> io::Result<()> {
    let tag = repo_tags.first().and_then(|name| name.rsplit_once(':')).map(|(_, tag)| tag);
    let mut entries = archive_entries(&oci_layout(&[(tag, image)]));
    let layers: Vec<String> =
        image.layer_digests().iter().map(|digest| blob_path(digest)).collect();
    entries.push(docker_manifest(&blob_path(&sha256(&image.config)), repo_tags, &layers));
    fs::write(path, tarball::tar(&entries))
}

/// Writes skopeo's `dir:` form: the manifest, and the blobs by their bare hexadecimal digests.
pub fn write_dir(path: &Path, image: &Built) -> io::Result<()> {
    let mut files: Files =
        image.blobs.iter().map(|(digest, blob)| (bare_hex(digest), blob.clone())).collect();
    files.insert("manifest.json".to_string(), image.manifest.clone());
    files.insert("version".to_string(), b"Directory Transport Version: 1.1\n".to_vec());
    write_files(path, &files)
}

/// Uploads an image to the registry at `address` (`HOST:PORT`) over plain HTTP and tags it.
pub fn push(image: &Built, address: &str, repo: &str, tag: &str) -> io::Result<()> {
    push_blobs(image, address, repo)?;
    put_manifest(address, repo, tag, &image.manifest_media_type, &image.manifest)
}

/// Uploads images by digest and an index over them, and tags the index.
pub fn push_index(
    images: &[(&Built, Value)],
    address: &str,
    repo: &str,
    tag: &str,
) -> io::Result<()> {
    for (image, _) in images {
        push(image, address, repo, &image.manifest_digest)?;
    }
    put_manifest(address, repo, tag, OCI_INDEX, &image_index(images).0)
}

fn push_blobs(image: &Built, address: &str, repo: &str) -> io::Result<()> {
    push_all_blobs(&image.blobs, address, repo)
}

pub(super) fn push_all_blobs(
    blobs: &BTreeMap<String, Vec<u8>>,
    address: &str,
    repo: &str,
) -> io::Result<()> {
    for (digest, blob) in blobs {
        let started = http(address, "POST", &format!("/v2/{repo}/blobs/uploads/"), "", b"", 202)?;
        let location = started
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("location"))
            .map(|(_, value)| value.trim())
            .ok_or_else(|| io::Error::other(format!("no upload location in {started:?}")))?;
        // The location may be absolute, and distribution puts its upload state in the query.
        let target = location.strip_prefix(&format!("http://{address}")).unwrap_or(location);
        let separator = if target.contains('?') { '&' } else { '?' };
        let target = format!("{target}{separator}digest={digest}");
        http(address, "PUT", &target, "application/octet-stream", blob, 201)?;
    }
    Ok(())
}

pub(super) fn put_manifest(
    address: &str,
    repo: &str,
    reference: &str,
    media_type: &str,
    bytes: &[u8],
) -> io::Result<()> {
    let target = format!("/v2/{repo}/manifests/{reference}");
    http(address, "PUT", &target, media_type, bytes, 201).map(drop)
}

/// Makes one request on a connection of its own, and returns the head of the response.
fn http(
    address: &str,
    method: &str,
    target: &str,
    content_type: &str,
    body: &[u8],
    expected: u16,
) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let mut request = format!(
        "{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    if !content_type.is_empty() {
        request += &format!("Content-Type: {content_type}\r\n");
    }
    stream.write_all(&[request.as_bytes(), b"\r\n", body].concat())?;
    let mut response = Vec::new();
    stream.read_to_end(&mut response)?;
    let response = String::from_utf8_lossy(&response);
    if !response.starts_with(&format!("HTTP/1.1 {expected} ")) {
        return Err(io::Error::other(format!("{method} {target}: {response}")));
    }
    Ok(response.split("\r\n\r\n").next().unwrap_or_default().to_string())
}

fn bare_hex(digest: &str) -> String {
    digest.split_once(':').map_or(digest, |(_, hex)| hex).to_string()
}

pub(super) fn blob_path(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn add_blobs(files: &mut Files, image: &Built) {
    for (digest, blob) in &image.blobs {
        files.insert(blob_path(digest), blob.clone());
    }
    files.insert(blob_path(&image.manifest_digest), image.manifest.clone());
}

fn oci_layout(images: &[(Option<&str>, &Built)]) -> Files {
    let mut files = Files::new();
    let mut manifests = Vec::new();
    for (ref_name, built) in images {
        add_blobs(&mut files, built);
        manifests.push(with_ref_name(built.descriptor(), *ref_name));
    }
    add_layout_files(&mut files, manifests);
    files
}

pub(super) fn with_ref_name(mut descriptor: Value, ref_name: Option<&str>) -> Value {
    if let Some(name) = ref_name {
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    }
    descriptor
}

pub(super) fn add_layout_files(files: &mut Files, manifests: Vec<Value>) {
    let index = json!({ "schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests });
    files.insert("index.json".to_string(), index.to_string().into_bytes());
    files.insert("oci-layout".to_string(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
}

pub(super) fn write_files(dir: &Path, files: &Files) -> io::Result<()> {
    for (name, bytes) in files {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap_or(dir))?;
        fs::write(path, bytes)?;
    }
    Ok(())
}

fn archive_entries(files: &Files) -> Vec<Entry> {
    let mut entries = vec![Entry::dir("blobs"), Entry::dir("blobs/sha256")];
    entries.extend(files.iter().map(|(name, bytes)| Entry::file(name, bytes)));
    entries
}

/// The id that a layer has in the formats from before layers were named by their content.
fn legacy_id(parent: Option<&str>, diff_id: &str) -> String {
    bare_hex(&sha256(format!("{} {diff_id}", parent.unwrap_or_default()).as_bytes()))
}

fn legacy_json(id: &str, parent: Option<&str>) -> String {
    let mut value = json!({ "id": id, "created": "1970-01-01T00:00:00Z", "os": "linux" });
    if let Some(parent) = parent {
        value["parent"] = json!(parent);
    }
    value.to_string()
}

fn docker_manifest(config: &str, repo_tags: &[&str], layers: &[String]) -> Entry {
    let manifest = json!([{ "Config": config, "RepoTags": repo_tags, "Layers": layers }]);
    Entry::file("manifest.json", manifest.to_string())
}

fn docker_repositories(repo_tags: &[&str], top: Option<&str>) -> Entry {
    let mut repositories: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (repo, tag) in repo_tags.iter().filter_map(|name| name.rsplit_once(':')) {
        repositories.entry(repo).or_default().insert(tag, top.unwrap_or_default());
    }
    Entry::file("repositories", json!(repositories).to_string())
}
