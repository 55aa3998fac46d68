//! A receiver of OTLP over HTTP with scripted answers, and what it got, by the official definitions.
//!
//! In: a namespace, an address, what to answer. Out: requests with their answers. It ends when dropped.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lab::{Namespace, python};
use serde::Deserialize;
use serde_json::{Number, Value};

/// A request, and the status that it was answered with; 0 if it was not.
#[derive(Clone, Debug)]
pub struct Received {
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub status: u16,
}

impl Received {
    pub fn signal(&self) -> &str {
        self.path.rsplit('/').next().unwrap()
    }
}

/// What a client gets.
#[derive(Clone, Debug)]
pub enum Reply {
    /// This status, these headers, and this body.
    Whole(u16, &'static str, &'static [u8]),
    /// The same, after a while.
    Slow(u16),
    /// Nothing, for as long as the client waits.
    Silence,
    /// The end of the connection.
    End,
}

pub const FINE: Reply = Reply::Whole(200, "Content-Type: application/x-protobuf\r\n", b"");

pub struct Receiver {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    received: Arc<Mutex<Vec<Received>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Receiver {
    /// `answer` gets the signal of a request and how many of it came before.
    pub fn start(
        namespace: &Namespace,
        address: SocketAddr,
        answer: impl Fn(&str, usize) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, received) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (stopped, keep, answer) = (stop.clone(), received.clone(), Arc::new(answer));
        let thread = thread::spawn(move || {
            let mut threads = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let (stopped, keep, answer) = (stopped.clone(), keep.clone(), answer.clone());
                threads.push(thread::spawn(move || serve(stream, &stopped, &keep, &*answer)));
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
        Self { address, stop, received, thread: Some(thread) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// All requests so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(stream: TcpStream, stop: &AtomicBool, keep: &Mutex<Vec<Received>>, answer: &dyn Fn(&str, usize) -> Reply) {
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let mut to = stream.try_clone().unwrap();
    let mut from = BufReader::new(stream);
    while wait(&mut from, stop) {
        from.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let Some(mut request) = read(&mut from) else { return };
        from.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let before = keep.lock().unwrap().iter().filter(|other| other.path == request.path).count();
        let reply = answer(request.signal(), before);
        if let Reply::Whole(status, ..) | Reply::Slow(status) = reply {
            request.status = status;
        }
        keep.lock().unwrap().push(request);
        let (status, headers, body): (_, _, &[u8]) = match reply {
            Reply::Whole(status, headers, body) => (status, headers, body),
            Reply::Slow(status) => {
                thread::sleep(Duration::from_secs(1));
                (status, "", b"")
            }
            Reply::Silence => continue,
            Reply::End => return,
        };
        let head = format!("HTTP/1.1 {status} Whatever\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
        if to.write_all(head.as_bytes()).and_then(|()| to.write_all(body)).is_err() {
            return;
        }
    }
}

/// Whether there is more to read.
fn wait(from: &mut BufReader<TcpStream>, stop: &AtomicBool) -> bool {
    while !stop.load(Ordering::Relaxed) {
        match from.fill_buf() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            read => return read.is_ok_and(|bytes| !bytes.is_empty()),
        }
    }
    false
}

fn read(from: &mut BufReader<TcpStream>) -> Option<Received> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        from.read_line(&mut line).ok()?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let mut first = lines.first()?.split(' ');
    let (method, path) = (first.next()?, first.next()?);
    assert_eq!(method, "POST");
    let header = |line: &String| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    let headers: BTreeMap<String, String> = lines.iter().filter_map(header).collect();
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    from.read_exact(&mut body).ok()?;
    Some(Received { path: path.to_owned(), headers, body, status: 0 })
}

/// A request by the official definitions.
#[derive(Debug, Deserialize)]
pub struct Decoded {
    /// Which one it was.
    pub number: usize,
    pub resource: BTreeMap<String, Value>,
    pub scope: String,
    pub metrics: Vec<Metric>,
    pub records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
pub struct Metric {
    pub name: String,
    pub unit: String,
    pub description: String,
    pub kind: String,
    pub temporality: Option<String>,
    pub monotonic: Option<bool>,
    pub points: Vec<Point>,
}

#[derive(Debug, Deserialize)]
pub struct Point {
    pub attributes: BTreeMap<String, String>,
    pub start: u64,
    pub time: u64,
    pub value: Number,
}

#[derive(Debug, Deserialize)]
pub struct Record {
    pub time: u64,
    pub observed: u64,
    pub severity: u32,
    pub event: String,
    pub attributes: BTreeMap<String, Value>,
}

impl Record {
    pub fn text(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(|value| value.as_str().unwrap())
    }

    pub fn number(&self, key: &str) -> u64 {
        self.attributes[key].as_u64().unwrap()
    }
}

impl Decoded {
    /// The value of a series; its labels as `a=b,c=d`, in the order of their names.
    pub fn value(&self, metric: &str, labels: &str) -> u64 {
        let metric = self.metrics.iter().find(|one| one.name == metric).unwrap_or_else(|| panic!("no {metric}"));
        let is_meant = |point: &&Point| {
            point.attributes.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",") == labels
        };
        metric.points.iter().find(is_meant).unwrap_or_else(|| panic!("{labels}: {metric:?}")).value.as_u64().unwrap()
    }

    /// How many data points there are.
    pub fn points(&self) -> usize {
        self.metrics.iter().map(|metric| metric.points.len()).sum()
    }
}

/// Decodes requests, with their number among those given.
pub fn decode(requests: &[Received]) -> Vec<Decoded> {
    let folder = tempfile::tempdir().unwrap();
    for (number, request) in requests.iter().enumerate() {
        fs::write(folder.path().join(format!("{number}.{}", request.signal())), &request.body).unwrap();
    }
    let script = include_str!("decode.py");
    let output = python().unwrap().args(["-c", script]).arg(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let decoded: Vec<Decoded> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(decoded.len(), requests.len());
    decoded
}
