//! Figures of this validator: for Prometheus, and of what waits here.

use api::{Gauge, PROMETHEUS, QueueView, TipView};
use axum::Json;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::http::App;

pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let head = app.handle.head();
    let state = &head.state;
    let count = |n: usize| n as u64;
    let gauges = [
        Gauge::new(
            "runrig_height",
            "Height of the finalised head.",
            head.header.height,
        ),
        Gauge::new(
            "runrig_head_time_milliseconds",
            "Ledger time of the head.",
            head.header.time_ms,
        ),
        Gauge::new(
            "runrig_finality_lag_milliseconds",
            "This machine's clock less the head's time.",
            api::now_ms().saturating_sub(head.header.time_ms),
        ),
        Gauge::new(
            "runrig_queued_transactions",
            "Transactions that wait here.",
            count(app.handle.queued()),
        ),
        Gauge::new(
            "runrig_forwarded_messages",
            "Messages by which transactions were sent on to leaders since the start.",
            app.handle.forwarded(),
        ),
        Gauge::new(
            "runrig_validators",
            "Seats of the committee.",
            count(state.committee(state.epoch()).map_or(0, <[_]>::len)),
        ),
        Gauge::new(
            "runrig_peers",
            "Validators that this one is connected to.",
            count(app.handle.peers()),
        ),
        Gauge::new(
            "runrig_missed_turns",
            "Turns of this epoch in which no block was finalised: its leader was away or late.",
            missed_turns(&head.header, app.network.genesis.params.epoch_blocks),
        ),
        Gauge::new(
            "runrig_holds_share",
            "1: this validator holds a part of the network's key, and so can vote.",
            u64::from(app.handle.key_share().is_some()),
        ),
        Gauge::new(
            "runrig_led_height",
            "Newest of the last 100 blocks that this validator led; 0: it led none.",
            app.index.led_last(&app.own).unwrap_or(0),
        ),
        Gauge::new(
            "runrig_validators_leading",
            "Validators that led one of the last 100 blocks.",
            app.index.leading(),
        ),
        Gauge::new("runrig_accounts", "Accounts.", count(state.accounts.len())),
        Gauge::new(
            "runrig_hosts",
            "Registered hosts.",
            count(state.hosts.len()),
        ),
        Gauge::new(
            "runrig_deployments",
            "Deployments ever made.",
            count(state.deployments.len()),
        ),
        Gauge::new(
            "runrig_allocations",
            "Allocations ever made.",
            count(state.allocations.len()),
        ),
        Gauge::new(
            "runrig_index_height",
            "Height up to which history is indexed.",
            app.index.height(),
        ),
        Gauge::new(
            "runrig_waiting_requests",
            "Requests that are held back: plans, routes, transactions, events.",
            app.waiting_requests(),
        ),
    ];
    ([(CONTENT_TYPE, PROMETHEUS)], api::prometheus(&gauges))
}

/// `GET /v1/queue`
pub async fn queue(State(app): State<App>) -> Json<QueueView> {
    let head = app.handle.head();
    let queue = app.handle.queue();
    let count = |n: usize| n as u64;
    let tips = queue.tips.iter().map(|(tip, waiting, bytes)| TipView {
        tip: types::Amount(*tip),
        waiting: count(*waiting),
        bytes: count(*bytes),
    });
    Json(QueueView {
        validator: types::PublicKey(app.own),
        height: head.header.height,
        time_ms: head.header.time_ms,
        late_ms: api::now_ms().saturating_sub(head.header.time_ms),
        epoch: head.header.epoch,
        missed: missed_turns(&head.header, app.network.genesis.params.epoch_blocks),
        peers: count(app.handle.peers()),
        waiting: count(queue.waiting),
        bytes: count(queue.bytes),
        waiting_max: count(consensus::Queue::WAITING_MAX),
        bytes_max: count(consensus::Queue::BYTES_MAX),
        own: count(queue.own),
        senders: count(queue.senders),
        oldest: queue.oldest,
        age_max: consensus::Queue::AGE_MAX,
        tips: tips.collect(),
    })
}

/// Views are counted from 1 in each epoch, and each has at most one block.
fn missed_turns(header: &light::Header, epoch_blocks: u64) -> u64 {
    let first = header.epoch.saturating_mul(epoch_blocks).max(1);
    let blocks = (header.height + 1).saturating_sub(first);
    header.view.saturating_sub(blocks)
}
