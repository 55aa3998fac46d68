//! IPVS services and their backends, from `/proc/net/ip_vs`.
//!
//! In: that file of the calling thread's network namespace; there is none if the kernel has no IPVS. Out: [`VirtualServer`]s.
//! Over netlink, the kernel would be asked for a family by its name, and load the module to answer.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::snapshot::VirtualServer;

/// IANA numbers of the protocols that IPVS knows, by the names that it prints (`ip_vs_proto_name`).
const PROTOCOLS: [(&str, u8); 5] = [("TCP", 6), ("UDP", 17), ("SCTP", 132), ("AH", 51), ("ESP", 50)];
/// Of lines: a cluster of 10,000 services with 100 backends each.
const LIMIT: usize = 1_000_000;

/// Reads the services.
pub fn read() -> io::Result<Vec<VirtualServer>> {
    match File::open("/proc/thread-self/net/ip_vs") {
        Ok(file) => {
            let mut parser = Parser::default();
            for (number, line) in BufReader::new(file).lines().enumerate() {
                if number == LIMIT {
                    return Err(io::Error::other(format!("there are more than {LIMIT} services and backends")));
                }
                parser.line(&line?).ok_or_else(|| io::Error::other("a line that netpath cannot read"))?;
            }
            Ok(parser.servers)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Reads the file's text. `None` if a line is not as the kernel prints it.
#[must_use]
pub fn parse(text: &str) -> Option<Vec<VirtualServer>> {
    let mut parser = Parser::default();
    text.lines().try_for_each(|line| parser.line(line))?;
    Some(parser.servers)
}

#[derive(Debug, Default)]
struct Parser {
    /// How many of the three lines at the head were seen.
    head: usize,
    servers: Vec<VirtualServer>,
}

impl Parser {
    /// A line of `ip_vs_info_seq_show` (`net/netfilter/ipvs/ip_vs_ctl.c`).
    fn line(&mut self, line: &str) -> Option<()> {
        if self.head < 3 {
            self.head += 1;
            return Some(());
        }
        let mut words = line.split_ascii_whitespace();
        match words.next()? {
            "->" => self.servers.last_mut()?.backends.push(endpoint(words.next()?)?),
            // A mark, in hexadecimal; a packet with it may be of any protocol.
            "FWM" => {
                u32::from_str_radix(words.next()?, 16).ok()?;
                self.servers.push(VirtualServer { proto: None, address: None, port: 0, backends: Vec::new() });
            }
            name => {
                let (_, proto) = PROTOCOLS.iter().find(|(known, _)| *known == name)?;
                let (address, port) = endpoint(words.next()?)?;
                self.servers.push(VirtualServer {
                    proto: Some(*proto),
                    address: Some(address),
                    port,
                    backends: Vec::new(),
                });
            }
        }
        Some(())
    }
}

/// "0A000064:0050", "[fd00:0000:0000:0000:0000:0000:0000:0010]:0050".
fn endpoint(text: &str) -> Option<(IpAddr, u16)> {
    let (address, port) = text.rsplit_once(':')?;
    let address = match address.strip_prefix('[') {
        Some(address) => address.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into(),
        None => Ipv4Addr::from_bits(u32::from_str_radix(address, 16).ok()?).into(),
    };
    Some((address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// Of Linux 6.12.
    const TEXT: &str = "IP Virtual Server version 1.2.1 (size=4096)\n\
        Prot LocalAddress:Port Scheduler Flags\n  \
          -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n";

    #[test]
    fn nothing_there() {
        assert_eq!(parse(""), Some(vec![]));
        assert_eq!(parse(TEXT), Some(vec![]));
    }

    #[test]
    fn services_and_backends() {
        let text = format!(
            "{TEXT}TCP  0A000064:0050 rr  \n  \
            -> 0A000115:1F90      Masq    1      0          0         \n  \
            -> 0A000116:1F90      Route   1      0          0         \n\
            UDP  [fd00:0000:0000:0000:0000:0000:0000:0010]:0035 rr ops \n  \
            -> [fd00:0000:0000:0000:0000:0000:0000:0021]:0035      Masq    1      0          0         \n\
            FWM  0000000A rr persistent 300 FFFFFFFF\n  \
            -> 0A000117:0000      Tunnel  1      0          0         \n"
        );
        let server = |proto, address: Option<&str>, port, backends: &[(&str, u16)]| VirtualServer {
            proto,
            address: address.map(|address| address.parse().unwrap()),
            port,
            backends: backends.iter().map(|(address, port)| (address.parse().unwrap(), *port)).collect(),
        };
        let expected = vec![
            server(Some(6), Some("10.0.0.100"), 80, &[("10.0.1.21", 8080), ("10.0.1.22", 8080)]),
            server(Some(17), Some("fd00::10"), 53, &[("fd00::21", 53)]),
            server(None, None, 0, &[("10.0.1.23", 0)]),
        ];
        assert_eq!(parse(&text), Some(expected));
        for length in 0..text.len() {
            let _ = parse(&text[..length]);
        }
    }

    #[test]
    fn other_lines_are_not_skipped() {
        for line in ["TCP", "TCP  0A000064 rr", "XYZ  0A000064:0050 rr", "FWM  x rr", "  -> 0A000115:1F90 Masq 1 0 0"] {
            assert_eq!(parse(&format!("{TEXT}{line}\n")), None, "{line}");
        }
    }
}
