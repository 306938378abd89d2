//! `ocifs status`: all mounts, or one.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use ocifs::fuse::kernel::{self, Mounted};
use ocifs::mount::{ImageStatus, Status, query_status};
use serde_json::{Value, json};

use crate::args;
use crate::environment;
use crate::json::set_name;
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
        let rows: Vec<Value> = mounts
            .iter()
            .map(|mount| row(mount, query_status(&folder, mount.connection)))
            .collect();
        writeln!(out, "{}", Value::from(rows))?;
        return Ok(ExitCode::SUCCESS);
    }
    for mount in mounts {
        writeln!(out, "{}", mount.mount_point.display())?;
        match query_status(&folder, mount.connection) {
            Ok(status) => print(&mut out, &status)?,
            Err(e) => print_unknown(&mut out, &mount, &e)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn row(mount: &Mounted, status: io::Result<Status>) -> Value {
    let mut row = match status {
        Ok(status) => serde_json::to_value(status).unwrap_or_default(),
        Err(e) => json!({ "image": mount.source, "error": e.to_string() }),
    };
    set_name(&mut row, "mount_point", mount.mount_point.as_os_str().as_bytes());
    row
}

fn print(out: &mut impl Write, status: &Status) -> io::Result<()> {
    let requests: u64 = status.requests.values().filter_map(Value::as_u64).sum();
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
    let places: BTreeSet<&str> = stores.clone().map(String::as_str).collect();
    match places.is_empty() {
        true => Ok(()),
        false => {
            let places = places.into_iter().collect::<Vec<_>>().join(", ");
            writeln!(out, "  store     {} of them are taken from {places}", stores.count())
        }
    }
}

fn print_unknown(out: &mut impl Write, mount: &Mounted, error: &io::Error) -> io::Result<()> {
    writeln!(out, "  image     {}", printable(&mount.source))?;
    writeln!(out, "  no answer from its process: {error}")
}
