//! The settings of an image config as names and values, so that two configs can be compared.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Error;
use super::read::read;

/// What is told by the layers themselves.
const OF_LAYERS: [&str; 2] = ["rootfs", "history"];

/// The key whose list is of names and values.
const ENVIRONMENT: &str = "Env";

/// The settings of a config: what it says of everything but its layers. Keys of objects are joined by dots
/// (`config.Labels.version`), variables of the environment stand below `config.Env`, texts are as they are and other
/// values in JSON. What is `null` or empty counts as absent.
///
/// # Errors
/// The bytes are no JSON object.
pub fn config_settings(bytes: &[u8]) -> Result<BTreeMap<String, String>, Error> {
    let document: serde_json::Map<String, Value> = read(bytes).map_err(Error::Config)?;
    let mut settings = BTreeMap::new();
    let mut todo: Vec<(String, Value)> = document.into_iter().collect();
    todo.retain(|(key, _)| !OF_LAYERS.contains(&key.as_str()));
    while let Some((key, value)) = todo.pop() {
        match value {
            Value::Null => {}
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => drop(settings.insert(key, text)),
            Value::Array(list) if list.is_empty() => {}
            Value::Array(list) if key.ends_with(ENVIRONMENT) => {
                for word in list.iter().filter_map(Value::as_str) {
                    let (name, value) = word.split_once('=').unwrap_or((word, ""));
                    settings.insert(format!("{key}.{name}"), value.to_owned());
                }
            }
            Value::Object(map) if map.values().any(is_setting) => {
                todo.extend(
                    map.into_iter().map(|(inner, value)| (format!("{key}.{inner}"), value)),
                );
            }
            // A set: `ExposedPorts` and `Volumes` have keys alone.
            Value::Object(map) if !map.is_empty() => {
                settings.insert(
                    key,
                    Value::from(map.into_iter().map(|(key, _)| key).collect::<Vec<_>>())
                        .to_string(),
                );
            }
            Value::Object(_) => {}
            other => drop(settings.insert(key, other.to_string())),
        }
    }
    Ok(settings)
}

/// Whether a value says something.
fn is_setting(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        _ => true,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        let settings = config_settings(
            br#"{"os":"linux","rootfs":{"diff_ids":[]},"history":[{}],"created":null,"config":{"Env":["A=b=c","D"],
            "Cmd":["sh","-c"],"ExposedPorts":{"80/tcp":{},"81/tcp":{}},"Labels":{"a.b":"c","e":""},
            "Healthcheck":{"Test":["CMD","x"],"Interval":5},"User":"","Volumes":null,"OnBuild":[]}}"#,
        );
        let settings: Vec<(String, String)> = settings.unwrap().into_iter().collect();
        let expected = [
            ("config.Cmd", r#"["sh","-c"]"#),
            ("config.Env.A", "b=c"),
            ("config.Env.D", ""),
            ("config.ExposedPorts", r#"["80/tcp","81/tcp"]"#),
            ("config.Healthcheck.Interval", "5"),
            ("config.Healthcheck.Test", r#"["CMD","x"]"#),
            ("config.Labels.a.b", "c"),
            ("os", "linux"),
        ];
        assert_eq!(settings, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(config_settings(b"[]").is_err());
    }
}
