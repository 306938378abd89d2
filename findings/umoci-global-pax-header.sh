#!/bin/sh
# umoci 0.4.7 can't unpack a layer that `git archive` wrote.
#
# Guess: umoci reads layers with Go's archive/tar, which takes global PAX headers (POSIX ustar type `g`), and
# containerd, podman and the image specification pass over them; so umoci passes over them too.
#
# Seen: `umoci raw unpack` ends with exit code 1 and "unknown typeflag '\x67'" and leaves no root file system,
# while skopeo copies the same image. `git archive` puts such a header, with the commit's ID, before its
# entries, so a layer made from it is what the header is good for.
#
# Needs: Debian 12, git, python3. Installs umoci 0.4.7 in a temporary folder.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -o APT::Sandbox::User=root download -qq umoci=0.4.7+ds-3+b7 >/dev/null
dpkg -x umoci_*.deb tools
umoci=$folder/tools/usr/bin/umoci

git init -q tree
echo content > tree/file
git -C tree add file
git -C tree -c user.name=Name -c user.email=name@example.org commit -qm message
git -C tree archive --format=tar HEAD > layer.tar

cat > layout.py <<'PY'
import hashlib, json, os, sys
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
python3 layout.py

"$umoci" --version
code=0
"$umoci" raw unpack --image layout:v1 rootfs >output 2>&1 || code=$?
tail -n 1 output
test "$code" = 1
grep -q "pax_global_header: unknown typeflag '.x67'" output
test ! -e rootfs/file
# The header is the only thing in its way.
python3 - <<'PY'
import tarfile
with tarfile.open("layer.tar") as old, tarfile.open("plain.tar", "w") as new:
    assert old.pax_headers.get("comment"), "git wrote no global header"
    for member in old:
        member.pax_headers.clear()
        new.addfile(member, old.extractfile(member))
PY
mv plain.tar layer.tar
rm -rf layout
python3 layout.py
"$umoci" raw unpack --image layout:v1 rootfs >/dev/null 2>&1
test "$(cat rootfs/file)" = content
echo "as described"
