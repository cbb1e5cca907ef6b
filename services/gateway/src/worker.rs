//! Threads that serve clients, one runtime each: a connection stays where it began, and so do
//! its replicas' connections and buffers ([`crate::pool`]).

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio::task::JoinSet;

use crate::client::Share;
use crate::connection;
use crate::grpc;
use crate::limits::{CONNECTIONS_MAX, DRAIN_TIME, TIDY_EVERY, WORKERS_MAX};
use crate::pool;
use crate::proxy::Gateway;

/// A client that has been let in.
pub struct Accepted {
    /// Of no runtime yet.
    pub stream: std::net::TcpStream,
    pub peer: std::net::IpAddr,
    pub is_secure: bool,
    /// What it holds until its end.
    pub held: (OwnedSemaphorePermit, Share),
}

struct Worker {
    /// Connections that it has.
    count: Arc<AtomicUsize>,
    clients: mpsc::Sender<Accepted>,
    thread: JoinHandle<()>,
}

/// All threads; they end with what is under way once this is [`Workers::end`]ed.
pub struct Workers {
    all: Vec<Worker>,
    ending: watch::Sender<bool>,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    pub fn start(gateway: &Arc<Gateway>) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let ending = watch::Sender::new(false);
        let all = (0..cores.min(WORKERS_MAX))
            .map(|number| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .context("start a runtime")?;
                let (clients, queue) = mpsc::channel(CONNECTIONS_MAX);
                let count = Arc::new(AtomicUsize::new(0));
                let work = work(gateway.clone(), queue, count.clone(), ending.subscribe());
                let thread = std::thread::Builder::new()
                    .name(format!("gateway-{number}"))
                    .spawn(move || runtime.block_on(work))
                    .context("start a thread")?;
                Ok(Worker {
                    count,
                    clients,
                    thread,
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { all, ending })
    }

    /// Gives `client` to whoever has the fewest.
    pub fn serve(&self, client: Accepted) {
        let least = self
            .all
            .iter()
            .min_by_key(|worker| worker.count.load(Ordering::Relaxed));
        if let Some(worker) = least {
            worker.count.fetch_add(1, Ordering::Relaxed);
            // The queue has a place for every connection that may be open.
            let _ = worker.clients.try_send(client);
        }
    }

    /// Returns when requests under way have ended, or have had their time.
    pub async fn end(self) {
        let _ = self.ending.send(true);
        let threads: Vec<_> = self.all.into_iter().map(|worker| worker.thread).collect();
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        });
        let _ = joined.await;
    }
}

async fn work(
    gateway: Arc<Gateway>,
    mut queue: mpsc::Receiver<Accepted>,
    count: Arc<AtomicUsize>,
    ending: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    let mut tick = tokio::time::interval(TIDY_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ended = ending.clone();
    let mut ended = pin!(ended.wait_for(|is| *is));
    loop {
        let accepted = tokio::select! {
            _ = ended.as_mut() => break,
            accepted = queue.recv() => accepted,
            Some(_) = connections.join_next() => continue,
            _ = tick.tick() => {
                let table = gateway.table.load();
                pool::tidy(&table);
                grpc::tidy(&table);
                continue;
            }
        };
        let Some(accepted) = accepted else { break };
        let counted = Counted(count.clone());
        // A client that is gone already is no client.
        let Ok(stream) = TcpStream::from_std(accepted.stream) else {
            continue;
        };
        let (gateway, ending) = (gateway.clone(), ending.clone());
        let (peer, is_secure, held) = (accepted.peer, accepted.is_secure, accepted.held);
        connections.spawn(async move {
            let _held = (held, counted);
            connection::serve(gateway, stream, peer, is_secure, ending).await;
        });
    }
    drop(queue);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIME, drained).await.is_err() {
        tracing::info!(left = connections.len(), "requests under way are cut off");
    }
}
