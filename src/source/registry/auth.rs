//! Authentication: challenges (RFC 9110, 11.6.1), Basic, and Bearer tokens (distribution project,
//! "Token Authentication Specification").
//!
//! A request is sent first without anything; the registry's 401 says what it wants. A password
//! goes out only in answer to such a challenge, and only to the registry itself or to the token
//! server it names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use ureq::Body as HttpBody;
use ureq::http::{Response, Uri, header};

use super::client::{Access, Client, MAX_ERROR_BODY_BYTES};
use super::error::{Error, Failure, server_words};
use super::url::{has_scheme, is_loopback, redirect_target};
use crate::reference::Reference;

/// What a token server is called as: some want a name.
const CLIENT_ID: &str = "ocifs";

/// Bytes of a token server's answer that are read. Real tokens have some KiB.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Lifetime of a token that does not say, and the shortest that is believed (token specification:
/// 60 seconds, "for compatibility with older clients"). One that ends sooner is found out by a 401.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// Longest lifetime of a token that is believed.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// A user's secret for one registry. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    /// User name and password.
    Basic {
        /// User name.
        user: String,
        /// Password or access token.
        password: String,
    },
    /// A refresh token, exchanged at the token server.
    IdentityToken(String),
    /// A token that the registry takes as it is.
    RegistryToken(String),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credential(hidden)")
    }
}

/// Credentials by registry, gathered by the caller from the user's files.
#[derive(Clone, Default)]
pub struct Credentials(BTreeMap<String, Credential>);

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// Why an auth file can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages are the documentation")]
pub enum AuthFileError {
    #[error("not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the `auth` value of `{0}` is not base64 of `user:password`")]
    Value(String),
}

#[derive(Deserialize)]
struct AuthFile {
    #[serde(default)]
    auths: Option<BTreeMap<String, AuthEntry>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct AuthEntry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

impl Credentials {
    /// Adds the `auths` of a Docker `config.json` or a containers `auth.json`; what is known
    /// already stays.
    ///
    /// # Errors
    /// The file is not one.
    pub fn add_auth_file(&mut self, bytes: &[u8]) -> Result<(), AuthFileError> {
        let file: AuthFile = serde_json::from_slice(bytes)?;
        for (key, entry) in file.auths.unwrap_or_default() {
            let Some(host) = registry_key(&key) else { continue };
            match entry.credential(&key) {
                Ok(Some(credential)) => {
                    self.0.entry(host).or_insert(credential);
                }
                Ok(None) => {}
                // One bad row is no reason to fail for every other registry.
                Err(e) => log::warn!("{e}"),
            }
        }
        Ok(())
    }

    /// The credential for a registry.
    pub fn get(&self, registry: &str) -> Option<Credential> {
        self.0.get(&registry_key(registry)?).cloned()
    }
}

impl AuthEntry {
    fn credential(self, key: &str) -> Result<Option<Credential>, AuthFileError> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        if let Some(token) = filled(self.identitytoken) {
            return Ok(Some(Credential::IdentityToken(token)));
        }
        if let Some(auth) = filled(self.auth) {
            let bytes = STANDARD.decode(auth.trim()).ok();
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = text.as_deref().and_then(|text| text.trim_end_matches('\0').split_once(':'));
            let (user, password) = pair.ok_or_else(|| AuthFileError::Value(key.to_owned()))?;
            let (user, password) = (user.to_owned(), password.to_owned());
            return Ok(Some(Credential::Basic { user, password }));
        }
        if let (Some(user), Some(password)) = (filled(self.username), filled(self.password)) {
            return Ok(Some(Credential::Basic { user, password }));
        }
        // Docker writes an empty entry where a helper keeps the secret.
        Ok(filled(self.registrytoken).map(Credential::RegistryToken))
    }
}

/// The host that a key of an auth file means: keys may be URLs, and Docker Hub has many names.
/// `None` for a key of podman's that is for a part of a registry only.
fn registry_key(key: &str) -> Option<String> {
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let (host, path) = host.split_once('/').unwrap_or((host, ""));
    if !matches!(path.trim_end_matches('/'), "" | "v1" | "v2") {
        return None;
    }
    Some(match host {
        "index.docker.io" | "registry-1.docker.io" | "docker.io" => "docker.io".to_owned(),
        host => host.to_owned(),
    })
}

/// One challenge of a `WWW-Authenticate` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    scheme: String,
    parameters: BTreeMap<String, String>,
}

/// All challenges of an answer, over all its headers.
pub(super) fn challenges(response: &Response<HttpBody>) -> Vec<Challenge> {
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    headers.iter().filter_map(|value| value.to_str().ok()).flat_map(parse_challenges).collect()
}

/// Whether a 403 asks for a token with a larger scope.
pub(super) fn wants_more(response: &Response<HttpBody>) -> bool {
    challenges(response)
        .iter()
        .any(|c| c.parameters.get("error").is_some_and(|e| e == "insufficient_scope"))
}

/// Parses `scheme param="value", param=value, scheme …`, forgiving what servers get wrong.
fn parse_challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    for part in split_outside_quotes(text) {
        let part = part.trim();
        let (head, value) = match part.split_once('=') {
            Some((head, value)) => (head.trim(), Some(value.trim())),
            None => (part, None),
        };
        // `Bearer realm="x"` starts a challenge; `realm="x"` continues one.
        let (scheme, key) = match (head.split_once(char::is_whitespace), value) {
            (Some((scheme, key)), _) => (Some(scheme), Some(key.trim())),
            (None, Some(_)) => (None, Some(head)),
            (None, None) => (Some(head), None),
        };
        if let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty()) {
            let scheme = scheme.to_ascii_lowercase();
            found.push(Challenge { scheme, parameters: BTreeMap::new() });
        }
        if let (Some(challenge), Some(key), Some(value)) = (found.last_mut(), key, value) {
            let value = value.strip_prefix('"').unwrap_or(value);
            let value = value.strip_suffix('"').unwrap_or(value).replace("\\\"", "\"");
            challenge.parameters.insert(key.to_ascii_lowercase(), value);
        }
    }
    found
}

fn split_outside_quotes(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    text.split(move |c: char| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => return true,
            _ => {}
        }
        false
    })
}

/// What is sent with requests now.
#[derive(Clone)]
enum Authorization {
    Basic(String),
    Bearer { token: String, expires: Instant },
}

/// The state of authentication with one registry, for one repository.
pub(super) struct Auth {
    repository: String,
    access: Access,
    credential: Option<Credential>,
    current: Mutex<Option<Authorization>>,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("repository", &self.repository).finish_non_exhaustive()
    }
}

impl Auth {
    pub(super) fn new(
        reference: &Reference,
        access: Access,
        credential: Option<Credential>,
    ) -> Auth {
        let repository = reference.repository().to_owned();
        Auth { repository, access, credential, current: Mutex::new(None) }
    }

    pub(super) fn has_credential(&self) -> bool {
        self.credential.is_some()
    }

    /// The header to send, if authentication has happened and still holds.
    pub(super) fn header(&self) -> Option<String> {
        match &*self.lock() {
            Some(Authorization::Basic(header)) => Some(header.clone()),
            Some(Authorization::Bearer { token, expires }) if Instant::now() < *expires => {
                Some(format!("Bearer {token}"))
            }
            _ => None,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Authorization>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what a 401 asks for, so that the next request carries it.
    pub(super) fn answer(
        &self,
        client: &Client,
        challenges: &[Challenge],
        url: &Uri,
    ) -> Result<(), Error> {
        let of = |scheme: &str| challenges.iter().find(|c| c.scheme == scheme);
        if let Some(challenge) = of("bearer") {
            let authorization = match &self.credential {
                Some(Credential::RegistryToken(token)) => Authorization::Bearer {
                    token: token.clone(),
                    expires: Instant::now() + MAX_LIFETIME,
                },
                _ => self.fetch_token(client, challenge, url)?,
            };
            *self.lock() = Some(authorization);
            return Ok(());
        }
        match (of("basic"), &self.credential) {
            (Some(_), Some(Credential::Basic { user, password })) => {
                *self.lock() = Some(Authorization::Basic(basic(user, password)));
                Ok(())
            }
            (Some(_), _) => {
                // Without a password the same request will be refused again, with the words for it.
                *self.lock() = None;
                Ok(())
            }
            (None, _) => {
                let kinds: Vec<&str> = challenges.iter().map(|c| c.scheme.as_str()).collect();
                let kinds =
                    if kinds.is_empty() { "none given".to_owned() } else { kinds.join(", ") };
                Err(Error::new("authentication", url, Failure::Challenge(kinds)))
            }
        }
    }

    fn fetch_token(
        &self,
        client: &Client,
        challenge: &Challenge,
        url: &Uri,
    ) -> Result<Authorization, Error> {
        let refused = |why: &str| Error::new("authentication", url, Failure::Token(why.to_owned()));
        let realm = challenge.parameters.get("realm").ok_or_else(|| refused("no realm given"))?;
        // A path is tolerated, as some registries give one; anything else must be a URL.
        let is_url = has_scheme(realm) || realm.starts_with('/');
        let realm = redirect_target(url, realm).filter(|_| is_url);
        let realm = realm.ok_or_else(|| refused("the realm is not a URL"))?;
        check_realm(&realm, url).map_err(refused)?;
        let challenge_scope = challenge.parameters.get("scope").map(String::as_str);
        let scopes = scopes(challenge_scope.unwrap_or_default(), &self.repository, self.access);
        let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
        let service = challenge.parameters.get("service").map(String::as_str);
        let mut answer = match &self.credential {
            Some(Credential::IdentityToken(token)) => {
                let answer = post_token(client, &realm, service, &scopes, token)?;
                // Token servers without the POST form: fall back to the old one.
                match answer.status().as_u16() {
                    400 | 401 | 404 | 405 => {
                        get_token(client, &realm, service, &scopes, Some(("<token>", token)))?
                    }
                    _ => answer,
                }
            }
            Some(Credential::Basic { user, password }) => {
                get_token(client, &realm, service, &scopes, Some((user, password)))?
            }
            _ => get_token(client, &realm, service, &scopes, None)?,
        };
        if matches!(answer.status().as_u16(), 401 | 403) && self.has_credential() {
            // An expired password must not lock the user out of public images.
            log::warn!(
                "the credentials for {} are not accepted; trying without",
                realm.host().unwrap_or_default()
            );
            answer = get_token(client, &realm, service, &scopes, None)?;
        }
        let status = answer.status();
        let mut body = answer.into_body();
        if !status.is_success() {
            let text =
                body.with_config().limit(MAX_ERROR_BODY_BYTES).read_to_vec().unwrap_or_default();
            let (code, message) = server_words(&text);
            let failure = Failure::Status {
                status: status.as_u16(),
                code,
                message,
                retry_after: None,
                had_credentials: self.has_credential(),
            };
            return Err(Error::new("access token", &realm, failure));
        }
        let bytes = body.with_config().limit(MAX_TOKEN_BYTES).read_to_vec();
        let bytes = bytes.map_err(|e| refused(&e.to_string()))?;
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|_| refused("the answer is not JSON"))?;
        token.authorization().ok_or_else(|| refused("the answer holds no token"))
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<f64>,
}

impl Token {
    fn authorization(self) -> Option<Authorization> {
        let token = self.token.filter(|t| !t.is_empty()).or(self.access_token)?;
        let lifetime = self
            .expires_in
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .unwrap_or(DEFAULT_LIFETIME)
            .clamp(DEFAULT_LIFETIME, MAX_LIFETIME);
        // Renewed before it ends, as clocks differ and requests take time.
        let lifetime = lifetime - (lifetime / 10).max(Duration::from_secs(10));
        Some(Authorization::Bearer { token, expires: Instant::now() + lifetime })
    }
}

/// The scopes to ask for: the registry's first, as some token servers read only the first, and
/// with all that is wanted of the repository.
fn scopes(challenge: &str, repository: &str, access: Access) -> Vec<String> {
    let wanted: &[&str] = match access {
        Access::Read => &["pull"],
        Access::Push => &["pull", "push"],
    };
    let mut scopes: Vec<String> = challenge.split_whitespace().map(str::to_owned).collect();
    let actions = |scope: &str| {
        let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
        (name == repository).then(|| actions.split(',').map(str::to_owned).collect::<Vec<_>>())
    };
    match scopes.iter_mut().find_map(|scope| Some((actions(scope)?, scope))) {
        Some((granted, scope)) => {
            for action in wanted {
                if !granted.iter().any(|a| a == action || a == "*") {
                    scope.push(',');
                    scope.push_str(action);
                }
            }
        }
        None => scopes.push(format!("repository:{repository}:{}", wanted.join(","))),
    }
    scopes
}

/// A token server is reached over TLS unless the registry itself is not, and is no address of
/// this machine or its network unless the registry is one too.
fn check_realm(realm: &Uri, registry: &Uri) -> Result<(), &'static str> {
    let host = realm.host().unwrap_or_default();
    let registry_host = registry.host().unwrap_or_default();
    if realm.scheme_str() != Some("https") && registry.scheme_str() == Some("https") {
        return Err("the token server is not reached over https");
    }
    let is_private = |host: &str| {
        let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
        is_loopback(host)
            || match ip.map(|ip| ip.to_canonical()) {
                Ok(ip) if ip.is_unspecified() || ip.is_loopback() => true,
                Ok(std::net::IpAddr::V4(ip)) => ip.is_private() || ip.is_link_local(),
                Ok(std::net::IpAddr::V6(ip)) => ip.is_unique_local() || ip.is_unicast_link_local(),
                Err(_) => false,
            }
    };
    if host != registry_host && is_private(host) && !is_private(registry_host) {
        return Err("the token server is said to be inside this network");
    }
    Ok(())
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn get_token(
    client: &Client,
    realm: &Uri,
    service: Option<&str>,
    scopes: &[&str],
    login: Option<(&str, &str)>,
) -> Result<Response<HttpBody>, Error> {
    let limit = Some(client.options.deadline);
    let mut request = client.agent.get(realm).config().timeout_recv_body(limit).build();
    if let Some(service) = service {
        request = request.query("service", service);
    }
    for scope in scopes {
        request = request.query("scope", scope);
    }
    if let Some((user, password)) = login {
        request =
            request.query("account", user).header(header::AUTHORIZATION, basic(user, password));
    }
    request = request.query("client_id", CLIENT_ID);
    client.count_request();
    request.call().map_err(|e| Error::new("access token", realm, Failure::Transport(e)))
}

fn post_token(
    client: &Client,
    realm: &Uri,
    service: Option<&str>,
    scopes: &[&str],
    refresh: &str,
) -> Result<Response<HttpBody>, Error> {
    let scope = scopes.join(" ");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh),
        ("service", service.unwrap_or_default()),
        ("client_id", CLIENT_ID),
        ("scope", &scope),
    ];
    client.count_request();
    let limit = Some(client.options.deadline);
    let request = client.agent.post(realm).config().timeout_recv_body(limit).build();
    let answer = request.send_form(form);
    answer.map_err(|e| Error::new("access token", realm, Failure::Transport(e)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn challenge_headers() {
        let parse = |text: &str| {
            parse_challenges(text)
                .into_iter()
                .map(|c| {
                    let p: Vec<String> =
                        c.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    format!("{} {}", c.scheme, p.join(";"))
                })
                .collect::<Vec<_>>()
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://a/token",service="s",scope="repository:x:pull,push""#,
                &["bearer realm=https://a/token;scope=repository:x:pull,push;service=s"][..],
            ),
            (r#"Basic realm="Registry Realm""#, &["basic realm=Registry Realm"]),
            (r#"BASIC"#, &["basic "]),
            (r#"Basic realm="a", Bearer realm="b""#, &["basic realm=a", "bearer realm=b"]),
            (r#"bearer Realm=https://a/t, service=x"#, &["bearer realm=https://a/t;service=x"]),
            (r#"Bearer realm="a\"b,c""#, &[r#"bearer realm=a"b,c"#]),
            ("", &[]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn auth_files() {
        let file = br#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"dTpwOnE="},
            "reg.example:5000":{"username":"a","password":"b"},
            "acr.example":{"auth":"MDow","identitytoken":"idt"},
            "helper.example":{},
            "raw.example":{"registrytoken":"raw"}}, "credsStore":"x"}"#;
        let mut credentials = Credentials::default();
        credentials.add_auth_file(file).unwrap();
        let basic = |user: &str, password: &str| {
            Some(Credential::Basic { user: user.into(), password: password.into() })
        };
        assert_eq!(credentials.get("docker.io"), basic("u", "p:q"));
        assert_eq!(credentials.get("reg.example:5000"), basic("a", "b"));
        assert_eq!(credentials.get("acr.example"), Some(Credential::IdentityToken("idt".into())));
        assert_eq!(credentials.get("helper.example"), None);
        assert!(matches!(credentials.get("raw.example"), Some(Credential::RegistryToken(_))));
        let shown = format!("{credentials:?}");
        assert!(shown.contains("reg.example") && !shown.contains("p:q"), "{shown}");
        assert!(Credentials::default().add_auth_file(b"[").is_err());
        let mut partial = Credentials::default();
        let rows = br#"{"auths":{"bad":{"auth":"!!"},"quay.io/team":{"auth":"dTpw"},"good":{"auth":"dTpw"}}}"#;
        partial.add_auth_file(rows).unwrap();
        assert_eq!(partial.get("good"), basic("u", "p"));
        assert_eq!((partial.get("bad"), partial.get("quay.io")), (None, None));
    }

    #[test]
    fn scopes_are_completed() {
        for (challenge, access, expected) in [
            ("", Access::Read, &["repository:a/b:pull"][..]),
            ("", Access::Push, &["repository:a/b:pull,push"]),
            ("repository:a/b:pull", Access::Read, &["repository:a/b:pull"]),
            ("repository:a/b:pull", Access::Push, &["repository:a/b:pull,push"]),
            ("repository:a/b:push,pull", Access::Push, &["repository:a/b:push,pull"]),
            ("repository:a/b:*", Access::Push, &["repository:a/b:*"]),
            ("repository:a/b:delete", Access::Read, &["repository:a/b:delete,pull"]),
            (
                "x:y:z repository:a:pull",
                Access::Read,
                &["x:y:z", "repository:a:pull", "repository:a/b:pull"],
            ),
        ] {
            assert_eq!(scopes(challenge, "a/b", access), expected, "{challenge}");
        }
    }

    #[test]
    fn token_servers_are_not_found_inside() {
        let check = |realm: &str, registry: &str| {
            check_realm(&realm.parse().unwrap(), &registry.parse().unwrap()).is_ok()
        };
        assert!(check("https://auth.docker.io/token", "https://registry-1.docker.io/v2/"));
        assert!(check("http://127.0.0.1:5001/token", "http://127.0.0.1:5000/v2/"));
        assert!(!check("http://auth.example/token", "https://reg.example/v2/"));
        assert!(!check("https://169.254.169.254/token", "https://reg.example/v2/"));
        assert!(!check("https://[::1]/token", "https://reg.example/v2/"));
    }
}
