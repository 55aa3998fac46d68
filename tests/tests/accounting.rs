//! The terms add up to what /proc/net/dev says, and every difference between it and netpath's hooks has a cause.
//!
//! The witness is /proc/net/dev, read by the test. Where the lab is not quiet at the window's ends, the witnesses are
//! readings before netpath started and after it ended, and what the report says must lie within them.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::SocketAddr;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lab::traffic::{Serve, TcpServer, UdpSink, download, ping, send_datagrams, upload};
use lab::{Lab, Load, Measured, Namespace, Pod, device_counters, iperf3, output_within};
use serde_json::Value;

/// cAdvisor's rule for the devices that the lab has.
fn counted(name: &str) -> bool {
    !name.starts_with("lo") && !name.starts_with("veth")
}

/// `node_network_total_bytes` so far, by the test's own reading.
fn node_network_total_bytes(lab: &Lab) -> u64 {
    let devices = device_counters(&lab.node.namespace).unwrap();
    devices.iter().filter(|(name, _)| counted(name)).map(|(_, own)| own.rx_bytes + own.tx_bytes).sum()
}

fn integer(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("{value} is no number of bytes"))
}

fn term(report: &Value, name: &str) -> i64 {
    let terms = report["accounting"]["terms"].as_array().unwrap();
    integer(&terms.iter().find(|term| term["name"] == name).unwrap_or_else(|| panic!("no term {name}"))["bytes"])
}

fn sum_of_terms(report: &Value) -> i64 {
    report["accounting"]["terms"].as_array().unwrap().iter().map(|term| integer(&term["bytes"])).sum()
}

fn total(report: &Value) -> i64 {
    integer(&report["accounting"]["container_insights"]["node_network_total_bytes"])
}

fn device<'a>(report: &'a Value, name: &str) -> &'a Value {
    report["devices"].as_array().unwrap().iter().find(|device| device["name"] == name).unwrap()
}

/// Every difference has a cause, which explains no more than was measured, and all of them are in the terms.
fn assert_explained(report: &Value) {
    assert_eq!(sum_of_terms(report), total(report));
    assert_eq!(term(report, "residual"), 0, "unexplained: {:#}", report["devices"]);
    for device in report["devices"].as_array().unwrap() {
        for direction in ["rx", "tx"] {
            let residual = &device["residual"][direction];
            if residual.is_null() {
                continue;
            }
            assert_eq!(residual["unexplained_bytes"], 0, "{}: {residual:#}", device["name"]);
            let slack = |side: &str| integer(&device["kernel_slack"][side][format!("{direction}_bytes")]);
            for cause in residual["causes"].as_array().unwrap().iter().filter(|cause| cause["name"] == "sampling") {
                let bytes = integer(&cause["bytes"]);
                assert!((-slack("above")..=slack("below")).contains(&bytes), "{}: {residual:#}", device["name"]);
            }
        }
    }
}

/// Runs netpath for a time, whatever the lab does meanwhile.
fn report_for(lab: &Lab, duration: &str) -> Value {
    let mut command = lab.netpath(&["report", "--format", "json", "--eni", "eth*", "--duration", duration]).unwrap();
    let output = output_within(&mut command, Duration::from_secs(30)).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_terms_are_the_kernels_count_to_the_byte() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    lab.snat().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    for family in 0..2 {
        let address = |addresses: [std::net::IpAddr; 2]| SocketAddr::new(addresses[family], 0);
        let tcp =
            TcpServer::start(&lab.outside.namespace, address(lab.outside.addresses()), Serve::Send(2_000_000)).unwrap();
        let local = TcpServer::start(&server.namespace, address(server.addresses()), Serve::Receive).unwrap();
        let sink = UdpSink::start(&server.namespace, address(server.addresses())).unwrap();
        lab.wait_until_quiet().unwrap();
        let before = node_network_total_bytes(&lab);
        let Measured { report, .. } = lab
            .measure(&[], || {
                download(&client.namespace, tcp.address())?;
                upload(&client.namespace, local.address(), 3_000_000)?;
                // One frame, and three fragments.
                send_datagrams(&client.namespace, sink.address(), 1_000, 20)?;
                send_datagrams(&client.namespace, sink.address(), 20_000, 20)?;
                ping(&client.namespace, lab.node.addresses()[family], 7, 5, 1_000)?;
                Ok(())
            })
            .unwrap();
        let own = i64::try_from(node_network_total_bytes(&lab) - before).unwrap();

        assert_eq!(total(&report), own, "node_network_total_bytes against /proc/net/dev");
        assert_eq!(sum_of_terms(&report), own);
        assert_explained(&report);
        assert_eq!(term(&report, "sampling"), 0, "nothing passed while the window was opened or closed");
        assert!(
            term(&report, "eni") > 2_000_000 && term(&report, "eni") == term(&report, "eni_copy_on_veth"),
            "{report:#}"
        );
        assert!(term(&report, "local") > 2 * 3_400_000 && term(&report, "host") > 0);
        for side in ["below", "above"] {
            assert_eq!(device(&report, &client.veth)["kernel_slack"][side]["rx_bytes"], 0);
        }

        // Each pod's own device says what the pod received and sent.
        for pod in [client, server] {
            let logged = report["accounting"]["container_insights"]["pods"].as_array().unwrap();
            let logged = logged.iter().find(|one| one["device"] == pod.veth.as_str()).unwrap();
            let kernel = &device(&report, &pod.veth)["kernel"];
            assert_eq!(logged["pod_network_rx_bytes"]["bytes"], kernel["tx_bytes"]);
            assert_eq!(logged["pod_network_tx_bytes"]["bytes"], kernel["rx_bytes"]);
        }
    }
}

/// The window is opened and closed in the middle of a load: what the counters cannot be blamed for is 0.
#[test]
fn under_load_at_both_ends_the_rest_is_sampling() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let mut windows = 0;
    thread::scope(|scope| {
        let target = SocketAddr::new(server.ipv4.into(), 5201);
        let load = scope
            .spawn(move || iperf3(&server.namespace, 5201, &client.namespace, target, Load::TcpSeconds(10)).unwrap());
        thread::sleep(Duration::from_secs(1));
        loop {
            let before = node_network_total_bytes(&lab);
            let report = report_for(&lab, "500ms");
            let most = i64::try_from(node_network_total_bytes(&lab) - before).unwrap();
            if load.is_finished() {
                break;
            }
            assert!(total(&report) > 0 && total(&report) < most, "{} of {most}", total(&report));
            assert_explained(&report);
            let skew = &report["window"]["skew_ns"];
            assert!(integer(&skew["start"]) > 0 && integer(&skew["end"]) > 0, "{skew}");
            let slack = &device(&report, &client.veth)["kernel_slack"];
            eprintln!("skew {skew} ns, slack {slack}, sampling {} of {}", term(&report, "sampling"), total(&report));
            if integer(&slack["below"]["rx_bytes"]) > 0 && integer(&slack["above"]["rx_bytes"]) > 0 {
                windows += 1;
            }
        }
        load.join().unwrap();
    });
    assert!(windows >= 3, "the load ran at both ends of only {windows} windows");
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().unwrap();
    assert!(status.success(), "ip {arguments:?}");
}
