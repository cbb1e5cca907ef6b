//! Define the public HTTP API: what every role says and hears, as JSON.
//!
//! | path | who answers | what |
//! |---|---|---|
//! | `GET /v1/status` | validator | [`ChainStatus`] |
//! | `GET /v1/network` | validator | [`NetworkFile`] |
//! | `GET /v1/params` `/v1/supply` | validator | [`ledger::Params`], [`Supply`] |
//! | `GET /v1/blocks/{height}` | validator | [`BlockView`] |
//! | `GET /v1/accounts/{id}` | validator | [`AccountView`] |
//! | `GET /v1/hosts`, `/v1/hosts/{id or name}` | validator | [`HostView`] |
//! | `GET /v1/hosts/{id}/plan?after=N&wait_ms=M` | validator | [`HostPlan`], held back until newer than `N` |
//! | `GET /v1/deployments?owner=`, `/v1/deployments/{id}` | validator | [`DeploymentView`] |
//! | `GET /v1/allocations?owner=&deployment=&host=&all=`, `/v1/allocations/{id}` | validator | [`AllocationView`] |
//! | `GET /v1/allocations/{id}/why` | validator | [`WhyView`] |
//! | `GET /v1/routes?after=H&wait_ms=M` | validator | [`Routes`] |
//! | `POST /v1/quote` | validator | [`QuoteRequest`] → [`Quote`] |
//! | `POST /v1/transactions` | validator | [`Submit`] → [`Submitted`]; `?wait_ms=M` holds until known |
//! | `GET /v1/transactions/{id}?wait_ms=M` | validator | [`TransactionView`] |
//! | `GET /v1/events?owner=&deployment=&from=SEQ` | validator | SSE of [`EventView`]; with `Accept: application/json` one page |
//! | `GET /v1/bill?owner=&deployment=` | validator | [`Bill`] |
//! | `GET /v1/receipts/{id}`, `/v1/receipts/{id}/proof` | validator | [`ledger::lease::Receipt`], [`EventProof`] |
//! | `GET /v1/allocations/{id}/logs?follow=&tail=&since_ms=` | host | NDJSON of [`LogLine`] |
//! | `GET /v1/allocations/{id}/stats?stream=` | host | NDJSON of [`Stats`] |
//! | `GET /v1/allocations/{id}/inspect` | host | raw JSON |
//! | `GET /v1/allocations/{id}/exec` | host | WebSocket of [`ExecFrame`]s |
//! | `GET /v1/allocations/{id}/usage/{sequence}` | host | [`UsageProof`] |
//! | `CONNECT`-like `GET /v1/allocations/{id}/tunnel/{port}` with `Upgrade: runrig-tunnel` | host | bytes |
//! | `/v2/…` | registry | OCI distribution |
//! | everything, on one address | gateway | passed on to who answers |
//!
//! Every role also answers `GET /healthz`; a validator `GET /metrics` and `GET /openapi.json`.
//! A list or a page of events that was cut carries the header `runrig-next`: `from` of the
//! next page.
//!
//! Errors are [`Problem`] with a matching status. Amounts are decimal strings of credits,
//! ids are `d-1`, `a-1`, `r-1`, times are milliseconds since 1970.

mod auth;
mod view;

pub use auth::{AuthError, RequestAuth};
pub use view::*;

/// Names a machine by the text of its boot id (`/proc/sys/kernel/random/boot_id`): rigs with
/// equal digests reach each other's containers directly. Changes with every boot, like the
/// bridges do.
pub fn machine_digest(boot_id: &str) -> types::Digest {
    types::Digest::of_value("runrig-machine", &boot_id.trim().to_string())
}
