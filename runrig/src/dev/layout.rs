//! Where the parts of a `dev` network listen: chosen once, kept while the ports stay free.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::context::write_private;
use crate::failure::{self, Failure, Result};
use crate::output;

pub const VALIDATORS: usize = 4;
/// A run that has just been ended may still hold its ports for so long.
pub const LINGER: Duration = Duration::from_secs(8);
/// From the gateway's port to that for TLS: 8743 beside 8700.
const SECURE_STEP: u16 = 43;
/// From the gateway's port to that of the web pages: 8780 beside 8700.
const PORTAL_STEP: u16 = 80;
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    pub gateway: SocketAddr,
    /// Where the gateway speaks TLS; chosen when it is missing.
    #[serde(default)]
    pub secure: Option<SocketAddr>,
    /// Where the web pages are; chosen when it is missing.
    #[serde(default)]
    pub portal: Option<SocketAddr>,
    pub registry: SocketAddr,
    pub p2p: Vec<SocketAddr>,
    pub api: Vec<SocketAddr>,
    pub hosts: Vec<SocketAddr>,
    /// Whether the hosts are light. Stays: it decides who owns their files.
    #[serde(default)]
    pub light: Option<bool>,
}

fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// A gateway's port with room above it, of those that no outgoing connection takes: one of theirs
/// would be where a part of the network wants to listen, for as long as that connection lasts.
fn quiet(is_free: &dyn Fn(u16) -> bool) -> Result<u16> {
    /// Outgoing connections begin at 32,768.
    const FIRST: u16 = 20_000;
    const STEP: u16 = 100;
    const STARTS: u16 = 120;
    // Several that are started at once begin to look at different places.
    let own = (std::process::id() % u32::from(STARTS)) as u16;
    let starts = (0..STARTS).map(|n| FIRST + (own + n) % STARTS * STEP);
    let mut free = starts.filter(|base| (0..STEP).all(|n| is_free(base + n)));
    free.next().ok_or_else(none_left)
}

fn none_left() -> Failure {
    Failure::new(
        failure::CONFLICT,
        "no free port is left",
        "everything above the gateway's is taken",
        "Choose a lower one with --listen 127.0.0.1:8700.",
    )
}

/// Gives out ports above the gateway's, each once.
struct Ports<'a> {
    next: u16,
    given: BTreeSet<u16>,
    is_free: &'a dyn Fn(SocketAddr) -> bool,
}

impl Ports<'_> {
    /// `kept` if it is free, else the next free one.
    fn take(&mut self, kept: Option<&SocketAddr>) -> Result<SocketAddr> {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        if let Some(kept) = kept
            && (self.is_free)(*kept)
            && self.given.insert(kept.port())
        {
            return Ok(*kept);
        }
        while let Some(port) = self.next.checked_add(1) {
            self.next = port;
            if !self.given.contains(&port) && (self.is_free)(local(port)) {
                self.given.insert(port);
                return Ok(local(port));
            }
        }
        Err(none_left())
    }
}

impl Layout {
    /// The URL that clients on this machine use.
    pub fn url(&self) -> String {
        let ip = match self.gateway.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        format!("http://{}", SocketAddr::new(ip, self.gateway.port()))
    }

    /// The URL of services' TLS on this machine.
    pub fn secure_url(&self) -> Option<String> {
        Some(format!("https://localhost:{}", self.secure?.port()))
    }

    /// The URL of the web pages on this machine.
    pub fn portal_url(&self) -> Option<String> {
        let portal = self.portal?;
        let ip = match portal.ip() {
            ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            ip => ip,
        };
        Some(format!("http://{}", SocketAddr::new(ip, portal.port())))
    }

    pub fn api_urls(&self) -> Vec<String> {
        self.api.iter().map(|a| format!("http://{a}")).collect()
    }

    /// As before if there was a before; only the gateway's port is not negotiable.
    ///
    /// A run that has just been killed is waited for, at most `linger`.
    pub fn choose(
        listen: Option<SocketAddr>,
        hosts: usize,
        before: Option<&Self>,
        linger: Duration,
    ) -> Result<Self> {
        let default = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8700);
        let mut gateway = listen.or(before.map(|b| b.gateway)).unwrap_or(default);
        if gateway.port() == 0 {
            gateway.set_port(quiet(&|port| is_free(SocketAddr::new(gateway.ip(), port)))?);
        }
        await_free(gateway, linger)?;
        if let Some(before) = before {
            let started = Instant::now();
            let kept = before.api.iter().chain(&before.p2p).chain(&before.hosts);
            while !kept.clone().all(|a| is_free(*a)) && started.elapsed() < linger {
                std::thread::sleep(PAUSE);
            }
        }
        Self::around(gateway, hosts, before, &is_free)
    }

    fn around(
        gateway: SocketAddr,
        hosts: usize,
        before: Option<&Self>,
        is_free: &dyn Fn(SocketAddr) -> bool,
    ) -> Result<Self> {
        let mut ports = Ports {
            next: gateway.port(),
            given: BTreeSet::from([gateway.port()]),
            is_free,
        };
        let kept =
            |pick: fn(&Self) -> &Vec<SocketAddr>, i: usize| before.and_then(|b| pick(b).get(i));
        let registry = ports.take(before.map(|b| &b.registry))?;
        let mut many = |count: usize, pick: fn(&Self) -> &Vec<SocketAddr>| {
            (0..count)
                .map(|i| ports.take(kept(pick, i)))
                .collect::<Result<Vec<_>>>()
        };
        let mut layout = Self {
            gateway,
            secure: None,
            portal: None,
            registry,
            api: many(VALIDATORS, |l| &l.api)?,
            p2p: many(VALIDATORS, |l| &l.p2p)?,
            hosts: many(hosts, |l| &l.hosts)?,
            light: before.and_then(|b| b.light),
        };
        let port = match before.and_then(|b| b.secure) {
            Some(kept) => kept.port(),
            None => gateway.port().saturating_add(SECURE_STEP),
        };
        let port = ports
            .take(Some(&SocketAddr::new(gateway.ip(), port)))?
            .port();
        layout.secure = Some(SocketAddr::new(gateway.ip(), port));
        let port = match before.and_then(|b| b.portal) {
            Some(kept) => kept.port(),
            None => gateway.port().saturating_add(PORTAL_STEP),
        };
        let port = ports
            .take(Some(&SocketAddr::new(gateway.ip(), port)))?
            .port();
        layout.portal = Some(SocketAddr::new(gateway.ip(), port));
        // Hosts left out this time find their old place another time.
        if let Some(before) = before {
            layout.hosts.extend(before.hosts.iter().skip(hosts));
        }
        Ok(layout)
    }

    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub fn write(&self, path: &Path) -> Result {
        let bytes = serde_json::to_vec_pretty(self).map_err(anyhow::Error::from)?;
        write_private(path, &bytes).map_err(anyhow::Error::from)?;
        Ok(())
    }
}

fn await_free(address: SocketAddr, linger: Duration) -> Result {
    let started = Instant::now();
    let mut said = false;
    while let Err(error) = TcpListener::bind(address) {
        if error.kind() != std::io::ErrorKind::AddrInUse || started.elapsed() > linger {
            return Err(Failure::new(
                failure::CONFLICT,
                format!("cannot listen on {address}"),
                error.to_string(),
                "Another program has that port: end it, or choose another with --listen 127.0.0.1:PORT.",
            ));
        }
        if !said {
            output::say(format!(
                "{address} is taken; waiting a moment for a run that has just ended"
            ));
            said = true;
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway() -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8700)
    }

    #[test]
    fn ports_are_kept_unless_taken() {
        let first = Layout::around(gateway(), 2, None, &|a| a.port() != 8703).expect("ports");
        let all: BTreeSet<u16> = [first.gateway, first.registry]
            .iter()
            .chain(&first.p2p)
            .chain(&first.api)
            .chain(&first.hosts)
            .map(SocketAddr::port)
            .collect();
        assert_eq!(all.len(), 2 + 2 * VALIDATORS + 2);
        assert!(!all.contains(&8703));
        let again = Layout::around(gateway(), 2, Some(&first), &|_| true).expect("ports");
        assert_eq!(again, first);
        let taken = first.api[1];
        let moved = Layout::around(gateway(), 1, Some(&first), &|a| a != taken).expect("ports");
        assert_ne!(moved.api[1], taken);
        assert_eq!(moved.api[0], first.api[0]);
        assert_eq!(moved.hosts, first.hosts);
        let none = Layout::around(gateway(), 1, None, &|_| false);
        assert_eq!(none.map_err(|f| f.exit), Err(failure::CONFLICT));
    }

    /// The network of a port of its own choice lies where no outgoing connection begins.
    #[test]
    fn any_port_is_one_that_no_connection_takes() {
        let any = "127.0.0.1:0".parse().ok();
        let chosen = Layout::choose(any, 3, None, Duration::ZERO).expect("ports");
        let all = [
            &[chosen.gateway, chosen.registry][..],
            &chosen.p2p,
            &chosen.api,
        ];
        let all: Vec<u16> = all.concat().iter().map(SocketAddr::port).collect();
        assert!(
            all.iter().all(|port| (20_000..32_768).contains(port)),
            "{all:?}"
        );
        let first = quiet(&|port| !(20_050..25_000).contains(&port)).expect("a port");
        assert!(first >= 25_000, "{first}");
        assert_eq!(
            quiet(&|_| false).map_err(|f| f.exit),
            Err(failure::CONFLICT)
        );
    }

    #[test]
    fn a_gateway_whose_port_is_taken_is_refused() {
        let held = TcpListener::bind("127.0.0.1:0").expect("a port");
        let taken = held.local_addr().ok();
        let refused = Layout::choose(taken, 1, None, Duration::ZERO);
        assert_eq!(refused.map_err(|f| f.exit), Err(failure::CONFLICT));
    }

    #[test]
    fn a_layout_is_kept_on_disk() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let layout = Layout::around(gateway(), 1, None, &|_| true).expect("ports");
        let path = folder.path().join("layout.json");
        layout.write(&path).expect("written");
        assert_eq!(Layout::read(&path), Some(layout));
        assert_eq!(Layout::read(&folder.path().join("none")), None);
    }
}
