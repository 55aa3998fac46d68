//! The numbers that CloudWatch shows, by the rules of those who report them.
//!
//! In: the devices. Out: what Container Insights and EC2 say of them. Rules: cAdvisor's and the CloudWatch agent's, and
//! EC2's documentation. It must not look at flows.

use crate::model::DeviceClass;
use crate::report::{ContainerInsights, Device, Ec2, InterfaceMetrics, PodMetrics, Traffic};

/// What Container Insights says: the kernel's counters of every device that cAdvisor does not skip, rx and tx.
pub fn container_insights(duration_ns: u64, devices: &[Device]) -> ContainerInsights {
    #[expect(clippy::cast_precision_loss, reason = "a rate for people; CloudWatch's is a double too")]
    let rate = |bytes: u64| (duration_ns > 0).then(|| bytes as f64 * 1e9 / duration_ns as f64);
    let traffic = |bytes: u64| Traffic { bytes, bytes_per_second: rate(bytes) };
    let counted = || devices.iter().filter(|device| device.counted_by_container_insights);
    let total = sum(counted(), |device| kernel_bytes(device).or_else(|| vanished_bytes(device)));
    let interface = |device: &Device| {
        let kernel = device.facts.kernel?;
        Some(InterfaceMetrics {
            device: device.facts.name.clone(),
            ifindex: device.facts.ifindex,
            node_interface_network_rx_bytes: traffic(kernel.rx_bytes),
            node_interface_network_tx_bytes: traffic(kernel.tx_bytes),
            node_interface_network_total_bytes: traffic(kernel.rx_bytes.saturating_add(kernel.tx_bytes)),
        })
    };
    let pod = |device: &Device| {
        let kernel = device.facts.kernel.filter(|_| device.facts.class == DeviceClass::Veth)?;
        Some(PodMetrics {
            pod: device.pod.clone(),
            device: device.facts.name.clone(),
            ifindex: device.facts.ifindex,
            pod_network_rx_bytes: traffic(kernel.tx_bytes),
            pod_network_tx_bytes: traffic(kernel.rx_bytes),
        })
    };
    ContainerInsights {
        node_network_total_bytes: total,
        bytes_per_second: total.and_then(rate),
        vanished_devices_bytes: counted().filter_map(vanished_bytes).fold(0, u64::saturating_add),
        interfaces: counted().filter_map(interface).collect(),
        pods: devices.iter().filter_map(pod).collect(),
    }
}

/// What EC2 says: sums over the ENIs.
pub fn ec2(devices: &[Device]) -> Ec2 {
    let enis = || devices.iter().filter(|device| device.facts.class == DeviceClass::Eni);
    Ec2 {
        network_in_bytes: sum(enis(), |device| device.facts.kernel.map(|kernel| kernel.rx_bytes)),
        network_out_bytes: sum(enis(), |device| device.facts.kernel.map(|kernel| kernel.tx_bytes)),
    }
}

/// Unknown if there is nothing to add up, or one part is unknown.
fn sum<'a>(devices: impl Iterator<Item = &'a Device>, bytes: impl Fn(&Device) -> Option<u64>) -> Option<u64> {
    let mut devices = devices.peekable();
    devices.peek()?;
    devices.try_fold(0u64, |sum, device| Some(sum.saturating_add(bytes(device)?)))
}

/// What the kernel counted on a device.
pub fn kernel_bytes(device: &Device) -> Option<u64> {
    device.facts.kernel.map(|kernel| kernel.rx_bytes.saturating_add(kernel.tx_bytes))
}

/// What netpath saw on a device whose counters went with it.
fn vanished_bytes(device: &Device) -> Option<u64> {
    let (rx, tx) = (device.rx?, device.tx?);
    (device.facts.vanished && device.facts.kernel.is_none()).then(|| rx.bytes.saturating_add(tx.bytes))
}
