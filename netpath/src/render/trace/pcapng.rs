//! Writes trips as a pcapng stream (draft-ietf-opsawg-pcapng), which Wireshark, tshark and tcpdump open.
//!
//! In: trips as they are complete. Out: an interface a device, a packet a hop, the names of addresses, and at the end what is known of
//! losses. Nothing from elsewhere is written unsanitised.
//!
//! libpcap refuses interfaces with different link types or snap lengths, so all are Ethernet: a packet of a device without link
//! layer gets a header of zeros, and is 14 bytes longer for it.
//!
//! A hop whose bytes were not kept is rebuilt from another of its trip, with its own addresses, ports and time to live. Its hardware
//! addresses are zeros; its checksums, and what an ICMP error quotes, are those of the other hop. Its comment says "rebuilt". A VLAN
//! tag that the kernel keeps beside the packet is in none.
//!
//! The packets of a trip follow each other in time. The trips come as they are complete, so a packet may be older than the one
//! before it: Wireshark sorts by its column of times, `reordercap` sorts a file in which no device came later (4.0 fails on others).

mod comment;
mod frame;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::io::{self, BufWriter, Write};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use hashbrown::HashMap;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption};
use pcap_file::pcapng::blocks::name_resolution::{Ipv4Record, Ipv6Record, NameResolutionBlock, Record};
use pcap_file::pcapng::blocks::opt_common::{CommonOption, UnknownOption};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};
use rustix::system::uname;

use self::frame::{ETHERNET_LEN, Frame};
use crate::model::Direction;
use crate::sanitise::sanitise;
use crate::trace::{Hop, Summary, Trip};

/// `epb_packetid`: the same number for all copies of a packet. The crate has no name for it.
const PACKET_ID: u16 = 5;
/// The first byte of `if_filter`: what follows is a text.
const FILTER_IS_TEXT: u8 = 0;
/// The longest text of an option, which has 16 bits for its length.
const MAX_TEXT_BYTES: usize = 60_000;
/// Names in one block, which then stays far below the 16 MiB at which readers give up.
const NAMES_PER_BLOCK: usize = 1_000;

/// Which hops of a trip are written. Wireshark takes the second for a retransmission of the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum HopChoice {
    /// Where it was seen first.
    First,
    /// Where it was seen last.
    Last,
    /// Everywhere.
    #[default]
    All,
}

/// A device that packets may be seen at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// What is behind it: a pod's `namespace/name`.
    pub description: Option<String>,
    /// Whether its packets begin with an Ethernet header; else with the IP header.
    pub ethernet: bool,
}

/// A pcapng stream that is being written.
pub struct PcapngWriter<W: Write> {
    blocks: PcapNgWriter<BufWriter<W>>,
    /// The filter, as `if_filter` has it.
    filter: Vec<u8>,
    system: String,
    snaplen: u32,
    choice: HopChoice,
    /// In the order of their blocks.
    devices: Vec<Device>,
    /// The device of each index, as a place in `devices`.
    places: HashMap<u32, usize>,
    /// Hops that were to be written and of which no bytes are known.
    without_bytes: u64,
}

/// A device that has its interface block.
struct Device {
    name: String,
    ethernet: bool,
    packets: u64,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes the section header and the interfaces. tcpdump opens no file without an interface.
    ///
    /// `filter` is the filter's text, `snaplen` the most bytes of a packet that a hop has.
    pub fn new(
        out: W,
        filter: &str,
        snaplen: u32,
        interfaces: impl IntoIterator<Item = Interface>,
        choice: HopChoice,
    ) -> io::Result<Self> {
        let name = uname();
        let system = format!("{} {}", name.sysname().to_string_lossy(), name.release().to_string_lossy());
        let section = SectionHeaderBlock {
            // What PACKET_ID is written in.
            endianness: Endianness::Little,
            options: vec![
                SectionHeaderOption::Hardware(text(&name.machine().to_string_lossy()).into()),
                SectionHeaderOption::OS(text(&system).into()),
                SectionHeaderOption::UserApplication(concat!("netpath ", env!("CARGO_PKG_VERSION")).into()),
            ],
            ..SectionHeaderBlock::default()
        };
        let mut writer = Self {
            blocks: PcapNgWriter::with_section_header(BufWriter::new(out), section).map_err(failed)?,
            filter: if filter.is_empty() { Vec::new() } else { [&[FILTER_IS_TEXT], text(filter).as_bytes()].concat() },
            system,
            // For the Ethernet header that a packet may get.
            snaplen: snaplen.saturating_add(ETHERNET_LEN),
            choice,
            devices: Vec::new(),
            places: HashMap::new(),
            without_bytes: 0,
        };
        for interface in interfaces {
            writer.interface(&interface)?;
        }
        Ok(writer)
    }

    /// Adds a device that came later. Nothing is added for one that is known; the same index with another name is another device. One
    /// that no call named gets an interface at its first hop, whose bytes show whether it has a link layer.
    pub fn interface(&mut self, interface: &Interface) -> io::Result<()> {
        match self.place(interface.ifindex, &interface.name) {
            Some(_) => Ok(()),
            None => self.add(interface).map(|_| ()),
        }
    }

    /// Adds names of addresses: of pods and services.
    pub fn names(&mut self, names: &[(IpAddr, String)]) -> io::Result<()> {
        for names in names.chunks(NAMES_PER_BLOCK) {
            let named = names.iter().filter(|(_, name)| !name.is_empty());
            let mut records: Vec<Record<'_>> = named.map(|(address, name)| record(*address, name)).collect();
            if records.is_empty() {
                continue;
            }
            records.push(Record::End);
            self.blocks.write_pcapng_block(NameResolutionBlock { records, options: Vec::new() }).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes the chosen hops of a trip, those of which bytes are known.
    pub fn trip(&mut self, trip: &Trip) -> io::Result<()> {
        let hops = match self.choice {
            HopChoice::First => 0..trip.hops.len().min(1),
            HopChoice::Last => trip.hops.len().saturating_sub(1)..trip.hops.len(),
            HopChoice::All => 0..trip.hops.len(),
        };
        let places: Vec<usize> = trip.hops.iter().map(|hop| self.place_of(hop)).collect::<io::Result<_>>()?;
        let has_link: Vec<bool> = places.iter().map(|place| self.devices[*place].ethernet).collect();
        let last = hops.end.saturating_sub(1);
        for index in hops {
            match frame::of(&trip.hops, &has_link, index) {
                Some(frame) => self.packet(trip, index, places[index], frame, index == last)?,
                None => self.without_bytes += 1,
            }
        }
        Ok(())
    }

    /// Passes on what was written, so that who reads a pipe sees it. Until then it is held back for fewer system calls.
    pub fn flush(&mut self) -> io::Result<()> {
        self.blocks.get_mut().flush()
    }

    /// Writes what is known of losses, an interface a block, and all that is still held back.
    pub fn finish(mut self, summary: &Summary) -> io::Result<()> {
        // Since 1970 whatever the clock says.
        let timestamp = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let account = text(&comment::account(summary, self.without_bytes));
        for (id, device) in (0..).zip(&self.devices) {
            let mut options = vec![
                InterfaceStatisticsOption::Common(CommonOption::Comment(account.as_str().into())),
                InterfaceStatisticsOption::IsbUsrDeliv(device.packets),
            ];
            // What is lost is counted on each CPU, not on each device.
            if summary.no_room == 0 && summary.over_rate == 0 {
                options.extend([InterfaceStatisticsOption::IsbIfDrop(0), InterfaceStatisticsOption::IsbOsDrop(0)]);
            }
            let block = InterfaceStatisticsBlock { interface_id: id, timestamp, options };
            self.blocks.write_pcapng_block(block).map_err(failed)?;
        }
        self.flush()
    }

    fn packet(&mut self, trip: &Trip, index: usize, place: usize, frame: Frame<'_>, is_last: bool) -> io::Result<()> {
        let hop = &trip.hops[index];
        let comment = text(&comment::of(trip, index, frame.is_rebuilt, is_last));
        let inbound = match hop.direction {
            Direction::Rx => 1,
            Direction::Tx => 2,
        };
        let packet_id = trip.trip.to_le_bytes();
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(place).map_err(io::Error::other)?,
            timestamp: Duration::from_nanos(hop.at_ns),
            original_len: frame.len_bytes,
            data: frame.data,
            options: vec![
                EnhancedPacketOption::Common(CommonOption::Comment(comment.into())),
                EnhancedPacketOption::Flags(inbound),
                EnhancedPacketOption::Common(CommonOption::Unknown(UnknownOption::new(PACKET_ID, &packet_id))),
            ],
        };
        self.blocks.write_pcapng_block(block).map_err(failed)?;
        self.devices[place].packets += 1;
        Ok(())
    }

    /// The place of the hop's device, which gets its interface now if it has none.
    fn place_of(&mut self, hop: &Hop) -> io::Result<usize> {
        match self.place(hop.ifindex, &hop.device) {
            Some(place) => Ok(place),
            None => self.add(&Interface {
                ifindex: hop.ifindex,
                name: hop.device.clone(),
                description: hop.pod.clone(),
                ethernet: frame::has_link(hop),
            }),
        }
    }

    fn place(&self, ifindex: u32, name: &str) -> Option<usize> {
        self.places.get(&ifindex).copied().filter(|place| self.devices[*place].name == name)
    }

    /// Writes an interface. Answers with its place.
    fn add(&mut self, interface: &Interface) -> io::Result<usize> {
        let mut options = vec![
            InterfaceDescriptionOption::IfName(text(&interface.name).into()),
            InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            InterfaceDescriptionOption::IfOs(text(&self.system).into()),
        ];
        if let Some(description) = &interface.description {
            options.push(InterfaceDescriptionOption::IfDescription(text(description).into()));
        }
        if !self.filter.is_empty() {
            options.push(InterfaceDescriptionOption::IfFilter(Cow::Borrowed(&self.filter)));
        }
        let block = InterfaceDescriptionBlock { linktype: DataLink::ETHERNET, snaplen: self.snaplen, options };
        self.blocks.write_pcapng_block(block).map_err(failed)?;
        let place = self.devices.len();
        self.places.insert(interface.ifindex, place);
        self.devices.push(Device { name: interface.name.clone(), ethernet: interface.ethernet, packets: 0 });
        Ok(place)
    }
}

fn record(address: IpAddr, name: &str) -> Record<'static> {
    let names = vec![Cow::Owned(text(name))];
    match address {
        IpAddr::V4(ip_addr) => Record::Ipv4(Ipv4Record { ip_addr, names }),
        IpAddr::V6(ip_addr) => Record::Ipv6(Ipv6Record { ip_addr, names }),
    }
}

/// Safe to print, and short enough for an option.
fn text(text: &str) -> String {
    let mut text = sanitise(text).into_owned();
    text.truncate(text.floor_char_boundary(MAX_TEXT_BYTES));
    text
}

fn failed(error: PcapNgWriteError) -> io::Error {
    match error {
        PcapNgWriteError::Io(error) => error,
        error => io::Error::other(error),
    }
}
