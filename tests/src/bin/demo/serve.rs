//! A node that Prometheus scrapes: its answers beside the kernel's.

use std::collections::BTreeMap;
use std::process::{ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Counters, Prometheus, Running, device_counters, http, wait_until};

use super::live::Node;
use super::say;

/// How long pods talk.
const TALK: Duration = Duration::from_secs(15);
/// The pod that a question is about.
const POD: &str = "db-0";

/// Serves a node on which pods talk, with these options, and asks Prometheus about it.
pub fn serve(options: &[String]) -> Result<ExitCode> {
    let node = Node::new()?;
    let (namespace, veth) = (&node.lab.node.namespace, &node.lab.pod(POD).veth);
    let folder = tempfile::tempdir()?;
    let rules = folder.path().join("no.rules.yaml");
    std::fs::write(&rules, "")?;
    node.lab.wait_until_quiet()?;
    let mut netpath = node.lab.netpath(&["serve", "--eni", "eth*", "--interval", "1s", "--host-root"])?;
    let _netpath = Running::spawn(netpath.arg(node.files.path()).args(options).stdin(Stdio::null()))?;
    let is = |path: &str| http::get(namespace, "127.0.0.1:9456".parse()?, path, "");
    wait_until("netpath is ready", || is("/readyz").is_ok_and(|answer| answer.status == 200));
    let before = device_counters(namespace)?;
    let prometheus = Prometheus::start(namespace, folder.path(), &rules)?;
    say(&format!("five pods talk for {} s, and Prometheus scrapes netpath", TALK.as_secs()));
    node.while_it_talks(|| {
        sleep(TALK);
        Ok(())
    })?;
    node.lab.wait_until_quiet()?;
    // What is over now is in the window that ends next, or in the one after that.
    let windows = || prometheus.number("netpath_windows_total").unwrap_or(0);
    let now = windows();
    wait_until("Prometheus has scraped that", || windows() >= now + 2);

    let grown = grown(&before, &device_counters(namespace)?);
    let of = |device: &str| grown.get(device).copied().context("the device's counters");
    let both = |counters: Counters| counters.rx_bytes + counters.tx_bytes;
    // Container Insights leaves loopback out.
    let counted: u64 = grown.iter().filter(|(device, _)| *device != "lo").map(|(_, counters)| both(*counters)).sum();
    let questions = [
        ("what Container Insights adds up", "sum(netpath_node_network_bytes_total)".to_owned(), counted),
        ("what EC2 adds up", "sum(netpath_ec2_bytes_total)".to_owned(), both(of("eth0")?)),
        (
            "what pod db-0 sent",
            format!("sum(netpath_pod_bytes_total{{pod=\"{POD}\",direction=\"transmit\"}})"),
            of(veth)?.rx_bytes,
        ),
    ];
    let mut wrong = 0;
    for (about, query, kernel) in questions {
        let answer = prometheus.number(&query)?;
        println!("{about}\n  {query}\n  Prometheus  {answer:>14}\n  the kernel  {kernel:>14}");
        wrong += u64::from(answer != kernel);
    }
    ensure!(wrong == 0, "{wrong} of Prometheus' answers are not the kernel's");
    Ok(ExitCode::SUCCESS)
}

fn grown(before: &BTreeMap<String, Counters>, now: &BTreeMap<String, Counters>) -> BTreeMap<String, Counters> {
    let since = |(device, counters): (&String, &Counters)| {
        (device.clone(), counters.since(before.get(device).copied().unwrap_or_default()))
    };
    now.iter().map(since).collect()
}
