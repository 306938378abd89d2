//! The tags of a repository (OCI distribution spec 1.1, "Listing Tags").
//!
//! A list may come in pages, each with a link to the next one. No length of a page is asked for: without one, most
//! registries send the whole list, and some refuse lengths above their own limit. Lists may be long (nightly builds
//! leave tens of thousands of tags), and a registry that is broken or means harm may send pages without end, or lead in
//! a circle. So a list ends where a page brings nothing new, and at limits.

use std::collections::HashSet;

use serde::Deserialize;
use ureq::http::Method;

use super::error::Error;
use super::image::Registry;
use super::mirrors::Wanted;
use super::pages::{NextPage, next_page};
use super::transport::request::Request;
use crate::json;
use crate::reference::is_tag;
use crate::source::Tags;

/// Pages that are read; registries send 100 tags a page or more.
const MAX_PAGES: usize = 1000;

/// Tags that are listed.
const MAX_TAGS: usize = 100_000;

/// A page. What can't be a tag in it is left out.
#[derive(Default, Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "json::or_default")]
    tags: Option<Vec<json::Attempt<String>>>,
}

impl Registry {
    /// The tags that there are.
    ///
    /// # Errors
    /// The registry can't be reached, does not say or refuses.
    pub fn tags(&self) -> Result<Tags, Error> {
        let mut tags = Tags::default();
        let mut seen = HashSet::new();
        let mut next: Option<String> = None;
        for _ in 0..MAX_PAGES {
            let (names, more) = self.page(next.as_deref())?;
            let before = tags.names.len();
            tags.names.extend(names.into_iter().filter(|name| seen.insert(name.clone())));
            if tags.names.len() > MAX_TAGS {
                tags.names.truncate(MAX_TAGS);
                tags.cut = Some(format!("it has more than {MAX_TAGS} tags"));
                return Ok(tags);
            }
            next = match more {
                NextPage::None => return Ok(tags),
                NextPage::At(_) if tags.names.len() == before => {
                    tags.cut = Some("a page of the list had no tag that others had not".to_owned());
                    return Ok(tags);
                }
                NextPage::At(url) => Some(url),
                NextPage::Elsewhere => {
                    tags.cut = Some("the list goes on at another host".to_owned());
                    return Ok(tags);
                }
            };
        }
        tags.cut = Some(format!("the list has more than {MAX_PAGES} pages"));
        Ok(tags)
    }

    /// The tags of the first page, for a message.
    pub(super) fn first_tags(&self) -> Result<Vec<String>, Error> {
        Ok(self.page(None)?.0)
    }

    /// A page, and where the next one is.
    fn page(&self, at: Option<&str>) -> Result<(Vec<String>, NextPage), Error> {
        const WHAT: &str = "the list of tags";
        self.0.try_hosts(Wanted::Name, |client| {
            let url = at.map_or_else(|| client.url("tags/list"), str::to_owned);
            let response = client.send(&Request::new(Method::GET, &url, WHAT))?.response;
            let next = next_page(&response, &url);
            let page = client.document(response, "tags")?;
            let page: Page = json::from_slice(&page).unwrap_or_default();
            let names = page.tags.unwrap_or_default().into_iter().filter_map(|tag| tag.0.ok());
            // They become parts of URLs, and are shown.
            Ok((names.filter(|tag| is_tag(tag)).collect(), next))
        })
    }
}
