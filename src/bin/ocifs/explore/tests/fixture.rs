//! Images in layouts, and a model whose work is done at once.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use ocifs::cache::Cache;
use ocifs::digest::Digest;
use ocifs::image::{ImageOptions, Wishes};
use ocifs::layer::Quiet;
use ratatui_core::buffer::Buffer;
use serde_json::json;
use tempfile::TempDir;

use crate::explore::draw::draw;
use crate::explore::input::Bytes;
use crate::explore::look::Look;
use crate::explore::state::{Effect, Event, Model};
use crate::explore::subject::{Asked, Sight, Subject};
use crate::explore::terminal::frame;
use crate::explore::work::{Answer, Generations, Request, Saver, perform};
use crate::render::errors::AnyError;

/// Makes files as any process does.
#[derive(Debug)]
struct Directly;

impl Saver for Directly {
    fn make(&self, path: &Path, mode: u32) -> io::Result<File> {
        File::options().write(true).create_new(true).mode(mode).open(path)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// A member of a layer.
#[derive(Clone, Debug)]
pub enum Member {
    Dir(&'static str),
    File(&'static str, Vec<u8>, u32),
    Symlink(&'static str, &'static str),
}

pub fn file(path: &'static str, bytes: impl Into<Vec<u8>>) -> Member {
    Member::File(path, bytes.into(), 0o644)
}

pub fn tar(members: &[Member]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for member in members {
        let mut header = tar::Header::new_gnu();
        let (path, bytes): (_, &[u8]) = match member {
            Member::Dir(path) => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_mode(0o755);
                (path, b"")
            }
            Member::File(path, bytes, mode) => {
                header.set_mode(*mode);
                (path, bytes)
            }
            Member::Symlink(path, target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                builder.append_link(&mut header, path, target).unwrap();
                continue;
            }
        };
        header.set_size(bytes.len() as u64);
        builder.append_data(&mut header, path, bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// A layer: its instruction, and its tar.
pub type Layer = (String, Vec<u8>);

/// Writes images into a layout, with the tags 0, 1, and so on.
pub fn layout(folder: &Path, images: &[Vec<Layer>]) {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let blob = |kind: &str, bytes: &[u8]| {
        let digest = Digest::sha256(bytes);
        fs::write(blobs.join(digest.hex()), bytes).unwrap();
        json!({ "mediaType": format!("application/vnd.oci.image.{kind}"), "digest": digest, "size": bytes.len() })
    };
    let manifests = images.iter().enumerate().map(|(number, layers)| {
        let diff_ids: Vec<Digest> = layers.iter().map(|(_, tar)| Digest::sha256(tar)).collect();
        let history: Vec<_> = layers
            .iter()
            .map(|(text, _)| json!({ "created": "2024-01-01T00:00:00Z", "created_by": text }))
            .collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {}, "history": history,
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("config.v1+json", config.to_string().as_bytes()),
            "layers": layers.iter().map(|(_, tar)| blob("layer.v1.tar", tar)).collect::<Vec<_>>(),
        });
        let mut row = blob("manifest.v1+json", manifest.to_string().as_bytes());
        row["annotations"] = json!({ "org.opencontainers.image.ref.name": number.to_string() });
        row
    });
    let index = json!({ "schemaVersion": 2, "manifests": manifests.collect::<Vec<_>>() });
    fs::write(folder.join("index.json"), index.to_string()).unwrap();
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

/// Layers of these members, with instructions `RUN 0` and so on.
pub fn layers(members: &[Vec<Member>]) -> Vec<Layer> {
    let layers = members.iter().enumerate();
    layers.map(|(number, members)| (format!("RUN {number}"), tar(members))).collect()
}

/// A user at a screen.
pub struct User {
    pub model: Model,
    newest: Arc<Generations>,
    bytes: Bytes,
    pub copied: Vec<String>,
    /// Directories that were asked for before the image was open.
    pub listed: Vec<Vec<u8>>,
    pub ended: Option<Result<(), AnyError>>,
    /// How often other things were asked for.
    pub reads: usize,
    pub redraws: usize,
    pub suspended: usize,
    folder: TempDir,
}

impl User {
    /// One who looks at an image, or at two.
    pub fn new(size: (u16, u16), images: &[Vec<Layer>]) -> User {
        let folder = tempfile::tempdir().unwrap();
        layout(&folder.path().join("layout"), images);
        let (mut user, events) = User::opening(size, folder, images.len());
        events.into_iter().for_each(|event| user.happens(event));
        user
    }

    /// One who looks at the images of a folder; and what happens while they are opened.
    pub fn opening(size: (u16, u16), folder: TempDir, images: usize) -> (User, Vec<Event>) {
        let asked = |number| {
            let place = folder.path().join("layout");
            let name = format!("oci:{}:{number}", place.display()).parse().unwrap();
            Asked { name, options: ImageOptions { platform: None, ..ImageOptions::default() } }
        };
        let asked: Vec<Asked> = (0..images).map(asked).collect();
        let newest = Arc::new(Generations::default());
        let model = Model::new(vec!["REF".to_owned()], size, Arc::clone(&newest));
        let cache = Arc::new(Cache::open(&folder.path().join("cache")));
        let sights = Mutex::new(Vec::new());
        let sees = |sight| sights.lock().unwrap().push(sight);
        let opened = Asked::open(&asked, &cache, &Quiet, &sees, &Wishes::default());
        let sights = sights.into_inner().unwrap().into_iter().map(|sight| match sight {
            Sight::Rows(rows) => Answer::Rows(rows),
            Sight::Glimpse(subject) => Answer::Glimpse(Arc::new(subject)),
        });
        let answers = sights.chain([Answer::Opened(opened.map(Arc::new))]);
        let events = answers.map(Event::Answer).collect();
        let user = User {
            model,
            newest,
            bytes: Bytes::default(),
            copied: Vec::new(),
            listed: Vec::new(),
            ended: None,
            reads: 0,
            redraws: 0,
            suspended: 0,
            folder,
        };
        (user, events)
    }

    /// What it looked at, for another one.
    pub fn into_folder(self) -> TempDir {
        self.folder
    }

    /// One who looks at an image of these layers.
    pub fn of(members: &[Vec<Member>]) -> User {
        User::new((80, 24), &[layers(members)])
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn subject(&self) -> Arc<Subject> {
        Arc::clone(self.model.subject.as_ref().unwrap())
    }

    /// Something happens, and all that comes of it.
    pub fn happens(&mut self, event: Event) {
        let mut events = vec![event];
        while !events.is_empty() {
            let effects: Vec<Effect> =
                events.drain(..).flat_map(|event| self.model.update(event)).collect();
            for effect in effects {
                match effect {
                    Effect::Work(request) => {
                        self.reads += usize::from(matches!(request, Request::Read { .. }));
                        let mut tell = |answer| events.push(Event::Answer(answer));
                        perform(request, &self.newest, &Directly, &mut tell);
                    }
                    Effect::List(directory) => self.listed.push(directory),
                    Effect::Copy(text) => self.copied.push(text),
                    Effect::Redraw => self.redraws += 1,
                    Effect::Suspend => self.suspended += 1,
                    Effect::Quit(ended) => self.ended = Some(ended),
                }
            }
        }
    }

    /// Does some work, and all that comes of it.
    pub fn works(&mut self, request: Request) {
        let mut answers = Vec::new();
        let mut tell = |answer| answers.push(Event::Answer(answer));
        perform(request, &self.newest, &Directly, &mut tell);
        answers.into_iter().for_each(|answer| self.happens(answer));
    }

    /// Presses keys, as a terminal sends them.
    pub fn press(&mut self, keys: impl AsRef<[u8]>) {
        self.bytes.push(keys.as_ref());
        for input in [self.bytes.read(false), self.bytes.read(true)].concat() {
            self.happens(Event::Input(input));
        }
    }

    /// Waits a moment.
    pub fn rests(&mut self) {
        self.happens(Event::Rest);
    }

    pub fn buffer(&self) -> Buffer {
        let mut buffer = frame(self.model.size);
        draw(&self.model, Look { has_colours: true }, &mut buffer);
        buffer
    }

    /// The lines on the screen.
    pub fn lines(&self) -> Vec<String> {
        let buffer = self.buffer();
        let width = usize::from(buffer.area.width.max(1));
        let line = |cells: &[ratatui_core::buffer::Cell]| {
            cells.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned()
        };
        buffer.content.chunks(width).map(line).collect()
    }

    pub fn screen(&self) -> String {
        self.lines().join("\n")
    }

    /// The paths in the tree's pane, with the marks before them.
    pub fn rows(&self) -> Vec<String> {
        let view = self.model.view().unwrap();
        let tree = &self.model.tree;
        (0..tree.rows.len())
            .map(|at| {
                let facts = view.with(|places| places.facts(tree.rows[at].place));
                let sign = crate::explore::look::sign(facts.change);
                format!("{sign}{}", String::from_utf8_lossy(&tree.path(at)))
            })
            .collect()
    }

    /// The path that is selected.
    pub fn selected(&self) -> String {
        String::from_utf8_lossy(&self.model.file.path).into_owned()
    }
}
