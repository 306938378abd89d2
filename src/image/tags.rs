//! The tags of a repository, with what they mean.
//!
//! # Problem
//!
//! A list of tags says nothing but names: that `1`, `1.4` and `latest` are one image, and for which platforms it is, has to
//! be asked for, tag by tag, of a registry that counts requests and may have ten thousand of them.
//!
//! # Design
//!
//! The list costs a request a page. What a tag means is asked for by HEAD, a few tags at a time under the session's rate
//! limits: Docker Hub does not count these as pulls. Of a long list only the [`MAX_ASKED`] newest tags are asked about, by
//! the natural order of their names, as versions go. Platforms stand in the document that a tag means, and are
//! fetched only where that is wanted ([`TagsRequest::details`]), once for each digest: that is a pull for Docker Hub. What is in the
//! cache, or on this machine anyway, costs nothing and is always told.
//!
//! Tags are grouped by digest; the group with the newest version comes first. Tags that stand for referrers
//! (`sha256-….sig`) are no versions of anything and are left out unless they are wanted.
//!
//! [`TagsRequest::latest`] looks for the highest version, which costs a page and one HEAD. A version is a number or several with
//! dots between them, `v` in front or not: `1.25-alpine` is a variant and `1.26-rc1` a prerelease, and neither is
//! taken; a number of eight digits or more is a date or a build.
//!
//! # Rejected
//!
//! Asking for every document, as `crane ls` with `crane digest` in a loop ends up doing: a list of 500 tags would use up a
//! day's pulls.

use std::collections::HashMap;
use std::sync::Arc;

use super::locate::open_source;
use super::tag_order::{is_version, order};
use super::{Error, ImageOptions, parallel};
use crate::cache::{Cache, TagListRecord};
use crate::digest::Digest;
use crate::oci::{ConfigDetails, Descriptor, Document, Platform, annotation};
use crate::reference::{ImageName, Reference};
use crate::resolve::Documents;
use crate::source::registry::{Registry, Session};
use crate::source::{self, Repository, Revision, is_of_referrer};

/// Tags that a remote registry is asked about, each with one request.
const MAX_ASKED: usize = 1000;

/// Digests whose documents are fetched to know their platforms.
const MAX_DETAILS: usize = 100;

/// Requests that are made side by side.
const PARALLEL: usize = 8;

/// What to tell of tags.
#[derive(Clone, Copy, Debug, Default)]
pub struct TagsRequest {
    /// Names alone: nothing is asked about them.
    pub names_only: bool,
    /// Fetch documents to tell platforms and times.
    pub details: bool,
    /// Tags of referrers, too.
    pub all: bool,
    /// The highest version alone.
    pub latest: bool,
}

/// The tags of a repository.
#[derive(Clone, Debug)]
pub struct TagList {
    /// Groups, the newest version first.
    pub groups: Vec<TagGroup>,
    /// Tags of referrers that were left out.
    pub hidden: usize,
    /// Tags that were not asked about, as there are too many.
    pub not_asked: usize,
    /// Why there may be more tags than these.
    pub cut: Option<String>,
}

/// Tags that mean the same.
#[derive(Clone, Debug)]
pub struct TagGroup {
    /// Their names, the newest version first.
    pub tags: Vec<String>,
    /// What they mean, if that is known: digest, size and media type.
    pub descriptor: Option<Descriptor>,
    /// The platforms that images of it are for, if they are known.
    pub platforms: Option<Vec<Platform>>,
    /// When it was made, as it is written.
    pub created: Option<String>,
    /// What each of the tags meant before, the latest first.
    pub earlier: Vec<(String, Revision)>,
    /// Why it is not known.
    pub error: Option<String>,
}

/// Lists the tags of a repository; a tag or digest in its name does not matter.
///
/// # Errors
/// The name has no repository, or its tags can't be listed.
pub fn tags(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
    request: TagsRequest,
) -> Result<TagList, Error> {
    let session = Session::default();
    let source = open_source(name, cache, options, &session)?;
    let no_tags = || Error::NoTags(name.to_string());
    let repository = Arc::clone(&source).repository().ok_or_else(no_tags)?;
    let found = repository.tags()?;
    if let ImageName::Registry(reference) = name {
        cache.put_tag_list(&repository_name(reference), &found.names);
    }
    let all = found.names.len();
    let mut names = found.names;
    if !request.all {
        names.retain(|tag| !is_of_referrer(tag));
    }
    let hidden = all - names.len();
    names.sort_by_cached_key(|tag| order(tag));
    if request.latest {
        let latest = names.into_iter().find(|tag| is_version(tag));
        names = vec![latest.ok_or_else(|| Error::NoVersion(name.to_string()))?];
    }
    let asked = match (request.names_only, source.is_remote()) {
        (true, _) => 0,
        (false, true) => names.len().min(MAX_ASKED),
        (false, false) => names.len(),
    };
    let meanings = parallel::map(&names[..asked], PARALLEL, |tag| repository.describe_tag(tag));
    let mut groups: Vec<TagGroup> = Vec::new();
    let mut places: HashMap<Digest, usize> = HashMap::new();
    let unasked = names[asked..].iter().map(|_| Ok(None));
    for (tag, meaning) in names.iter().zip(meanings.into_iter().chain(unasked)) {
        let (descriptor, error) = match meaning {
            Ok(descriptor) => (descriptor, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let at = descriptor.as_ref().and_then(|d| places.get(&d.digest)).copied();
        match at {
            Some(at) => groups[at].tags.push(tag.clone()),
            None => {
                places.extend(descriptor.as_ref().map(|d| (d.digest, groups.len())));
                let tags = vec![tag.clone()];
                let (platforms, created, earlier) = (None, None, Vec::new());
                groups.push(TagGroup { tags, descriptor, platforms, created, earlier, error });
            }
        }
    }
    if !request.names_only {
        let resolve_options = options.of_resolving();
        let documents = Documents::new(source.as_ref(), cache, &resolve_options);
        add_details(&mut groups, documents, request.details);
        add_earlier(&mut groups, &*repository)?;
    }
    let not_asked = if request.names_only { 0 } else { names.len() - asked };
    Ok(TagList { groups, hidden, not_asked, cut: found.cut })
}

/// The names of the tags of a repository, in the order of versions and without those of referrers, sharing with others
/// what is known of registries.
///
/// # Errors
/// The name has no repository, or its tags can't be listed.
pub fn tag_names_in(
    name: &ImageName,
    cache: &Arc<Cache>,
    options: &ImageOptions,
    session: &Session,
) -> Result<Vec<String>, Error> {
    let source = open_source(name, cache, options, session)?;
    let no_tags = || Error::NoTags(name.to_string());
    let repository = Arc::clone(&source).repository().ok_or_else(no_tags)?;
    let mut names = repository.tags()?.names;
    if let ImageName::Registry(reference) = name {
        cache.put_tag_list(&repository_name(reference), &names);
    }
    names.retain(|tag| !is_of_referrer(tag));
    names.sort_by_cached_key(|tag| order(tag));
    Ok(names)
}

/// The repositories that the registry of an image lists, in order; none without a network.
///
/// # Errors
/// The image is in no registry, or that does not list them.
pub fn repositories_in(
    name: &ImageName,
    options: &ImageOptions,
    session: &Session,
) -> Result<Vec<String>, Error> {
    let ImageName::Registry(reference) = name else {
        return Err(Error::NoRegistry(name.to_string()));
    };
    if options.offline {
        return Ok(Vec::new());
    }
    let registry = Registry::for_listing(reference.clone(), &options.registry, session);
    let mut names = registry.map_err(source::Error::from)?.repositories()?;
    names.sort_unstable();
    Ok(names)
}

/// The tags that a repository in a registry had when they were last listed, the newest version first and without those
/// of referrers.
pub fn remembered_tags(name: &ImageName, cache: &Cache) -> Option<TagListRecord> {
    let ImageName::Registry(reference) = name else { return None };
    let mut record = cache.tag_list(&repository_name(reference))?;
    record.names.retain(|tag| !is_of_referrer(tag));
    record.names.sort_by_cached_key(|tag| order(tag));
    Some(record)
}

fn repository_name(reference: &Reference) -> String {
    format!("{}/{}", reference.registry(), reference.repository())
}

/// Platforms and times, as far as they cost nothing or are wanted.
fn add_details(groups: &mut [TagGroup], documents: Documents<'_>, is_wanted: bool) {
    let known = groups.iter().enumerate();
    let known = known.filter_map(|(at, group)| Some((at, group.descriptor.as_ref()?.digest)));
    let mut may_fetch = if is_wanted { MAX_DETAILS } else { 0 };
    let todo: Vec<(usize, Digest, bool)> = known
        .filter_map(|(at, digest)| {
            let is_here = documents.is_here(&digest);
            if !is_here {
                may_fetch = may_fetch.checked_sub(1)?;
            }
            Some((at, digest, is_wanted))
        })
        .collect();
    let details = parallel::map(&todo, PARALLEL, |(_, digest, is_wanted)| {
        details(documents, digest, *is_wanted)
    });
    for ((at, ..), details) in todo.into_iter().zip(details) {
        let group = &mut groups[at];
        match details {
            Ok((platforms, created)) => (group.platforms, group.created) = (platforms, created),
            Err(error) => group.error = Some(error.to_string()),
        }
    }
}

/// The platforms of what a digest names, and when it was made.
fn details(
    documents: Documents<'_>,
    digest: &Digest,
    is_wanted: bool,
) -> Result<(Option<Vec<Platform>>, Option<String>), Error> {
    let document = documents.by_digest(digest)?;
    match document.value() {
        Document::Index(index) => {
            let mut platforms: Vec<Platform> = Vec::new();
            let named = index.entries.usable().filter_map(|entry| entry.platform.clone());
            for platform in named.filter(|platform| !platform.is_unknown()) {
                if !platforms.contains(&platform) {
                    platforms.push(platform);
                }
            }
            Ok((Some(platforms), index.annotations.get(annotation::CREATED).cloned()))
        }
        Document::Manifest(manifest) => {
            let created = manifest.annotations.get(annotation::CREATED).cloned();
            let is_cheap = is_wanted || documents.is_here(&manifest.config.digest);
            if manifest.check_image().is_err() || !is_cheap {
                return Ok((None, created));
            }
            let config = documents.config(manifest)?;
            let mut platform = config.value().platform.clone();
            platform.normalise();
            let details = ConfigDetails::parse(config.bytes()).unwrap_or_default();
            Ok((Some(vec![platform]), details.created.or(created)))
        }
    }
}

/// What tags meant before.
fn add_earlier(groups: &mut [TagGroup], repository: &dyn Repository) -> Result<(), Error> {
    for group in groups {
        let now = group.descriptor.as_ref().map(|descriptor| descriptor.digest);
        for tag in &group.tags {
            let revisions = repository.revisions(tag)?.into_iter();
            let earlier = revisions.filter(|revision| Some(revision.digest) != now);
            group.earlier.extend(earlier.map(|revision| (tag.clone(), revision)));
        }
    }
    Ok(())
}
