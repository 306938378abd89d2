//! The programs that the tests hold `ocifs` against, and what they need of the machine.
//!
//! Nothing is skipped when something is missing: a suite that passes because it did not run is
//! worse than one that fails. Each panic says what to install.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use ocifs::fuse::erofs_mount::{self, Error};
use tempfile::TempDir;

use crate::support::kernel;

/// How long the registry may take until it answers.
const START: Duration = Duration::from_secs(30);

/// A command for an installed program, or a panic that names the Debian package to install.
pub fn program(name: &str, package: &str) -> Command {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path).any(|folder| folder.join(name).is_file());
    assert!(found, "`{name}` is missing: install it with `apt-get install {package}`");
    Command::new(name)
}

/// Fails unless the machine lets us mount, and unpack what only root can make.
pub fn need_root_and_fuse() {
    assert!(
        Path::new("/dev/fuse").exists(),
        "/dev/fuse is missing: `modprobe fuse`, or give the container this device \
         (package fuse3 has the other parts)"
    );
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests unpack device nodes and foreign owners with umoci: run them as root"
    );
}

/// Whether `mount --kernel-metadata` is possible. Where the kernel can it has to be, and where it can't
/// that is said.
pub fn has_kernel_metadata() -> bool {
    let checked = erofs_mount::check();
    let is_lack = matches!(
        checked,
        Err(Error::NoErofs | Error::NotFromFile | Error::ShortReads | Error::NotPermitted)
    );
    kernel::has_kernel_metadata(checked.map_err(|e| e.to_string()), is_lack)
}

/// Runs a command and returns what it wrote, or panics with its own words.
pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// A real registry (distribution) on a loopback port, with its storage in a temporary folder.
#[derive(Debug)]
pub struct Registry {
    child: Child,
    address: String,
    storage: TempDir,
}

impl Registry {
    /// The registry that all tests that run at the time share. The last one to end stops it.
    pub fn shared() -> Arc<Registry> {
        static SHARED: Mutex<Weak<Registry>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let registry = Arc::new(Registry::configured(""));
            *shared = Arc::downgrade(&registry);
            registry
        })
    }

    /// One of its own, that wants a password of those in an htpasswd file with this text.
    pub fn with_passwords(htpasswd: &str) -> Registry {
        let storage = tempfile::tempdir().unwrap();
        let path = storage.path().join("htpasswd");
        fs::write(&path, htpasswd).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", path.display());
        Registry::on(storage, &auth)
    }

    /// One of its own, with these lines of configuration besides.
    pub fn configured(lines: &str) -> Registry {
        Registry::on(tempfile::tempdir().unwrap(), lines)
    }

    fn on(storage: TempDir, lines: &str) -> Registry {
        let (child, address) = start(storage.path(), lines);
        Registry { child, address, storage }
    }

    /// Serves the same storage by another configuration from now on, at another address.
    pub fn reconfigure(&mut self, lines: &str) {
        stop(&mut self.child);
        (self.child, self.address) = start(self.storage.path(), lines);
    }

    /// The folder that its configuration names for its storage.
    pub fn storage(&self) -> PathBuf {
        self.storage.path().join("data")
    }

    /// `HOST:PORT`.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}

fn stop(registry: &mut Child) {
    // It has either been killed or is gone already.
    let _ = registry.kill();
    let _ = registry.wait();
}

fn start(folder: &Path, lines: &str) -> (Child, String) {
    // Another process may take the port between our choice and the start.
    (0..5).find_map(|_| try_start(folder, lines)).expect("docker-registry starts within 5 attempts")
}

fn try_start(folder: &Path, lines: &str) -> Option<(Child, String)> {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let config = folder.join("config.yml");
    let text = format!(
        "version: 0.1\n\
         log: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}}}\n\
         http: {{addr: '{address}'}}\n",
        folder.join("data").display()
    );
    fs::write(&config, text + lines).unwrap();
    let mut child = program("docker-registry", "docker-registry")
        .arg("serve")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let until = Instant::now() + START;
    while Instant::now() < until && child.try_wait().unwrap().is_none() {
        if answers(&address) {
            return Some((child, address));
        }
        thread::sleep(Duration::from_millis(20));
    }
    stop(&mut child);
    None
}

fn answers(address: &str) -> bool {
    let request = format!("GET /v2/ HTTP/1.0\r\nHost: {address}\r\n\r\n");
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(request.as_bytes())?;
        let mut response = String::new();
        stream.read_to_string(&mut response).map(|_| response)
    };
    // One that wants a password answers as well.
    ask().is_ok_and(|response| matches!(response.split(' ').nth(1), Some("200" | "401")))
}
