//! Where events go: stdout, for a log collector, or the `CloudWatch` agent over TCP.
//!
//! In: events of each window. Out: lines. Others may take them slowly, or not at all: what does not fit into a short queue is given up,
//! and counted.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use crate::serve::metric::Metric;
use crate::serve::state::State;

/// Windows that may wait.
const QUEUE: usize = 8;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// `stdout`, or `tcp:127.0.0.1:25888`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// The `CloudWatch` agent.
    Tcp(SocketAddr),
}

impl FromStr for Target {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORMS: &str = "write it like stdout or tcp:127.0.0.1:25888; names of hosts are not resolved";
        if text == "stdout" {
            return Ok(Self::Stdout);
        }
        let address = text.strip_prefix("tcp:").ok_or(FORMS)?;
        let address = address.strip_prefix("//").unwrap_or(address);
        if let Some(port) = address.strip_prefix("localhost:").and_then(|port| port.parse().ok()) {
            return Ok(Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        address.parse().map(Self::Tcp).map_err(|_| FORMS)
    }
}

/// Events that wait to be written. Never blocks.
#[derive(Debug)]
pub struct Queue {
    windows: SyncSender<Vec<String>>,
    state: Arc<State>,
}

/// Writes events as they come, which may block.
#[derive(Debug)]
pub struct Sink {
    windows: Receiver<Vec<String>>,
    state: Arc<State>,
    target: Target,
    stream: Option<TcpStream>,
    fails: bool,
    /// The other side has closed a connection.
    closes: bool,
}

/// Both ends of a queue to this target.
#[must_use]
pub fn open(target: Target, state: &Arc<State>) -> (Queue, Sink) {
    let (sender, windows) = sync_channel(QUEUE);
    for metric in [Metric::EmfEvents, Metric::EmfEventsDropped] {
        state.count(metric, &[], 0);
    }
    let sink = Sink { windows, state: Arc::clone(state), target, stream: None, fails: false, closes: false };
    (Queue { windows: sender, state: Arc::clone(state) }, sink)
}

impl Queue {
    /// Adds the events of a window. If there is no room, they are given up.
    pub fn push(&self, events: Vec<String>) {
        let count = events.len() as u64;
        if self.windows.try_send(events).is_err() {
            self.state.count(Metric::EmfEventsDropped, &[], count);
        }
    }
}

impl Sink {
    /// Writes until nobody adds events any more.
    pub fn run(mut self) {
        while let Ok(events) = self.windows.recv() {
            let (written, error) = self.write(&events);
            self.state.count(Metric::EmfEvents, &[], written as u64);
            self.state.count(Metric::EmfEventsDropped, &[], (events.len() - written) as u64);
            // Once, until it works again.
            if let Some(error) = error.filter(|_| !self.fails) {
                log::warn!("EMF events cannot be written and are given up: {error}; check --emf");
                self.fails = true;
            } else if self.fails && written == events.len() {
                log::warn!("EMF events are written again");
                self.fails = false;
            }
        }
    }

    /// How many of the events were written, and why not all.
    fn write(&mut self, events: &[String]) -> (usize, Option<io::Error>) {
        let mut written = 0;
        let mut outcome = self.write_from(events, &mut written);
        if outcome.is_err() && self.target != Target::Stdout {
            // An agent that was started anew has closed the connection, which may show only now.
            outcome = self.write_from(events, &mut written);
        }
        (written, outcome.err())
    }

    /// Writes the events after the first `written`, and counts on.
    fn write_from(&mut self, events: &[String], written: &mut usize) -> io::Result<()> {
        while let Some(event) = events.get(*written) {
            if let Err(error) = self.write_one(event) {
                self.stream = None;
                return Err(error);
            }
            *written += 1;
        }
        Ok(())
    }

    fn write_one(&mut self, event: &str) -> io::Result<()> {
        let line = format!("{event}\n");
        match self.target {
            Target::Stdout => {
                let mut stdout = io::stdout().lock();
                stdout.write_all(line.as_bytes())?;
                stdout.flush()
            }
            Target::Tcp(address) => {
                let open = self.stream.take();
                let was_closed = open.as_ref().is_some_and(is_closed);
                if was_closed && !self.closes {
                    log::warn!(
                        "EMF: the agent at {address} closes its connections; what it has taken by then is not known; look after it"
                    );
                    self.closes = true;
                }
                let open = open.filter(|_| !was_closed);
                let stream = self.stream.insert(open.map_or_else(|| connect(address), Ok)?);
                stream.write_all(line.as_bytes())
            }
        }
    }
}

fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
    Ok(stream)
}

/// Whether the other side has closed the connection: what is written then would be lost without an error.
fn is_closed(stream: &TcpStream) -> bool {
    let peeked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0]));
    let _ = stream.set_nonblocking(false);
    match peeked {
        Ok(read) => read == 0,
        Err(error) => error.kind() != io::ErrorKind::WouldBlock,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets() {
        let tcp = |text: &str| Ok(Target::Tcp(text.parse().expect(text)));
        assert_eq!("stdout".parse(), Ok(Target::Stdout));
        assert_eq!("tcp:127.0.0.1:25888".parse(), tcp("127.0.0.1:25888"));
        assert_eq!("tcp://localhost:25888".parse(), tcp("127.0.0.1:25888"));
        assert_eq!("tcp:[::1]:5".parse(), tcp("[::1]:5"));
        for text in ["", "udp:1.2.3.4:5", "tcp:agent:25888", "tcp:1.2.3.4", "/dev/stdout"] {
            assert!(text.parse::<Target>().is_err(), "{text}");
        }
    }

    /// Nothing takes them: what does not fit is counted, and nobody waits.
    #[test]
    fn what_does_not_fit_is_given_up() {
        let state = Arc::new(State::new(Duration::from_secs(1), 10));
        let (queue, sink) = open(Target::Stdout, &state);
        for _ in 0..QUEUE + 3 {
            queue.push(vec!["{}".to_owned(); 5]);
        }
        let windows = state.windows();
        let dropped = windows.series.iter().find(|(metric, _)| *metric == Metric::EmfEventsDropped);
        assert_eq!(dropped.and_then(|(_, mut samples)| samples.next()).map(|(_, value)| value), Some(15));
        drop(sink);
    }
}
