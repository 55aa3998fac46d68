//! What the programs must do with each packet, in the plainest way: the parser over the whole frame, the cache as maps.
//!
//! In: packets in the order in which the kernel runs the programs over them, on one CPU. Out: what is counted under which
//! key, and which of it is in the flow maps rather than in the cache.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netpath_ebpf::parse::{
    EthernetHeader, Fragment, Header as _, Key, Network, Parsed, PlainTag, Start, inner_len, ipv4, ipv6, is_udp_tunnel,
    network, plain_v4, plain_v6, quoted_v4, quoted_v6,
};
use netpath_ebpf::wire::Size;
use netpath_ebpf::{
    Counts, Direction, FlowKey, FragmentKey, FragmentValue, Hook, KeyV4, KeyV6, Ports, Reason, Tag, slot_index,
};

use super::frames::Beside;

/// Addresses, protocol, ports.
pub type Tuple = (IpAddr, IpAddr, u8, u16, u16);
/// What a packet is counted under: device, tuple, VLANs, what it is about; or device and why it is not.
pub type Counted = Result<(u32, Tuple, [u16; 2], Option<Tuple>), (u32, u32)>;
/// A key as words, so that both families are of one type.
pub type Words = Vec<u64>;
/// Packets, bytes, and what the wire has beyond these.
pub type Sum = [u64; 3];

/// How a packet is counted.
///
/// [`Way::Hit`] alone does not look at the number of frames if there is no size of them, as the kernel has it in no
/// super-packet. So packets with such a number prove in what they are counted for whether they went this way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Plain, and its flow has the slot.
    Hit,
    /// Plain, and nobody has the slot.
    PlainMiss,
    /// Plain, and another flow leaves the slot.
    PlainEviction,
    /// Plain, its flow has the slot, but it is of several frames.
    PlainSuper,
    /// All else that has a flow.
    General,
    /// A super-packet of a tunnel, with all its headers.
    GeneralTunnel,
    /// An ICMP error, with the packet that it is about.
    IcmpError,
    /// Not attributed.
    Rest,
}

/// Whose slot it is, its key for the map, and the counts.
type Slots = HashMap<(u32, usize), (Words, Counts)>;

/// The state of the programs' maps.
pub struct Model {
    epoch: u32,
    direction: Direction,
    ethernet: bool,
    /// Of IPv4 and of IPv6.
    slots: [Slots; 2],
    /// What slots were emptied into.
    pub flows: BTreeMap<Words, Sum>,
    /// Wherever it is.
    pub all: BTreeMap<Counted, Sum>,
    pub ways: BTreeMap<Way, u64>,
    /// First fragments, as the programs' map keeps them, which is never full here.
    fragments: HashMap<FragmentKey, FragmentValue>,
}

/// A packet with a flow.
struct Flow {
    key: Words,
    counted: Counted,
    family: usize,
    slot: (u32, usize),
    headers_len: u32,
    transport: (u8, Ports),
}

impl Model {
    pub fn new(epoch: u32, direction: Direction, ethernet: bool) -> Self {
        let (slots, fragments) = Default::default();
        Self {
            epoch,
            direction,
            ethernet,
            slots,
            flows: BTreeMap::new(),
            all: BTreeMap::new(),
            ways: BTreeMap::new(),
            fragments,
        }
    }

    /// Counts a packet of the device.
    pub fn see(&mut self, ifindex: u32, frame: &[u8], beside: Beside) {
        let hook = Hook::new(ifindex, self.direction);
        let size = Size {
            len_bytes: u32::try_from(frame.len()).unwrap(),
            gso_segs: beside.gso_segs,
            gso_size_bytes: beside.gso_size,
            tag_offloaded: beside.vlan_tci.is_some(),
        };
        let start = if self.ethernet {
            Start::Ethernet { vlan_tci: beside.vlan_tci }
        } else {
            // The kernel takes packets for those of an Ethernet device, so the header is one that was left over.
            let offset = u8::try_from(EthernetHeader::LEN).unwrap();
            Start::Ip { offset, ethertype_be: u16::from_ne_bytes([frame[12], frame[13]]) }
        };
        let size = Size { len_bytes: size.len_bytes - start.offset(), ..size };
        if let Some((counted, headers_len)) = icmp_error(frame, start, hook) {
            *self.ways.entry(Way::IcmpError).or_default() += 1;
            return add(&mut self.all, counted, size.counts(headers_len));
        }
        let flow = match self.parse(frame, start, hook) {
            Ok(flow) => flow,
            Err(reason) => {
                *self.ways.entry(Way::Rest).or_default() += 1;
                return add(&mut self.all, Err((ifindex, reason as u32)), size.counts(0));
            }
        };
        let inner = if size.gso_size_bytes == 0 { None } else { inner_len(frame, start) };
        let mut counts = size.counts(flow.headers_len + inner.unwrap_or(0));
        let slots = &mut self.slots[flow.family];
        let holder = slots.get_mut(&flow.slot);
        let own = holder.as_ref().is_some_and(|(key, _)| *key == flow.key);
        let plain = self.ethernet && is_plain(frame, beside.vlan_tci, hook, &flow.key);
        let way = match (plain, inner) {
            (_, Some(_)) => Way::GeneralTunnel,
            (true, None) if own && size.gso_size_bytes == 0 => Way::Hit,
            (true, None) if own => Way::PlainSuper,
            // A tunnel's that turns out to have nothing inside.
            (true, None) if size.is_super_packet() && is_udp_tunnel(flow.transport.0, flow.transport.1) => Way::General,
            (true, None) if holder.is_some() => Way::PlainEviction,
            (true, None) => Way::PlainMiss,
            (false, None) => Way::General,
        };
        *self.ways.entry(way).or_default() += 1;
        if way == Way::Hit {
            counts.wire_overhead_bytes = if size.tag_offloaded { 4 } else { 0 };
        }
        add(&mut self.all, flow.counted, counts);
        match holder {
            Some((_, total)) if own => {
                total.packets += counts.packets;
                total.bytes += counts.bytes;
                total.wire_overhead_bytes += counts.wire_overhead_bytes;
            }
            _ => {
                if let Some((key, counts)) = slots.insert(flow.slot, (flow.key, counts)) {
                    add(&mut self.flows, key, counts);
                }
            }
        }
    }

    fn parse(&mut self, frame: &[u8], start: Start, hook: Hook) -> Result<Flow, Reason> {
        match network(frame, start)? {
            Network::V4(link) => {
                let Parsed { key, headers_len_bytes, .. } = self.whole(ipv4(frame, link, hook)?)?;
                let (words, headers_len) = (key.words(0).into(), headers_len_bytes - start.offset());
                Ok(self.flow(0, &key, words, key.tag, tuple_v4(&key), headers_len))
            }
            Network::V6(link) => {
                let Parsed { key, headers_len_bytes, .. } = self.whole(ipv6(frame, link, hook)?)?;
                let (words, headers_len) = (key.words(0).into(), headers_len_bytes - start.offset());
                Ok(self.flow(1, &key, words, key.tag, tuple_v6(&key), headers_len))
            }
        }
    }

    fn flow(
        &self,
        family: usize,
        key: &(impl FlowKey + Key),
        words: Words,
        tag: Tag,
        tuple: Tuple,
        headers_len: u32,
    ) -> Flow {
        Flow {
            key: words,
            counted: Ok((key.hook().ifindex(), tuple, vlans(tag), None)),
            family,
            slot: slot_index(key, self.epoch),
            headers_len,
            transport: key.transport(),
        }
    }

    fn whole<K: Key>(&mut self, mut parsed: Parsed<K>) -> Result<Parsed<K>, Reason> {
        let key = parsed.key.fragment_key(parsed.part.id_be);
        let (before, now_ns) = (self.fragments.get(&key).copied(), monotonic_ns());
        let value = match parsed.fragment {
            Fragment::Whole => return Ok(parsed),
            Fragment::First => FragmentValue::first(parsed.part, parsed.key.transport(), before, now_ns),
            Fragment::Later => FragmentValue::later(parsed.part, before, now_ns),
        };
        if value.is_complete() {
            self.fragments.remove(&key);
        } else {
            self.fragments.insert(key, value);
        }
        if parsed.fragment == Fragment::Later {
            if value.has_first == 0 {
                return Err(Reason::OrphanFragment);
            }
            parsed.key.complete(&value);
        }
        Ok(parsed)
    }
}

/// The programs' clock.
pub fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes to a value that lives through the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) }, 0);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

fn tuple_v4(key: &KeyV4) -> Tuple {
    let address = |be: u32| IpAddr::V4(Ipv4Addr::from(u32::from_be(be)));
    tuple(address(key.src_be), address(key.dst_be), key.transport())
}

fn tuple_v6(key: &KeyV6) -> Tuple {
    let address = |be: [u32; 4]| {
        let bytes: Vec<u8> = be.iter().flat_map(|word| word.to_ne_bytes()).collect();
        IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).unwrap()))
    };
    tuple(address(key.src_be), address(key.dst_be), key.transport())
}

fn tuple(src: IpAddr, dst: IpAddr, (protocol, ports): (u8, Ports)) -> Tuple {
    (src, dst, protocol, u16::from_be(ports.src_be), u16::from_be(ports.dst_be))
}

fn vlans(tag: Tag) -> [u16; 2] {
    [tag.outer_vlan(), tag.inner_vlan()]
}

/// What an ICMP error that quotes a packet is counted under, and how many bytes of headers it has.
fn icmp_error(frame: &[u8], start: Start, hook: Hook) -> Option<(Counted, u32)> {
    let (tag, error, about, end) = match network(frame, start).ok()? {
        Network::V4(link) => {
            let error = ipv4(frame, link, hook).ok().filter(|error| error.is_icmp_error)?;
            let about = tuple_v4(&quoted_v4(frame, error.headers_len_bytes)?);
            (error.key.tag, tuple_v4(&error.key), about, error.headers_len_bytes)
        }
        Network::V6(link) => {
            let error = ipv6(frame, link, hook).ok().filter(|error| error.is_icmp_error)?;
            let about = tuple_v6(&quoted_v6(frame, error.headers_len_bytes)?);
            (error.key.tag, tuple_v6(&error.key), about, error.headers_len_bytes)
        }
    };
    Some((Ok((hook.ifindex(), error, vlans(tag), Some(about))), end - start.offset()))
}

/// Whether the quick way reads the frame; if it does it must find the same key.
fn is_plain(frame: &[u8], vlan_tci: Option<u16>, hook: Hook, key: &Words) -> bool {
    let tags = match vlan_tci {
        Some(tci) => [Some(PlainTag::beside(tci)), None],
        None => [Some(PlainTag::NONE), PlainTag::in_frame(frame)],
    };
    let read = |tag| {
        let v4 = plain_v4(frame, tag, hook).map(|parsed: Parsed<KeyV4>| parsed.key.words(0).to_vec());
        v4.or_else(|| plain_v6(frame, tag, hook).map(|parsed: Parsed<KeyV6>| parsed.key.words(0).to_vec()))
    };
    let found = tags.into_iter().flatten().find_map(read);
    assert!(found.as_ref().is_none_or(|found| found == key), "{frame:02x?}");
    found.is_some()
}

pub fn add<K: Ord>(sums: &mut BTreeMap<K, Sum>, key: K, counts: Counts) {
    let sum = sums.entry(key).or_default();
    sum[0] += counts.packets;
    sum[1] += counts.bytes;
    sum[2] += counts.wire_overhead_bytes;
}
