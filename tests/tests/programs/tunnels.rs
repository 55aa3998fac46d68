//! Super-packets in tunnels: each frame has the outer headers, the tunnel's, and the inner ones, whatever the tunnel. The
//! lengths are etherparse's.

use etherparse::{IpNumber, PacketBuilder};
use lab::Lab;
use netpath::kernel::flow_counts::FlowCounts;
use netpath::snapshot::Counts;
use netpath_ebpf::map;

use super::frames::Beside;
use super::{LOOPBACK, Loaded, answer, loaded};

#[test]
fn super_packets_in_tunnels() {
    const SEGMENTS: u32 = 3;
    let lab = Lab::builder().pod("client").start().unwrap();
    let run = || {
        for name in [map::RX, map::TX] {
            let Loaded { program, mut drain, .. } = loaded(name);
            for (tunnel, frame, headers) in tunnels() {
                let mut flow_counts = FlowCounts::default();
                drain.drain(&mut flow_counts).unwrap();
                let beside = Beside { vlan_tci: None, gso_segs: SEGMENTS, gso_size: 400 };
                // The second is counted in the slot of the first, which is another way through the program.
                for _ in 0..2 {
                    assert_eq!(answer(&program, LOOPBACK, &frame, beside), Some(-1));
                }
                let mut flow_counts = FlowCounts::default();
                drain.drain(&mut flow_counts).unwrap();
                let counts: Vec<_> = flow_counts.observations().map(|flow| flow.counts).collect();
                let bytes = 2 * frame.len() as u64;
                let wire_bytes = bytes + 2 * u64::from(SEGMENTS - 1) * headers;
                assert_eq!(counts, [Counts { packets: 2, bytes, wire_bytes }], "{tunnel} {name}");
            }
        }
    };
    lab.node.namespace.run(run).unwrap();
}

/// Super-packets with 1,200 bytes in them: what each is, its bytes, and how long its headers are.
pub fn tunnels() -> Vec<(String, Vec<u8>, u64)> {
    let payload = [7; 1_200];
    let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let options = [etherparse::TcpOptionElement::Timestamp(1, 2)];
    let mut all = Vec::new();
    for inner_is_v6 in [false, true] {
        let (frame, packet_ethertype) = if inner_is_v6 {
            (ethernet().ipv6([0xfd; 16], [0xfe; 16], 9).tcp(1, 2, 3, 4).options(&options).unwrap(), [0x86, 0xdd])
        } else {
            (ethernet().ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9).tcp(1, 2, 3, 4).options(&options).unwrap(), [0x08, 0x00])
        };
        let mut bytes = Vec::new();
        frame.write(&mut bytes, &payload).unwrap();
        let in_ip = if inner_is_v6 { 41 } else { 4 };
        let [e0, e1] = packet_ethertype;
        let [whole, packet] = [&bytes[..], &bytes[14..]];
        let behind = |header: &[u8], inside: &[u8]| [header, inside].concat();
        // Protocol, port, the tunnel's header and what is in it.
        let kinds = [
            ("vxlan", 17, 4789, behind(&[8, 0, 0, 0, 0, 0, 7, 0], whole)),
            ("geneve", 17, 6081, behind(&[2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 3, 1, 5, 5, 5, 5], whole)),
            ("geneve of packets", 17, 6081, behind(&[0, 0, e0, e1, 0, 0, 7, 0], packet)),
            ("gretap", 47, 0, behind(&[0, 0, 0x65, 0x58], whole)),
            ("gretap with key", 47, 0, behind(&[0x20, 0, 0x65, 0x58, 0, 0, 0, 7], whole)),
            ("gre", 47, 0, behind(&[0, 0, e0, e1], packet)),
            ("gre with all", 47, 0, behind(&[0xb0, 0, e0, e1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 1], packet)),
            ("ip in ip", in_ip, 0, packet.to_vec()),
            // No tunnel at all: only the outer headers are repeated.
            ("none", 17, 53, payload.to_vec()),
        ];
        for (name, protocol, port, carried) in kinds {
            for outer_is_v6 in [false, true] {
                let ip =
                    if outer_is_v6 { ethernet().ipv6([1; 16], [2; 16], 9) } else { ethernet().ipv4([1; 4], [2; 4], 9) };
                let mut outer = Vec::new();
                if protocol == 17 {
                    ip.udp(50_000, port).write(&mut outer, &carried).unwrap();
                } else {
                    ip.write(&mut outer, IpNumber(protocol), &carried).unwrap();
                }
                let headers = (outer.len() - payload.len()) as u64;
                all.push((format!("{name}, inner IPv6 {inner_is_v6}, outer IPv6 {outer_is_v6}"), outer, headers));
            }
        }
    }
    all
}
