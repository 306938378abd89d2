//! `ocifs tags`: tags, and what they mean.

use std::io::{self, Write};
use std::process::ExitCode;

use ocifs::image::{self, TagGroup, TagList, TagsRequest};
use ocifs::oci::{Platform, parse_time};
use serde_json::{Value, json};

use crate::args;
use crate::commands::open::{failed, to_print};
use crate::environment::Settings;
use crate::render::errors::AnyError;
use crate::render::json::line;
use crate::render::output;
use crate::render::screen::Screen;
use crate::render::table::{Align, Table};
use crate::render::text::{count, printable};

const COLUMNS: [(&str, Align); 4] = [
    ("tags", Align::Left),
    ("digest", Align::Left),
    ("created", Align::Left),
    ("platforms", Align::Left),
];

pub(crate) fn run(args: &args::Tags) -> Result<ExitCode, AnyError> {
    let (name, options, cache) =
        to_print(&args.repository, &args.image_args, &Settings::read()?, None)?;
    let request = TagsRequest {
        names_only: args.names,
        details: args.long,
        all: args.all,
        latest: args.latest,
    };
    let list = image::tags(&name, &cache, &options, request).map_err(failed(&name))?;
    if let Some(why) = &list.cut {
        log::warn!("{name}: there may be more tags: {why}");
    }
    if list.not_asked > 0 {
        let tags = count(list.not_asked, "tag", "tags");
        log::warn!("{name}: {tags} more were not asked about: their digests are not shown");
    }
    let mut out = output::stdout();
    let screen = Screen::stdout();
    output::ignore_closed_pipe(match () {
        () if args.json => writeln!(out, "{}", line(as_json(&name.to_string(), &list))),
        () if args.names => names(&mut out, &list),
        () => table(&list, screen).print(&mut out),
    })?;
    if screen.is_terminal() && list.hidden > 0 && !args.json {
        log::info!("{name}: {} of referrers are not shown", count(list.hidden, "tag", "tags"));
    }
    Ok(ExitCode::SUCCESS)
}

fn names(out: &mut impl Write, list: &TagList) -> io::Result<()> {
    let names = list.groups.iter().flat_map(|group| &group.tags);
    names.into_iter().try_for_each(|name| writeln!(out, "{}", printable(name)))
}

fn words(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn table(list: &TagList, screen: Screen) -> Table {
    let mut table = Table::new(screen, &COLUMNS);
    for group in &list.groups {
        let TagGroup { tags, descriptor, platforms, created, earlier, error } = group;
        let digest = descriptor.as_ref().map(|descriptor| screen.digest(&descriptor.digest));
        let created = created.as_deref().map(|created| screen.written_time(created));
        let said = platforms.as_deref().map(words).or_else(|| error.clone());
        table.row([
            tags.join(" "),
            digest.unwrap_or_default(),
            created.unwrap_or_default(),
            said.unwrap_or_default(),
        ]);
        for (tag, revision) in earlier {
            let pushed = revision.pushed.map(|pushed| screen.time(pushed));
            table.row([
                format!("({tag} before)"),
                screen.digest(&revision.digest),
                pushed.unwrap_or_default(),
                String::new(),
            ]);
        }
    }
    table
}

fn as_json(name: &str, list: &TagList) -> Value {
    let group = |group: &TagGroup| {
        let descriptor = group.descriptor.as_ref();
        let platforms = group.platforms.as_ref();
        let platforms =
            platforms.map(|list| list.iter().map(ToString::to_string).collect::<Vec<_>>());
        let created = group.created.as_deref().and_then(parse_time);
        let earlier = group.earlier.iter().map(|(tag, revision)| {
            json!({ "tag": tag, "digest": revision.digest, "pushed": revision.pushed })
        });
        json!({
            "tags": group.tags,
            "digest": descriptor.map(|descriptor| descriptor.digest),
            "media_type": descriptor.map(|descriptor| &descriptor.media_type),
            "size": descriptor.map(|descriptor| descriptor.size),
            "platforms": platforms,
            "created": created.map(|(seconds, _)| seconds),
            "earlier": earlier.collect::<Vec<_>>(),
            "error": group.error,
        })
    };
    json!({
        "image": name,
        "groups": list.groups.iter().map(group).collect::<Vec<_>>(),
        "hidden": list.hidden,
        "not_asked": list.not_asked,
        "cut": list.cut,
    })
}
