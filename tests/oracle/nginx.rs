//! nginx in front of a registry, and the certificates it shows.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::servers::program;

/// How long it may take until it listens.
const START: Duration = Duration::from_secs(20);

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// What is changed of a usual certificate.
pub type Change = fn(&mut CertificateParams);

/// An authority.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for some names.
    pub fn sign(&self, names: &[&str], change: Change) -> Pair {
        let (params, key) = (params(names, change), KeyPair::generate().unwrap());
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// What `openssl req -x509` makes: signed by itself, and an authority by its own word.
pub fn self_signed(names: &[&str], change: Change) -> Pair {
    let mut params = params(names, change);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn params(names: &[&str], change: Change) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    change(&mut params);
    params
}

/// A running nginx, which stops when it is dropped.
pub struct Nginx {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Nginx {
    /// Starts it with these `server` blocks, in which `PORT` and `DIR` stand for a free port and a
    /// folder with these files.
    pub fn start(servers: &str, files: &[(&str, &str)]) -> Nginx {
        // Another process may take the port between our choice and the start.
        let started = (0..5).find_map(|_| Nginx::try_start(servers, files));
        started.expect("nginx starts within 5 attempts")
    }

    /// In front of a registry with TLS: `options` go into the server block.
    pub fn with_tls(upstream: &str, pair: &Pair, options: &str, files: &[(&str, &str)]) -> Nginx {
        let server = format!(
            "server {{ listen 127.0.0.1:PORT ssl; listen [::1]:PORT ssl;
             ssl_certificate DIR/server.crt; ssl_certificate_key DIR/server.key; {options}
             location / {{ proxy_pass http://{upstream}; proxy_set_header Host $http_host;
             proxy_set_header X-Forwarded-Proto https; }} }}"
        );
        let own = [("server.crt", pair.certificate.as_str()), ("server.key", pair.key.as_str())];
        let files: Vec<(&str, &str)> = own.into_iter().chain(files.iter().copied()).collect();
        Nginx::start(&server, &files)
    }

    fn try_start(servers: &str, files: &[(&str, &str)]) -> Option<Nginx> {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().display().to_string();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let servers = servers.replace("PORT", &port.to_string()).replace("DIR", &dir);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {dir}/{kind};\n"))
            .concat();
        let text = format!(
            "daemon off; user root; worker_processes 1; pid {dir}/pid; error_log {dir}/error.log;
             events {{}} http {{ log_format line '$request|$status|$host|$http_authorization';
             access_log {dir}/access.log line; client_max_body_size 0; {temporary} {servers} }}"
        );
        let config = folder.path().join("nginx.conf");
        fs::write(&config, text).unwrap();
        let child = program("nginx", "nginx")
            .arg("-c")
            .arg(&config)
            .args(["-e", &format!("{dir}/error.log")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut nginx = Nginx { child, port, folder };
        let until = Instant::now() + START;
        while Instant::now() < until && nginx.child.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(nginx);
            }
            thread::sleep(Duration::from_millis(20));
        }
        let log = fs::read_to_string(nginx.folder.path().join("error.log")).unwrap_or_default();
        assert!(log.contains("Address already in use"), "nginx does not start: {log}");
        None
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with its files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The requests so far: `METHOD PATH HTTP/…|STATUS|HOST|AUTHORIZATION`.
    pub fn requests(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // The master has workers, which go when it is asked to.
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// A folder `certs.d` with files for one host.
pub fn certs_d(host: &str, files: &[(&str, &str)]) -> (TempDir, PathBuf) {
    let top = tempfile::tempdir().unwrap();
    write_files(&top.path().join(host), files).unwrap();
    let path = top.path().to_owned();
    (top, path)
}

fn write_files(folder: &Path, files: &[(&str, &str)]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    files.iter().try_for_each(|(name, text)| fs::write(folder.join(name), text))
}
