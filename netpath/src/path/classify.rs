//! Says where a flow went, by where its packets were seen.
//!
//! In: a flow's hops in order, what conntrack says of it, the node's devices, addresses and diversions. Out: a path class,
//! with the reason where it is not known, or the flow was dropped. It never decides by addresses what the devices did not
//! show, save for the one thing that no device can show: that this node's own stack is an end.
//!
//! | seen                                      | and                                                     | class |
//! |-------------------------------------------|---------------------------------------------------------|-------|
//! | in and out by ENIs or tunnels only        | the source is not this node                             | transit |
//! | in by an ENI only                         | to a local pod, and dropped or nothing else can be      | undelivered |
//! | in or out by an ENI or tunnel             |                                                         | eni |
//! | in by a veth, out by a veth               | to its pod                                              | local |
//! | in or out by a tun device                 | the other end is a pod, or this node                    | host |
//! | in by a veth only                         | to this node, multicast or broadcast                    | host |
//! | in by a veth only                         | encrypted packets left that an IPsec policy makes of it | eni |
//! | in by a veth only                         | dropped, or nothing else can have become of it          | undelivered |
//! | out by a veth only                        | from this node                                          | host |
//! | in or out by a tun device, none by an ENI | a process of this node is the other end                 | host |
//! | anything else                             |                                                         | unresolved |
//!
//! What an ENI's hook saw crossed an ENI, whatever else is unknown of it.
//!
//! **A drop is what the kernel was seen to drop**, as many packets as came in. Where drops cannot be seen, it is concluded from
//! absence, and so every other reason for it is ruled out first: an IPsec policy, a rule or virtual
//! server that rewrites without conntrack, a program behind netpath's that may redirect, gaps in conntrack's or netpath's own
//! records, a device that is not watched, and an answer at the hook where the packets came in. The first that holds is the
//! reason for which the flow is unresolved, also where drops can be seen and fewer were.
//!
//! Whom a lone hop is from or to is only known if NAT is: without conntrack, a packet from the node's address may be a
//! client's behind SNAT, and one that seems dropped may have left under another address. Where conntrack has several ends for
//! a flow, it has a class only if it has the same with each.

use std::net::IpAddr;

use super::crossing::is_copy;
use super::diversions::{Diverted, LikelyCause, Outbound};
use super::drops::{self, Meaning};
use super::topology::{Role, Topology};
use crate::model::{Conntrack, Direction};
use crate::report::{FlowDrop, PathClass, PathReason};
use crate::snapshot::{Observation, Tuple};

/// What is known of a flow before it is judged.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Evidence<'a> {
    /// Its hops in order; at least one.
    pub hops: &'a [Observation],
    /// The source address before NAT and the destination address after it; several if conntrack does not decide. At least
    /// one.
    pub ends: &'a [(IpAddr, IpAddr)],
    /// What conntrack knows of its translation.
    pub translation: Translation,
    /// The tuples that its packets have within the node, as they came in and as NAT makes them: few flows need them.
    pub tuples: &'a dyn Fn() -> Vec<Tuple>,
    /// It consists of ICMP errors.
    pub is_error: bool,
    /// How complete conntrack's evidence is.
    pub conntrack: Conntrack,
    /// A hook may have seen the flow and not recorded it, for want of room.
    pub records_lost: bool,
    /// Packets of the other direction passed the same device.
    pub answered: bool,
    /// Filters on the device where it came in dropped as many packets as are missing there: their names.
    pub dropped_by_filter: Option<String>,
    /// Its packets that the kernel was seen to drop; `None` if drops could not be seen.
    pub drops: Option<&'a Vec<FlowDrop>>,
    /// Fragments left that belong to no flow, since their first one was not seen to leave.
    pub orphans_left: bool,
}

/// What conntrack knows of a flow's translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// It has no entry for it.
    None,
    /// It has one, or what was seen decides between several.
    Known,
    /// It translates it in more than one way, and what was seen does not decide.
    Ambiguous,
}

/// Where a flow went, and why that is not known if it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Where.
    pub path: PathClass,
    /// Of `undelivered` and `unresolved`: why, and what in particular.
    pub reason: Option<PathReason>,
    /// The policy, rule, program or fact that the reason is about.
    pub detail: Option<String>,
    /// It left inside encrypted packets.
    pub encrypted: bool,
}

impl Verdict {
    const fn new(path: PathClass) -> Self {
        Self { path, reason: None, detail: None, encrypted: false }
    }

    const fn because(path: PathClass, reason: PathReason) -> Self {
        Self { path, reason: Some(reason), detail: None, encrypted: false }
    }

    fn caused_by(path: PathClass, LikelyCause { reason, detail }: LikelyCause) -> Self {
        Self { path, reason: Some(reason), detail: Some(detail), encrypted: false }
    }
}

impl Evidence<'_> {
    /// `from` and `to` are the true ends.
    fn ends_known(&self) -> bool {
        self.translation != Translation::None || self.conntrack == Conntrack::Ok
    }

    fn entered_only(&self, topology: &Topology) -> bool {
        self.edges(topology).all(|hop| hop.direction == Direction::Rx)
    }

    fn left_only(&self, topology: &Topology) -> bool {
        self.edges(topology).all(|hop| hop.direction == Direction::Tx)
    }

    /// The hops without those of a veth pair within the node, where what goes out comes in again at once.
    fn edges(&self, topology: &Topology) -> impl Iterator<Item = &Observation> {
        self.hops.iter().filter(|hop| topology.peer(hop.ifindex).is_none())
    }

    /// By what most of its packets were dropped on their way through the node, and whether all were, for a reason that leaves no
    /// doubt; `None` if none was. A window may end between the hook and the drop.
    fn seen_dropped(&self) -> Option<(String, bool)> {
        let packets = self.hops.iter().map(|hop| hop.counts.packets).max().unwrap_or_default();
        let on_the_way = |one: &&FlowDrop| drops::meaning(one) == Meaning::OnTheWay;
        let drops = self.drops?;
        let dropped = drops.iter().filter(on_the_way).fold(0_u64, |sum, one| sum.saturating_add(one.packets));
        let by = drops
            .iter()
            .find(on_the_way)
            .or_else(|| drops.iter().find(|one| drops::meaning(one) == Meaning::Perhaps))?;
        let all = dropped > 0 && dropped >= packets.saturating_sub(1 + packets / 100);
        Some((drops::name(by), all))
    }

    /// For which reason a hop may not have been seen, though it happened.
    fn gap(&self, topology: &Topology) -> Option<PathReason> {
        match self.conntrack {
            Conntrack::Unavailable => return Some(PathReason::ConntrackUnavailable),
            Conntrack::Overrun => return Some(PathReason::ConntrackOverrun),
            Conntrack::Ok => {}
        }
        if self.translation == Translation::Ambiguous {
            Some(PathReason::AmbiguousTranslation)
        } else if self.records_lost {
            Some(PathReason::RecordsLost)
        } else {
            topology.hides_traffic().then_some(PathReason::UnwatchedDevice)
        }
    }
}

/// Where the flow went.
#[must_use]
pub fn classify(flow: &Evidence, topology: &Topology, diverted: &Diverted) -> Verdict {
    let mut verdicts = flow.ends.iter().map(|&ends| classify_ends(flow, ends, topology, diverted));
    let first = verdicts.next().unwrap_or(const { Verdict::because(PathClass::Unresolved, PathReason::OneSided) });
    if verdicts.all(|verdict| verdict.path == first.path) {
        first
    } else {
        Verdict::because(PathClass::Unresolved, PathReason::AmbiguousTranslation)
    }
}

fn classify_ends(flow: &Evidence, (from, to): (IpAddr, IpAddr), topology: &Topology, diverted: &Diverted) -> Verdict {
    let seen = |role, direction| topology.saw(flow.hops, role, direction);
    let out = seen(Role::Outside, Direction::Tx);
    let into = seen(Role::Outside, Direction::Rx);
    let from_pod = seen(Role::Pod, Direction::Rx);
    let (from_process, to_process) = (seen(Role::Process, Direction::Rx), seen(Role::Process, Direction::Tx));
    let to_pod = reaches_pod(flow.hops, topology, diverted);
    let to_all = topology.is_multicast_or_broadcast(to);

    if out {
        let passes = into && !from_pod && !to_pod && !from_process && !topology.is_own(from);
        return Verdict::new(if passes { PathClass::Transit } else { PathClass::Eni });
    }
    if into {
        let to_local_pod = topology.pod(to).is_some() && !to_all && !topology.is_own(to);
        if flow.entered_only(topology) && to_local_pod {
            let fate = fate(flow, to, topology, diverted);
            if fate.path == PathClass::Undelivered {
                return fate;
            }
        }
        return Verdict::new(PathClass::Eni);
    }
    if to_process || from_process && to_pod {
        return Verdict::new(PathClass::Host);
    }
    if from_pod && to_pod {
        return Verdict::new(PathClass::Local);
    }
    if from_pod || from_process {
        let to_own = flow.ends_known() && topology.is_own(to);
        if to_own && is_martian(to) && flow.translation == Translation::None {
            return if flow.answered {
                Verdict::new(PathClass::Host)
            } else {
                Verdict::because(PathClass::Unresolved, PathReason::LoopbackDestination)
            };
        }
        let rewritten = || {
            let rule =
                diverter(flow, topology, diverted).filter(|it| it.reason == PathReason::RewrittenWithoutConntrack);
            let server = |tuple: &Tuple| forwarder(tuple.proto, (tuple.dst, tuple.dport), topology, diverted);
            rule.or_else(|| (flow.tuples)().iter().find_map(server))
        };
        return match rewritten().filter(|_| to_own) {
            // Before it could be delivered here.
            Some(cause) => Verdict::caused_by(PathClass::Unresolved, cause),
            None if to_all || to_own => Verdict::new(PathClass::Host),
            None => fate(flow, to, topology, diverted),
        };
    }
    if to_pod && flow.left_only(topology) {
        let Tuple { proto, src, sport, .. } = flow.hops[0].tuple;
        if let Some(cause) = forwarder(proto, (src, sport), topology, diverted) {
            return Verdict::caused_by(PathClass::Unresolved, cause);
        }
        let from_own = flow.ends_known() && topology.is_own(from);
        // Nobody else makes an ICMP error that came in nowhere, or answers for an address that a route delivers here.
        let made_here =
            flow.is_error && flow.gap(topology).is_none() && diverted.originator(&flow.hops[0].tuple).is_none();
        if from_own || made_here || flow.answered && topology.is_own_by_rule(from) {
            return Verdict::new(PathClass::Host);
        }
        if let Some(cause) = diverted.originator(&flow.hops[0].tuple) {
            return Verdict::caused_by(PathClass::Unresolved, cause);
        }
    }
    Verdict::because(PathClass::Unresolved, flow.gap(topology).unwrap_or(PathReason::OneSided))
}

/// Whether packets to the address come in by no device but `lo`, unless NAT changes it or `route_localnet` permits 127.0.0.0/8
/// (`net/ipv4/route.c`, `ip_route_input_slow`; `net/ipv6/ip6_input.c`, `ip6_rcv_core`).
fn is_martian(to: IpAddr) -> bool {
    to.is_loopback() || to.is_unspecified()
}

/// Whether it went out to a pod that it was for. A mirrored copy goes to one that has nothing to do with it.
fn reaches_pod(hops: &[Observation], topology: &Topology, diverted: &Diverted) -> bool {
    hops.iter().any(|hop| {
        let went_in = hop.direction == Direction::Tx && topology.role(hop.ifindex) == Role::Pod;
        went_in && !is_copy(hop, hops, topology, diverted)
    })
}

/// What became of a flow that entered, is not for this node by its address, and was not seen to leave.
fn fate(flow: &Evidence, to: IpAddr, topology: &Topology, diverted: &Diverted) -> Verdict {
    let unresolved = |reason| Verdict::because(PathClass::Unresolved, reason);
    if !flow.entered_only(topology) {
        // Copies of it went elsewhere, or it was last seen within the node.
        return unresolved(flow.gap(topology).unwrap_or(PathReason::OneSided));
    }
    let seen_dropped = flow.seen_dropped();
    if let Some((by, true)) = &seen_dropped
        && flow.dropped_by_filter.is_none()
    {
        return Verdict::caused_by(
            PathClass::Undelivered,
            LikelyCause { reason: PathReason::Dropped, detail: by.clone() },
        );
    }
    let bytes = flow.hops.iter().map(|hop| hop.counts.bytes).max().unwrap_or_default();
    for tuple in (flow.tuples)() {
        match diverted.outbound(&tuple, bytes) {
            Some(Outbound::Encrypted) => return Verdict { encrypted: true, ..Verdict::new(PathClass::Eni) },
            Some(Outbound::Unseen(cause)) => return Verdict::caused_by(PathClass::Unresolved, cause),
            Some(Outbound::Blocked(cause)) => return Verdict::caused_by(PathClass::Undelivered, cause),
            None => {}
        }
    }
    let diverter = diverter(flow, topology, diverted);
    // A socket of this node takes what TPROXY gives it, and answers.
    let to_process = diverter.as_ref().is_none_or(|diverter| diverter.reason == PathReason::Tproxy);
    if to_process && flow.answered && topology.is_own_by_rule(to) {
        return Verdict::new(PathClass::Host);
    }
    if let Some(cause) = diverter {
        return Verdict::caused_by(PathClass::Unresolved, cause);
    }
    if topology.is_own_by_rule(to) {
        return unresolved(PathReason::PolicyRoute);
    }
    if let (Some(names), false) = (&flow.dropped_by_filter, flow.answered) {
        let dropped = LikelyCause { reason: PathReason::DroppedByFilter, detail: names.clone() };
        return Verdict::caused_by(PathClass::Undelivered, dropped);
    }
    if let Some(program) = flow.hops.iter().find_map(|hop| program_behind(hop, topology)) {
        return Verdict::caused_by(PathClass::Unresolved, program);
    }
    if let Some(reason) = flow.gap(topology) {
        return unresolved(reason);
    }
    if flow.answered {
        return unresolved(PathReason::Answered);
    }
    if let Some(cause) = diverted.unread() {
        return Verdict::caused_by(PathClass::Unresolved, cause);
    }
    match seen_dropped {
        // Those may be the rest of it.
        Some((_, false)) if flow.orphans_left => unresolved(PathReason::NotSeenAgain),
        Some((by, _)) => {
            Verdict::caused_by(PathClass::Undelivered, LikelyCause { reason: PathReason::Dropped, detail: by })
        }
        None if flow.drops.is_some() => unresolved(PathReason::NotSeenAgain),
        None => Verdict::because(PathClass::Undelivered, PathReason::NeverLeft),
    }
}

/// A rule or virtual server that may have taken it, as it came in or as NAT makes it.
fn diverter(flow: &Evidence, topology: &Topology, diverted: &Diverted) -> Option<LikelyCause> {
    let devices = flow.hops.iter().filter(|hop| hop.direction == Direction::Rx).map(|hop| topology.place(hop.ifindex));
    let mut names = devices.map(|place| place.map_or("", |place| place.device.facts.name.as_str()));
    let tuples = (flow.tuples)();
    names.find_map(|name| tuples.iter().find_map(|tuple| diverted.diverter(tuple, name)))
}

/// A virtual server for whose backend a packet to this address and port may have been, or from whose backend one from there.
fn forwarder(proto: u8, end: (IpAddr, u16), topology: &Topology, diverted: &Diverted) -> Option<LikelyCause> {
    diverted.forwarder(proto, end, |address| topology.is_own(address))
}

/// A program or filter behind netpath's on the hook by which the packets came in: it may redirect them past all others.
fn program_behind(hop: &Observation, topology: &Topology) -> Option<LikelyCause> {
    let device = topology.place(hop.ifindex)?.device;
    let mut others = device.facts.other_programs.iter().flatten();
    let behind = others.find(|one| one.direction == hop.direction && !one.ahead)?;
    Some(LikelyCause { reason: PathReason::OtherProgram, detail: format!("{behind} on {}", device.facts.name) })
}

/// Whether both ends are pods of this node although the flow crossed an ENI (a branch ENI, a load balancer).
#[must_use]
pub fn left_node_between_local_pods(flow: &Evidence, path: PathClass, topology: &Topology) -> bool {
    if path != PathClass::Eni || flow.ends.iter().any(|(_, to)| to.is_multicast()) {
        return false;
    }
    let seen = |role, direction| topology.saw(flow.hops, role, direction);
    // Nothing left if it went into a pod and came back by no ENI: a copy did.
    let came_back = || seen(Role::Outside, Direction::Rx) || !seen(Role::Pod, Direction::Tx);
    let by_addresses =
        || flow.ends.iter().all(|&(from, to)| topology.pod(from).is_some() && topology.pod(to).is_some());
    let by_devices = || {
        seen(Role::Pod, Direction::Rx)
            && seen(Role::Outside, Direction::Tx)
            && seen(Role::Outside, Direction::Rx)
            && seen(Role::Pod, Direction::Tx)
    };
    by_addresses() && came_back() || by_devices()
}
