//! Which agent has an allocation: asked of the validators, remembered for a moment.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Instant;

use http::header::HOST;
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use types::{AllocationId, HostId};

use crate::limits::{ANSWER_BYTES_MAX, DIRECTORY_MAX, DIRECTORY_TIME, VALIDATOR_TIME};
use crate::outgoing::{Outgoing, Reply};
use crate::page;
use crate::proxy::Gateway;
use crate::table::authority;

#[derive(Default)]
pub struct Directory(Mutex<HashMap<AllocationId, (Authority, Instant)>>);

#[derive(Deserialize)]
struct Placed {
    host: HostId,
}

#[derive(Deserialize)]
struct Addressed {
    address: String,
}

impl Directory {
    /// The agent's address, or what to tell who asked.
    pub async fn agent(
        &self,
        gateway: &Gateway,
        id: AllocationId,
    ) -> Result<Authority, Box<Response<Reply>>> {
        let known = self.0.lock().expect("not poisoned").get(&id).cloned();
        if let Some((agent, since)) = known
            && since.elapsed() < DIRECTORY_TIME
        {
            return Ok(agent);
        }
        let what = format!("allocation {id}");
        let placed: Placed = ask(gateway, &format!("/v1/allocations/{id}"), &what).await?;
        let agent = host(gateway, placed.host).await?;
        let mut known = self.0.lock().expect("not poisoned");
        if known.len() >= DIRECTORY_MAX {
            known.clear();
        }
        known.insert(id, (agent.clone(), Instant::now()));
        Ok(agent)
    }

    pub fn forget(&self, id: AllocationId) {
        self.0.lock().expect("not poisoned").remove(&id);
    }
}

/// The address of a host's agent, or what to tell who asked.
pub async fn host(gateway: &Gateway, id: HostId) -> Result<Authority, Box<Response<Reply>>> {
    let what = format!("host {id}");
    let host: Addressed = ask(gateway, &format!("/v1/hosts/{id}"), &what).await?;
    authority(&host.address).ok_or_else(|| {
        Box::new(page::problem(
            StatusCode::BAD_GATEWAY,
            "unavailable",
            &what,
            "it gives an address that is none",
            "Tell the host's owner.",
        ))
    })
}

pub async fn ask<T: DeserializeOwned>(
    gateway: &Gateway,
    path: &str,
    what: &str,
) -> Result<T, Box<Response<Reply>>> {
    for validator in gateway.validators.in_order() {
        let request = Request::get(format!("http://{}{path}", validator.address))
            .header(HOST, validator.address.as_str())
            .body(Outgoing::empty());
        let Ok(request) = request else { break };
        let answer = tokio::time::timeout(VALIDATOR_TIME, async {
            let response = gateway.client.request(request).await.ok()?;
            let status = response.status();
            let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
            Some((status, body.collect().await.ok()?.to_bytes()))
        });
        let Ok(Some((status, bytes))) = answer.await else {
            validator.failed();
            continue;
        };
        if status == StatusCode::NOT_FOUND {
            return Err(Box::new(page::problem(
                StatusCode::NOT_FOUND,
                "not_found",
                what,
                "there is none",
                "See `runrig ps -a`.",
            )));
        }
        if let Ok(value) = serde_json::from_slice(&bytes) {
            gateway.validators.answered(validator);
            return Ok(value);
        }
    }
    Err(Box::new(page::problem(
        StatusCode::SERVICE_UNAVAILABLE,
        "unavailable",
        what,
        "no validator says where it is",
        "Try again in a moment.",
    )))
}
