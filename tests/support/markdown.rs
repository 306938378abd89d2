//! The pages of the documentation, and what tests look at in them: fenced blocks, code spans, links.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A page.
#[derive(Debug)]
pub struct Page {
    /// Relative to the repository.
    pub path: PathBuf,
    pub text: String,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block<'a> {
    /// The first word behind the fence.
    pub language: &'a str,
    /// The other words there, which no reader of the page sees.
    pub marks: &'a str,
    pub text: &'a str,
    /// The line of the fence, counted from 1.
    pub line: usize,
}

/// The folder of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A page by its path in the repository.
pub fn page(path: impl AsRef<Path>) -> Page {
    let path = path.as_ref();
    let text = fs::read_to_string(repository().join(path))
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Page { path: path.to_owned(), text }
}

/// What users read: the README and every page in `docs`.
pub fn handbook() -> Vec<Page> {
    let folder = fs::read_dir(repository().join("docs")).expect("the folder `docs`");
    let mut names: Vec<_> = folder.map(|entry| entry.expect("an entry").file_name()).collect();
    // Beside them are pictures.
    names.retain(|name| Path::new(name).extension().is_some_and(|extension| extension == "md"));
    names.sort();
    let pages: Vec<Page> = names.iter().map(|name| page(Path::new("docs").join(name))).collect();
    assert!(pages.len() > 5, "{names:?}");
    [page("README.md")].into_iter().chain(pages).collect()
}

impl Page {
    /// Where the page's fenced blocks are, fences included.
    fn fences(&self) -> Vec<Range<usize>> {
        let (mut found, mut open, mut at) = (Vec::new(), None, 0);
        for line in self.text.split_inclusive('\n') {
            let end = at + line.len();
            if line.starts_with("```") {
                match open.take() {
                    None => open = Some(at),
                    Some(start) => found.push(start..end),
                }
            }
            at = end;
        }
        assert!(open.is_none(), "{}: a fence has no end", self.path.display());
        found
    }

    /// The fenced blocks.
    pub fn blocks(&self) -> Vec<Block<'_>> {
        let block = |range: Range<usize>| {
            let line = self.text[..range.start].lines().count() + 1;
            let (head, rest) = self.text[range].split_once('\n').expect("a fence has two lines");
            let text = &rest[..rest.trim_end().len() - "```".len()];
            let head = head.trim_start_matches('`').trim();
            let (language, marks) = head.split_once(' ').unwrap_or((head, ""));
            Block { language, marks, text, line }
        };
        self.fences().into_iter().map(block).collect()
    }

    /// The text between fenced blocks.
    pub fn prose(&self) -> String {
        let (mut prose, mut at) = (String::new(), 0);
        for fence in self.fences() {
            prose.push_str(&self.text[at..fence.start]);
            prose.push('\n');
            at = fence.end;
        }
        prose + &self.text[at..]
    }

    /// The code spans between fenced blocks; one that is wrapped is a line here.
    pub fn spans(&self) -> Vec<String> {
        let prose = self.prose();
        let mut spans = Vec::new();
        // A span does not reach over the end of its paragraph.
        for paragraph in prose.split("\n\n") {
            let mut parts = paragraph.split('`');
            parts.next();
            while let Some(span) = parts.next() {
                spans.push(span.split_whitespace().collect::<Vec<_>>().join(" "));
                assert!(parts.next().is_some(), "{}: `{span}", self.path.display());
            }
        }
        spans
    }

    /// The targets of links.
    pub fn links(&self) -> Vec<String> {
        let prose = self.prose();
        let ends = prose.split("](").skip(1);
        ends.filter_map(|rest| rest.split_once(')')).map(|(link, _)| link.to_owned()).collect()
    }

    /// The anchors of the headings, as they are made of the words.
    pub fn anchors(&self) -> Vec<String> {
        let prose = self.prose();
        let headings = prose.lines().filter(|line| line.starts_with('#'));
        headings
            .map(|line| {
                let words = line.trim_start_matches('#').trim().to_lowercase();
                let kept = words.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                kept.map(|c| if c == ' ' { '-' } else { c }).collect()
            })
            .collect()
    }
}
