//! Reports limited to some flows, and flows added up, with sums written by hand.

use netpath::cli::{Cli, Command};
use netpath::path::{group, select};
use netpath::report::{GroupBy, PathClass, PeerKind, Report};
use netpath::{path, render};
use render::block::Screen;
use render::report::View;

use clap::Parser as _;

use super::read;

/// The published case as `netpath report` with these options would show it.
fn report(options: &str) -> Report {
    report_of("published_iperf", options)
}

fn report_of(scenario: &str, options: &str) -> Report {
    let mut report = path::report(&read(scenario).snapshot);
    let words = ["netpath", "report"].into_iter().chain(options.split_whitespace());
    let Command::Report(args) = Cli::try_parse_from(words).unwrap().command else { panic!("{options}") };
    select::select(&mut report, &args.show.filter.filter());
    if let Some(by) = args.show.group_by {
        group::group(&mut report, by);
    }
    report
}

/// Bytes of the flows that are left.
fn bytes(options: &str) -> Vec<u64> {
    report(options).flows.iter().map(|flow| flow.bytes).collect()
}

#[test]
fn each_option_chooses_its_flows() {
    let (there, back, eni_in, eni_out) = (40_400_000_000, 19_800_000, 155_698, 95_259);
    for (options, expected) in [
        ("", vec![there, back, eni_in, eni_out]),
        ("--pod default/a", vec![there, back]),
        ("--pod def*/? --port 5201", vec![there, back]),
        ("--pod default/c", vec![]),
        ("--namespace default", vec![there, back]),
        ("--namespace defaul", vec![]),
        ("--namespace def*", vec![there, back]),
        ("--ip 10.0.1.1", vec![eni_in, eni_out]),
        ("--ip 10.0.0.16/28", vec![there, back]),
        ("--ip 10.0.0.16/28 --ip 10.0.1.1", vec![there, back, eni_in, eni_out]),
        ("--ip fd00::/8", vec![]),
        ("--port 443 --port 33000", vec![eni_in, eni_out]),
        ("--port 443 --port 5201 --path local", vec![there, back]),
        ("--proto TCP --path eni", vec![eni_in, eni_out]),
        ("--port https", vec![eni_in, eni_out]),
        ("--proto 6 --path eni", vec![eni_in, eni_out]),
        ("--proto udp", vec![]),
        ("--between default/a default/b", vec![there, back]),
        ("--between default/b default/*", vec![there, back]),
        ("--between 10.0.0.21 10.0.0.16/28", vec![there, back]),
        ("--between default/a 10.0.1.1", vec![]),
        ("--between default/a 10.0.1.1 --between default/a default/b", vec![there, back]),
        ("--nat none --path local", vec![there, back]),
        ("--nat any", vec![]),
        ("--device eth0", vec![eni_in, eni_out]),
        ("--device eni* --port 46480", vec![there, back]),
        ("--device eni", vec![]),
    ] {
        assert_eq!(bytes(options), expected, "{options}");
    }
}

/// NAT, services, and who is at the other end of an ENI.
#[test]
fn what_else_flows_can_be_told_by() {
    let count = |scenario: &str, options: &str| report_of(scenario, options).flows.len();
    let all = count("pod_to_internet", "");
    for (options, expected) in [
        ("--nat snat", all),
        ("--nat any --path internet", all),
        ("--nat dnat", 0),
        ("--nat both", 0),
        ("--nat none", 0),
        ("--path vpc", 0),
        ("--path vpc --path internet", all),
    ] {
        assert_eq!(count("pod_to_internet", options), expected, "{options}");
    }
    for (options, expected) in [
        ("--service default/web", 2),
        ("--service default/web:http", 2),
        ("--service default/web:dns", 0),
        ("--service */kube-dns", 1),
        ("--between default/web 0.0.0.0/0", 2),
    ] {
        assert_eq!(count("names", options), expected, "{options}");
    }
}

/// A filter that matches nothing says what there is, per option.
#[test]
fn what_there_is_instead() {
    let there = |options: &str| report(options).selection.unwrap().there;
    assert_eq!(there("--pod default/a"), Vec::<String>::new(), "flows are left");
    assert_eq!(there("--pod default/c"), ["pods: default/a, default/b"]);
    assert_eq!(
        there("--pod default/c --pod default/d --proto udp"),
        ["pods: default/a, default/b", "protocols: tcp"],
        "each kind once"
    );
    assert_eq!(
        there("--pod default/a --path eni"),
        ["2 flows with --pod default/a alone", "2 flows with --path eni alone"]
    );
    assert_eq!(there("--namespace x"), ["namespaces: default"]);
    assert_eq!(there("--device eth9"), ["devices: eniaa, enibb, eth0"]);
    assert_eq!(there("--service a/b"), ["services: none is known"]);
    assert_eq!(there("--port 1"), ["ports of servers: 5201, 443"]);
    assert_eq!(there("--nat any"), ["NAT: none"]);
    assert_eq!(there("--path transit"), ["paths: local, eni, vpc"]);
    assert!(there("--ip 192.0.2.1")[0].starts_with("addresses: 10.0.0."));
    // Of two: which is not there, and who is.
    let others = "others: 10.0.0.5 (this node), 10.0.1.1 (vpc)";
    assert_eq!(
        there("--between default/a default/x"),
        ["2 flows of default/a and none of default/x", "pods: default/a, default/b", others]
    );
    assert_eq!(
        there("--between default/a 10.0.1.1"),
        ["2 flows of default/a, 2 of 10.0.1.1, and none between the two"]
    );
    let services = |options: &str| report_of("names", options).selection.unwrap().there;
    let there = services("--between default/x default/y");
    assert_eq!(there[0], "no flows of default/x and none of default/y");
    assert!(there.contains(&"services: default/web:http, kube-system/kube-dns:dns".to_owned()), "{there:?}");
    // Without the VPC's blocks nothing is known to be in it.
    let mut report = report_of("pod_to_internet", "");
    report.node.vpc_cidr_blocks.clear();
    select::select(&mut report, &select::Filter::new([vec![select::Condition::Path(select::Way::To(PeerKind::Vpc))]]));
    assert_eq!(
        report.selection.unwrap().there,
        ["paths: eni, internet (what is in the VPC is not known: the instance metadata service gave no CIDR blocks)"]
    );
}

/// Conversations are those of the flows that are left, and a report that was limited already stays known as that.
#[test]
fn a_report_limited_twice() {
    let mut report = report("--path local");
    assert_eq!(report.conversations.len(), 1);
    let all = report.conversations.clone();
    report.conversations.clear();
    select::select(&mut report, &select::Filter::default());
    assert_eq!(report.conversations, all, "an earlier netpath did not write them");
    let condition = select::Condition::port("5201").unwrap();
    select::select(&mut report, &select::Filter::new([vec![condition]]));
    let selection = report.selection.clone().unwrap();
    assert_eq!(selection.filters, ["--path local", "--port 5201"]);
    assert_eq!(selection.filtered_before, ["--path local"]);
    let table = table(&report);
    let note = "The file has only flows with --path local; of these, flows with --port 5201 only: ";
    assert!(table.contains(note) && table.matches("--path local").count() == 1, "{table}");

    // What it left out cannot be found, and the same filter again changes nothing.
    let mut none = report.clone();
    select::select(&mut none, &select::Filter::new([vec![select::Condition::port("443").unwrap()]]));
    let table = self::table(&none);
    let words = "there were: ports of servers: 5201. The file has only flows with --path local --port 5201; for others, measure again";
    assert!(table.contains(words) && table.matches("--path local").count() == 1, "{table}");
    select::select(&mut report, &select::Filter::new([vec![select::Condition::port("5201").unwrap()]]));
    assert_eq!(report.selection.clone().unwrap().filters, ["--path local", "--port 5201"]);
    assert!(self::table(&report).contains("The file has only flows with --path local --port 5201: "));
}

fn table(report: &Report) -> String {
    let mut table = Vec::new();
    render::table::write(report, &mut table, &View::default(), &Screen::default()).unwrap();
    String::from_utf8(table).unwrap()
}

/// The sums of the flows that match are beside the node's, which stay.
#[test]
fn the_node_stays_whole() {
    let (all, some) = (report(""), report("--path eni --port 443"));
    assert_eq!((&some.totals, &some.accounting, &some.devices), (&all.totals, &all.accounting, &all.devices));
    assert_eq!(all.selection, None);
    let selection = some.selection.unwrap();
    assert_eq!(selection.filters, ["--port 443", "--path eni"]);
    assert_eq!(selection.totals.by_path[&PathClass::Eni].bytes, 155_698 + 95_259);
    assert_eq!(selection.totals.by_path[&PathClass::Local].bytes, 0);
}

/// Of a group: name, bytes, sent, received.
type Row = (Option<String>, u64, Option<u64>, Option<u64>);

fn groups(options: &str) -> Vec<Row> {
    rows(report(options))
}

fn rows(report: Report) -> Vec<Row> {
    let groups = report.grouping.unwrap().groups;
    groups.into_iter().map(|group| (group.name, group.bytes, group.sent_bytes, group.received_bytes)).collect()
}

#[test]
fn groups_have_the_sums_of_their_flows() {
    let name = |name: &str| Some(name.to_owned());
    let (there, back, eni) = (40_400_000_000, 19_800_000, 250_957);
    assert_eq!(
        groups("--group-by pod"),
        [
            (name("default/a"), there + back, Some(there), Some(back)),
            (name("default/b"), there + back, Some(back), Some(there)),
            (None, eni, None, None),
        ]
    );
    assert_eq!(
        groups("--group-by namespace"),
        [(name("default"), there + back, Some(there + back), Some(there + back)), (None, eni, None, None)]
    );
    assert_eq!(groups("--group-by path"), [(name("local"), there + back, None, None), (name("eni"), eni, None, None)]);
    assert_eq!(
        groups("--group-by device --ip 10.0.0.21"),
        [
            (name("eniaa"), there + back, Some(back), Some(there)),
            (name("enibb"), there + back, Some(there), Some(back)),
        ]
    );
    assert_eq!(
        rows(report_of("names", "--group-by service")),
        [
            (name("default/web:http"), 10_000, Some(9_000), Some(1_000)),
            (name("kube-system/kube-dns:dns"), 100, Some(0), Some(100)),
        ]
    );
    assert_eq!(rows(report_of("pod_to_pod", "--group-by service"))[0].0, None);
    let by = report("--group-by device --proto udp").grouping.unwrap();
    assert_eq!((by.by, by.groups.len()), (GroupBy::Device, 0));
}

#[test]
fn tables() {
    for (name, options) in [
        ("selection", "--ip 10.0.1.1 --path eni"),
        ("selection_empty", "--proto udp"),
        ("by_pod", "--group-by pod"),
        ("by_device", "--group-by device --pod default/a"),
        ("by_peer", "--group-by peer"),
        ("between_nothing", "--between default/a default/x"),
    ] {
        insta::assert_snapshot!(name, table(&report(options)));
    }
    let mut markdown = Vec::new();
    render::markdown::write(&report(""), &mut markdown, &View { devices: true, ..View::default() }, &Screen::default())
        .unwrap();
    insta::assert_snapshot!("markdown_devices", String::from_utf8(markdown).unwrap());
}
