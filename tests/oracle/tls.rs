//! Registries behind TLS: whom we trust, who we are, and what is said when it fails.

use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::{Image, ImageOptions};
use ocifs::layer::Quiet;
use ocifs::source::registry::{ConfigFiles, Credentials, HostsConfig, RegistryOptions, Roots};
use ocifs::tree::Symlinks;
use rcgen::date_time_ymd;

use crate::nginx::{Authority, Change, Nginx, Pair, certs_d, self_signed};
use crate::oracle::gzip_image;
use crate::servers::Registry;
use crate::support::image::push;
use crate::support::tarball::{Entry, tar};

const CONTENT: &[u8] = b"over TLS";

/// An image in the shared registry.
pub fn pushed(registry: &Registry, name: &str) {
    let image = gzip_image(&[tar(&[Entry::file("f", CONTENT)])]);
    push(&image, registry.address(), name, "latest").unwrap();
}

/// Opens an image with a cache of its own and reads its file.
pub fn reads(name: &str, registry: &RegistryOptions) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(Cache::open(&folder.path().join("cache")));
    let options = ImageOptions { registry: registry.clone(), ..ImageOptions::default() };
    let image = Image::open(&name.parse().unwrap(), &cache, &options, &Quiet);
    let image = image.map_err(|e| format!("{e} [{:?}]", e.hint()))?;
    let filesystem = image.filesystem();
    let ino = filesystem.tree().resolve(b"f", Symlinks::Keep).map_err(|e| e.to_string())?;
    let mut bytes = vec![0; CONTENT.len()];
    let deadline = filesystem.deadline();
    let file = filesystem.file(ino).map_err(|e| e.to_string())?;
    file.read(0, &mut bytes, deadline).map_err(|e| e.to_string())?;
    assert_eq!(bytes, CONTENT);
    Ok(())
}

fn by_files(files: ConfigFiles) -> Arc<HostsConfig> {
    Arc::new(HostsConfig::new(files))
}

fn with_certificates(places: &[&std::path::Path]) -> RegistryOptions {
    let certificates = places.iter().map(|path| (*path).to_owned()).collect();
    RegistryOptions {
        hosts: by_files(ConfigFiles { certificates, ..ConfigFiles::default() }),
        ..RegistryOptions::default()
    }
}

const SAME: Change = |_| {};

#[test]
fn whom_we_trust() {
    let registry = Registry::shared();
    pushed(&registry, "tls/trust");
    let authority = Authority::new("our own");
    let stranger = Authority::new("another");
    let expired: Change = |params| params.not_after = date_time_ymd(2024, 2, 29);
    let future: Change = |params| params.not_before = date_time_ymd(2095, 1, 1);
    let right = authority.sign(&["localhost", "127.0.0.1", "::1"], SAME);
    let only_name = authority.sign(&["localhost"], SAME);
    let own = self_signed(&["localhost", "127.0.0.1"], SAME);
    let twin = self_signed(&["localhost", "127.0.0.1"], SAME);
    let rows: &[(&str, &Pair, &str, &str, &[&str])] = &[
        ("signed by ours", &right, "localhost", &authority.pem(), &[]),
        ("signed by ours, an address", &right, "127.0.0.1", &authority.pem(), &[]),
        ("signed by ours, IPv6", &right, "[::1]", &authority.pem(), &[]),
        ("signed by itself", &own, "localhost", &own.certificate, &[]),
        (
            "signed by itself, among others",
            &own,
            "localhost",
            &format!("{}{}", stranger.pem(), own.certificate),
            &[],
        ),
        (
            "signed by others",
            &right,
            "localhost",
            &stranger.pem(),
            &["unknown authority", "TrustCertificate"],
        ),
        ("signed by itself, but another", &own, "localhost", &twin.certificate, &["certificate"]),
        (
            "signed by itself, not trusted",
            &own,
            "localhost",
            &stranger.pem(),
            &["is that of an authority", "TrustCertificate"],
        ),
        (
            "for another name",
            &only_name,
            "127.0.0.1",
            &authority.pem(),
            &["is for localhost", "not for 127.0.0.1"],
        ),
        (
            "signed by itself for another name",
            &self_signed(&["elsewhere.example"], SAME),
            "localhost",
            "",
            &["is for elsewhere.example", "not for localhost"],
        ),
        (
            "expired",
            &authority.sign(&["localhost"], expired),
            "localhost",
            &authority.pem(),
            &["expired on Thu, 29 Feb 2024", "this machine's clock says"],
        ),
        (
            "signed by itself, expired",
            &self_signed(&["localhost"], expired),
            "localhost",
            "",
            &["expired on Thu, 29 Feb 2024", "clock"],
        ),
        (
            "not begun",
            &authority.sign(&["localhost"], future),
            "localhost",
            &authority.pem(),
            &["begins on Sat, 01 Jan 2095", "clock"],
        ),
    ];
    for (what, pair, host, trusted, words) in rows {
        let nginx = Nginx::with_tls(registry.address(), pair, "ssl_protocols TLSv1.3;", &[]);
        let host = format!("{host}:{}", nginx.port());
        let trusted = if trusted.is_empty() { &pair.certificate } else { *trusted };
        let (folder, place) = certs_d(&host, &[("ca.crt", trusted)]);
        let name = format!("{host}/tls/trust");
        let bundle = folder.path().join("bundle.pem");
        std::fs::write(&bundle, trusted).unwrap();
        let of_host = with_certificates(&[&place]);
        let roots = Arc::new(Roots::only(Some(bundle), Vec::new()));
        let of_all = RegistryOptions { roots, ..RegistryOptions::default() };
        for (whose, options) in [("of the host", of_host), ("of all hosts", of_all)] {
            match (reads(&name, &options), words) {
                (Ok(()), []) => {}
                (Err(error), [_, ..]) => {
                    for word in *words {
                        assert!(
                            error.contains(word),
                            "{what}, {whose}: `{word}` is not in: {error}"
                        );
                    }
                }
                (result, _) => panic!("{what}, {whose}: {result:?}"),
            }
        }
        // It may be reached all the same by who wants to, and only then.
        let unchecked = RegistryOptions { tls_verify: false, ..RegistryOptions::default() };
        assert_eq!(reads(&name, &unchecked), Ok(()), "{what}");
    }
}

#[test]
fn authorities_for_every_host() {
    let registry = Registry::shared();
    pushed(&registry, "tls/roots");
    let authority = Authority::new("of the system");
    let pair = authority.sign(&["localhost"], SAME);
    let nginx = Nginx::with_tls(registry.address(), &pair, "ssl_protocols TLSv1.2;", &[]);
    let host = format!("localhost:{}", nginx.port());
    let (folder, place) = certs_d("roots", &[("a.pem", &authority.pem()), ("b.txt", "no PEM")]);
    let (_empty, none) = certs_d(&host, &[]);
    let with =
        |roots: Roots| RegistryOptions { roots: Arc::new(roots), ..with_certificates(&[&none]) };
    let name = format!("{host}/tls/roots");
    let roots = place.join("roots");
    assert_eq!(reads(&name, &with(Roots::only(Some(roots.join("a.pem")), vec![]))), Ok(()));
    assert_eq!(reads(&name, &with(Roots::only(None, vec![roots.clone()]))), Ok(()));
    let refused = |roots: Roots| reads(&name, &with(roots)).unwrap_err();
    assert!(refused(Roots::default()).contains("unknown authority"));
    let error = refused(Roots::only(Some(roots.join("b.txt")), vec![]));
    assert!(error.contains("no trusted certificate in") && error.contains("b.txt"), "{error}");
    let error = refused(Roots::only(Some(roots.join("absent")), vec![]));
    assert!(error.contains("absent"), "{error}");
    drop(folder);
}

#[test]
fn who_we_are() {
    let registry = Registry::shared();
    pushed(&registry, "tls/client");
    let authority = Authority::new("of both sides");
    let server = authority.sign(&["localhost"], SAME);
    let me = authority.sign(&["me"], SAME);
    let stranger = Authority::new("unknown").sign(&["me"], SAME);
    for (versions, refusal) in
        [("TLSv1.3", "client certificate"), ("TLSv1.2", "client certificate")]
    {
        let nginx = Nginx::with_tls(
            registry.address(),
            &server,
            &format!(
                "ssl_protocols {versions}; ssl_client_certificate DIR/clients.crt;
                 ssl_verify_client on;"
            ),
            &[("clients.crt", &authority.pem())],
        );
        let host = format!("localhost:{}", nginx.port());
        let name = format!("{host}/tls/client");
        let with = |pair: Option<&Pair>| {
            let ca = authority.pem();
            let mut files = vec![("ca.crt", ca.as_str())];
            if let Some(pair) = pair {
                files.extend([("me.cert", pair.certificate.as_str()), ("me.key", &pair.key)]);
            }
            let (_folder, place) = certs_d(&host, &files);
            reads(&name, &with_certificates(&[&place]))
        };
        assert_eq!(with(Some(&me)), Ok(()), "{versions}");
        for (what, pair) in [("none", None), ("of a stranger", Some(&stranger))] {
            let error = with(pair).unwrap_err();
            assert!(
                error.contains(refusal) && error.contains("GiveClientCertificate"),
                "{what}: {error}"
            );
        }
        let mixed = Pair { certificate: me.certificate.clone(), key: stranger.key.clone() };
        let error = with(Some(&mixed)).unwrap_err();
        assert!(error.contains("do not belong together"), "{error}");
    }
}

#[test]
fn servers_of_this_machine_may_speak_tls() {
    let registry = Registry::shared();
    pushed(&registry, "tls/loopback");
    let authority = Authority::new("of this machine");
    let pair = authority.sign(&["localhost"], SAME);
    let nginx = Nginx::with_tls(registry.address(), &pair, "", &[("ca.pem", &authority.pem())]);
    let name = format!("localhost:{}/tls/loopback", nginx.port());
    let error = reads(&name, &RegistryOptions::default()).unwrap_err();
    assert!(error.contains("https://") && error.contains("unknown authority"), "{error}");
    let roots = Arc::new(Roots::only(Some(nginx.folder().join("ca.pem")), vec![]));
    let trusting = RegistryOptions { roots, ..RegistryOptions::default() };
    assert_eq!(reads(&name, &trusting), Ok(()));
    // It was asked in plain HTTP once, and said so.
    let is_refused = |line: &&String| line.contains("|400|");
    assert_eq!(nginx.requests().iter().filter(is_refused).count(), 2, "{:?}", nginx.requests());
    let plain = RegistryOptions { plain_http: true, ..trusting };
    let error = reads(&name, &plain).unwrap_err();
    assert!(error.contains("the server speaks TLS there"), "{error}");
}

#[test]
fn insecure_by_registries_conf() {
    let registry = Registry::shared();
    pushed(&registry, "tls/insecure");
    let pair = Authority::new("unknown").sign(&["elsewhere.example"], SAME);
    let nginx = Nginx::with_tls(registry.address(), &pair, "", &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("registries.conf");
    let hosts = [format!("localhost:{}", nginx.port()), registry.address().to_owned()];
    for insecure in [true, false] {
        let rows = hosts
            .each_ref()
            .map(|host| format!("[[registry]]\nlocation = '{host}'\ninsecure = {insecure}\n"));
        std::fs::write(&path, rows.concat()).unwrap();
        let files = ConfigFiles { registries: vec![path.clone()], ..ConfigFiles::default() };
        let options = RegistryOptions { hosts: by_files(files), ..RegistryOptions::default() };
        let [over_tls, plain] =
            hosts.each_ref().map(|host| reads(&format!("{host}/tls/insecure"), &options));
        assert_eq!((over_tls.is_ok(), plain), (insecure, Ok(())), "{over_tls:?}");
    }
}

/// The same by Docker's `daemon.json`, by host and by network: any certificate is accepted.
#[test]
fn insecure_by_daemon_json() {
    let registry = Registry::shared();
    pushed(&registry, "tls/daemon");
    let pair = Authority::new("unknown").sign(&["elsewhere.example"], SAME);
    let nginx = Nginx::with_tls(registry.address(), &pair, "", &[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("daemon.json");
    let host = format!("localhost:{}", nginx.port());
    let other = format!("localhost:{}", nginx.port().wrapping_add(1));
    for (entry, is_open) in
        [(&*host, true), ("127.0.0.0/8", true), (&*other, false), ("10.0.0.0/8", false)]
    {
        std::fs::write(&path, format!("{{\"insecure-registries\": [\"{entry}\"]}}")).unwrap();
        let files = ConfigFiles { docker: vec![path.clone()], ..ConfigFiles::default() };
        let options = RegistryOptions { hosts: by_files(files), ..RegistryOptions::default() };
        let result = reads(&format!("{host}/tls/daemon"), &options);
        assert_eq!(result.is_ok(), is_open, "{entry}: {result:?}");
    }
}

/// A registry behind a proxy that ends TLS names its token server, itself, in plain HTTP: it is asked over TLS.
/// Another token server in plain HTTP gets neither a login nor a question.
#[test]
fn realms_in_plain_http() {
    let registry = Registry::shared();
    pushed(&registry, "tls/realms");
    let authority = Authority::new("our own");
    let pair = authority.sign(&["localhost"], SAME);
    let plain = registry.address().rsplit_once(':').unwrap().1;
    let elsewhere = format!("http://localhost:{plain}/token");
    let rows: [(&str, &[&str]); 8] = [
        ("https://localhost:PORT/token", &[]),
        ("http://localhost:PORT/token", &[]),
        ("http://LOCALHOST/token", &[]),
        ("/token", &[]),
        // The same by a redirect.
        ("https://localhost:PORT/moved", &[]),
        ("https://localhost:PORT/away", &["from https to http"]),
        ("http://other.example/token?s3cret", &["http://other.example/token", "in the clear"]),
        (&elsewhere, &[&elsewhere, "in the clear"]),
    ];
    for (realm, words) in rows {
        let server = format!(
            "server {{ listen 127.0.0.1:PORT ssl; listen [::1]:PORT ssl;
             ssl_certificate DIR/server.crt; ssl_certificate_key DIR/server.key;
             location = /moved {{ return 307 http://localhost:PORT/token; }}
             location = /away {{ return 307 http://other.example/token; }}
             location = /token {{
               if ($http_authorization != 'Basic bWU6cGE1NQ==') {{ return 401; }}
               default_type application/json; return 200 '{{\"token\":\"T\"}}';
             }}
             location /v2/ {{
               if ($http_authorization != 'Bearer T') {{
                 add_header WWW-Authenticate 'Bearer realm=\"{realm}\",service=\"s\"' always;
                 return 401;
               }}
               proxy_pass http://{}; proxy_set_header Host $http_host;
               proxy_set_header Authorization '';
             }} }}",
            registry.address()
        );
        let files = [("server.crt", pair.certificate.as_str()), ("server.key", pair.key.as_str())];
        let nginx = Nginx::start(&server, &files);
        let host = format!("localhost:{}", nginx.port());
        let (_folder, place) = certs_d(&host, &[("ca.crt", &authority.pem())]);
        let mut credentials = Credentials::default();
        // me:pa55
        credentials.add_login("a test", &host, "me", "pa55");
        let options = RegistryOptions { credentials, ..with_certificates(&[&place]) };
        match (reads(&format!("{host}/tls/realms"), &options), words) {
            (Ok(()), []) => {}
            (Err(error), [_, ..]) => {
                let is_told = words.iter().all(|word| error.contains(word));
                assert!(is_told && !error.contains("s3cret"), "{realm}: {error}");
            }
            (result, _) => panic!("{realm}: {result:?}, {:?}", nginx.requests()),
        }
    }
}

#[test]
fn fronts_that_change_what_registries_say() {
    let registry = Registry::shared();
    pushed(&registry, "tls/fronts");
    let pass =
        format!("proxy_pass http://{}; proxy_set_header Host $http_host;", registry.address());
    for (what, locations) in [
        ("no ranges", format!("location / {{ {pass} proxy_set_header Range ''; }}")),
        (
            "a wrong label",
            format!(
                "location / {{ {pass} }} location ~ /blobs/ {{ {pass} add_header Content-Encoding gzip; }}"
            ),
        ),
        (
            "compression for who asks for it",
            format!(
                "gzip on; gzip_types *; gzip_min_length 1; gzip_proxied any; location / {{ {pass} }}"
            ),
        ),
        (
            "storage that is no registry",
            format!(
                "location / {{ {pass} }}
                 location ~ ^/v2/(.*)/blobs/(.*)$ {{ return 307 /storage/$1/blobs/$2?signature=x; }}
                 location /storage/ {{ rewrite ^/storage/(.*)$ /v2/$1 break; {pass} }}"
            ),
        ),
    ] {
        let nginx = Nginx::start(&format!("server {{ listen 127.0.0.1:PORT; {locations} }}"), &[]);
        let name = format!("127.0.0.1:{}/tls/fronts", nginx.port());
        assert_eq!(reads(&name, &RegistryOptions::default()), Ok(()), "{what}");
    }
}

#[test]
fn servers_that_do_not_speak_tls() {
    let registry = Registry::shared();
    pushed(&registry, "tls/plain");
    let (_folder, place) = certs_d(registry.address(), &[]);
    let name = format!("{}/tls/plain", registry.address());
    let error = reads(&name, &with_certificates(&[&place])).unwrap_err();
    assert!(error.contains("does not speak TLS") && error.contains("SpeakPlainHttp"), "{error}");
}
