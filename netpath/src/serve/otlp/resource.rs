//! Who says it: this netpath, on this node of this cluster, by OpenTelemetry's semantic conventions.

use super::proto::{KeyValue, Resource};
use crate::model::NodeInfo;
use crate::sanitise::sanitise;
use crate::serve::names::Names;

/// What is true of all that is sent.
pub fn resource(names: &Names, node: &NodeInfo) -> Resource {
    let hostname = sanitise(&node.hostname);
    let name = &*names.node;
    // Where Prometheus takes OTLP it becomes the label `instance`, without which the series of all nodes would be one.
    let instance = if names.cluster.is_empty() { name.to_owned() } else { format!("{}/{name}", names.cluster) };
    let known = [
        ("service.name", Some("netpath")),
        ("service.version", Some(env!("CARGO_PKG_VERSION"))),
        ("service.instance.id", Some(&*instance)),
        ("k8s.node.name", Some(name)),
        ("k8s.cluster.name", Some(&*names.cluster).filter(|cluster| !cluster.is_empty())),
        ("host.name", Some(&*hostname)),
        ("host.id", node.instance_id.as_deref()),
        ("cloud.availability_zone", node.zone_id.as_deref()),
    ];
    let attributes = known.into_iter().filter_map(|(key, value)| Some(KeyValue::text(key, value?))).collect();
    Resource { attributes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::otlp::proto::Value;

    fn of(names: &Names, node: &NodeInfo) -> Vec<String> {
        let attribute = |one: KeyValue| match one.value.and_then(|value| value.value) {
            Some(Value::Text(text)) => format!("{}={text}", one.key),
            other => panic!("{other:?}"),
        };
        resource(names, node).attributes.into_iter().skip(2).map(attribute).collect()
    }

    #[test]
    fn what_is_known() {
        let mut node = NodeInfo { hostname: "ip-1".into(), ..NodeInfo::default() };
        assert_eq!(
            of(&Names { node: "ip-1".into(), ..Names::default() }, &node),
            ["service.instance.id=ip-1", "k8s.node.name=ip-1", "host.name=ip-1"]
        );
        node.instance_id = Some("i-1".into());
        node.zone_id = Some("use1-az1".into());
        let names = Names { cluster: "prod".into(), node: "n".into() };
        assert_eq!(
            of(&names, &node),
            [
                "service.instance.id=prod/n",
                "k8s.node.name=n",
                "k8s.cluster.name=prod",
                "host.name=ip-1",
                "host.id=i-1",
                "cloud.availability_zone=use1-az1"
            ]
        );
    }
}
