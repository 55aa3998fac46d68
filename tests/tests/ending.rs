//! How a window ends: by Ctrl-C, with the command that it measures, or by force. Nothing is left behind in any case.

use std::fs::File;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use lab::{Lab, Report, netpath_hooks, read, signal, tc_filters, wait_until, wait_until_open};

fn lab() -> Lab {
    Lab::builder().pod("client").start().unwrap()
}

/// Opens a window of an hour.
fn open_window(lab: &Lab) -> Child {
    let mut command = lab.netpath(&["report", "--duration", "1h", "--format", "json", "--eni", "eth*"]).unwrap();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until_open(&mut child).unwrap();
    child
}

/// Waits until netpath's programs are on so many hooks.
fn wait_for_hooks(lab: &Lab, expected: usize) {
    wait_until(&format!("{expected} programs are attached"), || {
        netpath_hooks(&lab.node.namespace).unwrap() == expected
    });
}

#[test]
fn signals_end_the_window_early_and_still_report() {
    for number in [libc::SIGINT, libc::SIGTERM] {
        let lab = lab();
        let child = open_window(&lab);
        wait_for_hooks(&lab, 4);
        signal(child.id(), number);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Report = read(&output.stdout).unwrap();
        assert_eq!(report.schema, "netpath.report/1");
        assert!(report.window.duration_ns < 60_000_000_000);
        wait_for_hooks(&lab, 0);
    }
}

/// How many of netpath's legacy filters are on the node's devices.
fn filters(lab: &Lab) -> usize {
    let all = tc_filters(&lab.node.namespace).unwrap();
    all.iter().filter(|filter| filter.name.starts_with("netpath_")).count()
}

/// A netpath that attaches filters, which only itself can take off.
fn with_filters(lab: &Lab) -> Command {
    lab.netpath(&["report", "--duration", "1h", "--format", "json", "--eni", "eth*", "--clsact"]).unwrap()
}

#[test]
fn every_signal_that_ends_a_process_ends_the_window() {
    let lab = lab();
    let named = [
        libc::SIGHUP,
        libc::SIGQUIT,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGSTKFLT,
        libc::SIGXCPU,
        libc::SIGXFSZ,
        libc::SIGVTALRM,
        libc::SIGPROF,
        libc::SIGIO,
        libc::SIGPWR,
    ];
    let all = named.into_iter().chain([libc::SIGRTMIN(), libc::SIGRTMAX()]);
    // All at once, since each waits for the kernel more than it works.
    let start = |number| (number, with_filters(&lab).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut children: Vec<_> = all.map(start).collect();
    for (_, child) in &mut children {
        wait_until_open(child).unwrap();
    }
    assert_eq!((children.len(), filters(&lab)), (14, 14 * 4));
    for (left, (number, child)) in (0..14).rev().zip(children) {
        signal(child.id(), number);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "signal {number}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Report = read(&output.stdout).unwrap();
        assert_eq!((report.schema.as_str(), filters(&lab)), ("netpath.report/1", left * 4), "signal {number}");
    }
}

#[test]
fn a_signal_at_any_moment_leaves_no_filter() {
    let lab = lab();
    for wait in (0..320).step_by(40) {
        let mut child = with_filters(&lab).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        thread::sleep(Duration::from_millis(wait));
        signal(child.id(), libc::SIGHUP);
        child.wait().unwrap();
        assert_eq!(filters(&lab), 0, "after {wait} ms");
    }
}

/// As `nohup` does it; and a peer that is gone must not end the window.
#[test]
fn an_ignored_signal_stays_ignored() {
    let lab = lab();
    let netpath = lab::netpath_binary().unwrap();
    let script =
        format!("trap '' HUP; exec {} report --duration 1h --format json --eni 'eth*' --offline", netpath.display());
    let mut command = lab.node.namespace.command("sh").unwrap();
    let mut child = command.args(["-c", &script]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    wait_until_open(&mut child).unwrap();
    signal(child.id(), libc::SIGHUP);
    signal(child.id(), libc::SIGPIPE);
    thread::sleep(Duration::from_millis(300));
    assert!(child.try_wait().unwrap().is_none(), "it measures on");
    signal(child.id(), libc::SIGTERM);
    assert!(child.wait_with_output().unwrap().status.success());
}

/// As when a connection to the node breaks: the report goes nowhere, which is an error and not a panic.
#[test]
fn a_terminal_that_is_gone_is_an_error() {
    let lab = lab();
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: both numbers live through the call; no name, settings or size are asked for.
    assert_eq!(unsafe { libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), none.cast()) }, 0);
    // The terminal would live on with netpath.
    // SAFETY: fcntl(2) with F_SETFD takes a number.
    assert_eq!(unsafe { libc::fcntl(master, libc::F_SETFD, libc::FD_CLOEXEC) }, 0);
    // SAFETY: openpty gave both descriptors to us alone.
    let (master, slave) = unsafe { (OwnedFd::from_raw_fd(master), File::from_raw_fd(slave)) };
    let mut command = with_filters(&lab);
    let terminal = || Stdio::from(slave.try_clone().unwrap());
    let mut child = command.stdin(terminal()).stdout(terminal()).stderr(terminal()).spawn().unwrap();
    drop(command);
    wait_until_open(&mut child).unwrap();
    drop((master, slave));
    signal(child.id(), libc::SIGHUP);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(filters(&lab), 0);
}

/// What netpath does not need for itself goes to the command, as if it ran alone.
#[test]
fn a_command_gets_the_signals() {
    let lab = lab();
    let script = "trap 'exit 7' USR1; echo ready >&2; while :; do sleep 0.05; done";
    let arguments = ["report", "--format", "json", "--eni", "eth*", "--", "sh", "-c", script];
    let mut child = lab.netpath(&arguments).unwrap().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut errors = std::io::BufReader::new(child.stderr.take().unwrap());
    std::io::BufRead::read_line(&mut errors, &mut line).unwrap();
    assert_eq!(line, "ready\n");
    signal(child.id(), libc::SIGUSR1);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(7));
    let report: Report = read(&output.stdout).unwrap();
    assert_eq!(report.schema, "netpath.report/1");
}

#[test]
fn a_kill_leaves_nothing_attached() {
    let lab = lab();
    let mut child = open_window(&lab);
    wait_for_hooks(&lab, 4);
    signal(child.id(), libc::SIGKILL);
    child.wait().unwrap();
    wait_for_hooks(&lab, 0);
}

#[test]
fn two_at_once_count_side_by_side() {
    let lab = lab();
    let windows = [open_window(&lab), open_window(&lab)];
    wait_for_hooks(&lab, 8);
    for child in windows {
        signal(child.id(), libc::SIGINT);
        assert!(child.wait_with_output().unwrap().status.success());
    }
    wait_for_hooks(&lab, 0);
}

#[test]
fn the_commands_status_is_passed_on() {
    let lab = lab();
    for (script, status) in [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + libc::SIGTERM)] {
        let arguments = ["report", "--format", "json", "--eni", "eth*", "--", "sh", "-c", script];
        let output = lab.netpath(&arguments).unwrap().output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{script}: {}", String::from_utf8_lossy(&output.stderr));
        let report: Report = read(&output.stdout).unwrap();
        assert_eq!(report.schema, "netpath.report/1", "{script}");
    }
}

/// As a shell does it: the report is written, though the reader has gone.
#[test]
fn a_reader_that_goes_away_is_no_error() {
    let lab = lab();
    let netpath = lab::netpath_binary().unwrap();
    let script = format!(
        "{} report --duration 300ms --eni 'eth*' | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}",
        netpath.display()
    );
    let output = lab.node.namespace.command("bash").unwrap().args(["-c", &script]).output().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), "0", "{}", String::from_utf8_lossy(&output.stderr));
}
