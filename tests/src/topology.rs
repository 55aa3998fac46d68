//! What is in a lab: the node, its pods, the VPC router and the hosts beyond it, with their names and addresses.
//!
//! Building it is `wiring`'s part, address translation `nat`'s, removal `cleanup`'s.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use sha1::{Digest, Sha1};

use crate::cable::Cable;
use crate::cleanup;
use crate::counters::{Counters, device_counters};
use crate::namespace::Namespace;
use crate::wiring;

/// The VPC's IPv4 addresses; beyond them the node translates, if told so.
pub const VPC_CIDR: &str = "10.0.0.0/16";
/// The primary address of the node's second ENI.
pub const NODE_ETH1_IPV4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 6);
/// The Kubernetes namespace of every pod.
pub const POD_NAMESPACE: &str = "default";

/// Counters must have stood still for this long to count as quiet.
const QUIET: Duration = Duration::from_millis(200);
const QUIET_WITHIN: Duration = Duration::from_secs(5);

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A simulated node and its surroundings. Dropping it removes all of it.
#[derive(Debug)]
pub struct Lab {
    /// The node. `eth0` is its primary ENI, `eth1` the second (if a pod is on it), `eni…` are host-side veths of pods.
    pub node: Host,
    /// A host outside the VPC, behind a link of 1500 bytes MTU as internet gateways have.
    pub outside: Host,
    /// Another node or pod of the VPC in another subnet, reached through the ENI.
    pub remote: Host,
    /// The VPC's router, between the node's ENIs, `outside` and `remote`. Not part of the node.
    pub vpc: Namespace,
    pods: Vec<Pod>,
    cable: Option<Cable>,
    online: bool,
}

/// A namespace with one IPv4 and one IPv6 address on `eth0`.
#[derive(Clone, Debug)]
pub struct Host {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
}

/// A pod of the node, wired as the VPC CNI wires it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its Kubernetes name; its Kubernetes namespace is [`POD_NAMESPACE`].
    pub name: String,
    /// Its network namespace, with one device `eth0`.
    pub namespace: Namespace,
    /// Its IPv4 address.
    pub ipv4: Ipv4Addr,
    /// Its IPv6 address.
    pub ipv6: Ipv6Addr,
    /// The ENI its IPv4 address belongs to. IPv6 always uses the primary ENI, as in EKS.
    pub eni: Eni,
    /// Name of the veth's end in the node.
    pub veth: String,
}

/// One of the node's ENIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eni {
    /// `eth0`, main routing table.
    Primary,
    /// `eth1`, a routing table of its own.
    Secondary,
}

/// Says which pods a lab shall have.
#[derive(Debug, Default)]
pub struct LabBuilder {
    subnet: u8,
    pods: Vec<(String, Eni)>,
    card: bool,
    online: bool,
}

impl LabBuilder {
    /// Adds a pod on the primary ENI. The name may have lower-case letters, digits and dashes.
    #[must_use]
    pub fn pod(self, name: &str) -> Self {
        self.pod_on(name, Eni::Primary)
    }

    /// Adds a pod on an ENI. The second ENI exists if a pod is on it.
    #[must_use]
    pub fn pod_on(mut self, name: &str, eni: Eni) -> Self {
        self.pods.push((name.to_owned(), eni));
        self
    }

    /// The node and its pods are in 10.0.N.0/24 and `2001:db8:a:N+1::/64`. Other than 0, where a node is without this, there is no
    /// second ENI; 1 is `remote`'s.
    #[must_use]
    pub fn subnet(mut self, number: u8) -> Self {
        self.subnet = number;
        self
    }

    /// Makes the primary ENI a network card that counts frames as they are on its cable, while the kernel merges them
    /// (GRO) and cuts them (GSO). It is slow: a few hundred MB a second. Without it, it is one end of a veth pair.
    #[must_use]
    pub fn card(mut self) -> Self {
        self.card = true;
        self
    }

    /// Lets netpath ask the instance metadata service and ipamd. What it asks, and their answers, are packets that the
    /// lab's counters have and the window that netpath measures has not.
    #[must_use]
    pub fn online(mut self) -> Self {
        self.online = true;
        self
    }

    /// Builds the lab, after removing what killed processes left of theirs.
    ///
    /// # Errors
    /// When not root, when a tool or a kernel feature is missing, or for an invalid or repeated pod name.
    pub fn start(self) -> Result<Lab> {
        // SAFETY: geteuid(2) has no arguments and cannot fail.
        let user = unsafe { libc::geteuid() };
        ensure!(
            user == 0,
            "the lab needs root to make network namespaces; run it by `sudo -E env \"PATH=$PATH\" cargo xtask …`"
        );
        let _building = cleanup::building();
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        cleanup::remove_stale(number);

        let namespace = |label: &str| Namespace::named(format!("netpath-{}-{number}-{label}", process::id()));
        let host = |label: &str, ipv4: [u8; 4], ipv6: [u16; 8]| Host {
            namespace: namespace(label),
            ipv4: ipv4.into(),
            ipv6: ipv6.into(),
        };
        let (third, ipv6_subnet) = (self.subnet, u16::from(self.subnet) + 1);
        ensure!(third != 1, "subnet 1 is that of `remote`");
        let has_eth1 = self.pods.iter().any(|(_, eni)| *eni == Eni::Secondary);
        ensure!(third == 0 || !has_eth1, "a node in subnet {third} has one ENI");
        let mut lab = Lab {
            node: host("node", [10, 0, third, 5], [0x2001, 0xdb8, 0xa, ipv6_subnet, 0, 0, 0, 5]),
            outside: host("outside", [198, 51, 100, 7], [0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 7]),
            remote: host("remote", [10, 0, 1, 31], [0x2001, 0xdb8, 0xa, 2, 0, 0, 0, 0x31]),
            vpc: namespace("vpc"),
            pods: Vec::new(),
            cable: None,
            online: self.online,
        };
        ensure!(self.pods.len() <= 200, "a lab has room for 200 pods, not for {}", self.pods.len());
        for (index, (name, eni)) in (21..).zip(self.pods) {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            ensure!(
                !name.is_empty() && name.bytes().all(plain),
                "pod name {name:?} has other than lower-case letters, digits and dashes"
            );
            ensure!(lab.pods.iter().all(|pod| pod.name != name), "there are two pods named {name}");
            lab.pods.push(Pod {
                namespace: namespace(&format!("pod-{name}")),
                ipv4: Ipv4Addr::new(10, 0, third, index),
                // Written like the IPv4 address's last byte: ::21 is pod 10.0.0.21.
                ipv6: format!("2001:db8:a:{ipv6_subnet:x}::{index}").parse()?,
                eni,
                veth: veth_name(POD_NAMESPACE, &name),
                name,
            });
        }
        // From here on a failure drops the lab, which removes what there is of it.
        lab.cable = wiring::build(&lab, self.card)?;
        Ok(lab)
    }
}

impl Lab {
    /// A lab without pods, to add some to.
    #[must_use]
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// The pod of this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Pod {
        self.pods.iter().find(|pod| pod.name == name).unwrap_or_else(|| panic!("the lab has no pod named {name}"))
    }

    /// All pods of the node.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// All namespaces of the lab, the node's first.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        [&self.node.namespace, &self.vpc, &self.outside.namespace, &self.remote.namespace]
            .into_iter()
            .chain(self.pods.iter().map(|pod| &pod.namespace))
    }

    /// A netpath command, to run in the node.
    ///
    /// # Errors
    /// When there is no netpath binary; see [`netpath_binary`](crate::netpath_binary).
    pub fn netpath(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.node.namespace.command(crate::netpath_binary()?)?;
        command.args(arguments);
        if !self.online {
            command.env("NETPATH_OFFLINE", "1");
        }
        Ok(command)
    }

    /// Waits until no counter of any device has changed for 200 ms.
    ///
    /// # Errors
    /// When that does not happen within 5 s; the message names what still moves.
    pub fn wait_until_quiet(&self) -> Result<()> {
        let end = Instant::now() + QUIET_WITHIN;
        let mut last = self.all_counters()?;
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            thread::sleep(Duration::from_millis(10));
            let now = self.all_counters()?;
            let moving: Vec<_> = now.iter().filter(|(device, counters)| last.get(device) != Some(counters)).collect();
            if !moving.is_empty() {
                ensure!(
                    Instant::now() < end,
                    "the lab is not quiet after {QUIET_WITHIN:?}; these counters still move: {moving:?}"
                );
                since = Instant::now();
            }
            last = now;
        }
        Ok(())
    }

    pub(crate) fn has_eth1(&self) -> bool {
        self.pods.iter().any(|pod| pod.eni == Eni::Secondary)
    }

    fn all_counters(&self) -> Result<BTreeMap<(Namespace, String), Counters>> {
        let mut all = BTreeMap::new();
        for namespace in self.namespaces() {
            all.extend(
                device_counters(namespace)?
                    .into_iter()
                    .map(|(device, counters)| ((namespace.clone(), device), counters)),
            );
        }
        Ok(all)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let names: Vec<_> = self.namespaces().map(|namespace| namespace.name().to_owned()).collect();
        cleanup::remove(&names);
    }
}

impl Pod {
    /// The pod's addresses, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }
}

impl Host {
    /// The routers of its subnets, IPv4 first: the first address of each.
    pub(crate) fn routers(&self) -> [IpAddr; 2] {
        let [o0, o1, o2, _] = self.ipv4.octets();
        let [s0, s1, s2, s3, ..] = self.ipv6.segments();
        [Ipv4Addr::new(o0, o1, o2, 1).into(), Ipv6Addr::new(s0, s1, s2, s3, 0, 0, 0, 1).into()]
    }

    /// The host's addresses, IPv4 first.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.ipv4.into(), self.ipv6.into()]
    }
}

/// The name that the VPC CNI gives the host-side veth of a pod.
#[must_use]
pub fn veth_name(namespace: &str, pod: &str) -> String {
    let digest = format!("{:x}", Sha1::digest(format!("{namespace}.{pod}")));
    format!("eni{}", &digest[..11])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn veth_names_are_those_of_the_vpc_cni() {
        // printf default.client | sha1sum
        assert_eq!(veth_name("default", "client"), "enia7a3e029a7b");
    }
}
