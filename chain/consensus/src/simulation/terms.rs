//! The lineup without consensus: queues and sending-on of many validators, who lead in turn.
//!
//! What is counted here is what a transaction's way costs. The queue, the tasks that send on and
//! receive, and the order of leaders are the product's; only that a leader's block is final at
//! once with all is decreed, as a thousand voters cost too much to simulate.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Spawner as _, Supervisor as _};
use light::Header;
use types::Digest;

use super::{Key, Medium, Network};
use crate::app::{Core, Finalized};
use crate::committee::{Seat, key_bytes};
use crate::lineup::{receive, send_on};
use crate::machine::{Env, Machine};
use crate::node::{Config, Handle, handle, open};
use crate::once::{Kept, Sealer};
use crate::store::Store;
use crate::wiring::{RATE, TRANSACTIONS};

pub struct Terms<M: Machine> {
    machine: Arc<M>,
    nodes: Vec<(Key, Arc<Core<M>>, Handle<M>)>,
    tasks: Vec<Task<()>>,
    view: u64,
}

impl<M: Machine> Terms<M> {
    /// A validator on each of `seats`, who all lead in turn, in their order. The committee in
    /// their `config` may be of others: it orders nothing here.
    pub async fn start(
        context: &Context,
        config: impl Fn(Seat) -> Config,
        seats: &[Seat],
        machine: Arc<M>,
        network: &Network,
    ) -> Result<Self> {
        let store = Arc::new(Store::on(&Medium::default())?);
        let keys: Vec<Key> = seats.iter().map(super::key).collect();
        let mut nodes = Vec::new();
        let mut tasks = Vec::new();
        for (seat, key) in seats.iter().zip(&keys) {
            let config = config(seat.clone());
            let sealer = Sealer::memory(Kept::default(), seat, config.network);
            let core = Arc::new(open(&config, machine.clone(), store.clone(), sealer)?);
            core.seated.seat(0, keys.clone());
            let control = network.control(key.clone());
            let registered = control.register(TRANSACTIONS, RATE).await;
            let (sender, receiver) = registered.context("the simulated network is gone")?;
            let (handle, ends, _) = handle(core.clone());
            let (at, of) = (context.child("receiver"), core.clone());
            tasks.push(at.spawn(move |_| async move { receive(&of, receiver).await }));
            let (at, of, me) = (context.child("sender"), core.clone(), key.clone());
            tasks.push(at.spawn(move |clock| async move {
                send_on(&of, &clock, ends.forwarded, sender, &me).await;
            }));
            nodes.push((key.clone(), core, handle));
        }
        Ok(Self {
            machine,
            nodes,
            tasks,
            view: 0,
        })
    }

    pub fn node(&self, at: usize) -> &Handle<M> {
        &self.nodes[at].2
    }

    /// Who leads the `ahead`th term from now.
    pub fn leader(&self, ahead: u64) -> usize {
        ((self.view + 1 + ahead) % self.nodes.len() as u64) as usize
    }

    /// The next term's leader is away: the others see that it is over.
    pub fn pass(&mut self) {
        self.view += 1;
        for (_, core, _) in &self.nodes {
            core.term_over((0, self.view));
        }
    }

    /// The next term's leader makes a block at `time_ms` of what waits with it, which is final with
    /// all: ids of its transactions.
    pub fn lead(&mut self, time_ms: u64) -> Vec<Digest> {
        let leader = self.leader(0);
        self.view += 1;
        let core = &self.nodes[leader].1;
        let head = core.head.borrow().clone();
        let selected = (core.mempool.lock().expect("not poisoned")).select(&Default::default());
        let transactions: Vec<_> = selected.into_iter().map(|(_, bytes)| bytes).collect();
        let env = Env {
            height: head.header.height + 1,
            time_ms,
            leader: key_bytes(&self.nodes[leader].0),
            ..Env::default()
        };
        let executed = self
            .machine
            .execute(&head.state, env, &transactions, &|_| true);
        let header = Header {
            height: head.header.height + 1,
            view: self.view,
            time_ms,
            ..head.header.clone()
        };
        let next = Arc::new(Finalized {
            header,
            record: head.record.clone(),
            state: executed.state,
        });
        for (_, core, _) in &self.nodes {
            let mut mempool = core.mempool.lock().expect("not poisoned");
            for id in &executed.ids {
                mempool.done(id);
            }
            drop(mempool);
            core.head.send_replace(next.clone());
            core.moved.notify_waiters();
        }
        executed.ids
    }

    /// Messages by which all of them sent on what was submitted to them.
    pub fn messages(&self) -> u64 {
        self.nodes.iter().map(|(.., node)| node.forwarded()).sum()
    }
}

impl<M: Machine> Drop for Terms<M> {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// As many seats as wanted, of nobody's key.
pub fn seats(many: u32) -> Vec<Seat> {
    let seat = |n: u32| {
        let mut secret = [42; 32];
        secret[..4].copy_from_slice(&n.to_be_bytes());
        Seat::from_secret(secret)
    };
    (0..many).map(seat).collect()
}
