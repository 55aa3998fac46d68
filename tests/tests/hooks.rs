//! Who is on a device's hooks, against what `tc` and aya attach and what `tc` lists.

use aya::programs::tc::{NlOptions, TcAttachOptions, TcHandle};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use lab::{Answer, Lab, Namespace};
use netpath::kernel::hooks::{DeviceHooks, Filter, Hook, HookReader};
use netpath::netlink::qdiscs::FilterQdisc;

/// A pod's veth in a node.
struct Veth {
    node: Namespace,
    name: String,
    _lab: Lab,
}

impl Veth {
    fn new() -> Self {
        let lab = Lab::builder().pod("client").start().unwrap();
        Self { node: lab.node.namespace.clone(), name: lab.pod("client").veth.clone(), _lab: lab }
    }

    fn tc(&self, arguments: &str) -> String {
        let command = format!("tc {}", arguments.replace("DEV", &self.name));
        self.node.output("sh", &["-c", &command]).unwrap()
    }

    fn attach(&self, program: &mut SchedClassifier, hook: TcAttachType, options: TcAttachOptions) {
        lab::attach(program, &self.node, &self.name, hook, options).unwrap();
    }

    /// What netpath says.
    fn hooks(&self) -> DeviceHooks {
        let ifindex = self.node.ifindex(&self.name).unwrap();
        let gone = 0x7fff_0000;
        let mut read = self.node.run(|| HookReader::open().unwrap().read([ifindex, gone]).unwrap()).unwrap();
        assert_eq!(read.len(), 1, "a device that is gone is missing");
        read.remove(&ifindex).unwrap()
    }

    /// Priority, chain, kind and protocol of each filter, as `tc` lists them, without its entries for each priority.
    fn listed(&self, hook: &str) -> Vec<(u64, u64, String, String)> {
        let json: serde_json::Value =
            serde_json::from_str(&self.tc(&format!("-j filter show dev DEV {hook}"))).unwrap();
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let row = |filter: &serde_json::Value| {
            let (priority, chain) = (filter["pref"].as_u64().unwrap(), filter["chain"].as_u64().unwrap());
            (priority, chain, text(&filter["kind"]), text(&filter["protocol"]))
        };
        // u32's tables are no filters.
        let is_one = |filter: &&serde_json::Value| {
            filter["options"].is_object() && filter["options"].get("ht_divisor").is_none()
        };
        json.as_array().unwrap().iter().filter(is_one).map(row).collect()
    }
}

fn legacy(priority: u16, handle: u16) -> TcAttachOptions {
    TcAttachOptions::Netlink(NlOptions { priority, handle: TcHandle::new(0, handle), classid: None })
}

fn id(program: &SchedClassifier) -> u32 {
    program.info().unwrap().id()
}

fn rows(filters: &[Filter]) -> Vec<(u64, u64, String, String)> {
    let protocol = |number| match number {
        3 => "all",
        0x0800 => "ip",
        0x86dd => "ipv6",
        other => panic!("protocol {other}"),
    };
    let row =
        |one: &Filter| (one.priority.into(), one.chain.into(), one.kind.clone(), protocol(one.protocol).to_owned());
    filters.iter().map(row).collect()
}

/// Names and ids of the TCX programs.
fn tcx(hook: &Hook) -> Vec<(&str, u32)> {
    let programs = hook.tcx.as_ref().unwrap().iter().map(|attached| &attached.program);
    programs.map(|program| (program.name.as_deref().unwrap(), program.id)).collect()
}

#[test]
fn nobody() {
    let veth = Veth::new();
    let empty = Hook { tcx: Some(Vec::new()), filters: Vec::new() };
    assert_eq!(veth.hooks(), DeviceHooks { qdisc: None, rx: empty.clone(), tx: empty });
}

#[test]
fn tcx_programs_in_the_order_in_which_they_run() {
    let veth = Veth::new();
    let mut second = Answer::Next.load("second").unwrap();
    let mut first = Answer::Pass.load("first").unwrap();
    let mut out = Answer::Drop.load("out").unwrap();
    veth.attach(&mut second, TcAttachType::Ingress, TcAttachOptions::TcxOrder(LinkOrder::default()));
    veth.attach(&mut first, TcAttachType::Ingress, TcAttachOptions::TcxOrder(LinkOrder::first()));
    veth.attach(&mut out, TcAttachType::Egress, TcAttachOptions::TcxOrder(LinkOrder::default()));
    let hooks = veth.hooks();
    assert_eq!(tcx(&hooks.rx), [("first", id(&first)), ("second", id(&second))]);
    assert_eq!(tcx(&hooks.tx), [("out", id(&out))]);
    assert_eq!((hooks.qdisc, hooks.rx.filters.len(), hooks.tx.filters.len()), (None, 0, 0));
    let attached = &hooks.rx.tcx.unwrap()[0];
    assert_eq!(u64::from_be_bytes(attached.program.tag.unwrap()), first.info().unwrap().tag());
    assert!(attached.link_id.is_some());
}

#[test]
fn a_filter_as_the_network_policy_agent_attaches_it() {
    let veth = Veth::new();
    veth.tc("qdisc add dev DEV clsact");
    let mut agent = Answer::Pass.load("handle_ingress").unwrap();
    veth.attach(&mut agent, TcAttachType::Ingress, legacy(1, 1));
    veth.attach(&mut agent, TcAttachType::Egress, legacy(1, 1));
    let hooks = veth.hooks();
    assert_eq!(hooks.qdisc, Some(FilterQdisc::Clsact));
    for (hook, parent) in [(&hooks.rx, 0xffff_fff2), (&hooks.tx, 0xffff_fff3)] {
        let [filter] = hook.filters.as_slice() else { panic!("{hook:?}") };
        assert_eq!((filter.kind.as_str(), filter.parent, filter.priority, filter.handle), ("bpf", parent, 1, 1));
        assert_eq!((filter.protocol, filter.chain, filter.shared_block), (3, 0, None));
        let bpf = filter.bpf.as_ref().unwrap();
        assert!(bpf.direct_action && !bpf.skip_sw && !bpf.in_hw, "{bpf:?}");
        let program = bpf.program.as_ref().unwrap();
        assert_eq!((program.id, program.name.as_deref()), (id(&agent), Some("handle_ingress")));
        assert_eq!(u64::from_be_bytes(program.tag.unwrap()), agent.info().unwrap().tag());
        assert_eq!(hook.tcx.as_deref(), Some([].as_slice()));
    }
}

#[test]
fn filters_of_every_kind_in_the_order_in_which_they_run() {
    let veth = Veth::new();
    veth.tc("qdisc add dev DEV clsact");
    veth.tc("filter add dev DEV ingress prio 9 protocol ip u32 match ip dport 80 0xffff");
    veth.tc("filter add dev DEV ingress prio 4 protocol ipv6 u32 match u32 0 0");
    veth.tc("filter add dev DEV ingress chain 7 prio 1 protocol ip bpf bytecode '1,6 0 0 4294967295,'");
    let (mut older, mut newer) = (Answer::Next.load("older").unwrap(), Answer::Next.load("newer").unwrap());
    veth.attach(&mut older, TcAttachType::Ingress, legacy(5, 1));
    veth.attach(&mut newer, TcAttachType::Ingress, legacy(5, 2));
    let filters = veth.hooks().rx.filters;
    assert_eq!(rows(&filters), veth.listed("ingress"));
    let priorities: Vec<_> = filters.iter().map(|filter| (filter.chain, filter.priority)).collect();
    assert_eq!(priorities, [(0, 4), (0, 5), (0, 5), (0, 9), (7, 1)]);
    let names: Vec<_> = filters.iter().map(|filter| filter.bpf.as_ref()?.program.as_ref()?.name.as_deref()).collect();
    assert_eq!(names, [None, Some("newer"), Some("older"), None, None], "of one priority the last added is first");
    assert_eq!(filters[4].bpf.as_ref().unwrap().program, None, "classic BPF has no id");
}

#[test]
fn an_ingress_qdisc_and_a_shared_block() {
    let veth = Veth::new();
    veth.tc("qdisc add dev DEV ingress");
    veth.tc("filter add dev DEV ingress prio 3 protocol all u32 match u32 0 0");
    let hooks = veth.hooks();
    assert_eq!(hooks.qdisc, Some(FilterQdisc::Ingress));
    assert_eq!((rows(&hooks.rx.filters), hooks.tx.filters.len()), (veth.listed("ingress"), 0));
    veth.tc("qdisc del dev DEV ingress");

    veth.tc("qdisc add dev DEV egress_block 22 clsact");
    veth.tc("filter add block 22 prio 3 protocol all u32 match u32 0 0");
    let hooks = veth.hooks();
    assert_eq!((hooks.qdisc, hooks.rx.filters.len()), (Some(FilterQdisc::Clsact), 0));
    let [filter] = hooks.tx.filters.as_slice() else { panic!("{:?}", hooks.tx) };
    assert_eq!((filter.shared_block, filter.priority), (Some(22), 3));
}
