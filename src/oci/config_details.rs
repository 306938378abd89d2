//! What an image config tells people: who made the image, when, of which steps, and how it is run.
//!
//! None of it decides what is shown of the files, so a field of another kind than it should be counts as
//! absent, and a config that is right about its layers is never refused for the rest. It is read when it
//! is asked for: mounting an image does not pay for megabytes of labels.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use super::error::Error;
use super::read::read;
use crate::json::{self, Attempt};

/// Steps accepted in one history. BuildKit and Docker write one an instruction.
const MAX_HISTORY: usize = 10_000;

/// The parts of an image config that people look at. Format: OCI image spec, config.md.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, expecting = "an image config")]
pub struct ConfigDetails {
    /// When the image was made, in RFC 3339 as it is written.
    #[serde(deserialize_with = "json::or_default")]
    pub created: Option<String>,
    /// Who made it.
    #[serde(deserialize_with = "json::or_default")]
    pub author: Option<String>,
    /// How a container of it is run.
    #[serde(rename = "config", deserialize_with = "json::or_default")]
    pub run: RunConfig,
    /// The steps that made it, base first; some have made a layer.
    #[serde(deserialize_with = "history")]
    pub history: Vec<HistoryEntry>,
}

/// How a container is run: `config` of an image config.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase", expecting = "an object")]
pub struct RunConfig {
    /// User and group, by name or number.
    #[serde(deserialize_with = "json::or_default")]
    pub user: String,
    /// Ports that are meant to be published: `8000/tcp`.
    #[serde(deserialize_with = "keys")]
    pub exposed_ports: Vec<String>,
    /// The environment: `NAME=value`.
    #[serde(deserialize_with = "texts")]
    pub env: Vec<String>,
    /// The words that a command begins with.
    #[serde(deserialize_with = "texts")]
    pub entrypoint: Vec<String>,
    /// The words of a command, unless others are given.
    #[serde(deserialize_with = "texts")]
    pub cmd: Vec<String>,
    /// Directories for volumes.
    #[serde(deserialize_with = "keys")]
    pub volumes: Vec<String>,
    /// Where a command begins.
    #[serde(deserialize_with = "json::or_default")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "labels")]
    pub labels: BTreeMap<String, String>,
    /// The signal that ends a container.
    #[serde(deserialize_with = "json::or_default")]
    pub stop_signal: String,
}

/// A step in the making of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, expecting = "a step of a history")]
pub struct HistoryEntry {
    /// When, in RFC 3339 as it is written.
    #[serde(deserialize_with = "json::or_default")]
    pub created: Option<String>,
    /// By which instruction.
    #[serde(deserialize_with = "json::or_default")]
    pub created_by: String,
    /// By whom.
    #[serde(deserialize_with = "json::or_default")]
    pub author: Option<String>,
    /// A remark of the builder: `buildkit.dockerfile.v0`.
    #[serde(deserialize_with = "json::or_default")]
    pub comment: String,
    /// Whether it has made no layer.
    #[serde(deserialize_with = "json::or_default")]
    pub empty_layer: bool,
}

impl ConfigDetails {
    /// Reads the bytes of a config.
    ///
    /// # Errors
    /// They are no JSON object.
    pub fn parse(bytes: &[u8]) -> Result<ConfigDetails, Error> {
        read(bytes).map_err(Error::Config)
    }
}

/// A list that may be `null`, may hold what is no text, or be a single text, as `Cmd` in old images.
fn texts<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Many(Vec<Attempt<String>>),
        One(String),
    }
    Ok(match Option::<Words>::deserialize(deserializer).unwrap_or_default() {
        Some(Words::Many(words)) => words.into_iter().filter_map(|word| word.0.ok()).collect(),
        Some(Words::One(word)) => vec![word],
        None => Vec::new(),
    })
}

/// The keys of an object whose values say nothing, as Docker writes sets.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let keys = Option::<BTreeMap<String, serde::de::IgnoredAny>>::deserialize(deserializer);
    Ok(keys.unwrap_or_default().unwrap_or_default().into_keys().collect())
}

/// Labels are text; what else may stand there is left out.
fn labels<'de, D>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error>
where
    D: Deserializer<'de>,
{
    let labels = Option::<BTreeMap<String, Attempt<String>>>::deserialize(deserializer);
    let labels = labels.unwrap_or_default().unwrap_or_default();
    Ok(labels.into_iter().filter_map(|(key, value)| Some((key, value.0.ok()?))).collect())
}

/// The steps; one that can't be read is a step that says nothing, as others are counted by their place.
fn history<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HistoryEntry>, D::Error> {
    let steps = Option::<Vec<Attempt<HistoryEntry>>>::deserialize(deserializer);
    let steps = steps.unwrap_or_default().unwrap_or_default().into_iter().take(MAX_HISTORY);
    Ok(steps.map(|step| step.0.unwrap_or_default()).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_people_look_at() {
        let details = ConfigDetails::parse(
            br#"{"created":"2024-01-02T03:04:05Z","author":"a","config":{"User":"1000","ExposedPorts":{"80/tcp":{}},
            "Env":["A=b"],"Entrypoint":["/x"],"Cmd":null,"WorkingDir":"/w","Labels":{"k":"v","n":{}}},
            "history":[{"created_by":"ADD"},{"created_by":"CMD","empty_layer":true}]}"#,
        );
        let ConfigDetails { created, author, run, history } = details.unwrap();
        assert_eq!(
            (created.as_deref(), author.as_deref()),
            (Some("2024-01-02T03:04:05Z"), Some("a"))
        );
        assert_eq!((run.user.as_str(), run.working_dir.as_str()), ("1000", "/w"));
        assert_eq!((run.exposed_ports, run.env), (vec!["80/tcp".into()], vec!["A=b".into()]));
        assert_eq!((run.entrypoint, run.cmd), (vec!["/x".to_owned()], Vec::new()));
        assert_eq!(run.labels.into_iter().collect::<Vec<_>>(), [("k".into(), "v".into())]);
        let steps: Vec<_> =
            history.iter().map(|step| (&*step.created_by, step.empty_layer)).collect();
        assert_eq!(steps, [("ADD", false), ("CMD", true)]);
    }

    #[test]
    fn other_kinds_of_values_count_as_none() {
        for text in [
            "{}",
            r#"{"config":null,"history":null,"created":{},"author":[]}"#,
            r#"{"config":[],"history":{},"created":null}"#,
            r#"{"config":{"Env":3,"Labels":[],"ExposedPorts":"x","User":{},"Cmd":{}},"history":"x"}"#,
        ] {
            let details = ConfigDetails::parse(text.as_bytes()).unwrap();
            assert!(details.history.is_empty() && details.run.env.is_empty(), "{text}");
            assert!(details.run.cmd.is_empty() && details.run.labels.is_empty(), "{text}");
            assert!(details.created.is_none() && details.author.is_none(), "{text}");
        }
        let details = ConfigDetails::parse(
            br#"{"config":{"Cmd":"sh"},"history":[null,7,{"created_by":{}},{"empty_layer":"x"}]}"#,
        );
        let details = details.unwrap();
        assert_eq!(details.run.cmd, ["sh"]);
        assert_eq!(details.history, vec![HistoryEntry::default(); 4]);
        assert!(ConfigDetails::parse(b"[").is_err());
    }
}
