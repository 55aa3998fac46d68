//! What it means that netpath recognised no ENI, and what to do.
//!
//! In: the devices, and by which of them default routes leave. Out: [`EniHealth`], and sentences. Pure.

use crate::model::DeviceClass;
use crate::report::{Device, EniHealth};
use crate::shell;

/// What was found, and what to do about it, a sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What there is, with what it means.
    pub found: String,
    /// What to do.
    pub todo: String,
}

/// Whether a device is an ENI; if none is, why that matters and what to do. `default_routes` are ifindexes; `None` if they
/// were not read.
#[must_use]
pub fn health(devices: &[Device], default_routes: Option<&[u32]>) -> (EniHealth, Option<String>) {
    if devices.iter().any(|device| device.facts.class == DeviceClass::Eni) {
        return (EniHealth::Found, None);
    }
    let Some(routes) = default_routes else { return (EniHealth::Unknown, None) };
    let device = |ifindex: &u32| devices.iter().find(|device| device.facts.ifindex == *ifindex);
    let uplinks: Vec<_> = routes
        .iter()
        .filter_map(device)
        .map(|device| (device.facts.name.as_str(), device.facts.kind.as_deref().or(device.facts.driver.as_deref())))
        .collect();
    let Advice { found, todo } = without_eni(!routes.is_empty(), &uplinks);
    let health = if routes.is_empty() { EniHealth::NoUplink } else { EniHealth::None };
    (health, Some(format!("{found}; {todo}")))
}

/// What to say where no device is an ENI. In: whether there is a default route, and the devices that it leaves by, with their
/// kind or driver.
#[must_use]
pub fn without_eni(has_default_route: bool, uplinks: &[(&str, Option<&str>)]) -> Advice {
    let no_eni = "netpath recognised no ENI";
    if !has_default_route {
        return Advice {
            found: format!("{no_eni}, and there is no default route: nothing can be seen to leave this network"),
            todo: "if a device is an ENI, name it with --eni".to_owned(),
        };
    }
    let words: Vec<String> = uplinks
        .iter()
        .map(|(name, kind)| kind.map_or_else(|| (*name).to_owned(), |kind| format!("{name} (a {kind} device)")))
        .collect();
    let wrong = format!("{no_eni}, so no byte counts as crossing one");
    if words.is_empty() {
        return Advice {
            found: format!("{wrong}, though there is a default route"),
            todo: "name the node's uplink with --eni".to_owned(),
        };
    }
    // A pattern, where a name cannot be typed.
    let option = |(name, _): &(&str, _)| format!("--eni {}", shell::word(name).unwrap_or("PATTERN".into()));
    let named: Vec<String> = uplinks.iter().map(option).collect();
    Advice {
        found: format!("{wrong}; the default route leaves by {}", words.join(" and ")),
        todo: format!("if that is the node's uplink, name it: {}", named.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceFacts, NodeInfo, Window};
    use crate::snapshot::{self, Snapshot};

    #[test]
    fn what_is_said() {
        let said = |route, uplinks: &[(&str, Option<&str>)]| {
            let Advice { found, todo } = without_eni(route, uplinks);
            format!("{found}; {todo}")
        };
        assert_eq!(
            said(true, &[("eth0", Some("veth"))]),
            "netpath recognised no ENI, so no byte counts as crossing one; the default route leaves by eth0 (a \
             veth device); if that is the node's uplink, name it: --eni eth0"
        );
        assert!(
            said(true, &[("a", None), ("b", Some("bond"))])
                .ends_with("by a and b (a bond device); if that is the node's uplink, name it: --eni a --eni b")
        );
        assert!(said(true, &[("v;id", None), ("a\u{1b}", None)]).ends_with("name it: --eni 'v;id' --eni PATTERN"));
        assert!(said(true, &[]).ends_with("name the node's uplink with --eni"));
        assert!(said(false, &[]).contains("there is no default route"));
    }

    #[test]
    fn what_there_is() {
        let health = |class, routes: Option<&[u32]>| {
            let devices = [(2, "lo0", DeviceClass::Other), (3, "eth0", class)];
            let devices = devices
                .map(|(ifindex, name, class)| snapshot::Device::new(DeviceFacts::new(ifindex, name, class)))
                .to_vec();
            let node = NodeInfo::default();
            let window = Window { duration_ns: 1, ..Window::default() };
            let default_routes = routes.map(<[u32]>::to_vec);
            let report = crate::path::report(&Snapshot { devices, default_routes, ..Snapshot::new(node, window) });
            (report.health.eni, report.health.eni_reason.unwrap_or_default())
        };
        assert_eq!(health(DeviceClass::Eni, Some(&[3])), (EniHealth::Found, String::new()));
        assert_eq!(health(DeviceClass::Veth, None), (EniHealth::Unknown, String::new()));
        let (none, why) = health(DeviceClass::Veth, Some(&[3]));
        assert!(none == EniHealth::None && why.contains("the default route leaves by eth0; if"), "{why}");
        let (none, why) = health(DeviceClass::Veth, Some(&[]));
        assert!(none == EniHealth::NoUplink && why.contains("there is no default route"), "{why}");
    }
}
