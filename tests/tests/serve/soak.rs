//! Windows of 100 ms, pods that are replaced all the time, collectors that come and go: counters only grow, sums are exact, and memory
//! and files are those of what lives.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::traffic::{Churn, churn};
use lab::{Lab, Namespace, counters, resident_kb, wait_until};

use super::prometheus::{assert_adds_up, come_and_go};
use super::{metrics, serve, value, wait_for_windows};

/// For 12 seconds, or as many as `SOAK_SECONDS` says.
#[test]
fn serving_for_long() {
    let seconds: u64 = std::env::var("SOAK_SECONDS").map_or(12, |seconds| seconds.parse().unwrap());
    let lab = Lab::builder().pod("client").start().unwrap();
    lab.snat().unwrap();
    let (node, client) = (&lab.node.namespace, lab.pod("client"));
    node.write_sysctls(&[
        ("net/ipv6/conf/default/disable_ipv6", "1"),
        ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
    ])
    .unwrap();
    lab.wait_until_quiet().unwrap();
    let netpath = serve(&lab, &["--interval", "100ms", "--emf", "tcp:127.0.0.1:25888"]);
    let before = [&*client.veth, "eth0"].map(|device| counters(node, device).unwrap());
    // As many rounds as there are ports for.
    let rounds = seconds.div_ceil(60);
    let connect = |round: u64| {
        let first = 8000 + 16 * u16::try_from(round).unwrap();
        let duration = Duration::from_secs(seconds / rounds);
        let load = Churn { ports: first..first + 16, per_second: 500, duration, threads: 2 };
        churn(&client.namespace, &lab.outside.namespace, lab.outside.ipv4.into(), &load).unwrap();
    };
    let done = &AtomicBool::new(false);
    let (gone, samples) = thread::scope(|scope| {
        let churned = scope.spawn(|| (0..rounds).for_each(connect));
        let pods = scope.spawn(|| {
            let mut bytes = 0;
            for round in 0.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                bytes += come_and_go(&lab, &format!("v{round}"));
            }
            bytes
        });
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                be_an_agent_for_a_while(node);
            }
        });
        let (mut last, mut samples) = (HashMap::new(), Vec::new());
        while !churned.is_finished() {
            let now = metrics(&lab);
            assert_adds_up(&now);
            last = assert_grows(&last, &now);
            samples.push((resident_kb(netpath.id()).unwrap(), files(netpath.id())));
        }
        done.store(true, Ordering::Relaxed);
        churned.join().unwrap();
        (pods.join().unwrap(), samples)
    });
    // Loopback is not quiet while netpath looks for its agent.
    let now = || [&*client.veth, "eth0"].map(|device| counters(node, device).unwrap());
    wait_until("nothing moves any more", || {
        let before = now();
        thread::sleep(Duration::from_millis(300));
        now() == before
    });
    let after = now();
    wait_for_windows(&lab);
    let counted = before.into_iter().zip(after).map(|(before, after)| after.since(before));
    let total = counted.map(|counted| counted.rx_bytes + counted.tx_bytes).sum::<u64>() + gone;
    let now = metrics(&lab);
    let residual = now.lines().filter(|line| line.starts_with("netpath_residual_") && !line.ends_with(" 0"));
    let residual: Vec<&str> = residual.collect();
    assert_eq!(value(&now, "netpath_node_network_bytes_total"), Some(total), "{residual:#?}");
    assert!(value(&metrics(&lab), "netpath_emf_events_total").unwrap() > 0);
    // At a third of the time every buffer has been used.
    let (early, late) = samples.split_at(samples.len() / 3);
    let highest = |samples: &[(u64, usize)]| {
        let (memory, files) = (samples.iter().map(|sample| sample.0), samples.iter().map(|sample| sample.1));
        (memory.max().unwrap(), files.max().unwrap())
    };
    let (early, late) = (highest(early), highest(late));
    println!("{} scrapes; kB and files at most {early:?}, then {late:?}", samples.len());
    assert!(samples.len() > 20, "too few to prove anything");
    assert!(late.0 <= early.0 + early.0 / 4, "memory grew from {} kB to {} kB", early.0, late.0);
    assert!(late.1 <= early.1 + 20, "files: from {} to {}", early.1, late.1);
}

fn files(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// Every counter is at least what it was. Returns them.
fn assert_grows(before: &HashMap<String, u64>, metrics: &str) -> HashMap<String, u64> {
    let counters = metrics.lines().filter_map(|line| line.rsplit_once(' ')).filter(|(series, _)| {
        let name = series.split('{').next().unwrap_or_default();
        name.starts_with("netpath_") && name.ends_with("_total")
    });
    let now: HashMap<String, u64> =
        counters.map(|(series, value)| (series.to_owned(), value.parse().unwrap())).collect();
    for (series, value) in before {
        assert!(now.get(series).is_some_and(|now| now >= value), "{series}: {value}, then {:?}", now.get(series));
    }
    now
}

/// Takes some lines of one connection, and goes away.
fn be_an_agent_for_a_while(node: &Namespace) {
    let Ok(listener) = node.run(|| TcpListener::bind("127.0.0.1:25888")).unwrap() else { return };
    listener.set_nonblocking(true).unwrap();
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        if let Ok((stream, _)) = listener.accept() {
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            BufReader::new(stream).lines().map_while(Result::ok).take(20).for_each(drop);
        }
        thread::sleep(Duration::from_millis(10));
    }
}
