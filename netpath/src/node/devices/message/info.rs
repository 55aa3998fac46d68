//! Reads a link's kind and the attributes of that kind (`IFLA_LINKINFO`).
//!
//! In: the attribute. Out: [`LinkInfo`]. Pure.

use std::net::IpAddr;

use crate::netlink::{Attribute, Attributes, Malformed};

// linux/if_link.h
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_VLAN_ID: u16 = 1;
const IFLA_TUN_TYPE: u16 = 3;
const IFLA_BR_VLAN_FILTERING: u16 = 7;
const IFLA_VRF_TABLE: u16 = 1;
/// `IFF_TAP` of `linux/if_tun.h`.
const TAP: u8 = 2;

/// A link's kind, and what is specific to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkInfo {
    /// `IFLA_INFO_KIND`.
    pub kind: Option<String>,
    /// `IFLA_VLAN_ID` of a VLAN device.
    pub vlan_id: Option<u16>,
    /// Of a tun device: whether it is a tap (`IFLA_TUN_TYPE`, kernel 4.20 and newer).
    pub tap: Option<bool>,
    /// `IFLA_BR_VLAN_FILTERING` of a bridge.
    pub vlan_filtering: bool,
    /// `IFLA_VRF_TABLE` of a VRF.
    pub vrf_table: Option<u32>,
    /// Where a tunnel sends everything, unless it has several such places or none.
    pub remote: Option<IpAddr>,
}

impl LinkInfo {
    /// Reads the attribute. The kernel puts the kind first.
    pub(super) fn read(info: Attributes<'_>) -> Result<Self, Malformed> {
        let mut all = Self::default();
        for attribute in info {
            let attribute = attribute?;
            match attribute.kind {
                IFLA_INFO_KIND => all.kind = Some(attribute.string()),
                IFLA_INFO_DATA => {
                    let kind = all.kind.clone().unwrap_or_default();
                    for attribute in attribute.nested() {
                        all.add(&kind, attribute?)?;
                    }
                }
                _ => {}
            }
        }
        Ok(all)
    }

    fn add(&mut self, kind: &str, attribute: Attribute<'_>) -> Result<(), Malformed> {
        match (kind, attribute.kind) {
            ("vlan", IFLA_VLAN_ID) => self.vlan_id = Some(attribute.u16()?),
            ("tun", IFLA_TUN_TYPE) => self.tap = Some(attribute.u8()? == TAP),
            ("bridge", IFLA_BR_VLAN_FILTERING) => self.vlan_filtering = attribute.u8()? != 0,
            ("vrf", IFLA_VRF_TABLE) => self.vrf_table = Some(attribute.u32()?),
            (kind, number) if is_remote(kind, number) => self.remote = host(attribute).or(self.remote),
            _ => {}
        }
        Ok(())
    }
}

/// Whether the attribute of `IFLA_INFO_DATA` is the tunnel's remote end (`linux/if_link.h`, `linux/if_tunnel.h`).
fn is_remote(kind: &str, attribute: u16) -> bool {
    let attributes: &[u16] = match kind {
        // IFLA_VXLAN_GROUP and _GROUP6, IFLA_GENEVE_REMOTE and _REMOTE6
        "vxlan" => &[2, 16],
        "geneve" => &[2, 7],
        // IFLA_GRE_REMOTE
        "gre" | "gretap" | "erspan" | "ip6gre" | "ip6gretap" | "ip6erspan" => &[7],
        // IFLA_IPTUN_REMOTE
        "ipip" | "sit" | "ip6tnl" => &[3],
        // IFLA_VTI_REMOTE
        "vti" | "vti6" => &[5],
        _ => &[],
    };
    attributes.contains(&attribute)
}

/// One host's address: a multicast group is many, and "any" is none.
fn host(attribute: Attribute<'_>) -> Option<IpAddr> {
    attribute.ip().ok().filter(|address| !address.is_unspecified() && !address.is_multicast())
}
