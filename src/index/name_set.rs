//! Names that paths may lead through, as a set of fixed size.

use xxhash_rust::xxh3::xxh3_64;

/// Bits of the set, a power of two. With 100,000 names one in eighty others is taken for one of them.
const BITS: usize = 1 << 23;

/// A set of names that says yes too often, and never no too often. A caller takes in more than it has to then, which
/// is never wrong; and its size does not depend on what a layer holds.
#[derive(Clone, Debug)]
pub struct NameSet {
    bits: Vec<u64>,
}

impl Default for NameSet {
    fn default() -> NameSet {
        NameSet { bits: vec![0; BITS / 64] }
    }
}

impl NameSet {
    /// Adds a name.
    pub fn add(&mut self, name: &[u8]) {
        let (word, bit) = place(name);
        self.bits[word] |= bit;
    }

    /// Whether it has the name; sometimes also of one that it has not.
    pub fn may_have(&self, name: &[u8]) -> bool {
        let (word, bit) = place(name);
        self.bits[word] & bit != 0
    }
}

fn place(name: &[u8]) -> (usize, u64) {
    let bit = xxh3_64(name) as usize % BITS;
    (bit / 64, 1 << (bit % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_what_was_added_and_little_else() {
        let mut names = NameSet::default();
        let name = |number: u32| number.to_string().into_bytes();
        (0..10_000).for_each(|number| names.add(&name(number)));
        assert!((0..10_000).all(|number| names.may_have(&name(number))));
        assert!((10_000..20_000).filter(|number| names.may_have(&name(*number))).count() < 100);
    }
}
