//! The questions of docs/json.md, answered by jq from a scenario's report as the page says.

use std::process::Command;

use netpath::{path, render};

use super::read;

#[test]
fn questions_to_jq() {
    let page = include_str!("../../../docs/json.md");
    let folder = tempfile::tempdir().unwrap();
    let report = path::report(&read("busy_node").snapshot);
    render::json::write(&report, &mut std::fs::File::create(folder.path().join("report.json")).unwrap()).unwrap();
    let examples: Vec<&str> =
        page.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(examples.len(), 10);
    for example in examples {
        let (command, expected) = example.split_once('\n').unwrap();
        let command = command.strip_prefix("$ ").unwrap();
        let output = Command::new("sh").args(["-c", command]).current_dir(folder.path()).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_ne!(output.status.code(), Some(127), "install jq: {errors}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{command}\n{errors}");
    }
}
