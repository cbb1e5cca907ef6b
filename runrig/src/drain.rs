//! `host drain` and `host leave`: empty a host without a request being lost, for upkeep or for
//! good.

use std::time::{Duration, Instant};

use clap::Args;
use ledger::Call;

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::{output, units};

const POLL: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig host drain rack-7 --key /var/lib/runrig/host.key --wait\n  runrig host drain rack-7 --undo"
)]
pub struct Drain {
    /// Host, by name or id
    host: String,
    /// Let it take work again
    #[arg(long, conflicts_with = "wait")]
    undo: bool,
    /// Return when nothing is left there
    #[arg(long)]
    wait: bool,
    /// Wait at most so long
    #[arg(long, default_value = "10m", value_parser = units::duration)]
    timeout: Duration,
}

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig host leave rack-7 --key /var/lib/runrig/host.key\n\nThe agent on that machine ends by itself once the host has left."
)]
pub struct Leave {
    /// Host, by name or id
    host: String,
    /// Wait at most so long until it is empty
    #[arg(long, default_value = "10m", value_parser = units::duration)]
    timeout: Duration,
}

/// Empties the host, then takes it off the ledger. If it does not get empty in time it stays,
/// draining.
pub async fn leave(session: &Session, args: &Leave, json: bool) -> Result {
    let host = session.client.host(&args.host).await?;
    let call = Call::Host(ledger::host::Call::Drain {
        host: host.host,
        draining: true,
    });
    session.submit(call).await?;
    until_empty(session, &host.host.to_string(), args.timeout).await?;
    // Paid for what the last report brought.
    let last = session.client.host(&args.host).await?;
    let call = Call::Host(ledger::host::Call::Leave);
    session.submit(call).await?;
    if json {
        output::json(&last);
        return Ok(());
    }
    output::say(format!(
        "{} has left; it has earned {} credits, and its bond of {} went back to {}",
        last.name, last.earned, last.bond, last.owner
    ));
    Ok(())
}

/// Each replica moves once its successor is good; those with named volumes stay.
pub async fn drain(session: &Session, args: &Drain, json: bool) -> Result {
    let host = session.client.host(&args.host).await?;
    let call = Call::Host(ledger::host::Call::Drain {
        host: host.host,
        draining: !args.undo,
    });
    session.submit(call).await?;
    if args.wait {
        until_empty(session, &host.host.to_string(), args.timeout).await?;
    }
    let host = session.client.host(&args.host).await?;
    if json {
        output::json(&host);
        return Ok(());
    }
    output::say(match (host.draining, host.allocations) {
        (true, 0) => format!("{} is empty", host.name),
        (true, left) => format!("{} is being drained, {left} replicas are left", host.name),
        (false, _) => format!("{} takes work again", host.name),
    });
    Ok(())
}

async fn until_empty(session: &Session, host: &str, timeout: Duration) -> Result {
    let started = Instant::now();
    let mut said = None;
    loop {
        let view = session.client.host(host).await?;
        if view.allocations == 0 {
            return Ok(());
        }
        if said != Some(view.allocations) {
            output::say(format!("{} replicas are left", view.allocations));
            said = Some(view.allocations);
        }
        if started.elapsed() > timeout {
            return Err(Failure::new(
                failure::TIMED_OUT,
                format!("{} replicas are left on {}", view.allocations, view.name),
                "they have named volumes there, or fit nowhere else now",
                "It goes on: see `runrig events -f`; take it back with `runrig host drain --undo`.",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}
