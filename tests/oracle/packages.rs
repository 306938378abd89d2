//! What is read of databases of packages is what their owners list: rpm, dpkg and Python, each asked about a folder that
//! it filled itself, of which an image is made.
//!
//! SQLite's own shell changes rpm's databases in every way that it has. Berkeley DB's loader writes the ones of older
//! releases, out of the same headers, and rpm still reads them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ocifs::cache::Cache;
use ocifs::image::{Image, ImageOptions};
use ocifs::layer::Quiet;
use ocifs::packages::{self, Inventory, Manager};
use tempfile::TempDir;

use crate::oracle::gzip_image;
use crate::servers::{program, run};
use crate::support::image::write_oci_layout;

/// What is installed in an image of a folder.
fn inventory(root: &Path) -> Inventory {
    let folder = tempfile::tempdir().unwrap();
    let tar =
        run(program("tar", "tar").arg("-C").arg(root).args(["--sort=name", "-c", "."])).stdout;
    let layout = folder.path().join("layout");
    write_oci_layout(&layout, &[(Some("latest"), &gzip_image(&[tar]))]).unwrap();
    let cache = Arc::new(Cache::open(&folder.path().join("cache")));
    let name = format!("oci:{}", layout.display()).parse().unwrap();
    let image = Image::open(&name, &cache, &ImageOptions::default(), &Quiet).unwrap();
    packages::read(image.filesystem()).unwrap()
}

/// The packages of a manager, as `name version architecture`, sorted.
fn listed(root: &Path, manager: Manager) -> Vec<String> {
    let inventory = inventory(root);
    assert!(inventory.problems.is_empty(), "{:?}", inventory.problems);
    let packages = inventory.packages.iter().filter(|package| package.manager == manager);
    let line = |package: &packages::Package| {
        let architecture = package.architecture.as_deref().unwrap_or("-");
        format!("{} {} {architecture}", package.name, package.version)
    };
    let mut lines: Vec<String> = packages.map(line).collect();
    lines.sort();
    lines
}

fn sorted(output: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> =
        String::from_utf8_lossy(output).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// Runs a script with arguments.
fn shell(script: &str, arguments: &[&Path]) -> Vec<u8> {
    run(program("bash", "bash").args(["-euo", "pipefail", "-c", script, "bash"]).args(arguments))
        .stdout
}

/// A copy of a folder below a new name beside it.
fn copy(root: &Path, name: &str) -> PathBuf {
    let to = root.with_file_name(name);
    run(program("cp", "coreutils").arg("-a").arg(root).arg(&to));
    to
}

const RPM: &str = "var/lib/rpm";

/// Builds packages and puts them into a database.
const INSTALL: &str = r#"
    cd "$1"
    {
        echo 'Name: alpha
Version: 1.2
Release: 3
Epoch: 2
Summary: s
License: MIT
BuildArch: noarch
%description
d
%install
mkdir -p %{buildroot}/usr/share/alpha
for n in $(seq 3000); do : > %{buildroot}/usr/share/alpha/file-of-a-name-that-is-long-$n; done
%files
/usr/share/alpha'
        for n in $(seq 70); do
            printf '%%package -n beta-%s\nVersion: 4.%s~rc1\nRelease: %s.el9\nSummary: s\n%%description -n beta-%s\n' $n $n $n $n
            head -c $((n * 97)) /dev/zero | tr '\0' 'd'
            printf '\n%%files -n beta-%s\n' $n
        done
    } > spec
    rpmbuild --quiet -bb --define "_topdir $1/build" spec >&2
    mkdir root
    find build -name '*.rpm' | xargs rpm --root "$1/root" --dbpath /var/lib/rpm -i --nodeps --justdb 2>/dev/null
"#;

/// What rpm lists of a database. It may write to it, so it gets one of its own.
fn rpm_lists(root: &Path, more: &[&str]) -> Vec<String> {
    let root = copy(root, "asked");
    let format = "%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} %{ARCH}\n";
    let mut command = program("rpm", "rpm");
    command.arg("--root").arg(&root).args(["--dbpath", "/var/lib/rpm"]).args(more);
    let lines = sorted(&run(command.args(["-qa", "--qf", format])).stdout);
    fs::remove_dir_all(root).unwrap();
    lines
}

/// A folder with a database that rpm wrote, and what is in it.
fn rpm_root() -> (TempDir, PathBuf) {
    program("rpmbuild", "rpm");
    program("sqlite3", "sqlite3");
    let folder = tempfile::tempdir().unwrap();
    shell(INSTALL, &[folder.path()]);
    let root = folder.path().join("root");
    (folder, root)
}

#[test]
fn rpm_databases() {
    let (_folder, root) = rpm_root();
    let all = rpm_lists(&root, &[]);
    assert!(all.contains(&"alpha 2:1.2-3 noarch".to_owned()) && all.len() == 71, "{all:?}");
    assert_eq!(listed(&root, Manager::Rpm), all);

    // As it is after the statements; `$1` is the database, `$2` a copy of its folder that they may make.
    let log = "PRAGMA wal_autocheckpoint=0;\nPRAGMA journal_mode=WAL;\n";
    // rpm reads no database that is in no mode with a log.
    let rebuilt = |with: &str| {
        format!("PRAGMA journal_mode=DELETE;\n{with}\nVACUUM;\nPRAGMA journal_mode=WAL;")
    };
    // Last, that the statements did what they are for: bytes of the file's header.
    for (name, statements, count, at, header) in [
        ("small-pages", rebuilt("PRAGMA page_size=512;"), 71, 16, [2, 0]),
        ("large-pages", rebuilt("PRAGMA page_size=65536;"), 71, 16, [0, 1]),
        ("auto-vacuum", rebuilt("PRAGMA auto_vacuum=FULL;"), 71, 64, [0, 0]),
        ("reserved", rebuilt(".filectrl reserve_bytes 40"), 71, 20, [40, 64]),
        ("free-pages", "DELETE FROM Packages WHERE hnum % 2 = 0;".to_owned(), 36, 18, [2, 2]),
        ("nothing", "DELETE FROM Packages;".to_owned(), 0, 18, [2, 2]),
        (
            "log",
            format!("{log}DELETE FROM Packages WHERE hnum % 3 = 0;\n.shell cp -a $1 $2"),
            48,
            18,
            [2, 2],
        ),
        (
            "log-and-more",
            format!(
                "{log}DELETE FROM Packages WHERE hnum % 3 = 0;\nPRAGMA cache_size=1;\nBEGIN;\n\
                 UPDATE Packages SET blob = zeroblob(20000);\n.shell cp -a $1 $2"
            ),
            48,
            18,
            [2, 2],
        ),
    ] {
        let changed = copy(&root, name);
        let script = r#"
            folder=$1/var/lib/rpm copy=$1/var/lib/copy
            set -- "$folder" "$copy" "$2"
            statements=${3//'$1'/$1} statements=${statements//'$2'/$2}
            sqlite3 -batch "$folder/rpmdb.sqlite" <<< "$statements" >/dev/null
            if [ -d "$copy" ]; then
                rm -r "$folder"
                mv "$copy" "$folder"
                rm "$folder/rpmdb.sqlite-shm"
                [ -s "$folder/rpmdb.sqlite-wal" ]
            fi
        "#;
        shell(script, &[&changed, Path::new(&statements)]);
        let file = fs::read(changed.join(RPM).join("rpmdb.sqlite")).unwrap();
        assert_eq!(file[at..at + 2], header, "{name}");
        let expected = rpm_lists(&changed, &[]);
        assert_eq!(expected.len(), count, "{name}");
        assert_eq!(listed(&changed, Manager::Rpm), expected, "{name}");
    }

    // A transaction that only SQLite can undo.
    let changed = copy(&root, "journal");
    let script = r#"
        cd "$1/var/lib"
        printf '%s\n' 'PRAGMA journal_mode=DELETE;' 'PRAGMA cache_size=1;' 'BEGIN;' \
            'UPDATE Packages SET blob = zeroblob(20000);' '.shell cp -a rpm copy' |
            sqlite3 -batch rpm/rpmdb.sqlite >/dev/null
        rm -r rpm
        mv copy rpm
    "#;
    shell(script, &[&changed]);
    let found = inventory(&changed);
    assert!(found.packages.is_empty() && !found.knows(Manager::Rpm), "{found:?}");
    assert!(found.problems[0].why.to_string().contains("undo a transaction"), "{found:?}");
}

#[test]
fn rpm_databases_of_berkeley_db() {
    program("db_load", "db-util");
    let (_folder, root) = rpm_root();
    let all = rpm_lists(&root, &[]);
    // The number that comes next is behind the key 0.
    let script = r#"
        cd "$1/var/lib/rpm"
        order=$2
        number() { # as a machine of this order has it
            if [ "$order" = 1234 ]; then
                printf '%08x' "$1" | sed 's/\(..\)\(..\)\(..\)\(..\)/\4\3\2\1/'
            else
                printf '%08x' "$1"
            fi
        }
        {
            printf 'VERSION=3\nformat=bytevalue\ntype=hash\ndb_lorder=%s\ndb_pagesize=%s\nHEADER=END\n' "$2" "$3"
            printf ' %s\n %s\n' 00000000 "$(number 72)"
            sqlite3 rpmdb.sqlite 'SELECT hnum, lower(hex(blob)) FROM Packages' |
                while IFS='|' read -r key value; do printf ' %s\n %s\n' "$(number "$key")" "$value"; done
            echo DATA=END
        } | db_load Packages
        rm rpmdb.sqlite*
    "#;
    for (order, page) in [("1234", "4096"), ("4321", "4096"), ("1234", "512"), ("1234", "65536")] {
        let changed = copy(&root, &format!("bdb-{order}-{page}"));
        shell(script, &[&changed, Path::new(order), Path::new(page)]);
        let expected = rpm_lists(&changed, &["--define", "_db_backend bdb_ro"]);
        assert_eq!(expected, all, "{order} {page}");
        assert_eq!(listed(&changed, Manager::Rpm), all, "{order} {page}");
    }
    assert!(!root.join(RPM).join("Packages").exists());
}

#[test]
fn dpkg_databases() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
        cd "$1"
        admin=root/var/lib/dpkg
        mkdir -p $admin/info $admin/updates $admin/triggers
        touch $admin/status
        build() { # name, version, architecture
            rm -rf tree
            mkdir -p tree/DEBIAN tree/etc
            echo x > tree/etc/$1-$3
            echo /etc/$1-$3 > tree/DEBIAN/conffiles
            multi=same
            [ $3 != all ] || multi=foreign
            printf 'Package: %s\nVersion: %s\nArchitecture: %s\nMulti-Arch: %s\nMaintainer: x <x@x.example>\nDescription: d\n of\n  several\n .\n lines\n' \
                "$1" "$2" "$3" $multi > tree/DEBIAN/control
            dpkg-deb -b tree $1-$3.deb
        }
        dpkg() { command dpkg --root="$PWD/root" --force-all --no-debsig "$@"; }
        native=$(command dpkg --print-architecture)
        other=arm64
        [ $native != arm64 ] || other=amd64
        dpkg --add-architecture $other
        build both 1:2.0-3 $native
        build both 1:2.0-3 $other
        build gone 1 all
        build purged 1 all
        build held 2~rc1+b2 all
        build unpacked 3 all
        dpkg -i both-$native.deb both-$other.deb gone-all.deb purged-all.deb held-all.deb
        dpkg --unpack unpacked-all.deb
        dpkg -r gone
        dpkg -P purged
        echo 'held hold' | dpkg --set-selections
        echo 'never install' | dpkg --set-selections
        cp -a root updated
        printf 'Package: held\nStatus: hold ok half-configured\nVersion: 4\nArchitecture: all\nMaintainer: x <x@x.example>\nDescription: d\n' \
            > updated/var/lib/dpkg/updates/0000
        printf 'Package: unpacked\nStatus: deinstall ok config-files\nVersion: 3\nArchitecture: all\nMaintainer: x <x@x.example>\nDescription: d\n' \
            > updated/var/lib/dpkg/updates/0001
        mkdir -p own/var/lib/dpkg/updates
        cp /var/lib/dpkg/status own/var/lib/dpkg/status
    "#;
    for name in ["dpkg", "dpkg-deb", "dpkg-query"] {
        program(name, "dpkg");
    }
    shell(script, &[folder.path()]);
    // Not there at all, or nothing but its configuration.
    let is_there =
        |line: &String| !line.ends_with("config-files") && !line.ends_with("not-installed");
    for (root, count) in [("root", 4), ("updated", 3), ("own", 50)] {
        let root = folder.path().join(root);
        let mut query = program("dpkg-query", "dpkg");
        query.arg("--admindir").arg(root.join("var/lib/dpkg")).args(["-W", "-f"]);
        query.arg("${Package} ${Version} ${Architecture} ${db:Status-Status}\n");
        let lines = sorted(&run(&mut query).stdout);
        let lines = lines.into_iter().filter(is_there);
        let expected: Vec<String> =
            lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
        assert!(expected.len() >= count, "{expected:?}");
        assert_eq!(listed(&root, Manager::Dpkg), expected, "{}", root.display());
    }
}

/// Of this machine's distributions and of odd ones, Python lists what is found.
#[test]
fn python_distributions() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let script = r#"
        import importlib.metadata, os, re, shutil, sys
        root = sys.argv[1]
        own = os.path.join(root, "usr/lib/python3/dist-packages")
        venv = os.path.join(root, "opt/venv/lib/python3.11/site-packages")
        os.makedirs(own)
        os.makedirs(venv)
        for path in sys.path:
            if path.endswith(("dist-packages", "site-packages")) and os.path.isdir(path):
                for name in os.listdir(path):
                    to = os.path.join(own, name)
                    if name.endswith((".dist-info", ".egg-info")) and not os.path.exists(to):
                        path_of = os.path.join(path, name)
                        (shutil.copytree if os.path.isdir(path_of) else shutil.copy)(path_of, to)
        for name, file, text in [
            ("Mixed.Name-1.0.dist-info", "METADATA", "Name: Mixed.Name\nVersion: 1.0\n"),
            ("under_score-1.0_1.dist-info", "METADATA", "Name: under_score\nVersion: 1.0-1\n"),
            ("local-2.0+cu12.dist-info", "METADATA", "Name: local\nVersion: 2.0+cu12\n"),
            ("develop.egg-info", "PKG-INFO", "Name: develop\nVersion: 0.1.dev0\n\nVersion: 7\n"),
            ("setup-3-py3.11-linux-x86_64.egg-info", "PKG-INFO", "Name: setup\nVersion: 3\n"),
            ("single-4-py3.11.egg-info", None, "Metadata-Version: 1.0\nName: single\nVersion: 4\n"),
            ("single-4.egg-info.orig", None, "Name: none\nVersion: 1\n"),
        ]:
            path = os.path.join(venv, name)
            if file:
                os.mkdir(path)
                path = os.path.join(path, file)
            with open(path, "w") as out:
                out.write(text)
        for found in importlib.metadata.distributions(path=[own, venv]):
            print(re.sub("[-_.]+", "-", found.metadata["Name"]).lower(), found.version, "-")
    "#;
    let script: String =
        script.lines().map(|line| format!("{}\n", line.get(8..).unwrap_or_default())).collect();
    let output = run(program("python3", "python3").args(["-c", &script]).arg(root)).stdout;
    let expected = sorted(&output);
    assert!(expected.len() >= 6, "{expected:?}");
    assert_eq!(listed(root, Manager::Python), expected);
}
