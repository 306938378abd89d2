//! What users do, from one question to the next.

use std::fs;

use super::fixture::{Member, User, file, layers};
use crate::explore::layout::Pane;
use crate::explore::state::{Effect, Event, Overlay};
use crate::explore::work::{Answer, Request};

/// Three layers, in which each thing happens that can happen to a name.
fn history() -> Vec<Vec<Member>> {
    vec![
        vec![
            Member::Dir("etc"),
            file("etc/passwd", "root\n"),
            file("etc/shadow", "secret\n"),
            Member::Dir("opt"),
            file("opt/big", vec![7; 2 << 20]),
            Member::File("opt/su", b"#!/bin/sh\n".to_vec(), 0o4755),
        ],
        vec![
            file("etc/passwd", "root\nuser\n"),
            file("etc/.wh.shadow", ""),
            file("new", "needle in line one\nand\nneedle in three\n"),
            Member::Symlink("link", "etc/passwd"),
        ],
        vec![file("opt/.wh.big", ""), file("top", "")],
    ]
}

#[test]
fn layers_are_gone_through() {
    let mut user = User::of(&history());
    assert_eq!(user.rows(), [" etc", " link", " new", " opt", "+top"]);
    user.press("j");
    assert_eq!(user.selected(), "link");
    user.press("[");
    assert_eq!(user.rows(), [" etc", "+link", "+new", " opt"]);
    assert_eq!(user.selected(), "link", "the same file is selected in another layer");
    user.press("g*");
    let expected = [" etc", "~etc/passwd", "-etc/shadow", "+link", "+new", " opt"];
    assert_eq!(user.rows(), expected);
    user.press("o");
    assert_eq!(user.rows(), [" etc", "~etc/passwd", "-etc/shadow", "+link", "+new"]);
    assert!(user.screen().contains("layer 1 alone"));
    user.press("[");
    // What came as a whole is open only if the user has opened it.
    assert_eq!(user.rows(), ["+etc", "+etc/passwd", "+etc/shadow", "+opt"]);
    // The layer on top, where nothing of this is.
    user.press("]]");
    assert_eq!(user.rows(), [" opt", "-opt/big", "+top"]);
    user.press("\x1b");
    assert!(user.rows().len() > 4 && user.screen().contains("layers 0 to 2"));
}

#[test]
fn filters_show_what_is_looked_for() {
    let mut user = User::of(&history());
    user.press("L");
    assert_eq!(user.rows(), [" opt", "-opt/big"]);
    assert!(user.screen().contains("only large"));
    user.press("L");
    assert_eq!(user.rows().first().unwrap(), " etc");
    user.press("S");
    assert_eq!(user.rows(), [" opt", " opt/su"]);
    user.press("R");
    assert_eq!(user.rows(), [" opt", "-opt/big"]);
    user.press("C");
    assert_eq!(user.rows(), [" opt", "-opt/big", "+top"]);
    user.press("[[R");
    assert_eq!(user.rows(), Vec::<String>::new(), "the base removes nothing");
    assert!(user.screen().contains("nothing"));
    user.press("\x1b-");
    assert_eq!(user.rows(), ["+etc", "+opt"]);
}

#[test]
fn a_file_is_read_when_the_user_rests_on_it() {
    let mut user = User::of(&history());
    user.press("jjjk");
    assert_eq!((user.selected().as_str(), user.reads), ("new", 0));
    assert!(user.screen().contains("reading"));
    user.rests();
    assert_eq!(user.reads, 1);
    assert!(user.screen().contains("  1 needle in line one"), "{}", user.screen());
    user.rests();
    assert_eq!(user.reads, 1, "nothing is read twice");
    // What was there before is read from the layer that has it.
    user.press("[[g");
    user.press("/shadow\r");
    assert_eq!(user.selected(), "etc/shadow");
    user.rests();
    assert!(user.screen().contains("  1 secret"));
    user.press("]");
    assert_eq!(user.selected(), "etc/shadow");
    user.rests();
    assert!(user.screen().contains("  1 secret"), "removed, and still in the image");
    user.press("v");
    let screen = user.screen();
    for text in ["- deleted  RUN 1", "+ file, 7 B, 0644  RUN 0"] {
        assert!(screen.contains(text), "{text}: {screen}");
    }
    user.press("i");
    assert!(user.screen().contains("path         /etc/shadow"));
    assert!(user.screen().contains("layer        0, removed by 1"));
}

#[test]
fn a_large_file_comes_as_it_is_scrolled() {
    let text: String = (1..200_000).map(|number| format!("line {number}\n")).collect();
    let mut user = User::of(&[vec![file("f", text)]]);
    user.press("\r");
    assert_eq!(user.model.focus, Pane::File);
    user.rests();
    assert_eq!(user.reads, 1);
    user.press("jj");
    assert_eq!(user.reads, 1, "the end is not in sight");
    user.press("G");
    assert!(
        user.screen().contains("199999 line 199999"),
        "it is near, and lines keep their numbers"
    );
    let all = user.reads;
    user.press("gG");
    assert_eq!(user.reads, all, "nothing is read twice");
    user.press("g/line 777\r");
    assert!(user.screen().contains("777 line 777"));
    user.press("n");
    assert!(user.screen().contains("7770 line 7770"));
    user.press("N");
    assert_eq!(user.model.file.mark, Some(776));
    user.press("/no such\r");
    assert!(user.screen().contains("no line has"));
}

#[test]
fn names_are_found() {
    let mut user = User::of(&history());
    user.press("/S\r");
    assert!(user.screen().contains("no name here has"));
    user.press("/s\r");
    assert_eq!(user.selected(), "etc/passwd");
    assert!(user.screen().contains("match 1 of 2"));
    user.press("n");
    assert_eq!(user.selected(), "opt/su");
    user.press("n");
    assert_eq!(user.selected(), "etc/passwd");
    user.press("N");
    assert_eq!(user.selected(), "opt/su");
}

#[test]
fn contents_are_found() {
    let mut user = User::of(&history());
    user.press("cneedle\r");
    let screen = user.screen();
    assert!(screen.contains("2 lines with \u{201c}needle\u{201d}"), "{screen}");
    assert!(screen.contains("/new:3 needle in three"), "{screen}");
    user.press("j\r");
    assert_eq!((user.selected().as_str(), user.model.focus), ("new", Pane::File));
    user.rests();
    assert_eq!(user.model.file.mark, Some(2));
    // A search that goes on is stopped by Esc, and what it still tells is not listened to.
    user.press("c\r");
    user.model.search.searched.is_over = false;
    let generation = user.model.search.generation;
    user.press("\x1b");
    assert!(user.model.search.is_stopped && user.screen().contains("stopped"));
    assert!(user.model.overlay.is_some());
    let hit = user.model.search.hits[0].clone();
    user.happens(Event::Answer(Answer::Hit { generation: generation - 1, hit }));
    assert_eq!(user.model.search.hits.len(), 2);
    user.press("\x1b");
    assert!(user.model.overlay.is_none());
}

#[test]
fn wasted_files_lead_to_the_layer_that_hides_them() {
    let mut user = User::of(&history());
    assert!(user.screen().contains("2.00 MiB wasted (100.0 %)"), "{}", user.screen());
    user.press("w");
    assert!(matches!(user.model.overlay, Some(Overlay::Wasted { .. })));
    let screen = user.screen();
    assert!(screen.contains("3 files that are in no tree"), "{screen}");
    assert!(screen.contains("2.00 MiB  layer  0, gone in  2  /opt/big"), "{screen}");
    user.press("j\r");
    assert_eq!((user.selected().as_str(), user.model.layer.at), ("etc/shadow", 1));
    assert!(user.rows().contains(&"-etc/shadow".to_owned()));
}

#[test]
fn what_is_seen_is_taken_along() {
    let mut user = User::of(&history());
    user.press("/passwd\ry");
    assert_eq!(user.copied, ["/etc/passwd"]);
    for (keys, command) in [
        ("Y", "ocifs cat REF /etc/passwd"),
        ("[[Y", "ocifs cat --layer 0 REF /etc/passwd"),
        ("]]gY", "ocifs ls -l REF /etc"),
        ("/link\rY", "ocifs ls -ld REF /link"),
        ("[/shadow\rY", "ocifs cat --layer 0 REF /etc/shadow"),
    ] {
        user.press(keys);
        assert_eq!(user.copied.last().unwrap(), command);
    }
    let to = user.folder().join("saved");
    user.press("/su\re");
    assert!(user.screen().contains("save as: su"));
    user.press([b"\x15", to.to_str().unwrap().as_bytes(), b"\r"].concat());
    assert!(user.screen().contains("saved "), "{}", user.screen());
    assert_eq!(fs::read(&to).unwrap(), b"#!/bin/sh\n");
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::metadata(&to).unwrap().permissions().mode();
    assert_eq!(mode & 0o7100, 0o100, "no setuid, and it may be run: {mode:o}");
    // What is there is not replaced.
    user.press([b"e\x15", to.to_str().unwrap().as_bytes(), b"\r"].concat());
    assert!(user.model.message.as_ref().unwrap().is_error);
    user.press("ge");
    assert!(user.screen().contains("only regular files are saved"));
}

#[test]
fn two_images_are_compared() {
    let base = vec![
        Member::Dir("d"),
        file("d/changed", "one\ntwo\nthree\n"),
        file("d/gone", "x"),
        file("same", "same"),
    ];
    let old = layers(&[base.clone(), vec![file("d/a", "moved content")]]);
    let new = layers(&[
        base,
        vec![
            file("d/changed", "one\n2\nthree\n"),
            file("d/.wh.gone", ""),
            file("d/b", "moved content"),
        ],
    ]);
    let mut user = User::new((100, 30), &[old, new]);
    user.press("*");
    assert_eq!(user.rows(), [" d", "-d/a", "+d/b", "~d/changed", "-d/gone", " same"]);
    let screen = user.screen();
    assert!(screen.contains("paths differ") && screen.contains("both images"), "{screen}");
    user.press("/changed\r");
    user.rests();
    let screen = user.screen();
    assert!(screen.contains("-two") && screen.contains("+2") && screen.contains("@@"), "{screen}");
    user.press("i");
    assert!(user.screen().contains("differs in   content"));
    user.press("Y");
    assert_eq!(user.copied, ["ocifs diff --patch --path /d/changed REF"]);
    user.press("p/gone\r");
    user.rests();
    assert!(user.screen().contains("  1 x"), "what is gone is read from the old image");
    user.press("o");
    assert_eq!(user.rows(), [" d", "-d/a", "+d/b", "~d/changed", "-d/gone"]);
    // Layers: one in common, one of each alone.
    let marks: Vec<String> = user
        .lines()
        .iter()
        .filter(|line| line.contains(" RUN "))
        .map(|line| line[..1].to_owned())
        .collect();
    assert_eq!(marks, ["=", "+", "-"]);
}

#[test]
fn a_dead_registry_is_told_and_keys_go_on() {
    let mut user = User::of(&history());
    user.press("jj");
    let effects = user.model.update(Event::Rest);
    let [Effect::Work(Request::Read { generation, .. })] = effects[..] else {
        panic!("{effects:?}")
    };
    let content = Err("registry.example refused the connection".to_owned());
    user.happens(Event::Answer(Answer::Read { generation, offset: 0, content }));
    assert!(user.screen().contains("registry.example refused the connection"));
    user.press("k");
    assert_eq!(user.selected(), "link");
    assert!(!user.screen().contains("refused"));
    // An answer that comes too late is of another file.
    let late = Answer::Read { generation, offset: 0, content: Err("late".to_owned()) };
    user.happens(Event::Answer(late));
    assert!(!user.screen().contains("late"));
}

#[test]
fn the_mouse_selects_opens_and_scrolls() {
    let mut user = User::of(&history());
    let click = |x: u16, y: u16| format!("\x1b[<0;{};{}M", x + 1, y + 1);
    user.press(click(50, 4));
    assert_eq!((user.selected().as_str(), user.model.focus), ("new", Pane::Tree));
    user.press(click(50, 2));
    user.press(click(50, 2));
    assert!(user.rows().contains(&" etc/passwd".to_owned()), "a second click opens");
    user.press(click(3, 2));
    assert_eq!((user.model.layer.at, user.model.focus), (0, Pane::Layers));
    user.press("\x1b[<65;50;5M");
    assert_eq!(user.model.tree.cursor.at, 3.min(user.model.tree.rows.len() - 1));
    user.press("\x1b[<64;50;5M");
    assert_eq!(user.model.tree.cursor.at, 0);
    user.press("w");
    user.press(click(5, 4));
    user.press(click(5, 4));
    assert!(user.model.overlay.is_none() && user.selected() == "etc/shadow", "{}", user.selected());
}
