//! What tcpdump saw on a device, and packets of the tests' own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use lab::trace::Trip;
use lab::traffic::mac;
use lab::{Capture, Namespace, Pod};

/// A TCP packet at one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    pub src: SocketAddr,
    pub dst: SocketAddr,
    pub seq: u32,
    pub payload: u32,
    pub flags: String,
    pub frame_bytes: u32,
}

pub struct Witness(Capture);

impl Witness {
    pub fn start(namespace: &Namespace, device: &str, filter: &str) -> Result<Self> {
        Capture::start(namespace, device, filter).map(Self)
    }

    /// All TCP packets, sorted.
    pub fn stop(self) -> Result<Vec<Seen>> {
        let mut all: Vec<Seen> = self
            .0
            .stop()?
            .iter()
            .map(|packet| seen(&packet.text, packet.frame_bytes).with_context(|| packet.text.clone()))
            .collect::<Result<_>>()?;
        all.sort();
        Ok(all)
    }
}

/// `…: 10.0.0.21.47620 > 198.51.100.7.8080: Flags [P.], seq 75297:76745, ack 1, …, length 1448…`
fn seen(line: &str, frame_bytes: u32) -> Result<Seen> {
    let (before, details) = line.split_once(": Flags [").context("no TCP")?;
    let (_, ends) = before.rsplit_once(": ").context("no ends")?;
    let (src, dst) = ends.split_once(" > ").context("no ends")?;
    let (flags, rest) = details.split_once(']').context("no flags")?;
    let field = |name: &str| {
        rest.split(", ")
            .find_map(|field| field.strip_prefix(name))
            .map(|text| text.split([' ', ':']).next().unwrap_or(text))
    };
    // A packet without data has its number only where it counts.
    let number = |name: &str| field(name).map(str::parse::<u32>).transpose();
    Ok(Seen {
        src: end(src)?,
        dst: end(dst)?,
        seq: number("seq ")?.unwrap_or_default(),
        payload: number("length ")?.context("no length")?,
        flags: flags.to_owned(),
        frame_bytes,
    })
}

fn end(text: &str) -> Result<SocketAddr> {
    let (address, port) = text.rsplit_once('.').context("no port")?;
    Ok(SocketAddr::new(address.parse()?, port.parse()?))
}

/// What the trips have at a device, sorted. An acknowledgement has no number here, since tcpdump shows none.
pub fn of_trips(trips: &[Trip], device: &str) -> Vec<Seen> {
    let mut all = Vec::new();
    for trip in trips {
        let flags = trip.flags.clone().unwrap();
        for hop in trip.hops.iter().filter(|hop| hop.device == device) {
            let is_counted = trip.payload > 0 || flags.contains(['S', 'F', 'R']);
            all.push(Seen {
                src: SocketAddr::new(hop.src, hop.sport),
                dst: SocketAddr::new(hop.dst, hop.dport),
                seq: if is_counted { trip.seq.unwrap() } else { 0 },
                payload: trip.payload,
                flags: flags.clone(),
                frame_bytes: trip.length,
            });
        }
    }
    all.sort();
    all
}

/// A UDP datagram with identification 0 from a pod, in an Ethernet frame to the pod's router.
pub fn datagram(from: &Pod, to: Ipv4Addr, port: u16, ttl: u8) -> Vec<u8> {
    let router = from.namespace.output("ip", &["neigh", "show", "dev", "eth0"]).unwrap();
    let router = router.lines().find_map(|line| line.split_whitespace().skip_while(|word| *word != "lladdr").nth(1));
    let router: Vec<u8> = router.unwrap().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
    let builder =
        etherparse::PacketBuilder::ethernet2(mac(&from.namespace, "eth0").unwrap(), router.try_into().unwrap())
            .ipv4(from.ipv4.octets(), to.octets(), ttl)
            .udp(9_999, port);
    let mut frame = Vec::new();
    builder.write(&mut frame, &[7; 64]).unwrap();
    assert_eq!(frame[18..20], [0, 0], "no identification");
    frame
}

pub fn is_of(trip: &Trip, address: impl Into<IpAddr>) -> bool {
    let address = address.into();
    trip.hops.iter().any(|hop| hop.src == address || hop.dst == address)
}
