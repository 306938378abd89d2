//! Registries that want credentials: none, wrong and right ones, tokens that run out, and secrets
//! that must not get anywhere else.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocifs::image::ImageOptions;
use ocifs::source::Source;
use ocifs::source::registry::{Credentials, Registry as Client, RegistryOptions, Session};
use serde_json::json;

use crate::fixture::{
    GOOD, HANG, Sandbox, Verdict, fails, good, has_words, image_of, name_in, noise, open, opens,
    options, read,
};
use crate::logs;
use crate::support::image::Compression;
use crate::support::registry::{Fault, Gate, Registry, Times};
use crate::support::tarball::{Entry, tar};

const RIGHT: &str = "pa55word-that-is-right";
const WRONG: &str = "pa55word-that-is-wrong";

fn basic(password: &str) -> String {
    STANDARD.encode(format!("me:{password}"))
}

/// The usual options, with credentials for this registry as a user's file has them.
fn with_password(registry: &Registry, password: &str) -> ImageOptions {
    let entry = json!({ "auth": basic(password) });
    with_auths(json!({ registry.addr().to_string(): entry }))
}

fn with_auths(auths: serde_json::Value) -> ImageOptions {
    let mut credentials = Credentials::default();
    credentials.add_text("a file", json!({ "auths": auths }).to_string().as_bytes()).unwrap();
    let usual = options();
    ImageOptions { registry: RegistryOptions { credentials, ..usual.registry }, ..usual }
}

/// Checks that no secret was logged, in any form.
fn nothing_leaked() {
    for secret in [RIGHT, WRONG, &basic(RIGHT), &basic(WRONG)] {
        let lines = logs::with(secret);
        assert!(lines.is_empty(), "{lines:?}");
    }
}

fn check_password(require: impl Fn(&Registry)) {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &good());
    require(&registry);
    let name = name_in(&registry);
    let login = format!("`docker login {0}` or `podman login {0}`", registry.addr());
    let words = ["access denied (401)", "needs credentials", &login];
    fails(&sandbox, &name, &options(), &words).unwrap();
    let wrong = with_password(&registry, WRONG);
    let error = open(&name, &sandbox.cache(), &wrong).unwrap_err();
    assert!(error.contains("from a file are not accepted") && error.contains(&login), "{error}");
    // Who has some for another registry only is told where was looked.
    let elsewhere = with_auths(json!({ "other.example": { "auth": basic(WRONG) } }));
    fails(&sandbox, &name, &elsewhere, &["needs credentials", &login, "(looked in a file)"])
        .unwrap();
    for secret in [WRONG, &basic(WRONG)] {
        assert!(!error.contains(secret), "{error}");
    }
    assert!(!format!("{wrong:?}").contains(WRONG), "credentials are printed by Debug");
    // A wrong password is not tried again and again: accounts get locked.
    let tries = registry.requests();
    let tries = tries.iter().filter(|r| r.authorization == Some(format!("Basic {}", basic(WRONG))));
    assert!(tries.count() <= 2, "{:?}", registry.requests());
    opens(&sandbox, &name, &with_password(&registry, RIGHT)).unwrap();
    nothing_leaked();
}

#[test]
fn basic_credentials() {
    check_password(|registry| registry.require_basic("me", RIGHT));
}

#[test]
fn bearer_credentials() {
    check_password(|registry| registry.require_bearer(Some(("me", RIGHT))));
}

/// Tokens that run out or are withdrawn while layers are fetched are replaced.
#[test]
fn tokens_run_out() {
    let layers: Vec<Vec<u8>> =
        (0..6u64).map(|n| tar(&[Entry::file(format!("f{n}"), noise(100_000, n + 1))])).collect();
    let image = layers
        .iter()
        .fold(crate::support::image::ImageBuilder::new(), |b, l| b.layer(l, Compression::None))
        .build();
    for lifetime in [100, 1500, 300_000] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &image);
        registry.require_bearer(Some(("me", RIGHT)));
        registry.set_token_lifetime(Duration::from_millis(lifetime));
        registry.fault(("GET", "/blobs/", Times::Always), Fault::Drip(2000));
        let options = ImageOptions { parallel_layers: 1, ..with_password(&registry, RIGHT) };
        // The shortest lifetime is announced as 0 seconds, of which Docker makes a minute.
        let opened = open(&name_in(&registry), &sandbox.cache(), &options);
        let image = opened.unwrap_or_else(|e| panic!("lifetime {lifetime} ms: {e}"));
        assert_eq!(read(&image, "f5").unwrap(), noise(100_000, 6));
    }
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &image);
    registry.require_bearer(None);
    let image = open(&name_in(&registry), &sandbox.cache(), &options()).unwrap();
    std::fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
    registry.revoke_tokens();
    assert_eq!(read(&image, "f3").unwrap(), noise(100_000, 4));
    nothing_leaked();
}

/// The requests to the token server so far, with their status and what they were authorised by.
fn token_requests(registry: &Registry) -> Vec<(String, u16, Option<String>)> {
    let requests = registry.requests().into_iter();
    let tokens = requests.filter(|request| request.path.starts_with("/token"));
    tokens.map(|request| (request.method, request.status, request.authorization)).collect()
}

/// Many threads that find their token refused get one new token, and not one each.
#[test]
fn a_token_is_renewed_once_for_all() {
    let layers: Vec<Vec<u8>> =
        (0..8u64).map(|n| tar(&[Entry::file(format!("f{n}"), noise(50_000, n + 1))])).collect();
    let builder = crate::support::image::ImageBuilder::new();
    let built = layers.iter().fold(builder, |b, l| b.layer(l, Compression::None)).build();
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &built);
    registry.require_bearer(None);
    let image = Arc::new(open(&name_in(&registry), &sandbox.cache(), &options()).unwrap());
    fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
    registry.revoke_tokens();
    registry.clear_log();
    let gate = Gate::default();
    registry.fault(("", "/token", Times::Always), Fault::Hold(gate.clone()));
    let readers: Vec<_> = (0..8u64)
        .map(|n| {
            let image = Arc::clone(&image);
            thread::spawn(move || read(&image, &format!("f{n}")).unwrap() == noise(50_000, n + 1))
        })
        .collect();
    // All of them have been refused before the first token is there.
    let refused = || registry.requests().iter().filter(|request| request.status == 401).count();
    let until = Instant::now() + HANG;
    while refused() < 8 && Instant::now() < until {
        thread::sleep(Duration::from_millis(2));
    }
    gate.open();
    assert!(readers.into_iter().all(|reader| reader.join().unwrap()));
    assert_eq!(token_requests(&registry).len(), 1);
}

/// A password that the token server does not take any more is no hindrance for a public image. It is
/// tried once, told, and not tried with each token.
#[test]
fn stale_credentials_do_not_lock_out() {
    for status in [401, 403] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &good());
        registry.require_bearer(None);
        let refuses = Fault::Status(status, Vec::new(), Vec::new());
        registry.fault(("", "/token", Times::First(1)), refuses);
        let options = with_password(&registry, WRONG);
        let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
        let tokens = token_requests(&registry);
        assert_eq!(tokens[0].2, Some(format!("Basic {}", basic(WRONG))));
        assert_eq!((tokens.len(), &tokens[1].2), (2, &None), "{tokens:?}");
        let told = logs::with(&format!("the credentials for {}", registry.addr()));
        assert!(told.len() == 1 && told[0].contains("a file are not accepted"), "{told:?}");
        fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
        registry.revoke_tokens();
        assert_eq!(read(&image, "f").unwrap(), GOOD);
        let tokens = token_requests(&registry);
        assert_eq!((tokens.len(), &tokens[2].2), (3, &None), "{tokens:?}");
    }
    nothing_leaked();
}

/// Identity tokens are exchanged by POST, and where that is not offered by GET.
#[test]
fn identity_tokens() {
    let identity = "1dentity-token";
    let as_password = STANDARD.encode(format!("<token>:{identity}"));
    let entry = json!({ "identitytoken": identity });
    let with_identity =
        |registry: &Registry| with_auths(json!({ registry.addr().to_string(): entry }));
    let methods = |registry: &Registry| {
        let tokens = token_requests(registry).into_iter();
        tokens.map(|(method, _, _)| method).collect::<Vec<_>>().join(" ")
    };
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    registry.require_bearer(Some(("nobody", RIGHT)));
    registry.set_identity_token(identity);
    opens(&Sandbox::new(), &name_in(&registry), &with_identity(&registry)).unwrap();
    assert_eq!(methods(&registry), "POST");
    for status in [400, 401, 404, 405] {
        let registry = Registry::start();
        registry.add_image("r", "t", &good());
        registry.require_bearer(Some(("<token>", identity)));
        let refuses = Fault::Status(status, Vec::new(), Vec::new());
        registry.fault(("POST", "/token", Times::Always), refuses);
        opens(&Sandbox::new(), &name_in(&registry), &with_identity(&registry)).unwrap();
        assert_eq!(methods(&registry), "POST GET", "{status}");
    }
    for secret in [identity, &as_password] {
        assert_eq!(logs::with(secret), Vec::<String>::new());
    }
}

/// The ways in which registries say what they want.
#[test]
fn challenges_of_all_kinds() {
    let bearer = |registry: &Registry, rest: &str| {
        format!("Bearer realm=\"http://{}/token\",service=\"s\"{rest}", registry.addr())
    };
    let basic = || "Basic realm=\"x\"".to_owned();
    type Rows = Vec<(&'static str, u16, Box<dyn Fn(&Registry) -> Vec<String>>)>;
    let rows: Rows = vec![
        ("one", 401, Box::new(move |r| vec![bearer(r, "")])),
        ("two headers", 401, Box::new(move |r| vec![basic(), bearer(r, "")])),
        ("one header", 401, Box::new(move |r| vec![format!("{}, {}", basic(), bearer(r, ""))])),
        ("in capitals", 401, Box::new(move |r| vec![bearer(r, "").replace("Bearer", "BEARER")])),
        ("a path", 401, Box::new(|_| vec!["Bearer realm=\"/token\"".to_owned()])),
        ("scopes", 401, Box::new(move |r| vec![bearer(r, ",scope=\"x:y:z w repository:r:*\"")])),
        (
            "a larger scope",
            403,
            Box::new(move |r| {
                let rest = ",scope=\"repository:r:pull,push\",error=\"insufficient_scope\"";
                vec![bearer(r, rest)]
            }),
        ),
    ];
    let mut verdict = Verdict::default();
    for (what, status, values) in rows {
        let registry = Registry::start();
        registry.add_image("r", "t", &good());
        let values = values(&registry).into_iter();
        let headers = values.map(|value| ("WWW-Authenticate".to_owned(), value)).collect();
        let fault = Fault::Status(status, headers, Vec::new());
        registry.fault(("GET", "/v2/r/", Times::First(1)), fault);
        verdict.row(what, opens(&Sandbox::new(), &name_in(&registry), &options()));
        let requests = registry.requests();
        let asked = requests.iter().find(|request| request.path.starts_with("/token"));
        let scope =
            asked.is_some_and(|request| request.path.contains("scope=repository%3Ar%3Apull"));
        let last = what == "scopes"
            && asked.is_some_and(|r| r.path.contains("scope=w&scope=repository%3Ar%3Apull"));
        let sent = requests.last().is_some_and(|request| request.authorization.is_some());
        let is_cut = asked.is_some_and(|r| !r.path.contains("push") && !r.path.contains("z"));
        let is_right = sent && is_cut && if what == "scopes" { last } else { scope };
        verdict.row(what, is_right.then_some(()).ok_or(format!("{requests:?}")));
    }
    // One that says it at the root of its API only.
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    registry.fault(("GET", "/v2/r/", Times::First(1)), Fault::Status(401, Vec::new(), Vec::new()));
    let header = ("WWW-Authenticate".to_owned(), bearer(&registry, ""));
    let at_root = Fault::Status(401, vec![header], Vec::new());
    registry.fault(("GET", "/v2/", Times::Nth(2)), at_root);
    verdict.row("at the root", opens(&Sandbox::new(), &name_in(&registry), &options()));
    let paths: Vec<String> = registry.requests().into_iter().map(|request| request.path).collect();
    let is_right = paths[1] == "/v2/" && paths[2].starts_with("/token");
    verdict.row("at the root", is_right.then_some(()).ok_or(format!("{paths:?}")));
    verdict.end();
}

/// The token server is one more thing that may fail, and its words reach the user.
#[test]
fn token_servers_that_fail() {
    logs::install();
    let token = |status: u16, body: &str| Fault::Status(status, Vec::new(), body.into());
    let rows: Vec<(Fault, &[&str])> = vec![
        (token(200, "<html>"), &["no access token", "not JSON"]),
        (token(200, "{}"), &["no access token"]),
        (token(200, r#"{"token":""}"#), &["no access token"]),
        (token(200, r#"{"token":5}"#), &["no access token"]),
        // A token in a wrong place.
        (token(200, r#""t0ken-of-mine""#), &["no access token: the answer is not JSON"]),
        (token(200, r#"["t0ken-of-mine"]"#), &["no access token: the answer is not JSON"]),
        (token(200, r#"{"token":["t0ken-of-mine"]}"#), &["no access token: the answer holds no"]),
        (token(200, r#"{"t":{"token":"t0ken-of-mine"}}"#), &["the answer holds no token"]),
        (token(200, r#"{"token":"t0ken-of-mine}"#), &["no access token: the answer is not JSON"]),
        (token(200, "token=t0ken-of-mine"), &["no access token: the answer is not JSON"]),
        (token(200, r#"{"token":"t0ken-of-mine\n\u0007"}"#), &["the answer holds no token"]),
        (token(403, r#"{"details":"account locked"}"#), &["403", "account locked"]),
        (token(404, "gone"), &["token"]),
        (Fault::Redirect(302, "/elsewhere".into()), &["token"]),
    ];
    for (fault, words) in rows {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &good());
        registry.require_bearer(None);
        registry.fault(("", "/token", Times::Always), fault);
        let name = name_in(&registry);
        fails(&sandbox, &name, &options(), words).unwrap();
        let error = open(&name, &sandbox.cache(), &options()).unwrap_err();
        assert!(!error.contains("t0ken"), "{error}");
        registry.clear_faults();
        opens(&sandbox, &name, &options()).unwrap();
    }
    assert_eq!(logs::with("t0ken"), Vec::<String>::new());
}

/// A token server that stumbles once is asked again, as the registry itself is.
#[test]
fn token_servers_that_stumble() {
    for fault in [
        Fault::Status(503, Vec::new(), Vec::new()),
        Fault::Status(429, vec![("Retry-After".into(), "1".into())], Vec::new()),
        Fault::CloseBeforeResponse,
    ] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &good());
        registry.require_bearer(None);
        registry.fault(("", "/token", Times::First(1)), fault.clone());
        let opened = opens(&sandbox, &name_in(&registry), &options());
        assert_eq!(opened, Ok(()), "{fault:?}");
    }
}

/// A token server that asks to be left alone is: later requests of the client do not ask it either.
#[test]
fn token_servers_that_are_busy_are_left_alone() {
    logs::install();
    let (registry, tokens) = (Registry::start(), Registry::start());
    let with = |status, name: &str, value: String| {
        Fault::Status(status, vec![(name.to_owned(), value)], Vec::new())
    };
    let challenge = format!("Bearer realm=\"http://{}/token\"", tokens.addr());
    registry.fault(("", "", Times::Always), with(401, "WWW-Authenticate", challenge));
    tokens.fault(("", "", Times::Always), with(429, "Retry-After", "3600".to_owned()));
    let reference = name_in(&registry).parse().unwrap();
    let client = Client::new(reference, &options().registry, &Session::default()).unwrap();
    for _ in 0..3 {
        let error = client.root().unwrap_err().to_string();
        has_words(&error, &["access token", "429"]).unwrap();
    }
    assert_eq!(tokens.requests().len(), 1);
    // The registry itself has not asked for anything.
    assert_eq!(registry.requests().len(), 3);
}

/// The challenge names the token server: it may not lead a password to a place of its choice in
/// plain text, and nonsense in it is no panic.
#[test]
fn odd_challenges() {
    let challenge = |value: &str| {
        Fault::Status(401, vec![("WWW-Authenticate".into(), value.into())], Vec::new())
    };
    for (value, words) in [
        ("Negotiate", "negotiate"),
        ("Bearer", "no realm"),
        ("Bearer realm=\"\"", "realm"),
        ("Bearer realm=\"::::\"", "realm"),
        ("Bearer realm=\"unterminated", "token"),
        (",,,=,\"", "unknown kind"),
        ("Basic realm=\"x\"", "access denied"),
    ] {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &good());
        registry.fault(("", "/v2/r/", Times::Always), challenge(value));
        let options = with_password(&registry, RIGHT);
        fails(&sandbox, &name_in(&registry), &options, &[words]).map_err(|e| (value, e)).unwrap();
    }
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.fault(("", "/v2/", Times::Always), Fault::Status(401, Vec::new(), Vec::new()));
    fails(&sandbox, &name_in(&registry), &options(), &["authentication"]).unwrap();
    nothing_leaked();
}

/// Another host that a registry redirects to gets no credentials, and the signature in its URL
/// stays out of messages and logs.
#[test]
fn redirects_carry_no_credentials() {
    let image = image_of(&tar(&[Entry::file("f", crate::fixture::GOOD)]), Compression::Gzip);
    let digest = image.layer_digests().remove(0);
    for require in [(|r: &Registry| r.require_basic("me", RIGHT)) as fn(&Registry), |r| {
        r.require_bearer(Some(("me", RIGHT)))
    }] {
        let (sandbox, registry, other) = (Sandbox::new(), Registry::start(), Registry::start());
        registry.add_image("r", "t", &image);
        require(&registry);
        other.add_image("elsewhere", "t", &image);
        let secret = format!("s1gnature-{}", registry.addr().port());
        let target = format!(
            "http://localhost:{}/v2/elsewhere/blobs/{digest}?X-Amz-Signature={secret}",
            other.addr().port()
        );
        registry.fault(("GET", &digest, Times::Always), Fault::Redirect(307, target));
        let options = with_password(&registry, RIGHT);
        opens(&sandbox, &name_in(&registry), &options).unwrap();
        let seen = other.requests();
        assert!(!seen.is_empty() && seen.iter().all(|r| r.authorization.is_none()), "{seen:?}");
        assert!(seen.iter().any(|r| r.path.contains(&secret)), "the query is sent: {seen:?}");

        // And when it fails there.
        other.fault(("", "", Times::Always), Fault::Status(403, Vec::new(), Vec::new()));
        let error = open(&name_in(&registry), &Sandbox::new().cache(), &options).unwrap_err();
        assert!(error.contains("403") && !error.contains(&secret), "{error}");
        drop(other);
        let error = open(&name_in(&registry), &Sandbox::new().cache(), &options).unwrap_err();
        assert!(error.contains("refused") && !error.contains(&secret), "{error}");
        assert_eq!(logs::with(&secret), Vec::<String>::new());
    }
    nothing_leaked();
}

/// A password is for the registry that it was given for.
#[test]
fn credentials_of_other_registries_are_not_sent() {
    let (sandbox, registry, other) = (Sandbox::new(), Registry::start(), Registry::start());
    registry.add_image("r", "t", &good());
    registry.require_basic("me", RIGHT);
    let options = with_password(&other, RIGHT);
    fails(&sandbox, &name_in(&registry), &options, &["access denied"]).unwrap();
    assert!(registry.requests().iter().all(|request| request.authorization.is_none()));
}
