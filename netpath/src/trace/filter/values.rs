//! Values as they are written: addresses, networks, ports, protocols.
//!
//! In: a word. Out: what it means everywhere, or why it means nothing.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::words::Word;
use super::{FilterError, Ports};
use crate::path::protocols;

/// A number: decimal, or as `0x1f`. With a leading zero tcpdump takes it for octal: none here.
pub fn digits(text: &str) -> Option<u32> {
    if let Some(hex) = text.strip_prefix("0x") {
        return Some(hex)
            .filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|hex| u32::from_str_radix(hex, 16).ok());
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_number)
}

/// An address, as the network of it alone.
pub fn host(word: &Word, family: Option<u8>) -> Result<IpNet, FilterError> {
    if let Ok(address) = word.text.parse::<IpAddr>() {
        return of_family(IpNet::from(address), word, family);
    }
    Err(word.error(match () {
        () if word.text.contains('/') => match word.text.parse::<IpNet>() {
            Ok(_) => "it is a network: write net before it",
            Err(_) => "no address: a pod is pod NS/NAME, a network net 10.0.0.0/16",
        },
        () if is_partial(&word.text) => "an address has four numbers: write all of them, or net for a network",
        () if word.text.contains(':') => "no address: write it like 10.0.0.21 or 2001:db8::21, a port as port 80",
        () => "netpath asks no DNS: give its address, or use pod NS/NAME, svc NS/NAME",
    }))
}

/// A network: with its length, with less than four numbers, or of one address.
pub fn net(word: &Word, family: Option<u8>) -> Result<IpNet, FilterError> {
    let text = word.text.as_str();
    let (address, len) = text.split_once('/').map_or((text, None), |(address, len)| (address, Some(len)));
    let (address, whole) = match address.parse::<IpAddr>() {
        Ok(address) => (address, IpNet::from(address).prefix_len()),
        Err(_) => short(address).ok_or_else(|| word.error("no network: write it like 10.0.0.0/16 or 2001:db8::/32"))?,
    };
    let len = match len {
        None => whole,
        Some(len) => digits(len).and_then(|len| u8::try_from(len).ok()).ok_or_else(|| bad_len(word))?,
    };
    let net = IpNet::new(address, len).map_err(|_| bad_len(word))?;
    if net != net.trunc() {
        return Err(word.error(format_args!("it has bits behind its length: write {}", net.trunc())));
    }
    of_family(net, word, family)
}

/// `net ADDRESS mask MASK`.
pub fn masked(word: &Word, mask: &Word, family: Option<u8>) -> Result<IpNet, FilterError> {
    let part = |word: &Word| {
        let short = || short(&word.text).map(|(address, _)| address);
        match word.text.parse().ok().or_else(short) {
            Some(IpAddr::V4(address)) => Ok(address),
            _ => Err(word.error("write it like net 10.0.0.0 mask 255.0.0.0; IPv6 like net 2001:db8::/32")),
        }
    };
    let net = Ipv4Net::with_netmask(part(word)?, part(mask)?)
        .map_err(|_| mask.error("no network's mask: write a length, as in net 10.0.0.0/8"))?;
    if net != net.trunc() {
        return Err(word.error(format_args!("it has bits behind its mask: write net {}", net.trunc())));
    }
    of_family(net.into(), word, family)
}

fn bad_len(word: &Word) -> FilterError {
    word.error("give a length up to 32, for IPv6 up to 128, as in net 10.0.0.0/16")
}

fn of_family(net: IpNet, word: &Word, family: Option<u8>) -> Result<IpNet, FilterError> {
    match (net, family) {
        (IpNet::V4(_), Some(6)) => Err(word.error("an IPv4 address: leave ip6 out")),
        (IpNet::V6(_), Some(4)) => Err(word.error("an IPv6 address: leave ip out")),
        _ => Ok(net),
    }
}

fn is_partial(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// One to three numbers, the network's first: the address, and bits of them.
fn short(text: &str) -> Option<(IpAddr, u8)> {
    let mut octets = [0; 4];
    let mut bits = 0;
    for (at, part) in text.split('.').enumerate() {
        *octets.get_mut(at)? = u8::try_from(digits(part)?).ok()?;
        bits += 8;
    }
    (bits < 32).then(|| (Ipv4Addr::from(octets).into(), bits))
}

/// A port or a range of them. Names are looked up later.
pub fn ports(word: &Word, is_range: bool) -> Result<Ports, FilterError> {
    let text = word.text.as_str();
    let number = |text: &str| digits(text).and_then(|number| u16::try_from(number).ok());
    if let Some(port) = number(text) {
        return Ok(Ports::Numbers(port, port));
    }
    let range = text.split_once('-').and_then(|(one, other)| Some((number(one)?, number(other)?)));
    match range {
        Some((one, other)) if is_range => Ok(Ports::Numbers(one.min(other), one.max(other))),
        Some(_) => Err(word.error("a range: write portrange before it")),
        None if !text.contains(|c: char| c.is_ascii_alphabetic()) => {
            Err(word.error("give a port up to 65535, without leading zeros; more ports as 80 or 443"))
        }
        None if is_range => Ok(Ports::Names(word.clone())),
        None => Ok(Ports::Name(word.clone())),
    }
}

/// A protocol above IP.
pub fn protocol(word: &Word) -> Result<u8, FilterError> {
    let unknown = || word.error(format_args!("no protocol; known are {}: give others by number", protocols::known()));
    protocols::number(&word.text).ok_or_else(unknown)
}
