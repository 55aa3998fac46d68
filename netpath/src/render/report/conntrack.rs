//! The lines about conntrack: that NAT could not be followed, and that conntrack itself dropped packets.
//!
//! In: what the report says of conntrack. Out: sentences; none if all is as it should be.

use super::super::labels::counted;
use crate::model::{Conntrack, ConntrackTable};
use crate::report::Health;
use crate::sanitise::sanitise;

/// What is wrong, what it means, and what to do.
pub(super) fn lines(health: &Health) -> Vec<String> {
    let state = match (health.conntrack, &health.conntrack_reason) {
        (Conntrack::Ok, _) => None,
        (_, Some(reason)) => Some(sanitise(reason).into_owned()),
        (Conntrack::Unavailable, None) => Some("conntrack was not read, so NAT could not be followed".to_owned()),
        (Conntrack::Overrun, None) => Some("conntrack events were lost, so some NAT was not followed".to_owned()),
    };
    state.into_iter().chain(health.conntrack_table.as_ref().and_then(dropped)).collect()
}

fn dropped(table: &ConntrackTable) -> Option<String> {
    let ConntrackTable { connections, limit, drop, early_drop, .. } = *table;
    if drop == 0 && early_drop == 0 {
        return None;
    }
    let size = limit.map_or_else(|| connections.to_string(), |limit| format!("{connections} of {limit}"));
    let dropped = counted(drop, "packet");
    // Only a full table gives connections up. It may have emptied since.
    let full = early_drop > 0 || limit.is_some_and(|limit| ConntrackTable::nearly_full(connections, limit));
    Some(if full {
        let given_up = if early_drop > 0 {
            format!(", and gave up {} for new ones", counted(early_drop, "connection"))
        } else {
            String::new()
        };
        format!(
            "conntrack's table is full ({size} connections): it dropped {dropped} of new connections{given_up} (raise \
             net.netfilter.nf_conntrack_max)"
        )
    } else {
        format!(
            "conntrack dropped {dropped}, with room in its table ({size} connections): as a rule, two first packets of a \
             connection at once, like DNS queries (compare 'conntrack -S')"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_table_that_drops_says() {
        let table = |connections, limit, drop, early_drop| {
            dropped(&ConntrackTable { connections, limit, drop, early_drop, insert_failed: 0 }).unwrap_or_default()
        };
        assert_eq!(table(100, Some(100), 0, 0), "", "full, and nothing was lost");
        let full = "conntrack's table is full (95 of 100 connections): it dropped 7 packets";
        assert!(table(95, Some(100), 7, 0).starts_with(full));
        let was_full = table(3, Some(100), 0, 5);
        assert!(was_full.contains("is full (3 of 100") && was_full.contains("gave up 5 connections"), "{was_full}");
        let raced = table(3, Some(100), 7, 0);
        assert!(raced.starts_with("conntrack dropped 7 packets, with room in its table (3 of 100"), "{raced}");
        assert!(table(3, None, 7, 0).contains("(3 connections)"));
    }
}
