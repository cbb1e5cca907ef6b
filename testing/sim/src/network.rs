//! Validators on a simulated network: start them, kill them, cut their links.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use commonware_p2p::simulated::Link;
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Supervisor as _};
use consensus::simulation::{self, Disk, Key};
use consensus::{Committee, Config, Handle, Seat, deal};
use ledger::Genesis;
use ledger::lots::Founder;
use types::PublicKey;
use validator::LedgerMachine;

use crate::Scenario;
use crate::client::{GENESIS_MS, genesis};

/// What outlives a power failure, beside the runtime's own storage.
pub struct Site {
    pub committee: Committee,
    seats: Vec<Seat>,
    disks: Vec<Disk>,
    genesis: Genesis,
}

impl Site {
    pub fn new(scenario: &Scenario) -> Result<Self> {
        let (committee, seats) = deal(scenario.validators, [9; 32])?;
        let founder = |(at, seat): (usize, &Seat)| Founder {
            key: PublicKey(seat.key()),
            address: address(at).to_string(),
        };
        let founders = seats.iter().enumerate().map(founder).collect();
        let genesis = genesis(founders, scenario.epoch_blocks, scenario.seats);
        Ok(Self {
            disks: seats.iter().map(|_| Disk::new()).collect::<Result<_>>()?,
            committee,
            seats,
            genesis,
        })
    }

    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    pub fn key(&self, at: usize) -> PublicKey {
        PublicKey(self.seats[at].key())
    }

    pub fn validators(&self) -> usize {
        self.seats.len()
    }
}

/// Nobody listens there; it names the validator's part of the simulated disk.
fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1 + at as u16))
}

pub struct Network<'a> {
    context: Context,
    site: &'a Site,
    oracle: simulation::Network,
    keys: Vec<Key>,
    nodes: Vec<Option<(Handle<LedgerMachine>, Task<()>)>>,
    links: BTreeSet<(usize, usize)>,
    link: Link,
    /// Nodes started so far: names each life of one apart.
    lives: usize,
    task: Task<()>,
}

impl<'a> Network<'a> {
    /// All linked, all running.
    pub async fn start(context: Context, site: &'a Site, link: Link) -> Result<Self> {
        let keys: Vec<Key> = site.seats.iter().map(simulation::key).collect();
        let (task, oracle) = simulation::network(context.child("network"), keys.clone()).await;
        let mut network = Self {
            context,
            oracle,
            keys,
            nodes: site.seats.iter().map(|_| None).collect(),
            links: BTreeSet::new(),
            link,
            lives: 0,
            task,
            site,
        };
        network.cut(&[]).await?;
        for at in 0..site.validators() {
            network.run(at)?;
        }
        Ok(network)
    }

    pub fn run(&mut self, at: usize) -> Result<()> {
        let site = self.site;
        let seat = site.seats[at].clone();
        let context = self
            .context
            .child("validator")
            .with_attribute("at", at)
            .with_attribute("life", self.lives);
        self.lives += 1;
        let config = Config {
            data: "unused".into(),
            committee: site.committee.clone(),
            listen: address(at),
            addresses: Vec::new(),
            epoch_blocks: NonZeroU64::new(site.genesis.params.epoch_blocks)
                .context("an epoch has blocks")?,
            seat,
            network: site.genesis.digest(),
            genesis_ms: GENESIS_MS,
        };
        let machine = Arc::new(LedgerMachine::new(site.genesis.clone()));
        let started = simulation::start(
            context,
            config,
            &site.disks[at],
            self.oracle.clone(),
            machine,
        )?;
        self.nodes[at] = Some(started);
        Ok(())
    }

    /// Ends a validator between two of its steps; what it had in memory is gone.
    pub fn kill(&mut self, at: usize) {
        if let Some((_, task)) = self.nodes[at].take() {
            task.abort();
        }
    }

    /// Parts those in `apart` from all others; everyone else is linked.
    pub async fn cut(&mut self, apart: &[usize]) -> Result<()> {
        for from in 0..self.keys.len() {
            for to in (0..self.keys.len()).filter(|to| *to != from) {
                let ends = (self.keys[from].clone(), self.keys[to].clone());
                if apart.contains(&from) != apart.contains(&to) {
                    if self.links.remove(&(from, to)) {
                        self.oracle.remove_link(ends.0, ends.1).await?;
                    }
                } else if self.links.insert((from, to)) {
                    self.oracle
                        .add_link(ends.0, ends.1, self.link.clone())
                        .await?;
                }
            }
        }
        Ok(())
    }

    pub fn node(&self, at: usize) -> Option<&Handle<LedgerMachine>> {
        self.nodes[at].as_ref().map(|(handle, _)| handle)
    }

    /// Running validators with their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Handle<LedgerMachine>)> {
        (0..self.nodes.len()).filter_map(|at| Some((at, self.node(at)?)))
    }
}

impl Drop for Network<'_> {
    fn drop(&mut self) {
        for at in 0..self.nodes.len() {
            self.kill(at);
        }
        self.task.abort();
    }
}
