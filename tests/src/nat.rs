//! What a cluster does to packets on their way through the node: the CNI's SNAT, kube-proxy's services, a network policy.
//!
//! Real nftables (or iptables) rules in the node's namespace; each function adds one, none is there at the start, and without
//! any the kernel tracks no connections.

use std::io::Write;
use std::net::SocketAddr;
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};

use crate::topology::{Lab, VPC_CIDR};

/// `externalTrafficPolicy` of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// The node takes the client's place, so that the backend's reply comes back this way. Needed for remote backends.
    Cluster,
    /// The client's address is kept; for backends on this node only.
    Local,
}

/// The CNI marks connections that must use the primary ENI (both ways) with 0x80; rule 1024 routes them.
const CNI_MARK: &str = "0x80";
/// kube-proxy marks what is to be masqueraded.
const MASQUERADE_MARK: &str = "0x4000";

impl Lab {
    /// The CNI's SNAT: what pods send to beyond the VPC leaves by the primary ENI, from the node's primary address and a
    /// random port. IPv4 only, as in EKS.
    ///
    /// # Errors
    /// When nftables refuses the rules.
    pub fn snat(&self) -> Result<()> {
        self.nft(&format!(
            "table ip aws_snat {{
               chain set_marks {{
                 type filter hook prerouting priority mangle
                 iifname \"eni*\" ip daddr != {VPC_CIDR} ct state new ct mark set ct mark or {CNI_MARK}
                 iifname \"eni*\" meta mark set ct mark and {CNI_MARK}
               }}
               chain translate {{
                 type nat hook postrouting priority srcnat
                 ip daddr != {VPC_CIDR} fib daddr type != local snat to {} fully-random
               }}
             }}",
            self.node.ipv4
        ))
    }

    /// A service address that stands for one backend: a pod of this node or a remote one. A backend that calls its own
    /// service is masqueraded (hairpin). Reached by pods and by the node itself; TCP and UDP.
    ///
    /// # Errors
    /// When nftables refuses the rules, or for a second service with the same address family and port.
    pub fn cluster_ip(&self, service: SocketAddr, backend: SocketAddr) -> Result<()> {
        let family = family(service, backend)?;
        let (vip, port, pod) = (service.ip(), service.port(), backend.ip());
        let rules: String = ["tcp", "udp"]
            .iter()
            .flat_map(|protocol| {
                let matched = format!("{family} daddr {vip} {protocol} dport {port}");
                [
                    format!("{matched} {family} saddr {pod} meta mark set meta mark or {MASQUERADE_MARK}\n"),
                    format!("{matched} dnat to {backend}\n"),
                ]
            })
            .collect();
        self.nft(&format!(
            "create table {family} cluster_ip_{port}
             table {family} cluster_ip_{port} {{
               chain services {{
                 {rules}
               }}
               chain prerouting {{
                 type nat hook prerouting priority dstnat
                 jump services
               }}
               chain output {{
                 type nat hook output priority -100
                 jump services
               }}
               {MASQUERADE}
             }}"
        ))
    }

    /// Gives a TCP service a name (`namespace`, `name`, `port`), where kube-proxy's nftables mode has it. No packet passes
    /// these rules.
    ///
    /// # Errors
    /// When nftables refuses the rules.
    pub fn name_service(&self, service: SocketAddr, [namespace, name, port]: [&str; 3]) -> Result<()> {
        let family = family(service, service)?;
        let address = if service.is_ipv4() { "ipv4_addr" } else { "ipv6_addr" };
        let chain = format!("service-ULMVA6XW-{namespace}/{name}/tcp/{port}");
        self.nft(&format!(
            "table {family} kube-proxy {{
               chain {chain} {{ }}
               map service-ips {{
                 type {address} . inet_proto . inet_service : verdict
                 elements = {{ {} . tcp . {} : goto {chain} }}
               }}
             }}",
            service.ip(),
            service.port()
        ))
    }

    /// As [`cluster_ip`](Self::cluster_ip), with the rules that kube-proxy's iptables mode makes; IPv4 TCP only.
    ///
    /// # Errors
    /// When iptables refuses a rule.
    pub fn cluster_ip_by_iptables(&self, service: SocketAddr, backend: SocketAddr) -> Result<()> {
        ensure!(service.is_ipv4() && backend.is_ipv4(), "{service} or {backend} is not IPv4");
        let (vip, port, pod) = (service.ip(), service.port(), backend.ip());
        let matched = format!("-d {vip}/32 -p tcp -m tcp --dport {port}");
        for rule in [
            "-N KUBE-SERVICES".to_owned(),
            format!("-A KUBE-SERVICES {matched} -s {pod}/32 -j MARK --or-mark {MASQUERADE_MARK}"),
            format!("-A KUBE-SERVICES {matched} -j DNAT --to-destination {backend}"),
            "-A PREROUTING -j KUBE-SERVICES".to_owned(),
            "-A OUTPUT -j KUBE-SERVICES".to_owned(),
            format!("-A POSTROUTING -m mark --mark {MASQUERADE_MARK}/{MASQUERADE_MARK} -j MASQUERADE --random-fully"),
        ] {
            let arguments: Vec<_> = ["-w", "-t", "nat"].into_iter().chain(rule.split(' ')).collect();
            self.node.namespace.output("iptables", &arguments)?;
        }
        Ok(())
    }

    /// A port of the node's own addresses that stands for one backend, TCP and UDP.
    ///
    /// # Errors
    /// When nftables refuses the rules, or for a second service on the same port.
    pub fn node_port(&self, port: u16, backend: SocketAddr, policy: TrafficPolicy) -> Result<()> {
        let family = family(backend, backend)?;
        let mark = match policy {
            TrafficPolicy::Cluster => format!("meta mark set meta mark or {MASQUERADE_MARK}"),
            TrafficPolicy::Local => String::new(),
        };
        self.nft(&format!(
            "create table {family} node_port_{port}
             table {family} node_port_{port} {{
               chain set_marks {{
                 type filter hook prerouting priority mangle
                 iifname \"eth0\" fib daddr type local ct mark set ct mark or {CNI_MARK}
                 iifname \"eni*\" meta mark set ct mark and {CNI_MARK}
               }}
               chain prerouting {{
                 type nat hook prerouting priority dstnat
                 fib daddr type local tcp dport {port} {mark} dnat to {backend}
                 fib daddr type local udp dport {port} {mark} dnat to {backend}
               }}
               {MASQUERADE}
             }}"
        ))
    }

    /// A network policy that lets nothing out of a pod: the node drops what the pod sends beyond the node itself.
    ///
    /// # Panics
    /// When there is no pod of this name.
    ///
    /// # Errors
    /// When nftables refuses the rule, or when the pod is denied already.
    pub fn deny(&self, pod: &str) -> Result<()> {
        let veth = &self.pod(pod).veth;
        self.nft(&format!(
            "create table inet deny_{veth}
             table inet deny_{veth} {{
               chain forward {{
                 type filter hook forward priority filter
                 iifname \"{veth}\" drop
               }}
             }}"
        ))
    }

    /// Adds rules to the node.
    ///
    /// # Errors
    /// When nftables refuses them.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut command = self.node.namespace.command("nft")?;
        let mut child = command
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start nft; install nftables (`cargo xtask setup` does)")?;
        let written = child.stdin.take().context("nft has no stdin")?.write_all(rules.as_bytes());
        let output = child.wait_with_output().context("cannot wait for nft")?;
        if !output.status.success() {
            bail!("nft failed: {} in:\n{rules}", String::from_utf8_lossy(&output.stderr).trim());
        }
        written.context("cannot write to nft")
    }
}

/// Bits 0x4000 of the mark are set by the rule that rewrites the destination.
const MASQUERADE: &str = "chain postrouting {
                 type nat hook postrouting priority srcnat
                 meta mark and 0x4000 != 0 masquerade fully-random
               }";

fn family(service: SocketAddr, backend: SocketAddr) -> Result<&'static str> {
    ensure!(service.is_ipv4() == backend.is_ipv4(), "{service} and {backend} are of different address families");
    Ok(if service.is_ipv4() { "ip" } else { "ip6" })
}
