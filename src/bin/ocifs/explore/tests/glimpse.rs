//! What is seen before an image is open, and what keys do then.

use super::fixture::{Member, User, file, tar};
use crate::explore::state::Event;
use crate::explore::work::Answer;

/// An image that is large enough for a glimpse, looked at for the second time.
fn opening() -> (User, Vec<Event>) {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..60_000 {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        let path = format!("dir{}/{number}", number / 2000);
        builder.append_data(&mut header, path, &b""[..]).unwrap();
    }
    let base = ("RUN base".to_owned(), builder.into_inner().unwrap());
    let top = [file("motd", "welcome"), Member::Dir("dir0"), file("dir1/new", "1")];
    let image = vec![base, ("RUN top".to_owned(), tar(&top))];
    let first = User::new((80, 24), &[image]);
    assert_eq!(first.model.tree.rows.len(), 31);
    User::opening((80, 24), first.into_folder(), 1)
}

#[test]
fn the_first_screen_is_that_of_the_whole() {
    let (mut user, events) = opening();
    let [rows, glimpse, opened] = <[Event; 3]>::try_from(events).unwrap();
    assert!(matches!(&glimpse, Event::Answer(Answer::Glimpse(_))));
    user.happens(rows);
    assert!(user.model.subject.is_none());
    user.happens(glimpse);
    let (seen, lines) = (user.rows(), user.lines());
    assert!(!user.model.is_open() && user.screen().contains("layers 0 to 1, reading"));
    assert!(seen.contains(&"+motd".to_owned()) && seen.contains(&" dir1".to_owned()), "{seen:?}");
    user.press("[");
    assert_eq!(user.rows().len(), 30);
    user.press("]");
    user.happens(opened);
    assert!(user.model.is_open());
    assert_eq!(user.rows(), seen);
    // Only what a walk over all of it tells has come since.
    let names = |lines: &[String]| -> Vec<String> {
        lines.iter().filter_map(|line| line.split_whitespace().last().map(str::to_owned)).collect()
    };
    assert_eq!(names(&user.lines()[2..10]), names(&lines[2..10]));
}

#[test]
fn keys_that_need_all_of_it_are_done_later() {
    let (mut user, events) = opening();
    let [rows, glimpse, opened] = <[Event; 3]>::try_from(events).unwrap();
    user.happens(rows);
    user.happens(glimpse);
    // A directory is asked for, and shown when its names are there.
    user.press(" ");
    assert_eq!(user.listed, [b"dir0".to_vec()]);
    assert_eq!(user.model.tree.rows.len(), 31);
    user.press("e");
    assert!(user.screen().contains("once the layers are read"));
    user.rests();
    assert_eq!(user.reads, 0);
    user.press("/new\r");
    assert!(user.screen().contains("once the layers are read"));
    user.happens(opened);
    assert_eq!(user.selected(), "dir1/new");
    assert_eq!(user.model.tree.rows.len(), 31 + 2000 + 2001);
    user.rests();
    assert!(user.screen().contains("  1 1"), "{}", user.screen());
}

#[test]
fn filters_wait() {
    let (mut user, events) = opening();
    let [rows, glimpse, opened] = <[Event; 3]>::try_from(events).unwrap();
    user.happens(rows);
    user.happens(glimpse);
    user.press("C");
    assert!(user.screen().contains("looking"));
    user.press("*");
    user.happens(opened);
    assert_eq!(user.rows(), [" dir1", "+dir1/new", "+motd"]);
}
