//! The sources of names, and one reading of all of them.
//!
//! In: a [`HostRoot`]. Out: what each source has. Each is read on a thread of its own: one that does not answer
//! delays a reading by [`TIMEOUT`] at most, and is not asked again until it has.

use std::sync::Arc;
use std::time::Duration;

use super::cri::Runtimes;
use super::root::HostRoot;
use super::{SourceError, SourceReading, ipam, logs, processes, services};
use crate::model::{NameSource, NameSourceState};
use crate::node::source::{Pending, Unanswered};

/// How long one reading of all sources may take.
pub const TIMEOUT: Duration = Duration::from_secs(2);

/// All sources, in order of precedence.
pub const SOURCES: [NameSource; 5] =
    [NameSource::VpcCni, NameSource::Cri, NameSource::Processes, NameSource::PodLogs, NameSource::KubeProxy];

type Read = dyn Fn(&HostRoot) -> SourceReading + Send + Sync;

/// The sources: how to read each, and the late answer of one that did not answer in time.
pub struct Sources {
    root: Arc<HostRoot>,
    all: Vec<(NameSource, Arc<Read>, Option<Pending<SourceReading>>)>,
}

impl Sources {
    pub fn new(root: HostRoot) -> Self {
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

    /// Asks all sources at once, and waits for [`TIMEOUT`] at most.
    pub fn read(&mut self) -> Vec<(NameSource, SourceReading)> {
        let asked: Vec<_> = self
            .all
            .iter_mut()
            .map(|(_, read, stuck)| {
                // A late answer is too old to be used.
                stuck.take_if(|stuck| stuck.poll().is_some());
                let (read, root) = (Arc::clone(read), Arc::clone(&self.root));
                stuck.is_none().then(|| Pending::spawn("name source", TIMEOUT, slow(), move || read(&root)))
            })
            .collect();
        let answer = |((source, _, stuck), asked): (&mut (_, _, Option<_>), Option<Pending<SourceReading>>)| {
            let reading = match asked.as_ref().map(Pending::result) {
                Some(Ok(reading)) => reading,
                Some(Err(Unanswered::Died)) => {
                    SourceError::new(NameSourceState::Unreadable, "netpath failed to read it").into()
                }
                Some(Err(Unanswered::TimedOut)) => {
                    *stuck = asked;
                    slow()
                }
                None => slow(),
            };
            (*source, reading)
        };
        self.all.iter_mut().zip(asked).map(answer).collect()
    }
}

/// What stands for a source that does not answer.
fn slow() -> SourceReading {
    let why = format!("it could not be read within {} s", TIMEOUT.as_secs());
    SourceError::new(NameSourceState::Slow, why).into()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::sync::mpsc;

    use super::*;
    use crate::node::pods::{PodName, PodReading};

    fn pod(name: &str) -> PodReading {
        PodReading {
            name: PodName::new("default", name),
            addresses: vec![IpAddr::from([10, 0, 0, 21])],
            ..PodReading::default()
        }
    }

    /// A source that hangs is left behind, and its late answer is dropped.
    #[test]
    fn a_stuck_source() {
        let root = HostRoot::find(Some(std::path::Path::new("/"))).expect("/ is there");
        let (wake, asleep) = mpsc::channel::<()>();
        let asleep = std::sync::Mutex::new(asleep);
        let stuck = move |_: &HostRoot| {
            let woken = asleep.lock().expect("not poisoned").recv();
            if woken.is_ok() { SourceReading::pods(vec![pod("late")], 0) } else { SourceReading::default() }
        };
        let mut sources = Sources {
            root: Arc::new(root),
            all: vec![
                (NameSource::VpcCni, Arc::new(stuck) as Arc<Read>, None),
                (NameSource::Cri, Arc::new(|_: &HostRoot| SourceReading::pods(vec![pod("web-0")], 0)), None),
            ],
        };
        for _ in 0..2 {
            let readings = sources.read();
            let error = readings[0].1.error.as_ref().expect("no answer");
            assert_eq!(error.state, NameSourceState::Slow);
            assert_eq!(readings[1].1.facts.pods.len(), 1, "the others answer");
        }
        wake.send(()).expect("it still waits");
        drop(wake);
        // Its late answer is dropped; after that it is asked again.
        let mut next = (0..100).map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            sources.read().swap_remove(0).1
        });
        let reading = next.find(|reading| reading.error.is_none()).expect("it answers again");
        assert!(reading.facts.pods.is_empty());
    }
}
