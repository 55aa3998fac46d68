//! Files of records in every state, on a real file system.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::model::{Direction, Eni, Fact, NodeInfo, Origin, Window};
use crate::path;
use crate::snapshot::{Counts as Seen, Observation, Snapshot, Tuple};

const WEEK: Duration = Duration::from_hours(7 * 24);
const NODE: &str = "node-a";

fn named(node: &str) -> Names {
    Names { node: node.to_owned(), ..Names::default() }
}

fn choice(folder: &TempDir) -> Choice {
    let folder = folder.path().join("flows");
    Choice { folder, most_bytes: 1_000_000_000, longest: WEEK, names: named(NODE) }
}

fn open(choice: &Choice) -> Writer {
    Writer::open(choice.clone(), at(0)).expect("a folder that can be written")
}

/// So many seconds after half past one.
fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2026-01-31T13:30:00.5Z".parse().expect("a time");
    start.checked_add(jiff::SignedDuration::from_secs(seconds)).expect("a time")
}

/// A window of ten seconds with so many flows, of which no two windows have the same.
fn window(seconds: i64, flows: u32) -> Report {
    let times = Window { started_at: at(seconds).to_string(), duration_ns: 10_000_000_000, ..Window::default() };
    let mut snapshot = Snapshot::new(NodeInfo::default(), times);
    let salt = u32::try_from(seconds).expect("small").wrapping_mul(2_654_435_761);
    let observation = |number: u32| {
        let random = (number ^ salt).wrapping_mul(0x9E37_79B1);
        let src = Ipv4Addr::from_bits(random).into();
        let tuple = Tuple { proto: 6, src, sport: 1, dst: Ipv4Addr::from_bits(!random >> 1).into(), dport: 80 };
        let counts = Seen { packets: 1, bytes: u64::from(number) + 1, wire_bytes: 100 };
        Observation { ifindex: 1, direction: Direction::Rx, vlans: [0; 2], tuple, about: None, counts }
    };
    snapshot.observations = (0..flows).map(observation).collect();
    path::report(&snapshot)
}

fn eni(address: &str) -> Eni {
    let addresses = Fact { value: vec![address.parse().expect("an address")], origin: Origin::Imds };
    Eni { device: Some("eth0".into()), addresses: Some(addresses), ..Eni::default() }
}

/// Every file below, as a path from there.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            if entry.file_type().expect("a type").is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path().strip_prefix(root).expect("below").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn bytes_of(root: &Path) -> u64 {
    files(root).iter().map(|file| fs::symlink_metadata(root.join(file)).expect("a file").len()).sum()
}

/// The records of every file of a kind that readers see.
fn records(root: &Path, kind: &str) -> Vec<Value> {
    let is_seen = |file: &&PathBuf| file.starts_with(kind) && file.to_string_lossy().ends_with("Z-0000.json.gz");
    let mut records = Vec::new();
    for file in files(root).iter().filter(is_seen) {
        let mut text = String::new();
        GzDecoder::new(File::open(root.join(file)).expect("a file")).read_to_string(&mut text).expect("whole");
        records.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")));
    }
    records
}

#[test]
fn files_are_seen_as_a_whole_each_minute() {
    let folder = tempfile::tempdir().expect("a folder");
    let choice = choice(&folder);
    let mut flows = open(&choice);
    for number in 0..5 {
        assert_eq!(flows.add(&window(10 * number, 3)), Counts::default(), "nothing is finished");
    }
    assert_eq!(records(&choice.folder, "").len(), 0);
    assert_eq!(flows.add(&window(50, 3)), Counts { written: 6 * 3 + 6, dropped: 0 });
    let in_hour = "date=2026-01-31/hour=13/node=node-a/20260131T133000Z-0000.json.gz";
    assert_eq!(
        files(&choice.folder),
        [format!("netpath.flow/{in_hour}"), format!("netpath.window/{in_hour}")].map(PathBuf::from)
    );
    assert_eq!(flows.add(&window(60, 2)), Counts::default());
    assert_eq!(flows.finish(), Counts { written: 2 + 1, dropped: 0 });
    assert_eq!(flows.finish(), Counts::default());

    let written = records(&choice.folder, "netpath.flow");
    assert_eq!(written.len(), 20);
    let bytes: u64 = written.iter().filter_map(|record| record["bytes"].as_u64()).sum();
    assert_eq!(bytes, 6 * (1 + 2 + 3) + 1 + 2);
    assert_eq!((&written[0]["observer"], &written[0]["cluster"]), (&NODE.into(), &Value::Null));
    assert_eq!(written[0]["started_at"], "2026-01-31T13:30:00.500Z");
    assert_eq!(records(&choice.folder, "netpath.window").len(), 7);
}

#[test]
fn an_hour_has_its_own_files_and_its_enis() {
    let folder = tempfile::tempdir().expect("a folder");
    let choice = choice(&folder);
    let mut flows = open(&choice);
    let with_eni = |seconds, address: &str| {
        let mut report = window(seconds, 1);
        report.enis = vec![eni(address)];
        report
    };
    for (seconds, address) in
        [(1_780, "10.0.0.5"), (1_790, "10.0.0.5"), (1_800, "10.0.0.5"), (1_810, "10.0.0.6"), (1_820, "10.0.0.6")]
    {
        flows.add(&with_eni(seconds, address));
    }
    flows.finish();
    let enis: Vec<_> = records(&choice.folder, "netpath.eni")
        .iter()
        .map(|eni| {
            format!(
                "{} {}",
                eni["started_at"].as_str().expect("a time"),
                eni["addresses"][0].as_str().expect("an address")
            )
        })
        .collect();
    let expected =
        ["2026-01-31T13:59:40.500Z 10.0.0.5", "2026-01-31T14:00:00.500Z 10.0.0.5", "2026-01-31T14:00:10.500Z 10.0.0.6"];
    assert_eq!(enis, expected, "once an hour, and when they change");
    let flows = ["hour=13/node=node-a/20260131T135940Z", "hour=14/node=node-a/20260131T140000Z"];
    let flows = flows.map(|file| PathBuf::from(format!("netpath.flow/date=2026-01-31/{file}-0000.json.gz")));
    assert_eq!(
        files(&choice.folder).into_iter().filter(|file| file.starts_with("netpath.flow")).collect::<Vec<_>>(),
        flows
    );
}

#[test]
fn there_are_never_more_bytes_than_there_may_be() {
    let folder = tempfile::tempdir().expect("a folder");
    let choice = Choice { most_bytes: 1_000_000, ..choice(&folder) };
    let others = [
        "netpath.flow/date=2026-01-31/hour=13/node=node-b/20260131T130000Z-0000.json.gz",
        "netpath.flow/date=2026-01-31/hour=13/node=node-a/notes.txt",
        "netpath.flow/date=2026-01-31/hour=13/node=node-a/20260131T120000Z-0000.json.gz",
        "20260131T130000Z-0000.json.gz",
    ];
    for file in others {
        let file = choice.folder.join(file);
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(file, vec![0; 1_000]).expect("written");
    }
    let mut flows = open(&choice);
    let mut counts = Counts::default();
    let mut report = window(0, 2_000);
    report.enis = vec![eni("10.0.0.5")];
    for number in 0..40 {
        report.window.started_at = at(1_600 + 10 * number).to_string();
        let more = flows.add(&report);
        counts = Counts { written: counts.written + more.written, dropped: counts.dropped + more.dropped };
        let bytes = bytes_of(&choice.folder) - 4_000;
        assert!(bytes <= 1_000_000, "{bytes} bytes after {number} windows");
        let left = files(&choice.folder);
        let has = |kind: &str, hour: u8| {
            let begin = format!("{kind}/date=2026-01-31/hour={hour}/node=node-a/20260131T{hour}");
            left.iter().any(|file| file.to_string_lossy().starts_with(&begin))
        };
        for hour in [13, 14] {
            let flows = has("netpath.flow", hour);
            assert!(!flows || has("netpath.eni", hour), "flows of {hour} without ENIs after {number} windows");
        }
    }
    counts.written += flows.finish().written;
    assert_eq!((counts.written, counts.dropped), (40 * 2_001 + 2, 0), "two hours' ENIs among them");
    let left = files(&choice.folder);
    for file in others {
        assert!(left.contains(&file.into()), "{file} is not netpath's to remove: {left:?}");
    }
    let written = records(&choice.folder, "netpath.window");
    assert_eq!(written.last().map(|record| record["started_at"].clone()), Some("2026-01-31T14:03:10.500Z".into()));
    assert!(bytes_of(&choice.folder) > 300_000, "and not much fewer");
    assert!(!left.iter().any(|file| {
        file.starts_with("netpath.flow/date=2026-01-31/hour=13/node=node-a/20260131T135640Z-0000.json.gz")
    }));
}

#[test]
fn what_is_too_old_goes_with_its_empty_folders() {
    let folder = tempfile::tempdir().expect("a folder");
    let choice = Choice { longest: Duration::from_hours(1), ..choice(&folder) };
    let mut flows = open(&choice);
    flows.add(&window(0, 1));
    flows.finish();
    assert_eq!(files(&choice.folder).len(), 2);
    drop(flows);
    let mut flows = open(&choice);
    for (seconds, expected) in [(3_580, 4), (3_600, 4)] {
        flows.add(&window(seconds, 1));
        flows.finish();
        let files = files(&choice.folder);
        assert_eq!(files.iter().filter(|file| file.starts_with("netpath.flow")).count() * 2, expected, "{files:?}");
    }
    assert!(!choice.folder.join("netpath.flow/date=2026-01-31/hour=13").exists(), "it is empty");
    assert!(choice.folder.join("netpath.flow/date=2026-01-31/hour=14").exists());
}

#[test]
fn what_a_netpath_that_was_killed_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let choice = choice(&folder);
    let mut flows = open(&choice);
    flows.add(&window(0, 1));
    let unfinished = |choice: &Choice| {
        files(&choice.folder).into_iter().filter(|file| file.to_string_lossy().ends_with(".unfinished")).count()
    };
    assert_eq!(unfinished(&choice), 2);
    // As after SIGKILL: its locks are gone, its files are not.
    let here = choice.folder.join("netpath.flow/date=2026-01-31/hour=13/node=node-a");
    let elsewhere = choice.folder.join("netpath.flow/date=2026-01-31/hour=13/node=node-b");
    fs::create_dir_all(&elsewhere).expect("made");
    let name = ".20260131T133100Z-0000.json.gz.unfinished";
    for file in [
        here.join(name),
        elsewhere.join(name),
        here.join(".20260131T143100Z-0000.json.gz.unfinished"),
        here.join(".unfinished"),
    ] {
        fs::write(file, "").expect("written");
    }
    std::os::unix::fs::symlink("/etc/hostname", here.join(".20260131T133200Z-0000.json.gz.unfinished"))
        .expect("linked");
    let mut again = open(&choice);
    assert!(!here.join(name).exists(), "it is this node's, and nobody writes it");
    assert_eq!(
        unfinished(&choice),
        6 - 1 + 1,
        "that are being written, another node's, of another hour, a link, and odd"
    );
    // Both go on, and neither writes over the other's.
    flows.add(&window(10, 1));
    again.add(&window(0, 5));
    assert_eq!((flows.finish().written, again.finish().written), (2 + 2, 5 + 1));
    assert_eq!(
        files(&choice.folder).iter().filter(|file| file.to_string_lossy().contains("20260131T133000Z")).count(),
        4
    );
}

#[test]
fn what_cannot_be_written_is_counted_and_tried_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let choice = choice(&folder);
    let mut flows = open(&choice);
    let of_flows = choice.folder.join("netpath.flow");
    fs::remove_dir_all(&of_flows).expect("removed");
    fs::write(&of_flows, "").expect("written");
    assert_eq!(flows.add(&window(0, 7)), Counts { written: 0, dropped: 7 });
    assert_eq!(flows.add(&window(10, 2)), Counts { written: 0, dropped: 2 });
    assert_eq!(flows.failing, Some(9));
    fs::remove_file(&of_flows).expect("removed");
    assert_eq!(flows.add(&window(20, 3)), Counts::default());
    assert_eq!(flows.failing, None);
    assert_eq!(flows.finish(), Counts { written: 3 + 3, dropped: 0 });
}

#[test]
fn what_is_no_folder_to_write_into() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    let choice = choice(&folder);
    for wrong in [
        Choice { folder: file.join("flows"), ..choice.clone() },
        Choice { folder: "/proc/flows".into(), ..choice.clone() },
        Choice { names: named(""), ..choice.clone() },
        Choice { names: named(&"a".repeat(300)), ..choice.clone() },
    ] {
        assert!(Writer::open(wrong.clone(), at(0)).is_err(), "{wrong:?}");
    }
    assert!(!choice.folder.exists(), "nothing is made for a name that cannot be");
    let hostile = Choice { names: named("../../../../tmp/\u{1b}x"), ..choice.clone() };
    let mut flows = open(&hostile);
    flows.add(&window(0, 1));
    flows.finish();
    let name = "date=2026-01-31/hour=13/node=..%2F..%2F..%2F..%2Ftmp%2F%1Bx/20260131T133000Z-0000.json.gz";
    assert_eq!(
        files(&choice.folder),
        [format!("netpath.flow/{name}"), format!("netpath.window/{name}")].map(PathBuf::from)
    );
}
