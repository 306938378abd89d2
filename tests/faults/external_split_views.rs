//! Tables of contents that show something else than the tar does: `verify` finds all of it, and
//! nothing else.

use ocifs::image::verify;
use ocifs::layer::Quiet;
use serde_json::{Value, json};

use crate::external_fixture::{Served, Way, image, open_fresh, proofs, proving, same, shown, ways};
use crate::fixture::{Verdict, exists, noise, open, options, read, within};
use crate::support::estargz::{self, Written};
use crate::support::image::sha256;
use crate::support::tarball::{BLOCK, Entry, TarWriter};

/// The first way of `ways`, and the zstd dialect of the same tool.
fn stargz_ways() -> Vec<Way> {
    let wanted = ["eStargz", "zstd:chunked of stargz"];
    ways().into_iter().filter(|way| wanted.contains(&way.what)).collect()
}

/// What `verify` says of the only layer of an image: path and what differs.
fn differences(written: &Written, way: &Way) -> Vec<(String, &'static str)> {
    let served = Served::new(&image([way.layer(written)]));
    let (name, cache) = (served.name.parse().unwrap(), served.sandbox.cache());
    let verified = within(std::time::Duration::from_secs(60), move || {
        verify(&name, &cache, &options(), &Quiet)
    });
    let layer = verified.unwrap().layers.remove(0);
    assert_eq!(layer.error, None);
    layer.differences.into_iter().map(|found| (found.path, found.what)).collect()
}

/// Paths that differ, sorted.
fn paths<'a>(found: &'a [(String, &'static str)]) -> Vec<&'a str> {
    let mut paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// A member with the headers of a sparse file, a PAX 1.0 one but for its data.
fn sparse_header(name: &str, size: u64, runs: &[(u64, &[u8])]) -> Vec<u8> {
    let stored: usize = runs.iter().map(|(_, data)| data.len()).sum();
    let mut writer = TarWriter::new();
    writer.sparse_pax_1_0(name, size, runs);
    let mut bytes = writer.finish_without_end();
    bytes.truncate(bytes.len() - stored.next_multiple_of(BLOCK));
    bytes
}

fn padding(length: usize) -> Vec<u8> {
    vec![0; length.next_multiple_of(BLOCK) - length]
}

/// Files with holes, in the tar, in the table, or in both.
#[test]
fn sparse_files() {
    let data = noise(3 * BLOCK, 1);
    let other = noise(3 * BLOCK, 2);
    // More than would be hashed zero by zero.
    let huge = 60u64 << 30;
    // A sparse file in the tar: data at 1000 and a hole around it; then an ordinary one.
    let members = |size: u64, data: &[u8]| {
        let mut writer = TarWriter::new();
        writer.entry(&Entry::file("g", &other));
        let g = writer.finish_without_end();
        let header = g.len() - other.len();
        vec![
            sparse_header("f", size, &[(1000, data)]),
            data.to_vec(),
            [padding(data.len()), g[..header].to_vec()].concat(),
            g[header..].to_vec(),
        ]
    };
    let reg = |name: &str, size: u64, offset: usize, chunk: &[u8]| {
        json!({ "name": name, "type": "reg", "mode": 0o644, "size": size, "offset": offset,
            "chunkSize": chunk.len(), "chunkDigest": sha256(chunk), "digest": sha256(b"whatever") })
    };
    let hole = |name: &str, size: u64, length: u64| {
        json!({ "name": name, "type": "reg", "mode": 0o644, "size": size, "chunkSize": length,
            "chunkType": "zeros" })
    };
    let chunk = |at: u64, offset: usize, bytes: &[u8]| {
        json!({ "type": "chunk", "chunkOffset": at, "offset": offset, "chunkSize": bytes.len(),
            "chunkDigest": sha256(bytes) })
    };
    let zeros = |at: u64, length: u64| json!({ "type": "chunk", "chunkOffset": at, "chunkSize": length, "chunkType": "zeros" });
    let g = |offsets: &[usize]| {
        let mut row = reg("g", other.len() as u64, offsets[3], &other);
        row["digest"] = json!(sha256(&other));
        row
    };
    let way = &ways()[0];
    let mut verdict = Verdict::default();
    for size in [20_000, 300 << 20, huge] {
        let rest = size - 1000 - data.len() as u64;
        type Rows<'a> = Box<dyn Fn(&[usize]) -> Vec<Value> + 'a>;
        let cases: [(&str, &[&str], Rows<'_>); 5] = [
            (
                "the same holes",
                &[],
                Box::new(|at| {
                    vec![
                        hole("f", size, 1000),
                        chunk(1000, at[1], &data),
                        zeros(1000 + data.len() as u64, rest),
                        g(at),
                    ]
                }),
            ),
            (
                "holes in pieces",
                &[],
                Box::new(|at| {
                    vec![
                        hole("f", size, 999),
                        zeros(999, 1),
                        chunk(1000, at[1], &data),
                        zeros(1000 + data.len() as u64, 5),
                        zeros(1005 + data.len() as u64, rest - 5),
                        g(at),
                    ]
                }),
            ),
            (
                "data one byte earlier",
                &["f"],
                Box::new(|at| {
                    vec![
                        hole("f", size, 999),
                        chunk(999, at[1], &data),
                        zeros(999 + data.len() as u64, rest + 1),
                        g(at),
                    ]
                }),
            ),
            ("nothing but a hole", &["f"], Box::new(|at| vec![hole("f", size, size), g(at)])),
            (
                "other data in the hole",
                &["f"],
                Box::new(|at| {
                    // What stands behind the data in its member: padding and a header.
                    let more = members(size, &data)[2].clone();
                    let both = [&data[..], &more].concat();
                    let end = 1000 + both.len() as u64;
                    vec![
                        hole("f", size, 1000),
                        chunk(1000, at[1], &data),
                        chunk(1000 + data.len() as u64, at[2], &more),
                        zeros(end, size - end),
                        g(at),
                    ]
                }),
            ),
        ];
        for (what, expected, rows) in cases {
            let written = estargz::compose(&members(size, &data), &rows);
            let found = differences(&written, way);
            let result = match paths(&found) == expected {
                true => Ok(()),
                false => Err(format!("{found:?}")),
            };
            verdict.row(&format!("{what} of {size} bytes"), result);
        }
    }
    // Zeros that are stored in the tar and a hole by the table, and files of zeros.
    let content = [&data[..], &[0; 9000], &data].concat();
    let length = content.len() as u64;
    let mut writer = TarWriter::new();
    writer.entry(&Entry::file("f", &content));
    let tar = writer.finish_without_end();
    let header = tar.len() - content.len().next_multiple_of(BLOCK);
    let members = [
        tar[..header].to_vec(),
        data.clone(),
        vec![0; 9000],
        tar[header + data.len() + 9000..].to_vec(),
    ];
    let second = data.len() as u64 + 9000;
    for (end, expected) in [(second, &[][..]), (second - 1, &["f"])] {
        let written = estargz::compose(&members, &|at| {
            let mut first = reg("f", length, at[1], &data);
            first["digest"] = json!(sha256(&content));
            vec![
                first,
                zeros(data.len() as u64, end - data.len() as u64),
                chunk(end, at[3], &data),
                zeros(end + data.len() as u64, length - end - data.len() as u64),
            ]
            .into_iter()
            .filter(|row| row["chunkSize"] != 0)
            .collect()
        });
        let found = differences(&written, way);
        let result = (paths(&found) == expected).then_some(()).ok_or(format!("{found:?}"));
        verdict.row(&format!("stored zeros up to {end}"), result);
    }
    verdict.end();
}

/// Times in whole seconds, as writers of tables have them.
#[test]
fn times() {
    let mut verdict = Verdict::default();
    for (actual, shown, is_honest) in [
        ((1000, 700_000_000), "1970-01-01T00:16:41Z", true),
        ((1000, 500_000_000), "1970-01-01T00:16:41Z", true),
        ((1000, 300_000_000), "1970-01-01T00:16:40Z", true),
        ((1000, 700_000_000), "1970-01-01T00:16:40Z", true),
        ((1000, 700_000_000), "1970-01-01T00:16:40.7Z", true),
        ((-1, 500_000_000), "", true),
        ((0, 700_000_000), "", true),
        ((1000, 300_000_000), "1970-01-01T00:16:41Z", false),
        ((1000, 0), "1970-01-01T00:16:41Z", false),
        ((1000, 700_000_000), "1970-01-01T00:16:40.6Z", false),
        ((1000, 0), "1970-01-01T00:16:40.000000001Z", false),
        ((1000, 700_000_000), "", false),
    ] {
        for way in stargz_ways() {
            let entry = Entry::file("f", "x").mtime(actual.0, actual.1);
            let edit = |json: &mut Value| {
                let rows = json["entries"].as_array_mut().unwrap();
                rows.iter_mut().find(|row| row["name"] == "f").unwrap()["modtime"] = json!(shown);
            };
            let found = differences(&(way.write)(&[entry], Some(&edit)), &way);
            let result = (found.is_empty() == is_honest).then_some(());
            let what = format!("{}: {actual:?} as `{shown}`", way.what);
            verdict.row(&what, result.ok_or(format!("{found:?}")));
        }
    }
    verdict.end();
}

/// Under the names of files that writers keep for themselves, all but these files is shown, whether
/// the table or the tar is read.
#[test]
fn names_of_bookkeeping() {
    let landmark = ".prefetch.landmark";
    let other = ".no.prefetch.landmark";
    let toc = "stargz.index.json";
    let program = "#!/bin/sh\n";
    let bulk = || Entry::file("bulk", noise(400_000, 3));
    let dir = format!("{landmark}/bin");
    let cases: Vec<(&str, Vec<Entry>, Vec<&str>)> = vec![
        ("a program", vec![Entry::file(landmark, program).mode(0o755)], vec![landmark]),
        ("another byte", vec![Entry::file(landmark, "\x0e")], vec![landmark]),
        ("two bytes", vec![Entry::file(landmark, "\x0f\x0f")], vec![landmark]),
        ("nothing", vec![Entry::file(landmark, "")], vec![landmark]),
        ("a symlink", vec![Entry::symlink(landmark, "bulk")], vec![landmark]),
        ("the table's name", vec![Entry::file(toc, program)], vec![toc]),
        (
            "a directory",
            vec![Entry::dir(landmark), Entry::file(&dir, program)],
            vec![landmark, &dir],
        ),
        (
            "an implied directory",
            vec![Entry::file(format!("{toc}/bin"), program)],
            vec![toc, "stargz.index.json/bin"],
        ),
        (
            "a hard link to it",
            vec![Entry::file(landmark, program), Entry::hardlink("link", landmark)],
            vec![landmark, "link"],
        ),
        (
            "a link of its name",
            vec![Entry::file("prog", program), Entry::hardlink(landmark, "prog")],
            vec![landmark, "prog"],
        ),
        (
            "a landmark and a link to it",
            vec![Entry::file(landmark, "\x0f"), Entry::hardlink("link", landmark)],
            vec!["link"],
        ),
        (
            "a landmark, then a program, then a link",
            vec![
                Entry::file(landmark, "\x0f"),
                Entry::file(landmark, program),
                Entry::hardlink("link", landmark),
            ],
            vec![landmark, "link"],
        ),
        (
            "elsewhere",
            vec![Entry::dir("d"), Entry::file("d/.prefetch.landmark", "\x0f")],
            vec!["d", "d/.prefetch.landmark"],
        ),
        ("a landmark", vec![Entry::file(landmark, "\x0f")], vec![]),
    ];
    for way in stargz_ways() {
        for (what, entries, expected) in &cases {
            let what = format!("{}: {what}", way.what);
            let entries = [&entries[..], &[bulk()]].concat();
            let layer = (way.write)(&entries, None);
            let served = Served::new(&image([way.layer(&layer)]));
            let by_table = served.open();
            assert_eq!(proofs(&by_table), ["toc"], "{what}");
            let by_table = shown(&by_table);
            let proven = open_fresh(&served.name, &proving());
            assert_eq!(proofs(&proven), ["full"], "{what}");
            same(&what, &by_table, &shown(&proven));
            let mut names: Vec<&str> = by_table.keys().map(String::as_str).collect();
            names.retain(|name| !name.is_empty() && *name != "bulk");
            let mut expected = expected.clone();
            expected.sort_unstable();
            assert_eq!(names, expected, "{what}");
            if let Ok(content) = read(&proven, "link") {
                let is_landmark = what.ends_with("and a link to it");
                assert_eq!(content == b"\x0f", is_landmark, "{what}");
            }
            assert_eq!(differences(&layer, &way), [], "{what}");
        }
        // In one of the two only, or not the same.
        let entries = [Entry::file(landmark, program), Entry::file(toc, program), bulk()];
        let row_of = |json: &mut Value, name: &str| {
            let rows = json["entries"].as_array_mut().unwrap();
            rows.iter().position(|row| row["name"] == name).unwrap()
        };
        type Lie<'a> = Box<dyn Fn(&mut Value) + 'a>;
        let lies: [(&str, Lie<'_>); 4] = [
            (
                landmark,
                Box::new(|json| {
                    let at = row_of(json, landmark);
                    json["entries"].as_array_mut().unwrap().remove(at);
                }),
            ),
            (
                toc,
                Box::new(|json| {
                    let at = row_of(json, toc);
                    json["entries"].as_array_mut().unwrap().remove(at);
                }),
            ),
            (
                landmark,
                Box::new(|json| {
                    let at = row_of(json, landmark);
                    json["entries"][at]["mode"] = json!(0o4755);
                }),
            ),
            // The landmark itself, with another size.
            (
                other,
                Box::new(|json| {
                    let at = row_of(json, other);
                    json["entries"][at]["size"] = json!(2);
                }),
            ),
        ];
        for (number, (path, lie)) in lies.iter().enumerate() {
            let layer = (way.write)(&entries, Some(&|json: &mut Value| lie(json)));
            let found = differences(&layer, &way);
            // A chunk that is not there may make others of its member unreadable.
            assert!(paths(&found).contains(path), "{} {number}: {found:?}", way.what);
            assert!(number == 3 || found.len() == 1, "{} {number}: {found:?}", way.what);
        }
    }
}

/// The table's own file is hidden, and a file of the image with that name is not.
#[test]
fn the_table_in_the_tar() {
    let way = &ways()[0];
    let entries = [Entry::file("stargz.index.json", "mine"), Entry::file("f", "x")];
    let served = Served::new(&image([way.layer(&(way.write)(&entries, None))]));
    let opened = open(&served.name, &served.sandbox.cache(), &options()).unwrap();
    assert_eq!(read(&opened, "stargz.index.json").unwrap(), b"mine");
    let served = Served::new(&image([way.layer(&(way.write)(&entries[1..], None))]));
    let opened = open(&served.name, &served.sandbox.cache(), &options()).unwrap();
    assert!(!exists(&opened, "stargz.index.json"));
}

/// The same entries in another order, of which later ones replace earlier ones or link to them.
#[test]
fn order() {
    let f = |name: &str, content: &str| Entry::file(name, content);
    let swap = |json: &mut Value, one: (&str, usize), other: (&str, usize), keys: &[&str]| {
        let rows = json["entries"].as_array_mut().unwrap();
        let find = |rows: &[Value], (name, number): (&str, usize)| {
            let of_name = (0..rows.len()).filter(|at| rows[*at]["name"] == name);
            of_name.clone().nth(number).unwrap()
        };
        let (one, other) = (find(rows, one), find(rows, other));
        if keys.is_empty() {
            rows.swap(one, other);
        }
        for key in keys {
            let (a, b) = (rows[one][key].clone(), rows[other][key].clone());
            (rows[one][key], rows[other][key]) = (b, a);
        }
    };
    let content = ["offset", "innerOffset", "digest", "chunkDigest"];
    type Lie<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let cases: Vec<(&str, Vec<Entry>, Lie<'_>, bool)> = vec![
        (
            "a link before what it links to",
            vec![f("x", "1"), Entry::hardlink("l", "x"), f("x", "2")],
            Box::new(|json| swap(json, ("l", 0), ("x", 1), &[])),
            true,
        ),
        (
            "content that only a link shows",
            vec![f("x", "1"), f("z", "2"), Entry::hardlink("l", "x"), f("x", "3"), f("z", "4")],
            Box::new(|json| swap(json, ("x", 0), ("z", 0), &content)),
            true,
        ),
        (
            "the same by way of a symlink",
            vec![
                Entry::dir("d"),
                Entry::symlink("s", "d"),
                f("d/x", "1"),
                f("z", "2"),
                Entry::hardlink("l", "s/x"),
                f("d/x", "3"),
                f("z", "4"),
            ],
            Box::new(|json| swap(json, ("d/x", 0), ("z", 0), &content)),
            true,
        ),
        (
            "content of a hidden file",
            vec![
                f(".wh..wh.plnk/1", "1"),
                f(".wh..wh.plnk/2", "2"),
                Entry::hardlink("l", ".wh..wh.plnk/1"),
            ],
            Box::new(|json| swap(json, (".wh..wh.plnk/1", 0), (".wh..wh.plnk/2", 0), &content)),
            true,
        ),
        (
            "a file that replaces a directory and is replaced",
            vec![f("d", "1"), Entry::dir("d"), f("d/x", "2")],
            Box::new(|json| swap(json, ("d", 0), ("d/x", 0), &[])),
            true,
        ),
        (
            "a file before what is below it",
            vec![f("d", "1"), f("d/a/x", "2"), f("e", "3")],
            Box::new(|json| swap(json, ("d", 0), ("d/a/x", 0), &[])),
            true,
        ),
        (
            "files that nothing depends on",
            vec![f("a", "1"), f("b", "2"), Entry::dir("c"), Entry::hardlink("l", "a"), f("d", "3")],
            Box::new(|json| swap(json, ("b", 0), ("d", 0), &[])),
            false,
        ),
        (
            "directories told twice",
            vec![Entry::dir("c"), f("c/x", "1"), Entry::dir("c"), f("c/y", "2")],
            Box::new(|json| swap(json, ("c/x", 0), ("c/y", 0), &[])),
            false,
        ),
    ];
    let mut verdict = Verdict::default();
    for way in ways().into_iter().take(1).chain(stargz_ways().into_iter().skip(1)) {
        for (what, entries, lie, is_lie) in &cases {
            // Directories end in a slash there.
            let lie = |json: &mut Value| lie(json);
            let honest = differences(&(way.write)(entries, None), &way);
            assert_eq!(honest, [], "{what}");
            let found = differences(&(way.write)(entries, Some(&lie)), &way);
            let result = (found.is_empty() != *is_lie).then_some(());
            verdict.row(&format!("{}: {what}", way.what), result.ok_or(format!("{found:?}")));
        }
    }
    verdict.end();
}
