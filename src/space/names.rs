//! What paths below a browsed directory mean: hosts, repositories, tags and digests.
//!
//! ```text
//! docker.io                       a host: has a dot or a port, or is `localhost`
//! docker.io/library/debian        a repository, or a part of the way to one
//! docker.io/library/debian/:12    a tag of it
//! docker.io/library/debian/@sha256:…
//! docker.io/library/debian:12     the same, as it is typed elsewhere
//! local                           the stores of other programs on this machine
//! ```
//!
//! Nothing is asked for to tell what a path may be; whether it is there is another question.

use super::local::LOCAL;
use crate::reference::Reference;

/// What a name in a directory may mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A directory of this path.
    Directory(String),
    /// An image or artifact by its reference in full.
    Image(String),
}

/// What `name` means in the directory of a path, which is empty for the root; `None` for what no reference has.
pub(super) fn meaning(path: &str, name: &[u8]) -> Option<Meaning> {
    let name = std::str::from_utf8(name).ok()?;
    if path.is_empty() {
        return (is_host(name) || name == LOCAL).then(|| Meaning::Directory(name.to_owned()));
    }
    if name.starts_with([':', '@']) {
        // A host alone has no tags.
        let text = format!("{path}{name}");
        return path.contains('/').then_some(text).and_then(image);
    }
    let text = format!("{path}/{name}");
    match name.contains([':', '@']) {
        true => image(text),
        false => {
            let reference: Reference = text.parse().ok()?;
            let is_plain =
                reference.tag().is_some_and(|tag| tag == "latest") && reference.digest().is_none();
            is_plain.then_some(Meaning::Directory(text))
        }
    }
}

fn image(text: String) -> Option<Meaning> {
    text.parse::<Reference>().is_ok().then_some(Meaning::Image(text))
}

/// Whether a name is a registry's: what has neither a dot nor a port would be taken for a path at Docker Hub.
fn is_host(name: &str) -> bool {
    let looks_like_one = name.contains(['.', ':']) || name == "localhost";
    let reference = format!("{name}/x").parse::<Reference>();
    looks_like_one && reference.is_ok_and(|reference| reference.registry() == name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_paths_mean() {
        let hex = "a".repeat(64);
        let digest = format!("@sha256:{hex}");
        let rows: Vec<(&str, &str, Option<String>)> = vec![
            ("", "docker.io", Some("d docker.io".into())),
            ("", "127.0.0.1:5000", Some("d 127.0.0.1:5000".into())),
            ("", "localhost", Some("d localhost".into())),
            ("", "local", Some("d local".into())),
            ("", "debian", None),
            ("", ".git", None),
            ("", "a b.c", None),
            ("docker.io", "library", Some("d docker.io/library".into())),
            ("docker.io", "debian:12", Some("i docker.io/debian:12".into())),
            ("docker.io", ":12", None),
            ("docker.io", "Makefile", None),
            ("docker.io", ".hidden", None),
            ("docker.io/library", "debian", Some("d docker.io/library/debian".into())),
            ("docker.io/library/debian", ":12", Some("i docker.io/library/debian:12".into())),
            ("docker.io/library", "debian:12", Some("i docker.io/library/debian:12".into())),
            ("r.example/a", &digest, Some(format!("i r.example/a{digest}"))),
            ("r.example/a", "@sha256:12", None),
            ("r.example/a", ":", None),
            ("r.example/a", ":a/b", None),
        ];
        for (path, name, expected) in rows {
            let got = meaning(path, name.as_bytes()).map(|meaning| match meaning {
                Meaning::Directory(path) => format!("d {path}"),
                Meaning::Image(text) => format!("i {text}"),
            });
            assert_eq!(got, expected, "{path} {name}");
        }
        assert_eq!(meaning("r.example", b"\xff"), None);
    }
}
