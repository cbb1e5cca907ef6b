//! Show the cloud to people: a web client of the public API, and an index of its blocks.
//!
//! Pages are made here, as HTML, and work without scripts. The portal is a client like any
//! other: it sees what the API answers, checks certificates against the network key, and signs
//! with the keys of sessions, which grants bound; the rest people approve ([`approve`]). What it
//! keeps itself:
//!
//! - `people.sqlite`: who signed up, each with keys sealed by his password, or passkeys; sessions; how
//!   organisations' spaces look.
//! - `index.sqlite`, or a database of a PostgreSQL server: blocks, transactions, events and charges
//!   in SQL, for lists and charts. It can be deleted at any time and is made again from the chain; it is never the truth for
//!   money: balances, bills and receipts on a page are the ledger's answers.
//!
//! Invariants: no key leaves a session unsealed; every text that a stranger chose is escaped
//! (`maud` does); no inline script or style, so that the content policy can forbid them; every
//! form carries a token of its session; a figure that is not known says so.
//!
//! Start at [`run`]; [`routes::table`] lists the pages and who may see them.

mod app;
mod approve;
mod colour;
mod index;
mod limits;
mod live;
mod pages;
mod people;
mod routes;
mod shell;
mod ui;
mod web;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod line_tests;
#[cfg(test)]
mod newcomer_tests;
#[cfg(test)]
mod right_tests;
#[cfg(test)]
mod role_tests;
#[cfg(test)]
mod secret_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod space_tests;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use futures::FutureExt;
use futures::future::BoxFuture;

pub use app::App;
pub use web::Range;

/// Process settings of a portal.
#[derive(Clone)]
pub struct Config {
    /// URLs of gateways of the network; the first is the one that pages name.
    pub network: Vec<String>,
    pub listen: SocketAddr,
    /// Folder of the portal's own records.
    pub data: PathBuf,
    /// URL of a PostgreSQL database for the index; else it is a file in `data`.
    pub index: Option<String>,
    /// Browsers reach it by HTTPS only: cookies say so.
    pub secure: bool,
    /// Proxies before it, whose `X-Forwarded-For` says who asks.
    pub trusted_proxies: Vec<Range>,
}

/// Serves until `shutdown`.
///
/// Errors: `listen`, a file in `data` or the index's database cannot be opened. A network that does not answer is no
/// error: pages say so until it does.
///
/// Boxed: an async function is compiled in each crate that awaits it, and this is a whole service.
pub fn run(config: Config, shutdown: BoxFuture<'static, ()>) -> BoxFuture<'static, Result<()>> {
    run_until(config, shutdown).boxed()
}

async fn run_until(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let listener = tokio::net::TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("listen on {}; choose another with --listen", config.listen))?;
    let app = App::open(&config).await?;
    let following = tokio::spawn(index::follow(app.clone()));
    tracing::info!(listen = %config.listen, "pages are served");
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    let server = axum::serve(
        listener,
        routes::router(app).into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    });
    let result = tokio::select! {
        result = server.into_future() => result.context("serve pages"),
        () = shutdown => Ok(()),
    };
    stop.send_replace(true);
    following.abort();
    result
}
