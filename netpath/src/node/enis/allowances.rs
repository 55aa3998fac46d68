//! What ENA counts against the instance's allowances.
//!
//! In: a device's name. Out: [`Allowances`] since the driver was loaded. Needs no privilege, and only reads.

use crate::model::Allowances;
use crate::node::ethtool;

/// Reads a device's counters; `None` if its driver has none of them.
#[must_use]
pub fn allowances(name: &str) -> Option<Allowances> {
    of(&ethtool::statistics(name.as_bytes()).ok()?)
}

/// Those among a driver's statistics.
#[must_use]
pub fn of(statistics: &[(String, u64)]) -> Option<Allowances> {
    let get = |name: &str| statistics.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    let allowances = Allowances {
        bw_in_allowance_exceeded: get("bw_in_allowance_exceeded"),
        bw_out_allowance_exceeded: get("bw_out_allowance_exceeded"),
        pps_allowance_exceeded: get("pps_allowance_exceeded"),
        conntrack_allowance_exceeded: get("conntrack_allowance_exceeded"),
        linklocal_allowance_exceeded: get("linklocal_allowance_exceeded"),
        conntrack_allowance_available: get("conntrack_allowance_available"),
    };
    (allowances != Allowances::default()).then_some(allowances)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ENA lists them; before 2.8.1 it had no `conntrack_allowance_available`.
    const ENA: [&str; 9] = [
        "tx_timeout",
        "interface_up",
        "bw_in_allowance_exceeded",
        "bw_out_allowance_exceeded",
        "pps_allowance_exceeded",
        "conntrack_allowance_exceeded",
        "linklocal_allowance_exceeded",
        "queue_0_tx_cnt",
        "conntrack_allowance_available",
    ];

    fn statistics(names: &[&str], first: u64) -> Vec<(String, u64)> {
        (first..).zip(names).map(|(value, name)| ((*name).to_owned(), value)).collect()
    }

    #[test]
    fn by_name() {
        let new = of(&statistics(&ENA, 100)).expect("there");
        assert_eq!((new.bw_in_allowance_exceeded, new.linklocal_allowance_exceeded), (Some(102), Some(106)));
        assert_eq!(new.conntrack_allowance_available, Some(108));
        let old = of(&statistics(&ENA[..8], 100)).expect("there");
        assert_eq!(old.conntrack_allowance_available, None);
        assert_eq!(of(&statistics(&["peer_ifindex", "rx_queue_0_drops"], 1)), None);
    }

    #[test]
    fn a_gauge_is_no_difference() {
        let read = |first| of(&statistics(&ENA, first)).expect("there");
        let grown = read(107).since(read(100));
        assert_eq!((grown.pps_allowance_exceeded, grown.conntrack_allowance_available), (Some(7), Some(115)));
        let anew = read(5).since(read(100));
        assert_eq!((anew.pps_allowance_exceeded, anew.conntrack_allowance_available), (None, Some(13)));
    }
}
