//! What a picture of sizes shows.

/// The colour of a rectangle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// One of several that tell neighbours apart.
    Group(usize),
    Added,
    Removed,
    Changed,
}

/// How many groups have a colour of their own.
const GROUPS: usize = 8;

impl Tone {
    pub(super) fn class(self) -> &'static str {
        match self {
            Tone::Group(number) => {
                ["g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7"][number % GROUPS]
            }
            Tone::Added => "add",
            Tone::Removed => "del",
            Tone::Changed => "chg",
        }
    }
}

/// Something that takes room.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// What stands in the rectangle.
    pub(crate) label: Vec<u8>,
    /// What is told of it: the whole path.
    pub(crate) path: Vec<u8>,
    /// All of it, with what is in it.
    pub(crate) bytes: u64,
    pub(crate) tone: Tone,
    /// Whether (nearly) all of it is there for nothing.
    pub(crate) is_wasted: bool,
    /// What of it is worth a rectangle, the largest first.
    pub(crate) children: Vec<Node>,
}

impl Node {
    /// The same, in one rectangle with what it holds if that is one directory.
    pub(crate) fn joined(mut self) -> Node {
        while let [only] = &mut self.children[..]
            && !only.children.is_empty()
            && is_nearly_all(only.bytes, self.bytes)
        {
            self.label.append(&mut only.label);
            self.path = std::mem::take(&mut only.path);
            self.children = std::mem::take(&mut only.children);
        }
        self
    }
}

/// Whether a part is so much of the whole that a picture does not show the rest: 98 %.
pub(crate) fn is_nearly_all(part: u64, whole: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * 98
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, bytes: u64, children: Vec<Node>) -> Node {
        let label = name.as_bytes().to_vec();
        let tone = Tone::Group(0);
        Node { path: label.clone(), label, bytes, tone, is_wasted: false, children }
    }

    #[test]
    fn what_holds_one_directory_is_one_with_it() {
        let inner = node("c/", 99, vec![node("x", 50, Vec::new()), node("y", 49, Vec::new())]);
        let joined = node("a/", 100, vec![node("b/", 100, vec![inner.clone()])]).joined();
        assert_eq!(
            (&joined.label[..], joined.bytes, joined.children.len()),
            (&b"a/b/c/"[..], 100, 2)
        );
        assert_eq!(node("a/", 200, vec![inner]).joined().label, b"a/");
        assert_eq!(node("a/", 9, vec![node("f", 9, Vec::new())]).joined().label, b"a/");
    }
}
