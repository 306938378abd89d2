//! Token servers (distribution project, "Token Authentication Specification"; OAuth 2 for identity tokens):
//! what they are asked, and what their answers mean.
//!
//! A registry names its token server, so that one has to be suspected of anything: it is reached over TLS
//! where the registry is, and is no address in here if the registry is none.

use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Body as HttpBody;
use ureq::http::{Request as Message, Response, Uri, header};

use super::authorization::{Authorization, basic};
use super::scopes::scopes;
use crate::json::{self, Text};
use crate::source::registry::credential::Credential;
use crate::source::registry::error::{Error, Failure};
use crate::source::registry::transport::challenge::Challenge;
use crate::source::registry::transport::deadline;
use crate::source::registry::transport::encoding;
use crate::source::registry::transport::error_body::server_words;
use crate::source::registry::transport::http::Waits;
use crate::source::registry::transport::jitter::jittered;
use crate::source::registry::transport::rate_limit::RateLimited;
use crate::source::registry::transport::request::{Access, MAX_REDIRECTS};
use crate::source::registry::transport::response::{
    asked_to_wait, content_encoding, drain, error_body, location,
};
use crate::source::registry::url::{
    encoded, has_scheme, may_lead_to, redirect_target, same_server, without_query,
};

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

/// The media type of a form.
const FORM: &str = "application/x-www-form-urlencoded";

/// The user that an identity token stands under where a password is expected.
const TOKEN_USER: &str = "<token>";

/// A token server, and what is wanted of it.
pub(super) struct TokenServer {
    realm: Uri,
    /// The realm as it is named, if that is in plain HTTP and TLS is spoken nevertheless.
    named_plain: Option<Uri>,
    /// The registry that names it, and the one that has sent us to that.
    named_by: Vec<Uri>,
    service: Option<String>,
    scopes: Vec<String>,
}

/// The body of a request by POST.
type Form<'a> = [(&'static str, &'a str); 5];

impl TokenServer {
    /// The one that the challenge of a registry at `url` names, for a repository. If a redirect led to
    /// that registry, `via` is where it came from.
    ///
    /// # Errors
    /// There is none that may be asked: why.
    pub(super) fn named(
        challenge: &Challenge,
        url: &Uri,
        via: Option<&Uri>,
        repository: &str,
        access: Access,
    ) -> Result<TokenServer, String> {
        let parameter = |name: &str| challenge.parameters.get(name).map(String::as_str);
        let text = parameter("realm").ok_or("no realm given")?;
        let realm = realm(text, url)?;
        let is_plain = |uri: &Uri| uri.scheme_str() == Some("http");
        let named_plain = text.parse().ok().filter(|named| is_plain(named) && !is_plain(&realm));
        let named_by: Vec<Uri> = [Some(url), via].into_iter().flatten().cloned().collect();
        named_by.iter().try_for_each(|registry| check_realm(&realm, registry))?;
        let scopes = scopes(parameter("scope").unwrap_or_default(), repository, access);
        let service = parameter("service").map(str::to_owned);
        Ok(TokenServer { realm, named_plain, named_by, service, scopes })
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
        limited: &RateLimited,
        credential: Option<&Credential>,
    ) -> Result<Response<HttpBody>, Error> {
        match credential {
            Some(Credential::IdentityToken { user, token }) => match self.post(limited, token)? {
                Some(answer) => Ok(answer),
                // Token servers without the POST form: fall back to the old one.
                None => {
                    let user = user.as_deref().unwrap_or(TOKEN_USER);
                    self.get(limited, Some((user, token)))
                }
            },
            Some(Credential::Basic { user, password }) => self.get(limited, Some((user, password))),
            Some(Credential::RegistryToken(_)) | None => self.get(limited, None),
        }
    }

    fn get(
        &self,
        limited: &RateLimited,
        login: Option<(&str, &str)>,
    ) -> Result<Response<HttpBody>, Error> {
        let answer = self.send(limited, login, None)?;
        answer.ok_or_else(|| self.failed(&self.realm, Failure::Redirect))
    }

    /// Sends the form for identity tokens (OAuth 2, RFC 6749, 6). `None` if that is not offered.
    fn post(
        &self,
        limited: &RateLimited,
        refresh: &str,
    ) -> Result<Option<Response<HttpBody>>, Error> {
        let scope = self.scopes.join(" ");
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("service", self.service.as_deref().unwrap_or_default()),
            ("client_id", CLIENT_ID),
            ("scope", &scope),
        ];
        let answer = self.send(limited, None, Some(form))?;
        Ok(match answer {
            Some(answer) if matches!(answer.status().as_u16(), 400 | 401 | 404 | 405 | 501) => {
                drain(answer);
                None
            }
            answer => answer,
        })
    }

    /// Sends a question, and follows redirects as far as the registry could have named where they lead.
    /// The login goes to no other server than the first, and neither does a form, which holds a secret:
    /// `None` if that would be wanted.
    fn send(
        &self,
        limited: &RateLimited,
        login: Option<(&str, &str)>,
        form: Option<Form<'_>>,
    ) -> Result<Option<Response<HttpBody>>, Error> {
        // All of it is a part of the request that needs the token.
        let deadline = Instant::now() + limited.http().options().deadline;
        deadline::until(deadline, || self.follow(limited, login, form))
    }

    fn follow(
        &self,
        limited: &RateLimited,
        mut login: Option<(&str, &str)>,
        mut form: Option<Form<'_>>,
    ) -> Result<Option<Response<HttpBody>>, Error> {
        let mut url = self.realm.clone();
        for hop in 0..=MAX_REDIRECTS {
            let answer = self.exchange(limited, &url, hop == 0, login, form);
            let answer = answer.map_err(|error| match &self.named_plain {
                Some(named) if hop == 0 && error.is_not_tls() => {
                    self.failed(&url, Failure::Token(in_the_clear(named)))
                }
                _ => error,
            })?;
            let status = answer.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(Some(answer));
            }
            let leads_to = location(&answer);
            drain(answer);
            let target = leads_to.and_then(|to| redirect_target(&url, &to));
            let target = target.ok_or_else(|| self.failed(&url, Failure::Redirect))?;
            if self.named_by.iter().any(|registry| check_realm(&target, registry).is_err()) {
                return Err(self.failed(&target, Failure::LeadsInside));
            }
            log::debug!("the token server redirects to {}", without_query(&target));
            if status == 303 {
                form = None;
            }
            if !same_server(&url, &target) {
                login = None;
                if form.is_some() {
                    return Ok(None);
                }
            }
            url = target;
        }
        Err(self.failed(&url, Failure::TooManyRedirects))
    }

    /// Asks one server. Where a redirect leads is for the server to say, with the query.
    fn exchange(
        &self,
        limited: &RateLimited,
        url: &Uri,
        is_first: bool,
        login: Option<(&str, &str)>,
        form: Option<Form<'_>>,
    ) -> Result<Response<HttpBody>, Error> {
        let what = "access token";
        let invalid = |_| self.failed(url, Failure::Url);
        if let Some(form) = form {
            let body = query(form).replace("%20", "+");
            let message = Message::post(url).header(header::CONTENT_TYPE, FORM).body(body);
            return limited.round_trip_in_turn(what, message.map_err(invalid)?, Waits::Token);
        }
        let url = match is_first {
            true => {
                let own = url.query().filter(|own| !own.is_empty());
                let asked = query(self.parameters(login.map(|(user, _)| user)));
                let query = own.map_or(asked.clone(), |own| format!("{own}&{asked}"));
                let url = url.to_string();
                let place = url.split('?').next().unwrap_or_default();
                format!("{place}?{query}")
            }
            false => url.to_string(),
        };
        let mut message = Message::get(url);
        if let Some((user, password)) = login {
            message = message.header(header::AUTHORIZATION, basic(user, password));
        }
        limited.round_trip_in_turn(what, message.body(()).map_err(invalid)?, Waits::Token)
    }

    /// What is asked for by GET, for a user if there is a login.
    fn parameters<'a>(&'a self, user: Option<&'a str>) -> impl Iterator<Item = (&'a str, &'a str)> {
        let service = self.service.as_deref().map(|service| ("service", service));
        let scopes = self.scopes.iter().map(|scope| ("scope", scope.as_str()));
        let account = user.map(|user| ("account", user));
        service.into_iter().chain(scopes).chain(account).chain([("client_id", CLIENT_ID)])
    }

    fn failed(&self, url: &Uri, failure: Failure) -> Error {
        Error::new("access token", url, failure)
    }

    /// What an answer brings.
    ///
    /// # Errors
    /// It refuses, or brings none.
    pub(super) fn token(&self, answer: Response<HttpBody>) -> Result<Authorization, Error> {
        let failed = |failure| self.failed(&self.realm, failure);
        let status = answer.status();
        let retry_after = asked_to_wait(&answer);
        let encoding = content_encoding(&answer);
        let mut body = answer.into_body();
        if !status.is_success() {
            let (code, message) = server_words(&error_body(&mut body));
            let status = status.as_u16();
            return Err(failed(Failure::Status { status, code, message, retry_after }));
        }
        let bytes = body.with_config().limit(MAX_TOKEN_BYTES).read_to_vec();
        let bytes = bytes.map_err(|e| failed(Failure::Transport(e.into())))?;
        let bytes = encoding::decoded(bytes, encoding.as_deref(), MAX_TOKEN_BYTES);
        let useless = |why: &str| failed(Failure::Token(why.to_owned()));
        // The parser's own words may quote a token.
        let token = json::first_value::<Option<Token>>(&bytes);
        let token = token.map_err(|_| useless("the answer is not JSON"))?.unwrap_or_default();
        token.authorization().ok_or_else(|| useless("the answer holds no token"))
    }
}

/// What matters of an answer. Of another type than it should be it is as good as absent.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Token {
    #[serde(deserialize_with = "json::or_default")]
    token: Text,
    #[serde(deserialize_with = "json::or_default")]
    access_token: Text,
    /// Seconds: a number, and by some servers a text.
    #[serde(deserialize_with = "json::or_default")]
    expires_in: String,
}

impl Token {
    fn authorization(self) -> Option<Authorization> {
        let mut tokens = [&self.token, &self.access_token].into_iter().map(|text| text.0.trim());
        let token = tokens.find(|token| is_token(token))?;
        let seconds = self.expires_in.trim().parse().ok();
        let lifetime = seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .unwrap_or(DEFAULT_LIFETIME)
            .clamp(DEFAULT_LIFETIME, MAX_LIFETIME);
        Some(bearer(token, lifetime))
    }
}

/// Whether a text can be sent as a token. RFC 6750 allows less; what no header can hold would fail each request until
/// the token ends.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

/// Names and values as a query, or as a form with `+` for blanks.
fn query<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let pairs =
        pairs.into_iter().map(|(key, value)| format!("{}={}", encoded(key), encoded(value)));
    pairs.collect::<Vec<_>>().join("&")
}

fn bearer(token: &str, lifetime: Duration) -> Authorization {
    let now = Instant::now();
    let margin = (lifetime / 10).max(MIN_MARGIN);
    // Clocks differ, requests take time, and many clients must not come at once.
    let early = (margin / 2 + jittered(margin)).min(lifetime);
    let (renewal, expiry) = (now + (lifetime - early), now + lifetime);
    Authorization::Bearer { header: format!("Bearer {token}"), renewal, expiry }
}

/// Where the token server is that a registry at `url` names.
fn realm(text: &str, url: &Uri) -> Result<Uri, String> {
    // A path is tolerated, as some registries give one; anything else must be a URL.
    let is_url = has_scheme(text) || text.starts_with('/');
    match redirect_target(url, text).filter(|_| is_url) {
        Some(realm) => Ok(realm),
        None => match text.parse::<Uri>() {
            Ok(realm) if realm.scheme_str() == Some("http") && realm.host().is_some() => {
                Err(in_the_clear(&realm))
            }
            _ => Err("the realm is not a URL".to_owned()),
        },
    }
}

fn in_the_clear(realm: &Uri) -> String {
    format!(
        "the registry is reached over https and names a token server in plain HTTP ({}): logins and \
         tokens would travel in the clear, so it is not asked; the registry has to name it by \
         `https://`",
        without_query(realm)
    )
}

/// A token server is reached over TLS unless the registry itself is not, and is no address of
/// this machine or its network unless the registry is one too.
fn check_realm(realm: &Uri, registry: &Uri) -> Result<(), String> {
    let host = realm.host().unwrap_or_default();
    let registry_host = registry.host().unwrap_or_default();
    if realm.scheme_str() != Some("https") && registry.scheme_str() == Some("https") {
        return Err(in_the_clear(realm));
    }
    if host != registry_host && !may_lead_to(registry, realm) {
        return Err("the token server is said to be inside this network".to_owned());
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
            let token = json::first_value::<Option<Token>>(answer.as_bytes()).unwrap();
            let token = token.unwrap_or_default();
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
            (r#"{"token":"y","token":"x","expires_in":1,"expires_in":300}"#, Some(300.0)),
            (r#"{"token":5,"access_token":"x"}"#, Some(60.0)),
            (r#"{"TOKEN":"x","scope":"\ud800"} and more"#, Some(60.0)),
            ("\u{feff}{\"token\":null,\"Access_Token\":\"x\"}}", Some(60.0)),
            (
                r#"{"token":["y"],"access_token":"x","Expires_In":300,"expires_in":null}"#,
                Some(60.0),
            ),
            (r#"{"token":"x","expires_in":300}{"token":"y"}"#, Some(300.0)),
            (r#"{"token":"x\n"}"#, Some(60.0)),
            (r#"{"token":""}"#, None),
            (r#"{"token":"x\ny"}"#, None),
            (r#"{"token":"x\u00e9"}"#, None),
            (r#"{"token":"x\u00e9","access_token":"x"}"#, Some(60.0)),
            (r#"{"token":5}"#, None),
            ("{}", None),
            ("null", None),
        ] {
            assert_eq!(lifetime(answer), seconds, "{answer}");
        }
    }

    #[test]
    fn realms() {
        let place = |text: &str, registry: &str| {
            realm(text, &registry.parse().unwrap()).map(|realm| realm.to_string())
        };
        for (text, registry, expected) in [
            ("https://auth.example/t?a=1", "https://r.example/v2/", "https://auth.example/t?a=1"),
            ("/token", "https://r.example:5000/v2/", "https://r.example:5000/token"),
            ("http://auth.example/t", "http://r.example/v2/", "http://auth.example/t"),
            // A registry behind a proxy that ends TLS.
            ("http://r.example/t?a=1", "https://r.example/v2/", "https://r.example/t?a=1"),
            ("http://R.example/t", "https://r.example:8443/v2/", "https://r.example:8443/t"),
            ("http://r.example:80/t", "https://r.example/v2/", "https://r.example/t"),
            ("http://r.example:5001/t", "https://r.example:5000/v2/", "https://r.example:5001/t"),
            ("http://[::1]:5000/t", "https://[::1]:5000/v2/", "https://[::1]:5000/t"),
        ] {
            assert_eq!(place(text, registry).as_deref(), Ok(expected), "{text} {registry}");
        }
        for (text, words) in [
            ("http://auth.example/t?secret", "plain HTTP (http://auth.example/t)"),
            ("http://r.example.evil.example/t", "in the clear"),
            ("http://me@r.example/t", "in the clear"),
            ("token", "not a URL"),
            ("", "not a URL"),
            ("ftp://r.example/t", "not a URL"),
        ] {
            let error = place(text, "https://r.example/v2/").unwrap_err();
            assert!(error.contains(words) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn both_registries_must_be_able_to_name_it() {
        let named = |realm: &str, url: &str, via: Option<&str>| {
            let parameters = [("realm".to_owned(), realm.to_owned())].into();
            let challenge = Challenge { scheme: "bearer".to_owned(), parameters };
            let via: Option<Uri> = via.map(|via| via.parse().unwrap());
            let url = url.parse().unwrap();
            TokenServer::named(&challenge, &url, via.as_ref(), "a/b", Access::Read).is_ok()
        };
        let (public, inside) = ("https://reg.example", "https://second.internal");
        for realm in ["https://10.0.0.1/token", "https://127.0.0.1/token", "https://localhost/t"] {
            assert!(named(realm, inside, None), "{realm}");
            assert!(named(realm, inside, Some("https://10.0.0.2")), "{realm}");
            assert!(!named(realm, inside, Some(public)), "{realm}");
        }
        assert!(named("https://auth.example/token", inside, Some(public)));
        assert!(!named("http://auth.example/token", "http://10.0.0.1", Some(public)));
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
