//! From which address somebody asks, where proxies stand before the portal.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use axum::http::HeaderMap;

/// Addresses that begin alike: `10.0.0.0/8`, `fd00::/8`, or one alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    begin: u128,
    /// How many bits of 128 are the same; those of IPv4 stand behind 96 others.
    bits: u32,
}

/// IPv4 as the part of IPv6 that stands for it.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn begin(address: IpAddr, bits: u32) -> u128 {
    number(address) & u128::MAX.checked_shl(128 - bits).unwrap_or(0)
}

impl FromStr for Range {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is no range of addresses such as 10.0.0.0/8 or fd00::1");
        let (address, bits) = text.split_once('/').unwrap_or((text, ""));
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let (most, before) = if address.is_ipv4() {
            (32, 96)
        } else {
            (128, 0)
        };
        let bits = match text.contains('/') {
            true => bits.parse().ok().filter(|b| *b <= most).ok_or_else(wrong)?,
            false => most,
        };
        let bits = bits + before;
        Ok(Self {
            begin: begin(address, bits),
            bits,
        })
    }
}

impl Range {
    fn holds(&self, address: IpAddr) -> bool {
        begin(address, self.bits) == self.begin
    }
}

/// Who asks: the peer, or whom a proxy that is trusted names. Every proxy adds its peer at the end of
/// `X-Forwarded-For`, so it is read from there, and what stands before the first address that is no
/// such proxy's anybody may have written.
pub fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Range]) -> IpAddr {
    let mut client = peer.to_canonical();
    let named = headers.get_all("x-forwarded-for").into_iter().rev();
    let mut named = named.flat_map(|v| v.to_str().unwrap_or("").rsplit(','));
    while trusted.iter().any(|range| range.holds(client)) {
        let Some(next) = named.next().and_then(|text| address(text.trim())) else {
            break;
        };
        client = next.to_canonical();
    }
    client
}

/// Some proxies name the port too.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<SocketAddr>().ok().map(|a| a.ip());
    text.parse().ok().or_else(with_port)
}

/// What is counted as one: whoever has an IPv6 address has a network of 2⁶⁴ of them.
pub fn neighbourhood(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(_) => format!("{}/64", Ipv6Addr::from_bits(begin(address, 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_proxies_that_are_trusted_say_who_asks() {
        let trusted: Vec<Range> = ["10.0.0.0/8", "fd00::/16", "192.0.2.7"]
            .map(|text| text.parse().expect("a range"))
            .into();
        for (peer, forwarded, who) in [
            ("198.51.100.1", &["6.6.6.6"][..], "198.51.100.1"),
            ("10.1.2.3", &[], "10.1.2.3"),
            ("10.1.2.3", &["6.6.6.6"], "6.6.6.6"),
            // What the client itself sent stands before what the proxy added.
            ("10.1.2.3", &["1.1.1.1, 6.6.6.6"], "6.6.6.6"),
            ("10.1.2.3", &["1.1.1.1", "6.6.6.6"], "6.6.6.6"),
            ("10.1.2.3", &["1.1.1.1, 6.6.6.6, 192.0.2.7"], "6.6.6.6"),
            ("10.1.2.3", &["nonsense"], "10.1.2.3"),
            ("10.1.2.3", &["6.6.6.6, unknown"], "10.1.2.3"),
            ("::ffff:10.1.2.3", &["6.6.6.6:4711"], "6.6.6.6"),
            ("fd00::5", &["[2001:db8::1]:80"], "2001:db8::1"),
            ("fd01::5", &["6.6.6.6"], "fd01::5"),
            ("192.0.2.8", &["6.6.6.6"], "192.0.2.8"),
        ] {
            let mut headers = HeaderMap::new();
            for line in forwarded {
                headers.append("x-forwarded-for", line.parse().expect("a value"));
            }
            let found = client(peer.parse().expect("an address"), &headers, &trusted);
            assert_eq!(found.to_string(), who, "{peer} {forwarded:?}");
        }
        let anybody: Range = "0.0.0.0/0".parse().expect("a range");
        assert!(anybody.holds(IpAddr::from([1, 2, 3, 4])));
        assert!(!anybody.holds("2001:db8::1".parse().expect("an address")));
        for wrong in ["", "10.0.0.0/33", "fd00::/129", "10.0.0.0/", "10/8", "a/8"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_network_of_one_owner_is_one() {
        let of = |text: &str| neighbourhood(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:1:2:3::4"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
