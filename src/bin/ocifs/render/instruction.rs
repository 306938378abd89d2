//! Instructions of a history as their author wrote them.
//!
//! Docker's builder wraps an instruction into the shell that ran it (`/bin/sh -c #(nop)  CMD ["sh"]`), BuildKit marks
//! its own with a comment (`RUN /bin/sh -c make # buildkit`). People look for what stands in their Dockerfile.

use std::borrow::Cow;

use ocifs::oci::HistoryEntry;

use super::screen::Screen;

/// What Docker's builder puts before an instruction that ran nothing.
const NO_OPERATION: &str = "/bin/sh -c #(nop) ";

/// What it puts before one that ran.
const SHELL: &str = "/bin/sh -c ";

/// What BuildKit puts behind its own.
const BUILDKIT: &str = " # buildkit";

/// An instruction: in one line and as in a Dockerfile on a terminal, as the config has it elsewhere.
pub(crate) fn instruction(screen: Screen, entry: Option<&HistoryEntry>) -> String {
    match entry {
        None => String::new(),
        Some(entry) if screen.is_terminal() => for_people(entry),
        Some(entry) => written(entry).to_owned(),
    }
}

/// An instruction in one line and as in a Dockerfile.
pub(crate) fn for_people(entry: &HistoryEntry) -> String {
    of_dockerfile(written(entry)).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn written(entry: &HistoryEntry) -> &str {
    if entry.created_by.is_empty() { &entry.comment } else { &entry.created_by }
}

fn of_dockerfile(written: &str) -> Cow<'_, str> {
    let written = written.strip_suffix(BUILDKIT).unwrap_or(written);
    if let Some(instruction) = written.strip_prefix(NO_OPERATION) {
        return instruction.trim_start().into();
    }
    if let Some(command) = written.strip_prefix(SHELL) {
        return format!("RUN {command}").into();
    }
    // Build arguments stand between the two: `RUN |1 VERSION=2 /bin/sh -c make`.
    match written.strip_prefix("RUN ") {
        Some(run) => match run.strip_prefix(SHELL) {
            Some(command) => format!("RUN {command}").into(),
            None => written.into(),
        },
        None => written.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_stands_in_the_dockerfile() {
        for (written, shown) in [
            ("/bin/sh -c #(nop)  CMD [\"bash\"]", "CMD [\"bash\"]"),
            ("/bin/sh -c #(nop) ADD file:0 in / ", "ADD file:0 in /"),
            ("/bin/sh -c apt-get update", "RUN apt-get update"),
            ("RUN /bin/sh -c make \t&& make install # buildkit", "RUN make && make install"),
            ("COPY a b # buildkit", "COPY a b"),
            ("RUN |1 V=2 /bin/sh -c make # buildkit", "RUN |1 V=2 /bin/sh -c make"),
            ("", "a remark"),
        ] {
            let (created_by, comment) = (written.to_owned(), "a remark".to_owned());
            let entry = HistoryEntry { created_by, comment, ..HistoryEntry::default() };
            let terminal = Screen::of_columns(Some(80), 0);
            assert_eq!(instruction(terminal, Some(&entry)), shown, "{written}");
            if !written.is_empty() {
                assert_eq!(instruction(Screen::of_columns(None, 0), Some(&entry)), written);
            }
        }
        assert_eq!(instruction(Screen::of_columns(None, 0), None), "");
    }
}
