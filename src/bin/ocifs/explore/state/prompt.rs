//! A line that the user writes.

use crate::explore::key::Key;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explore) enum Asking {
    /// Letters of a name.
    Name,
    /// Letters of a line of the file that is shown.
    Line,
    /// Letters of any file.
    Content,
    /// Where to save the file.
    Place,
}

/// A line that is being written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::explore) struct Prompt {
    pub(in crate::explore) asking: Asking,
    pub(in crate::explore) text: String,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explore) enum Written {
    Further,
    Done,
    Given,
}

/// Characters of a line.
const MAX_CHARS: usize = 4096;

impl Prompt {
    /// What stands before the line.
    pub(in crate::explore) fn label(&self) -> &'static str {
        match self.asking {
            Asking::Name => "/",
            Asking::Line => "line with: ",
            Asking::Content => "files with: ",
            Asking::Place => "save as: ",
        }
    }

    /// Takes a key.
    pub(in crate::explore) fn key(&mut self, key: Key) -> Written {
        match key {
            Key::Enter => return Written::Done,
            Key::Escape | Key::Ctrl('c') => return Written::Given,
            Key::Backspace if self.text.is_empty() => return Written::Given,
            Key::Backspace => drop(self.text.pop()),
            Key::Ctrl('u') => self.text.clear(),
            Key::Ctrl('w') => {
                let kept = self.text.trim_end().rfind([' ', '/']).map_or(0, |at| at + 1);
                self.text.truncate(kept);
            }
            Key::Char(c) if self.text.len() < MAX_CHARS => self.text.push(c),
            _ => {}
        }
        Written::Further
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_written() {
        let mut prompt = Prompt { asking: Asking::Name, text: String::new() };
        for c in "ab cd".chars() {
            assert_eq!(prompt.key(Key::Char(c)), Written::Further);
        }
        prompt.key(Key::Backspace);
        assert_eq!(prompt.text, "ab c");
        prompt.key(Key::Ctrl('w'));
        assert_eq!(prompt.text, "ab ");
        assert_eq!(prompt.key(Key::Enter), Written::Done);
        prompt.key(Key::Ctrl('u'));
        assert_eq!(prompt.text, "");
        assert_eq!(prompt.key(Key::Backspace), Written::Given);
        assert_eq!(prompt.key(Key::Escape), Written::Given);
        assert_eq!(prompt.key(Key::Up), Written::Further);
    }
}
