//! The demonstration: netpath's report on a simulated node, while two pods talk to each other and one downloads from outside.
//!
//! In: options of `netpath report`, passed on, and `--nat`. Out: the report on stdout; on stderr what is going on, and what iperf3
//! and the kernel counted, to hold the report against. It leaves nothing behind, also when interrupted.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::traffic::{Serve, TcpServer, download};
use lab::{
    Counters, Lab, Load, Namespace, Running, clean_up_when_interrupted, device_counters, iperf3, stop_if_interrupted,
};

/// First argument of the process that netpath measures.
const TRAFFIC: &str = "make-traffic";
const IPERF_SECONDS: u32 = 3;
const IPERF_PORT: u16 = 5201;
const DOWNLOAD_BYTES: u64 = 64 << 20;
const LIMIT: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == TRAFFIC => make_traffic(rest).map(|()| ExitCode::SUCCESS),
        _ => clean_up_when_interrupted("demo").and_then(|()| demonstrate(&arguments)),
    };
    stop_if_interrupted();
    result.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

fn demonstrate(arguments: &[String]) -> Result<ExitCode> {
    let (nat, options): (Vec<&str>, Vec<&str>) =
        arguments.iter().map(String::as_str).partition(|option| *option == "--nat");
    let nat = !nat.is_empty();

    say("a node with the pods client and server, a VPC, and a host outside, all in network namespaces");
    let lab = Lab::builder().pod("client").pod("server").start()?;
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    if nat {
        say("what leaves the VPC gets the node's address and a random port (SNAT)");
        lab.snat()?;
    }
    let listen = SocketAddr::new(lab.outside.ipv4.into(), 8080);
    let outside = TcpServer::start(&lab.outside.namespace, listen, Serve::Send(DOWNLOAD_BYTES))?;
    lab.wait_until_quiet()?;
    let before = device_counters(&lab.node.namespace)?;

    let own = env::current_exe().context("cannot tell where this program is")?;
    let mut netpath = lab.netpath(&["report", "--eni", "eth*"])?;
    netpath.args(options).arg("--").arg(own).args([
        TRAFFIC,
        client.namespace.name(),
        server.namespace.name(),
        &SocketAddr::new(server.ipv4.into(), IPERF_PORT).to_string(),
        &outside.address().to_string(),
    ]);
    say(&format!("on the node: {}", words(&netpath)));
    let status = Running::spawn(&mut netpath)?.wait(LIMIT)?;
    if !status.success() {
        bail!("netpath ended with {status}; its own message is above");
    }
    lab.wait_until_quiet()?;
    say("the node's own counters (/proc/net/dev) meanwhile:");
    print_growth(&before, &device_counters(&lab.node.namespace)?);
    Ok(ExitCode::SUCCESS)
}

/// What netpath measures: runs as its COMMAND, inside the node's namespace.
fn make_traffic(arguments: &[String]) -> Result<()> {
    let [client, server, server_address, outside] = arguments else {
        bail!("{TRAFFIC} is for the demonstration's own use; run it without arguments");
    };
    let (client, server) = (Namespace::named(client), Namespace::named(server));
    say(&format!("pod client to pod server: iperf3 for {IPERF_SECONDS} s"));
    let totals = iperf3(&server, IPERF_PORT, &client, server_address.parse()?, Load::TcpSeconds(IPERF_SECONDS))?;
    say(&format!("  iperf3 says: {} bytes sent, {} received", totals.sent_bytes, totals.received_bytes));
    say(&format!("pod client from outside: a download of {DOWNLOAD_BYTES} bytes"));
    let transfer = download(&client, outside.parse()?)?;
    say(&format!("  the pod received {} bytes", transfer.received_bytes));
    Ok(())
}

fn print_growth(before: &BTreeMap<String, Counters>, now: &BTreeMap<String, Counters>) {
    for (device, counters) in now {
        let growth = counters.since(before.get(device).copied().unwrap_or_default());
        say(&format!("  {device:<14}  rx {:>12} bytes  tx {:>12} bytes", growth.rx_bytes, growth.tx_bytes));
    }
}

/// A command as one would type it, without the arguments that only this program understands.
fn words(command: &std::process::Command) -> String {
    let arguments =
        command.get_args().take_while(|argument| *argument != "--").map(|argument| argument.to_string_lossy());
    ["netpath".into()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ") + " -- COMMAND"
}

fn say(line: &str) {
    // A reader of stderr that went away is no reason to stop.
    let _ = io::Write::write_all(&mut io::stderr(), format!("demo: {line}\n").as_bytes());
}
