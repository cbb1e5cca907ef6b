//! Figures for Prometheus.

use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use crate::http::App;

const TEXT: &str = "text/plain; version=0.0.4";

pub async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let head = app.handle.head();
    let state = &head.state;
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    let count = |n: usize| n as u64;
    let figures = [
        (
            "runrig_height",
            "Height of the finalised head.",
            head.header.height,
        ),
        (
            "runrig_head_time_milliseconds",
            "Ledger time of the head.",
            head.header.time_ms,
        ),
        (
            "runrig_finality_lag_milliseconds",
            "This machine's clock less the head's time.",
            now_ms.saturating_sub(head.header.time_ms),
        ),
        (
            "runrig_queued_transactions",
            "Transactions that wait here.",
            count(app.handle.queued()),
        ),
        (
            "runrig_validators",
            "Seats of the committee.",
            count(app.network.validators.len()),
        ),
        (
            "runrig_validators_leading",
            "Validators that led one of the last 100 blocks.",
            app.index.leading(),
        ),
        ("runrig_accounts", "Accounts.", count(state.accounts.len())),
        (
            "runrig_hosts",
            "Registered hosts.",
            count(state.hosts.len()),
        ),
        (
            "runrig_deployments",
            "Deployments ever made.",
            count(state.deployments.len()),
        ),
        (
            "runrig_allocations",
            "Allocations ever made.",
            count(state.allocations.len()),
        ),
        (
            "runrig_index_height",
            "Height up to which history is indexed.",
            app.index.height(),
        ),
        (
            "runrig_waiting_requests",
            "Requests that are held back: plans, routes, transactions, events.",
            app.waiting_requests(),
        ),
    ];
    let mut text = String::new();
    for (name, help, value) in figures {
        text.push_str(&format!(
            "# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n"
        ));
    }
    ([(CONTENT_TYPE, TEXT)], text)
}
