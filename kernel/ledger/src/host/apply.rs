//! Hosts come, speak, fall silent and go.

use std::net::Ipv6Addr;

use types::{AccountId, Amount, Digest, HostId, Offer, Resources};

use super::{Call, Event, Host};
use crate::execute::Context;
use crate::lease::{self, Desired};
use crate::{RejectKind, Rejection};

/// Hosts that go offline in one block.
const TURN_MAX: usize = 1_000;
const ADDRESS_BYTES_MAX: usize = 200;
/// No machine has more; arithmetic on usage relies on it.
const CAPACITY_MAX: Resources = Resources {
    cpu_millis: 10_000_000,
    memory_bytes: 1 << 50,
    disk_bytes: 1 << 55,
    bandwidth_kbps: 1_000_000_000,
};

/// Hosts that were silent too long are offline; what was to be removed there is closed.
pub(crate) fn pass_time(context: &mut Context) {
    let Some(limit) = context
        .env
        .time_ms
        .checked_sub(context.state.globals.params.host_timeout_ms)
    else {
        return;
    };
    let silent: Vec<(u64, HostId)> = context
        .state
        .index
        .seen
        .iter()
        .take_while(|(at, _)| *at < limit)
        .take(TURN_MAX)
        .copied()
        .collect();
    for (last_seen_ms, host) in silent {
        context.state.index.seen.remove(&(last_seen_ms, host));
        let needed = context.state.allocations_on(&host).next().is_some();
        if let Some(record) = context.state.hosts.get_mut(&host) {
            record.online = false;
            record.failures = record.failures.saturating_add(needed.into());
        }
        context.state.refresh_host(&host);
        context.touch_routes();
        context.emit(crate::Event::Host(Event::HostOffline {
            host,
            last_seen_ms,
        }));
        let leaving: Vec<_> = context
            .state
            .allocations_on(&host)
            .filter(|(_, a)| a.desired == Desired::Remove)
            .map(|(id, _)| id)
            .collect();
        for allocation in leaving {
            lease::close(context, allocation);
        }
    }
}

impl Context {
    /// The host gave a sign of life.
    pub(crate) fn saw(&mut self, host: HostId) {
        let now = self.env.time_ms;
        let Some(record) = self.state.hosts.get_mut(&host) else {
            return;
        };
        let (before, was_online) = (record.last_seen_ms, record.online);
        record.last_seen_ms = now;
        record.online = true;
        self.state.index.seen.remove(&(before, host));
        self.state.index.seen.insert((now, host));
        if !was_online {
            self.state.refresh_host(&host);
            self.touch_routes();
            self.emit(crate::Event::Host(Event::HostOnline { host }));
        }
    }
}

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    match call {
        Call::Register {
            name,
            address,
            offer,
            owner,
            machine,
        } => register(context, sender, name, address, offer, owner, machine),
        Call::Cordon { cordoned } => {
            let host = spoken_for(context, sender)?;
            if let Some(host) = context.state.hosts.get_mut(&host) {
                host.cordoned = cordoned;
            }
            context.state.refresh_host(&host);
            context.emit(crate::Event::Host(Event::HostCordoned { host, cordoned }));
            Ok(())
        }
        Call::Leave => {
            let host = spoken_for(context, sender)?;
            leave(context, host)
        }
        Call::Heartbeat => {
            known(context, &sender)?;
            context.saw(sender);
            Ok(())
        }
    }
}

fn known(context: &Context, host: &HostId) -> Result<(), Rejection> {
    if context.state.hosts.get(host).is_some() {
        return Ok(());
    }
    Err(Rejection::new(
        RejectKind::NotFound,
        format!("host {host}"),
        "it is not registered",
        "Join with `runrig host join`.",
    ))
}

/// The host that `sender` speaks for: itself, or the only one it owns.
fn spoken_for(context: &Context, sender: AccountId) -> Result<HostId, Rejection> {
    if context.state.hosts.get(&sender).is_some() {
        return Ok(sender);
    }
    let mut owned = context.state.hosts_of(&sender);
    match (owned.next(), owned.next()) {
        (Some((id, _)), None) => Ok(id),
        (Some(_), Some(_)) => Err(Rejection::new(
            RejectKind::Invalid,
            "host",
            "this account owns several",
            "Sign with the key of the host that is meant: run it on that machine.",
        )),
        (None, _) => known(context, &sender).map(|()| sender),
    }
}

/// `http://host:port`: no path, no user, nothing that a client could be led astray with.
fn is_address(address: &str) -> bool {
    let rest = address.strip_prefix("http://");
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else {
        return false;
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let named = |h: &str| {
        !h.is_empty()
            && h.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'.' || b == b'-')
    };
    address.len() <= ADDRESS_BYTES_MAX
        && bracketed.map_or_else(|| named(host), |v6| v6.parse::<Ipv6Addr>().is_ok())
        && port.bytes().all(|b| b.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Each resource at least what is reserved.
fn at_least(capacity: Resources, reserved: &Resources) -> Resources {
    Resources {
        cpu_millis: capacity.cpu_millis.max(reserved.cpu_millis),
        memory_bytes: capacity.memory_bytes.max(reserved.memory_bytes),
        disk_bytes: capacity.disk_bytes.max(reserved.disk_bytes),
        bandwidth_kbps: capacity.bandwidth_kbps.max(reserved.bandwidth_kbps),
    }
}

pub(crate) fn is_name(text: &str, length_max: usize) -> bool {
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= length_max
        && bytes[0].is_ascii_alphanumeric()
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-')
}

fn register(
    context: &mut Context,
    id: HostId,
    name: String,
    address: String,
    mut offer: Offer,
    owner: AccountId,
    machine: Digest,
) -> Result<(), Rejection> {
    let reject =
        |kind, why: String, next| Err(Rejection::new(kind, format!("host {name}"), why, next));
    if !is_name(&name, 40) {
        let why = "a name has 1 to 40 lower-case letters, digits and hyphens".into();
        return reject(RejectKind::Invalid, why, "Choose another with --name.");
    }
    if !is_address(&address) {
        let why = "its address is not http://ip:port".into();
        return reject(RejectKind::Invalid, why, "Give one with --advertise.");
    }
    if offer.capacity.cpu_millis == 0 || offer.capacity.memory_bytes == 0 {
        let why = "it offers no CPU or no memory".into();
        return reject(
            RejectKind::Invalid,
            why,
            "Offer more with --cpus and --memory.",
        );
    }
    if !offer.capacity.fits_in(&CAPACITY_MAX) {
        let why = "it offers more than a machine can have".into();
        return reject(RejectKind::Invalid, why, "Offer what the machine has.");
    }
    if !matches!(offer.architecture.as_str(), "amd64" | "arm64") {
        let why = "its architecture is neither amd64 nor arm64".into();
        return reject(RejectKind::Invalid, why, "Join with another machine.");
    }
    if !(500..=2000).contains(&offer.price_multiplier_milli)
        || offer.region.len() > 40
        || offer.region.chars().any(char::is_control)
    {
        let why = "region or price is out of bounds".into();
        return reject(
            RejectKind::Invalid,
            why,
            "A price is 500 to 2000 thousandths of the base rate.",
        );
    }
    if context
        .state
        .host_named(&name)
        .is_some_and(|other| other != id)
    {
        let why = "another host has this name".into();
        return reject(RejectKind::Conflict, why, "Choose another with --name.");
    }
    let now = context.env.time_ms;
    let host = match context.state.hosts.get(&id) {
        Some(known) => {
            let reserved = known
                .offer
                .capacity
                .checked_sub(&known.free)
                .unwrap_or_default();
            // A machine that has less than before (its disk has filled up) comes back all the
            // same: what is placed there stays promised, and nothing new fits.
            offer.capacity = at_least(offer.capacity, &reserved);
            let free = offer.capacity.checked_sub(&reserved).unwrap_or_default();
            if owner != known.owner && context.state.allocations_on(&id).next().is_some() {
                let why = "its owner cannot change while something runs there".into();
                return reject(RejectKind::Conflict, why, "Drain it first.");
            }
            let mut host = known.clone();
            context.state.index.host_names.remove(&host.name);
            context.state.index.owned_hosts.remove(&(host.owner, id));
            context.state.index.seen.remove(&(host.last_seen_ms, id));
            host.name.clone_from(&name);
            host.address = address;
            host.owner = owner;
            host.machine = machine;
            host.offer = offer.clone();
            host.free = free;
            host
        }
        None => Host {
            name: name.clone(),
            address,
            owner,
            machine,
            free: offer.capacity,
            offer: offer.clone(),
            online: true,
            cordoned: false,
            registered_ms: now,
            last_seen_ms: now,
            plan: 1,
            interval: 0,
            earned: Amount::ZERO,
            successes: 0,
            failures: 0,
        },
    };
    let host = Host {
        online: true,
        last_seen_ms: now,
        ..host
    };
    // Which peers are on the same machine may have changed.
    context.touch_host(id);
    context.touch_routes();
    context.state.index.host_names.insert(name.clone(), id);
    context.state.index.owned_hosts.insert((owner, id));
    context.state.index.seen.insert((now, id));
    context.state.hosts.insert(id, host);
    context.state.refresh_host(&id);
    context.emit(crate::Event::Host(Event::HostRegistered {
        host: id,
        name,
        owner,
        offer,
    }));
    Ok(())
}

fn leave(context: &mut Context, id: HostId) -> Result<(), Rejection> {
    known(context, &id)?;
    let placed = context.state.allocations_on(&id).count();
    if placed > 0 {
        return Err(Rejection::new(
            RejectKind::Conflict,
            format!("host {id}"),
            format!("{placed} allocations are placed on it"),
            "Cordon it and wait until they have ended.",
        ));
    }
    if let Some(host) = context.state.hosts.get(&id) {
        let (name, owner, seen) = (host.name.clone(), host.owner, host.last_seen_ms);
        context.state.index.owned_hosts.remove(&(owner, id));
        context.state.index.host_names.remove(&name);
        context.state.index.seen.remove(&(seen, id));
    }
    context.state.hosts.remove(&id);
    context.state.fleet_mut().remove(&id);
    context.touch_routes();
    context.emit(crate::Event::Host(Event::HostLeft { host: id }));
    Ok(())
}
