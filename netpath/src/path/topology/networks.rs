//! A set of networks, to ask whether one of them contains an address.
//!
//! Cost: one look-up for each prefix length that there is.

use std::collections::BTreeSet;
use std::net::IpAddr;

use hashbrown::HashSet;
use ipnet::IpNet;

/// Networks, for look-up.
#[derive(Debug, Default)]
pub struct Networks {
    networks: HashSet<IpNet>,
    lengths: BTreeSet<u8>,
}

impl Networks {
    /// Whether one of the networks contains the address.
    pub fn contain(&self, address: IpAddr) -> bool {
        let network = |&length| IpNet::new(address, length).ok().map(|network| network.trunc());
        self.lengths.iter().filter_map(network).any(|network| self.networks.contains(&network))
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<I: IntoIterator<Item = IpNet>>(networks: I) -> Self {
        let networks: HashSet<IpNet> = networks.into_iter().map(|network| network.trunc()).collect();
        Self { lengths: networks.iter().map(IpNet::prefix_len).collect(), networks }
    }
}
