//! What it costs to bring a transaction to a block, from ten validators to a thousand.
//!
//! Queues, sending-on and the order of leaders are the product's own, over the simulated network;
//! agreement is decreed: a leader's block is final with all at once. (Scenarios run the whole with
//! four to fifty validators, and count the same messages.)

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use commonware_runtime::deterministic::{self, Context};
use commonware_runtime::{Clock as _, Runner as _, Supervisor as _};
use consensus::simulation::{self, Key, Network, Terms};
use consensus::{Config, deal};
use ledger::lots::Founder;
use types::{Amount, Digest, PublicKey};
use validator::LedgerMachine;

use crate::client::{GENESIS_MS, Payments, genesis};
use crate::links::Links;

/// Numbers of validators that are measured.
pub const SIZES: [u32; 5] = [10, 50, 100, 300, 1_000];
/// From a block to the next.
const TERM: Duration = Duration::from_millis(100);
/// What a leader who is away costs.
const EMPTY: Duration = Duration::from_millis(2_500);
/// Ways are there from whoever has submitted something to the leaders of so many terms.
const LINKED: u64 = 5;
/// Terms after the last transaction in which all must be in blocks.
const REST: u64 = 60;

/// What was measured with so many validators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineup {
    pub validators: u32,
    /// Of ten validators, so many are away all the time.
    pub away: u32,
    pub transactions: u32,
    /// Each to one leader.
    pub messages: u64,
    /// Terms whose leaders were there, from the first after a transaction was submitted to the one
    /// whose block holds it: of half, of 99 of 100 and of all transactions, no more than so many.
    pub terms: [u64; 3],
    /// The most terms one after the other that had no block.
    pub empty: u64,
}

impl Lineup {
    pub const HEAD: &str = "validators  away of ten  transactions  messages  each   terms p50, p99, most   empty in a row";

    pub fn row(&self) -> String {
        let each = self.messages as f64 / f64::from(self.transactions.max(1));
        let [half, most, all] = self.terms;
        format!(
            "{:10} {:12} {:13} {:9} {each:5.2} {half:12}, {most}, {all} {:24}",
            self.validators, self.away, self.transactions, self.messages, self.empty
        )
    }
}

/// Submits `transactions`, one in each term, each to another validator.
pub fn measure(validators: u32, away: u32, transactions: u32, seed: u64) -> Result<Lineup> {
    let config = deterministic::Config::new().with_seed(seed);
    deterministic::Runner::new(config)
        .start(|context| play(context, validators, away, transactions))
}

fn address(at: usize) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1 + at as u16))
}

/// Ways from validators to leaders, made when needed: a thousand have a million.
struct Ways<'a> {
    network: &'a Network,
    keys: &'a [Key],
    made: BTreeSet<(usize, usize)>,
}

impl Ways<'_> {
    async fn make(&mut self, from: usize, to: usize) -> Result<()> {
        if from != to && self.made.insert((from, to)) {
            let (a, b) = (self.keys[from].clone(), self.keys[to].clone());
            let link = Links::NEAR.between(from, to);
            self.network.add_link(a, b, link).await?;
        }
        Ok(())
    }
}

async fn play(context: Context, validators: u32, away: u32, transactions: u32) -> Result<Lineup> {
    let clock = context.child("client");
    // They make the genesis; nobody votes here.
    let (committee, founders) = deal(4, [9; 32])?;
    let founder = |(at, seat): (usize, &consensus::Seat)| Founder {
        key: PublicKey(seat.key()),
        address: address(at).to_string(),
    };
    let founders = founders.iter().enumerate().map(founder).collect();
    let genesis = genesis(founders, &[], 1 << 20, 100, Amount::ZERO);
    let payments = Payments::new(&genesis, transactions);
    let (network_id, epoch_blocks) = (genesis.digest(), genesis.params.epoch_blocks);
    let machine = Arc::new(LedgerMachine::new(genesis));
    let seats = simulation::seats(validators);
    let keys: Vec<Key> = seats.iter().map(simulation::key).collect();
    let (task, network) = simulation::network(context.child("network"), keys.clone()).await;
    let config = |seat| Config {
        data: "unused".into(),
        committee: committee.clone(),
        seat,
        listen: address(0),
        addresses: Vec::new(),
        epoch_blocks: NonZeroU64::new(epoch_blocks).expect("an epoch has blocks"),
        network: network_id,
        genesis_ms: GENESIS_MS,
        keep: None,
    };
    let mut terms = Terms::start(&context, config, &seats, machine, &network).await?;
    let mut ways = Ways {
        network: &network,
        keys: &keys,
        made: BTreeSet::new(),
    };
    // One after the other, as is worst for those who send.
    let is_away = |at: usize| at % 10 < away as usize;
    let mut payments = payments.transactions.into_iter().enumerate();
    // Where each was submitted, and after how many blocks.
    let mut waiting: BTreeMap<Digest, (usize, u64)> = BTreeMap::new();
    let (mut took, mut led, mut in_a_row, mut empty) = (Vec::new(), 0, 0, 0);
    let (mut rest, mut time_ms) = (REST, GENESIS_MS);
    while rest > 0 && (payments.len() > 0 || !waiting.is_empty()) {
        if let Some((n, (id, bytes))) = payments.next() {
            let place = (n * 13..).map(|at| at % seats.len());
            let place = place.into_iter().find(|at| !is_away(*at)).unwrap_or(0);
            for ahead in 0..LINKED {
                ways.make(place, terms.leader(ahead)).await?;
            }
            let taken = terms.node(place).submit(bytes);
            ensure!(taken.is_ok(), "refused: {taken:?}");
            waiting.insert(id, (place, led));
        } else {
            rest -= 1;
        }
        let places: BTreeSet<usize> = waiting.values().map(|(place, _)| *place).collect();
        for place in places {
            for ahead in 0..LINKED {
                ways.make(place, terms.leader(ahead)).await?;
            }
        }
        let leader = terms.leader(0);
        let lasts = if is_away(leader) { EMPTY } else { TERM };
        clock.sleep(lasts).await;
        time_ms += lasts.as_millis() as u64;
        if is_away(leader) {
            terms.pass();
            in_a_row += 1;
            empty = in_a_row.max(empty);
            continue;
        }
        let ids = terms.lead(time_ms);
        (led, in_a_row) = (led + 1, 0);
        for (_, since) in ids.iter().filter_map(|id| waiting.remove(id)) {
            took.push(led - since);
        }
    }
    let messages = terms.messages();
    drop(terms);
    task.abort();
    ensure!(
        waiting.is_empty(),
        "{} transactions are in no block {REST} terms after the last was submitted",
        waiting.len()
    );
    took.sort_unstable();
    let at =
        |percent: usize| took.get((took.len() * percent / 100).min(took.len().saturating_sub(1)));
    Ok(Lineup {
        validators,
        away,
        transactions,
        messages,
        terms: [50, 99, 100].map(|percent| at(percent).copied().unwrap_or_default()),
        empty,
    })
}
