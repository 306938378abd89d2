//! Flags that are said of one registry, where several are asked.

use std::collections::BTreeSet;

use clap::error::ErrorKind;
use ocifs::reference::ImageName;

use crate::args::{ImageArgs, WrongUsage};
use crate::environment;
use crate::render::errors::AnyError;

/// What is said of one registry, and the file of the user that it belongs into otherwise: a login is not for all of them, and
/// neither is a connection that any machine on the way can read.
fn of_one_registry(image_args: &ImageArgs) -> Option<(&'static str, &'static str)> {
    let has_login = image_args.creds.as_ref().is_some_and(|login| !login.is_empty());
    match (has_login, image_args.plain_http, image_args.tls_verify) {
        (true, ..) => Some((
            "a login (--creds or the variable OCIFS_CREDS)",
            "give it by `docker login` or `podman login`",
        )),
        (_, true, _) => Some((
            "--plain-http",
            "mark the one registry that is meant `insecure` in registries.conf",
        )),
        (_, _, false) => Some(("--tls-verify=false", "put its certificate into certs.d")),
        _ => None,
    }
}

/// What to say where such flags are given, and others say which registries are asked: whom a verb asks.
pub(super) fn refused_for_any(image_args: &ImageArgs, asks: &str) -> Option<WrongUsage> {
    let (what, remedy) = of_one_registry(image_args)?;
    let text = format!("{what} is for one registry, and {asks}: {remedy}");
    Some(WrongUsage::new(ErrorKind::ArgumentConflict, text))
}

/// What to say where such flags are given with images of several registries. `instead` is what helps beside the user's files.
///
/// # Errors
/// A file of settings that can't be used.
pub(super) fn refused_for_several<'a>(
    images: impl IntoIterator<Item = &'a ImageName>,
    image_args: &ImageArgs,
    instead: &str,
) -> Result<Option<WrongUsage>, AnyError> {
    let Some((what, remedy)) = of_one_registry(image_args) else { return Ok(None) };
    let mut registries = BTreeSet::new();
    for image in images {
        if let ImageName::Registry(name) = image {
            let alias = environment::alias(image)?.map(|alias| alias.reference);
            registries.insert(alias.as_ref().unwrap_or(name).registry().to_owned());
        }
    }
    if registries.len() < 2 {
        return Ok(None);
    }
    let registries = registries.into_iter().collect::<Vec<_>>().join(", ");
    let text = format!(
        "{what} is for one registry, and the images are of several ({registries}): {remedy}, or {instead}"
    );
    Ok(Some(WrongUsage::new(ErrorKind::ArgumentConflict, text)))
}
