//! Colours and weights, on dark and on light backgrounds.
//!
//! Only the terminal's own 16 colours are used, as its user has chosen them to be readable, and of these none that are
//! white or black somewhere. What is selected is reversed. Nothing is told by a colour alone: changes have marks, panes
//! have names; so `NO_COLOR` loses nothing.

use ocifs::tree::Change;
use ratatui_core::style::{Color, Modifier, Style};

/// How things look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Whether colours are welcome.
    pub(super) has_colours: bool,
}

impl Look {
    fn coloured(self, colour: Color) -> Style {
        if self.has_colours { Style::new().fg(colour) } else { Style::new() }
    }

    pub(super) fn plain(self) -> Style {
        Style::new()
    }

    /// Of less weight than what stands beside it.
    pub(super) fn aside(self) -> Style {
        Style::new().add_modifier(Modifier::DIM)
    }

    pub(super) fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Selected in a pane that does not have the keys.
    pub(super) fn selected_aside(self) -> Style {
        Style::new().add_modifier(Modifier::UNDERLINED | Modifier::BOLD)
    }

    /// The name of the pane that has the keys.
    pub(super) fn focus(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD | Modifier::REVERSED)
    }

    pub(super) fn directory(self) -> Style {
        self.coloured(Color::Blue).add_modifier(Modifier::BOLD)
    }

    pub(super) fn link(self) -> Style {
        self.coloured(Color::Cyan)
    }

    pub(super) fn match_found(self) -> Style {
        self.coloured(Color::Magenta).add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
    }

    pub(super) fn error(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn change(self, change: Option<Change>) -> Style {
        match change {
            None => self.plain(),
            Some(Change::Added) => self.coloured(Color::Green),
            Some(Change::Changed) => self.coloured(Color::Yellow),
            Some(Change::Removed) => self.coloured(Color::Red),
        }
    }
}

/// The sign of a change.
pub(super) fn sign(change: Option<Change>) -> char {
    match change {
        None => ' ',
        Some(Change::Added) => '+',
        Some(Change::Changed) => '~',
        Some(Change::Removed) => '-',
    }
}
