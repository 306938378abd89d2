//! Documents in JSON, and the names in them.
//!
//! Every document says which version of `docs/json.md` it follows, in the key `version`; a list says it in each
//! object. Keys are only added within a version.
//!
//! A name is any bytes, a JSON string is text. So a name that is not UTF-8 stands there twice: as text with
//! `U+FFFD` in place of what is none, under its key, for people; and under the key with `_base64`
//! behind it exactly as it is. Programs take the second where there is one.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ocifs::tree::FileKind;
use serde_json::Value;

use crate::render::text::is_printable;

/// Puts a name into an object.
pub(crate) fn set_name(object: &mut Value, key: &str, name: &[u8]) {
    if std::str::from_utf8(name).is_err() {
        object[format!("{key}_base64")] = STANDARD.encode(name).into();
    }
    object[key] = String::from_utf8_lossy(name).into();
}

/// What `type` says of a file.
pub(crate) fn type_word(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Regular => "file",
        FileKind::Directory => "directory",
        FileKind::Symlink => "symlink",
        FileKind::CharDevice => "char",
        FileKind::BlockDevice => "block",
        FileKind::Fifo => "fifo",
    }
}

/// The version of the documents.
const VERSION: u32 = 1;

/// A document in one line, with its version. What terminals would not show as it is stands there as an escape, which means the same.
pub(crate) fn line(mut document: Value) -> String {
    match &mut document {
        Value::Array(rows) => rows.iter_mut().for_each(set_version),
        _ => set_version(&mut document),
    }
    let plain = document.to_string();
    if plain.chars().all(is_printable) {
        return plain;
    }
    // All of them are in strings, and none is beyond U+FFFF.
    let mut text = String::with_capacity(plain.len());
    for c in plain.chars() {
        match is_printable(c) {
            true => text.push(c),
            false => text.push_str(&format!("\\u{:04x}", u32::from(c))),
        }
    }
    text
}

fn set_version(document: &mut Value) {
    if let Value::Object(keys) = document {
        keys.insert("version".to_owned(), VERSION.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn escapes_mean_the_same() {
        let document = json!({ "version": 1, "a\u{9b}": ["\u{202e}\u{7f}\n\\", "\u{fc}"] });
        let shown = line(document.clone());
        assert!(shown.chars().all(is_printable) && shown.contains('\u{fc}'), "{shown}");
        assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), document);
    }

    #[test]
    fn documents_have_a_version() {
        assert_eq!(line(json!({ "a": 1 })), r#"{"a":1,"version":1}"#);
        assert_eq!(line(json!([{}, {}])), r#"[{"version":1},{"version":1}]"#);
    }

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
