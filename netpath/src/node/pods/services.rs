//! The names of services, from the NAT rules that kube-proxy makes.
//!
//! In: nftables of the calling thread's network namespace, over netlink. Out: the address, port and name of each service.
//! Nothing is run and nothing is changed: `iptables` would take a lock that kube-proxy waits for, or load modules.
//!
//! | kube-proxy's mode | where its services are |
//! |---|---|
//! | iptables, by `iptables-nft` | table `nat`, chain `KUBE-SERVICES`: a rule each, with the name in its comment |
//! | nftables | table `kube-proxy`, map `service-ips`: an element each, with the name in that of its chain |
//!
//! In its other modes (IPVS, and iptables by the legacy `iptables`) the names are not in nftables.

use std::io;

use ipnet::IpNet;

use super::root::HostRoot;
use super::{Records, SourceError, SourceReading, is_label};
use crate::model::{NameSource, NameSourceState};
use crate::netlink::attributes::{Attributes, find, ip};
use crate::node::nftables::Nftables;
use crate::node::nftables::conditions::Conditions;
use crate::node::nftables::expression::{Expression, expressions, text};
use crate::snapshot::ServiceRecord;

// linux/netfilter/nf_tables.h: NFTA_*.
const LIST_ELEMENT: u16 = 1;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CHAIN: u16 = 2;
const SET_ELEMENTS: u16 = 3;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;

/// More services than a cluster has.
const LIMIT: usize = 200_000;

/// Reads the rules.
#[must_use]
pub fn read(_: &HostRoot) -> SourceReading {
    let mut services = Vec::new();
    if let Err(error) = read_all(&mut services) {
        let why = format!("nftables rules cannot be read: {error}");
        return reading(services, Some(SourceError::new(NameSourceState::Unreadable, why)));
    }
    services.truncate(LIMIT);
    let error = services.is_empty().then(|| {
        let why =
            "nftables has no services of kube-proxy (names of its IPVS mode and of legacy iptables cannot be read)";
        SourceError::new(NameSourceState::Absent, why)
    });
    reading(services, error)
}

fn reading(services: Vec<ServiceRecord>, error: Option<SourceError>) -> SourceReading {
    SourceReading { facts: Records { pods: Vec::new(), services }, error }
}

fn read_all(services: &mut Vec<ServiceRecord>) -> io::Result<()> {
    let Some(mut nftables) = Nftables::open()? else { return Ok(()) };
    for family in [libc::AF_INET, libc::AF_INET6] {
        let family = family.to_be_bytes()[3];
        // What changes meanwhile is seen at the next reading.
        let rules =
            nftables.rules_of(family, "nat", "KUBE-SERVICES", |attributes| services.extend(rule(attributes, family)));
        let elements = nftables
            .elements_of(family, "kube-proxy", "service-ips", |attributes| elements(attributes, family, services));
        for outcome in [rules, elements] {
            match outcome {
                Err(error) if !is_absent(&error) => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// There is no such table, or the kernel has no nftables.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EOPNOTSUPP | libc::EINVAL | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT)
    )
}

/// The service of a rule like `-d 172.20.0.10/32 -p tcp -m comment --comment "default/web:http cluster IP" -m tcp --dport 80`;
/// `None` for a rule that selects by anything less.
pub fn rule(attributes: &[u8], family: u8) -> Option<ServiceRecord> {
    let (mut name, mut conditions) = (None, Conditions::of_family(family));
    for expression in expressions(attributes) {
        match expression {
            Expression::Match { name: "comment", info } => name = text(info).and_then(named_by_comment),
            Expression::Compare { equal: false, .. } => return None,
            _ => conditions.apply(&expression),
        }
    }
    Some(ServiceRecord {
        source: NameSource::KubeProxy,
        name: name?,
        proto: conditions.proto()?,
        address: conditions.dst().filter(is_host)?.addr(),
        port: conditions.dport()?,
    })
}

/// Whether it is one address.
fn is_host(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// The services of a map's elements: `172.20.0.10 . tcp . 80 : goto service-ULMVA6XW-default/web/tcp/http`.
pub fn elements(attributes: &[u8], family: u8, services: &mut Vec<ServiceRecord>) {
    let one = |element: &[u8]| {
        let key = find(find(element, ELEMENT_KEY)?, DATA_VALUE)?;
        let verdict = find(find(element, ELEMENT_DATA)?, DATA_VERDICT)?;
        let chain = text(find(verdict, VERDICT_CHAIN)?)?;
        // Each part of a key begins at a multiple of four bytes.
        let (address, rest) = key.split_at_checked(if family == 2 { 4 } else { 16 })?;
        Some(ServiceRecord {
            source: NameSource::KubeProxy,
            name: named_by_chain(chain)?,
            proto: *rest.first()?,
            address: ip(address)?,
            port: u16::from_be_bytes(rest.get(4..6)?.try_into().ok()?),
        })
    };
    let list = Attributes::new(find(attributes, SET_ELEMENTS).unwrap_or_default()).flatten();
    services.extend(list.filter(|element| element.kind == LIST_ELEMENT).filter_map(|element| one(element.value)));
}

/// "default/web:http" of "default/web:http cluster IP".
fn named_by_comment(comment: &str) -> Option<String> {
    let (name, _) = comment.split_once(' ')?;
    let (namespace, service) = name.split_once('/')?;
    let (service, port) = service.split_once(':').map_or((service, ""), |(service, port)| (service, port));
    full(namespace, service, port)
}

/// "default/web:http" of "service-ULMVA6XW-default/web/tcp/http", or of an "external-…".
fn named_by_chain(chain: &str) -> Option<String> {
    let rest = chain.strip_prefix("service-").or_else(|| chain.strip_prefix("external-"));
    let rest = rest.or_else(|| chain.strip_prefix("local-"))?;
    let (_hash, name) = rest.split_once('-')?;
    let mut parts = name.split('/');
    let (namespace, service, _protocol, port) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    parts.next().is_none().then(|| full(namespace, service, port))?
}

fn full(namespace: &str, service: &str, port: &str) -> Option<String> {
    if !is_label(namespace) || !is_label(service) {
        None
    } else if port.is_empty() {
        Some(format!("{namespace}/{service}"))
    } else {
        is_label(port).then(|| format!("{namespace}/{service}:{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let comment = |text| named_by_comment(text);
        assert_eq!(comment("default/web:http cluster IP").as_deref(), Some("default/web:http"));
        assert_eq!(comment("kube-system/kube-dns external IP").as_deref(), Some("kube-system/kube-dns"));
        for none in [
            "",
            "kubernetes service nodeports; NOTE: this must be the last rule in this chain",
            "default/web:http",
            "default/\u{1b}[31m:http cluster IP",
            "a/b/c cluster IP",
            "default/web:a:b cluster IP",
        ] {
            assert_eq!(comment(none), None, "{none}");
        }
        assert_eq!(named_by_chain("service-ULMVA6XW-default/web/tcp/http").as_deref(), Some("default/web:http"));
        assert_eq!(named_by_chain("external-ULMVA6XW-a-b/c-d/udp/").as_deref(), Some("a-b/c-d"));
        for none in
            ["", "service-", "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80", "service-X-a/b/tcp/c...", "reject"]
        {
            assert_eq!(named_by_chain(none), None, "{none}");
        }
    }

    /// Truncated or random bytes name nothing, and do not panic.
    #[test]
    fn nonsense() {
        let mut bytes: Vec<u8> = (0..255).chain(0..255).collect();
        for seed in 0..200 {
            bytes.rotate_left(seed % 7 + 1);
            for family in [2, 10] {
                assert_eq!(rule(&bytes[seed..], family), None);
                let mut services = Vec::new();
                elements(&bytes[seed..], family, &mut services);
                assert_eq!(services, []);
            }
        }
    }
}
