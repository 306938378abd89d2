//! Screens: of every size, and without anything that a terminal obeys.

use ratatui_core::style::{Color, Modifier};

use super::fixture::{Member, User, file, layers, tar};
use crate::explore::draw::draw;
use crate::explore::layout::Pane;
use crate::explore::look::Look;
use crate::explore::state::Event;
use crate::explore::terminal::frame;
use crate::render::text::is_printable;

const EVIL: &str = "\x1b[2J\x1b]0;x\x07\u{9b}31m\u{202e}gpj\u{2066}\u{feff}\u{200b}\r\u{8}";

fn evil() -> User {
    let mut content = EVIL.as_bytes().to_vec();
    content.extend_from_slice(b"\xff\xfe\nsecond\tline\n");
    let name: &'static str = Box::leak(format!("d/n{EVIL}").into_boxed_str());
    let target: &'static str = Box::leak(format!("t{EVIL}").into_boxed_str());
    let first =
        tar(&[Member::Dir("d"), file(name, content.clone()), Member::Symlink("d/link", target)]);
    let mut binary = vec![0];
    binary.extend_from_slice(&content);
    let second = tar(&[file(name, binary), file("d/a", "")]);
    let layers = vec![(format!("RUN {EVIL} 1"), first), (format!("RUN {EVIL} 2"), second)];
    User::new((80, 24), &[layers])
}

fn is_safe(user: &User) {
    for cell in &user.buffer().content {
        // A cell behind one of two columns is empty.
        assert!(cell.symbol().chars().all(is_printable), "{:?}", cell.symbol());
    }
}

#[test]
fn nothing_of_an_image_commands_the_terminal() {
    let mut user = evil();
    for size in [(40, 12), (80, 24), (300, 50)] {
        user.happens(Event::Resize(size));
        for keys in [
            "g*", "jj", "j", "/n\r", "i", "v", "p", "x", "x", "[", "]", "\t", "w", "\x1b", "y",
            "c]0;\r", "\x1b", "\t", "e",
        ] {
            user.press(keys);
            user.rests();
            is_safe(&user);
        }
        user.press("\x1b\x1b\x1b");
    }
    // What is pasted into a shell does nothing either.
    user.press("\t\t/n\ry");
    user.press("Y");
    assert!(
        user.copied.iter().flat_map(|text| text.chars()).all(is_printable),
        "{:?}",
        user.copied
    );
}

#[test]
fn screens_of_every_size() {
    let names = ["usr", "usr/bin", "usr/bin/program"];
    let mut user = User::new(
        (80, 24),
        &[layers(&[vec![
            Member::Dir(names[0]),
            Member::Dir(names[1]),
            Member::File(names[2], b"#!/bin/sh\necho hello\n".to_vec(), 0o755),
        ]])],
    );
    user.press("*jj");
    user.rests();
    for size in
        [(1, 1), (2, 2), (10, 3), (40, 12), (69, 40), (70, 17), (80, 24), (132, 43), (300, 50)]
    {
        user.happens(Event::Resize(size));
        for pane in [Pane::Layers, Pane::Tree, Pane::File] {
            user.model.focus = pane;
            user.rests();
            let (lines, buffer) = (user.lines(), user.buffer());
            assert_eq!((lines.len(), buffer.area.width), (usize::from(size.1), size.0));
            if size >= (40, 12) {
                let expected = match pane {
                    Pane::Layers => "RUN 0",
                    Pane::Tree => "program",
                    Pane::File => "echo hello",
                };
                assert!(user.screen().contains(expected), "{size:?} {pane:?}\n{}", user.screen());
            }
        }
    }
}

#[test]
fn the_first_screen() {
    let mut user = User::of(&[
        vec![Member::Dir("etc"), file("etc/hosts", "127.0.0.1 localhost\n")],
        vec![file("etc/hosts", "::1 localhost\n"), file("motd", "welcome\n")],
    ]);
    user.press(" jj");
    user.rests();
    let name = user.model.view().map(|_| user.lines()[0].clone()).unwrap();
    assert!(name.contains("2 layers"), "{name}");
    let expected = "\
Layers ────────────────────────│ Tree  layers 0 to 1 ──────────────────────────
   0 2.50 KiB RUN 0             │      14 B ▾ etc/
   1 3.00 KiB RUN 1             │~     14 B     hosts
                                │+      8 B   motd
                                │
                                │
                                │
                                │
────────────────────────────────│
RUN 1                           │
+1 ~1";
    let lines = user.lines()[1..12].join("\n");
    let lines = lines.trim_start().trim_end_matches(['│', ' ']);
    assert_eq!(lines, expected);
    let screen = user.screen();
    assert!(screen.contains(" File  content  /motd "), "{screen}");
    assert!(screen.contains("\n  1 welcome\n"), "{screen}");
}

#[test]
fn colours_say_nothing_alone() {
    let user = User::of(&[vec![file("f", "1")], vec![file("f", "2"), file("g", "")]]);
    let mut plain = frame(user.model.size);
    draw(&user.model, Look { has_colours: false }, &mut plain);
    assert!(plain.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let coloured = user.buffer();
    assert!(coloured.content.iter().any(|cell| cell.fg == Color::Green));
    assert!(coloured.content.iter().all(|cell| cell.bg == Color::Reset));
    assert!(coloured.content.iter().all(|cell| !matches!(cell.fg, Color::White | Color::Black)));
    let text = |buffer: &ratatui_core::buffer::Buffer| -> String {
        buffer.content.iter().map(|cell| cell.symbol()).collect()
    };
    assert_eq!(text(&plain), text(&coloured));
    let is_reversed =
        |cell: &ratatui_core::buffer::Cell| cell.modifier.contains(Modifier::REVERSED);
    assert!(plain.content.iter().any(is_reversed), "what is selected is seen");
}
