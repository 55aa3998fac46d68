//! The pcapng file of a trace, as tshark, capinfos and tcpdump read it: other people's readers, with opinions of their own.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use etherparse::PacketBuilder;
use lab::output_within;
use netpath::model::{DeviceClass, Direction};
use netpath::render::trace::pcapng::{HopChoice, Interface, PcapngWriter};
use netpath::trace::{End, Hop, SCHEMA, Summary, Translation, Trip};
use tempfile::NamedTempFile;

const LIMIT: Duration = Duration::from_mins(1);
/// A moment in 2026, with nanoseconds.
const START_NS: u64 = 1_795_766_400_123_456_789;
const SNAPLEN: usize = 128;

/// What a reader prints. It must not complain.
fn read(program: &str, arguments: &[&str], file: &Path) -> String {
    let mut command = Command::new(program);
    command.args(arguments).args(["-r".as_ref(), file.as_os_str()]);
    let output = output_within(&mut command, LIMIT).unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    // That it runs as root, and which file it reads, is all that it may say.
    let expected = ["Running as user", "reading from file"];
    let others: Vec<&str> =
        complaints.lines().filter(|line| !line.is_empty() && !expected.iter().any(|it| line.starts_with(it))).collect();
    assert!(output.status.success() && others.is_empty(), "{program} {arguments:?}: {complaints}");
    String::from_utf8(output.stdout).unwrap()
}

/// Fields of each packet by tshark, each with a `|` behind it.
fn fields(file: &Path, fields: &[&str]) -> Vec<String> {
    let fields: Vec<&str> = fields.iter().flat_map(|field| ["-e", field]).collect();
    let text = read("tshark", &[&["-n", "-T", "fields", "-E", "separator=|"], &fields[..]].concat(), file);
    text.lines().map(str::to_owned).collect()
}

/// capinfos takes its file without an option.
fn capinfos(file: &Path) -> String {
    let output = output_within(Command::new("capinfos").arg("-M").arg(file), LIMIT).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn interface(ifindex: u32, name: &str, pod: Option<&str>, ethernet: bool) -> Interface {
    Interface { ifindex, name: name.to_owned(), description: pod.map(str::to_owned), ethernet }
}

/// A node's devices; the pod's name and the tunnel's are as odd as the kernel allows.
fn interfaces() -> Vec<Interface> {
    vec![
        interface(2, "eth0", None, true),
        interface(7, "eni1a2b3c4d5e6", Some("default/client"), true),
        interface(8, "tun\u{1b}[2J ü%s", Some("a\u{202e}b/c"), false),
    ]
}

struct Ends {
    src: &'static str,
    dst: &'static str,
}

/// A UDP packet with so many bytes of payload, of which the first [`SNAPLEN`] are kept.
fn hop(device: &Interface, direction: Direction, ends: &Ends, payload: usize, at_ns: u64) -> Hop {
    let [src, dst] = [ends.src, ends.dst].map(|end| end.parse::<std::net::SocketAddr>().unwrap());
    let mut bytes = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let ip = match (src.ip(), dst.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), 63),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), 63),
        _ => panic!("of two families"),
    };
    ip.udp(src.port(), dst.port()).write(&mut bytes, &vec![0x55; payload]).unwrap();
    if !device.ethernet {
        bytes.drain(..14);
    }
    let len_bytes = u32::try_from(bytes.len()).unwrap();
    bytes.truncate(SNAPLEN);
    Hop {
        device: device.name.clone(),
        ifindex: device.ifindex,
        class: DeviceClass::Veth,
        pod: device.description.clone(),
        direction,
        src: src.ip(),
        sport: src.port(),
        dst: dst.ip(),
        dport: dst.port(),
        ttl: 64,
        since_ns: 0,
        nat: None,
        before_match: false,
        at_ns,
        bytes: Bytes::from(bytes),
        len_bytes,
    }
}

fn trip(number: u64, hops: Vec<Hop>, end: End) -> Trip {
    Trip {
        schema: SCHEMA.to_owned(),
        trip: number,
        at: String::new(),
        proto: "udp".to_owned(),
        protocol: 6,
        length: hops[0].len_bytes,
        payload: 0,
        seq: None,
        ack: None,
        flags: None,
        icmp: None,
        ip_id: None,
        fragment: None,
        hops,
        end,
        reason: None,
        location: None,
        freed_after_ns: None,
        note: None,
        retransmission_of: None,
        retransmitted_after_ns: None,
        joined: true,
        complete: true,
        src_pod: None,
        dst_pod: None,
        service: None,
    }
}

/// Through SNAT with the first hop before the match; IPv6 cut off and dropped; through a tunnel and out by a device that came later.
fn trips() -> Vec<Trip> {
    let devices = interfaces();
    let [eth0, veth, tunnel] = &devices[..] else { unreachable!() };
    let outside = Ends { src: "198.51.100.7:9053", dst: "10.0.0.5:59703" };
    let inside = Ends { src: "198.51.100.7:9053", dst: "10.0.0.21:47620" };
    let second = hop(veth, Direction::Tx, &inside, 30, START_NS + 21_300);
    let first = Hop { before_match: true, bytes: Bytes::new(), ..hop(eth0, Direction::Rx, &outside, 30, START_NS) };
    let second = Hop { since_ns: 21_300, nat: Some(Translation::Dnat), ..second };
    let v6 = Ends { src: "[fd00::1]:9353", dst: "[fd00::2]:9053" };
    let dropped = Trip {
        reason: Some("NETFILTER_DROP".to_owned()),
        location: Some("nf_hook_slow+0x9c".to_owned()),
        freed_after_ns: Some(3_100),
        retransmission_of: Some(17),
        retransmitted_after_ns: Some(204_000_000),
        ..trip(18, vec![hop(veth, Direction::Rx, &v6, 1_400, START_NS + 30_000)], End::Dropped)
    };
    let late = interface(9, "eth1", None, true);
    let through = vec![
        hop(tunnel, Direction::Rx, &inside, 1_400, START_NS + 40_000),
        Hop { since_ns: 1_001, ..hop(&late, Direction::Tx, &inside, 60_000, START_NS + 41_001) },
    ];
    let v6_through = vec![hop(tunnel, Direction::Tx, &v6, 4, START_NS + 1_000_000_000)];
    vec![
        trip(17, vec![first, second], End::Pod),
        dropped,
        trip(19, through, End::Forwarded),
        trip(u64::MAX, v6_through, End::Unknown),
    ]
}

/// A whole file of these.
fn file(trips: &[Trip]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let snaplen = u32::try_from(SNAPLEN).unwrap();
    let mut writer =
        PcapngWriter::new(file.as_file(), "udp and not host ü", snaplen, interfaces(), HopChoice::All).unwrap();
    let names = [
        ("10.0.0.21".parse().unwrap(), "default/client".to_owned()),
        ("fd00::2".parse().unwrap(), "kube-system/dns\u{7}:53".to_owned()),
    ];
    writer.names(&names).unwrap();
    for trip in trips {
        writer.trip(trip).unwrap();
    }
    let account = Summary { trips: 4, hops: 6, matched: 7, received: 7, ..Summary::default() };
    writer.finish(&account).unwrap();
    file
}

#[test]
fn tshark_shows_device_direction_comment_trip_and_time() {
    let file = file(&trips());
    let shown = fields(
        file.path(),
        &[
            "frame.interface_name",
            "frame.interface_description",
            "frame.packet_flags_direction",
            "frame.packet_id",
            "frame.time_epoch",
            "frame.cap_len",
            "frame.len",
            "eth.src",
            "frame.comment",
        ],
    );
    let direction = |rx: bool| if rx { "0x00000001" } else { "0x00000002" };
    let odd = "tun\\u{1b}[2J ü%s|a\\u{202e}b/c";
    let (rx, tx) = (direction(true), direction(false));
    assert_eq!(
        shown,
        [
            format!(
                "eth0||{rx}|17|1795766400.123456789|72|72|00:00:00:00:00:00|#17 hop 1 of 2, rebuilt: its bytes were not kept"
            ),
            format!(
                "eni1a2b3c4d5e6|default/client|{tx}|17|1795766400.123478089|72|72|02:00:00:00:00:01|#17 hop 2 of 2, +21.3 µs, dst was 10.0.0.5:59703, default/client, delivered to the pod"
            ),
            format!(
                "eni1a2b3c4d5e6|default/client|{rx}|18|1795766400.123486789|128|1462|02:00:00:00:00:01|#18 hop 1 of 1, default/client, retransmission of #17, 204 ms later, dropped: NETFILTER_DROP at nf_hook_slow+0x9c, 3.1 µs later"
            ),
            format!("{odd}|{rx}|19|1795766400.123496789|142|1442|00:00:00:00:00:00|#19 hop 1 of 2, a\\u{{202e}}b/c"),
            format!(
                "eth1||{tx}|19|1795766400.123497790|128|60042|02:00:00:00:00:01|#19 hop 2 of 2, +1.0 µs, forwarded"
            ),
            format!(
                "{odd}|{tx}|18446744073709551615|1795766401.123456789|66|66|00:00:00:00:00:00|#18446744073709551615 hop 1 of 1, a\\u{{202e}}b/c"
            ),
        ]
    );
}

#[test]
fn packets_are_what_their_hops_say() {
    let file = file(&trips());
    let fields_of = |names: &[&str]| fields(file.path(), names);
    assert_eq!(
        fields_of(&["ip.src", "ip.dst", "ipv6.dst", "udp.srcport", "udp.dstport", "ip.ttl", "_ws.malformed"]),
        [
            "198.51.100.7|10.0.0.5||9053|59703|64|",
            "198.51.100.7|10.0.0.21||9053|47620|63|",
            "||fd00::2|9353|9053||",
            "198.51.100.7|10.0.0.21||9053|47620|63|",
            "198.51.100.7|10.0.0.21||9053|47620|63|",
            "||fd00::2|9353|9053||",
        ]
    );
    let text = read("tcpdump", &["-n", "-tt", "--time-stamp-precision=nano"], file.path());
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with(char::is_whitespace)).collect();
    let starts = [
        "1795766400.123456789 IP 198.51.100.7.9053 > 10.0.0.5.59703: ",
        "1795766400.123478089 IP 198.51.100.7.9053 > 10.0.0.21.47620: ",
        "1795766400.123486789 IP6 fd00::1.9353 > fd00::2.9053: ",
        "1795766400.123496789 IP 198.51.100.7.9053 > 10.0.0.21.47620: ",
        "1795766400.123497790 IP 198.51.100.7.9053 > 10.0.0.21.47620: ",
        "1795766401.123456789 IP6 fd00::1.9353 > fd00::2.9053: ",
    ];
    assert_eq!(lines.len(), starts.len(), "{text}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
    }
}

#[test]
fn the_file_has_names_filter_and_account() {
    let file = file(&trips());
    let named = read("tshark", &["-N", "n", "-T", "fields", "-e", "ip.dst_host", "-e", "ipv6.dst_host"], file.path());
    let named: Vec<&str> = named.lines().map(str::trim).collect();
    assert_eq!(named[1..3], ["default/client", "kube-system/dns\\u{7}:53"]);
    let text = capinfos(file.path());
    let lines: Vec<String> =
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ").replace(" = ", ": ")).collect();
    for (line, times) in [
        ("File encapsulation: ether", 1),
        ("File timestamp precision: nanoseconds (9)", 1),
        ("Number of packets: 6", 1),
        ("Strict time order: True", 1),
        ("Number of interfaces in file: 4", 1),
        ("Capture length: 142", 4),
        ("Filter string: udp and not host ü", 4),
        ("Number of stat entries: 1", 4),
        ("Number of packets: 1", 2),
        ("Number of packets: 2", 2),
        ("Number of resolved IPv4 addresses in file: 1", 1),
        ("Number of resolved IPv6 addresses in file: 1", 1),
    ] {
        assert_eq!(lines.iter().filter(|other| *other == line).count(), times, "{line} in {text}");
    }
    for line in ["File type: pcapng", "Capture application: netpath ", "Capture oper-sys: Linux "] {
        assert!(lines.iter().any(|other| other.starts_with(line)), "{line} in {text}");
    }
    // The file's blocks, each field by its name.
    let blocks = read("tshark", &["-X", "read_format:MIME Files Format", "-V"], file.path());
    let account = "Comment: on all devices: 4 trips, 6 hops; 7 events matched: 7 received, 0 had no room";
    assert_eq!(blocks.matches(account).count(), 4, "{blocks}");
    assert!(!blocks.contains("Malformed"), "{blocks}");
}

/// What a reader sees that looks before the trace ends, or of a netpath that was killed.
#[test]
fn a_file_that_has_not_ended_opens() {
    let file = NamedTempFile::new().unwrap();
    let mut writer = PcapngWriter::new(file.as_file(), "", 128, interfaces(), HopChoice::All).unwrap();
    writer.flush().unwrap();
    assert_eq!(fields(file.path(), &["frame.number"]), Vec::<String>::new());
    assert_eq!(read("tcpdump", &["-n"], file.path()), "");
    writer.trip(&trips()[0]).unwrap();
    writer.flush().unwrap();
    assert_eq!(fields(file.path(), &["frame.packet_id"]), ["17", "17"]);
    assert_eq!(read("tcpdump", &["-n"], file.path()).lines().count(), 2);
}

#[test]
fn no_trips_at_all() {
    let file = file(&[]);
    assert_eq!(fields(file.path(), &["frame.number"]), Vec::<String>::new());
    assert_eq!(read("tcpdump", &["-n"], file.path()), "");
    let text = capinfos(file.path());
    assert!(text.contains("Number of interfaces in file: 3"), "{text}");
}
