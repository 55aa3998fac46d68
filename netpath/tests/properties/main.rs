//! What must hold for any snapshot, whatever it contains.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod counting;
mod snapshots;

use std::collections::{HashMap, HashSet};

use netpath::model::{DeviceClass, Direction};
use netpath::path::report;
use netpath::render::block::Screen;
use netpath::render::report::View;
use netpath::render::{json, table};
use netpath::report::{CauseKind, PathClass, Report, TermKind};
use netpath::snapshot::{Connection, Counts, Observation, PodRecord};
use proptest::option;
use proptest::prelude::*;

use snapshots::snapshot;

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Nothing is lost and nothing is counted twice: what ENIs' hooks saw is what crossed an ENI, once or twice; what no ENI
    /// and no tunnel saw is what pods sent, or else received.
    #[test]
    fn bytes_are_counted_once(mut snapshot in snapshot(1 << 40)) {
        // A VLAN device shows again what is below it.
        let vlans: HashSet<u32> = snapshot.devices.iter().filter(|one| one.facts.class == DeviceClass::Vlan).map(|one| one.facts.ifindex).collect();
        snapshot.devices.retain(|one| !vlans.contains(&one.facts.ifindex));
        // Of two devices with one index, nobody knows which saw the packets.
        let mut indexes = HashSet::new();
        snapshot.devices.retain(|one| indexes.insert(one.facts.ifindex));
        let report = report(&snapshot);
        let class: HashMap<u32, DeviceClass> = snapshot.devices.iter().map(|one| (one.facts.ifindex, one.facts.class)).collect();
        let is = |ifindex: u32, wanted| class.get(&ifindex) == Some(&wanted);
        let total = |path| report.totals.by_path[&path].bytes;

        // Copies of this node's own packets to many, as if they came in, are no packets of the ENI's.
        let again: u64 = report.flows.iter().flat_map(|flow| &flow.hops)
            .filter(|hop| hop.shown_again && is(hop.ifindex, DeviceClass::Eni)).map(|hop| hop.bytes).sum();
        let at_enis: u64 = snapshot.observations.iter().filter(|one| is(one.ifindex, DeviceClass::Eni)).map(|one| one.counts.bytes).sum();
        let dropped_behind_enis: u64 = report.flows.iter()
            .filter(|flow| flow.path == PathClass::Undelivered && flow.hops.iter().any(|hop| is(hop.ifindex, DeviceClass::Eni)))
            .map(|flow| flow.bytes).sum();
        let crossed = total(PathClass::Eni) + total(PathClass::Transit) + report.totals.eni_again.bytes + dropped_behind_enis;
        prop_assert_eq!(crossed, at_enis - again);

        for flow in &report.flows {
            let sum = |wanted: fn(DeviceClass) -> bool, direction| -> Option<u64> {
                let hops = flow.hops.iter().filter(|hop| hop.direction == direction && class.get(&hop.ifindex).is_some_and(|class| wanted(*class)));
                hops.map(|hop| hop.bytes).reduce(|sum, bytes| sum + bytes)
            };
            let outside = |class| matches!(class, DeviceClass::Eni | DeviceClass::Tunnel);
            if sum(outside, Direction::Rx).or(sum(outside, Direction::Tx)).is_none() {
                let veths = |class| class == DeviceClass::Veth;
                let most = sum(veths, Direction::Rx).max(sum(veths, Direction::Tx)).unwrap_or(flow.hops[0].bytes).max(flow.hops[0].bytes);
                prop_assert!(flow.bytes <= most, "{flow:?}");
                prop_assert_eq!((flow.carried_bytes, flow.local_bytes, flow.again_bytes), (0, 0, 0));
                prop_assert!(flow.path != PathClass::Eni && flow.path != PathClass::Transit);
            } else if sum(|class| class == DeviceClass::Eni, Direction::Rx).is_some() {
                prop_assert!(flow.path != PathClass::Unresolved, "an ENI saw it: {flow:?}");
            }
        }
    }

    /// Packets of a flow are counted once: where it went, or in a tunnel.
    #[test]
    fn packets_are_counted_once(snapshot in snapshot(3)) {
        let report = report(&snapshot);
        let of_flows: u64 = report.flows.iter().map(|flow| flow.packets).sum();
        let by_path: u64 = report.totals.by_path.values().map(|total| total.packets).sum();
        prop_assert_eq!(by_path + report.totals.in_tunnels.packets, of_flows);
    }

    /// What was counted in two parts of one hook is what was counted in one. Of super-packets it may not be: a part shows them
    /// where the whole does not.
    #[test]
    fn parts_of_an_observation_add_up(mut snapshot in snapshot(1 << 40), share in 0..=100u64) {
        let part = |bytes| bytes / 100 * share;
        let mut parts = snapshot.clone();
        parts.observations.clear();
        for whole in &mut snapshot.observations {
            let Counts { packets, bytes, .. } = whole.counts;
            whole.counts.wire_bytes = bytes;
            for (packets, bytes) in [(part(packets), part(bytes)), (packets - part(packets), bytes - part(bytes))] {
                parts.observations.push(Observation { counts: Counts { packets, bytes, wire_bytes: bytes }, ..*whole });
            }
        }
        prop_assert_eq!(report(&parts), report(&snapshot));
    }

    /// A path that is not known, and a drop, have a reason; other paths have none.
    #[test]
    fn reasons(snapshot in snapshot(1 << 40)) {
        for flow in report(&snapshot).flows {
            let open = matches!(flow.path, PathClass::Undelivered | PathClass::Unresolved);
            prop_assert_eq!(flow.reason.is_some(), open, "{:?}", flow);
        }
    }

    /// What a hook saw is in a flow, or in none, and in the sums of its device.
    #[test]
    fn hooks_add_up(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let observed: u64 = snapshot.observations.iter().map(|one| one.counts.bytes).sum();
        let lost: u64 = snapshot.unattributed.iter().map(|one| one.counts.bytes).sum();
        let known: HashSet<u32> = snapshot.devices.iter().map(|device| device.facts.ifindex).collect();
        let elsewhere: u64 = snapshot.observations.iter().filter(|one| !known.contains(&one.ifindex))
            .map(|one| one.counts.bytes)
            .chain(snapshot.unattributed.iter().filter(|one| !known.contains(&one.ifindex)).map(|one| one.counts.bytes))
            .sum();
        let hooks: u64 = report.devices.iter().flat_map(|device| [device.rx, device.tx]).flatten().map(|hook| hook.bytes).sum();
        prop_assert_eq!(hooks + elsewhere, observed + lost);
    }

    /// Each observation is a hop of exactly one flow.
    #[test]
    fn each_observation_is_one_hop(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let count: usize = report.flows.iter().map(|flow| flow.hops.len()).sum();
        prop_assert_eq!(count, snapshot.observations.len());
        let mut actual: Vec<_> = report.flows.iter().flat_map(|flow| &flow.hops)
            .map(|hop| (hop.ifindex, hop.direction, hop.src, hop.dst, hop.bytes, hop.packets)).collect();
        let mut expected: Vec<_> = snapshot.observations.iter()
            .map(|one| (one.ifindex, one.direction, one.tuple.src, one.tuple.dst, one.counts.bytes, one.counts.packets))
            .collect();
        actual.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(actual, expected);
        for (flow, id) in report.flows.iter().zip(1..) {
            prop_assert_eq!(flow.id, id);
        }
    }

    /// No name stands against a record: neither one about the veth, nor one about the address for all of the window.
    #[test]
    fn no_name_against_a_record(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let own: Vec<&str> = snapshot.devices.iter().flat_map(|device| &device.facts.addresses).map(String::as_str).collect();
        for flow in &report.flows {
            let (first, last) = (&flow.hops[0], &flow.hops[flow.hops.len() - 1]);
            for (pod, address, hop, direction) in
                [(&flow.src_pod, flow.src, first, Direction::Rx), (&flow.dst_pod, last.dst, last, Direction::Tx)]
            {
                let Some(pod) = pod else { continue };
                let others = || snapshot.names.pods.iter().filter(|record| format!("default/{}", record.name) != **pod);
                let known = snapshot.names.pods.iter().any(|record| format!("default/{}", record.name) == **pod);
                prop_assert!(known, "nobody has heard of {pod}");
                let class = report.devices.iter().find(|device| device.facts.ifindex == hop.ifindex).map(|device| device.facts.class);
                if hop.direction == direction && class == Some(DeviceClass::Veth)
                    && flow.hops.iter().all(|other| other.direction != direction || other.ifindex == hop.ifindex)
                {
                    prop_assert!(!others().any(|record| record.veths.contains(&hop.ifindex)), "{pod} {flow:?}");
                }
                // Where conntrack knows the flow, its ends may be others than the hops'. Which of several pods with one address
                // it was, the veth tells.
                let with_address = snapshot.names.pods.iter().filter(|record| record.addresses.contains(&address));
                let disputed = with_address.map(|record| &record.name).collect::<HashSet<_>>().len() > 1;
                let is_own = own.iter().any(|text| text.starts_with(&format!("{address}/")));
                if flow.from_initiator.is_none() && !disputed && !is_own && !address.is_loopback() && !address.is_unspecified() {
                    let throughout = |record: &PodRecord| record.at_start && record.at_end && record.addresses.contains(&address);
                    prop_assert!(!others().any(throughout), "{pod} {flow:?}");
                }
            }
        }
    }

    /// The parts make up the whole, exactly, whenever the whole is known.
    #[test]
    fn terms_add_up(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let counted = |name: &str| !["lo", "veth"].iter().any(|prefix| name.starts_with(prefix));
        let whole: Option<u64> = report.devices.iter()
            .filter(|device| counted(&device.facts.name))
            .map(|device| match (device.facts.kernel, device.facts.vanished, device.rx, device.tx) {
                (Some(kernel), ..) => Some(kernel.rx_bytes + kernel.tx_bytes),
                // It took its counters along.
                (None, true, Some(rx), Some(tx)) => Some(rx.bytes + tx.bytes),
                _ => None,
            })
            .sum();
        let any = snapshot.devices.iter().any(|device| counted(&device.facts.name));
        let total = report.accounting.container_insights.node_network_total_bytes;
        prop_assert_eq!(total, whole.filter(|_| any));
        if let Some(total) = total {
            let sum: i64 = report.accounting.terms.iter().map(|term| term.bytes).sum();
            prop_assert_eq!(sum, i64::try_from(total).unwrap());
        }
    }

    /// What the flows say of the terms that they are in is what the terms say.
    #[test]
    fn flows_make_up_their_terms(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let mut sums: HashMap<TermKind, i64> = HashMap::new();
        for term in report.flows.iter().flat_map(|flow| &flow.terms) {
            prop_assert!(term.bytes > 0);
            *sums.entry(term.name).or_default() += i64::try_from(term.bytes).unwrap();
        }
        for term in &report.accounting.terms {
            let of_flows = sums.remove(&term.name).unwrap_or(0);
            let not_of_flows = matches!(term.name, TermKind::Unattributed | TermKind::Cause(_) | TermKind::Residual);
            prop_assert_eq!(of_flows, if not_of_flows { 0 } else { term.bytes }, "{}", term.name);
        }
        prop_assert!(sums.is_empty(), "{:?}", sums);
    }

    /// A difference is what its causes explain and what they do not; sampling explains no more than was measured; and what
    /// the devices cannot explain is what the accounting cannot.
    #[test]
    fn residuals_add_up(snapshot in snapshot(1 << 40)) {
        let report = report(&snapshot);
        let mut unexplained = 0;
        for device in &report.devices {
            prop_assert_eq!(device.residual.is_some(), device.facts.kernel.is_some());
            let (Some(residual), Some(kernel)) = (&device.residual, device.facts.kernel) else { continue };
            let slack = device.facts.kernel_slack.unwrap_or_default();
            for (one, counted, hook, below, above) in [
                (&residual.rx, kernel.rx_bytes, device.rx, slack.below.rx_bytes, slack.above.rx_bytes),
                (&residual.tx, kernel.tx_bytes, device.tx, slack.below.tx_bytes, slack.above.tx_bytes),
            ] {
                let signed = |bytes: u64| i64::try_from(bytes).unwrap();
                prop_assert_eq!(one.bytes, signed(counted) - signed(hook.map_or(0, |hook| hook.bytes)));
                let explained: i64 = one.causes.iter().filter_map(|cause| cause.bytes).sum();
                prop_assert_eq!(one.bytes, explained + one.unexplained_bytes);
                for cause in one.causes.iter().filter(|cause| [CauseKind::Sampling, CauseKind::AttachWindow].contains(&cause.name)) {
                    prop_assert!((-signed(above)..=signed(below)).contains(&cause.bytes.unwrap()), "{:?}", one);
                }
                if device.counted_by_container_insights {
                    unexplained += one.unexplained_bytes;
                }
            }
        }
        // Of two devices with one index only the first has what the hooks saw.
        let indexes: HashSet<u32> = snapshot.devices.iter().map(|device| device.facts.ifindex).collect();
        let residual = report.accounting.terms.iter().find(|term| term.name == TermKind::Residual);
        if let (Some(residual), true) = (residual, indexes.len() == snapshot.devices.len()) {
            prop_assert_eq!(residual.bytes, unexplained);
        }
    }

    /// The order in which the kernel handed out facts says nothing.
    #[test]
    fn order_does_not_matter(snapshot in snapshot(1 << 40), seed in any::<u64>()) {
        let mut devices = HashMap::new();
        for device in &snapshot.devices {
            devices.insert(device.facts.ifindex, device.clone());
        }
        // One device for an index, since the kernel has no more at one time.
        let mut one = snapshot.clone();
        one.devices = devices.into_values().collect();
        // After a connection was forgotten the responder's packets begin one again.
        let again = snapshot.connections.iter().map(|known| Connection { original: known.reply, reply: known.original, ..*known });
        one.connections.extend(again);
        let mut other = one.clone();
        other.devices.sort_by_key(|device| u64::from(device.facts.ifindex).wrapping_mul(seed | 1));
        other.observations.rotate_left(usize::try_from(seed % 7).unwrap().min(one.observations.len()));
        other.observations.reverse();
        other.connections.reverse();
        other.unattributed.reverse();
        prop_assert_eq!(report(&one), report(&other));
    }

    /// A file may hold anything: counters at their limits, circular VLANs, two devices with one index, hostile names.
    #[test]
    fn nothing_panics(snapshot in snapshot(u64::MAX), width in option::of(0..200usize), top in 0..5usize) {
        let report = report(&snapshot);
        let mut text = Vec::new();
        let view = View { top: Some(top), all: top == 0, ..View::default() };
        table::write(&report, &mut text, &view, &Screen { width, colour: true, ..Screen::default() }).unwrap();
        let text = String::from_utf8(text).unwrap();
        // The only escapes are netpath's own.
        let own = ["[1m", "[0m", "[38;5;166m", "[38;5;32m", "[38;5;97m", "[38;5;161m", "[38;5;130m", "[38;5;28m", "[38;5;30m"];
        let stripped = own.iter().fold(text, |text, sequence| text.replace(&format!("\u{1b}{sequence}"), ""));
        prop_assert!(!stripped.contains('\u{1b}'), "{}", stripped);

        let mut text = Vec::new();
        json::write(&report, &mut text).unwrap();
        let read: Report = serde_json::from_slice(&text).unwrap();
        prop_assert_eq!(read, report);
    }
}
