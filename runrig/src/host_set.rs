//! `host set`: how much of a machine that has joined is lent.

use std::time::Duration;

use clap::Args;
use ledger::Call;
use types::Resources;

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::{output, units};

/// An agent offers more within so long, or has not heard of it.
const WAIT: Duration = Duration::from_secs(15);

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig host set rack-7 --cpus 4 --memory 8g --key /var/lib/runrig/host.key\n  runrig host set rack-7 --disk 200g\n\nWhat is not said stays. Less than what runs there reserves is refused: drain it first."
)]
pub struct Set {
    /// Host, by name or id
    host: String,
    #[command(flatten)]
    lent: Lent,
}

/// Of a machine, as far as said.
#[derive(Args, Debug, PartialEq, Default)]
pub struct Lent {
    /// Cores to lend
    #[arg(long, value_parser = units::cores_millis)]
    pub cpus: Option<u32>,
    /// Memory to lend, for example 4g
    #[arg(long, value_parser = units::size)]
    pub memory: Option<u64>,
    /// Disk to lend, for example 100g
    #[arg(long, value_parser = units::size)]
    pub disk: Option<u64>,
    /// Network rate to lend, for example 1gbit
    #[arg(long, value_parser = units::rate_kbps)]
    pub bandwidth: Option<u32>,
}

impl Lent {
    fn over(&self, now: Resources) -> Resources {
        Resources {
            cpu_millis: self.cpus.unwrap_or(now.cpu_millis),
            memory_bytes: self.memory.unwrap_or(now.memory_bytes),
            disk_bytes: self.disk.unwrap_or(now.disk_bytes),
            bandwidth_kbps: self.bandwidth.unwrap_or(now.bandwidth_kbps),
        }
    }
}

/// Errors: `USAGE` if nothing is said; what the ledger refuses.
pub async fn set(session: &Session, args: &Set, json: bool) -> Result {
    let before = session.client.host(&args.host).await?;
    let now = before.allotment.unwrap_or(before.offer.capacity);
    if args.lent == Lent::default() {
        return Err(Failure::usage(
            "nothing to change",
            format!("{} lends {}", before.name, words(&now)),
            "Say --cpus, --memory, --disk or --bandwidth.",
        ));
    }
    let allotment = args.lent.over(now);
    if before.allotment == Some(allotment) {
        return say(&before, allotment, json);
    }
    let call = Call::Host(ledger::host::Call::SetAllotment {
        host: before.host,
        allotment,
    });
    session.submit(call).await?;
    // Less holds at once; more when the agent has looked what the machine has.
    let deadline = tokio::time::Instant::now() + WAIT;
    loop {
        let host = session.client.host(&before.host.to_string()).await?;
        let done = host.offer.capacity == allotment;
        if done || !host.online || tokio::time::Instant::now() > deadline {
            return say(&host, allotment, json);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn say(host: &api::HostView, wanted: Resources, json: bool) -> Result {
    if json {
        output::json(host);
        return Ok(());
    }
    let offered = host.offer.capacity;
    output::say(format!("{} lends {}", host.name, words(&offered)));
    if offered != wanted {
        output::say(format!(
            "{} was asked for: the rest follows when its agent answers, as far as the machine has it",
            words(&wanted)
        ));
    }
    Ok(())
}

/// `4 cores, 8 GiB of memory, 100 GiB of disk, 1000 Mbit/s`
fn words(r: &Resources) -> String {
    format!(
        "{} cores, {} of memory, {} of disk, {} Mbit/s",
        words::cores(r.cpu_millis.into()),
        units::bytes(r.memory_bytes),
        units::bytes(r.disk_bytes),
        f64::from(r.bandwidth_kbps) / 1_000.0
    )
}
