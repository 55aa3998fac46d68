//! A device without link layer: what it receives and sends is read from the IP header on, and counted as long as it is.
//!
//! The witnesses are the packets that the test writes to the tun device and reads from it. Stale link headers are in `programs`.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use etherparse::PacketBuilder;
use lab::report::Flow;
use lab::{Lab, Measured, ip};

/// Of `linux/if_tun.h`.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca_u32 as libc::Ioctl;
const IFF_TUN: u16 = 1;
const IFF_NO_PI: u16 = 0x1000;

/// The process's end of `tun0`, which lives as long as it.
fn tun(lab: &Lab) -> File {
    let open = || {
        let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
        // `struct ifreq`: name, then flags.
        let mut request = [0_u8; 40];
        request[..4].copy_from_slice(b"tun0");
        request[16..18].copy_from_slice(&(IFF_TUN | IFF_NO_PI).to_ne_bytes());
        // SAFETY: the kernel reads and writes a request that lives through the call.
        assert_eq!(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) }, 0);
        file
    };
    let file = lab.node.namespace.run(open).unwrap();
    ip(&lab.node.namespace, "link set tun0 up").unwrap();
    ip(&lab.node.namespace, "addr add 10.77.0.1/24 dev tun0").unwrap();
    file
}

#[test]
fn tun_packets_are_read_from_the_ip_header_on() {
    let lab = Lab::builder().pod("client").start().unwrap();
    let mut tun = tun(&lab);
    let mut sent = Vec::new();
    // The first address begins like an Ethernet header's EtherType of IPv4 would, where one would have it.
    for source in [[8, 0, 69, 1], [10, 77, 0, 2], [129, 0, 0, 1]] {
        let mut packet = Vec::new();
        PacketBuilder::ipv4(source, [10, 77, 0, 1], 9).udp(1000, 2000).write(&mut packet, &[7; 30]).unwrap();
        sent.push(packet);
    }
    let mut packet = Vec::new();
    PacketBuilder::ipv6([0xfd; 16], [0xfe; 16], 9).tcp(1, 2, 3, 4).write(&mut packet, &[7; 30]).unwrap();
    sent.push(packet);
    // Echo, which the node answers.
    let mut packet = Vec::new();
    PacketBuilder::ipv4([10, 77, 0, 2], [10, 77, 0, 1], 9)
        .icmpv4_echo_request(7, 1)
        .write(&mut packet, &[7; 30])
        .unwrap();
    sent.push(packet.clone());

    let Measured { report, .. } = lab
        .measure(&[], || {
            for packet in &sent {
                tun.write_all(packet)?;
            }
            Ok(())
        })
        .unwrap();
    let device = report.device("tun0");
    let bytes = sent.iter().map(|packet| packet.len() as u64).sum();
    assert_eq!((device.rx().packets, device.rx().bytes), (sent.len() as u64, bytes), "{device:#}");
    assert_eq!(device.rx().unattributed_packets, 0);
    assert_eq!(device.rx().wire_bytes, bytes);
    assert_eq!(device.residual("rx").unexplained_bytes, 0);
    let has =
        |is_it: &dyn Fn(&Flow) -> bool| report.flows.iter().any(|flow| is_it(flow) && flow.hops[0].device == "tun0");
    for source in ["8.0.69.1", "10.77.0.2", "129.0.0.1", "fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd"] {
        let source: IpAddr = source.parse().unwrap();
        assert!(has(&|flow| flow.src == source), "{source}");
    }
    // The answer went out of the device as it was read from it.
    assert!(has(&|flow| flow.dst == IpAddr::from([10, 77, 0, 2])));
    let mut answer = vec![0; 2_000];
    loop {
        let len = tun.read(&mut answer).unwrap();
        if answer[0] >> 4 == 4 && answer[9] == 1 && answer[20] == 0 {
            assert_eq!(len, packet.len());
            break;
        }
    }
}
