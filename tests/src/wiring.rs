//! Builds a lab's namespaces, links, addresses, routes and rules with `ip`, as the VPC CNI and a VPC would.
//!
//! Two things differ from a real node, for counters that stand still when nobody sends: every neighbour entry is permanent (no
//! ARP, no neighbour discovery), and devices have no link-local IPv6 address. Neither IPv4 nor IPv6 redirects are sent.

use std::fmt::Write;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sha1::{Digest, Sha1};

use crate::cable::{Cable, QUEUE_FRAMES};
use crate::namespace::Namespace;
use crate::offload::set_merge_wait;
use crate::topology::{Eni, Host, Lab, NODE_ETH1_IPV4, Pod};
use crate::traffic::mac as mac_of;

/// MTU inside a VPC.
const VPC_MTU: u32 = 9001;
/// MTU through an internet gateway.
const OUTSIDE_MTU: u32 = 1500;
/// Long enough for the next frame on the cable to come, if the machine is not too busy.
const MERGE_WAIT: Duration = Duration::from_millis(4);
/// The second ENI's routing table.
const ETH1_TABLE: u32 = 2;
const POD_GATEWAY_IPV4: &str = "169.254.1.1";
const POD_GATEWAY_IPV6: &str = "fe80::1";

/// Every namespace: no traffic but what is sent on purpose. `default` is what new devices start with.
const QUIET: &[(&str, &str)] = &[
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    ("net/ipv6/conf/default/dad_transmits", "0"),
    ("net/ipv6/conf/default/accept_ra", "0"),
    ("net/ipv6/conf/default/accept_redirects", "0"),
    // Reports of multicast groups cannot be switched off: be done with them in the first milliseconds.
    ("net/ipv6/conf/default/mldv1_unsolicited_report_interval", "1"),
    ("net/ipv6/conf/default/mldv2_unsolicited_report_interval", "1"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    ("net/ipv4/conf/all/send_redirects", "0"),
];

/// The node and the VPC's router.
const FORWARD: &[(&str, &str)] = &[("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")];

/// Makes everything that `lab` describes. With a `card` the primary ENI is one; its cable is returned.
pub(crate) fn build(lab: &Lab, card: bool) -> Result<Option<Cable>> {
    let mut namespaces = String::new();
    for namespace in lab.namespaces() {
        writeln!(namespaces, "netns add {}", namespace.name())?;
    }
    batch(&[], &namespaces)?;
    for namespace in lab.namespaces() {
        if namespace == &lab.node.namespace || namespace == &lab.vpc {
            namespace.write_sysctls(FORWARD)?;
        }
        namespace.write_sysctls(QUIET)?;
    }

    let ends = ((&lab.node.namespace, "eth0"), (&lab.vpc, "node-eth0"));
    let cable = card.then(|| Cable::connect(ends.0, ends.1)).transpose()?;
    let (node, rules) = node(lab, card)?;
    ip_batch(&lab.node.namespace, &node)?;
    batch(&["-n", lab.node.namespace.name(), "-6"], &rules)?;
    ip_batch(&lab.vpc, &vpc(lab, card)?)?;
    for pod in lab.pods() {
        ip_batch(&pod.namespace, &pod_side(pod)?)?;
    }
    for (host, router_device) in [(&lab.outside, "outside0"), (&lab.remote, "remote0")] {
        ip_batch(&host.namespace, &host_side(host, router_device)?)?;
    }
    if card {
        set_merge_wait(&lab.node.namespace, "eth0", MERGE_WAIT)?;
    }
    Ok(cable)
}

/// The node's links, and its rules for IPv6.
fn node(lab: &Lab, card: bool) -> Result<(String, String)> {
    let mut all = String::from("link set lo up\n");
    let mut ipv6_rules = String::new();
    let vpc = lab.vpc.name();

    if card {
        card_up(&mut all, "eth0", &near_mac("eth0"))?;
    } else {
        eni(&mut all, "eth0", vpc)?;
    }
    writeln!(all, "addr add {}/24 dev eth0", lab.node.ipv4)?;
    writeln!(all, "addr add {}/64 dev eth0", lab.node.ipv6)?;
    for router in lab.node.routers() {
        writeln!(all, "neigh add {router} lladdr {} dev eth0 nud permanent", far_mac("eth0"))?;
        writeln!(all, "route add default via {router} dev eth0")?;
    }
    if lab.has_eth1() {
        let [router, _] = lab.node.routers();
        eni(&mut all, "eth1", vpc)?;
        // The CNI takes the subnet's route away from the main table.
        writeln!(all, "addr add {NODE_ETH1_IPV4}/24 dev eth1 noprefixroute")?;
        writeln!(all, "neigh add {router} lladdr {} dev eth1 nud permanent", far_mac("eth1"))?;
        writeln!(all, "route add {router} dev eth1 table {ETH1_TABLE}")?;
        writeln!(all, "route add default via {router} dev eth1 table {ETH1_TABLE}")?;
    }
    for rules in [&mut all, &mut ipv6_rules] {
        writeln!(rules, "rule add pref 1024 fwmark 0x80/0x80 lookup main")?;
    }
    for pod in lab.pods() {
        let (veth, far) = (&pod.veth, pod.namespace.name());
        veth_pair(&mut all, veth, "eth0", far, VPC_MTU)?;
        for address in pod.addresses() {
            writeln!(all, "neigh add {address} lladdr {} dev {veth} nud permanent", far_mac(veth))?;
            writeln!(all, "route add {address} dev {veth}")?;
        }
        writeln!(all, "rule add pref 512 to {} lookup main", pod.ipv4)?;
        writeln!(ipv6_rules, "rule add pref 512 to {} lookup main", pod.ipv6)?;
        if pod.eni == Eni::Secondary {
            writeln!(all, "rule add pref 1536 from {} lookup {ETH1_TABLE}", pod.ipv4)?;
        }
    }
    Ok((all, ipv6_rules))
}

fn eni(batch: &mut String, name: &str, vpc: &str) -> Result<()> {
    veth_pair(batch, name, &format!("node-{name}"), vpc, VPC_MTU)
}

/// One of the two devices at the ends of a cable.
fn card_up(batch: &mut String, name: &str, mac: &str) -> Result<()> {
    writeln!(batch, "link set dev {name} mtu {VPC_MTU} address {mac} txqueuelen {QUEUE_FRAMES} up")?;
    Ok(())
}

/// A pair whose far end is in another namespace; the near end is set up.
fn veth_pair(batch: &mut String, near: &str, far: &str, far_namespace: &str, mtu: u32) -> Result<()> {
    let (mac, far_mac) = (near_mac(near), far_mac(near));
    writeln!(
        batch,
        "link add name {near} mtu {mtu} address {mac} type veth \
         peer name {far} mtu {mtu} address {far_mac} netns {far_namespace}"
    )?;
    writeln!(batch, "link set {near} up")?;
    Ok(())
}

/// The VPC's router: one address a subnet, and a route to each address by the ENI that has it.
fn vpc(lab: &Lab, card: bool) -> Result<String> {
    let mut all = String::from("link set lo up\n");
    if card {
        card_up(&mut all, "node-eth0", &far_mac("eth0"))?;
    }
    let [router_ipv4, router_ipv6] = lab.node.routers();
    writeln!(
        all,
        "link set node-eth0 up\naddr add {router_ipv4}/32 dev node-eth0\naddr add {router_ipv6}/128 dev node-eth0"
    )?;
    for address in lab.node.addresses() {
        writeln!(all, "neigh add {address} lladdr {} dev node-eth0 nud permanent", near_mac("eth0"))?;
        writeln!(all, "route add {address} dev node-eth0")?;
    }
    if lab.has_eth1() {
        writeln!(all, "link set node-eth1 up\nroute add {NODE_ETH1_IPV4} dev node-eth1")?;
        writeln!(all, "neigh add {NODE_ETH1_IPV4} lladdr {} dev node-eth1 nud permanent", near_mac("eth1"))?;
    }
    for pod in lab.pods() {
        match pod.eni {
            Eni::Primary => writeln!(all, "route add {} via {} dev node-eth0 onlink", pod.ipv4, lab.node.ipv4)?,
            Eni::Secondary => writeln!(all, "route add {} via {NODE_ETH1_IPV4} dev node-eth1 onlink", pod.ipv4)?,
        }
        writeln!(all, "route add {} via {} dev node-eth0 onlink", pod.ipv6, lab.node.ipv6)?;
    }
    for (name, host, mtu) in [("outside0", &lab.outside, OUTSIDE_MTU), ("remote0", &lab.remote, VPC_MTU)] {
        veth_pair(&mut all, name, "eth0", host.namespace.name(), mtu)?;
        for (router, address) in host.routers().into_iter().zip(host.addresses()) {
            writeln!(all, "addr add {router}/{} dev {name}", subnet_bits(address))?;
            writeln!(all, "neigh add {address} lladdr {} dev {name} nud permanent", far_mac(name))?;
        }
    }
    Ok(all)
}

fn pod_side(pod: &Pod) -> Result<String> {
    let mut all = String::from("link set lo up\nlink set eth0 up\n");
    writeln!(all, "addr add {}/32 dev eth0\naddr add {}/128 dev eth0", pod.ipv4, pod.ipv6)?;
    for gateway in [POD_GATEWAY_IPV4, POD_GATEWAY_IPV6] {
        writeln!(all, "neigh add {gateway} lladdr {} dev eth0 nud permanent", near_mac(&pod.veth))?;
        writeln!(all, "route add {gateway} dev eth0\nroute add default via {gateway} dev eth0")?;
    }
    Ok(all)
}

/// A host behind the router's device `router_device`.
fn host_side(host: &Host, router_device: &str) -> Result<String> {
    let mut all = String::from("link set lo up\nlink set eth0 up\n");
    for (router, address) in host.routers().into_iter().zip(host.addresses()) {
        writeln!(all, "addr add {address}/{} dev eth0", subnet_bits(address))?;
        writeln!(all, "neigh add {router} lladdr {} dev eth0 nud permanent", near_mac(router_device))?;
        writeln!(all, "route add default via {router} dev eth0")?;
    }
    Ok(all)
}

fn subnet_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 24 } else { 64 }
}

/// MAC address of a pair's near end: unique in a lab and the same each time.
fn near_mac(near: &str) -> String {
    mac(0, near)
}

fn far_mac(near: &str) -> String {
    mac(1, near)
}

fn mac(side: u8, near: &str) -> String {
    let digest = Sha1::digest(near);
    format!("02:{side:02x}:{:02x}:{:02x}:{:02x}:{:02x}", digest[0], digest[1], digest[2], digest[3])
}

/// Runs `ip` in a namespace; the arguments are separated by spaces.
///
/// # Errors
/// When it refuses.
pub fn ip(namespace: &Namespace, arguments: &str) -> Result<()> {
    namespace.output("ip", &arguments.split(' ').collect::<Vec<_>>()).map(drop)
}

/// Runs `ip` commands in a namespace, one a line.
///
/// # Errors
/// When one is refused; those before it are done.
pub fn ip_batch(namespace: &Namespace, commands: &str) -> Result<()> {
    batch(&["-n", namespace.name()], commands)
}

/// Makes two ends of a link (namespace, device and address) know each other for good, so that neither asks for the other.
///
/// # Errors
/// When a device is not there, or is no Ethernet device.
pub fn introduce(one: (&Namespace, &str, &str), other: (&Namespace, &str, &str)) -> Result<()> {
    for ((here, device, _), (there, far, address)) in [(one, other), (other, one)] {
        let mac = mac_of(there, far)?.map(|byte| format!("{byte:02x}")).join(":");
        ip(here, &format!("neigh replace {address} lladdr {mac} dev {device} nud permanent"))?;
    }
    Ok(())
}

fn batch(options: &[&str], batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(options)
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start ip; install iproute2 (`cargo xtask setup` does)")?;
    // Short batches fit the pipe; ip ends at the first line that fails, and its own words tell more than a broken pipe.
    let written = child.stdin.take().context("ip has no stdin")?.write_all(batch.as_bytes());
    let output = child.wait_with_output().context("cannot wait for ip")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let line = complaint.rsplit("Command failed -:").next().and_then(|number| number.trim().parse::<usize>().ok());
        let command = line.and_then(|line| batch.lines().nth(line - 1)).unwrap_or(batch);
        bail!("ip {} failed: {} in: {command}", options.join(" "), complaint.trim());
    }
    written.context("cannot write to ip")
}
