//! Programs that keep passwords: those that answer, and all the ways in which they do not.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ocifs::image::ImageOptions;
use ocifs::source::registry::{Credential, Credentials, Found, RegistryOptions};
use serde_json::json;

use crate::fixture::{GOOD, Sandbox, Verdict, fails, good, name_in, open, opens, options, read};
use crate::logs;
use crate::shell::{Home, run};
use crate::support::registry::{Fault, Registry, Times};

const SECRET: &str = "s3cret-of-a-helper";

/// Longer than any helper here needs that is not meant to be slow.
const LIMIT: Duration = Duration::from_secs(10);

/// Puts a helper into a folder; what it is asked for is appended to the file `asked` there.
fn install(folder: &Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    // Written by a process of its own: one that is open for writing here could not be started.
    let mut shell = Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(&path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let text = format!(
        "#!/bin/sh\nread server\necho \"$1 $server\" >> '{}'\n{script}\n",
        folder.join("asked").display()
    );
    shell.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(shell.wait().unwrap().success());
}

fn asked(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("asked")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn credentials(folder: &Path, config: serde_json::Value, limit: Duration) -> Credentials {
    let mut credentials = Credentials::default();
    credentials.add_text("config.json", config.to_string().as_bytes()).unwrap();
    credentials.set_helpers(vec![PathBuf::from("relative"), folder.to_owned()], Some(limit));
    credentials
}

fn answer(user: &str, secret: &str) -> String {
    format!("echo '{}'", json!({ "ServerURL": "x", "Username": user, "Secret": secret }))
}

/// What is found for the repository `r.example/a`.
fn ask(folder: &Path, limit: Duration) -> Found {
    let config = json!({ "credHelpers": { "r.example": "test" } });
    credentials(folder, config, limit).for_repository("r.example", "a")
}

#[test]
fn answers_of_helpers() {
    logs::install();
    let basic = |user: &str, password: &str| {
        Some(Credential::Basic { user: user.to_owned(), password: password.to_owned() })
    };
    let (token, long) = ("identity".to_owned(), "x".repeat(100_000));
    let identity = Some(Credential::IdentityToken { user: None, token });
    let rows: Vec<(&str, String, Option<Credential>, &str)> = vec![
        ("it answers", answer("u", "p"), basic("u", "p"), ""),
        ("a token", answer("<token>", "identity"), identity, ""),
        ("a long secret", answer("u", &long), basic("u", &long), ""),
        (
            "more after it",
            format!("{}; echo; echo update available", answer("u", "p")),
            basic("u", "p"),
            "",
        ),
        (
            "repeated and other names",
            r#"echo '{"username":"x","Username":"u","SECRET":"p","More":[{"Secret":1}]}'"#.into(),
            basic("u", "p"),
            "",
        ),
        ("nothing inside", answer("", ""), None, "has none"),
        (
            "none, on stdout",
            "echo 'credentials not found in native keychain'; exit 1".into(),
            None,
            "has none",
        ),
        (
            "none, on stderr",
            "echo 'Error: Credentials not found' >&2; exit 3".into(),
            None,
            "has none",
        ),
        (
            "a reason",
            "echo noise; echo 'the keychain is locked' >&2; exit 2".into(),
            None,
            "the keychain is locked",
        ),
        ("a reason on stdout", "echo 'no such profile'; exit 1".into(), None, "no such profile"),
        ("no words", "exit 7".into(), None, "status: 7"),
        (
            "names in another case, and null",
            r#"printf '\357\273\277{"serverurl":5,"USERNAME":null,"sEcret":"p"}}'"#.into(),
            basic("", "p"),
            "",
        ),
        ("null", "echo null".into(), None, "has none"),
        ("no JSON", format!("echo {SECRET}"), None, "its answer is not"),
        ("a text", format!("echo '\"{SECRET}\"'"), None, "its answer is not"),
        ("a list", format!("echo '[\"{SECRET}\"]'"), None, "its answer is not"),
        (
            "a secret that is a list",
            format!("echo '{{\"Username\":\"u\",\"Secret\":[\"{SECRET}\"]}}'"),
            None,
            "its answer is not",
        ),
        (
            "a secret that is a map",
            format!("echo '{{\"Username\":\"u\",\"Secret\":{{\"{SECRET}\":1}}}}'"),
            None,
            "its answer is not",
        ),
        (
            "a secret that is a number",
            r#"echo '{"Username":"u","Secret":5318008}'"#.into(),
            None,
            "its answer is not a user name and a secret in JSON)",
        ),
        ("half of it", format!("echo '{{\"Secret\":\"{SECRET}'"), None, "its answer is not"),
        ("failing with a secret", format!("{}; exit 1", answer("u", SECRET)), None, "it failed"),
        ("failing with a bare one", format!("echo {SECRET}; exit 1"), None, "it failed"),
        ("no words at all", String::new(), None, "its answer is not"),
        ("killed", "kill -9 $$".into(), None, "signal: 9"),
        (
            "control characters",
            "printf 'red \\033[31m text\\n' >&2; exit 1".into(),
            None,
            "red [31m text",
        ),
        (
            "endless",
            "while :; do echo 'for ever and ever' || exit 1; done".into(),
            None,
            "it failed",
        ),
        ("endless errors", "yes 'it is wrong' >&2; exit 1".into(), None, "it failed"),
    ];
    let mut verdict = Verdict::default();
    for (what, script, credential, words) in rows {
        let folder = tempfile::tempdir().unwrap();
        install(folder.path(), "test", &script);
        let found = ask(folder.path(), LIMIT);
        let told = found.searched.join("\n");
        let result = match found.credential == credential && told.contains(words) {
            true if !told.contains(SECRET) && !told.contains('\x1b') => Ok(()),
            _ => Err(format!("`{words}` is not in `{told}`, or the credential is wrong")),
        };
        verdict.row(what, result);
        assert_eq!(asked(folder.path()), ["get r.example"], "{what}");
    }
    verdict.end();
    assert_eq!(logs::with(SECRET), Vec::<String>::new());
}

#[test]
fn helpers_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let told = |name: &str| {
        let config = json!({ "credHelpers": { "r.example": name } });
        let found = credentials(folder.path(), config, LIMIT).for_repository("r.example", "a");
        assert_eq!(found.credential, None);
        found.searched.join("\n")
    };
    fs::create_dir(folder.path().join("docker-credential-folder")).unwrap();
    fs::write(folder.path().join("docker-credential-plain"), "#!/bin/sh\n").unwrap();
    fs::create_dir(folder.path().join("docker-credential-x")).unwrap();
    install(folder.path(), "real", &answer("u", "p"));
    for name in ["missing", "folder", "plain", "x/../docker-credential-real", "real\0", " "] {
        assert!(told(name).contains("no such program"), "{name}: {}", told(name));
    }
    // One that the system can't run.
    let broken = folder.path().join("docker-credential-broken");
    fs::write(&broken, "#!/no/such/interpreter\n").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o755)).unwrap();
    assert!(told("broken").contains("it can't be started"), "{}", told("broken"));
}

/// A helper that does not come back is ended, and one that leaves a child behind is not waited for.
#[test]
fn helpers_that_hang() {
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "test", "echo $$ > \"$0.pid\"; exec sleep 60");
    let started = Instant::now();
    let found = ask(folder.path(), Duration::from_secs(2));
    assert!(found.searched.join("\n").contains("no answer within"), "{found:?}");
    let pid = fs::read_to_string(folder.path().join("docker-credential-test.pid")).unwrap();
    let process = PathBuf::from(format!("/proc/{}", pid.trim()));
    assert!(!process.exists(), "it was killed, and is no zombie");
    install(folder.path(), "test", &format!("sleep 60 & {}", answer("u", "p")));
    let found = ask(folder.path(), LIMIT);
    assert!(found.credential.is_some(), "{found:?}");
    assert!(started.elapsed() < Duration::from_secs(40), "{:?}", started.elapsed());
}

/// Which of a file's entries counts when there are helpers, and what they are asked for.
#[test]
fn helpers_beside_entries() {
    let entry = |user: &str| json!({ "username": user, "password": "p" });
    let rows = [
        // One for the registry is exclusive.
        (
            json!({ "credHelpers": { "r.example": "yes" }, "auths": { "r.example": entry("row") } }),
            "helper",
        ),
        (
            json!({ "credHelpers": { "r.example": "no" }, "auths": { "r.example": entry("row") } }),
            "none",
        ),
        (json!({ "credHelpers": { "r.example": "no" }, "credsStore": "yes" }), "none"),
        (json!({ "credHelpers": { "https://r.example/v1/": "yes" } }), "helper"),
        (
            json!({ "credHelpers": { "other.example": "yes" }, "auths": { "r.example": entry("row") } }),
            "row",
        ),
        (
            json!({ "credHelpers": { "r.example": "" }, "auths": { "r.example": entry("row") } }),
            "row",
        ),
        // Helpers are for registries, not for parts of them.
        (
            json!({ "credHelpers": { "r.example/a": "yes" }, "auths": { "r.example": entry("row") } }),
            "row",
        ),
        // One for all comes before the registry's entry, and after that of a part of it.
        (json!({ "credsStore": "yes", "auths": { "r.example": {} } }), "helper"),
        (json!({ "credsStore": "yes", "auths": { "r.example": entry("row") } }), "helper"),
        (json!({ "credsStore": "yes" }), "helper"),
        (json!({ "credsStore": "no", "auths": { "r.example": entry("row") } }), "row"),
        (json!({ "credsStore": "bad", "auths": { "r.example": entry("row") } }), "row"),
        (json!({ "credsStore": "missing", "auths": { "r.example": entry("row") } }), "row"),
        (json!({ "credsStore": "yes", "auths": { "r.example/a": entry("row") } }), "row"),
        (json!({ "credsStore": "no" }), "none"),
    ];
    let folder = tempfile::tempdir().unwrap();
    install(folder.path(), "yes", &answer("helper", "p"));
    install(folder.path(), "no", "echo credentials not found in native keychain; exit 1");
    install(folder.path(), "bad", "exit 1");
    for (config, expected) in rows {
        let found =
            credentials(folder.path(), config.clone(), LIMIT).for_repository("r.example", "a/b");
        let user = match found.credential {
            Some(Credential::Basic { user, .. }) => user,
            _ => "none".to_owned(),
        };
        assert_eq!(user, expected, "{config}");
    }
    // What one has not, the next place may have.
    let mut both = credentials(folder.path(), json!({ "credsStore": "no" }), LIMIT);
    let second = json!({ "auths": { "r.example": entry("second") } });
    both.add_text("second", second.to_string().as_bytes()).unwrap();
    assert_eq!(both.for_repository("r.example", "a").source.as_deref(), Some("second"));
    // Docker's name for the Hub, then podman's.
    fs::remove_file(folder.path().join("asked")).unwrap();
    let hub = credentials(folder.path(), json!({ "credsStore": "no" }), LIMIT);
    hub.for_repository("docker.io", "library/x");
    let expected = ["get https://index.docker.io/v1/", "get docker.io"];
    assert_eq!(asked(folder.path()), expected);
}

/// The usual options, with a helper for this registry.
fn with_helper(folder: &Path, registry: &Registry) -> ImageOptions {
    let config = json!({ "credHelpers": { registry.addr().to_string(): "test" } });
    let credentials = credentials(folder, config, LIMIT);
    let usual = options();
    ImageOptions { registry: RegistryOptions { credentials, ..usual.registry }, ..usual }
}

/// A helper is run when a registry asks for credentials, and not before.
#[test]
fn helpers_run_when_they_are_needed() {
    let (sandbox, registry) = (Sandbox::new(), Registry::start());
    registry.add_image("r", "t", &good());
    install(sandbox.path(), "test", &answer("me", SECRET));
    let options = with_helper(sandbox.path(), &registry);
    opens(&sandbox, &name_in(&registry), &options).unwrap();
    assert!(asked(sandbox.path()).is_empty());
    for require in [(|r: &Registry| r.require_basic("me", SECRET)) as fn(&Registry), |r| {
        r.require_bearer(Some(("me", SECRET)))
    }] {
        require(&registry);
        let sandbox = Sandbox::new();
        install(sandbox.path(), "test", &answer("me", SECRET));
        let options = with_helper(sandbox.path(), &registry);
        opens(&sandbox, &name_in(&registry), &options).unwrap();
        assert_eq!(asked(sandbox.path()), [format!("get {}", registry.addr())]);
    }
    // What the helper says about itself is in the error.
    install(sandbox.path(), "test", "echo 'the vault is sealed' >&2; exit 1");
    let options = with_helper(sandbox.path(), &registry);
    let words = ["access denied (401)", "docker-credential-test", "the vault is sealed"];
    fails(&Sandbox::new(), &name_in(&registry), &options, &words).unwrap();
    assert_eq!(logs::with(SECRET), Vec::<String>::new());
}

/// Passwords of some clouds end after hours: a mount that is older asks for the next one, whichever
/// way the registry tells it.
#[test]
fn helpers_run_again_when_a_password_has_ended() {
    let bare = Fault::Status(403, Vec::new(), Vec::new());
    type Require = fn(&Registry, &str);
    let basic: Require = |registry, password| registry.require_basic("me", password);
    let bearer: Require = |registry, password| registry.require_bearer(Some(("me", password)));
    let rows: [(&str, Require, Option<Fault>); 3] = [
        ("Basic", basic, None),
        ("Basic, told by 403", basic, Some(bare)),
        ("Bearer", bearer, None),
    ];
    for (what, require, fault) in rows {
        let (sandbox, registry) = (Sandbox::new(), Registry::start());
        registry.add_image("r", "t", &good());
        require(&registry, "first");
        install(sandbox.path(), "test", &answer("me", "first"));
        let options = with_helper(sandbox.path(), &registry);
        let image = open(&name_in(&registry), &sandbox.cache(), &options).unwrap();
        fs::remove_dir_all(sandbox.path().join("cache/v1/spans")).unwrap();
        install(sandbox.path(), "test", &answer("me", "second"));
        match fault {
            Some(fault) => {
                // The old password is still taken by the test's registry, but for the fault.
                registry.fault(("GET", "/blobs/", Times::First(1)), fault);
                assert!(read(&image, "f").is_err_and(|e| e.contains("401")), "{what}");
                require(&registry, "second");
            }
            None => {
                require(&registry, "second");
                registry.revoke_tokens();
            }
        }
        assert_eq!(read(&image, "f").unwrap(), GOOD, "{what}");
        assert_eq!(asked(sandbox.path()).len(), 2, "{what}");
    }
}

/// The list of helpers in `registries.conf` (containers-registries.conf(5)), and the place of the files
/// of logins in it.
#[test]
fn helpers_of_registries_conf() {
    let registry = Registry::start();
    registry.add_image("r", "t", &good());
    registry.require_basic("helper", SECRET);
    let (name, host) = (name_in(&registry), registry.addr().to_string());
    // What is listed, whose login the file has, who is sent first, and what a denial tells.
    let rows: [(&str, &str, &str, &[&str]); 11] = [
        ("['yes']", "nobody", "helper", &[]),
        ("['yes']", "other", "helper", &[]),
        ("['yes', 'containers-auth.json']", "other", "helper", &[]),
        ("['missing', 'no', 'yes']", "nobody", "helper", &[]),
        ("['containers-auth.json', 'yes']", "nobody", "helper", &[]),
        ("['containers-auth.json', 'yes']", "other", "other", &["config.json are not accepted"]),
        ("['no', 'containers-auth.json', 'yes']", "helper", "helper", &[]),
        // Docker does not know the list.
        ("['no']", "helper", "helper", &[]),
        ("[]", "helper", "helper", &[]),
        ("[]", "nobody", "", &["config.json"]),
        (
            "['missing', 'no', '../yes']",
            "nobody",
            "",
            &[
                "docker-credential-missing (there is no such program in $PATH)",
                "docker-credential-no (has none)",
                "docker-credential-../yes (there is no such program in $PATH)",
                "/.config/containers/auth.json (not there)",
                "/.docker/config.json",
            ],
        ),
    ];
    let mut verdict = Verdict::default();
    for drop_in in [false, true] {
        for (list, in_file, sent, words) in rows {
            let home = Home::new();
            let below = |name: &str| home.path().join("home").join(name);
            let conf = match drop_in {
                true => ".config/containers/registries.conf.d/10.conf",
                false => ".config/containers/registries.conf",
            };
            for folder in ["bin", ".config/containers/registries.conf.d", ".docker"] {
                fs::create_dir_all(below(folder)).unwrap();
            }
            install(&below("bin"), "yes", &answer("helper", SECRET));
            install(&below("bin"), "no", "echo credentials not found in native keychain; exit 1");
            fs::write(below(conf), format!("credential-helpers = {list}\n")).unwrap();
            let login = json!({ "username": in_file, "password": SECRET });
            let auths = if in_file == "nobody" { json!({}) } else { json!({ &host: login }) };
            fs::write(below(".docker/config.json"), json!({ "auths": auths }).to_string()).unwrap();
            registry.clear_log();
            let path = format!("{}:/usr/bin:/bin", below("bin").display());
            let outcome = run(home.ocifs(&["cat", &name, "f"]).env("PATH", path));
            let what = format!("{list}, {in_file}, drop-in: {drop_in}");
            let expected = if sent == "helper" { 0 } else { 1 };
            let is_told = words.iter().all(|word| outcome.stderr.contains(word));
            let is_right = outcome.code == expected && is_told;
            verdict.row(&what, is_right.then_some(()).ok_or(format!("{outcome:?}")));
            let requests = registry.requests();
            let first = requests.iter().find_map(|request| request.authorization.clone());
            use base64::Engine as _;
            let basic = |user: &str| {
                let login = format!("{user}:{SECRET}");
                format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(login))
            };
            let expected = (!sent.is_empty()).then(|| basic(sent));
            verdict.row(&what, (first == expected).then_some(()).ok_or(format!("{requests:?}")));
        }
    }
    verdict.end();
    // What the user says on the spot comes before them.
    let home = Home::new();
    let folder = home.path().join("home/.config/containers");
    fs::create_dir_all(&folder).unwrap();
    install(&folder, "yes", &answer("wrong", "wrong"));
    fs::write(folder.join("registries.conf"), "credential-helpers = ['yes']\n").unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    let login = format!("helper:{SECRET}");
    let outcome = run(home.ocifs(&["cat", "--creds", &login, &name, "f"]).env("PATH", path));
    assert_eq!(outcome.code, 0, "{outcome:?}");
    assert!(asked(&folder).is_empty(), "no helper was needed");
}
