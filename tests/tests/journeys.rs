//! What an SRE asks, and the one command that answers it, on a node with names, SNAT, a service and a policy.

use std::fs;
use std::net::SocketAddr;

use lab::Lab;
use lab::traffic::{Serve, TcpServer, download};
use tempfile::TempDir;

const BYTES: u64 = 400_000;

/// A stored report of a download from outside by SNAT, one between pods, and one that a policy drops.
struct Journey {
    folder: TempDir,
}

impl Journey {
    fn new() -> Self {
        let lab = Lab::builder().pod("client").pod("server").pod("guarded").start().unwrap();
        let files = lab.host_files().unwrap();
        lab.snat().unwrap();
        lab.deny("guarded").unwrap();
        let listen = |pod: &str| SocketAddr::new(lab.pod(pod).ipv4.into(), 8080);
        let outside = SocketAddr::new(lab.outside.ipv4.into(), 8080);
        let _outside = TcpServer::start(&lab.outside.namespace, outside, Serve::Send(BYTES)).unwrap();
        let _server = TcpServer::start(&lab.pod("server").namespace, listen("server"), Serve::Send(BYTES)).unwrap();
        let client = &lab.pod("client").namespace;
        let root = files.path().display().to_string();
        let measured = lab.measure(&["--host-root", &root], || {
            for target in [outside, listen("server")] {
                assert_eq!(download(client, target)?.received_bytes, BYTES);
            }
            let knock = format!("echo knock > /dev/udp/{}/9", listen("server").ip());
            let guarded = &lab.pod("guarded").namespace;
            assert!(guarded.command("bash")?.args(["-c", &knock]).status()?.success());
            Ok(())
        });
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("report.json"), measured.unwrap().json).unwrap();
        Self { folder }
    }

    /// What `netpath report --from report.json` prints with these options besides.
    fn report(&self, options: &[&str]) -> String {
        let mut netpath = std::process::Command::new(lab::netpath_binary().unwrap());
        netpath.args(["report", "--from", "report.json"]).args(options);
        let output = netpath.env("COLUMNS", "80").current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{options:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

#[track_caller]
fn has(text: &str, parts: &[&str]) {
    // A sentence may take two lines.
    let unwrapped = text.replace('\n', " ");
    for part in parts {
        assert!(text.contains(part) || unwrapped.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn each_question_has_one_command() {
    let journey = Journey::new();

    // Why do CloudWatch and EC2 differ?
    let why = journey.report(&[]);
    has(&why, &["times EC2's", "stayed between pods of this node, counted twice", "= node_network_total_bytes"]);
    assert!(why.lines().all(|line| line.chars().count() <= 80), "{why}");

    // Which pods reach the internet, and by NAT?
    let internet = journey.report(&["--path", "internet", "--nat", "snat", "--group-by", "pod"]);
    has(&internet, &["1 POD ", "default/client"]);
    assert!(!internet.contains("default/server"), "{internet}");

    // Do these two talk through an ENI?
    let between = journey.report(&["--between", "default/server", "default/client"]);
    has(&between, &["1 CONVERSATION ", "→ default/server:8080", "  local  "]);

    // Is traffic dropped, and by what?
    let dropped = journey.report(&["--path", "undelivered"]);
    has(
        &dropped,
        &["1 CONVERSATION ", "default/guarded", "/udp", "dropped: NETFILTER_DROP at nf", "next: nft list ruleset"],
    );

    // The same window in other views.
    has(&journey.report(&["--group-by", "peer"]), &["PEERS", "internet", "pods here"]);
    has(&journey.report(&["--format", "markdown"]), &["| WHERE THE BYTES WENT | BYTES | SHARE |"]);
    has(&journey.report(&["--flows", "--wide"]), &["FLOWS", "default/client:"]);
    has(&journey.report(&["--pod", "default/nobody"]), &["no flow matches the filters; there were:", "default/client"]);
}
