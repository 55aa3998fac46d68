//! Any bytes as events of the trace programs: each packet must come out once, its trip must be fit to print, and what is written of
//! it must be JSON and pcapng.
//!
//! In: events as the ring buffer has them, with a length of two bytes before each.
#![no_main]

mod printed;

use std::collections::HashMap;
use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use netpath::kernel::trace::decoded;
use netpath::path::names::Names;
use netpath::path::topology::Topology;
use netpath::render::block::Screen;
use netpath::render::trace::pcapng::{HopChoice, PcapngWriter};
use netpath::render::trace::text;
use netpath::snapshot::{Device, Snapshot};
use netpath::trace::judge::{Judge, Kernel, Node};
use netpath::trace::stitch::Stitcher;
use netpath::trace::{Summary, Trip};

static SNAPSHOT: LazyLock<Snapshot> =
    LazyLock::new(|| serde_json::from_slice(include_bytes!("../seeds/snapshot/snat")).expect("a snapshot"));

fuzz_target!(|bytes: &[u8]| {
    let mut stitcher = Stitcher::default();
    let (mut rest, mut trips) = (bytes, HashMap::<u64, usize>::new());
    while let Some((length, behind)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes(*length)).min(behind.len());
        let (item, behind) = behind.split_at(length);
        rest = behind;
        if let Some(seen) = decoded(Bytes::copy_from_slice(item)) {
            *trips.entry(seen.event.trip).or_default() += 1;
            stitcher.take(&seen.event, seen.bytes);
        }
    }
    let devices: Vec<&Device> = SNAPSHOT.devices.iter().collect();
    let topology = Topology::new(&devices, &[], false);
    let names = Names::new(&SNAPSHOT, &devices, &topology);
    let reasons = HashMap::from([(8, "NETFILTER_DROP".to_owned())]);
    let function = |address| (address % 2 == 0).then(|| format!("f{address:x}"));
    let kernel = Kernel { reasons: &reasons, function: &function, drops_unseen: None };
    let node =
        Node { topology: &topology, names: &names, kernel: &kernel, clock_offset_ns: 1, partly_watched: false, netns: 7 };
    let mut judge = Judge::default();
    let mut pcapng = PcapngWriter::new(Vec::new(), "", 65_535, [], HopChoice::All).expect("memory");
    let screen = Screen { width: Some(80), height: None, colour: false, unicode: true };
    while let Some(packet) = stitcher.pop_due(u64::MAX) {
        let events = trips.remove(&packet.trip).expect("a trip that there were events of, once");
        assert!(packet.hops.len() + usize::from(packet.freed.is_some()) <= events);
        let trip = judge.trip(&packet, &node).expect("it has a hop");
        let mut printed = Vec::new();
        text::trip(&trip, screen, &mut printed).expect("memory");
        printed::check(std::str::from_utf8(&printed).expect("text"));
        let json = serde_json::to_string(&trip).expect("JSON");
        serde_json::from_str::<Trip>(&json).expect("it reads again");
        pcapng.trip(&trip).expect("memory");
    }
    pcapng.finish(&Summary::default()).expect("memory");
});
