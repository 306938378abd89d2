#!/bin/sh
# docker compose 2.40.3 writes the files of a Compose project of a registry with other bytes than their blobs have, and
# 2.26.1 writes all of them, env files too, into one.
#
# Guess: each layer of the project becomes a file of the name in its annotation, with the bytes of the blob.
#
# Seen: a project of compose.yaml, a file that a service extends, and an env file. 2.40.3 writes three files. The
# extended one begins with an empty line and `---`, which its blob does not, so that its digest is not that of the
# layer; the env file is as it was. 2.26.1 (Debian 13), which knows the artifact and the media types, joins the three by
# `---` to one compose.yaml, in which the line of the env file is then a YAML document; it exits with 14, as the
# extended file does not exist.
#
# Needs: Debian, amd64, curl, openssl, python3. Installs docker compose 2.40.3 and 2.26.1 in a temporary folder.
set -eu
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
cd "$folder"
# The mirror of Debian that this machine uses.
mirror=$(apt-get indextargets --format '$(REPO_URI)' | grep '/debian/$' | head -1)
# Its version, and its SHA-256.
install_compose() {
    curl -fsSO "${mirror}pool/main/d/docker-compose/docker-compose_$1_amd64.deb"
    echo "$2  docker-compose_$1_amd64.deb" | sha256sum -c --quiet
    dpkg -x "docker-compose_$1_amd64.deb" "$1"
}
install_compose 2.40.3-3 e7603d5e6df0f8404f7b03da478022b87d7b50644cffe68884b071e5cfc17fd3
install_compose 2.26.1-4 47681197cb2b1ab88206b42a1a92fc75f50d9530a6322d03494a473eed0408ea

cat >server.py <<'PY'
# A registry of one artifact, over plain HTTP or, with a certificate, TLS. Prints its port.
import hashlib, http.server, json, ssl, sys
BLOBS = {}
def put(data, kind, **notes):
    digest = "sha256:" + hashlib.sha256(data).hexdigest()
    BLOBS[digest] = data
    return {"mediaType": kind, "digest": digest, "size": len(data), "annotations": {"com.docker.compose." + k: v for k, v in notes.items()}}
FILE, ENV = "application/vnd.docker.compose.file+yaml", "application/vnd.docker.compose.envfile"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
files = {name: open(name, "rb").read() for name in ("compose.yaml", "base.yaml", "web.env")}
layers = [
    put(files["compose.yaml"], FILE, file="compose.yaml"),
    put(files["base.yaml"], FILE, extends="true", file="base.yaml"),
    put(files["web.env"], ENV, envfile="web.env"),
]
config = put(b"{}", "application/vnd.oci.empty.v1+json")
manifest = json.dumps({
    "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": "application/vnd.docker.compose.project",
    "config": config, "layers": layers}).encode()
top = "sha256:" + hashlib.sha256(manifest).hexdigest()
class Registry(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        name = self.path.split("?")[0].rsplit("/", 1)[-1]
        data, kind = (manifest, MANIFEST) if name in ("1", top) else (BLOBS.get(name, b""), "application/octet-stream")
        self.send_response(200 if data or not name else 404)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Docker-Content-Digest", "sha256:" + hashlib.sha256(data).hexdigest())
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)
    do_GET = do_HEAD = answer
    def log_message(self, *words):
        pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Registry)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("cert.pem", "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(server.server_port, flush=True)
server.serve_forever()
PY
cat >compose.yaml <<'YAML'
name: shop
services:
  web:
    image: shop.example/web
    env_file: web.env
    extends: {file: base.yaml, service: base}
YAML
printf 'services:\n  base:\n    hostname: shop\n' >base.yaml
echo COLOUR=blue >web.env
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout key.pem -out cert.pem -subj /CN=localhost \
    -addext subjectAltName=DNS:localhost 2>/dev/null

# The files that a version makes of the project, in a folder named after it.
written() {
    python3 server.py $2 >port &
    server=$!
    until [ -s port ]; do sleep 0.1; done
    export HOME="$folder/home-$1" SSL_CERT_FILE="$folder/cert.pem" COMPOSE_EXPERIMENTAL_OCI_REMOTE=1
    mkdir "$HOME"
    code=0
    "$1/usr/libexec/docker/cli-plugins/docker-compose" version
    "$1/usr/libexec/docker/cli-plugins/docker-compose" -f "oci://localhost:$(cat port)/shop:1" config -q 2>error || code=$?
    echo "exit code $code: $(tail -1 error | sed 's|open .*/||')"
    [ "$code" = "$3" ]
    kill "$server"
    server=
    rm port
    mv "$HOME"/.cache/docker-compose/* "written-$1"
    (cd "written-$1" && ls)
}
written 2.40.3-3 tls 0
written 2.26.1-4 "" 14

cmp compose.yaml written-2.40.3-3/compose.yaml
cmp web.env written-2.40.3-3/web.env
{ printf '\n---\n'; cat base.yaml; } | cmp - written-2.40.3-3/base.yaml
{ cat compose.yaml; printf '\n---\n'; cat base.yaml; printf '\n---\n'; cat web.env; } | cmp - written-2.26.1-4/compose.yaml
[ "$(ls written-2.26.1-4)" = compose.yaml ]
echo "as seen"
