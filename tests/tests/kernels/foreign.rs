//! Others on the same hooks and devices: programs, filters and qdiscs. netpath leaves them alone, and is not misled by them.

use super::*;

/// Legacy filters that are not netpath's.
pub fn others(node: &Namespace) -> Vec<TcFilter> {
    tc_filters(node).unwrap().into_iter().filter(|filter| !filter.name.starts_with("netpath_")).collect()
}

/// Another program's filter.
pub struct Foreign<'a> {
    pub lab: &'a Lab,
    pub device: String,
    pub hook: TcAttachType,
    pub priority: u16,
    pub handle: TcHandle,
}

/// Puts a program on a hook as the network policy agent does: priority 1, handle 1.
pub fn agent<'a>(lab: &'a Lab, device: &str, hook: TcAttachType, answer: Answer) -> Foreign<'a> {
    let foreign = Foreign { lab, device: device.to_owned(), hook, priority: 1, handle: TcHandle::new(0, 1) };
    foreign.attach(answer, "agent");
    foreign
}

impl Foreign<'_> {
    pub fn attach(&self, answer: Answer, name: &str) {
        let node = &self.lab.node.namespace;
        // It may be there already.
        let _ = node.run(|| qdisc_add_clsact(&self.device)).unwrap();
        let options = NlOptions { priority: self.priority, handle: self.handle, classid: None };
        let mut program = answer.load(name).unwrap();
        lab::attach(&mut program, node, &self.device, self.hook, TcAttachOptions::Netlink(options)).unwrap();
    }

    /// Removes the filter by its handle.
    pub fn leave(self) {
        let detach =
            || SchedClassifierLink::attached(&self.device, self.hook, self.priority, self.handle, None)?.detach();
        self.lab.node.namespace.run(detach).unwrap().unwrap();
    }
}

#[test]
fn runs_before_an_agents_filter_and_lets_it_decide() {
    each_way(|way| {
        // The last one: send it out of the node's ENI, whose number the lab's kernel chooses.
        for (answer, arrives) in
            [(Some(Answer::Pass), true), (Some(Answer::Next), true), (Some(Answer::Drop), false), (None, false)]
        {
            let lab = lab();
            let node = &lab.node.namespace;
            let answer = answer.unwrap_or_else(|| Answer::Redirect { ifindex: node.ifindex("eth0").unwrap() });
            let sent_elsewhere = || device_counters(node).unwrap()["eth0"].tx_packets;
            lab.wait_until_quiet().unwrap();
            let elsewhere = sent_elsewhere();
            let veth = &lab.pod("client").veth;
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                agent(&lab, veth, hook, answer);
            }
            let before = others(node);
            assert_eq!(before.len(), 2);
            assert_eq!(passes(&lab), arrives, "{answer:?}, before netpath");
            reconciled(&lab, way, &[], || {
                assert_eq!(passes(&lab), arrives, "{answer:?}, with netpath");
                assert_eq!(others(node), before, "with netpath");
                Ok(())
            });
            assert_eq!(passes(&lab), arrives, "{answer:?}, after netpath");
            assert_eq!(others(node), before, "after netpath");
            assert_eq!(attached(node), 0);
            let redirected = if matches!(answer, Answer::Redirect { .. }) { 3 } else { 0 };
            assert_eq!(sent_elsewhere() - elsewhere, redirected, "{answer:?}");
        }
    });
}

#[test]
fn an_agent_that_comes_later_is_left_alone() {
    each_way(|way| {
        let lab = lab();
        let veth = &lab.pod("client").veth;
        let window = open_window(&lab, way, 6);
        assert!(passes(&lab));
        let first = agent(&lab, veth, TcAttachType::Ingress, Answer::Drop);
        let listed = others(&lab.node.namespace);
        assert_eq!((listed.len(), passes(&lab)), (1, false));
        // As the agent does it when it restarts: its own by handle 1.
        first.leave();
        assert!(passes(&lab));
        assert_eq!(attached(&lab.node.namespace), 6, "netpath's filters are not taken for the agent's");
        agent(&lab, veth, TcAttachType::Ingress, Answer::Drop);
        assert!(!passes(&lab));
        let report = window.report().unwrap();
        // Of filters with one priority, the one that came last runs first.
        let device = report.device(veth);
        let blind = device.blind();
        assert_eq!(blind.starts_with("before netpath on its ingress hook"), way.name == "clsact", "{device}");
        assert!(
            blind.is_empty() || blind.contains("284 bytes that the device counted did not reach netpath"),
            "{blind}"
        );
        assert_eq!((others(&lab.node.namespace), passes(&lab)), (listed, false), "after netpath");
        assert_eq!(attached(&lab.node.namespace), 0);
    });
}

/// Somebody deletes a clsact qdisc, or a hook's filters, with netpath's in them. TCX has nothing to do with either.
#[test]
fn filters_that_others_delete_are_missed_and_not_looked_for() {
    each_way(|way| {
        let lab = lab();
        let (node, client, server) = (&lab.node.namespace, &lab.pod("client").veth, &lab.pod("server").veth);
        let tc = |arguments: &str| lab::tc(node, arguments).unwrap();
        if way.name == "tcx" {
            tc(&format!("qdisc add dev {client} clsact"));
            tc(&format!("qdisc add dev {server} clsact"));
        }
        let mut read = Vec::new();
        let measured = lab.measure(way.arguments, || {
            read.push(device_counters(node)?);
            assert!(passes(&lab));
            lab.wait_until_quiet()?;
            read.push(device_counters(node)?);
            tc(&format!("qdisc del dev {client} clsact"));
            tc(&format!("filter del dev {server} ingress"));
            agent(&lab, client, TcAttachType::Ingress, Answer::Pass);
            for _ in 0..3 {
                assert!(passes(&lab), "packets are not concerned");
            }
            lab.wait_until_quiet()?;
            read.push(device_counters(node)?);
            Ok(())
        });
        let Measured { report, messages, .. } = measured.unwrap();
        assert!(messages.is_empty(), "netpath has nothing to complain of: {messages}");
        let [opened, deleted, closed] = &read[..] else { panic!("three readings") };
        let lost = |hook: &str, there: &str| {
            format!(
                "its {hook} hook lost netpath's program in the window: another program removed it; now there: {there}"
            )
        };
        // Until when netpath is on each hook, and what the report says of that.
        let expected = if way.name == "tcx" {
            [(client, closed, closed, vec![]), (server, closed, closed, vec![])]
        } else {
            let both = vec![lost("ingress", "program "), lost("egress", "nobody")];
            [(client, deleted, deleted, both), (server, deleted, closed, vec![lost("ingress", "nobody")])]
        };
        for (name, until_rx, until_tx, blind) in expected {
            let device = report.device(name);
            let (rx, tx) = (until_rx[name].since(opened[name]), until_tx[name].since(opened[name]));
            let seen = |hook: &str| (device.hook(hook).packets, device.hook(hook).bytes);
            assert_eq!(
                (seen("rx"), seen("tx")),
                ((rx.rx_packets, rx.rx_bytes), (tx.tx_packets, tx.tx_bytes)),
                "{name}"
            );
            assert!(closed[name].since(opened[name]).rx_packets >= 4, "four pings or answers");
            let said = device.blind();
            assert!(
                blind.iter().all(|part| said.contains(part)) && blind.is_empty() == said.is_empty(),
                "{name}: {said}"
            );
        }
        assert_eq!(report.health.blind_devices, if way.name == "tcx" { 0 } else { 2 });
        assert_eq!(report.sum_of_terms(), report.node_network_total_bytes().cast_signed());
        assert_eq!((attached(node), others(node).len(), passes(&lab)), (0, 1, true), "only what is the agent's stays");
    });
}

/// Somebody's ingress qdisc is where a clsact qdisc would have to be.
#[test]
fn where_there_is_no_room_for_filters_it_is_blind_and_says_so() {
    each_way(|way| {
        let lab = lab();
        let (node, veth) = (&lab.node.namespace, &lab.pod("client").veth);
        let tc = |arguments: &str| lab::tc(node, &arguments.replace("DEV", veth)).unwrap();
        tc("qdisc add dev DEV ingress");
        let before = tc("qdisc show dev DEV");
        let mut doctor = lab.netpath(&["doctor", "--eni", "eth*", "--format", "json"]).unwrap();
        let doctor = doctor.output().unwrap();
        let report = lab.measure(way.arguments, || {
            assert!(passes(&lab));
            Ok(())
        });
        let report = report.unwrap().report;
        assert_eq!(tc("qdisc show dev DEV"), before);

        let diagnosis: Diagnosis = read(&doctor.stdout).unwrap();
        let (judged, device) = (diagnosis.device(veth), report.device(veth));
        let is_blind = way.name == "clsact";
        assert_eq!((device.attach == "none", device.blind.is_some()), (is_blind, is_blind), "{device}");
        // Which does as this kernel has it.
        assert_eq!(
            (judged.level == "fail", doctor.status.code()),
            (!has_tcx(), Some(i32::from(!has_tcx()))),
            "{judged}"
        );
        if is_blind {
            assert!(device.blind().contains("ingress qdisc is in the place of clsact"), "{device}");
            assert_eq!((device.rx, report.health.blind_devices), (None, 1));
        }
    });
}

/// For a new clsact qdisc the kernel throws away what waits in the device's queue.
#[test]
fn what_waits_in_a_queue_arrives_all_the_same() {
    const PACKETS: u32 = 100;
    each_way(|way| {
        let lab = lab();
        let server = lab.pod("server");
        let sink = UdpSink::start(&server.namespace, SocketAddr::new(server.ipv4.into(), 0)).unwrap();
        let tc = |arguments: &str| lab::tc(&lab.node.namespace, &arguments.replace("DEV", &server.veth)).unwrap();
        // 100 packets and more than half a minute, which no netpath waits.
        tc("qdisc add dev DEV root tbf rate 30kbit burst 3000 limit 1000000");
        send_datagrams(&lab.pod("client").namespace, sink.address(), 1_000, PACKETS).unwrap();
        let arguments =
            [&["report", "--duration", "100ms", "--format", "json", "--eni", "eth*"], way.arguments].concat();
        let output = lab.netpath(&arguments).unwrap().output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Report = read(&output.stdout).unwrap();
        let device = report.device(&server.veth);
        if way.name == "clsact" {
            assert!(device.blind().contains("packets wait in its queue"), "{device}");
        } else {
            assert_eq!(device.blind, None);
        }
        tc("qdisc change dev DEV root tbf rate 100mbit burst 30000 limit 1000000");
        wait_until("the queue is empty", || lab::root_qdisc(&lab.node.namespace, &server.veth).unwrap().qlen == 0);
        lab.wait_until_quiet().unwrap();
        assert_eq!(sink.stop().unwrap().count, u64::from(PACKETS));
    });
}

#[test]
fn a_priority_of_another_kind_is_left_alone() {
    each_way(|way| {
        let lab = lab();
        let veth = &lab.pod("client").veth;
        let tc = |arguments: &str| lab::tc(&lab.node.namespace, &arguments.replace("DEV", veth)).unwrap();
        tc("qdisc add dev DEV clsact");
        tc("filter add dev DEV ingress protocol ip prio 1 u32 match ip dst 192.0.2.1/32 flowid 1:1");
        let listed = || {
            let list = tc("filter show dev DEV ingress");
            list.lines().filter(|line| line.contains("u32") && line.contains("flowid")).map(str::to_owned).collect()
        };
        let before: Vec<String> = listed();
        reconciled(&lab, way, &[], || {
            assert!(passes(&lab));
            Ok(())
        });
        assert_eq!(listed(), before);
        assert_eq!(attached(&lab.node.namespace), 0);
    });
}
