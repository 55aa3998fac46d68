//! Reports that are looked at again: from a file or from stdin, one or many, without root.

use std::fs::{self, File};
use std::process::Output;

use lab::{Report, read};

use super::{lab, measured, text};

/// Runs netpath without any capability, with a file as its stdin.
fn netpath(arguments: &[&str], stdin: &str) -> Output {
    let mut command = std::process::Command::new("setpriv");
    command.args(["--bounding-set", "-all", "--inh-caps", "-all"]).arg(lab::netpath_binary().unwrap());
    command.args(arguments).stdin(File::open(stdin).unwrap()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn a_window_is_looked_at_again() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("report.json");
    let file = file.to_str().unwrap();
    let pod = lab.pod("client").ipv4;
    let send = format!("echo datagram > /dev/udp/{pod}/9");
    assert!(measured(&lab, &["-f", "json", "-o", file], &["bash", "-c", &send]).status.success());

    let written = fs::read_to_string(file).unwrap();
    let whole: Report = read(written.as_bytes()).unwrap();
    assert!(stdout(&netpath(&["report", "--from", file, "-f", "json"], "/dev/null")) == written, "nothing is lost");
    assert!(stdout(&netpath(&["report", "--from", "-", "-f", "json"], file)) == written);
    assert!(stdout(&netpath(&["report", "--from", file], "/dev/null")).contains(&pod.to_string()));
    let some = stdout(&netpath(&["report", "--from", "-", "-f", "json", "--proto", "udp", "--port", "9"], file));
    let some: Report = read(some.as_bytes()).unwrap();
    assert_eq!(some.flows.len(), 1);
    assert_eq!(some.path("host"), whole.path("host"));
    let selection = some.selection.unwrap();
    assert_eq!((selection.filters, selection.there.len()), (vec!["--port 9".to_owned(), "--proto udp".to_owned()], 0));

    // Limited again, it says that it was limited before, once, and nothing else does.
    let limited = folder.path().join("limited.json");
    let limited = limited.to_str().unwrap();
    stdout(&netpath(&["report", "--from", file, "-f", "json", "-o", limited, "--proto", "udp"], "/dev/null"));
    let again = netpath(&["report", "--from", limited, "-f", "json", "--port", "1"], "/dev/null");
    assert_eq!(text(&again.stderr), "");
    let table = stdout(&netpath(&["report", "--from", limited, "--port", "1"], "/dev/null"));
    let table = table.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = "The file has only flows with --proto udp; for others, measure again";
    assert!(table.contains(words) && table.matches("--proto udp").count() == 1, "{table}");
    let again: Report = read(&again.stdout).unwrap();
    let selection = again.selection.unwrap();
    assert_eq!(
        (selection.filters, selection.there),
        (vec!["--proto udp".to_owned(), "--port 1".to_owned()], vec!["ports of servers: 9".to_owned()])
    );
    assert!(stdout(&netpath(&["explain", "udp", ":9", "--from", "-"], limited)).contains(&format!("{pod}:9")));
    let none = netpath(&["explain", "tcp", "--from", limited], "/dev/null");
    assert!(text(&none.stderr).contains("it has only flows with --proto udp; "), "{}", text(&none.stderr));
}

/// A link, which root could replace; not the machine's own.
#[test]
fn dev_stdout_is_stdout() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    assert!(measured(&lab, &["-f", "json", "-o", &at("report.json")], &["true"]).status.success());
    let report = fs::read_to_string(at("report.json")).unwrap();
    std::os::unix::fs::symlink("/proc/self/fd", at("fd")).unwrap();
    std::os::unix::fs::symlink("fd/1", at("stdout")).unwrap();
    std::os::unix::fs::symlink("stdout", at("link")).unwrap();
    for path in ["fd/1", "stdout", "link"].map(at) {
        fs::write(at("all"), "before\n").unwrap();
        let mut command = std::process::Command::new(lab::netpath_binary().unwrap());
        command.args(["report", "--from", &at("report.json"), "-f", "json", "-o", &path]);
        assert!(command.stdout(File::options().append(true).open(at("all")).unwrap()).status().unwrap().success());
        assert_eq!(fs::read_to_string(at("all")).unwrap(), format!("before\n{report}"), "{path}");
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink(), "{path}");
    }
}

#[test]
fn many_reports_are_taken_in_their_order() {
    let lab = lab();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("reports");
    let file = file.to_str().unwrap();
    let measured =
        lab.netpath(&["report", "--eni", "eth*", "--interval", "0.1", "--count", "3", "-f", "json", "-o", file]);
    assert!(measured.unwrap().status().unwrap().success());
    let written = fs::read_to_string(file).unwrap();
    assert_eq!(written.lines().count(), 3);
    assert!(stdout(&netpath(&["report", "--from", "-", "-f", "json"], file)) == written);
    let tables = stdout(&netpath(&["report", "--from", file], "/dev/null"));
    assert!(tables.lines().count() > 3);

    // The writer was ended in the middle of a line.
    fs::write(file, &written[..written.len() - 100]).unwrap();
    let output = netpath(&["report", "--from", file, "-f", "json"], "/dev/null");
    assert_eq!((output.status.code(), text(&output.stdout).lines().count()), (Some(1), 2));
    assert!(
        text(&output.stderr).contains(&format!("{file} is not a report after 2 reports")),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn what_cannot_be_looked_at() {
    for (arguments, status, part) in [
        (&["report", "--from", "./none.json"][..], 1, "netpath: cannot read ./none.json: no such file\n"),
        (&["explain", "1", "--from", "/no/such"], 1, "netpath: cannot read /no/such: no such file\n"),
        (&["report", "--from", "/proc"], 1, "netpath: cannot read /proc: it is a directory\n"),
        (&["report", "--from", "-"], 1, "netpath: stdin is empty; "),
        (&["report", "--from", "x", "-d", "1s"], 2, "'--from <FILE>' cannot be used with '--duration <TIME>'"),
        (&["report", "--from", "x", "--", "true"], 2, "'--from <FILE>' cannot be used with '[COMMAND]...'"),
    ] {
        let output = netpath(arguments, "/dev/null");
        let stderr = text(&output.stderr);
        assert!(output.status.code() == Some(status) && stderr.contains(part), "{arguments:?}: {stderr}");
    }
}
