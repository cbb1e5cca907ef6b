//! Reach the public internet only: for requests on a stranger's word.
//!
//! What a name means is decided once, where the connection is made: a name whose answer changes
//! in between, or that redirects inside, leads nowhere.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{ClientBuilder, Url, redirect};

const REDIRECTS_MAX: usize = 5;

struct Public;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let public: Vec<SocketAddr> = found.filter(|a| is_public(a.ip())).collect();
            if public.is_empty() {
                return Err("it has no address on the public internet".into());
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Whether a URL names its host: a bare address is looked up nowhere.
pub fn is_named(url: &str) -> bool {
    let url = Url::parse(url).ok();
    url.is_some_and(|url| url.domain().is_some())
}

/// The client goes nowhere else.
pub fn only(builder: ClientBuilder) -> ClientBuilder {
    let follow = redirect::Policy::custom(|attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error("too many redirects");
        }
        match attempt.url().domain() {
            Some(_) => attempt.follow(),
            None => attempt.error("it redirects to a bare address"),
        }
    });
    builder
        .no_proxy()
        .redirect(follow)
        .dns_resolver(Arc::new(Public))
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            !(ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_documentation()
                || a == 0
                || a >= 240
                || a == 100 && b & 0xc0 == 64
                || a == 198 && b & 0xfe == 18
                || (a, b, c) == (192, 0, 0))
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            // Of what is given out at all, without tunnels to IPv4 and documentation.
            a & 0xe000 == 0x2000 && a != 0x2002 && !(a == 0x2001 && (b < 0x200 || b == 0xdb8))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_not_public() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "192.0.0.1",
            "198.18.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "2002:7f00:1::",
            "64:ff9b::7f00:1",
            "2001:db8::1",
            "2001::1",
            "ff02::1",
        ] {
            assert!(!is_public(inside.parse().expect("an address")), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "93.184.216.34",
            "2606:4700::1111",
            "2a00:1450::1",
        ] {
            assert!(is_public(outside.parse().expect("an address")), "{outside}");
        }
        assert!(is_named("https://auth.example/token"));
        for bare in ["http://127.0.0.1/token", "http://[::1]/token", "nothing"] {
            assert!(!is_named(bare), "{bare}");
        }
    }

    #[tokio::test]
    async fn a_name_of_this_machine_is_not_asked() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let client = only(reqwest::Client::builder()).build().expect("a client");
        let asked = client.get(format!("http://localhost:{port}/")).send().await;
        assert!(asked.is_err());
    }
}
