//! What netpath does with the command that it measures, and with stdin and stdout.

mod from;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::time::{Duration, Instant};

use lab::{Lab, Report, attached_programs, read};

fn lab() -> Lab {
    Lab::builder().pod("client").start().unwrap()
}

/// Runs `netpath report` in the node: its options, then a command.
fn measured(lab: &Lab, options: &[&str], command: &[&str]) -> Output {
    let arguments = [&["report", "--eni", "eth*"], options, &["--"], command].concat();
    lab.netpath(&arguments).unwrap().output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// 127 and 126, as of shells, with what to do; and nothing stays attached.
#[test]
fn a_command_that_cannot_be_started() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let plain = file("plain", "text", 0o644);
    let without_interpreter = file("without", "#!/no/such/shell\n", 0o755);
    for (command, status, why) in [
        ("no-such-command", 127, "no such command in PATH; check its name"),
        ("/no/such/command", 127, "no such file; check the path"),
        (&without_interpreter, 127, "its interpreter is missing"),
        (&plain, 126, "permission denied; make it executable (chmod +x)"),
        (folder.path().to_str().unwrap(), 126, "it is a directory"),
    ] {
        let output = measured(&lab, &[], &[command]);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{stderr}");
        let expected = format!("netpath: cannot run '{command}': {why}");
        assert!(stderr.starts_with(&expected) && stderr.lines().count() == 1, "{stderr}");
        assert!(output.stdout.is_empty());
    }
    assert_eq!(attached_programs(&lab.node.namespace).unwrap(), Vec::<String>::new());
}

/// 124, as of timeout(1); the window is as long as the limit, and what the command started ends with it.
#[test]
fn a_command_whose_time_is_up() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let script = format!("(sleep 2; touch {}) & sleep 60", mark.display());
    let started = Instant::now();
    let output = measured(&lab, &["-d", "0.5", "-f", "json"], &["sh", "-c", &script]);
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
    assert!(started.elapsed() < Duration::from_secs(30));
    let report: Report = read(&output.stdout).unwrap();
    assert!((500_000_000..2_000_000_000).contains(&report.window.duration_ns), "{}", report.window.duration_ns);
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!mark.exists(), "its children are ended, too");
}

#[test]
fn a_command_that_does_not_want_to_end_is_killed() {
    let lab = lab();
    let started = Instant::now();
    let output = measured(&lab, &["-d", "300ms"], &["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"]);
    assert_eq!(output.status.code(), Some(124), "{}", text(&output.stderr));
    let took = started.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(30)).contains(&took), "{took:?}");
}

#[test]
fn a_command_that_ends_in_time_passes_its_status_on() {
    let lab = lab();
    assert_eq!(measured(&lab, &["-d", "1m"], &["sh", "-c", "exit 7"]).status.code(), Some(7));
}

/// JSON on stdout is JSON alone.
#[test]
fn a_command_does_not_write_into_json() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let file = file.to_str().unwrap();
    for options in [&["-f", "json"][..], &["-f", "json", "-o", "-"]] {
        let output = measured(&lab, options, &["echo", "from the command"]);
        read::<Report>(&output.stdout).unwrap();
        assert!(text(&output.stderr).contains("from the command\n"));
    }
    for options in [&[][..], &["-f", "json", "-o", file]] {
        let output = measured(&lab, options, &["echo", "from the command"]);
        assert!(text(&output.stdout).starts_with("from the command\n"), "{options:?}");
    }
    read::<Report>(&fs::read(file).unwrap()).unwrap();
}

/// Found before anything is measured.
#[test]
fn a_closed_stdout_is_an_error() {
    let lab = lab();
    let netpath = lab::netpath_binary().unwrap();
    let commands = ["report --duration 1h --eni 'eth*'", "devices", "completions bash", "explain 1 --duration 1h"];
    // Closed, or open for reading.
    for (command, redirection) in
        commands.map(|command| (command, ">&-")).into_iter().chain([(commands[0], "1</dev/null")])
    {
        let script = format!("{} {command} {redirection}", netpath.display());
        let output = lab.node.namespace.command("sh").unwrap().args(["-c", &script]).output().unwrap();
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {stderr}");
        assert!(stderr.contains("stdout is closed; send it to a file"), "{command}: {stderr}");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    let script = format!("{} report -d 100ms --eni 'eth*' -o {} >&-", netpath.display(), file.path().display());
    assert!(lab.node.namespace.command("sh").unwrap().args(["-c", &script]).status().unwrap().success());
}
