//! IPsec policies, read over netlink.
//!
//! In: the policies of the calling thread's network namespace (`ip xfrm policy`), those of both types (`ptype main` and `sub`).
//! Out: [`XfrmPolicy`]s. Opening a socket to a kernel without `xfrm_user` would load it: the kernel's own socket is looked for
//! first. Structures are those of `linux/xfrm.h`; numbers are in the machine's byte order, addresses and ports in network byte
//! order.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Instant;

use ipnet::IpNet;
use netlink_sys::protocols::NETLINK_XFRM;

use crate::netlink::{Attributes, Malformed, Requester, is_served};
use crate::node::nftables::conditions::has_ports;
use crate::snapshot::{XfrmDirection, XfrmPolicy, XfrmTemplate};

/// `XFRM_MSG_NEWPOLICY`, `XFRM_MSG_GETPOLICY`.
const NEW_POLICY: u16 = 0x13;
const GET_POLICY: u16 = 0x15;
/// `struct xfrm_userpolicy_id`, which a dump does not look at.
const ID_BYTES: usize = 64;
/// `struct xfrm_userpolicy_info`; attributes follow.
const POLICY_BYTES: usize = 168;
/// `struct xfrm_user_tmpl`.
const TEMPLATE_BYTES: usize = 64;
// enum xfrm_attr_type_t
const XFRMA_TMPL: u16 = 5;
const XFRMA_MARK: u16 = 21;
const XFRMA_IF_ID: u16 = 31;
/// `XFRM_POLICY_BLOCK`.
const BLOCK: u8 = 1;
/// `XFRM_MODE_TUNNEL`, `_BEET`, `_IPTFS`.
const MODES_WITH_TWO_HEADERS: [u8; 3] = [1, 4, 5];

const FAMILIES: [u16; 2] = [2, 10];

/// Reads all policies but those of sockets, until `deadline`. Returns whether they changed meanwhile, so that some may be missing.
pub fn read(deadline: Instant, mut each: impl FnMut(XfrmPolicy)) -> io::Result<bool> {
    if !is_served(NETLINK_XFRM)? {
        // Policies can be made without xfrm_user by PF_KEY alone.
        return if Path::new("/proc/thread-self/net/pfkey").exists() {
            Err(io::Error::other("the module xfrm_user is not loaded"))
        } else {
            Ok(false)
        };
    }
    Requester::open_to(NETLINK_XFRM)?.until(deadline).dump_all(GET_POLICY, &[0; ID_BYTES], "policies", |kind, body| {
        policies(kind, body).ok_or(Malformed)?.into_iter().for_each(&mut each);
        Ok(())
    })
}

/// The policy in a message: none if it is a socket's, two if it is for both families. `None` if the message is not as the
/// kernel's headers describe it.
pub fn policies(message_type: u16, body: &[u8]) -> Option<Vec<XfrmPolicy>> {
    if message_type != NEW_POLICY {
        return Some(Vec::new());
    }
    let (info, attributes) = body.split_at_checked(POLICY_BYTES)?;
    let direction = match info[160] {
        0 => XfrmDirection::In,
        1 => XfrmDirection::Out,
        2 => XfrmDirection::Forward,
        // XFRM_POLICY_MAX and on are those of sockets.
        _ => return Some(Vec::new()),
    };
    let (mut templates, mut marked, mut if_id) = (Vec::new(), false, 0);
    for attribute in Attributes::new(attributes) {
        let attribute = attribute.ok()?;
        match attribute.kind {
            XFRMA_TMPL => templates = attribute.value.chunks(TEMPLATE_BYTES).map(template).collect::<Option<_>>()?,
            // Value and mask.
            XFRMA_MARK => marked = attribute.value.iter().any(|byte| *byte != 0),
            XFRMA_IF_ID => if_id = attribute.u32().ok()?,
            _ => {}
        }
    }

    // `struct xfrm_selector` comes first: destination, source, their ports with masks, family, prefixes, protocol.
    let family = u16::from_ne_bytes([info[40], info[41]]);
    let proto = Some(info[44]).filter(|proto| *proto != 0);
    // Other protocols have the type and code of ICMP in the place of ports.
    let port = |at: usize| {
        let is_whole = info[at + 2..at + 4] == [0xff; 2] && proto.is_some_and(has_ports);
        is_whole.then(|| u16::from_be_bytes([info[at], info[at + 1]]))
    };
    let families = if family == 0 { FAMILIES.to_vec() } else { vec![family] };
    let one = |family: u16| {
        Some(XfrmPolicy {
            direction,
            src: IpNet::new(address(&info[16..32], family)?, info[43]).ok()?.trunc(),
            dst: IpNet::new(address(&info[0..16], family)?, info[42]).ok()?.trunc(),
            proto,
            sport: port(36),
            dport: port(32),
            blocks: info[161] == BLOCK,
            if_id,
            marked,
            templates: templates.clone(),
            priority: u32::from_ne_bytes(info[152..156].try_into().ok()?),
        })
    };
    families.into_iter().map(one).collect()
}

/// `struct xfrm_user_tmpl`: destination, SPI, protocol, family, source, request, mode, and what else.
fn template(bytes: &[u8]) -> Option<XfrmTemplate> {
    let bytes: &[u8; TEMPLATE_BYTES] = bytes.try_into().ok()?;
    let family = u16::from_ne_bytes([bytes[24], bytes[25]]);
    Some(XfrmTemplate {
        proto: bytes[20],
        tunnel: MODES_WITH_TWO_HEADERS.contains(&bytes[48]),
        src: address(&bytes[28..44], family)?,
        dst: address(&bytes[0..16], family)?,
    })
}

/// `xfrm_address_t`. A family that is unspecified is IPv4's, whose address is unspecified, too.
fn address(bytes: &[u8], family: u16) -> Option<IpAddr> {
    match family {
        0 | 2 => bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
        10 => bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::netlink::answers;

    // A dump of Linux 6.18, little-endian, while `ip xfrm policy` showed what is expected below and a policy of a socket.
    const DUMP: &[u8] = include_bytes!("../../../fuzz/seeds/answers/xfrm");

    fn bodies() -> Vec<Vec<u8>> {
        let mut bodies = Vec::new();
        answers(DUMP, 1, &mut false, |kind, body| {
            assert_eq!(kind, NEW_POLICY);
            bodies.push(body.to_vec());
        })
        .unwrap();
        bodies
    }

    #[test]
    fn policies_as_iproute2_shows_them() {
        let found: Vec<_> = bodies().iter().flat_map(|body| policies(NEW_POLICY, body).unwrap()).collect();
        let template = |proto, tunnel, src: &str, dst: &str| XfrmTemplate {
            proto,
            tunnel,
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
        };
        let expected = [
            // type 8 code 0 are no ports.
            XfrmPolicy {
                direction: XfrmDirection::In,
                src: "0.0.0.0/0".parse().unwrap(),
                dst: "10.0.0.1/32".parse().unwrap(),
                proto: Some(1),
                sport: None,
                dport: None,
                blocks: false,
                if_id: 0,
                marked: false,
                templates: vec![template(50, true, "fd00::1", "fd00::2")],
                priority: 0,
            },
            // ptype sub
            XfrmPolicy {
                direction: XfrmDirection::Forward,
                src: "fd00:1::/64".parse().unwrap(),
                dst: "::/0".parse().unwrap(),
                proto: None,
                sport: None,
                dport: None,
                blocks: true,
                if_id: 0,
                marked: false,
                templates: vec![],
                priority: 0,
            },
            XfrmPolicy {
                direction: XfrmDirection::Out,
                src: "10.0.0.0/24".parse().unwrap(),
                dst: "10.1.0.0/24".parse().unwrap(),
                proto: Some(6),
                sport: None,
                dport: Some(80),
                blocks: false,
                if_id: 9,
                marked: true,
                templates: vec![template(50, true, "1.1.1.1", "2.2.2.2"), template(51, false, "0.0.0.0", "0.0.0.0")],
                priority: 7,
            },
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn without_a_family_it_is_for_both() {
        let mut body = bodies()[1].clone();
        body[0..32].fill(0);
        body[40..44].fill(0);
        body[160] = 1;
        let families: Vec<_> = policies(NEW_POLICY, &body).unwrap().iter().map(|policy| policy.src).collect();
        assert_eq!(families, ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
    }

    #[test]
    fn cut_off_anywhere_nothing_panics() {
        for body in bodies() {
            for length in 0..body.len() {
                let found = policies(NEW_POLICY, &body[..length]);
                // Attributes end where the next one would begin.
                assert!(length >= POLICY_BYTES || found.is_none(), "{length}");
            }
        }
        assert_eq!(policies(GET_POLICY, &[]), Some(vec![]));
    }
}
