//! The repositories of a registry (Docker Registry HTTP API V2, "Listing Repositories").
//!
//! The OCI distribution specification has no such list. The registry of the distribution project, Harbor, Zot and others
//! give it, to whom they like; the large public ones to nobody.

use serde::Deserialize;
use ureq::http::Method;

use super::error::Error;
use super::image::Registry;
use super::mirrors::Wanted;
use super::pages::{NextPage, all_pages, next_page};
use super::transport::request::Request;
use crate::json;
use crate::reference::Reference;
use crate::source;

/// A page. What can't be a repository in it is left out.
#[derive(Default, Deserialize)]
struct Page {
    #[serde(default, deserialize_with = "json::or_default")]
    repositories: Option<Vec<json::Attempt<String>>>,
}

impl Registry {
    /// The repositories that the registry lists.
    ///
    /// # Errors
    /// It can't be reached, has no such list or does not give it.
    pub fn repositories(&self) -> Result<Vec<String>, source::Error> {
        let all = all_pages("repositories", |at| self.page_of_repositories(at));
        let (names, cut) = all.map_err(|e| source::Error::from(Box::new(e)))?;
        if let Some(cut) = cut {
            log::warn!("{}: repositories may be missing: {cut}", self.reference().registry());
        }
        Ok(names)
    }

    fn page_of_repositories(&self, at: Option<&str>) -> Result<(Vec<String>, NextPage), Error> {
        const WHAT: &str = "the list of repositories";
        self.0.try_hosts(Wanted::Name, |client| {
            let url = at.map_or_else(|| client.api_url("_catalog"), str::to_owned);
            let response = client.send(&Request::new(Method::GET, &url, WHAT))?.response;
            let next = next_page(&response, &url);
            let page = client.document(response, WHAT)?;
            let page: Page = json::from_slice(&page).unwrap_or_default();
            let names = page.repositories.unwrap_or_default().into_iter();
            // They become parts of URLs, and names of directories.
            let names = names.filter_map(|name| name.0.ok()).filter(|name| {
                let reference = format!("{}/{name}", client.name()).parse::<Reference>();
                reference.is_ok_and(|reference| {
                    reference.repository() == name
                        && reference.digest().is_none()
                        && reference.tag() == Some("latest")
                })
            });
            Ok((names.collect(), next))
        })
    }
}
