//! Validators on a simulated network: start them, kill them, cut their links.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use commonware_p2p::simulated::Link;
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Supervisor as _};
use consensus::simulation::{self, Disk, Key};
use consensus::{Committee, Config, Handle, Seat, deal};
use ledger::lots::Founder;
use ledger::validator::{Call as Act, Registration};
use ledger::{Call, Genesis, State};
use types::{AccountId, Digest, PublicKey, SecretKey};
use validator::LedgerMachine;

use crate::Scenario;
use crate::client::{GENESIS_MS, genesis, signed};

/// What outlives a power failure, beside the runtime's own storage.
pub struct Site {
    pub committee: Committee,
    seats: Vec<Seat>,
    disks: Vec<Disk>,
    genesis: Genesis,
    /// Of those who come later, who has a state to start from.
    joined: Mutex<BTreeSet<usize>>,
    founders: usize,
}

impl Site {
    pub fn new(scenario: &Scenario) -> Result<Self> {
        let (committee, mut seats) = deal(scenario.validators, [9; 32])?;
        let founder = |(at, seat): (usize, &Seat)| Founder {
            key: PublicKey(seat.key()),
            address: address(at).to_string(),
        };
        let founders: Vec<Founder> = seats.iter().enumerate().map(founder).collect();
        seats.extend((0..scenario.newcomers).map(|n| Seat::from_secret([200 + n; 32])));
        let purse = |seat: &Seat| AccountId::of(&PublicKey(seat.key()));
        let newcomers: Vec<AccountId> = seats[founders.len()..].iter().map(purse).collect();
        let first = founders.len();
        let genesis = genesis(founders, &newcomers, scenario.epoch_blocks, scenario.seats);
        Ok(Self {
            joined: Mutex::default(),
            founders: first,
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

    /// What its owner, itself, signs to enter it: with a ticket from what `state` knows.
    pub fn entry(&self, at: usize, state: &State) -> Option<(Digest, Bytes)> {
        let identity = SecretKey::from_seed(self.seats[at].secret());
        let (epoch, beacon) = state.ticket_epoch()?;
        let (key, bits) = (identity.public(), state.params().ticket_bits);
        let network = self.genesis.digest();
        let registration = Registration {
            key,
            address: address(at).to_string(),
            api: String::new(),
            epoch,
            nonce: lots::find_ticket(&beacon, &key, bits)?,
            proof: Registration::prove(&network, &AccountId::of(&key), &identity),
        };
        let call = Call::Validator(Act::Register(registration));
        Some(signed(network, &identity, 1, call))
    }

    /// A founder's word that it goes.
    pub fn farewell(&self, at: usize) -> (Digest, Bytes) {
        let identity = SecretKey::from_seed(self.seats[at].secret());
        let key = identity.public();
        let to = AccountId::of(&key);
        let call = Call::Validator(Act::Leave { key, to });
        signed(self.genesis.digest(), &identity, 1, call)
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
        let joined = site.joined.lock().expect("not poisoned").clone();
        for at in (0..site.founders).chain(joined) {
            network.run(at)?;
        }
        Ok(network)
    }

    /// A newcomer fetches the state and starts; `false`: it is not linked yet.
    pub fn join(&mut self, at: usize) -> Result<bool> {
        let site = self.site;
        let Some((_, giver)) = self.nodes().next() else {
            return Ok(false);
        };
        let machine = LedgerMachine::new(site.genesis.clone());
        if !simulation::join(&self.config(at)?, &machine, &site.disks[at], giver)? {
            return Ok(false);
        }
        site.joined.lock().expect("not poisoned").insert(at);
        self.run(at)?;
        Ok(true)
    }

    fn config(&self, at: usize) -> Result<Config> {
        let site = self.site;
        Ok(Config {
            data: "unused".into(),
            committee: site.committee.clone(),
            seat: site.seats[at].clone(),
            listen: address(at),
            addresses: Vec::new(),
            epoch_blocks: NonZeroU64::new(site.genesis.params.epoch_blocks)
                .context("an epoch has blocks")?,
            network: site.genesis.digest(),
            genesis_ms: GENESIS_MS,
        })
    }

    pub fn run(&mut self, at: usize) -> Result<()> {
        let site = self.site;
        let context = self
            .context
            .child("validator")
            .with_attribute("at", at)
            .with_attribute("life", self.lives);
        self.lives += 1;
        let config = self.config(at)?;
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
