//! What four validators cost when nothing is asked of them, and when a little is, for long.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::figure::{Bound, Figure, Found, median};
use crate::network::{Network, VALIDATORS};

const ACCOUNTS: usize = 2_000;
/// Transfers a second, together: far below what they can.
const RATE: usize = 40;
const ROUND: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(1);
/// A validator that grows by more of what it takes, in an hour, does not stand still.
const GROWTH_MAX: f64 = 0.05;

/// One round is a minute: first one without a transfer, then `rounds` of them with [`RATE`].
///
/// `program` is a `runrig`. Growth is told from nine rounds on; an hour is sixty.
pub(crate) async fn steady(program: &Path, rounds: usize) -> Result<Found> {
    let network = Network::start(program, ACCOUNTS).await?;
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(VALIDATORS) / f64::from(1 << 20);
    // What a start leaves to be done is not counted.
    tokio::time::sleep(ROUND / 6).await;
    let empty = per_block(&network, async || {
        tokio::time::sleep(ROUND).await;
        Ok(())
    })
    .await?;
    let (mut busy, mut memory, mut sent) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let spent = per_block(&network, async || {
            let mut tick = tokio::time::interval(TICK);
            for _ in 0..ROUND.as_secs() {
                tick.tick().await;
                pay(&network, &mut sent).await?;
            }
            Ok(())
        });
        busy.push(spent.await?);
        memory.push(mebibytes(network.cost().memory_bytes));
    }
    let mut figures = vec![
        Figure::of(
            "steady",
            "CPU per empty block and validator",
            "ms",
            vec![empty],
        ),
        Figure::of(
            "steady",
            format!("CPU per block and validator, {RATE} transfers/s"),
            "ms",
            busy,
        ),
        Figure::of("steady", "memory of a validator", "MiB", memory.clone()),
    ];
    let mut left_out = Vec::new();
    match growth(&memory) {
        Some(growth) => figures.push(
            Figure::of(
                "steady",
                "growth of that memory in an hour, by the second half",
                "of it",
                vec![growth],
            )
            .map(|f| f.goal(Bound::AtMost(GROWTH_MAX))),
        ),
        None => left_out.push("growth of memory: `--rounds 60`, an hour".into()),
    }
    Ok(Found {
        figures: figures.into_iter().flatten().collect(),
        left_out,
    })
}

/// CPU of a validator for each block that is made during `work`, in milliseconds.
async fn per_block(network: &Network, work: impl AsyncFnOnce() -> Result<()>) -> Result<f64> {
    let height = async || anyhow::Ok(network.clients[0].status().await?.height);
    let (before, first) = (network.cost(), height().await?);
    work().await?;
    let (after, last) = (network.cost(), height().await?);
    ensure!(last > first, "no block was made");
    let cpu = (after.cpu - before.cpu).as_secs_f64() * 1e3;
    Ok(cpu / f64::from(VALIDATORS) / (last - first) as f64)
}

/// A second's transfers, to each validator in turn.
async fn pay(network: &Network, sent: &mut usize) -> Result<()> {
    let mut transfers = Vec::with_capacity(RATE);
    for _ in 0..RATE {
        let (from, nonce) = (*sent % ACCOUNTS, (*sent / ACCOUNTS) as u64 + 1);
        transfers.push(borsh::to_vec(&network.transfer(from, nonce, 1))?);
        *sent += 1;
    }
    let client = &network.clients[*sent / RATE % network.clients.len()];
    for answer in client.submit_many(&transfers).await? {
        let refused = answer.problem.map(|p| p.why);
        ensure!(refused.is_none(), "a transfer is refused: {refused:?}");
    }
    Ok(())
}

/// Of values a minute apart, in an hour and as a share of their median: by Theil and Sen, the median of
/// all slopes, of the second half. `None`: there are fewer than nine.
fn growth(values: &[f64]) -> Option<f64> {
    let half = values.get(values.len() / 2..).filter(|h| h.len() >= 5)?;
    let mut slopes = Vec::new();
    for (at, one) in half.iter().enumerate() {
        for (after, other) in half[at + 1..].iter().enumerate() {
            slopes.push((other - one) / (after + 1) as f64);
        }
    }
    Some(median(&slopes)? * 60.0 / median(half)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn growth_is_that_of_the_second_half() {
        let line = |by: f64| {
            (0..20)
                .map(|n| 100.0 + by * f64::from(n))
                .collect::<Vec<_>>()
        };
        assert_eq!(growth(&line(0.0)), Some(0.0));
        let rising = growth(&line(1.0)).expect("enough");
        assert!((rising - 60.0 / 114.5).abs() < 1e-9, "{rising}");
        let mut settled = line(0.0);
        settled[..10].iter_mut().for_each(|v| *v = 10.0);
        settled[13] = 500.0;
        assert_eq!(
            growth(&settled),
            Some(0.0),
            "one that is off changes nothing"
        );
        assert_eq!(growth(&line(1.0)[..8]), None);
    }
}
