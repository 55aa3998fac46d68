//! What sampling has left between devices' counters and netpath's counts.
//!
//! In: the devices of each window. Out: what devices that have gone are owed. Pure.
//!
//! A device's counter is read shortly before the end of a window; what the window lacks is in the next one. The exception is a
//! deleted veth: the kernel's last message lacks its rx counter, so its last window is netpath's own count, and makes up for nothing.

use hashbrown::HashMap;

use crate::report::{CauseKind, Device};

/// By device, what its counter has more than netpath so far, in bytes.
#[derive(Debug, Default)]
pub struct Sampling(HashMap<String, i64>);

impl Sampling {
    /// The next window. What those that have gone in it are owed: negative if they have had too much.
    pub fn roll(&mut self, devices: &[Device]) -> i64 {
        let mut before = std::mem::take(&mut self.0);
        let counted = || devices.iter().filter(|device| device.counted_by_container_insights);
        let gone = counted().filter(|device| device.facts.vanished && device.facts.kernel.is_none());
        let owed = gone.filter_map(|device| before.remove(&device.facts.name)).fold(0i64, i64::saturating_sub);
        for device in counted().filter(|device| !device.facts.vanished) {
            let sum = before.get(&device.facts.name).copied().unwrap_or(0).saturating_add(sampled(device));
            if sum != 0 {
                self.0.insert(device.facts.name.clone(), sum);
            }
        }
        owed
    }
}

fn sampled(device: &Device) -> i64 {
    let directions = device.residual.iter().flat_map(|residual| [&residual.rx, &residual.tx]);
    let causes = directions.flat_map(|residual| &residual.causes).filter(|cause| cause.name == CauseKind::Sampling);
    causes.filter_map(|cause| cause.bytes).fold(0, i64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceClass, DeviceFacts, KernelCounters};
    use crate::report::{Cause, Residual, Residuals};

    /// A veth, and what its counter has more; `None` if it has gone without telling.
    fn veth(name: &str, more: Option<i64>) -> Device {
        let cause =
            |bytes| Cause { name: CauseKind::Sampling, bytes: Some(bytes), packets: None, explanation: String::new() };
        let rx = |bytes| Residual { causes: vec![cause(bytes)], ..Residual::default() };
        Device {
            facts: DeviceFacts {
                kernel: more.map(|_| KernelCounters::default()),
                vanished: more.is_none(),
                ..DeviceFacts::new(7, name, DeviceClass::Veth)
            },
            pod: None,
            pod_origin: None,
            blind: None,
            blind_reasons: vec![],
            counted_by_container_insights: true,
            rx: None,
            tx: None,
            residual: more.map(|more| Residuals { rx: rx(more), ..Residuals::default() }),
        }
    }

    #[test]
    fn what_a_deleted_veth_is_owed() {
        let mut sampling = Sampling::default();
        assert_eq!(sampling.roll(&[veth("a", Some(-968)), veth("b", Some(242)), veth("c", Some(-5))]), 0);
        assert_eq!(sampling.roll(&[veth("a", Some(0)), veth("b", Some(0)), veth("c", Some(5))]), 0);
        // One had too little, one too much; one has had it made good, and another has its name already.
        assert_eq!(sampling.roll(&[veth("a", Some(0)), veth("a", None), veth("c", None)]), 968);
        assert_eq!(sampling.roll(&[veth("a", None), veth("b", None)]), 0, "what was not in a window is forgotten");
    }
}
