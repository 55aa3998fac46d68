//! Recordings: what was added is read again, up to the last whole window, whatever happened to the file.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use netpath::model::{Direction, NodeInfo, Window};
use netpath::record::{Recorded, Recording, Windows};
use netpath::snapshot::{Counts, KernelDrop, KernelDrops, Observation, Snapshot, Tuple};

/// A window that differs from others by its number.
fn snapshot(number: u16) -> Snapshot {
    let address = |last| IpAddr::from([10, 0, 0, last]);
    let tuple = Tuple { proto: 6, src: address(1), sport: number, dst: address(2), dport: 443 };
    let counts = Counts { packets: 1, bytes: 100, wire_bytes: 100 };
    let node = NodeInfo { hostname: "node-1".into(), kernel: "6.1.0".into(), ..NodeInfo::default() };
    let window = Window {
        started_at: format!("2026-01-31T14:00:{:02}Z", number % 60),
        duration_ns: 1_000_000_000,
        interval_ns: Some(1_000_000_000),
        ..Window::default()
    };
    let observation = Observation { ifindex: 2, direction: Direction::Rx, vlans: [0; 2], tuple, about: None, counts };
    let drop =
        KernelDrop { tuple, reason: Some("NETFILTER_DROP".into()), location: None, in_node: Some(true), packets: 1 };
    Snapshot {
        observations: vec![observation],
        kernel_drops: KernelDrops { watched: true, records: vec![drop], ..KernelDrops::default() },
        ..Snapshot::new(node, window)
    }
}

fn record(path: &Path, windows: u16) {
    let mut recording = Recording::create(path, u64::MAX).unwrap();
    for number in 0..windows {
        recording.add(&snapshot(number)).unwrap();
    }
}

/// The whole windows, and whether something is behind them.
fn read(mut bytes: &[u8]) -> (Vec<Snapshot>, bool) {
    let mut windows = Vec::new();
    for recorded in Windows::new(&mut bytes) {
        match recorded.unwrap() {
            Recorded::Window(window) => windows.push(*window),
            Recorded::CutOff => return (windows, true),
        }
    }
    (windows, false)
}

#[test]
fn cut_off_anywhere_it_has_all_whole_windows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.rec");
    record(&path, 3);
    let bytes = fs::read(&path).unwrap();
    let all: Vec<_> = (0..3).map(snapshot).collect();
    assert_eq!(read(&bytes), (all.clone(), false));
    let mut ends = vec![0];
    for end in 1..bytes.len() {
        let (windows, cut_off) = read(&bytes[..end]);
        assert_eq!(windows, all[..windows.len()], "{end}");
        if !cut_off {
            ends.push(end);
        }
    }
    assert_eq!(ends.len(), 3, "but for the ends of windows, each cut is noticed: {ends:?}");
}

#[test]
fn a_changed_byte_never_changes_a_window() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.rec");
    record(&path, 3);
    let bytes = fs::read(&path).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x55;
        // A header of gzip may have other flags or another name.
        let mut input = &changed[..];
        for (number, recorded) in Windows::new(&mut input).enumerate() {
            if let Ok(Recorded::Window(window)) = recorded {
                assert_eq!(*window, snapshot(u16::try_from(number).unwrap()), "{at}");
            }
        }
    }
}

#[test]
fn the_oldest_windows_go_when_it_is_full() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.rec");
    let mut recording = Recording::create(&path, 4_000).unwrap();
    for number in 0..100 {
        recording.add(&snapshot(number)).unwrap();
        assert!(fs::metadata(&path).unwrap().len() <= 4_000);
    }
    let (left, gone) = recording.windows();
    assert!(left > 3 && left + gone == 100, "{left} and {gone}");
    assert_eq!(recording.bytes(), fs::metadata(&path).unwrap().len());
    let (windows, cut_off) = read(&fs::read(&path).unwrap());
    let expected: Vec<_> = (0..100).skip(usize::try_from(gone).unwrap()).map(snapshot).collect();
    assert_eq!((windows, cut_off), (expected, false));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn what_is_there_is_not_written_over_and_an_empty_one_does_not_stay() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.rec");
    drop(Recording::create(&path, 1_000).unwrap());
    assert!(!path.exists());
    fs::write(&path, "mine").unwrap();
    assert!(Recording::create(&path, 1_000).is_err());
    assert_eq!(fs::read(&path).unwrap(), b"mine");
}

/// As the first netpath that could record wrote it.
#[test]
fn the_first_version_is_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/version-1.rec");
    let (windows, cut_off) = read(&fs::read(path).unwrap());
    assert_eq!((windows, cut_off), ((0..3).map(snapshot).collect(), false));
}

#[test]
fn each_line_is_json_for_others() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("node.rec");
    record(&path, 2);
    let mut text = String::new();
    flate2::read::MultiGzDecoder::new(fs::File::open(&path).unwrap()).read_to_string(&mut text).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.iter().all(|line| line["schema"] == "netpath.recording/1"));
}
