//! What a gateway says of itself.

use http::{HeaderMap, Response, StatusCode};
use serde::Serialize;
use types::{DeploymentId, Digest, Protocol};

use crate::limits::SPLICED_MAX;
use crate::outgoing::Reply;
use crate::page;
use crate::proxy::Gateway;
use crate::published::PortState;

/// Answer of `GET /v1/gateway`.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Routes have been heard.
    known: bool,
    /// Of the ledger, when the routes were heard.
    height: u64,
    services: usize,
    /// Replicas passed over because of their address.
    refused_replicas: usize,
    machine: Digest,
    validators: Vec<ValidatorStatus>,
    ports: Vec<PortStatus>,
    /// Connections to published ports.
    connections: usize,
}

#[derive(Debug, Serialize)]
struct ValidatorStatus {
    address: String,
    healthy: bool,
    /// Its head is older than the others'.
    behind: bool,
}

#[derive(Debug, Serialize)]
struct PortStatus {
    port: u16,
    protocol: Protocol,
    deployment: DeploymentId,
    service: String,
    target: u16,
    ready_replicas: usize,
    /// Further services that ask for the port and do not have it.
    contenders: usize,
    #[serde(flatten)]
    state: PortState,
}

pub fn status(gateway: &Gateway) -> Status {
    let table = gateway.table.load();
    let states = gateway.ports.lock().expect("not poisoned").clone();
    Status {
        known: table.known,
        height: table.height,
        services: table.services.len(),
        refused_replicas: table.refused,
        machine: gateway.machine,
        validators: gateway
            .validators
            .all
            .iter()
            .map(|v| ValidatorStatus {
                address: v.address.to_string(),
                healthy: v.is_healthy(),
                behind: gateway.validators.is_behind(v),
            })
            .collect(),
        ports: table
            .published
            .iter()
            .map(|(key, published)| PortStatus {
                port: key.1,
                protocol: key.0,
                deployment: published.service.deployment,
                service: published.service.name.clone(),
                target: published.target,
                ready_replicas: published.service.replicas.len(),
                contenders: published.contenders,
                state: states
                    .get(key)
                    .cloned()
                    .unwrap_or_else(|| PortState::Failed("not opened yet".into())),
            })
            .collect(),
        connections: SPLICED_MAX - gateway.spliced.available_permits(),
    }
}

/// At `/`: what this is.
pub fn welcome(gateway: &Gateway, headers: &HeaderMap) -> Response<Reply> {
    let services = gateway.table.load().services.len();
    page::page(
        headers,
        StatusCode::OK,
        "A Runrig gateway",
        &format!(
            "{services} services behind it, at http://<service>.<project>.<domain>. \
             The API is described at /openapi.json; /v1/gateway says how it is"
        ),
    )
}
