//! Which addresses are in which availability zone, as the user says: subnets are not known to a node.
//!
//! In: `10.0.0.0/19=use1-az1`. Out: the zone of an address, by the longest prefix.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::model::DeviceClass;
use crate::report::Device;

/// A subnet, and its zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    subnet: IpNet,
    id: String,
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let forms = || "write it like 10.0.0.0/19=use1-az1".to_owned();
        let (subnet, id) = text.split_once('=').ok_or_else(forms)?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if id.is_empty() || !id.bytes().all(plain) {
            return Err(format!("'{id}' is no id of a zone; {}", forms()));
        }
        let subnet: IpNet = subnet.parse().map_err(|_| format!("'{subnet}' is no subnet; {}", forms()))?;
        Ok(Self { subnet: subnet.trunc(), id: id.to_owned() })
    }
}

/// Zones of subnets.
#[derive(Clone, Debug, Default)]
pub struct Zones(Vec<Zone>);

impl Zones {
    /// Of these subnets.
    #[must_use]
    pub fn new(mut zones: Vec<Zone>) -> Self {
        zones.sort_by_key(|zone| std::cmp::Reverse(zone.subnet.prefix_len()));
        Self(zones)
    }

    /// The zone of a node with these devices, by its ENIs' addresses, if it is known.
    #[must_use]
    pub fn of_node(&self, devices: &[Device]) -> Option<&str> {
        let enis = devices.iter().filter(|device| device.facts.class == DeviceClass::Eni);
        let addresses = enis.flat_map(|device| &device.facts.addresses);
        addresses.filter_map(|address| address.parse::<IpNet>().ok()).find_map(|address| self.of(address.addr()))
    }

    /// The zone of an address, if it is known.
    #[must_use]
    pub fn of(&self, address: IpAddr) -> Option<&str> {
        self.0.iter().find(|zone| zone.subnet.contains(&address)).map(|zone| &*zone.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_has_it() {
        let zones = ["10.0.0.0/8=use1-az1", "10.0.32.7/19=use1-az2", "fd00::/64=use1-az3"]
            .map(|text| text.parse().expect(text));
        let zones = Zones::new(zones.into());
        let of = |address: &str| zones.of(address.parse().expect(address));
        assert_eq!(of("10.0.0.1"), Some("use1-az1"));
        assert_eq!(of("10.0.63.255"), Some("use1-az2"));
        assert_eq!(of("fd00::1"), Some("use1-az3"));
        assert_eq!(of("192.0.2.1"), None);
    }

    #[test]
    fn what_is_no_zone() {
        for text in ["", "10.0.0.0/19", "10.0.0.0/33=a", "10.0.0.0/19=", "10.0.0.0/19=A\"b"] {
            assert!(text.parse::<Zone>().is_err(), "{text}");
        }
    }
}
