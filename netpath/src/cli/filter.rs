//! Options that choose flows.

use clap::Args;

use crate::path::select::{Condition, Filter, NatFilter, Party, Way};

/// Which flows to report. Everything is measured; the sums for CloudWatch and the devices stay the whole node's.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which flows to report (one option twice: either; two options: both)")]
pub struct FilterArgs {
    /// Only flows of this pod; wildcards: 'default/web-*'.
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = Condition::pod)]
    pub pod: Vec<Condition>,
    /// Only flows of pods of this namespace; wildcards: 'team-*'.
    #[arg(long, value_name = "NAME", value_parser = Condition::namespace)]
    pub namespace: Vec<Condition>,
    /// Only flows to this service's address, and their answers; wildcards: 'default/web-*'.
    #[arg(long, value_name = "NAMESPACE/NAME[:PORT]", value_parser = Condition::service)]
    pub service: Vec<Condition>,
    /// Only flows with this address, or one of this network, at any hop.
    #[arg(long, value_name = "ADDRESS", value_parser = Condition::net)]
    pub ip: Vec<Condition>,
    /// Only flows between these two, in either direction. Each is an address, a network, or a pod's or service's name
    /// (namespace/name; wildcards: 'default/web-*').
    #[arg(long, num_args = 2, value_names = ["A", "B"], value_parser = Party::new)]
    pub between: Vec<Party>,
    /// Only flows with this port, at any hop: a number, or a name such as https.
    #[arg(long, value_name = "PORT", value_parser = Condition::port)]
    pub port: Vec<Condition>,
    /// Only flows of this protocol, by name, such as tcp, udp or icmp, or by its number.
    #[arg(long, value_name = "NAME", value_parser = Condition::proto)]
    pub proto: Vec<Condition>,
    /// Only flows that went this way.
    #[arg(long, value_enum, value_name = "PATH")]
    pub path: Vec<Way>,
    /// Only flows that NAT changes in this way.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub nat: Vec<NatFilter>,
    /// Only flows that passed this device; wildcards: 'eni*'.
    #[arg(long, value_name = "NAME", value_parser = Condition::device)]
    pub device: Vec<Condition>,
}

impl FilterArgs {
    /// As one filter.
    #[must_use]
    pub fn filter(&self) -> Filter {
        // Two values each.
        let pairs = self.between.chunks_exact(2);
        let between = pairs.map(|pair| Condition::Between(Box::new([pair[0].clone(), pair[1].clone()])));
        Filter::new([
            self.pod.clone(),
            self.namespace.clone(),
            self.service.clone(),
            self.ip.clone(),
            between.collect(),
            self.port.clone(),
            self.proto.clone(),
            self.path.iter().copied().map(Condition::Path).collect(),
            self.nat.iter().copied().map(Condition::Nat).collect(),
            self.device.clone(),
        ])
    }
}
