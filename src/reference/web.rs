//! Addresses of the web pages of registries, which people paste: the image that a page is about.

use super::registry::Reference;

/// The image of a web page, if the text is the address of one, with a scheme or without.
pub(super) fn image(text: &str) -> Option<String> {
    let address = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let (address, fragment) = match address.unwrap_or(text).split_once('#') {
        Some((address, fragment)) => (address, fragment),
        None => (address.unwrap_or(text), ""),
    };
    let (address, query) = address.split_once('?').unwrap_or((address, ""));
    let (host, path) = address.split_once('/')?;
    let host = host.strip_prefix("www.").unwrap_or(host).to_ascii_lowercase();
    let path = path.replace("%2F", "/").replace("%2f", "/");
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let tag = query.split('&').chain([fragment]).find_map(|pair| pair.strip_prefix("tag="));
    let image = match host.as_str() {
        "hub.docker.com" | "registry.hub.docker.com" | "store.docker.com" => docker_hub(&parts)?,
        // Pages have no tag, which an image that is written in full has if it has no digest. The API of
        // the same images has another host.
        "docker.io" => match parts[..] {
            ["_", ..] => docker_hub(&parts)?,
            ["r", ..] if !path.contains([':', '@']) => docker_hub(&parts)?,
            _ => return None,
        },
        "quay.io" => quay(&parts)?,
        "github.com" => github(&parts)?,
        "gallery.ecr.aws" => format!("public.ecr.aws/{}", joined(parts.get(..2)?)),
        "mcr.microsoft.com" => microsoft(&parts)?,
        "console.cloud.google.com" => google(&parts)?,
        "gitlab.com" => {
            let end = parts.iter().position(|part| *part == "container_registry")?;
            let project = parts[..end].iter().filter(|part| **part != "-").copied();
            format!("registry.gitlab.com/{}", joined(&project.collect::<Vec<_>>()))
        }
        "catalog.redhat.com" => {
            let at = parts.iter().position(|part| *part == "containers")? + 1;
            format!("registry.access.redhat.com/{}", joined(parts.get(at..at + 2)?))
        }
        host => api(host, &parts)?,
    };
    let image = match tag {
        Some(tag) if image.parse::<Reference>().is_ok_and(|r| r.digest().is_none()) => {
            format!("{image}:{tag}")
        }
        _ => image,
    };
    // A page that is about something else.
    image.parse::<Reference>().is_ok().then_some(image)
}

fn joined(parts: &[&str]) -> String {
    parts.join("/")
}

fn docker_hub(parts: &[&str]) -> Option<String> {
    Some(match parts {
        ["_", name, ..] => (*name).to_owned(),
        ["r", "library", name, ..] | ["layers", "library", name] => (*name).to_owned(),
        ["layers", "library", name, tag, ..] => format!("{name}:{tag}"),
        ["layers", owner, name, tag, ..] => format!("{owner}/{name}:{tag}"),
        ["repository", "docker", owner, name, ..] => format!("{owner}/{name}"),
        ["r", owner, name, ..] => format!("{owner}/{name}"),
        _ => return None,
    })
}

fn quay(parts: &[&str]) -> Option<String> {
    match parts {
        ["repository", owner, name, "manifest", digest] => {
            Some(format!("quay.io/{owner}/{name}@{digest}"))
        }
        ["repository", owner, name, ..] => Some(format!("quay.io/{owner}/{name}")),
        _ => None,
    }
}

/// `OWNER/REPOSITORY/pkgs/container/NAME[/VERSION]`, and the pages of users and organisations.
fn github(parts: &[&str]) -> Option<String> {
    let owner = match parts {
        ["orgs" | "users", owner, ..] | [owner, ..] => owner.to_ascii_lowercase(),
        _ => return None,
    };
    let at = parts.windows(2).position(|two| matches!(two, ["pkgs" | "packages", "container"]))?;
    let name = match &parts[at + 2..] {
        ["package", name @ ..] | name => name,
    };
    // A name may have slashes; a version is a number.
    let is_name = |part: &&&str| !part.bytes().all(|b| b.is_ascii_digit()) && **part != "versions";
    let name: Vec<&str> = name.iter().take_while(is_name).copied().collect();
    (!name.is_empty()).then(|| format!("ghcr.io/{owner}/{}", joined(&name)))
}

fn microsoft(parts: &[&str]) -> Option<String> {
    let at = parts.iter().position(|part| matches!(*part, "product" | "mar"))? + 1;
    let name = parts[at..].iter().take_while(|part| !matches!(**part, "about" | "tags" | "tag"));
    let name: Vec<&str> = name.copied().collect();
    (!name.is_empty()).then(|| format!("mcr.microsoft.com/{}", joined(&name)))
}

fn google(parts: &[&str]) -> Option<String> {
    match parts {
        ["artifacts", "docker", project, place, repository, name, ..] => {
            Some(format!("{place}-docker.pkg.dev/{project}/{repository}/{name}"))
        }
        ["gcr", "images", project, "global", name @ ..] if !name.is_empty() => {
            Some(format!("gcr.io/{project}/{}", joined(name)))
        }
        _ => None,
    }
}

/// `v2/NAME/manifests/REFERENCE`: what registries themselves answer to.
fn api(host: &str, parts: &[&str]) -> Option<String> {
    let ["v2", name @ .., kind @ ("manifests" | "blobs" | "tags"), last] = parts else {
        return None;
    };
    let name = joined(name);
    Some(match (*kind, last.contains(':')) {
        ("manifests", true) => format!("{host}/{name}@{last}"),
        ("manifests", false) => format!("{host}/{name}:{last}"),
        _ => format!("{host}/{name}"),
    })
}
