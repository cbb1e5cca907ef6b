//! An account's deployments as a list: what each does as a whole, how many do what, a page of them.

use std::collections::BTreeMap;

use ledger::deployment::Funding;
use ledger::lease::Desired;
use serde::{Deserialize, Serialize};
use types::{AllocationStatus, Amount, DeploymentId, RunState};
use utoipa::ToSchema;

use crate::{AllocationView, DeploymentView};

/// What a deployment does as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    Running,
    Starting,
    /// A replica has no place.
    Waiting,
    Failing,
    /// For lack of funds.
    Frozen,
    /// By its owner's limit of the month.
    Limited,
    Stopped,
    /// All replicas ended well.
    Completed,
    Removed,
}

/// What a list of deployments can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobOrder {
    Name,
    State,
    Cpu,
    Memory,
    Charged,
    /// The youngest has the least.
    Age,
}

impl JobOrder {
    pub const ALL: [Self; 6] = [
        Self::Name,
        Self::State,
        Self::Cpu,
        Self::Memory,
        Self::Charged,
        Self::Age,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::State => "state",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Charged => "charged",
            Self::Age => "age",
        }
    }

    /// `age`, or `-age` for the other way round: the order, and whether the most comes first.
    pub fn read(text: &str) -> Option<(Self, bool)> {
        let (name, most_first) = match text.strip_prefix('-') {
            Some(name) => (name, true),
            None => (text, false),
        };
        let order = Self::ALL.into_iter().find(|order| order.name() == name)?;
        Some((order, most_first))
    }
}

/// What [`JobState::of`] looks at.
pub struct Facts<'a, R> {
    pub removed: bool,
    pub funding: &'a Funding,
    pub limited: bool,
    /// A replica that is wanted has no place.
    pub unplaced: bool,
    /// Replicas that all services shall have.
    pub wanted: u32,
    /// Those that are not over: see [`is_live`].
    pub live: R,
}

/// Whether a replica is not over.
pub fn is_live(closed: bool, desired: Desired) -> bool {
    !closed && desired != Desired::Remove
}

impl JobState {
    pub const ALL: [Self; 9] = [
        Self::Running,
        Self::Starting,
        Self::Waiting,
        Self::Failing,
        Self::Frozen,
        Self::Limited,
        Self::Stopped,
        Self::Completed,
        Self::Removed,
    ];

    pub fn of<'a>(
        facts: Facts<'_, impl Iterator<Item = (Desired, &'a AllocationStatus)> + Clone>,
    ) -> Self {
        let mut live = facts.live;
        let none = live.clone().next().is_none();
        let failed = |s: &AllocationStatus| {
            s.state == RunState::Failed
                || s.exit_code.is_some_and(|c| c != 0) && s.state != RunState::Running
        };
        let every = |of: fn(Desired, &AllocationStatus) -> bool| {
            !none && live.clone().all(|(desired, status)| of(desired, status))
        };
        let stopped = every(|desired, _| desired == Desired::Stop);
        let completed = every(|_, s| s.state == RunState::Exited);
        let running = every(|_, s| s.is_ready() || s.state == RunState::Exited);
        match () {
            () if facts.removed => Self::Removed,
            () if facts.limited => Self::Limited,
            () if *facts.funding == Funding::Frozen => Self::Frozen,
            () if facts.unplaced => Self::Waiting,
            () if none && facts.wanted == 0 => Self::Stopped,
            // What was asked to stop and had to be killed has an exit code, and did no wrong.
            () if live.any(|(desired, status)| desired == Desired::Run && failed(status)) => {
                Self::Failing
            }
            () if stopped => Self::Stopped,
            () if completed => Self::Completed,
            () if running => Self::Running,
            () => Self::Starting,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Starting => "starting",
            Self::Failing => "failing",
            Self::Frozen => "frozen",
            Self::Limited => "limited",
            Self::Stopped => "stopped",
            Self::Completed => "completed",
            Self::Removed => "removed",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

impl DeploymentView {
    pub fn state(&self) -> JobState {
        let live = self.allocations.iter();
        JobState::of(Facts {
            removed: self.removed,
            funding: &self.funding,
            limited: self.limited,
            unplaced: !self.unplaced.is_empty(),
            wanted: self.wanted_all(),
            live: live
                .filter(|a| is_live(a.closed, a.desired))
                .map(|a| (a.desired, &a.status)),
        })
    }
}

/// One deployment, in short.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobRow {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    pub project: String,
    pub state: JobState,
    pub services: u64,
    /// Reference of the image of its first service.
    pub image: String,
    /// Replicas that all services shall have; those that are not over; those that take requests.
    pub wanted: u32,
    pub live: u64,
    pub ready: u64,
    /// The first of those that are not over, at most [`JobRow::REPLICAS_MAX`].
    pub replicas: Vec<AllocationView>,
    /// Names of hosts that they are on, at most [`JobRow::HOSTS_MAX`], and how many there are.
    pub hosts: Vec<String>,
    pub hosts_all: u64,
    /// Reserved by those that are not over.
    pub cpu_millis: u64,
    pub memory_bytes: u64,
    #[schema(value_type = String)]
    pub charged: Amount,
    /// The same by what was used, in the order of [`types::Resource::ALL`].
    #[schema(value_type = Vec<String>)]
    pub charged_by: [Amount; 5],
    pub created_ms: u64,
}

impl JobRow {
    pub const REPLICAS_MAX: usize = 8;
    pub const HOSTS_MAX: usize = 3;
}

/// An account's deployments: those that are not removed first, the latest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobsView {
    /// How many there are in each state, of all that the account ever made; of a name, if one is
    /// asked for, as the two below.
    #[schema(value_type = Object)]
    pub counts: BTreeMap<JobState, u64>,
    /// Replicas of all of them that take requests.
    pub ready: u64,
    /// What all that the account ever made was charged.
    #[schema(value_type = String)]
    pub charged: Amount,
    /// How many fit what was asked for.
    pub found: u64,
    /// A page of those.
    pub rows: Vec<JobRow>,
}

impl JobsView {
    /// Rows of one page.
    pub const ROWS_MAX: usize = 100;
    /// Bytes of a text to look for.
    pub const TEXT_MAX: usize = 400;

    pub fn count(&self, state: JobState) -> u64 {
        self.counts.get(&state).copied().unwrap_or(0)
    }

    /// All that the account ever made.
    pub fn all(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Those that are not removed.
    pub fn alive(&self) -> u64 {
        self.all() - self.count(JobState::Removed)
    }
}

/// What replicas of a name used of what was held for them, over their whole lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UseRow {
    pub project: String,
    pub replicas: u64,
    /// Thousandths of a core × milliseconds.
    pub cpu_used: u64,
    pub cpu_held: u64,
    /// KiB × seconds.
    pub memory_used: u64,
    pub memory_held: u64,
}

/// What an account's replicas used, by name of their deployments, in order of the names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UseView {
    pub sum: UseRow,
    /// How many names there are.
    pub found: u64,
    /// A page of them.
    pub rows: Vec<UseRow>,
}

impl UseView {
    /// Rows of one page.
    pub const ROWS_MAX: usize = 1_000;
}
