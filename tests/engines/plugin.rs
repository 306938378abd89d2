//! The snapshotter, running, and an image for it.

use std::fs;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tonic::transport::{Channel, Endpoint};

use crate::proto::snapshots::snapshots_client::SnapshotsClient;
use crate::shell::{Home, eventually_within, wait};
use crate::support::image::{Built, Compression, ImageBuilder, sha256};
use crate::support::registry::Registry;
use crate::support::tarball::{Entry, tar};

const PROGRAM: &str = env!("CARGO_BIN_EXE_ocifs-snapshotter");

/// How long a server may take until it answers.
pub const START: Duration = Duration::from_secs(30);

/// A program for containers that have nothing else.
const TOOL: &str = r#"
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "cat")) {
        FILE *file = fopen(words[2], "r");
        if (!file) { perror(words[2]); return 1; }
        for (int c; (c = fgetc(file)) != EOF;) putchar(c);
        return ferror(file) ? 1 : 0;
    }
    if (count == 4 && !strcmp(words[1], "write")) {
        FILE *file = fopen(words[2], "w");
        if (!file) { perror(words[2]); return 1; }
        return fputs(words[3], file) < 0 || fclose(file);
    }
    if (count == 3 && !strcmp(words[1], "owner")) {
        struct stat stat;
        if (lstat(words[2], &stat)) { perror(words[2]); return 1; }
        printf("%d:%d", stat.st_uid, stat.st_gid);
        return 0;
    }
    if (count == 3 && !strcmp(words[1], "rm")) return unlink(words[2]) != 0;
    if (count == 2 && !strcmp(words[1], "sleep")) { pause(); return 0; }
    printf("started");
    return 0;
}
"#;

pub fn need_root_and_fuse() {
    assert!(Path::new("/dev/fuse").exists(), "/dev/fuse is missing: `modprobe fuse`");
    assert!(rustix::process::geteuid().is_root(), "these tests mount: run them as root");
}

/// The program, built once.
pub fn tool() -> Vec<u8> {
    static TOOL_BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let build = || {
        let folder = tempfile::tempdir().unwrap();
        let (source, binary) = (folder.path().join("tool.c"), folder.path().join("tool"));
        fs::write(&source, TOOL).unwrap();
        let built = Command::new("cc").args(["-static", "-o"]).args([&binary, &source]).status();
        assert!(built.expect("`cc` is missing: install gcc").success());
        fs::read(&binary).unwrap()
    };
    TOOL_BYTES.get_or_init(build).clone()
}

/// An image of two layers: a program, and a file of the first one deleted and another changed. `name` makes it different
/// from others, but for its first layer.
pub fn image(name: &str) -> Built {
    let text: String = (0..100_000).map(|n| format!("{n:x}\n")).collect();
    let base = [
        Entry::dir("bin"),
        Entry::file("bin/tool", tool()).mode(0o755),
        Entry::dir("d").mode(0o1777).owner(3, 4),
        Entry::file("d/text", &text),
        Entry::file("d/gone", "x"),
        Entry::file("d/layer", "first"),
        // containerd mounts these itself, and does not make the directories on a read-only root.
        Entry::dir("proc"),
        Entry::dir("sys"),
        Entry::dir("dev"),
        Entry::dir("etc"),
        Entry::dir("run"),
        Entry::dir("tmp"),
    ];
    let second = [
        Entry::file("d/.wh.gone", ""),
        Entry::file("d/layer", format!("second of {name}")),
        Entry::file("d/more", text.replace('a', "b")),
    ];
    let builder =
        ImageBuilder::new().config("config", serde_json::json!({ "Entrypoint": ["/bin/tool"] }));
    let builder = [&base[..], &second[..]]
        .iter()
        .fold(builder, |builder, entries| builder.layer(&tar(entries), Compression::Gzip));
    builder.build()
}

/// The chain IDs of an image's layers.
pub fn chain_ids(image: &Built) -> Vec<String> {
    let mut chain: Vec<String> = Vec::new();
    for diff_id in image.diff_ids() {
        let id = match chain.last() {
            None => diff_id,
            Some(below) => sha256(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

/// How often bytes of layers were asked for.
pub fn layer_requests(registry: &Registry, image: &Built) -> usize {
    let layers = image.layer_digests();
    let is_layer = |target: &str| layers.iter().any(|layer| target.contains(layer.as_str()));
    let requests = registry.requests();
    requests.iter().filter(|logged| logged.method == "GET" && is_layer(&logged.path)).count()
}

/// The snapshotter with its folder in a home.
pub struct Plugin {
    child: Child,
    root: PathBuf,
    socket: PathBuf,
}

impl Plugin {
    pub fn start(home: &Home) -> Plugin {
        Plugin::start_with(home, &[])
    }

    pub fn start_with(home: &Home, flags: &[&str]) -> Plugin {
        Plugin::start_by(home, home.command(PROGRAM), flags)
    }

    /// Starts it as a service manager does, with a socket to be told on, and what it has kept of an earlier process.
    pub fn start_as_service(
        home: &Home,
        flags: &[&str],
        socket: &Path,
        kept: Option<&fs::File>,
    ) -> Plugin {
        let mut command = home.command(PROGRAM);
        if let Some(file) = kept {
            let script = "export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=credentials-1; exec \"$@\" 3<>\"$0\"";
            let file = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            command = home.command("sh");
            command.args(["-c", script, &file, PROGRAM]);
        }
        command.env("NOTIFY_SOCKET", socket);
        Plugin::start_by(home, command, flags)
    }

    fn start_by(home: &Home, mut command: Command, flags: &[&str]) -> Plugin {
        let (root, socket) = (home.path().join("snapshotter"), home.path().join("s.sock"));
        let log =
            fs::File::options().create(true).append(true).open(home.path().join("plugin.log"));
        command.arg("-v").arg("--root").arg(&root).arg("--socket").arg(&socket);
        command.args(["--ocifs", env!("CARGO_BIN_EXE_ocifs")]).args(flags);
        let child = command.stdout(Stdio::null()).stderr(log.unwrap()).spawn().unwrap();
        let mut plugin = Plugin { child, root, socket };
        let answers = || std::os::unix::net::UnixStream::connect(&plugin.socket).is_ok();
        assert!(eventually_within(START, answers), "{}", log_of(home));
        assert!(plugin.child.try_wait().unwrap().is_none(), "{}", log_of(home));
        plugin
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        assert_eq!(wait(&mut self.child), 0);
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        // It has ended where the test has ended it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn log_of(home: &Home) -> String {
    fs::read_to_string(home.path().join("plugin.log")).unwrap_or_default()
}

/// Runs what is asynchronous to its end.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

pub async fn channel(socket: &Path) -> Channel {
    let endpoint = Endpoint::try_from(format!("unix://{}", socket.display())).unwrap();
    endpoint.connect().await.unwrap()
}

pub async fn client(plugin: &Plugin) -> SnapshotsClient<Channel> {
    SnapshotsClient::new(channel(plugin.socket()).await)
}
