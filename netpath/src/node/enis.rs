//! ENIs: which of EC2's interfaces each device is, what addresses it holds, and ipamd's metrics.
//!
//! In: devices with their altnames, the instance metadata service, and the VPC CNI's ipamd on its two ports of this node.
//! Out: [`Eni`]s, [`Ipam`], and a [`Source`] for each that was asked. Every source is optional, and all are asked at once, in
//! a thread of their own, within [`TIMEOUT`]. It must not fail, must not wait longer than that, and only reads.
//!
//! The questions to IMDS are packets on the ENI. So that none of them is in a window that is measured, a caller waits for
//! the answers before it opens the first window, and asks again when it has closed the last one. In between it asks only when
//! an ENI is added, and knows these packets by their connections.

pub mod allowances;
mod http;
pub mod imds;
pub mod ipamd;
pub mod join;
pub mod metrics;
mod names;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hyper::Method;
use tokio::time::timeout;

pub use self::allowances::allowances;
use self::http::{Connection, OwnConnections};
use self::imds::Endpoint;
use self::metrics::Values;
use super::devices::Link;
use super::source::{self, Pending};
use crate::model::{Allowances, DeviceClass, Eni, Ipam, Source, SourceName, SourceState};
use crate::snapshot::Tuple;

/// How long all questions together may take.
pub const TIMEOUT: Duration = Duration::from_millis(1500);
/// How old ipamd's answers get while windows follow each other, and those of IMDS, which packets on an ENI ask.
const ASK_AGAIN_AFTER: Duration = Duration::from_mins(1);
const ASK_IMDS_AGAIN_AFTER: Duration = Duration::from_hours(1);
/// ipamd is on this node.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// More than ipamd's answer for the largest instance with every address taken.
const ANSWER_BYTES: usize = 8 << 20;

/// Where ipamd serves its introspection, unless its `INTROSPECTION_BIND_ADDRESS` is set.
pub const INTROSPECTION: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 61679);
/// Where ipamd serves its metrics.
pub const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 61678);

/// The services to ask, and their addresses.
#[derive(Clone, Debug, Default)]
pub struct Endpoints {
    imds: Option<Endpoint>,
    introspection: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
}

impl Endpoints {
    /// No service.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// IMDS alone, if it was to be asked.
    #[must_use]
    pub fn imds_alone(self) -> Self {
        Self { imds: self.imds, ..Self::default() }
    }

    /// ipamd at these addresses, and IMDS at the address in the environment.
    #[must_use]
    pub fn new(introspection: SocketAddr, metrics: SocketAddr) -> Self {
        let imds = Endpoint::from_environment(|name| std::env::var(name).ok());
        Self { imds: Some(imds), introspection: Some(introspection), metrics: Some(metrics) }
    }
}

/// Why a source has nothing, or less than it should.
pub type Failure = source::SourceError<SourceState>;

type Reading<T> = source::Reading<T, SourceState>;

impl Failure {
    fn malformed(reason: impl Into<String>) -> Self {
        Self::new(SourceState::Malformed, reason)
    }

    fn absent(reason: impl Into<String>) -> Self {
        Self::new(SourceState::Absent, reason)
    }

    /// Adds what the failure is about.
    fn context(self, what: &str) -> Self {
        Self { reason: format!("{} ({what})", self.reason), ..self }
    }

    fn timed_out(hint: &str) -> Self {
        let reason = format!("it did not answer within {} ms{hint}", TIMEOUT.as_millis());
        Self { state: SourceState::TimedOut, reason }
    }
}

/// What the sources have. `None`: it was not asked.
#[derive(Clone, Debug, Default)]
struct Round {
    imds: Option<Reading<imds::Facts>>,
    introspection: Option<Reading<Vec<ipamd::Eni>>>,
    metrics: Option<Reading<Values>>,
}

/// Questions under way.
#[derive(Debug)]
pub struct PendingQuery {
    endpoints: Endpoints,
    round: Pending<Round>,
    own: OwnConnections,
}

/// The answers of all sources so far.
#[derive(Debug)]
pub struct Answers {
    endpoints: Endpoints,
    now: Round,
    /// ipamd's metrics when the window was opened; empty if they were not read then.
    first_metrics: Values,
    /// What is asked within a window.
    pending: Option<PendingQuery>,
    /// Hardware addresses of unknown ENIs that the last query within a window was about.
    asked_about: BTreeSet<String>,
    /// When ipamd was asked last, and IMDS.
    asked_at: Instant,
    asked_imds_at: Instant,
}

/// A device, and what its driver counted.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The device.
    pub link: &'a Link,
    /// ENA's counters of the window.
    pub allowances: Option<Allowances>,
}

/// What is known of ENIs.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// EC2's id of this instance.
    pub instance_id: Option<String>,
    /// Id of its availability zone.
    pub zone_id: Option<String>,
    /// CIDR blocks of its VPC; empty if they are not known.
    pub vpc_cidr_blocks: Vec<String>,
    /// ENIs and branch ENIs, those with a device first, in the order of the candidates.
    pub enis: Vec<Eni>,
    /// ipamd's metrics, if they could be read.
    pub ipam: Option<Ipam>,
    /// What was asked, and how that went.
    pub sources: Vec<Source>,
}

impl PendingQuery {
    /// Begins to ask, in the network namespace of the calling thread.
    #[must_use]
    pub fn start(endpoints: Endpoints) -> Self {
        let (to_ask, own) = (endpoints.clone(), OwnConnections::default());
        let (of_thread, late) = (own.clone(), Round::late(&endpoints));
        let otherwise = late.clone();
        // The thread has the same timeout; a little more lets it send its facts.
        let within = TIMEOUT + Duration::from_millis(200);
        let round = Pending::spawn("enis", within, late, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_or(otherwise, |runtime| runtime.block_on(ask(to_ask, &of_thread)))
        });
        Self { endpoints, round, own }
    }

    /// Waits for the answers, [`TIMEOUT`] after the start or a little later.
    #[must_use]
    pub fn wait(self) -> Answers {
        let now = self.round.wait();
        let first_metrics = now.metrics.as_ref().map(|reading| reading.facts.clone()).unwrap_or_default();
        Answers {
            endpoints: self.endpoints,
            now,
            first_metrics,
            pending: None,
            asked_about: BTreeSet::new(),
            asked_at: Instant::now(),
            asked_imds_at: Instant::now(),
        }
    }
}

impl Round {
    /// None of these has answered in time.
    fn late(endpoints: &Endpoints) -> Self {
        Self {
            imds: endpoints.imds.as_ref().map(|_| Failure::timed_out("").into()),
            introspection: endpoints.introspection.map(|_| Failure::timed_out("").into()),
            metrics: endpoints.metrics.map(|_| Failure::timed_out("").into()),
        }
    }
}

/// Asks all of them at once.
async fn ask(endpoints: Endpoints, own: &OwnConnections) -> Round {
    let imds = async {
        let endpoint = endpoints.imds?;
        let mut facts = imds::Facts::default();
        let outcome = timeout(TIMEOUT, imds::read(&endpoint, &mut facts, own)).await.unwrap_or_else(|_| {
            Err(Failure::timed_out("; in a container, the instance's metadata hop limit may be too low for it"))
        });
        Some(Reading { facts, error: outcome.err() })
    };
    let introspection = async {
        let body = within(get(endpoints.introspection?, "/v1/enis", own)).await;
        Some(match body.and_then(|body| ipamd::parse(&body)) {
            Ok((facts, outcome)) => Reading { facts, error: outcome.err() },
            Err(failure) => failure.into(),
        })
    };
    let metrics = async {
        let body = within(get(endpoints.metrics?, "/metrics", own)).await;
        Some(body.and_then(|body| metrics::parse(&body)).into())
    };
    let (imds, introspection, metrics) = tokio::join!(imds, introspection, metrics);
    Round { imds, introspection, metrics }
}

async fn within<T>(asked: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(TIMEOUT, asked).await.unwrap_or_else(|_| Err(Failure::timed_out("")))
}

async fn get(address: SocketAddr, path: &str, own: &OwnConnections) -> Result<bytes::Bytes, Failure> {
    let mut connection = Connection::open(address, CONNECT_TIMEOUT, own.clone()).await.map_err(|error| {
        error.failure(&format!("nothing listens at {address}: the VPC CNI is not here, or does not serve it"))
    })?;
    connection.ask(Method::GET, path, &[], ANSWER_BYTES).await?.ok()
}

impl Answers {
    /// The hardware addresses of this instance's ENIs, as far as IMDS has answered.
    #[must_use]
    pub fn macs(&self) -> Vec<String> {
        let interfaces = self.now.imds.iter().flat_map(|reading| &reading.facts.interfaces);
        interfaces.map(|interface| interface.mac.clone()).collect()
    }

    /// Asks again after the last window: ipamd, and IMDS if there is an ENI that is not in its answer. The earlier answer of a
    /// source stands if it does not answer now.
    pub fn refresh(&mut self, candidates: &[Candidate<'_>]) {
        let endpoints = Endpoints {
            imds: self.endpoints.imds.clone().filter(|_| !self.unknown_enis(candidates).is_empty()),
            ..self.endpoints.clone()
        };
        let Some(query) = self.query(endpoints) else { return };
        self.update(query.round.wait());
    }

    /// Begins the next window. If an ENI is not in the answer of IMDS, asks IMDS and ipamd about ENIs while the next windows are
    /// open, once for each such ENI; besides ipamd each minute, since pods come and go, and IMDS each hour, since addresses do. Does not wait. How ipamd's metrics
    /// grew in these windows is not known.
    pub fn roll(&mut self, candidates: &[Candidate<'_>]) {
        self.first_metrics = Values::new();
        if let Some(query) = &self.pending {
            let Some(round) = query.round.poll() else { return };
            self.pending = None;
            self.update(round.unwrap_or_default());
        }
        let unknown = self.unknown_enis(candidates);
        if !unknown.is_subset(&self.asked_about) {
            self.asked_about = unknown;
            self.pending = self.query(self.endpoints.clone());
        } else if self.asked_at.elapsed() >= ASK_AGAIN_AFTER {
            let imds = self.endpoints.imds.clone().filter(|_| self.asked_imds_at.elapsed() >= ASK_IMDS_AGAIN_AFTER);
            self.pending = self.query(Endpoints { imds, ..self.endpoints.clone() });
        }
    }

    /// The connections by which netpath asks within a window, as it sends.
    #[must_use]
    pub fn own_connections(&self) -> Vec<Tuple> {
        self.pending.as_ref().map(|query| query.own.tuples()).unwrap_or_default()
    }

    /// The hardware addresses of ENIs that are not in the answer of IMDS.
    fn unknown_enis(&self, candidates: &[Candidate<'_>]) -> BTreeSet<String> {
        let known = self.now.imds.as_ref().map_or(&[][..], |reading| &reading.facts.interfaces);
        let enis = candidates.iter().filter(|candidate| candidate.link.class == DeviceClass::Eni);
        let macs = enis.filter_map(|candidate| candidate.link.mac.clone());
        macs.filter(|mac| known.iter().all(|interface| interface.mac != *mac)).collect()
    }

    /// Asks those of `endpoints` that have answered before; `None` if there are none.
    fn query(&mut self, endpoints: Endpoints) -> Option<PendingQuery> {
        self.asked_at = Instant::now();
        if endpoints.imds.is_some() {
            self.asked_imds_at = self.asked_at;
        }
        let endpoints = Endpoints {
            imds: endpoints.imds.filter(|_| answered(self.now.imds.as_ref())),
            introspection: endpoints.introspection.filter(|_| answered(self.now.introspection.as_ref())),
            metrics: endpoints.metrics.filter(|_| answered(self.now.metrics.as_ref())),
        };
        let none = endpoints.imds.is_none() && endpoints.introspection.is_none() && endpoints.metrics.is_none();
        (!none).then(|| PendingQuery::start(endpoints))
    }

    /// Replaces the answers of sources that have answered again.
    fn update(&mut self, later: Round) {
        self.now.imds = later.imds.filter(|reading| reading.error.is_none()).or(self.now.imds.take());
        self.now.introspection =
            later.introspection.filter(|reading| reading.error.is_none()).or(self.now.introspection.take());
        match later.metrics.filter(|reading| reading.error.is_none()) {
            Some(later) => self.now.metrics = Some(later),
            // Nothing is known of the window.
            None => self.first_metrics = Values::new(),
        }
    }

    /// Joins the answers. In: the devices that are ENIs or may be branch ENIs, among any others.
    #[must_use]
    pub fn resolve(&self, candidates: &[Candidate<'_>]) -> Known {
        let imds = self.now.imds.as_ref().map(|reading| &reading.facts);
        let ipamd = self.now.introspection.as_ref().map_or(&[][..], |reading| &reading.facts);
        let enis = join::join(candidates, imds, ipamd);
        let named = candidates.iter().any(|candidate| join::altnames(candidate.link).any());
        let altnames = (!named)
            .then(|| Failure::absent("no device has an ENI's id for a name: amazon-ec2-net-utils did not set any"));
        let not_asked = Failure::absent("not asked: --offline");
        let sources = [
            (SourceName::Altnames, Some(altnames.as_ref())),
            (SourceName::Imds, self.now.imds.as_ref().map(|reading| reading.error.as_ref())),
            (SourceName::IpamdEnis, self.now.introspection.as_ref().map(|reading| reading.error.as_ref())),
            (SourceName::IpamdMetrics, self.now.metrics.as_ref().map(|reading| reading.error.as_ref())),
        ];
        let metrics = self.now.metrics.as_ref().filter(|reading| reading.error.is_none());
        Known {
            instance_id: imds.and_then(|facts| facts.instance_id.clone()),
            zone_id: imds.and_then(|facts| facts.zone_id.clone()),
            vpc_cidr_blocks: imds.map(imds::Facts::vpc_cidr_blocks).unwrap_or_default(),
            enis,
            ipam: metrics.map(|reading| metrics::ipam(&self.first_metrics, &reading.facts)),
            sources: sources.map(|(name, error)| source(name, error.unwrap_or(Some(&not_asked)))).into(),
        }
    }
}

fn answered<T>(reading: Option<&Reading<T>>) -> bool {
    reading.is_some_and(|reading| reading.error.is_none())
}

fn source(name: SourceName, error: Option<&Failure>) -> Source {
    match error {
        Some(error) => log::debug!("{name} was asked, but {}", error.reason),
        None => log::debug!("{name} answered"),
    }
    let state = error.map_or(SourceState::Ok, |error| error.state);
    Source { name, state, reason: error.map(|error| error.reason.clone()) }
}
