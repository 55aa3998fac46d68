//! Reads the sources of names at the boundaries of windows and when pods come or go, and gathers the records of each window.
//!
//! In: a [`HostRoot`]; notice of veths that appear or disappear. Out: [`Names`]. It works on threads of its own, one for each source at
//! most: a source that does not answer is left behind, is not asked again, and keeps nobody waiting.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::{Duration, Instant};

use super::cri::Runtimes;
use super::root::HostRoot;
use super::{PodName, SourceError, SourceReading, ipam, logs, processes, services};
use crate::model::{NameSource, NameSourceReport, NameSourceState};
use crate::node::pace::Pace;
use crate::snapshot::{Names, PodRecord, ServiceRecord};

/// How long one reading of all sources may take.
pub const LIMIT: Duration = Duration::from_secs(2);
/// When to look after a veth has come: a pod's address and name are recorded a little later. Veths that come meanwhile share
/// the look.
const LOOKS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];

/// Follows names, over one window or several.
#[derive(Debug)]
pub struct Follower {
    orders: Sender<Order>,
}

#[derive(Debug)]
enum Order {
    /// A veth appeared or disappeared.
    Look,
    /// A window has ended.
    Cut {
        /// It was the last one: read everything again before.
        last: bool,
        /// Where the window's names go.
        reply: Sender<Names>,
    },
}

impl Follower {
    /// Begins with the first reading, in the network namespace of the calling thread, and does not wait for it.
    #[must_use]
    pub fn start(root: HostRoot) -> Self {
        let (orders, receiver) = mpsc::channel();
        // Without a thread there are no names, and `cut` says so.
        let _ = std::thread::Builder::new().name("names".into()).spawn(move || follow(Sources::new(root), &receiver));
        Self { orders }
    }

    /// Notes that a veth appeared or disappeared. Does not wait.
    pub fn veths_changed(&self) {
        let _ = self.orders.send(Order::Look);
    }

    /// Ends a window and begins the next, with the reading that closes this one, and does not wait for it. Sources are not
    /// read again if no veth came or went and the last reading is recent in proportion to what it cost; `last` forbids that.
    #[must_use]
    pub fn cut(&self, last: bool) -> LastReading {
        let (reply, names) = mpsc::channel();
        // Without a thread the sender is dropped, and so no names come.
        let _ = self.orders.send(Order::Cut { last, reply });
        LastReading { names, end: Instant::now() + LIMIT * 2 + Duration::from_secs(1) }
    }
}

/// The last reading of a window, under way.
#[derive(Debug)]
pub struct LastReading {
    names: Receiver<Names>,
    end: Instant,
}

impl LastReading {
    /// Waits for the names of the whole window, since the reading began for two times [`LIMIT`] at most: for one that was under
    /// way then, and this one.
    #[must_use]
    pub fn wait(self) -> Names {
        self.names.recv_timeout(self.end.saturating_duration_since(Instant::now())).unwrap_or_else(|_| {
            let reason = "netpath could not read it (no thread, or none that answers)";
            let failed = |source| report(source, 0, Some(&SourceError::new(NameSourceState::Slow, reason)));
            Names { sources: SOURCES.into_iter().map(failed).collect(), ..Names::default() }
        })
    }
}

/// In order of precedence.
const SOURCES: [NameSource; 5] =
    [NameSource::VpcCni, NameSource::Cri, NameSource::Processes, NameSource::PodLogs, NameSource::KubeProxy];

fn follow(mut sources: Sources, orders: &Receiver<Order>) {
    let mut pace = Pace::default();
    let mut gathered = Gathered::default();
    let mut latest = pace.read(|| sources.read());
    gathered.add(latest.clone(), Moment::Start);
    let mut due: Vec<Instant> = Vec::new();
    loop {
        let next = due.first().copied();
        let wait = next.map_or(Duration::MAX, |next| next.saturating_duration_since(Instant::now()));
        match orders.recv_timeout(wait) {
            Ok(Order::Look) => {
                pace.hurry();
                // One that is due later will see it as well.
                if due.len() < LOOKS.len() {
                    let now = Instant::now();
                    due = LOOKS.map(|after| now + after).to_vec();
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                due.retain(|due| Some(*due) != next);
                latest = pace.read(|| sources.read());
                gathered.add(latest.clone(), Moment::Between);
            }
            Ok(Order::Cut { last, reply }) => {
                if last || pace.is_due(Instant::now()) {
                    latest = pace.read(|| sources.read());
                }
                gathered.add(latest.clone(), Moment::End);
                // If the session was given up, nobody waits for the names.
                let _ = reply.send(std::mem::take(&mut gathered).into_names());
                gathered.add(latest.clone(), Moment::Start);
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

type Read = dyn Fn(&HostRoot) -> SourceReading + Send + Sync;

/// The sources: how to read each, and where the answer will come of one that did not answer in time.
struct Sources {
    root: Arc<HostRoot>,
    all: Vec<(NameSource, Arc<Read>, Option<Receiver<SourceReading>>)>,
}

impl Sources {
    fn new(root: HostRoot) -> Self {
        let runtimes = Runtimes::default();
        let reads: [Arc<Read>; SOURCES.len()] = [
            Arc::new(ipam::read),
            Arc::new(move |root: &HostRoot| runtimes.read(root)),
            Arc::new(processes::read),
            Arc::new(logs::read),
            Arc::new(services::read),
        ];
        let all = SOURCES.into_iter().zip(reads).map(|(source, read)| (source, read, None)).collect();
        Self { root: Arc::new(root), all }
    }

    /// Asks all sources at once, and waits for [`LIMIT`] at most.
    fn read(&mut self) -> Vec<(NameSource, SourceReading)> {
        let end = Instant::now() + LIMIT;
        let slow = || {
            let why = format!("it could not be read within {} s", LIMIT.as_secs());
            SourceReading::nothing(SourceError::new(NameSourceState::Slow, why))
        };
        let asked: Vec<_> = self
            .all
            .iter_mut()
            .map(|(source, read, stuck)| {
                // What it says when it wakes up is too old.
                stuck.take_if(|stuck| !matches!(stuck.try_recv(), Err(TryRecvError::Empty)));
                if stuck.is_some() {
                    return (*source, None);
                }
                let (sender, receiver) = mpsc::channel();
                let (read, root) = (Arc::clone(read), Arc::clone(&self.root));
                // After the deadline nobody listens. Without a thread the sender is dropped, and the source has failed.
                let work = move || drop(sender.send(read(&root)));
                let _ = std::thread::Builder::new().name("name source".into()).spawn(work);
                (*source, Some(receiver))
            })
            .collect();
        let mut heard = Vec::with_capacity(asked.len());
        for ((source, receiver), (.., stuck)) in asked.into_iter().zip(&mut self.all) {
            let reading = match receiver {
                None => slow(),
                Some(receiver) => match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
                    Ok(reading) => reading,
                    Err(RecvTimeoutError::Timeout) => {
                        *stuck = Some(receiver);
                        slow()
                    }
                    Err(RecvTimeoutError::Disconnected) => SourceReading::nothing(SourceError::new(
                        NameSourceState::Unreadable,
                        "netpath failed to read it",
                    )),
                },
            };
            heard.push((source, reading));
        }
        heard
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Start,
    Between,
    End,
}

/// What tells one record from another. The veths are not in it: they may be seen later than the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    source: NameSource,
    name: Option<PodName>,
    uid: Option<String>,
    sandbox: Option<String>,
    addresses: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    veths: BTreeSet<u32>,
    at_start: bool,
    at_end: bool,
}

/// The names in what the sources said at one moment.
#[must_use]
pub fn names(heard: Vec<(NameSource, SourceReading)>) -> Names {
    let mut gathered = Gathered::default();
    gathered.add(heard, Moment::Start);
    gathered.into_names()
}

/// All that was said so far.
#[derive(Default)]
struct Gathered {
    records: BTreeMap<Key, Seen>,
    services: BTreeSet<ServiceRecord>,
    errors: HashMap<NameSource, SourceError>,
}

impl Gathered {
    fn add(&mut self, heard: Vec<(NameSource, SourceReading)>, moment: Moment) {
        for (source, reading) in heard {
            if let Some(error) = reading.error {
                self.note(source, error);
            }
            self.services.extend(reading.services);
            for pod in reading.pods {
                let addresses = pod.addresses.into_iter().collect();
                let key = Key { source, name: pod.name, uid: pod.uid, sandbox: pod.sandbox, addresses };
                let seen = self.records.entry(key).or_default();
                seen.veths.extend(pod.veths);
                seen.at_start |= moment == Moment::Start;
                seen.at_end |= moment == Moment::End;
            }
        }
    }

    /// Keeps the worst.
    fn note(&mut self, source: NameSource, error: SourceError) {
        let known = self.errors.entry(source).or_insert_with(|| error.clone());
        if error.state > known.state {
            *known = error;
        }
    }

    fn into_names(mut self) -> Names {
        let mut by_uid: HashMap<&str, Option<&PodName>> = HashMap::new();
        for key in self.records.keys() {
            if let (Some(name), Some(uid)) = (&key.name, &key.uid) {
                let known = by_uid.entry(uid).or_insert(Some(name));
                if *known != Some(name) {
                    *known = None;
                }
            }
        }
        let mut nameless = 0;
        let mut named: HashMap<NameSource, BTreeSet<PodName>> = HashMap::new();
        let mut pods = Vec::with_capacity(self.records.len());
        for (key, seen) in &self.records {
            let name = key.name.as_ref().or_else(|| by_uid.get(key.uid.as_deref()?).copied().flatten());
            let Some(name) = name else {
                nameless += 1;
                continue;
            };
            named.entry(key.source).or_default().insert(name.clone());
            pods.push(PodRecord {
                source: key.source,
                namespace: name.namespace.clone(),
                name: name.name.clone(),
                uid: key.uid.clone(),
                addresses: key.addresses.iter().copied().collect(),
                veths: seen.veths.iter().copied().collect(),
                at_start: seen.at_start,
                at_end: seen.at_end,
            });
        }
        if nameless > 0 {
            let why = format!("{nameless} pods have processes here and a name nowhere: no other source has their uid");
            self.note(NameSource::Processes, SourceError::new(NameSourceState::Incomplete, why));
        }
        let services = self.services.len() as u64;
        let count = |source| match source {
            NameSource::KubeProxy => services,
            source => named.get(&source).map_or(0, BTreeSet::len) as u64,
        };
        let sources = SOURCES.map(|source| report(source, count(source), self.errors.get(&source))).to_vec();
        Names { sources, pods, services: self.services.into_iter().collect() }
    }
}

fn report(source: NameSource, count: u64, error: Option<&SourceError>) -> NameSourceReport {
    NameSourceReport {
        source,
        state: error.map_or(NameSourceState::Ok, |error| error.state),
        count,
        reason: error.map(|error| error.reason.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::pods::PodReading;

    fn reading(source: NameSource, pod: PodReading) -> (NameSource, SourceReading) {
        (source, SourceReading { pods: vec![pod], ..SourceReading::default() })
    }

    fn pod(name: &str, sandbox: &str) -> PodReading {
        PodReading {
            name: PodName::new("default", name),
            sandbox: Some(sandbox.to_owned()),
            addresses: vec![IpAddr::from([10, 0, 0, 21])],
            ..PodReading::default()
        }
    }

    /// A pod that was replaced by one of its own name, and had its address before and after, is two: another may have had
    /// the address in between.
    #[test]
    fn a_pod_in_another_sandbox_is_another() {
        let mut gathered = Gathered::default();
        for (moment, sandbox) in [(Moment::Start, "1"), (Moment::Between, "1"), (Moment::End, "1")] {
            gathered.add(vec![reading(NameSource::VpcCni, pod("web-0", sandbox))], moment);
        }
        gathered.add(vec![reading(NameSource::Cri, pod("web-0", "1"))], Moment::Start);
        gathered.add(vec![reading(NameSource::Cri, pod("web-0", "2"))], Moment::End);
        let names = gathered.into_names();
        let moments: Vec<_> = names.pods.iter().map(|pod| (pod.source, pod.at_start, pod.at_end)).collect();
        assert_eq!(
            moments,
            [(NameSource::VpcCni, true, true), (NameSource::Cri, true, false), (NameSource::Cri, false, true)]
        );
        assert_eq!(names.sources.iter().map(|source| source.count).collect::<Vec<_>>(), [1, 1, 0, 0, 0]);
    }

    /// A process has a pod's uid; the name to it comes from another source, at whatever time.
    #[test]
    fn names_by_uid() {
        let uid = Some("0123456789abcdef0123456789abcdef".to_owned());
        let process = || PodReading { uid: uid.clone(), veths: vec![7], ..PodReading::default() };
        let folder =
            || PodReading { name: PodName::new("default", "web-0"), uid: uid.clone(), ..PodReading::default() };
        let mut gathered = Gathered::default();
        gathered.add(vec![reading(NameSource::Processes, process())], Moment::Start);
        gathered.add(vec![reading(NameSource::PodLogs, folder())], Moment::End);
        let names = gathered.into_names();
        let found = names.pods.iter().find(|pod| pod.source == NameSource::Processes).expect("named");
        assert_eq!((found.name.as_str(), found.veths.as_slice()), ("web-0", &[7][..]));

        // Two names for one uid are none.
        let other = PodReading { name: PodName::new("default", "web-1"), ..folder() };
        let names = super::names(vec![
            reading(NameSource::Processes, process()),
            reading(NameSource::PodLogs, folder()),
            reading(NameSource::Cri, other),
        ]);
        assert!(names.pods.iter().all(|pod| pod.source != NameSource::Processes));
        assert_eq!(names.sources[2].state, NameSourceState::Incomplete);
    }

    /// A source that is stuck is left behind, and what it says later is not taken for news.
    #[test]
    fn a_stuck_source() {
        let root = HostRoot::find(Some(std::path::Path::new("/"))).expect("/ is there");
        let (wake, asleep) = mpsc::channel::<()>();
        let asleep = std::sync::Mutex::new(asleep);
        let stuck = move |_: &HostRoot| {
            let woken = asleep.lock().expect("not poisoned").recv();
            if woken.is_ok() { SourceReading::pods(vec![pod("late", "1")], 0) } else { SourceReading::default() }
        };
        let mut sources = Sources {
            root: Arc::new(root),
            all: vec![
                (NameSource::VpcCni, Arc::new(stuck) as Arc<Read>, None),
                (NameSource::Cri, Arc::new(|_: &HostRoot| SourceReading::pods(vec![pod("web-0", "1")], 0)), None),
            ],
        };
        for _ in 0..2 {
            let heard = sources.read();
            let error = heard[0].1.error.as_ref().expect("no answer");
            assert_eq!(error.state, NameSourceState::Slow);
            assert_eq!(heard[1].1.pods.len(), 1, "the others answer");
        }
        wake.send(()).expect("it still waits");
        drop(wake);
        // Its late answer is thrown away; from the next one on it is asked anew.
        let mut next = (0..100).map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            sources.read().swap_remove(0).1
        });
        let reading = next.find(|reading| reading.error.is_none()).expect("it answers again");
        assert!(reading.pods.is_empty());
    }
}
