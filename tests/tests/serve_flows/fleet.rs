//! Nodes of one VPC, each a lab with IMDS and a netpath that serves.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Stdio};

use lab::{Counters, Lab, device_counters, signal};
use tempfile::TempDir;

use crate::enis::server::Server;
use crate::enis::services::Metadata;

/// A node.
pub struct Node {
    pub name: String,
    pub lab: Lab,
    _imds: Server,
    /// Names of its pods.
    files: TempDir,
}

/// A netpath that serves. It is killed when it is dropped.
pub struct Serving {
    child: Child,
    errors: BufReader<std::process::ChildStderr>,
}

impl Node {
    /// A node whose ENI has these addresses and prefixes.
    pub fn new(name: &str, zone: &str, lab: Lab, addresses: &str, prefix: Option<&str>) -> Self {
        lab::ip(&lab.vpc, "address add 169.254.169.254/32 dev lo").unwrap();
        let mac = lab::traffic::mac(&lab.node.namespace, "eth0").unwrap().map(|byte| format!("{byte:02x}")).join(":");
        let facts = [("local-ipv4s", addresses), ("vpc-ipv4-cidr-blocks", lab::VPC_CIDR)];
        let facts: Vec<_> = facts.into_iter().chain(prefix.map(|prefix| ("ipv4-prefix", prefix))).collect();
        let third = lab.node.ipv4.octets()[2];
        let metadata = Metadata::instance(&format!("i-0000000{third}"), &mac).zone(zone);
        let metadata = metadata.eni(&mac, 0, &format!("eni-0000000{third}"), &facts);
        let imds = Server::start(&lab.vpc, "169.254.169.254:80", move |request| metadata.answer(request));
        let files = lab.host_files().unwrap();
        Self { name: name.to_owned(), lab, _imds: imds, files }
    }

    /// Writes flow records into a folder.
    pub fn serve(&self, folder: &Path) -> Serving {
        let mut command =
            self.lab.netpath(&["serve", "--interval", "1s", "--eni", "eth*", "--cluster", "test"]).unwrap();
        command.arg("--node-name").arg(&self.name).arg("--flows").arg(folder);
        command.arg("--host-root").arg(self.files.path());
        Serving::start(command.stderr(Stdio::piped()).spawn().unwrap())
    }

    /// What Container Insights counts.
    pub fn node_network(&self) -> u64 {
        let counters = device_counters(&self.lab.node.namespace).unwrap();
        counters
            .iter()
            .filter(|(name, _)| *name != "lo")
            .map(|(_, Counters { rx_bytes, tx_bytes, .. })| rx_bytes + tx_bytes)
            .sum()
    }
}

impl Serving {
    /// Waits until it serves.
    pub fn start(mut child: Child) -> Self {
        let errors = BufReader::new(child.stderr.take().unwrap());
        let mut serving = Self { child, errors };
        let mut said = String::new();
        while !said.contains("serving on") {
            assert!(serving.errors.read_line(&mut said).unwrap() > 0, "netpath ended: {said}");
        }
        serving
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as a kubelet does. Returns what it said, but for windows that were late: this machine may be busy.
    pub fn end(mut self) -> String {
        signal(self.child.id(), libc::SIGTERM);
        let mut said = String::new();
        self.errors.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        said.split_inclusive('\n').filter(|line| !line.contains(" late, since ")).collect()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
