#!/bin/sh
# skopeo 1.9.3 writes another layer than it read when it makes zstd:chunked of one with a sparse file.
#
# Guess: `skopeo copy --dest-compress-format zstd:chunked` changes how a layer is compressed and leaves its tar alone,
# since the config with the diff ID of that tar is copied unchanged.
#
# Seen: a layer whose sparse file is in GNU tar's PAX format 0.1 (20,480 bytes of tar, 8,192 of them stored
# content) comes out as 3,154,432 bytes: the hole is written as zeros, behind a header that still says 8,192. The
# digest of these bytes is not the diff ID in the config, GNU tar and other readers find no entry behind the sparse file,
# and skopeo exits with 0. With format 0.1 of no hole, or plain zstd, the tar is left alone.
#
# Needs: Debian 12, GNU tar, zstd, python3. Installs skopeo 1.9.3 in a temporary folder.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq skopeo=1.9.3+ds1-1+b10 libgpgme11 libassuan0 libdevmapper1.02.1 >/dev/null
for package in *.deb; do dpkg -x "$package" tools; done
LD_LIBRARY_PATH=$folder/tools/usr/lib/x86_64-linux-gnu:$folder/tools/lib/x86_64-linux-gnu
export LD_LIBRARY_PATH
skopeo=$folder/tools/usr/bin/skopeo

mkdir tree
python3 - <<'PY'
with open("tree/sparse", "wb") as file:
    file.write(b"a" * 4096)
    file.seek(3 << 20)
    file.write(b"z" * 4096)
open("tree/after", "w").write("content\n")
PY
tar --format=posix --sparse --sparse-version=0.1 -cf layer.tar -C tree sparse after
python3 - <<'PY'
import hashlib, json, os
def put(data, kind):
    digest = hashlib.sha256(data).hexdigest()
    open("layout/blobs/sha256/" + digest, "wb").write(data)
    return {"mediaType": "application/vnd.oci.image." + kind, "digest": "sha256:" + digest, "size": len(data)}
os.makedirs("layout/blobs/sha256")
layer = put(open("layer.tar", "rb").read(), "layer.v1.tar")
config = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]}}
config = put(json.dumps(config).encode(), "config.v1+json")
manifest = put(json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode(), "manifest.v1+json")
manifest["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
json.dump({"schemaVersion": 2, "manifests": [manifest]}, open("layout/index.json", "w"))
json.dump({"imageLayoutVersion": "1.0.0"}, open("layout/oci-layout", "w"))
PY
"$skopeo" --version
# The layer of the copy in a compression, decompressed.
copied() {
    "$skopeo" --insecure-policy copy --quiet --dest-compress --dest-compress-format "$1" oci:layout:v1 "oci:$2:v1"
    python3 - "$2" <<'PY'
import json, subprocess, sys
def blob(digest):
    return open(f"{sys.argv[1]}/blobs/sha256/" + digest.split(":")[1], "rb").read()
index = json.load(open(sys.argv[1] + "/index.json"))
layer = blob(json.loads(blob(index["manifests"][0]["digest"]))["layers"][0]["digest"])
tar = subprocess.run(["zstd", "-dc"], input=layer, capture_output=True, check=True).stdout
open(sys.argv[1] + ".tar", "wb").write(tar)
PY
}
copied zstd plain
copied zstd:chunked chunked
cmp layer.tar plain.tar
test "$(stat -c %s layer.tar)" = 20480
test "$(stat -c %s chunked.tar)" = 3154432
tar tf layer.tar | grep -qx after
if tar tf chunked.tar 2>/dev/null | grep -qx after; then exit 1; fi
echo "as described"
