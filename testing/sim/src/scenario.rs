//! What happens in a run, and what came of it.

use std::time::{Duration, UNIX_EPOCH};

use anyhow::Result;
use commonware_p2p::simulated::Link;
use commonware_runtime::deterministic::{self, Checkpoint, Context};
use commonware_runtime::{Clock as _, Supervisor as _};
use types::Digest;

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
    /// All die at once, and what was not yet durable is lost; all start again.
    PowerFailure,
}

#[derive(Clone)]
pub struct Scenario {
    pub seed: u64,
    pub transfers: u32,
    pub link: Link,
    pub epoch_blocks: u64,
    /// The run goes on until so many epochs have ended.
    pub epochs: u64,
    /// By time since the start, in order.
    pub faults: Vec<(Duration, Fault)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Of all that the runtime did: tasks, messages, disk writes.
    pub digest: String,
    pub tip: Digest,
    pub height: u64,
    pub empty_views: u64,
    pub certificates: usize,
    pub took: Duration,
}

/// Runs until every transfer is applied on every validator and all faults have happened.
/// Panics when a promise is broken, naming it.
pub fn run(scenario: &Scenario) -> Result<Report> {
    let site = Site::new(scenario.epoch_blocks)?;
    let payments = Payments::new(site.genesis(), scenario.transfers);
    let mut act = Act {
        scenario,
        site: &site,
        payments: &payments,
        witness: Witness::default(),
        faults: 0,
        step: 0,
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
}

impl Act<'_> {
    /// `false`: the power failed.
    async fn play(&mut self, context: Context) -> Result<bool> {
        let clock = context.child("client");
        let mut network = Network::start(context, self.site, self.scenario.link.clone()).await?;
        loop {
            clock.sleep(STEP).await;
            self.step += 1;
            while let Some((at, fault)) = self.scenario.faults.get(self.faults) {
                if *at > STEP * self.step as u32 {
                    break;
                }
                self.faults += 1;
                match fault {
                    Fault::Kill(at) => network.kill(*at),
                    Fault::Start(at) => network.run(*at)?,
                    Fault::Cut(apart) => network.cut(apart).await?,
                    Fault::Heal => network.cut(&[]).await?,
                    Fault::PowerFailure => return Ok(false),
                }
            }
            self.submit(&network);
            for (at, node) in network.nodes() {
                self.witness.look(at, node);
            }
            if self.is_done(&network) {
                for (_, node) in network.nodes() {
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
            .filter(|(id, _)| !self.witness.applied().contains(id));
        for (turn, (_, bytes)) in fresh.into_iter().flatten().chain(missing).enumerate() {
            let at = (self.step as usize + turn) % self.site.validators();
            if let Some(node) = network.node(at) {
                // Refused: applied already, or too many wait. It is tried again if need be.
                let _ = node.submit(bytes.clone());
            }
        }
    }

    fn is_done(&self, network: &Network<'_>) -> bool {
        let all = &self.payments.transactions;
        let height = self.scenario.epochs * self.scenario.epoch_blocks;
        self.faults == self.scenario.faults.len()
            && network
                .nodes()
                .all(|(_, n)| n.head().header.height >= height)
            && self.witness.applied().len() == all.len()
            && network.nodes().count() == self.site.validators()
            && network
                .nodes()
                .all(|(_, node)| node.head().header.height >= self.witness.applied_at())
            && network.nodes().all(|(_, node)| node.queued() == 0)
    }
}
