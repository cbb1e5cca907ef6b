//! For tests: what a host keeps of one replica, and a server that takes what is exported of it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::task::JoinHandle;
use types::{AccountId, AllocationId, DeploymentId, LogPolicy};

use super::export::{Exports, Progress};
use super::store::{Meta, Store};
use crate::durable;

pub async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Folder of allocation 1 of deployment 1, in a store in `folder`.
pub fn kept(folder: &Path, policy: LogPolicy) -> PathBuf {
    let meta = Meta {
        allocation: AllocationId(1),
        deployment: DeploymentId(1),
        project: "shop".into(),
        owner: AccountId([1; 20]),
        release: 1,
        service: "web".into(),
        replica: 1,
        policy,
        ended_ms: None,
    };
    let at = folder.join("a-1");
    std::fs::create_dir_all(&at).expect("made");
    durable::write(&at.join("meta.json"), &meta).expect("written");
    at
}

/// An agent's exports of what `store` has.
pub fn begin(store: Arc<Store>) -> (Arc<Exports>, JoinHandle<Infallible>) {
    let exports = Arc::new(Exports::default());
    let task = tokio::spawn({
        let exports = exports.clone();
        async move { exports.keep(store, true).await }
    });
    (exports, task)
}

/// What is on disk of each receiver.
pub fn written(folder: &Path) -> Vec<Progress> {
    let Ok(entries) = std::fs::read_dir(folder.join("exports")) else {
        return Vec::new();
    };
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let files = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
    files
        .filter_map(|path| durable::read(&path).ok().flatten())
        .collect()
}

pub async fn until(what: &str, good: impl Fn() -> bool) {
    let limit = tokio::time::Instant::now() + Duration::from_secs(60);
    while !good() {
        assert!(tokio::time::Instant::now() < limit, "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
