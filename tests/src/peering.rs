//! Several nodes in one VPC: a lab each, with a link between their routers.

use std::fmt::Write as _;

use anyhow::Result;

use crate::namespace::Namespace;
use crate::topology::{Lab, Pod};
use crate::traffic::mac;
use crate::wiring::ip_batch;

/// Joins the routers of two labs by a link, which either has under the given name: each knows the way to the other's node and pods. The
/// labs' nodes have to be in different subnets.
///
/// # Errors
/// When a device of this name is there already.
pub fn join_vpcs((one, name): (&Lab, &str), (other, far_name): (&Lab, &str)) -> Result<()> {
    let far = other.vpc.name();
    ip_batch(&one.vpc, &format!("link add name {name} mtu 9001 type veth peer name {far_name} mtu 9001 netns {far}"))?;
    ways((&one.vpc, name), other, (&other.vpc, far_name))?;
    ways((&other.vpc, far_name), one, (&one.vpc, name))
}

/// Routes to a lab's node and pods, by the device at the link's far end.
fn ways((router, device): (&Namespace, &str), to: &Lab, (far, far_device): (&Namespace, &str)) -> Result<()> {
    let mac = mac(far, far_device)?.map(|byte| format!("{byte:02x}")).join(":");
    let mut all = format!("link set {device} up\n");
    let pods = to.pods().iter().flat_map(Pod::addresses);
    for address in to.node.addresses().into_iter().chain(pods) {
        writeln!(all, "route add {address} dev {device}\nneigh add {address} lladdr {mac} dev {device} nud permanent")?;
    }
    ip_batch(router, &all)
}
