//! A small network in memory for tests: accounts by number, signed calls, checked blocks.

use std::collections::BTreeMap;

use types::{
    AccountId, AllocationId, AllocationStatus, Amount, DeploymentSpec, Digest, ImageRef, Offer,
    Resources, RunState, SecretKey, ServiceSpec, Usage,
};

use crate::deployment::Call as Deploy;
use crate::lease::{Call as Lease, UsageLine};
use crate::{
    BlockEnv, Call, Event, Executed, Genesis, Params, Rejection, State, Transaction,
    TransactionBody, host,
};

pub fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

pub fn id(n: u8) -> AccountId {
    AccountId::of(&key(n).public())
}

const FAUCET: u8 = 200;
pub const GATEWAY: u8 = 100;

pub struct World {
    pub state: State,
    nonces: BTreeMap<u8, u64>,
    pub events: Vec<Event>,
    /// Told by the next block.
    pub beacon: Option<Digest>,
    /// Of what is signed from now on.
    pub tip: Amount,
}

impl World {
    /// With account 100 as the network's gateway.
    pub fn with_gateway(mut params: Params) -> Self {
        params.gateways.push(id(GATEWAY));
        Self::new(params)
    }

    pub fn new(params: Params) -> Self {
        Self::watched(params, &[])
    }

    /// `watchers` vote on who is silent.
    pub fn watched(params: Params, watchers: &[u8]) -> Self {
        Self::founded(params, watchers, &[])
    }

    /// `founders` sit.
    pub fn founded(params: Params, watchers: &[u8], founders: &[u8]) -> Self {
        let genesis = Genesis {
            name: "test".into(),
            time_ms: 1_000_000,
            params,
            balances: vec![
                (id(FAUCET), Amount::credits(1_000_000)),
                (id(1), Amount::credits(100)),
                (id(2), Amount::credits(100)),
            ],
            faucet: id(FAUCET),
            validators: founders
                .iter()
                .map(|n| crate::lots::Founder {
                    key: key(*n).public(),
                    address: format!("10.0.0.{n}:9000"),
                })
                .collect(),
            watchers: watchers.iter().map(|n| key(*n).public()).collect(),
            origin: None,
        };
        Self {
            state: State::genesis(&genesis),
            nonces: BTreeMap::new(),
            events: Vec::new(),
            beacon: None,
            tip: Amount::ZERO,
        }
    }

    pub fn sign(&mut self, who: u8, call: Call) -> Vec<u8> {
        self.sign_for(who, Vec::new(), call)
    }

    /// `on_behalf`: along which grants.
    pub fn sign_for(&mut self, who: u8, on_behalf: Vec<AccountId>, call: Call) -> Vec<u8> {
        let nonce = self.nonces.entry(who).or_default();
        *nonce += 1;
        let body = TransactionBody {
            network: self.state.globals.network,
            key: key(who).public().into(),
            on_behalf,
            nonce: *nonce,
            expires: self.state.height() + 10,
            tip: self.tip,
            call,
        };
        borsh::to_vec(&Transaction::sign(body, &key(who))).expect("encodes")
    }

    pub fn block(&mut self, after_ms: u64, transactions: &[Vec<u8>]) -> Executed {
        let env = BlockEnv {
            height: self.state.height() + 1,
            time_ms: self.state.time_ms() + after_ms,
            beacon: self.beacon.take(),
            ..BlockEnv::default()
        };
        let before = self.state.clone();
        let executed = before
            .execute(env.clone(), transactions, &|_| false)
            .expect("conserved");
        // A node that has just read its state from disk says the same as one that ran on.
        let again = State::load(&before.save())
            .expect("loads")
            .execute(env, transactions, &|_| true)
            .expect("conserved");
        assert_eq!(executed.changes, again.changes);
        assert_eq!(executed.state.root(), again.state.root());
        assert_eq!(executed.events, again.events);
        assert_eq!(executed.state.save(), again.state.save());
        self.check_changes(&before, &executed);
        self.state = executed.state.clone();
        self.events.clone_from(&executed.events);
        self.check();
        executed
    }

    pub fn ask(&mut self, who: u8, call: Call) -> Result<(), Rejection> {
        self.ask_for(who, &[], call)
    }

    /// `path`: the accounts on whose behalf `who` asks.
    pub fn ask_for(&mut self, who: u8, path: &[u8], call: Call) -> Result<(), Rejection> {
        let on_behalf = path.iter().map(|n| id(*n)).collect();
        let transaction = self.sign_for(who, on_behalf, call);
        let executed = self.block(100, &[transaction]);
        executed.outcomes[0].rejection.clone().map_or(Ok(()), Err)
    }

    /// Time goes by, with a block each second as on an idle network, and all hosts but
    /// `silent` are heard.
    pub fn pass(&mut self, seconds: u64, silent: &[u8]) {
        for _ in 0..seconds {
            let heard: Vec<u8> = (0..FAUCET)
                .filter(|n| !silent.contains(n) && self.state.hosts.get(&id(*n)).is_some())
                .collect();
            let beats: Vec<_> = heard
                .into_iter()
                .map(|n| self.sign(n, Call::Host(host::Call::Heartbeat)))
                .collect();
            self.block(1_000, &beats);
        }
    }

    /// The allocation's host says what state it is in.
    pub fn report_state(&mut self, allocation: u64, change: impl FnOnce(&mut AllocationStatus)) {
        let id = AllocationId(allocation);
        let known = self.state.allocations.get(&id).expect("there").clone();
        let mut status = known.status;
        change(&mut status);
        let who = (0..=255)
            .find(|n| self::id(*n) == known.host)
            .expect("ours");
        let plan = self.state.hosts.get(&known.host).expect("there").plan;
        let statuses = vec![(id, status)];
        self.ask(who, Call::Lease(Lease::ReportStatus { plan, statuses }))
            .expect("reported");
    }

    pub fn runs(&mut self, allocation: u64) {
        self.report_state(allocation, |s| s.state = RunState::Running);
    }

    /// The last usage report of a removed allocation.
    pub fn ends(&mut self, allocation: u64) {
        let known = self
            .state
            .allocations
            .get(&AllocationId(allocation))
            .expect("there")
            .clone();
        let who = (0..=255)
            .find(|n| self::id(*n) == known.host)
            .expect("ours");
        let interval = self.state.hosts.get(&known.host).expect("there").interval + 1;
        let mut last = line(
            allocation,
            known.sequence + 1,
            self.state.time_ms(),
            known.usage,
        );
        last.last = true;
        self.ask(who, report(interval, vec![last])).expect("ended");
    }

    /// The authenticated store, kept up by changes alone, holds what the state holds.
    fn check_changes(&self, before: &State, executed: &Executed) {
        let mut store: BTreeMap<_, _> = before.records().into_iter().collect();
        for (key, value) in &executed.changes {
            match value {
                Some(value) => store.insert(*key, *value),
                None => store.remove(key),
            };
        }
        assert_eq!(
            store.into_iter().collect::<Vec<_>>(),
            executed.state.records()
        );
        assert!(executed.changes.is_sorted_by(|a, b| a.0 < b.0));
        let kept = State::load(&executed.state.save()).expect("loads");
        assert_eq!(kept.root(), executed.state.root());
    }

    fn check(&self) {
        let supply = self.state.supply();
        assert_eq!(supply.expected, supply.sum());
        for (owner, account) in self.state.accounts.iter() {
            let held: u128 = self
                .state
                .deployments_of(owner)
                .map(|(_, d)| d.escrow.0)
                .sum();
            assert_eq!(account.held.0, held);
        }
        for (id, host) in self.state.hosts.iter() {
            let mut used = Resources::default();
            for (_, allocation) in self.state.allocations_on(id) {
                used = used.checked_add(&allocation.reserved).expect("small");
            }
            assert_eq!(used.checked_add(&host.free), Some(host.offer.capacity));
            assert_eq!(
                self.state.index.fleet.get(id).expect("known").free,
                host.free
            );
        }
    }

    pub fn host(&mut self, who: u8, cpu_millis: u32) {
        self.ask(who, Call::Host(registration(who, cpu_millis)))
            .expect("registered");
    }
}

pub fn registration(who: u8, cpu_millis: u32) -> host::Call {
    host::Call::Register {
        name: format!("host-{who}"),
        address: format!("http://127.0.0.1:{}", 9000 + u16::from(who)),
        offer: Offer {
            capacity: Resources {
                cpu_millis,
                memory_bytes: 8 << 30,
                disk_bytes: 100 << 30,
                bandwidth_kbps: 1_000_000,
            },
            architecture: "amd64".into(),
            region: String::new(),
            price_multiplier_milli: 1000,
            builds: false,
        },
        owner: id(who),
        machine: Digest::default(),
        invitation: None,
    }
}

pub fn service(cpu_millis: u32, replicas: u32) -> ServiceSpec {
    ServiceSpec {
        image: ImageRef {
            reference: "docker.io/library/busybox:latest".into(),
            digest: Digest::of(b"image"),
        },
        replicas,
        resources: Resources {
            cpu_millis,
            memory_bytes: 256 << 20,
            disk_bytes: 1 << 30,
            bandwidth_kbps: 10_000,
        },
        pids: 100,
        ..ServiceSpec::default()
    }
}

pub fn project(name: &str, services: &[(&str, ServiceSpec)]) -> DeploymentSpec {
    DeploymentSpec {
        project: name.into(),
        services: services
            .iter()
            .map(|(n, s)| (n.to_string(), s.clone()))
            .collect(),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        logs: Default::default(),
    }
}

pub fn deploy(spec: DeploymentSpec) -> Call {
    Call::Deployment(Deploy::Deploy {
        spec,
        price_max_hour: None,
    })
}

pub fn line(allocation: u64, sequence: u64, until_ms: u64, total: Usage) -> UsageLine {
    UsageLine {
        allocation: AllocationId(allocation),
        sequence,
        until_ms,
        total,
        record: Digest::default(),
        last: false,
    }
}

pub fn report(interval: u64, lines: Vec<UsageLine>) -> Call {
    Call::Lease(Lease::ReportUsage {
        interval,
        root: Digest::default(),
        lines,
    })
}
