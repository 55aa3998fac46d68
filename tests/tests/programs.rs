//! The programs themselves, run by the kernel over any bytes (`BPF_PROG_TEST_RUN`): they answer -1 to every packet, and
//! count it under the key that the parser finds on the host.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

use aya::programs::{ProgramError, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, loaded_programs};
use etherparse::{IpFragOffset, IpNumber, PacketBuilder, VlanId};
use lab::Lab;
use netpath::kernel::attach::Attacher;
use netpath::kernel::drain::{Drain, Tally};
use netpath::kernel::load::load;
use netpath::snapshot::Counts;
use netpath_ebpf::parse::{Fragment, Key, Network, Parsed, Start, Stop, ipv4, ipv6, network};
use netpath_ebpf::{Direction, FragmentKey, FragmentValue, Hook, Reason, map};

/// `BPF_PROG_TEST_RUN` gives packets the loopback device.
const LOOPBACK: u32 = 1;
const FRAMES: u64 = 20_000;

/// What a packet is counted under: addresses, protocol, ports, VLANs; or why it is not.
type Counted = Result<(IpAddr, IpAddr, u8, u16, u16, [u16; 2]), u32>;

#[test]
fn every_answer_is_minus_one_and_every_count_is_the_parsers() {
    let lab = Lab::builder().pod("client").start().unwrap();
    for (name, direction) in [(map::RX, Direction::Rx), (map::TX, Direction::Tx)] {
        let (seen, expected) = lab.node.namespace.run(|| run(name, direction)).unwrap();
        assert_eq!(seen, expected, "{name}");
        assert!(expected.values().sum::<u64>() > FRAMES * 3 / 4, "{name}: the kernel refused more than a few");
        assert!(expected.len() > 100, "{name}: only {} different keys", expected.len());
        let reasons = expected.keys().filter(|counted| counted.is_err()).count();
        assert!(reasons >= 3, "{name}: of the reasons only {reasons} occurred");
    }
}

/// Each frame of a tunnel's super-packet has the outer headers, the tunnel's, and the inner ones: whatever the tunnel. The
/// lengths are etherparse's.
#[test]
fn super_packets_in_tunnels() {
    const SEGMENTS: u32 = 3;
    let lab = Lab::builder().pod("client").start().unwrap();
    let run = || {
        for name in [map::RX, map::TX] {
            let (program, _attacher, mut drain) = loaded(name);
            for (tunnel, frame, headers) in tunnels() {
                let mut tally = Tally::default();
                drain.drain(&mut tally).unwrap();
                let mut options = TestRunOptions::new();
                let context = context(SEGMENTS, 400);
                options.data_in = Some(&frame);
                options.ctx_in = Some(&context);
                // The second is counted in the slot of the first, which is another way through the program.
                options.repeat = 2;
                assert_eq!(program.test_run(options).unwrap().return_value.cast_signed(), -1);
                let mut tally = Tally::default();
                drain.drain(&mut tally).unwrap();
                let counts: Vec<_> = tally.observations().map(|flow| flow.counts).collect();
                let bytes = 2 * frame.len() as u64;
                let wire_bytes = bytes + 2 * u64::from(SEGMENTS - 1) * headers;
                assert_eq!(counts, [Counts { packets: 2, bytes, wire_bytes }], "{tunnel} {name}");
            }
        }
    };
    lab.node.namespace.run(run).unwrap();
}

/// `struct __sk_buff` (linux/bpf.h) of a super-packet: `gso_segs` at 164, `gso_size` at 176, zeros elsewhere.
fn context(segments: u32, size: u32) -> [u8; 192] {
    let mut context = [0; 192];
    context[164..168].copy_from_slice(&segments.to_ne_bytes());
    context[176..180].copy_from_slice(&size.to_ne_bytes());
    context
}

/// Super-packets with 1,200 bytes in them: what each is, its bytes, and how long its headers are.
fn tunnels() -> Vec<(String, Vec<u8>, u64)> {
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

/// Packets by what the program counted them under, and by what the parser says.
fn run(name: &'static str, direction: Direction) -> (BTreeMap<Counted, u64>, BTreeMap<Counted, u64>) {
    let (program, _attacher, mut drain) = loaded(name);
    let mut tally = Tally::default();
    drain.drain(&mut tally).unwrap();

    let hook = Hook::new(LOOPBACK, direction);
    let (mut random, mut fragments, mut expected) = (Random(0x9e37_79b9_7f4a_7c15), HashMap::new(), BTreeMap::new());
    let seeds = seeds();
    for _ in 0..FRAMES {
        let frame = random.frame(&seeds);
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.repeat = 1;
        let answer = match program.test_run(options) {
            Ok(result) => result.return_value.cast_signed(),
            // The kernel runs no program over a frame that claims to be IP and has no room for its header.
            Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::EINVAL) => {
                assert!(frame.len() < 14 + 40, "{frame:02x?}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(answer, -1, "{frame:02x?}");
        *expected.entry(parse(&frame, hook, &mut fragments)).or_default() += 1;
    }
    drain.drain(&mut tally).unwrap();
    assert_eq!(tally.lost.packets, 0);

    let mut seen = BTreeMap::new();
    for flow in tally.observations() {
        let tuple = flow.tuple;
        let key = Ok((tuple.src, tuple.dst, tuple.proto, tuple.sport, tuple.dport, flow.vlans));
        *seen.entry(key).or_default() += flow.counts.packets;
    }
    for rest in tally.unattributed() {
        *seen.entry(Err(number(rest.reason))).or_default() += rest.counts.packets;
    }
    (seen, expected)
}

/// One of the programs, freshly loaded; it ends with the rest.
fn loaded(name: &'static str) -> (SchedClassifier, Attacher, Drain) {
    // Two tests that load at one time could take each other's.
    static LOADING: Mutex<()> = Mutex::new(());
    let _one = LOADING.lock().unwrap_or_else(PoisonError::into_inner);
    let others = own_programs();
    let (attacher, drain) = load(65_536).unwrap();
    let own: BTreeSet<u32> = own_programs().difference(&others).copied().collect();
    let is_it = |info: &ProgramInfo| info.name_as_str() == Some(name) && own.contains(&info.id());
    let program = loaded_programs().flatten().find(is_it).unwrap();
    (SchedClassifier::from_program_info(program, name.into()).unwrap(), attacher, drain)
}

/// Ids of the programs that this process holds: other processes may have some of the same name.
fn own_programs() -> BTreeSet<u32> {
    let id = |file: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(file.ok()?.path()).ok()?;
        text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok())
    };
    std::fs::read_dir("/proc/self/fdinfo").unwrap().filter_map(id).collect()
}

fn number(reason: netpath::snapshot::Reason) -> u32 {
    use netpath::snapshot::Reason as Seen;
    let reason = match reason {
        Seen::NonIp => Reason::NonIp,
        Seen::Unparsed => Reason::Unparsed,
        Seen::OrphanFragment => Reason::OrphanFragment,
        Seen::MapFull => Reason::MapFull,
    };
    reason as u32
}

/// What the parser says on the host. It keeps first fragments as the programs' map does, which is never full here.
fn parse(frame: &[u8], hook: Hook, fragments: &mut HashMap<FragmentKey, FragmentValue>) -> Counted {
    let reason = |stop| match stop {
        Stop::Unattributed(reason) => reason as u32,
        Stop::EndedEarly => panic!("a slice is whole"),
    };
    match network(frame, Start::Ethernet { vlan_tci: None }).map_err(reason)? {
        Network::V4(link) => {
            let key = complete(ipv4(frame, link, hook).map_err(reason)?, fragments)?;
            let address = |be: u32| IpAddr::V4(Ipv4Addr::from(u32::from_be(be)));
            let vlans = [key.tag.outer_vlan(), key.tag.inner_vlan()];
            let ports = (u16::from_be(key.ports.src_be), u16::from_be(key.ports.dst_be));
            Ok((address(key.src_be), address(key.dst_be), key.tag.protocol(), ports.0, ports.1, vlans))
        }
        Network::V6(link) => {
            let key = complete(ipv6(frame, link, hook).map_err(reason)?, fragments)?;
            let address = |be: [u32; 4]| {
                let bytes: Vec<u8> = be.iter().flat_map(|word| word.to_ne_bytes()).collect();
                IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()))
            };
            let vlans = [key.tag.outer_vlan(), key.tag.inner_vlan()];
            let ports = (u16::from_be(key.ports.src_be), u16::from_be(key.ports.dst_be));
            Ok((address(key.src_be), address(key.dst_be), key.tag.protocol(), ports.0, ports.1, vlans))
        }
    }
}

fn complete<K: Key>(mut parsed: Parsed<K>, fragments: &mut HashMap<FragmentKey, FragmentValue>) -> Result<K, u32> {
    let key = parsed.key.fragment_key(parsed.fragment_id_be);
    match parsed.fragment {
        Fragment::Whole => {}
        Fragment::First => drop(fragments.insert(key, parsed.key.fragment_value())),
        Fragment::Later => parsed.key.complete(*fragments.get(&key).ok_or(Reason::OrphanFragment as u32)?),
    }
    Ok(parsed.key)
}

/// One valid frame of each kind.
fn seeds() -> Vec<Vec<u8>> {
    let ethernet = || PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let (v4, v6) = (([10, 0, 0, 21], [10, 0, 0, 22]), ([0xfd; 16], [0xfe; 16]));
    let vlan = |id: u16| VlanId::try_new(id).unwrap();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut frame = Vec::new();
        write(&mut frame);
        seeds.push(frame);
    };
    let payload = [7; 40];
    add(&|out| ethernet().ipv4(v4.0, v4.1, 64).tcp(1000, 80, 1, 2).write(out, &payload).unwrap());
    add(&|out| ethernet().ipv4(v4.0, v4.1, 64).udp(1000, 53).write(out, &payload).unwrap());
    add(&|out| ethernet().ipv4(v4.0, v4.1, 64).icmpv4_echo_request(7, 1).write(out, &payload).unwrap());
    add(&|out| ethernet().ipv6(v6.0, v6.1, 64).tcp(1000, 80, 1, 2).write(out, &payload).unwrap());
    add(&|out| ethernet().ipv6(v6.0, v6.1, 64).udp(1000, 53).write(out, &payload).unwrap());
    add(&|out| ethernet().ipv6(v6.0, v6.1, 64).icmpv6_echo_reply(7, 1).write(out, &payload).unwrap());
    add(&|out| ethernet().single_vlan(vlan(5)).ipv4(v4.0, v4.1, 64).tcp(1, 2, 3, 4).write(out, &payload).unwrap());
    add(&|out| ethernet().single_vlan(vlan(6)).ipv6(v6.0, v6.1, 64).udp(1, 2).write(out, &payload).unwrap());
    add(&|out| ethernet().double_vlan(vlan(5), vlan(6)).ipv4(v4.0, v4.1, 64).udp(1, 2).write(out, &payload).unwrap());
    // A first and a later fragment of one datagram, and a later one of another.
    for (offset, more, id) in [(0, true, 9), (5, false, 9), (5, false, 10)] {
        let mut header = etherparse::Ipv4Header::new(48, 64, IpNumber::UDP, v4.0, v4.1).unwrap();
        header.identification = id;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        header.header_checksum = header.calc_header_checksum();
        add(&|out| {
            etherparse::Ethernet2Header { ether_type: etherparse::EtherType::IPV4, ..Default::default() }
                .write(out)
                .unwrap();
            header.write(out).unwrap();
            out.extend([0x03, 0xe8, 0, 53, 0, 48, 0, 0]);
            out.extend(payload);
        });
    }
    // ARP.
    add(&|out| out.extend([[0xff; 6].as_slice(), &[2; 6], &[8, 6], &[0; 28]].concat()));
    seeds
}

/// xorshift64 (Marsaglia, 2003): the same frames on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// A seed as it is, damaged in up to three bytes, or cut; or any bytes.
    fn frame(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut frame = seeds[self.below(seeds.len())].clone();
        match self.below(8) {
            0 => {}
            1 => frame = (0..14 + self.below(200)).map(|_| self.byte()).collect(),
            // The kernel takes no fewer bytes than an Ethernet header.
            2 => frame.truncate(14 + self.below(frame.len() - 14)),
            damaged => {
                for _ in 0..damaged.min(3) {
                    let at = self.below(frame.len().min(80));
                    frame[at] = self.byte();
                }
            }
        }
        frame
    }
}
