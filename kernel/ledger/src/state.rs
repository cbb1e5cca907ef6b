//! All that validators agree on, and the indexes that follow from it.

use std::collections::BTreeMap;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use imbl::{OrdMap, OrdSet};
use scheduler::{Fleet, HostEntry};
use types::{
    AccountId, AllocationId, Amount, DeploymentId, Digest, HostId, LotteryId, ProposalId, Protocol,
    PublicKey, ReceiptId, ServiceSpec, StateProof, state_key,
};

use crate::account::Account;
use crate::deployment::{Deployment, Funding, Release, Scale};
use crate::duty::Duties;
use crate::funds::Burn;
use crate::host::{Host, Token, Verdict};
use crate::lease::Allocation;
use crate::limit::Limit;
use crate::lots::{self, Drawing};
use crate::lottery::{self, Entry, Phase, Round};
use crate::table::Table;
use crate::tree::{Change, Tree};
use crate::validator::Validator;
use crate::vote::{Member, Proposal};
use crate::witness::Watched;
use crate::{Genesis, Params, invariant};

/// Small facts of which there is one each.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Globals {
    pub network: Digest,
    pub name: String,
    pub params: Params,
    pub faucet: AccountId,
    /// Who may vote on hosts' silence, in the order of their bits in [`Host::silent`]: this epoch's
    /// committee. None: nobody, hosts speak in blocks.
    pub watchers: Vec<AccountId>,
    /// All money there is.
    pub supply: Amount,
    pub height: u64,
    pub time_ms: u64,
    pub deployments: u64,
    pub allocations: u64,
    pub receipts: u64,
    pub lotteries: u64,
    pub proposals: u64,
    /// Of the rules that the network goes by.
    pub version: u32,
    /// Silence counts from here: blocks had stopped before, and nobody could be heard.
    pub awake_ms: u64,
    /// Last height at which something changed that requests are routed by: which replicas
    /// are meant to run, ready and where, published ports, hosts. Routes need not be read
    /// again while it stands still.
    pub routes_height: u64,
    /// When each of the network's gateways last told what is asked of services.
    pub gateways: BTreeMap<AccountId, u64>,
}

/// Cheap to clone: one is kept per unfinished block.
#[derive(Clone, Debug)]
pub struct State {
    pub globals: Globals,
    pub accounts: Table<AccountId, Account>,
    pub hosts: Table<HostId, Host>,
    pub deployments: Table<DeploymentId, Deployment>,
    pub allocations: Table<AllocationId, Allocation>,
    pub releases: Table<(DeploymentId, u32), Release>,
    /// Where autoscaled services stand, by name.
    pub scales: Table<(DeploymentId, String), Scale>,
    /// Who may be drawn, by identity key.
    pub validators: Table<PublicKey, Validator>,
    /// By the epoch that they are for.
    pub drawings: Table<u64, Drawing>,
    /// By epoch.
    pub duties: Table<u64, Duties>,
    pub lotteries: Table<LotteryId, Round>,
    /// Of lotteries, by their numbers from 0.
    pub entries: Table<(LotteryId, u32), Entry>,
    pub proposals: Table<ProposalId, Proposal>,
    /// Accounts that have done a validator's duties.
    pub members: Table<AccountId, Member>,
    /// What witnesses last saw of hosts.
    pub watched: Table<HostId, Watched>,
    /// Of accounts that have set one.
    pub limits: Table<AccountId, Limit>,
    /// By which machines may join, by the accounts of their keys.
    pub tokens: Table<AccountId, Token>,
    pub(crate) index: Index,
    /// All records, as what has a root.
    pub(crate) tree: Tree,
}

/// Follows from the tables; rebuilt when they are loaded.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    pub fleet: Arc<Fleet>,
    /// Leases that are not closed.
    pub by_host: OrdSet<(HostId, AllocationId)>,
    pub by_owner: OrdSet<(AccountId, DeploymentId)>,
    /// Live deployments by name.
    pub projects: OrdMap<(AccountId, String), DeploymentId>,
    pub labels: OrdMap<String, DeploymentId>,
    /// Published ports of live deployments.
    pub ports: OrdMap<(Protocol, u16), DeploymentId>,
    pub host_names: OrdMap<String, HostId>,
    pub owned_hosts: OrdSet<(AccountId, HostId)>,
    /// Deployments that a limit may have to stop or let go on: with leases, or stopped by one.
    pub weighed: OrdSet<(AccountId, DeploymentId)>,
    /// Tokens by their owners, and by when they end.
    pub tokens_of: OrdSet<(AccountId, AccountId)>,
    pub token_ends: OrdSet<(u64, AccountId)>,
    /// Live deployments that are low on funds or frozen: tried when money comes.
    pub short: OrdSet<(AccountId, DeploymentId)>,
    /// Online hosts by when they were last seen.
    pub seen: OrdSet<(u64, HostId)>,
    /// When a deployment's funds are looked at again.
    pub wheel: OrdSet<(u64, DeploymentId)>,
    pub due: OrdMap<DeploymentId, u64>,
    /// Worst case of a deployment's leases; absent until it is asked for, and after each change
    /// of one of them.
    pub burns: OrdMap<DeploymentId, Burn>,
    /// Deployments whose burn may have changed in this block; empty between blocks.
    pub burn_changed: OrdSet<DeploymentId>,
    /// When an account's limit is looked at again.
    pub limit_looks: OrdSet<(u64, AccountId)>,
    /// When a deployment's replicas are looked at again, whatever happens.
    pub looks: OrdSet<(u64, DeploymentId)>,
    /// Online hosts that a quorum of watchers does not hear.
    pub silent: OrdSet<HostId>,
    /// Hosts that came back and get new work only later.
    pub probation: OrdSet<(u64, HostId)>,
    /// Hosts by when their hours are looked at again.
    pub turns: OrdSet<(u64, HostId)>,
    /// Lotteries that are not over, with their owners.
    pub lotteries: OrdMap<LotteryId, AccountId>,
    /// Open ones by when they close.
    pub closes: OrdSet<(u64, LotteryId)>,
    /// Closed ones by the first epoch whose beacon may decide.
    pub draws: OrdSet<(u64, LotteryId)>,
    /// Those that are over by when that was.
    pub over: OrdSet<(u64, LotteryId)>,
    /// How often an account has entered an open one.
    pub entered: OrdMap<(LotteryId, AccountId), u32>,
    /// Sums of all purses and escrows, kept along to check every block in O(changes).
    pub spendable: u128,
    pub escrow: u128,
    /// Sum of all bonds of validators and hosts.
    pub bonded: u128,
}

/// Where the money is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supply {
    /// All that the genesis gave out.
    pub expected: Amount,
    pub spendable: Amount,
    pub escrow: Amount,
    /// Of validators and hosts.
    pub bonds: Amount,
}

impl Supply {
    /// What there is; equals what is expected.
    pub fn sum(&self) -> Amount {
        Amount(self.spendable.0 + self.escrow.0 + self.bonds.0)
    }
}

impl State {
    /// Deployments of `schedule` whose time has come, the earliest first: as many as one block
    /// bears, whose cost is in their allocations. The others are due in the next.
    pub(crate) fn due(
        &self,
        schedule: &OrdSet<(u64, DeploymentId)>,
        now_ms: u64,
    ) -> Vec<DeploymentId> {
        const ALLOCATIONS_MAX: usize = 5_000;
        let mut taken = 0;
        let come = schedule.iter().take_while(|(at, _)| *at <= now_ms);
        come.map(|(_, id)| *id)
            .take_while(|id| {
                let fits = taken < ALLOCATIONS_MAX;
                let allocations = self.deployments.get(id).map_or(0, |d| d.allocations.len());
                taken += allocations.max(1);
                fits
            })
            .collect()
    }

    pub fn genesis(genesis: &Genesis) -> Self {
        let mut accounts = Table::new("accounts");
        let mut supply = 0u128;
        for (id, amount) in &genesis.balances {
            let before = accounts.get(id).map_or(0, |a: &Account| a.spendable.0);
            supply = supply.saturating_add(amount.0);
            let account = Account {
                spendable: Amount(before.saturating_add(amount.0)),
                ..Account::default()
            };
            accounts.insert(*id, account);
        }
        let globals = Globals {
            network: genesis.digest(),
            name: genesis.name.clone(),
            params: genesis.params.clone(),
            faucet: genesis.faucet,
            watchers: genesis.watchers.iter().map(AccountId::of).collect(),
            supply: Amount(supply),
            height: 0,
            time_ms: genesis.time_ms,
            deployments: 0,
            allocations: 0,
            receipts: 0,
            lotteries: 0,
            proposals: 0,
            version: 1,
            awake_ms: genesis.time_ms,
            routes_height: 0,
            gateways: BTreeMap::new(),
        };
        let mut state = Self {
            globals,
            accounts,
            hosts: Table::new("hosts"),
            deployments: Table::new("deployments"),
            allocations: Table::new("allocations"),
            releases: Table::new("releases"),
            scales: Table::new("scales"),
            validators: Table::new("validators"),
            drawings: Table::new("drawings"),
            duties: Table::new("duties"),
            lotteries: Table::new("lotteries"),
            entries: Table::new("entries"),
            proposals: Table::new("proposals"),
            members: Table::new("members"),
            watched: Table::new("watched"),
            limits: Table::new("limits"),
            tokens: Table::new("tokens"),
            index: Index::empty(0),
            tree: Tree::default(),
        };
        lots::founding(&mut state, &genesis.validators);
        state.forget_changed();
        state.reindex();
        state
    }

    /// A state between blocks has no changed records: its clones start from nothing, and
    /// cost nothing.
    pub(crate) fn forget_changed(&mut self) {
        self.accounts.forget_changed();
        self.hosts.forget_changed();
        self.deployments.forget_changed();
        self.allocations.forget_changed();
        self.releases.forget_changed();
        self.scales.forget_changed();
        self.validators.forget_changed();
        self.drawings.forget_changed();
        self.duties.forget_changed();
        self.lotteries.forget_changed();
        self.entries.forget_changed();
        self.proposals.forget_changed();
        self.members.forget_changed();
        self.watched.forget_changed();
        self.limits.forget_changed();
        self.tokens.forget_changed();
    }

    /// Canonical bytes of everything that is not an index.
    pub fn save(&self) -> Vec<u8> {
        let mut out = borsh::to_vec(&self.globals).expect("writing to memory does not fail");
        self.accounts.save(&mut out);
        self.hosts.save(&mut out);
        self.deployments.save(&mut out);
        self.allocations.save(&mut out);
        self.releases.save(&mut out);
        self.scales.save(&mut out);
        self.validators.save(&mut out);
        self.drawings.save(&mut out);
        self.duties.save(&mut out);
        self.lotteries.save(&mut out);
        self.entries.save(&mut out);
        self.proposals.save(&mut out);
        self.members.save(&mut out);
        self.watched.save(&mut out);
        self.limits.save(&mut out);
        self.tokens.save(&mut out);
        out
    }

    /// Reads what [`State::save`] wrote; every invariant is checked on it.
    pub fn load(mut bytes: &[u8]) -> std::io::Result<Self> {
        let input = &mut bytes;
        let mut state = Self {
            globals: Globals::deserialize(input)?,
            accounts: Table::load("accounts", input)?,
            hosts: Table::load("hosts", input)?,
            deployments: Table::load("deployments", input)?,
            allocations: Table::load("allocations", input)?,
            releases: Table::load("releases", input)?,
            scales: Table::load("scales", input)?,
            validators: Table::load("validators", input)?,
            drawings: Table::load("drawings", input)?,
            duties: Table::load("duties", input)?,
            lotteries: Table::load("lotteries", input)?,
            entries: Table::load("entries", input)?,
            proposals: Table::load("proposals", input)?,
            members: Table::load("members", input)?,
            watched: Table::load("watched", input)?,
            limits: Table::load("limits", input)?,
            tokens: Table::load("tokens", input)?,
            index: Index::empty(0),
            tree: Tree::default(),
        };
        if !input.is_empty() {
            return Err(std::io::Error::other("bytes are left over after the state"));
        }
        let open = |a: &Allocation| !a.closed && state.hosts.get(&a.host).is_none();
        if state.allocations.iter().any(|(_, a)| open(a)) {
            return Err(std::io::Error::other("a lease is open on no host"));
        }
        state.reindex();
        invariant::check_all(&state).map_err(std::io::Error::other)?;
        Ok(state)
    }

    pub(crate) fn reindex(&mut self) {
        let seed = u64::from_le_bytes(self.globals.network.0[..8].try_into().expect("eight"));
        let mut index = Index::empty(seed);
        for (id, host) in self.hosts.iter() {
            index.host_names.insert(host.name.clone(), *id);
            index.owned_hosts.insert((host.owner, *id));
            if host.online {
                index.seen.insert((host.last_seen_ms, *id));
                if self.globals.verdict(host.silent) == Some(Verdict::Silent) {
                    index.silent.insert(*id);
                }
            }
            if host.trusted_ms > self.globals.time_ms {
                index.probation.insert((host.trusted_ms, *id));
            }
            if host.turn_ms > 0 {
                index.turns.insert((host.turn_ms, *id));
            }
            let available = index.takes_work(*id, host);
            Arc::make_mut(&mut index.fleet).set(*id, entry(host, available));
        }
        for (id, deployment) in self.deployments.iter() {
            index.by_owner.insert((deployment.owner, *id));
            index.escrow = index.escrow.saturating_add(deployment.escrow.0);
            if !deployment.removed {
                index.claim(*id, deployment);
            }
            index.note_funding(*id, deployment);
            index.note_weighed(*id, deployment);
            if !deployment.allocations.is_empty() {
                index.set_due(*id, deployment.due_ms);
            }
            if deployment.look_ms > 0 {
                index.looks.insert((deployment.look_ms, *id));
            }
        }
        for (id, token) in self.tokens.iter() {
            index.note_token(*id, token);
        }
        for (id, limit) in self.limits.iter() {
            index.limit_looks.insert((limit.look_ms, *id));
        }
        for (id, allocation) in self.allocations.iter() {
            if !allocation.closed {
                index.by_host.insert((allocation.host, *id));
            }
        }
        for (_, validator) in self.validators.iter() {
            index.bonded = index.bonded.saturating_add(validator.bond.0);
        }
        for (_, host) in self.hosts.iter() {
            index.bonded = index.bonded.saturating_add(host.bond.0);
        }
        self.index_lotteries(&mut index);
        for (_, account) in self.accounts.iter() {
            index.spendable = index.spendable.saturating_add(account.spendable.0);
        }
        self.index = index;
        self.tree = Tree::of(&self.records());
    }

    /// Which live deployment publishes that port.
    pub fn publisher(&self, protocol: Protocol, port: u16) -> Option<DeploymentId> {
        self.index.ports.get(&(protocol, port)).copied()
    }

    fn index_lotteries(&self, index: &mut Index) {
        let blocks = self.globals.params.epoch_blocks;
        for (id, round) in self.lotteries.iter() {
            if let Some(over_at) = round.over_at {
                index.over.insert((over_at, *id));
                continue;
            }
            index.lotteries.insert(*id, round.terms.owner);
            match round.closed_at {
                Some(at) => {
                    let epoch = lottery::draw_epoch(at, round.terms.draw_height, blocks);
                    index.draws.insert((epoch, *id));
                }
                None => {
                    index.closes.insert((round.terms.close_height, *id));
                }
            }
        }
        for ((id, _), entry) in self.entries.iter() {
            let round = self.lotteries.get(id);
            if round.is_some_and(|r| r.phase == Phase::Open) {
                *index.entered.entry((*id, entry.account)).or_insert(0) += 1;
            }
        }
    }

    /// What the header commits to: see [`types::StateProof`]. Keys are those of [`state_key`].
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// The root with these changes, sorted by key, each key once.
    pub fn root_after(&self, changes: &[Change]) -> Digest {
        self.tree.changed(changes).root()
    }

    /// The digest of the record of that [`state_key`], and what proves it; `None`, and what proves
    /// that there is none.
    pub fn prove(&self, key: &Digest) -> (Option<Digest>, StateProof) {
        self.tree.prove(key)
    }

    /// Key and value digest of every record, sorted: all that the root commits to.
    pub fn records(&self) -> Vec<(Digest, Digest)> {
        let mut all = vec![(
            state_key("globals", &()),
            Digest::of_value("globals", &self.globals),
        )];
        self.accounts.records(&mut all);
        self.hosts.records(&mut all);
        self.deployments.records(&mut all);
        self.allocations.records(&mut all);
        self.releases.records(&mut all);
        self.scales.records(&mut all);
        self.validators.records(&mut all);
        self.drawings.records(&mut all);
        self.duties.records(&mut all);
        self.lotteries.records(&mut all);
        self.entries.records(&mut all);
        self.proposals.records(&mut all);
        self.members.records(&mut all);
        self.watched.records(&mut all);
        self.limits.records(&mut all);
        self.tokens.records(&mut all);
        all.sort_unstable();
        all
    }

    /// Expected by genesis, and what purses, escrows and bonds add up to, counted anew.
    pub fn supply(&self) -> Supply {
        let spendable = self.accounts.iter().map(|(_, a)| a.spendable.0).sum();
        let escrow = self.deployments.iter().map(|(_, d)| d.escrow.0).sum();
        let validators = self.validators.iter().map(|(_, v)| v.bond.0);
        let bonds = validators
            .chain(self.hosts.iter().map(|(_, h)| h.bond.0))
            .sum();
        Supply {
            expected: self.globals.supply,
            spendable: Amount(spendable),
            escrow: Amount(escrow),
            bonds: Amount(bonds),
        }
    }

    pub fn height(&self) -> u64 {
        self.globals.height
    }

    pub fn time_ms(&self) -> u64 {
        self.globals.time_ms
    }

    pub fn params(&self) -> &Params {
        &self.globals.params
    }

    /// An account that nobody has paid yet is empty.
    pub fn account(&self, id: &AccountId) -> Account {
        self.accounts.get(id).cloned().unwrap_or_default()
    }

    /// Leases on a host that are not closed, in order.
    pub fn allocations_on(
        &self,
        host: &HostId,
    ) -> impl Iterator<Item = (AllocationId, &Allocation)> {
        let from = (*host, AllocationId(0))..=(*host, AllocationId(u64::MAX));
        self.index
            .by_host
            .range(from)
            .filter_map(|(_, id)| Some((*id, self.allocations.get(id)?)))
    }

    /// Did it end so long ago that only a sum knows of it?
    pub fn is_folded(&self, id: AllocationId) -> bool {
        let was = (1..=self.globals.allocations).contains(&id.0);
        was && self.allocations.get(&id).is_none()
    }

    /// Is a lease on it that its own owner does not pay for?
    pub(crate) fn serves_others(&self, host: &HostId) -> bool {
        let owner = self.hosts.get(host).map(|h| h.owner);
        self.allocations_on(host).any(|(_, a)| {
            let payer = self.deployments.get(&a.deployment).map(|d| d.owner);
            payer != owner
        })
    }

    /// All deployments an account ever made, in order.
    pub fn deployments_of(
        &self,
        owner: &AccountId,
    ) -> impl Iterator<Item = (DeploymentId, &Deployment)> {
        let from = (*owner, DeploymentId(0))..=(*owner, DeploymentId(u64::MAX));
        self.index
            .by_owner
            .range(from)
            .filter_map(|(_, id)| Some((*id, self.deployments.get(id)?)))
    }

    pub fn hosts_of(&self, owner: &AccountId) -> impl Iterator<Item = (HostId, &Host)> {
        let from = (*owner, AccountId([0; 20]))..=(*owner, AccountId([0xff; 20]));
        self.index
            .owned_hosts
            .range(from)
            .filter_map(|(_, id)| Some((*id, self.hosts.get(id)?)))
    }

    /// An account's deployments that have leases, or that its limit has stopped.
    pub(crate) fn weighed_of(
        &self,
        owner: &AccountId,
    ) -> impl Iterator<Item = (DeploymentId, &Deployment)> {
        self.index
            .weighed
            .range((*owner, DeploymentId(0))..=(*owner, DeploymentId(u64::MAX)))
            .filter_map(|(_, id)| Some((*id, self.deployments.get(id)?)))
    }

    /// The live deployment of that project name.
    pub fn project(&self, owner: &AccountId, name: &str) -> Option<DeploymentId> {
        self.index
            .projects
            .get(&(*owner, name.to_string()))
            .copied()
    }

    /// What an allocation runs by: the service as its own release had it while the lease is
    /// open, else as the latest release has it.
    pub fn service_of(&self, id: AllocationId) -> Option<&ServiceSpec> {
        let allocation = self.allocations.get(&id)?;
        let name = &allocation.service;
        let own = self
            .releases
            .get(&(allocation.deployment, allocation.release))
            .and_then(|release| release.spec.services.get(name));
        own.or_else(|| {
            let deployment = self.deployments.get(&allocation.deployment)?;
            deployment.spec.services.get(name)
        })
    }

    pub fn host_named(&self, name: &str) -> Option<HostId> {
        self.index.host_names.get(name).copied()
    }

    /// Deployments that are not removed.
    pub fn live(&self) -> impl Iterator<Item = (DeploymentId, &Deployment)> {
        self.index
            .projects
            .values()
            .filter_map(|id| Some((*id, self.deployments.get(id)?)))
    }

    pub(crate) fn fleet_mut(&mut self) -> &mut Fleet {
        Arc::make_mut(&mut self.index.fleet)
    }

    /// The scheduler's view follows the host's record.
    pub(crate) fn refresh_host(&mut self, id: &HostId) {
        match self.hosts.get(id) {
            Some(host) => {
                let entry = entry(host, self.index.takes_work(*id, host));
                self.fleet_mut().set(*id, entry);
            }
            None => self.fleet_mut().remove(id),
        }
    }

    pub(crate) fn next_receipt(&mut self) -> ReceiptId {
        self.globals.receipts += 1;
        ReceiptId(self.globals.receipts)
    }
}

impl Index {
    fn empty(seed: u64) -> Self {
        Self {
            fleet: Arc::new(Fleet::new(seed)),
            by_host: OrdSet::new(),
            by_owner: OrdSet::new(),
            projects: OrdMap::new(),
            weighed: OrdSet::new(),
            labels: OrdMap::new(),
            ports: OrdMap::new(),
            host_names: OrdMap::new(),
            owned_hosts: OrdSet::new(),
            tokens_of: OrdSet::new(),
            token_ends: OrdSet::new(),
            short: OrdSet::new(),
            seen: OrdSet::new(),
            wheel: OrdSet::new(),
            due: OrdMap::new(),
            burns: OrdMap::new(),
            burn_changed: OrdSet::new(),
            limit_looks: OrdSet::new(),
            looks: OrdSet::new(),
            silent: OrdSet::new(),
            probation: OrdSet::new(),
            turns: OrdSet::new(),
            lotteries: OrdMap::new(),
            closes: OrdSet::new(),
            draws: OrdSet::new(),
            over: OrdSet::new(),
            entered: OrdMap::new(),
            spendable: 0,
            escrow: 0,
            bonded: 0,
        }
    }

    /// May anything new be placed on the host?
    pub fn takes_work(&self, id: HostId, host: &Host) -> bool {
        let waits = self.probation.contains(&(host.trusted_ms, id));
        host.online && host.wants_work() && !waits
    }

    pub fn note_token(&mut self, id: AccountId, token: &Token) {
        self.tokens_of.insert((token.owner, id));
        self.token_ends.insert((token.until_ms, id));
    }

    /// Name, label and ports belong to a live deployment.
    pub fn claim(&mut self, id: DeploymentId, deployment: &Deployment) {
        let project = deployment.spec.project.clone();
        self.projects.insert((deployment.owner, project), id);
        self.labels.insert(deployment.label.clone(), id);
        for claim in published(&deployment.spec) {
            self.ports.insert(claim, id);
        }
    }

    pub fn unclaim(&mut self, deployment: &Deployment) {
        let project = deployment.spec.project.clone();
        self.projects.remove(&(deployment.owner, project));
        self.labels.remove(&deployment.label);
        for claim in published(&deployment.spec) {
            self.ports.remove(&claim);
        }
    }

    /// After `funding` or `removed` changed.
    pub fn note_weighed(&mut self, id: DeploymentId, deployment: &Deployment) {
        let key = (deployment.owner, id);
        let stopped = deployment.limited && !deployment.removed;
        if stopped || !deployment.allocations.is_empty() {
            self.weighed.insert(key);
        } else {
            self.weighed.remove(&key);
        }
    }

    pub fn note_funding(&mut self, id: DeploymentId, deployment: &Deployment) {
        let key = (deployment.owner, id);
        if deployment.removed || deployment.funding == Funding::Good {
            self.short.remove(&key);
        } else {
            self.short.insert(key);
        }
    }

    pub fn short_of(&self, owner: AccountId, max: usize) -> Vec<DeploymentId> {
        self.short
            .range((owner, DeploymentId(0))..=(owner, DeploymentId(u64::MAX)))
            .take(max)
            .map(|(_, id)| *id)
            .collect()
    }

    pub fn set_due(&mut self, id: DeploymentId, due_ms: u64) {
        self.clear_due(&id);
        self.due.insert(id, due_ms);
        self.wheel.insert((due_ms, id));
    }

    pub fn clear_due(&mut self, id: &DeploymentId) {
        if let Some(due) = self.due.remove(id) {
            self.wheel.remove(&(due, *id));
        }
    }
}

pub(crate) fn published(
    spec: &types::DeploymentSpec,
) -> impl Iterator<Item = (Protocol, u16)> + '_ {
    spec.services
        .values()
        .flat_map(|s| &s.ports)
        .filter_map(|p| Some((p.protocol, p.published?)))
}

fn entry(host: &Host, available: bool) -> HostEntry {
    HostEntry {
        owner: host.owner,
        machine: host.machine,
        architecture: host.offer.architecture.clone(),
        region: host.offer.region.clone(),
        builds: host.offer.builds,
        capacity: host.offer.capacity,
        free: host.free,
        price_multiplier_milli: host.offer.price_multiplier_milli,
        available,
        good_ms: host.record.served_ms,
        bad_ms: host.record.bad_ms(),
    }
}
