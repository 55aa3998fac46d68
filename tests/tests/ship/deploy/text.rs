//! The manifests' documentation, and the workflow of those who fork the repository.

use std::collections::BTreeSet;
use std::fs;

use super::manifest::{COMPONENTS, components, folder};

fn page() -> String {
    fs::read_to_string(folder("docs/daemonset.md")).unwrap()
}

/// The first cells of the rows of the table under a heading.
fn first_cells(page: &str, heading: &str) -> BTreeSet<String> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let cell = |line: &str| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned());
    section.lines().filter_map(cell).collect()
}

#[test]
fn each_right_is_documented_and_no_other() {
    let manifest = components(&[]);
    let security = &manifest.container()["securityContext"]["capabilities"]["add"];
    let mut rights: BTreeSet<_> =
        security.as_array().unwrap().iter().map(|right| format!("CAP_{}", right.as_str().unwrap())).collect();
    let pod = manifest.pod();
    let of_the_node = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|name| pod[name] == true);
    rights.extend(of_the_node.map(str::to_owned));
    if manifest.container()["securityContext"]["runAsUser"] == 0 {
        rights.insert("runAsUser: 0".to_owned());
    }
    assert_eq!(first_cells(&page(), "What each right is for"), rights);
}

#[test]
fn each_component_is_documented() {
    assert_eq!(first_cells(&page(), "Components"), COMPONENTS.map(str::to_owned).into());
}

#[test]
fn figures_are_those_of_the_manifest() {
    let (page, manifest) = (page(), components(&[]));
    for of in ["requests", "limits"] {
        for what in ["cpu", "memory"] {
            let amount = manifest.container()["resources"][of][what].as_str().unwrap();
            assert!(page.contains(&format!("`{amount}`")), "{of} of {what}: {amount}");
        }
    }
}

/// The workflow is YAML, and runs what people run.
#[test]
fn the_workflow_runs_what_is_here() {
    const READ: &str = "import json, sys, yaml; json.dump(yaml.load(open(sys.argv[1]), yaml.BaseLoader), sys.stdout)";
    let file = folder(".github/workflows/ci.yml");
    let output = lab::python().unwrap().args(["-c", READ]).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let workflow: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}));
    let jobs = workflow["jobs"].as_object().unwrap();
    let steps: Vec<_> = jobs.values().flat_map(|job| job["steps"].as_array().unwrap()).collect();
    let commands: Vec<_> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    let script = fs::read_to_string(folder(".ci/run")).unwrap();
    for wanted in [".ci/run", "cargo xtask kernels", "cargo xtask dist --image", "cargo xtask test --dist"] {
        let runs = |command: &str| command.contains(wanted);
        assert!(commands.iter().any(|command| runs(command)) || runs(&script), "nobody runs {wanted}");
    }
    assert!(commands.contains(&".ci/run"), "nobody runs the script");
    for used in steps.iter().filter_map(|step| step["uses"].as_str()) {
        let (action, version) = used.split_once('@').unwrap();
        assert!(action.starts_with("actions/") && version.starts_with('v'), "{used}");
    }
}
