//! HTTP servers inside the test process, for what no package of Debian has: a token server of the
//! distribution project's token authentication, and a signer of URLs.
//!
//! What checks their work is not ours: docker-registry verifies the tokens, nginx the signatures.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::servers::{program, run};
use crate::support::wire::{Request, Response, Wire, decode};

/// A server that answers each request by a function.
pub struct Local {
    address: SocketAddr,
    is_over: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Local {
    pub fn start(answer: impl Fn(&Request) -> Response + Send + Sync + 'static) -> Local {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (is_over, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(answer));
        let acceptor = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if is_over.load(Ordering::SeqCst) {
                        return;
                    }
                    let answer = Arc::clone(&answer);
                    // The client may go away at any moment, which ends the connection and no more.
                    thread::spawn(move || converse(&stream, &*answer).ok());
                }
            }
        });
        Local { address, is_over, acceptor: Some(acceptor) }
    }

    /// `http://HOST:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // The acceptor looks at the flag once it has a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn converse(stream: &TcpStream, answer: &dyn Fn(&Request) -> Response) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(request) = Request::read(stream)? {
        request.finish(stream)?;
        let wire = Wire { stream, sent: &AtomicU64::new(0), pause: &|_| true };
        let usable = wire.send(answer(&request), request.method == "HEAD", None)?;
        if !usable || request.wants_close() {
            break;
        }
    }
    Ok(())
}

/// The values that a query has for a key.
fn values(target: &str, wanted: &str) -> Vec<String> {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == wanted).map(|(_, value)| decode(value)).collect()
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// What the `openssl` command makes of some bytes.
fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = program("openssl", "openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output.stdout
}

/// The service that challenges name.
pub const SERVICE: &str = "a registry's service";

/// Who signs the tokens.
const ISSUER: &str = "our own token server";

/// The user that gets tokens for everything, and the password.
pub const USER: &str = "me";
pub const PASSWORD: &str = "right-pa55word";

/// What everybody gets tokens for.
pub const PUBLIC: &str = "public/";

/// docker-registry takes a token for so long after its end, since clocks differ.
const LEEWAY: u64 = 60;

/// One question to the token server.
#[derive(Clone, Debug)]
pub struct Asked {
    pub at: Instant,
    /// The user named in the query.
    pub account: Option<String>,
    pub service: Vec<String>,
    pub scopes: Vec<String>,
    /// The user that the password is for.
    pub user: Option<String>,
    pub status: u16,
}

/// Gives out tokens signed with RS256, whose certificate they bring along (`x5c`).
pub struct TokenServer {
    server: Local,
    /// With its key and certificate.
    folder: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl TokenServer {
    /// Its tokens are good for this time, and for up to a second less: their end is in whole
    /// seconds. They do not say so, so that each end is found out by a 401.
    pub fn start(lifetime: Duration) -> TokenServer {
        let folder = tempfile::tempdir().unwrap();
        let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
        run(program("openssl", "openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=t"])
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&certificate));
        let pem = std::fs::read_to_string(certificate).unwrap();
        let der: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5c": [der] });
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let server = Local::start({
            let asked = Arc::clone(&asked);
            move |request| {
                let question = question(request);
                let status = question.status;
                let access = access(&question);
                asked.lock().unwrap_or_else(PoisonError::into_inner).push(question);
                match status {
                    200 => {
                        let token = token(&header, &key, lifetime, &access);
                        let body = json!({ "token": token }).to_string();
                        Response::new(200, "application/json", body)
                    }
                    status => Response::error(status, "UNAUTHORIZED"),
                }
            }
        });
        TokenServer { server, folder, asked }
    }

    /// The lines of docker-registry's configuration that make it want tokens of this server.
    pub fn lines(&self) -> String {
        format!(
            "auth: {{token: {{realm: '{}/token', service: {SERVICE:?}, issuer: {ISSUER:?}, \
             rootcertbundle: {}}}}}\n",
            self.server.url(),
            self.folder.path().join("cert.pem").display()
        )
    }

    /// The questions so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn question(request: &Request) -> Asked {
    let authorization = request.header("authorization");
    let login = authorization.and_then(|value| STANDARD.decode(value.strip_prefix("Basic ")?).ok());
    let login = login.map(|login| String::from_utf8(login).unwrap());
    let is_right = login.as_ref().is_none_or(|login| *login == format!("{USER}:{PASSWORD}"));
    let is_known = request.method == "GET" && request.target.starts_with("/token?");
    let user = login.and_then(|login| Some(login.split_once(':')?.0.to_owned()));
    Asked {
        at: Instant::now(),
        account: values(&request.target, "account").pop(),
        service: values(&request.target, "service"),
        scopes: values(&request.target, "scope"),
        status: match (is_known, is_right && user.is_some() == authorization.is_some()) {
            (false, _) => 404,
            (true, false) => 401,
            (true, true) => 200,
        },
        user,
    }
}

/// What of that which was asked for is granted: who may not have it gets a token all the same.
fn access(question: &Asked) -> Vec<Value> {
    let of = |scope: &str| {
        let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        let is_allowed = question.user.is_some() || name.starts_with(PUBLIC);
        let is_pull = actions.split(',').any(|action| action == "pull");
        (is_allowed && is_pull)
            .then(|| json!({ "type": "repository", "name": name, "actions": ["pull"] }))
    };
    question.scopes.iter().filter_map(|scope| of(scope)).collect()
}

fn token(header: &Value, key: &Path, lifetime: Duration, access: &[Value]) -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let end = unix_now() + lifetime.as_secs() - LEEWAY;
    let begin = end - 3600;
    let claims = json!({
        "iss": ISSUER, "sub": USER, "aud": SERVICE, "exp": end, "nbf": begin, "iat": begin,
        "jti": number.to_string(), "access": access,
    });
    let parts = [header, &claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let text = parts.join(".");
    let signature = openssl(&["dgst", "-sha256", "-sign", key.to_str().unwrap()], text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Redirects every path to a URL of another server that ends soon, in the way of nginx's
/// `secure_link`: see [`Signer::check`].
pub struct Signer {
    server: Local,
    signed: Arc<AtomicUsize>,
}

/// What only the signer and nginx know.
const SECRET: &str = "what signs URLs";

impl Signer {
    /// URLs of the server at `http://ADDRESS` are good for this time, or up to a second less. They
    /// say so in a word that no storage has, so that each end is found out by a refusal.
    pub fn start(address: &str, lifetime: Duration) -> Signer {
        let (address, signed) = (address.to_owned(), Arc::new(AtomicUsize::new(0)));
        let server = Local::start({
            let signed = Arc::clone(&signed);
            move |request| {
                signed.fetch_add(1, Ordering::SeqCst);
                let (path, end) = (&request.target, unix_now() + lifetime.as_secs());
                let text = format!("{end}{path} {SECRET}");
                let signature = openssl(&["md5", "-binary"], text.as_bytes());
                let signature = URL_SAFE_NO_PAD.encode(signature);
                let url = format!("http://{address}{path}?signature={signature}&until={end}");
                Response::new(307, "text/plain", "").with("Location", url)
            }
        });
        Signer { server, signed }
    }

    /// The lines of docker-registry's configuration that make it redirect blobs to this server.
    pub fn lines(&self) -> String {
        format!(
            "middleware: {{storage: [{{name: redirect, options: {{baseurl: '{}/'}}}}]}}\n",
            self.server.url()
        )
    }

    /// What makes a server of nginx check the signatures: 403 for a wrong one, this status for one
    /// that has ended, and 400 for who shows a password as well, as Amazon's storage does.
    pub fn check(ended: u16) -> String {
        format!(
            "secure_link $arg_signature,$arg_until; secure_link_md5 '$arg_until$uri {SECRET}';
             if ($http_authorization) {{ return 400; }}
             if ($secure_link = '') {{ return 403; }}
             if ($secure_link = '0') {{ return {ended}; }}"
        )
    }

    /// How many URLs were signed so far.
    pub fn signed(&self) -> usize {
        self.signed.load(Ordering::SeqCst)
    }
}
