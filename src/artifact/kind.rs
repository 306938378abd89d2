//! What an artifact is.

use crate::oci::{Descriptor, Manifest, media_type};

/// Kinds of artifacts that have rules of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Kind {
    HelmChart,
    ComposeProject,
    DockerModel,
    DockerVolume,
    ModelPack,
    KitOps,
    Ollama,
    Wasm,
    Devcontainer,
    Flux,
    Trivy,
    Falco,
    Kyverno,
    Tekton,
    Cnab,
    Attestation,
    SigstoreBundle,
    CosignSignature,
    NotarySignature,
    /// Files and folders as `oras push` of the Python library writes them, which does not mark folders.
    OrasPython,
    /// Files with titles, or without.
    Files,
}

/// How a type begins that says what an artifact is: of the artifact, or of its config.
const BY_TYPE: [(&str, Kind); 27] = [
    ("application/vnd.cncf.helm.config.", Kind::HelmChart),
    ("application/vnd.docker.compose.project", Kind::ComposeProject),
    ("application/vnd.docker.compose.config.empty.", Kind::ComposeProject),
    ("application/vnd.docker.ai.model.config.", Kind::DockerModel),
    ("application/vnd.docker.volume.", Kind::DockerVolume),
    ("application/vnd.cncf.model.", Kind::ModelPack),
    ("application/vnd.cnai.model.", Kind::ModelPack),
    ("application/vnd.kitops.modelkit.config.", Kind::KitOps),
    ("application/vnd.wasm.config.", Kind::Wasm),
    ("application/vnd.wasm.content.", Kind::Wasm),
    ("application/wasm", Kind::Wasm),
    ("application/vnd.devcontainers", Kind::Devcontainer),
    ("application/vnd.cncf.flux.config.", Kind::Flux),
    ("application/vnd.aquasec.trivy.config.", Kind::Trivy),
    ("application/vnd.cncf.falco.rulesfile.config.", Kind::Falco),
    ("application/vnd.cncf.falco.plugin.config.", Kind::Falco),
    ("application/vnd.cncf.falco.asset.config.", Kind::Falco),
    ("application/vnd.cncf.kyverno.config.", Kind::Kyverno),
    ("application/vnd.cnab.", Kind::Cnab),
    ("application/vnd.docker.attestation.manifest.", Kind::Attestation),
    ("application/vnd.in-toto", Kind::Attestation),
    ("application/vnd.dev.sigstore.bundle.", Kind::SigstoreBundle),
    ("application/vnd.dev.cosign.artifact.sig.", Kind::CosignSignature),
    ("application/vnd.dev.cosign.artifact.sbom.", Kind::Files),
    ("application/vnd.cncf.notary.signature", Kind::NotarySignature),
    ("application/vnd.unknown.config.v1+json", Kind::OrasPython),
    ("application/vnd.unknown.artifact.", Kind::Files),
];

/// The same of a layer, where the manifest passes for an image's or has a type that says nothing.
const BY_LAYER: [(&str, Kind); 12] = [
    ("application/vnd.ollama.image.", Kind::Ollama),
    ("application/vnd.cncf.kyverno.policy.layer.", Kind::Kyverno),
    ("application/vnd.in-toto+json", Kind::Attestation),
    ("application/vnd.dev.cosign.simplesigning.", Kind::CosignSignature),
    ("application/vnd.dev.sigstore.bundle.", Kind::SigstoreBundle),
    ("application/vnd.cncf.helm.chart.content.", Kind::HelmChart),
    ("application/vnd.bytecodealliance.wasm.component.layer.", Kind::Wasm),
    ("application/vnd.wasm.content.layer.", Kind::Wasm),
    ("application/wasm", Kind::Wasm),
    ("application/vnd.cncf.openpolicyagent.", Kind::Files),
    ("text/spdx", Kind::Files),
    ("application/vnd.docker.volume.", Kind::DockerVolume),
];

/// What Tekton says of the one resource in a layer.
pub(super) const TEKTON_NAME: &str = "dev.tekton.image.name";
pub(super) const TEKTON_KIND: &str = "dev.tekton.image.kind";

fn starting(rows: &[(&str, Kind)], media_type: &str) -> Option<Kind> {
    let essence = media_type::essence(media_type);
    rows.iter().find(|(start, _)| essence.starts_with(start)).map(|(_, kind)| *kind)
}

impl Kind {
    /// What a manifest that is no image's is of.
    pub(super) fn of(manifest: &Manifest) -> Kind {
        let artifact_type = manifest.artifact_type.as_deref().unwrap_or_default();
        let types = [artifact_type, &manifest.config.media_type];
        let by_type = types.into_iter().find_map(|media_type| starting(&BY_TYPE, media_type));
        // Tools that write this config type without knowing it are many.
        let by_type = by_type.filter(|kind| *kind != Kind::OrasPython);
        let by_layer = || Kind::of_layers(manifest);
        let by_python = || starting(&BY_TYPE, &manifest.config.media_type);
        by_type.or_else(by_layer).or_else(by_python).unwrap_or(Kind::Files)
    }

    /// What the layers of a manifest say that it is, if they do.
    pub(super) fn of_layers(manifest: &Manifest) -> Option<Kind> {
        let is_tekton = |layer: &Descriptor| layer.annotations.contains_key(TEKTON_NAME);
        if !manifest.layers.is_empty() && manifest.layers.iter().all(is_tekton) {
            return Some(Kind::Tekton);
        }
        manifest.layers.iter().find_map(|layer| starting(&BY_LAYER, &layer.media_type))
    }

    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Kind::HelmChart => "Helm chart",
            Kind::ComposeProject => "Compose project",
            Kind::DockerModel => "model (Docker)",
            Kind::DockerVolume => "volume (Docker)",
            Kind::ModelPack => "model (ModelPack)",
            Kind::KitOps => "ModelKit (KitOps)",
            Kind::Ollama => "model (Ollama)",
            Kind::Wasm => "WebAssembly",
            Kind::Devcontainer => "dev container feature",
            Kind::Flux => "Flux source",
            Kind::Trivy => "Trivy database",
            Kind::Falco => "Falco artifact",
            Kind::Kyverno => "Kyverno policies",
            Kind::Tekton => "Tekton bundle",
            Kind::Cnab => "CNAB bundle",
            Kind::Attestation => "attestation",
            Kind::SigstoreBundle => "Sigstore bundle",
            Kind::CosignSignature => "signature (cosign)",
            Kind::NotarySignature => "signature (Notary)",
            Kind::OrasPython | Kind::Files => "files",
        }
    }
}
