//! Challenges: what a `WWW-Authenticate` header asks for (RFC 9110, 11.6.1).

use std::collections::BTreeMap;
use std::mem;

use ureq::Body as HttpBody;
use ureq::http::{Response, header};

/// One challenge of a `WWW-Authenticate` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// The name of the scheme, in lower case.
    pub scheme: String,
    /// The parameters, by their names in lower case.
    pub parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// Parses `scheme param="value", param=value, scheme …`, forgiving what servers get wrong.
    pub fn parse_all(text: &str) -> Vec<Challenge> {
        let mut found: Vec<Challenge> = Vec::new();
        for part in split_outside_quotes(text) {
            let part = part.trim();
            let (head, value) = match part.split_once('=') {
                Some((head, value)) => (head.trim(), Some(value.trim())),
                None => (part, None),
            };
            // `Bearer realm="x"` starts a challenge; `realm="x"` continues one.
            let (scheme, key) = match (head.split_once(char::is_whitespace), value) {
                (Some((scheme, key)), _) => (Some(scheme), Some(key.trim())),
                (None, Some(_)) => (None, Some(head)),
                (None, None) => (Some(head), None),
            };
            if let Some(scheme) = scheme.filter(|scheme| !scheme.is_empty()) {
                let scheme = scheme.to_ascii_lowercase();
                found.push(Challenge { scheme, parameters: BTreeMap::new() });
            }
            if let (Some(challenge), Some(key), Some(value)) = (found.last_mut(), key, value) {
                challenge.parameters.insert(key.to_ascii_lowercase(), unquoted(value));
            }
        }
        found
    }

    /// Whether a login or a token server can be meant.
    pub(in crate::source::registry) fn is_answerable(&self) -> bool {
        match &*self.scheme {
            "basic" => true,
            // Azure's storage gives none, and names its login page.
            "bearer" => self.parameters.contains_key("realm"),
            _ => false,
        }
    }
}

/// All challenges of an answer, over all its headers.
pub(in crate::source::registry) fn challenges(response: &Response<HttpBody>) -> Vec<Challenge> {
    let headers = response.headers().get_all(header::WWW_AUTHENTICATE);
    // The words of a realm may be in any language.
    let texts = headers.iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
    texts.flat_map(|text| Challenge::parse_all(&text)).collect()
}

/// A value without its quotes, which some servers write as `'`.
fn unquoted(value: &str) -> String {
    if let Some(value) = value.strip_prefix('\'').and_then(|value| value.strip_suffix('\'')) {
        return value.to_owned();
    }
    let value = value.strip_prefix('"').unwrap_or(value);
    value.strip_suffix('"').unwrap_or(value).replace("\\\"", "\"")
}

/// The parts between commas, and between semicolons where some servers write them after a quoted value.
fn split_outside_quotes(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped, mut has_closed) = (false, false, false);
    text.split(move |c: char| {
        let has_just_closed = mem::take(&mut has_closed);
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => {
                quoted = !quoted;
                has_closed = !quoted;
            }
            ',' if !quoted => return true,
            ';' if has_just_closed => return true,
            _ => {}
        }
        false
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn challenge_headers() {
        let parse = |text: &str| {
            Challenge::parse_all(text)
                .into_iter()
                .map(|c| {
                    let p: Vec<String> =
                        c.parameters.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    format!("{} {}", c.scheme, p.join(";"))
                })
                .collect::<Vec<_>>()
        };
        for (text, expected) in [
            (
                r#"Bearer realm="https://a/token",service="s",scope="repository:x:pull,push""#,
                &["bearer realm=https://a/token;scope=repository:x:pull,push;service=s"][..],
            ),
            (r#"Basic realm="Registry Realm""#, &["basic realm=Registry Realm"]),
            (r#"BASIC"#, &["basic "]),
            (r#"Basic realm="a", Bearer realm="b""#, &["basic realm=a", "bearer realm=b"]),
            (r#"bearer Realm=https://a/t, service=x"#, &["bearer realm=https://a/t;service=x"]),
            (r#"Bearer realm="a\"b,c""#, &[r#"bearer realm=a"b,c"#]),
            (r#"Bearer realm='https://a/t',service='s'"#, &["bearer realm=https://a/t;service=s"]),
            (r#"Bearer realm="a;b";service="s""#, &["bearer realm=a;b;service=s"]),
            (r#"Bearer realm=https://a/t;v=1"#, &["bearer realm=https://a/t;v=1"]),
            (r#"Basic realm="für alle""#, &["basic realm=für alle"]),
            ("", &[]),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
