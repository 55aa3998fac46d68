//! Frames to run programs over: one valid one of each kind, and what becomes of it by chance.
//!
//! In: a seed. Out: bytes, and what the kernel tells of a packet besides. The same on every run.

use etherparse::{Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, PacketBuilder, PacketBuilderStep, VlanId};

use super::tunnels::tunnels;

type Ethernet = PacketBuilderStep<Ethernet2Header>;

/// What is not in a packet's bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// Tag control information of a VLAN tag beside the frame.
    pub vlan_tci: Option<u16>,
    pub gso_segs: u32,
    pub gso_size: u32,
}

fn ethernet() -> Ethernet {
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
}

fn written(write: &dyn Fn(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame);
    frame
}

/// One valid frame of each kind.
pub fn one_of_each() -> Vec<Vec<u8>> {
    // The same addresses at the end of IPv6's, so that the frames of both families are as different as they can be.
    let (v4, v6) = (([10, 0, 0, 21], [10, 0, 0, 22]), ([0xfd; 16], [0xfe; 16]));
    let vlan = |id: u16| VlanId::try_new(id).unwrap();
    let mut frames: Vec<Vec<u8>> = Vec::new();
    let mut add = |write: &dyn Fn(&mut Vec<u8>)| frames.push(written(write));
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
    // A first and two later fragments of one datagram, and a later one of another.
    for (offset, more, id) in [(0, true, 9), (6, true, 9), (12, false, 9), (6, false, 10)] {
        let mut header = Ipv4Header::new(48, 64, IpNumber::UDP, v4.0, v4.1).unwrap();
        header.identification = id;
        header.more_fragments = more;
        header.fragment_offset = IpFragOffset::try_new(offset).unwrap();
        header.header_checksum = header.calc_header_checksum();
        add(&|out| {
            Ethernet2Header { ether_type: etherparse::EtherType::IPV4, ..Default::default() }.write(out).unwrap();
            header.write(out).unwrap();
            out.extend([0x03, 0xe8, 0, 53, 0, 48, 0, 0]);
            out.extend(payload);
        });
    }
    // ARP.
    add(&|out| out.extend([[0xff; 6].as_slice(), &[2; 6], &[8, 6], &[0; 28]].concat()));
    // ICMP errors about packets of both families, whole and cut; and one that quotes too little.
    let mut errors = Vec::new();
    let quoted: Vec<Vec<u8>> = frames.iter().map(|frame| frame[14..].to_vec()).collect();
    for (quote, len, kind) in [(0, 28, 3), (1, 68, 11), (2, 40, 3), (9, 60, 12), (10, 28, 5), (0, 12, 3)] {
        let message = [&[kind, 3, 0, 0, 0, 0, 0, 0], &quoted[quote][..len]].concat();
        errors.push(written(&|out| {
            let tagged = ethernet().single_vlan(vlan(7));
            tagged.ipv4(v4.1, v4.0, 64).write(out, IpNumber::ICMP, &message).unwrap();
        }));
    }
    for (quote, len, kind) in [(3, 48, 1), (4, 88, 3), (5, 60, 2)] {
        let message = [&[kind, 3, 0, 0, 0, 0, 0, 0], &quoted[quote][..len]].concat();
        errors.push(written(&|out| ethernet().ipv6(v6.1, v6.0, 64).write(out, IpNumber::IPV6_ICMP, &message).unwrap()));
    }
    frames.extend(errors);
    frames.extend(tunnels().into_iter().map(|(_, frame, _)| frame));
    frames
}

/// xorshift64 (Marsaglia, 2003): the same frames on every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }

    /// A seed as it is, damaged in up to three bytes, or cut; or any bytes.
    pub fn frame(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
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

    /// A packet of its own, with a tag, of several frames that it says the number of or not; or with a number of frames
    /// alone, as no packet of the kernel's has: see `Way`.
    pub fn beside(&mut self) -> Beside {
        let vlan_tci = (self.below(4) == 0).then(|| u16::try_from(self.below(1 << 16)).unwrap());
        let (gso_segs, gso_size) = [(0, 0), (0, 0), (1, 0), (3, 0), (3, 10), (0, 10), (0, 1448)][self.below(7)];
        Beside { vlan_tci, gso_segs, gso_size }
    }
}
