//! Every command of netpath that README.md, SECURITY.md and docs/ show is run on a node, as a reader would run it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lab::traffic::{UdpSink, send_datagrams};
use lab::{Lab, netpath_binary, output_within};

const WITHIN: Duration = Duration::from_mins(1);
/// After which a command gets Ctrl-C.
const SECONDS: &str = "0.7";

#[test]
fn every_command_of_the_documents_runs() {
    let lab = Lab::builder().pod("web-0").pod("db-0").pod("client").start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let bin = folder.path().join("bin");
    fs::create_dir_all(&bin).unwrap();
    let files = lab.host_files().unwrap();
    fs::write(bin.join("netpath"), wrapper(files.path())).unwrap();
    fs::set_permissions(bin.join("netpath"), fs::Permissions::from_mode(0o755)).unwrap();
    // What the commands read, and the folder that they write into.
    fs::create_dir(folder.path().join("DIR")).unwrap();
    let (client, server) = (lab.pod("web-0"), lab.pod("db-0"));
    let sink = UdpSink::start(&server.namespace, (server.ipv4, 0).into()).unwrap();
    let send = || send_datagrams(&client.namespace, sink.address(), 100, 20).map(drop);
    for file in ["report.json", "before.json", "after.json"] {
        fs::write(folder.path().join(file), lab.measure(&[], send).unwrap().json).unwrap();
    }

    let commands = commands();
    assert!(commands.len() > 25, "{commands:?}");
    // First what others read.
    let (recordings, others): (Vec<_>, Vec<_>) =
        commands.into_iter().partition(|command| command.starts_with("netpath record"));
    let failed: Vec<String> = recordings
        .iter()
        .chain(&others)
        .filter_map(|command| {
            let output = run(&lab, folder.path(), &bin, command);
            let said = String::from_utf8_lossy(&output.stderr);
            let expected = match output.status.code() {
                // 130: by Ctrl-C, before there was anything to report.
                Some(0 | 130) => true,
                // It found something to mend.
                Some(1) if command.starts_with("netpath doctor") => true,
                Some(2) | None => false,
                // That of the command which netpath runs.
                Some(_) => command.contains(" -- "),
            };
            // The recording has no such time of day, as a rule.
            let has_no_window = command.contains("--from 14:05") && said.contains("no window");
            (!expected && !has_no_window).then(|| format!("`{command}`: {}: {said}", output.status))
        })
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// netpath, with this folder as the host's `/`: there are the names of the lab's pods.
fn wrapper(files: &Path) -> String {
    let netpath = netpath_binary().unwrap();
    format!(
        "#!/bin/sh\ncase \"$*\" in *' --from '*) ;; report*|trace*|record*|top*|serve*) command=$1; shift; set -- $command --host-root {} \"$@\" ;; esac\n\
         exec {} \"$@\"\n",
        quoted(&files.display().to_string()),
        quoted(&netpath.display().to_string())
    )
}

/// Those in code of the documents, without `sudo`.
fn commands() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents = docs.chain(["README.md", "SECURITY.md"].map(|name| root.join(name)));
    let is_text = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md") && path.exists();
    documents.filter(is_text).flat_map(|path| commands_of(&fs::read_to_string(path).unwrap())).collect()
}

fn commands_of(document: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in document.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if in_block {
            found.extend(line.strip_prefix("$ "));
        } else {
            // Without an argument it is the name of a command.
            found.extend(line.split('`').skip(1).step_by(2).filter(|code| code.split(' ').count() > 2));
        }
    }
    let without_sudo = found.into_iter().map(|command| command.strip_prefix("sudo ").unwrap_or(command));
    // What follows is a comment.
    let without_comment = without_sudo.map(|command| command.split(" #").next().unwrap_or_default().trim());
    without_comment.filter(|command| command.starts_with("netpath ")).map(ToOwned::to_owned).collect()
}

fn run(lab: &Lab, folder: &Path, bin: &Path, command: &str) -> Output {
    let mut path = bin.as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap());
    // The live view wants a terminal, and q ends it.
    let line = if command.starts_with("netpath top") {
        format!("(sleep {SECONDS}; printf q) | script --quiet --return --command {} /dev/null", quoted(command))
    } else {
        format!("timeout --signal=INT --preserve-status {SECONDS} sh -c {}", quoted(&format!("exec {command}")))
    };
    let mut shell: Command = lab.node.namespace.command("sh").unwrap();
    shell.args(["-c", &line]).env("PATH", path).current_dir(folder);
    output_within(&mut shell, WITHIN).unwrap()
}

fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[test]
fn commands_are_found() {
    let document = "Say `netpath report -d 1m` to `netpath`, or:\n\n```console\n$ sudo netpath devices     # who\nnetpath: no\n$ jq .\n```\n`top`";
    assert_eq!(commands_of(document), ["netpath report -d 1m", "netpath devices"]);
}
