//! What a rule limits itself to, as far as that is certain.
//!
//! In: a rule's [`Expression`]s, in order. Out: the packets that they let through. Pure. A rule goes on only while each of
//! its expressions lets the packet through, so whatever is not understood limits it further, and may be left out: the
//! outcome is never narrower than the truth.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use ipnet::IpNet;

use super::expression::{Expression, Field, Header};

// linux/netfilter/nf_tables.h: NFT_META_*.
const META_PROTOCOL: u32 = 1;
const META_IIF: u32 = 4;
const META_IIFNAME: u32 = 6;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
/// The most bytes of one that is used (`IFNAMSIZ`).
const META_BYTES: u32 = 16;

// linux/netfilter.h: NFPROTO_*.
const IPV4: u8 = 2;
const IPV6: u8 = 10;

/// IANA numbers of the protocols that begin with a source and a destination port: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// Those of IPv6's upper layers that may stand in its header, where an extension header may be, too. `ICMPv6` is 58.
const UPPER_LAYERS: [u8; 6] = [6, 17, 33, 58, 132, 136];

/// Whether packets of this protocol begin with a source and a destination port.
#[must_use]
pub fn has_ports(proto: u8) -> bool {
    WITH_PORTS.contains(&proto)
}

/// A device, as a rule names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Device {
    /// By its name.
    Name(String),
    /// By its index.
    Index(u32),
}

/// The packets that a rule lets through.
#[derive(Clone, Debug)]
pub struct Conditions {
    ipv4: bool,
    ipv6: bool,
    input_device: Option<Device>,
    proto: Option<u8>,
    link: Known<18>,
    network: Known<40>,
    transport: Known<4>,
    /// What is in which registers, in words of four bytes.
    registers: Vec<(Range<u32>, Loaded)>,
}

/// What a register has.
#[derive(Clone, Debug)]
struct Loaded {
    from: Source,
    /// The bits that are left; `None` is all.
    mask: Option<Vec<u8>>,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Meta(u32),
    Packet(Field),
}

impl Conditions {
    /// What a table of this family (`NFPROTO_*`) sees.
    #[must_use]
    pub fn of_family(family: u8) -> Self {
        Self {
            ipv4: family != IPV6,
            ipv6: family != IPV4,
            input_device: None,
            proto: None,
            link: Known::default(),
            network: Known::default(),
            transport: Known::default(),
            registers: Vec::new(),
        }
    }

    /// Applies the next expression.
    pub fn apply(&mut self, expression: &Expression<'_>) {
        match *expression {
            Expression::Meta { key, into } => {
                self.load(into, META_BYTES, Some(Loaded { from: Source::Meta(key), mask: None }));
            }
            Expression::Read { field, into } => {
                self.load(into, field.length, Some(Loaded { from: Source::Packet(field), mask: None }));
            }
            Expression::Mask { from, into, mask, xor } => {
                let whole =
                    self.loaded(from).filter(|loaded| loaded.mask.is_none() && xor.iter().all(|byte| *byte == 0));
                let masked = whole.map(|loaded| Loaded { from: loaded.from, mask: Some(mask.to_vec()) });
                self.load(into, u32::try_from(mask.len()).unwrap_or(u32::MAX), masked);
            }
            Expression::Compare { from, equal: true, value } => {
                if let Some(loaded) = self.loaded(from).cloned() {
                    self.learn(&loaded, value);
                }
            }
            Expression::Match { name: name @ ("tcp" | "udp"), info } => self.match_ports(name, info),
            Expression::Tproxy { family: family @ 1.. } => self.limit_family(family),
            Expression::Compare { .. }
            | Expression::Match { .. }
            | Expression::Write { .. }
            | Expression::Target { .. }
            | Expression::Verdict(_)
            | Expression::Object(_)
            | Expression::Tproxy { .. } => {}
            // It may write to any register.
            Expression::Other(_) => self.registers.clear(),
        }
    }

    /// Limits them to a protocol.
    pub fn limit_proto(&mut self, proto: u8) {
        self.proto = Some(proto);
    }

    /// Limits the ports of a protocol as the extensions `tcp` and `udp` of iptables do: `struct xt_tcp` and `xt_udp` begin with
    /// a range of source ports and one of destination ports, in the machine's byte order, and have what is negated in their
    /// last byte, bits 0 and 1.
    pub fn match_ports(&mut self, name: &str, info: &[u8]) {
        let inverted = info.get(if name == "tcp" { 11 } else { 8 }).copied().unwrap_or(u8::MAX);
        let port = |at: usize| Some(u16::from_ne_bytes(info.get(at..at + 2)?.try_into().ok()?));
        for (at, offset, inversion) in [(0, 0, 1), (4, 2, 2)] {
            let (first, last) = (port(at), port(at + 2));
            if let (true, Some(port), 0) = (first == last, first, inverted & inversion) {
                self.transport.learn(offset, &port.to_be_bytes(), None);
            }
        }
    }

    fn limit_family(&mut self, family: u32) {
        self.ipv4 &= family == u32::from(IPV4);
        self.ipv6 &= family == u32::from(IPV6);
    }

    /// Puts something into registers; `None` is unknown.
    fn load(&mut self, register: u32, bytes: u32, what: Option<Loaded>) {
        let first = word(register);
        let words = first..first.saturating_add(bytes.div_ceil(4).max(1));
        self.registers.retain(|(other, _)| other.end <= words.start || words.end <= other.start);
        if let Some(what) = what {
            self.registers.push((words, what));
        }
    }

    fn loaded(&self, register: u32) -> Option<&Loaded> {
        self.registers.iter().find(|(words, _)| words.start == word(register)).map(|(_, loaded)| loaded)
    }

    fn learn(&mut self, loaded: &Loaded, value: &[u8]) {
        match (loaded.from, loaded.mask.as_deref()) {
            (Source::Meta(key), None) => self.learn_meta(key, value),
            (Source::Meta(_), Some(_)) => {}
            (Source::Packet(field), mask) => {
                let fits = |bytes: &[u8]| bytes.len() <= field.length as usize;
                if fits(value) && mask.is_none_or(|mask| mask.len() >= value.len()) {
                    match field.header {
                        Header::Link => self.link.learn(field.offset, value, mask),
                        Header::Network => self.network.learn(field.offset, value, mask),
                        Header::Transport => self.transport.learn(field.offset, value, mask),
                    }
                }
            }
        }
    }

    fn learn_meta(&mut self, key: u32, value: &[u8]) {
        match (key, value) {
            (META_NFPROTO, [family, ..]) => self.limit_family(u32::from(*family)),
            (META_L4PROTO, [proto, ..]) => self.proto = Some(*proto),
            (META_PROTOCOL, [high, low, ..]) => self.limit_ethertype(u16::from_be_bytes([*high, *low])),
            (META_IIF, bytes) => {
                if let Ok(index) = bytes.try_into() {
                    self.input_device = Some(Device::Index(u32::from_ne_bytes(index)));
                }
            }
            // A name without NUL is a prefix.
            (META_IIFNAME, name) => {
                if let Some(end) = name.iter().position(|byte| *byte == 0)
                    && let Ok(name) = std::str::from_utf8(&name[..end])
                {
                    self.input_device = Some(Device::Name(name.to_owned()));
                }
            }
            _ => {}
        }
    }

    fn limit_ethertype(&mut self, ethertype: u16) {
        match ethertype {
            0x0800 => self.ipv6 = false,
            0x86dd => self.ipv4 = false,
            // ARP; others may carry IP, as VLAN tags do.
            0x0806 => (self.ipv4, self.ipv6) = (false, false),
            _ => {}
        }
    }

    /// Whether IPv4 and IPv6 packets may be among them.
    #[must_use]
    pub fn families(&self) -> (bool, bool) {
        let mut known = self.clone();
        if let Some(ethertype) = self.link.whole(12) {
            known.limit_ethertype(u16::from_be_bytes(ethertype));
        }
        (known.ipv4, known.ipv6)
    }

    /// The device by which they come in.
    #[must_use]
    pub fn input_device(&self) -> Option<&Device> {
        self.input_device.as_ref()
    }

    /// Their protocol.
    #[must_use]
    pub fn proto(&self) -> Option<u8> {
        self.proto.or_else(|| match self.families() {
            (true, false) => self.network.whole(9).map(|[proto]| proto),
            (false, true) => self.network.whole(6).map(|[next]| next).filter(|next| UPPER_LAYERS.contains(next)),
            _ => None,
        })
    }

    /// Their source addresses.
    #[must_use]
    pub fn src(&self) -> Option<IpNet> {
        self.addresses(12, 8)
    }

    /// Their destination addresses.
    #[must_use]
    pub fn dst(&self) -> Option<IpNet> {
        self.addresses(16, 24)
    }

    fn addresses(&self, ipv4_offset: usize, ipv6_offset: usize) -> Option<IpNet> {
        let (address, bits) = match self.families() {
            (true, false) => {
                let (bytes, bits) = self.network.prefix::<4>(ipv4_offset);
                (IpAddr::from(Ipv4Addr::from(bytes)), bits)
            }
            (false, true) => {
                let (bytes, bits) = self.network.prefix::<16>(ipv6_offset);
                (IpAddr::from(Ipv6Addr::from(bytes)), bits)
            }
            _ => return None,
        };
        (bits > 0).then(|| IpNet::new(address, bits).ok().map(|network| network.trunc()))?
    }

    /// Their source port.
    #[must_use]
    pub fn sport(&self) -> Option<u16> {
        self.port(0)
    }

    /// Their destination port.
    #[must_use]
    pub fn dport(&self) -> Option<u16> {
        self.port(2)
    }

    fn port(&self, offset: usize) -> Option<u16> {
        self.proto().filter(|proto| has_ports(*proto))?;
        self.transport.whole(offset).map(u16::from_be_bytes)
    }
}

/// The first word of a register: 1 to 4 have 16 bytes each (`NFT_REG_1`), 8 and on are the same in parts (`NFT_REG32_00`).
fn word(register: u32) -> u32 {
    if register < 8 { register.saturating_mul(4) } else { register - 8 + 4 }
}

/// Which of a header's bits are certain.
#[derive(Clone, Debug)]
struct Known<const BYTES: usize> {
    value: [u8; BYTES],
    mask: [u8; BYTES],
}

impl<const BYTES: usize> Default for Known<BYTES> {
    fn default() -> Self {
        Self { value: [0; BYTES], mask: [0; BYTES] }
    }
}

impl<const BYTES: usize> Known<BYTES> {
    /// `mask` is of the same bytes as `value`; `None` is all bits. What is behind the end is left out.
    fn learn(&mut self, offset: u32, value: &[u8], mask: Option<&[u8]>) {
        for (index, byte) in value.iter().enumerate() {
            let bits = mask.map_or(u8::MAX, |mask| mask.get(index).copied().unwrap_or_default());
            let at = (offset as usize).saturating_add(index);
            if let (Some(known), Some(known_mask)) = (self.value.get_mut(at), self.mask.get_mut(at)) {
                *known = (*known & !bits) | (byte & bits);
                *known_mask |= bits;
            }
        }
    }

    /// Bytes that are known with all their bits.
    fn whole<const LENGTH: usize>(&self, offset: usize) -> Option<[u8; LENGTH]> {
        let (bytes, bits) = self.prefix(offset);
        (usize::from(bits) == LENGTH * 8).then_some(bytes)
    }

    /// Bytes, and how many of their first bits are known.
    fn prefix<const LENGTH: usize>(&self, offset: usize) -> ([u8; LENGTH], u8) {
        let (mut bytes, mut bits) = ([0; LENGTH], 0);
        for (index, byte) in bytes.iter_mut().enumerate() {
            let (Some(value), Some(mask)) = (self.value.get(offset + index), self.mask.get(offset + index)) else {
                break;
            };
            *byte = *value;
            #[expect(clippy::cast_possible_truncation, reason = "at most 8 for each of 16 bytes")]
            let ones = mask.leading_ones() as u8;
            bits += ones;
            if ones < 8 {
                break;
            }
        }
        (bytes, bits)
    }
}
