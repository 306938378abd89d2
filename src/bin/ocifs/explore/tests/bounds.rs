//! Images that are made to be large in one way: it stays quick, and a screen is a screen.

use super::fixture::{Member, User, file, tar};
use crate::explore::key::{Input, Key};
use crate::explore::layout::Pane;
use crate::explore::state::{Effect, Event};
use crate::explore::work::Request;

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

/// An image with a directory of 30,000 names, one of which its second layer changes.
fn many() -> User {
    let mut builder = tar::Builder::new(Vec::new());
    for number in 0..30_000 {
        let mut header = tar::Header::new_gnu();
        header.set_size(0);
        builder.append_data(&mut header, format!("many/{number:05}"), &b""[..]).unwrap();
    }
    let layer = ("RUN many".to_owned(), builder.into_inner().unwrap());
    let top = ("RUN top".to_owned(), tar(&[Member::Dir("many"), file("many/00007", "x")]));
    User::new((80, 24), &[vec![layer, top]])
}

#[test]
fn a_directory_of_many_names() {
    let mut user = many();
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

/// What was shown stays until a long listing is there, and keys are answered.
#[test]
fn a_long_listing_keeps_nobody_waiting() {
    let mut user = many();
    let effects = user.model.update(Event::Input(Input::Key(Key::Char(' '))));
    let is_listing = |effect: Effect| match effect {
        Effect::Work(request @ Request::List { .. }) => Some(request),
        _ => None,
    };
    let request = effects.into_iter().find_map(is_listing).expect("a thread is asked");
    assert_eq!(user.rows(), [" many"]);
    user.press("?");
    assert!(user.screen().contains("Moving"));
    user.press("\x1b[");
    assert!(user.screen().contains("layers 0 to 0"));
    assert_eq!(user.model.tree.rows.len(), 30_001);
    // What was asked for before is not listened to any more.
    user.works(request);
    assert!(user.screen().contains("layers 0 to 0"));
    user.press("]s");
    assert_eq!(user.model.tree.rows.len(), 30_001);
    user.press("g ");
    assert_eq!(user.rows(), [" many"]);
    user.rests();
    assert!(user.screen().contains("30000 names, 1 changed"), "{}", user.screen());
}

#[test]
fn a_file_of_any_size_is_gone_through() {
    let lines = (1..=2_000_000).map(|line| match line {
        1_500_000 => "the needle is here\n".to_owned(),
        _ => format!("line {line}\n"),
    });
    let text: String = lines.collect();
    let size = text.len();
    assert!(size > 20 << 20);
    let mut user = User::of(&[vec![file("large", text)]]);
    user.press("\t");
    user.rests();
    assert!(user.screen().contains("   1 line 1"), "{}", user.screen());
    user.press("G");
    assert!(user.screen().contains("~ line 2000000"), "{}", user.screen());
    assert!(user.reads <= 4, "{} parts were read", user.reads);
    user.press("/needle\r");
    assert!(user.screen().contains("no line"), "it is above");
    user.press("N");
    assert!(user.screen().contains("~ the needle is here"), "{}", user.screen());
    assert!(user.screen().contains("~ line 1500001") && user.screen().contains(" % of "));
    user.press("g");
    assert!(user.screen().contains("   1 line 1"), "{}", user.screen());
    user.press("x");
    user.press("G");
    assert!(user.screen().contains(&format!("{:08x}  ", (size - 1) / 8 * 8)), "{}", user.screen());
    assert!(user.reads <= 16, "{} parts were read", user.reads);
}
