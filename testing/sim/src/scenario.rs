//! What happens in a run, and what came of it.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use bytes::Bytes;
use commonware_p2p::simulated::Link;
use commonware_runtime::deterministic::{self, Checkpoint, Context};
use commonware_runtime::{Clock as _, Supervisor as _};
use consensus::Handle;
use types::{Digest, PublicKey};
use validator::LedgerMachine;

use crate::client::{GENESIS_MS, Payments};
use crate::network::{Network, Site};
use crate::witness::Witness;

/// The client acts, and all are looked at, this often.
const STEP: Duration = Duration::from_millis(50);
/// A transfer not yet applied is submitted again, elsewhere, after so many steps.
const RETRY_STEPS: u64 = 60;
/// Virtual time after which a run has failed.
const DEADLINE: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a validator.
    Kill(usize),
    /// It starts again on its disk.
    Start(usize),
    /// These see each other only.
    Cut(Vec<usize>),
    Heal,
    /// It states a time that is so many milliseconds off.
    Lie(usize, i64),
    /// A newcomer enters the ledger with a bond and a ticket.
    Enter(usize),
    /// It starts from the first state after which the others link to it.
    Join(usize),
    /// A founder takes itself off.
    Leave(usize),
    /// All die at once, and what was not yet durable is lost; all start again.
    PowerFailure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Since the start.
    After(Duration),
    /// As soon as a validator has finalised it.
    Height(u64),
}

#[derive(Clone)]
pub struct Scenario {
    pub seed: u64,
    /// All of them hold the first key.
    pub validators: u32,
    /// Come later; numbered after those.
    pub newcomers: u8,
    /// How many sit once the lot decides.
    pub seats: u32,
    pub transfers: u32,
    pub link: Link,
    pub epoch_blocks: u64,
    /// The run goes on until so many epochs have ended.
    pub epochs: u64,
    /// One after the other, each when its time has come.
    pub faults: Vec<(When, Fault)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of all that the runtime did: tasks, messages, disk writes.
    pub digest: String,
    pub tip: Digest,
    pub height: u64,
    pub empty_views: u64,
    pub certificates: usize,
    /// How far behind the clocks the last block was when it was heard of.
    pub late_ms: u64,
    pub took: Duration,
}

/// Runs until every transfer is applied on every validator and all faults have happened.
/// Panics when a promise is broken, naming it.
pub fn run(scenario: &Scenario) -> Result<Report> {
    let site = Site::new(scenario)?;
    let payments = Payments::new(site.genesis(), scenario.transfers);
    let mut act = Act {
        scenario,
        site: &site,
        payments: &payments,
        witness: Witness::default(),
        faults: 0,
        step: 0,
        entries: Vec::new(),
    };
    let start = UNIX_EPOCH + Duration::from_millis(GENESIS_MS);
    let config = deterministic::Config::new()
        .with_seed(scenario.seed)
        .with_start_time(start)
        .with_timeout(Some(DEADLINE));
    let mut runner = deterministic::Runner::new(config);
    let checkpoint: Checkpoint = loop {
        let (done, checkpoint) = runner.start_and_recover(|context| act.play(context));
        if done? {
            break checkpoint;
        }
        runner = checkpoint.into();
    };
    Ok(Report {
        digest: checkpoint.auditor().state(),
        tip: act.witness.tip(),
        height: act.witness.height(),
        empty_views: act.witness.empty_views(),
        late_ms: act.witness.late_ms,
        certificates: act.witness.check(&site.committee.network_key()),
        took: STEP * act.step as u32,
    })
}

struct Act<'a> {
    scenario: &'a Scenario,
    site: &'a Site,
    payments: &'a Payments,
    witness: Witness,
    /// Faults that have happened.
    faults: usize,
    step: u64,
    /// Transactions by which validators come and go.
    entries: Vec<(Digest, Bytes)>,
}

impl Act<'_> {
    /// `false`: the power failed.
    async fn play(&mut self, context: Context) -> Result<bool> {
        let clock = context.child("client");
        let mut network = Network::start(context, self.site, self.scenario.link.clone()).await?;
        loop {
            clock.sleep(STEP).await;
            self.step += 1;
            while let Some((when, fault)) = self.scenario.faults.get(self.faults) {
                let come = match when {
                    When::After(time) => *time <= STEP * self.step as u32,
                    When::Height(height) => *height <= self.witness.height(),
                };
                if !come {
                    break;
                }
                match fault {
                    Fault::Join(at) if !network.join(*at)? => break,
                    Fault::Enter(at) => {
                        let heads = network.nodes().map(|(_, node)| node.head());
                        let entry = heads.filter_map(|head| self.site.entry(*at, &head.state));
                        let Some(entry) = entry.last() else { break };
                        self.entries.push(entry);
                    }
                    Fault::Leave(at) => self.entries.push(self.site.farewell(*at)),
                    _ => {}
                }
                self.faults += 1;
                match fault {
                    Fault::Enter(_) | Fault::Join(_) | Fault::Leave(_) => {}
                    Fault::Kill(at) => network.kill(*at),
                    Fault::Start(at) => network.run(*at)?,
                    Fault::Cut(apart) => network.cut(apart).await?,
                    Fault::Heal => network.cut(&[]).await?,
                    Fault::Lie(at, off_ms) => {
                        if let Some(node) = network.node(*at) {
                            node.lie_about_time(*off_ms);
                        }
                    }
                    Fault::PowerFailure => return Ok(false),
                }
            }
            self.submit(&network);
            let now = clock.current().duration_since(UNIX_EPOCH)?;
            for (at, node) in network.nodes() {
                self.witness.look(at, node, now.as_millis() as u64);
            }
            if self.is_done(&network) {
                for node in self.sitting(&network) {
                    self.payments.check(&node.head().state);
                }
                return Ok(true);
            }
        }
    }

    /// The transfer of this step, and now and then all that are still not applied.
    fn submit(&self, network: &Network<'_>) {
        let all = &self.payments.transactions;
        let fresh = all.get(self.step as usize - 1..self.step as usize);
        let again = if self.step.is_multiple_of(RETRY_STEPS) {
            &all[..all.len().min(self.step as usize)]
        } else {
            &[]
        };
        let missing = again
            .iter()
            .chain(&self.entries)
            .filter(|(id, _)| !self.witness.applied().contains(id));
        for (turn, (_, bytes)) in fresh.into_iter().flatten().chain(missing).enumerate() {
            let at = (self.step as usize + turn) % self.site.validators();
            if let Some(node) = network.node(at) {
                // Refused: applied already, or too many wait. It is tried again if need be.
                let _ = node.submit(bytes.clone());
            }
        }
    }

    /// Those who must follow: who sits, as the furthest of them knows. Others are told again
    /// when they are drawn.
    fn sitting<'n>(
        &self,
        network: &'n Network<'_>,
    ) -> impl Iterator<Item = &'n Handle<LedgerMachine>> {
        let heads = network.nodes().map(|(_, node)| node.head());
        let furthest = heads.max_by_key(|head| head.header.height);
        let keys: Vec<PublicKey> = furthest.map_or(Vec::new(), |head| {
            let seats = head.state.committee(head.header.epoch);
            seats.unwrap_or_default().iter().map(|s| s.key).collect()
        });
        let site = self.site;
        network
            .nodes()
            .filter(move |(at, _)| keys.contains(&site.key(*at)))
            .map(|(_, node)| node)
    }

    fn is_done(&self, network: &Network<'_>) -> bool {
        let all = &self.payments.transactions;
        let height = self.scenario.epochs * self.scenario.epoch_blocks;
        self.faults == self.scenario.faults.len()
            && self.witness.height() >= height
            && self.witness.applied().len() == all.len() + self.entries.len()
            && network.nodes().count() == self.site.validators()
            && self.sitting(network).all(|node| {
                node.head().header.height >= self.witness.applied_at().max(height)
                    && node.queued() == 0
            })
    }
}
