//! The tags of a repository (OCI distribution spec 1.1, "Listing Tags").

use serde::Deserialize;
use ureq::http::Method;

use super::error::Error;
use super::image::Registry;
use super::mirrors::Wanted;
use super::pages::{NextPage, all_pages, next_page};
use super::transport::request::Request;
use crate::json;
use crate::reference::is_tag;
use crate::source::Tags;

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
        let (names, cut) = all_pages("tags", |at| self.page(at))?;
        Ok(Tags { names, cut })
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
