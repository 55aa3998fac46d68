//! What a report must say of a window, as one line a flow; every flow must be expected, and every line must come.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use lab::report::Flow;

use super::watch::{BYTES, Ends, Window};

/// A hop by device and direction; its addresses follow from the ends: rx is before NAT, tx after.
pub type At<'a> = (&'a str, &'static str);

/// Expectations on one window.
pub struct Expected<'a> {
    window: &'a Window,
    aside: &'a dyn Fn(&Flow) -> bool,
    flows: Vec<String>,
    /// Lines of one conversation, which must share their number, and no other conversation's.
    conversations: Vec<Vec<String>>,
}

impl<'a> Expected<'a> {
    pub fn of(window: &'a Window) -> Self {
        Self { window, aside: &|_| false, flows: Vec::new(), conversations: Vec::new() }
    }

    /// Leaves some flows out.
    pub fn apart_from(mut self, aside: &'a dyn Fn(&Flow) -> bool) -> Self {
        self.aside = aside;
        self
    }

    fn reported(&self) -> impl Iterator<Item = &Flow> {
        self.window.flows().iter().filter(|flow| !(self.aside)(flow))
    }

    /// A conversation whose answer takes the same way back. `remarks` are the scope, and `left-node`.
    pub fn conversation(self, ends: &Ends, path: &str, hops: &[At], remarks: &str) -> Self {
        let back: Vec<At> = hops.iter().rev().map(|&(device, way)| (device, opposite(way))).collect();
        let lines =
            vec![self.line(ends, true, path, hops, remarks), self.line(&answer(ends), false, path, &back, remarks)];
        self.with(lines)
    }

    /// A conversation of which only the initiator speaks.
    pub fn one_way(self, ends: &Ends, path: &str, hops: &[At], remarks: &str) -> Self {
        let line = self.line(ends, true, path, hops, remarks);
        self.with(vec![line])
    }

    fn with(mut self, lines: Vec<String>) -> Self {
        self.flows.extend_from_slice(&lines);
        self.conversations.push(lines);
        self
    }

    fn line(&self, ends: &Ends, initiator: bool, path: &str, hops: &[At], remarks: &str) -> String {
        // conntrack's hooks are there if a rule needs them; what they know must be what the sockets saw.
        let initiator = match (self.window.tracked.is_empty(), initiator) {
            (true, _) => "?",
            (false, true) => "initiator",
            (false, false) => "responder",
        };
        if initiator == "initiator" {
            self.assert_tracked(ends);
        }
        let mut line = format!("{} {path} {initiator}", ends.proto);
        for (device, way) in hops {
            let (src, dst) = if *way == "rx" { (ends.client, ends.dialled) } else { (ends.peer, ends.server) };
            write!(line, " | {device} {way} {src} > {dst}").unwrap();
        }
        if !remarks.is_empty() {
            write!(line, " | {remarks}").unwrap();
        }
        line
    }

    fn assert_tracked(&self, ends: &Ends) {
        let socket = |address: IpAddr, port: Option<u16>, id: Option<u16>| {
            SocketAddr::new(address, port.or(id).unwrap_or_default())
        };
        let found = self.window.tracked.iter().any(|entry| {
            let [original, reply] = [&entry.original, &entry.reply].map(|tuple| {
                (socket(tuple.src, tuple.sport, tuple.icmp_id), socket(tuple.dst, tuple.dport, tuple.icmp_id))
            });
            (original, reply) == ((ends.client, ends.dialled), (ends.server, ends.peer))
        });
        assert!(found, "{ends:?} is not among {:?}", self.window.tracked);
    }

    /// Holds the report against what was expected.
    pub fn assert(mut self) {
        let mut actual: Vec<String> = self.reported().map(line).collect();
        actual.sort();
        self.flows.sort();
        assert_eq!(
            actual,
            self.flows,
            "\nreport:\n  {}\nexpected:\n  {}",
            actual.join("\n  "),
            self.flows.join("\n  ")
        );

        let number_of = |expected: &String| {
            let flow = self.reported().find(|flow| line(flow) == *expected).unwrap();
            flow.conversation
        };
        let mut numbers: Vec<u64> = Vec::new();
        for lines in &self.conversations {
            let first = number_of(&lines[0]);
            assert!(lines.iter().all(|line| number_of(line) == first), "one conversation: {lines:?}");
            assert!(!numbers.contains(&first), "another's number: {lines:?}");
            numbers.push(first);
        }
        for flow in self.reported() {
            assert_bytes(flow);
        }
        self.assert_totals();
    }

    /// Each flow's bytes are in the totals of its path, once, but for those that other packets carried.
    fn assert_totals(&self) {
        for (path, total) in &self.window.report.totals.by_path {
            let flows = self.window.flows().iter().filter(|flow| flow.path == *path);
            let own = flows.map(|flow| flow.bytes - flow.carried_bytes);
            assert_eq!(total.bytes, own.sum::<u64>(), "{path}");
        }
    }
}

fn opposite(way: &str) -> &'static str {
    if way == "rx" { "tx" } else { "rx" }
}

fn answer(ends: &Ends) -> Ends {
    Ends { client: ends.server, dialled: ends.peer, server: ends.client, peer: ends.dialled, ..*ends }
}

/// The same packets pass every hop, so each counts the same; an answer over TCP has the whole payload.
fn assert_bytes(flow: &Flow) {
    let hops = &flow.hops;
    for hop in hops {
        assert_eq!((hop.bytes, hop.packets), (flow.bytes, flow.packets), "{flow}");
    }
    assert!(flow.packets > 0, "{flow}");
    if flow.proto == "tcp" && flow.from_initiator == Some(false) {
        // Headers of 66 bytes for each of at most 9001, or 1500 outside; super-packets have one for many.
        let bytes = flow.bytes;
        assert!((BYTES..BYTES + BYTES / 10).contains(&bytes), "{flow}");
    }
}

fn line(flow: &Flow) -> String {
    let initiator = match flow.from_initiator {
        None => "?",
        Some(true) => "initiator",
        Some(false) => "responder",
    };
    let mut line = format!("{} {} {initiator}", flow.proto, flow.path);
    for hop in &flow.hops {
        let (src, dst) = hop.ends();
        write!(line, " | {} {} {src} > {dst}", hop.device, hop.direction).unwrap();
        assert_eq!(hop.vlans, [0; 0], "no tags here: {hop}");
    }
    let mut remarks: Vec<&str> = flow.scope.as_deref().into_iter().collect();
    if flow.local_pair_left_node {
        remarks.push("left-node");
    }
    if !remarks.is_empty() {
        write!(line, " | {}", remarks.join(" ")).unwrap();
    }
    line
}
