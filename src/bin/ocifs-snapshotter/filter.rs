//! Filters of lists, in the language that containerd has for them: `kind==committed,labels."a.b/c"~=x`.
//!
//! ```text
//! filter    := selector ("," selector)*          all of them; of several filters, any
//! selector  := path [("==" | "!=" | "~=") value] without an operator: whether there is a value
//! path      := field ("." field)*                name, parent, kind, labels.NAME
//! field     := quoted | letters, digits, _
//! quoted    := "…" with Go's escapes, or /…/ or |…|
//! ```

use regex_lite::RegexBuilder;

use crate::snapshots::Snapshot;

/// Longest filter, in bytes, and largest regular expression when it is compiled.
const MAX_BYTES: usize = 16 << 10;
const MAX_REGEX_BYTES: usize = 1 << 20;

/// Filters, one of which has to match.
#[derive(Debug)]
pub(crate) struct Filters(Vec<Vec<Selector>>);

#[derive(Debug)]
struct Selector {
    path: Vec<String>,
    test: Test,
}

#[derive(Debug)]
enum Test {
    Present,
    Equal(String),
    NotEqual(String),
    Matches(regex_lite::Regex),
}

impl Filters {
    /// Reads them; what is wrong otherwise.
    pub(crate) fn parse(texts: &[String]) -> Result<Filters, String> {
        let filters = texts.iter().map(|text| {
            parse(text).map_err(|why| format!("the filter `{text}` can't be read: {why}"))
        });
        Ok(Filters(filters.collect::<Result<_, _>>()?))
    }

    pub(crate) fn matches(&self, name: &str, snapshot: &Snapshot) -> bool {
        let is_met = |selector: &Selector| selector.matches(name, snapshot);
        self.0.is_empty() || self.0.iter().any(|filter| filter.iter().all(is_met))
    }
}

impl Selector {
    fn matches(&self, name: &str, snapshot: &Snapshot) -> bool {
        let value = match self.path.split_first() {
            Some((first, [])) => match first.as_str() {
                "kind" => Some(snapshot.kind.name()),
                "name" => Some(name),
                "parent" => Some(&snapshot.parent[..]),
                _ => None,
            },
            Some((first, rest)) if first == "labels" => {
                snapshot.labels.get(&rest.join(".")).map(String::as_str)
            }
            _ => None,
        };
        match &self.test {
            Test::Present => value.is_some(),
            Test::Equal(wanted) => value == Some(wanted),
            // As containerd has it: what has no value is not equal to any.
            Test::NotEqual(wanted) => value != Some(wanted),
            Test::Matches(regex) => value.is_some_and(|value| regex.is_match(value)),
        }
    }
}

fn parse(text: &str) -> Result<Vec<Selector>, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("it has more than {MAX_BYTES} bytes"));
    }
    let (mut selectors, mut rest) = (Vec::new(), text.trim_start());
    while !rest.is_empty() {
        let selector;
        (selector, rest) = parse_selector(rest)?;
        selectors.push(selector);
        rest = rest.trim_start();
        match rest.strip_prefix(',') {
            Some(next) if !next.trim_start().is_empty() => rest = next.trim_start(),
            None if rest.is_empty() => {}
            _ => return Err(format!("`{rest}` is not expected there")),
        }
    }
    Ok(selectors)
}

fn parse_selector(text: &str) -> Result<(Selector, &str), String> {
    let (mut path, mut rest) = (Vec::new(), text);
    loop {
        let field;
        (field, rest) = parse_field(rest)?;
        path.push(field);
        match rest.strip_prefix('.') {
            Some(next) => rest = next,
            None => break,
        }
    }
    let rest = rest.trim_start();
    let Some((operator, behind)) = rest.split_at_checked(2) else {
        return Ok((Selector { path, test: Test::Present }, rest));
    };
    if !["==", "!=", "~="].contains(&operator) {
        return Ok((Selector { path, test: Test::Present }, rest));
    }
    let (value, rest) = parse_value(behind.trim_start())?;
    let test = match operator {
        "==" => Test::Equal(value),
        "!=" => Test::NotEqual(value),
        _ => {
            let regex = RegexBuilder::new(&value).size_limit(MAX_REGEX_BYTES).build();
            Test::Matches(regex.map_err(|e| format!("the regular expression `{value}`: {e}"))?)
        }
    };
    Ok((Selector { path, test }, rest))
}

fn parse_field(text: &str) -> Result<(String, &str), String> {
    if let Some(quoted) = parse_quoted(text)? {
        return Ok(quoted);
    }
    let is_inside = |c: char| c == '_' || c.is_ascii_alphanumeric();
    let end = text.find(|c| !is_inside(c)).unwrap_or(text.len());
    match end {
        0 => Err(format!("a field is expected at `{text}`")),
        _ => Ok((text[..end].to_owned(), &text[end..])),
    }
}

fn parse_value(text: &str) -> Result<(String, &str), String> {
    if let Some(quoted) = parse_quoted(text)? {
        return Ok(quoted);
    }
    let end = text.find(|c: char| c == ',' || c.is_whitespace() || c.is_control());
    match end.unwrap_or(text.len()) {
        0 => Err("a value is missing".to_owned()),
        end => Ok((text[..end].to_owned(), &text[end..])),
    }
}

/// A text in quotes, if one begins there.
fn parse_quoted(text: &str) -> Result<Option<(String, &str)>, String> {
    let Some(quote) = text.chars().next().filter(|c| ['"', '/', '|'].contains(c)) else {
        return Ok(None);
    };
    let unterminated = || format!("the quote `{quote}` does not end");
    let (mut value, mut chars) = (String::new(), text[1..].char_indices());
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok(Some((value, &text[1 + at + 1..])));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        let (_, escape) = chars.next().ok_or_else(unterminated)?;
        let mut digits = |first: Option<char>, count: usize, radix: u32| {
            let text = first.into_iter().chain(chars.by_ref().take(count).map(|(_, c)| c));
            let code = u32::from_str_radix(&text.collect::<String>(), radix).ok();
            code.and_then(char::from_u32).ok_or_else(|| "an escape makes no sense".to_owned())
        };
        // In a regular expression most escapes are its own.
        if quote != '"' && escape != quote && escape != '\\' {
            value.extend(['\\', escape]);
            continue;
        }
        value.push(match escape {
            c if c == quote || c == '\\' => c,
            'a' => '\x07',
            'b' => '\x08',
            'f' => '\x0c',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\x0b',
            'x' => digits(None, 2, 16)?,
            'u' => digits(None, 4, 16)?,
            'U' => digits(None, 8, 16)?,
            '0'..='7' => digits(Some(escape), 2, 8)?,
            c => return Err(format!("`\\{c}` is no escape")),
        });
    }
    Err(unterminated())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::snapshots::{Kind, Labels, Usage};

    fn matches(filters: &[&str]) -> Result<bool, String> {
        let snapshot = Snapshot {
            number: 1,
            kind: Kind::Committed,
            parent: "k8s.io/3/sha256:ab".to_owned(),
            labels: Labels::from([
                ("containerd.io/snapshot.ref".to_owned(), "sha256:cd".to_owned()),
                ("plain".to_owned(), String::new()),
                ("a.b".to_owned(), "x y,\"z\"".to_owned()),
            ]),
            created: Duration::ZERO,
            updated: Duration::ZERO,
            usage: Usage::default(),
            remote: None,
        };
        let filters: Vec<String> = filters.iter().map(|text| (*text).to_owned()).collect();
        Ok(Filters::parse(&filters)?.matches("n", &snapshot))
    }

    #[test]
    fn what_containerd_asks() {
        let wanted =
            r#"labels."containerd.io/snapshot.ref"==sha256:cd,parent=="k8s.io/3/sha256:ab""#;
        assert_eq!(matches(&[wanted]), Ok(true));
        assert_eq!(matches(&[&wanted.replace("cd", "ce")]), Ok(false));
        assert_eq!(matches(&[&wanted.replace("/3", "/4")]), Ok(false));
    }

    #[test]
    fn the_language() {
        for (filter, expected) in [
            ("", true),
            ("kind==committed", true),
            ("kind==active", false),
            ("kind!=active", true),
            (" kind == committed , name==n", true),
            ("kind==committed,name==m", false),
            ("name", true),
            ("none", false),
            ("none!=x", true),
            ("labels.plain", true),
            ("labels.plain==\"\"", true),
            ("labels.a.b", true),
            (r#"labels."a.b"=="x y,\"z\"""#, true),
            (r#"labels."a.b"=="x\x20y,\u0022z\042""#, true),
            ("parent~=/^k8s\\.io\\/[0-9]+/", true),
            ("parent~=|^moby/|", false),
            ("name~=^n$", true),
        ] {
            assert_eq!(matches(&[filter]), Ok(expected), "{filter}");
        }
        assert_eq!(matches(&["name==m", "name==n"]), Ok(true));
        assert_eq!(matches(&["name==m", "name==o"]), Ok(false));
        assert_eq!(matches(&[]), Ok(true));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for filter in [
            "==x",
            "name==",
            "name==x,",
            "name=x",
            "name==\"x",
            "a b",
            ".a",
            "name~=(",
            "n==\"\\q\"",
            "name==\"\\u12\"",
            "\"\\",
            "name==x y",
        ] {
            assert!(matches(&[filter]).is_err(), "{filter}");
        }
        assert!(matches(&[&"x".repeat(MAX_BYTES + 1)]).is_err());
    }
}
