//! Which veths of this network namespace have their other end in a given one.
//!
//! In: network namespaces, to be opened. Out: indices of devices. The kernel numbers the namespaces that it knows from here
//! (`RTM_GETNSID`), and has that number at each veth (`IFLA_LINK_NETNSID`). A number is reused when its namespace is
//! gone; so a namespace is held open while it is looked up, and nothing can be taken for another's.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};

use super::SourceError;
use crate::model::NameSourceState;
use crate::netlink::attributes::attribute;
use crate::netlink::{Attributes, Requester};
use crate::node::devices;

// linux/rtnetlink.h, linux/net_namespace.h; the attributes are not in libc.
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;
/// `struct rtgenmsg`, padded.
const HEADER_BYTES: usize = 4;

/// So many are held open at a time; a process may often have no more than 1,024 files open.
const MAX_OPEN: usize = 64;

/// For each of `namespaces`, the veths that lead into it; none for one that `open` cannot open any more.
pub fn veths_into<T>(namespaces: &[T], open: impl Fn(&T) -> Option<OwnedFd>) -> Result<Vec<Vec<u32>>, SourceError> {
    let mut found = Vec::with_capacity(namespaces.len());
    for some in namespaces.chunks(MAX_OPEN) {
        found.extend(look_up(&some.iter().map(&open).collect::<Vec<_>>()).map_err(|error| {
            let why = format!("the kernel did not report which veth leads into which network namespace: {error:#}");
            SourceError::new(NameSourceState::Unreadable, why)
        })?);
    }
    Ok(found)
}

fn look_up(held: &[Option<OwnedFd>]) -> anyhow::Result<Vec<Vec<u32>>> {
    // First the veths: listing them, the kernel numbers the namespaces.
    let veths = devices::veths_to_elsewhere()?;
    let mut requester = Requester::open()?;
    let mut found = Vec::with_capacity(held.len());
    for namespace in held {
        let number = match namespace {
            Some(namespace) => number(&mut requester, namespace)?,
            None => None,
        };
        let leads = |&&(_, elsewhere): &&(u32, i32)| Some(elsewhere) == number;
        found.push(veths.iter().filter(leads).map(|(ifindex, _)| *ifindex).collect());
    }
    Ok(found)
}

/// The kernel's number for a namespace; `None` if it has none, or the descriptor is not of a namespace.
fn number(requester: &mut Requester, namespace: &OwnedFd) -> io::Result<Option<i32>> {
    let mut body = vec![0; HEADER_BYTES];
    body.extend(attribute(NETNSA_FD, &namespace.as_raw_fd().to_ne_bytes()));
    let mut number = None;
    let answered = requester.get(libc::RTM_GETNSID, &body, |message_type, body| {
        number = number.or(netnsid(message_type, body));
    });
    match answered {
        // Not a namespace.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(None),
        answered => answered.map(|()| number),
    }
}

/// The number in an answer; `None` for -1, which stands for a namespace without one.
#[must_use]
pub fn netnsid(message_type: u16, body: &[u8]) -> Option<i32> {
    if message_type != libc::RTM_NEWNSID {
        return None;
    }
    let number = Attributes::after(HEADER_BYTES, body).ok()?.find(NETNSA_NSID)?;
    number.i32().ok().filter(|number| *number >= 0)
}
