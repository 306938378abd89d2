//! The command line.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use clap_mangen::Man;
use ocifs::fuse::erofs_mount;
use ocifs::httpd::Address;

use crate::program::Program;
use crate::remote::Images;
use crate::snapshots::Snapshots;
use crate::snapshotter::Snapshotter;
use crate::trees::{KernelMetadata, Trees};

/// Lets containerd, Docker and Kubernetes run containers of unmodified images without pulling or unpacking them
///
/// A proxy plugin of containerd: it answers the snapshots API on a Unix socket. Images are found, fetched and mounted
/// by the program `ocifs`, with the settings and credentials of the user that runs this one.
#[derive(Debug, Parser)]
#[command(name = "ocifs-snapshotter", version)]
pub(crate) struct Args {
    /// Where snapshots are kept: what containers write, what is unpacked, and the database
    #[arg(long, value_name = "DIR", default_value = "/var/lib/ocifs-snapshotter")]
    root: PathBuf,

    /// The Unix socket to answer on
    #[arg(long, value_name = "PATH", default_value = "/run/ocifs-snapshotter/snapshotter.sock")]
    pub(crate) socket: PathBuf,

    /// The program `ocifs` [default: the one beside this program, or else that of $PATH]
    #[arg(long, value_name = "PROGRAM")]
    ocifs: Option<PathBuf>,

    /// Whose names and attributes are given to the kernel, as `ocifs mount --kernel-metadata` does; without a value: always
    #[arg(
        long,
        value_name = "WHEN",
        default_value = "auto",
        default_missing_value = "always",
        num_args = 0..=1,
        require_equals = true
    )]
    kernel_metadata: KernelMetadata,

    /// Show files to containers in user namespaces with the owners that they have there, without a copy
    ///
    /// For pods with `hostUsers: false`. The configuration of containerd 2 has to say of this plugin that it can:
    /// `capabilities = ["remap-ids"]`. Otherwise containerd copies the images of such containers.
    #[arg(long)]
    remap_ids: bool,

    /// Fetch whole layers into containerd's store in the background, so that images can be exported, pushed and saved
    #[arg(long)]
    pub(crate) fetch_content: bool,

    /// Answer the kubelet's calls of the image service on a Unix socket, and use the credentials of its pulls
    ///
    /// For its `--image-service-endpoint=unix://PATH`. Calls are forwarded to containerd. Credentials are kept in
    /// memory, for 12 hours.
    #[arg(long, value_name = "PATH")]
    pub(crate) image_service: Option<PathBuf>,

    /// The socket of containerd, for --fetch-content and --image-service
    #[arg(long, value_name = "PATH", default_value = "/run/containerd/containerd.sock")]
    pub(crate) containerd: PathBuf,

    /// Serve metrics of this program and of all mounts at /metrics, for Prometheus
    ///
    /// Whoever reaches it may read them; use a loopback address, or a socket in a folder that is not for everybody.
    #[arg(long, value_name = "HOST:PORT|unix:PATH")]
    pub(crate) metrics: Option<Address>,

    /// Write the manual page to standard output
    #[arg(long, hide = true, exclusive = true)]
    pub(crate) man_page: bool,

    /// Tell more: -v what is done, -vv everything
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,

    /// Flags of images for `ocifs`, such as `--cache-dir DIR`, `--authfile FILE` or `--proof full`
    #[arg(value_name = "FLAGS", last = true)]
    image_flags: Vec<String>,
}

impl Args {
    /// The manual page, for packages: of the grammar that makes the help text.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn write_man_page(out: &mut impl io::Write) -> io::Result<()> {
        let source = concat!("ocifs ", env!("CARGO_PKG_VERSION"));
        Man::new(Args::command()).section("8").source(source).render(out)
    }

    /// Whether flags of images are for images of any registry, as they come from whoever has one pulled.
    ///
    /// # Errors
    /// One is for one registry: a login would be offered to all.
    pub(crate) fn check(&self) -> Result<(), String> {
        let is_given = |flag: &str| {
            let (name, with_value) = (flag.to_owned(), format!("{flag}="));
            self.image_flags.iter().any(|word| *word == name || word.starts_with(&with_value))
        };
        let found = [
            (is_given("--creds"), "--creds", "give the login by `docker login`"),
            (
                env::var_os("OCIFS_CREDS").is_some_and(|login| !login.is_empty()),
                "the variable OCIFS_CREDS",
                "give the login by `docker login`",
            ),
            (
                is_given("--plain-http"),
                "--plain-http",
                "mark the registry `insecure` in registries.conf, or name it with http:// in hosts.toml",
            ),
            (is_given("--tls-verify"), "--tls-verify", "put the certificate into certs.d"),
        ];
        match found.into_iter().find(|(is_given, ..)| *is_given) {
            Some((_, what, remedy)) => {
                Err(format!("{what} is for one registry, and images are of any: {remedy}"))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn level(&self) -> log::LevelFilter {
        match self.verbose {
            0 => log::LevelFilter::Warn,
            1 => log::LevelFilter::Info,
            _ => log::LevelFilter::Debug,
        }
    }

    /// What is asked for, by way of a program.
    ///
    /// # Errors
    /// A folder that can't be used.
    pub(crate) fn snapshotter(&self, program: &Program) -> Result<Arc<Snapshotter>, String> {
        let root = folder(&self.root)?;
        let trees = Trees::new(root.join("trees"), program.clone(), self.kernel_metadata());
        let (snapshots, images) = (Snapshots::new(&root), Images::new(program.clone()));
        Ok(Arc::new(Snapshotter::new(&root, snapshots, images, trees, self.remap_ids)))
    }

    fn kernel_metadata(&self) -> KernelMetadata {
        if self.kernel_metadata == KernelMetadata::Auto
            && let Err(why) = erofs_mount::check()
        {
            log::info!("images are mounted without --kernel-metadata: {why}");
            return KernelMetadata::Never;
        }
        self.kernel_metadata
    }

    /// The program `ocifs`.
    pub(crate) fn program(&self) -> Program {
        let beside = || Some(env::current_exe().ok()?.with_file_name("ocifs"));
        let beside = || beside().filter(|path| path.is_file());
        let path = self.ocifs.clone().or_else(beside).unwrap_or_else(|| PathBuf::from("ocifs"));
        Program::new(path, self.image_flags.clone())
    }
}

/// The real path of the folder, which becomes a part of mount options.
fn folder(path: &Path) -> Result<PathBuf, String> {
    let failed = |e| format!("the folder {} can't be used: {e}", path.display());
    fs::create_dir_all(path).map_err(failed)?;
    let real = path.canonicalize().map_err(failed)?;
    match real.to_str() {
        Some(text) if !text.contains([':', ',', '\\', '"']) => Ok(real),
        _ => {
            let real = real.display();
            Err(format!(
                "{real} can't stand in mount options: it has one of `:`, `,`, `\\` and `\"`"
            ))
        }
    }
}
