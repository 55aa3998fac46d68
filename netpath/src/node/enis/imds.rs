//! EC2's instance metadata service, version 2: which ENIs the instance has, by their hardware addresses.
//!
//! In: where the service is. Out: [`Facts`], as many as were answered in time. Nothing but names and addresses is
//! asked for, never credentials. It must not fail because of one odd answer: what is not as documented is left out, and reported.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hyper::{Method, StatusCode};
use tokio::join;

use super::http::{Connection, OwnConnections, Unconnected};
use super::{Failure, names};
use crate::model::SourceState;

/// Off EC2 nothing may answer at all; on EC2 the service is a fraction of a millisecond away.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// Everything that is asked for is a few lines.
const ANSWER_BYTES: usize = 64 << 10;
/// More ENIs than any instance has, and more addresses than any ENI.
const MAX_LINES: usize = 256;
/// Seconds for which the token is good: as long as anything here can take, and some more.
const TOKEN_SECONDS: &str = "60";

const IPV4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)), 80);
const IPV6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), 80);

/// Where the service is to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// At its two documented addresses, the IPv4 one first.
    Default,
    /// Here.
    At(SocketAddr),
    /// Not at all: why.
    Disabled(Failure),
}

impl Endpoint {
    /// By the environment variables that AWS's own tools obey: `AWS_EC2_METADATA_DISABLED`,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT` and `AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE`.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| variable(name).filter(|value| !value.is_empty());
        if set("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Self::Disabled(Failure::absent("not asked: AWS_EC2_METADATA_DISABLED is set"));
        }
        if let Some(url) = set("AWS_EC2_METADATA_SERVICE_ENDPOINT") {
            return address(&url).map_or_else(
                || {
                    Self::Disabled(Failure::malformed(
                        "AWS_EC2_METADATA_SERVICE_ENDPOINT is not like http://169.254.169.254",
                    ))
                },
                Self::At,
            );
        }
        match set("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE") {
            Some(mode) if mode.eq_ignore_ascii_case("IPv6") => Self::At(IPV6),
            Some(mode) if mode.eq_ignore_ascii_case("IPv4") => Self::At(IPV4),
            _ => Self::Default,
        }
    }
}

/// "<http://169.254.169.254>", with or without a port and a slash at the end.
fn address(url: &str) -> Option<SocketAddr> {
    let host = url.strip_prefix("http://")?;
    let host = host.strip_suffix('/').unwrap_or(host);
    host.parse().ok().or_else(|| format!("{host}:80").parse().ok())
}

/// The answers of the service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// This instance's id.
    pub instance_id: Option<String>,
    /// Id of the availability zone that it is in.
    pub zone_id: Option<String>,
    /// Hardware address of the primary ENI.
    pub primary: Option<String>,
    /// Every ENI, also those that are in another network namespace.
    pub interfaces: Vec<Interface>,
    /// `vpc-ipv4-cidr-blocks` of the primary ENI.
    pub vpc_ipv4_blocks: Option<Vec<String>>,
    /// `vpc-ipv6-cidr-blocks` of the primary ENI.
    pub vpc_ipv6_blocks: Option<Vec<String>>,
}

impl Facts {
    /// The CIDR blocks of the VPC, IPv4 first, as far as they were answered.
    #[must_use]
    pub fn vpc_cidr_blocks(&self) -> Vec<String> {
        [&self.vpc_ipv4_blocks, &self.vpc_ipv6_blocks].into_iter().flatten().flatten().cloned().collect()
    }
}

/// An ENI. `None`: it was not answered. Empty: there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Hardware address.
    pub mac: String,
    /// `interface-id`.
    pub id: Option<String>,
    /// `device-number`.
    pub device_number: Option<u32>,
    ipv4s: Option<Vec<IpAddr>>,
    ipv6s: Option<Vec<IpAddr>>,
    ipv4_prefixes: Option<Vec<String>>,
    ipv6_prefixes: Option<Vec<String>>,
}

impl Interface {
    /// One without prefixes, with every answer.
    #[cfg(test)]
    pub(super) fn new(mac: &str, id: &str, device_number: u32, ipv4s: &[IpAddr]) -> Self {
        Self {
            mac: mac.to_owned(),
            id: Some(id.to_owned()),
            device_number: Some(device_number),
            ipv4s: Some(ipv4s.to_vec()),
            ipv6s: Some(Vec::new()),
            ipv4_prefixes: Some(Vec::new()),
            ipv6_prefixes: Some(Vec::new()),
        }
    }

    /// Its addresses, IPv4 first, if all are known.
    #[must_use]
    pub fn addresses(&self) -> Option<Vec<IpAddr>> {
        Some([self.ipv4s.as_deref()?, self.ipv6s.as_deref()?].concat())
    }

    /// The prefixes that were delegated to it, IPv4 first, if all are known.
    #[must_use]
    pub fn prefixes(&self) -> Option<Vec<String>> {
        Some([self.ipv4_prefixes.as_deref()?, self.ipv6_prefixes.as_deref()?].concat())
    }
}

/// Asks, and writes each answer into `facts` as it comes, so that it is not lost if there is no time for the rest.
pub async fn read(endpoint: &Endpoint, facts: &mut Facts, own: &OwnConnections) -> Result<(), Failure> {
    let open = |address| Connection::open(address, CONNECT_TIMEOUT, own.clone());
    let opened = match endpoint {
        Endpoint::Disabled(why) => return Err(why.clone()),
        Endpoint::At(address) => open(*address).await,
        Endpoint::Default => {
            let (ipv4, ipv6) = join!(open(IPV4), open(IPV6));
            match (ipv4, ipv6) {
                (Err(Unconnected::Unreachable(_)), Ok(ipv6)) => Ok(ipv6),
                (ipv4, _) => ipv4,
            }
        }
    };
    let mut connection = opened.map_err(|error| error.failure("nothing answers at its address: not on EC2"))?;
    let ttl = ("X-aws-ec2-metadata-token-ttl-seconds", TOKEN_SECONDS);
    let answer = connection.ask(Method::PUT, "/latest/api/token", &[ttl], ANSWER_BYTES).await?;
    if answer.status == StatusCode::FORBIDDEN {
        let reason = "it is switched off for this instance (status 403)".to_owned();
        return Err(Failure { state: SourceState::Refused, reason });
    }
    let token = answer.ok()?;
    let token = text(&token).ok_or_else(|| Failure::malformed("its token is not text"))?;
    let token = ("X-aws-ec2-metadata-token", token);
    let mut interview = Interview::new(facts);
    while let Some(key) = interview.key() {
        let path = format!("/latest/meta-data/{key}");
        let answer = connection.ask(Method::GET, &path, &[token], ANSWER_BYTES).await?;
        interview.take(answer.status, &answer.body);
    }
    interview.outcome
}

/// The questions, in their order, and their answers. Does no I/O.
#[derive(Debug)]
pub struct Interview<'a> {
    questions: VecDeque<Question>,
    facts: &'a mut Facts,
    /// The first thing that was odd.
    pub outcome: Result<(), Failure>,
}

impl<'a> Interview<'a> {
    /// Writes answers into `facts`.
    pub fn new(facts: &'a mut Facts) -> Self {
        let questions = VecDeque::from([Question::InstanceId, Question::Primary, Question::Interfaces]);
        Self { questions, facts, outcome: Ok(()) }
    }

    /// What to ask next, under `/latest/meta-data/`.
    #[must_use]
    pub fn key(&self) -> Option<String> {
        self.questions.front().map(|question| question.key(self.facts))
    }

    /// Takes the answer to it. After something odd, the other questions are asked all the same.
    pub fn take(&mut self, status: StatusCode, body: &[u8]) {
        let Some(question) = self.questions.pop_front() else { return };
        let key = question.key(self.facts);
        let taken = match status {
            StatusCode::OK => question.take(body, self.facts),
            // An empty list.
            StatusCode::NOT_FOUND => question.take(b"", self.facts),
            status => Err(Failure::status(status)),
        };
        if question == Question::Interfaces {
            let each = 0..self.facts.interfaces.len();
            self.questions.extend(each.flat_map(|at| OF_AN_INTERFACE.map(|field| Question::Of(at, field))));
            if self.facts.primary.is_some() {
                self.questions.extend([Question::VpcIpv4Blocks, Question::VpcIpv6Blocks]);
            }
            self.questions.push_back(Question::ZoneId);
        }
        if let (Ok(()), Err(failure)) = (&self.outcome, taken) {
            self.outcome = Err(failure.context(&key));
        }
    }
}

/// Something to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Question {
    InstanceId,
    Primary,
    Interfaces,
    /// Of the interface at this place in the list.
    Of(usize, Field),
    /// Of the primary ENI, which is in the instance's VPC; others may be in another one.
    VpcIpv4Blocks,
    VpcIpv6Blocks,
    ZoneId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Id,
    DeviceNumber,
    Ipv4s,
    Ipv6s,
    Ipv4Prefixes,
    Ipv6Prefixes,
}

/// What is asked of each ENI.
const OF_AN_INTERFACE: [Field; 6] =
    [Field::Id, Field::DeviceNumber, Field::Ipv4s, Field::Ipv6s, Field::Ipv4Prefixes, Field::Ipv6Prefixes];

impl Question {
    /// Where IMDS has the answer, under `/latest/meta-data/`.
    fn key(self, facts: &Facts) -> String {
        let of_primary = |field| {
            let mac = facts.primary.as_deref().unwrap_or_default();
            format!("network/interfaces/macs/{mac}/{field}")
        };
        match self {
            Self::InstanceId => "instance-id".to_owned(),
            Self::Primary => "mac".to_owned(),
            Self::Interfaces => "network/interfaces/macs/".to_owned(),
            Self::Of(at, field) => {
                let field = match field {
                    Field::Id => "interface-id",
                    Field::DeviceNumber => "device-number",
                    Field::Ipv4s => "local-ipv4s",
                    Field::Ipv6s => "ipv6s",
                    Field::Ipv4Prefixes => "ipv4-prefix",
                    Field::Ipv6Prefixes => "ipv6-prefix",
                };
                format!("network/interfaces/macs/{}/{field}", facts.interfaces[at].mac)
            }
            Self::VpcIpv4Blocks => of_primary("vpc-ipv4-cidr-blocks"),
            Self::VpcIpv6Blocks => of_primary("vpc-ipv6-cidr-blocks"),
            Self::ZoneId => "placement/availability-zone-id".to_owned(),
        }
    }

    /// Takes the answer, if it has the form that it should have.
    fn take(self, body: &[u8], facts: &mut Facts) -> Result<(), Failure> {
        let odd = || Failure::malformed("it does not have the documented form");
        let text = text(body).ok_or_else(odd)?;
        let address = |line: &str| line.parse().ok();
        let prefix = |line: &str| names::prefix(line).map(|_| line.to_owned());
        let known = match self {
            Self::InstanceId => put(&mut facts.instance_id, names::instance_id(text)),
            Self::Primary => put(&mut facts.primary, names::mac(text)),
            Self::Interfaces => {
                let macs = lines(text, |line| names::mac(line.strip_suffix('/').unwrap_or(line))).ok_or_else(odd)?;
                facts.interfaces = macs.into_iter().map(|mac| Interface { mac, ..Interface::default() }).collect();
                true
            }
            Self::Of(at, field) => {
                let interface = &mut facts.interfaces[at];
                match field {
                    Field::Id => put(&mut interface.id, names::eni_id(text)),
                    Field::DeviceNumber => put(&mut interface.device_number, text.parse().ok()),
                    Field::Ipv4s => put(&mut interface.ipv4s, lines(text, address)),
                    Field::Ipv6s => put(&mut interface.ipv6s, lines(text, address)),
                    Field::Ipv4Prefixes => put(&mut interface.ipv4_prefixes, lines(text, prefix)),
                    Field::Ipv6Prefixes => put(&mut interface.ipv6_prefixes, lines(text, prefix)),
                }
            }
            Self::VpcIpv4Blocks => put(&mut facts.vpc_ipv4_blocks, lines(text, prefix)),
            Self::VpcIpv6Blocks => put(&mut facts.vpc_ipv6_blocks, lines(text, prefix)),
            // What imitates the service may not have it.
            Self::ZoneId => text.is_empty() || put(&mut facts.zone_id, names::zone_id(text)),
        };
        if known { Ok(()) } else { Err(odd()) }
    }
}

/// Whether there is a value.
fn put<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    *place = value;
    place.is_some()
}

/// A list, one a line. One odd line makes all of it unknown, and so do more than there can be.
fn lines<T>(text: &str, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let values: Option<Vec<T>> = lines.take(MAX_LINES + 1).map(read).collect();
    values.filter(|values| values.len() <= MAX_LINES)
}

fn text(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body).ok().map(str::trim)
}

#[cfg(test)]
mod tests;
