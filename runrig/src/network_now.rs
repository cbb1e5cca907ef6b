//! `network status` and `network queue`: how validators and hosts stand, and what waits.

use std::collections::BTreeMap;

use api::{HostView, MembersView, ValidatorQueue};

use crate::context::Session;
use crate::failure::Result;
use crate::{output, units};

pub async fn status(session: &Session, json: bool) -> Result {
    let client = &session.client;
    let status = client.status().await?;
    let members = client.members().await?;
    let queues = client.queues().await?;
    let hosts = client.hosts().await?;
    if json {
        output::json(&serde_json::json!({
            "name": status.name, "height": status.height, "time_ms": status.time_ms,
            "epoch": members.epoch, "validators": members.members, "queues": queues, "hosts": hosts,
        }));
        return Ok(());
    }
    let late = units::now_ms().saturating_sub(status.time_ms);
    output::data(format!(
        "{} at height {}, epoch {}, finalised {} ago",
        status.name,
        status.height,
        members.epoch,
        units::age(late)
    ));
    output::data(output::table(
        &[
            "VALIDATOR",
            "SEAT",
            "HEAD",
            "LATE",
            "MISSED",
            "PEERS",
            "LED",
            "QUEUE",
            "API",
        ],
        &validators(&members, &queues),
        &[2, 3, 4, 5, 6, 7],
    ));
    output::data(output::table(
        &["HOSTS", "OF", "STATE"],
        &host_states(&hosts),
        &[0, 1],
    ));
    Ok(())
}

/// Those that the ledger knows, and those that only the gateway does.
fn validators(members: &MembersView, queues: &[ValidatorQueue]) -> Vec<Vec<String>> {
    let said: BTreeMap<_, _> = queues
        .iter()
        .filter_map(|q| Some((q.queue.as_ref()?.validator, q)))
        .collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for member in &members.members {
        let key = member.key.to_string().chars().take(12).collect();
        let seat = match (member.place, member.seats.first()) {
            (Some(place), _) => format!("{place}"),
            (None, Some(epoch)) => format!("from epoch {epoch}"),
            (None, None) => "none".into(),
        };
        let row = match said.get(&member.key).and_then(|q| q.queue.as_ref()) {
            Some(q) => [
                q.height.to_string(),
                units::age(q.late_ms),
                q.missed.to_string(),
                q.peers.to_string(),
                member.led.to_string(),
                q.waiting.to_string(),
                said[&member.key].address.clone(),
            ],
            None => [
                "not known".into(),
                String::new(),
                String::new(),
                String::new(),
                member.led.to_string(),
                String::new(),
                member.api.clone(),
            ],
        };
        rows.push([key, seat].into_iter().chain(row).collect());
    }
    for silent in queues.iter().filter(|q| q.queue.is_none()) {
        let mut row = vec![silent.why.clone()];
        row.resize(8, String::new());
        row.push(silent.address.clone());
        rows.push(row);
    }
    rows
}

fn host_states(hosts: &[HostView]) -> Vec<Vec<String>> {
    let mut states: BTreeMap<&str, usize> = BTreeMap::new();
    for host in hosts {
        let state = match host {
            h if h.closed => "outside its hours",
            h if !h.online => "silent",
            h if h.draining => "draining",
            h if h.cordoned => "takes no new work",
            _ => "online",
        };
        *states.entry(state).or_default() += 1;
    }
    states
        .into_iter()
        .map(|(state, count)| {
            vec![
                count.to_string(),
                hosts.len().to_string(),
                state.to_string(),
            ]
        })
        .collect()
}

pub async fn queue(session: &Session, json: bool) -> Result {
    let queues = session.client.queues().await?;
    if json {
        output::json(&queues);
        return Ok(());
    }
    let rows = queues.iter().flat_map(queue_rows).collect::<Vec<_>>();
    output::data(output::table(
        &[
            "VALIDATOR",
            "TIP",
            "WAIT",
            "BYTES",
            "OLDEST",
            "SUBMITTED THERE",
        ],
        &rows,
        &[1, 2, 3, 4, 5],
    ));
    Ok(())
}

/// One for all, and one for each tip.
fn queue_rows(one: &ValidatorQueue) -> Vec<Vec<String>> {
    let Some(queue) = &one.queue else {
        return vec![vec![one.address.clone(), one.why.clone()]];
    };
    let oldest = queue.oldest.map_or_else(String::new, |height| {
        format!("{} blocks", queue.height.saturating_sub(height))
    });
    let mut rows = vec![vec![
        one.address.clone(),
        "all".into(),
        format!("{} of {}", queue.waiting, queue.waiting_max),
        units::bytes(queue.bytes),
        oldest,
        queue.own.to_string(),
    ]];
    rows.extend(queue.tips.iter().map(|one| {
        vec![
            String::new(),
            one.tip.to_string(),
            one.waiting.to_string(),
            units::bytes(one.bytes),
        ]
    }));
    rows
}
