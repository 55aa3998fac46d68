//! Completion scripts and man pages, judged by the programs that read them.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::io::Write as _;
use std::process::{Command, Stdio};

fn netpath() -> Command {
    Command::new(env!("CARGO_BIN_EXE_netpath"))
}

#[test]
fn bash_completes_subcommands_options_and_values() {
    let script = netpath().args(["completions", "bash"]).output().unwrap();
    assert!(script.status.success(), "{}", String::from_utf8_lossy(&script.stderr));
    for (words, expected) in [
        ("netpath repo", vec!["report"]),
        ("netpath report --group", vec!["--group-by"]),
        (
            "netpath report --path ",
            vec!["eni", "local", "host", "transit", "undelivered", "unresolved", "internet", "vpc"],
        ),
    ] {
        let complete = format!(
            "COMP_WORDS=({words}{last}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); \
             _netpath netpath \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"; echo \"${{COMPREPLY[@]}}\"",
            last = if words.ends_with(' ') { "''" } else { "" },
        );
        let mut bash = Command::new("bash").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = bash.stdin.take().unwrap();
        input.write_all(&script.stdout).unwrap();
        input.write_all(complete.as_bytes()).unwrap();
        drop(input);
        let reply = bash.wait_with_output().unwrap();
        let reply = String::from_utf8(reply.stdout).unwrap();
        assert_eq!(reply.split_whitespace().collect::<Vec<_>>(), expected, "{words}");
    }
}

#[test]
fn each_subcommand_has_a_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man/man1");
    assert!(netpath().arg("man").arg(&pages).status().unwrap().success());
    let help = String::from_utf8(netpath().arg("--help").output().unwrap().stdout).unwrap();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // What goes on in the next line is indented further.
    let names = commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let names: Vec<&str> = names.collect();
    assert!(names.contains(&"report"), "{help}");
    for name in names.into_iter().filter(|name| *name != "help") {
        let page = std::fs::read_to_string(pages.join(format!("netpath-{name}.1"))).unwrap();
        let help = netpath().args([name, "--help"]).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        // Each option begins a line.
        let lines = help.lines().filter_map(|line| Some((line, line.trim_start().strip_prefix('-')?)));
        let indented = lines.filter(|(line, _)| line.starts_with("  ") && !line.starts_with("          "));
        let options = indented.filter_map(|(line, _)| line.split_whitespace().find(|word| word.starts_with("--")));
        let options: Vec<&str> = options.collect();
        assert!(options.contains(&"--help"), "{help}");
        assert!(page.is_ascii() && help.is_ascii(), "for every locale: {help}");
        let plain = page.replace('\\', "");
        for option in options.iter().map(|option| option.trim_end_matches("...")) {
            assert!(plain.contains(&format!("fB{option}fR")), "no {option} in {name}");
        }
        for section in ["SYNOPSIS", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES", "SEE ALSO"] {
            let heading = [format!(".SH {section}\n"), format!(".SH \"{section}\"\n")];
            assert!(heading.iter().any(|heading| page.contains(heading)), "no {section} in {name}:\n{page}");
        }
    }
    let report = std::fs::read_to_string(pages.join("netpath-report.1")).unwrap();
    for part in
        ["124", "126", "127", "NETPATH_LOG", "NETPATH_OFFLINE", "NO_COLOR", "COLUMNS", "AWS_EC2_METADATA_DISABLED"]
    {
        assert!(report.contains(&format!("fB{part}")), "no {part}");
    }
    assert!(pages.join("netpath.1").exists());
    // Not a folder.
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = netpath().arg("man").arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("name a folder that you may write to"));
}
