//! `ocifs status`: all mounts, or one.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use ocifs::fuse::kernel::{self, Mounted};
use ocifs::mount::{ImageStatus, Status, query_status};

use crate::args;
use crate::environment;
use crate::report::{AnyError, printable};

pub(crate) fn run(args: &args::Status) -> Result<ExitCode, AnyError> {
    let mut mounts = kernel::mounts()?;
    if let Some(place) = &args.mount_point {
        let absolute = kernel::absolute(place)?;
        mounts.retain(|mount| mount.mount_point == absolute);
        if mounts.is_empty() {
            return Err(kernel::Error::NotOurs(place.clone()).into());
        }
    }
    let folder = environment::runtime_folder();
    let mut out = io::stdout().lock();
    if args.json {
        let rows: Vec<serde_json::Value> = mounts
            .iter()
            .map(|mount| match status_of(&folder, mount) {
                Ok(status) => serde_json::to_value(status).unwrap_or_default(),
                Err(e) => serde_json::json!({
                    "mount_point": mount.mount_point,
                    "image": mount.source,
                    "error": e.to_string(),
                }),
            })
            .collect();
        writeln!(out, "{}", serde_json::Value::from(rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    for mount in mounts {
        match status_of(&folder, &mount) {
            Ok(status) => print(&mut out, &status)?,
            Err(e) => print_unknown(&mut out, &mount, &e)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What the process behind a mount says. It does not know where else its mount was bound to, or moved.
fn status_of(folder: &Path, mount: &Mounted) -> io::Result<Status> {
    let status = query_status(folder, mount.connection)?;
    Ok(Status { mount_point: mount.mount_point.clone(), ..status })
}

fn print(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let requests: u64 = status.requests.values().filter_map(serde_json::Value::as_u64).sum();
    writeln!(out, "{}", status.mount_point.display())?;
    for image in status.shown.images() {
        print_image(out, image)?;
    }
    writeln!(out, "  inodes    {}", status.inodes)?;
    writeln!(
        out,
        "  network   {} in {} requests",
        indicatif::HumanBytes(status.network.bytes),
        status.network.requests,
    )?;
    writeln!(out, "  spans     {} at hand, {} fetched", status.spans.hits, status.spans.misses)?;
    let Status { ahead, pushed, .. } = status;
    writeln!(
        out,
        "  kernel    {requests} requests, {ahead} ahead of walks, {pushed} files pushed"
    )?;
    writeln!(out, "  process   {}", status.pid)?;
    for error in &status.recent_errors {
        writeln!(out, "  error     {}", printable(error))?;
    }
    Ok(())
}

fn print_image(out: &mut impl Write, image: &ImageStatus) -> io::Result<()> {
    let proofs: Vec<&str> = image.layers.iter().map(|layer| layer.proof.as_str()).collect();
    let weakest = ["hint", "toc", "full"].into_iter().find(|proof| proofs.contains(proof));
    let size: u64 = image.layers.iter().map(|layer| layer.size).sum();
    if let Some(name) = &image.directory {
        writeln!(out, "  directory {}", printable(name))?;
    }
    writeln!(out, "  image     {}", printable(&image.image))?;
    writeln!(out, "  digest    {}", image.digest)?;
    if let Some(tag) = image.tag.as_ref().filter(|tag| tag.moved) {
        writeln!(out, "  tag       moved: it is {} now; a new mount shows that", tag.digest)?;
    }
    writeln!(out, "  platform  {}", printable(&image.platform))?;
    writeln!(
        out,
        "  layers    {}, {} compressed, proof {}",
        image.layers.len(),
        indicatif::HumanBytes(size),
        weakest.unwrap_or("full"),
    )?;
    let stores = image.layers.iter().filter_map(|layer| layer.store.as_ref());
    let places: BTreeSet<_> = stores.clone().map(|store| store.display().to_string()).collect();
    match places.is_empty() {
        true => Ok(()),
        false => {
            let places = places.into_iter().collect::<Vec<_>>().join(", ");
            writeln!(out, "  store     {} of them are taken from {places}", stores.count())
        }
    }
}

fn print_unknown(out: &mut impl Write, mount: &Mounted, error: &io::Error) -> io::Result<()> {
    writeln!(out, "{}", mount.mount_point.display())?;
    writeln!(out, "  image     {}", printable(&mount.source))?;
    writeln!(out, "  no answer from its process: {error}")
}
