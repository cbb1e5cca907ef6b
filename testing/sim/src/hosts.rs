//! Two hosts and those who look at them: one host answers all the time, the other says the same
//! and has died. Witnesses of good will say so; those of bad will say the contrary, or anything.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use bytes::Bytes;
use consensus::Handle;
use ledger::deployment::Call as Deploy;
use ledger::host::Call as Speak;
use ledger::lease::Call as Report;
use ledger::witness::{Call as Tell, Line, Saw, Statement, Target};
use ledger::{Call, State};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use types::{
    AccountId, AllocationStatus, DeploymentSpec, Digest, ImageRef, Offer, Resources, RunState,
    SecretKey, ServiceSpec,
};
use validator::LedgerMachine;

use crate::client::signed;

/// Who answers, and who is dead.
const HOSTS: [u8; 2] = [240, 241];
/// Whose replicas run there: who floods elsewhere.
const TENANT: u8 = 250;
/// Turns from one sign of life to the next.
const BEAT: u64 = 20;

fn key(number: u8) -> SecretKey {
    SecretKey::from_seed([number; 32])
}

fn id(number: u8) -> AccountId {
    AccountId::of(&key(number).public())
}

const CORE: Resources = Resources {
    cpu_millis: 1_000,
    memory_bytes: 1 << 30,
    disk_bytes: 1 << 30,
    bandwidth_kbps: 10_000,
};

fn registration(number: u8) -> Call {
    Call::Host(Speak::Register {
        name: format!("host-{number}"),
        address: format!("http://10.0.0.{number}:9000"),
        offer: Offer {
            capacity: CORE,
            architecture: "amd64".into(),
            region: String::new(),
            price_multiplier_milli: 1_000,
            builds: false,
        },
        owner: id(number),
        machine: Digest::of(&[number]),
        invitation: None,
    })
}

fn project() -> Call {
    let service = ServiceSpec {
        image: ImageRef {
            reference: "docker.io/library/busybox:latest".into(),
            digest: Digest::of(b"image"),
        },
        replicas: 2,
        resources: Resources {
            cpu_millis: 500,
            memory_bytes: 1 << 28,
            disk_bytes: 1 << 28,
            bandwidth_kbps: 1_000,
        },
        pids: 100,
        expose: vec![80],
        ..ServiceSpec::default()
    };
    Call::Deployment(Deploy::Deploy {
        spec: DeploymentSpec {
            project: "seen".into(),
            services: [("web".to_string(), service)].into(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            logs: Default::default(),
        },
        price_max_hour: None,
    })
}

/// What hosts and their tenant say next, by what is on the ledger.
fn next(state: &State, turn: u64) -> Vec<(u8, Call)> {
    let known = |number: &u8| state.hosts.get(&id(*number)).is_some();
    let mut calls: Vec<(u8, Call)> = HOSTS
        .iter()
        .filter(|number| !known(number))
        .map(|number| (*number, registration(*number)))
        .collect();
    if calls.is_empty() && state.project(&id(TENANT), "seen").is_none() {
        calls.push((TENANT, project()));
    }
    for number in HOSTS.into_iter().filter(known) {
        let host = id(number);
        let plan = state.hosts.get(&host).map_or(0, |host| host.plan);
        let open = state.allocations_on(&host);
        let statuses = open.filter(|(_, a)| a.status.state != RunState::Running);
        let statuses: Vec<_> = statuses
            .map(|(allocation, _)| {
                let status = AllocationStatus {
                    state: RunState::Running,
                    addresses: [("default".to_string(), [10, 64, 0, number])].into(),
                    ..AllocationStatus::default()
                };
                (allocation, status)
            })
            .collect();
        let call = match statuses.is_empty() {
            true if !turn.is_multiple_of(BEAT) => continue,
            true => Call::Host(Speak::Heartbeat),
            false => Call::Lease(Report::ReportStatus { plan, statuses }),
        };
        calls.push((number, call));
    }
    calls
}

/// Hosts, their tenant and the witnesses, beside the validators.
pub struct Hosts {
    network: Digest,
    rng: StdRng,
    /// Round that each validator told of last.
    told: BTreeMap<usize, u64>,
    /// Turn in which hosts spoke last.
    spoken: u64,
}

impl Hosts {
    pub fn new(network: Digest, seed: u64) -> Self {
        Self {
            network,
            rng: StdRng::seed_from_u64(seed),
            told: BTreeMap::new(),
            spoken: 0,
        }
    }

    /// What comes to `node`, whose identity `key` is, in this turn.
    pub fn play(
        &mut self,
        turn: u64,
        at: usize,
        node: &Handle<LedgerMachine>,
        key: &SecretKey,
        is_bad: bool,
    ) {
        let head = node.head();
        let state = &head.state;
        if turn.is_multiple_of(4) && self.spoken < turn {
            self.spoken = turn;
            for (who, call) in next(state, turn) {
                self.submit(node, &self::key(who), call);
            }
        }
        let Some(look) = state.look_of(&key.public()) else {
            return;
        };
        if look.told || self.told.get(&at) == Some(&look.round) {
            return;
        }
        let lot = key.sign(&look.message.0);
        let targets = state.targets(&lot, look.epoch, look.round);
        if targets.is_empty() {
            return;
        }
        self.told.insert(at, look.round);
        let line = |target: &Target| Line {
            allocation: target.allocation,
            saw: match (is_bad, target.host == id(HOSTS[1])) {
                (false, false) => Saw::Prompt,
                (false, true) => Saw::Refused,
                // The contrary, in whatever words.
                (true, true) => [Saw::Prompt, Saw::Slow][self.rng.random_range(0..2)],
                (true, false) => {
                    [Saw::Silent, Saw::Refused, Saw::Unreachable][self.rng.random_range(0..3)]
                }
            },
        };
        let lines = targets.iter().map(line).collect();
        let statement = Statement {
            epoch: look.epoch,
            round: look.round,
            height: look.height,
            lot,
            nonce: self.rng.random(),
            lines,
        };
        self.submit(node, key, Call::Witness(Tell::State(statement)));
    }

    /// How many of those who are numbered from `first` on have told what they saw.
    pub fn told_from(&self, first: usize) -> usize {
        self.told.range(first..).count()
    }

    fn submit(&self, node: &Handle<LedgerMachine>, key: &SecretKey, call: Call) {
        let account = AccountId::of(&key.public());
        let nonce = node.head().state.account(&account).nonce + 1;
        let (_, bytes): (_, Bytes) = signed(self.network, key, nonce, call);
        // Refused: another of this account is under way. It is made again by what is there then.
        let _ = node.submit(bytes);
    }

    /// Whether the dead host is flagged. Errors: the one that answers is.
    pub fn check(state: &State) -> Result<bool> {
        let flagged = |number: u8| {
            let host = state.hosts.get(&id(number));
            host.is_some_and(|host| host.record.flagged_ms > 0)
        };
        ensure!(!flagged(HOSTS[0]), "a host that answers is flagged");
        Ok(flagged(HOSTS[1]))
    }
}
