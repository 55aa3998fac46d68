//! The page for a browser: one small one as it is, and hostile names in every place that takes one.

use netpath::path;
use netpath::render::html::{Slice, write};
use netpath::render::report::View;
use netpath::report::Report;

use super::read;

fn page(report: &Report, slices: &[Slice]) -> String {
    let mut text = Vec::new();
    write(report, slices, &mut text, &View::default()).unwrap();
    String::from_utf8(text).unwrap()
}

/// The text without what is between two others.
fn without(text: &str, from: &str, to: &str) -> String {
    let (before, rest) = text.split_once(from).unwrap();
    let (_, after) = rest.split_once(to).unwrap();
    format!("{before}{from}…{to}{after}")
}

#[test]
fn a_small_one() {
    let report = path::report(&read("pod_to_internet").snapshot);
    let mut second = Slice::of(&report);
    second.started_at = "2026-01-31T14:00:10Z".to_owned();
    let mut text = page(&report, &[Slice::of(&report), second]).replace(env!("CARGO_PKG_VERSION"), "VERSION");
    for (from, to) in [
        ("Policy\" content=\"", "\">"),
        ("<style>", "</style>"),
        ("application/octet-stream\">", "</script>"),
        ("<script>", "</script>"),
    ] {
        text = without(&text, from, to);
    }
    // A line for each element that begins a part.
    for tag in ["<section", "<tr", "<div", "<svg", "<g>", "<details", "<p", "<path", "<rect", "<text"] {
        text = text.replace(tag, &format!("\n{tag}"));
    }
    insta::assert_snapshot!("page", text);
}

/// What is made of names is text, whatever is in them.
#[test]
fn names_are_text() {
    const NAMES: [&str; 5] =
        ["</script><script>alert(1)</script>", "<!--<script>", "\"onload='x' &amp;", "\u{202e}txt\u{7}", "a</style>b"];
    let clean = page(&path::report(&read("busy_node").snapshot), &[]);
    for name in NAMES {
        let mut scenario = read("busy_node");
        for device in &mut scenario.snapshot.devices {
            device.facts.name = format!("{name}{}", device.facts.ifindex);
        }
        for pod in &mut scenario.snapshot.names.pods {
            (pod.namespace, pod.name) = (name.to_owned(), format!("{name}{}", pod.name));
        }
        scenario.snapshot.node.hostname = name.to_owned();
        scenario.snapshot.conntrack_reason = Some(name.to_owned());
        let text = page(&path::report(&scenario.snapshot), &[]);
        for tag in ["<script", "</script", "<!--", "</style", "\"onload=", "<td", "<svg"] {
            assert_eq!(text.matches(tag).count(), clean.matches(tag).count(), "{tag} of {name:?}");
        }
        assert!(!text.contains(['\u{202e}', '\u{7}']), "{name:?}");
    }
}

/// Rows beyond the first ones are data, which ends no script.
#[test]
fn rows_as_data() {
    let mut report = path::report(&read("busy_node").snapshot);
    let mut one = report.conversations[0].clone();
    one.from.pod = Some("</script><!--<script>/\u{202e}".to_owned());
    report.conversations = vec![one; 1000];
    let text = page(&report, &[]);
    let (_, data) = text.split_once("<script type=\"application/json\">").unwrap();
    let (data, _) = data.split_once("</script>").unwrap();
    assert!(!data.contains('<') && !data.contains('\u{202e}'));
    let rows: Vec<serde_json::Value> = serde_json::from_str(data).unwrap();
    assert_eq!(rows.len(), 700);
    assert_eq!(rows[0][0][0], "</script><!--<script>/\\u{202e}");
    assert_eq!(rows[0][0][2][1], report.conversations[0].bytes);
    assert_eq!(text.matches("<tr><th scope=\"row\">&lt;/script&gt;").count(), 300);
}
