use proptest::prelude::*;

use super::*;

const SHA: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

#[test]
fn docker_defaults() {
    for (text, expected) in [
        ("debian", "docker.io/library/debian:latest"),
        ("debian:12", "docker.io/library/debian:12"),
        ("foo/bar", "docker.io/foo/bar:latest"),
        ("docker.io/debian", "docker.io/library/debian:latest"),
        ("index.docker.io/debian", "docker.io/library/debian:latest"),
        ("test:5000/repo", "test:5000/repo:latest"),
        ("test:5000/repo:tag", "test:5000/repo:tag"),
        ("localhost/repo", "localhost/repo:latest"),
        ("localhost:5000/a/b/c:x", "localhost:5000/a/b/c:x"),
        ("[fc00::1]:5000/docker", "[fc00::1]:5000/docker:latest"),
        ("[fc00::1]/docker", "[fc00::1]/docker:latest"),
        ("192.168.0.1:8/debian", "192.168.0.1:8/debian:latest"),
        ("192.168.0.1/debian", "192.168.0.1/debian:latest"),
        ("Docker/docker", "Docker/docker:latest"),
        ("dock__er/docker", "docker.io/dock__er/docker:latest"),
        ("d---r/x", "docker.io/d---r/x:latest"),
        ("lowercase:Uppercase", "docker.io/library/lowercase:Uppercase"),
        ("xn--n3h.com/name:x", "xn--n3h.com/name:x"),
        ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080"),
        ("x/a.b_c__d-e--f/g", "docker.io/x/a.b_c__d-e--f/g:latest"),
    ] {
        let reference = text.parse::<Reference>().unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(reference.to_string(), expected, "{text}");
    }
}

#[test]
fn short_names_are_remembered_and_make_no_difference() {
    for (text, short) in [
        ("debian", Some("debian")),
        ("debian:12", Some("debian")),
        ("library/debian", Some("library/debian")),
        ("foo/bar:v1", Some("foo/bar")),
        ("docker.io/debian", None),
        ("index.docker.io/debian", None),
        ("docker://debian", None),
        ("oci://debian", None),
        ("localhost/debian", None),
        ("host:5000/debian", None),
    ] {
        let ImageName::Registry(reference) = text.parse().unwrap() else { panic!("{text}") };
        assert_eq!(reference.short_name(), short, "{text}");
        assert_eq!(reference.at("a", "b").short_name(), None);
    }
    let pinned: Reference = format!("debian:12@{SHA}").parse().unwrap();
    assert_eq!(pinned.short_name(), Some("debian"));
    let (short, full): (Reference, Reference) =
        ("debian".parse().unwrap(), "docker.io/library/debian".parse().unwrap());
    assert_eq!(short, full);
    assert_eq!(short.to_string(), full.to_string());
    assert_eq!(std::collections::HashSet::from([short, full]).len(), 1);
}

#[test]
fn a_digest_beats_a_tag() {
    let reference: Reference = format!("debian:12@{SHA}").parse().unwrap();
    assert_eq!(reference.tag(), None);
    assert_eq!(reference.to_string(), format!("docker.io/library/debian@{SHA}"));
}

#[test]
fn every_wrong_reference_has_its_sentence() {
    let sha_pure = &SHA[7..];
    for (text, words) in [
        ("", "empty"),
        (sha_pure, "looks like an image ID"),
        ("docker/Docker", "must be lowercase"),
        ("Uppercase", "must be lowercase"),
        ("https://github.com/docker/docker", "leave out the scheme"),
        ("-docker/x", "component"),
        ("dock..er/x", "host"),
        ("x/dock..er", "component"),
        ("dock___er/x", "component"),
        ("docker/", "ends with a slash"),
        ("docker//x", "component"),
        ("-docker", "component"),
        ("fc00::1:5000/debian", "host"),
        ("[fe80::1%eth0]:5000/x", "host"),
        ("[fc00::1/x", "host"),
        ("host-.com/x", "host"),
        ("host:99999/x", "host"),
        (":justtag", "no repository name before its tag"),
        ("@sha256:00", "64 lowercase"),
        ("repo:", "without a tag: write `repo` or `repo:TAG`"),
        ("repo@", "without a digest: write `repo` or `repo@sha256:…`"),
        ("ghcr.io", "no image in it: write `ghcr.io/NAME`"),
        ("127.0.0.1:5000/", "no image in it: write `127.0.0.1:5000/NAME`"),
        ("repo:-x", "tag"),
        ("repo@sha256:ffff", "64 lowercase"),
        ("repo@md5:ffff", "not supported"),
        ("ocii:some/path", "unknown transport"),
        ("sif:x", "unknown transport"),
        ("containerd:", "containerd:[ROOT//][NAMESPACE/]IMAGE"),
        ("containerd://x", "containerd:[ROOT//][NAMESPACE/]IMAGE"),
        ("containerd:a b", "containerd:[ROOT//][NAMESPACE/]IMAGE"),
        ("containers-storage:", "containers-storage:[[overlay@ROOT]]IMAGE"),
        ("containers-storage:[x", "containers-storage:[[overlay@ROOT]]IMAGE"),
        ("containers-storage:[overlay@]x", "containers-storage:[[overlay@ROOT]]IMAGE"),
        ("docker-daemon:", "docker-daemon:IMAGE"),
        ("docker-daemon://x", "docker-daemon:IMAGE"),
        ("containers-storage://x", "containers-storage:[[overlay@ROOT]]IMAGE"),
        ("docker-daemon:../x", "host"),
        ("docker-daemon:x?y", "component"),
        ("registry-storage:/a/b:v1", "registry-storage:DIR//NAME[:TAG]"),
        ("registry-storage:/a//", "registry-storage:DIR//NAME[:TAG]"),
        ("registry-storage:/a//../b", "component"),
        ("registry-storage:/a//B:v1", "must be lowercase"),
        ("docker:host.com/x", "docker://host.com/x"),
        ("oci:", "needs a path"),
        ("dir:", "needs a path"),
    ] {
        let error = text.parse::<ImageName>().expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    assert!("a/".repeat(130).trim_end_matches('/').parse::<Reference>().is_err());
    assert!(format!("x:{}", "t".repeat(129)).parse::<Reference>().is_err());
    assert!(format!("x:{}", "t".repeat(128)).parse::<Reference>().is_ok());
    let at = format!("@{SHA}").parse::<Reference>().unwrap_err().to_string();
    assert!(at.contains("no repository name before its digest"), "{at}");
}

#[test]
fn transports() {
    let local = |text: &str| match text.parse::<ImageName>().unwrap() {
        ImageName::Local(l) => (l.layout, l.path.to_str().unwrap().to_owned(), l.selector),
        other => panic!("{text} parsed as {other}"),
    };
    assert_eq!(local("oci:/a/b"), (LocalLayout::OciLayout, "/a/b".into(), None));
    assert_eq!(local("oci:b:v1:x"), (LocalLayout::OciLayout, "b".into(), Some("v1:x".into())));
    let pinned = format!("oci:b@{SHA}");
    assert_eq!(local(&pinned), (LocalLayout::OciLayout, "b".into(), Some(SHA.into())));
    assert_eq!(pinned.parse::<ImageName>().unwrap().to_string(), pinned);
    // As positions are written.
    assert_eq!(local(&format!("oci:b:@{SHA}")), local(&pinned));
    assert_eq!(local("oci:b:@0"), (LocalLayout::OciLayout, "b".into(), Some("@0".into())));
    assert_eq!(local("oci-archive:x.tar"), (LocalLayout::OciArchive, "x.tar".into(), None));
    assert_eq!(
        local("docker-archive:x.tar:app:v1"),
        (LocalLayout::DockerArchive, "x.tar".into(), Some("app:v1".into()))
    );
    assert_eq!(local("dir:/x:y"), (LocalLayout::Dir, "/x:y".into(), None));
    for text in ["docker://debian", "oci://docker.io/debian", "docker.io/debian"] {
        let name: ImageName = text.parse().unwrap();
        assert_eq!(name.to_string(), "docker.io/library/debian:latest");
    }
    assert!(matches!("docker:27".parse::<ImageName>().unwrap(), ImageName::Registry(_)));
    assert!(matches!("host:5000/x".parse::<ImageName>().unwrap(), ImageName::Registry(_)));
}

#[test]
fn stores() {
    let hex = &SHA[7..];
    for (text, expected) in [
        ("containerd:debian:12".to_owned(), None),
        ("containerd:k8s.io/docker.io/library/debian:12".to_owned(), None),
        ("containerd:/a/b//k8s.io/debian@sha256:00".to_owned(), None),
        ("containers-storage:debian".to_owned(), None),
        (
            "containers-storage:[overlay@/s+/run/s:overlay.x=y]localhost/app:v1".to_owned(),
            Some("containers-storage:[/s]localhost/app:v1"),
        ),
        ("containers-storage:[/s]x".to_owned(), None),
        (
            "containers-storage:[vfs@/s+/run:vfs.imagestore=/a,vfs.x=y,vfs.imagestore=/b]x"
                .to_owned(),
            Some("containers-storage:[/s:overlay.imagestore=/a,overlay.imagestore=/b]x"),
        ),
        ("docker-daemon:app".to_owned(), Some("docker-daemon:docker.io/library/app:latest")),
        (format!("docker-daemon:{hex}"), None),
        (format!("docker-daemon:{SHA}"), None),
        ("docker-daemon:sha256:e3b0c442".to_owned(), None),
        ("registry-storage:/data//team/app:v1".to_owned(), None),
        ("registry-storage:data//app".to_owned(), Some("registry-storage:data//app:latest")),
        (format!("registry-storage:/data//app:v1@{SHA}"), None),
    ] {
        let name: ImageName = text.parse().unwrap_or_else(|e| panic!("{text}: {e}"));
        let expected = expected.map_or(text.replace("app:v1@", "app@"), str::to_owned);
        assert_eq!(name.to_string(), expected);
        assert!(matches!(name, ImageName::Stored(_)));
        assert_eq!(expected.parse::<ImageName>().unwrap(), name);
    }
}

proptest! {
    /// Whatever is typed is refused or means one thing, which can be written down and read back.
    #[test]
    fn what_is_read_can_be_written(
        transport in prop::sample::select(vec![
            "", "docker://", "oci:", "oci-archive:", "docker-archive:", "dir:", "containerd:",
            "containers-storage:", "docker-daemon:", "registry-storage:", "./", "/", "-",
        ]),
        rest in "([a-zA-Z0-9./:@_\\[\\]+-]|sha256:|//|\\PC){0,40}",
    ) {
        if let Ok(name) = format!("{transport}{rest}").parse::<ImageName>() {
            let again = name.to_string().parse::<ImageName>();
            prop_assert_eq!(again.as_ref(), Ok(&name), "{}", name);
            let _ = name.directory_name();
        }
    }
}

/// What is read without the host of Docker Hub is printed with it, and is no page of it then.
#[test]
fn images_of_docker_hub_that_look_like_pages() {
    for text in
        ["r/library/debian:12", "index.docker.io/r/a/b", "v2/a/tags/b", "v2/a/manifests/b:1"]
    {
        let name: ImageName = text.parse().unwrap();
        assert_eq!(name.to_string().parse(), Ok(name), "{text}");
    }
    let tag = format!("v2/a/manifests/sha256:{}", "0".repeat(64));
    let name: ImageName = tag.parse().unwrap();
    assert_eq!(name.to_string().parse(), Ok(name));
    assert!("docker.io/r/grafana/loki".parse::<ImageName>().is_err());
}

/// With the `library/` that is left out where an image of Docker Hub is named.
#[test]
fn the_longest_repository_can_be_printed_and_read() {
    let longest = "a".repeat(255 - "library/".len());
    let name: ImageName = longest.parse().unwrap();
    assert_eq!(name.to_string().parse(), Ok(name));
    let longer = format!("{longest}a").parse::<ImageName>();
    assert!(matches!(longer, Err(ParseError::TooLong { .. })), "{longer:?}");
}

#[test]
fn names_of_directories() {
    let name = |text: &str| {
        let image: ImageName = text.parse().unwrap();
        image.directory_name().map(|name| name.to_string())
    };
    let digest = format!("x.example/a/app:v1@{SHA}");
    let long = format!("oci:/{}:v1", "x".repeat(255));
    for (text, expected) in [
        ("debian", Some("debian-latest")),
        ("127.0.0.1:5000/team/python-app:v1", Some("python-app-v1")),
        (&digest, Some("app-e3b0c44298fc")),
        ("oci:/path/to/app:v1", Some("app-v1")),
        ("oci:/path/to/app/", Some("app")),
        ("oci:a=b:v1", Some("a=b-v1")),
        ("oci:app@sha256:abc", Some("app-sha256-abc")),
        ("docker-archive:app.tar:localhost/team/app:v1", Some("app.tar-localhost-team-app-v1")),
        ("containerd:k8s.io/app:v1", Some("app-v1")),
        ("docker-daemon:sha256:e3b0c442", Some("sha256-e3b0c442")),
        ("registry-storage:/data//team/app:v1", Some("app-v1")),
        ("dir:app", Some("app")),
        ("dir:.", None),
        ("oci:..:v1", None),
        ("dir:/", None),
        (&long, None),
    ] {
        assert_eq!(name(text).as_deref(), expected, "{text}");
    }
    for bad in ["", ".", "..", "a/b", "a\0b", &"x".repeat(256)] {
        assert!(bad.parse::<DirectoryName>().is_err(), "{bad:?}");
    }
    assert!("...".parse::<DirectoryName>().is_ok());
}

/// A slip is told together with what was meant, and costs no question to Docker Hub.
#[test]
fn slips_are_told_with_what_was_meant() {
    let hex = &SHA[7..];
    for (text, words) in [
        ("OCI:x", "write `oci:x`"),
        ("Docker-Archive:x.tar", "write `docker-archive:x.tar`"),
        ("DOCKER://debian", "write `docker://debian`"),
        ("Oci://ghcr.io/a/b", "write `oci://ghcr.io/a/b`"),
        ("docker-archve:x.tar", "write `docker-archive:x.tar`"),
        ("docker-archvie:x.tar:a:b", "write `docker-archive:x.tar:a:b`"),
        ("dokcer-archive:/x.tar", "write `docker-archive:/x.tar`"),
        ("oci-archiv:x.tar", "write `oci-archive:x.tar`"),
        ("container-storage:app", "write `containers-storage:app`"),
        ("docker-deamon:app:v1", "write `docker-daemon:app:v1`"),
        ("containerd-store:a/b", "unknown transport"),
        ("oic:./x", "write `oci:./x`"),
        ("oci-layout://a/b", "write `oci:a/b`"),
        ("oci-dir:a", "write `oci:a`"),
        ("file:///x.tar", "write `/x.tar`"),
        ("file://x.tar", "write `./x.tar`"),
        ("docker-image://debian", "write `docker://debian`"),
        ("docker:/ghcr.io/a/b", "write `docker://ghcr.io/a/b`"),
        ("docker:ghcr.io/a/b", "write `docker://ghcr.io/a/b`"),
        ("ghcr.io", "write `ghcr.io/NAME`"),
        ("ghcr.io/", "write `ghcr.io/NAME`"),
        ("docker://quay.io", "write `quay.io/NAME`"),
        ("registry.example.com:5000", "write `registry.example.com:5000/NAME`"),
        ("localhost:5000", "write `localhost:5000/NAME`"),
        ("127.0.0.1:5000", "write `127.0.0.1:5000/NAME`"),
        ("debian/", "an image would be `debian`, a folder here `./debian/`"),
        ("ghcr.io/a/b:v1/", "`ghcr.io/a/b:v1/`"),
        ("debian:", "write `debian` or `debian:TAG`"),
        ("ghcr.io/a/b@", "write `ghcr.io/a/b`"),
        ("debian:/etc/passwd", "`debian /etc/passwd`"),
        ("debian:12:/etc", "`debian:12 /etc`"),
        ("localhost:5000/a:v1:/", "`localhost:5000/a:v1 /`"),
        (SHA, "looks like an image ID"),
        ("sha256:e3b0c44298fc", "looks like an image ID"),
        ("e3b0c44298fc", "`containers-storage:…`"),
        (hex, "`docker-daemon:sha256:…`"),
        ("Debian:12", "`debian:12`"),
        ("ghcr.io/Org/App:V1", "`ghcr.io/org/app:V1`"),
        ("https://ghcr.io/a/b:v1", "write only `ghcr.io/a/b:v1`"),
        ("https://hub.docker.com/_/debian", "the image is `debian`"),
        ("hub.docker.com/_/debian/tags", "the image is `debian`"),
        ("https://hub.docker.com/r/grafana/loki/tags?page=1", "the image is `grafana/loki`"),
        ("http://www.hub.docker.com/r/grafana/loki/", "the image is `grafana/loki`"),
        ("docker.io/_/debian", "the image is `debian`"),
        (
            "https://hub.docker.com/layers/library/debian/12/images/sha256-ab?context=explore",
            "the image is `debian:12`",
        ),
        (
            "https://hub.docker.com/layers/grafana/loki/3.0/images/sha256-ab",
            "the image is `grafana/loki:3.0`",
        ),
        ("hub.docker.com/repository/docker/a/b/general", "the image is `a/b`"),
        (
            "quay.io/repository/podman/stable?tab=tags&tag=v5",
            "the image is `quay.io/podman/stable:v5`",
        ),
        ("https://quay.io/repository/podman/stable", "the image is `quay.io/podman/stable`"),
        ("https://github.com/Owner/repo/pkgs/container/app", "the image is `ghcr.io/owner/app`"),
        (
            "https://github.com/o/r/pkgs/container/r%2Fapp/1234567?tag=v1",
            "the image is `ghcr.io/o/r/app:v1`",
        ),
        ("github.com/orgs/o/packages/container/package/app", "the image is `ghcr.io/o/app`"),
        ("github.com/users/o/packages/container/app/versions", "the image is `ghcr.io/o/app`"),
        ("https://gallery.ecr.aws/nginx/nginx", "the image is `public.ecr.aws/nginx/nginx`"),
        (
            "https://mcr.microsoft.com/en-us/product/dotnet/sdk/about",
            "the image is `mcr.microsoft.com/dotnet/sdk`",
        ),
        ("https://gitlab.com/g/p/container_registry/12", "the image is `registry.gitlab.com/g/p`"),
        ("https://gitlab.com/g/p/-/container_registry", "the image is `registry.gitlab.com/g/p`"),
        ("https://r.example/v2/a/b/manifests/v1", "the image is `r.example/a/b:v1`"),
        ("https://github.com/docker/docker", "leave out the scheme"),
        ("https://example.com/?q", "host/name:tag"),
    ] {
        let error = text.parse::<ImageName>().expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
    // What looks almost like one of these and is not.
    for text in [
        "registry:2",
        "sha256:latest",
        "docker:27",
        "python3.11",
        "foo_bar.com:8080",
        "host:5000/x",
        "quay.io/podman/stable",
        "github.com/a/b",
        "ocis:latest",
        "dirs",
        "quay.io/repository/a",
        "deadbeefcafe",
        "app.tar",
        "localhost/x",
        "containers/storage:v1",
        "file",
        "file:1.0",
        "mcr.microsoft.com/a",
    ] {
        let parsed = text.parse::<ImageName>();
        assert!(matches!(parsed, Ok(ImageName::Registry(_))), "{text}: {parsed:?}");
    }
}

#[test]
fn paths_alone() {
    for (text, path, selector) in [
        ("./x.tar", "./x.tar", None),
        ("../x:v1", "../x", Some("v1")),
        ("/srv/layout/", "/srv/layout/", None),
        ("/srv/a:1.0:b:v1", "/srv/a", Some("1.0:b:v1")),
        ("~/x.tar.gz", "~/x.tar.gz", None),
        (".", ".", None),
        ("..", "..", None),
        (".:v1", ".", Some("v1")),
        ("-", "-", None),
        ("-:app:v1", "-", Some("app:v1")),
        ("/", "/", None),
        (&format!("./x@{SHA}"), "./x", Some(SHA)),
    ] {
        let ImageName::Local(local) = text.parse().unwrap() else { panic!("{text}") };
        assert_eq!(local.layout, LocalLayout::ByContent);
        assert_eq!(local.path.to_str(), Some(path), "{text}");
        assert_eq!(local.selector.as_deref(), selector, "{text}");
        assert_eq!(local.to_string(), text);
        assert_eq!(local.is_standard_input(), text.starts_with('-'));
        assert!(!local.is_bare());
    }
    for text in ["-x", "-/x", "...", ".../x", ".x", "~x/y"] {
        assert!(text.parse::<ImageName>().is_err(), "{text}");
    }
    for text in ["docker-archive:-", "docker-archive:/dev/stdin", "oci-archive:/dev/fd/0", "-"] {
        let ImageName::Local(local) = text.parse().unwrap() else { panic!("{text}") };
        assert!(local.is_standard_input(), "{text}");
    }
    for text in ["./-", "oci:-", "dir:-", "/dev/fd/63"] {
        let ImageName::Local(local) = text.parse().unwrap() else { panic!("{text}") };
        assert!(!local.is_standard_input(), "{text}");
    }
    let bare = LocalSource::bare("build/app.tar:v1");
    assert!(bare.is_bare() && bare.has_archive_name());
    assert_eq!(bare.to_string(), "./build/app.tar:v1");
    assert_eq!(bare.readings().last(), Some(&bare));
}

#[test]
fn a_path_with_colons_has_several_readings() {
    let readings = |text: &str| {
        let ImageName::Local(local) = text.parse().unwrap() else { panic!("{text}") };
        let readings = local.readings().into_iter();
        let pair = |r: LocalSource| (r.path.to_str().unwrap().to_owned(), r.selector);
        readings.map(pair).collect::<Vec<_>>()
    };
    let pair = |path: &str, selector: &str| {
        (path.to_owned(), Some(selector.to_owned()).filter(|s| !s.is_empty()))
    };
    assert_eq!(readings("oci:x"), [pair("x", "")]);
    assert_eq!(
        readings("docker-archive:./u:22.04.tar:u:22.04"),
        [
            pair("./u:22.04.tar:u:22.04", ""),
            pair("./u:22.04.tar:u", "22.04"),
            pair("./u:22.04.tar", "u:22.04"),
            pair("./u", "22.04.tar:u:22.04"),
        ]
    );
    assert_eq!(readings("dir:a:b"), [pair("a:b", "")]);
    let pinned = readings(&format!("./a:1@{SHA}"));
    assert!(pinned.contains(&pair("./a:1", SHA)), "{pinned:?}");
    assert!(pinned.contains(&pair("./a", &format!("1@{SHA}"))), "{pinned:?}");
}

/// A row of the table, and what stands behind its colon in a name of that form.
#[test]
fn each_transport_is_shown_with_its_word() {
    let digest = "ab".repeat(32);
    for transport in TRANSPORTS {
        let Transport { word, form, .. } = transport;
        assert!(form.starts_with(&format!("{word}:")), "{form}");
        let text = match word {
            "registry-storage" => format!("{word}:/srv/registry//app:1"),
            "docker-daemon" => format!("{word}:sha256:{digest}"),
            _ => format!("{word}:app"),
        };
        let name: ImageName = text.parse().unwrap();
        assert_eq!(name.to_string(), text);
        assert!(!matches!(name, ImageName::Registry(_)), "{text}");
        let error = format!("{word}:").parse::<ImageName>().unwrap_err().to_string();
        assert!(error.contains(&format!("`{word}:`")), "{error}");
    }
}

#[test]
fn unknown_transports_are_told_which_there_are() {
    let error = "ostree:/srv/repo".parse::<ImageName>().unwrap_err().to_string();
    for transport in TRANSPORTS {
        assert!(error.contains(&format!(" {}:", transport.word)), "{error}");
    }
}
