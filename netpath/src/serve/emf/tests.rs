use super::*;
use crate::model::{Ipam, NodeInfo, Window};
use crate::path;
use crate::snapshot::Snapshot;

fn report(errors: u64) -> Report {
    let node = NodeInfo { hostname: "node-1".to_owned(), ..NodeInfo::default() };
    let window =
        Window { started_at: "2026-01-31T14:00:00Z".to_owned(), duration_ns: 2_000_000_000, ..Window::default() };
    let metric = |name: &str, helper_name: &str, value, counter| IpamMetric {
        name: name.to_owned(),
        helper_name: Some(helper_name.to_owned()),
        value,
        counter,
        in_window: None,
    };
    let metrics = vec![
        metric("awscni_eni_max", "eniMaxAvailable", 4, false),
        metric("awscni_ipamd_error_count", "ipamdErr", errors, true),
    ];
    path::report(&Snapshot { ipam: Some(Ipam { metrics }), ..Snapshot::new(node, window) })
}

#[test]
fn counters_of_ipamd_are_what_they_grew() {
    let names = Names { cluster: String::new(), node: "node-1".to_owned() };
    let mut events = Events::new(names, "/netpath/performance".to_owned());
    let mut of_ipamd = |errors| -> Value {
        let lines = events.of(&report(errors));
        let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
        lines.into_iter().find(|event| event["Type"] == "CNI").expect("an event")
    };
    let first = of_ipamd(7);
    assert_eq!((&first["eniMaxAvailable"], &first["ipamdErr"]), (&4.into(), &Value::Null));
    assert_eq!(of_ipamd(9)["ipamdErr"], 2);
    assert_eq!(of_ipamd(1)["ipamdErr"], Value::Null, "ipamd was started anew");
    assert_eq!(first["_aws"]["Timestamp"], 1_769_868_002_000_u64, "when the window ended");
    assert_eq!(first["_aws"]["CloudWatchMetrics"][0]["Dimensions"], json!([["NodeName"]]), "no empty ones");
}
