//! Validators on a simulated network: start them, kill them, cut their links.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use commonware_runtime::deterministic::{Context, FaultConfig};
use commonware_runtime::{Handle as Task, Supervisor as _};
use commonware_utils::sync::RwLock;
use consensus::simulation::{self, Disk, Key, Known, Malice};
use consensus::{Committee, Config, Handle, Seat, deal};
use ledger::lots::Founder;
use ledger::validator::{Call as Act, Registration};
use ledger::{Call, Genesis, State};
use types::{AccountId, Amount, Digest, PublicKey, SecretKey};
use validator::LedgerMachine;

use crate::client::{GENESIS_MS, genesis, signed};
use crate::following::{Brought, Following, bring};
use crate::links::Links;
use crate::{Fault, Scenario};

/// Ports of second lives begin here.
const TWINS_FROM: usize = 10_000;
/// Of a transaction, where those who have no seat follow.
const FEE: u128 = 10_000;
/// Who is drawn goes on to vote when its head is no older.
const FRESH_MS: u64 = 15_000;

/// What outlives a power failure, beside the runtime's own storage.
pub struct Site {
    pub committee: Committee,
    seats: Vec<Seat>,
    disks: Vec<Disk>,
    /// Of their second lives.
    twin_disks: Vec<Disk>,
    twins: Vec<usize>,
    malice: Vec<Malice>,
    genesis: Genesis,
    /// Of those who come later, who has a state to start from.
    joined: Mutex<BTreeSet<usize>>,
    founders: usize,
    /// How many blocks each keeps.
    keep: Option<NonZeroU64>,
    /// Votes and certificates that one of them has checked.
    known: Known,
    /// Who has no seat follows, and does not listen to those who vote.
    following: bool,
    seed: u64,
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
        // A founder begins with its bond where that is at stake.
        let bare = if scenario.accused { 0 } else { founders.len() };
        let newcomers: Vec<AccountId> = seats[bare..].iter().map(purse).collect();
        let first = founders.len();
        // Who brings what pays nothing earns nothing.
        let fee = Amount(if scenario.following { FEE } else { 0 });
        let (blocks, seats_max) = (scenario.epoch_blocks, scenario.seats);
        let genesis = genesis(founders, &newcomers, blocks, seats_max, fee);
        genesis.check()?;
        let disks = || seats.iter().map(|_| Disk::default()).collect();
        Ok(Self {
            joined: Mutex::default(),
            known: Known::shared(),
            following: scenario.following,
            seed: scenario.seed,
            founders: first,
            keep: scenario.keep.and_then(NonZeroU64::new),
            disks: disks(),
            twin_disks: disks(),
            twins: scenario.twins.clone(),
            malice: (0..seats.len() as u64)
                .map(|at| Malice::new(scenario.seed.wrapping_mul(1_000) + at))
                .collect(),
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

    /// As which it speaks on the ledger.
    pub fn identity(&self, at: usize) -> SecretKey {
        SecretKey::from_seed(self.seats[at].secret())
    }

    pub fn malice(&self, at: usize) -> &Malice {
        &self.malice[at]
    }

    /// So many more writes of its blocks succeed, then none; `None`: there is room.
    pub fn fill(&self, at: usize, left: Option<u64>) {
        self.disks[at].medium.fill(left);
    }

    /// What no disk had synced is lost, or torn by chance.
    pub fn power_failure(&self, seed: u64) {
        for (at, disk) in (0..).zip(self.disks.iter().chain(&self.twin_disks)) {
            disk.medium.power_failure(seed.wrapping_mul(1_000) + at);
        }
    }

    /// The second of those who deal with the network twice hears these, the first the others.
    pub fn part(&self, at: usize, second: &[usize]) {
        let keys = |all: &mut dyn Iterator<Item = usize>| -> Vec<Key> {
            all.map(|n| simulation::key(&self.seats[n])).collect()
        };
        let first = keys(&mut (0..self.seats.len()).filter(|n| !second.contains(n)));
        self.malice[at].part(&first, &keys(&mut second.iter().copied()));
    }

    /// The founders' own seats: all that the first key was dealt to.
    pub fn dealt(&self) -> &[Seat] {
        &self.seats[..self.founders]
    }

    fn register(&self, at: usize, state: &State, skip: usize) -> Option<(Digest, Call)> {
        let identity = SecretKey::from_seed(self.seats[at].secret());
        let (epoch, beacon) = state.ticket_epoch()?;
        let (key, bits) = (identity.public(), state.params().ticket_bits);
        let network = self.genesis.digest();
        let good = |nonce: &u64| lots::is_ticket(&lots::ticket(&beacon, &key, *nonce), bits);
        let registration = Registration {
            key,
            address: address(at).to_string(),
            api: String::new(),
            epoch,
            nonce: (0..lots::NONCE_MAX).filter(good).nth(skip)?,
            proof: Registration::prove(&network, &AccountId::of(&key), &identity),
        };
        Some((network, Call::Validator(Act::Register(registration))))
    }

    /// What its owner, itself, signs to enter it: with a ticket from what `state` knows.
    pub fn entry(&self, at: usize, state: &State) -> Option<(Digest, Bytes)> {
        let identity = SecretKey::from_seed(self.seats[at].secret());
        let (network, call) = self.register(at, state, 0)?;
        Some(signed(network, &identity, 1, call))
    }

    /// Another ticket for one who is entered, the `turn`th: of those that it may find, the one
    /// that would come first in the drawing if the beacon that `state` knows decided it.
    pub fn ground(&self, at: usize, state: &State, turn: u64) -> Option<(Digest, Bytes)> {
        let identity = SecretKey::from_seed(self.seats[at].secret());
        let (_, beacon) = state.ticket_epoch()?;
        let rank = |(_, call): &(Digest, Call)| match call {
            Call::Validator(Act::Register(r)) => {
                let ticket = lots::ticket(&beacon, &r.key, r.nonce);
                Digest::of_value("runrig-lot", &(beacon, r.key, ticket))
            }
            _ => Digest::default(),
        };
        let tries = (0..16).filter_map(|skip| self.register(at, state, skip));
        let (network, call) = tries.min_by_key(rank)?;
        Some(signed(network, &identity, turn, call))
    }

    /// A founder's word that it goes.
    pub fn farewell(&self, at: usize, state: &State) -> (Digest, Bytes) {
        let identity = SecretKey::from_seed(self.seats[at].secret());
        let key = identity.public();
        let to = AccountId::of(&key);
        let nonce = state.account(&to).nonce + 1;
        let call = Call::Validator(Act::Leave { key, to });
        signed(self.genesis.digest(), &identity, nonce, call)
    }

    pub fn validators(&self) -> usize {
        self.seats.len()
    }
}

/// Nobody listens there; it names the validator's part of the simulated disk.
fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1 + at as u16))
}

struct Running {
    /// Of a validator with two lives, two.
    handles: Vec<Handle<LedgerMachine>>,
    task: Task<()>,
    /// It has no seat.
    following: Option<Following>,
    /// Whether those who vote are linked to it, by the end of an epoch at a height.
    linked: Option<(u64, bool)>,
}

pub struct Network<'a> {
    context: Context,
    site: &'a Site,
    oracle: simulation::Network,
    keys: Vec<Key>,
    nodes: Vec<Option<Running>>,
    /// By their ends; what lies between.
    linked: BTreeMap<(usize, usize), Links>,
    /// Nodes started so far: names each life of one apart.
    lives: usize,
    /// How often one that followed went on to vote.
    pub turned: usize,
    /// Those that could not be started at first, and why.
    pub failed: Vec<(usize, anyhow::Error)>,
    task: Task<()>,
}

impl<'a> Network<'a> {
    /// All linked, all running but those in `failed`.
    pub async fn start(context: Context, site: &'a Site, links: Links) -> Result<Self> {
        let keys: Vec<Key> = site.seats.iter().map(simulation::key).collect();
        let (task, oracle) = simulation::network(context.child("network"), keys.clone()).await;
        let mut network = Self {
            context,
            oracle,
            keys,
            nodes: site.seats.iter().map(|_| None).collect(),
            linked: BTreeMap::new(),
            lives: 0,
            turned: 0,
            failed: Vec::new(),
            task,
            site,
        };
        network.link(&Fault::Heal, links).await?;
        let joined = site.joined.lock().expect("not poisoned").clone();
        for at in (0..site.founders).chain(joined) {
            if let Err(why) = network.run(at) {
                network.failed.push((at, why));
            }
        }
        Ok(network)
    }

    /// What goes wrong with the files of all engines.
    pub fn disk_faults(&self) -> Arc<RwLock<FaultConfig>> {
        self.context.storage_fault_config()
    }

    /// A newcomer fetches the state and starts; `false`: there is none yet, or it is not linked and
    /// cannot follow.
    pub fn join(&mut self, at: usize) -> Result<bool> {
        let site = self.site;
        let Some((_, giver)) = self.nodes().next() else {
            return Ok(false);
        };
        let machine = LedgerMachine::new(site.genesis.clone());
        let (config, linked) = (self.config(at)?, !site.following);
        if !simulation::join(&config, &machine, &site.disks[at], giver, linked)? {
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
            keep: site.keep,
        })
    }

    pub fn run(&mut self, at: usize) -> Result<()> {
        let site = self.site;
        self.kill(at);
        let context = self
            .context
            .child("validator")
            .with_attribute("at", at)
            .with_attribute("life", self.lives);
        self.lives += 1;
        let machine = Arc::new(LedgerMachine::new(site.genesis.clone()));
        let (oracle, malice) = (self.oracle.clone(), site.malice[at].clone());
        let known = site.known.clone();
        let (config, disk) = (self.config(at)?, &site.disks[at]);
        let follows = site.following && !simulation::may_vote(&config, machine.as_ref(), disk)?;
        if follows {
            let sending = context.child("sending");
            let (handle, follower, outbox, task) =
                simulation::follow(context, &config, disk, machine)?;
            let seed = site.seed.wrapping_mul(1_000) + self.lives as u64;
            self.nodes[at] = Some(Running {
                handles: vec![handle],
                task,
                following: Some(Following::new(sending, follower, outbox, seed)),
                linked: None,
            });
            return Ok(());
        }
        let (handles, task) = if site.twins.contains(&at) {
            let other = Config {
                listen: address(TWINS_FROM + at),
                ..self.config(at)?
            };
            let lives = [(config, disk.clone()), (other, site.twin_disks[at].clone())];
            simulation::start_twins(context, lives, oracle, machine, malice, known)?
        } else {
            let (handle, task) =
                simulation::start(context, config, disk, oracle, machine, malice, known)?;
            (vec![handle], task)
        };
        self.nodes[at] = Some(Running {
            handles,
            task,
            following: None,
            linked: None,
        });
        Ok(())
    }

    /// Who is drawn votes from now on, and who has lost its seat follows; those who follow are told
    /// blocks, and bring what was submitted to them to those who lead.
    ///
    /// Errors: one of them takes what is not true, or goes on no more.
    pub async fn follow(&mut self, now_ms: u64) -> Result<()> {
        if !self.site.following {
            return Ok(());
        }
        for at in 0..self.nodes.len() {
            if let Some(votes) = self.turns(at, now_ms)? {
                if let Some(node) = self.node(at) {
                    node.lay_by()?;
                }
                self.run(at)?;
                self.turned += usize::from(votes);
            }
        }
        for at in 0..self.nodes.len() {
            let Some(mut running) = self.nodes[at].take() else {
                continue;
            };
            let done = match &mut running.following {
                Some(following) => {
                    let others: Vec<_> = self.nodes().map(|(_, node)| node).collect();
                    let asked = following.ask(&running.handles[0], &others).await;
                    asked.map(|()| following.brought())
                }
                None => Ok(Vec::new()),
            };
            self.nodes[at] = Some(running);
            for brought in done.with_context(|| format!("validator {at}"))? {
                self.bring(at, &brought);
            }
        }
        Ok(())
    }

    /// `Some`: its part changes, and whether it votes then.
    fn turns(&mut self, at: usize, now_ms: u64) -> Result<Option<bool>> {
        let key = self.site.seats[at].key();
        let Some(running) = &mut self.nodes[at] else {
            return Ok(None);
        };
        let own = &running.handles[0];
        let Some((height, linked)) = own.linked(&key, running.linked)? else {
            return Ok(None);
        };
        running.linked = Some((height, linked));
        let votes = running.following.is_none();
        let is_fresh = now_ms.saturating_sub(own.head().header.time_ms) < FRESH_MS;
        Ok((linked != votes && (votes || is_fresh)).then_some(linked))
    }

    fn bring(&self, at: usize, brought: &Brought) {
        let leaders = (0..self.nodes.len()).filter(|n| brought.to.contains(&self.site.key(*n)));
        let blocks = self.site.genesis.params.epoch_blocks;
        for leader in leaders.filter_map(|n| self.node(n)) {
            if let Some(own) = self.node(at) {
                bring(own, &self.site.identity(at), leader, brought, blocks);
            }
        }
    }

    /// Ends a validator between two of its steps; what it had in memory is gone.
    pub fn kill(&mut self, at: usize) {
        if let Some(running) = self.nodes[at].take() {
            running.task.abort();
            if let Some(following) = running.following {
                following.stop();
            }
        }
    }

    /// Sets all links as `fault` says: those that it cuts are cut, all others are as in `links`.
    pub async fn link(&mut self, fault: &Fault, links: Links) -> Result<()> {
        let goes = |from: usize, to: usize| match fault {
            Fault::Cut(apart) => apart.contains(&from) == apart.contains(&to),
            Fault::Deafen(deaf) => !deaf.contains(&to),
            Fault::Silence(dumb) => !dumb.contains(&from),
            _ => true,
        };
        for from in 0..self.keys.len() {
            for to in (0..self.keys.len()).filter(|to| *to != from) {
                let ends = || (self.keys[from].clone(), self.keys[to].clone());
                let wanted = goes(from, to).then_some(links);
                let is = self.linked.get(&(from, to)).copied();
                if is == wanted {
                    continue;
                }
                if is.is_some() {
                    let (a, b) = ends();
                    self.oracle.remove_link(a, b).await?;
                    self.linked.remove(&(from, to));
                }
                if let Some(links) = wanted {
                    let (a, b) = ends();
                    self.oracle.add_link(a, b, links.between(from, to)).await?;
                    self.linked.insert((from, to), links);
                }
            }
        }
        Ok(())
    }

    /// Errors: someone of good will was taken for a liar by another.
    pub async fn nobody_blocks_the_good(&self, bad: &[usize]) -> Result<()> {
        for (from, to) in self.oracle.blocked().await? {
            let at = |key| self.keys.iter().position(|k| k == key).unwrap_or_default();
            let (from, to) = (at(&from), at(&to));
            ensure!(
                bad.contains(&from) || bad.contains(&to),
                "validator {from} takes validator {to}, which is good, for a liar"
            );
        }
        Ok(())
    }

    pub fn node(&self, at: usize) -> Option<&Handle<LedgerMachine>> {
        self.nodes[at].as_ref()?.handles.first()
    }

    /// Running validators with their numbers.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Handle<LedgerMachine>)> {
        (0..self.nodes.len()).filter_map(|at| Some((at, self.node(at)?)))
    }

    /// As [`Self::nodes`], with second lives, numbered after all others.
    pub fn lives(&self) -> impl Iterator<Item = (usize, &Handle<LedgerMachine>)> {
        let second = (0..self.nodes.len()).filter_map(|at| {
            let handle = self.nodes[at].as_ref()?.handles.get(1)?;
            Some((at + self.nodes.len(), handle))
        });
        self.nodes().chain(second)
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
