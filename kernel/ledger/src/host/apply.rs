//! Hosts come, speak, fall silent and go.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use types::{AccountId, Amount, Digest, HostId, Offer, Resources};

use super::{Call, Event, Host, Record, hours, mesh, token, watch};
use crate::deployment::milli;
use crate::execute::Context;
use crate::lease::{self, Desired};
use crate::{RejectKind, Rejection, State};

/// Hosts that go offline or end their probation in one block.
const TURN_MAX: usize = 1_000;
/// Leases on hosts that go offline in one block, but for those of the last one.
const LOST_MAX: usize = 2_000;
/// Blocks further apart than this were held up, and so was what hosts had to say.
const GAP_MS: u64 = 2_500;
/// A host that has come back gets new work after this long, and after twice that for each
/// time that it had fallen silent shortly before.
const PROBATION_MS: u64 = 10_000;
const PROBATION_DOUBLINGS_MAX: u32 = 6;
/// Silence longer after the last one does not count as flapping.
const STEADY_MS: u64 = 600_000;
/// Of the network's rates, in thousandths: a quote by these is never exceeded.
const PRICES_MILLI: std::ops::RangeInclusive<u32> = 500..=1_000;
const ADDRESS_BYTES_MAX: usize = 200;
/// No machine has more; arithmetic on usage relies on it.
const CAPACITY_MAX: Resources = Resources {
    cpu_millis: 10_000_000,
    memory_bytes: 1 << 50,
    disk_bytes: 1 << 55,
    bandwidth_kbps: 1_000_000_000,
};

/// Tokens whose time is over are forgotten. Hosts that were silent too long are offline; what was to be removed there is closed, and
/// other replicas get new places if they can.
///
/// `before_ms` is the time of the block before.
pub(crate) fn pass_time(context: &mut Context, before_ms: u64) {
    let now = context.env.time_ms;
    token::pass_time(context);
    end_probation(context, now);
    hours::pass_time(context);
    if now.saturating_sub(before_ms) > GAP_MS {
        context.state.globals.awake_ms = now;
    }
    if !context.state.globals.watchers.is_empty() {
        // Those who listen beside the ledger know better.
        return;
    }
    let (_, timeout) = context.state.liveness();
    let limit = now.saturating_sub(timeout);
    if context.state.globals.awake_ms >= limit {
        return;
    }
    let silent: Vec<(u64, HostId)> = context
        .state
        .index
        .seen
        .iter()
        .take_while(|(at, _)| *at < limit)
        .take(TURN_MAX)
        .copied()
        .collect();
    let mut lost = 0;
    for (last_seen_ms, host) in silent {
        if lost > LOST_MAX {
            break;
        }
        lost += lose(context, host, last_seen_ms);
    }
}

/// `host` was not heard since `last_ms`: how many leases it had.
pub(super) fn lose(context: &mut Context, host: HostId, last_ms: u64) -> usize {
    let leases = context.state.allocations_on(&host).count();
    let harmed = context.state.serves_others(&host);
    let now = context.env.time_ms;
    let Some(record) = context.state.hosts.get_mut(&host) else {
        return 0;
    };
    let known_ms = record.last_seen_ms;
    let last_seen_ms = known_ms.max(last_ms);
    record.last_seen_ms = last_seen_ms;
    record.online = false;
    let excused = record.may_be_away(now);
    if harmed && !excused {
        record.record.fell_silent(now);
    }
    let steady = last_seen_ms.saturating_sub(record.trusted_ms) > STEADY_MS;
    record.flaps = if steady {
        1
    } else {
        record.flaps.saturating_add(1)
    };
    context.state.index.seen.remove(&(known_ms, host));
    context.touch_all_on(&host);
    context.state.refresh_host(&host);
    context.touch_routes();
    context.emit(crate::Event::Host(Event::HostOffline {
        host,
        last_seen_ms,
        excused,
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
    leases
}

fn end_probation(context: &mut Context, now: u64) {
    let ended: Vec<(u64, HostId)> = context
        .state
        .index
        .probation
        .iter()
        .take_while(|(at, _)| *at <= now)
        .take(TURN_MAX)
        .copied()
        .collect();
    for (at, host) in ended {
        context.state.index.probation.remove(&(at, host));
        context.state.refresh_host(&host);
    }
}

impl State {
    /// How often a host must be heard, and after how much silence it counts as offline, in
    /// milliseconds: the more hosts there are, the more seldom, so that signs of life never
    /// fill the blocks.
    pub fn liveness(&self) -> (u64, u64) {
        /// Up to so many hosts speak as often as the parameters say.
        const HOSTS: u64 = 500;
        let factor = match self.globals.watchers.is_empty() {
            true => 1 + self.index.seen.len() as u64 / HOSTS,
            // They speak beside the ledger.
            false => 1,
        };
        let params = &self.globals.params;
        (
            params.heartbeat_ms.saturating_mul(factor),
            params.host_timeout_ms.saturating_mul(factor),
        )
    }
}

impl Context {
    /// Each deployment with a lease on the host is looked at.
    pub(super) fn touch_all_on(&mut self, host: &HostId) {
        let deployments: BTreeSet<_> = self
            .state
            .allocations_on(host)
            .map(|(_, a)| a.deployment)
            .collect();
        for deployment in deployments {
            self.touch(deployment);
        }
    }

    /// A host that fell silent is back. Replicas that still have their seat here serve on;
    /// new ones come only once it has stayed.
    fn welcome_back(&mut self, host: HostId) {
        let now = self.env.time_ms;
        if let Some(record) = self.state.hosts.get_mut(&host) {
            let doublings = record.flaps.saturating_sub(1).min(PROBATION_DOUBLINGS_MAX);
            let before = (record.trusted_ms, host);
            record.trusted_ms = now.saturating_add(PROBATION_MS << doublings);
            let until = (record.trusted_ms, host);
            self.state.index.probation.remove(&before);
            self.state.index.probation.insert(until);
        }
        self.state.refresh_host(&host);
        self.touch_routes();
        self.touch_all_on(&host);
        self.emit(crate::Event::Host(Event::HostOnline { host }));
    }

    /// The host gave a sign of life in a block.
    pub(crate) fn saw(&mut self, host: HostId) {
        watch::forget_votes(self, host);
        self.return_online(host);
    }

    /// The host is there now.
    pub(super) fn return_online(&mut self, host: HostId) {
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
            self.welcome_back(host);
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
            invitation,
        } => {
            let check = |by| token::check(context, &sender, &owner, &by);
            let used = invitation.map(check).transpose()?.flatten();
            register(context, sender, name, address, offer, owner, machine)?;
            if let Some(used) = used {
                token::take(context, sender, used);
            }
            Ok(())
        }
        Call::Cordon { cordoned } => {
            let host = spoken_for(context, sender)?;
            if let Some(host) = context.state.hosts.get_mut(&host) {
                host.cordoned = cordoned;
            }
            context.state.refresh_host(&host);
            context.emit(crate::Event::Host(Event::HostCordoned { host, cordoned }));
            Ok(())
        }
        Call::Drain { host, draining } => {
            owned(context, sender, &host)?;
            if let Some(host) = context.state.hosts.get_mut(&host) {
                host.draining = draining;
            }
            context.state.refresh_host(&host);
            context.touch_all_on(&host);
            context.emit(crate::Event::Host(Event::HostDraining { host, draining }));
            Ok(())
        }
        Call::SetPrice {
            host,
            price_multiplier_milli,
        } => {
            owned(context, sender, &host)?;
            set_price(context, host, price_multiplier_milli)
        }
        Call::SetAllotment { host, allotment } => {
            owned(context, sender, &host)?;
            allot(context, host, allotment)
        }
        Call::SetHours { host, hours } => {
            owned(context, sender, &host)?;
            hours::set(context, host, hours);
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
        Call::Announce(point) => {
            known(context, &sender)?;
            mesh::announce(context, sender, point)
        }
        Call::Observe { silent, heard } => watch::observe(context, sender, silent, heard),
        Call::Invite { token, until_ms } => token::invite(context, sender, token, until_ms),
        Call::Uninvite { token } => token::uninvite(context, sender, token),
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

/// Errors: `sender` is neither the host nor its owner.
fn owned(context: &Context, sender: AccountId, host: &HostId) -> Result<(), Rejection> {
    known(context, host)?;
    let owner = context.state.hosts.get(host).map(|h| h.owner);
    if sender == *host || owner == Some(sender) {
        return Ok(());
    }
    Err(Rejection::new(
        RejectKind::Forbidden,
        format!("host {host}"),
        "it belongs to another account",
        "Sign with the key of the host or of its owner: --key FILE.",
    ))
}

/// Leases that run keep the rates that they began with.
fn set_price(context: &mut Context, host: HostId, milli: u32) -> Result<(), Rejection> {
    if !PRICES_MILLI.contains(&milli) {
        return Err(Rejection::new(
            RejectKind::Invalid,
            format!("host {host}"),
            format!("{milli} thousandths of the network's rates are no price"),
            "Ask 50 to 100 percent: the rates of `runrig chain params` are the highest.",
        ));
    }
    if let Some(record) = context.state.hosts.get_mut(&host) {
        record.offer.price_multiplier_milli = milli;
    }
    context.state.refresh_host(&host);
    context.emit(crate::Event::Host(Event::HostPriced {
        host,
        price_multiplier_milli: milli,
    }));
    Ok(())
}

/// What is placed there stays promised: nobody lends less than that.
fn allot(context: &mut Context, id: HostId, allotment: Resources) -> Result<(), Rejection> {
    let reject =
        |kind, why: String, next| Err(Rejection::new(kind, format!("host {id}"), why, next));
    if allotment.cpu_millis == 0 || allotment.memory_bytes == 0 {
        let why = "it would lend no CPU or no memory".into();
        let next = "Lend some, or take it off with `runrig host leave`.";
        return reject(RejectKind::Invalid, why, next);
    }
    if !allotment.fits_in(&CAPACITY_MAX) {
        let why = "it would lend more than a machine can have".into();
        return reject(RejectKind::Invalid, why, "Lend what the machine has.");
    }
    let Some(host) = context.state.hosts.get_mut(&id) else {
        return Ok(());
    };
    let reserved = host.offer.capacity.checked_sub(&host.free);
    let reserved = reserved.unwrap_or_default();
    if !reserved.fits_in(&allotment) {
        let why = format!(
            "what runs there reserves {} cores, {} MiB of memory, {} MiB of disk and {} kbit/s",
            milli(reserved.cpu_millis),
            reserved.memory_bytes >> 20,
            reserved.disk_bytes >> 20,
            reserved.bandwidth_kbps
        );
        let next = "Lend at least that, or move it away first: `runrig host drain`.";
        return reject(RejectKind::Conflict, why, next);
    }
    host.allotment = Some(allotment);
    host.offer.capacity = host.offer.capacity.at_most(&allotment);
    host.free = host
        .offer
        .capacity
        .checked_sub(&reserved)
        .unwrap_or_default();
    // Its plan says it to the agent.
    context.touch_host(id);
    context.state.refresh_host(&id);
    context.emit(crate::Event::Host(Event::HostAllotted {
        host: id,
        allotment,
    }));
    Ok(())
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
pub(super) fn is_address(address: &str) -> bool {
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
    if !PRICES_MILLI.contains(&offer.price_multiplier_milli)
        || offer.region.len() > 40
        || offer.region.chars().any(char::is_control)
    {
        let why = "region or price is out of bounds".into();
        return reject(
            RejectKind::Invalid,
            why,
            "A price is 500 to 1000 thousandths of the network's rates.",
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
    let was_offline = context.state.hosts.get(&id).is_some_and(|h| !h.online);
    let host = match context.state.hosts.get(&id) {
        Some(known) => {
            let reserved = known
                .offer
                .capacity
                .checked_sub(&known.free)
                .unwrap_or_default();
            // So does it with what it lends.
            if let Some(allotment) = &known.allotment {
                offer.capacity = offer.capacity.at_most(allotment);
            }
            // A machine that has less than before (its disk has filled up) comes back all the
            // same: what is placed there stays promised, and nothing new fits.
            offer.capacity = at_least(offer.capacity, &reserved);
            // Its owner sets it, whatever an agent that starts anew says.
            offer.price_multiplier_milli = known.offer.price_multiplier_milli;
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
            // Whoever has it now did not invite it.
            host.joined = known.joined.filter(|_| owner == known.owner);
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
            allotment: None,
            online: true,
            cordoned: false,
            draining: false,
            hours: None,
            hours_ms: 0,
            closed: false,
            closing: false,
            turn_ms: 0,
            registered_ms: now,
            last_seen_ms: now,
            silent: 0,
            flaps: 0,
            trusted_ms: now,
            // Above any that a former stay of this host came to: an agent follows no older plan.
            plan: now.saturating_mul(1_000),
            interval: 0,
            bond: bond_of(context, id)?,
            earned: Amount::ZERO,
            record: Record::default(),
            mesh: None,
            joined: None,
        },
    };
    let host = Host {
        online: true,
        last_seen_ms: now,
        silent: 0,
        ..host
    };
    let bond = host.bond;
    context.state.index.silent.remove(&id);
    // Which peers are on the same machine may have changed.
    context.touch_host(id);
    context.touch_routes();
    context.state.index.host_names.insert(name.clone(), id);
    context.state.index.owned_hosts.insert((owner, id));
    context.state.index.seen.insert((now, id));
    context.state.hosts.insert(id, host);
    context.state.refresh_host(&id);
    if was_offline {
        context.welcome_back(id);
    }
    context.emit(crate::Event::Host(Event::HostRegistered {
        host: id,
        name,
        owner,
        offer,
        bond,
    }));
    Ok(())
}

/// What the newcomer `id` has bonded now.
fn bond_of(context: &mut Context, id: HostId) -> Result<Amount, Rejection> {
    let bond = context.state.params().host_bond;
    if bond.is_zero() || context.bond(id, bond) {
        return Ok(bond);
    }
    let lacks = bond.saturating_sub(context.state.account(&id).spendable);
    Err(Rejection::new(
        RejectKind::Funds,
        format!("host {id}"),
        format!("its account lacks {lacks} of the bond of {bond} credits"),
        format!(
            "Send it as much: `runrig wallet send {id} {lacks}`. It goes back when the host leaves."
        ),
    ))
}

fn leave(context: &mut Context, id: HostId) -> Result<(), Rejection> {
    known(context, &id)?;
    let placed = context.state.allocations_on(&id).count();
    if placed > 0 {
        return Err(Rejection::new(
            RejectKind::Conflict,
            format!("host {id}"),
            format!("{placed} allocations are placed on it"),
            "Move them with `runrig host drain`, then leave.",
        ));
    }
    let left = context.state.hosts.get(&id);
    let (bond, owner) = left.map_or((Amount::ZERO, id), |host| (host.bond, host.owner));
    if let Some(host) = context.state.hosts.get(&id) {
        let name = host.name.clone();
        let (seen, trusted) = (host.last_seen_ms, host.trusted_ms);
        let turn = host.turn_ms;
        context.state.index.owned_hosts.remove(&(owner, id));
        context.state.index.host_names.remove(&name);
        context.state.index.seen.remove(&(seen, id));
        context.state.index.silent.remove(&id);
        context.state.index.probation.remove(&(trusted, id));
        context.state.index.turns.remove(&(turn, id));
    }
    context.state.hosts.remove(&id);
    context.state.watched.remove(&id);
    context.state.fleet_mut().remove(&id);
    context.touch_routes();
    if !bond.is_zero() {
        context.unbond(owner, bond);
    }
    context.emit(crate::Event::Host(Event::HostLeft {
        host: id,
        bond,
        owner,
    }));
    Ok(())
}
