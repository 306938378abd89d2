//! Token servers (distribution project, "Token Authentication Specification"; OAuth 2 for identity tokens):
//! what they are asked, and what their answers mean.
//!
//! A registry names its token server, so that one has to be suspected of anything: it is reached over TLS
//! where the registry is, and is no address in here if the registry is none.

use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::http::{Method, Response, Uri, header};
use ureq::{Agent, Body as HttpBody};

use super::{Authorization, Challenge, basic};
use crate::source::registry::client::{Access, Client, drain, error_body, header_text, jittered};
use crate::source::registry::credentials::Credential;
use crate::source::registry::error::{Error, Failure, server_words};
use crate::source::registry::url::{has_scheme, may_lead_to, redirect_target};

/// What a token server is called as: some want a name.
const CLIENT_ID: &str = "ocifs";

/// Bytes of a token server's answer that are read. Real tokens have some KiB.
const MAX_TOKEN_BYTES: u64 = 1 << 20;

/// Lifetime of a token that does not say, and the shortest that is believed (token specification:
/// 60 seconds, "for compatibility with older clients"). One that ends sooner is found out by a 401.
const DEFAULT_LIFETIME: Duration = Duration::from_secs(60);

/// Longest lifetime of a token that is believed.
const MAX_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Shortest time before its end at which a token is renewed.
const MIN_MARGIN: Duration = Duration::from_secs(10);

/// The user that an identity token stands under where a password is expected.
const TOKEN_USER: &str = "<token>";

/// A token server, and what is wanted of it.
pub(super) struct TokenServer {
    realm: Uri,
    service: Option<String>,
    scopes: Vec<String>,
}

impl TokenServer {
    /// The one that the challenge of a registry at `url` names, for a repository.
    ///
    /// # Errors
    /// There is none that may be asked: why.
    pub(super) fn named(
        challenge: &Challenge,
        url: &Uri,
        repository: &str,
        access: Access,
    ) -> Result<TokenServer, &'static str> {
        let parameter = |name: &str| challenge.parameters.get(name).map(String::as_str);
        let realm = parameter("realm").ok_or("no realm given")?;
        // A path is tolerated, as some registries give one; anything else must be a URL.
        let is_url = has_scheme(realm) || realm.starts_with('/');
        let realm =
            redirect_target(url, realm).filter(|_| is_url).ok_or("the realm is not a URL")?;
        check_realm(&realm, url)?;
        let scopes = scopes(parameter("scope").unwrap_or_default(), repository, access);
        Ok(TokenServer { realm, service: parameter("service").map(str::to_owned), scopes })
    }

    /// Where it is.
    pub(super) fn realm(&self) -> &Uri {
        &self.realm
    }

    /// Asks in the form that fits the credential.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) fn ask(
        &self,
        client: &Client,
        credential: Option<&Credential>,
    ) -> Result<Response<HttpBody>, Error> {
        match credential {
            Some(Credential::IdentityToken { user, token }) => {
                let answer = self.post(client, token)?;
                // Token servers without the POST form: fall back to the old one.
                match answer.status().as_u16() {
                    400 | 401 | 404 | 405 => {
                        drain(answer);
                        let user = user.as_deref().unwrap_or(TOKEN_USER);
                        self.get(client, Some((user, token)))
                    }
                    _ => Ok(answer),
                }
            }
            Some(Credential::Basic { user, password }) => self.get(client, Some((user, password))),
            Some(Credential::RegistryToken(_)) | None => self.get(client, None),
        }
    }

    fn get(
        &self,
        client: &Client,
        login: Option<(&str, &str)>,
    ) -> Result<Response<HttpBody>, Error> {
        self.send_by(client, &Method::GET, |agent, limit| {
            let mut request = agent.get(&self.realm).config().timeout_recv_body(limit).build();
            if let Some(service) = &self.service {
                request = request.query("service", service);
            }
            for scope in &self.scopes {
                request = request.query("scope", scope);
            }
            if let Some((user, password)) = login {
                let authorization = basic(user, password);
                request =
                    request.query("account", user).header(header::AUTHORIZATION, authorization);
            }
            request.query("client_id", CLIENT_ID).call()
        })
    }

    /// The form for identity tokens (OAuth 2, RFC 6749, 6).
    fn post(&self, client: &Client, refresh: &str) -> Result<Response<HttpBody>, Error> {
        let scope = self.scopes.join(" ");
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("service", self.service.as_deref().unwrap_or_default()),
            ("client_id", CLIENT_ID),
            ("scope", &scope),
        ];
        self.send_by(client, &Method::POST, |agent, limit| {
            agent.post(&self.realm).config().timeout_recv_body(limit).build().send_form(form)
        })
    }

    /// Sends it when the token server may be asked; with the time that its answer may take.
    fn send_by(
        &self,
        client: &Client,
        method: &Method,
        send: impl FnOnce(&Agent, Option<Duration>) -> Result<Response<HttpBody>, ureq::Error>,
    ) -> Result<Response<HttpBody>, Error> {
        let limit = client.options.deadline;
        let deadline = Instant::now() + limit;
        client.exchange_one("access token", method, &self.realm, deadline, |agent| {
            send(agent, Some(limit))
        })
    }

    /// What an answer brings.
    ///
    /// # Errors
    /// It refuses, or brings none.
    pub(super) fn token(&self, answer: Response<HttpBody>) -> Result<Authorization, Error> {
        let failed = |failure| Error::new("access token", &self.realm, failure);
        let status = answer.status();
        let retry_after = header_text(&answer, header::RETRY_AFTER.as_str());
        let mut body = answer.into_body();
        if !status.is_success() {
            let (code, message) = server_words(&error_body(&mut body));
            let status = status.as_u16();
            return Err(failed(Failure::Status { status, code, message, retry_after }));
        }
        let bytes = body.with_config().limit(MAX_TOKEN_BYTES).read_to_vec();
        let bytes = bytes.map_err(|e| failed(Failure::Transport(e.into())))?;
        let useless = |why: &str| failed(Failure::Token(why.to_owned()));
        let token: Token =
            serde_json::from_slice(&bytes).map_err(|_| useless("the answer is not JSON"))?;
        token.authorization().ok_or_else(|| useless("the answer holds no token"))
    }
}

#[derive(Deserialize)]
struct Token {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<serde_json::Value>,
}

impl Token {
    fn authorization(self) -> Option<Authorization> {
        let mut tokens = [self.token, self.access_token].into_iter().flatten();
        let token = tokens.find(|token| !token.is_empty())?;
        // A number, and by some servers a text.
        let seconds = self.expires_in.and_then(|value| match value {
            serde_json::Value::String(text) => text.trim().parse().ok(),
            value => value.as_f64(),
        });
        let lifetime = seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .unwrap_or(DEFAULT_LIFETIME)
            .clamp(DEFAULT_LIFETIME, MAX_LIFETIME);
        Some(bearer(&token, lifetime))
    }
}

fn bearer(token: &str, lifetime: Duration) -> Authorization {
    let now = Instant::now();
    let margin = (lifetime / 10).max(MIN_MARGIN);
    // Clocks differ, requests take time, and many clients must not come at once.
    let early = (margin / 2 + jittered(margin)).min(lifetime);
    let (renewal, expiry) = (now + (lifetime - early), now + lifetime);
    Authorization::Bearer { header: format!("Bearer {token}"), renewal, expiry }
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
    if host != registry_host && !may_lead_to(registry, realm) {
        return Err("the token server is said to be inside this network");
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_of_tokens() {
        let lifetime = |answer: &str| {
            let token: Token = serde_json::from_str(answer).unwrap();
            let Some(Authorization::Bearer { header, renewal, expiry }) = token.authorization()
            else {
                return None;
            };
            assert_eq!(header, "Bearer x", "{answer}");
            let margin = expiry - renewal;
            let left = (expiry - Instant::now()).as_secs_f64().round();
            assert!(margin >= MIN_MARGIN && margin.as_secs_f64() >= left / 10.0, "{answer}");
            Some(left)
        };
        let day = 24.0 * 3600.0;
        for (answer, seconds) in [
            (r#"{"token":"x"}"#, Some(60.0)),
            (r#"{"access_token":"x"}"#, Some(60.0)),
            (r#"{"token":"","access_token":"x"}"#, Some(60.0)),
            (r#"{"token":"x","access_token":"y","expires_in":0}"#, Some(60.0)),
            (r#"{"token":"x","expires_in":1}"#, Some(60.0)),
            (r#"{"token":"x","expires_in":-5}"#, Some(60.0)),
            (r#"{"token":"x","expires_in":null}"#, Some(60.0)),
            (r#"{"token":"x","expires_in":"soon"}"#, Some(60.0)),
            (r#"{"token":"x","expires_in":[1]}"#, Some(60.0)),
            (r#"{"token":"x","expires_in":300}"#, Some(300.0)),
            (r#"{"token":"x","expires_in":300.0}"#, Some(300.0)),
            (r#"{"token":"x","expires_in":"300"}"#, Some(300.0)),
            (r#"{"token":"x","expires_in":1e300}"#, Some(60.0)),
            (r#"{"token":"x","expires_in":1000000}"#, Some(day)),
            (r#"{"token":""}"#, None),
            ("{}", None),
        ] {
            assert_eq!(lifetime(answer), seconds, "{answer}");
        }
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

    proptest::proptest! {
        /// Whatever a registry says it wants, something is asked for.
        #[test]
        fn any_scope(text in "[ -~]{0,80}") {
            let scopes = scopes(&text, "a/b", Access::Push);
            proptest::prop_assert!(scopes.iter().any(|scope| scope.starts_with("repository:a/b:")));
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
        for host in ["[::1]", "[::ffff:10.0.0.1]", "127.1", "2130706433", "0x7f.1", "localhost"] {
            assert!(!check(&format!("https://{host}/token"), "https://reg.example/v2/"), "{host}");
        }
        assert!(check("https://reg.example/token", "https://reg.example/v2/"));
        assert!(check("https://10.0.0.1/token", "https://10.0.0.1:5000/v2/"));
        assert!(check("https://1.example/token", "https://reg.example/v2/"));
    }
}
