//! Many short TCP connections, in each of which the server tells the client what address it sees: a witness for each single
//! translation on the way.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::LIMIT;
use crate::namespace::Namespace;

/// How often a server looks whether it shall stop.
const LOOK: Duration = Duration::from_millis(20);
const FIRST_CLIENT_PORT: u16 = 5_000;

/// One connection that was answered in full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Witnessed {
    /// The client's own address.
    pub local: SocketAddr,
    /// The server's address, as the client and the server both know it.
    pub server: SocketAddr,
    /// The client's address as the server saw it.
    pub seen: SocketAddr,
}

/// How many connections to make.
#[derive(Clone, Debug)]
pub struct Churn {
    /// The server's ports: each next connection goes to the next one.
    pub ports: std::ops::Range<u16>,
    /// Connections a second in all; fewer if the machine does not manage. No two have the same ports at both ends, for which
    /// there is room for 60 000 connections to each of the server's ports.
    pub per_second: u32,
    /// For how long.
    pub duration: Duration,
    /// How many clients at once.
    pub threads: u32,
}

/// Makes the connections from `client` to `address` of `server`. Returns those that were answered, and how many failed.
///
/// # Errors
/// When a namespace cannot be entered, a port is in use, or the server fails.
pub fn churn(
    client: &Namespace,
    server: &Namespace,
    address: IpAddr,
    churn: &Churn,
) -> Result<(Vec<Witnessed>, usize)> {
    let listen = || churn.ports.clone().map(|port| TcpListener::bind((address, port))).collect::<io::Result<Vec<_>>>();
    let listeners =
        server.run(listen)?.with_context(|| format!("cannot listen on {address} in namespace {}", server.name()))?;
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let servers: Vec<_> = listeners.iter().map(|listener| scope.spawn(|| serve(listener, &stop))).collect();
        // A new thread starts in the namespace of the thread that makes it.
        let made = client.run(|| {
            thread::scope(|scope| {
                let start = Instant::now();
                let clients: Vec<_> = (0..churn.threads)
                    .map(|first| scope.spawn(move || connect_in_turn(address, churn, first, start)))
                    .collect();
                let mut all = (Vec::new(), 0);
                for client in clients {
                    let (connections, failed) = client.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                    all.0.extend(connections);
                    all.1 += failed;
                }
                all
            })
        });
        stop.store(true, Ordering::Relaxed);
        for server in servers {
            server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).context("a server failed")?;
        }
        made
    })
}

/// Tells each client its address and closes, which spares the client the `TIME_WAIT` that would block its port.
fn serve(listener: &TcpListener, stop: &AtomicBool) -> io::Result<()> {
    SockRef::from(listener).set_read_timeout(Some(LOOK))?;
    loop {
        match listener.accept() {
            Ok((mut stream, peer)) => stream.write_all(peer.to_string().as_bytes())?,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                if stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// The connections number `first`, `first + threads`, … each at its time.
fn connect_in_turn(address: IpAddr, churn: &Churn, first: u32, start: Instant) -> (Vec<Witnessed>, usize) {
    let (mut connections, mut failed) = (Vec::new(), 0);
    let ports: Vec<u16> = churn.ports.clone().collect();
    for number in (first..).step_by(churn.threads as usize) {
        let round = number / u32::from(churn.ports.end - churn.ports.start);
        let Ok(local_port) = u16::try_from(u32::from(FIRST_CLIENT_PORT) + round) else { break };
        let due = start + Duration::from_secs(number.into()) / churn.per_second;
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // By the clock, not by number: a machine that does not keep up makes fewer.
        if start.elapsed() >= churn.duration || due >= start + churn.duration {
            break;
        }
        let server = SocketAddr::new(address, ports[number as usize % ports.len()]);
        match connect(local_port, server) {
            Ok(connection) => connections.push(connection),
            Err(_) => failed += 1,
        }
    }
    (connections, failed)
}

fn connect(local_port: u16, server: SocketAddr) -> io::Result<Witnessed> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    // Several connections at once have the same local port, to different ports of the server.
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(any, local_port).into())?;
    socket.connect_timeout(&server.into(), LIMIT)?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(LIMIT))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let seen = text.parse().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
    Ok(Witnessed { local: stream.local_addr()?, server, seen })
}
