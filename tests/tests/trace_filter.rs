//! The filter of `netpath trace` accepts what tcpdump accepts.
//!
//! In: packets of many kinds in a file, and filters, all generated. The witness is tcpdump, which reads the file; netpath's
//! answer is the chain of tests that its kernel program runs, on facts by the parser that its kernel program uses. Where both
//! differ by design (see `netpath::trace::filter`), the packet or the filter is not generated.

mod filters;
mod packets;

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use lab::output_within;
use netpath::trace::filter::{Filter, Named, Names, parse};
use netpath_ebpf::parse::Start;
use netpath_ebpf::trace::Sighting;
use netpath_ebpf::{Direction, Hook};

use self::packets::Frame;
use crate::random::Random;

const LIMIT: Duration = Duration::from_secs(20);

/// A node without any names.
struct Nameless;

impl Names for Nameless {
    fn pod(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }
    fn namespace(&self, _: &str) -> Vec<IpAddr> {
        Vec::new()
    }
    fn service(&self, _: &str) -> Vec<(u8, IpAddr, u16)> {
        Vec::new()
    }
    fn device(&self, _: &str) -> Option<u32> {
        None
    }
    fn port(&self, _: &str) -> Option<u16> {
        None
    }
    fn known(&self, _: Named) -> Vec<String> {
        Vec::new()
    }
}

/// What the trace programs know of a frame.
fn sighting(frame: &Frame) -> Sighting {
    let len_bytes = u32::try_from(frame.0.len()).unwrap();
    let mut sighting = Sighting { len_bytes, ..Sighting::default() };
    let start = Start::Ethernet { vlan_tci: None };
    assert!(sighting.read(&frame.0[..], start, Hook::new(2, Direction::Rx), len_bytes), "{frame}");
    sighting
}

/// A capture file of these frames. Each one's time is its number, in seconds.
fn pcap(frames: &[Frame]) -> Vec<u8> {
    let mut file = Vec::new();
    // Magic, version 2.4, zone, accuracy, snap length, Ethernet.
    for word in [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1] {
        file.extend(u32::to_le_bytes(word));
    }
    for (number, frame) in (0_u32..).zip(frames) {
        let len = u32::try_from(frame.0.len()).unwrap();
        for word in [number, 0, len, len] {
            file.extend(word.to_le_bytes());
        }
        file.extend(&frame.0);
    }
    file
}

/// The numbers of the frames of a capture file.
fn numbers(pcap: &[u8]) -> Vec<usize> {
    let word = |bytes: &[u8]| usize::try_from(u32::from_le_bytes(bytes[..4].try_into().unwrap())).unwrap();
    let mut rest = &pcap[24..];
    let mut numbers = Vec::new();
    while !rest.is_empty() {
        numbers.push(word(rest));
        rest = &rest[16 + word(&rest[8..])..];
    }
    numbers
}

/// Frames in a file, for tcpdump, and as netpath sees them.
struct Oracle {
    frames: Vec<Frame>,
    sightings: Vec<Sighting>,
    file: tempfile::NamedTempFile,
}

impl Oracle {
    fn new(random: &mut Random, count: usize) -> Self {
        let frames: Vec<Frame> = (0..count).map(|_| packets::frame(random)).collect();
        let sightings = frames.iter().map(sighting).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pcap(&frames)).unwrap();
        Self { frames, sightings, file }
    }

    /// The numbers of the frames that tcpdump accepts. Without its optimiser, which refuses filters that accept nothing.
    fn tcpdump(&self, text: &str) -> Vec<usize> {
        let mut command = Command::new("tcpdump");
        command.args(["-O", "-n", "-Z", "root", "-w", "-", "-r"]).arg(self.file.path()).arg("--").arg(text);
        let output = output_within(&mut command, LIMIT).unwrap();
        assert!(output.status.success(), "{text}: {}", String::from_utf8_lossy(&output.stderr));
        numbers(&output.stdout)
    }

    /// The same by netpath.
    fn netpath(&self, filter: &Filter) -> Vec<usize> {
        (0..self.frames.len()).filter(|at| filter.accepts(&self.sightings[*at])).collect()
    }

    /// Compares both; how many frames were accepted.
    fn compare(&self, text: &str, filter: &Filter) -> usize {
        let (expected, found) = (self.tcpdump(text), self.netpath(filter));
        let different = (0..self.frames.len()).find(|at| expected.contains(at) != found.contains(at));
        if let Some(at) = different {
            let whose = if expected.contains(&at) { "tcpdump alone" } else { "netpath alone" };
            panic!("{whose} accepts packet {at} by {text:?}: {}\n{:?}", self.frames[at], self.sightings[at]);
        }
        expected.len()
    }
}

#[test]
fn generated_filters_accept_what_tcpdump_accepts() {
    let mut random = Random::new();
    let oracle = Oracle::new(&mut random, 400);
    let (mut compared, mut accepted, mut told_apart) = (0, 0, 0);
    while compared < 400 {
        let text = filters::filter(&mut random);
        let expression = parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        // Some are larger than what fits.
        let Ok(filter) = expression.compile(&Nameless) else { continue };
        let matching = oracle.compare(&text, &filter);
        compared += 1;
        accepted += matching;
        told_apart += usize::from((1..oracle.frames.len()).contains(&matching));
    }
    let frames = compared * oracle.frames.len();
    assert!(told_apart > compared / 2, "{told_apart} of {compared} filters tell packets apart");
    assert!((frames / 10..frames * 9 / 10).contains(&accepted), "{accepted} of {frames}");
}

#[test]
fn published_filters_accept_what_tcpdump_accepts() {
    let oracle = Oracle::new(&mut Random::new(), 1_000);
    for text in filters::PUBLISHED {
        let filter = parse(text).and_then(|expression| expression.compile(&Nameless));
        let filter = filter.unwrap_or_else(|error| panic!("{text}: {error}"));
        let accepted = oracle.compare(text, &filter);
        assert!((1..oracle.frames.len()).contains(&accepted), "{text} tells nothing apart: {accepted}");
    }
}

/// What netpath refuses of tcpdump's own language is refused with a reason, and what both refuse is no filter anywhere.
#[test]
fn what_is_no_filter_for_tcpdump_is_none_here() {
    let oracle = Oracle::new(&mut Random::new(), 1);
    for text in filters::REFUSED {
        let mut command = Command::new("tcpdump");
        command.args(["-n", "-Z", "root", "-r"]).arg(oracle.file.path()).arg("--").arg(text);
        assert!(!output_within(&mut command, LIMIT).unwrap().status.success(), "tcpdump takes {text}");
        assert!(parse(text).and_then(|expression| expression.compile(&Nameless)).is_err(), "netpath takes {text}");
    }
}
