//! Shares of the keys of secrets, for the host on which the ledger placed a replica with them.
//!
//! A host asks one validator, which asks the others on its behalf: what each releases is sealed
//! to the host, so that who passes it on learns nothing. See the crate `secrets`.

use std::collections::BTreeSet;
use std::time::Duration;

use api::{RequestAuth, SecretShares};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use ledger::lease::Desired;
use secrets::Label;
use serde::Deserialize;
use types::{AccountId, AllocationId};

use crate::answer::{Answer, Asked, Named, Refused};
use crate::http::{App, Validator, allocation_id};

/// For another validator's share.
const OTHERS_WAIT: Duration = Duration::from_secs(5);
const ANSWER_BYTES_MAX: usize = 256 << 10;

#[derive(Deserialize)]
pub struct To {
    /// The host's key for this request, hex.
    to: String,
}

/// The labels of an allocation's secrets, if they are to be opened on `host` now.
fn labels(state: &ledger::State, id: AllocationId, host: AccountId) -> Result<Vec<Label>, Refused> {
    let next = "See `runrig ps`.";
    let missing = || Refused::not_found(&id.to_string(), next);
    let allocation = state.allocations.get(&id).ok_or_else(missing)?;
    let runs = matches!(allocation.desired, Desired::Run | Desired::Drain);
    if allocation.host != host || allocation.closed || !runs {
        let why = "it is not placed on the host that asks";
        let code = StatusCode::FORBIDDEN;
        return Err(Refused::new(code, "forbidden", id.to_string(), why, next));
    }
    let deployment = state.deployments.get(&allocation.deployment);
    let owner = deployment.ok_or_else(missing)?.owner;
    let service = state.service_of(id).ok_or_else(missing)?;
    let label = |secret: &types::SecretMount| Label {
        owner,
        mark: secret.mark,
    };
    Ok(service.secrets().map(label).collect())
}

pub async fn shares(
    State(app): State<App>,
    Named(id): Named<String>,
    Asked(asked): Asked<To>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
) -> Answer<SecretShares> {
    let id = allocation_id(&id)?;
    let text = |name| headers.get(name).and_then(|v| v.to_str().ok());
    let signed = text(RequestAuth::HEADER);
    let path = uri.path_and_query().map_or(uri.path(), |p| p.as_str());
    let host = RequestAuth::check(signed, method.as_str(), path, api::now_ms()).map_err(|e| {
        let next = "Ask with the key of the host.";
        let code = StatusCode::UNAUTHORIZED;
        Refused::new(code, "login", id.to_string(), e.to_string(), next)
    })?;
    let to = hex::decode(&asked.to).unwrap_or_default();
    let labels = labels(&app.state(), id, host)?;
    let mut shares = SecretShares {
        sharing: String::new(),
        releases: Vec::new(),
    };
    // Enough of the others' if we have none.
    let mut needed = usize::MAX;
    if let Some(held) = app.handle.key_share() {
        let own = app
            .compute(move |_| (secrets::release(&held.share, id, &to, &labels), held))
            .await?;
        let release = own.0.map_err(|e| Refused::invalid("to", e.to_string()))?;
        shares.sharing = hex::encode(&own.1.sharing);
        shares.releases.push(BASE64.encode(release.0));
        needed = own.1.quorum.saturating_sub(1);
    }
    if text(SecretShares::OWN).is_none() {
        let _place = app.wait_place()?;
        let others = app.others(path, signed.unwrap_or_default(), needed);
        for other in others.await {
            if shares.sharing.is_empty() {
                shares.sharing = other.sharing;
            }
            shares.releases.extend(other.releases.into_iter().take(1));
        }
    }
    Ok(Json(shares))
}

impl Validator {
    /// URLs of the others: the founders, and who sits and says where it is.
    fn holders(&self) -> BTreeSet<String> {
        let own = hex::encode(self.own);
        let founders = self.network.validators.iter().filter(|v| v.key != own);
        let state = self.state();
        let seats = state.committee(state.epoch()).unwrap_or_default();
        let entered = seats
            .iter()
            .filter(|seat| seat.key.0 != self.own)
            .filter_map(|seat| state.validators.get(&seat.key));
        let urls = founders.map(|v| v.api.clone());
        urls.chain(entered.map(|v| v.api.clone()))
            .filter(|url| !url.is_empty())
            .collect()
    }

    /// What the other validators release for the same signed request, of as many as are needed.
    async fn others(&self, path: &str, signed: &str, needed: usize) -> Vec<SecretShares> {
        let mut asked: FuturesUnordered<_> = self
            .holders()
            .into_iter()
            .map(|other| {
                let url = format!("{}{path}", other.trim_end_matches('/'));
                let request = self
                    .peers
                    .get(url)
                    .header(RequestAuth::HEADER, signed)
                    .header(SecretShares::OWN, "1")
                    .timeout(OTHERS_WAIT);
                async move { read(request).await }
            })
            .collect();
        let mut releases = Vec::new();
        while releases.len() < needed
            && let Some(answer) = asked.next().await
        {
            match answer {
                Ok(shares) => releases.push(shares),
                Err(why) => tracing::warn!(%why, "another validator's shares"),
            }
        }
        releases
    }
}

async fn read(request: reqwest::RequestBuilder) -> Result<SecretShares, String> {
    let mut response = request.send().await.map_err(|e| e.to_string())?;
    let code = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(|e| e.to_string())? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err("its answer is too long".into());
        }
        body.extend_from_slice(&part);
    }
    if !code.is_success() {
        return Err(format!("HTTP {code}"));
    }
    serde_json::from_slice(&body).map_err(|e| e.to_string())
}
