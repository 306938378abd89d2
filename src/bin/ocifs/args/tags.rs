//! `ocifs tags`: its flags.

use clap::Args as ClapArgs;
use ocifs::reference::ImageName;

use super::image::ImageArgs;
use super::name::image_name;

/// `ocifs tags`
#[derive(Debug, ClapArgs)]
pub(crate) struct Tags {
    /// A repository: a REF without tag and digest
    #[arg(value_name = "REPO", value_parser = repository_name)]
    pub(crate) repository: ImageName,

    /// Print names alone, one a line, and ask for nothing else
    #[arg(short, long, conflicts_with_all = ["long", "json"])]
    pub(crate) names: bool,

    /// Fetch what the tags mean, to show platforms and ages: a pull for each digest, up to 100
    #[arg(short, long)]
    pub(crate) long: bool,

    /// Show tags of signatures and other referrers, too
    #[arg(short, long)]
    pub(crate) all: bool,

    /// Show the highest version alone: numbers with dots, no prerelease or variant
    #[arg(long)]
    pub(crate) latest: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,

    #[command(flatten)]
    pub(crate) image_args: ImageArgs,
}

/// A repository as users write it: an image without tag and digest.
fn repository_name(text: &str) -> Result<ImageName, String> {
    let name = image_name(text)?;
    let selector = match &name {
        ImageName::Registry(reference) => {
            let tag = reference.tag().map(|tag| format!(":{tag}"));
            let tag = tag.filter(|tag| text.ends_with(tag.as_str()));
            tag.or_else(|| reference.digest().map(|digest| format!("@{digest}")))
        }
        ImageName::Local(local) => local.selector.clone(),
        ImageName::Stored(_) => None,
    };
    match selector {
        Some(selector) => Err(format!(
            "name the repository alone, without `{}`",
            selector.trim_start_matches(':')
        )),
        None => Ok(name),
    }
}
