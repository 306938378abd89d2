//! Lists of names that come in pages (OCI distribution spec 1.1, "Listing Tags").
//!
//! Each page has a link to the next one. No length of a page is asked for: without one, most registries send the whole
//! list, and some refuse lengths above their own limit. Lists may be long (nightly builds leave tens of thousands of
//! tags), and a registry that is broken or means harm may send pages without end, or lead in a circle. So a list
//! ends where a page brings nothing new, and at limits.

use std::collections::HashSet;

use ureq::Body as HttpBody;
use ureq::http::{Response, Uri, header};

use super::url::{escaped, redirect_target, same_origin};

/// Pages that are read; registries send 100 names a page or more.
const MAX_PAGES: usize = 1000;

/// Names that are listed.
const MAX_NAMES: usize = 100_000;

/// Names of all pages, and why there may be more of them. `page` fetches one page, the first or the one at a URL;
/// `names` is what they are called.
pub(super) fn all_pages<E>(
    names: &str,
    mut page: impl FnMut(Option<&str>) -> Result<(Vec<String>, NextPage), E>,
) -> Result<(Vec<String>, Option<String>), E> {
    let mut found: Vec<String> = Vec::new();
    let mut seen = HashSet::new();
    let mut next: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let (more, after) = page(next.as_deref())?;
        let before = found.len();
        found.extend(more.into_iter().filter(|name| seen.insert(name.clone())));
        if found.len() > MAX_NAMES {
            found.truncate(MAX_NAMES);
            return Ok((found, Some(format!("it has more than {MAX_NAMES} {names}"))));
        }
        next = match after {
            NextPage::None => return Ok((found, None)),
            NextPage::At(_) if found.len() == before => {
                let cut = format!("a page of the list had no {names} that others had not");
                return Ok((found, Some(cut)));
            }
            NextPage::At(url) => Some(url),
            NextPage::Elsewhere => {
                return Ok((found, Some("the list goes on at another host".to_owned())));
            }
        };
    }
    Ok((found, Some(format!("the list has more than {MAX_PAGES} pages"))))
}

/// Where the next page of a list is.
pub(super) enum NextPage {
    /// There is none.
    None,
    /// At this URL.
    At(String),
    /// Not at the registry, or at no URL at all: it is not followed.
    Elsewhere,
}

/// The next page by `Link: <URL>; rel="next"` (RFC 8288).
pub(super) fn next_page(response: &Response<HttpBody>, from: &str) -> NextPage {
    let values = response.headers().get_all(header::LINK);
    let values = values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    let mut targets = values.filter_map(|value| next_target(&value).map(str::to_owned));
    let Some(target) = targets.next() else { return NextPage::None };
    let own = from.parse::<Uri>().ok().and_then(|from| {
        let next = redirect_target(&from, &escaped(target.as_bytes()))?;
        same_origin(&from, &next).then(|| next.to_string())
    });
    own.map_or(NextPage::Elsewhere, NextPage::At)
}

/// The target of the link of a header that is the next one.
fn next_target(value: &str) -> Option<&str> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('<') {
        let (target, parameters) = after.split_once('>')?;
        let own = parameters.split('<').next().unwrap_or_default();
        let is_next = own.split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(key, value)| {
                let mut kinds = value.trim().trim_matches('"').split_whitespace();
                key.trim().eq_ignore_ascii_case("rel")
                    && kinds.any(|kind| kind.eq_ignore_ascii_case("next"))
            })
        });
        if is_next {
            return Some(target);
        }
        rest = parameters;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_the_next_page() {
        for (value, expected) in [
            (r#"</v2/x?n=1>; rel="next""#, Some("/v2/x?n=1")),
            ("<https://r/x>;rel=next", Some("https://r/x")),
            (r#"<a>; rel="prev", <b>; title="t"; rel="next""#, Some("b")),
            (r#"<a?x=1,2;3>; REL="last next""#, Some("a?x=1,2;3")),
            (r#"<a>; rel="nextest""#, None),
            (r#"<a>; rel="prev""#, None),
            ("<a", None),
            ("rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_target(value), expected, "{value}");
        }
    }
}
