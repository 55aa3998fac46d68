//! The names of a window, gathered from what the sources had at several moments.
//!
//! In: readings. Out: [`Names`]. Plain bookkeeping.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use super::sources::SOURCES;
use super::{PodName, SourceError, SourceReading};
use crate::model::{NameSource, NameSourceReport, NameSourceState};
use crate::snapshot::{Names, PodRecord, ServiceRecord};

/// When a reading was taken.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// When the window opened.
    Start,
    /// Within it.
    Between,
    /// When it closed.
    End,
}

/// The identity of a record. Veths are not part of it: they may be seen later than the rest.
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

/// The names of one moment.
#[must_use]
pub fn names(readings: Vec<(NameSource, SourceReading)>) -> Names {
    let mut gathered = Gathered::default();
    gathered.add(readings, Moment::Start);
    gathered.into_names()
}

/// What was read so far.
#[derive(Default)]
pub struct Gathered {
    records: BTreeMap<Key, Seen>,
    services: BTreeSet<ServiceRecord>,
    errors: HashMap<NameSource, SourceError>,
}

impl Gathered {
    /// Adds the readings of one moment.
    pub fn add(&mut self, readings: Vec<(NameSource, SourceReading)>, moment: Moment) {
        for (source, reading) in readings {
            if let Some(error) = reading.error {
                self.note(source, error);
            }
            self.services.extend(reading.facts.services);
            for pod in reading.facts.pods {
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

    /// The names, and how far each source can be trusted.
    pub fn into_names(mut self) -> Names {
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
            let why = format!("{nameless} pods with processes here have no name: no other source has their uid");
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

/// The report on a source.
pub fn report(source: NameSource, count: u64, error: Option<&SourceError>) -> NameSourceReport {
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
        (source, SourceReading::of_pods(vec![pod], None))
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
}
