//! How long netpath takes from its start to the first packet that it counts, and from then to its end, by the number of devices.
//!
//! In: the netpath binary. Out: milliseconds. The command that netpath measures sends one datagram at once, and says when;
//! the report must have it.

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lab::{Lab, ip_batch, netpath_binary, output_within};
use serde_json::Value;

use crate::clock::monotonic_ns;

const PORT: u16 = 9;
const LIMIT: Duration = Duration::from_mins(2);
const SENT: &str = "sent at ";

/// One start.
pub struct Started {
    /// From the start of the process to the first packet, in ms.
    pub first_packet_ms: f64,
    /// From that packet to the end of the process, in ms.
    pub end_ms: f64,
}

/// What was measured with a number of devices, each with two programs: attached as the kernel prefers, and as legacy filters.
pub struct Starts {
    /// How many devices.
    pub devices: usize,
    /// One a round.
    pub tcx: Vec<Started>,
    /// With `--clsact`; one a round.
    pub clsact: Vec<Started>,
}

/// Starts netpath `rounds` times in both ways, in turn.
pub fn measure(devices: usize, rounds: u32) -> Result<Starts> {
    let lab = lab_with(devices)?;
    let (mut tcx, mut clsact) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        tcx.push(start(&lab, devices, &[])?);
        clsact.push(start(&lab, devices, &["--clsact"])?);
    }
    Ok(Starts { devices, tcx, clsact })
}

/// Starts a netpath that shows one datagram from the node to the pod as JSON: from its start to that datagram, in ms.
pub fn first_packet_ms(lab: &Lab, arguments: &[&str]) -> Result<f64> {
    let to = SocketAddr::new(lab.pod("pod").ipv4.into(), PORT);
    let mut command = lab.node.namespace.command(netpath_binary()?)?;
    command.args(arguments).args(["--format", "json", "--eni", "eth*", "--"]);
    command.arg(std::env::current_exe()?).args(["child", "send", &to.to_string()]);
    let begin = monotonic_ns();
    let output = output_within(&mut command, LIMIT)?;
    let messages = String::from_utf8_lossy(&output.stderr);
    let sent: u64 = messages
        .lines()
        .find_map(|line| line.strip_prefix(SENT)?.parse().ok())
        .with_context(|| format!("netpath did not run its command: {}", messages.trim()))?;
    let first: Value =
        serde_json::Deserializer::from_slice(&output.stdout).into_iter().next().context("no output")??;
    ensure!(first["trip"] == 1, "the first packet is not in netpath's trace");
    Ok(ms(sent - begin))
}

/// Starts netpath on the node of a lab that has a pod named `pod`, and lets it measure one datagram from the node to the pod.
fn start(lab: &Lab, devices: usize, arguments: &[&str]) -> Result<Started> {
    let to = SocketAddr::new(lab.pod("pod").ipv4.into(), PORT);
    let mut command = lab.node.namespace.command(netpath_binary()?)?;
    command.args(["report", "--offline", "--format", "json", "--eni", "eth*"]).args(arguments).arg("--");
    command.arg(std::env::current_exe()?).args(["child", "send", &to.to_string()]);
    let begin = monotonic_ns();
    let output = output_within(&mut command, LIMIT)?;
    let end = monotonic_ns();
    let messages = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "netpath failed: {}", messages.trim());
    let sent: u64 = messages
        .lines()
        .find_map(|line| line.strip_prefix(SENT)?.parse().ok())
        .context("netpath did not run its command")?;
    let report: Value = serde_json::from_slice(&output.stdout).context("netpath wrote no JSON")?;
    let empty = Vec::new();
    let list = |name: &str| report[name].as_array().unwrap_or(&empty);
    ensure!(
        list("flows").iter().any(|flow| flow["dport"] == PORT && flow["packets"] == 1),
        "the first packet is not in netpath's report"
    );
    let attached = list("devices").iter().filter(|device| device["attach"] != "none").count();
    ensure!(attached == devices, "netpath was attached to {attached} of {devices} devices");
    Ok(Started { first_packet_ms: ms(sent - begin), end_ms: ms(end - sent) })
}

#[expect(clippy::cast_precision_loss, reason = "less than 2^52 ns")]
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// How long the kernel's RCU grace period is on this machine, as a sleeping process sees it, in ms.
pub fn grace_period_ms() -> Result<Vec<f64>> {
    (0..101)
        .map(|_| {
            let begin = monotonic_ns();
            // SAFETY: MEMBARRIER_CMD_GLOBAL takes no addresses.
            let answer = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
            ensure!(answer == 0, "membarrier: {}", std::io::Error::last_os_error());
            Ok(ms(monotonic_ns() - begin))
        })
        .collect()
}

/// The child's part: what netpath runs as its command.
pub fn child(to: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.send_to(&[0; 8], to).context("cannot send")?;
    eprintln!("{SENT}{}", monotonic_ns());
    Ok(())
}

/// A lab whose node has this many devices to attach to, in veth pairs.
fn lab_with(devices: usize) -> Result<Lab> {
    let lab = Lab::builder().pod("pod").start()?;
    // The lab's own are an ENI and a pod's veth.
    let pairs = devices.saturating_sub(2) / 2;
    let mut batch = String::new();
    for number in 0..pairs {
        writeln!(batch, "link add name veth{number}a type veth peer name veth{number}b")?;
    }
    ip_batch(&lab.node.namespace, &batch)?;
    Ok(lab)
}
