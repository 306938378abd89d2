//! Registries and token servers behind redirects, each with credentials of its own, and registries that
//! hide from strangers what they have.

use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocifs::image::ImageOptions;
use ocifs::source::Source;
use ocifs::source::registry::{Credentials, Registry as Client, RegistryOptions, Session};
use serde_json::json;

use crate::fixture::{
    GOOD, Sandbox, Verdict, fails, good, has_words, image_of, name_in, noise, open, opens, options,
    read,
};
use crate::logs;
use crate::support::image::{Built, Compression};
use crate::support::registry::{Fault, Logged, Registry, Times};
use crate::support::tarball::{Entry, tar};

const RIGHT: &str = "pa55word-that-is-right";
const WRONG: &str = "pa55word-that-is-wrong";

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The usual options, with a login for each of these registries.
fn with_logins(logins: &[(&Registry, &str, &str)]) -> ImageOptions {
    let auths: serde_json::Map<_, _> = logins
        .iter()
        .map(|(registry, user, password)| {
            let entry = json!({ "username": user, "password": password });
            (registry.addr().to_string(), entry)
        })
        .collect();
    let mut credentials = Credentials::default();
    credentials.add_text("a file", json!({ "auths": auths }).to_string().as_bytes()).unwrap();
    let usual = options();
    ImageOptions { registry: RegistryOptions { credentials, ..usual.registry }, ..usual }
}

/// Makes a registry redirect everything about an image, `r:t`, to another one.
fn forward(front: &Registry, back: &Registry, image: &Built) {
    let mut things = vec!["manifests/t".to_owned(), format!("manifests/{}", image.manifest_digest)];
    things.extend(image.blobs.keys().map(|digest| format!("blobs/{digest}")));
    for thing in things {
        let location = format!("http://{}/v2/moved/r/{thing}", back.addr());
        front.fault(("", &format!("/v2/r/{thing}"), Times::Always), Fault::Redirect(307, location));
    }
}

/// A registry that redirects all of an image to another one.
fn moved(image: &Built) -> (Registry, Registry) {
    logs::install();
    let (front, back) = (Registry::start(), Registry::start());
    forward(&front, &back, image);
    back.add_image("moved/r", "t", image);
    (front, back)
}

/// What a registry was authorised by, each once.
fn sent(requests: &[Logged]) -> Vec<String> {
    let mut sent: Vec<String> = requests.iter().filter_map(|r| r.authorization.clone()).collect();
    sent.sort();
    sent.dedup();
    sent
}

fn nothing_leaked() {
    for secret in [RIGHT, WRONG, &basic("back", RIGHT)[6..], &basic("front", RIGHT)[6..]] {
        assert_eq!(logs::with(secret), Vec::<String>::new());
    }
}

/// The registry behind a redirect says what it wants and gets that, with the login for it or without any.
/// Neither of the two sees what is for the other.
#[test]
fn each_registry_gets_its_own() {
    type Require = fn(&Registry, &str);
    let nothing: Require = |_, _| {};
    let token: Require = |registry, _| registry.require_bearer(None);
    let bearer: Require = |registry, user| registry.require_bearer(Some((user, RIGHT)));
    let basics: Require = |registry, user| registry.require_basic(user, RIGHT);
    let rows = [("nothing", nothing), ("token", token), ("bearer", bearer), ("basic", basics)];
    let mut verdict = Verdict::default();
    for (at_front, front_wants) in &rows {
        for (at_back, back_wants) in &rows {
            let (front, back) = moved(&good());
            front_wants(&front, "front");
            back_wants(&back, "back");
            let options = with_logins(&[(&front, "front", RIGHT), (&back, "back", RIGHT)]);
            let what = format!("{at_front}, {at_back}");
            verdict.row(&what, opens(&Sandbox::new(), &name_in(&front), &options));
            let (to_front, to_back) = (sent(&front.requests()), sent(&back.requests()));
            let own = |sent: &[String], other: &[String], user: &str, password: &str| {
                let is_own = |value: &String| !value.starts_with("Basic") || value == password;
                match sent.iter().all(|value| is_own(value) && !other.contains(value)) {
                    true => Ok(()),
                    false => Err(format!("what is not for {user} was sent there: {sent:?}")),
                }
            };
            verdict.row(&what, own(&to_front, &to_back, "front", &basic("front", RIGHT)));
            verdict.row(&what, own(&to_back, &to_front, "back", &basic("back", RIGHT)));
            let is_asked = |sent: &[String], wants: &str| (wants == "nothing") == sent.is_empty();
            let asked = is_asked(&to_front, at_front) && is_asked(&to_back, at_back);
            verdict.row(&what, asked.then_some(()).ok_or("it was not authorised".to_owned()));
        }
    }
    verdict.end();
    nothing_leaked();
}

/// A chain of registries, of which each wants something else, with the storage of the last one.
#[test]
fn chains_of_registries() {
    let image = good();
    let (front, middle) = (Registry::start(), Registry::start());
    let (back, storage) = (Registry::start(), Registry::start());
    forward(&front, &middle, &image);
    // The middle one is asked for `moved/r`, where it redirects to `again/moved/r`.
    let mut things = vec!["manifests/t".to_owned(), format!("manifests/{}", image.manifest_digest)];
    things.extend(image.blobs.keys().map(|digest| format!("blobs/{digest}")));
    for thing in &things {
        let location = format!("http://{}/v2/again/r/{thing}", back.addr());
        middle.fault(
            ("", &format!("/moved/r/{thing}"), Times::Always),
            Fault::Redirect(302, location),
        );
    }
    let layer = image.layer_digests().remove(0);
    let signed = format!("http://{}/bucket/v2/moved/r/blobs/{layer}?sig=s1gned", storage.addr());
    back.fault(("GET", &layer, Times::Always), Fault::Redirect(307, signed));
    let bytes = image.blobs[&layer].clone();
    storage.fault(("GET", "s1gned", Times::Always), Fault::Status(200, Vec::new(), bytes));
    back.add_image("again/r", "t", &image);
    middle.require_basic("middle", RIGHT);
    back.require_bearer(Some(("back", RIGHT)));
    let options = with_logins(&[
        (&front, "front", RIGHT),
        (&middle, "middle", RIGHT),
        (&back, "back", RIGHT),
        (&storage, "storage", RIGHT),
    ]);
    opens(&Sandbox::new(), &name_in(&front), &options).unwrap();
    assert!(sent(&front.requests()).is_empty() && sent(&storage.requests()).is_empty());
    assert!(!storage.requests().is_empty());
    assert_eq!(sent(&middle.requests()), [basic("middle", RIGHT)]);
    let to_back = sent(&back.requests());
    assert!(to_back.iter().all(|v| v.starts_with("Bearer") || *v == basic("back", RIGHT)));
    // Storage that asks for a login gets none: its URL is what opens it.
    storage.clear_faults();
    storage.require_basic("storage", RIGHT);
    fails(&Sandbox::new(), &name_in(&front), &options, &["401", "signed URL"]).unwrap();
    assert!(sent(&storage.requests()).is_empty());
}

/// Tokens of the registry behind the redirect run out and are withdrawn while layers are read.
#[test]
fn tokens_run_out_behind_a_redirect() {
    let layers: Vec<Vec<u8>> =
        (0..4u64).map(|n| tar(&[Entry::file(format!("f{n}"), noise(100_000, n + 1))])).collect();
    let builder = crate::support::image::ImageBuilder::new();
    let image = layers.iter().fold(builder, |b, l| b.layer(l, Compression::None)).build();
    for lifetime in [100, 1500, 300_000] {
        let (sandbox, (front, back)) = (Sandbox::new(), moved(&image));
        back.require_bearer(Some(("back", RIGHT)));
        back.set_token_lifetime(Duration::from_millis(lifetime));
        back.fault(("GET", "/blobs/", Times::Always), Fault::Drip(2000));
        let options = with_logins(&[(&front, "front", RIGHT), (&back, "back", RIGHT)]);
        let options = ImageOptions { parallel_layers: 1, ..options };
        let opened = open(&name_in(&front), &sandbox.cache(), &options);
        let opened = opened.unwrap_or_else(|e| panic!("lifetime {lifetime} ms: {e}"));
        assert_eq!(read(&opened, "f3").unwrap(), noise(100_000, 4));
        // Later reads go to where the blob was found, with what is for that.
        fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
        let asked = front.requests().len();
        if lifetime > 10_000 {
            assert_eq!(read(&opened, "f2").unwrap(), noise(100_000, 3));
            assert_eq!(front.requests().len(), asked, "the first registry need not be asked again");
        }
        back.revoke_tokens();
        assert_eq!(read(&opened, "f1").unwrap(), noise(100_000, 2));
        assert!(sent(&front.requests()).is_empty());
    }
    nothing_leaked();
}

/// A refusal names the registry that refuses, and where a login for that one was looked for.
#[test]
fn refusals_behind_a_redirect() {
    type Require = fn(&Registry);
    let bearer: Require = |registry| registry.require_bearer(Some(("back", RIGHT)));
    for require in [bearer, |registry| registry.require_basic("back", RIGHT)] {
        let (front, back) = moved(&good());
        require(&back);
        let (name, back_name) = (name_in(&front), back.addr().to_string());
        let place = format!("{back_name}/moved/r (to which {}/r redirects)", front.addr());
        let login = format!("`docker login {back_name}`");
        let none = with_logins(&[(&front, "front", RIGHT)]);
        let words = ["401", &login, "(looked in a file)"];
        fails(&Sandbox::new(), &name, &none, &words).unwrap();
        assert!(sent(&back.requests()).is_empty() && sent(&front.requests()).is_empty());
        let wrong = with_logins(&[(&front, "front", RIGHT), (&back, "back", WRONG)]);
        let error = open(&name, &Sandbox::new().cache(), &wrong).unwrap_err();
        has_words(&error, &["401", &login, "from a file are not accepted"]).unwrap();
        assert!(!error.contains(WRONG), "{error}");
        // A wrong password is not tried again and again.
        let tried = back.requests();
        let tried = tried.iter().filter(|r| r.authorization == Some(basic("back", WRONG)));
        assert!(tried.count() <= 2, "{:?}", back.requests());
        has_words(&error, &[&place]).unwrap();
    }
    nothing_leaked();
}

/// `HEAD`, as `ocifs status` sends it.
#[test]
fn tags_behind_a_redirect() {
    let (front, back) = moved(&good());
    back.require_bearer(None);
    let client =
        Client::new(name_in(&front).parse().unwrap(), &options().registry, &Session::default())
            .unwrap();
    let digest = client.head().unwrap().map(|digest| digest.to_string());
    assert_eq!(digest, Some(good().manifest_digest));
    assert!(back.requests().iter().any(|r| r.method == "HEAD" && r.status == 200));
}

/// No registry makes us write somewhere else with the login for that.
#[test]
fn nothing_is_written_behind_a_redirect() {
    let (front, back) = (Registry::start(), Registry::start());
    back.require_basic("back", RIGHT);
    let location = format!("http://{}/v2/prod/manifests/latest", back.addr());
    front.fault(("PUT", "/manifests/", Times::Always), Fault::Redirect(307, location));
    let options = with_logins(&[(&front, "front", RIGHT), (&back, "back", RIGHT)]).registry;
    let client =
        Client::for_pushing(name_in(&front).parse().unwrap(), &options, &Session::default())
            .unwrap();
    let error = client.push_manifest(b"{}", "application/json", None).unwrap_err().to_string();
    has_words(&error, &["401"]).unwrap();
    assert!(sent(&back.requests()).is_empty(), "{:?}", back.requests());
    assert_eq!(back.manifest("prod", "latest"), None);
}

/// The statuses, hosts and logins with which token servers redirect.
#[test]
fn token_servers_that_redirect() {
    let query = "scope=repository%3Ar%3Apull";
    let mut verdict = Verdict::default();
    for status in [301, 302, 303, 307, 308] {
        for login in [None, Some(("me", RIGHT))] {
            // Another path of the same server: the login goes along.
            let registry = Registry::start();
            registry.add_image("r", "t", &good());
            registry.require_bearer(login);
            let again = Fault::Redirect(status, format!("/token?{query}"));
            registry.fault(("GET", "client_id=ocifs", Times::Always), again);
            let options = with_logins(&[(&registry, "me", RIGHT)]);
            let what = format!("{status} {login:?}");
            verdict.row(&what, opens(&Sandbox::new(), &name_in(&registry), &options));
            // Another server: it does not.
            let (registry, tokens) = (Registry::start(), Registry::start());
            registry.add_image("r", "t", &good());
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"s\"", tokens.addr());
            let challenge = vec![("WWW-Authenticate".to_owned(), realm)];
            let unauthorised = Fault::Status(401, challenge, Vec::new());
            registry.fault(("GET", "/v2/r/", Times::First(1)), unauthorised);
            let away = format!("http://{}/token?{query}", registry.addr());
            tokens.fault(("", "/token", Times::Always), Fault::Redirect(status, away));
            let options = with_logins(&[(&registry, "me", RIGHT)]);
            verdict.row(&what, opens(&Sandbox::new(), &name_in(&registry), &options));
            let given = registry.requests();
            let given = given.iter().filter(|request| request.path.starts_with("/token"));
            let given: Vec<_> = given.collect();
            let is_bare = given.len() == 1 && given[0].authorization.is_none();
            verdict.row(&what, is_bare.then_some(()).ok_or(format!("{given:?}")));
        }
    }
    verdict.end();
    nothing_leaked();
}

/// Redirects of a token server that are not followed.
#[test]
fn token_servers_that_redirect_astray() {
    for (location, words) in [
        ("", "redirects to an invalid address"),
        ("ftp://127.0.0.1/token", "redirects to an invalid address"),
        ("/token?again", "more than 10 redirects"),
    ] {
        let registry = Registry::start();
        registry.add_image("r", "t", &good());
        registry.require_bearer(None);
        registry.fault(("", "/token", Times::Always), Fault::Redirect(302, location.to_owned()));
        fails(&Sandbox::new(), &name_in(&registry), &options(), &["access token", words]).unwrap();
        let asked = registry.requests().len();
        assert!(asked <= 12, "{location}: {asked} requests");
    }
}

/// The form that holds an identity token goes to no other server, and is no form any more after a 303.
#[test]
fn identity_tokens_and_redirects() {
    let identity = "1dentity-token";
    let query = "scope=repository%3Ar%3Apull";
    let methods = |registry: &Registry| {
        let requests = registry.requests().into_iter();
        let tokens = requests.filter(|request| request.path.starts_with("/token"));
        tokens.map(|request| request.method).collect::<Vec<_>>().join(" ")
    };
    let options = |registry: &Registry| {
        let file = json!({ "auths": {
            registry.addr().to_string(): { "identitytoken": identity },
        }});
        let mut credentials = Credentials::default();
        credentials.add_text("a file", file.to_string().as_bytes()).unwrap();
        let usual = options();
        ImageOptions { registry: RegistryOptions { credentials, ..usual.registry }, ..usual }
    };
    for (status, expected) in [
        (301, "POST POST"),
        (302, "POST POST"),
        (307, "POST POST"),
        (308, "POST POST"),
        // Nothing is sent with the second, so that it is refused; the old form comes after that.
        (303, "POST GET GET"),
    ] {
        let registry = Registry::start();
        registry.add_image("r", "t", &good());
        registry.require_bearer(Some(("<token>", identity)));
        registry.set_identity_token(identity);
        let again = Fault::Redirect(status, format!("/token?{query}"));
        registry.fault(("POST", "/token", Times::First(1)), again);
        opens(&Sandbox::new(), &name_in(&registry), &options(&registry)).unwrap();
        assert_eq!(methods(&registry), expected, "{status}");
    }
    for status in [302, 303, 307] {
        let (registry, other) = (Registry::start(), Registry::start());
        registry.add_image("r", "t", &good());
        registry.require_bearer(Some(("<token>", identity)));
        let away = format!("http://{}/token?{query}", other.addr());
        registry.fault(("POST", "/token", Times::Always), Fault::Redirect(status, away));
        other.require_bearer(Some(("nobody", RIGHT)));
        opens(&Sandbox::new(), &name_in(&registry), &options(&registry)).unwrap();
        assert_eq!(methods(&registry), "POST GET", "{status}");
        let elsewhere = other.requests();
        assert_eq!(elsewhere.len(), usize::from(status == 303), "{elsewhere:?}");
        assert!(elsewhere.iter().all(|r| r.method == "GET" && r.authorization.is_none()));
    }
    assert_eq!(logs::with(identity), Vec::<String>::new());
}

/// What a registry asks for at the root of its API.
fn at_root(registry: &Registry, challenge: Option<String>) {
    let challenge = challenge.map(|value| ("WWW-Authenticate".to_owned(), value));
    let status = if challenge.is_some() { 401 } else { 200 };
    let fault = Fault::Status(status, challenge.into_iter().collect(), Vec::new());
    registry.fault(("GET", "/v2/$", Times::Always), fault);
}

/// A registry that says to strangers that there is nothing shows it to those who log in.
#[test]
fn hidden_repositories() {
    let mut verdict = Verdict::default();
    for status in [400, 403, 404] {
        for kind in ["Basic", "Bearer"] {
            let registry = Registry::start();
            registry.add_image("r", "t", &good());
            let hidden = Fault::Status(status, Vec::new(), b"{}".to_vec());
            registry.fault(("GET", "/v2/r/", Times::First(1)), hidden);
            let realm = format!("Bearer realm=\"http://{}/token\"", registry.addr());
            let challenge = if kind == "Basic" { "Basic realm=\"x\"".to_owned() } else { realm };
            at_root(&registry, Some(challenge));
            let options = with_logins(&[(&registry, "me", RIGHT)]);
            let what = format!("{status} {kind}");
            verdict.row(&what, opens(&Sandbox::new(), &name_in(&registry), &options));
            let requests = registry.requests();
            let paths: Vec<&str> = requests.iter().map(|request| &*request.path).collect();
            let roots = paths.iter().filter(|path| **path == "/v2/").count();
            let is_right = roots == 1 && paths[1] == "/v2/";
            verdict.row(&what, is_right.then_some(()).ok_or(format!("{paths:?}")));
            let later = requests.iter().skip_while(|request| request.path != "/v2/").skip(1);
            let mut later = later.filter(|request| request.path.starts_with("/v2/"));
            let is_sent =
                later.all(|r| r.authorization.as_ref().is_some_and(|a| a.starts_with(kind)));
            verdict.row(&what, is_sent.then_some(()).ok_or(format!("{requests:?}")));
        }
    }
    verdict.end();
    nothing_leaked();
}

/// Without a login the error says that one might help; a registry that wants none is not asked for it again.
#[test]
fn what_is_not_there_and_what_hides() {
    let missing = || Fault::Status(404, Vec::new(), Vec::new());
    let registry = Registry::start();
    registry.fault(("GET", "/v2/r/", Times::Always), missing());
    at_root(&registry, Some("Basic realm=\"x\"".to_owned()));
    let none = with_logins(&[]);
    let login = format!("`docker login {}`", registry.addr());
    let words = ["not found", "or misspelt"];
    let error = open(&name_in(&registry), &Sandbox::new().cache(), &none).unwrap_err();
    has_words(&error, &[words[0], &login, "(looked in a file)"]).unwrap();
    assert!(registry.requests().iter().all(|request| request.authorization.is_none()));
    // One that asks for nothing at its root has nothing to hide.
    let registry = Registry::start();
    registry.fault(("GET", "/v2/r/", Times::Always), missing());
    at_root(&registry, None);
    let options = with_logins(&[(&registry, "me", RIGHT)]);
    let error = open(&name_in(&registry), &Sandbox::new().cache(), &options).unwrap_err();
    assert!(error.contains("not found") && !error.contains("log in with"), "{error}");
    let paths: Vec<String> = registry.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["/v2/r/manifests/t", "/v2/", "/v2/r/tags/list"]);
    assert!(registry.requests().iter().all(|request| request.authorization.is_none()));
}

/// What is there for everybody costs no request more.
#[test]
fn public_images_cost_nothing_more() {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    let (sandbox, options) = (Sandbox::new(), with_logins(&[(&registry, "me", RIGHT)]));
    let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
    assert_eq!(read(&image, "f").unwrap(), GOOD);
    let paths: Vec<String> = registry.requests().into_iter().map(|r| r.path).collect();
    assert_eq!(paths.iter().filter(|path| path.contains("/manifests/")).count(), 1, "{paths:?}");
    assert!(paths.iter().all(|path| path != "/v2/"), "{paths:?}");
    // For what is not there the root is asked once, and for nothing else.
    let layer = good().layer_digests().remove(0);
    registry.clear_log();
    registry.fault(("GET", &layer, Times::Always), Fault::Status(404, Vec::new(), Vec::new()));
    let sandbox = Sandbox::new();
    open(&name_in(&registry), &sandbox.cache(), &options).unwrap_err();
    let roots = registry.requests().into_iter().filter(|request| request.path == "/v2/");
    assert_eq!(roots.count(), 1);
}

/// A registry that shows strangers the manifest and hides the layers.
#[test]
fn hidden_layers() {
    for status in [403, 404] {
        let registry = Registry::start();
        registry.add_image("r", "t", &good());
        let layer = good().layer_digests().remove(0);
        let hidden = Fault::Status(status, Vec::new(), Vec::new());
        registry.fault(("GET", &layer, Times::First(1)), hidden);
        at_root(&registry, Some("Basic realm=\"x\"".to_owned()));
        let options = with_logins(&[(&registry, "me", RIGHT)]);
        opens(&Sandbox::new(), &name_in(&registry), &options).unwrap();
        assert_eq!(sent(&registry.requests()), [basic("me", RIGHT)], "{status}");
    }
}

/// A hiding registry behind a redirect, with the login for it.
#[test]
fn hidden_behind_a_redirect() {
    let (front, back) = moved(&good());
    let hidden = Fault::Status(404, Vec::new(), Vec::new());
    back.fault(("GET", "/v2/moved/r/", Times::First(1)), hidden);
    at_root(&back, Some("Basic realm=\"x\"".to_owned()));
    let options = with_logins(&[(&front, "front", RIGHT), (&back, "back", RIGHT)]);
    opens(&Sandbox::new(), &name_in(&front), &options).unwrap();
    assert_eq!(sent(&back.requests()), [basic("back", RIGHT)]);
    assert!(sent(&front.requests()).is_empty());
    assert!(front.requests().iter().all(|request| request.path != "/v2/"));
}

/// An image that a registry has in part, and another one the rest of.
#[test]
fn blobs_of_another_registry() {
    let image = image_of(&tar(&[Entry::file("f", noise(300_000, 3))]), Compression::Gzip);
    let (front, back) = (Registry::start(), Registry::start());
    front.add_image("r", "t", &image);
    back.add_image("shared", "t", &image);
    back.require_bearer(None);
    let layer = image.layer_digests().remove(0);
    let location = format!("http://{}/v2/shared/blobs/{layer}", back.addr());
    front.fault(("GET", &layer, Times::Always), Fault::Redirect(307, location));
    let opened = open(&name_in(&front), &Sandbox::new().cache(), &options()).unwrap();
    assert_eq!(read(&opened, "f").unwrap(), noise(300_000, 3));
    let scopes = back.requests();
    let scopes: Vec<_> = scopes.iter().filter(|r| r.path.starts_with("/token")).collect();
    assert!(scopes.len() == 1 && scopes[0].path.contains("repository%3Ashared%3Apull"));
}
