//! What may divert a packet between two hooks: IPsec policies, netfilter rules, IPVS services.
//!
//! In: the network namespace of the calling thread. Out: [`Diversions`], without local routes, which `node::devices` has. It
//! only reads, and asks for nothing that the kernel would load a module for. It does not decide which flows they apply to.
//!
//! | what | read by |
//! |---|---|
//! | IPsec policies | `NETLINK_XFRM` |
//! | rules of nftables, and of iptables and ebtables on it | `NETLINK_NETFILTER` |
//! | rules of legacy iptables | `getsockopt` of each table in `/proc/net/ip_tables_names`, `ip6_tables_names` |
//! | IPVS services | `/proc/net/ip_vs` |
//!
//! Legacy ebtables, which does not list its tables, is not read.

use std::collections::BTreeSet;
use std::ffi::CStr;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use self::legacy::Family;
pub use self::window::Watch;
use crate::node::nftables::Nftables;
use crate::snapshot::{Diversions, NetfilterRule, VirtualServer, XfrmPolicy};

pub mod ipvs;
pub mod legacy;
pub mod netfilter;
mod window;
pub mod xfrm;
mod xtables;

/// How long one reading may take. 20,000 rules take a second or two in a debug build; the kernel's dump is quadratic.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// How many of each kind are kept. Others are in `unread`.
const MAX_OF_A_KIND: usize = 20_000;
/// How often a dump is repeated that was interrupted by changes. What any of them had is kept.
const ATTEMPTS: u32 = 3;

/// Reads everything, within [`TIMEOUT`] or a little more. Blocks.
#[must_use]
pub fn read() -> Diversions {
    let mut reading = Reading::default();
    let end = Instant::now() + TIMEOUT;
    reading.note("IPsec policies", "ip xfrm policy", |reading| reading.xfrm(end));
    reading.note("nftables rules", "nft list ruleset", |reading| reading.nftables(end));
    for (family, what, command) in [
        (Family::Ipv4, "rules of legacy iptables", "iptables-legacy-save"),
        (Family::Ipv6, "rules of legacy ip6tables", "ip6tables-legacy-save"),
    ] {
        reading.note(what, command, |reading| keep(&mut reading.netfilter_rules, legacy::read(family)?));
    }
    reading.note("IPVS services", "ipvsadm -Ln", |reading| keep(&mut reading.virtual_servers, ipvs::read()?));
    reading.finish()
}

#[derive(Debug, Default)]
struct Reading {
    xfrm_policies: BTreeSet<XfrmPolicy>,
    netfilter_rules: BTreeSet<NetfilterRule>,
    virtual_servers: BTreeSet<VirtualServer>,
    unread: Vec<String>,
}

impl Reading {
    /// Reads one kind; if that fails, notes the error and goes on. `command` shows the same.
    fn note(&mut self, what: &str, command: &str, read: impl FnOnce(&mut Self) -> io::Result<()>) {
        if let Err(error) = read(self) {
            self.unread.push(match error.kind() {
                ErrorKind::PermissionDenied => {
                    format!("{what} cannot be read without CAP_NET_ADMIN; run as root or add the capability")
                }
                ErrorKind::TimedOut => {
                    format!("{what} could not be read within {} s; check how many `{command}` shows", TIMEOUT.as_secs())
                }
                _ => format!("{what} could not be read completely: {error}; check that `{command}` works"),
            });
        }
    }

    fn xfrm(&mut self, end: Instant) -> io::Result<()> {
        repeat(|| {
            let mut found = Vec::new();
            let changed = xfrm::read(end, |policy| found.push(policy))?;
            keep(&mut self.xfrm_policies, found)?;
            Ok(changed)
        })
    }

    fn nftables(&mut self, end: Instant) -> io::Result<()> {
        repeat(|| {
            let Some(nftables) = Nftables::open()? else { return Ok(false) };
            let mut full = Ok(());
            let changed = nftables.until(end).rules(|family, attributes| {
                let found = netfilter::rules(family, attributes, &device_name);
                if !found.is_empty() && full.is_ok() {
                    full = keep(&mut self.netfilter_rules, found);
                }
            });
            match changed {
                // nfnetlink without nftables.
                Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => Ok(false),
                outcome => full.and(outcome),
            }
        })
    }

    fn finish(self) -> Diversions {
        Diversions {
            local_routes: Vec::new(),
            xfrm_policies: self.xfrm_policies.into_iter().collect(),
            netfilter_rules: self.netfilter_rules.into_iter().collect(),
            virtual_servers: self.virtual_servers.into_iter().collect(),
            unread: self.unread,
        }
    }
}

/// Repeats a dump during which things changed.
fn repeat(mut dump: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
    for _ in 0..ATTEMPTS {
        if !dump()? {
            return Ok(());
        }
    }
    Err(io::Error::other("they change all the time"))
}

/// Keeps what there is room for.
fn keep<T: Ord>(kept: &mut BTreeSet<T>, found: Vec<T>) -> io::Result<()> {
    for one in found {
        if kept.len() >= MAX_OF_A_KIND && !kept.contains(&one) {
            return Err(io::Error::other(format!("there are more than {MAX_OF_A_KIND}")));
        }
        kept.insert(one);
    }
    Ok(())
}

/// The name of the device that has this index now.
fn device_name(index: u32) -> Option<String> {
    let mut name = [0; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the length that the function writes at most, and outlives the call.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr()) };
    if found.is_null() {
        return None;
    }
    // SAFETY: the function succeeded, and ended the name with a NUL.
    let name = unsafe { CStr::from_ptr(name.as_ptr()) };
    name.to_str().ok().map(str::to_owned)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_one_line_that_ends_with_what_to_do() {
        let line = |error: io::Error| {
            let mut reading = Reading::default();
            reading.note("nftables rules", "nft list ruleset", |_| Err(error));
            reading.finish().unread.remove(0)
        };
        let denied = line(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(denied, "nftables rules cannot be read without CAP_NET_ADMIN; run as root or add the capability");
        let late = line(ErrorKind::TimedOut.into());
        assert_eq!(late, "nftables rules could not be read within 5 s; check how many `nft list ruleset` shows");
        let other = line(io::Error::other("they change all the time"));
        assert!(other.ends_with("they change all the time; check that `nft list ruleset` works"), "{other}");
    }

    #[test]
    fn a_dump_that_is_interrupted_is_repeated() {
        let mut left = 2;
        repeat(|| {
            left -= 1;
            Ok(left > 0)
        })
        .unwrap();
        assert_eq!(left, 0);
        assert!(repeat(|| Ok(true)).is_err());
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let mut kept = (0..MAX_OF_A_KIND).collect::<BTreeSet<_>>();
        keep(&mut kept, vec![0, 1]).unwrap();
        assert!(keep(&mut kept, vec![MAX_OF_A_KIND]).is_err());
        assert_eq!(kept.len(), MAX_OF_A_KIND);
    }
}
