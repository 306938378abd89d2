//! HTML that is written so that no text of others becomes part of its tags.

use super::bounded::{self, MAX_TEXT_CHARS};

/// A piece of a document.
#[derive(Clone, Debug, Default)]
pub(crate) struct Markup(String);

impl Markup {
    /// Tags, attributes and words of this program.
    pub(crate) fn tags(&mut self, literal: &'static str) -> &mut Markup {
        self.0.push_str(literal);
        self
    }

    /// Text of others in one line, as content or within the quotes of an attribute. What would be obeyed is replaced,
    /// and what is too long is cut.
    pub(crate) fn text(&mut self, text: &str) -> &mut Markup {
        self.escaped(&bounded::text(text, MAX_TEXT_CHARS))
    }

    /// The name of a file, in the same places.
    pub(crate) fn name(&mut self, name: &[u8]) -> &mut Markup {
        self.escaped(&bounded::name(name))
    }

    /// A line of a text file, of at most so many characters; tabs stay.
    pub(crate) fn line(&mut self, line: &[u8], most: usize) -> &mut Markup {
        // What is no text has a sign for each byte: those behind the end need not be looked at.
        let line = &line[..line.len().min(most.saturating_mul(4))];
        let parts = line.split(|byte| *byte == b'\t').map(crate::render::listing::for_terminal);
        let shown = parts.collect::<Vec<_>>().join("\t");
        match shown.char_indices().nth(most) {
            None => self.escaped(&shown),
            Some((end, _)) => self.escaped(&shown[..end]).tags("…"),
        }
    }

    /// A number.
    pub(crate) fn number(&mut self, number: u64) -> &mut Markup {
        self.0.push_str(&number.to_string());
        self
    }

    /// A length in a picture.
    pub(crate) fn length(&mut self, length: f64) -> &mut Markup {
        let text = format!("{length:.1}");
        self.0.push_str(text.strip_suffix(".0").unwrap_or(&text));
        self
    }

    /// Another piece.
    pub(crate) fn append(&mut self, other: &Markup) -> &mut Markup {
        self.0.push_str(&other.0);
        self
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The document.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0.into_bytes()
    }

    fn escaped(&mut self, text: &str) -> &mut Markup {
        for c in text.chars() {
            match c {
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '&' => self.0.push_str("&amp;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
        self
    }
}

#[cfg(test)]
impl Markup {
    /// What is written so far.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::render::text::is_printable;

    /// What a browser makes of the escapes.
    fn read_back(text: &str) -> String {
        let escapes = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'")];
        let text = escapes.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to));
        text.replace("&amp;", "&")
    }

    proptest! {
        #[test]
        fn no_text_becomes_a_tag(text in any::<String>(), bytes in any::<Vec<u8>>()) {
            for written in [
                Markup::default().text(&text).as_str(),
                Markup::default().name(text.as_bytes()).as_str(),
                Markup::default().name(&bytes).as_str(),
                Markup::default().line(&bytes, 50).as_str(),
            ] {
                prop_assert!(!written.contains(['<', '>', '"', '\'']), "{}", written);
                prop_assert!(written.chars().all(|c| is_printable(c) || c == '\t'), "{}", written);
                let ands = written.matches('&').count();
                let known = ["&lt;", "&gt;", "&amp;", "&quot;", "&#39;"];
                let known: usize = known.iter().map(|escape| written.matches(escape).count()).sum();
                prop_assert_eq!(ands, known);
            }
        }

        #[test]
        fn what_is_shown_is_what_was_said(text in "[ -~äא]{0,80}") {
            prop_assert_eq!(read_back(Markup::default().text(&text).as_str()), text);
        }
    }

    #[test]
    fn lines_keep_tabs_and_are_cut() {
        assert_eq!(Markup::default().line(b"\ta<b\x1b\xff", 9).as_str(), "\ta&lt;b??");
        assert_eq!(Markup::default().line(b"<<<<", 3).as_str(), "&lt;&lt;&lt;…");
        assert_eq!(Markup::default().line(&[b'x'; 100], 3).as_str(), "xxx…");
    }

    #[test]
    fn lengths_are_short() {
        assert_eq!(Markup::default().length(12.04).tags(" ").length(0.25).as_str(), "12 0.2");
    }
}
