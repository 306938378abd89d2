//! What the files about registries lead to.
//!
//! A `hosts.toml` names certificates and keys that may lie anywhere, and what lies in a folder of certificates is often a
//! link to where the administrator of the machine keeps them. A process that may read its own folders only has to be told.

use std::fs;
use std::path::{Path, PathBuf};

use super::containerd;
use super::files::ConfigFiles;

/// The most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

impl ConfigFiles {
    /// What is read besides the files and folders themselves: links in them, which lead anywhere, and files that
    /// are named there.
    pub fn elsewhere(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> =
            self.registries_drop_ins.iter().flat_map(|folder| links_in(folder)).collect();
        for folder in self.certificates.iter().chain(&self.containerd) {
            for host in entries(folder) {
                found.extend(Some(&host).filter(|host| host.is_symlink()).cloned());
                found.extend(links_in(&host));
                found.extend(containerd::named_files(&host));
            }
        }
        found
    }
}

/// The links that lie in a folder.
pub(super) fn links_in(folder: &Path) -> Vec<PathBuf> {
    entries(folder).filter(|path| path.is_symlink()).collect()
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.take(MAX_ENTRIES).filter_map(|entry| Some(entry.ok()?.path()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_named_and_what_links_lead_to() {
        let top = tempfile::tempdir().unwrap();
        let path = |name: &str| top.path().join(name);
        for folder in ["certs.d/a", "elsewhere", "containerd/_default", "containerd/b", "conf.d"] {
            fs::create_dir_all(path(folder)).unwrap();
        }
        symlink("/opt/ca.pem", path("certs.d/a/ca.crt")).unwrap();
        fs::write(path("certs.d/a/own.crt"), "").unwrap();
        symlink("../elsewhere", path("certs.d/linked")).unwrap();
        symlink("/opt/key.pem", path("elsewhere/me.key")).unwrap();
        symlink("/opt/conf", path("conf.d/x.conf")).unwrap();
        let toml = "ca = '/opt/b.pem'\n[host.'https://x']\nca = ['own.pem']\nclient = [['/c', '/k'], '/both']";
        fs::write(path("containerd/_default/hosts.toml"), toml).unwrap();
        fs::write(path("containerd/b/hosts.toml"), "what is this [").unwrap();
        let files = ConfigFiles {
            certificates: vec![path("certs.d"), path("absent")],
            registries_drop_ins: vec![path("conf.d")],
            containerd: vec![path("containerd")],
            ..ConfigFiles::default()
        };
        let mut found = files.elsewhere();
        found.sort();
        let mut expected = [
            path("certs.d/a/ca.crt"),
            path("certs.d/linked"),
            path("certs.d/linked/me.key"),
            path("conf.d/x.conf"),
            path("containerd/_default/own.pem"),
            PathBuf::from("/opt/b.pem"),
            PathBuf::from("/c"),
            PathBuf::from("/k"),
            PathBuf::from("/both"),
        ];
        expected.sort();
        assert_eq!(found, expected);
    }
}
