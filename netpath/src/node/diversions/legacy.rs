//! The rules of legacy iptables, which are not in nftables, that divert packets.
//!
//! In: the tables of the calling thread's network namespace, as `iptables-legacy-save` reads them. Out: [`NetfilterRule`]s.
//! Only tables that are there are asked for: the kernel would load another's module. Structures are those of
//! `linux/netfilter/x_tables.h`, `linux/netfilter_ipv4/ip_tables.h` and `linux/netfilter_ipv6/ip6_tables.h`; numbers are in the
//! machine's byte order, addresses in network byte order.

use std::fs;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use ipnet::IpNet;

use super::xtables;
use crate::netlink::attributes::{c_string, lossy};
use crate::node::nftables::conditions::Conditions;
use crate::snapshot::{Diversion, NetfilterRule};

/// The tables of one family, and how their entries are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// `iptables-legacy`.
    Ipv4,
    /// `ip6tables-legacy`.
    Ipv6,
}

/// `IPT_SO_GET_INFO`, `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `IPT_SO_GET_ENTRIES`, `IP6T_SO_GET_ENTRIES`.
const GET_ENTRIES: libc::c_int = 65;
/// `XT_TABLE_MAXNAMELEN`.
const NAME_BYTES: usize = 32;
/// `struct ipt_getinfo`, of which the last word is the size of all entries.
const INFO_BYTES: usize = 84;
/// `struct ipt_get_entries`: the name, the size, padding; entries follow.
const HEAD_BYTES: usize = 40;
/// 300,000 rules with a match each.
const LIMIT_BYTES: usize = 64 << 20;
/// A table may grow between the request for its size and that for its entries.
const ATTEMPTS: u32 = 5;
/// `struct xt_entry_match` and `xt_entry_target`: size, name, revision; their own data follows.
const PART_BYTES: usize = 32;
/// Lengths in `struct ipt_ip`.
const DEVICE_BYTES: usize = 16;
/// The verdict of target QUEUE: `-NF_QUEUE - 1`.
const QUEUE: i32 = -4;
// IPT_INV_*, IP6T_INV_*
const INVERTS_INPUT: u8 = 1;
const INVERTS_SRC: u8 = 8;
const INVERTS_DST: u8 = 0x10;
const INVERTS_PROTO: u8 = 0x40;

impl Family {
    fn names(self) -> &'static str {
        match self {
            Self::Ipv4 => "/proc/thread-self/net/ip_tables_names",
            Self::Ipv6 => "/proc/thread-self/net/ip6_tables_names",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Self::Ipv4 => "iptables-legacy",
            Self::Ipv6 => "ip6tables-legacy",
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Ipv4 => 2,
            Self::Ipv6 => 10,
        }
    }

    fn address_bytes(self) -> usize {
        match self {
            Self::Ipv4 => 4,
            Self::Ipv6 => 16,
        }
    }
}

/// Reads the rules of one family. None if the kernel has no such tables.
pub fn read(family: Family) -> io::Result<Vec<NetfilterRule>> {
    let names = match fs::read_to_string(family.names()) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for table in names.lines() {
        found.extend(rules(family, table, &entries(family, table)?));
    }
    Ok(found)
}

/// The entries of a table.
fn entries(family: Family, table: &str) -> io::Result<Vec<u8>> {
    let (domain, level) = match family {
        Family::Ipv4 => (libc::AF_INET, libc::IPPROTO_IP),
        Family::Ipv6 => (libc::AF_INET6, libc::IPPROTO_IPV6),
    };
    // SAFETY: the call has no pointers.
    let socket = unsafe { libc::socket(domain, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just opened, and has no other owner.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let ask = |question: libc::c_int, answer: &mut [u8]| -> io::Result<()> {
        answer[..table.len()].copy_from_slice(table.as_bytes());
        let mut length = libc::socklen_t::try_from(answer.len()).map_err(io::Error::other)?;
        // SAFETY: the kernel reads and writes at most `length` bytes, which is how many `answer` has.
        let result = unsafe {
            libc::getsockopt(socket.as_raw_fd(), level, question, answer.as_mut_ptr().cast(), &raw mut length)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    if table.len() >= NAME_BYTES {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    for _ in 0..ATTEMPTS {
        let mut info = [0; INFO_BYTES];
        ask(GET_INFO, &mut info)?;
        let size = word(&info, INFO_BYTES - 4).unwrap_or_default();
        let bytes = size as usize;
        if bytes > LIMIT_BYTES {
            return Err(io::Error::other(format!("table {table} is larger than {} MiB", LIMIT_BYTES >> 20)));
        }
        let mut answer = vec![0; HEAD_BYTES + bytes];
        answer[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&size.to_ne_bytes());
        match ask(GET_ENTRIES, &mut answer) {
            Ok(()) => return Ok(answer.split_off(HEAD_BYTES)),
            // Its size has changed. Kernels differ in the errno (`get_entries` in net/ipv4/netfilter/ip_tables.c).
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINVAL)) => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other(format!("table {table} changes all the time")))
}

/// The rules among a table's entries that divert packets.
#[must_use]
pub fn rules(family: Family, table: &str, mut entries: &[u8]) -> Vec<NetfilterRule> {
    let mut found = Vec::new();
    while let Some(next) = next_offset(family, entries) {
        let Some((entry, rest)) = entries.split_at_checked(next) else { break };
        found.extend(rule(family, table, entry));
        entries = rest;
    }
    found
}

/// `struct ipt_entry` and `ip6t_entry`: what it matches, what the kernel cached, then the offsets of the target and of the next
/// entry, where it came from, counters.
fn target_at(family: Family) -> usize {
    match family {
        Family::Ipv4 => 88,
        Family::Ipv6 => 140,
    }
}

fn matches_at(family: Family) -> usize {
    match family {
        Family::Ipv4 => 112,
        Family::Ipv6 => 168,
    }
}

fn next_offset(family: Family, entries: &[u8]) -> Option<usize> {
    half(entries, target_at(family) + 2).map(usize::from).filter(|next| *next > matches_at(family))
}

fn rule(family: Family, table: &str, entry: &[u8]) -> Option<NetfilterRule> {
    let target = entry.get(usize::from(half(entry, target_at(family))?)..)?;
    let name = c_string(target.get(2..PART_BYTES - 1)?);
    let diversion = if name.is_empty() {
        let verdict = word(target, PART_BYTES)?.cast_signed();
        (verdict == QUEUE).then_some(Diversion::Queue)?
    } else {
        xtables::diversion(std::str::from_utf8(name).ok()?)?
    };

    // `struct ipt_ip` and `ip6t_ip6`.
    let width = family.address_bytes();
    let addresses = |at: usize, inversion: u8| {
        let (address, mask) =
            (entry.get(at * width..(at + 1) * width)?, entry.get((at + 2) * width..(at + 3) * width)?);
        network(address, mask).filter(|_| inversions(family, entry) & inversion == 0)
    };
    let devices = width * 4;
    let device = |at: usize| entry.get(devices + at * DEVICE_BYTES..devices + (at + 1) * DEVICE_BYTES);
    let (input, input_mask) = (device(0)?, device(2)?);
    let end = input.iter().position(|byte| *byte == 0)?;
    // A name without NUL is a prefix.
    let is_exact = end > 0 && input_mask[..=end].iter().all(|byte| *byte == u8::MAX);
    let inverted = inversions(family, entry);

    let mut conditions = Conditions::of_family(family.number());
    let proto = half(entry, devices + 4 * DEVICE_BYTES)?;
    if let (0, Ok(proto @ 1..)) = (inverted & INVERTS_PROTO, u8::try_from(proto)) {
        conditions.limit_proto(proto);
    } else if diversion == Diversion::Synproxy {
        conditions.limit_proto(6);
    }
    let mut parts = entry.get(matches_at(family)..usize::from(half(entry, target_at(family))?))?;
    while let Some(size) = half(parts, 0).map(usize::from).filter(|size| *size >= PART_BYTES) {
        let Some((part, rest)) = parts.split_at_checked(size) else { break };
        if let name @ ("tcp" | "udp") = lossy(&part[2..PART_BYTES - 1]).as_str() {
            conditions.match_ports(name, &part[PART_BYTES..]);
        }
        parts = rest;
    }

    let target = if name.is_empty() { "QUEUE".into() } else { lossy(name) };
    Some(NetfilterRule {
        diversion,
        place: format!("{} table {table}, target {target}", family.command()),
        ipv4: family == Family::Ipv4,
        ipv6: family == Family::Ipv6,
        input_device: (is_exact && inverted & INVERTS_INPUT == 0).then(|| lossy(input)),
        proto: conditions.proto(),
        src: addresses(0, INVERTS_SRC),
        dst: addresses(1, INVERTS_DST),
        sport: conditions.sport(),
        dport: conditions.dport(),
    })
}

/// What is negated: the last byte of `struct ipt_ip`, and of what is used of `ip6t_ip6`.
fn inversions(family: Family, entry: &[u8]) -> u8 {
    let at = match family {
        Family::Ipv4 => 83,
        Family::Ipv6 => 132,
    };
    entry.get(at).copied().unwrap_or(u8::MAX)
}

/// The addresses that have the first bits of `address` that `mask` has; `None` if that is all of them.
fn network(address: &[u8], mask: &[u8]) -> Option<IpNet> {
    let address: IpAddr = match address.len() {
        4 => <[u8; 4]>::try_from(address).ok()?.into(),
        _ => <[u8; 16]>::try_from(address).ok()?.into(),
    };
    let ones = mask
        .iter()
        .position(|byte| *byte != u8::MAX)
        .map_or(mask.len() * 8, |first| first * 8 + mask[first].leading_ones() as usize);
    let network = IpNet::new(address, u8::try_from(ones).ok()?).ok()?;
    (ones > 0).then(|| network.trunc())
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    // Tables `mangle` of Linux 6.18, little-endian, with the rules of `iptables-legacy-save` that are expected below.
    const IPV4: &[u8] = include_bytes!("../../../fuzz/seeds/records/legacy_ipv4");
    const IPV6: &[u8] = include_bytes!("../../../fuzz/seeds/records/legacy_ipv6");

    fn unlimited(diversion: Diversion, place: &str) -> NetfilterRule {
        NetfilterRule {
            ipv4: place.starts_with("iptables"),
            ipv6: place.starts_with("ip6tables"),
            ..NetfilterRule::new(diversion, place)
        }
    }

    #[test]
    fn rules_of_both_families() {
        let place = |target| format!("iptables-legacy table mangle, target {target}");
        let expected = [
            // -i eth0 -s 10.0.0.0/20 -d 10.0.0.21 -p tcp -m tcp --sport 1000 --dport 80 -j NFQUEUE
            NetfilterRule {
                input_device: Some("eth0".into()),
                proto: Some(6),
                src: Some("10.0.0.0/20".parse().unwrap()),
                dst: Some("10.0.0.21/32".parse().unwrap()),
                sport: Some(1000),
                dport: Some(80),
                ..unlimited(Diversion::Queue, &place("NFQUEUE"))
            },
            // -i eth+ ! -s 10.0.0.1 -p udp -m udp --dport 53:54 -j TPROXY
            NetfilterRule { proto: Some(17), ..unlimited(Diversion::Tproxy, &place("TPROXY")) },
            // ! -p tcp ! -i lo -d 10.0.0.0/8 -j TEE. The next one, MARK, diverts nothing.
            NetfilterRule { dst: Some("10.0.0.0/8".parse().unwrap()), ..unlimited(Diversion::Copy, &place("TEE")) },
            // -p tcp -m tcp ! --dport 80 -j NFQUEUE
            NetfilterRule { proto: Some(6), ..unlimited(Diversion::Queue, &place("NFQUEUE")) },
        ];
        assert_eq!(rules(Family::Ipv4, "mangle", IPV4), expected);

        let place = |target| format!("ip6tables-legacy table mangle, target {target}");
        let expected = [
            // -A PREROUTING -i eth0 -d fd00:1::/64 -j TEE
            NetfilterRule {
                input_device: Some("eth0".into()),
                dst: Some("fd00:1::/64".parse().unwrap()),
                ..unlimited(Diversion::Copy, &place("TEE"))
            },
            // -A POSTROUTING -s fd00:1::/64 -p udp -m udp --sport 53 -j SNPT
            NetfilterRule {
                src: Some("fd00:1::/64".parse().unwrap()),
                proto: Some(17),
                sport: Some(53),
                ..unlimited(Diversion::Rewrite, &place("SNPT"))
            },
        ];
        assert_eq!(rules(Family::Ipv6, "mangle", IPV6), expected);
    }

    #[test]
    fn the_verdict_queue() {
        let mut entry = vec![0; 112 + 40];
        entry[88..90].copy_from_slice(&112u16.to_ne_bytes());
        entry[90..92].copy_from_slice(&152u16.to_ne_bytes());
        entry[112..114].copy_from_slice(&40u16.to_ne_bytes());
        for (verdict, found) in [(-1, 0), (-2, 0), (-4, 1), (300, 0)] {
            entry[144..148].copy_from_slice(&i32::to_ne_bytes(verdict));
            assert_eq!(rules(Family::Ipv4, "filter", &entry).len(), found, "{verdict}");
        }
    }

    #[test]
    fn cut_off_anywhere_nothing_panics() {
        for whole in [IPV4, IPV6] {
            for cut in 0..whole.len() {
                for family in [Family::Ipv4, Family::Ipv6] {
                    let _ = rules(family, "t", &whole[cut..]);
                    let _ = rules(family, "t", &whole[..cut]);
                }
            }
        }
    }
}
