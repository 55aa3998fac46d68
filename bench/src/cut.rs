//! What one cut after another costs: CPU time of `netpath report --interval 1s` while as many flows move in each second.
//!
//! In: the netpath binary. Out: hundredths of a CPU, one for each run. Each flow is a datagram a second between two pods, through
//! two hooks.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use lab::traffic::{mac, send_datagrams, send_frames};
use lab::{Lab, read};

const SECONDS: u32 = 8;
/// Of these one is the reporter's own start.
const LEFT_OUT: u32 = 2;
const PORT: u16 = 9;
/// Ticks of `/proc/PID/stat` in a second, on every Linux that user space sees.
const TICKS: f64 = 100.0;

/// CPU of netpath's process with so many flows, `rounds` times.
pub fn measure(flows: u32, rounds: usize) -> Result<Vec<f64>> {
    let lab = Lab::builder().pod("client").pod("server").start()?;
    // Nobody listens, and nobody complains.
    let quiet = "add table inet rules1; add chain inet rules1 in1 { type filter hook input priority 0; }; \
                 add rule inet rules1 in1 udp dport 9-19 drop";
    lab.pod("server").namespace.output("nft", &[quiet])?;
    let frames = frames(&lab, flows)?;
    (0..rounds).map(|_| run(&lab, flows, &frames)).collect()
}

fn run(lab: &Lab, flows: u32, frames: &[Vec<u8>]) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("reports");
    let window = lab.open_window(&["--interval", "1s", "--output", path.to_str().context("a path")?])?;
    let begin = Instant::now();
    let mut ticks = Vec::new();
    for second in 0..SECONDS {
        // Spread over the second, as real ones are.
        for (tenth, part) in frames.chunks(frames.len().div_ceil(10)).enumerate() {
            send_frames(&lab.pod("client").namespace, "eth0", part)?;
            let due = Duration::from_secs(second.into()) + Duration::from_millis(100) * (u32::try_from(tenth)? + 1);
            sleep(due.saturating_sub(begin.elapsed()));
        }
        ticks.push((begin.elapsed(), cpu_ticks(window.id())?));
    }
    window.finish()?;
    let text = fs::read_to_string(&path)?;
    let last = text.lines().rev().nth(1).context("too few reports")?;
    let report: lab::Report = read(last.as_bytes())?;
    let seen = u32::try_from(report.flows.len())?;
    ensure!(seen >= flows / 10 * 9, "{seen} flows in a second, and not {flows}");
    let ((from, before), (to, after)) = (ticks[LEFT_OUT as usize - 1], ticks[ticks.len() - 1]);
    #[expect(clippy::cast_precision_loss, reason = "some seconds")]
    let cpu_seconds = (after - before) as f64 / TICKS;
    Ok(100.0 * cpu_seconds / to.saturating_sub(from).as_secs_f64())
}

/// User and system time of a process and all its threads.
fn cpu_ticks(process: u32) -> Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // Behind the name, which may have anything in it, the state is the first field, and these are the 12th and 13th.
    let (_, fields) = stat.rsplit_once(") ").context("no stat")?;
    fields.split(' ').skip(11).take(2).map(|ticks| Ok(ticks.parse::<u64>()?)).sum()
}

/// A frame of each flow, from the client to the server.
fn frames(lab: &Lab, flows: u32) -> Result<Vec<Vec<u8>>> {
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    send_datagrams(&client.namespace, (server.ipv4, PORT).into(), 10, 1)?;
    let (from, to) = (mac(&client.namespace, "eth0")?, mac(&lab.node.namespace, &client.veth)?);
    (0..flows)
        .map(|flow| {
            let (port, beyond) = (u16::try_from(1_024 + flow % 60_000)?, u16::try_from(flow / 60_000)?);
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(from, to)
                .ipv4(client.ipv4.octets(), server.ipv4.octets(), 64)
                .udp(port, PORT + beyond)
                .write(&mut frame, &[0; 8])?;
            Ok(frame)
        })
        .collect()
}
