//! What each kind says of its blobs.

use std::collections::HashMap;

use serde::Deserialize;

use super::compose;
use super::kind::{Kind, TEKTON_KIND, TEKTON_NAME};
use super::names::{annotation, extension, filepath, title};
use crate::json;
use crate::oci::{Descriptor, Manifest, media_type};

/// ORAS' mark of a folder that it has packed; the names in the tar begin with its title.
const UNPACK: &str = "io.deis.oras.content.unpack";

/// What a rule says of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// A file of this name; of none, if nothing says one.
    File(Option<String>),
    /// A file of this name that was compressed.
    Compressed(Option<String>),
    /// A tar, shown below a directory; and its name as a file.
    Tree { below: String, name: Option<String> },
}

impl Rule {
    fn file(name: impl Into<String>) -> Rule {
        Rule::File(Some(name.into()))
    }

    fn root(name: Option<String>) -> Rule {
        Rule::Tree { below: String::new(), name }
    }

    pub(super) fn name(&self) -> Option<String> {
        match self {
            Rule::File(name) | Rule::Compressed(name) | Rule::Tree { name, .. } => name.clone(),
        }
    }

    pub(super) fn is_tree(&self) -> bool {
        matches!(self, Rule::Tree { .. })
    }

    pub(super) fn is_compressed(&self) -> bool {
        matches!(self, Rule::Compressed(_))
    }

    /// The directory for what is in it.
    pub(super) fn below(&self) -> Option<Vec<u8>> {
        match self {
            Rule::Tree { below, .. } => Some(super::names::clean(below)),
            Rule::File(_) | Rule::Compressed(_) => None,
        }
    }
}

/// What a chart's config says, which is its `Chart.yaml` as JSON.
#[derive(Default, Deserialize)]
#[serde(default, expecting = "a chart's metadata")]
struct Chart {
    #[serde(deserialize_with = "json::or_default")]
    name: String,
    #[serde(deserialize_with = "json::or_default")]
    version: String,
}

/// The rules of one manifest.
pub(super) struct Rules<'a> {
    kind: Kind,
    manifest: &'a Manifest,
    /// `NAME-VERSION` of a chart.
    chart: Option<String>,
    /// How many layers have a media type, and the place of each among them.
    places: HashMap<usize, (usize, usize)>,
    /// Whether several of the blobs are shown as one file, too.
    is_joined: bool,
}

/// The rules that a kind has for a manifest with this config.
pub(super) fn of<'a>(
    kind: Kind,
    manifest: &'a Manifest,
    config: &[u8],
    is_joined: bool,
) -> Rules<'a> {
    let chart = || {
        let Chart { name, version } = serde_json::from_slice(config).ok()?;
        (!name.is_empty()).then(|| format!("{name}-{version}"))
    };
    let mut by_type: HashMap<String, Vec<usize>> = HashMap::new();
    for (at, layer) in manifest.layers.iter().enumerate() {
        by_type.entry(media_type::essence(&layer.media_type)).or_default().push(at);
    }
    let places = by_type.values().flat_map(|row| {
        row.iter().enumerate().map(|(place, at)| (*at, (place, row.len()))).collect::<Vec<_>>()
    });
    let chart = if kind == Kind::HelmChart { chart() } else { None };
    Rules { kind, manifest, chart, places: places.collect(), is_joined }
}

impl Rules<'_> {
    /// What is to be made of a layer.
    pub(super) fn of_layer(&self, at: usize, layer: &Descriptor) -> Rule {
        let essence = media_type::essence(&layer.media_type);
        let name = title(layer).or(filepath(layer)).map(str::to_owned);
        let ends_as_tar =
            [".tar", "+tar", "tar+gzip", "tar.gz", "tar+zstd", "tar.gzip", "tar.zstd"];
        let is_tar = ends_as_tar.iter().any(|end| essence.ends_with(end));
        let is_compressed = [".raw+gzip", ".raw+zstd"].iter().any(|end| essence.ends_with(end));
        if annotation(layer, UNPACK) == Some("true") {
            return Rule::root(name);
        }
        match self.kind {
            Kind::HelmChart => self.of_chart(&essence, name),
            Kind::ComposeProject => Rule::File(compose::name(layer, self.is_joined).or(name)),
            Kind::DockerModel => self.of_docker_model(at, layer, &essence),
            Kind::ModelPack => {
                let name = filepath(layer).map(str::to_owned).or(name);
                match is_tar {
                    true => Rule::root(name),
                    false if is_compressed => Rule::Compressed(name),
                    false => Rule::File(name),
                }
            }
            Kind::KitOps if is_compressed => Rule::Compressed(name),
            Kind::Ollama => self.of_ollama(at, layer, &essence),
            Kind::Tekton => {
                let word = |key| annotation(layer, key).unwrap_or("unknown").replace('/', "_");
                let (kind, name) = (word(TEKTON_KIND).to_lowercase(), word(TEKTON_NAME));
                Rule::Tree { name: Some(format!("{kind}/{name}.tar")), below: kind }
            }
            Kind::Kyverno => {
                let word = |key| Some(annotation(layer, key)?.replace('/', "_"));
                let kind = word("io.kyverno.image.kind").unwrap_or("Policy".to_owned());
                let own = word("io.kyverno.image.name").map(|name| format!("{kind}/{name}.yaml"));
                Rule::File(name.or(own))
            }
            Kind::Attestation => Rule::File(name.or_else(|| {
                let predicate = annotation(layer, "in-toto.io/predicate-type")?;
                Some(format!("{}.intoto.json", word_of_url(predicate)))
            })),
            Kind::SigstoreBundle => Rule::File(name.or_else(|| {
                let predicate = self.manifest.annotations.get("dev.sigstore.bundle.predicateType");
                let predicate = predicate.map_or("bundle".to_owned(), |url| word_of_url(url));
                Some(format!("{predicate}.sigstore.json"))
            })),
            Kind::CosignSignature => Rule::File(name.or(Some("payload.json".to_owned()))),
            Kind::NotarySignature => {
                let end = if essence.ends_with("cose") { "cose" } else { "jws" };
                Rule::File(name.or_else(|| Some(format!("signature.{end}"))))
            }
            Kind::Flux if is_tar => Rule::root(name.or(Some("content.tar.gz".to_owned()))),
            Kind::Flux => {
                let end = essence.strip_prefix("application/vnd.cncf.flux.content.v1");
                Rule::File(name.or_else(|| Some(format!("content{}", end?))))
            }
            Kind::Wasm if is_tar => Rule::root(name),
            Kind::Wasm if essence.contains("wasm") => {
                Rule::File(name.or(Some("module.wasm".to_owned())))
            }
            Kind::OrasPython if essence.ends_with("tar+gzip") && !has_archive_name(&name) => {
                Rule::root(name)
            }
            Kind::KitOps | Kind::Devcontainer | Kind::Trivy | Kind::Falco | Kind::DockerVolume
                if is_tar =>
            {
                Rule::root(name)
            }
            _ => Rule::File(name),
        }
    }

    /// What is to be made of the config, where it is content.
    pub(super) fn of_config(&self, config: &Descriptor) -> Option<Rule> {
        if let Some(title) = title(config) {
            return Some(Rule::file(title));
        }
        let is_empty = self.manifest.layers.iter().all(super::is_nothing);
        match self.kind {
            Kind::KitOps => Some(Rule::file("Kitfile")),
            Kind::Cnab if is_empty => Some(Rule::file("bundle.json")),
            _ if is_empty && !super::is_nothing(config) && config.size > 2 => {
                Some(Rule::file("config.json"))
            }
            _ => None,
        }
    }

    fn of_chart(&self, essence: &str, name: Option<String>) -> Rule {
        let file = |end: &str| Some(format!("{}{end}", self.chart.as_ref()?));
        if essence.contains("provenance") {
            return Rule::File(name.or_else(|| file(".tgz.prov")));
        }
        match extension(essence) {
            ".tar.gz" => Rule::root(name.or_else(|| file(".tgz"))),
            _ => Rule::File(name),
        }
    }

    /// The files that Docker's model runner unpacks: the path of a layer, where it has one.
    fn of_docker_model(&self, at: usize, layer: &Descriptor, essence: &str) -> Rule {
        if essence.ends_with("dir.tar") || essence.ends_with("vllm.config.tar") {
            return Rule::root(filepath(layer).map(|path| format!("{path}.tar")));
        }
        if let Some(path) = filepath(layer).or(title(layer)) {
            return Rule::file(path);
        }
        let numbered = |end: &str| match self.places.get(&at) {
            Some((place, count)) if *count > 1 => {
                Rule::file(format!("model-{:05}-of-{count:05}.{end}", place + 1))
            }
            _ => Rule::file(format!("model.{end}")),
        };
        match essence.strip_prefix("application/vnd.docker.ai.").unwrap_or_default() {
            kind if kind.starts_with("gguf") => numbered("gguf"),
            kind if kind.starts_with("safetensors") => numbered("safetensors"),
            kind if kind.starts_with("mmproj") => Rule::file("model.mmproj"),
            kind if kind.starts_with("chat.template") => Rule::file("template.jinja"),
            kind if kind.starts_with("dduf") => Rule::file("model.dduf"),
            kind if kind.starts_with("license") => Rule::file("LICENSE"),
            _ => Rule::File(None),
        }
    }

    fn of_ollama(&self, at: usize, layer: &Descriptor, essence: &str) -> Rule {
        let kind = essence.strip_prefix("application/vnd.ollama.image.").unwrap_or_default();
        if !layer.name.is_empty() {
            return match kind {
                "tensor" => Rule::file(format!("{}.safetensors", layer.name)),
                _ => Rule::file(layer.name.as_str()),
            };
        }
        let numbered = |end: &str| match self.places.get(&at) {
            Some((place, count)) if *count > 1 => {
                Rule::file(format!("{kind}-{:05}-of-{count:05}{end}", place + 1))
            }
            _ => Rule::file(format!("{kind}{end}")),
        };
        match kind {
            "model" | "projector" | "adapter" | "draft" | "embed" => numbered(".gguf"),
            "template" | "system" | "license" => numbered(".txt"),
            "params" | "messages" | "json" => numbered(".json"),
            _ => Rule::File(title(layer).map(str::to_owned)),
        }
    }
}

/// Whether a file is called as an archive is.
fn has_archive_name(name: &Option<String>) -> bool {
    let ends = [".tar.gz", ".tgz", ".tar", ".gz", ".tar.zst"];
    name.as_ref().is_some_and(|name| ends.iter().any(|end| name.ends_with(end)))
}

/// A URL that names a kind of statement, as a part of a file's name.
fn word_of_url(url: &str) -> String {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    url.chars().map(|c| if is_plain(c) { c } else { '-' }).take(200).collect()
}
