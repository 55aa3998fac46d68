//! A small HTTP server in a namespace, that answers as it is told to, also as no server should.
//!
//! In: a namespace, an address, what to answer. Out: a log of what was asked. It ends when dropped.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use lab::Namespace;

/// A request: its first line and its headers, names in lower case.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a client gets.
pub enum Reply {
    /// A whole answer; the connection stays open.
    Whole(u16, String),
    /// These bytes, then the end.
    Bytes(Vec<u8>),
    /// Nothing, for as long as the client waits.
    Silence,
    /// These bytes over and over, as fast as the client takes them.
    Endless(&'static [u8]),
    /// These bytes one by one, slowly, over and over.
    Drip(&'static [u8]),
}

impl Reply {
    pub fn ok(body: impl Into<String>) -> Self {
        Self::Whole(200, body.into())
    }
}

pub struct Server {
    stop: Arc<AtomicBool>,
    log: Arc<Mutex<Vec<Request>>>,
    accepting: Option<thread::JoinHandle<()>>,
}

impl Server {
    pub fn start(
        namespace: &Namespace,
        address: &str,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let listener = namespace.run(|| TcpListener::bind(address)).unwrap().unwrap();
        listener.set_nonblocking(true).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (stopped, logged, answer) = (stop.clone(), log.clone(), Arc::new(answer));
        let accepting = thread::spawn(move || {
            let mut threads = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                let (stopped, logged, answer) = (stopped.clone(), logged.clone(), answer.clone());
                threads.push(thread::spawn(move || serve(stream, &stopped, &logged, &*answer)));
            }
            for thread in threads {
                thread.join().unwrap();
            }
        });
        Self { stop, log, accepting: Some(accepting) }
    }

    /// Everything that was asked so far.
    pub fn log(&self) -> Vec<Request> {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut stream: TcpStream, stop: &AtomicBool, log: &Mutex<Vec<Request>>, answer: &dyn Fn(&Request) -> Reply) {
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    while let Some(request) = read(&mut stream, stop) {
        log.lock().unwrap().push(request.clone());
        match answer(&request) {
            Reply::Whole(status, body) => {
                let head = format!("HTTP/1.1 {status} Whatever\r\nContent-Length: {}\r\n\r\n", body.len());
                if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err() {
                    return;
                }
            }
            Reply::Bytes(bytes) => {
                let _ = stream.write_all(&bytes);
                return;
            }
            Reply::Silence => {}
            Reply::Endless(bytes) => {
                while !stop.load(Ordering::Relaxed) && !gone(stream.write(bytes)) {}
                return;
            }
            Reply::Drip(bytes) => {
                for byte in bytes.iter().cycle() {
                    thread::sleep(Duration::from_millis(20));
                    if stop.load(Ordering::Relaxed) || gone(stream.write(&[*byte])) {
                        return;
                    }
                }
            }
        }
    }
}

/// A client that reads too slowly is still there.
fn gone(written: std::io::Result<usize>) -> bool {
    written.is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
}

/// Reads up to the empty line; `None` at the end of the connection.
fn read(stream: &mut TcpStream, stop: &AtomicBool) -> Option<Request> {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && !stop.load(Ordering::Relaxed) => {}
            _ => return None,
        }
    }
    let text = String::from_utf8(head).unwrap();
    let mut lines = text.lines();
    let mut first = lines.next()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Some(Request { method, path, headers: lines.filter_map(header).collect() })
}
