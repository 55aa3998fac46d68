//! An overlay network between the node and the other one.

use std::net::IpAddr;

use anyhow::Result;

use crate::ip;
use crate::topology::Lab;
use crate::traffic::mac;

impl Lab {
    /// Makes a VXLAN device named `overlay` in the node and in `remote`, with an address behind the latter, which is returned.
    ///
    /// # Errors
    /// When the kernel refuses a part of it.
    pub fn overlay(&self, port: u16) -> Result<IpAddr> {
        let (node, remote) = (&self.node, &self.remote);
        for (here, there, address) in [(node, remote, "10.244.0.0/32"), (remote, node, "10.244.1.9/32")] {
            let (local, far) = (here.ipv4, there.ipv4);
            ip(
                &here.namespace,
                &format!("link add overlay type vxlan id 7 local {local} remote {far} dstport {port}"),
            )?;
            ip(&here.namespace, "link set overlay up mtu 1400")?;
            ip(&here.namespace, &format!("addr add {address} dev overlay"))?;
        }
        let address = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let (node_mac, remote_mac) =
            (address(mac(&node.namespace, "overlay")?), address(mac(&remote.namespace, "overlay")?));
        ip(&node.namespace, "route add 10.244.1.9/32 dev overlay")?;
        ip(&node.namespace, &format!("neigh add 10.244.1.9 lladdr {remote_mac} dev overlay nud permanent"))?;
        for pod in self.pods() {
            ip(&remote.namespace, &format!("route add {}/32 dev overlay", pod.ipv4))?;
            ip(&remote.namespace, &format!("neigh add {} lladdr {node_mac} dev overlay nud permanent", pod.ipv4))?;
        }
        Ok("10.244.1.9".parse()?)
    }
}
