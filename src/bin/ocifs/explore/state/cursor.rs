//! A place in a list, and the part of the list that is shown.

/// The selected row, and the first that is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::explore) struct Cursor {
    pub(in crate::explore) at: usize,
    pub(in crate::explore) top: usize,
}

/// How far to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::explore) enum Step {
    Rows(isize),
    Pages(isize),
    HalfPages(isize),
    Start,
    End,
}

impl Step {
    /// The row that is so far from one.
    pub(in crate::explore) fn from(self, at: usize, rows: usize, length: usize) -> usize {
        let rows = isize::try_from(rows).unwrap_or(isize::MAX).max(1);
        let by = match self {
            Step::Rows(by) => by,
            Step::Pages(by) => by * (rows - 1).max(1),
            Step::HalfPages(by) => by * (rows / 2).max(1),
            Step::Start => isize::MIN,
            Step::End => isize::MAX,
        };
        at.saturating_add_signed(by).min(length.saturating_sub(1))
    }
}

impl Cursor {
    /// Moves it in a list of which so many rows are shown.
    pub(in crate::explore) fn go(&mut self, step: Step, rows: usize, length: usize) {
        self.at = step.from(self.at, rows, length);
        self.settle(rows, length);
    }

    /// Brings it within the list, and into what is shown.
    pub(in crate::explore) fn settle(&mut self, rows: usize, length: usize) {
        self.at = self.at.min(length.saturating_sub(1));
        let rows = rows.max(1);
        self.top = self.top.clamp((self.at + 1).saturating_sub(rows), self.at);
        // No empty rows at the end while there are some above.
        self.top = self.top.min(length.saturating_sub(rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_in_the_list_and_in_sight() {
        let mut cursor = Cursor::default();
        for (step, at, top) in [
            (Step::Rows(3), 3, 0),
            (Step::Pages(1), 7, 3),
            (Step::End, 99, 95),
            (Step::Rows(1), 99, 95),
            (Step::HalfPages(-1), 97, 95),
            (Step::Pages(-1), 93, 93),
            (Step::Start, 0, 0),
            (Step::Rows(-1), 0, 0),
        ] {
            cursor.go(step, 5, 100);
            assert_eq!(cursor, Cursor { at, top }, "{step:?}");
        }
        cursor.go(Step::End, 0, 0);
        assert_eq!(cursor, Cursor::default());
        cursor.at = 50;
        cursor.settle(5, 3);
        assert_eq!(cursor, Cursor { at: 2, top: 0 });
    }
}
