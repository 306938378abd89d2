//! What was meant by a text that would be read as something else, or that no registry could have.
//!
//! The grammar of references takes almost every word for an image of Docker Hub, so a slip costs a
//! question over the network, a login perhaps, and an answer that says nothing of the slip. Here the usual
//! ones are told apart. What is refused can still be written: with `docker.io/library/` before it.

use super::error::ParseError;
use super::local::LocalSource;
use super::registry::{Reference, is_host_label, is_path_component, is_port};
use super::transport::{TRANSPORTS, Transport};
use super::web;

/// Transports of other tools that have one of ours for the same thing.
const SYNONYMS: [(&str, &str); 8] = [
    ("oci-dir", "oci:"),
    ("oci-layout", "oci:"),
    ("oci-tar", "oci-archive:"),
    ("docker-dir", "docker-archive:"),
    ("docker-tar", "docker-archive:"),
    ("docker-image", "docker://"),
    ("docker-remote", "docker://"),
    ("file", ""),
];

/// The words of all transports.
fn transports() -> impl Iterator<Item = &'static str> {
    TRANSPORTS.iter().map(|transport| transport.word)
}

/// Shortest transport that is recognised when a tag could be what is behind the colon: no image is called
/// `docker-archve`.
const MIN_DISTINCT: usize = 8;

/// Most letters that are wrong, missing or too many in a misspelt word.
const MAX_SLIPS: usize = 2;

/// The mistake in a text with a word before a colon that is no transport.
pub(super) fn transport(word: &str, rest: &str) -> Option<ParseError> {
    let misspelt = |meant: String| {
        let wrote = format!("{word}:");
        Some(ParseError::MisspeltTransport { wrote, meant })
    };
    let lower = word.to_ascii_lowercase();
    if let Some(path) = rest.strip_prefix("//")
        && matches!(lower.as_str(), "docker" | "oci")
    {
        return misspelt(format!("{lower}://{path}"));
    }
    if lower == "docker" && rest.starts_with('/') {
        let rest = rest.trim_start_matches('/').to_owned();
        return Some(ParseError::DockerWithoutSlashes { wrote: format!("{word}:/{rest}"), rest });
    }
    // `docker:27` is the image of that name; `docker:host/name` is a forgotten `//`.
    if lower == "docker" && rest.contains('/') && !rest.contains(":/") {
        let (wrote, rest) = (format!("{word}:{rest}"), rest.to_owned());
        return Some(ParseError::DockerWithoutSlashes { wrote, rest });
    }
    if lower != word && transports().any(|known| known == lower) {
        return misspelt(format!("{lower}:{rest}"));
    }
    let may_be_tag = lower == "file" && !rest.starts_with('/');
    if let Some((_, ours)) = SYNONYMS.into_iter().find(|(theirs, _)| *theirs == lower)
        && !may_be_tag
    {
        let path = rest.strip_prefix("//").unwrap_or(rest);
        // What is no path alone would be one now.
        let dot = if ours.is_empty() && !path.starts_with('/') { "./" } else { "" };
        return misspelt(format!("{ours}{dot}{path}"));
    }
    if word.contains('/') {
        return None;
    }
    let nearest = transports().map(|known| (slips(&lower, known), known)).min();
    let has_path = rest.contains('/') && !rest.starts_with("//") && !is_port(first(rest));
    match nearest {
        Some((1..=MAX_SLIPS, known)) if known.len() >= MIN_DISTINCT => {
            misspelt(format!("{known}:{rest}"))
        }
        Some((1, known)) if has_path && !rest.contains(":/") => misspelt(format!("{known}:{rest}")),
        _ => None,
    }
}

/// The mistake in a text that has no transport.
pub(super) fn reference(text: &str) -> Option<ParseError> {
    let owned = || text.to_owned();
    if let Some(meant) = web::image(text) {
        return Some(ParseError::WebPage { text: owned(), meant });
    }
    if let Some((scheme, rest)) = text.split_once("://")
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric())
    {
        let meant = rest.parse::<Reference>().map_or("host/name:tag", |_| rest).to_owned();
        return Some(ParseError::Url { text: owned(), meant });
    }
    if let Some(("sha256", hex)) = text.split_once(':')
        && !hex.is_empty()
        && hex.bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Some(ParseError::ImageId(owned()));
    }
    // As `docker images` shows them.
    let is_hex = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if text.len() == 12 && is_hex && text.bytes().any(|b| b.is_ascii_digit()) {
        return Some(ParseError::ImageId(owned()));
    }
    if let Some((image, path)) = text.rsplit_once(":/")
        && image.parse::<Reference>().is_ok()
    {
        let (image, path) = (image.to_owned(), format!("/{path}"));
        return Some(ParseError::PathBehind { text: owned(), image, path });
    }
    let name = text.trim_end_matches('/');
    if name != text && name.parse::<Reference>().is_ok() {
        if is_registry(name) {
            return Some(ParseError::NoRepository { text: name.to_owned() });
        }
        return Some(ParseError::TrailingSlash { text: owned(), name: name.to_owned() });
    }
    if let Some(name) = text.strip_suffix([':', '@'])
        && name.parse::<Reference>().is_ok()
    {
        let (text, name) = (owned(), name.to_owned());
        return Some(match text.ends_with('@') {
            true => ParseError::MissingDigest { text, name },
            false => ParseError::MissingTag { text, name },
        });
    }
    is_registry(text).then(|| ParseError::NoRepository { text: owned() })
}

/// Whether a text is a host, with or without a port, and not the name of an image of Docker Hub, which would
/// be one of the few official ones.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    if host == "localhost" {
        return port.is_none_or(is_port);
    }
    let labels: Vec<&str> = host.split('.').collect();
    let is_number = |label: &&str| label.bytes().all(|b| b.is_ascii_digit());
    let last = labels.last().copied().unwrap_or_default();
    let has_domain = last.len() > 1 && last.bytes().all(|b| b.is_ascii_alphabetic());
    labels.len() > 1
        && port.is_none_or(is_port)
        && labels.iter().all(|label| is_host_label(label))
        && (has_domain || (labels.len() == 4 && labels.iter().all(is_number)))
        && !LocalSource::bare(host).has_archive_name()
}

/// Whether a word and what is behind its colon can't be an image: a transport that we do not know.
pub(super) fn is_transport(word: &str, rest: &str) -> bool {
    // A word with a slash behind its colon is `host:port/name` only if the middle is a port.
    let middle = first(rest);
    rest.contains('/')
        && !rest.starts_with("//")
        && !rest.contains(":/")
        && !middle.contains(':')
        && !middle.is_empty()
        && !middle.starts_with(|c: char| c.is_ascii_digit())
        && is_path_component(word)
        && Transport::named(word).is_none()
}

fn first(rest: &str) -> &str {
    rest.split('/').next().unwrap_or_default()
}

/// Letters to change, add, leave out or swap with their neighbour to make one word of another (optimal
/// string alignment).
fn slips(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len().abs_diff(b.len()) > MAX_SLIPS {
        return MAX_SLIPS + 1;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}
