//! How a window ends: by Ctrl-C, with the command that it measures, or by force. Nothing is left behind in any case.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::process::{Child, Stdio};

use lab::{Lab, netpath_hooks, signal, wait_until, wait_until_open};
use serde_json::Value;

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
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["schema"], "netpath.report/1");
        assert!(report["window"]["duration_ns"].as_u64().unwrap() < 60_000_000_000);
        wait_for_hooks(&lab, 0);
    }
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
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["schema"], "netpath.report/1", "{script}");
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
