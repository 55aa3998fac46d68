//! The manifests in deploy/: kubectl builds them, Kubernetes' schemas have them, and what they say is what netpath runs with.
//!
//! A container is started with the rights, arguments and limits that are read from what kubectl built, by a real runc; the
//! witnesses are /proc/net/dev and /proc/PID/status.

mod container;
mod manifest;
mod text;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lab::traffic::{Serve, TcpServer, download};
use lab::{Lab, POD_NAMESPACE, counters, netpath_hooks, wait_until};

use container::Container;
use manifest::{BASE, COMPONENTS, Manifest, build, components, folder, overlaid};

const BYTES: u64 = 300_000;

/// Base, each component, and those together that somebody would put together.
fn variants() -> Vec<Vec<&'static str>> {
    let mut variants = vec![vec![]];
    variants.extend(COMPONENTS.map(|component| vec![component]));
    variants.push(vec!["podmonitor", "flows", "otlp"]);
    variants.push(vec!["otlp", "emf", "loopback", "names-from-files"]);
    variants
}

#[test]
fn every_component_is_tested() {
    let there = fs::read_dir(folder("deploy/kustomize/components")).unwrap();
    let there: BTreeSet<_> = there.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, COMPONENTS.map(str::to_owned).into());
}

/// By the system's kubectl, which may be so old that it knows no components.
#[test]
fn the_systems_kubectl_builds_the_base() {
    let base = build("kubectl", &folder(BASE));
    let kinds: BTreeSet<_> = base.documents.iter().map(|document| document["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["ConfigMap", "DaemonSet", "Namespace", "ServiceAccount"].into());
    assert_eq!(base.container()["image"], concat!("ghcr.io/netpath/netpath:", env!("CARGO_PKG_VERSION")));
}

/// `build` validates each document against the oldest and the newest schemas of Kubernetes.
#[test]
fn kubernetes_takes_every_variant() {
    for variant in variants() {
        let built = components(&variant);
        let pod = built.pod();
        let config = built.of_kind("ConfigMap").unwrap()["metadata"]["name"].as_str().unwrap();
        assert!(config.starts_with("netpath-") && pod["volumes"][0]["configMap"]["name"] == config, "{variant:?}");
        // Nothing of the API server's.
        assert_eq!(pod["automountServiceAccountToken"], false, "{variant:?}");
        let labels = &built.of_kind("DaemonSet").unwrap()["spec"]["template"]["metadata"]["labels"];
        if let Some(monitor) = built.of_kind("PodMonitor") {
            assert_eq!(&monitor["spec"]["selector"]["matchLabels"], labels);
            let port = &monitor["spec"]["podMetricsEndpoints"][0]["port"];
            assert_eq!(port, &built.container()["ports"][0]["name"]);
        }
        let annotations = &built.of_kind("DaemonSet").unwrap()["spec"]["template"]["metadata"]["annotations"];
        let scraped_elsewhere = variant.iter().any(|name| ["podmonitor", "loopback"].contains(name));
        assert_eq!(annotations.is_null(), scraped_elsewhere, "{variant:?}");
        if !scraped_elsewhere {
            let port = built.container()["ports"][0]["containerPort"].to_string();
            assert_eq!(annotations["prometheus.io/port"], port.as_str());
        }
    }
}

#[test]
fn a_schema_refuses_what_is_wrong() {
    let place = tempfile::tempdir().unwrap();
    copy(&folder(BASE), place.path());
    let file = place.path().join("daemonset.yaml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("hostPID: true", "hostPid: true")).unwrap();
    let refused = std::panic::catch_unwind(|| build("kubectl", place.path()));
    assert!(refused.is_err());
}

/// `ipv6` after `loopback` would listen on the network again.
#[test]
fn an_order_that_undoes_a_component_is_refused() {
    components(&["ipv6", "loopback"]);
    assert!(std::panic::catch_unwind(|| components(&["loopback", "ipv6"])).is_err());
}

/// The overlay that docs/daemonset.md shows.
#[test]
fn a_namespace_that_is_there_stays_as_it_is() {
    let page = fs::read_to_string(folder("docs/daemonset.md")).unwrap();
    let (_, overlay) = page.split_once("```yaml\nnamespace: monitoring\n").unwrap();
    let (overlay, _) = overlay.split_once("```").unwrap();
    let built = overlaid(&[], &format!("namespace: monitoring\n{overlay}"));
    assert!(built.of_kind("Namespace").is_none());
    for document in &built.documents {
        assert_eq!(document["metadata"]["namespace"], "monitoring", "{document:#}");
    }
}

/// What a kubelet would see: probes that answer, as netpath measures what the node's devices count, with these rights.
#[test]
fn it_runs_with_the_rights_it_asks_for() {
    let lab = Lab::builder().pod("client").pod("server").start().unwrap();
    let manifest = components(&[]);
    let container = Container::start(&lab, &manifest);
    container.wait_for_probes();
    let status = container.status();
    let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key)).unwrap().trim().to_owned();
    assert_eq!((line("Uid:"), line("NoNewPrivs:")), ("0\t0\t0\t0".to_owned(), "1".to_owned()));
    assert_eq!(line("CapBnd:"), "000000c000081000", "BPF, PERFMON, NET_ADMIN, SYS_PTRACE and nothing else");

    lab.wait_until_quiet().unwrap();
    container.wait_for_windows(2);
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let series = |metrics: &str, direction: &str| {
        let device = &client.veth;
        value(
            metrics,
            &format!("netpath_device_bytes_total{{device=\"{device}\",class=\"veth\",direction=\"{direction}\"}}"),
        )
    };
    let (hooks, kernel) = (container.metrics(), counters(&lab.node.namespace, &client.veth).unwrap());
    let listen = TcpServer::start(&server.namespace, (server.ipv4, 0).into(), Serve::Send(BYTES)).unwrap();
    download(&client.namespace, listen.address()).unwrap();
    lab.wait_until_quiet().unwrap();
    container.wait_for_windows(2);
    let (hooks_after, kernel_after) = (container.metrics(), counters(&lab.node.namespace, &client.veth).unwrap());
    let moved = kernel_after.since(kernel);
    assert!(moved.tx_bytes > BYTES);
    for (direction, bytes) in [("receive", moved.rx_bytes), ("transmit", moved.tx_bytes)] {
        let [before, after] = [&hooks, &hooks_after].map(|metrics| series(metrics, direction).unwrap());
        assert_eq!(after - before, bytes, "{direction}");
    }
    assert!(container.memory_used() < container.memory("requests"), "idle: {}", container.memory_used());
    container.stop();
    assert_eq!(netpath_hooks(&lab.node.namespace).unwrap(), 0);
}

#[test]
fn every_variant_runs() {
    let lab = Lab::builder().pod("client").start().unwrap();
    for variant in variants().into_iter().skip(1) {
        let manifest = components(&variant);
        let container = Container::start(&lab, &manifest);
        container.wait_for_probes();
        let has = |name: &str| variant.contains(&name);
        if has("names-from-files") {
            let series = format!("netpath_pod_bytes_total{{namespace=\"{POD_NAMESPACE}\",pod=\"client\",");
            wait_until("the pod is named", || container.metrics().contains(&series));
        }
        if has("flows") {
            let windows = container.host("var/lib/netpath/flows/netpath.window");
            wait_until("a record is written", || windows.is_dir());
        }
        if has("emf") {
            wait_until("an event is written", || container.stdout().contains("\"CloudWatchMetrics\""));
        }
        assert_eq!(container.listens_on_the_network(), !has("loopback"), "{variant:?}");
        container.stop();
        assert_eq!(netpath_hooks(&lab.node.namespace).unwrap(), 0, "{variant:?}");
    }
}

/// Without one of these netpath does not start, and names it.
#[test]
fn each_right_is_needed() {
    let lab = Lab::builder().pod("client").start().unwrap();
    for right in ["BPF", "PERFMON", "NET_ADMIN"] {
        let mut manifest = components(&[]);
        manifest.drop_right(right);
        let (status, said) = Container::start(&lab, &manifest).end();
        assert!(status != Some(0) && said.contains(&format!("CAP_{right}")), "{right}: {status:?} {said}");
    }
}

/// The value of a series, if it is there.
fn value(metrics: &str, series: &str) -> Option<u64> {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

impl Manifest {
    /// Takes a capability away.
    fn drop_right(&mut self, name: &str) {
        let container = self.container_mut();
        let rights = container["securityContext"]["capabilities"]["add"].as_array_mut().unwrap();
        let before = rights.len();
        rights.retain(|right| right != name);
        assert_eq!(rights.len() + 1, before, "{name}");
    }
}
