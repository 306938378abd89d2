//! Naming again what another process has named, in the same order.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::SystemTime;

use super::{Directory, State};
use crate::space::holders::Holders;
use crate::space::journal::{Journal, Record};
use crate::space::numbers::Numbers;

impl State {
    /// What the journal says.
    ///
    /// # Errors
    /// It says what can't be.
    pub(super) fn of(journal: Arc<Journal>, numbers: &Numbers) -> io::Result<State> {
        let mut state = State {
            journal: Arc::clone(&journal),
            directories: vec![Directory::new(String::new(), SystemTime::now())],
            directory_ids: HashMap::from([(String::new(), 1)]),
            images: Vec::new(),
            image_ids: HashMap::new(),
            stored: HashMap::new(),
            holders: Holders::default(),
        };
        let mut is_new = true;
        journal.replay(|record| {
            is_new = false;
            state.name_again(record, numbers)
        })?;
        if is_new {
            state.write_change(1);
        }
        Ok(state)
    }

    pub(super) fn name_again(&mut self, record: Record, numbers: &Numbers) -> io::Result<()> {
        let wrong = || io::Error::from(ErrorKind::InvalidData);
        let at = |number: u32| (number as usize).wrapping_sub(1);
        match record {
            // What is not named takes no room, and may have been written down when there was no more.
            Record::Directory { .. } | Record::Image { .. } if !self.has_room() => {
                return Err(wrong());
            }
            Record::Directory { above, name, changed } => {
                let parent = self.directories.get(at(above)).ok_or_else(wrong)?;
                let path = match parent.path.is_empty() {
                    true => name.clone(),
                    false => format!("{}/{name}", parent.path),
                };
                if self.directory_ids.contains_key(&path) {
                    return Err(wrong());
                }
                self.put_directory(above, name, path, changed);
            }
            Record::Image { name, digest } => {
                self.put_image(name, digest);
            }
            Record::Gone { volume } => {
                let entry = self.images.get(at(volume)).ok_or_else(wrong)?;
                if self.image_ids.get(&entry.name) == Some(&volume) {
                    self.image_ids.remove(&entry.name);
                }
            }
            Record::Changed { directory, tags, changed } => {
                let directory = self.directories.get_mut(at(directory)).ok_or_else(wrong)?;
                (directory.tags_sum, directory.changed) = (tags, changed);
            }
            Record::Opened { volume, entered } => {
                let entry = self.images.get_mut(at(volume)).ok_or_else(wrong)?;
                self.holders.were_opened(volume, &entered.layers);
                (entry.digest, entry.entered) = (Some(entered.opened.root), Some(entered));
            }
            Record::Layer { layer } => numbers.give_again(layer),
            Record::Parts { .. } | Record::Platforms { .. } => return Err(wrong()),
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::space::registries::MAX_NAMES;

    /// When no more names are remembered, what is remembered of them still changes.
    #[test]
    fn what_is_full_can_be_done_again() {
        let journal = Arc::new(Journal::new().unwrap());
        let numbers = Numbers::new(&journal);
        let mut state = State::of(journal, &numbers).unwrap();
        let empty = || Directory::new(String::new(), SystemTime::UNIX_EPOCH);
        state.directories.resize_with(MAX_NAMES - 1, empty);
        let image = || Record::Image { name: "r.example/a:1".to_owned(), digest: None };
        state.name_again(image(), &numbers).unwrap();
        let changed = SystemTime::UNIX_EPOCH;
        for record in
            [Record::Changed { directory: 1, tags: Some(7), changed }, Record::Gone { volume: 1 }]
        {
            state.name_again(record, &numbers).unwrap();
        }
        assert!(state.image_ids.is_empty());
        assert!(state.name_again(image(), &numbers).is_err());
    }
}
