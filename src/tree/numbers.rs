//! The inode numbers that are shown.
//!
//! # Problem
//!
//! Backup tools and `git` take a file for unchanged if its path, size, times and inode number are what they were.
//! Files of reproducible images all have one time, and many of them the size that they had in the version before. If
//! a position in a table were the number, a new version of an image, mounted where the old one was, would look
//! unchanged where it is not; and changed where it is not, as soon as a file was added before it.
//!
//! # Design
//!
//! A number is made from a *fingerprint*: a hash of the path of the file and of what it is. That is, for a regular file,
//! the SHA-256 of its content, if we took it when the layer was streamed ([`crate::index::Proof::is_own`]), or else the digest of the blob
//! and the place in it. (A digest that only a table of contents claims counts for nothing: it could make a file look
//! unchanged.) Symlinks have their target in it, devices their numbers. Owner, mode and times are not: tools see those.
//!
//! So two images with the same content at a path have the same number there, on every mount. A file that an
//! image names several times has the path that hashes lowest. In a joined tree the directory of the image belongs to the path.
//!
//! Numbers have 32 bits, as on ext4. With 64 they would be as good as unique; but 32-bit programs that are built without
//! large file support fail on those at each `stat` (EOVERFLOW), `cpio` truncates them, overlayfs wants upper bits for
//! itself (`xino`), and `git` remembers the lower 32 only. That a *changed* file keeps its number, and is not read again by
//! a tool that relies on it, has a chance of 2^-32 for each of those with the same size and time.
//!
//! Fingerprints are sorted; the upper half is the number, and one that is taken makes the next free one. Of 100,000
//! files one or two are so near to another that adding or removing this one would move them. They are
//! read again then, which is no fault. The lower half is the *generation*: together they identify a file in handles
//! that outlive a mount (NFS).
//!
//! The number and the position lead to each other by a table of 8 bytes an inode each: a look-up and a binary search.
//! While they are made, 24 more bytes an inode are needed.
//!
//! (Rejected: upper bits from the content over lower bits that are the position. It needs no table, but numbers of
//! unchanged files change when others are added.)
//!
//! # Invariants
//!
//! - The root is 1, which FUSE wants, and has generation 0. No other file is 0 or 1, and no two are the same.
//! - Numbers are those of the paths and contents alone, except among fingerprints whose upper halves are next to each other.

use super::inode::Ino;

/// The least and the greatest number but for the root's. (The very last one often stands for an error.)
const FIRST: u32 = 2;
const LAST: u32 = u32::MAX - 1;

/// How an inode is known outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its number, for `stat(2)`.
    pub number: u64,
    /// What tells it from a file that has this number at another time.
    pub generation: u32,
}

/// The numbers of all inodes of a tree.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Number and generation, by position.
    pub(super) of: Vec<(u32, u32)>,
    /// Numbers in order, and whose they are.
    pub(super) inos: Vec<(u32, u32)>,
}

impl Numbers {
    /// From the fingerprints, by position. Of the root it is not looked at.
    pub(super) fn new(fingerprints: &[u64]) -> Numbers {
        let mut rows: Vec<(u64, u32)> = (1..).zip(fingerprints).map(|(ino, f)| (*f, ino)).collect();
        let root = rows.iter().position(|(_, ino)| *ino == Ino::ROOT.0);
        root.map(|root| rows.swap_remove(root));
        rows.sort_unstable();
        let mut inos: Vec<(u32, u32)> = Vec::with_capacity(fingerprints.len());
        inos.push((Ino::ROOT.0, Ino::ROOT.0));
        let mut last = FIRST - 1;
        for (fingerprint, ino) in &rows {
            last = ((fingerprint >> 32) as u32).max(last.saturating_add(1));
            inos.push((last, *ino));
        }
        // What has been pushed beyond the end moves back.
        let mut next = LAST + 1;
        for (number, _) in inos.iter_mut().skip(1).rev() {
            next = (*number).min(next - 1);
            *number = next;
        }
        let mut of = vec![(Ino::ROOT.0, 0); fingerprints.len()];
        for ((number, ino), (fingerprint, _)) in inos.iter().skip(1).zip(&rows) {
            of[*ino as usize - 1] = (*number, *fingerprint as u32);
        }
        Numbers { of, inos }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers_of(fingerprints: &[u64]) -> Vec<u32> {
        let numbers = Numbers::new(fingerprints);
        assert!(numbers.inos.is_sorted());
        assert_eq!(numbers.inos.len(), fingerprints.len());
        for (at, (number, ino)) in numbers.inos.iter().enumerate() {
            assert_eq!(numbers.of[*ino as usize - 1].0, *number);
            assert!(at == 0 || *number > numbers.inos[at - 1].0, "{:?}", numbers.inos);
        }
        numbers.of.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn numbers_are_upper_halves() {
        let upper = |number: u64| number << 32 | 7;
        assert_eq!(numbers_of(&[0]), [1]);
        assert_eq!(numbers_of(&[0, upper(50), upper(9)]), [1, 50, 9]);
        assert_eq!(Numbers::new(&[0, upper(50)]).of, [(1, 0), (50, 7)]);
        // Whatever the root has, it is 1, and no other is.
        assert_eq!(numbers_of(&[upper(9), upper(0), upper(1)]), [1, 2, 3]);
        assert_eq!(numbers_of(&[u64::MAX, upper(9)]), [1, 9]);
        // The same in another order.
        assert_eq!(numbers_of(&[0, upper(9), upper(50)]), [1, 9, 50]);
    }

    #[test]
    fn taken_numbers_move_on_and_at_the_end_back() {
        let upper = |number: u32| u64::from(number) << 32;
        assert_eq!(numbers_of(&[0, upper(9) + 1, upper(9), upper(10)]), [1, 10, 9, 11]);
        let last = upper(u32::MAX);
        assert_eq!(
            numbers_of(&[0, last, last + 2, upper(LAST - 2), last + 1]),
            [1, LAST - 2, LAST, LAST - 3, LAST - 1]
        );
        assert_eq!(numbers_of(&[0, u64::MAX, 5]), [1, LAST, 2]);
    }
}
