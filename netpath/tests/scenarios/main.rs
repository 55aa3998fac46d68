//! Runs every file of `scenarios/`: a hand-written snapshot, and what the report must say of it.
//!
//! Each file's expectations are asserted exactly, then the table is compared with its reviewed snapshot. The format is
//! described in `scenarios/README.md`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod documented;
mod live;
mod notation;
mod page;
mod selection;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use netpath::report::{PathClass, Report};
use netpath::{path, render};
use notation::{Scenario, flow_line, path_name, residual_lines};
use render::block::Screen;
use render::explain::{self, Selection};
use render::report::View;
use render::units::{Scale, Units};

#[test]
fn every_scenario() {
    let folder = folder();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "toml"));
    files.sort();
    assert!(files.len() >= 30, "only {} scenarios in {}", files.len(), folder.display());

    let (mut failures, mut reports) = (Vec::new(), Vec::new());
    for file in &files {
        let name = file.file_stem().unwrap().to_str().unwrap();
        let scenario = read(name);
        let report = path::report(&scenario.snapshot);
        failures.extend(check(&scenario, &report).into_iter().map(|failure| format!("{name}: {failure}")));

        reports.push((name.to_owned(), scenario, report));
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));

    // Only now the output: a difference there ends the test.
    for (name, scenario, report) in reports {
        let text = table(&report, &View { all: true, ..View::default() }, &Screen::default());
        insta::with_settings!({ description => scenario.what.as_str(), omit_expression => true }, {
            insta::assert_snapshot!(name, text);
        });
    }
}

/// A packet of which not even the hook is known may be the missing hop.
#[test]
fn lost_packets_prove_no_drop() {
    let mut snapshot = read("dropped_by_policy").snapshot;
    let undelivered = |report: &Report| report.totals.by_path[&PathClass::Undelivered].flows;
    assert_eq!(undelivered(&path::report(&snapshot)), 2);
    snapshot.lost.packets = 1;
    assert_eq!(undelivered(&path::report(&snapshot)), 0);
}

/// The schema as other programs read it.
#[test]
fn json() {
    let report = path::report(&read("pod_to_internet").snapshot);
    let mut text = Vec::new();
    render::json::write(&report, &mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    insta::assert_snapshot!("json", text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

/// A table fits 120 columns. On a narrower terminal only the notes wrap: no address, number or name is broken.
/// What a terminal of each size shows: no line is longer, and the smallest holds the answer.
#[test]
fn screens() {
    let report = path::report(&read("busy_node").snapshot);
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let screen = Screen { width: Some(width), height: Some(height), ..Screen::default() };
        let text = table(&report, &View::default(), &screen);
        let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(longest <= width, "{longest} columns of {width}\n{text}");
        assert!(text.lines().count() < height, "{} lines of {height}\n{text}", text.lines().count());
        insta::assert_snapshot!(format!("screen_{width}"), text);
    }
    let ascii = table(&report, &View::default(), &Screen { unicode: false, width: Some(80), ..Screen::default() });
    assert!(ascii.is_ascii(), "{ascii}");
    let mut markdown = Vec::new();
    let in_ascii = Screen { unicode: false, ..Screen::default() };
    render::markdown::write(&report, &mut markdown, &View { all: true, ..View::default() }, &in_ascii).unwrap();
    assert!(markdown.is_ascii());
    markdown.clear();
    render::markdown::write(&report, &mut markdown, &View { top: Some(3), ..View::default() }, &Screen::default())
        .unwrap();
    insta::assert_snapshot!("markdown", String::from_utf8(markdown).unwrap());
    insta::assert_snapshot!(
        "flows",
        table(&report, &View { flows: true, wide: true, ..View::default() }, &Screen::default())
    );
}

/// Every block of every scenario, in ASCII. What is longer than a line is one word, as an address is.
#[test]
fn eighty_columns_are_enough() {
    let screen = Screen { width: Some(80), unicode: false, ..Screen::default() };
    let view = View { devices: true, enis: true, names: true, flows: true, ..View::default() };
    let mut count = 0;
    for file in std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_some_and(|extension| extension == "toml") {
            let text =
                table(&path::report(&read(file.file_stem().unwrap().to_str().unwrap()).snapshot), &view, &screen);
            let too_long = |line: &&str| line.len() > 80 && line.trim().contains(' ');
            assert_eq!(text.lines().filter(too_long).collect::<Vec<_>>(), Vec::<&str>::new(), "{}", file.display());
            assert!(text.is_ascii(), "{text}");
            count += 1;
        }
    }
    assert!(count >= 30);
}

/// With `--top 1` one conversation is left, and colours come only when asked for.
#[test]
fn top_and_colour() {
    let report = path::report(&read("published_iperf").snapshot);
    let view = View { top: Some(1), ..View::default() };
    let text = table(&report, &view, &Screen { colour: true, ..Screen::default() });
    assert!(text.contains("TOP 1 OF 2 CONVERSATIONS\u{1b}[0m"), "{text}");
    assert!(!text.contains("10.0.1.1"), "{text}");
    assert!(!table(&report, &view, &Screen::default()).contains('\u{1b}'));
}

fn table(report: &Report, view: &View, screen: &Screen) -> String {
    let mut text = Vec::new();
    render::table::write(report, &mut text, view, screen).unwrap();
    String::from_utf8(text).unwrap()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn read(name: &str) -> Scenario {
    let text = std::fs::read_to_string(folder().join(name).with_extension("toml")).unwrap();
    Scenario::parse(&text).unwrap_or_else(|error| panic!("scenarios/{name}.toml: {error}"))
}

/// Every difference between what the file expects and what the report says.
fn check(scenario: &Scenario, report: &Report) -> Vec<String> {
    let mut failures = Vec::new();
    let mut compare = |what: &str, expected: String, actual: String| {
        if expected != actual {
            failures.push(format!("{what}:\n  expected {expected}\n  actual   {actual}"));
        }
    };
    let expect = &scenario.expect;

    let mut expected: Vec<String> = expect.flows.iter().map(|line| words(line)).collect();
    let mut actual: Vec<String> = report.flows.iter().map(flow_line).collect();
    expected.sort();
    actual.sort();
    compare("flows", expected.join("\n           "), actual.join("\n           "));

    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for (class, total) in &report.totals.by_path {
        if total.flows > 0 {
            totals.insert(path_name(*class).to_owned(), total.bytes);
        }
    }
    compare("totals by path", format!("{:?}", expect.totals), format!("{totals:?}"));
    compare("in tunnels", expect.in_tunnels.to_string(), report.totals.in_tunnels.bytes.to_string());
    if let Some(packets) = &expect.packets {
        let by_path = report.totals.by_path.iter().map(|(class, total)| (path_name(*class), total.packets));
        let actual: BTreeMap<_, _> = by_path.chain([("in_tunnels", report.totals.in_tunnels.packets)]).collect();
        let actual: BTreeMap<_, _> = actual.iter().filter(|(_, packets)| **packets > 0).collect();
        compare("packets", format!("{packets:?}"), format!("{actual:?}"));
    }
    compare("number of path classes", "6".to_owned(), report.totals.by_path.len().to_string());

    let conversations = report.flows.iter().map(|flow| flow.conversation).max().unwrap_or(0);
    compare("conversations", expect.conversations.to_string(), conversations.to_string());

    let accounting = &report.accounting;
    if let Some(total) = expect.node_network_total_bytes {
        let actual = accounting.container_insights.node_network_total_bytes;
        compare("node_network_total_bytes", format!("{:?}", Some(total)), format!("{actual:?}"));
        // The window of every scenario is ten seconds.
        compare(
            "bytes_per_second",
            format!("{}", total / 10),
            format!("{:.0}", accounting.container_insights.bytes_per_second.unwrap().floor()),
        );
        let sum: i64 = accounting.terms.iter().map(|term| term.bytes).sum();
        compare("sum of the terms", total.to_string(), sum.to_string());
    }
    if let Some([input, output]) = expect.ec2 {
        let actual = (accounting.ec2.network_in_bytes, accounting.ec2.network_out_bytes);
        compare("ec2", format!("{:?}", (Some(input), Some(output))), format!("{actual:?}"));
    }
    if let Some(terms) = &expect.terms {
        let actual: BTreeMap<_, _> = accounting
            .terms
            .iter()
            .filter(|term| term.bytes != 0)
            .map(|term| (term.name.to_string(), term.bytes))
            .collect();
        compare("terms", format!("{terms:?}"), format!("{actual:?}"));
    }
    let residuals: Vec<String> = report.devices.iter().flat_map(residual_lines).collect();
    compare("residuals", expect.residuals.join("\n           "), residuals.join("\n           "));
    compare("ambiguous flows", expect.ambiguous_flows.to_string(), report.health.ambiguous_flows.to_string());
    let unjoined = expect.flows.iter().filter(|line| line.trim_start().starts_with("unresolved")).count();
    compare("unjoined flows", unjoined.to_string(), report.health.unjoined_flows.to_string());
    failures
}

fn words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Sums become rates, and units binary, in the whole table.
#[test]
fn rates_in_binary_units() {
    let report = path::report(&read("counters_with_causes").snapshot);
    let view = View { units: Units::Iec, per_second: true, ..View::default() };
    let text = table(&report, &view, &Screen::default());
    assert!(text.ends_with('\n') && !text.ends_with("\n\n"));
    insta::assert_snapshot!("rates", text);
}

/// What `netpath explain` says of every flow, and of every device, of some scenarios.
#[test]
fn sentences() {
    for name in [
        "pod_to_internet",
        "pod_to_pod",
        "counters_with_causes",
        "queues",
        "programs_on_devices",
        "vxlan_and_bridge",
        "hostile_names",
    ] {
        let report = path::report(&read(name).snapshot);
        let say = |selection: &Selection| explain::text(&report, selection, 20, Scale::sums(Units::Si)).unwrap();
        let mut text = say(&Selection::flows(&[]).unwrap());
        for device in &report.devices {
            text.push_str(&say(&Selection::Device(&device.facts.name)));
        }
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text}");
        insta::assert_snapshot!(format!("explain_{name}"), text);
    }
}

/// What to run next is that to a shell, too, whatever the device is called.
#[test]
fn commands_can_be_pasted() {
    let mut kinds = Vec::new();
    for scenario in ["delivered_here", "dropped_by_policy", "program_behind", "seen_dropped", "filter_dropped_nothing"]
    {
        for (name, is_typed) in [("v;id>q#$(id)'`", true), ("a b", true), ("veth0.1", true), ("v\u{1b}[2J", false)] {
            let mut snapshot = read(scenario).snapshot;
            for device in &mut snapshot.devices {
                device.facts.name = name.to_owned();
            }
            let text = table(&path::report(&snapshot), &View::default(), &Screen::default());
            let words = |command: &str| {
                // Prints the words of whatever is run, each on a line.
                let print = ["ip", "tc", "nft", "bpftool", "cat", "netpath"]
                    .map(|program| format!("{program}() {{ printf '%s\n' {program} \"$@\"; }}\n"));
                let mut shell = std::process::Command::new("/bin/sh");
                shell.env("PATH", "/nowhere").args(["-c", &(print.concat() + command)]);
                String::from_utf8(shell.output().unwrap().stdout).unwrap()
            };
            for line in text.lines().filter_map(|line| line.trim().strip_prefix("next: ")) {
                if !is_typed {
                    assert!(!line.contains("\\u{1b}"), "{line}");
                    assert!(
                        !line.contains("DEVICE") || line.contains("of ip link, whose name cannot be typed"),
                        "{line}"
                    );
                    continue;
                }
                let words = words(line);
                for (before, after) in [("\niif\n", "\n"), ("\ndev\n", "\n"), ("/conf/", "/route_localnet")] {
                    if let Some((_, rest)) = words.split_once(before) {
                        assert_eq!(rest.split_once(after).unwrap().0, name, "{line}");
                        kinds.push(before);
                    }
                }
            }
        }
    }
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(kinds.len(), 3, "{kinds:?}");
}

/// A flow is found by what it has at any of its hops; where there is none, the error says what there is.
#[test]
fn selection() {
    let report = path::report(&read("pod_to_internet").snapshot);
    let count = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let Selection::Flows(filter) = Selection::flows(&words).unwrap() else { unreachable!() };
        report.flows.iter().filter(|flow| filter.matches(flow)).count()
    };
    let flow = &report.flows[0];
    let hop = flow.hops.last().unwrap();
    assert_eq!(count(&[]), report.flows.len());
    assert_eq!(count(&[&flow.id.to_string()]), 1);
    assert_eq!(count(&[&flow.proto, &flow.src.to_string(), &format!(":{}", flow.dport.unwrap())]), report.flows.len());
    let report_of_four = path::report(&read("published_iperf").snapshot);
    let ids = |word: &str| {
        let Selection::Flows(filter) = Selection::flows(&[word.to_owned()]).unwrap() else { unreachable!() };
        report_of_four.flows.iter().filter(|flow| filter.matches(flow)).map(|flow| flow.id).collect::<Vec<_>>()
    };
    assert_eq!(ids("2"), [2]);
    assert_eq!(ids("10.0.1.1:443"), [3, 4]);
    assert!(ids("10.0.1.1:33000").is_empty());
    // As NAT has made it.
    assert_eq!(count(&[&hop.src.to_string()]), report.flows.len());
    assert_eq!(count(&["udp"]), 0);

    let fail =
        |selection: &Selection| explain::text(&report, selection, 20, Scale::sums(Units::Si)).unwrap_err().to_string();
    let error = fail(&Selection::flows(&["udp".to_owned()]).unwrap());
    assert!(error.contains("no flow of this window matches") && error.contains(&flow.src.to_string()), "{error}");
    let error = fail(&Selection::Device("eth7"));
    assert!(error.starts_with("no device 'eth7' in this window; there are: ") && error.contains("eth0"), "{error}");
}

/// The command reads a report as `netpath report --format json` writes it, without root.
#[test]
fn the_command_explains_a_written_report() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report.json");
    let run = |arguments: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_netpath"));
        let output = command.arg("explain").args(arguments).arg("--from").arg(&path).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, _, error) = run(&["1"]);
    assert!(code == Some(1) && error.contains("report.json: no such file"), "{error}");
    std::fs::write(&path, "{}").unwrap();
    let (code, _, error) = run(&["1"]);
    assert!(code == Some(1) && error.contains("write one with netpath report --format json --output FILE"), "{error}");

    let report = path::report(&read("pod_to_pod").snapshot);
    render::json::write(&report, &mut std::fs::File::create(&path).unwrap()).unwrap();
    let (code, text, error) = run(&["10.0.0.22:5201", "--top", "1"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(
        text.starts_with("tcp 10.0.0.21:46480 → 10.0.0.22:5201 moved 40.0 MB between two pods of this node."),
        "{text}"
    );
    assert!(text.ends_with("One more flow matches; it moved 23.1 kB (see --top).\n"), "{text}");
    let mut in_c = std::process::Command::new(env!("CARGO_BIN_EXE_netpath"));
    in_c.args(["explain", "10.0.0.22:5201", "--from"]).arg(&path).env("LC_ALL", "C");
    let text = String::from_utf8(in_c.output().unwrap().stdout).unwrap();
    assert!(text.is_ascii() && text.starts_with("tcp 10.0.0.21:46480 -> 10.0.0.22:5201 moved "), "{text}");
    let (code, text, _) = run(&["--device", "eth0"]);
    assert!(code == Some(0) && text.starts_with("eth0 is an ENI."), "{text}");
    let (code, text, error) = run(&["udp"]);
    assert!(
        code == Some(1) && text.is_empty() && error.starts_with("netpath: no flow of this window matches"),
        "{error}"
    );
    let (code, _, error) = run(&["--device", "eth9"]);
    assert!(code == Some(1) && error.starts_with("netpath: no device 'eth9' in this window; there are: "), "{error}");
}
