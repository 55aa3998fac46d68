//! TCP: a server that sends, swallows or echoes; transfers of an exact size; many short connections.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle, ScopedJoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::SockRef;

use super::LIMIT;
use crate::namespace::Namespace;

/// How often a server looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(20);

/// What a server does with each connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serve {
    /// Sends this many bytes and closes.
    Send(u64),
    /// Reads until the client closes.
    Receive,
    /// Sends back what it reads, until the client closes.
    Echo,
}

/// A TCP server on threads of its own. Dropping it stops it.
#[derive(Debug)]
pub struct TcpServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Vec<Served>>>>,
}

/// One connection, as the server saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// The client's address, after translation on the way.
    pub peer: SocketAddr,
    /// Payload bytes from the client.
    pub received_bytes: u64,
    /// Payload bytes to the client.
    pub sent_bytes: u64,
}

/// One connection, as the client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// The client's own address, before translation on the way.
    pub local: SocketAddr,
    /// Payload bytes to the server.
    pub sent_bytes: u64,
    /// Payload bytes from the server.
    pub received_bytes: u64,
}

/// What became of many short connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShortConnections {
    /// Local address of each connection that was answered in full; an address may recur.
    pub completed: Vec<SocketAddr>,
    /// How many connections failed.
    pub failed: usize,
}

impl TcpServer {
    /// Listens on an address of the namespace; port 0 lets the kernel choose.
    ///
    /// # Errors
    /// When the address is not the namespace's, or in use.
    pub fn start(namespace: &Namespace, address: SocketAddr, serve: Serve) -> Result<Self> {
        let listener = namespace
            .run(|| TcpListener::bind(address))?
            .with_context(|| format!("cannot listen on {address} in namespace {}", namespace.name()))?;
        SockRef::from(&listener).set_read_timeout(Some(LOOK))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = thread::spawn({
            let stop = Arc::clone(&stop);
            move || accept(&listener, serve, &stop)
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits for the connections that clients have made, and says what was served, in the order of arrival.
    ///
    /// # Errors
    /// When a connection failed or stalled.
    pub fn stop(mut self) -> Result<Vec<Served>> {
        self.stop.store(true, Ordering::Relaxed);
        let served = self.thread.take().map_or_else(|| Ok(Vec::new()), joined);
        served.with_context(|| format!("a connection to the TCP server at {} failed", self.address))
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // Whoever wants the outcome calls `stop`.
            let _ = thread.join();
        }
    }
}

fn accept(listener: &TcpListener, serve: Serve, stop: &AtomicBool) -> io::Result<Vec<Served>> {
    let mut open: VecDeque<JoinHandle<io::Result<Served>>> = VecDeque::new();
    let mut served = Vec::new();
    loop {
        match listener.accept() {
            Ok((stream, peer)) => open.push_back(thread::spawn(move || serve_one(stream, peer, serve))),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
            Err(error) => return Err(error),
        }
        // Threads that have ended keep their stacks until they are joined.
        while open.front().is_some_and(JoinHandle::is_finished) {
            served.extend(open.pop_front().map(joined).transpose()?);
        }
    }
    for thread in open {
        served.push(joined(thread)?);
    }
    Ok(served)
}

fn serve_one(mut stream: TcpStream, peer: SocketAddr, serve: Serve) -> io::Result<Served> {
    limit(&stream)?;
    let (mut received_bytes, mut sent_bytes) = (0, 0);
    match serve {
        Serve::Send(bytes) => sent_bytes = send(&stream, bytes)?,
        Serve::Receive => {}
        Serve::Echo => {
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = stream.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                stream.write_all(&buffer[..count])?;
                received_bytes += count as u64;
            }
            sent_bytes = received_bytes;
            stream.shutdown(Shutdown::Write)?;
        }
    }
    received_bytes += receive(&stream)?;
    Ok(Served { peer, received_bytes, sent_bytes })
}

/// Takes all that a [`Serve::Send`] server sends.
///
/// # Errors
/// When the connection cannot be made, breaks, or stalls.
pub fn download(client: &Namespace, server: SocketAddr) -> Result<Transfer> {
    connection(client, server, |stream| Ok((0, receive(stream)?)))
}

/// Sends `bytes` to a [`Serve::Receive`] server, and waits until it has them.
///
/// # Errors
/// When the connection cannot be made, breaks, or stalls.
pub fn upload(client: &Namespace, server: SocketAddr, bytes: u64) -> Result<Transfer> {
    connection(client, server, |stream| Ok((send(stream, bytes)?, receive(stream)?)))
}

/// Sends `bytes` to a [`Serve::Echo`] server and takes them back.
///
/// # Errors
/// When the connection cannot be made, breaks, or stalls.
pub fn echo(client: &Namespace, server: SocketAddr, bytes: u64) -> Result<Transfer> {
    connection(client, server, |stream| {
        thread::scope(|scope| {
            let sender = scope.spawn(|| send(stream, bytes));
            let received = receive(stream);
            Ok((sender.join().unwrap_or_else(|panic| resume_unwind(panic))?, received?))
        })
    })
}

/// Makes `per_second` connections a second to a [`Serve::Send`] server for `duration`, from several threads at once.
///
/// # Errors
/// When the namespace cannot be entered. Connections that fail are counted in the result.
pub fn short_connections(
    client: &Namespace,
    server: SocketAddr,
    per_second: u32,
    duration: Duration,
    threads: u32,
) -> Result<ShortConnections> {
    let start = Instant::now();
    let in_turn = |first: u32| {
        let mut outcome = ShortConnections::default();
        let times = (first..).step_by(threads as usize).map(|number| Duration::from_secs(number.into()) / per_second);
        for time in times.take_while(|time| *time < duration) {
            thread::sleep((start + time).saturating_duration_since(Instant::now()));
            match connect(server).and_then(|stream| receive(&stream).and_then(|_| stream.local_addr())) {
                Ok(local) => outcome.completed.push(local),
                Err(_) => outcome.failed += 1,
            }
        }
        outcome
    };
    // A new thread starts in the namespace of the thread that makes it.
    client.run(|| {
        thread::scope(|scope| {
            let workers: Vec<ScopedJoinHandle<_>> =
                (0..threads).map(|first| scope.spawn(move || in_turn(first))).collect();
            workers.into_iter().fold(ShortConnections::default(), |mut all, worker| {
                let part: ShortConnections = worker.join().unwrap_or_else(|panic| resume_unwind(panic));
                all.completed.extend(part.completed);
                all.failed += part.failed;
                all
            })
        })
    })
}

fn connection(
    client: &Namespace,
    server: SocketAddr,
    exchange: impl FnOnce(&TcpStream) -> io::Result<(u64, u64)> + Send,
) -> Result<Transfer> {
    let whole = || {
        let stream = connect(server)?;
        let (sent_bytes, received_bytes) = exchange(&stream)?;
        Ok::<_, io::Error>(Transfer { local: stream.local_addr()?, sent_bytes, received_bytes })
    };
    client
        .run(whole)?
        .with_context(|| format!("the TCP connection from namespace {} to {server} failed", client.name()))
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, LIMIT)?;
    limit(&stream)?;
    Ok(stream)
}

fn limit(stream: &TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))
}

/// Sends exactly `bytes`, then closes this direction.
fn send(mut stream: &TcpStream, bytes: u64) -> io::Result<u64> {
    let sent = io::copy(&mut io::repeat(b'n').take(bytes), &mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(sent)
}

/// Reads until the other side closes.
fn receive(mut stream: &TcpStream) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 16];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(received),
            count => received += count as u64,
        }
    }
}

fn joined<T>(thread: JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| resume_unwind(panic))
}
