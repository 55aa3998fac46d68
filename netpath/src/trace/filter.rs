//! The filter of `netpath trace`: tcpdump's language as far as it makes sense here, and pods, namespaces, services, devices.
//!
//! In: a text, and what its names mean on this node. Out: a chain of tests for the kernel, or an error that points at the word.
//! Pure: it asks no DNS, and reads no file.
//!
//! What is equal to tcpdump: `and` and `or` bind alike and to the left, `not` binds tighter; `host a or b` repeats `host`. Tests
//! hold it against `tcpdump` itself. What differs, by design:
//!
//! | what | tcpdump | here |
//! |---|---|---|
//! | what is not IP, or is cut off before its ports | may match | is not traced |
//! | IPv6 extension headers (fragment headers, too) | hide ports and protocol | are skipped: `port` sees what is behind them |
//! | later fragments in IPv6 | have a protocol | have none |
//! | `tcp[…]` in IPv6 | never matches | matches, unless there are extension headers: then flags and sequence number are 0 |
//! | VLAN tags | hide the IP header | are skipped |
//! | `host NAME` | asks DNS | an error |
//! | `port NAME` | TCP or UDP alone, as /etc/services has it | TCP, UDP and SCTP |
//! | `less`, `greater`, `len` | a frame's length | `skb->len`: a super-packet (GSO, GRO) is one packet |
//! | `src 10.0.0.0/8`, `net 10/8`, `proto tcp` | errors | as `src net …`, `net 10.0.0.0/8`, `proto \tcp` |
//! | `host 10.1` | the network 10.1.0.0/16 | an error |
//! | `tcp[13] & 2\|16 != 0` | `(tcp[13] & 2) \| 16 != 0`, always true | an error |

mod compile;
mod lex;
mod logic;
mod parse;
mod values;
mod words;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netpath_ebpf::trace::{ACCEPT, Sighting, TESTS, Test, accepts, facts};
use thiserror::Error;

use self::logic::Logic;
pub use self::parse::parse;
use self::words::Word;

/// What words of a filter mean on this node.
pub trait Names {
    /// The addresses of the pod `NS/NAME`; none if it is not known.
    fn pod(&self, name: &str) -> Vec<IpAddr>;
    /// The addresses of all pods of a namespace.
    fn namespace(&self, name: &str) -> Vec<IpAddr>;
    /// Where the service `NS/NAME` is reached, or one port of it by the port's name (`NS/NAME:NAME`): protocol (IANA number),
    /// address, port.
    fn service(&self, name: &str) -> Vec<(u8, IpAddr, u16)>;
    /// The index of a device.
    fn device(&self, name: &str) -> Option<u32>;
    /// The port of a name that is not commonly known.
    fn port(&self, name: &str) -> Option<u16>;
    /// All names of a kind, for errors.
    fn known(&self, kind: Named) -> Vec<String>;
}

/// What has a name on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// `NS/NAME`.
    Pod,
    /// `NS`.
    Namespace,
    /// `NS/NAME`, or `NS/NAME:PORT`.
    Service,
    /// As `ip link` has it.
    Device,
}

/// Why a text is no filter: one line, fit to print, that ends with what to do.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct FilterError(String);

/// A filter whose names have no meaning yet.
#[derive(Clone, Debug)]
pub struct Expression(Logic<Primitive>);

/// What the kernel is given.
#[derive(Clone, Debug)]
pub struct Filter {
    /// The chain; the first test is where it begins.
    pub tests: [Test; TESTS],
    /// Sets that tests name: the number of the set, and an address. Sorted.
    pub members: Vec<(u32, [u32; 4])>,
}

impl Expression {
    /// Pods to one of which each packet belongs that matches, as `NS/NAME`; `None` if there is no such limit.
    #[must_use]
    pub fn required_pods(&self) -> Option<BTreeSet<String>> {
        required_pods(&self.0)
    }

    /// Limits it to packets of these pods (`NS/NAME`), if there are any.
    #[must_use]
    pub fn with_pods(self, pods: &[String]) -> Self {
        if pods.is_empty() {
            return self;
        }
        let pod = |name: &String| Logic::Is(Primitive::Pod(End::Either, Word::of_option("--pod", name)));
        Self(Logic::all([self.0, Logic::any(pods.iter().map(pod))]))
    }

    /// Whether it has words that mean what the node's records of pods and services say.
    #[must_use]
    pub fn needs_names(&self) -> bool {
        self.0.contains(&|primitive| {
            matches!(primitive, Primitive::Pod(..) | Primitive::Namespace(..) | Primitive::Service(..))
        })
    }

    /// Gives it the meaning that names have now.
    ///
    /// # Errors
    /// For a name that there is not, and for a filter that is too large.
    pub fn compile(&self, names: &impl Names) -> Result<Filter, FilterError> {
        compile::compile(&self.0, names)
    }
}

impl Filter {
    /// Whether it accepts every packet.
    #[must_use]
    pub fn accepts_all(&self) -> bool {
        (self.tests[0].then, self.tests[0].otherwise) == (ACCEPT, ACCEPT)
    }

    /// Whether it accepts a packet, as the kernel finds.
    #[must_use]
    pub fn accepts(&self, packet: &Sighting) -> bool {
        accepts(&self.tests, &facts(packet), |set, address| self.members.binary_search(&(set, address)).is_ok())
    }
}

fn required_pods(expression: &Logic<Primitive>) -> Option<BTreeSet<String>> {
    match expression {
        Logic::Is(Primitive::Pod(_, name)) => Some(BTreeSet::from([name.text.clone()])),
        Logic::Is(_) | Logic::Not(_) => None,
        // One would do; with all of them, both ends of a connection are seen.
        Logic::All(parts) => parts.iter().filter_map(required_pods).reduce(|one, other| &one | &other),
        Logic::Any(parts) => {
            parts.iter().map(required_pods).collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().collect())
        }
    }
}

/// What a packet can have, one at a time.
#[derive(Clone, Debug, PartialEq)]
enum Primitive {
    /// IP version 4 or 6.
    Family(u8),
    /// A protocol above IP, of one family or both.
    Protocol { family: Option<u8>, number: u8 },
    /// An address in this network.
    Net(End, IpNet),
    /// A port; of this protocol, or of TCP, UDP and SCTP.
    Port { protocol: Option<u8>, end: End, ports: Ports },
    /// An address of the pod.
    Pod(End, Word),
    /// An address of a pod in the namespace.
    Namespace(End, Word),
    /// An address of the service with its port and protocol.
    Service(End, Word),
    /// A device.
    Device(Word),
    /// What the packet has in a field. A packet without the field has none of it, `inverted` or not.
    Field { field: Field, mask: u32, low: u32, high: u32, inverted: bool },
    /// TCP's sequence number, or that of an ICMP echo message.
    Sequence(u32),
}

/// At which end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Either,
    Both,
    Source,
    Destination,
}

/// Ports as they are written.
#[derive(Clone, Debug, PartialEq)]
enum Ports {
    /// From the one to the other.
    Numbers(u16, u16),
    /// `port domain`.
    Name(Word),
    /// `portrange http-https`.
    Names(Word),
}

/// What can be compared with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// `tcp[tcpflags]`.
    TcpFlags,
    /// `tcp[4:4]`.
    TcpSequence,
    /// `icmp[icmptype]`.
    IcmpType,
    /// `icmp6[icmp6type]`.
    Icmp6Type,
    /// `len`.
    Length,
}

#[cfg(test)]
mod tests;
