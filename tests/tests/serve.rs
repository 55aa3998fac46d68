//! `netpath serve`, with a real Prometheus. The witnesses are /proc/net/dev, those who send, and Prometheus' own tools.

mod emf;
mod hostile;
mod prometheus;
mod soak;

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use lab::http::{self, Answer};
use lab::{Lab, Running, netpath_hooks, wait_until};

pub const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9456);

/// A running `netpath serve` in the lab's node; its windows have begun.
pub fn serve(lab: &Lab, arguments: &[&str]) -> Running {
    let mut command = lab.netpath(&["serve", "--eni", "eth*", "--interval", "200ms"]).unwrap();
    let served = Running::spawn(command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null())).unwrap();
    wait_until("netpath is ready", || get(lab, "/readyz").is_some_and(|answer| answer.status == 200));
    served
}

/// `None`: nobody listens.
pub fn get(lab: &Lab, path: &str) -> Option<Answer> {
    http::get(&lab.node.namespace, ADDRESS, path, "").ok()
}

/// The value of a counter, named as in the text format.
pub fn value(metrics: &str, series: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

pub fn metrics(lab: &Lab) -> String {
    get(lab, "/metrics").unwrap().text().to_owned()
}

/// Waits until everything that has happened so far is in the counters.
pub fn wait_for_windows(lab: &Lab) {
    let windows = || value(&metrics(lab), "netpath_windows_total").unwrap_or(0);
    let before = windows();
    wait_until("two windows have ended", || windows() >= before + 2);
}

#[test]
fn it_ends_on_sigterm_and_leaves_nothing() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let netpath = serve(&lab, &[]);
    assert!(netpath_hooks(&lab.node.namespace).unwrap() > 0);
    // What talks to others has no capability; what measures has four.
    for task in fs::read_dir(format!("/proc/{}/task", netpath.id())).unwrap() {
        let task = task.unwrap().path();
        let read = |file| fs::read_to_string(task.join(file)).unwrap_or_default();
        let (name, status) = (read("comm"), read("status"));
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap_or("0");
        let count = u64::from_str_radix(effective, 16).unwrap().count_ones();
        match name.trim() {
            "network" | "judge" => {
                assert_eq!(count, 0, "{name}");
                // Nor would it get any by running something.
                for line in ["CapBnd:\t0000000000000000", "NoNewPrivs:\t1"] {
                    assert!(status.lines().any(|found| found == line), "{name}: {status}");
                }
            }
            _ => assert!(count <= 4, "{name}: {effective}"),
        }
    }
    let report = wait_for_report(&lab);
    assert!(report.devices.iter().any(|device| device.name == lab.pod("client").veth));
    assert!(get(&lab, "/").unwrap().text().contains("/metrics"));
    assert_eq!(get(&lab, "/healthz").unwrap().status, 200);
    assert_eq!(get(&lab, "/other").unwrap().status, 404);
    // Another one cannot listen there, and says so before it attaches.
    let second = lab.netpath(&["serve"]).unwrap().output().unwrap();
    let why = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && why.contains("127.0.0.1:9456") && why.contains("--listen"), "{why}");
    netpath.signal(libc::SIGTERM);
    assert!(netpath.wait(Duration::from_mins(1)).unwrap().success());
    assert_eq!(netpath_hooks(&lab.node.namespace).unwrap(), 0);
}

fn wait_for_report(lab: &Lab) -> lab::Report {
    wait_until("there is a report", || get(lab, "/report").is_some_and(|answer| answer.status == 200));
    lab::read(&get(lab, "/report").unwrap().body).unwrap()
}

#[test]
fn options_come_from_a_file() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("netpath.toml");
    let name = file.to_str().unwrap();
    let run = |text: &str| {
        fs::write(&file, text).unwrap();
        let output = lab.netpath(&["serve", "--config", name]).unwrap().output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (text, why) in [
        ("interval = \"soon\"", "--interval"),
        ("colour = \"red\"", "--colour"),
        ("listen = 1 2", "line 1"),
        ("[eni]\nname = 1", "'eni'"),
    ] {
        let (status, message) = run(text);
        assert!(status == Some(2) && message.contains(why) && message.contains(name), "{text}: {message}");
    }
    // The command line goes before the file.
    fs::write(&file, "listen = \"127.0.0.1:1\"\neni = [\"other*\"]\nveths = true\noffline = true\n").unwrap();
    let _netpath = serve(&lab, &["--config", name, "--listen", "127.0.0.1:9456"]);
    wait_for_windows(&lab);
    let series = format!(
        "netpath_device_bytes_total{{device=\"{}\",class=\"veth\",direction=\"receive\"}}",
        lab.pod("client").veth
    );
    assert!(value(&metrics(&lab), &series).is_some());
}
