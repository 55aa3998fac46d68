//! A pod on the node's network with one container, asked for through CRI as the kubelet does for netpath's manifests.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Containerd, wait_until};
use netpath::node::pods::grpc::Channel;
use prost::Message;

const SOON: Duration = Duration::from_secs(20);
/// Where the pod's logs are, on containerd's host.
const LOGS: &str = "/var/log/pods/netpath";

/// A container. Dropping it removes it, and its pod.
pub struct Container<'a> {
    containerd: &'a Containerd,
    tokio: tokio::runtime::Runtime,
    pod: String,
    id: String,
}

impl<'a> Container<'a> {
    /// Runs an image with these arguments, and folders of the host at other places. All capabilities but these are dropped;
    /// system calls are filtered by the runtime's own profile.
    pub fn run(
        containerd: &'a Containerd,
        image: &str,
        arguments: &[&str],
        capabilities: &[&str],
        mounts: &[(&str, &str)],
    ) -> Result<Self> {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut container = Self { containerd, tokio, pod: String::new(), id: String::new() };
        let namespaces = api::Namespaces { network: api::OF_THE_NODE, pid: api::OF_THE_NODE };
        let pod = api::Pod {
            metadata: Some(api::PodName {
                name: "netpath".to_owned(),
                uid: "0d0eb7a4".to_owned(),
                namespace: "kube-system".to_owned(),
            }),
            log_directory: LOGS.to_owned(),
            linux: Some(api::PodLinux {
                cgroup_parent: format!("{}/kubepods/netpath", containerd.cgroup()),
                security_context: Some(api::PodSecurity { namespaces: Some(namespaces.clone()) }),
            }),
        };
        let answer: api::Id = container.call("RunPodSandbox", &api::RunPod { pod: Some(pod.clone()) })?;
        container.pod = answer.id;
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        let security = api::Security {
            capabilities: Some(api::Capabilities { add: words(capabilities), drop: words(&["ALL"]) }),
            namespaces: Some(namespaces),
            user: Some(0),
            read_only_root: true,
            no_new_privileges: true,
            seccomp: Some(api::Profile { kind: api::RUNTIME_DEFAULT }),
        };
        let mount = |(from, to): &(&str, &str)| api::Mount {
            container_path: (*to).to_owned(),
            host_path: (*from).to_owned(),
            read_only: true,
        };
        let config = api::Config {
            metadata: Some(api::Name { name: "netpath".to_owned() }),
            image: Some(api::Image { image: image.to_owned() }),
            arguments: words(arguments),
            mounts: mounts.iter().map(mount).collect(),
            log_path: container.pod.clone(),
            linux: Some(api::Linux { security: Some(security) }),
        };
        let request = api::Create { pod: container.pod.clone(), config: Some(config), pod_config: Some(pod) };
        let answer: api::Id = container.call("CreateContainer", &request)?;
        container.id = answer.id;
        let _: api::Nothing = container.call("StartContainer", &api::Id { id: container.id.clone() })?;
        Ok(container)
    }

    /// Its exit status, once it has ended.
    pub fn status(&self) -> Option<i32> {
        let answer: api::StatusAnswer = self.call("ContainerStatus", &api::Id { id: self.id.clone() }).unwrap();
        answer.status.filter(|status| status.state == api::EXITED).map(|status| status.exit_code)
    }

    /// Waits until `is` holds, while it runs.
    pub fn wait_until(&self, what: &str, mut is: impl FnMut() -> bool) {
        wait_until(what, || {
            assert_eq!(self.status(), None, "it has ended: {:?}", self.written());
            is()
        });
    }

    /// Waits until it has ended: its exit status, and what it wrote.
    pub fn wait(&self) -> Result<(i32, Written)> {
        let mut status = None;
        wait_until("the container has ended", || {
            status = self.status();
            status.is_some()
        });
        Ok((status.context("a status")?, self.written()?))
    }

    /// Its output so far.
    pub fn written(&self) -> Result<Written> {
        let path = self.containerd.root().join(Path::new(LOGS).join(&self.pod).strip_prefix("/")?);
        Ok(Written::read(&fs::read_to_string(path)?))
    }

    fn call<A: Message + Default>(&self, method: &str, request: &impl Message) -> Result<A> {
        let answer = self.tokio.block_on(async {
            let method = format!("/runtime.v1.RuntimeService/{method}");
            let call = async { Channel::connect(&self.containerd.socket()).await?.call(&method, request).await };
            tokio::time::timeout(SOON, call).await
        });
        let said = || format!("{method}:\n{}", self.containerd.log());
        answer.with_context(said)?.with_context(said)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        for method in ["StopPodSandbox", "RemovePodSandbox"] {
            if let Err(error) = self.call::<api::Nothing>(method, &api::Id { id: self.pod.clone() }) {
                eprintln!("cannot remove the pod: {error:#}");
            }
        }
    }
}

/// What a container wrote.
#[derive(Debug, Default)]
pub struct Written {
    /// To stdout.
    pub stdout: String,
    /// To stderr.
    pub stderr: String,
}

impl Written {
    /// CRI's log: time, stream, and `F` before a line or `P` before a part of one.
    fn read(log: &str) -> Self {
        let mut written = Self::default();
        for line in log.lines() {
            let mut words = line.splitn(4, ' ').skip(1);
            let stream = if words.next() == Some("stdout") { &mut written.stdout } else { &mut written.stderr };
            let whole = words.next() == Some("F");
            stream.push_str(words.next().unwrap_or_default());
            if whole {
                stream.push('\n');
            }
        }
        written
    }
}

/// The messages of `runtime.v1` that the tests send.
mod api {
    use prost::Message;

    /// `NamespaceMode.NODE`.
    pub const OF_THE_NODE: i32 = 2;
    /// `SecurityProfile.ProfileType`.
    pub const RUNTIME_DEFAULT: i32 = 0;
    /// `ContainerState.CONTAINER_EXITED`.
    pub const EXITED: i32 = 2;

    #[derive(Clone, PartialEq, Message)]
    pub struct RunPod {
        #[prost(message, optional, tag = "1")]
        pub pod: Option<Pod>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Pod {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<PodName>,
        #[prost(string, tag = "3")]
        pub log_directory: String,
        #[prost(message, optional, tag = "8")]
        pub linux: Option<PodLinux>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct PodName {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(string, tag = "2")]
        pub uid: String,
        #[prost(string, tag = "3")]
        pub namespace: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct PodLinux {
        #[prost(string, tag = "1")]
        pub cgroup_parent: String,
        #[prost(message, optional, tag = "2")]
        pub security_context: Option<PodSecurity>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct PodSecurity {
        #[prost(message, optional, tag = "1")]
        pub namespaces: Option<Namespaces>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Namespaces {
        #[prost(int32, tag = "1")]
        pub network: i32,
        #[prost(int32, tag = "2")]
        pub pid: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Create {
        #[prost(string, tag = "1")]
        pub pod: String,
        #[prost(message, optional, tag = "2")]
        pub config: Option<Config>,
        #[prost(message, optional, tag = "3")]
        pub pod_config: Option<Pod>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Config {
        #[prost(message, optional, tag = "1")]
        pub metadata: Option<Name>,
        #[prost(message, optional, tag = "2")]
        pub image: Option<Image>,
        #[prost(string, repeated, tag = "4")]
        pub arguments: Vec<String>,
        #[prost(message, repeated, tag = "7")]
        pub mounts: Vec<Mount>,
        #[prost(string, tag = "11")]
        pub log_path: String,
        #[prost(message, optional, tag = "15")]
        pub linux: Option<Linux>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Name {
        #[prost(string, tag = "1")]
        pub name: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Image {
        #[prost(string, tag = "1")]
        pub image: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Mount {
        #[prost(string, tag = "1")]
        pub container_path: String,
        #[prost(string, tag = "2")]
        pub host_path: String,
        #[prost(bool, tag = "3")]
        pub read_only: bool,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Linux {
        #[prost(message, optional, tag = "2")]
        pub security: Option<Security>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Security {
        #[prost(message, optional, tag = "1")]
        pub capabilities: Option<Capabilities>,
        #[prost(message, optional, tag = "3")]
        pub namespaces: Option<Namespaces>,
        #[prost(message, optional, tag = "5")]
        pub user: Option<i64>,
        #[prost(bool, tag = "7")]
        pub read_only_root: bool,
        #[prost(bool, tag = "11")]
        pub no_new_privileges: bool,
        #[prost(message, optional, tag = "15")]
        pub seccomp: Option<Profile>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Capabilities {
        #[prost(string, repeated, tag = "1")]
        pub add: Vec<String>,
        #[prost(string, repeated, tag = "2")]
        pub drop: Vec<String>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Profile {
        #[prost(int32, tag = "1")]
        pub kind: i32,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct StatusAnswer {
        #[prost(message, optional, tag = "1")]
        pub status: Option<Status>,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Status {
        #[prost(int32, tag = "3")]
        pub state: i32,
        #[prost(int32, tag = "7")]
        pub exit_code: i32,
    }

    /// Also the answer to what makes something, and the request to start, stop or remove it.
    #[derive(Clone, PartialEq, Message)]
    pub struct Id {
        #[prost(string, tag = "1")]
        pub id: String,
    }

    #[derive(Clone, PartialEq, Message)]
    pub struct Nothing {}
}
