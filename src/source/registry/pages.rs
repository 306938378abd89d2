//! Lists that come in pages: where the next one is.

use ureq::Body as HttpBody;
use ureq::http::{Response, Uri, header};

use super::url::{escaped, redirect_target, same_origin};

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
