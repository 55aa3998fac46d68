//! The .deb and the .rpm on a minimal Debian: installed, used, removed; and the unit by a real systemd in the lab's node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::{Lab, http, netpath_hooks, wait_until};

use super::documented::the_documented;
use super::machine::{Machine, run};
use super::shipped;

/// What systemd's own judge may find at most, in tenths: docs/packages.md has the figure.
const EXPOSURE: &str = "27";
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9456);

fn deb() -> PathBuf {
    let architecture = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
    shipped(&format!("netpath_{}-1_{architecture}.deb", env!("CARGO_PKG_VERSION")))
}

fn rpm() -> PathBuf {
    shipped(&format!("netpath-{}-1.{}.rpm", env!("CARGO_PKG_VERSION"), std::env::consts::ARCH))
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// The command that a page shows, for a package of this architecture.
fn command(start: &str) -> String {
    let command = the_documented(start, "");
    if cfg!(target_arch = "aarch64") {
        return command.replace("amd64", "arm64").replace("x86_64", "aarch64");
    }
    command
}

fn install_deb(machine: &Machine) {
    let package = deb();
    let there = machine.root().join(package.file_name().unwrap());
    std::fs::copy(&package, &there).unwrap();
    machine.sh(&command("dpkg --install"));
    std::fs::remove_file(there).unwrap();
}

/// What a user of a package finds.
fn check_installed(machine: &Machine, zsh: &str) {
    assert_eq!(machine.sh("netpath --version").trim(), concat!("netpath ", env!("CARGO_PKG_VERSION")));
    assert!(machine.sh("man --where netpath-serve netpath").lines().count() == 2);
    machine.sh("bash -n /usr/share/bash-completion/completions/netpath");
    assert!(machine.sh(&format!("head -1 {zsh}")).starts_with("#compdef netpath"));
    assert!(machine.root().join("usr/share/fish/vendor_completions.d/netpath.fish").is_file());
    let enabled = "systemctl is-enabled netpath.service || true";
    assert_eq!(machine.sh(enabled).trim(), "disabled");
    machine.sh("systemd-analyze verify --man=no netpath.service");
}

#[test]
fn deb_comes_and_goes() {
    let machine = Machine::new();
    // What it writes beside its own files when anything is installed.
    machine.sh("dpkg --clear-avail; mandb --quiet; touch /var/lib/dpkg/status-old /var/lib/dpkg/available-old");
    let before = machine.files();
    install_deb(&machine);
    check_installed(&machine, "/usr/share/zsh/vendor-completions/_netpath");
    machine.sh("systemctl --quiet enable netpath.service && mkdir -p /var/lib/netpath/flows");
    machine.sh("echo 'interval = \"30s\"' >>/etc/netpath/serve.toml && dpkg --remove netpath");
    assert!(!machine.root().join("usr/bin/netpath").exists());
    let kept = std::fs::read_to_string(machine.root().join("etc/netpath/serve.toml")).unwrap();
    assert!(kept.ends_with("30s\"\n"), "the configuration stays until it is purged");
    machine.sh(&command("dpkg --purge"));
    let after = machine.files();
    assert_eq!(after.symmetric_difference(&before).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

#[test]
fn rpm_comes_and_goes() {
    let machine = Machine::new();
    let rpm_file = rpm();
    let rpm_here = |arguments: &[String]| {
        // Its database is outside: Debian has none.
        let database = machine.root().with_file_name("rpmdb");
        let define = format!("_dbpath {}", database.display());
        let mut rpm = Command::new("rpm");
        rpm.arg("--root").arg(machine.root()).args(["--define", &define]).args(arguments);
        run(rpm.current_dir(rpm_file.parent().unwrap()))
    };
    let documented = |start: &str| command(start).split_whitespace().skip(1).map(str::to_owned).collect::<Vec<_>>();
    let requires = run(Command::new("rpm").args(["-qp", "--requires"]).arg(&rpm_file));
    assert!(requires.lines().all(|line| line == "/bin/sh" || line.starts_with("rpmlib(")), "{requires}");
    machine.sh("mandb --quiet");
    rpm_here(&["--initdb".to_owned()]);
    let before = machine.files();
    // --nodeps: the shell is Debian's, of which rpm knows nothing.
    let no_dependencies = "--nodeps".to_owned();
    rpm_here(&[documented("rpm --install"), vec![no_dependencies.clone()]].concat());
    check_installed(&machine, "/usr/share/zsh/site-functions/_netpath");
    rpm_here(&["--verify".to_owned(), no_dependencies, "netpath".to_owned()]);
    machine.sh("systemctl --quiet enable netpath.service");
    rpm_here(&documented("rpm --erase"));
    let after = machine.files();
    let database = |path: &&PathBuf| !path.components().any(|part| part.as_os_str() == "rpmdb");
    assert_eq!(after.symmetric_difference(&before).filter(database).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
}

/// The whole of it, with what confines it: systemd starts it, it counts, knows pods' names, and is stopped when it is removed.
#[test]
fn systemd_runs_it() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let mut machine = Machine::new();
    install_deb(&machine);
    machine.write(
        "etc/netpath/serve.toml",
        "eni = [\"eth*\"]\ninterval = \"1s\"\noffline = true\nflows = \"/var/lib/netpath/flows\"\n",
    );
    machine.write("var/log/pods/default_web_0f4a4f9a-1111-2222-3333-444455556666/x", "");
    machine.boot(&lab.node.namespace);
    assert_eq!(
        machine.sh("systemctl is-active netpath.service || true").trim(),
        "inactive",
        "it does not start by itself"
    );
    machine.sh(&command("systemctl enable"));
    let get = |path| http::get(&lab.node.namespace, ADDRESS, path, "").ok().filter(|answer| answer.status == 200);
    wait_until("there is a report", || get("/report").is_some());
    assert!(netpath_hooks(&lab.node.namespace).unwrap() > 0);
    let mut curl = lab.node.namespace.command("sh").unwrap();
    assert!(run(curl.args(["-c", &command("curl http://")])).contains("\nnetpath_windows_total "));
    let report: serde_json::Value = serde_json::from_slice(&get("/report").unwrap().body).unwrap();
    assert_eq!(report["health"]["conntrack"], "ok", "{report:#}");
    assert_eq!(report["health"]["drops_unseen"], serde_json::Value::Null);
    for source in report["names"]["sources"].as_array().unwrap() {
        assert_ne!(source["state"], "unreadable", "{source:#}");
    }
    let process = machine.sh("systemctl show --property=MainPID --value netpath.service");
    let status = machine.sh(&format!("cat /proc/{}/status", process.trim()));
    // CAP_NET_ADMIN 12, CAP_SYS_PTRACE 19, CAP_PERFMON 38, CAP_BPF 39, by linux/capability.h.
    let rights = format!("CapBnd:\t{:016x}", 1_u64 << 12 | 1 << 19 | 1 << 38 | 1 << 39);
    for line in [&rights, "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.lines().any(|has| has == line), "{line}:\n{status}");
    }
    let symbols = machine.sh(&format!("nsenter -t {} -m head -1 /proc/kallsyms", process.trim()));
    assert!(!symbols.is_empty(), "nftables' symbols are read");
    wait_until("records are written", || machine.root().join("var/lib/netpath/flows/netpath.window").exists());

    machine.sh("dpkg --purge netpath");
    assert_eq!(machine.sh("pidof netpath || true"), "");
    assert_eq!(netpath_hooks(&lab.node.namespace).unwrap(), 0);
    assert!(!machine.root().join("var/lib/netpath").exists());
}

#[test]
fn systemd_finds_it_hardened() {
    let unit = repository("deploy/systemd/netpath.service");
    let mut judge = Command::new("systemd-analyze");
    run(judge.args(["security", "--offline=true", "--threshold", EXPOSURE]).arg(&unit));
    let page = std::fs::read_to_string(repository("docs/packages.md")).unwrap();
    let figure = format!("{}.{}", &EXPOSURE[..1], &EXPOSURE[1..]);
    assert!(page.contains(&format!("exposure of {figure}")), "docs/packages.md does not say {figure}");
}

#[test]
fn judges_of_packages_find_nothing() {
    let lintian = run(Command::new("lintian").args(["--allow-root", "--fail-on=warning"]).arg(deb()));
    assert_eq!(lintian.trim(), "");
    let config = repository("deploy/packages/rpmlint.toml");
    let rpmlint = run(Command::new("rpmlint").arg("--config").arg(config).arg(rpm()));
    assert!(rpmlint.contains(" 0 errors, 0 warnings"), "{rpmlint}");
}
