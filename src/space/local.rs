//! Images in the stores of other programs, below the directory `local` of a browsed directory.
//!
//! ```text
//! local/containerd/k8s.io/docker.io/library/debian:12
//! local/containers-storage/localhost/app:latest
//! local/docker-daemon/app:1.0
//! ```
//!
//! A path is the name of an image with the word of its store before it, as it stands behind `containerd:` elsewhere; `local`
//! is no host, as it has neither a dot nor a port. What there is, the store lists: nothing is guessed from a path.

use std::collections::BTreeMap;

/// The directory of the stores.
pub(super) const LOCAL: &str = "local";

/// What a name below it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Child {
    Directory,
    Image,
}

/// Whether a path is that of the stores, or below it.
pub(super) fn is_local(path: &str) -> bool {
    path.strip_prefix(LOCAL).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The name of an image in a store, of its path: `containerd:k8s.io/app:1`. `None` for other paths.
pub(super) fn stored_name(path: &str) -> Option<String> {
    let (store, image) = path.strip_prefix(LOCAL)?.strip_prefix('/')?.split_once('/')?;
    Some(format!("{store}:{image}"))
}

/// What the images of these names make of a directory: the parts of names behind `path`, which is empty for the
/// store itself. Where a name is an image and leads to others as well, it leads to them. A name that no path has is
/// left out.
pub(super) fn children(names: &[String], path: &str) -> BTreeMap<String, Child> {
    let mut found = BTreeMap::new();
    for name in names {
        let is_part = |part: &str| {
            !matches!(part, "" | "." | "..") && part.len() <= MAX_PART_BYTES && !part.contains('\0')
        };
        if !name.split('/').all(is_part) {
            continue;
        }
        let rest = match path {
            "" => Some(name.as_str()),
            path => name.strip_prefix(path).and_then(|rest| rest.strip_prefix('/')),
        };
        match rest.map(|rest| rest.split_once('/').ok_or(rest)) {
            None => {}
            Some(Ok((directory, _))) => drop(found.insert(directory.to_owned(), Child::Directory)),
            Some(Err(image)) => drop(found.entry(image.to_owned()).or_insert(Child::Image)),
        }
    }
    found
}

/// The longest name that Linux takes.
const MAX_PART_BYTES: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_directories() {
        let names = [
            "k8s.io/docker.io/library/debian:12",
            "k8s.io/docker.io/library/debian:11",
            "k8s.io/app",
            "k8s.io/app/sub:1",
            "default/x:1",
            "../up:1",
            "a//b:1",
            "",
        ]
        .map(str::to_owned);
        let of = |path: &str| {
            let found = children(&names, path).into_iter();
            found.map(|(name, child)| (name, child == Child::Image)).collect::<Vec<_>>()
        };
        let row = |name: &str, is_image| (name.to_owned(), is_image);
        assert_eq!(of(""), [row("default", false), row("k8s.io", false)]);
        assert_eq!(of("default"), [row("x:1", true)]);
        assert_eq!(of("k8s.io"), [row("app", false), row("docker.io", false)]);
        let images = [row("debian:11", true), row("debian:12", true)];
        assert_eq!(of("k8s.io/docker.io/library"), images);
        assert_eq!(of("k8s"), []);
    }

    #[test]
    fn paths_of_images() {
        assert!(is_local("local") && is_local("local/x") && !is_local("localhost"));
        assert_eq!(stored_name("local/containerd/a/b:1").unwrap(), "containerd:a/b:1");
        assert_eq!(stored_name("local/containerd"), None);
        assert_eq!(stored_name("r.example/a:1"), None);
    }
}
