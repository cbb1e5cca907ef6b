//! Define the public HTTP API: what every role says and hears, as JSON.
//!
//! [`endpoints`] is the table of all paths; [`openapi`] tells it to programs. The paths that a
//! newcomer wants first:
//!
//! | path | who answers | what |
//! |---|---|---|
//! | `GET /v1/status` | validator | [`ChainStatus`] |
//! | `POST /v1/quote`, `/v1/transactions` | validator | [`Quote`], [`Submitted`] |
//! | `GET /v1/deployments`, `/v1/allocations`, `/v1/bill`, `/v1/receipts/{id}` | validator | what runs and what it cost |
//! | `GET /v1/events` | validator | SSE of [`EventView`]; with `Accept: application/json` one page |
//! | `GET /v1/allocations/{id}/logs`, `/stats`, `/exec` … | host | what goes on inside |
//! | `GET /v1/gateway` | gateway | how it is |
//! | `/v2/…` | registry | OCI distribution |
//! | everything, on one address | gateway | passed on to who answers |
//!
//! Every role also answers `GET /healthz` and `GET /metrics`; a validator `GET /openapi.json`.
//! Each answer of a validator says in the header `runrig-head` how far it has come ([`Head`]).
//! A list or a page of events that was cut carries the header `runrig-next`: `from` of the
//! next page.
//!
//! Errors are [`Problem`] with a matching status. Amounts are decimal strings of credits,
//! ids are `d-1`, `a-1`, `r-1`, times are milliseconds since 1970.

mod agent;
mod auth;
mod beat;
mod copy;
mod device;
mod endpoint;
mod figures;
mod grant;
mod head;
mod host;
mod job;
mod limit;
mod login;
mod member;
mod openapi;
mod queue;
mod route;
mod rules;
mod token;
mod turns;
mod view;

pub use agent::{
    AgentStatus, ExecFrame, LogLine, NOBODY_LISTENS, PastStep, RequestFigures, RequestPast,
    RequestSample, RequestsPast, Stats, StatsSample,
};
pub use auth::{AuthError, Caller, RequestAuth};
pub use beat::{Anchor, BEAT_BYTES_MAX, BEATS, Beat, Beats};
pub use copy::{CopySpan, Keeper, LogCopy};
pub use device::{DeviceAnswer, DeviceAsk, DeviceCode, DevicePoll};
pub use endpoint::{Body, Endpoint, Method, Role, endpoints, paths_of};
pub use figures::{Gauge, PROMETHEUS, prometheus};
pub use grant::Grant;
pub use head::Head;
pub use host::{HostView, Reputation};
pub use job::{Facts, JobOrder, JobRow, JobState, JobsView, UseRow, UseView, is_live};
pub use limit::{LimitView, StopView};
pub use login::{LoginError, RegistryLogin};
pub use member::{ConvictionView, LeavingView, MemberView, MembersView, TicketView};
pub use openapi::openapi;
pub use queue::{QueueView, TipView, ValidatorQueue};
pub use route::{Gone, KnownRoutes, NotNext, Route, RouteScale, Routes, ServiceKey, Upstream};
pub use rules::{
    DutiesView, DutyLine, LotteryExport, LotteryView, ProposalView, ScreenedBy, TransactionProof,
    WhenView,
};
pub use token::{TokenView, join_line};
pub use turns::{MissedView, TurnsView};
pub use view::*;

/// Of the body of a request to a validator: the largest transaction in base64, with room.
pub const BODY_BYTES_MAX: usize = 512 << 10;

/// Milliseconds since 1970 by this machine's clock; 0 before then.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64)
}

/// Names a machine by the text of its boot id (`/proc/sys/kernel/random/boot_id`) and the
/// network namespace of this process: rigs with equal digests reach each other's containers
/// directly. Changes with every boot, like the bridges do.
pub fn machine_digest(boot_id: &str) -> types::Digest {
    // Unreadable is one namespace, too.
    let network = std::fs::read_link("/proc/self/ns/net").unwrap_or_default();
    let network = network.to_string_lossy().into_owned();
    types::Digest::of_value("runrig-machine", &(boot_id.trim(), network))
}
