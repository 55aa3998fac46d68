//! What kubectl builds of the manifests, held against Kubernetes' schemas.
//!
//! In: folders of deploy/. Out: documents as JSON. Each document that comes through here is valid.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::output_within;
use serde_json::Value;

/// The folder that people apply.
pub const BASE: &str = "deploy/kustomize/base";
/// What may be added to it.
pub const COMPONENTS: [&str; 7] = ["emf", "flows", "ipv6", "loopback", "names-from-files", "otlp", "podmonitor"];

/// A `PodMonitor` is the Prometheus operator's, not Kubernetes'.
const VALIDATE: &str = "import json, sys, yaml, kubernetes_validate
documents = list(yaml.safe_load_all(sys.stdin))
for document in documents:
    if document['apiVersion'] != 'monitoring.coreos.com/v1':
        for version in kubernetes_validate.utils.all_versions()[0], kubernetes_validate.latest_version():
            kubernetes_validate.validate(document, version, strict=True)
json.dump(documents, sys.stdout)";

/// Documents that belong together.
pub struct Manifest {
    pub documents: Vec<Value>,
}

impl Manifest {
    pub fn of_kind(&self, kind: &str) -> Option<&Value> {
        self.documents.iter().find(|document| document["kind"] == kind)
    }

    /// What the `DaemonSet` makes pods of.
    pub fn pod(&self) -> &Value {
        &self.of_kind("DaemonSet").unwrap()["spec"]["template"]["spec"]
    }

    pub fn container(&self) -> &Value {
        &self.pod()["containers"][0]
    }

    pub fn container_mut(&mut self) -> &mut Value {
        let daemonset = self.documents.iter_mut().find(|document| document["kind"] == "DaemonSet").unwrap();
        &mut daemonset["spec"]["template"]["spec"]["containers"][0]
    }
}

/// A file or folder of this repository.
pub fn folder(path: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(path).canonicalize().unwrap()
}

/// Base with these components, by a kubectl that knows them.
pub fn components(names: &[&str]) -> Manifest {
    overlaid(names, "")
}

/// The same, with more in the kustomization.
pub fn overlaid(names: &[&str], more: &str) -> Manifest {
    let place = tempfile::tempdir().unwrap();
    // kubectl wants relative paths.
    let at = place.path().canonicalize().unwrap();
    let up = "../".repeat(at.components().count() - 1);
    let relative = |path: &str| format!("  - {up}{}\n", folder(path).strip_prefix("/").unwrap().display());
    let mut text = format!("resources:\n{}", relative(BASE));
    if !names.is_empty() {
        text += "components:\n";
    }
    for name in names {
        text += &relative(&format!("deploy/kustomize/components/{name}"));
    }
    std::fs::write(place.path().join("kustomization.yaml"), text + more).unwrap();
    let own = std::env::var_os("NETPATH_PYTHON").map(|folder| PathBuf::from(folder).join("kubectl"));
    let kubectl = own.filter(|path| path.is_file()).unwrap_or_else(|| "kubectl".into());
    build(kubectl.to_str().unwrap(), place.path())
}

/// What this kubectl makes of a folder.
pub fn build(kubectl: &str, place: &Path) -> Manifest {
    let output = output_within(Command::new(kubectl).arg("kustomize").arg(place), Duration::from_mins(1)).unwrap();
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{kubectl}, which has to be 1.21 or newer for components: {why}");
    assert_eq!(why, "", "nothing is out of date");
    let mut python = lab::python().unwrap();
    python.args(["-c", VALIDATE]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut python = python.spawn().unwrap();
    python.stdin.take().unwrap().write_all(&output.stdout).unwrap();
    let valid = python.wait_with_output().unwrap();
    let why = String::from_utf8_lossy(&valid.stderr);
    assert!(valid.status.success(), "{} is not as Kubernetes wants it: {why}", place.display());
    Manifest { documents: serde_json::from_slice(&valid.stdout).unwrap() }
}
