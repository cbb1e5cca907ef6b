//! What happens in a run, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Result, ensure};
use bytes::Bytes;
use commonware_runtime::deterministic::{
    self, Checkpoint, Context, FaultConfig, PartialWriteMode, ResizeConfig, WriteConfig,
};
use commonware_runtime::{Clock as _, Supervisor as _};
use commonware_utils::{Probability, probability};
use consensus::Handle;
use consensus::simulation::Channel;
use types::{Digest, PublicKey};
use validator::LedgerMachine;

use crate::client::{Flood, GENESIS_MS, Payments};
use crate::hosts::Hosts;
use crate::letter::Letter;
use crate::links::Links;
use crate::network::{Network, Site};
use crate::trace::Trace;
use crate::witness::Witness;

/// Transfers come this often.
const TURN_MS: u64 = 50;
/// What nobody has taken, or who took it has died since, is submitted again elsewhere this often.
const RETRY_TURNS: u64 = 60;
/// What was sealed to the network is opened this often.
const OPEN_TURNS: u64 = 10;
/// Virtual time after which a run has failed.
const DEADLINE: Duration = Duration::from_secs(900);
/// While a quorum is well, no more time than this passes without a block.
const STALL: Duration = Duration::from_secs(25);
/// After the last fault, and once the last transfer was submitted and the last epoch has come,
/// all that was asked for is applied within this.
const SETTLED: Duration = Duration::from_secs(90);

/// One that ended by itself is started again after this.
const RESTART: Duration = Duration::from_secs(1);
/// Of what was written and not synced, a power failure leaves any half.
const TEARS: FaultConfig = FaultConfig {
    open_rate: None,
    read_rate: None,
    write_rate: Some(WriteConfig {
        failure_rate: probability!(0, 1),
        retention_rate: probability!(1, 2),
        mode: PartialWriteMode::Subset,
    }),
    sync_rate: None,
    resize_rate: None,
    remove_rate: None,
    scan_rate: None,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `kill -9` of a validator.
    Kill(usize),
    /// It starts again on its disk.
    Start(usize),
    /// These see each other only.
    Cut(Vec<usize>),
    /// These hear nobody, and are heard.
    Deafen(Vec<usize>),
    /// These are heard by nobody, and hear.
    Silence(Vec<usize>),
    /// All links are whole, and as they were at the beginning.
    Heal,
    /// From now on all links are like this.
    Weather(Links),
    /// It states a time that is so many milliseconds off.
    Lie(usize, i64),
    /// It keeps to itself what it would say of these, and says all else.
    Withhold(usize, Vec<Channel>),
    /// With one message of so many it says an old one again.
    Repeat(usize, u32),
    /// Of so many messages one is garbled.
    Garble(usize, u32),
    /// Of one with two lives: who hears the second. All others hear the first.
    Part(usize, Vec<usize>),
    /// A newcomer enters the ledger with a bond and a ticket.
    Enter(usize),
    /// It enters anew with a ticket that it chose among many by a beacon that it knows.
    Grind(usize, u64),
    /// It starts from the first state after which the others link to it.
    Join(usize),
    /// A founder takes itself off.
    Leave(usize),
    /// From now on one account submits so many transfers with each turn, all to those who lead.
    Flood(u32),
    /// So many more writes of its blocks succeed, then its disk is full.
    Full(usize, u64),
    /// There is room again.
    Free(usize),
    /// From now on, of ten thousand writes, syncs and resizes of engines' files so many fail.
    Sick(u16),
    /// All die at once, and what was not yet durable is lost, or torn; all start again.
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
    /// They are spread over all epochs; else one is submitted in each turn from the start.
    pub steady: bool,
    pub links: Links,
    pub epoch_blocks: u64,
    /// The run goes on until so many epochs have ended.
    pub epochs: u64,
    /// Everything is looked at this often.
    pub step_ms: u64,
    /// Of bad will, or ill all the time: nothing is asked of these, and nothing submitted to them.
    pub bad: Vec<usize>,
    /// Of `bad`, those with two lives.
    pub twins: Vec<usize>,
    /// Validators may end by themselves, as their disks fail them, and are started again.
    pub supervised: bool,
    /// So many epochs begin without new shares of the key, as too few dealt.
    pub spoiled: u64,
    /// A quorum is well all the time: there are always blocks, and each epoch has a beacon.
    pub live: bool,
    /// Whoever proposes two blocks for one view is accused, as validators do by a task of theirs;
    /// at the end all of `twins` have lost their bonds and seats.
    pub accused: bool,
    /// There are hosts, and witnesses look at them: at the end the dead one is flagged, and never
    /// the other.
    pub watched: bool,
    /// Of a hundred transfers, 99 take no longer.
    pub transfer_max: Option<Duration>,
    /// Of a hundred transfers, 99 are in one of so many blocks after they were submitted.
    pub blocks_max: Option<u64>,
    /// Validators keep so many blocks; `None`: all. At the end none keeps more than those, and four
    /// for each epoch.
    pub keep: Option<u64>,
    /// Who has no seat follows the chain by what others say, lies too, as validators do.
    pub following: bool,
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
    /// Epochs whose holders opened what was sealed at the beginning.
    pub opened: usize,
    /// How often the network's key went on to new shares.
    pub handed_on: usize,
    /// How often it was not, and those who had it went on.
    pub failed_ceremonies: usize,
    /// How often one that followed was drawn, and voted.
    pub turned: usize,
    /// What those who follow brought as screeners.
    pub screened: u64,
    /// Newcomers that told of hosts as witnesses.
    pub told: usize,
    /// Proved to have proposed two blocks for one view.
    pub convicted: usize,
    /// Epochs whose beacon was told, and drawings that were made again and found right.
    pub beacons: usize,
    pub drawings: usize,
    /// How far behind the clocks the last block was when it was heard of.
    pub late_ms: u64,
    /// From the proposal of a block until a validator had it as final: half and 99 of 100 took
    /// no longer.
    pub final_ms: (u64, u64),
    /// The same from when a transfer was submitted until where it was submitted had it as final.
    pub transfer_ms: (u64, u64),
    /// The same in blocks, from the last one that was final there to the one that holds it.
    pub transfer_blocks: (u64, u64),
    /// Messages by which transactions were sent on, by those who run at the end, since they began to.
    pub forwarded: u64,
    pub took: Duration,
}

/// Runs until every transfer is applied on every validator and all faults have happened.
/// Panics when a promise is broken, naming it.
pub fn run(scenario: &Scenario) -> Result<Report> {
    run_traced(scenario, &Trace::default())
}

/// As [`run`]; what happens is noted as it does.
pub fn run_traced(scenario: &Scenario, trace: &Trace) -> Result<Report> {
    let site = Site::new(scenario)?;
    for at in &scenario.twins {
        // Half of the others hear one life, half the other, until something else is said.
        let all = 0..site.validators();
        let second: Vec<usize> = all.filter(|n| n != at && n % 2 == 1).collect();
        site.part(*at, &second);
    }
    let payments = Payments::new(site.genesis(), scenario.transfers);
    let keys = (0..site.validators()).map(|at| site.key(at).0).collect();
    let mut act = Act {
        scenario,
        site: &site,
        payments: &payments,
        witness: Witness::new(trace.clone(), &site.committee, site.dealt(), keys),
        trace,
        faults: 0,
        now: Duration::ZERO,
        turn: 0,
        given: 0,
        moved: Duration::ZERO,
        settling: None,
        links: scenario.links,
        entries: Vec::new(),
        tries: Vec::new(),
        dead: Vec::new(),
        convicted: BTreeSet::new(),
        gone: BTreeSet::new(),
        letter: Letter::new(&site.committee.network_key()),
        flood: Flood::new(site.genesis()),
        hosts: Hosts::new(site.genesis().digest(), scenario.seed),
        submitted: BTreeMap::new(),
        taken: BTreeMap::new(),
        transfer_ms: Vec::new(),
        transfer_blocks: Vec::new(),
        forwarded: 0,
        turned: 0,
        screened: 0,
    };
    let start = UNIX_EPOCH + Duration::from_millis(GENESIS_MS);
    let config = deterministic::Config::new()
        .with_seed(scenario.seed)
        .with_start_time(start)
        .with_timeout(Some(DEADLINE))
        // An engine that cannot write ends by a panic.
        .with_catch_panics(scenario.supervised)
        .with_storage_fault_config(TEARS);
    let mut runner = deterministic::Runner::new(config);
    let checkpoint: Checkpoint = loop {
        let (done, checkpoint) = runner.start_and_recover(|context| act.play(context));
        if done? {
            break checkpoint;
        }
        runner = checkpoint.into();
    };
    trace.note(act.now, "done");
    let witness = &mut act.witness;
    Ok(Report {
        digest: checkpoint.auditor().state(),
        tip: witness.tip(),
        height: witness.height(),
        empty_views: witness.empty_views(),
        opened: act.letter.opened(),
        handed_on: act.letter.handed_on(),
        failed_ceremonies: witness.failed_ceremonies(),
        turned: act.turned,
        screened: act.screened,
        told: act.hosts.told_from(scenario.validators as usize),
        convicted: act.convicted.len(),
        beacons: witness.beacons(),
        drawings: witness.drawings(),
        late_ms: witness.late_ms,
        final_ms: percentiles(&mut witness.finality_ms),
        transfer_ms: percentiles(&mut act.transfer_ms),
        transfer_blocks: percentiles(&mut act.transfer_blocks),
        forwarded: act.forwarded,
        certificates: witness.check(),
        took: act.now,
    })
}

/// Disks of which so many of ten thousand acts fail.
fn sick(rate: u16) -> FaultConfig {
    let rate = Probability::new(u64::from(rate.min(10_000)), 10_000).unwrap_or(probability!(1, 1));
    FaultConfig {
        write_rate: Some(WriteConfig {
            failure_rate: rate,
            retention_rate: probability!(1, 2),
            mode: PartialWriteMode::Prefix,
        }),
        sync_rate: Some(rate),
        resize_rate: Some(ResizeConfig {
            failure_rate: rate,
            partial_rate: probability!(1, 2),
        }),
        ..TEARS
    }
}

fn screened(state: &ledger::State) -> u64 {
    let duties = state.duties.iter();
    duties
        .flat_map(|(_, duties)| duties.by.values())
        .map(|done| done.screened)
        .sum()
}

/// The 50th and the 99th.
fn percentiles(values: &mut [u64]) -> (u64, u64) {
    values.sort_unstable();
    let at = |percent: usize| values.get(values.len() * percent / 100).copied();
    (at(50).unwrap_or_default(), at(99).unwrap_or_default())
}

struct Act<'a> {
    scenario: &'a Scenario,
    site: &'a Site,
    payments: &'a Payments,
    witness: Witness,
    trace: &'a Trace,
    /// Faults that have happened.
    faults: usize,
    /// Since the start.
    now: Duration,
    /// Of the client.
    turn: u64,
    /// So many transfers have been submitted.
    given: usize,
    /// When there was a block last, or the last fault.
    moved: Duration,
    /// Since when nothing but to settle is left.
    settling: Option<Duration>,
    links: Links,
    /// Transactions by which validators come and go.
    entries: Vec<(Digest, Bytes)>,
    /// Transactions that may be refused.
    tries: Vec<(Digest, Bytes)>,
    /// Ended by themselves; when each is started again.
    dead: Vec<(usize, Duration)>,
    /// Took themselves off.
    gone: BTreeSet<usize>,
    letter: Letter,
    /// Proved to have led twice in one view.
    convicted: BTreeSet<usize>,
    flood: Flood,
    hosts: Hosts,
    /// Where and when transfers were submitted first, and what height was final there.
    submitted: BTreeMap<Digest, (usize, Duration, u64)>,
    /// Who answers for what was submitted: it took it, and has not died since.
    taken: BTreeMap<Digest, usize>,
    transfer_ms: Vec<u64>,
    transfer_blocks: Vec<u64>,
    forwarded: u64,
    turned: usize,
    screened: u64,
}

impl Act<'_> {
    /// `false`: the power failed.
    async fn play(&mut self, context: Context) -> Result<bool> {
        let clock = context.child("client");
        let mut network = Network::start(context, self.site, self.links).await?;
        let step = Duration::from_millis(self.scenario.step_ms);
        loop {
            clock.sleep(step).await;
            self.now += step;
            if !self.faults(&mut network).await? {
                return Ok(false);
            }
            if self.now.as_millis() as u64 >= (self.turn + 1) * TURN_MS {
                self.turn += 1;
                self.submit(&network);
                if self.turn.is_multiple_of(RETRY_TURNS) {
                    network.nobody_blocks_the_good(&self.scenario.bad).await?;
                    self.convict(&network)?;
                }
            }
            self.supervise(&mut network)?;
            let now = clock.current().duration_since(UNIX_EPOCH)?;
            network.follow(now.as_millis() as u64).await?;
            self.turned += std::mem::take(&mut network.turned);
            self.look(&network, now)?;
            if self.is_done(&network) {
                network.nobody_blocks_the_good(&self.scenario.bad).await?;
                self.convict(&network)?;
                self.is_bounded(&network)?;
                self.forwarded = network.nodes().map(|(_, node)| node.forwarded()).sum();
                let mut by_word = 0;
                for node in self.sitting(&network) {
                    self.check(&node.head().state)?;
                    by_word = screened(&node.head().state);
                }
                self.screened = by_word;
                return Ok(true);
            }
            self.is_alive(&network)?;
        }
    }

    /// Does what is due. `false`: the power fails.
    async fn faults(&mut self, network: &mut Network<'_>) -> Result<bool> {
        while let Some((when, fault)) = self.scenario.faults.get(self.faults) {
            let come = match when {
                When::After(time) => *time <= self.now,
                When::Height(height) => *height <= self.witness.height(),
            };
            if !come {
                break;
            }
            match fault {
                Fault::Join(at) if !network.join(*at)? => break,
                Fault::Enter(at) | Fault::Grind(at, _) => {
                    let heads = network.nodes().map(|(_, node)| node.head());
                    let entry = heads.filter_map(|head| match fault {
                        Fault::Grind(_, turn) => self.site.ground(*at, &head.state, *turn),
                        _ => self.site.entry(*at, &head.state),
                    });
                    let Some(entry) = entry.last() else { break };
                    match fault {
                        // It may be too late for the beacon that it was chosen by.
                        Fault::Grind(..) => self.tries.push(entry),
                        _ => self.entries.push(entry),
                    }
                }
                Fault::Leave(at) => {
                    // What it said as a witness comes first.
                    let waits = network.nodes().any(|(_, node)| node.queued() > 0);
                    if self.scenario.watched && waits {
                        break;
                    }
                    let heads = network.nodes().map(|(_, node)| node.head());
                    let Some(head) = heads.max_by_key(|head| head.header.height) else {
                        break;
                    };
                    self.entries.push(self.site.farewell(*at, &head.state));
                    self.gone.insert(*at);
                }
                _ => {}
            }
            self.faults += 1;
            self.moved = self.now;
            self.trace.note(self.now, format_args!("FAULT {fault:?}"));
            match fault {
                Fault::Enter(_) | Fault::Grind(..) | Fault::Join(_) | Fault::Leave(_) => {}
                Fault::Kill(at) => {
                    network.kill(*at);
                    self.forgot(*at);
                }
                Fault::Start(at) => network.run(*at)?,
                Fault::Weather(links) => {
                    self.links = *links;
                    network.link(fault, self.links).await?;
                }
                Fault::Heal => {
                    self.links = self.scenario.links;
                    network.link(fault, self.links).await?;
                }
                Fault::Cut(_) | Fault::Deafen(_) | Fault::Silence(_) => {
                    network.link(fault, self.links).await?;
                }
                Fault::Lie(at, off_ms) => {
                    if let Some(node) = network.node(*at) {
                        node.lie_about_time(*off_ms);
                    }
                }
                Fault::Withhold(at, channels) => self.site.malice(*at).withhold(channels),
                Fault::Repeat(at, one_in) => self.site.malice(*at).repeat(*one_in),
                Fault::Garble(at, one_in) => self.site.malice(*at).garble(*one_in),
                Fault::Part(at, second) => self.site.part(*at, second),
                Fault::Flood(many) => self.flood.many = *many,
                Fault::Full(at, left) => self.site.fill(*at, Some(*left)),
                Fault::Free(at) => self.site.fill(*at, None),
                Fault::Sick(rate) => {
                    *network.disk_faults().write() = sick(*rate);
                }
                Fault::PowerFailure => {
                    self.site.power_failure(self.scenario.seed);
                    self.dead.clear();
                    self.taken.clear();
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Who is proved to have proposed two blocks for one view. Errors: someone of good will.
    fn convict(&mut self, network: &Network<'_>) -> Result<()> {
        for double in network.nodes().flat_map(|(_, node)| node.doubles()) {
            let mut all = 0..self.site.validators();
            let at = all.find(|at| self.site.key(*at) == double.leader);
            let at = at.unwrap_or(usize::MAX);
            ensure!(
                self.scenario.bad.contains(&at),
                "validator {at} is good, and there is a proof of two proposals against it"
            );
            if self.scenario.accused {
                for (by, node) in network.nodes() {
                    let (state, doubles) = (&node.head().state, node.doubles());
                    let key = self.site.identity(by);
                    let told = validator::accusation(state, &doubles, &key);
                    if let Some(told) = told.filter(|_| !self.scenario.bad.contains(&by)) {
                        // Another may have been first.
                        let _ = node.submit(told);
                    }
                }
            }
            if self.convicted.insert(at) {
                self.trace.note(
                    self.now,
                    format_args!("proof {at}: two blocks for one view"),
                );
            }
        }
        Ok(())
    }

    /// With everyone who sits, those with two lives have lost bond and seat, and nobody else.
    fn is_settled(&self, network: &Network<'_>) -> bool {
        let twins: BTreeSet<PublicKey> = self
            .scenario
            .twins
            .iter()
            .map(|at| self.site.key(*at))
            .collect();
        let bond = self.site.genesis().params.validator_bond;
        let fund = ledger::validator::fund_account(&self.site.genesis().digest());
        self.sitting(network).all(|node| {
            let state = &node.head().state;
            let out = state.validators.iter();
            let out = out.filter(|(_, v)| v.convicted.is_some_and(|c| c.lost == bond));
            let seats = state.committee(state.epoch()).unwrap_or_default();
            let left = bond.0 - bond.0 / 10;
            out.map(|(key, _)| *key).collect::<BTreeSet<_>>() == twins
                && seats.iter().all(|seat| !twins.contains(&seat.key))
                && state.account(&fund).balance().0 == left * twins.len() as u128
        })
    }

    /// Errors, or panics: what was asked for has not come about.
    fn check(&self, state: &ledger::State) -> Result<()> {
        if self.scenario.watched {
            ensure!(Hosts::check(state)?, "the dead host is not flagged");
            let supply = state.supply();
            ensure!(supply.expected == supply.sum(), "the supply is not whole");
        } else {
            self.payments.check(state);
        }
        Ok(())
    }

    /// Is what witnesses have to do done, with everyone who sits?
    fn is_seen(&self, network: &Network<'_>) -> bool {
        self.sitting(network)
            .all(|node| Hosts::check(&node.head().state).unwrap_or(true))
    }

    /// Starts those again that have ended by themselves.
    fn supervise(&mut self, network: &mut Network<'_>) -> Result<()> {
        let ended = network.nodes().filter(|(_, node)| node.has_ended());
        for at in ended.map(|(at, _)| at).collect::<Vec<_>>() {
            ensure!(self.scenario.supervised, "validator {at} ended by itself");
            self.trace.note(self.now, format_args!("end {at}"));
            network.kill(at);
            self.forgot(at);
            self.dead.push((at, self.now + RESTART));
        }
        let (due, later): (Vec<_>, Vec<_>) =
            self.dead.drain(..).partition(|(_, when)| *when <= self.now);
        self.dead = later;
        for (at, _) in due {
            match network.run(at) {
                Ok(()) => self.trace.note(self.now, format_args!("start {at}")),
                Err(why) => network.failed.push((at, why)),
            }
        }
        for (at, why) in network.failed.drain(..) {
            ensure!(self.scenario.supervised, "validator {at}: {why:#}");
            self.trace.note(self.now, format_args!("end {at}: {why:#}"));
            self.dead.push((at, self.now + RESTART));
        }
        Ok(())
    }

    fn look(&mut self, network: &Network<'_>, now: Duration) -> Result<()> {
        let before = self.witness.height();
        if self.turn.is_multiple_of(OPEN_TURNS) {
            self.letter.open(network.nodes().map(|(_, node)| node));
        }
        for (at, node) in network.lives() {
            self.witness
                .look(at, node, now.as_millis() as u64, self.now);
        }
        if self.witness.height() > before {
            self.moved = self.now;
        }
        let applied = self.witness.applied();
        let (site, now) = (network, self.now);
        let (transfer_ms, blocks) = (&mut self.transfer_ms, &mut self.transfer_blocks);
        self.submitted.retain(|id, (at, since, before)| {
            let head = site.node(*at).map(|node| node.head().header.height);
            let there = applied.get(id).filter(|height| head >= Some(**height));
            if let Some(height) = there {
                transfer_ms.push((now - *since).as_millis() as u64);
                blocks.push(height.saturating_sub(*before));
            }
            there.is_none()
        });
        Ok(())
    }

    /// So many transfers have been submitted by the end of this turn.
    fn due(&self) -> usize {
        let all = self.payments.transactions.len();
        let last = self.scenario.epochs * self.scenario.epoch_blocks;
        let due = match self.scenario.steady {
            true => all as u64 * (self.witness.height() + 1) / last.max(1),
            false => self.turn,
        };
        all.min(due as usize)
    }

    /// It has died: what it had taken and not yet passed on is lost.
    fn forgot(&mut self, at: usize) {
        self.taken.retain(|_, by| *by != at);
    }

    /// The transfers of this turn, and now and then all that nobody answers for.
    fn submit(&mut self, network: &Network<'_>) {
        let all = &self.payments.transactions;
        let due = self.due();
        let fresh = &all[self.given..due];
        self.given = due;
        let again = if self.turn.is_multiple_of(RETRY_TURNS) {
            &all[..due]
        } else {
            &[]
        };
        let missing = again
            .iter()
            .chain(&self.entries)
            .chain(&self.tries)
            .filter(|(id, _)| !self.witness.applied().contains_key(id))
            .filter(|(id, _)| !self.taken.contains_key(id));
        let good = (0..self.site.validators()).filter(|at| !self.scenario.bad.contains(at));
        let good: Vec<usize> = good.collect();
        let missing: Vec<_> = missing.collect();
        for (turn, (id, bytes)) in fresh.iter().chain(missing).enumerate() {
            let at = good[(self.turn as usize + turn) % good.len()];
            if let Some(node) = network.node(at) {
                // Refused: applied already, or too many wait. It is tried again if need be.
                if node.submit(bytes.clone()).is_ok() {
                    self.taken.insert(*id, at);
                    let final_there = node.head().header.height;
                    let entry = self.submitted.entry(*id);
                    entry.or_insert((at, self.now, final_there));
                }
            }
        }
        for (at, node) in network.nodes() {
            self.flood.pour(at, node);
            if self.scenario.watched && !self.gone.contains(&at) {
                let (key, is_bad) = (self.site.identity(at), self.scenario.bad.contains(&at));
                self.hosts.play(self.turn, at, node, &key, is_bad);
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
        let (site, bad) = (self.site, self.scenario.bad.clone());
        network
            .nodes()
            .filter(move |(at, _)| keys.contains(&site.key(*at)) && !bad.contains(at))
            .map(|(_, node)| node)
    }

    fn is_done(&self, network: &Network<'_>) -> bool {
        let wanted = self.payments.transactions.iter().chain(&self.entries);
        let height = self.scenario.epochs * self.scenario.epoch_blocks;
        self.faults == self.scenario.faults.len()
            && self.witness.height() >= height
            && (!self.scenario.accused || self.is_settled(network))
            && (!self.scenario.watched || self.is_seen(network))
            && wanted
                .map(|(id, _)| id)
                .all(|id| self.witness.applied().contains_key(id))
            && network.nodes().count() == self.site.validators()
            && self.sitting(network).all(|node| {
                node.head().header.height >= self.witness.applied_at().max(height)
                    && (node.queued() == 0 || self.flood.many > 0)
            })
    }

    /// Errors: one keeps more than it should, or lacks what it should keep.
    fn is_bounded(&self, network: &Network<'_>) -> Result<()> {
        let Some(keep) = self.scenario.keep else {
            return Ok(());
        };
        let blocks = self.scenario.epoch_blocks;
        for (at, node) in network.nodes() {
            let (head, begins) = (node.head().header.height, node.begins());
            ensure!(
                head < keep || begins + keep + 8 >= head,
                "validator {at} keeps all from {begins} to {head}"
            );
            let kept = |height: u64| node.block(height).map(|block| block.is_some());
            let mut old = 0;
            for height in 1..begins {
                old += u64::from(kept(height)?);
                let ends = (height + 1).is_multiple_of(blocks);
                let joined = node.offer()?.is_some() && self.scenario.newcomers > 0;
                ensure!(
                    !ends || joined || kept(height)?,
                    "validator {at} has forgotten the end of an epoch, {height}"
                );
            }
            ensure!(
                old <= 5 * (begins / blocks + 1),
                "validator {at} keeps {old} blocks from before {begins}"
            );
            for height in begins.max(1)..=head {
                ensure!(kept(height)?, "validator {at} lacks block {height}");
            }
        }
        Ok(())
    }

    /// Errors: nothing moves though nothing hinders it.
    fn is_alive(&mut self, network: &Network<'_>) -> Result<()> {
        let healed = self.faults == self.scenario.faults.len();
        let hindered = !healed && !self.scenario.live;
        let heads = || -> Vec<(usize, u64)> {
            let heads = network.nodes();
            heads
                .map(|(at, node)| (at, node.head().header.height))
                .collect()
        };
        ensure!(
            hindered || self.now - self.moved < STALL,
            "no block for {STALL:?} though a quorum is well; heads: {:?}",
            heads()
        );
        let height = self.scenario.epochs * self.scenario.epoch_blocks;
        let all = self.given >= self.payments.transactions.len();
        if healed && all && self.witness.height() >= height {
            let since = *self.settling.get_or_insert(self.now);
            if self.now - since > SETTLED {
                let wanted = self.payments.transactions.iter().chain(&self.entries);
                let missing = wanted.filter(|(id, _)| !self.witness.applied().contains_key(id));
                let first = missing.map(|(id, _)| id).next();
                let queued: Vec<_> = network.nodes().map(|(at, n)| (at, n.queued())).collect();
                return Err(anyhow::anyhow!(
                    "nothing hinders it for {SETTLED:?}, and not all has come about: \
                     not applied: {first:?}; heads: {:?}; queued: {queued:?}",
                    heads()
                ));
            }
        }
        Ok(())
    }
}

impl Scenario {
    /// Errors: more was promised of each seed than that nothing breaks, and is not so.
    pub fn check(&self, report: &Report) -> Result<()> {
        ensure!(report.certificates > 0, "no certificate was checked");
        // Bad will may spoil a ceremony; those who had the key go on then.
        let handed_min = match self.bad.is_empty() {
            true => self.epochs - self.spoiled,
            false => self.epochs.div_ceil(2),
        };
        ensure!(
            report.handed_on as u64 >= handed_min,
            "in {} epochs the key went on to new shares {} times",
            self.epochs,
            report.handed_on
        );
        ensure!(
            report.failed_ceremonies as u64 >= self.spoiled,
            "too few dealt in {} epochs, and the key was not handed on {} times",
            self.spoiled,
            report.failed_ceremonies
        );
        if self.live {
            ensure!(report.opened > 0, "nobody opened what was sealed");
            // The last epoch's may not have been told yet.
            let epochs = (report.height + 1) / self.epoch_blocks;
            ensure!(
                report.beacons as u64 >= epochs,
                "{} of {epochs} epochs have a beacon: it was held back",
                report.beacons
            );
        }
        ensure!(
            !self.following || report.turned > 0 && report.screened > 0,
            "of those who follow {} were drawn, and {} transactions came by their word",
            report.turned,
            report.screened
        );
        ensure!(
            !self.watched || report.told == usize::from(self.newcomers),
            "of {} newcomers {} were witnesses",
            self.newcomers,
            report.told
        );
        if let Some(most) = self.blocks_max {
            ensure!(
                report.transfer_blocks.1 <= most,
                "transfers came into blocks {:?} (half, 99 of 100) after they were submitted; no more than {most} were promised",
                report.transfer_blocks
            );
        }
        if let Some(most) = self.transfer_max {
            ensure!(
                u128::from(report.transfer_ms.1) <= most.as_millis(),
                "of transfers, half and 99 of 100 took {:?} ms; no more than {most:?} was promised",
                report.transfer_ms
            );
        }
        Ok(())
    }
}
