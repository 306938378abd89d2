//! The commands of the README and of `docs`, typed as they stand there: by an ordinary user, or by root where the
//! block is marked `as-root`, in a folder that has what they speak of. Public registries are one on this machine,
//! to which a `registries.conf` leads.
//!
//! (That calls which are not run, in the text, are understood is `docs` in `tests/it`.)

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::shell::{Home, Outcome, run};
use crate::support::content::{Content, multi};
use crate::support::image::{
    Built, Compression, ImageBuilder, OCI_INDEX, OCI_MANIFEST, compress, image_index, sha256,
    write_docker_archive_modern, write_oci_layout,
};
use crate::support::markdown::{Page, handbook, page};
use crate::support::registry::{Referrers, Registry};
use crate::support::tarball::{Entry, tar};
use crate::users::{NOBODY, home_of_nobody};

/// What is not run here, by its first line, and where it is tried.
const NOT_RUN: [(&str, &str); 13] = [
    ("ocifs run debian:12 cat /etc/os-release", "it needs programs: the module `run`"),
    ("sudo apt install ./ocifs_0.1.0_amd64.deb", "it installs: scripts/check-package"),
    (
        "ocifs status --prometheus > /var/lib/node_exporter/ocifs.prom.new",
        "it is another program's folder",
    ),
    (
        "ocifs status --prometheus --listen 127.0.0.1:9750",
        "it does not end: `status::metrics_over_a_socket`",
    ),
    ("cargo install --locked --path .", "it builds: scripts/demo"),
    (
        "apt install ./ocifs_0.1.0_amd64.deb ./ocifs-snapshotter_0.1.0_amd64.deb",
        "it installs services: scripts/check-package",
    ),
    (
        "ocifs-snapshotter --image-service /run/ocifs-snapshotter/images.sock -- --cache-dir /var/cache/ocifs",
        "it does not end: the module `credentials` of `scripts/test --engines`",
    ),
    ("cargo build --release", "it is how these tests are built and run: .ci/run"),
    ("ocifs explore debian:12", "it needs a terminal: the module `explore`"),
    ("ocifs mount docker-daemon:app img", "there is no engine: `oracle stores::docker_daemon`"),
    (
        "ocifs store /var/lib/ocifs/store docker.io/library/debian:12 registry.example/app:1.0",
        "there is no engine: the module `engines` of `oracle`",
    ),
    (
        "touch /var/lib/ocifs/list",
        "there is no engine: `oracle engines::any_image_runs_by_way_of_a_mirror`, the module `mirror`",
    ),
    (
        "podman unshare sh -c 'ocifs store ~/store registry.example/app:1.0 && podman run --rm registry.example/app:1.0'",
        "it needs an engine: `oracle engines::ordinary_users_run_containers_too`",
    ),
];

/// Where commands are typed.
struct Desk {
    home: Home,
    registry: Registry,
}

fn debian(architecture: &str) -> Built {
    let release = "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nID=debian\n";
    let entries = [
        Entry::dir("etc"),
        Entry::file("etc/adduser.conf", "# /etc/adduser.conf\n"),
        Entry::dir("etc/alternatives"),
        Entry::dir("etc/apt"),
        Entry::file("etc/os-release", release),
        Entry::file("etc/architecture", architecture),
        Entry::dir("srv"),
    ];
    let image = ImageBuilder::new().platform("linux", architecture, None);
    image.layer(&tar(&entries), Compression::Gzip).build()
}

fn app(version: &str) -> Built {
    let base = tar(&[
        Entry::dir("srv"),
        Entry::file("srv/app.py", "print('hello')\n"),
        Entry::file("srv/version", "0"),
    ]);
    let stanza = "Package: tool\nStatus: install ok installed\nArchitecture: amd64\n";
    let status = format!("{stanza}Version: {version}\n");
    let upper = [Entry::file("srv/version", version), Entry::file("var/lib/dpkg/status", status)];
    let history = json!([
        { "created": "2026-11-01T00:00:00Z", "created_by": "COPY app.py /srv/" },
        { "created": "2026-11-02T00:00:00Z", "created_by": "RUN make install" },
    ]);
    let image = ImageBuilder::new().config("history", history).config(
        "config",
        json!({
            "Env": [format!("VERSION={version}")],
        }),
    );
    let image = image.layer(&base, Compression::Gzip);
    image.layer(&tar(&upper), Compression::Gzip).build()
}

/// Puts a Helm chart into a registry.
fn chart(registry: &Registry, version: &str, replicas: usize) {
    let config = format!("{{\"name\":\"shop\",\"version\":\"{version}\"}}");
    let files = tar(&[
        Entry::file("shop/Chart.yaml", format!("name: shop\nversion: {version}\n")),
        Entry::file("shop/values.yaml", format!("replicas: {replicas}\n")),
    ]);
    let files = compress(&files, Compression::Gzip);
    let describe = |media_type: &str, bytes: &[u8]| {
        registry.add_blob("charts/shop", &sha256(bytes), bytes);
        json!({ "mediaType": media_type, "digest": sha256(bytes), "size": bytes.len() })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "config": describe("application/vnd.cncf.helm.config.v1+json", config.as_bytes()),
        "layers": [describe("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &files)],
    });
    let manifest = manifest.to_string();
    registry.add_manifest("charts/shop", version, OCI_MANIFEST, manifest.as_bytes());
}

/// Writes a file, or makes a folder if there is no text, that is the user's.
fn own(path: &Path, text: Option<&str>) {
    match text {
        Some(text) => fs::write(path, text).unwrap(),
        None => fs::create_dir_all(path).unwrap(),
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
}

impl Desk {
    fn new() -> Desk {
        let (home, registry) = (home_of_nobody(), Registry::start());
        let both = ["amd64", "arm64"].map(debian);
        let rows = ["amd64", "arm64"].map(|name| json!({ "os": "linux", "architecture": name }));
        for (built, row) in both.iter().zip(&rows) {
            registry.add_image("library/debian", row["architecture"].as_str().unwrap(), built);
        }
        let rows: Vec<(&Built, Value)> = both.iter().zip(rows).collect();
        let (index, _) = image_index(&rows);
        registry.add_manifest("library/debian", "12", OCI_INDEX, &index);
        let (first, second) = (app("1.0"), app("1.1"));
        for repository in ["library/app", "app"] {
            registry.add_image(repository, "1.0", &first);
            registry.add_image(repository, "1.1", &second);
        }
        registry.set_referrers(Referrers::Filtered);
        for (version, replicas) in [("1.2.3", 1), ("1.2.4", 2)] {
            chart(&registry, version, replicas);
        }
        let mut attested = Content::default();
        let (index, _) = multi(&mut attested);
        attested.tag("1.0", &index);
        attested.artifact("application/vnd.example", &index, &[]);
        for repository in ["library/attested", "attested"] {
            attested.serve(&registry, repository);
        }

        let desk = Desk { home, registry };
        let folder = desk.home.path();
        for name in ["desk", "bin"] {
            own(&folder.join(name), None);
        }
        let host = |name| {
            let address = desk.registry.addr();
            format!(
                "[[registry]]\nprefix = \"{name}\"\nlocation = \"{address}\"\ninsecure = true\n"
            )
        };
        let hosts = ["docker.io", "ghcr.io", "registry.example"].map(host).concat();
        own(&folder.join("registries.conf"), Some(&hosts));
        std::os::unix::fs::symlink(folder.join("ocifs"), folder.join("bin/ocifs")).unwrap();
        // What the engine would write.
        let archive = desk.path("app.tar");
        write_docker_archive_modern(&archive, &first, &["app:1.0"]).unwrap();
        let docker = format!("#!/bin/sh\nexec cat '{}'\n", archive.display());
        own(&folder.join("bin/docker"), Some(&docker));
        let layout = desk.path("layout");
        write_oci_layout(&layout, &[(Some("1.0"), &first), (Some("1.1"), &second)]).unwrap();
        desk
    }

    /// Something that lies there.
    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("desk").join(name)
    }

    /// A shell there, with these words.
    fn shell(&self, as_root: bool, script: &str) -> Command {
        const PROLOGUE: &str = "set -eu; cd \"$1\"; PATH=\"$2:$PATH\"; ";
        // What root changes of the machine is seen in a mount namespace of its own alone.
        const OF_ROOT: &str = "mount -t tmpfs tmpfs /srv; mkdir /srv/debian; mount -t tmpfs tmpfs \"$3\"; \
            mkdir \"$3/upper\" \"$3/work\"; export OCIFS_CACHE_DIR=\"$3/cache\"; sbin=$(readlink -f /sbin); \
            mount -t overlay overlay -o \"lowerdir=$sbin,upperdir=$3/upper,workdir=$3/work\" \"$sbin\"; ";
        let mut command = match as_root {
            true => self.home.command_of_root("unshare"),
            false => self.home.command("sh"),
        };
        if as_root {
            command.args(["--mount", "sh"]);
        }
        let of_root = if as_root { OF_ROOT } else { "" };
        command.args(["-c", &format!("{PROLOGUE}{of_root}{script}"), "sh"]);
        let folder = self.home.path();
        command.args(["desk", "bin", "m"].map(|name| folder.join(name)));
        command.env("CONTAINERS_REGISTRIES_CONF", folder.join("registries.conf"));
        command
    }

    /// Runs a block of a page.
    #[track_caller]
    fn run(&self, as_root: bool, script: &str) -> Outcome {
        if !script.contains("mkdir img") {
            own(&self.path("img"), None);
        }
        let outcome = run(&mut self.shell(as_root, script));
        assert_eq!(outcome.code, 0, "{script}\n{outcome:?}");
        outcome
    }

    /// Removes what a script has left.
    fn clear(&self) {
        let left = "ocifs umount --all; ocifs cache clear; rm -rf img upper work merged image.tar";
        run(&mut self.shell(false, left));
        for name in ["img", "upper", "work", "merged"] {
            let _ = fs::remove_dir_all(self.path(name));
        }
        self.home.is_quiet();
    }
}

/// Whether that is tried elsewhere.
fn is_not_run(script: &str) -> bool {
    let first = script.lines().next().unwrap_or_default();
    NOT_RUN.iter().any(|(line, _)| *line == first)
}

#[test]
fn blocks() {
    let desk = Desk::new();
    let mut count = 0;
    for page in handbook() {
        for block in page.blocks() {
            let place = format!("{}:{}", page.path.display(), block.line);
            match (block.language, block.marks) {
                ("sh", "not-run") => assert!(is_not_run(block.text), "{place} is tried nowhere"),
                ("sh", marks @ ("" | "as-root")) => {
                    if block.text.contains("--kernel-metadata") && !crate::kernel_metadata::can() {
                        continue;
                    }
                    desk.run(marks == "as-root", block.text);
                    desk.clear();
                    count += 1;
                }
                ("console", "") => {
                    let (mut script, mut shown) = (String::new(), String::new());
                    for line in block.text.lines() {
                        match line.strip_prefix("$ ") {
                            Some(command) => script.push_str(&format!("{command}\n")),
                            None => shown.push_str(&format!("{line}\n")),
                        }
                    }
                    assert_eq!(desk.run(false, &script).stdout, shown, "{place}");
                    desk.clear();
                    count += 1;
                }
                ("text" | "toml" | "ini", "") => {}
                other => panic!("{place}: {other:?}"),
            }
        }
    }
    assert!(count > 12, "{count} blocks");
}

/// The commands of a row of the README's table, one after the other.
#[test]
fn what_readers_want() {
    let desk = Desk::new();
    let readme = page("README.md");
    let (_, table) = readme.text.split_once("## I want to").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let commands: Vec<&str> = row.split('`').skip(1).step_by(2).collect();
        let commands: Vec<&str> =
            commands.into_iter().filter(|text| text.starts_with("ocifs ")).collect();
        // What it is asked about differs.
        let differs = |text: &str| match text.starts_with("ocifs diff ") {
            true => format!("{text} || test $? = 1"),
            false => text.to_owned(),
        };
        let script = commands.iter().map(|text| differs(text)).collect::<Vec<_>>().join("\n");
        if commands.is_empty() || is_not_run(&script) {
            continue;
        }
        desk.run(false, &script);
        desk.clear();
        count += 1;
    }
    assert!(count > 12, "{count} rows");
}

/// The picture of a session in the README.
#[test]
fn the_recorded_session_is_what_the_program_prints() {
    let home = Home::new();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/record");
    let mut command = home.command("python3");
    command.arg(&script).args(["--check", "--ocifs", env!("CARGO_BIN_EXE_ocifs")]);
    run(&mut command).succeeded();
    home.is_quiet();
}

/// Keys of a document, with `[]` for the members of lists.
fn keys(value: &Value, path: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                keys(value, &below, found);
            }
        }
        Value::Array(list) if list.iter().any(Value::is_object) => {
            let below = if path.is_empty() { String::new() } else { format!("{path}[]") };
            list.iter().for_each(|value| keys(value, &below, found));
        }
        _ => drop(found.insert(path.to_owned())),
    }
}

/// The keys that a section of the page describes: the first column of its tables.
fn described(page: &Page, heading: &str) -> BTreeSet<String> {
    let (_, section) = page.text.split_once(&format!("## `{heading}`\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.map(|line| line.split(" | ").next().unwrap());
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

/// What `--json` prints is what is described, and nothing that is described does not exist.
#[test]
fn documents() {
    let (desk, page) = (Desk::new(), page("docs/json.md"));
    own(&desk.path("img"), None);
    own(&desk.path("several"), None);
    let image =
        desk.run(false, "ocifs mount debian:12 img; ocifs mount a=app:1.0 b=app:1.1 several");
    image.succeeded();
    for (section, commands, elsewhere) in [
        (
            "ocifs ls",
            &["ocifs ls -R --json debian:12 etc", "ocifs find --json debian:12"][..],
            &[][..],
        ),
        (
            "ocifs du",
            &[
                "ocifs du -ac --json debian:12",
                "ocifs du --layers --json app:1.1",
                "ocifs du --check max-wasted=5% --json app:1.1",
            ],
            &[],
        ),
        (
            "ocifs status",
            &["ocifs status --json"],
            // Of mounts that are broken, or another user's, of layers that are wrong or in containerd's store, and of reads that
            // wait or have failed.
            &[
                "error",
                "user",
                "held_by",
                "layers[].error",
                "layers[].store",
                "reads.oldest[].path",
                "reads.oldest[].offset",
                "reads.oldest[].seconds",
                "failed_files[].path",
                "failed_files[].count",
                "failed_files[].last",
                "failed_files[].cause",
            ],
        ),
        (
            "ocifs inspect",
            &["ocifs inspect --json --all registry.example/attested:1.0"],
            // These documents have none.
            &["annotations", "layers[].annotations", "referrers[].annotations"],
        ),
        (
            "ocifs history",
            &["ocifs history --json --all-layers app:1.1"],
            // Of histories that do not fit.
            &["unmatched[]"],
        ),
        ("ocifs which", &["ocifs which --json --all-layers app:1.1 /srv/version /srv/app.py"], &[]),
        (
            "ocifs diff",
            &[
                "ocifs diff --json app:1.0 app:1.1 || test $? = 1",
                "ocifs diff --json --layers --config app:1.0 app:1.1 || test $? = 1",
                "ocifs diff --json --packages app:1.0 app:1.1 || test $? = 1",
            ],
            // Of databases that can't be read.
            &[
                "packages.problems[].image",
                "packages.problems[].manager",
                "packages.problems[].path",
                "packages.problems[].why",
            ],
        ),
        ("ocifs tags", &["ocifs tags --json debian"], &[]),
        ("ocifs attest", &["ocifs attest --json --packages registry.example/attested:1.0"], &[]),
        (
            "ocifs verify",
            &["ocifs verify --json app:1.0"],
            &["layers[].split_view[].path", "layers[].split_view[].what"],
        ),
        (
            "ocifs index",
            &[
                "ocifs index push --json registry.example/app:1.0",
                "ocifs index show --json registry.example/app:1.0",
            ],
            &[],
        ),
        ("ocifs doctor", &["ocifs doctor --json debian:12"], &[]),
        (
            "ocifs cache",
            &[
                "ocifs cache du --json",
                "ocifs cache ls --json",
                "ocifs cache gc --json",
                "ocifs cache verify --json",
                "ocifs cache clear --json",
            ],
            &["damaged[].path", "damaged[].kind", "damaged[].why"],
        ),
    ] {
        let (mut shown, described) = (BTreeSet::new(), described(&page, section));
        for command in commands {
            let outcome = desk.run(false, command);
            for line in outcome.stdout.lines() {
                keys(&serde_json::from_str(line).unwrap(), "", &mut shown);
            }
        }
        assert!(shown.contains("version"), "{section}");
        // Of several images, each has the keys of one.
        let stripped: Vec<String> = shown
            .iter()
            .filter(|_| section == "ocifs status")
            .filter_map(|key| key.strip_prefix("images[]."))
            .map(str::to_owned)
            .collect();
        shown.extend(stripped);
        let covers = |key: &String, shown: &String| {
            let below = shown.strip_prefix(key.as_str());
            below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        let is_described = |shown: &&String| {
            // A list without members is there too.
            let list = format!("{shown}[]");
            ["directory", "version"].contains(&shown.as_str())
                || described.iter().any(|key| covers(key, shown) || key.starts_with(&list))
        };
        let unknown: Vec<_> = shown.iter().filter(|shown| !is_described(shown)).collect();
        assert!(unknown.is_empty(), "{section}: not described: {unknown:?}");
        let is_shown = |key: &&String| shown.iter().any(|shown| covers(key, shown));
        let missing: Vec<_> = described.iter().filter(|key| !is_shown(key)).collect();
        assert_eq!(missing.len(), elsewhere.len(), "{section}: not shown: {missing:?}");
        for key in elsewhere {
            assert!(missing.iter().any(|missing| missing == key), "{section}: {key}: {missing:?}");
        }
    }
    desk.clear();
}
