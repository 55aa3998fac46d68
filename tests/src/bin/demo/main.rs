//! The demonstration: netpath's reports on a simulated node. Day one and day two are the two experiments that were published
//! about Container Insights on EKS; then a pod calls a service; then single packets of a download are traced, beside its counts.
//!
//! In: options of `netpath report`, passed on. `--top`, with options of `netpath top`, or `--html FILE`, with those of
//! `netpath replay`, show a node on which pods go on talking instead; `--serve`, with options of `netpath serve`, has a real Prometheus
//! scrape it. Out: a report for each scene on stdout; on stderr what is
//! going on, and what iperf3 and the kernel counted, to hold the report against. It leaves nothing behind, also when
//! interrupted.

mod live;
mod picture;
mod serve;

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::traffic::{Serve, TcpServer, download};
use lab::{
    Counters, Lab, Load, Namespace, Running, clean_up_when_interrupted, device_counters, iperf3, netpath_binary,
    stop_if_interrupted,
};

/// First argument of a live view.
const TOP: &str = "--top";
/// First argument of a page; the second is its file.
const HTML: &str = "--html";
/// First argument of a node that Prometheus scrapes.
const SERVE: &str = "--serve";
/// First argument of what writes the README's pictures; the second is the folder.
const PICTURES: &str = "--pictures";
/// First argument of the process that netpath measures.
const TRAFFIC: &str = "make-traffic";
/// Its second argument.
const IPERF: &str = "iperf";
const DOWNLOAD: &str = "download";
/// 10 s as published.
const IPERF_SECONDS: u32 = 3;
const IPERF_PORT: u16 = 5201;
/// 512 MiB as published.
const DOWNLOAD_BYTES: u64 = 64 << 20;
const SERVICE_BYTES: u64 = 8 << 20;
/// The service's own address, which no device has.
const SERVICE: &str = "172.20.0.10:80";
const LIMIT: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let result = match arguments.split_first() {
        Some((first, rest)) if first == TRAFFIC => make_traffic(rest).map(|()| ExitCode::SUCCESS),
        // Ctrl-C is netpath's, which has the terminal.
        Some((first, rest)) if first == TOP => live::top(rest),
        Some((first, rest)) if first == SERVE => clean_up_when_interrupted("demo").and_then(|()| serve::serve(rest)),
        Some((first, [file, rest @ ..])) if first == HTML => live::html(file, rest),
        Some((first, [folder])) if first == PICTURES => live::pictures(Path::new(folder)),
        _ => clean_up_when_interrupted("demo").and_then(|()| demonstrate(&arguments)),
    };
    stop_if_interrupted();
    result.unwrap_or_else(|error| {
        eprintln!("demo: {error:#}");
        ExitCode::FAILURE
    })
}

fn demonstrate(options: &[String]) -> Result<ExitCode> {
    say("a node with the pods client and server, a VPC, and a host outside, all in network namespaces");
    let lab = Lab::builder().pod("client").pod("server").start()?;
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let files = lab.host_files()?;
    let mut options = options.to_vec();
    options.extend(["--host-root".to_owned(), files.path().display().to_string()]);
    let options = &options;
    say("what leaves the VPC gets the node's address and a random port (SNAT)");
    lab.snat()?;

    say(&format!("DAY ONE: pod client sends to pod server for {IPERF_SECONDS} s, by iperf3"));
    say("  Container Insights sees each byte twice, once on each pod's veth; EC2 sees none of them");
    let target = SocketAddr::new(server.ipv4.into(), IPERF_PORT);
    scene(&lab, options, &[], &[IPERF, client.namespace.name(), &target.to_string(), server.namespace.name()])?;

    say(&format!("DAY TWO: pod client downloads {DOWNLOAD_BYTES} bytes from outside"));
    say(
        "  each byte is on eth0, addressed to the node, and again on the pod's veth, addressed to the pod; EC2 sees it once",
    );
    let listen = SocketAddr::new(lab.outside.ipv4.into(), 8080);
    let outside = TcpServer::start(&lab.outside.namespace, listen, Serve::Send(DOWNLOAD_BYTES))?;
    scene(&lab, options, &[], &[DOWNLOAD, client.namespace.name(), &outside.address().to_string()])?;

    let backend = SocketAddr::new(server.ipv4.into(), 8080);
    say(&format!("A SERVICE: pod client downloads {SERVICE_BYTES} bytes from {SERVICE} (ClusterIP)"));
    say(&format!("  the node sends what is for the service to its backend {backend}, pod server (DNAT)"));
    lab.cluster_ip(SERVICE.parse()?, backend)?;
    lab.name_service(SERVICE.parse()?, ["default", "server", "http"])?;
    let _service = TcpServer::start(&server.namespace, backend, Serve::Send(SERVICE_BYTES))?;
    scene(&lab, options, &[], &[DOWNLOAD, client.namespace.name(), SERVICE])?;

    say(&format!(
        "SINGLE PACKETS: pod client downloads {SERVICE_BYTES} bytes from outside, and five packets of it are traced"
    ));
    say("  each has two hops, and its source or destination changes between them: SNAT, or SNAT undone");
    let outside = TcpServer::start(
        &lab.outside.namespace,
        SocketAddr::new(lab.outside.ipv4.into(), 0),
        Serve::Send(SERVICE_BYTES),
    )?;
    let filter = format!("tcp port {}", outside.address().port());
    let host_root = files.path().display().to_string();
    let trace =
        ["trace", "--eni", "eth*", "--host-root", &host_root, "--pod", "default/client", "--count", "5", &filter];
    scene(&lab, options, &trace, &[DOWNLOAD, client.namespace.name(), &outside.address().to_string()])?;
    Ok(ExitCode::SUCCESS)
}

/// netpath's report on some traffic, which `trace` traces if it is not empty, and the kernel's counters to hold it against.
fn scene(lab: &Lab, options: &[String], trace: &[&str], traffic: &[&str]) -> Result<()> {
    lab.wait_until_quiet()?;
    let before = device_counters(&lab.node.namespace)?;
    let own = env::current_exe().context("cannot tell where this program is")?;
    let mut netpath = lab.netpath(&["report", "--eni", "eth*"])?;
    netpath.args(options).arg("--");
    if !trace.is_empty() {
        netpath.arg(netpath_binary()?).args(trace).arg("--");
    }
    netpath.arg(own).arg(TRAFFIC).args(traffic);
    say(&format!("  on the node: {}", words(&netpath)));
    let status = Running::spawn(&mut netpath)?.wait(LIMIT)?;
    if !status.success() {
        bail!("netpath ended with {status}; its own message is above");
    }
    lab.wait_until_quiet()?;
    say("  the node's own counters (/proc/net/dev) meanwhile:");
    print_growth(&before, &device_counters(&lab.node.namespace)?);
    Ok(())
}

/// What netpath measures: runs as its COMMAND, inside the node's namespace.
fn make_traffic(arguments: &[String]) -> Result<()> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [IPERF, client, target, server] => {
            let (client, server) = (Namespace::named(client), Namespace::named(server));
            let totals = iperf3(&server, IPERF_PORT, &client, target.parse()?, Load::TcpSeconds(IPERF_SECONDS))?;
            say(&format!("  iperf3 says: {} bytes sent, {} received", totals.sent_bytes, totals.received_bytes));
        }
        [DOWNLOAD, client, target] => {
            let transfer = download(&Namespace::named(client), target.parse()?)?;
            say(&format!("  the pod received {} bytes", transfer.received_bytes));
        }
        _ => bail!("{TRAFFIC} is for the demonstration's own use; run it without arguments"),
    }
    Ok(())
}

fn print_growth(before: &BTreeMap<String, Counters>, now: &BTreeMap<String, Counters>) {
    for (device, counters) in now {
        let growth = counters.since(before.get(device).copied().unwrap_or_default());
        say(&format!("    {device:<14}  rx {:>12} bytes  tx {:>12} bytes", growth.rx_bytes, growth.tx_bytes));
    }
}

/// A command as one would type it, without the arguments that only this program understands.
fn words(command: &std::process::Command) -> String {
    let own = env::current_exe().unwrap_or_default();
    let word = |argument: &std::ffi::OsStr| {
        let text = argument.to_string_lossy();
        if argument == command.get_program() {
            "netpath".to_owned()
        } else if text.contains(' ') {
            format!("'{text}'")
        } else {
            text.into_owned()
        }
    };
    let arguments = command.get_args().take_while(|argument| *argument != own).map(word);
    ["netpath".to_owned()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ") + " COMMAND"
}

fn say(line: &str) {
    // A reader of stderr that went away is no reason to stop.
    let _ = io::Write::write_all(&mut io::stderr(), format!("demo: {line}\n").as_bytes());
}
