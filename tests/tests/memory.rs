//! The kernel memory that `netpath report --help` states is what the kernel accounts for.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, netpath_binary};
use netpath::kernel::load::load;

/// `memlock` of all maps of this process, as /proc has it.
fn map_bytes() -> u64 {
    let mut sum = 0;
    for entry in fs::read_dir("/proc/self/fdinfo").unwrap() {
        // The descriptor that lists the folder is gone by now.
        let Ok(text) = fs::read_to_string(entry.unwrap().path()) else { continue };
        let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse::<u64>().ok());
        if field("map_id:").is_some() {
            sum += field("memlock:").unwrap();
        }
    }
    sum
}

/// The number before the first `unit` in `text`.
fn number_before(text: &str, unit: &str) -> f64 {
    let (before, _) = text.split_once(unit).unwrap_or_else(|| panic!("no '{unit}' in {text}"));
    before.split_whitespace().next_back().unwrap().parse().unwrap()
}

#[test]
fn the_help_states_the_kernels_memory() {
    let help = Command::new(netpath_binary().unwrap()).args(["report", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, stated) = help.split_once("Kernel memory with the defaults: ").unwrap();
    let stated = stated.split_whitespace().collect::<Vec<_>>().join(" ");
    let (fixed, rest) = stated.split_once(" and ").unwrap();
    let fixed_mb = number_before(&format!("{fixed} "), " MB");
    let cpu_mb = number_before(rest, " MB per CPU");

    let possible = fs::read_to_string("/sys/devices/system/cpu/possible").unwrap();
    let last: f64 = possible.trim().rsplit(['-', ',']).next().unwrap().parse().unwrap();
    let (_attacher, _drain, _) = load(65_536).unwrap();
    #[expect(clippy::cast_precision_loss, reason = "less than 2^52 bytes")]
    let measured_mb = map_bytes() as f64 / 1e6;
    let stated_mb = fixed_mb + cpu_mb * (last + 1.0);
    assert!((measured_mb - stated_mb).abs() < 1.0, "{measured_mb} MB, and the help says {stated_mb} MB");
}

/// Eight times as many flows as a map holds are told apart, however long the window; the packets of others are all counted.
#[test]
fn flows_are_told_apart_up_to_the_stated_number() {
    const MAX_FLOWS: u64 = 400;
    const SENT: u64 = 2_400;
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let server = lab.pod("server");
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let arguments = ["--max-flows", &MAX_FLOWS.to_string()];
    let report = lab.measure(&arguments, || {
        for _ in 0..SENT / 40 {
            // Each from a port of its own.
            for _ in 0..40 {
                send_datagrams(&lab.pod("client").namespace, sink.address(), 100, 1)?;
            }
            thread::sleep(Duration::from_millis(60));
        }
        Ok(())
    });
    let report = report.unwrap().report;
    assert_eq!(sink.stop().unwrap().count, SENT);
    let hooks = [report.device(&lab.pod("client").veth).rx(), report.device(&server.veth).tx()];
    let packets: u64 = hooks.iter().map(|hook| hook.packets).sum();
    assert_eq!(packets, 2 * SENT, "at two hooks");
    let apart: usize = report.flows.iter().map(|flow| flow.hops.len()).sum();
    // Of these, a few may be of other packets than the test's.
    assert_eq!(apart as u64, 8 * MAX_FLOWS, "flows at a hook");
    let in_flows = packets - hooks.iter().map(|hook| hook.unattributed_packets).sum::<u64>();
    assert_eq!(report.health.map_full_packets, 2 * SENT - in_flows);
}
