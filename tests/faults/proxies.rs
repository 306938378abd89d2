//! Registries behind a proxy, and where redirects may lead.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use ocifs::digest::Digest;
use ocifs::image::ImageOptions;
use ocifs::oci::Descriptor;
use ocifs::reference::Reference;
use ocifs::source::registry::{
    ConfigFiles, Credentials, HostsConfig, Proxies, Registry as Client, RegistryOptions, Session,
};

use crate::fixture::{GOOD, Sandbox, good, has_words, open, options, read};
use crate::support::image::sha256;
use crate::support::registry::{Fault, Registry, Times};

/// A proxy that connects everybody to one server, whatever was asked for, and remembers what that
/// was. It ends with the process.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn start(target: SocketAddr, serve: fn(&mut TcpStream) -> io::Result<String>) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = Arc::clone(&asked);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(mut client), noted) = (client, Arc::clone(&noted)) else { continue };
                thread::spawn(move || {
                    let Ok(line) = serve(&mut client) else { return };
                    let is_refused = line.starts_with('!');
                    noted.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                    if !is_refused {
                        // Either side may go away at any moment.
                        let _ = join(client, target);
                    }
                });
            }
        });
        Proxy { address, asked }
    }

    /// One for HTTP, which wants `me:secret`.
    fn http(target: SocketAddr) -> Proxy {
        Proxy::start(target, |client| {
            let mut lines = BufReader::new(client.try_clone()?).lines();
            let first = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
            let mut is_known = false;
            for line in lines {
                let line = line?;
                // me:secret
                is_known |= line == "Proxy-Authorization: Basic bWU6c2VjcmV0";
                if line.is_empty() {
                    break;
                }
            }
            let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
            match is_known && first.starts_with("CONNECT ") {
                true => {
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
                    Ok(target)
                }
                false => {
                    client.write_all(
                        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
                    )?;
                    Ok(format!("!{target}"))
                }
            }
        })
    }

    /// One for SOCKS 5 (RFC 1928), which wants nothing and resolves names itself.
    fn socks(target: SocketAddr) -> Proxy {
        Proxy::start(target, |client| {
            let mut take = |length: usize| {
                let mut bytes = vec![0; length];
                client.read_exact(&mut bytes).map(|()| bytes)
            };
            let methods = take(2)?[1];
            take(usize::from(methods))?;
            client.write_all(&[5, 0])?;
            let mut take = |length: usize| {
                let mut bytes = vec![0; length];
                client.read_exact(&mut bytes).map(|()| bytes)
            };
            // Version, command, reserved, and a name.
            if take(4)?[3] != 3 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let length = take(1)?[0];
            let name = String::from_utf8_lossy(&take(usize::from(length))?).into_owned();
            let port = take(2)?;
            client.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 0])?;
            Ok(format!("{name}:{}", u16::from_be_bytes([port[0], port[1]])))
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Passes bytes on in both directions until both have ended.
fn join(client: TcpStream, target: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || {
        let _ = io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(std::net::Shutdown::Both);
    });
    let (mut from_client, mut to_server) = (client, server);
    let result = io::copy(&mut from_client, &mut to_server);
    let _ = to_server.shutdown(std::net::Shutdown::Both);
    result.map(drop)
}

/// A name that no name server knows, so that only a proxy leads there.
const HOST: &str = "registry.example:5000";

fn through(proxy: &str, exceptions: &str) -> ImageOptions {
    let usual = options();
    let proxies = Proxies::new(Some(proxy), None, None, Some(exceptions)).unwrap();
    let registry = RegistryOptions { proxies, plain_http: true, ..usual.registry };
    ImageOptions { registry, ..usual }
}

fn reads(options: &ImageOptions) -> Result<Vec<u8>, String> {
    let sandbox = Sandbox::new();
    read(&open(&format!("{HOST}/r:t"), &sandbox.cache(), options)?, "f")
}

fn serving() -> Registry {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    registry
}

/// Settings by some files.
fn by_files(files: ConfigFiles) -> Arc<HostsConfig> {
    Arc::new(HostsConfig::new(files))
}

#[test]
fn registries_behind_a_proxy() {
    let registry = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    assert_eq!(reads(&through(&url, "other.example")).unwrap(), GOOD);
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|host| host == HOST), "{asked:?}");
    // Several requests to the registry went through one connection.
    assert!(registry.requests().len() > asked.len(), "{asked:?}");
}

#[test]
fn registries_behind_a_socks_proxy() {
    let registry = serving();
    let proxy = Proxy::socks(registry.addr());
    let url = format!("socks5h://{}", proxy.address);
    assert_eq!(reads(&through(&url, "")).unwrap(), GOOD);
    assert!(proxy.asked().iter().all(|host| host == HOST), "{:?}", proxy.asked());
}

#[test]
fn proxies_that_refuse() {
    let registry = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:hidden@{}", proxy.address);
    let error = reads(&through(&url, "")).unwrap_err();
    has_words(&error, &["proxy requires a user and a password"]).unwrap();
    assert!(!error.contains("hidden"), "{error}");
    assert!(registry.requests().is_empty());
}

/// Plain HTTP goes by a tunnel as well, which is told where it is what fails.
#[test]
fn proxies_that_make_no_tunnels() {
    let registry = serving();
    let proxy = Proxy::start(registry.addr(), |client| {
        let mut head = BufReader::new(client.try_clone()?).lines();
        let first = head.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        while head.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        client.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")?;
        Ok(format!("!{first}"))
    });
    let url = format!("http://me:hidden@{}", proxy.address);
    let error = reads(&through(&url, "")).unwrap_err();
    let own = format!("the proxy http://{}", proxy.address);
    has_words(&error, &["403", &own, "port 443 alone", "NO_PROXY"]).unwrap();
    assert!(!error.contains("hidden"), "{error}");
    // Over TLS there is nothing to say about ports.
    let https = RegistryOptions {
        proxies: Proxies::new(None, Some(&url), None, None).unwrap(),
        ..options().registry
    };
    let error = reads(&ImageOptions { registry: https, ..options() }).unwrap_err();
    has_words(&error, &["403", &own]).unwrap();
    assert!(!error.contains("port 443"), "{error}");
}

#[test]
fn exceptions_go_directly() {
    let registry = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    for exceptions in ["*", "registry.example", ".example", "registry.example:5000"] {
        let error = reads(&through(&url, exceptions)).unwrap_err();
        has_words(&error, &["no host of that name"]).unwrap();
    }
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
    // This machine is always reached directly.
    let sandbox = Sandbox::new();
    let name = format!("{}/r:t", registry.addr());
    let options = through("http://127.0.0.1:1", "");
    assert_eq!(read(&open(&name, &sandbox.cache(), &options).unwrap(), "f").unwrap(), GOOD);
}

#[test]
fn storage_has_a_way_of_its_own() {
    let registry = serving();
    let storage = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    let layer = &good().blobs.iter().next().unwrap().0.clone();
    let location = format!("http://storage.example/v2/r/blobs/{layer}");
    registry.fault(("GET", layer, Times::Nth(1)), Fault::Redirect(307, location.clone()));
    assert_eq!(reads(&through(&url, "")).unwrap(), GOOD);
    assert!(proxy.asked().contains(&"storage.example:80".to_owned()), "{:?}", proxy.asked());
    // The same with the storage on this side of the wall.
    registry.fault(("GET", layer, Times::Always), Fault::Redirect(307, location));
    let error = reads(&through(&url, "storage.example")).unwrap_err();
    has_words(&error, &["storage.example", "no host of that name"]).unwrap();
    drop(storage);
}

/// A registry that `registries.conf` calls insecure is asked over TLS first. Pushing, and asking for
/// referrers before anything else, find out that it speaks plain HTTP like reading does.
#[test]
fn pushing_finds_plain_http_too() {
    let registry = serving();
    registry.require_basic("me", "pa55");
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("registries.conf");
    fs::write(&conf, format!("[[registry]]\nlocation = '{HOST}'\ninsecure = true\n")).unwrap();
    let mut credentials = Credentials::default();
    credentials.add_login("a test", HOST, "me", "pa55");
    let options = RegistryOptions {
        proxies: Proxies::new(Some(&url), Some(&url), None, None).unwrap(),
        hosts: by_files(ConfigFiles { registries: vec![conf], ..ConfigFiles::default() }),
        credentials,
        ..options().registry
    };
    let reference: Reference = format!("{HOST}/r:t").parse().unwrap();
    let pusher = || Client::for_pushing(reference.clone(), &options, &Session::default()).unwrap();
    let blob = b"a blob";
    pusher().push_blob(&Digest::sha256(blob), blob).unwrap();
    assert_eq!(registry.blob("r", &sha256(blob)).unwrap(), blob);
    let subject = Descriptor::of_manifest(Digest::sha256(b"the subject"));
    let (media_type, artifact_type) = ("application/vnd.oci.image.manifest.v1+json", "a/type");
    let manifest = serde_json::json!({
        "schemaVersion": 2, "mediaType": media_type, "artifactType": artifact_type,
        "subject": subject.digest, "layers": [],
    });
    let manifest = manifest.to_string().into_bytes();
    let digest = pusher().push_manifest(&manifest, media_type, Some(&subject)).unwrap();
    let reader = Client::new(reference.clone(), &options, &Session::default()).unwrap();
    let found = reader.referrers(&subject.digest, artifact_type).unwrap();
    assert_eq!(found.iter().map(|found| found.digest).collect::<Vec<_>>(), [digest]);
    // Nowhere else is TLS given up: not without that word.
    let options = RegistryOptions { hosts: Arc::default(), ..options };
    let reader = Client::new(reference.clone(), &options, &Session::default()).unwrap();
    reader.referrers(&subject.digest, artifact_type).unwrap_err();
    let pusher = Client::for_pushing(reference, &options, &Session::default()).unwrap();
    pusher.push_blob(&Digest::sha256(b"x"), b"x").unwrap_err();
    assert_eq!(registry.blob("r", &sha256(b"x")), None);
}

#[test]
fn uploads_into_this_network_are_refused() {
    let registry = serving();
    let inside = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    for host in [&inside.addr().to_string()[..], "169.254.169.254", "[::1]:80", "localhost"] {
        registry.set_upload_origin(&format!("http://{host}"));
        let reference = format!("{HOST}/r:t").parse().unwrap();
        let options = through(&url, "").registry;
        let pusher = Client::for_pushing(reference, &options, &Session::default()).unwrap();
        let error = pusher.push_blob(&Digest::sha256(b"x"), b"x").unwrap_err().to_string();
        has_words(&error, &["upload", "this machine's own network", "refused"]).unwrap();
    }
    assert!(inside.requests().is_empty());
    assert!(proxy.asked().iter().all(|host| host == HOST), "{:?}", proxy.asked());
}

#[test]
fn redirects_into_this_network_are_refused() {
    let registry = serving();
    let inside = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    for host in
        [&inside.addr().to_string()[..], "169.254.169.254", "[::1]:80", "localhost", "10.0.0.1"]
    {
        registry.clear_faults();
        let location = format!("http://{host}/v2/r/manifests/t");
        registry.fault(("GET", "/manifests/", Times::Always), Fault::Redirect(307, location));
        let error = reads(&through(&url, "")).unwrap_err();
        has_words(&error, &["this machine's own network", "refused"]).unwrap();
    }
    assert!(inside.requests().is_empty());
    assert!(proxy.asked().iter().all(|host| host == HOST), "{:?}", proxy.asked());
}

/// What a public registry names as its token server, or what that redirects to, is not in here.
#[test]
fn token_servers_in_this_network_are_refused() {
    let registry = serving();
    let inside = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    let challenge = |realm: &str| {
        let value = format!("Bearer realm=\"{realm}\",service=\"s\"");
        Fault::Status(401, vec![("WWW-Authenticate".to_owned(), value)], Vec::new())
    };
    for host in [&inside.addr().to_string()[..], "169.254.169.254", "localhost", "[::1]:80"] {
        registry.clear_faults();
        let realm = format!("http://{host}/token");
        registry.fault(("GET", "/v2/", Times::Always), challenge(&realm));
        has_words(&reads(&through(&url, "")).unwrap_err(), &["inside this network"]).unwrap();
        registry.clear_faults();
        let own = format!("http://{HOST}/token");
        registry.fault(("GET", "/v2/", Times::Always), challenge(&own));
        registry.fault(("GET", "/token", Times::Always), Fault::Redirect(307, realm));
        let error = reads(&through(&url, "")).unwrap_err();
        has_words(&error, &["access token", "this machine's own network", "refused"]).unwrap();
    }
    assert!(inside.requests().is_empty());
    assert!(proxy.asked().iter().all(|host| host == HOST), "{:?}", proxy.asked());
}

/// A registry in plain HTTP may redirect to any other; the login for that is not sent in the clear, but
/// where a file says that this is meant.
#[test]
fn logins_for_others_do_not_go_out_in_the_clear() {
    const OTHER: &str = "other.example";
    let registry = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    // Both are one server behind the proxy, which redirects each thing once, and then asks for a login.
    let location = format!("http://{OTHER}/v2/r/manifests/t");
    let value = ("WWW-Authenticate".to_owned(), "Basic realm=\"x\"".to_owned());
    let again = || {
        registry.clear_faults();
        registry.clear_log();
        let redirect = Fault::Redirect(307, location.clone());
        registry.fault(("GET", "/manifests/t", Times::First(1)), redirect);
        let refusal = Fault::Status(401, vec![value.clone()], Vec::new());
        registry.fault(("GET", "/manifests/t", Times::Nth(2)), refusal);
    };
    let mut credentials = Credentials::default();
    credentials.add_login("a test", OTHER, "other", "pa55");
    let usual = through(&url, "");
    let options = |files: ConfigFiles| {
        let credentials = credentials.clone();
        let registry =
            RegistryOptions { credentials, hosts: by_files(files), ..usual.registry.clone() };
        ImageOptions { registry, ..usual.clone() }
    };
    again();
    let error = reads(&options(ConfigFiles::default())).unwrap_err();
    has_words(&error, &["401", OTHER, "in plain HTTP", "insecure"]).unwrap();
    assert!(registry.requests().iter().all(|request| request.authorization.is_none()));
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("registries.conf");
    fs::write(&conf, format!("[[registry]]\nlocation = '{OTHER}'\ninsecure = true\n")).unwrap();
    again();
    assert_eq!(
        reads(&options(ConfigFiles { registries: vec![conf], ..ConfigFiles::default() })).unwrap(),
        GOOD
    );
    let requests = registry.requests();
    assert!(requests.iter().any(|request| request.authorization.is_some()), "{requests:?}");
}

/// What Docker's `daemon.json` calls insecure, by name or by network, is asked in plain HTTP where TLS fails;
/// nothing else is.
#[test]
fn insecure_registries_of_docker() {
    let registry = serving();
    let proxy = Proxy::http(registry.addr());
    let url = format!("http://me:secret@{}", proxy.address);
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("daemon.json");
    let usual = options();
    let proxies = Proxies::new(Some(&url), Some(&url), None, None).unwrap();
    let shows = |host: &str| {
        let proxies = proxies.clone();
        let hosts = by_files(ConfigFiles { docker: vec![conf.clone()], ..ConfigFiles::default() });
        let options = RegistryOptions { proxies, hosts, ..usual.registry.clone() };
        let options = ImageOptions { registry: options, ..usual.clone() };
        let sandbox = Sandbox::new();
        open(&format!("{host}/r:t"), &sandbox.cache(), &options).and_then(|image| read(&image, "f"))
    };
    for (entry, insecure, secure) in [
        (HOST, HOST, "registry.example:5001"),
        ("http://registry.example:5000", HOST, "registry.example"),
        ("10.1.0.0/16", "10.1.2.3:5000", "10.2.2.3:5000"),
        ("2001:db8::/32", "[2001:db8::1]:5000", "[2001:db9::1]:5000"),
    ] {
        let text = serde_json::json!({ "insecure-registries": [entry] }).to_string();
        fs::write(&conf, text).unwrap();
        assert_eq!(shows(insecure).as_deref(), Ok(GOOD), "{entry}");
        shows(secure).unwrap_err();
    }
    // Docker Hub never is.
    fs::write(&conf, r#"{"insecure-registries": ["docker.io", "registry-1.docker.io"]}"#).unwrap();
    registry.add_image("library/r", "t", &good());
    registry.clear_log();
    shows("docker.io/library").unwrap_err();
    assert!(registry.requests().is_empty(), "{:?}", registry.requests());
}
