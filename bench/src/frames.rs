//! The packets that programs are run on.

use anyhow::Result;
use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header,
    PacketBuilder, PacketBuilderStep, VlanId,
};

const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const DESTINATION_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SOURCE: [u8; 4] = [10, 0, 0, 21];
const DESTINATION: [u8; 4] = [198, 51, 100, 7];
const PAYLOAD: [u8; 64] = [0; 64];

fn ethernet() -> PacketBuilderStep<Ethernet2Header> {
    PacketBuilder::ethernet2(SOURCE_MAC, DESTINATION_MAC)
}

fn written(
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), etherparse::err::packet::BuildWriteError>,
) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    write(&mut frame)?;
    Ok(frame)
}

/// TCP over IPv4 without options.
pub fn tcp_v4() -> Result<Vec<u8>> {
    written(|frame| ethernet().ipv4(SOURCE, DESTINATION, 64).tcp(46_480, 443, 1, 64_000).write(frame, &PAYLOAD))
}

/// TCP over IPv6 without extension headers.
pub fn tcp_v6() -> Result<Vec<u8>> {
    let address = |last: u8| [0x20, 1, 0xd, 0xb8, 0, 0xa, 0, 1, 0, 0, 0, 0, 0, 0, 0, last];
    written(|frame| ethernet().ipv6(address(5), address(7), 64).tcp(46_480, 443, 1, 64_000).write(frame, &PAYLOAD))
}

/// TCP over IPv4 behind one VLAN tag in the frame.
pub fn tcp_vlan() -> Result<Vec<u8>> {
    let id = VlanId::try_new(100)?;
    written(|frame| {
        let ip = ethernet().single_vlan(id).ipv4(SOURCE, DESTINATION, 64);
        ip.tcp(46_480, 443, 1, 64_000).write(frame, &PAYLOAD)
    })
}

/// UDP over IPv4: the first fragment, or a later one of the same packet, which is not the last: that would be forgotten.
pub fn fragment(first: bool) -> Result<Vec<u8>> {
    let mut header = Ipv4Header::new(0, 64, IpNumber::UDP, SOURCE, DESTINATION)?;
    header.identification = 4_711;
    header.more_fragments = true;
    header.fragment_offset = IpFragOffset::try_new(if first { 0 } else { 185 })?;
    let ip = etherparse::IpHeaders::Ipv4(header, etherparse::Ipv4Extensions::default());
    // Of a later fragment the UDP header is payload, and nobody reads it.
    written(|frame| ethernet().ip(ip).udp(5_353, 53).write(frame, &PAYLOAD))
}

/// A question by ARP: no flow.
pub fn arp() -> Vec<u8> {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        ArpOperation::REQUEST,
        &SOURCE_MAC,
        &SOURCE,
        &[0; 6],
        &DESTINATION,
    );
    let header = Ethernet2Header { source: SOURCE_MAC, destination: [0xff; 6], ether_type: EtherType::ARP };
    let mut frame = header.to_bytes().to_vec();
    frame.extend(packet.iter().flat_map(ArpPacket::to_bytes));
    frame
}
