//! The page for a browser: one small one as it is, and hostile names in every place that takes one.

use netpath::model::DeviceClass;
use netpath::path;
use netpath::path::select::{Condition, Filter, select};
use netpath::render::block::Screen;
use netpath::render::html::{Slice, write};
use netpath::render::report::View;
use netpath::report::{CauseKind, PeerKind, Report, Term, TermKind};
use netpath::snapshot::Snapshot;

use super::{read, table};

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
    second.started_at = "2025-01-01T00:00:10Z".to_owned();
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

/// Why it is not known what CloudWatch and EC2 show, on the page as in the table.
#[test]
fn what_is_not_known() {
    let of = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = read("pod_to_internet").snapshot;
        change(&mut snapshot);
        path::report(&snapshot)
    };
    let without_eni = of(&|snapshot| {
        snapshot.default_routes = Some(Vec::new());
        for device in snapshot.devices.iter_mut().filter(|device| device.facts.class == DeviceClass::Eni) {
            device.facts.class = DeviceClass::Other;
        }
    });
    let without_time = of(&|snapshot| snapshot.window.duration_ns = 0);
    let unread = path::report(&read("counters_unknown").snapshot);
    for (report, words) in [
        (without_eni, "; what EC2 shows is not known: no ENI was recognised."),
        (without_time, "What CloudWatch and EC2 show is not known: the window has no length."),
        (unread, "What CloudWatch and EC2 show is not known: the counters of a device could not be read."),
    ] {
        assert!(headline(&page(&report, &[])).ends_with(words), "{words}");
        assert!(table(&report, &View::default(), &Screen::default()).contains(words), "{words}");
    }
}

/// What is negative has its letter, its share and its place; both bars have one scale.
#[test]
fn negative_parts() {
    let mut report = path::report(&read("pod_to_internet").snapshot);
    let terms = [(TermKind::Eni, 1000), (TermKind::Cause(CauseKind::DroppedByQdisc), -900)];
    report.accounting.terms = terms.map(|(name, bytes)| Term { name, bytes, explanation: String::new() }).to_vec();
    report.accounting.container_insights.node_network_total_bytes = Some(100);
    (report.accounting.ec2.network_in_bytes, report.accounting.ec2.network_out_bytes) = (Some(0), Some(100));
    let text = page(&report, &[]);
    for part in [
        ", 1000 %</title><rect class=\"eni\" x=\"0.000%\" width=\"100.000%\"",
        ", -900 %</title><rect class=\"other\" x=\"10.000%\" width=\"90.000%\"",
        "<rect class=\"eni\" width=\"10.000%\"",
        "<span class=\"mark other\">B</span>",
    ] {
        assert!(text.contains(part), "{part}");
    }
    let text = table(&report, &View::default(), &Screen::default());
    assert!(text.contains("1000 %\n") && text.contains("-900 %\n"), "{text}");
}

/// What the page says of itself after a filter, and of pictures that it leaves out.
#[test]
fn what_it_holds() {
    let mut report = path::report(&read("busy_node").snapshot);
    report.conversations = vec![report.conversations[0].clone(); 30];
    let text = page(&report, &[]);
    assert!(text.contains("This file holds the whole report (10.0 s"), "{text}");
    assert!(text.contains("Of the 20 largest of 30 conversations ("), "{text}");
    select(&mut report, &Filter::new([vec![Condition::pod("shop/*").unwrap()]]));
    let text = page(&report, &[]);
    assert!(text.contains("as JSON; of its flows only those with --pod shop/*, but"), "{text}");
    assert!(!text.contains("the whole report"));
}

/// The end of a flow that is a pod of this node is one, with or without a name.
#[test]
fn pods_without_a_name() {
    let mut report = path::report(&read("pod_to_pod").snapshot);
    for flow in &mut report.flows {
        (flow.src_pod, flow.dst_pod) = (None, None);
        (flow.src_peer_kind, flow.dst_peer_kind) = (Some(PeerKind::Private), Some(PeerKind::Private));
    }
    let text = page(&report, &[]);
    assert!(text.contains("<title>pods without a known name → local: "), "{text}");
    assert!(!text.contains("other hosts"));
}

/// As many rows as a browser shows at once are elements, whatever is asked for.
#[test]
fn rows_that_are_elements() {
    let mut report = path::report(&read("busy_node").snapshot);
    report.conversations = vec![report.conversations[0].clone(); 4000];
    for (view, expected) in [
        (View::default(), 300),
        (View { top: Some(7), ..View::default() }, 7),
        (View { top: Some(4000), ..View::default() }, 3000),
        (View { all: true, ..View::default() }, 3000),
    ] {
        let mut text = Vec::new();
        write(&report, &[], &mut text, &view).unwrap();
        let text = String::from_utf8(text).unwrap();
        let (_, rows) = text.split_once("id=\"conversations\"").unwrap();
        let (rows, rest) = rows.split_once("<script").unwrap();
        assert_eq!(rows.matches("<th scope=\"row\">").count(), expected);
        assert!(rows.contains(&format!("{expected} of 4000 rows")));
        let (rest, _) = rest.split_once('>').unwrap().1.split_once("</script>").unwrap();
        let rest: Vec<serde_json::Value> = serde_json::from_str(rest).unwrap();
        assert_eq!(expected + rest.len(), 4000);
    }
}

fn headline(page: &str) -> &str {
    page.split_once("<h1>").unwrap().1.split_once("</h1>").unwrap().0
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
    assert_eq!(text.matches("<th scope=\"row\">&lt;/script&gt;").count(), 300);
}
