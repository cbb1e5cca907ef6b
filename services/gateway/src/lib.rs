//! Take requests from outside to healthy replicas; one address for the API.
//!
//! One listener: requests for `<service>.<label>.<domain>` go to a ready replica of that
//! service, all others to whoever answers the API ([`mod@proxy`]). Published ports have
//! listeners of their own ([`published`]). Where things are is a snapshot ([`table::Table`])
//! that a follower replaces whole: requests read it without a lock, and go on with the last
//! one when no validator answers.
//!
//! ```text
//! listen ─▶ worker ─▶ connection ─▶ relay ────────────▶ replica     HTTP/1.1, regular
//!                          └──────▶ proxy ─▶ service ─▶ replica     all other: HTTP/2, gRPC,
//!                                     └─▶ validator, host, registry   upgrades, large bodies
//! ```
//!
//! Knows nothing of ledger rules, and nothing that it hears from strangers is kept: every
//! queue, size, retry and wait is bounded ([`limits`]).

mod access;
mod client;
mod config;
mod connect;
mod connection;
mod demand;
mod directory;
mod figures;
mod follow;
mod grpc;
mod hearing;
mod http1;
mod limits;
mod listen;
mod load;
mod outgoing;
mod oversized;
mod page;
mod past;
mod pool;
mod proxy;
mod published;
mod record;
mod relay;
mod requests;
mod scrape;
mod sending;
mod served;
mod service;
mod status;
mod streams;
mod table;
mod tally;
mod tls;
mod udp;
mod upgrade;
mod validators;
mod wake;
mod wire;
mod worker;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::net::TcpListener;

pub use config::{Certificates, Config, Secure};
pub use tls::authority_file;

/// Serves until `shutdown`, then lets requests under way end.
///
/// Errors: `listen` cannot be opened, or an address in `config` is not one. A validator that
/// does not answer is no error.
///
/// Boxed: an async function is compiled in each crate that awaits it, and this is a whole service.
pub fn run(config: Config, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, Result<()>> {
    run_until(config, shutdown).boxed()
}

async fn run_until(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let listener = bind(config.listen).await?;
    let secure = match &config.tls {
        Some(tls) => Some(bind(tls.listen).await?),
        None => None,
    };
    serve(listener, secure, config, table::Trust::Containers, shutdown).await
}

async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("open {address}: choose another address, or end what uses it"))
}

async fn serve(
    listener: TcpListener,
    secure: Option<TcpListener>,
    config: Config,
    trust: table::Trust,
    shutdown: impl Future<Output = ()>,
) -> Result<()> {
    let gateway = Arc::new(proxy::Gateway::new(&config, trust)?);
    let workers = worker::Workers::start(&gateway)?;
    // Dropped at the end, and with it the tasks that follow, probe and publish.
    let mut tasks = tokio::task::JoinSet::new();
    let clients = follow::clients(&config.validators)?;
    tasks.spawn(follow::follow(clients, gateway.clone()));
    tasks.spawn(validators::probe(gateway.clone()));
    tasks.spawn(published::keep(gateway.clone(), config.publish));
    if let Some(key) = config.key {
        let client = sdk::Client::new(config.validators.iter().cloned())?;
        tasks.spawn(demand::report(gateway.clone(), client.clone(), key.clone()));
        tasks.spawn(wake::call(gateway.clone(), client, key));
    }
    if let Some(past) = &gateway.past {
        tasks.spawn(past::keep(gateway.clone(), past.clone()));
    }
    listen::serve(listener, secure, workers, shutdown).await;
    tasks.shutdown().await;
    if let Some(past) = &gateway.past {
        past::write_down(&gateway, past).await;
    }
    Ok(())
}
