//! Pods of a real container runtime in the lab's node, by the `ptp` CNI plugin, asked for through CRI as the kubelet does.

use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Containerd, Lab, Namespace};
use netpath::node::pods::grpc::Channel;
use prost::Message;

const SOON: Duration = Duration::from_secs(20);
/// Three addresses for pods, so that they are used again.
const NETWORK: &str = r#"{"cniVersion": "0.4.0", "name": "netpath", "plugins": [{"type": "ptp", "ipam": {"type": "host-local",
    "ranges": [[{"subnet": "10.99.0.0/24", "rangeStart": "10.99.0.11", "rangeEnd": "10.99.0.13"}]],
    "routes": [{"dst": "0.0.0.0/0"}]}}]}"#;

/// A running containerd. Dropping it removes its pods, then ends it.
pub struct Runtime {
    containerd: Containerd,
    tokio: tokio::runtime::Runtime,
    node: Namespace,
    pods: Vec<String>,
}

/// A pod's sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox {
    pub id: String,
    pub address: Ipv4Addr,
    pub namespace: Namespace,
    /// The host's end of its veth.
    pub veth: String,
}

/// The messages of `runtime.v1` that the tests send.
mod api {
    use prost::Message;

    #[derive(Clone, PartialEq, Message)]
    pub struct RunRequest {
        #[prost(message, optional, tag = "1")]
        pub config: Option<Config>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Config {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<Metadata>,
        #[prost(message, optional, tag = "8")]
        pub linux: Option<Linux>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Metadata {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub uid: String,
        #[prost(string, tag = "3")]
        pub namespace: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Linux {
        #[prost(string, tag = "1")]
        pub cgroup_parent: String,
    }

    /// Also the answer to a [`RunRequest`], and the request to stop or remove.
    #[derive(Clone, PartialEq, Message)]
    pub struct Id {
        #[prost(string, tag = "1")]
        pub id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Nothing {}
}

impl Runtime {
    /// Starts containerd in the lab's node.
    pub fn start(lab: &Lab) -> Result<Self> {
        let node = lab.node.namespace.clone();
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { containerd: Containerd::start(&node, NETWORK)?, tokio, node, pods: Vec::new() })
    }

    /// The folder that is the host's `/` for its pods.
    pub fn root(&self) -> PathBuf {
        self.containerd.root()
    }

    /// Runs a pod. It has another address, network namespace and veth than those that run already.
    pub fn run(&mut self, namespace: &str, name: &str, uid: &str) -> Result<Sandbox> {
        let before = self.namespaces()?;
        let config = api::Config {
            metadata: Some(api::Metadata {
                name: name.to_owned(),
                uid: uid.to_owned(),
                namespace: namespace.to_owned(),
            }),
            linux: Some(api::Linux { cgroup_parent: format!("{}/kubepods/pod{uid}", self.containerd.cgroup()) }),
        };
        let answer: api::Id = self.call("RunPodSandbox", &api::RunRequest { config: Some(config) })?;
        self.pods.push(answer.id.clone());
        let after = self.namespaces()?;
        let new = after.difference(&before).next().context("the pod has no network namespace")?;
        let address = self.address(&answer.id)?;
        Ok(Sandbox { veth: self.veth(address)?, id: answer.id, address, namespace: Namespace::at(new) })
    }

    /// Stops and removes a pod.
    pub fn remove(&mut self, sandbox: &str) -> Result<()> {
        let id = api::Id { id: sandbox.to_owned() };
        let _: api::Nothing = self.call("StopPodSandbox", &id)?;
        let _: api::Nothing = self.call("RemovePodSandbox", &id)?;
        self.pods.retain(|pod| pod != sandbox);
        Ok(())
    }

    fn call<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A> {
        let socket = self.containerd.socket();
        let answer = self.tokio.block_on(async {
            tokio::time::timeout(SOON, async {
                Channel::connect(&socket).await?.call(&format!("/runtime.v1.RuntimeService/{method}"), request).await
            })
            .await
        });
        answer
            .with_context(|| format!("{method} takes too long:\n{}", self.containerd.log()))?
            .with_context(|| format!("{method}:\n{}", self.containerd.log()))
    }

    /// The network namespaces that containerd has made.
    fn namespaces(&self) -> Result<BTreeSet<PathBuf>> {
        let entries = fs::read_dir(self.root().join("run/netns"))?;
        entries.map(|entry| Ok(entry?.path())).collect()
    }

    /// The address that the CNI plugin noted for a sandbox.
    fn address(&self, sandbox: &str) -> Result<Ipv4Addr> {
        for entry in fs::read_dir(self.root().join("var/lib/cni/networks/netpath"))? {
            let path = entry?.path();
            let address = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            if let Some(address) = address
                && fs::read_to_string(&path)?.lines().next() == Some(sandbox)
            {
                return Ok(address);
            }
        }
        anyhow::bail!("the CNI plugin has no address for {sandbox}")
    }

    /// The device that the node routes an address to.
    fn veth(&self, address: Ipv4Addr) -> Result<String> {
        let route = self.node.output("ip", &["-o", "route", "get", &address.to_string()])?;
        let mut words = route.split_whitespace().skip_while(|word| *word != "dev");
        Ok(words.nth(1).context("a route has a device")?.to_owned())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        for pod in std::mem::take(&mut self.pods) {
            if let Err(error) = self.remove(&pod) {
                eprintln!("cannot remove the pod {pod}: {error:#}");
            }
        }
    }
}
