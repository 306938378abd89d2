//! What keys do: one table, by which they are dispatched, and which is the help.
//!
//! The keys are those of dive where it has one for the purpose, and of less for moving and searching.

use super::key::Key::{self, Char, Ctrl};

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Action {
    Up,
    Down,
    PageUp,
    PageDown,
    HalfUp,
    HalfDown,
    Top,
    Bottom,
    Left,
    Right,
    Space,
    Enter,
    NextPane,
    PreviousPane,
    LowerLayer,
    UpperLayer,
    ToggleAlone,
    Alone,
    Together,
    ExpandAll,
    CollapseAll,
    FindName,
    FindNext,
    FindPrevious,
    FindContent,
    OnlyChanged,
    OnlyRemoved,
    OnlyLarge,
    OnlySetuid,
    Sort,
    Columns,
    Preview,
    Attributes,
    Versions,
    Hex,
    Wasted,
    CopyPath,
    CopyCommand,
    Save,
    Help,
    Escape,
    Redraw,
    Suspend,
    Quit,
}

/// Keys that do the same.
#[derive(Clone, Copy, Debug)]
pub(super) struct Binding {
    pub(super) keys: &'static [Key],
    pub(super) action: Action,
    pub(super) text: &'static str,
}

/// Bindings that belong together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) bindings: &'static [Binding],
}

const fn bind(keys: &'static [Key], action: Action, text: &'static str) -> Binding {
    Binding { keys, action, text }
}

/// All keys.
pub(super) const GROUPS: [Group; 6] = [
    Group {
        name: "Moving",
        bindings: &[
            bind(&[Key::Up, Char('k')], Action::Up, "up"),
            bind(&[Key::Down, Char('j')], Action::Down, "down"),
            bind(&[Key::PageUp, Char('b')], Action::PageUp, "a page up"),
            bind(&[Key::PageDown, Char('f')], Action::PageDown, "a page down"),
            bind(&[Char('u'), Ctrl('u')], Action::HalfUp, "half a page up"),
            bind(&[Char('d'), Ctrl('d')], Action::HalfDown, "half a page down"),
            bind(&[Key::Home, Char('g'), Char('<')], Action::Top, "to the start"),
            bind(&[Key::End, Char('G'), Char('>')], Action::Bottom, "to the end"),
            bind(&[Key::Tab], Action::NextPane, "next pane"),
            bind(&[Key::BackTab], Action::PreviousPane, "pane before"),
        ],
    },
    Group {
        name: "Layers",
        bindings: &[
            bind(&[Char('[')], Action::LowerLayer, "the layer below, from any pane"),
            bind(&[Char(']')], Action::UpperLayer, "the layer above, from any pane"),
            bind(&[Char('o')], Action::ToggleAlone, "this layer alone, or the tree with it"),
            bind(&[Ctrl('l')], Action::Alone, "what this layer did alone"),
            bind(&[Ctrl('a')], Action::Together, "the tree of the layers up to this one"),
            bind(&[Char('w')], Action::Wasted, "files that take room and are in no tree"),
        ],
    },
    Group {
        name: "Tree",
        bindings: &[
            bind(&[Char(' ')], Action::Space, "open or close a directory; in a file: a page down"),
            bind(&[Key::Enter], Action::Enter, "open what is selected"),
            bind(
                &[Key::Left, Char('h')],
                Action::Left,
                "close, or to the directory above; in a file: left",
            ),
            bind(&[Key::Right, Char('l')], Action::Right, "open, or into it; in a file: right"),
            bind(&[Char('*')], Action::ExpandAll, "open all directories below"),
            bind(&[Ctrl(' '), Char('-')], Action::CollapseAll, "close all directories"),
            bind(&[Char('C')], Action::OnlyChanged, "only what changed"),
            bind(&[Char('R')], Action::OnlyRemoved, "only what was removed"),
            bind(&[Char('L')], Action::OnlyLarge, "only files of 1 MiB and more"),
            bind(&[Char('S')], Action::OnlySetuid, "only setuid and setgid files"),
            bind(&[Char('s')], Action::Sort, "sort by name, or by size"),
            bind(&[Char('m'), Ctrl('b')], Action::Columns, "show or hide modes and owners"),
        ],
    },
    Group {
        name: "Searching",
        bindings: &[
            bind(
                &[Char('/'), Ctrl('f')],
                Action::FindName,
                "names with these letters; in a file: lines",
            ),
            bind(&[Char('n')], Action::FindNext, "next match"),
            bind(&[Char('N')], Action::FindPrevious, "match before"),
            bind(&[Char('c')], Action::FindContent, "files with these letters in them"),
        ],
    },
    Group {
        name: "File",
        bindings: &[
            bind(&[Char('p')], Action::Preview, "what is in it"),
            bind(&[Char('i')], Action::Attributes, "its attributes"),
            bind(&[Char('v')], Action::Versions, "its versions: which layers made and removed it"),
            bind(&[Char('x')], Action::Hex, "as bytes, or as text"),
            bind(&[Char('y')], Action::CopyPath, "copy the path to the clipboard"),
            bind(&[Char('Y')], Action::CopyCommand, "copy the command line that shows the same"),
            bind(&[Char('e'), Ctrl('e')], Action::Save, "save it on this machine"),
        ],
    },
    Group {
        name: "Program",
        bindings: &[
            bind(&[Char('?')], Action::Help, "this help"),
            bind(&[Key::Escape], Action::Escape, "close, stop a search, show everything again"),
            bind(&[Char('r')], Action::Redraw, "draw the screen anew"),
            bind(&[Ctrl('z')], Action::Suspend, "back to the shell for a while"),
            bind(&[Char('q'), Ctrl('c')], Action::Quit, "quit"),
        ],
    },
];

/// What a key does.
pub(super) fn action(key: Key) -> Option<Action> {
    let mut bindings = GROUPS.iter().flat_map(|group| group.bindings);
    bindings.find(|binding| binding.keys.contains(&key)).map(|binding| binding.action)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_page_has_the_table() {
        let page = include_str!("../../../../docs/explore.md");
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
        let mut expected = Vec::new();
        for group in GROUPS {
            expected.push(format!("| **{}** | |", group.name));
            for Binding { keys, text, .. } in group.bindings {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                expected.push(format!("| {} | {text} |", keys.join(" ")));
            }
        }
        assert_eq!(rows, expected);
    }

    #[test]
    fn each_key_does_one_thing() {
        let mut seen = HashSet::new();
        for binding in GROUPS.iter().flat_map(|group| group.bindings) {
            for key in binding.keys {
                assert!(seen.insert(*key), "{key} is there twice");
                assert_eq!(action(*key), Some(binding.action), "{key}");
            }
            assert!(binding.text.len() <= 60, "{}", binding.text);
        }
        assert_eq!(action(Char('\u{e4}')), None);
    }
}
