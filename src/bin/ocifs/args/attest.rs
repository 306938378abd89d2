//! `ocifs attest`: its flags.

use clap::{Args as ClapArgs, ValueEnum};
use ocifs::image::AttestationKind;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs attest`
#[derive(Debug, ClapArgs)]
#[command(group = clap::ArgGroup::new("form").multiple(false))]
pub(crate) struct Attest {
    /// The image
    #[arg(value_name = "REF", value_parser = image_name)]
    pub(crate) image: ImageName,

    /// Only attestations of this type
    #[arg(long, value_name = "TYPE", value_enum)]
    pub(crate) r#type: Option<AttestationType>,

    /// Print the statements themselves, without their envelopes
    #[arg(long, group = "form")]
    pub(crate) print: bool,

    /// List the packages of SPDX and CycloneDX documents
    #[arg(long)]
    pub(crate) packages: bool,

    /// Print JSON
    #[arg(long, group = "form")]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// A type of attestation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum AttestationType {
    Sbom,
    Provenance,
    Signature,
    Other,
}

impl AttestationType {
    pub(crate) fn of(kind: AttestationKind) -> AttestationType {
        match kind {
            AttestationKind::Sbom => AttestationType::Sbom,
            AttestationKind::Provenance => AttestationType::Provenance,
            AttestationKind::Signature => AttestationType::Signature,
            AttestationKind::Other => AttestationType::Other,
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            AttestationType::Sbom => "sbom",
            AttestationType::Provenance => "provenance",
            AttestationType::Signature => "signature",
            AttestationType::Other => "other",
        }
    }
}
