use api::KnownRoutes;
use ledger::{
    BlockEnv, Call, Genesis, Params, Transaction, TransactionBody, deployment, host, lease,
};
use proptest::prelude::*;
use types::{
    AccountId, AllocationStatus, Amount, DeploymentSpec, Digest, ImageRef, Offer, PortSpec,
    Resources, RunState, SecretKey,
};

use super::*;

fn table() -> Digest {
    Digest::of(b"network")
}

/// All of `book`, by service.
fn whole(book: &RouteBook) -> BTreeMap<api::ServiceKey, Route> {
    let mut known = KnownRoutes::default();
    known.take(book.told(None)).unwrap();
    known.services().clone()
}

fn upstream(number: u64, ready: bool) -> Upstream {
    Upstream {
        allocation: AllocationId(number),
        host: AccountId::default(),
        host_address: "http://127.0.0.1:1".into(),
        machine: Digest::default(),
        address: [10, 64, 0, number as u8],
        ready,
        unheard: false,
        leaving: false,
    }
}

fn route(deployment: u64, service: u8, replicas: &BTreeMap<u64, bool>) -> Route {
    Route {
        deployment: DeploymentId(deployment),
        owner: AccountId::default(),
        service: format!("s{service}"),
        domain: format!("s{service}.app"),
        ports: Vec::new(),
        http_port: Some(80),
        frozen: replicas.len() == 3,
        scale: None,
        replicas: replicas.iter().map(|(n, r)| upstream(*n, *r)).collect(),
    }
}

#[test]
fn a_reader_hears_only_what_has_changed() {
    let mut book = RouteBook::new(table());
    let mut at = |height, deployment: u64, routes: Vec<Route>| {
        book.height = height;
        book.set(DeploymentId(deployment), routes);
        (book.told(Some(height - 1)), book.told(Some(height)))
    };
    let replicas = BTreeMap::from([(1, true), (2, true), (3, true)]);
    let (_, nothing) = at(
        1,
        1,
        vec![route(1, 0, &replicas), route(1, 1, &BTreeMap::new())],
    );
    assert_eq!(
        (nothing.routes, nothing.gone, nothing.since),
        (vec![], vec![], Some(1))
    );
    let replicas = BTreeMap::from([(1, true), (2, false), (3, true)]);
    let (told, _) = at(
        2,
        1,
        vec![route(1, 0, &replicas), route(1, 1, &BTreeMap::new())],
    );
    // The service goes with its replica, and nobody else.
    assert_eq!(
        told.routes,
        [route(1, 0, &replicas)].map(|mut r| {
            r.replicas = vec![upstream(2, false)];
            r
        })
    );
    assert_eq!((told.height, told.gone), (2, vec![]));
    let (told, _) = at(3, 1, vec![route(1, 0, &replicas)]);
    let gone = Gone {
        deployment: DeploymentId(1),
        service: "s1".into(),
        allocation: None,
    };
    assert_eq!((told.routes, told.gone), (vec![], vec![gone]));
    // One that knows more than this book is told that it knows all.
    let ahead = book.told(Some(9));
    assert_eq!(
        (ahead.height, ahead.since, ahead.routes.len()),
        (9, Some(9), 0)
    );
}

type Set = (u64, Vec<Option<BTreeMap<u64, bool>>>);

fn sets() -> impl Strategy<Value = Vec<Set>> {
    let replicas = proptest::collection::btree_map(0u64..4, any::<bool>(), 0..4);
    let services = proptest::collection::vec(proptest::option::of(replicas), 0..3);
    proptest::collection::vec((0u64..3, services), 1..60)
}

proptest! {
    /// Readers that ask now and then, and one that never does, end with the same table, however
    /// little the book remembers of what is gone.
    #[test]
    fn any_steps_lead_to_the_whole(
        sets in sets(),
        gone_max in 0usize..12,
        asks in proptest::collection::vec(1u64..9, 3),
    ) {
        let mut book = RouteBook::new(table());
        book.gone_max = gone_max;
        let mut readers: Vec<KnownRoutes> = vec![KnownRoutes::default(); asks.len()];
        for (height, (deployment, services)) in (1..).zip(sets) {
            book.height = height;
            let routes = (0..).zip(&services).filter_map(|(service, replicas)| {
                // Replicas are of one service alone.
                let own = |n: &u64| (deployment * 3 + u64::from(service)) * 4 + n;
                let replicas = replicas.as_ref()?;
                let replicas = replicas.iter().map(|(n, ready)| (own(n), *ready)).collect();
                Some(route(deployment, service, &replicas))
            });
            book.set(DeploymentId(deployment), routes.collect());
            book.forget();
            prop_assert!(book.gone.len() <= gone_max);
            prop_assert_eq!(book.stamps.len(), book.lines.len());
            for (every, reader) in asks.iter().zip(&mut readers) {
                if height % every != 0 {
                    continue;
                }
                let after = reader.known().map(|(_, height)| height);
                let told = book.told(after);
                prop_assert!(told.since.is_none() || told.since == after);
                reader.take(told).unwrap();
                prop_assert_eq!(reader.services(), &whole(&book));
            }
        }
    }
}

// --- of a real ledger

const HOSTS: u64 = 3;

struct World {
    state: State,
    nonces: BTreeMap<AccountId, u64>,
}

fn key(n: u64) -> SecretKey {
    let mut seed = [5; 32];
    seed[..8].copy_from_slice(&n.to_le_bytes());
    SecretKey::from_seed(seed)
}

fn id(n: u64) -> AccountId {
    AccountId::of(&key(n).public())
}

impl World {
    fn new() -> Self {
        let genesis = Genesis {
            name: "routes".into(),
            time_ms: 1_700_000_000_000,
            params: Params::dev(),
            balances: (0..2).map(|n| (id(n), Amount::credits(100))).collect(),
            faucet: AccountId([0; 20]),
            watchers: Vec::new(),
            origin: None,
            validators: Vec::new(),
        };
        Self {
            state: State::genesis(&genesis),
            nonces: BTreeMap::new(),
        }
    }

    /// A block with these calls; what the rules refuse changes nothing.
    fn block(&mut self, after_ms: u64, calls: Vec<(u64, Call)>) {
        let signed = calls.into_iter().map(|(who, call)| {
            let nonce = self.nonces.entry(id(who)).or_default();
            *nonce += 1;
            let body = TransactionBody {
                network: self.state.globals.network,
                key: key(who).public().into(),
                on_behalf: Vec::new(),
                nonce: *nonce,
                expires: self.state.height() + 100,
                tip: types::Amount::ZERO,
                call,
            };
            borsh::to_vec(&Transaction::sign(body, &key(who))).unwrap()
        });
        let transactions: Vec<Vec<u8>> = signed.collect();
        let env = BlockEnv {
            height: self.state.height() + 1,
            time_ms: self.state.time_ms() + after_ms,
            ..BlockEnv::default()
        };
        self.state = self
            .state
            .execute(env, &transactions, &|_| true)
            .unwrap()
            .state;
    }

    fn register(n: u64, port: u16) -> (u64, Call) {
        let call = host::Call::Register {
            name: format!("host-{n}"),
            address: format!("http://10.0.0.{n}:{port}"),
            offer: Offer {
                capacity: Resources {
                    cpu_millis: 8_000,
                    memory_bytes: 16 << 30,
                    disk_bytes: 200 << 30,
                    bandwidth_kbps: 10_000_000,
                },
                architecture: "amd64".into(),
                region: "eu".into(),
                price_multiplier_milli: 1_000,
                builds: false,
            },
            owner: id(10 + n),
            machine: Digest::of(&n.to_le_bytes()),
            invitation: None,
        };
        (10 + n, Call::Host(call))
    }

    fn deploy(owner: u64, replicas: u32, published: Option<u16>, two: bool) -> (u64, Call) {
        let service = ServiceSpec {
            image: ImageRef {
                reference: "docker.io/library/busybox:latest".into(),
                digest: Digest::of(b"image"),
            },
            replicas,
            ports: vec![PortSpec {
                target: 80,
                published,
                protocol: Protocol::Tcp,
            }],
            ..ServiceSpec::default()
        };
        let mut services = BTreeMap::from([("web".into(), service.clone())]);
        if two {
            services.insert("db".into(), service);
        }
        let spec = DeploymentSpec {
            project: "app".into(),
            services,
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            logs: Default::default(),
        };
        let call = deployment::Call::Deploy {
            spec,
            price_max_hour: None,
        };
        (owner, Call::Deployment(call))
    }

    /// What a host says of all its replicas.
    fn statuses(&self, n: u64, running: bool) -> (u64, Call) {
        let host = id(10 + n);
        let status = |id: AllocationId| AllocationStatus {
            state: if running {
                RunState::Running
            } else {
                RunState::Failed
            },
            addresses: BTreeMap::from([("default".into(), [10, 64, n as u8, id.0 as u8])]),
            ..AllocationStatus::default()
        };
        let on = self.state.allocations_on(&host);
        let call = lease::Call::ReportStatus {
            plan: self.state.hosts.get(&host).map_or(0, |h| h.plan),
            statuses: on.map(|(id, _)| (id, status(id))).collect(),
        };
        (10 + n, Call::Lease(call))
    }

    fn last_of(&self, owner: u64) -> DeploymentId {
        let owner = id(owner);
        let own = self.state.deployments_of(&owner);
        own.last().map_or(DeploymentId(0), |(id, _)| id)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Register(u64, u16),
    Deploy(u64, u32, Option<u16>, bool),
    Statuses(u64, bool),
    Heartbeat(u64),
    Drain(u64, bool),
    Running(u64, bool),
    Remove(u64),
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0..HOSTS, 7_000u16..7_002).prop_map(|(n, port)| Step::Register(n, port)),
        1 => (0u64..2, 1u32..4, proptest::option::of(8_000u16..8_002), any::<bool>())
            .prop_map(|(n, replicas, port, two)| Step::Deploy(n, replicas, port, two)),
        4 => (0..HOSTS, prop::bool::weighted(0.8)).prop_map(|(n, ok)| Step::Statuses(n, ok)),
        2 => (0..HOSTS).prop_map(Step::Heartbeat),
        1 => (0..HOSTS, any::<bool>()).prop_map(|(n, on)| Step::Drain(n, on)),
        1 => (0u64..2, any::<bool>()).prop_map(|(n, on)| Step::Running(n, on)),
        1 => (0u64..2).prop_map(Step::Remove),
        2 => (1u64..40).prop_map(|s| Step::Wait(s * 1_000)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// A book that follows the ledger, head by head or with some left out, says what is made of
    /// the state at once, and looks at every deployment whose routes have changed.
    #[test]
    fn the_book_follows_the_ledger(
        steps in proptest::collection::vec(step(), 1..50),
        every in 1usize..4,
    ) {
        let mut world = World::new();
        let registered = (0..HOSTS).map(|n| World::register(n, 7_000)).collect();
        world.block(100, registered);
        world.block(100, vec![World::deploy(0, 2, None, true)]);
        let mut book = RouteBook::new(table());
        let mut reader = KnownRoutes::default();
        let mut last = world.state.clone();
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Register(n, port) => world.block(100, vec![World::register(n, port)]),
                Step::Deploy(owner, replicas, port, two) => {
                    world.block(100, vec![World::deploy(owner, replicas, port, two)]);
                }
                Step::Statuses(n, ok) => world.block(100, vec![world.statuses(n, ok)]),
                Step::Heartbeat(n) => {
                    world.block(100, vec![(10 + n, Call::Host(host::Call::Heartbeat))]);
                }
                Step::Drain(n, draining) => {
                    let host = id(10 + n);
                    let call = Call::Host(host::Call::Drain { host, draining });
                    world.block(100, vec![(10 + n, call)]);
                }
                Step::Running(owner, running) => {
                    let call = deployment::Call::SetRunning {
                        deployment: world.last_of(owner),
                        service: None,
                        running,
                    };
                    world.block(100, vec![(owner, Call::Deployment(call))]);
                }
                Step::Remove(owner) => {
                    let call = deployment::Call::Remove {
                        deployment: world.last_of(owner),
                        volumes: false,
                    };
                    world.block(100, vec![(owner, Call::Deployment(call))]);
                }
                Step::Wait(ms) => world.block(ms, Vec::new()),
            }
            if count % every != 0 {
                continue;
            }
            let affected = affected(&last, &world.state);
            for id in (0..=world.state.globals.deployments).map(DeploymentId) {
                let same = routes_of(&last, id) == routes_of(&world.state, id);
                prop_assert!(same || affected.contains(&id), "{id}");
            }
            last = world.state.clone();
            book.follow(&world.state);
            let mut all = KnownRoutes::default();
            let routes = routes(&world.state);
            all.take(Routes { routes, ..Routes::default() }).unwrap();
            prop_assert_eq!(&whole(&book), all.services());
            reader.take(book.told(reader.known().map(|(_, height)| height))).unwrap();
            prop_assert_eq!(reader.services(), all.services());
            // Who waits is woken whenever the ledger says that there is something to hear.
            prop_assert!(book.changed() <= book.height());
        }
    }
}
