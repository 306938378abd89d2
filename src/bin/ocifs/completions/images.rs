//! References: transports, archives and layouts, images whose tags are known here, and tags of a repository.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clap_complete::engine::PathCompleter;
use ocifs::cache::{Cache, Limit};
use ocifs::image::{self, TagsRequest};
use ocifs::reference::{ImageName, LocalSource, Reference, TRANSPORTS};

use super::bounds::{MAX_CANDIDATES, within};
use super::{files, line};
use crate::args::ImageArgs;
use crate::environment::{self, Settings};

/// What a name of a registry begins with that need not be written: see [`familiar`].
const DEFAULT_REGISTRY: &str = "docker.io/";
const OFFICIAL: &str = "library/";

/// The most remembered tags that are read.
const MAX_REMEMBERED: usize = 2000;

/// How long a registry has to list its tags; less than an answer has, so that what is known is offered without them.
const TAGS_TIME: Duration = Duration::from_secs(1);

/// How long a list of tags that is remembered is as good as a new one: as long as a session at a prompt may last.
const TAGS_FRESH: Duration = Duration::from_secs(300);

/// Transports with a path behind them that the shell's user can name.
const OF_PATHS: [&str; 4] = ["oci:", "oci-archive:", "docker-archive:", "dir:"];

/// What could be a REF.
pub(super) fn images(typed: &str) -> Vec<String> {
    of_repositories(typed, true)
}

/// What could be a REPO.
pub(super) fn repositories(typed: &str) -> Vec<String> {
    of_repositories(typed, false)
}

fn of_repositories(typed: &str, with_tags: bool) -> Vec<String> {
    let args = line::read("x").map(|(_, args)| args);
    let known = args.as_ref().map(remembered).unwrap_or_default();
    let mut found = of_paths(typed);
    found.extend(TRANSPORTS.iter().map(|transport| format!("{}:", transport.word)));
    let spelt = known.iter().map(|reference| spelt(reference, typed));
    let known: BTreeSet<String> = spelt.filter(|name| name.starts_with(typed)).collect();
    match with_tags {
        true => {
            found.extend(known);
            if let (Some(args), Some((repository, begun))) = (args, typed.rsplit_once(':'))
                && !begun.contains(['/', '@'])
            {
                // Those that are remembered come first.
                let tags = tags(repository, args).unwrap_or_default();
                let names = tags.into_iter().map(|tag| format!("{repository}:{tag}"));
                let names: Vec<String> = names.filter(|name| !found.contains(name)).collect();
                found.extend(names);
            }
        }
        false => {
            let repositories: BTreeSet<String> =
                known.iter().filter_map(|name| Some(name.rsplit_once(':')?.0.to_owned())).collect();
            found.extend(repositories);
        }
    }
    found
}

/// Archives and layouts: behind the transports that have a path, behind what begins as a path, and archives
/// by their names.
fn of_paths(typed: &str) -> Vec<String> {
    let transport = OF_PATHS.iter().find(|word| typed.starts_with(**word));
    let (word, path) = typed.split_at(transport.map_or(0, |word| word.len()));
    let is_path = ["/", "./", "../", "~/"].iter().any(|start| path.starts_with(start));
    let completer = match word {
        "oci:" | "dir:" => PathCompleter::dir(),
        _ => PathCompleter::any(),
    };
    let mut found = files::paths(path, completer);
    if transport.is_none() && !is_path {
        found.retain(|path| LocalSource::bare(path).has_archive_name() && !path.ends_with('/'));
    }
    found.iter().map(|path| format!("{word}{path}")).collect()
}

/// The references of which it is remembered what they meant.
fn remembered(args: &ImageArgs) -> Vec<Reference> {
    let Some(folder) = environment::cache_folder(&args.cache_args) else { return Vec::new() };
    let records = Cache::open_existing(&folder, Limit::Default).tags(MAX_REMEMBERED).into_iter();
    let parsed = records.filter_map(|record| match record.reference.parse() {
        Ok(ImageName::Registry(reference)) => Some(reference),
        _ => None,
    });
    parsed.filter(|reference| reference.tag().is_some()).collect()
}

/// A reference in the spelling that has been begun: in full, or as short as it can be.
fn spelt(reference: &Reference, typed: &str) -> String {
    let full = reference.to_string();
    let Some(of_hub) = full.strip_prefix(DEFAULT_REGISTRY) else { return full };
    match of_hub.strip_prefix(OFFICIAL) {
        Some(official) if !typed.starts_with(OFFICIAL) && !typed.starts_with(DEFAULT_REGISTRY) => {
            official.to_owned()
        }
        _ if typed.starts_with(DEFAULT_REGISTRY) => full,
        _ => of_hub.to_owned(),
    }
}

/// The tags of a repository, layout or archive. A registry is asked unless it just was; what it said before is offered
/// where it does not answer in time.
fn tags(repository: &str, args: ImageArgs) -> Option<Vec<String>> {
    // A host with a port to come.
    if !repository.contains('/') && (repository.contains('.') || repository == "localhost") {
        return None;
    }
    let name: ImageName = repository.parse().ok()?;
    match &name {
        ImageName::Local(local) if !files::is_file_or_folder(&local.path) => return None,
        ImageName::Stored(_) => return None,
        _ => {}
    }
    // A key press makes no cache.
    let folder = environment::cache_folder(&args.cache_args)?;
    let cache = match folder.is_dir() {
        true => environment::cache(&args.cache_args),
        false => Arc::new(Cache::none()),
    };
    let known = image::remembered_tags(&name, &cache);
    let tags = match known {
        Some(known) if known.age() < TAGS_FRESH => known.names,
        known => {
            let listed = within(TAGS_TIME, move || listed(&name, args, &cache)).flatten();
            listed.or(known.map(|known| known.names))?
        }
    };
    Some(tags.into_iter().take(MAX_CANDIDATES).collect())
}

/// The tags as they are now.
fn listed(name: &ImageName, args: ImageArgs, cache: &Arc<Cache>) -> Option<Vec<String>> {
    let args = ImageArgs { timeout: TAGS_TIME, ..args };
    let (name, mut options) = environment::image(name, &args, &Settings::read().ok()?).ok()?;
    // A helper may ask for a password, or open a window.
    options.registry.credentials.set_helpers(Vec::new(), None);
    let request = TagsRequest { names_only: true, ..TagsRequest::default() };
    let list = image::tags(&name, cache, &options, request).ok()?;
    Some(list.groups.into_iter().flat_map(|group| group.tags).collect())
}
