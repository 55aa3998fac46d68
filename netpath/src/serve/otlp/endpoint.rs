//! Where a collector listens, as the user writes it.
//!
//! In: the base URL of OTLP over HTTP. Out: an address and paths. No name is resolved, no TLS is spoken: a collector on the node
//! does both.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use hyper::Uri;

use super::Signal;

const FIX: &str = "run a collector on this node and give its address as a number, like http://127.0.0.1:4318";

/// Where a collector listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    address: SocketAddr,
    /// Of every path; empty, or with a slash in front and none behind.
    prefix: String,
}

impl Endpoint {
    /// Its address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a signal is posted to.
    #[must_use]
    pub fn path(&self, signal: Signal) -> String {
        format!("{}/v1/{}", self.prefix, signal.name())
    }
}

/// As a URL, for people.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.address, self.prefix)
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none = || format!("it is no URL that begins with http://; {FIX}");
        let url: Uri = text.parse().map_err(|_| none())?;
        match url.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(format!("netpath speaks no TLS; {FIX}")),
            _ => return Err(none()),
        }
        let authority = url.authority().ok_or_else(none)?;
        if authority.as_str().contains('@') || url.query().is_some() || text.contains('#') {
            return Err(format!("it has more than an address, a port and a path; {FIX}"));
        }
        let host = match authority.host().trim_start_matches('[').trim_end_matches(']') {
            "localhost" => Ipv4Addr::LOCALHOST.into(),
            host => host.parse::<IpAddr>().map_err(|_| format!("netpath resolves no names; {FIX}"))?,
        };
        let port = authority.port_u16().ok_or_else(|| format!("it has no port; {FIX}"))?;
        let prefix = url.path().trim_end_matches('/');
        if let Some(end) = ["/v1/metrics", "/v1/logs", "/v1/traces"].into_iter().find(|end| prefix.ends_with(end)) {
            return Err(format!("netpath adds /v1/metrics and /v1/logs itself; leave out {end}"));
        }
        Ok(Self { address: SocketAddr::new(host, port), prefix: prefix.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_posted_where() {
        for (text, address, path) in [
            ("http://127.0.0.1:4318", "127.0.0.1:4318", "/v1/logs"),
            ("http://localhost:4318/", "127.0.0.1:4318", "/v1/logs"),
            ("HTTP://[fd00:ec2::1]:80/a/b/", "[fd00:ec2::1]:80", "/a/b/v1/logs"),
        ] {
            let endpoint: Endpoint = text.parse().expect(text);
            assert_eq!((endpoint.address().to_string().as_str(), &*endpoint.path(Signal::Logs)), (address, path));
        }
    }

    #[test]
    fn what_is_no_endpoint() {
        for (text, why) in [
            ("", "no URL"),
            ("127.0.0.1:4318", "no URL"),
            ("/v1/logs", "no URL"),
            ("ftp://127.0.0.1:4318", "no URL"),
            ("https://127.0.0.1:4318", "no TLS"),
            ("http://collector:4318", "no names"),
            ("http://127.0.0.1", "no port"),
            ("http://127.0.0.1:99999", "no port"),
            ("http://a@127.0.0.1:4318", "more than"),
            ("http://127.0.0.1:4318/?a=b", "more than"),
            ("http://127.0.0.1:4318/#a", "more than"),
            ("http://127.0.0.1:4318/v1/metrics", "leave out /v1/metrics"),
        ] {
            let error = text.parse::<Endpoint>().expect_err(text);
            assert!(error.contains(why) && (error.ends_with("4318") || why.contains("leave")), "{text}: {error}");
        }
    }
}
