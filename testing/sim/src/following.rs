//! Who has no seat follows: it is told blocks by anybody, liars too, and brings what is submitted to it
//! to those who lead.

use anyhow::{Result, ensure};
use bytes::Bytes;
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Spawner as _};
use consensus::{Follower, Handle, Outbox};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::mpsc;
use types::{Digest, PublicKey, SecretKey};
use validator::LedgerMachine;

/// Of so many answers one is a lie.
const LIES_ONE_IN: u32 = 4;

/// To whom, and what.
type Batch = (Vec<PublicKey>, Vec<(Digest, Bytes)>);

/// One who follows.
pub struct Following {
    follower: Follower<LedgerMachine>,
    sent: mpsc::UnboundedReceiver<Batch>,
    sending: Task<()>,
    /// Whom it asks, and what it is told.
    rng: StdRng,
}

/// What one who follows has to say to those who lead.
pub struct Brought {
    pub to: Vec<PublicKey>,
    pub transactions: Vec<(Digest, Bytes)>,
}

impl Following {
    pub fn new(
        context: Context,
        follower: Follower<LedgerMachine>,
        mut outbox: Outbox<LedgerMachine>,
        seed: u64,
    ) -> Self {
        let (send, sent) = mpsc::unbounded_channel();
        let sending = context.spawn(move |_| async move {
            while let Some(batch) = outbox.next().await {
                if send.send(batch).is_err() {
                    return;
                }
            }
        });
        Self {
            follower,
            sent,
            sending,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    pub fn stop(&self) {
        self.sending.abort();
    }

    /// Asks one of `others` for what comes after `own`'s head, and takes it, if it is no lie.
    ///
    /// Errors: a lie was taken, or the truth was not.
    pub async fn ask(
        &mut self,
        own: &Handle<LedgerMachine>,
        others: &[&Handle<LedgerMachine>],
    ) -> Result<()> {
        if others.is_empty() {
            return Ok(());
        }
        let giver = others[self.rng.random_range(0..others.len())];
        let from = own.head().header.height + 1;
        let mut told = giver.passed(from)?;
        let true_words = told.clone();
        if self.rng.random_ratio(1, LIES_ONE_IN) {
            self.bend(&mut told, giver, from)?;
        }
        match self.follower.check(&told) {
            // What it is told after the last block that is certified is not taken, true or not.
            Ok(checked) => self.follower.take(checked).await,
            Err(why) => {
                ensure!(told != true_words, "the truth is not believed: {why:#}");
                Ok(())
            }
        }
    }

    fn bend(&mut self, told: &mut Vec<u8>, giver: &Handle<LedgerMachine>, from: u64) -> Result<()> {
        let at = self.rng.random_range(0..told.len());
        match self.rng.random_range(0..4) {
            0 => told[at] ^= 1 << self.rng.random_range(0..8),
            1 => told.truncate(at),
            2 => *told = giver.passed(from.saturating_sub(self.rng.random_range(1..9)))?,
            _ => *told = giver.passed(from + self.rng.random_range(1..9))?,
        }
        Ok(())
    }

    /// What was submitted since, for those who lead.
    pub fn brought(&mut self) -> Vec<Brought> {
        std::iter::from_fn(|| self.sent.try_recv().ok())
            .map(|(to, transactions)| Brought { to, transactions })
            .collect()
    }
}

/// Gives `brought` to `leader`, with the word of the screener with `key`, if it is one.
pub fn bring(
    own: &Handle<LedgerMachine>,
    key: &SecretKey,
    leader: &Handle<LedgerMachine>,
    brought: &Brought,
    epoch_blocks: u64,
) {
    let head = own.head();
    let epoch = light::epoch_of(head.header.height + 1, epoch_blocks);
    let transactions = brought.transactions.iter().map(|(_, bytes)| bytes.clone());
    let transactions: Vec<Bytes> = transactions.collect();
    if head.state.screeners(epoch).contains(&key.public()) {
        let word = |(id, _): &(Digest, Bytes)| light::screen(key, &head.header.network, epoch, id);
        let words: Vec<[u8; 64]> = brought.transactions.iter().map(word).collect();
        leader.submit_screened(transactions, key.public().0, epoch, &words);
    } else {
        leader.submit_many(transactions);
    }
}
