//! What netpath may do: what it needs, what it keeps while it measures, what is left afterwards, and what a command gets.
//!
//! The witness is /proc/PID/task/*/status.

use std::collections::BTreeMap;
use std::fs;
use std::io::{PipeReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, Report, counters, read, signal, wait_until, wait_until_open};
use tempfile::TempDir;

/// `include/uapi/linux/capability.h`.
const DAC_OVERRIDE: u64 = 1 << 1;
const FOWNER: u64 = 1 << 3;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_PTRACE: u64 = 1 << 19;
const PERFMON: u64 = 1 << 38;
const BPF: u64 = 1 << 39;
const WHILE_MEASURING: u64 = NET_ADMIN | PERFMON | BPF;

/// Some user that is not root.
const USER: u32 = 65534;
const AS_USER: [&str; 5] = ["--reuid", "65534", "--regid", "65534", "--clear-groups"];

fn lab() -> Lab {
    Lab::builder().pod("client").pod("server").start().unwrap()
}

/// The lines `Cap…` of a status file.
fn capabilities(status: &str) -> BTreeMap<&str, u64> {
    let lines = status.lines().filter(|line| line.starts_with("Cap")).filter_map(|line| line.split_once(":\t"));
    lines.map(|(name, mask)| (name, u64::from_str_radix(mask, 16).unwrap())).collect()
}

fn sets(inheritable: u64, permitted: u64, effective: u64, bounding: u64) -> BTreeMap<&'static str, u64> {
    [("CapInh", inheritable), ("CapPrm", permitted), ("CapEff", effective), ("CapBnd", bounding), ("CapAmb", 0)].into()
}

/// Name and status of each thread of a process.
fn threads(process: u32) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    // Threads that read names come and go.
    let read = |task: fs::DirEntry| {
        let read = |name| fs::read_to_string(task.path().join(name)).ok();
        Some((read("comm")?.trim().to_owned(), read("status")?))
    };
    tasks.filter_map(|task| read(task.unwrap())).collect()
}

fn end(mut child: Child, by: i32) {
    signal(child.id(), by);
    child.wait().unwrap();
}

/// The netpath binary where any user can run it, and a folder of that user's.
fn for_everybody() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let netpath = folder.path().join("netpath");
    fs::copy(lab::netpath_binary().unwrap(), &netpath).unwrap();
    fs::set_permissions(&netpath, fs::Permissions::from_mode(0o755)).unwrap();
    (folder, netpath)
}

/// A command of that user, with these capabilities and no others.
fn as_user(lab: &Lab, set: &str) -> Command {
    let mut command = lab.node.namespace.command("setpriv").unwrap();
    let set = format!("-all,+{}", set.replace(',', ",+"));
    command.args(AS_USER).args(["--bounding-set", &set, "--inh-caps", &set, "--ambient-caps", &set]);
    command
}

#[test]
fn every_thread_of_roots_keeps_the_documented_four() {
    let lab = lab();
    let mut command = lab.netpath(&["report", "--duration", "1h", "--eni", "eth*"]).unwrap();
    let mut child = command.stdout(Stdio::null()).spawn().unwrap();
    wait_until_open(&mut child).unwrap();
    let threads = threads(child.id());
    assert!(threads.len() >= 3, "the main, drain and conntrack threads at least: {threads:?}");
    for (name, status) in threads {
        let kept = WHILE_MEASURING | SYS_PTRACE;
        assert_eq!(capabilities(&status), sets(0, kept, kept, 0), "{name}");
    }
    end(child, libc::SIGKILL);
}

#[test]
fn to_write_a_file_two_more_wait() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    // A folder and a file of somebody else, as when a user runs `sudo netpath report --output report.json` at home.
    fs::write(&file, "old").unwrap();
    for path in [folder.path(), &file] {
        chown(path, Some(USER), Some(USER)).unwrap();
    }
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1755)).unwrap();
    let arguments =
        ["report", "--duration", "1h", "--eni", "eth*", "--format", "json", "--output", file.to_str().unwrap()];
    let mut child = lab.netpath(&arguments).unwrap().spawn().unwrap();
    wait_until_open(&mut child).unwrap();
    for (name, status) in threads(child.id()) {
        let effective = WHILE_MEASURING | SYS_PTRACE;
        assert_eq!(capabilities(&status), sets(0, effective | DAC_OVERRIDE | FOWNER, effective, 0), "{name}");
    }
    end(child, libc::SIGINT);
    let report: Report = read(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(report.schema, "netpath.report/1");
}

/// netpath waits in the middle of its report, since nobody reads it.
#[test]
fn nothing_is_left_when_the_window_is_closed() {
    let lab = lab();
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    // SAFETY: fcntl(2) with F_SETPIPE_SZ takes a number.
    let size = unsafe { libc::fcntl(writer.as_raw_fd(), libc::F_SETPIPE_SZ, 4096) };
    writer.write_all(&vec![b' '; usize::try_from(size).unwrap()]).unwrap();
    let mut command = lab.netpath(&["report", "--duration", "300ms", "--eni", "eth*"]).unwrap();
    let mut child = command.stdout(writer).spawn().unwrap();
    drop(command);
    let is_writing = || fs::read_to_string(format!("/proc/{}/wchan", child.id())).is_ok_and(|at| at.contains("pipe"));
    wait_until("netpath writes its report", is_writing);
    for (name, status) in threads(child.id()) {
        assert_eq!(capabilities(&status), sets(0, 0, 0, 0), "{name}");
    }
    read_all(&mut reader);
    assert!(child.wait().unwrap().success());
}

fn read_all(reader: &mut PipeReader) {
    std::io::copy(&mut reader.take(u64::MAX), &mut std::io::sink()).unwrap();
}

#[test]
fn a_user_with_the_documented_three_measures_right() {
    let lab = lab();
    let (_folder, netpath) = for_everybody();
    let server = lab.pod("server");
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    lab.wait_until_quiet().unwrap();
    let veth = &lab.pod("client").veth;
    let before = counters(&lab.node.namespace, veth).unwrap();
    let mut command = as_user(&lab, "bpf,perfmon,net_admin");
    command.arg(&netpath).args(["report", "--duration", "1h", "--format", "json", "--eni", "eth*"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    wait_until_open(&mut child).unwrap();
    for (name, status) in threads(child.id()) {
        assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}")), "{status}");
        let bounding = WHILE_MEASURING;
        assert_eq!(capabilities(&status), sets(0, WHILE_MEASURING, WHILE_MEASURING, bounding), "{name}");
    }
    send_datagrams(&lab.pod("client").namespace, sink.address(), 100, 200).unwrap();
    lab.wait_until_quiet().unwrap();
    let kernel = counters(&lab.node.namespace, veth).unwrap().since(before);
    signal(child.id(), libc::SIGINT);
    let output = child.wait_with_output().unwrap();
    let report: Report = read(&output.stdout).unwrap();
    let device = report.device(veth);
    assert_eq!(device.rx().packets, kernel.rx_packets);
    assert_eq!(device.rx().bytes, kernel.rx_bytes);
    assert_eq!(device.blind, None);
    assert_eq!(report.health.conntrack, "ok");
    assert_eq!(report.health.conntrack_table.unwrap().drop, 0, "and what conntrack counted is known");
    assert!(kernel.rx_packets >= 200);
}

/// Whoever runs it, with whatever rights: a command sees no difference between netpath in front and nothing.
#[test]
fn a_command_gets_what_it_would_have_without_netpath() {
    let lab = lab();
    let (_folder, netpath) = for_everybody();
    let script = "grep -E '^(Cap|Uid|Gid|Groups|NoNewPrivs|SigIgn|SigBlk)' /proc/self/status >&2; ls /proc/self/fd >&2; \
                  ulimit -Sn >&2; ulimit -Hn >&2";
    let run = |mut command: Command, in_front: bool| {
        if in_front {
            command.arg(&netpath).args(["report", "--eni", "eth*", "--"]);
        }
        let output = command.args(["sh", "-c", script]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(in_front, output.stdout.starts_with(b"netpath") || !output.stdout.is_empty());
        String::from_utf8(output.stderr).unwrap()
    };
    let roots = |arguments: &'static [&'static str]| {
        let mut command = lab.node.namespace.command("setpriv").unwrap();
        command.args(arguments);
        command
    };
    let handled = || {
        let mut command = lab.node.namespace.command("sh").unwrap();
        command.args(["-c", "trap '' PIPE HUP INT USR1; ulimit -Sn 500; exec \"$@\"", "sh"]);
        command
    };
    let commands: [(&str, &dyn Fn() -> Command); 4] = [
        ("root with signals ignored and a lower limit on files", &handled),
        ("root", &|| roots(&[])),
        ("root with less", &|| roots(&["--bounding-set", "-sys_boot", "--inh-caps", "-all,+net_raw"])),
        ("a user", &|| as_user(&lab, "bpf,perfmon,net_admin,net_raw")),
    ];
    for (who, command) in commands {
        let (alone, measured) = (run(command(), false), run(command(), true));
        assert_eq!(measured, alone, "{who}");
        if who == "a user" {
            let capabilities = capabilities(&alone);
            assert_eq!(capabilities["CapEff"], WHILE_MEASURING | NET_RAW, "there was something to lose");
        }
    }
}

/// A folder that everybody may write to, as /tmp: what another user put there leads nowhere.
#[test]
fn no_report_goes_where_a_foreign_link_leads() {
    let lab = lab();
    let outside = tempfile::tempdir().unwrap();
    let shared = tempfile::tempdir().unwrap();
    fs::set_permissions(shared.path(), fs::Permissions::from_mode(0o1777)).unwrap();
    let precious = outside.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    let terminal = outside.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&terminal).status().unwrap().success());
    let link = |name: &str, to: &std::path::Path| {
        let path = shared.path().join(name);
        std::os::unix::fs::symlink(to, &path).unwrap();
        std::os::unix::fs::lchown(&path, Some(USER), Some(USER)).unwrap();
        path
    };
    let report = |path: PathBuf| {
        let arguments = ["report", "--duration", "100ms", "--eni", "eth*", "--output", path.to_str().unwrap()];
        lab.netpath(&arguments).unwrap().output().unwrap()
    };
    // To a file: the link is replaced, the file stays.
    let path = link("file", &precious);
    assert!(report(path.clone()).status.success());
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
    let written = fs::symlink_metadata(&path).unwrap();
    assert!(written.is_file() && written.uid() == 0);
    // To a pipe or device, or through a folder: refused before measuring.
    for path in [link("device", &terminal), link("folder", outside.path()).join("report.txt")] {
        let output = report(path);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
        assert!(stderr.contains("link of another user") && stderr.ends_with("choose another --output\n"), "{stderr}");
    }
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 2, "nothing new there");
}
