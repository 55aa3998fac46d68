//! Real pods: two that talk, and others that are replaced while they talk.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use lab::traffic::{Serve, TcpServer, download};
use lab::{Lab, Report, netpath_hooks, wait_until};

use super::runtime::{Runtime, Sandbox};
use super::{ends, sources, veths};

const CLIENT: &str = "0d0eb7a4-8b6c-4f0e-9a52-2c1d33a4b5c6";
const SERVER: &str = "0123456789abcdef0123456789abcdef";
const BYTES: u64 = 100_000;

fn serve(sandbox: &Sandbox) -> TcpServer {
    TcpServer::start(&sandbox.namespace, SocketAddr::new(sandbox.address.into(), 8080), Serve::Send(BYTES)).unwrap()
}

#[test]
fn pods_of_a_container_runtime() {
    let lab = Lab::builder().start().unwrap();
    let mut runtime = Runtime::start(&lab).unwrap();
    let client = runtime.run("default", "client", CLIENT).unwrap();
    let server = runtime.run("kube-system", "server.of-node-1", SERVER).unwrap();
    let listening = serve(&server);
    let talk = || download(&client.namespace, listening.address()).map(drop);

    let expect = |report: &Report, by: &str| {
        let (client_pod, server_pod) = (format!("default/client {by}"), format!("kube-system/server.of-node-1 {by}"));
        let expected = [(client.veth.clone(), client_pod.clone()), (server.veth.clone(), server_pod.clone())];
        assert_eq!(veths(report), expected.into());
        let (client, server) = (Some(client_pod), Some(server_pod));
        // The download has more bytes than its acknowledgements.
        assert_eq!(ends(report), [(server.clone(), client.clone()), (client, server)]);
    };

    // Everything that the runtime's host has.
    let root = runtime.root();
    let report = lab.measure(&["--host-root", root.to_str().unwrap()], talk).unwrap().report;
    expect(&report, "by network_namespace of cri");
    let states = sources(&report);
    let state = |source: &str| (states[source].0.as_str(), states[source].1);
    assert_eq!(
        [state("vpc_cni"), state("cri"), state("processes")],
        [("absent", 0), ("ok", 2), ("ok", 2)],
        "{states:?}"
    );

    // Without the runtime: by the pods' processes, and the names of the folders of their logs.
    let files = tempfile::tempdir().unwrap();
    for folder in [format!("default_client_{CLIENT}"), format!("kube-system_server.of-node-1_{SERVER}")] {
        fs::create_dir_all(files.path().join("var/log/pods").join(folder)).unwrap();
    }
    let report = lab.measure(&["--host-root", files.path().to_str().unwrap()], talk).unwrap().report;
    expect(&report, "by network_namespace of processes");
    let states = sources(&report);
    assert_eq!((states["cri"].0.as_str(), states["processes"].1), ("absent", 2), "{states:?}");

    // Nor those: processes whose names nobody has.
    let report =
        lab.measure(&["--host-root", tempfile::tempdir().unwrap().path().to_str().unwrap()], talk).unwrap().report;
    assert!(veths(&report).is_empty());
    let (state, count, reason) = &sources(&report)["processes"];
    assert!(
        state == "incomplete" && *count == 0 && reason.starts_with("2 pods with processes here have no name"),
        "{state} {reason}"
    );
}

/// Pods with one address after another: each flow has the name of the pod that it was, or none, and those that live long
/// enough to be noticed have theirs.
#[test]
fn pods_that_are_replaced_under_load() {
    let lab = Lab::builder().start().unwrap();
    let mut runtime = Runtime::start(&lab).unwrap();
    let server = runtime.run("default", "server", SERVER).unwrap();
    let listening = serve(&server);
    let root = runtime.root();

    // By the client's port, who it was, and whether it stayed for a while.
    let mut clients: BTreeMap<SocketAddr, (String, bool)> = BTreeMap::new();
    let mut addresses = Vec::new();
    let node = &lab.node.namespace;
    let work = || {
        let hooks = netpath_hooks(node)?;
        for (number, stays) in [true, false, true, false, true].into_iter().enumerate() {
            let name = format!("client-{number}");
            let uid = format!("0d0eb7a4-8b6c-4f0e-9a52-{number:012}");
            let client = runtime.run("default", &name, &uid)?;
            addresses.push(client.address);
            if stays {
                wait_until("netpath is on its veth", || netpath_hooks(node).unwrap() == hooks + 2);
            }
            for _ in 0..3 {
                let transfer = download(&client.namespace, listening.address())?;
                let same = clients.insert(transfer.local, (format!("default/{name}"), stays));
                ensure!(same.is_none(), "{} was used by two pods", transfer.local);
                if stays {
                    std::thread::sleep(Duration::from_millis(1_100));
                }
            }
            runtime.remove(&client.id)?;
        }
        Ok(())
    };
    let report = lab.measure(&["--host-root", root.to_str().unwrap()], work).unwrap().report;
    let distinct = addresses.iter().collect::<std::collections::BTreeSet<_>>();
    assert!(distinct.len() < addresses.len(), "no address was used again: {addresses:?}");

    let mut seen = 0;
    // Besides, the kernels of new pods look for neighbours.
    for flow in report.flows_of("tcp") {
        let (src, dst) = (flow.source(), flow.destination());
        let (client, client_pod, server_pod) = if dst.port() == 8080 {
            (src, flow.src_pod.as_deref(), flow.dst_pod.as_deref())
        } else {
            (dst, flow.dst_pod.as_deref(), flow.src_pod.as_deref())
        };
        let (name, stays) = &clients[&client];
        assert_eq!(server_pod, Some("default/server"));
        assert!(client_pod == Some(name) || client_pod.is_none() && !stays, "{client} was {name}: {flow}");
        seen += 1;
    }
    assert_eq!(seen, clients.len() * 2);
}
