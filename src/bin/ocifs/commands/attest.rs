//! `ocifs attest`: what is attested of an image.

use std::io::{self, Write};
use std::process::ExitCode;

use ocifs::image::{self, Attached, Attestation, Attestations, Package, Sbom, Subject};
use serde_json::{Value, json};

use crate::args::{self, AttestationType};
use crate::commands::open::{failed, to_print};
use crate::environment::Settings;
use crate::render::errors::AnyError;
use crate::render::json::line;
use crate::render::output;
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};
use crate::render::text::{count, printable_lines};

pub(crate) fn run(args: &args::Attest) -> Result<ExitCode, AnyError> {
    let (name, options, cache) = to_print(&args.image, &args.image_args, &Settings::read()?, None)?;
    let mut list = image::attestations(&name, &cache, &options).map_err(failed(&name))?;
    list.found
        .retain(|row| args.r#type.is_none_or(|wanted| wanted == AttestationType::of(row.kind)));
    if let Some(why) = &list.cut {
        log::warn!("{name}: there may be more attestations: {why}");
    }
    for row in &list.found {
        if let Subject::Differs(others) = &row.subject {
            let (digest, others) = (row.blob.digest, others.join(", "));
            log::warn!(
                "{name}: {digest} is attached to the image and is about something else: {others}"
            );
        }
    }
    let mut out = output::stdout();
    let screen = Screen::stdout();
    if (args.print || args.packages) && usable(&list).next().is_none() {
        return Err(format!("{name}: nothing of the kind is attested").into());
    }
    output::ignore_closed_pipe(match () {
        () if args.json => writeln!(out, "{}", line(as_json(&list, args.packages))),
        () if args.packages => packages(&list, screen).print(&mut out),
        () if args.print => print(&mut out, &list, screen),
        () => table(&list, screen).print(&mut out),
    })?;
    if list.found.is_empty() && screen.is_terminal() && !args.json {
        log::warn!("{name}: nothing is attested");
    }
    Ok(ExitCode::SUCCESS)
}

/// Those that were read and are not about something else.
fn usable(list: &Attestations) -> impl Iterator<Item = &Attestation> {
    let is_usable = |row: &&Attestation| {
        !matches!(row.subject, Subject::Differs(_)) && !row.statement.is_empty()
    };
    list.found.iter().filter(is_usable)
}

fn print(out: &mut impl Write, list: &Attestations, screen: Screen) -> io::Result<()> {
    for row in usable(list) {
        match screen.is_terminal() {
            true => {
                let text = String::from_utf8_lossy(&row.statement);
                out.write_all(printable_lines(&text).as_bytes())?;
            }
            false => out.write_all(&row.statement)?,
        }
        if !row.statement.ends_with(b"\n") {
            out.write_all(b"\n")?;
        }
    }
    Ok(())
}

/// What was checked of it, and what was not.
fn checked(row: &Attestation) -> String {
    let subject = match &row.subject {
        Subject::Matches => "about this image",
        Subject::Differs(_) => "ABOUT SOMETHING ELSE",
        Subject::Unsaid => "does not say what it is about",
    };
    let signature = if row.is_signed { ", signature not checked" } else { "" };
    match &row.error {
        Some(error) => format!("can't be read: {error}"),
        None if row.statement.is_empty() && row.subject == Subject::Unsaid => "not read".to_owned(),
        None => format!("{subject}{signature}"),
    }
}

fn place(attached: &Attached) -> &str {
    match attached {
        Attached::Entry => "index",
        Attached::Referrer => "referrer",
        Attached::Tag(tag) => tag.rsplit('.').next().unwrap_or(tag),
    }
}

fn format(row: &Attestation) -> String {
    match &row.sbom {
        Some(Sbom { format, packages }) => {
            format!("{format} ({})", count(packages.len(), "package", "packages"))
        }
        None => row.predicate_type.clone(),
    }
}

fn table(list: &Attestations, screen: Screen) -> Table {
    let columns = [
        ("type", Align::Left),
        ("digest", Align::Left),
        ("size", Align::Right),
        ("place", Align::Left),
        ("format", Align::Left),
        ("checked", Align::Left),
    ];
    let mut table = Table::new(screen, &columns);
    for row in &list.found {
        table.row([
            AttestationType::of(row.kind).word().to_owned(),
            screen.digest(&row.blob.digest),
            screen.size(row.blob.size),
            place(&row.attached).to_owned(),
            format(row),
            checked(row),
        ]);
    }
    table
}

fn packages(list: &Attestations, screen: Screen) -> Table {
    let columns = [
        ("name", Align::Left),
        ("version", Align::Left),
        ("licence", Align::Left),
        ("purl", Align::Left),
    ];
    let mut table = Table::new(screen, &columns);
    for Package { name, version, licence, purl } in
        usable(list).filter_map(|row| row.sbom.as_ref()).flat_map(|sbom| &sbom.packages)
    {
        table.row([name.clone(), version.clone(), licence.clone(), purl.clone()]);
    }
    table
}

fn as_json(list: &Attestations, with_packages: bool) -> Value {
    let package = |package: &Package| {
        json!({
            "name": package.name,
            "version": package.version,
            "licence": package.licence,
            "purl": package.purl,
        })
    };
    let row = |row: &Attestation| {
        let (subject, others) = match &row.subject {
            Subject::Matches => ("matches", None),
            Subject::Differs(others) => ("differs", Some(others)),
            Subject::Unsaid => ("unsaid", None),
        };
        let (attached, tag) = match &row.attached {
            Attached::Entry => ("index", None),
            Attached::Referrer => ("referrer", None),
            Attached::Tag(tag) => ("tag", Some(tag)),
        };
        let sbom = row.sbom.as_ref().map(|sbom| {
            let packages =
                with_packages.then(|| sbom.packages.iter().map(package).collect::<Vec<_>>());
            json!({
                "format": sbom.format,
                "count": sbom.packages.len(),
                "packages": packages,
            })
        });
        json!({
            "type": AttestationType::of(row.kind).word(),
            "predicate_type": row.predicate_type,
            "attached": attached,
            "tag": tag,
            "about": row.about,
            "manifest": row.manifest,
            "digest": row.blob.digest,
            "media_type": row.blob.media_type,
            "size": row.blob.size,
            "subject": subject,
            "other_subjects": others,
            "signed": row.is_signed,
            "sbom": sbom,
            "error": row.error,
        })
    };
    json!({
        "image": list.name,
        "digest": list.digest,
        "attestations": list.found.iter().map(row).collect::<Vec<_>>(),
        "cut": list.cut,
    })
}
