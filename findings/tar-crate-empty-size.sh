#!/bin/sh
# The crate tar 0.4.46 for Rust can't read an archive in which the size of a directory is a field of NULs.
#
# Guess: a field of NULs is an empty number, and readers of tar take that for 0, since old writers left the size of what has
# no content empty; the crate does too, as it has no use for the size of a directory.
#
# Seen: its iterator ends at that header with "numeric field was not a number:  when getting size for directory/", so all
# entries behind it are lost as well. GNU tar, bsdtar, Python's tarfile and umoci, which reads layers with Go's archive/tar,
# take the same archive as a directory and the file behind it.
#
# Needs: Debian 12, cargo, python3. Installs the crate and umoci 0.4.7 in a temporary folder.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq umoci=0.4.7+ds-3+b7 libarchive-tools libarchive13 >/dev/null
for package in *.deb; do dpkg -x "$package" tools; done
umoci=$folder/tools/usr/bin/umoci

mkdir -p list/src layout/blobs/sha256
cat > list/Cargo.toml <<'TOML'
[package]
name = "list"
version = "0.1.0"
edition = "2021"

[dependencies]
tar = "=0.4.46"
TOML
cat > list/src/main.rs <<'RUST'
fn main() {
    let file = std::fs::File::open("layer.tar").unwrap();
    for entry in tar::Archive::new(file).entries().unwrap() {
        match entry {
            Ok(entry) => println!("{}", entry.path().unwrap().display()),
            Err(error) => println!("error: {error}"),
        }
    }
}
RUST
cargo build --quiet --manifest-path list/Cargo.toml

cat > make.py <<'PY'
import hashlib, io, json, tarfile
directory = tarfile.TarInfo("directory/")
directory.type = tarfile.DIRTYPE
directory.mode = 0o755
header = bytearray(directory.tobuf(tarfile.USTAR_FORMAT))
header[124:136] = bytes(12)
header[148:156] = b" " * 8
header[148:156] = b"%06o\0 " % sum(header)
file = tarfile.TarInfo("directory/file")
file.size = 8
rest = io.BytesIO()
with tarfile.open(fileobj=rest, mode="w", format=tarfile.USTAR_FORMAT) as archive:
    archive.addfile(file, io.BytesIO(b"content\n"))
open("layer.tar", "wb").write(bytes(header) + rest.getvalue())

def put(data, kind):
    digest = hashlib.sha256(data).hexdigest()
    open("layout/blobs/sha256/" + digest, "wb").write(data)
    return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(data)}
layer = put(open("layer.tar", "rb").read(), "layer.v1.tar")
config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
config = put(json.dumps(config).encode(), "config.v1+json")
manifest = put(json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode(), "manifest.v1+json")
manifest["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
json.dump({"schemaVersion": 2, "manifests": [manifest]}, open("layout/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open("layout/oci-layout", "w"))
PY
python3 make.py

expected="directory/
directory/file"
test "$(tar tf layer.tar)" = "$expected"
LD_LIBRARY_PATH=$folder/tools/usr/lib/x86_64-linux-gnu "$folder/tools/usr/bin/bsdtar" tf layer.tar >output
test "$(cat output)" = "$expected"
test "$(python3 -c 'import tarfile; print(*tarfile.open("layer.tar").getnames())')" = "directory directory/file"
"$umoci" raw unpack --image layout:v1 rootfs >/dev/null 2>&1
test "$(cat rootfs/directory/file)" = content

list/target/debug/list | tee output
test "$(cat output)" = "error: numeric field was not a number:  when getting size for directory/"
echo "as described"
