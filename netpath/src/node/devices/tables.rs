//! Which routing tables packets are looked up in, and which routes there deliver to this node.
//!
//! In: rules, VRFs and routes as they come and go. Out: which tables count, and every route that delivered here at some time.
//! Plain bookkeeping.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::message::{DeliveringRoute, Rule, RuleTable};
use crate::snapshot::LocalRoute;

const MAIN: u32 = 254;
/// The priorities of the kernel's default rules, and their tables: `local`, `main` and `default`.
const DEFAULT_RULES: [(u32, u32); 3] = [(0, 255), (32766, MAIN), (32767, 253)];

/// The rules, VRFs and delivering routes of one network namespace.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    rules: BTreeSet<Rule>,
    /// The tables of VRFs, by the VRF's index.
    vrfs: BTreeMap<u32, u32>,
    deliveries: BTreeMap<DeliveringRoute, Delivery>,
}

/// What is known of a route that delivers here.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    /// It is there now.
    current: bool,
    /// At some time every packet was looked up in its table.
    unconditional: bool,
}

/// When packets are looked up in a table, in the order of the lookups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Packets of a VRF.
    Vrf,
    /// All packets, by the rule of this priority.
    Always(u32),
    /// Some packets, by the rule of this priority.
    Sometimes(u32),
}

impl Tables {
    /// A rule was added.
    pub fn add_rule(&mut self, rule: Rule) {
        self.rules.insert(rule);
        self.judge();
    }

    /// A rule was removed.
    pub fn remove_rule(&mut self, rule: Rule) {
        self.rules.remove(&rule);
        self.judge();
    }

    /// A device is a VRF with this table, or none. Returns whether that is new.
    pub fn set_vrf(&mut self, ifindex: u32, table: Option<u32>) -> bool {
        let before = match table {
            Some(table) => self.vrfs.insert(ifindex, table),
            None => self.vrfs.remove(&ifindex),
        };
        let changed = before != table;
        if changed {
            self.judge();
        }
        changed
    }

    /// A delivering route was added.
    pub fn deliver(&mut self, route: DeliveringRoute) {
        let unconditional = self.is_unconditional(route);
        let delivery = self.deliveries.entry(route).or_insert(Delivery { current: true, unconditional });
        delivery.current = true;
        delivery.unconditional |= unconditional;
    }

    /// A delivering route was removed.
    pub fn stop_delivering(&mut self, route: DeliveringRoute) {
        if let Some(delivery) = self.deliveries.get_mut(&route) {
            delivery.current = false;
        }
    }

    /// Adds the routes of `earlier` that delivered here.
    pub fn remember(&mut self, earlier: Self) {
        for (route, delivery) in earlier.deliveries {
            let known = self.deliveries.entry(route).or_insert(Delivery { current: false, ..delivery });
            known.unconditional |= delivery.unconditional;
        }
    }

    /// Forgets removed routes, and evaluates the others by the present rules alone.
    pub fn forget_past(&mut self) {
        self.deliveries.retain(|_, delivery| delivery.current);
        for delivery in self.deliveries.values_mut() {
            delivery.unconditional = false;
        }
        self.judge();
    }

    /// Every route that delivered here at some time.
    pub fn local_routes(&self) -> Vec<LocalRoute> {
        let each = |(route, delivery): (&DeliveringRoute, &Delivery)| LocalRoute {
            network: route.network,
            table: route.table,
            unconditional: delivery.unconditional,
        };
        self.deliveries.iter().map(each).collect()
    }

    /// When packets are looked up in a table; `None` if never.
    pub fn reach(&self, ipv6: bool, table: u32) -> Option<Reach> {
        if self.vrfs.values().any(|&of_vrf| of_vrf == table) {
            return Some(Reach::Vrf);
        }
        let of_family = || self.rules.iter().filter(|rule| rule.ipv6 == ipv6);
        if of_family().next().is_none() {
            // A kernel without rules (CONFIG_IP_MULTIPLE_TABLES).
            return DEFAULT_RULES
                .iter()
                .find(|(_, default)| *default == table)
                .map(|&(priority, _)| Reach::Always(priority));
        }
        let mut rules = of_family().filter(|rule| rule.table == RuleTable::Table(table));
        let always = rules.clone().filter(|rule| rule.unconditional).map(|rule| Reach::Always(rule.priority)).min();
        always.or_else(|| rules.next().map(|rule| Reach::Sometimes(rule.priority)))
    }

    /// Whether packets to the address are delivered here before a host route of a table with this reach is looked at.
    pub fn delivers_before(&self, address: IpAddr, reach: Reach) -> bool {
        let ipv6 = address.is_ipv6();
        // As long as there are no rules but the default ones, IPv4's tables `local` and `main` are one, and the
        // longer prefix wins (net/ipv4/fib_trie.c, `fib_trie_alias`).
        if reach == Reach::Vrf || !ipv6 && self.only_usual_rules() {
            return false;
        }
        self.deliveries
            .iter()
            .filter(|(route, delivery)| delivery.current && route.network.contains(&address))
            .any(|(route, _)| matches!(self.reach(ipv6, route.table), Some(Reach::Always(first)) if Reach::Always(first) < reach))
    }

    fn only_usual_rules(&self) -> bool {
        let is_default = |rule: &Rule| {
            rule.unconditional
                && DEFAULT_RULES
                    .iter()
                    .any(|&(priority, table)| (rule.priority, rule.table) == (priority, RuleTable::Table(table)))
        };
        self.rules.iter().filter(|rule| !rule.ipv6).all(is_default)
    }

    /// Whether every packet to the route's addresses takes it, or one of its VRF.
    fn is_unconditional(&self, route: DeliveringRoute) -> bool {
        let ipv6 = matches!(route.network, IpNet::V6(_));
        match self.reach(ipv6, route.table) {
            Some(Reach::Vrf) => true,
            // Few packets get past `main`: it has a default route.
            Some(Reach::Always(priority)) => {
                !matches!(self.reach(ipv6, MAIN), Some(Reach::Always(main)) if main < priority)
            }
            Some(Reach::Sometimes(_)) | None => false,
        }
    }

    fn judge(&mut self) {
        let now: Vec<bool> = self.deliveries.keys().map(|route| self.is_unconditional(*route)).collect();
        for (delivery, unconditional) in self.deliveries.values_mut().zip(now) {
            delivery.unconditional |= unconditional && delivery.current;
        }
    }
}
