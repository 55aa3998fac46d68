//! Statistics of drivers, against what `ethtool` prints of the same device. ENA's allowances are some of such statistics;
//! here it is veth that has some.

use std::io;

use netpath::node::ethtool::statistics;

use super::*;

fn read(lab: &Lab, device: &str) -> io::Result<Vec<(String, u64)>> {
    lab.node.namespace.run(|| statistics(device.as_bytes())).unwrap()
}

/// `ethtool -S`: a heading, then a name and a number a line.
fn printed(lab: &Lab, device: &str) -> Vec<(String, u64)> {
    let text = lab.node.namespace.output("ethtool", &["-S", device]).unwrap();
    let line = |line: &str| {
        let (name, value) = line.trim().rsplit_once(": ").unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    text.lines().skip(1).map(line).collect()
}

fn errno(result: io::Result<Vec<(String, u64)>>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

#[test]
fn all_that_the_driver_has() {
    let lab = lab();
    let statistics = read(&lab, "eth0").unwrap();
    assert_eq!(statistics, printed(&lab, "eth0"));
    let output =
        Command::new("ip").args(["-n", lab.vpc.name(), "-json", "link", "show", "node-eth0"]).output().unwrap();
    let peer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told = statistics.iter().find(|(name, _)| name == "peer_ifindex").unwrap();
    assert_eq!(Some(told.1), peer[0]["ifindex"].as_u64());
}

#[test]
fn thousands_of_them() {
    let lab = lab();
    on_node(&lab, "link add many numrxqueues 512 numtxqueues 512 type veth peer name peer");
    let statistics = read(&lab, "many").unwrap();
    assert!(statistics.len() > 2_000, "{}", statistics.len());
    assert_eq!(statistics, printed(&lab, "many"));
}

#[test]
fn more_than_any_ena_has() {
    let lab = lab();
    on_node(
        &lab,
        "link add many numrxqueues 4096 numtxqueues 4096 type veth peer name peer numrxqueues 4096 numtxqueues 4096",
    );
    assert!(printed(&lab, "many").len() > 16 << 10);
    assert_eq!(errno(read(&lab, "many")), None, "an error of netpath's own");
}

#[test]
fn none() {
    let lab = lab();
    assert_eq!(errno(read(&lab, "lo")), Some(libc::EOPNOTSUPP));
    assert_eq!(errno(read(&lab, "missing")), Some(libc::ENODEV));
    assert_eq!(errno(read(&lab, "a name that is too long")), Some(libc::ENODEV));
}
