//! Which packets are traced: a bounded chain of tests, each of which leads to the next one by its outcome.
//!
//! In: [`Facts`] of a packet. Out: whether it is accepted. A formula of N tests with `and`, `or` and `not` is a chain of N tests:
//! `netpath::trace::filter` compiles it. Tests lead forward only, so that the chain ends.

use super::Sighting;

/// Tests of a filter at most. A power of two.
pub const TESTS: usize = 64;
/// Addresses in all sets of a filter at most.
pub const SET_MEMBERS: usize = 4_096;
/// The chain ends here: the packet is accepted.
pub const ACCEPT: u8 = 255;
/// The chain ends here: it is not.
pub const REJECT: u8 = 254;

/// What tests look at, as words: few kinds of tests are little work for the verifier, and for each packet.
pub type Facts = [u32; 16];

/// The index of each word of [`Facts`], in host byte order but for addresses.
pub mod fact {
    /// Source address: four words, network byte order.
    pub const SOURCE: u8 = 0;
    /// Destination address: four words, network byte order.
    pub const DESTINATION: u8 = 4;
    /// IP version, protocol (bits 8 to 15), type of an ICMP message (16 to 23), and [`super::Sighting::fragment`] (24, 25).
    pub const PROTOCOL: u8 = 8;
    /// Source port; [`NO_PORT`] of protocols other than TCP, UDP and SCTP, and of later fragments.
    pub const SOURCE_PORT: u8 = 9;
    /// Destination port, likewise.
    pub const DESTINATION_PORT: u8 = 10;
    /// TCP's flags; 0 of other protocols.
    pub const TCP_FLAGS: u8 = 11;
    /// Index of the device.
    pub const DEVICE: u8 = 12;
    /// `skb->len`.
    pub const LENGTH: u8 = 13;
    /// TCP's sequence number.
    pub const SEQUENCE: u8 = 14;

    /// There is none.
    pub const NO_PORT: u32 = u32::MAX;
}

/// The facts of a packet.
#[inline(always)]
#[must_use]
pub fn facts(packet: &Sighting) -> Facts {
    let protocol = packet.protocol();
    let has_ports = matches!(protocol, 6 | 17 | 132) && packet.fragment != 2;
    let port = |port_be| if has_ports { u32::from(u16::from_be(port_be)) } else { fact::NO_PORT };
    let [s0, s1, s2, s3] = packet.src_be;
    let [d0, d1, d2, d3] = packet.dst_be;
    [
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
        u32::from(packet.family) | protocol << 8 | u32::from(packet.icmp_type) << 16 | u32::from(packet.fragment) << 24,
        port(packet.ports.src_be),
        port(packet.ports.dst_be),
        u32::from(packet.tcp_flags),
        packet.hook >> 1,
        packet.len_bytes,
        packet.seq,
        0,
    ]
}

/// How a test looks at a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// The word, masked by `high[1]`, is from `low[0]` to `high[0]`.
    Range = 0,
    /// The four words, masked by `high`, are `low`.
    Address = 1,
    /// The four words are an address in the set `low[0]`.
    Set = 2,
}

/// One test, and where its outcome leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Test {
    /// [`Kind`] as its number.
    pub kind: u8,
    /// The index of the fact.
    pub fact: u8,
    /// The test that follows if it holds; or [`ACCEPT`], [`REJECT`].
    pub then: u8,
    /// The test that follows if it does not.
    pub otherwise: u8,
    /// Operand, see [`Kind`].
    pub low: [u32; 4],
    /// Operand.
    pub high: [u32; 4],
}

const _: () = assert!(size_of::<Test>() == 36 && TESTS.is_power_of_two() && TESTS < REJECT as usize);

impl Test {
    #[inline(always)]
    fn holds(&self, facts: &Facts, is_in: impl Fn(u32, [u32; 4]) -> bool) -> bool {
        let address = || {
            let first = usize::from(self.fact & 4);
            [facts[first], facts[first + 1], facts[first + 2], facts[first + 3]]
        };
        if self.kind == Kind::Range as u8 {
            let value = facts[usize::from(self.fact & 15)] & self.high[1];
            value >= self.low[0] && value <= self.high[0]
        } else if self.kind == Kind::Address as u8 {
            let ([a, b, c, d], low, high) = (address(), &self.low, &self.high);
            (a & high[0] ^ low[0]) | (b & high[1] ^ low[1]) | (c & high[2] ^ low[2]) | (d & high[3] ^ low[3]) == 0
        } else {
            is_in(self.low[0], address())
        }
    }
}

/// Whether the filter accepts a packet. `is_in` knows which addresses each set has.
#[inline(always)]
pub fn accepts(tests: &[Test; TESTS], facts: &Facts, is_in: impl Fn(u32, [u32; 4]) -> bool) -> bool {
    let mut at = 0;
    let mut steps = 0;
    while steps < TESTS {
        let test = &tests[at & (TESTS - 1)];
        let next = if test.holds(facts, &is_in) { test.then } else { test.otherwise };
        if next >= REJECT {
            return next == ACCEPT;
        }
        at = usize::from(next);
        steps += 1;
    }
    false
}
