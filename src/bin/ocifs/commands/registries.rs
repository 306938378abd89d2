//! Flags that are said of one registry, with images of several.

use std::collections::BTreeSet;

use clap::error::ErrorKind;
use ocifs::reference::ImageName;

use crate::args::{ImageArgs, WrongUsage};
use crate::environment;
use crate::render::errors::AnyError;

/// What to say where flags that are said of one registry are given with images of several: a login is not for all
/// of them, and neither is a connection that any machine on the way can read. `instead` is what helps beside the
/// user's files.
///
/// # Errors
/// A file of settings that can't be used.
pub(super) fn refused_for_several<'a>(
    images: impl IntoIterator<Item = &'a ImageName>,
    image_args: &ImageArgs,
    instead: &str,
) -> Result<Option<WrongUsage>, AnyError> {
    let has_login = image_args.creds.as_ref().is_some_and(|login| !login.is_empty());
    let (what, remedy) = match (has_login, image_args.plain_http, image_args.tls_verify) {
        (true, ..) => (
            "a login (--creds or the variable OCIFS_CREDS)",
            "give it by `docker login` or `podman login`",
        ),
        (_, true, _) => {
            ("--plain-http", "mark the one registry that is meant `insecure` in registries.conf")
        }
        (_, _, false) => ("--tls-verify=false", "put its certificate into certs.d"),
        _ => return Ok(None),
    };
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
