//! Copies of other hosts' logs: taken from them, given to their readers.

use std::sync::Arc;

use api::CopySpan;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use types::{AccountId, AllocationId};

use super::{Agent, Refused, refused};
use crate::logs::{self, Declined};

/// Who asks, and about what; the host of the path is this one, or nobody's business here.
struct Asked {
    id: AllocationId,
    account: AccountId,
}

fn asked(
    agent: &Agent,
    (host, id): (&str, &str),
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Asked, Refused> {
    let ours = host == agent.shared.link.host.to_string();
    let id = id.parse().ok().filter(|_| ours).ok_or_else(missing)?;
    let what = format!("the copy of the log of {id}");
    // The key itself: what is kept is sealed to keys, not to accounts.
    let account = agent.caller(&what, method, uri, headers)?.account;
    Ok(Asked { id, account })
}

/// As well where there is one, for others.
fn missing() -> Refused {
    let why = "this host keeps none that you may read";
    let next = "Choose the owner's context with `runrig context use`.";
    let code = StatusCode::NOT_FOUND;
    refused(code, "not_found", "a copy of a log".into(), why, next)
}

pub async fn list(
    State(agent): State<Arc<Agent>>,
    Path((host, id)): Path<(String, String)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Json<Vec<CopySpan>>, Refused> {
    let asked = asked(&agent, (&host, &id), &method, &uri, &headers)?;
    let _permit = agent.stream()?;
    let shared = agent.shared.clone();
    let list = move || shared.copies.list(asked.id, asked.account);
    let parts = tokio::task::spawn_blocking(list).await.ok().flatten();
    parts.map(Json).ok_or_else(missing)
}

pub async fn give(
    State(agent): State<Arc<Agent>>,
    Path((host, id, first)): Path<(String, String, u64)>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Vec<u8>, Refused> {
    let asked = asked(&agent, (&host, &id), &method, &uri, &headers)?;
    let _permit = agent.stream()?;
    let shared = agent.shared.clone();
    let give = move || shared.copies.give(asked.id, first, asked.account);
    let part = tokio::task::spawn_blocking(give).await.ok().flatten();
    part.ok_or_else(missing)
}

#[derive(serde::Deserialize)]
pub struct Offered {
    next: u64,
    newest_ms: u64,
    until_ms: u64,
}

pub async fn take(
    State(agent): State<Arc<Agent>>,
    Path((host, id, first)): Path<(String, String, u64)>,
    Query(offered): Query<Offered>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<serde_json::Value>, Refused> {
    let asked = asked(&agent, (&host, &id), &method, &uri, &headers)?;
    let _permit = agent.stream()?;
    let shared = agent.shared.clone();
    let what = format!("the copy of the log of {}", asked.id);
    let no = |code, kind: &str, why: &str| {
        Err(refused(code, kind, what.clone(), why, "Ask another host."))
    };
    let source = match logs::host_of(&shared, asked.id).await {
        Ok(source) => source,
        Err(error) => {
            let why = format!("the ledger does not say whose it is: {error}");
            return no(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &why);
        }
    };
    if source != asked.account {
        let why = "the ledger has the replica on another host";
        return no(StatusCode::FORBIDDEN, "forbidden", why);
    }
    let span = CopySpan {
        first,
        next: offered.next,
        newest_ms: offered.newest_ms,
    };
    let take = move || {
        let copies = &shared.copies;
        copies.take(source, asked.id, span, offered.until_ms, &body)
    };
    let taken = tokio::task::spawn_blocking(take).await;
    match taken.unwrap_or(Err(Declined::NoRoom)) {
        Ok(()) => Ok(Json(serde_json::json!({}))),
        Err(Declined::Wrong) => {
            let why = "it is not what a host signed, or too large";
            no(StatusCode::BAD_REQUEST, "invalid", why)
        }
        Err(Declined::NotYours) => {
            let why = "another host signed it";
            no(StatusCode::FORBIDDEN, "forbidden", why)
        }
        Err(Declined::TooFast) => {
            let why = "it sends more than is taken within a second";
            no(StatusCode::TOO_MANY_REQUESTS, "unavailable", why)
        }
        Err(Declined::NoRoom) => {
            let why = "this host has no room for it";
            no(StatusCode::INSUFFICIENT_STORAGE, "unavailable", why)
        }
    }
}
