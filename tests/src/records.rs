//! What a node keeps of its pods in files, as the VPC CNI writes it.

use std::fs;

use anyhow::Result;
use serde_json::json;

use crate::{Lab, POD_NAMESPACE, Pod, cleanup};

impl Lab {
    /// A folder with the files of the node, as they would be under its `/`: the VPC CNI's record of its pods' addresses, and
    /// no processes.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn host_files(&self) -> Result<tempfile::TempDir> {
        let allocation = |pod: &Pod| {
            json!({
                "networkName": "aws-cni",
                "containerID": format!("{:064x}", u32::from(pod.ipv4)),
                "ifName": "eth0",
                "ipv4": pod.ipv4,
                "allocationTimestamp": 1_700_000_000_000_000_000_u64,
                "metadata": {"k8sPodNamespace": POD_NAMESPACE, "k8sPodName": pod.name},
            })
        };
        let allocations: Vec<_> = self.pods().iter().map(allocation).collect();
        let folder = tempfile::tempdir()?;
        cleanup::remember(folder.path());
        let place = folder.path().join("var/run/aws-node");
        fs::create_dir_all(&place)?;
        fs::create_dir(folder.path().join("proc"))?;
        fs::write(
            place.join("ipam.json"),
            json!({"version": "vpc-cni-ipam/1", "allocations": allocations}).to_string(),
        )?;
        Ok(folder)
    }
}
