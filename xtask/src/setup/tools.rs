//! The programs that the lab runs: installs those that are missing where root may, else says how.

use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{find, is_root, output, step};

/// What the lab, its tests, the demonstration and the fuzzers run, and Debian's package of each.
const PROGRAMS: [(&str, &str); 37] = [
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("tc", "iproute2"),
    ("iperf3", "iperf3"),
    ("jq", "jq"),
    ("ping", "iputils-ping"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("tcpdump", "tcpdump"),
    ("tmux", "tmux"),
    ("tshark", "tshark"),
    ("chromium", "chromium"),
    ("conntrack", "conntrack"),
    ("ipvsadm", "ipvsadm"),
    ("wg", "wireguard-tools"),
    ("ethtool", "ethtool"),
    ("containerd", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("kubectl", "kubernetes-client"),
    ("skopeo", "skopeo"),
    ("umoci", "umoci"),
    ("shellcheck", "shellcheck"),
    ("dash", "dash"),
    ("busybox", "busybox-static"),
    ("c++", "g++"),
    ("rpmbuild", "rpm"),
    ("dpkg-deb", "dpkg"),
    ("debootstrap", "debootstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("systemd-analyze", "systemd"),
    ("lintian", "lintian"),
    ("rpmlint", "rpmlint"),
    ("prometheus", "prometheus"),
    ("promtool", "prometheus"),
    ("python3", "python3"),
    ("pip3", "python3-pip"),
];

/// A package manager.
struct Manager {
    /// Its command.
    command: &'static str,
    /// The arguments that install packages without a question.
    install: &'static [&'static str],
    /// The package of each program whose package has another name than Debian's.
    other_names: &'static [(&'static str, &'static str)],
}

/// The package managers that are known, most particular first.
const MANAGERS: [Manager; 4] = [
    Manager { command: "apt-get", install: &["install", "--yes", "--no-install-recommends"], other_names: &[] },
    Manager {
        command: "dnf",
        install: &["install", "--assumeyes"],
        other_names: &[
            ("ip", "iproute"),
            ("ping", "iputils"),
            ("bridge", "iproute"),
            ("tc", "iproute-tc"),
            ("iptables", "iptables-nft"),
            ("tshark", "wireshark-cli"),
            ("conntrack", "conntrack-tools"),
            ("shellcheck", "ShellCheck"),
            ("busybox", "busybox"),
            ("c++", "gcc-c++"),
            ("rpmbuild", "rpm-build"),
        ],
    },
    Manager {
        command: "pacman",
        install: &["-S", "--needed", "--noconfirm"],
        other_names: &[
            ("ping", "iputils"),
            ("tshark", "wireshark-cli"),
            ("conntrack", "conntrack-tools"),
            ("/usr/lib/cni/ptp", "cni-plugins"),
            ("busybox", "busybox"),
            ("c++", "gcc"),
        ],
    },
    Manager {
        command: "zypper",
        install: &["--non-interactive", "install"],
        other_names: &[
            ("iperf3", "iperf"),
            ("ping", "iputils"),
            ("tshark", "wireshark"),
            ("conntrack", "conntrack-tools"),
            ("/usr/lib/cni/ptp", "cni-plugins"),
            ("shellcheck", "ShellCheck"),
            ("busybox", "busybox"),
            ("c++", "gcc-c++"),
        ],
    },
];

/// Makes sure that all of [`PROGRAMS`] are there.
///
/// # Errors
/// When some are missing and cannot be installed by this user on this system; the message ends with the command that
/// installs them.
pub fn install() -> Result<()> {
    let missing = missing();
    if missing.is_empty() {
        return Ok(());
    }
    let Some(manager) = MANAGERS.iter().find(|manager| find(manager.command).is_some()) else {
        bail!("missing: {}; install them with this system's package manager", missing.join(" "));
    };
    let line = manager.line(&missing);
    // Only Debian's names and ways were tried, so others are left to the user.
    if !is_root() || manager.command != "apt-get" {
        bail!(
            "missing: {}; install them: {}{}",
            missing.join(" "),
            if is_root() { "" } else { "sudo " },
            line.join(" ")
        );
    }
    step(&format!("installing missing programs: {}", line.join(" ")));
    apt_get(&line[1..])?;
    let missing = self::missing();
    if !missing.is_empty() {
        bail!("still missing after `{}`: {}; install them by hand", line.join(" "), missing.join(" "));
    }
    Ok(())
}

/// Runs apt-get without questions; once more with new lists if it fails.
///
/// # Errors
/// When it fails then, too.
pub fn apt_get(arguments: &[&str]) -> Result<()> {
    let run = |arguments: &[&str]| {
        let options = ["-q", "-o", "DPkg::Lock::Timeout=120"];
        output(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(options).args(arguments))
    };
    if run(arguments).is_err() {
        // The lists may be missing or too old.
        run(&["update"])?;
        run(arguments)?;
    }
    Ok(())
}

/// Those of [`PROGRAMS`] that are not there.
fn missing() -> Vec<&'static str> {
    PROGRAMS.into_iter().map(|(program, _)| program).filter(|program| find(program).is_none()).collect()
}

impl Manager {
    /// The words of the command that installs what has `programs`.
    fn line(&self, programs: &[&str]) -> Vec<&'static str> {
        let package = |(program, debians)| {
            let other = self.other_names.iter().find(|(named, _)| *named == program);
            other.map_or(debians, |(_, package)| *package)
        };
        let wanted = PROGRAMS.into_iter().filter(|(program, _)| programs.contains(program));
        let mut packages: Vec<_> = wanted.map(package).collect();
        packages.dedup();
        [&[self.command], self.install, &packages].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_named_once() {
        let line = MANAGERS[0].line(&["ip", "tc", "conntrack"]);
        assert_eq!(line, ["apt-get", "install", "--yes", "--no-install-recommends", "iproute2", "conntrack"]);
        assert_eq!(MANAGERS[1].line(&["tc"]), ["dnf", "install", "--assumeyes", "iproute-tc"]);
    }

    #[test]
    fn other_names_are_of_programs_that_are_run() {
        for (program, _) in MANAGERS.iter().flat_map(|manager| manager.other_names) {
            assert!(PROGRAMS.iter().any(|(known, _)| known == program), "{program}");
        }
    }
}
