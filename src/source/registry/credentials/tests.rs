//! Tables of rows, keys and places.

use super::*;

fn basic(user: &str, password: &str) -> Credential {
    Credential::Basic { user: user.into(), password: password.into() }
}

/// What one file has for a repository, as `USER:PASSWORD` or in words.
fn lookup(file: &str, registry: &str, repository: &str) -> String {
    let mut credentials = Credentials::default();
    credentials.add_text("a file", file.as_bytes()).unwrap();
    match credentials.for_repository(registry, repository).credential {
        None => "none".to_owned(),
        Some(Credential::Basic { user, password }) => format!("{user}:{password}"),
        Some(Credential::IdentityToken { user, token }) => {
            format!("identity {}:{token}", user.unwrap_or_default())
        }
        Some(Credential::RegistryToken(token)) => format!("token {token}"),
    }
}

#[test]
fn rows() {
    // "dTpwOnE=" is `u:p:q`, "MDow" is `0:0`, "MDo=" is `0:`, "dTpwAAA=" is `u:p` and two NULs.
    for (row, expected) in [
        (r#"{"auth":"dTpwOnE="}"#, "u:p:q"),
        (r#"{"auth":" dTpwOnE=\n"}"#, "u:p:q"),
        (r#"{"auth":"dTpw\r\nOnE=\n"}"#, "u:p:q"),
        (r#"{"auth":"dTpwAAA="}"#, "u:p"),
        (r#"{"auth":"MDow","auth":"dTpwOnE="}"#, "u:p:q"),
        (r#"{"Auth":"dTpwOnE=","Email":5}"#, "u:p:q"),
        (r#"{"auth":"dTpwOnE=","username":"x","password":"y","email":null}"#, "u:p:q"),
        (r#"{"username":"a","password":"b"}"#, "a:b"),
        (r#"{"username":"a"}"#, "none"),
        (r#"{"auth":"MDow","identitytoken":"idt"}"#, "identity 0:idt"),
        (r#"{"auth":"MDo=","identitytoken":"idt"}"#, "identity 0:idt"),
        (r#"{"username":"<token>","identitytoken":"idt"}"#, "identity <token>:idt"),
        (r#"{"auth":"*","identitytoken":"idt"}"#, "identity :idt"),
        (r#"{"registrytoken":"raw"}"#, "token raw"),
        (r#"{"REGISTRYTOKEN":"raw","IdentityToken":null,"auth":null}"#, "token raw"),
        (r#"{"username":"a","password":5318008}"#, "none"),
        (r#"{"username":["a"],"password":"b"}"#, "none"),
        (r#"{"auth":""}"#, "none"),
        ("{}", "none"),
        ("null", "none"),
        (r#"{"auth":null}"#, "none"),
        (r#"{"auth":"*"}"#, "none"),
        (r#"{"auth":"dXA="}"#, "none"),
        (r#"{"auth":5}"#, "none"),
        ("[]", "none"),
        (r#""dTpwOnE=""#, "none"),
    ] {
        let file = format!(r#"{{"auths":{{"bad":{{"auth":"!"}},"r.example":{row}}}}}"#);
        assert_eq!(lookup(&file, "r.example", "a"), expected, "{row}");
        let mut old = Credentials::default();
        let path = tempfile::NamedTempFile::new().unwrap();
        fs::write(&path, format!(r#"{{"r.example":{row}}}"#)).unwrap();
        assert!(old.add_old_file(path.path()).unwrap());
        let found = old.for_repository("r.example", "a").credential;
        assert_eq!(found.is_some(), expected != "none", "{row}");
    }
}

#[test]
fn keys() {
    let row = |key: &str, user: &str| format!(r#""{key}":{{"username":"{user}","password":"p"}}"#);
    let file = |keys: &[&str]| {
        let rows: Vec<String> = keys.iter().map(|key| row(key, key)).collect();
        format!(r#"{{"auths":{{{}}}}}"#, rows.join(","))
    };
    for (keys, registry, repository, expected) in [
        // Docker's key for the Hub, podman's, and others that are seen.
        (&["https://index.docker.io/v1/"][..], "docker.io", "library/x", Some(0)),
        (&["https://index.docker.io/v1"], "docker.io", "library/x", Some(0)),
        (&["index.docker.io/v1/"], "docker.io", "library/x", Some(0)),
        (&["index.docker.io"], "docker.io", "library/x", Some(0)),
        (&["registry-1.docker.io"], "docker.io", "library/x", Some(0)),
        (&["docker.io"], "docker.io", "library/x", Some(0)),
        (&["docker.io", "https://index.docker.io/v1/"], "docker.io", "library/x", Some(1)),
        (&["registry-1.docker.io", "docker.io"], "docker.io", "a/b", Some(1)),
        (&["https://index.docker.io/v1/access-token"], "docker.io", "a/b", Some(0)),
        (&["hub.docker.com"], "docker.io", "a/b", None),
        // Hosts, ports, URLs.
        (&["r.example"], "r.example", "a", Some(0)),
        (&["R.Example"], "r.example", "a", Some(0)),
        (&["r.example:5000"], "r.example:5000", "a", Some(0)),
        (&["r.example"], "r.example:5000", "a", None),
        (&["r.example:5000"], "r.example", "a", None),
        (&["https://r.example/v2/"], "r.example", "a", Some(0)),
        (&["http://r.example:5000/any/path"], "r.example:5000", "a", Some(0)),
        (&["https://r.example", "r.example"], "r.example", "a", Some(1)),
        (&["r.example/v2/"], "r.example", "a", Some(0)),
        (&["[::1]:5000"], "[::1]:5000", "a", Some(0)),
        (&["example"], "r.example", "a", None),
        (&["*.example"], "r.example", "a", None),
        // Parts of a registry.
        (&["r.example", "r.example/a"], "r.example", "a/b", Some(1)),
        (&["r.example", "r.example/a", "r.example/a/b"], "r.example", "a/b", Some(2)),
        (&["r.example/a/b", "r.example/a"], "r.example", "a/c", Some(1)),
        (&["r.example/a/b"], "r.example", "a", None),
        (&["r.example/a"], "r.example", "ab", None),
        (&["r.example/a/"], "r.example", "a/b", Some(0)),
        (&["docker.io/a"], "docker.io", "a/b", Some(0)),
        (&["", "/", "//", "https://"], "r.example", "a", None),
    ] {
        let expected = expected.map_or("none".to_owned(), |at: usize| format!("{}:p", keys[at]));
        assert_eq!(lookup(&file(keys), registry, repository), expected, "{keys:?} {registry}");
    }
    // An empty entry of one name does not hide what is under another.
    let file = format!(r#"{{"auths":{{"docker.io":{{}},{}}}}}"#, row("index.docker.io", "u"));
    assert_eq!(lookup(&file, "docker.io", "library/x"), "u:p");
}

#[test]
fn the_first_place_that_has_something_counts() {
    let file = |user: &str, host: &str| {
        format!(r#"{{"auths":{{"{host}":{{"username":"{user}","password":"p"}}}}}}"#)
    };
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("other"), file("other", "other.example")).unwrap();
    fs::write(path("empty"), "").unwrap();
    fs::write(path("second"), file("second", "r.example")).unwrap();
    let mut credentials = Credentials::default();
    credentials.add_login("--creds", "mine.example", "me", "p");
    assert!(!credentials.add_file(&path("missing")).unwrap());
    assert!(credentials.add_file(&path("other")).unwrap());
    assert!(credentials.add_file(&path("empty")).unwrap());
    assert!(credentials.add_file(&path("second")).unwrap());
    credentials.add_text("a variable", file("last", "r.example").as_bytes()).unwrap();
    let user = |host: &str| match credentials.for_repository(host, "a").credential {
        Some(Credential::Basic { user, .. }) => user,
        other => format!("{other:?}"),
    };
    assert_eq!(user("mine.example"), "me");
    assert_eq!(user("other.example"), "other");
    assert_eq!(user("r.example"), "second");
    assert_eq!(user("none.example"), "None");
    let found = credentials.for_repository("r.example", "a");
    assert_eq!(found.source, Some(path("second").display().to_string()));
    let not_there = format!("{} (not there)", path("missing").display());
    assert!(found.searched.contains(&not_there), "{:?}", found.searched);
    // What changes counts with the next search; what can't be read any more is as it was.
    fs::write(path("missing"), file("new", "r.example")).unwrap();
    assert_eq!(user("r.example"), "new");
    fs::write(path("missing"), "{").unwrap();
    assert_eq!(user("r.example"), "new");
    fs::remove_file(path("missing")).unwrap();
    assert_eq!(user("r.example"), "second");
}

#[test]
fn broken_files_are_told_without_their_secrets() {
    let secret = "s3cret";
    for text in [
        "{",
        "[1]",
        r#""s3cret""#,
        r#"{"auths":"s3cret"}"#,
        r#"{"auths":["s3cret"]}"#,
        r#"{"credsStore":{"s3cret":1}}"#,
        r#"{"credHelpers":{"r":["s3cret"]}}"#,
        r#"{"auths":{"r":{"auth":"s3cret}}}"#,
        r#"{"auths":{"r":{"auth":s3cret}}}"#,
        r#"{"auths":{"r":{"auth":"a"}} "s3cret"}"#,
        r#"{"credsStore":["s3cret"]}"#,
        r#"{"credHelpers":"s3cret"}"#,
        r#"{"credHelpers":{"r":{"s3cret":"s3cret"}}}"#,
    ] {
        let error = Credentials::default().add_text("x", text.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("JSON"), "{text}: {error}");
        for words in [error.to_string(), format!("{error:?}")] {
            assert!(!words.contains(secret), "{text}: {words}");
        }
    }
    for (text, words) in [
        ("{\"auths\":{},\n}", "not valid JSON (line 2, column 1)"),
        ("\u{feff}{\"auths\":s3cret}", "not valid JSON (line 1, column 10)"),
        ("{\n \"credsStore\": true}", "valid JSON, but no file of credentials (line 2, column 16)"),
        (
            r#"{"credHelpers":{"r":5318008}}"#,
            "valid JSON, but no file of credentials (line 1, column 21)",
        ),
    ] {
        let error = Credentials::default().add_text("x", text.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), words, "{text}");
    }
    // One that is wrong in a row is told by the row's key.
    for row in [
        r#""s3cret""#,
        r#"["s3cret"]"#,
        "true",
        r#"{"auth":["s3cret"]}"#,
        r#"{"password":{"s3cret":"s3cret"}}"#,
        r#"{"identitytoken":5318008}"#,
        r#"{"auth":"s3cret"}"#,
    ] {
        let text = format!(r#"{{"auths":{{"r.example":{row}}}}}"#);
        let (_, wrong) = Contents::parse(text.as_bytes(), Form::Config).unwrap();
        assert_eq!(wrong.len(), 1, "{text}");
        for words in [wrong[0].to_string(), format!("{:?}", wrong[0])] {
            assert!(words.contains("r.example"), "{text}: {words}");
            assert!(!words.contains(secret) && !words.contains("5318008"), "{text}: {words}");
        }
    }
    for text in [
        "",
        " \n",
        "\u{feff}",
        "{}",
        // Docker leaves alone what follows.
        r#"{"auths":{}} and more"#,
        r#"{"AUTHS":{},"CREDSSTORE":null,"credhelpers":{"r":null}}}"#,
        "null",
        "\u{feff}{}",
        r#"{"auths":null,"credHelpers":null}"#,
        r#"{"auths":{},"auths":{},"HttpHeaders":"\ud800"}"#,
    ] {
        Credentials::default().add_text("x", text.as_bytes()).unwrap();
    }
    let mut credentials = Credentials::default();
    credentials.add_text("x", br#"{"auths":{"r":{"auth":"dTpwOnE="}}}"#).unwrap();
    credentials.add_login("y", "r", "u", secret);
    let shown = format!(
        "{credentials:?} {:?} {:?}",
        credentials.for_repository("r", "a"),
        basic("u", secret)
    );
    assert!(shown.contains('x') && !shown.contains("p:q") && !shown.contains(secret), "{shown}");
}

proptest::proptest! {
    /// Whatever a file holds, reading it ends without a panic, and so does a search in it.
    #[test]
    fn any_file(text in "[ -~\\n]{0,200}", bytes: Vec<u8>, key in "[ -~]{0,40}", auth in "[ -~]{0,40}") {
        let row = serde_json::json!({ "auths": { &key: { "auth": auth }, "x": text } });
        for bytes in [text.as_bytes(), &bytes, row.to_string().as_bytes()] {
            let mut credentials = Credentials::default();
            if credentials.add_text("x", bytes).is_ok() {
                credentials.for_repository(&key, &text);
            }
        }
        Key::parse(&key).holds(&Key::parse(&text));
    }
}
