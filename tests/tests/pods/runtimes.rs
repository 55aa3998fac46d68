//! Nodes with several sockets of container runtimes, or with one in an unusual place: the pods have the names that their
//! runtime knows, and where none answers the report says what was tried.

use std::os::unix::net::UnixListener;

use lab::Lab;

use super::fake::{How, listen};
use super::sources::{Host, node};
use super::{ends, sources, veths};

const V1: &str = "runtime.v1";
const CONTAINERD: &str = "run/containerd/containerd.sock";

/// The runtime of the lab's two pods, whose names begin with this.
fn pods(lab: &Lab, version: &'static str, prefix: &str) -> How {
    let pods = ["client", "server"].map(|name| (format!("{prefix}{name}"), lab.pod(name).ipv4.into()));
    How::Pods(version, pods.into())
}

fn kubelet(host: &Host, arguments: &str) {
    host.write("proc/4242/comm", "kubelet\n");
    host.write("proc/4242/cmdline", format!("/usr/bin/kubelet\0{arguments}\0"));
}

/// Measures, and checks the pods' names, CRI's state and its reason.
fn expect(lab: &Lab, host: &Host, prefix: Option<&str>, state: &str, reasons: &[&str]) {
    let report = host.measure_idle(lab);
    let named = ["client", "server"]
        .iter()
        .filter_map(|name| Some((lab.pod(name).veth.clone(), format!("default/{}{name} by address of cri", prefix?))));
    let (is, _, why) = &sources(&report)["cri"];
    assert_eq!(veths(&report), named.collect(), "{is}: {why}");
    assert!(is == state && why.is_empty() == (state == "ok"), "{is}: {why}");
    for reason in reasons {
        assert!(why.contains(reason), "no '{reason}' in {why}");
    }
}

#[test]
fn the_first_socket_is_not_the_one() {
    let lab = node();
    let works = || pods(&lab, V1, "web-");

    // Docker's containerd.
    let host = Host::new();
    listen(&host.at(CONTAINERD), How::Unimplemented);
    listen(&host.at("run/crio/crio.sock"), works());
    expect(&lab, &host, Some("web-"), "ok", &[]);

    // One that is left behind, and one where only /var/run is to be seen.
    let host = Host::new();
    drop(UnixListener::bind(host.at(CONTAINERD)).unwrap());
    host.write("run/cri-dockerd.sock", "");
    listen(&host.at("var/run/crio/crio.sock"), works());
    expect(&lab, &host, Some("web-"), "ok", &[]);

    // One that hangs may be the one: what it has would be missing.
    let host = Host::new();
    listen(&host.at(CONTAINERD), How::Hangs);
    listen(&host.at("run/crio/crio.sock"), How::Hangs);
    listen(&host.at("run/k3s/containerd/containerd.sock"), works());
    let slow = "/run/containerd/containerd.sock did not answer within 1500 ms";
    expect(&lab, &host, Some("web-"), "incomplete", &[slow, "/run/crio/crio.sock did not answer"]);

    // Each in its own place, of a runtime before CRI's first version among them.
    for (socket, version) in [
        ("run/cri-dockerd.sock", V1),
        ("run/k0s/containerd.sock", V1),
        ("var/snap/microk8s/common/run/containerd.sock", V1),
        ("run/dockershim.sock", "runtime.v1alpha2"),
    ] {
        let host = Host::new();
        listen(&host.at(socket), pods(&lab, version, "web-"));
        expect(&lab, &host, Some("web-"), "ok", &[]);
    }

    // Nowhere.
    let host = Host::new();
    listen(&host.at(CONTAINERD), How::Unimplemented);
    drop(UnixListener::bind(host.at("run/crio/crio.sock")).unwrap());
    let tried = [
        "/run/containerd/containerd.sock is not a container runtime of Kubernetes, which has runtime.v1 or runtime.v1alpha2",
        "unknown service runtime.v1alpha2.RuntimeService",
        "/run/crio/crio.sock: Connection refused",
    ];
    expect(&lab, &host, None, "unreadable", &tried);
}

#[test]
fn the_socket_that_the_kubelet_names() {
    let lab = node();
    let unusual = "opt/runtime/x.sock";
    let named = "unix:///opt/runtime/x.sock";

    // By its command line; the well-known one has pods of a cluster that was.
    let host = Host::new();
    listen(&host.at(CONTAINERD), pods(&lab, V1, "old-"));
    listen(&host.at(unusual), pods(&lab, V1, "web-"));
    kubelet(&host, &format!("--container-runtime-endpoint={named}"));
    expect(&lab, &host, Some("web-"), "ok", &[]);

    // By the configuration that its command line names.
    let host = Host::new();
    listen(&host.at(CONTAINERD), How::Hangs);
    listen(&host.at(unusual), pods(&lab, V1, "web-"));
    kubelet(&host, "--config\0/etc/k.yaml");
    host.write("etc/k.yaml", format!("kind: KubeletConfiguration\ncontainerRuntimeEndpoint: \"{named}\"\n"));
    expect(&lab, &host, Some("web-"), "ok", &[]);

    // By the usual configuration of EKS, where no kubelet is seen. The path is a link on the host.
    let host = Host::new();
    listen(&host.at(unusual), pods(&lab, V1, "web-"));
    std::os::unix::fs::symlink("/opt/runtime", host.at("run/link")).unwrap();
    host.write("etc/kubernetes/kubelet/config.json", r#"{"containerRuntimeEndpoint":"unix:///run/link/x.sock"}"#);
    expect(&lab, &host, Some("web-"), "ok", &[]);

    // It names one that does not work: what another knows is used, and the report says so.
    let host = Host::new();
    listen(&host.at(CONTAINERD), pods(&lab, V1, "web-"));
    kubelet(&host, &format!("--container-runtime-endpoint\0{named}"));
    expect(&lab, &host, Some("web-"), "incomplete", &["there is no /opt/runtime/x.sock (the kubelet names it)"]);
}

/// Two runtimes, and nobody says which is Kubernetes': the sandboxes of both run here. An address that both give has no name.
#[test]
fn two_runtimes_that_answer() {
    let lab = node();
    let host = Host::new();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let of = |name: &str, pod: &lab::Pod| (name.to_owned(), pod.ipv4.into());
    listen(&host.at(CONTAINERD), How::Pods(V1, vec![of("web", client), of("one", server)]));
    listen(&host.at("run/crio/crio.sock"), How::Pods(V1, vec![of("two", server)]));
    let report = host.measure_idle(&lab);
    assert_eq!(veths(&report), [(client.veth.clone(), "default/web by address of cri".to_owned())].into());
    assert_eq!((sources(&report)["cri"].1, report.names.disputed_addresses), (3, 1));
}

/// The runtime alone, then ipam.json alone, where the pods' veths have no routes: as ports of a bridge.
#[test]
fn one_source_alone_on_a_bridge() {
    let lab = node();
    let (client, server) = (lab.pod("client"), lab.pod("server"));
    let mut commands = vec!["link add cni0 type bridge".to_owned(), "link set cni0 up".to_owned()];
    for pod in [client, server] {
        commands.extend([
            format!("link set {} master cni0", pod.veth),
            format!("route del {} dev {}", pod.ipv4, pod.veth),
            format!("route add {} dev cni0", pod.ipv4),
            format!("route del {} dev {}", pod.ipv6, pod.veth),
            format!("neigh add {} lladdr {} dev cni0 nud permanent", pod.ipv4, mac(&pod.namespace)),
        ]);
    }
    lab::ip_batch(&lab.node.namespace, &commands.join("\n")).unwrap();
    let bridge = lab.node.namespace.output("cat", &["/sys/class/net/cni0/address"]).unwrap();
    for pod in [client, server] {
        lab::ip(&pod.namespace, &format!("neigh replace 169.254.1.1 lladdr {} dev eth0", bridge.trim())).unwrap();
    }
    let expect = |host: &Host, source: &str| {
        let report = host.measure(&lab);
        let [client, server] =
            ["client", "server"].map(|pod| Some(format!("default/web-{pod} by address of {source}")));
        // The download has more bytes than its acknowledgements.
        assert_eq!(ends(&report), [(server.clone(), client.clone()), (client, server)], "{:?}", sources(&report));
    };
    let host = Host::new();
    listen(&host.at(CONTAINERD), pods(&lab, V1, "web-"));
    expect(&host, "cri");
    let host = Host::new();
    host.ipam(&[(client, "web-client"), (server, "web-server")]);
    expect(&host, "vpc_cni");
}

fn mac(namespace: &lab::Namespace) -> String {
    namespace.output("cat", &["/sys/class/net/eth0/address"]).unwrap().trim().to_owned()
}
