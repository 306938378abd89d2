//! What the user sees and wants: all of it, without a terminal.
//!
//! ```text
//! Event ──► Model::update ──► Effect      keys, answers, sizes in; work and what the terminal is to do out
//!              Model ──► draw             read only
//! ```
//!
//! Nothing here waits, reads a file or looks at a clock: what takes long is an [`Effect::Work`], whose answers come back
//! as events. So every key can be tested by pressing it, and the same events give the same screen.

mod cursor;
mod details;
mod file;
mod keys;
mod prompt;
mod tree;

use std::sync::Arc;

use ocifs::image::Wasted;

pub(super) use cursor::{Cursor, Step};
pub(super) use file::{FilePane, Jump, Reading, Tab};
pub(super) use prompt::{Asking, Prompt};
pub(super) use tree::TreePane;

use super::action::Action;
use super::key::Input;
use super::layout::{Areas, Pane, content_rows};
use super::listing::{Kept, Sort, Sums};
use super::preview::Document;
use super::subject::{LayerRow, Subject, View};
use super::work::{Answer, Content, Generations, Hit, Keep, Kind, MOST_SOUGHT, Request, Searched};
use crate::render::errors::AnyError;
use crate::render::text::size;

/// Results of walks that are kept, so that going back to a layer shows them at once.
const MAX_KEPT: usize = 4;

/// A tree that is so wide shows modes and owners, unless the user has said otherwise.
const WIDE_TREE: u16 = 70;

/// If a filter lets through no more, all of it is shown at once; what is more is the user's to open.
const FEW_KEPT: usize = 300;

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    Input(Input),
    Resize((u16, u16)),
    Answer(Answer),
    /// How far opening is.
    Progress(Progress),
    /// The user has pressed nothing for a moment.
    Rest,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Effect {
    Work(Request),
    /// The names of a directory are wanted of an image that is not open yet.
    List(Vec<u8>),
    Copy(String),
    Redraw,
    Suspend,
    Quit(Result<(), AnyError>),
}

/// How far opening the images is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) layers: usize,
    pub(super) layers_done: usize,
    pub(super) bytes: u64,
    pub(super) bytes_done: u64,
    pub(super) seconds: u64,
}

/// What lies over the panes.
#[derive(Debug)]
pub(super) enum Overlay {
    Help { top: usize },
    Wasted { cursor: Cursor },
    Hits { cursor: Cursor },
}

/// A search in contents.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub(super) needle: String,
    pub(super) generation: u64,
    pub(super) hits: Vec<Hit>,
    pub(super) searched: Searched,
    /// The user has stopped it.
    pub(super) is_stopped: bool,
}

/// Names that were found.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) needle: String,
    paths: Vec<Vec<u8>>,
    at: usize,
}

/// What is done once the images are open.
#[derive(Debug)]
enum Later {
    OpenAll,
    Written(Asking, String),
}

/// A word for the user, in the last line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) is_error: bool,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Model {
    /// The words for the images, as a command line has them.
    pub(super) words: Vec<String>,
    pub(super) size: (u16, u16),
    pub(super) subject: Option<Arc<Subject>>,
    pub(super) progress: Progress,
    pub(super) layers: Vec<LayerRow>,
    pub(super) layer: Cursor,
    pub(super) tree: TreePane,
    pub(super) file: FilePane,
    pub(super) focus: Pane,
    pub(super) keep: Keep,
    /// Whether modes and owners are shown, if the user has said it.
    pub(super) columns: Option<bool>,
    pub(super) prompt: Option<Prompt>,
    pub(super) overlay: Option<Overlay>,
    pub(super) message: Option<Message>,
    pub(super) wasted: Option<Wasted>,
    pub(super) search: Search,
    pub(super) names: Names,
    newest: Arc<Generations>,
    kept: Vec<((Keep, usize), Kept)>,
    sums: Vec<(usize, Sums)>,
    later: Vec<Later>,
    /// Whether a key was pressed.
    is_used: bool,
    effects: Vec<Effect>,
}

impl Model {
    /// Images that are not open yet. `words` are how a command line names them, with the flags that it needs.
    pub(super) fn new(words: Vec<String>, size: (u16, u16), newest: Arc<Generations>) -> Model {
        Model {
            words,
            size,
            subject: None,
            progress: Progress::default(),
            layers: Vec::new(),
            layer: Cursor::default(),
            tree: TreePane::default(),
            file: FilePane::default(),
            focus: Pane::Tree,
            keep: Keep::default(),
            columns: None,
            prompt: None,
            overlay: None,
            message: None,
            wasted: None,
            search: Search::default(),
            names: Names::default(),
            newest,
            kept: Vec::new(),
            sums: Vec::new(),
            later: Vec::new(),
            is_used: false,
            effects: Vec::new(),
        }
    }

    /// Takes note of what has happened; what is to be done then.
    pub(super) fn update(&mut self, event: Event) -> Vec<Effect> {
        match event {
            Event::Input(input) => {
                self.is_used = true;
                self.input(input);
            }
            Event::Resize(size) => self.size = size,
            Event::Answer(answer) => self.answer(answer),
            Event::Progress(progress) => self.progress = progress,
            Event::Rest => self.rest(),
        }
        self.settle();
        std::mem::take(&mut self.effects)
    }

    /// Where the panes are.
    pub(super) fn areas(&self) -> Areas {
        Areas::of(self.size, self.focus)
    }

    /// Whether modes and owners are shown.
    pub(super) fn shows_columns(&self) -> bool {
        self.columns.unwrap_or(self.areas().tree.width >= WIDE_TREE)
    }

    /// What the rows of the tree are of, and the file: while a long listing is made, what was looked at before.
    pub(super) fn view(&self) -> Option<View> {
        self.tree.view.clone().or_else(|| self.current())
    }

    /// What is to be looked at.
    fn current(&self) -> Option<View> {
        let subject = Arc::clone(self.subject.as_ref()?);
        let layer = self.layer.at.min(subject.layers().saturating_sub(1));
        Some(View { subject, layer })
    }

    /// Whether all of the images is known.
    pub(super) fn is_open(&self) -> bool {
        self.subject.as_ref().is_some_and(|subject| subject.is_whole())
    }

    /// Whether there is something to do once the user rests.
    pub(super) fn waits_for_rest(&self) -> bool {
        matches!(self.file.reading, Reading::Wanted) && self.shows_content() && self.is_open()
    }

    /// Whether a content would be seen: nothing is fetched that is not.
    fn shows_content(&self) -> bool {
        !self.areas().file.is_empty() && self.file.tab == Tab::Preview
    }

    fn work(&mut self, request: Request) {
        self.effects.push(Effect::Work(request));
    }

    fn say(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), is_error: false });
    }

    fn complain(&mut self, text: impl Into<String>) {
        self.message = Some(Message { text: text.into(), is_error: true });
    }

    /// The rows and columns of a pane.
    fn room(&self, pane: Pane) -> (usize, u16) {
        let area = self.areas().pane(pane);
        (content_rows(area), area.width)
    }

    /// Brings all cursors into sight, and asks for what is missing there.
    fn settle(&mut self) {
        let (rows, _) = self.room(Pane::Layers);
        self.layer.settle(rows, self.layers.len());
        let (rows, _) = self.room(Pane::Tree);
        self.tree.cursor.settle(rows, self.tree.rows.len());
        self.select();
        if let Some(wanted) = self.tree.take_wanted() {
            let generation = self.newest.next(Kind::List);
            self.work(Request::List { generation, wanted });
        }
        let (rows, columns) = self.room(Pane::File);
        self.file.top = self.file.top.min(self.file.len(columns).saturating_sub(rows.max(1)));
        self.file.arrive(rows, columns);
        if self.shows_content()
            && let Some(offset) = self.file.wanted(rows, columns)
        {
            self.read(offset);
        }
    }

    /// Shows the file of the selected row, if it is another one.
    fn select(&mut self) {
        let place = self.tree.selected().map(|row| row.place);
        if self.file.place != place || place.is_none() {
            let at = self.tree.cursor.at;
            let path = place.map(|_| self.tree.path(at)).unwrap_or_default();
            // What was asked for of another file is not waited for.
            self.newest.next(Kind::Read);
            self.newest.next(Kind::Seek);
            self.file.select(place, path);
            self.describe();
        }
    }

    /// Fills the pane of the file with what it is to show.
    fn describe(&mut self) {
        let Some(view) = self.view() else { return };
        self.file.lines = match (self.file.place, self.file.tab) {
            (None, _) => Vec::new(),
            (Some(place), Tab::Attributes) => details::attributes(&view, place, &self.file.path),
            (Some(place), Tab::Versions) => {
                details::versions(&view, place, &self.file.path, &self.layers)
            }
            (Some(place), Tab::Preview) => match view.file_size(place) {
                Some(_) => Vec::new(),
                None => details::no_file(&view, place, self.tree.shape.sums.as_ref()),
            },
        };
        let is_unread = matches!(self.file.reading, Reading::Nothing);
        let is_file = self.file.place.is_some_and(|place| view.file_size(place).is_some());
        if is_unread && is_file {
            self.file.reading = Reading::Wanted;
        }
    }

    /// Reads on in the file.
    fn read(&mut self, offset: u64) {
        let (Some(view), Some(place)) = (self.view(), self.file.place) else { return };
        let generation = self.newest.next(Kind::Read);
        self.file.reading = Reading::Asked(generation);
        self.work(Request::Read { generation, view, place, offset });
    }

    fn rest(&mut self) {
        if self.waits_for_rest() {
            self.read(0);
        }
    }

    /// Shows more of the images than before.
    fn see(&mut self, subject: Arc<Subject>) {
        self.subject = Some(subject);
        if !self.is_used {
            // What came first of what came first is nothing that the user has chosen.
            self.file.path.clear();
        }
        self.look();
    }

    /// Shows the tree of another layer, or of the same with another filter.
    fn look(&mut self) {
        let Some(view) = self.current() else { return };
        let path = self.file.path.clone();
        let is_all = self.keep == Keep::default();
        let key = (self.keep, view.layer);
        let kept = self.kept.iter().find(|(known, _)| *known == key).map(|(_, kept)| kept);
        self.tree.shape.kept = match (is_all, kept) {
            (true, _) => None,
            (false, Some(kept)) => Some(Arc::clone(kept)),
            // Nothing is shown before it is known what.
            (false, None) if !self.is_open() => Some(Kept::default()),
            (false, None) => {
                let generation = self.newest.next(Kind::Keep);
                let (view, keep) = (view.clone(), self.keep);
                self.work(Request::Keep { generation, view, keep });
                Some(Kept::default())
            }
        };
        let sums = self.sums.iter().find(|(layer, _)| *layer == view.layer);
        self.tree.shape.sums = sums.map(|(_, sums)| Arc::clone(sums));
        if self.tree.shape.sums.is_none() && self.is_open() {
            let generation = self.newest.next(Kind::Sums);
            self.work(Request::Sums { generation, view: view.clone() });
        }
        self.tree.list(&view, &path);
        // The same path may be another file in this layer.
        self.file.place = None;
        self.select();
        // Until something is shown again, that is the path to come back to.
        if self.tree.rows.is_empty() {
            self.file.path = path;
        }
    }

    fn answer(&mut self, answer: Answer) {
        match answer {
            Answer::Rows(rows) => {
                self.layer.at = rows.len().saturating_sub(1);
                self.layers = rows;
            }
            Answer::Glimpse(subject) => {
                if !self.is_open() {
                    self.see(subject);
                }
            }
            Answer::Opened(Ok(subject)) => {
                self.see(subject);
                if let Some(view) = self.view() {
                    self.work(Request::Count { view });
                }
                for later in std::mem::take(&mut self.later) {
                    match later {
                        Later::OpenAll => self.act(Action::ExpandAll),
                        Later::Written(asking, text) => self.written(asking, text),
                    }
                }
            }
            Answer::Opened(Err(error)) => self.effects.push(Effect::Quit(Err(error))),
            Answer::Read { generation, offset, content } => {
                self.has_come(generation, offset, content)
            }
            Answer::Listed { generation, listed } => {
                if self.newest.is_newest(Kind::List, generation) && self.tree.is_listing() {
                    self.tree.show(listed);
                    self.file.place = None;
                }
            }
            Answer::Kept { generation, keep, layer, kept } => {
                remember(&mut self.kept, (keep, layer), kept);
                if self.newest.is_newest(Kind::Keep, generation) {
                    self.shows_kept();
                }
            }
            Answer::Sums { generation, layer, sums } => {
                remember(&mut self.sums, layer, sums);
                if self.newest.is_newest(Kind::Sums, generation) {
                    self.shows_sums();
                }
            }
            Answer::Found { generation, paths, is_cut } => {
                if self.newest.is_newest(Kind::Find, generation) {
                    self.found(paths, is_cut);
                }
            }
            Answer::Hit { generation, hit } => {
                if generation == self.search.generation {
                    self.search.hits.push(hit);
                }
            }
            Answer::Searched { generation, searched } => {
                if generation == self.search.generation {
                    self.search.searched = searched;
                }
            }
            Answer::Sought { generation, found } => {
                if self.newest.is_newest(Kind::Seek, generation) {
                    self.sought(found);
                }
            }
            Answer::Saved(Ok(text)) => self.say(text),
            Answer::Saved(Err(text)) => self.complain(text),
            Answer::Counted { changes, wasted } => {
                for (row, changes) in self.layers.iter_mut().zip(changes) {
                    row.changes = Some(changes);
                }
                self.wasted = Some(wasted);
            }
            Answer::Defect(text) => self.complain(text),
        }
    }

    /// Content of the selected file, if it is still that.
    fn has_come(&mut self, generation: u64, offset: u64, content: Result<Content, String>) {
        if !matches!(self.file.reading, Reading::Asked(asked) if asked == generation) {
            return;
        }
        self.file.reading = Reading::Read;
        let size = self.view().zip(self.file.place).and_then(|(view, place)| view.file_size(place));
        match content {
            Ok(Content::Patch(patch)) => self.file.document = Document::of_patch(patch),
            Ok(Content::Bytes(bytes)) if self.file.document.end() == 0 => {
                self.file.document = Document::new(bytes, size.unwrap_or(0));
            }
            Ok(Content::Bytes(bytes)) => {
                let (_, columns) = self.room(Pane::File);
                self.file.take(offset, bytes, columns);
            }
            Err(text) => self.file.reading = Reading::Failed(text),
        }
    }

    /// A line of the selected file was found in what has not come, or none.
    fn sought(&mut self, found: Result<Option<u64>, String>) {
        match found {
            Ok(Some(offset)) => {
                self.message = None;
                self.file.jump = Some(Jump::Line(offset));
            }
            Ok(None) => self.no_line(),
            Err(text) => self.complain(text),
        }
    }

    fn no_line(&mut self) {
        let needle = self.names.needle.clone();
        let most = size(MOST_SOUGHT);
        let far = if self.file.document.left() == (0, 0) {
            String::new()
        } else {
            format!(" within {most}")
        };
        self.complain(format!("no line{far} has \u{201c}{needle}\u{201d} in it"));
    }

    fn shows_kept(&mut self) {
        let before = self.tree.rows.is_empty();
        self.look();
        let is_few = self.tree.shape.kept.as_ref().is_some_and(|kept| kept.len() <= FEW_KEPT);
        if let Some(view) = self.current().filter(|_| before && is_few) {
            let path = self.file.path.clone();
            self.tree.open_kept(&view);
            self.tree.list(&view, &path);
        }
        if self.tree.rows.is_empty() && !self.tree.is_listing() {
            self.say("nothing of that in this layer");
        }
    }

    fn shows_sums(&mut self) {
        let Some(view) = self.current() else { return };
        let sums = self.sums.iter().find(|(layer, _)| *layer == view.layer);
        self.tree.shape.sums = sums.map(|(_, sums)| Arc::clone(sums));
        if self.tree.shape.sort == Sort::Size {
            self.tree.list(&view, &self.file.path);
        }
        if self.file.tab == Tab::Preview {
            self.describe();
        }
    }

    /// Names that were found: goes to the first behind the selected one.
    fn found(&mut self, paths: Vec<Vec<u8>>, is_cut: bool) {
        if paths.is_empty() {
            let needle = self.names.needle.clone();
            self.complain(format!("no name here has \u{201c}{needle}\u{201d} in it"));
            return;
        }
        let here = key(&self.file.path);
        let next = paths.iter().position(|path| key(path) > here);
        self.names.at = next.unwrap_or(0);
        self.names.paths = paths;
        self.show_found(if is_cut { "or more" } else { "" });
    }

    fn show_found(&mut self, more: &str) {
        let Some(view) = self.current() else { return };
        let Some(path) = self.names.paths.get(self.names.at).cloned() else { return };
        if !self.tree.reveal(&view, &path) {
            self.complain("it is not among what is shown");
            return;
        }
        let (at, count) = (self.names.at + 1, self.names.paths.len());
        self.say(format!("match {at} of {count} {more}").trim_end().to_owned());
    }
}

/// A path in the order of the tree.
fn key(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').collect()
}

fn remember<K: PartialEq, V>(known: &mut Vec<(K, V)>, key: K, value: V) {
    known.retain(|(other, _)| *other != key);
    known.push((key, value));
    if known.len() > MAX_KEPT {
        known.remove(0);
    }
}
