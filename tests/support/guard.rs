//! Who may ask the test registry: both ways in which registries ask for credentials, and the server
//! that gives out tokens.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::support::image::sha256;
use crate::support::registry::Place;
use crate::support::wire::{Request, Response, decode};

/// The service that challenges name.
const SERVICE: &str = "test-registry";

/// By all registries together: no token of one is good for another.
static TOKENS_ISSUED: AtomicUsize = AtomicUsize::new(1);

#[derive(Clone, Debug)]
pub enum Auth {
    None,
    /// The value of the `Authorization` header that is asked for.
    Basic(String),
    /// The value that the token endpoint asks for, if it asks for any.
    Bearer(Option<String>),
}

impl Auth {
    pub fn basic(user: &str, password: &str) -> Auth {
        Auth::Basic(basic(user, password))
    }

    pub fn bearer(user_password: Option<(&str, &str)>) -> Auth {
        Auth::Bearer(user_password.map(|(user, password)| basic(user, password)))
    }
}

/// Who may ask, and what was given out to them.
#[derive(Debug)]
pub struct Guard {
    pub auth: Auth,
    /// The scope that each token is for, and when it expires.
    pub tokens: HashMap<String, (String, Instant)>,
    pub token_lifetime: Duration,
    /// What is exchanged for tokens by POST, if that is offered.
    pub identity_token: Option<String>,
}

impl Default for Guard {
    fn default() -> Guard {
        Guard {
            auth: Auth::None,
            tokens: HashMap::new(),
            token_lifetime: Duration::from_secs(300),
            identity_token: None,
        }
    }
}

impl Guard {
    /// The challenge to a request that lacks credentials.
    pub(super) fn refusal(&self, request: &Request, address: SocketAddr) -> Option<Response> {
        let path = request.target.split('?').next().unwrap_or_default();
        if path == "/token" {
            return None;
        }
        let given = request.header("authorization");
        let challenge = match &self.auth {
            Auth::None => return None,
            Auth::Basic(expected) if given == Some(expected) => return None,
            Auth::Basic(_) => format!("Basic realm=\"{SERVICE}\""),
            Auth::Bearer(_) => {
                let actions = if request.is_read() { "pull" } else { "pull,push" };
                let scope = match path {
                    "/v2/_catalog" => Some("registry:catalog:*".to_owned()),
                    path => Place::parse(path)
                        .map(|place| format!("repository:{}:{actions}", place.repo)),
                };
                let token = given.and_then(|value| value.strip_prefix("Bearer "));
                let granted = token.and_then(|token| self.tokens.get(token));
                let error = match (granted, &scope) {
                    (None, _) if token.is_none() => "",
                    (None, _) => ",error=\"invalid_token\"",
                    (Some((_, expiry)), _) if *expiry <= Instant::now() => {
                        ",error=\"invalid_token\""
                    }
                    (Some((granted, _)), Some(scope)) if !covers(granted, scope) => {
                        ",error=\"insufficient_scope\""
                    }
                    (Some(_), _) => return None,
                };
                let scope = scope.map(|scope| format!(",scope=\"{scope}\"")).unwrap_or_default();
                format!(
                    "Bearer realm=\"http://{address}/token\",service=\"{SERVICE}\"{scope}{error}"
                )
            }
        };
        Some(Response::error(401, "UNAUTHORIZED").with("WWW-Authenticate", challenge))
    }

    /// Answers a request for a token.
    pub(super) fn token(&mut self, request: &Request, query: &str) -> Response {
        match (request.is_read(), self.identity_token.clone()) {
            (true, _) => self.give(request, query),
            (false, Some(expected)) => {
                self.exchange(request, &format!("refresh_token={expected}&"))
            }
            (false, None) => Response::error(405, "UNSUPPORTED"),
        }
    }

    /// Gives out a token for the scope that is asked for, whatever it is.
    fn give(&mut self, request: &Request, query: &str) -> Response {
        if let Auth::Bearer(Some(expected)) = &self.auth
            && request.header("authorization") != Some(expected)
        {
            return Response::error(401, "UNAUTHORIZED")
                .with("WWW-Authenticate", format!("Basic realm=\"{SERVICE}\""));
        }
        self.issue(query)
    }

    /// The same for a form that holds this.
    fn exchange(&mut self, request: &Request, expected: &str) -> Response {
        let form = String::from_utf8_lossy(&request.body).into_owned();
        let is_whole = form.contains("grant_type=refresh_token") && form.contains("client_id=");
        match is_whole && form.contains(expected) {
            true => self.issue(&form),
            false => Response::error(401, "UNAUTHORIZED"),
        }
    }

    fn issue(&mut self, query: &str) -> Response {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let scopes = pairs.filter(|(key, _)| *key == "scope").map(|(_, value)| decode(value));
        let scope = scopes.collect::<Vec<_>>().join(" ");
        let number = TOKENS_ISSUED.fetch_add(1, Ordering::Relaxed);
        let token = sha256(format!("token {number}").as_bytes()).split_off(7);
        let lifetime = self.token_lifetime;
        self.tokens.insert(token.clone(), (scope, Instant::now() + lifetime));
        let body = json!({ "token": token, "expires_in": lifetime.as_secs() });
        Response::new(200, "application/json", body.to_string())
    }
}

/// Whether granted scopes, separated by blanks, include all actions of one.
fn covers(granted: &str, scope: &str) -> bool {
    let (name, wanted) = scope.rsplit_once(':').expect("own scopes have actions");
    wanted.split(',').all(|wanted| {
        granted.split(' ').filter_map(|granted| granted.rsplit_once(':')).any(
            |(granted, actions)| {
                granted == name && actions.split(',').any(|action| action == wanted)
            },
        )
    })
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}
