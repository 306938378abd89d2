//! A real registry that wants tokens, and a token server whose tokens end soon.

use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::large::{self, FILES};
use crate::local::{PASSWORD, SERVICE, TokenServer, USER};
use crate::mounted::Home;
use crate::oracle::gzip_image;
use crate::servers::Registry;
use crate::support::image::{Built, push};
use crate::support::tarball::{Entry, tar};

const WRONG: &str = "wrong-pa55word";

/// How long a condition is waited for that has to come true.
const LIMIT: Duration = Duration::from_secs(120);

/// A registry with this image, which gives it to nobody without a token.
fn serve(image: &Built, repository: &str, tokens: &TokenServer) -> Registry {
    let mut registry = Registry::configured("");
    push(image, registry.address(), repository, "t").unwrap();
    registry.reconfigure(&tokens.lines());
    registry
}

/// Writes credentials for a registry as `docker login` does.
fn write_credentials(path: &Path, registry: &Registry, password: &str) {
    let auth = STANDARD.encode(format!("{USER}:{password}"));
    let text = json!({ "auths": { registry.address(): { "auth": auth } } }).to_string();
    std::fs::write(path, text).unwrap();
}

/// Tokens end in the middle of reading, again and again: many readers notice nothing, and for all of
/// them one token is fetched at a time.
#[test]
fn tokens_end_under_a_mount() {
    const TOKENS: usize = 5;
    const READERS: usize = 8;
    let lifetime = Duration::from_secs(2);
    let tokens = TokenServer::start(lifetime);
    let registry = serve(&large::image(), "team/app", &tokens);
    let scratch = tempfile::tempdir().unwrap();
    let credentials = scratch.path().join("auth.json");
    write_credentials(&credentials, &registry, PASSWORD);
    let home = Home::new();
    // Nothing is kept: reads ask.
    let options = ["--cache-size", "0", "--authfile", credentials.to_str().unwrap()];
    let mounted = home.mount_with(&options, &format!("{}/team/app:t", registry.address()));
    let started = Instant::now();
    thread::scope(|scope| {
        for reader in 0..READERS {
            let (mounted, tokens) = (&mounted, &tokens);
            scope.spawn(move || {
                let mut number = reader;
                while tokens.asked().len() < TOKENS {
                    assert!(started.elapsed() < LIMIT, "tokens: {:?}", tokens.asked());
                    large::check(mounted.path(), number % FILES);
                    number += 2 * reader + 1;
                }
            });
        }
    });
    (0..FILES).for_each(|number| large::check(mounted.path(), number));
    let asked = tokens.asked();
    for question in &asked {
        assert_eq!((&question.service[..], question.status), (&[SERVICE.to_owned()][..], 200));
        assert_eq!(question.scopes, ["repository:team/app:pull"], "{question:?}");
        let names = [&question.account, &question.user];
        assert!(names.iter().all(|name| name.as_deref() == Some(USER)), "{question:?}");
    }
    // Nobody asked while the token before was good.
    let shortest = lifetime - Duration::from_secs(1);
    assert!(asked.windows(2).all(|pair| pair[1].at - pair[0].at >= shortest), "{asked:?}");
}

/// `ocifs cat` with credentials, or none.
fn cat(reference: &str, credentials: Option<&Path>) -> Output {
    let home = Home::new();
    let mut command = home.ocifs();
    command.args(["cat", reference, "f"]);
    if let Some(path) = credentials {
        command.arg("--authfile").arg(path);
    }
    command.output().unwrap()
}

#[test]
fn who_gets_what() {
    let tokens = TokenServer::start(Duration::from_secs(300));
    let image = gzip_image(&[tar(&[Entry::file("f", "content\n")])]);
    let mut registry = Registry::configured("");
    for repository in ["public/app", "team/app"] {
        push(&image, registry.address(), repository, "t").unwrap();
    }
    registry.reconfigure(&tokens.lines());
    let scratch = tempfile::tempdir().unwrap();
    let [right, wrong] = [("right", PASSWORD), ("wrong", WRONG)].map(|(name, password)| {
        let path = scratch.path().join(name);
        write_credentials(&path, &registry, password);
        path
    });
    let reference = |repository: &str| format!("{}/{repository}:t", registry.address());
    let (public, team) = (reference("public/app"), reference("team/app"));
    for (reference, credentials, status) in [
        (&public, None, &[200][..]),
        (&public, Some(&right), &[200]),
        (&public, Some(&wrong), &[401, 200]),
        (&team, Some(&right), &[200]),
    ] {
        let before = tokens.asked().len();
        let output = cat(reference, credentials.map(AsRef::as_ref));
        assert!(output.status.success() && output.stdout == b"content\n", "{output:?}");
        let asked = &tokens.asked()[before..];
        let answers: Vec<u16> = asked.iter().map(|question| question.status).collect();
        assert_eq!(answers, status, "{asked:?}");
        // Who has a wrong password is told, although it is not needed.
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            stderr.contains("are not accepted; trying without"),
            status.len() > 1,
            "{stderr}"
        );
        assert!(status.len() > 1 || stderr.is_empty(), "{stderr}");
    }
    for (credentials, words) in [
        (None, ["needs credentials", "(not there)"]),
        (Some(&wrong), ["are not accepted", wrong.to_str().unwrap()]),
    ] {
        let before = tokens.asked().len();
        let output = cat(&team, credentials.map(AsRef::as_ref));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), &output.stdout[..]), (Some(1), &b""[..]));
        for word in ["access denied", "docker login", "podman login"].iter().chain(&words) {
            assert!(stderr.contains(word), "`{word}` is not in {stderr}");
        }
        assert!(!stderr.contains(WRONG), "{stderr}");
        // A wrong password is sent once: accounts get locked.
        let asked = &tokens.asked()[before..];
        let refused = asked.iter().filter(|question| question.status == 401).count();
        assert_eq!(refused, usize::from(credentials.is_some()), "{asked:?}");
    }
}
