//! Scopes: what a token is asked for (distribution project, "Token Scope Documentation").

use crate::source::registry::transport::request::Access;

/// The scope of the list of repositories.
const CATALOG: &str = "registry:catalog:*";

/// The scopes to ask for: what the registry's challenge names, in its order, as some token servers read only the
/// first, cut to this repository and to what is wanted of it. A token goes to the registry that has named the
/// scopes, and one for more could be used by it for more.
///
/// Scopes that are not of the form `type:name:actions` (token specification, "scope") are the registry's own words,
/// and stay. So does the repository under a longer or shorter path, as a proxy in front of a registry calls it.
pub(super) fn scopes(challenge: &str, repository: &str, access: Access) -> Vec<String> {
    let wanted: &[&str] = match access {
        Access::Read => &["pull"],
        Access::Push => &["pull", "push"],
        Access::Catalog => return vec![CATALOG.to_owned()],
    };
    let own = format!("repository:{repository}:{}", wanted.join(","));
    let mut scopes: Vec<String> = Vec::new();
    for scope in challenge.split_whitespace() {
        let cut = match scope
            .split_once(':')
            .and_then(|(kind, rest)| Some((kind, rest.rsplit_once(':')?)))
        {
            None => Some(scope.to_owned()),
            // `repository(plugin)` is one too.
            Some((kind, (name, actions))) if kind.split('(').next() == Some("repository") => {
                let granted: Vec<&str> = actions.split(',').collect();
                let is_granted =
                    |action: &&&str| granted.contains(*action) || granted.contains(&"*");
                let cut: Vec<&str> = wanted.iter().filter(is_granted).copied().collect();
                match name == repository {
                    true => Some(format!("{kind}:{name}:{}", wanted.join(","))),
                    false if cut.is_empty() || !is_same_behind_proxy(name, repository) => None,
                    false => Some(format!("{kind}:{name}:{}", cut.join(","))),
                }
            }
            Some(_) => None,
        };
        scopes.extend(cut.filter(|scope| !scopes.contains(scope)));
    }
    if !scopes.contains(&own) {
        scopes.push(own);
    }
    scopes
}

/// Whether a name can be that of the repository with or without the first parts of its path.
fn is_same_behind_proxy(name: &str, repository: &str) -> bool {
    let is_end = |long: &str, short: &str| {
        long.strip_suffix(short).is_some_and(|rest| !short.is_empty() && rest.ends_with('/'))
    };
    is_end(name, repository) || is_end(repository, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_completed_and_cut() {
        for (challenge, access, expected) in [
            ("", Access::Read, &["repository:a/b:pull"][..]),
            ("", Access::Push, &["repository:a/b:pull,push"]),
            ("repository:a/b:pull", Access::Read, &["repository:a/b:pull"]),
            ("repository:a/b:pull", Access::Push, &["repository:a/b:pull,push"]),
            ("repository:a/b:push,pull", Access::Push, &["repository:a/b:pull,push"]),
            ("repository:a/b:*", Access::Push, &["repository:a/b:pull,push"]),
            // No more than is needed, and of nothing else.
            ("repository:a/b:*", Access::Read, &["repository:a/b:pull"]),
            ("repository:a/b:delete,pull,push", Access::Read, &["repository:a/b:pull"]),
            (
                "registry:catalog:* repository:a:pull repository:secret:pull,push x:y:z",
                Access::Read,
                &["repository:a/b:pull"],
            ),
            ("repository:a/b:pull repository:a/b:push", Access::Read, &["repository:a/b:pull"]),
            // Words of the registry's own, and what a proxy calls the repository.
            ("aws repository:a/b:pull", Access::Read, &["aws", "repository:a/b:pull"]),
            (
                "repository:hub/a/b:pull,push",
                Access::Read,
                &["repository:hub/a/b:pull", "repository:a/b:pull"],
            ),
            ("repository:b:*", Access::Read, &["repository:b:pull", "repository:a/b:pull"]),
            ("repository:b:delete repository::pull", Access::Read, &["repository:a/b:pull"]),
            ("repository:xa/b:pull", Access::Read, &["repository:a/b:pull"]),
            ("registry:catalog:*", Access::Catalog, &["registry:catalog:*"]),
            ("repository:a/b:push", Access::Catalog, &["registry:catalog:*"]),
        ] {
            assert_eq!(scopes(challenge, "a/b", access), expected, "{challenge}");
        }
    }

    proptest::proptest! {
        /// Whatever a registry says it wants, something is asked for.
        #[test]
        fn any_scope(text in "[ -~]{0,80}") {
            let scopes = scopes(&text, "a/b", Access::Push);
            proptest::prop_assert!(scopes.iter().any(|scope| scope.starts_with("repository:a/b:")));
        }
    }
}
