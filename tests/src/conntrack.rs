//! The kernel's connection table, from `/proc/net/nf_conntrack` and its like as read inside a namespace: a witness on another
//! way than netlink. And a way to fill it.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::ops::Range;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::namespace::Namespace;

/// One connection as the kernel tracks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// IP protocol number: 6 TCP, 17 UDP, 1 ICMP.
    pub protocol: u8,
    /// As the first packet had it, before translation.
    pub original: Tuple,
    /// As a reply has it when it arrives: source and destination of the translated packet, swapped.
    pub reply: Tuple,
    /// The connection's mark.
    pub mark: u32,
}

/// One direction of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source port, of protocols that have ports.
    pub sport: Option<u16>,
    /// Destination port, of protocols that have ports.
    pub dport: Option<u16>,
    /// The identifier of an ICMP echo.
    pub icmp_id: Option<u16>,
}

/// All connections that the namespace tracks now.
///
/// # Errors
/// When the table cannot be read (the kernel needs `CONFIG_NF_CONNTRACK_PROCFS`) or has a line that is not as expected.
pub fn connections(namespace: &Namespace) -> Result<Vec<Connection>> {
    let text = namespace
        .run(|| fs::read_to_string("/proc/thread-self/net/nf_conntrack"))?
        .context("cannot read /proc/net/nf_conntrack; the lab needs a kernel with CONFIG_NF_CONNTRACK_PROCFS")?;
    text.lines().map(|line| parse(line).with_context(|| format!("unexpected line in nf_conntrack: {line:?}"))).collect()
}

/// A number of the namespace's connection tracking: "count" of connections, "max" of the whole machine.
///
/// # Errors
/// When the kernel has none of this name.
pub fn conntrack_number(namespace: &Namespace, name: &str) -> Result<u64> {
    let path = format!("/proc/sys/net/netfilter/nf_conntrack_{name}");
    let text = namespace.run(|| fs::read_to_string(&path))?.with_context(|| format!("cannot read {path}"))?;
    text.trim().parse().with_context(|| format!("{path} says {text:?}"))
}

/// How many packets the namespace's connection tracking has dropped so far, on all CPUs.
///
/// # Errors
/// When `/proc/net/stat/nf_conntrack` cannot be read or is not as expected.
pub fn conntrack_drops(namespace: &Namespace) -> Result<u64> {
    let text = namespace.run(|| fs::read_to_string("/proc/thread-self/net/stat/nf_conntrack"))?;
    let text = text.context("cannot read /proc/net/stat/nf_conntrack")?;
    drops(&text).with_context(|| format!("unexpected text in nf_conntrack: {text:?}"))
}

/// A line of names, then one of hexadecimal numbers for each CPU.
fn drops(text: &str) -> Option<u64> {
    let mut lines = text.lines().map(str::split_whitespace);
    let column = lines.next()?.position(|name| name == "drop")?;
    lines.map(|mut line| u64::from_str_radix(line.nth(column)?, 16).ok()).sum()
}

/// Puts connections of such numbers into the namespace's table, each another: answered, so that the kernel does not give them
/// up for others, and none of them with a packet.
///
/// # Errors
/// When `conntrack` is missing or the kernel refuses one.
pub fn add_connections(namespace: &Namespace, numbers: Range<u64>) -> Result<()> {
    const PORTS: u64 = 60_000;
    let mut lines = String::new();
    for number in numbers {
        let (sport, dport) = (1 + number % PORTS, 1 + number / PORTS);
        let connection = format!("-s 192.0.2.1 -d 192.0.2.2 -p udp --sport {sport} --dport {dport}");
        writeln!(lines, "-I {connection} -t 3600 -u SEEN_REPLY,ASSURED")?;
    }
    let mut command = namespace.command("conntrack")?;
    // By this name also where /dev has no stdin.
    let mut child = command.args(["-R", "/proc/self/fd/0"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let written = child.stdin.take().context("conntrack has no stdin")?.write_all(lines.as_bytes());
    let output = child.wait_with_output()?;
    ensure!(output.status.success(), "conntrack failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(written?)
}

/// `ipv4 2 tcp 6 119 TIME_WAIT src=… dst=… sport=… dport=… src=… dst=… sport=… dport=… [ASSURED] mark=0 zone=0 use=2`
fn parse(line: &str) -> Option<Connection> {
    let protocol = line.split_whitespace().nth(3)?.parse().ok()?;
    let pairs: Vec<(&str, &str)> = line.split_whitespace().filter_map(|word| word.split_once('=')).collect();
    let second = pairs.iter().rposition(|(key, _)| *key == "src")?;
    let (original, reply) = pairs.split_at(second);
    let mark = reply.iter().find(|(key, _)| *key == "mark").map_or(Some(0), |(_, value)| value.parse().ok())?;
    Some(Connection { protocol, original: tuple(original)?, reply: tuple(reply)?, mark })
}

fn tuple(pairs: &[(&str, &str)]) -> Option<Tuple> {
    let value = |wanted: &str| pairs.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
    let number = |wanted: &str| value(wanted).and_then(|value| value.parse().ok());
    Some(Tuple {
        src: value("src")?.parse().ok()?,
        dst: value("dst")?.parse().ok()?,
        sport: number("sport"),
        dport: number("dport"),
        icmp_id: number("id"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translated_tcp_connection() {
        let line = "ipv4     2 tcp      6 117 TIME_WAIT src=10.0.0.21 dst=198.51.100.7 sport=46480 dport=443 \
                    src=198.51.100.7 dst=10.0.0.5 sport=443 dport=18667 [ASSURED] mark=128 zone=0 use=2";
        let found = parse(line).unwrap();
        assert_eq!((found.protocol, found.mark), (6, 128));
        assert_eq!((found.original.src, found.original.sport), ("10.0.0.21".parse().unwrap(), Some(46480)));
        assert_eq!((found.reply.dst, found.reply.dport), ("10.0.0.5".parse().unwrap(), Some(18667)));
    }

    #[test]
    fn drops_of_two_cpus() {
        let text = "entries  clashres drop early_drop\n00000001 00000000 0000000a 00000000\n00000001 00000000 00000010 00000000\n";
        assert_eq!(drops(text), Some(26));
        assert_eq!(drops("entries\n1\n"), None);
    }

    #[test]
    fn an_unanswered_echo() {
        let line = "ipv6     10 icmpv6   58 29 src=2001:db8::1 dst=2001:db8::2 type=128 code=0 id=77 [UNREPLIED] \
                    src=2001:db8::2 dst=2001:db8::1 type=129 code=0 id=77 mark=0 zone=0 use=2";
        let found = parse(line).unwrap();
        assert_eq!((found.original.icmp_id, found.original.sport), (Some(77), None));
        assert_eq!(parse("ipv4 2 tcp 6 117 src=10.0.0.21"), None);
    }
}
