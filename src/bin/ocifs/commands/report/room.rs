//! What takes the room of an image: as nodes of a picture, and as a table.

use std::cmp::Reverse;

use ocifs::image::{Room, Step};

use super::history::made_by;
use crate::render::html::{Column, Markup, Node, Table, Tone, is_nearly_all};
use crate::render::instruction::for_people;

/// Rows of the table of what is largest.
const MAX_LARGEST: usize = 50;

/// The node of what takes room. Neighbours at the top have colours of their own, and what is in them has theirs.
pub(in crate::commands) fn node_of_room(room: &Room) -> Node {
    let top = room.children.iter().enumerate();
    let children = top.map(|(at, room)| node(room, Tone::Group(at))).collect();
    Node { children, ..node(&Room { children: Vec::new(), ..room.clone() }, Tone::Group(0)) }
}

/// The node of all layers, base first, each with its number and the instruction that made it.
pub(in crate::commands) fn node_of_layers(layers: &[Room], steps: &[Step]) -> Node {
    let children = layers.iter().enumerate().map(|(at, room)| {
        let instruction = made_by(steps, at).map_or(String::new(), for_people);
        let label = format!("layer {at}  {instruction}").into_bytes();
        Node { path: label.clone(), label, ..node(room, Tone::Group(at)) }
    });
    let mut children: Vec<Node> = children.filter(|node| node.bytes > 0).collect();
    children.sort_by_key(|child| Reverse(child.bytes));
    let bytes = children.iter().map(|node| node.bytes).fold(0, u64::saturating_add);
    let name = b"all layers".to_vec();
    let (label, tone) = (name.clone(), Tone::Group(0));
    Node { label, path: name, bytes, tone, is_wasted: false, children }
}

fn node(room: &Room, tone: Tone) -> Node {
    let mut label = room.name().to_vec();
    if room.is_directory {
        label.push(b'/');
    }
    let children = room.children.iter().map(|room| node(room, tone)).collect();
    let is_wasted = room.hidden > 0 && is_nearly_all(room.hidden, room.bytes);
    let (path, bytes) = (slashed(room), room.bytes);
    Node { label, path, bytes, tone, is_wasted, children }.joined()
}

/// The path of what is in the root, as people write it.
fn slashed(room: &Room) -> Vec<u8> {
    let end: &[u8] = if room.is_directory && !room.path.is_empty() { b"/" } else { b"" };
    [b"/", &room.path[..], end].concat()
}

/// Writes a table of what is largest.
pub(in crate::commands) fn write_largest(out: &mut Markup, room: &Room) {
    let mut all = Vec::new();
    let mut todo: Vec<&Room> = room.children.iter().collect();
    while let Some(room) = todo.pop() {
        // A directory with nothing but another one in it says nothing new.
        let is_told_below = |below: &Room| is_nearly_all(below.bytes, room.bytes);
        if !room.children.first().is_some_and(is_told_below) {
            all.push(room);
        }
        todo.extend(&room.children);
    }
    all.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.path.cmp(&b.path)));
    let columns: &[Column] = &[Column::Text("path"), Column::Number("takes")];
    let mut table = Table::new("The largest directories and files", columns);
    for largest in all.iter().take(MAX_LARGEST) {
        table.row(|row| {
            row.name(&slashed(largest)).bar(largest.bytes, room.bytes);
        });
    }
    table.write(out);
}
