//! Every key of the help does what the help says.

use super::fixture::{Member, User, file};
use crate::explore::action::{Action, GROUPS};
use crate::explore::key::{Input, Key};
use crate::explore::layout::Pane;
use crate::explore::listing::Sort;
use crate::explore::state::{Event, Overlay, Tab};
use crate::explore::work::{Filter, Keep};

/// An image with enough names to go through, and the sixth selected.
fn user() -> User {
    let mut first = vec![Member::Dir("a"), Member::Dir("a/b"), file("a/b/f", "x\ny\nneedle\n")];
    for name in ["f00", "f01", "f02", "f03", "f04", "f05", "f06", "f07", "f08", "f09"] {
        first.push(file(name, name));
    }
    for name in ["g00", "g01", "g02", "g03", "g04", "g05", "g06", "g07", "g08", "g09"] {
        first.push(file(name, vec![b'x'; 100]));
    }
    let mut user =
        User::of(&[first, vec![file("f03", "new"), file("f04", "new")], vec![file("top", "")]]);
    for _ in 0..5 {
        user.happens(Event::Input(Input::Key(Key::Down)));
    }
    assert_eq!(user.selected(), "f04");
    user
}

/// What has to be true once the key was pressed.
fn check(action: Action, key: Key) {
    let mut user = user();
    let press = |user: &mut User| user.happens(Event::Input(Input::Key(key)));
    let select = |user: &mut User, path: &str| user.press(format!("/{path}\r"));
    let told = |user: &User, text: &str| {
        assert!(user.screen().contains(text), "{key}: {}", user.screen());
    };
    match action {
        Action::Escape => {
            user.model.overlay = Some(Overlay::Help { top: 0 });
            press(&mut user);
            assert!(user.model.overlay.is_none());
            user.press("C");
            press(&mut user);
            assert_eq!(user.model.keep, Keep::default());
            return;
        }
        Action::CollapseAll => user.press("*"),
        Action::Left => user.press("g*jj"),
        Action::Right | Action::Space | Action::Enter => user.press("g"),
        Action::UpperLayer => user.press("["),
        Action::Together => user.press("o"),
        Action::FindNext | Action::FindPrevious => select(&mut user, "g0"),
        Action::Save | Action::Hex => select(&mut user, "f00"),
        Action::Attributes | Action::Versions => {}
        Action::Preview => user.press("i"),
        _ => {}
    }
    press(&mut user);
    let selected = user.selected();
    let selected = selected.as_str();
    match action {
        Action::Up => assert_eq!(selected, "f03"),
        Action::Down => assert_eq!(selected, "f05"),
        Action::PageUp => assert_eq!(selected, "a"),
        Action::PageDown => assert_eq!(selected, "g06"),
        Action::HalfUp => assert_eq!(selected, "a"),
        Action::HalfDown => assert_eq!(selected, "g00"),
        Action::Top => assert_eq!(selected, "a"),
        Action::Bottom => assert_eq!(selected, "top"),
        Action::Left => assert_eq!(selected, "a/b"),
        Action::Right | Action::Space | Action::Enter => {
            assert_eq!(user.rows()[..2], [" a", " a/b"]);
        }
        Action::NextPane => assert_eq!(user.model.focus, Pane::File),
        Action::PreviousPane => assert_eq!(user.model.focus, Pane::Layers),
        Action::LowerLayer => assert_eq!(user.model.layer.at, 1),
        Action::UpperLayer => assert_eq!(user.model.layer.at, 2),
        Action::ToggleAlone | Action::Alone => assert_eq!(user.rows(), ["+top"]),
        Action::Together => assert!(!user.model.keep.alone && user.rows().len() > 20),
        Action::Wasted => told(&user, "2 files that are in no tree"),
        Action::ExpandAll => assert!(user.rows().contains(&" a/b/f".to_owned())),
        Action::CollapseAll => assert_eq!(user.rows()[1], " f00"),
        Action::OnlyChanged => assert_eq!(user.model.keep.filter, Some(Filter::Changed)),
        Action::OnlyRemoved => assert_eq!(user.model.keep.filter, Some(Filter::Removed)),
        Action::OnlyLarge => assert_eq!(user.model.keep.filter, Some(Filter::Large)),
        Action::OnlySetuid => assert_eq!(user.model.keep.filter, Some(Filter::Setuid)),
        Action::Sort => {
            assert_eq!((user.model.tree.shape.sort, user.rows()[0].as_str()), (Sort::Size, " g00"));
        }
        Action::Columns => told(&user, "-rw-r--r--"),
        Action::FindName => told(&user, "/"),
        Action::FindNext => assert_eq!(selected, "g01"),
        Action::FindPrevious => assert_eq!(selected, "g09"),
        Action::FindContent => {
            user.press("needle\r");
            told(&user, "/a/b/f:3 needle");
        }
        Action::Preview => assert_eq!(user.model.file.tab, Tab::Preview),
        Action::Attributes => told(&user, "mode         0644"),
        Action::Versions => told(&user, "~ file, 3 B, 0644  RUN 1"),
        Action::Hex => {
            user.rests();
            told(&user, "00000000  66 30 30");
        }
        Action::CopyPath => assert_eq!(user.copied, ["/f04"]),
        Action::CopyCommand => assert_eq!(user.copied, ["ocifs cat REF /f04"]),
        Action::Save => told(&user, "save as: f00"),
        Action::Help => told(&user, "Moving"),
        Action::Redraw => assert_eq!(user.redraws, 1),
        Action::Suspend => assert_eq!(user.suspended, 1),
        Action::Quit => assert!(matches!(user.ended, Some(Ok(())))),
        Action::Escape => unreachable!("it was looked at above"),
    }
    if action != Action::Quit {
        assert!(user.ended.is_none());
    }
}

#[test]
fn each_key_of_the_help_does_what_it_says() {
    for binding in GROUPS.iter().flat_map(|group| group.bindings) {
        for key in binding.keys {
            check(binding.action, *key);
        }
    }
}

#[test]
fn the_help_has_every_key() {
    let mut user = user();
    user.happens(Event::Resize((80, 100)));
    user.press("?");
    let screen = user.screen();
    for binding in GROUPS.iter().flat_map(|group| group.bindings) {
        let keys: Vec<String> = binding.keys.iter().map(ToString::to_string).collect();
        let line = screen.lines().find(|line| line.contains(binding.text));
        let line = line.unwrap_or_else(|| panic!("{} is not in {screen}", binding.text));
        assert!(line.trim_start().starts_with(&keys.join(" ")), "{line}");
    }
    // It is longer than a small screen.
    user.happens(Event::Resize((40, 12)));
    user.press("G");
    assert!(user.screen().contains("quit"));
}

#[test]
fn keys_for_other_panes() {
    let mut user = user();
    user.press("/f00\r\t");
    user.rests();
    for (keys, left) in [("l", 8), ("\x1b[C", 16), ("h", 8), ("hhh", 0)] {
        user.press(keys);
        assert_eq!(user.model.file.left, left);
    }
    user.press("\x1b[Z\x1b[Z");
    assert_eq!(user.model.focus, Pane::Layers);
    user.press("k");
    assert_eq!(user.model.layer.at, 1);
    user.press("\r");
    assert_eq!(user.model.focus, Pane::Tree);
    user.press("\u{e4}");
    assert!(user.screen().contains("? shows the keys"));
}
