//! Take in what hosts say: states as they are, usage checked against the reservation, charged
//! and paid. Ends leases.

use std::collections::BTreeSet;

use types::{
    AccountId, AllocationId, AllocationStatus, Amount, DeploymentId, Digest, HostId, Resource,
    RunState,
};

use super::{Allocation, Call, Charge, Desired, Event, Receipt, UsageLine};
use crate::deployment::{ENDED_MAX, close_if_ended, fold, weigh};
use crate::execute::Context;
use crate::funds::{counted_max, dues};
use crate::{RejectKind, Rejection, limit};

const MESSAGE_BYTES_MAX: usize = 400;
const ADDRESSES_MAX: usize = 32;
const LINES_MAX: usize = 1_000;
/// A report that comes more than so many intervals after the one before is late.
const LATE_INTERVALS: u64 = 3;
/// A reservation may be exceeded for a moment: shapers and schedulers let bursts pass.
pub(crate) const BURST_MS: u64 = 1_000;
pub(crate) const BURST_BYTES: u128 = 1 << 20;

pub(crate) fn apply(context: &mut Context, sender: AccountId, call: Call) -> Result<(), Rejection> {
    if context.state.hosts.get(&sender).is_none() {
        return Err(Rejection::new(
            RejectKind::Forbidden,
            "report",
            "only a registered host may report",
            "Join with `runrig host join`.",
        ));
    }
    match call {
        Call::ReportStatus { plan, statuses } => report_status(context, sender, plan, statuses),
        Call::ReportUsage {
            interval,
            root,
            lines,
        } => report_usage(context, sender, interval, root, lines),
    }
}

/// Nothing is taken over if any line is refused.
fn report_status(
    context: &mut Context,
    host: HostId,
    plan: u64,
    statuses: Vec<(AllocationId, AllocationStatus)>,
) -> Result<(), Rejection> {
    let reject = |why: String| {
        Err(Rejection::new(
            RejectKind::Invalid,
            "status report",
            why,
            "The host's agent is out of order; update it.",
        ))
    };
    if statuses.len() > LINES_MAX {
        return reject(format!(
            "{} lines; at most {LINES_MAX} are taken",
            statuses.len()
        ));
    }
    let latest = context.state.hosts.get(&host).map_or(0, |h| h.plan);
    if plan > latest {
        return reject(format!("it acts on plan {plan}, the latest is {latest}"));
    }
    for (id, status) in &statuses {
        if status.message.len() > MESSAGE_BYTES_MAX || status.addresses.len() > ADDRESSES_MAX {
            return reject(format!("the message or the addresses of {id} are too long"));
        }
        if status.addresses.keys().any(|n| n.len() > 64) {
            return reject(format!("a network name of {id} is too long"));
        }
        if let Some(ip) = status.addresses.values().find(|a| !is_reachable(**a)) {
            let ip = std::net::Ipv4Addr::from(*ip);
            return reject(format!("{ip} cannot be the address of {id}"));
        }
        if context.state.is_folded(*id) {
            continue;
        }
        let known = known(context, &host, *id)?;
        if status.state == RunState::Removed && known.desired != Desired::Remove && !known.closed {
            return reject(format!("{id} is gone, though nobody asked for that"));
        }
    }
    let now = context.env.time_ms;
    let mut touched = BTreeSet::new();
    for (id, status) in statuses {
        // What was closed is nobody's news.
        let Some(known) = context.state.allocations.get(&id) else {
            continue;
        };
        if known.closed || known.status == status {
            continue;
        }
        let shows = seen_by_peers(&known.status) != seen_by_peers(&status);
        let (deployment, service, replica) =
            (known.deployment, known.service.clone(), known.replica);
        if let Some(allocation) = context.state.allocations.get_mut(&id) {
            allocation.status = status.clone();
            allocation.status_ms = now;
            allocation.was_ready |= status.is_ready();
        }
        if shows {
            touched.insert(deployment);
        }
        context.emit(crate::Event::Lease(Event::StatusChanged {
            deployment,
            allocation: id,
            service,
            replica,
            host,
            status,
        }));
    }
    for deployment in touched {
        context.touch(deployment);
    }
    context.saw(host);
    Ok(())
}

/// An allocation, if it is `host`'s to speak of.
fn known<'a>(
    context: &'a Context,
    host: &HostId,
    id: AllocationId,
) -> Result<&'a Allocation, Rejection> {
    let reject = |kind, why| {
        let what = format!("report on allocation {id}");
        Err(Rejection::new(
            kind,
            what,
            why,
            "Report only what this host's plan lists.",
        ))
    };
    match context.state.allocations.get(&id) {
        None => reject(RejectKind::NotFound, "there is none"),
        Some(a) if a.host != *host => reject(RejectKind::Forbidden, "it is placed on another host"),
        Some(allocation) => Ok(allocation),
    }
}

/// Gateways and peers connect there: never to themselves, to everyone, or to the services of
/// the machine's own link.
fn is_reachable(address: [u8; 4]) -> bool {
    let ip = std::net::Ipv4Addr::from(address);
    !(ip.is_unspecified()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_broadcast())
}

/// What peers and routes go by: only such a change makes new plans.
fn seen_by_peers(status: &AllocationStatus) -> impl PartialEq + use<'_> {
    (
        status.state,
        status.health,
        status.exit_code,
        &status.addresses,
    )
}

/// Checks every line before any is settled.
fn report_usage(
    context: &mut Context,
    host: HostId,
    interval: u64,
    root: Digest,
    lines: Vec<UsageLine>,
) -> Result<(), Rejection> {
    let reject = |kind, why: String| {
        Err(Rejection::new(
            kind,
            "usage report",
            why,
            "The host's agent reads the ledger anew and reports again.",
        ))
    };
    let expected = context.state.hosts.get(&host).map_or(0, |h| h.interval) + 1;
    if interval != expected {
        return reject(
            RejectKind::Stale,
            format!("report {interval} came, {expected} is next"),
        );
    }
    if lines.len() > LINES_MAX {
        return reject(
            RejectKind::Invalid,
            format!("{} lines; at most {LINES_MAX} are taken", lines.len()),
        );
    }
    let mut seen = BTreeSet::new();
    for line in &lines {
        if !seen.insert(line.allocation) {
            return reject(
                RejectKind::Invalid,
                format!("two lines for {}", line.allocation),
            );
        }
        let known = known(context, &host, line.allocation)?;
        if let Err(why) = check_line(context, known, line) {
            return reject(RejectKind::Invalid, format!("{}: {why}", line.allocation));
        }
    }
    if let Some(record) = context.state.hosts.get_mut(&host) {
        record.interval = interval;
    }
    context.saw(host);
    note_outcome(context, host, &lines);
    let mut deployments = BTreeSet::new();
    for line in lines {
        let last = line.last;
        let allocation = line.allocation;
        if let Some(deployment) = settle(context, host, interval, root, line) {
            deployments.insert(deployment);
        }
        let leaving = context
            .state
            .allocations
            .get(&allocation)
            .is_some_and(|a| a.desired == Desired::Remove);
        if last && leaving {
            close(context, allocation);
            context.state.refresh_host(&host);
        }
    }
    for deployment in deployments {
        context.fund(&deployment);
        weigh(context, &deployment);
    }
    Ok(())
}

/// What the report says of how well the host served others.
fn note_outcome(context: &mut Context, host: HostId, lines: &[UsageLine]) {
    let now = context.env.time_ms;
    let globals = &context.state.globals;
    let patience = globals
        .params
        .report_interval_ms
        .saturating_mul(LATE_INTERVALS);
    let patience = patience.saturating_add(globals.params.clock_skew_ms);
    let Some(mut record) = context.state.hosts.get(&host).map(|h| h.record.clone()) else {
        return;
    };
    let known = context.state.hosts.get(&host);
    let owner = known.map(|h| h.owner);
    // Outside its hours it may be away.
    let opened_ms = known.map_or(0, |h| h.opened_ms(now));
    let mut late = false;
    for line in lines {
        let Some(known) = context.state.allocations.get(&line.allocation) else {
            continue;
        };
        let payer = context.state.deployments.get(&known.deployment);
        if payer.map(|d| d.owner) == owner || known.status.state != RunState::Running {
            continue;
        }
        record.served(known.settled_ms, line.until_ms, now);
        // While blocks stood still nobody could report.
        let since = known.settled_ms.max(known.status_ms);
        let since = since.max(globals.awake_ms).max(opened_ms);
        late |= now.saturating_sub(since) > patience;
    }
    if late {
        record.was_late(now);
    }
    if let Some(kept) = context.state.hosts.get_mut(&host) {
        kept.record = record;
    }
    context.state.refresh_host(&host);
}

fn check_line(context: &Context, known: &Allocation, line: &UsageLine) -> Result<(), String> {
    if known.closed {
        return Err("its lease is closed; nothing more is charged".into());
    }
    if line.sequence <= known.sequence {
        return Err(format!("record {} after {}", line.sequence, known.sequence));
    }
    if line.until_ms < known.settled_ms {
        return Err("it is dated before the last settlement".into());
    }
    let latest = context.env.time_ms + context.state.globals.params.clock_skew_ms;
    if line.until_ms > latest {
        return Err(format!(
            "it is dated {} ms after ledger time; set the host's clock",
            line.until_ms - context.env.time_ms
        ));
    }
    if !line.total.continues(&known.usage) {
        return Err("a counter went back".into());
    }
    let ms = line.until_ms.saturating_sub(known.placed_ms) + BURST_MS;
    for resource in Resource::ALL {
        let mut most = counted_max(&known.reserved, resource, ms);
        if resource == Resource::Transfer {
            most += BURST_BYTES;
        }
        let used = line.total.counted(resource);
        if used > most {
            return Err(format!(
                "{} used is {used}, but its reservation allows {most}",
                resource.name()
            ));
        }
    }
    Ok(())
}

/// Charges what the counters have grown by, to the last unit.
///
/// The charge is a function of the cumulative counters less what was charged before, so any
/// partition of the same usage charges the same. What escrow and purse cannot cover, or the owner's
/// limit does not allow, stays uncharged and is due at the next settlement.
fn settle(
    context: &mut Context,
    host: HostId,
    interval: u64,
    root: Digest,
    line: UsageLine,
) -> Option<DeploymentId> {
    let known = context.state.allocations.get(&line.allocation)?;
    let (id, rates, before) = (known.deployment, known.rates, known.usage);
    let (from_ms, service) = (known.settled_ms, known.service.clone());
    let cpu = cpu_millis(known, &line);
    let due = dues(&line.total, &rates, &known.charged);
    let sum = Amount(due.iter().map(|a| a.0).fold(0u128, u128::saturating_add));
    let deployment = context.state.deployments.get(&id)?;
    let (owner, escrow) = (deployment.owner, deployment.escrow);
    let sum = sum.min(limit::room(&context.state, &owner, context.env.time_ms));
    let release = known.release.min(deployment.release);
    let payee = context.state.hosts.get(&host)?.owner;
    if sum > escrow {
        let spendable = context.state.account(&owner).spendable;
        let missing = sum.saturating_sub(escrow).min(spendable);
        let _ = missing.is_zero() || context.hold(&id, missing);
    }
    let paid = context.draw(&id, sum);
    context.credit(payee, paid);
    limit::count(context, &owner, &id, paid);
    if let Some(host) = context.state.hosts.get_mut(&host) {
        host.earned = Amount(host.earned.0 + paid.0);
    }
    if let Some(deployment) = context.state.deployments.get_mut(&id) {
        deployment.charged = Amount(deployment.charged.0 + paid.0);
    }
    // What is too little for all pays for the first.
    let mut left = paid;
    let amounts = due.map(|due| {
        let amount = due.min(left);
        left = left.saturating_sub(amount);
        amount
    });
    if let Some(allocation) = context.state.allocations.get_mut(&line.allocation) {
        for (charged, amount) in allocation.charged.iter_mut().zip(amounts) {
            charged.0 += amount.0;
        }
        (allocation.cpu_millis, allocation.cpu_ms) =
            cpu.map_or((0, 0), |n| (n, context.env.time_ms));
        allocation.usage = line.total;
        allocation.sequence = line.sequence;
        allocation.settled_ms = line.until_ms;
    }
    let charges = Resource::ALL.into_iter().zip(amounts);
    let charges = charges.map(|(resource, amount)| Charge {
        resource,
        counted: line.total.counted(resource) - before.counted(resource),
        rate: rates.rate(resource),
        amount,
    });
    let receipt = Receipt {
        id: context.state.next_receipt(),
        deployment: id,
        release,
        service,
        allocation: line.allocation,
        host,
        payer: owner,
        payee,
        interval,
        root,
        record: line.record,
        sequence: line.sequence,
        from_ms,
        until_ms: line.until_ms,
        total: line.total,
        charges: charges.collect(),
        amount: paid,
    };
    context.emit(crate::Event::Lease(Event::Settled(receipt)));
    Some(id)
}

/// Cores in use since the settlement before, in thousandths, if it was ready all the time: what
/// it takes to start is no load.
fn cpu_millis(known: &Allocation, line: &UsageLine) -> Option<u32> {
    /// Counters are read once a second.
    const SPAN_MIN_MS: u64 = 1_000;
    let span_ms = line.until_ms.saturating_sub(known.settled_ms);
    let was_ready = known.status.is_ready() && known.status_ms <= known.settled_ms;
    if span_ms < SPAN_MIN_MS || !was_ready {
        return None;
    }
    let used_ns = line.total.cpu_ns.saturating_sub(known.usage.cpu_ns);
    u32::try_from(used_ns / 1_000 / span_ms).ok()
}

/// Ends a lease: the reservation is free again, nothing more is charged.
pub(crate) fn close(context: &mut Context, id: AllocationId) {
    let Some(allocation) = context.state.allocations.get_mut(&id) else {
        return;
    };
    if allocation.closed {
        return;
    }
    allocation.closed = true;
    allocation.status.state = RunState::Removed;
    allocation.status.pid = 0;
    allocation.status.addresses.clear();
    allocation.status_ms = context.env.time_ms;
    let (host, deployment, reserved) =
        (allocation.host, allocation.deployment, allocation.reserved);
    let charged = Amount(allocation.charged.iter().map(|a| a.0).sum());
    context.state.index.by_host.remove(&(host, id));
    context.state.fleet_mut().release(&host, &reserved);
    if let Some(record) = context.state.hosts.get_mut(&host)
        && let Some(free) = record.free.checked_add(&reserved)
    {
        record.free = free;
    }
    context.touch_host(host);
    if let Some(record) = context.state.deployments.get_mut(&deployment) {
        record.allocations.retain(|a| *a != id);
        record.ended.push(id);
        context.state.index.note_weighed(deployment, record);
    }
    fold(&mut context.state, &deployment, ENDED_MAX);
    context.state.forget_burn(&deployment);
    context.emit(crate::Event::Lease(Event::LeaseClosed {
        deployment,
        allocation: id,
        charged,
    }));
    context.touch(deployment);
    close_if_ended(context, &deployment);
}
