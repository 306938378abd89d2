//! Images that are made to be large in one way: it stays quick, and a screen is a screen.

use super::fixture::{Member, User, file, tar};
use crate::explore::layout::Pane;
use crate::explore::state::Event;

#[test]
fn a_tree_of_2000_levels() {
    let path: &'static str = Box::leak(vec!["d"; 2000].join("/").into_boxed_str());
    let layer = ("RUN deep".to_owned(), tar(&[file(path, "bottom")]));
    let mut user = User::new((40, 12), &[vec![layer]]);
    user.press("*");
    assert_eq!(user.model.tree.rows.len(), 2000);
    user.press("G");
    assert_eq!(user.selected(), path);
    let lines = user.lines();
    assert!(lines.iter().any(|line| line.ends_with(" d")), "names have room: {lines:?}");
    user.press("\t");
    user.rests();
    assert!(user.screen().contains("bottom") && user.screen().contains("\u{2026}/d/d"));
    user.press("\tg");
    user.press("\t\t");
    user.press("-");
    assert_eq!(user.model.tree.rows.len(), 1);
}

#[test]
fn instructions_of_megabytes() {
    let image = |length: usize| {
        let text = format!("RUN {}", "long ".repeat(length / 5));
        vec![(text, tar(&[file("f", "")]))]
    };
    let mut user = User::new((300, 50), &[image(3 << 20)]);
    assert!(user.model.layers[0].instruction.len() <= 16 << 10);
    for size in [(300, 50), (40, 12), (1, 1)] {
        user.happens(Event::Resize(size));
        user.model.focus = Pane::Layers;
        assert!(size == (1, 1) || user.screen().contains("RUN long"), "{}", user.screen());
    }
    // A config that is larger is not read.
    let user = User::new((80, 24), &[image(10 << 20)]);
    assert!(matches!(user.ended, Some(Err(_))), "{:?}", user.ended);
}

#[test]
fn a_directory_of_many_names() {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..30_000 {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, format!("many/{number:05}"), &b""[..]).unwrap();
    }
    let layer = ("RUN many".to_owned(), builder.into_inner().unwrap());
    let top = ("RUN top".to_owned(), tar(&[Member::Dir("many"), file("many/00007", "x")]));
    let mut user = User::new((80, 24), &[vec![layer, top]]);
    user.press(" G");
    assert_eq!((user.model.tree.rows.len(), user.selected().as_str()), (30_001, "many/29999"));
    user.press("[");
    assert_eq!(user.selected(), "many/29999");
    user.press("]C");
    assert_eq!(user.rows(), [" many", "~many/00007"]);
    // One at a time.
    user.press("\x1b/0000\r");
    assert!(user.screen().contains("match 1 of "));
}
