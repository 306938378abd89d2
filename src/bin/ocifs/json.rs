//! Names in JSON.
//!
//! A name is any bytes, a JSON string is text. So a name that is not UTF-8 stands there twice: as text with
//! `U+FFFD` in place of what is none, under its key, for people; and under the key with `_base64`
//! behind it exactly as it is. Programs take the second where there is one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Puts a name into an object.
pub(crate) fn set_name(object: &mut Value, key: &str, name: &[u8]) {
    if std::str::from_utf8(name).is_err() {
        object[format!("{key}_base64")] = STANDARD.encode(name).into();
    }
    object[key] = String::from_utf8_lossy(name).into();
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_kept() {
        let set = |name: &[u8]| {
            let mut object = json!({});
            set_name(&mut object, "path", name);
            object
        };
        assert_eq!(set("ü\n\u{fffd}".as_bytes()), json!({ "path": "ü\n\u{fffd}" }));
        assert_eq!(set(b"a\xff"), json!({ "path": "a\u{fffd}", "path_base64": "Yf8=" }));
        assert_eq!(set(b""), json!({ "path": "" }));
    }
}
