//! Where names lead that a registry sends us to: in a network of its own, with names of its own.

use crate::mounted::Home;
use crate::servers::program;

/// Addresses that belong to documentation, and so look like anybody's, and private ones.
const NETWORK: &str = r#"
set -e
ip link set lo up
for address in 203.0.113.1 203.0.113.2 10.0.0.1 10.0.0.2; do ip addr add $address/32 dev lo; done
cat >"$1/hosts" <<END
127.0.0.1 localhost
203.0.113.1 outside.example outside.localhost
203.0.113.2 storage-outside.example
10.0.0.1 inside.example
10.0.0.2 storage-inside.example
END
mount --bind "$1/hosts" /etc/hosts
python3 -c "$2" "$3" &
server=$!
trap 'kill $server' EXIT
until (exec 3<>/dev/tcp/203.0.113.1/5001) 2>/dev/null; do sleep 0.05; done
shift 3
"$@"
"#;

/// A registry at port 5000 of every address, which redirects to the host that is named, and storage at port 5001.
const SERVER: &str = r#"
import gzip, hashlib, http.server, io, json, sys, tarfile, threading
packed = io.BytesIO()
with tarfile.open(fileobj=packed, mode="w") as tar:
    member = tarfile.TarInfo("f")
    member.size = 3
    tar.addfile(member, io.BytesIO(b"hi\n"))
digest = lambda data: "sha256:" + hashlib.sha256(data).hexdigest()
oci = "application/vnd.oci.image."
row = lambda kind, data: {"mediaType": oci + kind, "digest": digest(data), "size": len(data)}
layer = gzip.compress(packed.getvalue())
rootfs = {"type": "layers", "diff_ids": [digest(packed.getvalue())]}
config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
manifest = json.dumps({"schemaVersion": 2, "mediaType": oci + "manifest.v1+json",
    "config": row("config.v1+json", config), "layers": [row("layer.v1.tar+gzip", layer)]}).encode()
blobs = {digest(data): data for data in (config, layer)}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.rsplit("/", 1)[1]
        if self.server.server_port == 5000 and "/blobs/" in self.path:
            self.send_response(307)
            self.send_header("Location", f"http://{sys.argv[1]}:5001/{name}")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = blobs.get(name, manifest)
        self.send_response(200)
        self.send_header("Content-Type", oci + "manifest.v1+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)
    do_HEAD = do_GET
    def log_message(self, *words):
        pass
servers = [http.server.ThreadingHTTPServer(("0.0.0.0", port), Handler) for port in (5000, 5001)]
threading.Thread(target=servers[0].serve_forever, daemon=True).start()
servers[1].serve_forever()
"#;

#[test]
fn names_lead_outside() {
    for program_name in ["ip", "python3"] {
        program(program_name, if program_name == "ip" { "iproute2" } else { "python3" });
    }
    let inside = "own network: refused";
    for (registry, storage, flags, expected) in [
        ("outside.example", "storage-outside.example", &["--plain-http"][..], None),
        ("outside.example", "storage-inside.example", &["--plain-http"], Some(inside)),
        ("outside.example", "localhost", &["--plain-http"], Some(inside)),
        ("inside.example", "storage-inside.example", &["--plain-http"], None),
        ("inside.example", "storage-outside.example", &["--plain-http"], None),
        ("localhost", "storage-inside.example", &[], None),
        // It is another machine, whatever it is called, and so plain HTTP is not spoken.
        ("outside.localhost", "storage-outside.example", &[], Some("does not speak TLS")),
        ("outside.localhost", "storage-outside.example", &["--plain-http"], None),
    ] {
        let home = Home::new();
        let scratch = tempfile::tempdir().unwrap();
        let mut command = program("unshare", "util-linux");
        command.args(["--net", "--mount", "bash", "-c", NETWORK, "bash"]);
        command.arg(scratch.path()).args([SERVER, storage]);
        command.arg(home.ocifs().get_program());
        command.args(["cat", "--timeout", "20", "--cache-dir"]).arg(scratch.path().join("cache"));
        command.args(flags).args([&format!("{registry}:5000/r:t"), "f"]);
        let output = command.output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        match expected {
            None => assert!(
                output.status.success() && output.stdout == b"hi\n",
                "{registry} {storage} {flags:?}: {output:?}"
            ),
            Some(words) => assert!(
                output.status.code() == Some(1) && stderr.contains(words),
                "{registry} {storage} {flags:?}: {stderr}"
            ),
        }
    }
}
