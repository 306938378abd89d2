//! `ocifs-snapshotter`: containerd, and with it Docker and Kubernetes, run containers of images that `ocifs` shows.
//!
//! # Problem
//!
//! containerd asks a *snapshotter* for the file systems of containers, layer by layer: it prepares a directory, unpacks a
//! layer into it, commits it, and so on; a container gets a directory on top of the last layer. Downloading and unpacking
//! is what is to be avoided, for images as they are, in registries as they are.
//!
//! # Design
//!
//! This program is a proxy plugin: it answers containerd's snapshots API on a Unix socket. Who unpacks an image names, in
//! labels, the chain ID of the layer that is to come and the image it belongs to. If the snapshotter answers that this
//! layer *is already there*, it is neither fetched nor unpacked. Then it is a *remote* snapshot: nothing on disk but a row of
//! the database. Where labels are missing, or anything about the image fails, the snapshot is an ordinary one, as
//! containerd's own overlayfs snapshotter makes it, and the pull goes on as ever.
//!
//! A remote snapshot stands for the *tree* of its chain ID, all layers up to it. A tree is mounted for the first container
//! on it, and is the lowest layer of this container's overlayfs. Each is a mount of its own by the `ocifs` program, in the
//! background, supervised and contained as such mounts are: it outlives this program, which can be stopped, replaced and
//! started while containers run.
//!
//! Before the first layer of an image is called remote the tree of the whole image is mounted. So what `ocifs` can't show
//! is found when there is still a way back, and an image that was never seen is streamed once, in the pull, where
//! users wait for it.
//!
//! **Labels are hints.** They say where a tree may be found, never what it is: the image is resolved by the digest of its
//! manifest, its config by the digest in there, and the chain ID has to be one of those that follow from the diff IDs of
//! this config. No other tree is shown under it.
//!
//! ```text
//! service      gRPC: messages and codes                                  proto: generated
//! snapshotter  what each call does: databases, directories, trees
//! remote       which tree labels ask for, held against the image         program: runs `ocifs`
//! trees        trees that are mounted
//! snapshots    the state machine: rows in a database                     database: its file
//! overlay      which mounts a snapshot is; its directories; what they take
//! filter       which snapshots a list is to have
//! content      whole layers for containerd, in the background            blob: one, as `ocifs` writes it
//! containerd   its services, as far as they are called                   news: images as they come
//! metrics      what is counted
//! image_service   the kubelet's calls on their way to containerd         credentials: what pods have brought
//! idmap        users of a container in a user namespace                  mapped: what is below it, with its owners
//!                                                                        namespace: one with such a map
//! manager      the service manager                                       keepsake: what it keeps over a restart
//! ```
//!
//! # Rejected
//!
//! One process that serves all trees: one connection to the kernel would share the pages of files that several images have.
//! But one image that makes it fail would fail all containers of the machine, no image's names and attributes
//! could be given to the kernel (`--kernel-metadata`), and images would have to be added to a server that runs. The cache is
//! common to all of them: what one has fetched none fetches again.
//!
//! Asking containerd to unpack only the layers that fail: the layers above would be built on a tree that can't be mounted.
//!
//! # Invariants
//!
//! - A row and the directory of a snapshot: the row is written last and removed first. What has no row is rubbish.
//! - The parent of a snapshot is committed, and is not removed before it.
//! - A row says which tree its snapshot is. Labels, which may be changed later, do not.

mod args;
mod blob;
mod containerd;
mod content;
mod credentials;
mod database;
mod filter;
mod idmap;
mod image_service;
mod keepsake;
mod manager;
mod mapped;
mod metrics;
mod namespace;
mod news;
mod overlay;
mod program;
mod proto;
mod remote;
// Of the other program.
#[path = "../ocifs/commands/secrets.rs"]
mod secrets;
mod service;
mod snapshots;
mod snapshotter;
mod socket;
// Of the other program: releases of both are static.
#[path = "../ocifs/static_names.rs"]
mod static_names;
mod trees;

use std::fs::File;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::Parser;
use ocifs::httpd::{Address, Listener};
use ocifs::metrics::{MAX_CLIENTS, answer};
use tokio::task::JoinSet;

use args::Args;
use containerd::Containerd;
use content::Fetcher;
use image_service::ImageService;
use keepsake::Keepsake;
use metrics::Present;
use program::Program;
use snapshotter::Snapshotter;

#[allow(clippy::print_stderr, reason = "the one place that tells why the program does not run")]
fn main() -> ExitCode {
    if namespace::is_asked() {
        return namespace::stay();
    }
    static_names::use_built_in_services();
    let kept = manager::kept();
    let args = Args::parse();
    env_logger::Builder::new()
        .filter_level(args.level())
        .format_timestamp(None)
        .target(env_logger::Target::Stderr)
        .init();
    match run(&args, kept) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ocifs-snapshotter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args, kept: Vec<(String, File)>) -> Result<(), String> {
    if args.man_page {
        let written = Args::write_man_page(&mut io::stdout());
        return written.map_err(|e| format!("standard output: {e}"));
    }
    secrets::hide_secrets()
        .map_err(|e| format!("the memory of this process can't be hidden: {e}"))?;
    args.check()?;
    let program = args.program();
    if args.image_service.is_some() {
        program.credentials().inherit(keepsake(kept)?);
    }
    let snapshotter = args.snapshotter(&program)?;
    snapshotter.begin();
    if let Some(address) = &args.metrics {
        serve_metrics(address, &snapshotter, &program)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| format!("the runtime can't be started: {e}"))?;
    let served = runtime.block_on(async {
        let mut background = JoinSet::new();
        let containerd = Containerd::at(&args.containerd)?;
        if let Some(path) = &args.image_service {
            let credentials = Arc::clone(program.credentials());
            background.spawn(ImageService::listen(path, &containerd, credentials)?.serve());
        }
        if args.fetch_content {
            background.spawn(Fetcher::new(containerd, Arc::clone(&snapshotter), program).run());
        }
        let served = service::serve(snapshotter, &args.socket).await;
        // What it has started ends with it.
        background.shutdown().await;
        served
    });
    // A pull that is under way is not waited for.
    runtime.shutdown_background();
    served
}

/// What an earlier process has left with the service manager, or else a new one, which that is to keep.
fn keepsake(kept: Vec<(String, File)>) -> Result<Keepsake, String> {
    if let Some((_, file)) = kept.into_iter().find(|(name, _)| name == keepsake::NAME) {
        return Ok(Keepsake::from(file));
    }
    let new = Keepsake::new().map_err(|e| format!("no file in memory can be made: {e}"))?;
    manager::keep(keepsake::NAME, new.file());
    Ok(new)
}

/// Answers who asks for metrics, for as long as this program runs.
fn serve_metrics(
    address: &Address,
    snapshotter: &Arc<Snapshotter>,
    program: &Program,
) -> Result<(), String> {
    let listener = Listener::bind(address).map_err(|e| format!("metrics: {e}"))?;
    if let Some(at) = listener.tcp_address() {
        log::info!("metrics at http://{at}/metrics");
    }
    let (snapshotter, program) = (Arc::clone(snapshotter), program.clone());
    let text = move || {
        let credentials = program.credentials().count();
        let present = Present { credentials, ..snapshotter.present() };
        let ours = snapshotter.metrics().text(present).into_string();
        let mounts = program.status("--prometheus", None)?;
        Ok(ours + &String::from_utf8_lossy(&mounts))
    };
    let serve = move || listener.serve(MAX_CLIENTS, |request| answer(request, &text));
    let started = thread::Builder::new().name("metrics".to_owned()).spawn(serve);
    started.map(drop).map_err(|e| format!("metrics: {e}"))
}
