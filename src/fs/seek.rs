//! Where a file has data and where it has holes: `SEEK_DATA` and `SEEK_HOLE` of lseek(2).
//!
//! The runs of a sparse file are its data, to the byte, and what lies between them is holes. Every file ends in a hole
//! that has no length.

use crate::extent::Run;

/// What is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seek {
    /// The next byte of data.
    Data,
    /// The next byte of a hole.
    Hole,
}

/// The first place from `offset` on that has it, in a file of `size` bytes with these runs, which are in order and
/// do not overlap; `None` beyond the end, and if there is no more data.
pub(super) fn find(seek: Seek, runs: &[Run], size: u64, offset: u64) -> Option<u64> {
    if offset >= size {
        return None;
    }
    let at = runs.partition_point(|run| run.file_end() <= offset);
    let mut rest = runs[at..].iter().filter(|run| run.length > 0);
    match seek {
        Seek::Data => rest.next().map(|run| run.file_offset.max(offset)),
        Seek::Hole => {
            let mut end = offset;
            for run in rest {
                if run.file_offset > end {
                    break;
                }
                end = run.file_end();
            }
            Some(end.min(size))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extent::UncompressedOffset;

    #[test]
    fn data_and_holes() {
        let run = |file_offset, length| Run { file_offset, start: UncompressedOffset(0), length };
        // Two that touch, one of nothing, one at the end of what is there.
        let runs = [run(10, 10), run(20, 5), run(30, 0), run(40, 10)];
        for (offset, data, hole) in [
            (0, Some(10), Some(0)),
            (9, Some(10), Some(9)),
            (10, Some(10), Some(25)),
            (24, Some(24), Some(25)),
            (25, Some(40), Some(25)),
            (30, Some(40), Some(30)),
            (49, Some(49), Some(50)),
            (50, None, Some(50)),
            (99, None, Some(99)),
            (100, None, None),
            (u64::MAX, None, None),
        ] {
            assert_eq!(find(Seek::Data, &runs, 100, offset), data, "data from {offset}");
            assert_eq!(find(Seek::Hole, &runs, 100, offset), hole, "a hole from {offset}");
        }
        assert_eq!(find(Seek::Hole, &[run(0, 100)], 100, 3), Some(100));
        assert_eq!(find(Seek::Data, &[], 100, 3), None);
        assert_eq!(find(Seek::Hole, &[], 0, 0), None);
    }
}
