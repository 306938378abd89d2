//! Reads the words of an expression.
//!
//! Grammar, from what binds least: `LIST: OR , OR…`, `OR: AND -o AND…`, `AND: NOT [-a] NOT…`, `NOT: ! NOT | ( LIST ) |
//! PREDICATE`. Options such as `-maxdepth` are predicates that are true, and count for the whole, wherever they stand.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::time::{SystemTime, UNIX_EPOCH};

use ocifs::oci::parse_time;
use ocifs::tree::find::{Comparison, Expression, Kinds, Output, Owner, Search, Test};
use ocifs::tree::{FileKind, Glob};

use super::mode::permissions;

/// Parentheses and negations in each other: more than people type, and no danger to the stack.
const MAX_NESTED: usize = 256;

/// What the words ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FindRequest {
    /// Where to begin; empty for the root.
    pub(crate) paths: Vec<OsString>,
    pub(crate) search: Search,
}

/// Reads paths and the expression behind them.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(words: &[OsString]) -> Result<FindRequest, String> {
    let is_expression = |word: &OsString| {
        let bytes = word.as_bytes();
        bytes.len() > 1 && bytes[0] == b'-' || matches!(bytes, b"!" | b"(" | b")" | b",")
    };
    let start = words.iter().position(is_expression).unwrap_or(words.len());
    let (paths, words) = words.split_at(start);
    if paths.iter().any(|path| path.is_empty()) {
        return Err("a PATH is empty; `/` is the root of the image".to_owned());
    }
    let mut parser = Parser {
        words: words.iter().map(|word| word.as_bytes()).collect(),
        at: 0,
        nested: 0,
        min_depth: 0,
        max_depth: usize::MAX,
        contents_first: false,
    };
    let mut expression = match parser.words.is_empty() {
        true => Expression::Test(Test::Constant(true)),
        false => parser.list()?,
    };
    if let Some(word) = parser.peek() {
        return Err(format!("`{}` stands where nothing more is expected", lossy(word)));
    }
    if !expression.has_output() {
        expression = Expression::And(vec![expression, Expression::Output(Output::Path)]);
    }
    let Parser { min_depth, max_depth, contents_first, .. } = parser;
    let search = Search { expression, min_depth, max_depth, contents_first };
    Ok(FindRequest { paths: paths.to_vec(), search })
}

struct Parser<'a> {
    words: Vec<&'a [u8]>,
    at: usize,
    nested: usize,
    min_depth: usize,
    max_depth: usize,
    contents_first: bool,
}

fn lossy(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

/// One of several is itself.
fn joined(
    mut parts: Vec<Expression>,
    join: impl FnOnce(Vec<Expression>) -> Expression,
) -> Expression {
    match parts.len() {
        1 => parts.remove(0),
        _ => join(parts),
    }
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<&'a [u8]> {
        self.words.get(self.at).copied()
    }

    /// Takes the next word, if it is one of these.
    fn takes(&mut self, words: &[&str]) -> bool {
        let is_one =
            self.peek().is_some_and(|next| words.iter().any(|word| word.as_bytes() == next));
        self.at += usize::from(is_one);
        is_one
    }

    fn list(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.or()?];
        while self.takes(&[","]) {
            parts.push(self.or()?);
        }
        Ok(joined(parts, Expression::List))
    }

    fn or(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.and()?];
        while self.takes(&["-o", "-or"]) {
            parts.push(self.and()?);
        }
        Ok(joined(parts, Expression::Or))
    }

    fn and(&mut self) -> Result<Expression, String> {
        let mut parts = vec![self.not()?];
        loop {
            let is_said = self.takes(&["-a", "-and"]);
            match self.peek() {
                Some(b"-o" | b"-or" | b"," | b")") if !is_said => break,
                None if !is_said => break,
                _ => parts.push(self.not()?),
            }
        }
        Ok(joined(parts, Expression::And))
    }

    fn not(&mut self) -> Result<Expression, String> {
        if !self.takes(&["!", "-not"]) {
            return self.primary();
        }
        self.nest()?;
        let negated = self.not()?;
        self.nested -= 1;
        Ok(Expression::Not(Box::new(negated)))
    }

    fn nest(&mut self) -> Result<(), String> {
        self.nested += 1;
        match self.nested > MAX_NESTED {
            true => Err(format!("more than {MAX_NESTED} parentheses and negations in each other")),
            false => Ok(()),
        }
    }

    fn primary(&mut self) -> Result<Expression, String> {
        let Some(word) = self.peek() else {
            return Err("the expression ends where a test is expected".to_owned());
        };
        self.at += 1;
        if word == b"(" {
            self.nest()?;
            let inner = self.list()?;
            self.nested -= 1;
            return match self.takes(&[")"]) {
                true => Ok(inner),
                false => Err("a `(` without its `)`".to_owned()),
            };
        }
        let name = lossy(word);
        Ok(match name.as_str() {
            "-print" => Expression::Output(Output::Path),
            "-print0" => Expression::Output(Output::PathNul),
            "-ls" => Expression::Output(Output::Long),
            "-prune" => Expression::Prune,
            "-quit" => Expression::Quit,
            _ => Expression::Test(self.test(&name)?),
        })
    }

    /// The word behind a predicate.
    fn argument(&mut self, name: &str) -> Result<&'a [u8], String> {
        let word = self.peek().ok_or_else(|| format!("`{name}` needs a word behind it"))?;
        self.at += 1;
        Ok(word)
    }

    fn text(&mut self, name: &str) -> Result<&'a str, String> {
        let word = self.argument(name)?;
        std::str::from_utf8(word).map_err(|_| format!("{name}: `{}` is no text", lossy(word)))
    }

    fn number(&mut self, name: &str) -> Result<Comparison, String> {
        let text = self.text(name)?;
        comparison(text).ok_or_else(|| format!("{name}: `{text}` is no number N, +N or -N"))
    }

    fn depth(&mut self, name: &str) -> Result<usize, String> {
        let text = self.text(name)?;
        text.parse().map_err(|_| format!("{name}: `{text}` is no number"))
    }

    fn test(&mut self, name: &str) -> Result<Test, String> {
        let truth = Test::Constant(true);
        Ok(match name {
            "-maxdepth" => {
                self.max_depth = self.depth(name)?;
                truth
            }
            "-mindepth" => {
                self.min_depth = self.depth(name)?;
                truth
            }
            "-depth" | "-d" => {
                self.contents_first = true;
                truth
            }
            // There is one file system, and no warnings.
            "-mount" | "-xdev" | "-noleaf" | "-warn" | "-nowarn" | "-true" => truth,
            "-false" => Test::Constant(false),
            "-name" => Test::Name(Glob::new(self.argument(name)?)),
            "-iname" => Test::Name(Glob::folding_case(self.argument(name)?)),
            "-path" | "-wholename" => Test::Path(Glob::new(self.argument(name)?)),
            "-ipath" | "-iwholename" => Test::Path(Glob::folding_case(self.argument(name)?)),
            "-lname" => Test::Target(Glob::new(self.argument(name)?)),
            "-ilname" => Test::Target(Glob::folding_case(self.argument(name)?)),
            "-type" => Test::Kind(kinds(self.text(name)?)?),
            "-size" => size(self.text(name)?)?,
            "-perm" => {
                let text = self.text(name)?;
                Test::Permissions(permissions(text).map_err(|why| format!("{name}: {why}"))?)
            }
            "-links" => Test::Links(self.number(name)?),
            "-uid" => Test::Id(Owner::User, self.number(name)?),
            "-gid" => Test::Id(Owner::Group, self.number(name)?),
            "-user" => Test::Owner(Owner::User, self.argument(name)?.to_vec()),
            "-group" => Test::Owner(Owner::Group, self.argument(name)?.to_vec()),
            "-nouser" => Test::Nameless(Owner::User),
            "-nogroup" => Test::Nameless(Owner::Group),
            "-empty" => Test::Empty,
            "-newer" => Test::NewerThan(self.argument(name)?.to_vec()),
            "-newermt" => {
                let text = self.text(name)?;
                let (seconds, nanoseconds) = time(text).ok_or_else(|| {
                    format!(
                        "{name}: `{text}` is no time such as 2024-05-31 or 2024-05-31T12:00:00Z"
                    )
                })?;
                Test::After(seconds, nanoseconds)
            }
            "-mtime" => self.age(name, 24 * 60 * 60, false)?,
            "-mmin" => self.age(name, 60, true)?,
            "-samefile" => Test::SameAs(self.argument(name)?.to_vec()),
            "-exec" | "-execdir" | "-ok" | "-okdir" => {
                return Err(format!(
                    "`{name}` runs nothing: the files are not on this machine; mount the image for that"
                ));
            }
            "-delete" => return Err("an image can't be changed: there is no `-delete`".to_owned()),
            ")" => return Err("a `)` without its `(`, or with nothing in between".to_owned()),
            _ if name.starts_with("--") => {
                return Err(format!("`{name}` stands in the expression: flags come before REF"));
            }
            _ if name.starts_with('-') => return Err(format!("there is no predicate `{name}`")),
            _ => return Err(format!("`{name}`: paths stand before the expression")),
        })
    }

    fn age(&mut self, name: &str, unit: i64, rounds_up: bool) -> Result<Test, String> {
        let number = self.number(name)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Test::Age { now: i64::try_from(now).unwrap_or(i64::MAX), unit, rounds_up, number })
    }
}

fn comparison(text: &str) -> Option<Comparison> {
    let (compare, digits): (fn(u64) -> Comparison, &str) = match text.as_bytes().first()? {
        b'+' => (Comparison::More, &text[1..]),
        b'-' => (Comparison::Less, &text[1..]),
        _ => (Comparison::Equal, text),
    };
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| is_number).map(compare)
}

fn size(text: &str) -> Result<Test, String> {
    let wrong =
        || format!("-size: `{text}` is no size such as 10, +5M or -200k (units b c w k M G)");
    let (number, unit) = match text.chars().last().ok_or_else(wrong)? {
        'c' => (&text[..text.len() - 1], 1),
        'w' => (&text[..text.len() - 1], 2),
        'b' => (&text[..text.len() - 1], 512),
        'k' => (&text[..text.len() - 1], 1 << 10),
        'M' => (&text[..text.len() - 1], 1 << 20),
        'G' => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 512),
    };
    comparison(number).map(|number| Test::Size(unit, number)).ok_or_else(wrong)
}

fn kinds(text: &str) -> Result<Kinds, String> {
    text.split(',').try_fold(Kinds::default(), |kinds, letter| {
        Ok(match letter {
            "f" => kinds.with(FileKind::Regular),
            "d" => kinds.with(FileKind::Directory),
            "l" => kinds.with(FileKind::Symlink),
            "c" => kinds.with(FileKind::CharDevice),
            "b" => kinds.with(FileKind::BlockDevice),
            "p" => kinds.with(FileKind::Fifo),
            "w" => kinds.with_whiteouts(),
            "h" => kinds.with_links_below(),
            // Images have none.
            "s" | "D" => kinds,
            _ => return Err(format!("-type: `{letter}` is none of f d l c b p s, w (whiteout), h (hard link to a lower layer)")),
        })
    })
}

/// A day, a day and a time of it, or a time as RFC 3339 has it; in UTC where it does not say.
fn time(text: &str) -> Option<(i64, u32)> {
    let text = text.replacen(' ', "T", 1);
    let forms =
        [text.clone(), format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    forms.iter().find_map(|form| parse_time(form))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Result<FindRequest, String> {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        read(&words)
    }

    fn expression(line: &str) -> Expression {
        request(line).unwrap().search.expression
    }

    #[test]
    fn paths_come_first() {
        let request = request("etc - /usr -maxdepth 2 -mindepth 1 -depth").unwrap();
        assert_eq!(request.paths, ["etc", "-", "/usr"]);
        let Search { min_depth, max_depth, contents_first, .. } = request.search;
        assert_eq!((min_depth, max_depth, contents_first), (1, 2, true));
    }

    #[test]
    fn and_binds_more_than_or() {
        let [a, b, c] = [Test::Constant(true), Test::Constant(false), Test::Empty];
        let [a, b, c] = [a, b, c].map(Expression::Test);
        let printed =
            |expression| Expression::And(vec![expression, Expression::Output(Output::Path)]);
        let either = Expression::Or(vec![Expression::And(vec![a.clone(), b.clone()]), c.clone()]);
        assert_eq!(expression("-true -false -o -empty"), printed(either.clone()));
        assert_eq!(expression("-true -a -false -or -empty"), printed(either));
        let or = Expression::Or(vec![b.clone(), c.clone()]);
        assert_eq!(
            expression("-true ( -false -o -empty )"),
            printed(Expression::And(vec![a.clone(), or]))
        );
        let not = |expression| Expression::Not(Box::new(expression));
        assert_eq!(
            expression("! -true -not -not -empty"),
            printed(Expression::And(vec![not(a.clone()), not(not(c.clone()))]))
        );
        let list = Expression::List(vec![a, Expression::Output(Output::PathNul)]);
        assert_eq!(expression("-true , -print0"), list);
    }

    #[test]
    fn numbers_and_units() {
        let printed =
            |test| Expression::And(vec![Expression::Test(test), Expression::Output(Output::Path)]);
        let sizes = [
            ("10", 512, Comparison::Equal(10)),
            ("+5M", 1 << 20, Comparison::More(5)),
            ("-200k", 1024, Comparison::Less(200)),
            ("3c", 1, Comparison::Equal(3)),
        ];
        for (text, unit, number) in sizes {
            assert_eq!(expression(&format!("-size {text}")), printed(Test::Size(unit, number)));
        }
        for text in ["1970-01-02", "1970-01-02T00:00", "1970-01-01T23:00:00-01:00"] {
            assert_eq!(
                expression(&format!("-newermt {text}")),
                printed(Test::After(86400, 0)),
                "{text}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (line, word) in [
            ("-nmae x", "`-nmae`"),
            ("-name", "`-name`"),
            ("-true etc", "`etc`"),
            ("-true --json", "before REF"),
            ("( -true", "`(`"),
            ("-true )", "`)`"),
            ("( )", "`)`"),
            ("-true -o", "ends"),
            ("-true -a", "ends"),
            ("!", "ends"),
            ("-size 5X", "-size"),
            ("-size +", "-size"),
            ("-type f,x", "`x`"),
            ("-uid ++1", "-uid"),
            ("-perm 9", "-perm"),
            ("-maxdepth -1", "-maxdepth"),
            ("-newermt yesterday", "yesterday"),
            ("-exec rm ;", "`-exec`"),
            ("-delete", "-delete"),
        ] {
            let error = request(line).unwrap_err();
            assert!(error.contains(word), "{line}: {error}");
        }
        assert!(request(&"( ".repeat(100_000)).is_err());
        assert!(request(&"! ".repeat(100_000)).is_err());
    }
}
