#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
struct Row {
    name: String,
    size: u64,
    tags: Vec<String>,
    labels: BTreeMap<String, String>,
    next: Option<Box<Row>>,
    #[serde(deserialize_with = "or_default")]
    extra: Vec<u64>,
    #[serde(rename = "os.version")]
    version: String,
}

fn row(text: &str) -> Result<Row, String> {
    from_slice(text.as_bytes()).map_err(|e| e.to_string())
}

fn named(name: &str) -> Row {
    Row { name: name.to_owned(), ..Row::default() }
}

#[test]
fn what_go_reads() {
    let list = |tags: &[&str]| Row {
        tags: tags.iter().map(|s| s.to_string()).collect(),
        ..Row::default()
    };
    let rows = [
        ("{}", Row::default()),
        (" \n{ \"name\" :\t\"a\" }\r\n", named("a")),
        // Keys in other case, given twice, or both; the last wins.
        (r#"{"NAME":"a"}"#, named("a")),
        (r#"{"name":"a","Name":"b","name":"c"}"#, named("c")),
        (r#"{"name":"a","Name":"b"}"#, named("b")),
        (r#"{"\u006eame":"a"}"#, named("a")),
        (r#"{"taGſ":["a"]}"#, list(&["a"])),
        (r#"{"OS.Version":"1"}"#, Row { version: "1".into(), ..Row::default() }),
        // Null.
        (r#"{"name":null,"tags":null,"labels":null,"next":null,"extra":null}"#, Row::default()),
        (r#"{"tags":["a",null,"b"]}"#, list(&["a", "", "b"])),
        // Text.
        (r#"{"name":"\ud83d\ude00"}"#, named("\u{1f600}")),
        (r#"{"name":"cut \ud83d"}"#, named("cut \u{fffd}")),
        (r#"{"name":"\ude00 x"}"#, named("\u{fffd} x")),
        (r#"{"name":"\ud83d\u0041"}"#, named("\u{fffd}A")),
        (r#"{"name":"\ud83d\ud83d\ude00"}"#, named("\u{fffd}\u{1f600}")),
        (r#"{"name":"\"\\\/\b\f\n\r\t\u0000"}"#, named("\"\\/\u{8}\u{c}\n\r\t\0")),
        // Scalars where text is wanted.
        (r#"{"name":10,"tags":[true,1.50]}"#, Row { name: "10".into(), ..list(&["true", "1.50"]) }),
        // What is not wanted, or of no importance.
        (r#"{"x":1e999,"y":123456789012345678901234567890,"z":[{"q":{}}],"name":"a"}"#, named("a")),
        (r#"{"extra":"text","name":"a"}"#, named("a")),
        (r#"{"extra":{"deep":[1]},"name":"a"}"#, named("a")),
    ];
    for (text, expected) in rows {
        assert_eq!(row(text).as_ref(), Ok(&expected), "{text}");
    }
    let bytes = b"{\"name\":\"J\xf6rg\",\"\xff\":1}";
    assert_eq!(from_slice::<Row>(bytes).unwrap(), named("J\u{fffd}rg"));
    let nested = row(r#"{"next":{"Next":{"size":3}}}"#).unwrap();
    assert_eq!(nested.next.unwrap().next.unwrap().size, 3);
    // Keys of a map are not those of a struct.
    let labels = row(r#"{"labels":{"Name":"a","name":null,"name":"b","n":7}}"#).unwrap().labels;
    let labels: Vec<_> = labels.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(labels, [("Name", "a"), ("n", "7"), ("name", "b")]);
}

#[test]
fn what_go_refuses() {
    for (text, word) in [
        ("", "ends too early"),
        ("{", "ends too early"),
        (r#"{"name""#, "ends too early"),
        (r#"{"name":"a"#, "ends too early"),
        ("{}{}", "line 1, column 3"),
        ("{\n\"a\":1,\n}", "`}` at line 3, column 1"),
        ("[1,]", "`]`"),
        ("[1}", "`}`"),
        ("{1:2}", "`1`"),
        ("{\"a\":01}", "`1`"),
        ("{\"a\":.5}", "`.`"),
        ("{\"a\":1.}", "`}`"),
        ("{\"a\":-}", "`}`"),
        ("{\"a\":+1}", "`+`"),
        ("{\"a\":NaN}", "`N`"),
        ("{\"a\":tru}", "`}`"),
        ("{\"a\":\"\\x\"}", "`x`"),
        ("{\"a\":\"\\u12g4\"}", "`g`"),
        ("{\"a\":\"\n\"}", "byte 0x0a"),
        ("{'a':1}", "`'`"),
        ("\u{feff}{}", "byte 0xef"),
        ("<html>", "`<`"),
        // Right JSON of another kind.
        ("[]", "sequence"),
        ("null", "null"),
        ("5", "a number"),
        (r#"{"size":-1}"#, "-1"),
        (r#"{"size":1.5}"#, "1.5"),
        (r#"{"size":"1"}"#, "string"),
        (r#"{"size":18446744073709551616}"#, "18446744073709552000"),
        (r#"{"name":[]}"#, "sequence"),
        (r#"{"tags":{}}"#, "map"),
        (r#"{"labels":[]}"#, "sequence"),
        (r#"{"labels":{"a":{}}}"#, "map"),
    ] {
        let error = row(text).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn errors_say_where() {
    for (text, is_syntax, line, column) in [
        ("", true, 1, 1),
        ("{}{}", true, 1, 3),
        ("{\n\"a\":1,\n}", true, 3, 1),
        ("\n {\"name\":", true, 2, 10),
        ("[]", false, 1, 1),
        ("\n  5", false, 2, 3),
        ("{\n\"name\": [] }", false, 2, 9),
        ("{\"x\":[1,\n2],\"next\":\n{\"Size\" : -1}}", false, 3, 11),
        (r#"{"tags":["a", {"b":1}]}"#, false, 1, 15),
        (r#"{"labels":{"a":"b","c":[]}}"#, false, 1, 24),
    ] {
        let error = from_slice::<Row>(text.as_bytes()).unwrap_err();
        assert_eq!(error.place(), Position { line, column }, "{text}: {error}");
        assert_eq!(error.is_syntax(), is_syntax, "{text}: {error}");
        assert!(error.to_string().ends_with(&format!(" at line {line}, column {column}")));
    }
}

#[test]
fn what_follows_the_first_value() {
    let first = |text: &str| first_value::<Row>(text.as_bytes()).map_err(|e| e.to_string());
    for text in [
        r#"{"name":"a"}"#,
        "\u{feff}{\"name\":\"a\"}",
        "\u{feff} \n{\"name\":\"a\"}\n",
        r#"{"name":"a"}{"name":"b"}"#,
        r#"{"name":"a"}}"#,
        r#"{"name":"a"} and "more"#,
        "{\"name\":\"a\"}\0",
    ] {
        assert_eq!(first(text), Ok(named("a")), "{text}");
    }
    let bytes = b"{\"name\":\"a\"}\xff";
    assert_eq!(first_value::<Row>(bytes).unwrap(), named("a"));
    assert_eq!(first_value::<Vec<u8>>(b"[1,2]]").unwrap(), [1, 2]);
    assert_eq!(first_value::<Text>(b"\"a\"\"b\"").unwrap().0, "a");
    assert_eq!(first_value::<Option<Row>>(b"null {").unwrap(), None);
    for (text, word) in [
        ("", "too early"),
        ("\u{feff}", "too early"),
        ("x {}", "`x` at line 1, column 1"),
        ("\u{feff}{\"name\":\"a\",}", "`}` at line 1, column 13"),
        ("\u{feff}\u{feff}{}", "byte 0xef"),
        (r#"{"name":"a""#, "too early"),
        (r#"[] {"name":"a"}"#, "sequence"),
        (r#"{"size":"1"} x"#, "at line 1, column 9"),
    ] {
        let error = first(text).unwrap_err();
        assert!(error.contains(word), "{text}: {error}");
    }
}

#[test]
fn texts_and_nothing_else() {
    let text = |json: &str| from_slice::<Text>(json.as_bytes()).map(|text| text.0).ok();
    assert_eq!(text(r#""\u0061\ud800""#).as_deref(), Some("a\u{fffd}"));
    assert_eq!(text("null").as_deref(), Some(""));
    for json in ["5", "true", "[]", "{}", "-1.5"] {
        assert_eq!(text(json), None, "{json}");
    }
    let secret = from_slice::<Text>(br#""s3cret""#).unwrap();
    assert!(!format!("{secret:?}").contains("s3cret"));
}

#[test]
fn depth_has_a_limit_and_takes_no_stack() {
    let nested = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(row(&nested(9_999)), Ok(Row::default()));
    assert!(row(&nested(10_000)).unwrap_err().contains("10000 deep"));
    assert!(row(&"[".repeat(1 << 20)).unwrap_err().contains("10000 deep"));
    assert!(row(&"{\"next\":".repeat(1 << 18)).unwrap_err().contains("10000 deep"));
    let long = format!("{{\"size\":\"{}\"}}", "x".repeat(1 << 20));
    assert!(row(&long).unwrap_err().len() < 1000);
    // What is wanted is read recursively, and not that deep.
    let wanted = format!("{}{}", "{\"next\":".repeat(200), "null}".to_owned() + &"}".repeat(199));
    assert!(row(&wanted).unwrap_err().contains("128 deep"));
    assert!(from_slice::<Value>(nested(100).as_bytes()).is_ok());
    assert!(
        from_slice::<Value>(nested(200).as_bytes()).unwrap_err().to_string().contains("128 deep")
    );
}

#[test]
fn decisive_fields_have_one_meaning() {
    let decisive = |text: &str| from_slice_decisive::<Row>(text.as_bytes(), &["tags", "name"]);
    for text in [
        r#"{"name":"a","Name":"b"}"#,
        r#"{"Name":"a","name":"b"}"#,
        r#"{"next":{"taGſ":["a"],"tags":null}}"#,
    ] {
        let error = decisive(text).unwrap_err().to_string();
        assert!(error.contains("two spellings"), "{text}: {error}");
    }
    for text in
        [r#"{"name":"a","NAME":"a"}"#, r#"{"name":"a","name":"b"}"#, r#"{"size":1,"Size":2}"#]
    {
        decisive(text).unwrap();
    }
}

#[test]
fn errors_can_wait() {
    #[derive(Deserialize)]
    struct Later {
        number: Attempt<u64>,
        list: Vec<Attempt<Row>>,
    }
    let later: Later = from_slice(br#"{"number":"x","list":[5,{"name":"a"}]}"#).unwrap();
    assert!(later.number.0.unwrap_err().contains("string"));
    assert!(later.list[0].0.is_err());
    assert_eq!(later.list[1].0.as_ref().unwrap(), &named("a"));
}

fn json_text() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<i32>().prop_map(|n| Value::from(f64::from(n) / 4.0)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(".{0,4}", inner, 0..5)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(map) => map.values().any(has_fraction),
        _ => false,
    }
}

proptest! {
    /// What `serde_json` writes is read as `serde_json` reads it.
    #[test]
    fn the_same_as_serde_json(value in json_text(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
        let expected: Value = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(from_slice::<Value>(&text).unwrap(), expected);
    }

    /// What `serde_json` accepts is accepted, and what is not JSON never panics.
    #[test]
    fn damaged_text(
        value in json_text(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 1..5),
    ) {
        let mut text = serde_json::to_vec(&value).unwrap();
        for (at, byte) in damage {
            let length = text.len();
            text[at % length] = byte;
        }
        let ours = from_slice::<Value>(&text);
        if let Ok(theirs) = serde_json::from_slice::<Value>(&text) {
            let ours = ours.unwrap();
            // The other does not round all numbers right.
            prop_assert!(ours == theirs || has_fraction(&theirs), "{} and {}", ours, theirs);
        } else if let Ok(ours) = ours {
            // Only for what Go replaces or has no limit for.
            let text = String::from_utf8_lossy(&text).into_owned();
            let odd = text.contains('\u{fffd}') || text.contains("\\u") || text.contains(['e', 'E'])
                || text.len() > 300;
            prop_assert!(odd, "{} was read as {}", text, ours);
        }
    }
}
