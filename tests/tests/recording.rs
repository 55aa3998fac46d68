//! `netpath record` and `netpath replay`: what is replayed is what passed, also of a recording that a kill cut off.
//!
//! The witnesses are /proc/net/dev and those who sent.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::traffic::{Serve, TcpServer, UdpSink, download, send_datagrams};
use lab::{Counters, Lab, Report, counters, netpath_binary, read, wait_until};

/// Without the rights of root: a replay needs none.
fn replay(arguments: &[&str]) -> (Vec<u8>, String, bool) {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--clear-groups", "--inh-caps=-all"]).arg(netpath_binary().unwrap());
    let output = command.arg("replay").args(arguments).stdin(Stdio::null()).output().unwrap();
    (output.stdout, String::from_utf8(output.stderr).unwrap(), output.status.success())
}

#[test]
fn a_replay_has_what_the_kernel_counted() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    lab.snat().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let outside = TcpServer::start(&lab.outside.namespace, (lab.outside.ipv4, 0).into(), Serve::Send(500_000)).unwrap();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = folder.path().join("node.rec");
    let name = path.to_str().unwrap();
    lab.wait_until_quiet().unwrap();
    let devices = ["eth0", &client.veth, &server.veth];
    let before = devices.map(|device| counters(node, device).unwrap());
    let recording = lab.open_recording(&[name, "--interval", "200ms"]).unwrap();
    let mut sent = Vec::new();
    for _ in 0..5 {
        sent.push(send_datagrams(&client.namespace, sink.address(), 100, 40).unwrap());
        download(&client.namespace, outside.address()).unwrap();
        std::thread::sleep(Duration::from_millis(150));
    }
    lab.wait_until_quiet().unwrap();
    let (_, messages, _) = recording.finish().unwrap();
    assert!(messages.contains(&format!("windows in {name}")), "{messages}");
    std::os::unix::fs::chown(&path, Some(65_534), None).unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();

    let (json, messages, success) = replay(&[name, "--format", "json"]);
    assert!(success && messages.is_empty(), "{messages}");
    let report: Report = read(&json).unwrap();
    for (device, before) in devices.into_iter().zip(before) {
        let kernel = counters(node, device).unwrap().since(before);
        assert_eq!(report.device(device).kernel(), kernel, "{device}");
        let hooks: Counters = report.device(device).hooks();
        assert_eq!((hooks.rx_packets, hooks.tx_packets), (kernel.rx_packets, kernel.tx_packets), "{device}");
    }
    for socket in &sent {
        let flow = report.flow_from(*socket);
        assert_eq!((flow.path.as_str(), flow.packets), ("local", 40), "{flow}");
    }
    let tcp: u64 = report.flows_of("tcp").filter(|flow| flow.path == "eni").map(|flow| flow.bytes).sum();
    assert!(tcp > 5 * 500_000, "{tcp}");

    // Each window by itself, and filters as a report has them.
    let (lines, ..) = replay(&[name, "--each", "--format", "json"]);
    let windows: Vec<Report> =
        lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| read(line).unwrap()).collect();
    let packets: u64 = windows.iter().flat_map(|one| one.flows_of("udp")).map(|flow| flow.packets).sum();
    assert!(windows.len() > 1 && packets == 200, "{} windows, {packets} packets", windows.len());
    let (text, ..) = replay(&[name, "--proto", "udp", "--group-by", "path"]);
    assert!(String::from_utf8(text).unwrap().contains("local"));
    let (_, why, success) = replay(&[name, "--from", "1h"]);
    assert!(!success && why.contains("has no window in that time"), "{why}");
}

#[test]
fn a_killed_recording_replays_up_to_its_last_whole_window() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.rec");
    let name = path.to_str().unwrap();
    let recording = lab.open_recording(&[name, "--interval", "100ms"]).unwrap();
    wait_until("there are windows", || std::fs::metadata(&path).is_ok_and(|file| file.len() > 5_000));
    recording.kill().unwrap();
    // As if it had been killed while it wrote.
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[0x1f, 0x8b, 8, 0, 0]).unwrap();
    let output = Command::new(netpath_binary().unwrap()).args(["replay", name, "--format", "json"]).output().unwrap();
    let messages = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && messages.contains("is cut off or damaged: it is read up to 20"), "{messages}");
    let report: Report = read(&output.stdout).unwrap();
    assert!(report.window.duration_ns > 100_000_000);
}

/// A recording before, and a report after: each by what was sent meanwhile, whatever the length of the two.
#[test]
fn a_diff_has_what_was_sent_before_and_after() {
    const FRAME_BYTES: u64 = 14 + 20 + 8 + 100;
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let near = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let away = UdpSink::start(&lab.outside.namespace, (lab.outside.ipv4, 0).into()).unwrap();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let [before, after] = ["before.rec", "after.json"].map(|name| folder.path().join(name).display().to_string());
    let send = |sink: &UdpSink, datagrams| {
        send_datagrams(&client.namespace, sink.address(), 100, datagrams).unwrap();
        lab.wait_until_quiet().unwrap();
    };
    send(&near, 1);
    let recording = lab.open_recording(&[&before, "--interval", "200ms"]).unwrap();
    send(&near, 40);
    recording.finish().unwrap();
    let window = lab.open_window(&["--output", &after]).unwrap();
    send(&near, 90);
    send(&away, 7);
    window.finish().unwrap();

    let diff = |arguments: &[&str]| {
        let output = Command::new(netpath_binary().unwrap()).arg("diff").args(arguments).output().unwrap();
        let complaints = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), complaints.as_str()), (Some(0), ""));
        output.stdout
    };
    let filter = ["--proto", "udp", "--ip", &format!("{}/32", client.ipv4)];
    let json = diff(&[&[&*before, &after, "-f", "json"], &filter[..]].concat());
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let paths = &json["comparisons"][0];
    assert_eq!(paths["by"], "path");
    let change = |name: &str| {
        let changes = paths["changes"].as_array().unwrap();
        let change = changes.iter().find(|change| change["name"] == name).unwrap();
        (change["kind"].as_str().unwrap(), ["before", "after"].map(|side| change[side]["bytes"].as_u64()))
    };
    let (kind, bytes) = change("local");
    assert_eq!(bytes, [Some(40 * FRAME_BYTES), Some(90 * FRAME_BYTES)], "{kind}");
    assert_eq!(change("eni"), ("new", [None, Some(7 * FRAME_BYTES)]));

    let text = String::from_utf8(diff(&[&[&*before, &after], &filter[..]].concat())).unwrap();
    assert!(
        text.contains("2 PATHS") && text.lines().any(|line| line.contains("eni") && line.ends_with("new")),
        "{text}"
    );
    let csv = String::from_utf8(diff(&[&[&*before, &after, "-f", "csv"], &filter[..]].concat())).unwrap();
    assert!(csv.starts_with("by,name,kind,") && csv.contains("path,eni,new,,,"), "{csv}");
}
