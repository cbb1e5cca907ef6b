//! Take requests from outside to healthy replicas; one address for the API.
//!
//! One listener: requests for `<service>.<label>.<domain>` go to a ready replica of that
//! service, all others to whoever answers the API ([`mod@proxy`]). Published ports have
//! listeners of their own ([`published`]). Where things are is a snapshot ([`table::Table`])
//! that a follower replaces whole: requests read it without a lock, and go on with the last
//! one when no validator answers.
//!
//! Knows nothing of ledger rules, and nothing that it hears from strangers is kept: every
//! queue, size, retry and wait is bounded ([`limits`]).

mod client;
mod config;
mod connect;
mod directory;
mod follow;
mod limits;
mod listen;
mod outgoing;
mod page;
mod proxy;
mod published;
mod status;
mod table;
mod udp;
mod upgrade;
mod validators;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::net::TcpListener;

pub use config::Config;

/// Serves until `shutdown`, then lets requests under way end.
///
/// Errors: `listen` cannot be opened, or an address in `config` is not one. A validator that
/// does not answer is no error.
pub async fn run(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let listener = TcpListener::bind(config.listen).await.with_context(|| {
        format!(
            "open {}: choose another address, or end what uses it",
            config.listen
        )
    })?;
    serve(listener, config, table::Trust::Containers, shutdown).await
}

async fn serve(
    listener: TcpListener,
    config: Config,
    trust: table::Trust,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let gateway = Arc::new(proxy::Gateway::new(&config, trust)?);
    // Dropped at the end, and with it the tasks that follow, probe and publish.
    let mut tasks = tokio::task::JoinSet::new();
    let clients = follow::clients(&config.validators)?;
    tasks.spawn(follow::follow(clients, gateway.clone()));
    tasks.spawn(validators::probe(gateway.clone()));
    tasks.spawn(published::keep(gateway.clone(), config.publish));
    listen::serve(listener, gateway, shutdown).await;
    tasks.shutdown().await;
    Ok(())
}
