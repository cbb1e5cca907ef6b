//! How long things take. Run by hand; in the development profile the figures are those of
//! unoptimised code:
//!
//! `cargo test -p ledger speed -- --ignored --nocapture`

use std::time::Instant;

use types::{AccountId, AllocationId, Amount, DeploymentId, SecretKey, Usage};

use crate::world::{World, deploy, id, line, project, report, service};
use crate::{
    BlockEnv, Call, Genesis, Params, State, Transaction, TransactionBody, account, deployment,
};

fn each(what: &str, count: usize, act: impl FnOnce()) {
    let start = Instant::now();
    act();
    let micros = start.elapsed().as_micros();
    println!(
        "{what}: {count} in {micros} µs, {} ns each",
        micros * 1000 / count as u128
    );
}

#[test]
#[ignore = "measures"]
fn transfers() {
    const PAYERS: usize = 2_000;
    let keys: Vec<SecretKey> = (0..PAYERS as u64)
        .map(|n| {
            let mut seed = [0; 32];
            seed[..8].copy_from_slice(&n.to_le_bytes());
            SecretKey::from_seed(seed)
        })
        .collect();
    let accounts: Vec<AccountId> = keys.iter().map(|k| AccountId::of(&k.public())).collect();
    let mut balances: Vec<_> = accounts.iter().map(|a| (*a, Amount::credits(5))).collect();
    // Others, so that the tables have some depth.
    balances.extend((0..100_000u32).map(|n| {
        let mut id = [7; 20];
        id[..4].copy_from_slice(&n.to_be_bytes());
        (AccountId(id), Amount(1))
    }));
    let genesis = Genesis {
        name: "speed".into(),
        time_ms: 1,
        params: Params::dev(),
        balances,
        faucet: id(1),
        validators: Vec::new(),
        watchers: Vec::new(),
        origin: None,
    };
    let state = State::genesis(&genesis);
    let transactions: Vec<Vec<u8>> = (0..PAYERS)
        .map(|n| {
            let body = TransactionBody {
                network: state.globals.network,
                key: keys[n].public().into(),
                on_behalf: Vec::new(),
                nonce: 1,
                expires: 100,
                tip: types::Amount::ZERO,
                call: Call::Account(account::Call::Transfer {
                    to: accounts[(n * 7 + 1) % PAYERS],
                    amount: Amount(5),
                    memo: String::new(),
                }),
            };
            borsh::to_vec(&Transaction::sign(body, &keys[n])).expect("encodes")
        })
        .collect();
    let env = BlockEnv {
        height: 1,
        time_ms: 2,
        ..BlockEnv::default()
    };
    each("transfers, signatures known", PAYERS, || {
        let executed = state
            .execute(env.clone(), &transactions, &|_| true)
            .expect("holds");
        assert!(executed.outcomes.iter().all(|o| o.rejection.is_none()));
    });
    each("transfers, signatures checked", PAYERS, || {
        state
            .execute(env.clone(), &transactions, &|_| false)
            .expect("holds");
    });
    each("an empty block", 1, || {
        state
            .execute(env.clone(), &[] as &[Vec<u8>], &|_| false)
            .expect("holds");
    });
}

#[test]
#[ignore = "measures"]
fn a_thousand_replicas() {
    let mut params = Params::dev();
    params.host_timeout_ms = 1_000_000_000;
    let mut world = World::new(params);
    world
        .ask(3, Call::Account(account::Call::Faucet { to: id(1) }))
        .expect("given");
    for who in 10..60 {
        world.host(who, 64_000);
    }
    let run = |world: &mut World, what: &str, count: usize, who: u8, call: Call| {
        let transaction = world.sign(who, call);
        let env = BlockEnv {
            height: world.state.height() + 1,
            time_ms: world.state.time_ms() + 1000,
            ..BlockEnv::default()
        };
        let mut executed = None;
        each(what, count, || {
            executed = Some(
                world
                    .state
                    .execute(env.clone(), &[transaction], &|_| true)
                    .expect("holds"),
            );
        });
        let executed = executed.expect("just made");
        assert_eq!(executed.outcomes[0].rejection, None, "{what}");
        world.state = executed.state;
    };
    let spec = project("p", &[("a", service(100, 1000))]);
    run(&mut world, "replicas placed", 1000, 1, deploy(spec));
    let remove = deployment::Call::Remove {
        deployment: DeploymentId(1),
        volumes: false,
    };
    let hosts: Vec<u8> = (10..60).collect();
    let lines = |world: &World, who: u8, sequence: u64, last: bool| {
        world
            .state
            .allocations_on(&id(who))
            .map(|(AllocationId(n), a)| {
                let usage = Usage {
                    cpu_ns: sequence * 1000,
                    ..a.usage
                };
                let mut one = line(n, sequence, world.state.time_ms(), usage);
                one.last = last;
                one
            })
            .collect::<Vec<_>>()
    };
    let first = lines(&world, 10, 1, false);
    run(
        &mut world,
        "usage lines settled",
        first.len(),
        10,
        report(1, first),
    );
    run(&mut world, "removed", 1000, 1, Call::Deployment(remove));
    for who in hosts {
        let last = lines(&world, who, 2, true);
        let interval = world.state.hosts.get(&id(who)).expect("there").interval + 1;
        if !last.is_empty() && who % 10 == 0 {
            run(
                &mut world,
                "leases closed",
                last.len(),
                who,
                report(interval, last),
            );
        }
    }
}
