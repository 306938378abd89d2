//! The order of names with numbers in them, as people would put them: `1.9` before `1.10`.

use std::cmp::Ordering;

/// A text in whose order numbers count as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Natural(pub String);

impl Ord for Natural {
    fn cmp(&self, other: &Natural) -> Ordering {
        let (mut a, mut b) = (self.0.as_str(), other.0.as_str());
        while !a.is_empty() && !b.is_empty() {
            let ((first, rest_a), (second, rest_b)) = (part(a), part(b));
            let is_number = |s: &str| s.starts_with(|c: char| c.is_ascii_digit());
            let order = match is_number(first) && is_number(second) {
                true => {
                    let [x, y] = [first, second].map(|s| s.trim_start_matches('0'));
                    x.len().cmp(&y.len()).then_with(|| x.cmp(y))
                }
                false => first.cmp(second),
            };
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (rest_a, rest_b);
        }
        a.len().cmp(&b.len()).then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Natural {
    fn partial_cmp(&self, other: &Natural) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The digits or the text that a text begins with, and the rest.
fn part(text: &str) -> (&str, &str) {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != is_number);
    text.split_at(end.unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_as_numbers() {
        let mut names =
            ["1.10", "1.9", "v2", "1.9.1", "01.9", "latest", "1"].map(|n| Natural(n.into()));
        names.sort();
        let names = names.map(|name| name.0);
        assert_eq!(names, ["1", "01.9", "1.9", "1.9.1", "1.10", "latest", "v2"]);
    }
}
