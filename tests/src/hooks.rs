//! Which programs are on the TCX hooks of a namespace's devices, as the kernel tells. A witness: reads, never writes.

use anyhow::{Context as _, Result};
use aya::programs::{SchedClassifier, TcAttachType};

use crate::{Namespace, device_counters};

/// Names of the programs on every device's hooks, each as often as it is attached.
///
/// # Errors
/// When the namespace cannot be entered, or the kernel has no TCX (Linux 6.6).
pub fn attached_programs(namespace: &Namespace) -> Result<Vec<String>> {
    let devices: Vec<String> = device_counters(namespace)?.into_keys().collect();
    let query = || {
        let mut names = Vec::new();
        for device in &devices {
            for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
                let (_revision, programs) = SchedClassifier::query_tcx(device, hook)?;
                names.extend(programs.iter().filter_map(|program| program.name_as_str().map(str::to_owned)));
            }
        }
        Ok::<_, aya::programs::ProgramError>(names)
    };
    namespace.run(query)?.context("cannot ask what is attached")
}
