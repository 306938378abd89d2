//! TLS as registries need it: the system's authorities, the user's own, client certificates, and no
//! checking where the user says so.
//!
//! This, `pace.rs` and `resolver.rs` are the only files that use what `ureq` calls unversioned, and why `Cargo.toml` holds it to
//! one minor version. Its public settings can't express two things. The classic certificate of a
//! registry at home (`openssl req -x509`) says of itself that it is an authority, which `rustls`
//! refuses for a server: here such a certificate is accepted if it is, byte for byte, one that is trusted, by the system,
//! by the user, or for this host, after its dates and names were checked like any other's. And errors of
//! `rustls` have to come out typed, to be told in words.

use std::collections::HashSet;
use std::fmt;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct,
    InvalidMessage, RootCertStore, SignatureScheme, StreamOwned,
};
use ureq::http::Uri;
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    SocksConnector, TcpConnector, Transport, TransportAdapter,
};
use ureq::{Agent, config::Config, http::uri::Scheme};

use super::certs::{self, Certificates, ClientPair};
use super::elsewhere::links_in;
use super::pace::PaceConnector;
use super::resolver::Addresses;
use crate::digest::Digest;
use crate::hint::Hint;
use crate::source::registry::url::without_brackets;

/// Where systems keep the certificates of all authorities, in one file (the list of Go's
/// `crypto/x509`): Debian, Fedora, openSUSE, old and new RHEL, Alpine.
const BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities that are trusted for every host. Read when the first one is connected to by TLS.
#[derive(Debug, Default)]
pub struct Roots {
    /// The user's choice, instead of the system's.
    chosen: Option<(Option<PathBuf>, Vec<PathBuf>)>,
    trusted: OnceLock<Trusted>,
}

/// Authorities, as what they sign is checked by, and the digests of their certificates.
#[derive(Clone, Debug)]
struct Trusted {
    store: RootCertStore,
    certificates: HashSet<Digest>,
}

impl Trusted {
    fn none() -> Trusted {
        Trusted { store: RootCertStore::empty(), certificates: HashSet::new() }
    }

    /// Adds what can be understood.
    fn add(&mut self, certificates: Vec<CertificateDer<'static>>) {
        self.certificates
            .extend(certificates.iter().map(|certificate| Digest::sha256(certificate)));
        self.store.add_parsable_certificates(certificates);
    }
}

impl Roots {
    /// Those in a file and in the files of folders, in PEM, instead of the system's.
    pub fn only(file: Option<PathBuf>, folders: Vec<PathBuf>) -> Roots {
        Roots { chosen: Some((file, folders)), trusted: OnceLock::new() }
    }

    /// Where they may be: files, folders of files, and links in these.
    pub fn places(&self) -> Vec<PathBuf> {
        match &self.chosen {
            Some((file, folders)) => {
                let links = folders.iter().flat_map(|folder| links_in(folder));
                file.iter().chain(folders).cloned().chain(links).collect()
            }
            None => BUNDLES.iter().map(PathBuf::from).collect(),
        }
    }

    fn trusted(&self) -> io::Result<&Trusted> {
        if let Some(trusted) = self.trusted.get() {
            return Ok(trusted);
        }
        let trusted = match &self.chosen {
            Some((file, folders)) => chosen(file.as_deref(), folders)?,
            None => system(),
        };
        Ok(self.trusted.get_or_init(|| trusted))
    }
}

/// What the user chose, which must be something: the system's would be more than was asked for.
fn chosen(file: Option<&Path>, folders: &[PathBuf]) -> io::Result<Trusted> {
    let mut trusted = Trusted::none();
    let named = |path: &Path, e: io::Error| {
        io::Error::new(e.kind(), format!("trusted certificates in {}: {e}", path.display()))
    };
    if let Some(file) = file {
        trusted.add(certs::lenient(file).map_err(|e| named(file, e))?);
    }
    for folder in folders {
        let entries = std::fs::read_dir(folder).map_err(|e| named(folder, e))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_file() {
                trusted.add(certs::lenient(&path).unwrap_or_default());
            }
        }
    }
    if trusted.store.is_empty() {
        let places = file.into_iter().chain(folders.iter().map(PathBuf::as_path));
        let places: Vec<String> = places.map(|path| path.display().to_string()).collect();
        let places = places.join(", ");
        return Err(io::Error::other(format!("there is no trusted certificate in {places}")));
    }
    Ok(trusted)
}

/// The system's; where it has none, Mozilla's as of when this program was built.
fn system() -> Trusted {
    for bundle in BUNDLES {
        let mut trusted = Trusted::none();
        trusted.add(certs::lenient(Path::new(bundle)).unwrap_or_default());
        if !trusted.store.is_empty() {
            log::debug!("{} authorities are trusted, by {bundle}", trusted.store.len());
            return trusted;
        }
    }
    log::info!("the system has no list of authorities: the built-in one is used");
    let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Trusted { store, certificates: HashSet::new() }
}

/// Whom we trust and who we are, for one host.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Identity {
    /// Besides the [`Roots`].
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) client: Option<Arc<ClientPair>>,
    /// Nothing is checked.
    pub(super) unverified: bool,
}

impl From<Certificates> for Identity {
    fn from(Certificates { authorities, client }: Certificates) -> Identity {
        Identity { authorities, client, unverified: false }
    }
}

/// What makes TLS connections for one identity.
#[derive(Debug)]
struct Settings {
    identity: Arc<Identity>,
    roots: Arc<Roots>,
    made: OnceLock<Arc<ClientConfig>>,
}

impl Settings {
    fn new(identity: Arc<Identity>, roots: Arc<Roots>) -> Settings {
        Settings { identity, roots, made: OnceLock::new() }
    }

    fn client(&self) -> io::Result<Arc<ClientConfig>> {
        if let Some(made) = self.made.get() {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(self.make()?);
        Ok(Arc::clone(self.made.get_or_init(|| made)))
    }

    fn make(&self) -> io::Result<ClientConfig> {
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(self.verifier(&provider)?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        Ok(match &self.identity.client {
            None => builder.with_no_client_auth(),
            Some(pair) => builder
                .with_client_auth_cert(pair.chain.clone(), pair.key.clone_key())
                .map_err(io::Error::other)?,
        })
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> io::Result<Verifier> {
        let provider = Arc::clone(provider);
        if self.identity.unverified {
            return Ok(Verifier { provider, usual: None, trusted: HashSet::new() });
        }
        let mut trusted = self.roots.trusted()?.clone();
        trusted.add(self.identity.authorities.clone());
        let store = Arc::new(trusted.store);
        let builder = WebPkiServerVerifier::builder_with_provider(store, Arc::clone(&provider));
        let usual = Some(builder.build().map_err(io::Error::other)?);
        Ok(Verifier { provider, usual, trusted: trusted.certificates })
    }
}

/// Decides whether a server is whom it says it is. That it holds the key of its certificate is checked
/// whatever the user exempts.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// The usual checks; `None` if nothing is to be checked.
    usual: Option<Arc<WebPkiServerVerifier>>,
    /// The digests of all certificates that are trusted.
    trusted: HashSet<Digest>,
}

impl Verifier {
    fn is_trusted(&self, certificate: &CertificateDer<'_>) -> bool {
        self.trusted.contains(&Digest::sha256(certificate))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(usual) = &self.usual else { return Ok(ServerCertVerified::assertion()) };
        let checked =
            usual.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            // Dates are checked before this: an expired one ends in another error.
            Err(error) if is_authority(&error) && self.is_trusted(end_entity) => {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Whether a certificate was refused for a server because it says that it is an authority.
fn is_authority(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// An agent that speaks TLS with that identity.
pub(super) fn agent(
    config: Config,
    identity: Arc<Identity>,
    roots: Arc<Roots>,
    pace: PaceConnector,
    addresses: Addresses,
) -> Agent {
    let proxy = config.proxy().map(|proxy| {
        let usual = Settings::new(Arc::default(), Arc::clone(&roots));
        (proxy.uri().clone(), usual)
    });
    let tls = TlsConnector { settings: Settings::new(identity, roots), proxy };
    let connector = ().chain(SocksConnector::default());
    let connector = connector.chain(ConnectProxyConnector::default());
    let connector = connector.chain(TcpConnector::default()).chain(pace).chain(tls);
    Agent::with_parts(config, connector, addresses)
}

/// Puts TLS around a connection.
#[derive(Debug)]
struct TlsConnector {
    settings: Settings,
    /// A proxy that is itself reached by TLS sees none of what is for the registry.
    proxy: Option<(Uri, Settings)>,
}

impl<In: Transport> Connector<In> for TlsConnector {
    type Out = Either<In, TlsTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, ureq::Error> {
        let Some(transport) = chained else { return Ok(None) };
        if details.uri.scheme() != Some(&Scheme::HTTPS) || transport.is_tls() {
            return Ok(Some(Either::A(transport)));
        }
        let settings = match &self.proxy {
            Some((uri, usual)) if uri == details.uri => usual,
            _ => &self.settings,
        };
        let host = without_brackets(details.uri.host().unwrap_or_default());
        let name = ServerName::try_from(host.to_owned());
        let name =
            name.map_err(|_| io::Error::other("there can be no certificate for its name"))?;
        let mut connection = ClientConnection::new(settings.client()?, name)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let boxed: Box<dyn Transport> = Box::new(transport);
        let mut socket = TransportAdapter::new(boxed, Arc::clone(&details.current_time));
        socket.set_timeout(details.timeout);
        connection.complete_io(&mut socket)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        let stream = StreamOwned::new(connection, socket);
        Ok(Some(Either::B(TlsTransport { buffers, stream })))
    }
}

/// A connection with TLS around it.
struct TlsTransport {
    buffers: LazyBuffers,
    stream: StreamOwned<ClientConnection, TransportAdapter>,
}

impl fmt::Debug for TlsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsTransport").finish_non_exhaustive()
    }
}

impl Transport for TlsTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(self.stream.write_all(output)?)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        self.stream.get_mut().set_timeout(timeout);
        let amount = self.stream.read(self.buffers.input_append_buf())?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.stream.get_mut().get_mut().is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// The error of TLS in an error of the client, if it is one.
fn cause(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// Whether the server answered a TLS hello with something else: plain HTTP, mostly.
pub(in crate::source::registry) fn is_not_tls(error: &ureq::Error) -> bool {
    matches!(
        cause(error),
        Some(rustls::Error::InvalidMessage(
            InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
        ))
    )
}

/// Whether a request failed over something that stays as it is: certificates and settings.
pub(in crate::source::registry) fn is_lasting(error: &ureq::Error) -> bool {
    cause(error).is_some()
}

/// What is wrong between us and a server that speaks TLS; `None` if it is something else.
pub(in crate::source::registry) fn words(error: &ureq::Error) -> Option<String> {
    let cause = cause(error)?;
    if is_not_tls(error) {
        return Some("the server does not speak TLS".to_owned());
    }
    Some(match cause {
        rustls::Error::InvalidCertificate(error) => certificate_words(error),
        rustls::Error::AlertReceived(alert) => alert_words(*alert),
        rustls::Error::InconsistentKeys(_) => {
            "the client certificate and its key do not belong together".to_owned()
        }
        cause => format!("TLS failed: {cause}"),
    })
}

/// What helps where a server that speaks TLS and we do not agree.
pub(in crate::source::registry) fn hint(error: &ureq::Error) -> Option<Hint> {
    if is_not_tls(error) {
        return Some(Hint::SpeakPlainHttp);
    }
    match cause(error)? {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Some(Hint::TrustCertificate)
        }
        error if is_authority(error) => Some(Hint::TrustCertificate),
        rustls::Error::AlertReceived(alert) if wants_client(*alert) => {
            Some(Hint::GiveClientCertificate)
        }
        _ => None,
    }
}

fn certificate_words(error: &CertificateError) -> String {
    let date = |time: &UnixTime| {
        let time = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(time.as_secs()));
        time.map_or_else(|| "far away".to_owned(), httpdate::fmt_http_date)
    };
    match error {
        CertificateError::UnknownIssuer => {
            "the server's certificate is signed by an unknown authority".to_owned()
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "the server's certificate has expired on {}; this machine's clock says {}",
            date(not_after),
            date(time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "the server's certificate begins on {}; this machine's clock says {}: is it right?",
            date(not_before),
            date(time)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let expected = expected.to_str();
            match &presented[..] {
                [] => format!(
                    "the server's certificate names no host at all (a common name does not \
                     count), and so not {expected}"
                ),
                names => {
                    let names: Vec<&str> = names.iter().map(|name| bare_name(name)).collect();
                    let names: String = names.join(", ").chars().take(300).collect();
                    format!("the server's certificate is for {names}, not for {expected}")
                }
            }
        }
        error if is_authority(&rustls::Error::InvalidCertificate(error.clone())) => {
            "the server's certificate is that of an authority, and this one is not trusted for this host".to_owned()
        }
        error => format!("the server's certificate is refused: {error}"),
    }
}

/// A name of a certificate without the word for its kind: `DnsName("a")` is `a`.
fn bare_name(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// Whether a server breaks off because it wants a client certificate, or another one.
fn wants_client(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::AccessDenied
    )
}

fn alert_words(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired => CLIENT_WANTED.to_owned(),
        alert if wants_client(alert) => {
            format!("the server refuses our client certificate ({alert:?}); {CLIENT_WANTED}")
        }
        alert => format!("the server broke off TLS: {alert:?}"),
    }
}

/// What is wrong where a server wants a client certificate.
pub(in crate::source::registry) const CLIENT_WANTED: &str =
    "the server requires a client certificate that it knows";

/// What is wrong where plain HTTP reaches a server that speaks TLS.
pub(in crate::source::registry) const SPEAKS_TLS: &str =
    "the server speaks TLS there, and was asked in plain HTTP";

/// What the page of a server means that was spoken to in the wrong way over HTTP: those of nginx and
/// of Go's `net/http`, on which most registries are built.
pub(in crate::source::registry) fn page_words(status: u16, body: &[u8]) -> Option<&'static str> {
    let text = String::from_utf8_lossy(body.get(..body.len().min(4096))?).to_lowercase();
    if status != 400 {
        return None;
    }
    if is_tls_page(&text) {
        Some(SPEAKS_TLS)
    } else if text.contains("required ssl certificate") || text.contains("ssl certificate error") {
        Some(CLIENT_WANTED)
    } else {
        None
    }
}

fn is_tls_page(text: &str) -> bool {
    text.contains("http request was sent to https port")
        || text.contains("sent an http request to an https server")
}
