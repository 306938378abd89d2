//! A layer twice: in an image layout, and unpacked by GNU tar, for programs that look at directories.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::mounted::Home;
use crate::servers::{need_root_and_fuse, run};
use crate::support::image::{Compression, ImageBuilder, write_oci_layout};
use crate::support::tarball::{Entry, tar};

/// A user, an image, and the same files in a directory.
pub struct Unpacked {
    pub home: Home,
    folder: TempDir,
}

impl Unpacked {
    pub fn new(entries: &[Entry]) -> Unpacked {
        need_root_and_fuse();
        let unpacked = Unpacked { home: Home::new(), folder: tempfile::tempdir().unwrap() };
        unpacked.make(entries);
        unpacked
    }

    /// Other files in place of these.
    pub fn make(&self, entries: &[Entry]) {
        let (layer, top) = (self.folder.path().join("layer.tar"), self.top());
        fs::write(&layer, tar(entries)).unwrap();
        let _ = fs::remove_dir_all(&top);
        fs::create_dir(&top).unwrap();
        let flags = ["-x", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*"];
        let unpack = Command::new("tar")
            .args(flags)
            .args(["--warning=no-timestamp", "--delay-directory-restore", "-f"])
            .arg(&layer)
            .arg("-C")
            .arg(&top)
            .output();
        assert!(unpack.unwrap().status.success(), "{entries:?}");
        let layer = fs::read(&layer).unwrap();
        let image = ImageBuilder::new().layer(&layer, Compression::Gzip).build();
        let _ = fs::remove_dir_all(self.folder.path().join("layout"));
        write_oci_layout(&self.folder.path().join("layout"), &[(Some("t"), &image)]).unwrap();
    }

    /// The directory with the files.
    pub fn top(&self) -> PathBuf {
        self.folder.path().join("top")
    }

    /// The image's name.
    pub fn name(&self) -> String {
        format!("oci:{}:t", self.folder.path().join("layout").display())
    }

    /// What `ocifs VERB FLAGS REF WORDS` prints; it must succeed.
    pub fn ocifs(&self, verb: &[&str], words: &[&str]) -> String {
        let output = run(self.home.ocifs().args(verb).arg(self.name()).args(words)).stdout;
        output.escape_ascii().to_string().replace("\\n", "\n")
    }

    /// What another program prints that runs in the directory; it must succeed.
    pub fn other(&self, program: &str, words: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(words).current_dir(self.top()).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
        run(&mut command).stdout.escape_ascii().to_string().replace("\\n", "\n")
    }
}
