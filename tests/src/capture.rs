//! Packet capture by tcpdump on one device. A witness for what a single packet looks like at one place.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;

use crate::namespace::Namespace;
use crate::process::{Running, output_within};

const LIMIT: Duration = Duration::from_secs(10);

/// A tcpdump that is running. Dropping it stops it and discards what it captured.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Running,
    files: TempDir,
}

/// A captured packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Length including the Ethernet header, in bytes.
    pub frame_bytes: u32,
    /// How tcpdump describes it: numeric addresses, absolute sequence numbers, Ethernet header first.
    pub text: String,
}

impl Capture {
    /// Captures what matches `filter` (may be empty: everything) on a device, both directions. Returns when tcpdump listens.
    ///
    /// # Errors
    /// When tcpdump is not installed, or refuses the device or the filter.
    pub fn start(namespace: &Namespace, device: &str, filter: &str) -> Result<Self> {
        let files = tempfile::tempdir().context("cannot make a directory for the capture")?;
        let complaints =
            File::create(files.path().join("stderr")).context("cannot write to the capture's directory")?;
        let mut command = namespace.command("tcpdump")?;
        // Headers are enough; a large buffer, so that none is missed.
        command.args(["-n", "-U", "--immediate-mode", "-Z", "root", "-s", "256", "-B", "32768", "-i", device, "-w"]);
        command.arg(files.path().join("packets.pcap")).arg(filter);
        let tcpdump = Running::spawn(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(complaints))?;
        let capture = Self { tcpdump, files };
        let end = Instant::now() + LIMIT;
        loop {
            // Read once a turn: what it says may arrive between two readings, and in pieces.
            let said = capture.complaints()?;
            if said.contains("listening on") {
                break;
            }
            ensure!(
                Instant::now() < end && !(said.contains("tcpdump: ") && said.ends_with('\n')),
                "tcpdump on {device} does not start: {}",
                said.trim()
            );
            thread::sleep(Duration::from_millis(2));
        }
        Ok(capture)
    }

    /// Stops capturing. Only what was captured before the call is sure to be included.
    ///
    /// # Errors
    /// When tcpdump missed packets: then it is no witness.
    pub fn stop(self) -> Result<Vec<Packet>> {
        let Self { tcpdump, files } = self;
        tcpdump.signal(libc::SIGINT);
        tcpdump.wait(LIMIT)?;
        let said = complaints(&files)?;
        if !said.lines().any(|line| line == "0 packets dropped by kernel") {
            bail!("tcpdump missed packets; send fewer or filter more: {}", said.trim());
        }
        let file = files.path().join("packets.pcap");
        let output = output_within(Command::new("tcpdump").args(["-n", "-e", "-S", "-t", "-r"]).arg(&file), LIMIT)?;
        ensure!(
            output.status.success(),
            "tcpdump cannot read its file: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        // Further lines about one packet are indented.
        let text = String::from_utf8_lossy(&output.stdout);
        text.lines().filter(|line| !line.starts_with(char::is_whitespace)).map(packet).collect()
    }

    fn complaints(&self) -> Result<String> {
        complaints(&self.files)
    }
}

fn complaints(files: &TempDir) -> Result<String> {
    fs::read_to_string(files.path().join("stderr")).context("cannot read what tcpdump said")
}

/// `02:… > 02:…, ethertype IPv4 (0x0800), length 98: 10.0.0.21 > …`
fn packet(line: &str) -> Result<Packet> {
    let length = line.split_once(", length ").and_then(|(_, rest)| rest.split_once(": ")?.0.parse().ok());
    let frame_bytes = length.with_context(|| format!("tcpdump's line has no length: {line:?}"))?;
    Ok(Packet { frame_bytes, text: line.to_owned() })
}
