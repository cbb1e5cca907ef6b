//! The bodies, by subject.

use std::collections::BTreeMap;

pub use ledger::deployment::{Cause, Change, Funding, Rollout, Setback, Tried, Unplaced};
use ledger::host::MeshPoint;
use ledger::lease::Desired;
use ledger::{Params, Rejection, Tariff};
use serde::{Deserialize, Serialize};
use types::{
    AccountId, AllocationId, AllocationStatus, Amount, DeploymentId, DeploymentSpec, Digest,
    HostId, PublicKey, ReceiptId, Resource, Resources, ServiceSpec, Usage, UsageRecord,
};
use utoipa::ToSchema;

/// Any error: what, why, and the next act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// `invalid`, `not_found`, `forbidden`, `conflict`, `funds`, `no_host`, `stale`,
    /// `unavailable`, `login`, `signature`.
    pub kind: String,
    pub what: String,
    pub why: String,
    pub next: String,
}

// --- chain

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChainStatus {
    #[schema(value_type = String)]
    pub network: Digest,
    pub name: String,
    pub height: u64,
    pub time_ms: u64,
    #[schema(value_type = String)]
    pub block: Digest,
    #[schema(value_type = String)]
    pub state_root: Digest,
    /// Group key that certifies every block, hex.
    pub network_key: String,
    pub validators: Vec<ValidatorView>,
    /// Of the validator that answers: transactions waiting.
    pub queued: u64,
    /// Of the validator that answers, as it is now.
    #[serde(default)]
    pub own: Option<OwnView>,
}

/// A validator's own part in the voting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OwnView {
    #[schema(value_type = String)]
    pub key: types::PublicKey,
    /// It sits in the present epoch.
    pub sits: bool,
    /// It holds a part of the network's key: without one it follows, but cannot vote.
    pub holds_share: bool,
    /// Of the last hundred final blocks the newest that it made.
    pub led: Option<u64>,
    /// It is linked to nobody, and takes final blocks over the API of the others.
    #[serde(default)]
    pub follows: bool,
    /// Why it cannot go on by itself, and what to do.
    #[serde(default)]
    pub stuck: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValidatorView {
    pub key: String,
    pub address: String,
    /// Blocks of the last 100 that it led.
    pub led: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Supply {
    pub height: u64,
    /// By genesis.
    #[schema(value_type = String)]
    pub expected: Amount,
    /// Balances + escrow + bonds, added up now.
    #[schema(value_type = String)]
    pub sum: Amount,
    #[schema(value_type = String)]
    pub spendable: Amount,
    #[schema(value_type = String)]
    pub escrow: Amount,
    /// Of validators.
    #[schema(value_type = String)]
    #[serde(default)]
    pub bonds: Amount,
    /// Of `spendable`, what only a vote can pay out: bonds that were lost.
    #[schema(value_type = String)]
    #[serde(default)]
    pub fund: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockView {
    pub height: u64,
    pub time_ms: u64,
    #[schema(value_type = String)]
    pub block: Digest,
    #[schema(value_type = String)]
    pub parent: Digest,
    #[schema(value_type = String)]
    pub state_root: Digest,
    #[schema(value_type = String)]
    pub events_root: Digest,
    /// Canonical bytes, base64: verify with `light`.
    pub header: String,
    /// The leader's signature, base64, by which he answers for proposing this block and no other
    /// in its view; zeros in the genesis.
    pub seal: String,
    /// Empty if only a descendant's was seen.
    pub certificate: String,
    pub transactions: Vec<TransactionView>,
    /// In an epoch's last block: how the key was handed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handing: Option<HandingView>,
}

/// How the network's key was handed on to those who vote in the next epoch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HandingView {
    /// Else the ceremony failed: the key, and the votes, stay with those who had them.
    pub done: bool,
    /// Who votes in the epoch that begins, in the order drawn: view v of epoch e is led by number
    /// (e + v) mod their count.
    #[schema(value_type = Vec<String>)]
    pub seats: Vec<PublicKey>,
    /// Of those, whose share of the key was shown to all while it was made, as they did not confirm
    /// it. The network's secret can be put together from the shares of more than a third.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub revealed: Vec<PublicKey>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submit {
    /// Canonical bytes of a [`ledger::Transaction`], base64.
    pub transaction: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Submitted {
    #[schema(value_type = String)]
    pub id: Digest,
    /// Present when `wait_ms` was given and it became known in time.
    pub result: Option<TransactionView>,
}

/// Many transactions in one request; they may be of different senders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubmitMany {
    /// Canonical bytes of each [`ledger::Transaction`], base64; at most
    /// [`SubmitMany::MAX`].
    pub transactions: Vec<String>,
    /// A screener's word on them, when one brings them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub screened: Option<crate::ScreenedBy>,
}

impl SubmitMany {
    pub const MAX: usize = 1_000;
}

/// What became of one of [`SubmitMany`]: queued, or refused for a reason of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SubmittedOne {
    /// Of a transaction that is queued.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransactionView {
    #[schema(value_type = String)]
    pub id: Digest,
    pub status: TransactionStatus,
    pub height: Option<u64>,
    #[schema(value_type = Option<Object>)]
    pub rejection: Option<Rejection>,
    /// What it paid, applied or refused.
    #[serde(default)]
    #[schema(value_type = String)]
    pub fee: Amount,
    #[schema(value_type = Option<String>)]
    pub sender: Option<AccountId>,
    /// Whose key signed it: the sender's, or one that acts for it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub signer: Option<AccountId>,
    /// For whom that key acts: by the grant of each to the one before, up to the sender.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub on_behalf: Vec<AccountId>,
    #[schema(value_type = Option<Object>)]
    pub call: Option<ledger::Call>,
    /// What it caused.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<ledger::Event>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum TransactionStatus {
    Pending,
    Applied,
    Rejected,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// Over all blocks; resume with `from` = last seen + 1.
    pub sequence: u64,
    pub height: u64,
    /// In its block.
    pub index: u32,
    pub time_ms: u64,
    #[schema(value_type = Object)]
    pub event: ledger::Event,
}

/// One event under a certified block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventProof {
    /// Base64 of canonical bytes.
    pub header: String,
    /// Headers of the blocks between this one and the certified one; mostly empty.
    pub descendants: Vec<String>,
    pub certificate: String,
    pub event: String,
    pub index: u64,
    pub count: u64,
    #[schema(value_type = Vec<String>)]
    pub path: Vec<Digest>,
}

/// Records of the state as they are after a certified block, each with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecordsProof {
    /// Base64 of canonical bytes.
    pub header: String,
    pub certificate: String,
    /// In the order in which they were asked for.
    pub records: Vec<ProvedRecord>,
}

impl RecordsProof {
    /// Records that are proved in one answer.
    pub const KEYS_MAX: usize = 100;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProvedRecord {
    /// Base64 of its canonical bytes; `None`: there is no such record.
    pub record: Option<String>,
    /// Base64 of the canonical bytes of a `types::StateProof`.
    pub proof: String,
}

/// A certified block's duty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DutyProof {
    /// Base64 of canonical bytes.
    pub header: String,
    /// As in [`EventProof`].
    pub descendants: Vec<String>,
    pub certificate: String,
    pub duty: String,
}

/// The drawing of an epoch's committee, with what proves it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LotsView {
    pub epoch: u64,
    #[schema(value_type = Vec<Object>)]
    pub candidates: Vec<lots::Candidate>,
    /// How many are drawn where there are more candidates; as many more for other duties.
    pub seats: u32,
    /// Who sits in the epoch before.
    #[schema(value_type = Vec<Object>)]
    pub before: Vec<lots::Seat>,
    #[schema(value_type = Option<String>)]
    pub beacon: Option<Digest>,
    /// `None` until the lot has fallen.
    #[schema(value_type = Option<Object>)]
    pub lineup: Option<lots::Lineup>,
    /// Of the block that froze the candidates; `None`: the genesis did.
    pub frozen: Option<DutyProof>,
    /// Of the block that told the beacon, if one did.
    pub told: Option<DutyProof>,
    /// Of the event by which the lot fell; `None`: it has not, or the founders sit.
    pub fallen: Option<EventProof>,
    /// The same of the epoch before.
    pub fallen_before: Option<EventProof>,
    /// Of the last block before the epoch, which says who got shares of the network's key.
    #[serde(default)]
    pub seated: Option<DutyProof>,
}

/// A usage record under the root of its host's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UsageProof {
    #[schema(value_type = Object)]
    pub record: UsageRecord,
    #[schema(value_type = String)]
    pub root: Digest,
    pub index: u64,
    pub count: u64,
    #[schema(value_type = Vec<String>)]
    pub path: Vec<Digest>,
}

// --- accounts and hosts

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccountView {
    #[schema(value_type = String)]
    pub account: AccountId,
    /// spendable + held.
    #[schema(value_type = String)]
    pub balance: Amount,
    #[schema(value_type = String)]
    pub spendable: Amount,
    #[schema(value_type = String)]
    pub held: Amount,
    /// Highest used; sign the next transaction with one more.
    pub nonce: u64,
    pub height: u64,
    /// Test credits that the network would still give it; 0 once they were taken.
    #[schema(value_type = String)]
    pub gift: Amount,
    /// Who else may act for it, by the account of their key.
    #[schema(value_type = Object)]
    pub grants: BTreeMap<AccountId, ledger::account::Grant>,
    /// Its first key signs no more.
    pub retired: bool,
}

/// What should run on a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostPlan {
    #[schema(value_type = String)]
    pub host: HostId,
    pub plan: u64,
    pub height: u64,
    pub time_ms: u64,
    #[schema(value_type = Object)]
    pub params: Params,
    pub interval: u64,
    /// What its owner lends at the most.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub allotment: Option<Resources>,
    pub allocations: Vec<PlannedAllocation>,
    /// Every live replica of every deployment that has one here: for names and `depends_on`.
    pub peers: Vec<Peer>,
}

/// Who may look at what is another's, by a grant on the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Delegate {
    #[schema(value_type = String)]
    pub account: AccountId,
    #[schema(value_type = String)]
    pub role: ledger::account::Role,
    pub until_ms: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlannedAllocation {
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    pub project: String,
    #[schema(value_type = String)]
    pub owner: AccountId,
    /// Other keys and members of the owner's.
    #[serde(default)]
    pub delegates: Vec<Delegate>,
    pub release: u32,
    pub service: String,
    pub replica: u32,
    #[schema(value_type = Object)]
    pub spec: ServiceSpec,
    /// Networks of the project: name → internal.
    pub networks: BTreeMap<String, bool>,
    /// What becomes of its logs, as the latest release of its project has it.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub logs: types::LogPolicy,
    #[schema(value_type = String)]
    pub desired: Desired,
    pub generation: u32,
    /// With `desired: remove`: named volumes of the project go too.
    pub remove_volumes: bool,
    /// What the ledger has of it.
    #[schema(value_type = Object)]
    pub status: AllocationStatus,
    pub sequence: u64,
    #[schema(value_type = Object)]
    pub usage: Usage,
}

impl PlannedAllocation {
    /// Whether `account` is the owner or acts for him in a role from `least` up.
    pub fn serves(&self, account: AccountId, least: ledger::account::Role, now_ms: u64) -> bool {
        let good = |d: &Delegate| {
            d.account == account && d.role <= least && d.until_ms.is_none_or(|until| now_ms < until)
        };
        account == self.owner || self.delegates.iter().any(good)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    pub service: String,
    pub replica: u32,
    #[schema(value_type = String)]
    pub host: HostId,
    /// Its host is this machine or another rig on it: addresses are reachable directly.
    pub same_machine: bool,
    /// Aliases per network, from the compose file.
    pub networks: BTreeMap<String, Vec<String>>,
    #[schema(value_type = Object)]
    pub status: AllocationStatus,
    /// Where its host's links end, if that is another machine.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub mesh: Option<MeshPoint>,
    /// It may be sent something new: it is wanted there, ready, and its host is heard.
    pub ready: bool,
}

// --- deployments

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentView {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    #[schema(value_type = String)]
    pub owner: AccountId,
    pub project: String,
    /// First part of its services' domains: `<service>.<label>.localhost`.
    pub label: String,
    pub release: u32,
    #[schema(value_type = Object)]
    pub spec: DeploymentSpec,
    pub created_ms: u64,
    pub removed: bool,
    /// Its owner removed its volumes with it.
    #[serde(default)]
    pub volumes_removed: bool,
    #[schema(value_type = String)]
    pub funding: Funding,
    /// Stopped by its owner's limit.
    #[serde(default)]
    pub limited: bool,
    #[schema(value_type = String)]
    pub escrow: Amount,
    #[schema(value_type = String)]
    pub charged: Amount,
    pub dry_ms: u64,
    /// The last release of which every replica came good; 0 if none has yet.
    pub good: u32,
    /// Under way while the latest release has not come good.
    #[schema(value_type = Object)]
    pub rollout: Option<Rollout>,
    /// The last release that failed, and why.
    #[schema(value_type = Object)]
    pub setback: Option<Setback>,
    /// Replicas that are wanted and have no place, and why.
    #[schema(value_type = Object)]
    pub unplaced: Vec<Unplaced>,
    /// Replicas that no host could make ready yet, and where it was tried.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub tried: Vec<Tried>,
    /// Where its autoscaled services stand, by name.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub scales: BTreeMap<String, ScaleView>,
    pub allocations: Vec<AllocationView>,
    /// Sums of allocations that ended before those which are listed, by service.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub earlier: BTreeMap<String, EarlierView>,
}

impl DeploymentView {
    /// Allocations that are listed at the most.
    pub const LISTED_MAX: usize = 1_000;
}

/// Allocations of a service that ended long ago, taken together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EarlierView {
    pub allocations: u64,
    /// First and last release that they ran.
    #[schema(value_type = Vec<u32>)]
    pub releases: (u32, u32),
    #[schema(value_type = String)]
    pub charged: Amount,
}

impl DeploymentView {
    /// Replicas that a service shall have now.
    pub fn wanted(&self, name: &str, service: &ServiceSpec) -> u32 {
        self.scales.get(name).map_or(service.replicas, |s| s.wanted)
    }

    /// Replicas that all services shall have now.
    pub fn wanted_all(&self) -> u32 {
        let services = self.spec.services.iter();
        services
            .map(|(name, service)| self.wanted(name, service))
            .sum()
    }
}

fn yes() -> bool {
    true
}

/// Where an autoscaled service stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScaleView {
    /// Replicas that it shall have now, between `min` and `max` of its `autoscale`.
    pub wanted: u32,
    /// Since when, and why.
    pub changed_ms: u64,
    pub why: String,
    /// Stopped on request: no request wakes it.
    pub stopped: bool,
}

/// One release of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReleaseView {
    pub release: u32,
    pub made_ms: u64,
    /// `deployed`, or `{"rolled_back": {"to": 1, "why": "…"}}`.
    #[schema(value_type = Object)]
    pub cause: Cause,
    /// It is the latest.
    pub latest: bool,
    /// It is the last of which every replica came good.
    pub good: bool,
    #[schema(value_type = Object)]
    pub spec: DeploymentSpec,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AllocationView {
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    pub project: String,
    #[schema(value_type = String)]
    pub owner: AccountId,
    pub release: u32,
    pub service: String,
    pub replica: u32,
    #[schema(value_type = String)]
    pub host: HostId,
    pub host_name: String,
    /// Its host gives signs of life; else `status` is what it said last.
    #[serde(default = "yes")]
    pub heard: bool,
    #[schema(value_type = String)]
    pub desired: Desired,
    pub generation: u32,
    #[schema(value_type = Object)]
    pub reserved: Resources,
    pub placed_ms: u64,
    #[schema(value_type = Object)]
    pub status: AllocationStatus,
    pub status_ms: u64,
    #[schema(value_type = Object)]
    pub usage: Usage,
    #[schema(value_type = String)]
    pub charged: Amount,
    pub closed: bool,
    pub image: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhyView {
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    pub service: String,
    pub replica: u32,
    #[schema(value_type = String)]
    pub host: HostId,
    #[schema(value_type = Object)]
    pub reason: scheduler::Reason,
    /// Names of the hosts mentioned.
    pub names: BTreeMap<String, String>,
}

/// What validators release of the keys of a replica's secrets: useless to all but the host
/// whose key it is sealed to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretShares {
    /// Public side of the dealt network key, hex: what the shares are checked by.
    pub sharing: String,
    /// Base64, one per validator that answered; the first is of the one that was asked.
    pub releases: Vec<String>,
}

impl SecretShares {
    /// Header of a request that no other validator is to be asked for.
    pub const OWN: &'static str = "runrig-own-share";
}

/// A port that a live deployment publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublishedPort {
    #[schema(value_type = String)]
    pub protocol: types::Protocol,
    pub port: u16,
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
}

// --- money

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuoteRequest {
    #[schema(value_type = String)]
    pub owner: AccountId,
    #[schema(value_type = Object)]
    pub spec: DeploymentSpec,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Quote {
    /// Reservation × rate for an hour of full use; transfer apart, per GiB.
    pub lines: Vec<QuoteLine>,
    #[schema(value_type = String)]
    pub total_hour: Amount,
    #[schema(value_type = String)]
    pub transfer_gib: Amount,
    /// Held in escrow on deploy.
    #[schema(value_type = String)]
    pub escrow: Amount,
    #[schema(value_type = String)]
    pub balance: Amount,
    /// What would change: services added, changed, removed, kept.
    #[schema(value_type = BTreeMap<String, String>)]
    pub changes: BTreeMap<String, Change>,
    /// Where each replica would be now; none if it is refused.
    #[serde(default)]
    pub places: Vec<QuotedPlace>,
    /// What these hosts ask together for an hour of full use.
    #[serde(default)]
    #[schema(value_type = String)]
    pub asked_hour: Amount,
    /// `None`: fits now. Else why not.
    #[schema(value_type = Option<Object>)]
    pub refusal: Option<Rejection>,
}

/// A replica where it would be now, for an hour of full use at what that host asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotedPlace {
    pub service: String,
    pub replica: u32,
    #[schema(value_type = String)]
    pub host: HostId,
    pub host_name: String,
    /// Of the network's rates, in thousandths, for what begins there now.
    pub price_multiplier_milli: u32,
    #[schema(value_type = String)]
    pub amount_hour: Amount,
}

impl Quote {
    /// The hosts that would be chosen, each once, by name, and what part of the rates they ask.
    pub fn hosts(&self) -> BTreeMap<&str, u32> {
        let places = self.places.iter();
        places
            .map(|p| (p.host_name.as_str(), p.price_multiplier_milli))
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuoteLine {
    pub service: String,
    pub replicas: u32,
    #[schema(value_type = String)]
    pub resource: Resource,
    /// Quoted units per hour, as a decimal string.
    pub usage: String,
    pub unit: String,
    #[schema(value_type = String)]
    pub rate: Amount,
    #[schema(value_type = String)]
    pub amount_hour: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bill {
    #[schema(value_type = String)]
    pub owner: AccountId,
    pub height: u64,
    #[schema(value_type = String)]
    pub total: Amount,
    pub lines: Vec<BillLine>,
    /// What ended before the allocations of `lines`; the total counts it too.
    #[serde(default)]
    pub earlier: Vec<EarlierLine>,
    #[schema(value_type = Object)]
    pub tariff: Tariff,
}

impl Bill {
    /// Of all lines; equals the total.
    pub fn sum(&self) -> Amount {
        let lines = self.lines.iter().map(|l| l.amount.0);
        let earlier = self.earlier.iter().map(|l| l.amount.0);
        Amount(lines.chain(earlier).fold(0, u128::saturating_add))
    }
}

/// What an [`EarlierView`] comes to for one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EarlierLine {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    pub project: String,
    /// Empty: of services of which there are no sums of their own.
    pub service: String,
    pub allocations: u64,
    /// First and last release that they ran.
    #[schema(value_type = Vec<u32>)]
    pub releases: (u32, u32),
    #[schema(value_type = String)]
    pub resource: Resource,
    /// Exact, in `unit`, as a decimal string.
    pub usage: String,
    pub unit: String,
    #[schema(value_type = String)]
    pub amount: Amount,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BillLine {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    pub project: String,
    pub release: u32,
    pub service: String,
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    #[schema(value_type = String)]
    pub host: HostId,
    #[schema(value_type = String)]
    pub resource: Resource,
    /// Exact, in `unit`, as a decimal string.
    pub usage: String,
    pub unit: String,
    #[schema(value_type = String)]
    pub rate: Amount,
    #[schema(value_type = String)]
    pub amount: Amount,
    #[schema(value_type = Vec<String>)]
    pub receipts: Vec<ReceiptId>,
}

// --- from gateways

/// A request that a gateway has served, once its answer has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Access {
    /// Grows by one with each request of the service at this gateway since it started.
    pub sequence: u64,
    pub at_ms: u64,
    #[schema(value_type = String)]
    pub client: std::net::IpAddr,
    /// `HTTP/1.1`, `HTTP/2`
    #[schema(value_type = String)]
    pub protocol: std::borrow::Cow<'static, str>,
    #[schema(value_type = String)]
    pub method: std::borrow::Cow<'static, str>,
    /// Its first bytes, with query.
    pub path: Box<str>,
    /// 499 if the client left before the answer's end.
    pub status: u16,
    /// Bytes of the bodies.
    pub received: u64,
    pub sent: u64,
    pub duration_us: u64,
    /// The replica that answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub allocation: Option<AllocationId>,
    /// Replicas that were asked in vain before it.
    pub retries: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceAccess {
    pub service: String,
    /// In order; those before the first were let go, or not asked for.
    pub requests: Vec<Access>,
}

/// The last requests of a deployment, as one gateway has served them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AccessLog {
    pub services: Vec<ServiceAccess>,
}

// --- from hosts

/// What everyone who wants to take part starts from: `network.json`. Public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkFile {
    #[schema(value_type = Object)]
    pub genesis: ledger::Genesis,
    /// Public part of the dealt threshold key, hex of `consensus::Committee`'s canonical bytes.
    pub committee: String,
    /// Group key that certifies every block, hex. All that a light client needs.
    pub network_key: String,
    pub validators: Vec<ValidatorAddress>,
    /// URL of a gateway, if the network's founder runs one.
    pub gateway: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ValidatorAddress {
    /// Consensus identity, hex.
    pub key: String,
    /// `ip:port` of the peer-to-peer listener.
    pub p2p: String,
    /// URL of the HTTP API.
    pub api: String,
}
