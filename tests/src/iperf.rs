//! iperf3 between two namespaces, and what iperf3 itself says it moved. A witness for payload bytes.

use std::fs;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::namespace::Namespace;
use crate::process::{Running, output_within};

/// Longer than any load a test should run.
const LIMIT: Duration = Duration::from_mins(1);

/// What iperf3 shall send, from client to server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Load {
    /// One TCP connection, this many payload bytes.
    TcpBytes(u64),
    /// One TCP connection as fast as it goes, for this many seconds.
    TcpSeconds(u32),
    /// UDP datagrams of `datagram_bytes` payload, `bytes` in all, at 50 Mbit/s.
    Udp {
        /// Payload bytes in all.
        bytes: u64,
        /// Payload bytes of each datagram.
        datagram_bytes: u16,
    },
}

/// iperf3's own count of payload bytes. Its control connection (a few kB on the same server port) is not in it.
///
/// A TCP receiver stops reading when the sender says that it is done, so a few hundred kB in flight are in `sent_bytes` only,
/// and may or may not have crossed a device. UDP datagrams that find the server's socket full have
/// crossed all devices and are in `sent_bytes` only. For traffic of an exact size take [`traffic`](crate::traffic).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// What the client says it sent.
    pub sent_bytes: u64,
    /// What the server says it received.
    pub received_bytes: u64,
}

/// Runs iperf3: a server on `server_port` of one namespace, and a client in another that connects to `target` (the server's
/// address, or a service that stands for it).
///
/// # Errors
/// When iperf3 is not installed, cannot connect, or does not end within a minute.
pub fn iperf3(
    server: &Namespace,
    server_port: u16,
    client: &Namespace,
    target: SocketAddr,
    load: Load,
) -> Result<Totals> {
    let _server = start_server(server, server_port)?;
    let mut command = client_command(client, target)?;
    match load {
        Load::TcpBytes(bytes) => command.args(["--bytes", &bytes.to_string()]),
        Load::TcpSeconds(seconds) => command.args(["--time", &seconds.to_string()]),
        Load::Udp { bytes, datagram_bytes } => command.args([
            "--udp",
            "--bitrate",
            "50M",
            "--bytes",
            &bytes.to_string(),
            "--length",
            &datagram_bytes.to_string(),
        ]),
    };
    let output = output_within(&mut command, LIMIT)?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| format!("iperf3 printed no JSON: {}", String::from_utf8_lossy(&output.stderr).trim()))?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3 from {} to {target}: {error}", client.name());
    }
    ensure!(output.status.success(), "iperf3 ended with {}", output.status);
    let bytes = |sum: &str| {
        report["end"][sum]["bytes"].as_u64().with_context(|| format!("iperf3's report has no end.{sum}.bytes"))
    };
    Ok(Totals { sent_bytes: bytes("sum_sent")?, received_bytes: bytes("sum_received")? })
}

/// A load as fast as it goes, without end: until it is dropped. What it moves is for the devices' counters to say.
#[derive(Debug)]
pub struct Stream {
    _client: Running,
    _server: Running,
}

impl Stream {
    /// Starts iperf3 as [`iperf3`] does: one TCP connection, or UDP datagrams with this many bytes of payload each.
    ///
    /// # Errors
    /// When iperf3 is not installed.
    pub fn start(
        server: &Namespace,
        server_port: u16,
        client: &Namespace,
        target: SocketAddr,
        datagram_bytes: Option<u16>,
    ) -> Result<Self> {
        let server = start_server(server, server_port)?;
        let mut command = client_command(client, target)?;
        command.args(["--time", "0", "--affinity", "0,1"]);
        if let Some(bytes) = datagram_bytes {
            command.args(["--udp", "--bitrate", "0", "--length", &bytes.to_string()]);
        }
        let client = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
        Ok(Self { _client: client, _server: server })
    }
}

fn start_server(namespace: &Namespace, port: u16) -> Result<Running> {
    let mut command = namespace.command("iperf3")?;
    command.args(["--server", "--one-off", "--port", &port.to_string()]);
    let server = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()))?;
    wait_for_listener(namespace, port)?;
    Ok(server)
}

fn client_command(namespace: &Namespace, target: SocketAddr) -> Result<Command> {
    let mut command = namespace.command("iperf3")?;
    let (address, port) = (target.ip().to_string(), target.port().to_string());
    command.args(["--json", "--connect-timeout", "3000", "--client", &address, "--port", &port]);
    Ok(command)
}

/// Waits until a socket of the namespace listens on a TCP port.
fn wait_for_listener(namespace: &Namespace, port: u16) -> Result<()> {
    let end = Instant::now() + Duration::from_secs(5);
    // Second column: local address, as hexadecimal address:port. Fourth: state; 0A listens.
    let local = format!(":{port:04X}");
    let listens = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.len() > 3 && columns[1].ends_with(&local) && columns[3] == "0A"
    };
    loop {
        let sockets = namespace
            .run(|| ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}"))))?;
        if sockets.iter().flatten().any(|table| table.lines().any(listens)) {
            return Ok(());
        }
        ensure!(Instant::now() < end, "nothing listens on TCP port {port} in namespace {} after 5 s", namespace.name());
        thread::sleep(Duration::from_millis(2));
    }
}
