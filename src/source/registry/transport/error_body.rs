//! What a server says in the body of an error (OCI distribution specification, "Error Codes").

use serde::Deserialize;

use crate::json::{self, Text};

/// The envelope of the specification.
#[derive(Deserialize)]
struct Envelope {
    /// The first is enough; like Go, [`json`] leaves alone what does not fit.
    #[serde(default, deserialize_with = "json::or_default")]
    errors: Option<(Words,)>,
}

/// What an error says, in the words of the specification or of other servers.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Words {
    #[serde(deserialize_with = "json::or_default")]
    code: Text,
    #[serde(deserialize_with = "json::or_default")]
    message: Text,
    #[serde(deserialize_with = "json::or_default")]
    details: Text,
    #[serde(deserialize_with = "json::or_default")]
    detail: Text,
    #[serde(deserialize_with = "json::or_default")]
    error: Text,
}

/// The code and message of an error body: the OCI envelope or what others send instead.
pub(in crate::source::registry) fn server_words(body: &[u8]) -> (Option<String>, Option<String>) {
    let envelope = json::first_value::<Envelope>(body).ok();
    let first = envelope.and_then(|envelope| envelope.errors).map(|(first,)| first);
    let words = first.or_else(|| json::first_value(body).ok()).unwrap_or_default();
    let Words { code, message, details, detail, error } = words;
    // Server text on a terminal: one line, no control characters, bounded.
    let shown = |text: Text| {
        let text: String = text.0.chars().filter(|c| !c.is_control()).take(300).collect();
        Some(text).filter(|text| !text.is_empty())
    };
    (shown(code), [message, details, detail, error].into_iter().find_map(shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_servers() {
        let oci = br#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way"}]}"#;
        assert_eq!(server_words(oci), (Some("DENIED".into()), Some("no[31m way".into())));
        let other = br#"{"details":"token expired"}"#;
        assert_eq!(server_words(other), (None, Some("token expired".into())));
        let words = |body: &str| {
            let (code, message) = server_words(body.as_bytes());
            format!("{} {}", code.unwrap_or("-".into()), message.unwrap_or("-".into()))
        };
        for (body, expected) in [
            // As servers in other languages, and proxies, write it.
            (r#"{"Errors":[{"Code":"DENIED","Message":"no","detail":{"a":[1]}},5]}"#, "DENIED no"),
            (r#"{"errors":[{"code":401,"message":"no","detail":null}]}"#, "- no"),
            (r#"{"errors":[{"code":"DENIED","message":"","detail":"why"}]}"#, "DENIED why"),
            (r#"{"errors":null,"message":"no"}"#, "- no"),
            (r#"{"errors":[],"message":"no"}"#, "- no"),
            (r#"{"errors":"no","error":"denied"}"#, "- denied"),
            (r#"{"errors":["no"],"code":"UNKNOWN"}"#, "UNKNOWN -"),
            ("\u{feff}{\"message\":\"cut \\ud83d\"}\r\n<!-- proxy -->", "- cut \u{fffd}"),
            (r#"{"message":["no"],"error":{"code":1}}"#, "- -"),
            ("null", "- -"),
            ("[]", "- -"),
            ("<html>", "- -"),
            ("", "- -"),
        ] {
            assert_eq!(words(body), expected, "{body}");
        }
        let message = "x".repeat(1000);
        let long = format!(r#"{{"errors":[{{"message":"{message}"}},{}0]}}"#, "0,".repeat(10_000));
        assert_eq!(server_words(long.as_bytes()), (None, Some("x".repeat(300))));
    }
}
