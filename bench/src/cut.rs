//! What one cut after another costs: CPU time of `netpath report --interval 1s`, and of `netpath serve`, while as many flows move in
//! each window.
//!
//! In: the netpath binary. Out: hundredths of a CPU, one for each run. Each flow is a datagram a window between two pods, through
//! two hooks.

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use lab::traffic::{FrameSocket, mac, send_datagrams};
use lab::{Lab, Running, http, read, wait_until};

/// How many windows a run has.
const WINDOWS: u32 = 8;
/// As many datagrams a second as the machine can be trusted to forward. Windows of more flows are longer.
const MOST_A_SECOND: u32 = 40_000;
/// Of these windows one is the reporter's own start.
const LEFT_OUT: u32 = 2;
/// The first of the server's.
const PORT: u16 = 9;
/// The client's, for each of the server's.
const PORTS: u32 = 60_000;

/// What the report of each window is written as.
#[derive(Clone, Copy, Debug)]
pub enum Format {
    /// For people, as by default.
    Table,
    /// With each flow.
    Json,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Table => "table",
            Self::Json => "json",
        }
    }

    /// How many flows each window had, by its report.
    fn flows(self, text: &str) -> Result<Vec<u32>> {
        match self {
            Self::Json => {
                let of = |line: &str| Ok(u32::try_from(read::<lab::Report>(line.as_bytes())?.flows.len())?);
                text.lines().map(of).collect()
            }
            // The column before the path, in the rows below each head.
            Self::Table => {
                let conns = |line: &str| -> Result<u32> {
                    let words: Vec<&str> = line.split_whitespace().collect();
                    let path = words.iter().position(|word| *word == "local");
                    Ok(path.map(|path| words[path - 1].parse()).transpose()?.unwrap_or(0))
                };
                let rows = |part: &str| part.lines().filter(|line| line.contains("/udp")).map(conns).sum();
                text.split(" CONVERSATION").skip(1).map(rows).collect()
            }
        }
    }
}

/// CPU of netpath's process with so many flows and a window a second, `rounds` times.
pub fn measure(flows: u32, format: Format, rounds: usize) -> Result<Vec<f64>> {
    with_receivers(flows, |lab, frames| (0..rounds).map(|_| run(lab, flows, format, frames)).collect())
}

/// What `netpath serve` takes.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Hundredths of a CPU.
    pub cpu: f64,
    /// The most resident memory so far, in millions of bytes.
    pub peak_mb: f64,
}

/// `netpath serve` with so many flows in each window of ten seconds.
pub fn serve(flows: u32) -> Result<Served> {
    const INTERVAL: Duration = Duration::from_secs(10);
    const WINDOWS: u32 = 3;
    with_receivers(flows, |lab, frames| {
        let client = FrameSocket::open(&lab.pod("client").namespace, "eth0")?;
        let mut netpath = lab.netpath(&["serve", "--eni", "eth*", "--interval", "10s"])?;
        let netpath = Running::spawn(netpath.stdin(Stdio::null()).stderr(Stdio::null()))?;
        let ready = || {
            let answer = http::get(&lab.node.namespace, (Ipv4Addr::LOCALHOST, 9456).into(), "/readyz", "");
            answer.is_ok_and(|answer| answer.status == 200)
        };
        wait_until("netpath is ready", ready);
        let (begin, mut sent) = (Instant::now(), 0);
        let mut send_until = |end: Duration| -> Result<()> {
            while begin.elapsed() < end {
                for part in frames.chunks(frames.len().div_ceil(100)) {
                    client.send(part)?;
                    sent += 1;
                    sleep((INTERVAL / 100 * sent).saturating_sub(begin.elapsed()));
                }
            }
            Ok(())
        };
        // The first window has netpath's own start.
        send_until(INTERVAL)?;
        let before = cpu_time(netpath.id())?;
        send_until(INTERVAL * (1 + WINDOWS))?;
        let used = cpu_time(netpath.id())?.saturating_sub(before);
        let status = fs::read_to_string(format!("/proc/{}/status", netpath.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("VmHWM")?;
        let peak_kb: f64 = peak.trim().trim_end_matches(" kB").parse()?;
        let cpu = 100.0 * used.as_secs_f64() / (INTERVAL * WINDOWS).as_secs_f64();
        Ok(Served { cpu, peak_mb: peak_kb * 1024.0 / 1e6 })
    })
}

/// A node, a frame of each flow, and those who receive them.
fn with_receivers<T>(flows: u32, work: impl FnOnce(&Lab, &[Vec<u8>]) -> Result<T>) -> Result<T> {
    let lab = Lab::builder().pod("client").pod("server").start()?;
    let frames = frames(&lab, flows)?;
    let ports = (0..=u16::try_from(flows / PORTS)?).map(|beyond| PORT + beyond);
    let sockets = ports.map(|port| receiver(&lab, port)).collect::<Result<Vec<_>>>()?;
    let done = AtomicBool::new(false);
    scope(|scope| {
        for socket in &sockets {
            scope.spawn(|| discard(socket, &done));
        }
        let measured = work(&lab, &frames);
        done.store(true, Ordering::Relaxed);
        measured
    })
}

/// A socket that has room for a tenth of a second's datagrams: a drop would cost netpath more than a delivery.
fn receiver(lab: &Lab, port: u16) -> Result<UdpSocket> {
    let socket = lab.pod("server").namespace.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)))??;
    let bytes: libc::c_int = 1 << 26;
    let size = libc::socklen_t::try_from(size_of_val(&bytes))?;
    // SAFETY: the option is an int of this size, and lives as long as the call.
    let set = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, (&raw const bytes).cast(), size)
    };
    ensure!(set == 0, "no room to receive: {}", std::io::Error::last_os_error());
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Takes datagrams by the hundred: to be woken by each would take the sender's CPU.
fn discard(socket: &UdpSocket, done: &AtomicBool) {
    while !done.load(Ordering::Relaxed) {
        while socket.recv(&mut [0; 16]).is_ok() {}
        sleep(Duration::from_millis(20));
    }
}

fn run(lab: &Lab, flows: u32, format: Format, frames: &[Vec<u8>]) -> Result<f64> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("reports");
    let client = FrameSocket::open(&lab.pod("client").namespace, "eth0")?;
    let seconds = 1 + flows / MOST_A_SECOND;
    let interval = format!("{seconds}s");
    let arguments = ["--interval", &interval, "--output", path.to_str().context("a path")?];
    let window = lab.open_report(format.name(), &arguments)?;
    let begin = Instant::now();
    let mut used = Vec::new();
    let tenth = Duration::from_millis(100) * seconds;
    for number in 0..WINDOWS {
        // Spread over the window, as real ones are.
        for (index, part) in frames.chunks(frames.len().div_ceil(10)).enumerate() {
            client.send(part)?;
            let due = tenth * (10 * number + u32::try_from(index)? + 1);
            sleep(due.saturating_sub(begin.elapsed()));
        }
        used.push((begin.elapsed(), cpu_time(window.id())?));
    }
    window.finish()?;
    let text = fs::read_to_string(&path)?;
    let all = format.flows(&text)?;
    // The first window and the last one are not whole.
    let whole = all.get(1..all.len().saturating_sub(1)).filter(|whole| !whole.is_empty()).context("too few windows")?;
    let seen = whole.iter().sum::<u32>() / u32::try_from(whole.len())?;
    ensure!(seen >= flows / 10 * 9, "{seen} flows in a window, and not {flows}: the machine is too slow, or busy");
    let ((from, before), (to, after)) = (used[LEFT_OUT as usize - 1], used[used.len() - 1]);
    // As if there were one a second.
    let windows = to.saturating_sub(from).as_secs_f64() / f64::from(seconds);
    Ok(100.0 * after.saturating_sub(before).as_secs_f64() / windows)
}

/// What all threads of a process have used, past ones included. Ticks of `/proc/PID/stat` would be wrong for one that sleeps
/// whenever a tick comes, or never.
fn cpu_time(process: u32) -> Result<Duration> {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both pointers are to what the functions fill, and live as long as the calls.
    let read = unsafe {
        libc::clock_getcpuclockid(process.try_into()?, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    ensure!(read, "no CPU time of process {process}");
    Ok(Duration::new(time.tv_sec.try_into()?, time.tv_nsec.try_into()?))
}

/// A frame of each flow, from the client to the server.
fn frames(lab: &Lab, flows: u32) -> Result<Vec<Vec<u8>>> {
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    send_datagrams(&client.namespace, (server.ipv4, PORT).into(), 10, 1)?;
    let (from, to) = (mac(&client.namespace, "eth0")?, mac(&lab.node.namespace, &client.veth)?);
    (0..flows)
        .map(|flow| {
            let (port, beyond) = (u16::try_from(1_024 + flow % PORTS)?, u16::try_from(flow / PORTS)?);
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(from, to)
                .ipv4(client.ipv4.octets(), server.ipv4.octets(), 64)
                .udp(port, PORT + beyond)
                .write(&mut frame, &[0; 8])?;
            Ok(frame)
        })
        .collect()
}
