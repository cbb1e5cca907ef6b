//! Transfers per second that four validators commit, and how soon one alone is final.
//!
//! A round is a pile of signed transfers among many accounts, handed to all four validators
//! at once, and timed until each of them has finalised all. Afterwards every account must
//! hold what it should: a transfer that was lost or refused fails the measurement.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use types::{Amount, PublicKey, Signature, verify_batch};

use crate::figure::{Figure, Found, milliseconds};
use crate::network::{Network, VALIDATORS};
use crate::postgres::Postgres;

const ACCOUNTS: usize = 2_000;
/// Of each account, in one round: below the nonces that one may be ahead.
const EACH: u64 = 20;
/// Transfers in one request.
const BATCH: usize = 500;
const SETTLE_LIMIT: Duration = Duration::from_secs(120);
/// Signatures in a batch of the physical limit, and batches per round and core.
const SIGNATURES: usize = 8_192;
/// For the peer, each round.
const PEER_TIME: Duration = Duration::from_secs(4);
/// A lone transaction is final within this time.
const FINAL_MS: u64 = 10_000;
/// Lone transactions in a round.
const LONE: u64 = 40;

/// `program` is a `runrig`.
///
/// Errors: the network does not come up, or money is not where it should be.
pub(crate) async fn ledger(program: &Path, rounds: usize) -> Result<Found> {
    let mut left_out = Vec::new();
    let filled = || Postgres::start().and_then(|postgres| postgres.fill().map(|()| postgres));
    let postgres = match tokio::task::spawn_blocking(filled).await? {
        Ok(postgres) => Some(postgres),
        Err(why) => {
            left_out.push(format!("PostgreSQL beside it: {why:#}"));
            None
        }
    };
    let network = Network::start(program, ACCOUNTS).await?;
    let (mut committed, mut cpu, mut disk) = (Vec::new(), Vec::new(), Vec::new());
    let (mut signatures, mut peer) = (Vec::new(), Vec::new());
    // The first warms up and is not counted.
    for round in 0..=rounds as u64 {
        let transfers = sign(&network, round)?;
        let count: usize = transfers
            .iter()
            .map(|t| t.iter().map(Vec::len).sum::<usize>())
            .sum();
        let before = network.cost();
        let started = Instant::now();
        hand_over(&network, transfers).await?;
        network.until_settled(SETTLE_LIMIT).await?;
        let spent = started.elapsed();
        let after = network.cost();
        if round == 0 {
            continue;
        }
        committed.push(count as f64 / spent.as_secs_f64());
        let each = |total: f64| total / (count as f64 * f64::from(VALIDATORS));
        cpu.push(each((after.cpu - before.cpu).as_secs_f64() * 1e6));
        disk.push(each((after.written_bytes - before.written_bytes) as f64));
        signatures.push(tokio::task::spawn_blocking(verify_on_all_cores).await?);
        if let Some(postgres) = &postgres {
            let postgres = postgres.clone();
            let tps = tokio::task::spawn_blocking(move || postgres.bench(PEER_TIME)).await??;
            peer.push(tps);
        }
    }
    check_money(&network, rounds as u64 + 1).await?;
    let figure = |name: &str, unit, rounds| Figure::of("ledger", name, unit, rounds);
    let limit = "ed25519 checks/s of this machine, in batches, all cores";
    let figures = [
        figure(
            "transfers committed by four validators",
            "1/s",
            committed.clone(),
        )
        .map(|f| f.beside(limit, &signatures)),
        figure("transfers committed by four validators", "1/s", committed)
            .filter(|_| !peer.is_empty())
            .map(|f| f.beside("PostgreSQL pgbench TPC-B, 8 clients, tps", &peer)),
        figure("CPU per transfer and validator", "µs", cpu),
        figure("written per transfer and validator", "bytes", disk),
    ];
    Ok(Found {
        figures: figures.into_iter().flatten().collect(),
        left_out,
    })
}

/// Requests for each validator: batches of canonical bytes, of its own part of the accounts.
type Requests = Vec<Vec<Vec<u8>>>;

fn sign(network: &Network, round: u64) -> Result<Vec<Requests>> {
    let parts = network.clients.len();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = |part: usize| -> Result<Requests> {
        let mut all = Vec::new();
        for nonce in round * EACH + 1..=(round + 1) * EACH {
            for from in (part..ACCOUNTS).step_by(parts) {
                let transfer = network.transfer(from, nonce, amount(from));
                all.push(borsh::to_vec(&transfer)?);
            }
        }
        Ok(all.chunks(BATCH).map(<[_]>::to_vec).collect())
    };
    let mut signed = Vec::new();
    for group in (0..parts).collect::<Vec<_>>().chunks(threads) {
        let made: Vec<Result<Requests>> = std::thread::scope(|scope| {
            let running: Vec<_> = group.iter().map(|at| scope.spawn(|| part(*at))).collect();
            running
                .into_iter()
                .map(|t| t.join().expect("no panic"))
                .collect()
        });
        for one in made {
            signed.push(one?);
        }
    }
    Ok(signed)
}

/// Of each transfer of an account: not the same for all, so that a lost one shows.
fn amount(from: usize) -> u128 {
    1 + from as u128 % 13
}

async fn hand_over(network: &Network, transfers: Vec<Requests>) -> Result<()> {
    let sending = network
        .clients
        .iter()
        .zip(transfers)
        .map(|(client, requests)| async move {
            for request in requests {
                let answers = client.submit_many(&request).await?;
                for answer in answers {
                    let refused = answer.problem.map(|p| p.why);
                    ensure!(refused.is_none(), "a transfer is refused: {refused:?}");
                }
            }
            Ok(())
        });
    futures::future::try_join_all(sending).await?;
    Ok(())
}

/// Every account holds what `rounds` rounds should have left it, at every validator.
async fn check_money(network: &Network, rounds: u64) -> Result<()> {
    let mut balances = vec![Amount::credits(1_000).0 as i128; ACCOUNTS];
    for nonce in 1..=rounds * EACH {
        for from in 0..ACCOUNTS {
            balances[from] -= amount(from) as i128;
            balances[network.recipient(from, nonce)] += amount(from) as i128;
        }
    }
    for (number, expected) in balances.into_iter().enumerate() {
        let client = &network.clients[number % network.clients.len()];
        let account = client.account(network.account(number)).await?;
        ensure!(
            account.balance.0 as i128 == expected && account.nonce == rounds * EACH,
            "account {number} holds {} after nonce {}, not {expected}",
            account.balance,
            account.nonce
        );
    }
    Ok(())
}

/// Signature checks per second of all cores together, as a validator makes them: in batches.
fn verify_on_all_cores() -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let signed: Vec<(PublicKey, [u8; 32], Signature)> = (0..SIGNATURES as u64)
        .map(|number| {
            let key = crate::network::key(number % ACCOUNTS as u64);
            let message = types::Digest::of(&number.to_le_bytes()).0;
            (key.public(), message, key.sign(&message))
        })
        .collect();
    let started = Instant::now();
    let good = std::thread::scope(|scope| {
        let check = || {
            let items = signed.iter().map(|(key, m, s)| (key, &m[..], s));
            verify_batch(items, &mut rand::rng())
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(check)).collect();
        running.into_iter().all(|t| t.join().expect("no panic"))
    });
    let rate = (threads * SIGNATURES) as f64 / started.elapsed().as_secs_f64();
    if good { rate } else { 0.0 }
}

/// Submit to final of a transaction that has the network to itself.
pub(crate) async fn finality(program: &Path, rounds: usize) -> Result<Found> {
    let network = Network::start(program, 2).await?;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for round in 0..rounds as u64 {
        let mut times = Vec::new();
        for lone in 0..LONE {
            let nonce = round * LONE + lone + 1;
            let transfer = borsh::to_vec(&network.transfer(0, nonce, 1))?;
            let client = &network.clients[lone as usize % network.clients.len()];
            let started = Instant::now();
            let submitted = client.submit_bytes(&transfer, FINAL_MS).await?;
            let view = submitted.result.context("not final in time")?;
            times.push(milliseconds(started.elapsed()));
            ensure!(view.rejection.is_none(), "refused: {:?}", view.rejection);
            // At every moment of the time between two blocks.
            tokio::time::sleep(Duration::from_millis(nonce * 37 % 200)).await;
        }
        p50.extend(crate::figure::quantile(&times, 0.5));
        p99.extend(crate::figure::quantile(&times, 0.99));
    }
    let figure = |name: &str, rounds| Figure::of("finality", name, "ms", rounds);
    let figures = [
        figure("lone transfer, submit to final, p50", p50),
        figure("p99", p99),
    ];
    Ok(Found {
        figures: figures.into_iter().flatten().collect(),
        left_out: Vec::new(),
    })
}
