//! The numbers of layers that volumes have in common, which the next process gives them too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::journal::{Journal, Record};
use super::volume::MAX_LAYERS;
use crate::digest::Digest;
use crate::image::LayerNumbers;

/// Numbers in the order in which layers were first opened, each [written down](super::journal) before it is used.
#[derive(Debug)]
pub(super) struct Numbers {
    journal: Arc<Journal>,
    known: Mutex<HashMap<Digest, u32>>,
}

impl Numbers {
    /// None yet.
    pub(super) fn new(journal: &Arc<Journal>) -> Numbers {
        Numbers { journal: Arc::clone(journal), known: Mutex::default() }
    }

    /// Gives a layer the next number, as another process has done.
    pub(super) fn give_again(&self, layer: Digest) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let next = known.len() as u32;
        known.entry(layer).or_insert(next);
    }
}

impl LayerNumbers for Numbers {
    fn number(&self, layer: Digest) -> Option<u32> {
        // A thread that panicked left nothing half done in there.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = known.get(&layer) {
            return Some(*number);
        }
        let next = u32::try_from(known.len()).ok().filter(|next| *next < MAX_LAYERS)?;
        if !self.journal.add(&Record::Layer { layer }) {
            return None;
        }
        known.insert(layer, next);
        Some(next)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn another_process_gives_the_same_numbers() {
        let journal = Arc::new(Journal::new().unwrap());
        let numbers = Numbers::new(&journal);
        let layers = [b"a", b"b", b"c"].map(|layer| Digest::sha256(layer));
        for (at, layer) in layers.iter().enumerate() {
            assert_eq!(numbers.number(*layer), Some(at as u32));
            assert_eq!(numbers.number(*layer), Some(at as u32));
        }
        let handed_over = Journal::of(journal.as_fd().try_clone_to_owned().unwrap());
        let next = Numbers::new(&Arc::new(handed_over));
        next.journal
            .replay(|record| {
                let Record::Layer { layer } = record else { panic!("{record:?}") };
                next.give_again(layer);
                Ok::<_, std::io::Error>(())
            })
            .unwrap();
        assert_eq!(next.number(Digest::sha256(b"d")), Some(3));
        for (at, layer) in layers.iter().enumerate().rev() {
            assert_eq!(next.number(*layer), Some(at as u32));
        }
    }
}
