//! What keys and clicks do to the model.

use std::path::PathBuf;

use super::prompt::Written;
use super::{Asking, Cursor, Effect, Later, Model, Names, Overlay, Prompt, Search, Step, Tab};
use crate::explore::action::{Action, GROUPS, action};
use crate::explore::command;
use crate::explore::key::{Input, Key};
use crate::explore::layout::{Pane, content_rows};
use crate::explore::listing::Sort;
use crate::explore::work::find::{contains, folds_case};
use crate::explore::work::{Filter, Kind, Request, Sought};

/// Rows that the wheel moves, and columns that the keys for left and right do.
const WHEEL_ROWS: isize = 3;
const SIDE_COLUMNS: usize = 8;

impl Model {
    pub(super) fn input(&mut self, input: Input) {
        match input {
            Input::Key(key) => self.key(key),
            Input::Click { x, y } => self.click(x, y),
            Input::Wheel { x, y, down } => {
                let step = Step::Rows(if down { WHEEL_ROWS } else { -WHEEL_ROWS });
                match self.areas().at(x, y) {
                    _ if self.overlay.is_some() => self.go(step),
                    Some((pane, _)) => self.go_in(pane, step),
                    None => {}
                }
            }
        }
    }

    fn key(&mut self, key: Key) {
        self.message = None;
        if let Some(prompt) = &mut self.prompt {
            match prompt.key(key) {
                Written::Further => {}
                Written::Given => self.prompt = None,
                Written::Done => {
                    if let Some(Prompt { asking, text }) = self.prompt.take() {
                        self.written(asking, text);
                    }
                }
            }
            return;
        }
        match action(key) {
            Some(action) => self.act(action),
            None => self.say("? shows the keys"),
        }
    }

    /// Does what a key is for.
    pub(in crate::explore) fn act(&mut self, action: Action) {
        match action {
            Action::Up => self.go(Step::Rows(-1)),
            Action::Down => self.go(Step::Rows(1)),
            Action::PageUp => self.go(Step::Pages(-1)),
            Action::PageDown => self.go(Step::Pages(1)),
            Action::HalfUp => self.go(Step::HalfPages(-1)),
            Action::HalfDown => self.go(Step::HalfPages(1)),
            Action::Top => self.go(Step::Start),
            Action::Bottom => self.go(Step::End),
            Action::Quit => self.effects.push(Effect::Quit(Ok(()))),
            Action::Suspend => self.effects.push(Effect::Suspend),
            Action::Redraw => self.effects.push(Effect::Redraw),
            Action::Escape => self.escape(),
            Action::Help => {
                self.overlay = match self.overlay {
                    Some(Overlay::Help { .. }) => None,
                    _ => Some(Overlay::Help { top: 0 }),
                }
            }
            Action::Enter | Action::Space if self.overlay.is_some() => self.enter_overlay(),
            _ if self.overlay.is_some() => self.overlay = None,
            action => self.act_in_panes(action),
        }
    }

    fn act_in_panes(&mut self, action: Action) {
        match action {
            Action::NextPane => self.focus = self.focus.after(1),
            Action::PreviousPane => self.focus = self.focus.after(2),
            Action::LowerLayer => self.go_in(Pane::Layers, Step::Rows(-1)),
            Action::UpperLayer => self.go_in(Pane::Layers, Step::Rows(1)),
            Action::ToggleAlone => self.set_alone(!self.keep.alone),
            Action::Alone => self.set_alone(true),
            Action::Together => self.set_alone(false),
            Action::OnlyChanged => self.toggle(Filter::Changed),
            Action::OnlyRemoved => self.toggle(Filter::Removed),
            Action::OnlyLarge => self.toggle(Filter::Large),
            Action::OnlySetuid => self.toggle(Filter::Setuid),
            Action::Wasted => self.overlay = Some(Overlay::Wasted { cursor: Cursor::default() }),
            Action::Columns => {
                self.columns = Some(!self.shows_columns());
            }
            Action::Preview => self.tab(Tab::Preview),
            Action::Attributes => self.tab(Tab::Attributes),
            Action::Versions => self.tab(Tab::Versions),
            Action::Hex => {
                self.file.is_switched = !self.file.is_switched;
                (self.file.top, self.file.left, self.file.mark) = (0, 0, None);
            }
            Action::FindName if self.focus == Pane::File => self.ask(Asking::Line, String::new()),
            Action::FindName => self.ask(Asking::Name, String::new()),
            Action::FindContent if self.subject.is_some() => {
                match self.search.generation {
                    0 => self.ask(Asking::Content, String::new()),
                    // What was found last is still there: Enter searches for it again.
                    _ => self.ask(Asking::Content, self.search.needle.clone()),
                }
            }
            Action::FindNext => self.find_again(true),
            Action::FindPrevious => self.find_again(false),
            Action::CopyPath | Action::CopyCommand => self.copy(action),
            Action::Save => self.ask_place(),
            Action::Left | Action::Right | Action::Space if self.focus == Pane::File => {
                match action {
                    Action::Left => self.file.left = self.file.left.saturating_sub(SIDE_COLUMNS),
                    Action::Right => self.file.left += SIDE_COLUMNS,
                    _ => self.go(Step::Pages(1)),
                }
            }
            Action::Enter | Action::Right if self.focus == Pane::Layers => self.focus = Pane::Tree,
            action => self.act_in_tree(action),
        }
    }

    fn act_in_tree(&mut self, action: Action) {
        let Some(view) = self.current() else { return };
        let at = self.tree.cursor.at;
        let row = self.tree.selected();
        match (action, row) {
            (Action::Sort, _) => {
                self.tree.shape.sort = match self.tree.shape.sort {
                    Sort::Name => Sort::Size,
                    Sort::Size => Sort::Name,
                };
                self.tree.list(&view, &self.file.path);
            }
            (Action::CollapseAll, _) => self.tree.close_all(&view),
            (Action::ExpandAll, _) if !self.is_open() => {
                self.later.push(Later::OpenAll);
                self.say("all are opened once the layers are read");
            }
            (Action::ExpandAll, Some(row)) => {
                let from = if row.is_dir { Some(at) } else { self.tree.above(at) };
                if !self.tree.open_all(from, &view) {
                    self.complain("too many: not all are open");
                }
            }
            (Action::Enter, Some(row)) if !row.is_dir => {
                self.focus = Pane::File;
                self.tab(Tab::Preview);
            }
            (Action::Space | Action::Enter, Some(row)) => self.set_open(at, !row.is_open),
            (Action::Right, Some(row)) if row.is_dir && !row.is_open => self.set_open(at, true),
            (Action::Right, Some(row)) if row.is_dir => self.go_in(Pane::Tree, Step::Rows(1)),
            (Action::Left, Some(row)) if row.is_open => self.set_open(at, false),
            (Action::Left, Some(_)) => {
                if let Some(above) = self.tree.above(at) {
                    self.tree.cursor.at = above;
                }
            }
            _ => {}
        }
    }

    /// Opens or closes the directory of a row; of an image that is not open yet its names are asked for.
    fn set_open(&mut self, at: usize, is_open: bool) {
        let path = self.tree.path(at);
        if is_open && self.view().is_some_and(|view| !view.lists(&path)) {
            self.effects.push(Effect::List(path));
        }
        self.tree.set_open(at, is_open);
    }

    fn go(&mut self, step: Step) {
        let rows = content_rows(self.areas().body);
        match &mut self.overlay {
            None => self.go_in(self.focus, step),
            Some(Overlay::Help { top }) => {
                let lines = GROUPS.iter().map(|group| group.bindings.len() + 2).sum::<usize>();
                *top = step.from(*top, rows, lines).min(lines.saturating_sub(rows));
            }
            Some(Overlay::Wasted { cursor }) => {
                let length = self.wasted.as_ref().map_or(0, |wasted| wasted.largest.len());
                cursor.go(step, rows.saturating_sub(1), length);
            }
            Some(Overlay::Hits { cursor }) => {
                cursor.go(step, rows.saturating_sub(1), self.search.hits.len());
            }
        }
    }

    fn go_in(&mut self, pane: Pane, step: Step) {
        let (rows, columns) = self.room(pane);
        match pane {
            Pane::Layers => {
                let before = self.layer.at;
                self.layer.go(step, rows, self.layers.len());
                let can_go = self.subject.as_ref().is_some_and(|subject| subject.layers() > 0);
                if can_go && self.layer.at != before {
                    self.look();
                }
            }
            Pane::Tree => self.tree.cursor.go(step, rows, self.tree.rows.len()),
            Pane::File => self.file.go(step, rows, columns),
        }
    }

    fn click(&mut self, x: u16, y: u16) {
        if self.prompt.is_some() {
            return;
        }
        if self.overlay.is_some() {
            self.click_overlay(y);
            return;
        }
        let Some((pane, row)) = self.areas().at(x, y) else { return };
        self.focus = pane;
        let Some(row) = row else { return };
        match pane {
            Pane::Layers => {
                let at = self.layer.top + row;
                if at < self.layers.len() {
                    let by = at as isize - self.layer.at as isize;
                    self.go_in(Pane::Layers, Step::Rows(by));
                }
            }
            Pane::Tree => {
                let at = self.tree.cursor.top + row;
                let is_same = at == self.tree.cursor.at;
                if at < self.tree.rows.len() {
                    self.tree.cursor.at = at;
                    if is_same {
                        self.act_in_tree(Action::Space);
                    }
                }
            }
            Pane::File => {}
        }
    }

    fn click_overlay(&mut self, y: u16) {
        let first = self.areas().body.y + 2;
        let Some(row) = y.checked_sub(first).map(usize::from) else { return };
        let (cursor, length) = match &mut self.overlay {
            Some(Overlay::Wasted { cursor }) => {
                (cursor, self.wasted.as_ref().map_or(0, |wasted| wasted.largest.len()))
            }
            Some(Overlay::Hits { cursor }) => (cursor, self.search.hits.len()),
            _ => return,
        };
        let at = cursor.top + row;
        if at < length {
            let is_same = cursor.at == at;
            cursor.at = at;
            if is_same {
                self.enter_overlay();
            }
        }
    }

    fn escape(&mut self) {
        let is_searching =
            self.search.generation > 0 && !self.search.searched.is_over && !self.search.is_stopped;
        if is_searching {
            self.newest.next(Kind::Grep);
            self.search.is_stopped = true;
            self.say("stopped");
        } else if self.overlay.take().is_some() {
        } else if self.keep.filter.is_some() || self.keep.alone {
            self.keep = Default::default();
            self.look();
        } else {
            // A search for names, or in a file, that still goes on.
            self.newest.next(Kind::Find);
            self.newest.next(Kind::Seek);
            self.names = Names::default();
            self.file.mark = None;
        }
    }

    fn set_alone(&mut self, alone: bool) {
        if self.keep.alone != alone {
            self.keep.alone = alone;
            self.look();
        }
    }

    fn toggle(&mut self, filter: Filter) {
        let is_on = self.keep.filter == Some(filter);
        self.keep.filter = (!is_on).then_some(filter);
        self.look();
    }

    fn tab(&mut self, tab: Tab) {
        self.file.tab = tab;
        (self.file.top, self.file.left) = (0, 0);
        self.describe();
    }

    fn ask(&mut self, asking: Asking, text: String) {
        if self.subject.is_some() {
            self.prompt = Some(Prompt { asking, text });
        }
    }

    fn ask_place(&mut self) {
        if !self.is_open() {
            self.say("files can be saved once the layers are read");
            return;
        }
        let is_file = self.view().zip(self.file.place);
        let is_file = is_file.is_some_and(|(view, place)| view.file_size(place).is_some());
        if !is_file {
            self.say("only regular files are saved: Y copies the command for others");
            return;
        }
        let last = self.file.path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
        let name = crate::render::listing::for_terminal(last).replace(['?', '/'], "_");
        self.ask(Asking::Place, name);
    }

    /// Goes on with a line that the user has written.
    pub(super) fn written(&mut self, asking: Asking, text: String) {
        let Some(view) = self.current() else { return };
        if text.is_empty() {
            return;
        }
        if !self.is_open() {
            self.later.push(Later::Written(asking, text));
            self.say("that is looked for once the layers are read");
            return;
        }
        let kept = self.tree.shape.kept.clone();
        match asking {
            Asking::Name => {
                let generation = self.newest.next(Kind::Find);
                self.names = Names { needle: text.clone(), ..Names::default() };
                self.say("searching\u{2026}");
                self.work(Request::Find { generation, view, needle: text, kept });
            }
            Asking::Line => {
                self.names.needle = text;
                self.find_line(true);
            }
            Asking::Content => {
                let generation = self.newest.next(Kind::Grep);
                self.search = Search { needle: text.clone(), generation, ..Search::default() };
                self.overlay = Some(Overlay::Hits { cursor: Cursor::default() });
                self.work(Request::Grep { generation, view, needle: text, kept });
            }
            Asking::Place => {
                let (Some(view), Some(place)) = (self.view(), self.file.place) else { return };
                self.say("saving\u{2026}");
                self.work(Request::Save { view, place, to: PathBuf::from(text) });
            }
        }
    }

    fn find_again(&mut self, forward: bool) {
        if self.names.needle.is_empty() {
            self.say("/ searches first");
        } else if self.focus == Pane::File {
            self.find_line(forward);
        } else if self.names.paths.is_empty() {
            self.written(Asking::Name, self.names.needle.clone());
        } else {
            let count = self.names.paths.len();
            self.names.at = (self.names.at + if forward { 1 } else { count - 1 }) % count;
            self.show_found("");
        }
    }

    /// Goes to the next line of the file that has the letters in it, of what has come of it.
    fn find_line(&mut self, forward: bool) {
        let needle = self.names.needle.clone();
        let (rows, columns) = self.room(Pane::File);
        let from = self.file.mark.or((self.file.top > 0).then_some(self.file.top));
        let folds = folds_case(&needle);
        let holds = |line: &[u8]| contains(line, needle.as_bytes(), folds);
        let found = match self.file.shows_document() && self.file.as_bytes(columns).is_none() {
            true => self.file.document.find(from, forward, holds),
            false => {
                let holds = |at: &usize| holds(self.file.line(*at, columns).text.as_bytes());
                let length = self.file.len(columns);
                match forward {
                    true => (from.map_or(0, |from| from + 1)..length).find(holds),
                    false => (0..from.unwrap_or(0).min(length)).rev().find(holds),
                }
            }
        };
        let (before, behind) = self.file.document.left();
        match (found, self.view(), self.file.place) {
            (Some(line), ..) => self.file.go_to(line, rows, columns),
            (None, Some(view), Some(place))
                if self.file.shows_document() && if forward { behind > 0 } else { before > 0 } =>
            {
                let document = &self.file.document;
                let from = match forward {
                    // The last line may go on.
                    true => document.offset_of(document.len(None).saturating_sub(1), None),
                    false => document.start(),
                };
                let generation = self.newest.next(Kind::Seek);
                self.say("searching\u{2026}");
                let sought = Sought { needle, from, forward };
                self.work(Request::Seek { generation, view, place, sought });
            }
            _ => self.no_line(),
        }
    }

    fn copy(&mut self, which: Action) {
        let (Some(view), Some(place)) = (self.view(), self.file.place) else { return };
        let path = [b"/", self.file.path.as_slice()].concat();
        let (text, what) = match which {
            Action::CopyPath => (command::quoted(&path), "the path"),
            _ => (command::of(&self.words, &view, place, &path, self.keep.alone), "the command"),
        };
        self.say(format!("copied {what}: {text}"));
        self.effects.push(Effect::Copy(text));
    }

    /// Goes to what is selected in a list that lies over the panes.
    fn enter_overlay(&mut self) {
        let Some(view) = self.current() else { return };
        let (path, line, layer) = match &self.overlay {
            Some(Overlay::Hits { cursor }) => {
                let Some(hit) = self.search.hits.get(cursor.at) else { return };
                (hit.path.clone(), usize::try_from(hit.line).ok(), None)
            }
            Some(Overlay::Wasted { cursor }) => {
                let largest = self.wasted.as_ref().map(|wasted| &wasted.largest);
                let Some(file) = largest.and_then(|files| files.get(cursor.at)) else { return };
                // There the layer shows it as removed, or as changed.
                (file.path.clone(), None, Some(file.hidden_by))
            }
            _ => {
                self.overlay = None;
                return;
            }
        };
        self.overlay = None;
        self.keep = Default::default();
        if let Some(layer) = layer {
            self.layer.at = layer;
        }
        self.look();
        let view = self.current().unwrap_or(view);
        if !self.tree.reveal(&view, &path) {
            self.complain("it is in no tree: the layer that brings it replaces it");
            return;
        }
        self.select();
        if let Some(line) = line {
            self.focus = Pane::File;
            self.tab(Tab::Preview);
            self.file.goal = Some(line);
        }
    }
}
