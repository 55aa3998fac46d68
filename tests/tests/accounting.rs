//! The terms add up to what /proc/net/dev says, and every difference between it and netpath's hooks has a cause.
//!
//! The witness is /proc/net/dev, read by the test. Where the lab is not quiet at the window's ends, the witnesses are
//! readings before netpath started and after it ended, and what the report says must lie within them.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use lab::traffic::{Serve, TcpServer, UdpSink, download, ping, send_datagrams, upload};
use lab::{Lab, Load, Measured, Report, device_counters, ip, iperf3, output_within, read, set_offload};

/// cAdvisor's rule for the devices that the lab has.
fn counted(name: &str) -> bool {
    !name.starts_with("lo") && !name.starts_with("veth")
}

/// `node_network_total_bytes` so far, by the test's own reading.
fn node_network_total_bytes(lab: &Lab) -> u64 {
    let devices = device_counters(&lab.node.namespace).unwrap();
    devices.iter().filter(|(name, _)| counted(name)).map(|(_, own)| own.rx_bytes + own.tx_bytes).sum()
}

/// The same as the report has it.
fn total(report: &Report) -> i64 {
    report.node_network_total_bytes().cast_signed()
}

/// Every difference has a cause, which explains no more than was measured, and all of them are in the terms.
fn assert_explained(report: &Report) {
    assert_eq!(report.sum_of_terms(), total(report));
    assert_eq!(report.term("residual"), 0, "unexplained: {:#?}", report.devices);
    for device in &report.devices {
        for direction in ["rx", "tx"] {
            if device.residual.is_none() {
                continue;
            }
            let residual = device.residual(direction);
            assert_eq!(residual.unexplained_bytes, 0, "{}: {residual:#}", device.name);
            for cause in residual.causes.iter().filter(|cause| cause.name == "sampling") {
                let slack = device.kernel_slack();
                let [below, above] = [slack.below, slack.above].map(|side| side.bytes(direction).cast_signed());
                assert!((-above..=below).contains(&cause.bytes.unwrap()), "{}: {residual:#}", device.name);
            }
        }
    }
}

/// Runs netpath for a time, whatever the lab does meanwhile.
fn report_for(lab: &Lab, duration: &str) -> Report {
    let mut command = lab.netpath(&["report", "--format", "json", "--eni", "eth*", "--duration", duration]).unwrap();
    let output = output_within(&mut command, Duration::from_secs(30)).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    read(&output.stdout).unwrap()
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
        assert_eq!(report.sum_of_terms(), own);
        assert_explained(&report);
        assert_eq!(report.term("sampling"), 0, "nothing passed while the window was opened or closed");
        assert!(report.term("eni") > 2_000_000 && report.term("eni") == report.term("eni_copy_on_veth"), "{report:#}");
        assert!(report.term("local") > 2 * 3_400_000 && report.term("host") > 0);
        let slack = report.device(&client.veth).kernel_slack();
        assert_eq!((slack.below.rx_bytes, slack.above.rx_bytes), (0, 0));

        // Each pod's own device says what the pod received and sent.
        for pod in [client, server] {
            let logged = &report.accounting.container_insights.pods;
            let logged = logged.iter().find(|one| one.device == pod.veth).unwrap();
            let kernel = report.device(&pod.veth).kernel();
            assert_eq!(logged.pod_network_rx_bytes.bytes, kernel.tx_bytes);
            assert_eq!(logged.pod_network_tx_bytes.bytes, kernel.rx_bytes);
        }
    }
}

/// The window is opened and closed in the middle of a load: what the counters cannot be blamed for is 0.
#[test]
fn under_load_at_both_ends_the_rest_is_sampling() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let (mut windows, mut loads) = (0, 0);
    // On a busy machine few windows fit into one load.
    while windows < 3 && loads < 5 {
        loads += 1;
        thread::scope(|scope| {
            let target = SocketAddr::new(server.ipv4.into(), 5201);
            let load = scope.spawn(move || {
                iperf3(&server.namespace, 5201, &client.namespace, target, Load::TcpSeconds(6)).unwrap()
            });
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
                let skew = report.window.skew_ns.unwrap();
                assert!(skew.start > 0 && skew.end > 0, "{skew}");
                let slack = report.device(&client.veth).kernel_slack();
                eprintln!("skew {skew} ns, slack {slack}, sampling {} of {}", report.term("sampling"), total(&report));
                if slack.below.rx_bytes > 0 && slack.above.rx_bytes > 0 {
                    windows += 1;
                }
            }
            load.join().unwrap();
        });
    }
    assert!(windows >= 3, "the load ran at both ends of only {windows} windows");
}

/// A pod comes and another one goes while the window is open, both with traffic. The one that goes takes its receive counter
/// along; the test read it just before.
#[test]
fn devices_that_come_and_go() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server, node) = (lab.pod("client"), lab.pod("server"), &lab.node.namespace);
    let sink = UdpSink::start(&client.namespace, SocketAddr::new(client.ipv4.into(), 0)).unwrap();
    lab.wait_until_quiet().unwrap();
    let before = device_counters(node).unwrap();
    let mut last = None;
    let Measured { report, .. } = lab
        .measure(&[], || {
            // A new device. Its far end is in a pod that is there already, so that the lab cleans up after it.
            ip(node, &format!("link add eninew type veth peer name eth9 netns {}", client.namespace.name()))?;
            ip(node, "addr add 10.0.77.1/24 dev eninew")?;
            ip(node, "link set eninew up")?;
            ip(&client.namespace, "addr add 10.0.77.2/24 dev eth9")?;
            ip(&client.namespace, "link set eth9 up")?;
            // Time to notice it: netpath is told by the kernel.
            thread::sleep(Duration::from_millis(300));
            ping(node, "10.0.77.2".parse()?, 9, 20, 1_000)?;

            send_datagrams(&server.namespace, sink.address(), 5_000, 100)?;
            lab.wait_until_quiet()?;
            last = Some(device_counters(node)?[&server.veth].since(before[&server.veth]));
            ip(node, &format!("link delete {}", server.veth))?;
            Ok(())
        })
        .unwrap();
    let after = device_counters(node).unwrap();
    let (last, now) = (last.unwrap(), after["eninew"]);

    let new = report.device("eninew");
    assert_eq!((new.appeared, new.vanished), (true, false));
    assert_eq!(new.kernel().rx_bytes, now.rx_bytes, "since it was made");
    assert_eq!(new.kernel().tx_bytes, now.tx_bytes);
    assert!(now.tx_bytes > 20 * 1_042, "{now:?}");

    let gone = report.device(&server.veth);
    assert_eq!((gone.vanished, gone.kernel), (true, None));
    assert!(last.rx_bytes > 500_000, "{last:?}");
    assert_eq!(gone.hooks(), last, "netpath's count stands in for counters that are gone");
    let insights = &report.accounting.container_insights;
    assert_eq!(insights.vanished_devices_bytes, last.rx_bytes + last.tx_bytes);

    let there: u64 = ["eth0", &client.veth]
        .into_iter()
        .map(|name| after[name].since(before[name]))
        .chain([last, now])
        .map(|own| own.rx_bytes + own.tx_bytes)
        .sum();
    assert_eq!(total(&report), i64::try_from(there).unwrap(), "node_network_total_bytes against /proc/net/dev");
    assert_explained(&report);
}

/// The pod's own link is smaller than the node takes it for: the node's end sends frames that its other end refuses.
#[test]
fn what_a_veth_drops_after_the_hook() {
    const FRAME_BYTES: i64 = 14 + 20 + 8 + 3_000;
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    ip(&server.namespace, "link set eth0 mtu 1500").unwrap();
    let target = SocketAddr::new(server.ipv4.into(), 9);
    lab.wait_until_quiet().unwrap();
    let before = node_network_total_bytes(&lab);
    let Measured { report, .. } =
        lab.measure(&[], || send_datagrams(&client.namespace, target, 3_000, 10).map(drop)).unwrap();
    let own = i64::try_from(node_network_total_bytes(&lab) - before).unwrap();
    assert_eq!(total(&report), own);
    // Counted on the client's veth, and refused by the server's.
    assert_eq!(own, 10 * FRAME_BYTES);
    let residual = report.device(&server.veth).residual("tx");
    assert_eq!((residual.bytes, residual.packets), (-10 * FRAME_BYTES, -10), "{residual:#}");
    assert_eq!(residual.causes[0].name, "dropped_after_hook");
    assert_eq!(report.term("dropped_after_hook"), -10 * FRAME_BYTES);
    assert_explained(&report);
}

/// What a device counts of merged frames depends on the device; each difference has its own name.
#[test]
fn headers_of_merged_frames() {
    for (card, names) in [(true, vec!["gro_gso_headers"]), (false, vec!["gro_gso_headers", "ethernet_headers"])] {
        let builder = if card { Lab::builder().card() } else { Lab::builder() };
        let lab = builder.pod("client").start().unwrap();
        if !card {
            // The sender cuts, and this end merges.
            set_offload(&lab.vpc, "node-eth0", "tso", false).unwrap();
            set_offload(&lab.node.namespace, "eth0", "gro", true).unwrap();
        }
        let pod = &lab.pod("client").namespace;
        let listen = SocketAddr::new(lab.outside.ipv4.into(), 0);
        let tcp = TcpServer::start(&lab.outside.namespace, listen, Serve::Send(4_000_000)).unwrap();
        lab.wait_until_quiet().unwrap();
        let before = node_network_total_bytes(&lab);
        let Measured { report, .. } = lab.measure(&[], || download(pod, tcp.address()).map(drop)).unwrap();
        assert_eq!(total(&report), i64::try_from(node_network_total_bytes(&lab) - before).unwrap());
        assert_explained(&report);
        let eth0 = report.device("eth0");
        assert!(eth0.rx().packets < eth0.kernel().rx_packets, "they were merged: {eth0:#}");
        let causes = &eth0.residual("rx").causes;
        assert_eq!(causes.iter().map(|cause| cause.name.as_str()).collect::<Vec<_>>(), names);
        let wire = eth0.rx().wire_bytes - eth0.rx().bytes;
        assert_eq!(causes[0].bytes, Some(wire.cast_signed()));
    }
}

#[test]
fn explain_measures_a_window_of_its_own() {
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.wait_until_quiet().unwrap();
    let explain = |arguments: &[&str]| {
        let mut command = lab.netpath(&["explain", "--eni", "eth*", "--duration", "300ms"]).unwrap();
        let output = output_within(command.args(arguments), Duration::from_secs(30)).unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, text, error) = explain(&["--device", "eth0"]);
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(text.starts_with("eth0 is an ENI. The kernel counted 0 B received and 0 B sent."), "{text}");
    assert!(text.ends_with("netpath saw the same, to the byte.\n"), "{text}");
    let (code, text, error) = explain(&["10.0.0.21"]);
    assert!(code == Some(1) && text.is_empty() && error.contains("this window has no flow"), "{error}");
}
