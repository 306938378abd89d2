//! Verbs of other tools, and what does the same here: people type what they know.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Verbs of docker, podman, crane, skopeo, umoci and oras.
const VERBS: [(&str, &str); 16] = [
    ("images", "`ocifs cache ls` lists the images that the cache has"),
    ("rmi", "`ocifs cache rm` removes what the cache has of an image"),
    ("prune", "`ocifs cache gc` shrinks the cache"),
    ("ps", "`ocifs status` shows what is mounted"),
    ("mounts", "`ocifs status` shows what is mounted"),
    ("login", "logins of `docker login` and `podman login` are used"),
    ("digest", "`ocifs inspect --digest` prints the digest"),
    ("manifest", "`ocifs inspect --raw` prints the manifest or index"),
    ("config", "`ocifs inspect --config` prints the config"),
    ("list-tags", "`ocifs tags` lists the tags of a repository"),
    ("catalog", "`ocifs browse DIR` shows registries as directories"),
    ("discover", "`ocifs inspect --all` shows referrers, and `ocifs attest` what is attested"),
    ("exec", "`ocifs run` runs a program of an image"),
    (
        "unpack",
        "`ocifs cp REF / DIR` copies all files, and `ocifs export` makes an archive of them",
    ),
    ("extract", "`ocifs cp` copies files, and `ocifs export` makes an archive of them"),
    ("version", "`ocifs --version` prints it"),
];

/// Says what does here what a verb of another tool does, in the place of verbs that look like it.
pub(super) fn explain(error: &mut clap::Error) {
    if error.kind() != ErrorKind::InvalidSubcommand {
        return;
    }
    let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand) else {
        return;
    };
    let Some((_, tip)) = VERBS.iter().find(|(other, _)| other == verb) else { return };
    let tip = ContextValue::StyledStrs(vec![StyledStr::from(*tip)]);
    error.remove(ContextKind::SuggestedSubcommand);
    error.insert(ContextKind::Suggested, tip);
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::CommandFactory;

    use super::super::{Args, parse};
    use super::*;

    #[test]
    fn verbs_of_others_are_explained() {
        let error = |verb: &str| {
            let words = ["ocifs", verb, "x"].map(OsString::from);
            parse(&words).map(drop).unwrap_err().to_string()
        };
        for (verb, tip) in VERBS {
            let error = error(verb);
            assert!(error.contains(&format!("  tip: {tip}\n")), "{error}");
            assert_eq!(error.matches("tip:").count(), 1, "{error}");
        }
        assert!(error("mont").contains("'mount'"));
    }

    #[test]
    fn what_is_said_instead_exists() {
        let mut command = Args::command();
        command.build();
        for (verb, tip) in VERBS {
            assert!(command.find_subcommand(verb).is_none(), "{verb}");
            for words in tip.split('`').filter(|words| words.starts_with("ocifs ")) {
                let word = words.split(' ').nth(1).unwrap_or_default();
                let is_there = word == "--version" || command.find_subcommand(word).is_some();
                assert!(is_there, "{words}");
            }
        }
    }
}
