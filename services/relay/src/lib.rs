//! Pass on what hosts send each other where no direct way leads.
//!
//! Serves the hosts that the ledger knows and nobody else. It can read nothing of what it
//! passes on: links are encrypted from host to host. Hosts that were known once are served
//! while no validator answers.

mod guests;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::Result;
use futures::FutureExt;
use futures::future::BoxFuture;

use guests::Guests;

/// Process settings of a relay.
#[derive(Clone, Debug)]
pub struct Config {
    /// URLs of validators or a gateway of the network.
    pub network: Vec<String>,
    /// TCP and UDP; hosts name it by the URL `http://ip:port`.
    pub listen: SocketAddr,
    /// What one host may send through it.
    pub bytes_per_second: NonZeroU32,
}

/// Serves until `shutdown`.
///
/// Errors: `listen` cannot be opened. A network that does not answer is no error.
///
/// Boxed: an async function is compiled in each crate that awaits it, and this is a whole service.
pub fn run(config: Config, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, Result<()>> {
    run_until(config, shutdown).boxed()
}

async fn run_until(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let guests = Arc::new(Guests::new(sdk::Client::new(config.network)?));
    let admit: Box<mesh::Admit> = Box::new(move |host| {
        let guests = guests.clone();
        Box::pin(async move { guests.admits(host).await })
    });
    let relay = mesh::Relay::open(config.listen, config.bytes_per_second, admit).await?;
    tracing::info!(listen = %config.listen, "passing on between hosts");
    tokio::select! {
        () = shutdown => {}
        () = relay.serve() => {}
    }
    relay.close().await;
    Ok(())
}
