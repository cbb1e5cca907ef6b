//! `network found`: the founders of a charter make its network, each on a machine of his own.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use consensus::{Ceremony, FoundError, Founded, Member, Seat, Step};
use types::{Digest, PublicKey};

use crate::charter::{Charter, FOUNDER_FILE, read_founder};
use crate::failure::{self, Failure, Result};
use crate::{network, output, units, validator_join};

/// A charter may be so much younger than this machine's clock says that it is.
const AHEAD_MS_MAX: u64 = 60_000;
const NAMED_MAX: usize = 8;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig network found --charter charter.json --data ./validator\n  runrig network found --charter charter.json --data ./validator --p2p 0.0.0.0:8710 --wait 1h\n\nRun it again to go on after a stop. It ends when all founders are done. Then: runrig validator run --data ./validator --network ./validator/network.json"
)]
pub struct Found {
    /// What `runrig network charter` wrote: the same file with all founders
    #[arg(long, value_name = "FILE")]
    charter: PathBuf,
    /// The folder that `runrig network founder` made; network.json comes into it
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Listen for the other founders here; what the charter says if not said
    #[arg(long, value_name = "ADDR")]
    p2p: Option<SocketAddr>,
    /// At most so long for all of it
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = units::duration)]
    wait: Duration,
}

/// What is true before anybody is asked.
struct Begun {
    charter: Charter,
    ceremony: Ceremony,
    target: PathBuf,
}

fn seat(data: &Path) -> Result<Seat> {
    let path = data.join("seat");
    let wrong = |why: String| {
        let next = "Name the folder that `runrig network founder` made as --data.";
        Failure::usage(format!("seat {}", path.display()), why, next)
    };
    let bytes = std::fs::read(&path).map_err(|e| wrong(e.to_string()))?;
    let seat = Seat::from_bytes(&bytes).map_err(|e| wrong(format!("{e:#}")))?;
    match seat.holds_share() {
        true => Err(wrong("it holds a share that was dealt to it".into())),
        false => Ok(seat),
    }
}

/// Errors: what must be put right first; nothing was changed. `None`: this founder is done.
fn begin(args: &Found, now_ms: u64) -> Result<Option<Begun>> {
    let charter = Charter::read(&args.charter)?;
    let seat = seat(&args.data)?;
    let digest = charter.digest();
    let what = || format!("charter {digest}");
    let Some(own) = charter.founder(&seat.key()) else {
        return Err(Failure::usage(
            what(),
            format!("the founder of {} is not in it", args.data.display()),
            format!("Name another --data, or hand its {FOUNDER_FILE} to who writes the charter."),
        ));
    };
    let said = read_founder(&args.data.join(FOUNDER_FILE))?;
    if said != *own {
        let json = |f| serde_json::to_string(f).unwrap_or_default();
        return Err(Failure::new(
            failure::CONFLICT,
            what(),
            "it says something else of this founder than its own public part",
            format!(
                "Hand {FOUNDER_FILE} to who writes the charter, and have a new one written: nothing was made."
            ),
        )
        .detailed(vec![
            format!("the charter: {}", json(own)),
            format!("{FOUNDER_FILE}: {}", json(&said)),
        ]));
    }
    if charter.time_ms > now_ms + AHEAD_MS_MAX {
        return Err(Failure::usage(
            what(),
            format!(
                "it was written at {}, which is still to come by this machine's clock",
                units::time(charter.time_ms)
            ),
            "Set the clock, or have the charter written anew on a machine whose clock is right.",
        ));
    }
    let target = args.data.join("network.json");
    let kept = args.data.join("founding").exists();
    if target.exists() {
        if network::read_file(&target)?.genesis != charter.genesis() {
            return Err(Failure::new(
                failure::CONFLICT,
                format!("{} exists", target.display()),
                "it is of another network than the charter's, and is not written over",
                "Name another --data, of a founder of this charter.",
            ));
        }
        if !kept {
            return Ok(None);
        }
    } else if args.data.join("vault").exists() && !kept {
        return Err(Failure::new(
            failure::CONFLICT,
            format!("vault {}", args.data.join("vault").display()),
            "this seat has shares of another network",
            "Make another founder by `runrig network founder`, in an empty folder, and a charter with it.",
        ));
    }
    let members = charter.founders.iter().map(|f| Member {
        key: f.key.0,
        address: f.p2p,
    });
    let ceremony = Ceremony {
        data: args.data.clone(),
        seat,
        listen: args.p2p.unwrap_or(own.p2p),
        founders: members.collect(),
        charter: digest,
        wait: args.wait,
    };
    Ok(Some(Begun {
        charter,
        ceremony,
        target,
    }))
}

/// Founders by the start of their keys, with their addresses.
fn named(charter: &Charter, keys: &[[u8; 32]]) -> String {
    let found = keys.iter().filter_map(|key| charter.founder(key));
    let named = found.map(|f| format!("{} at {}", validator_join::short(&f.key), f.p2p));
    let mut named: Vec<String> = named.take(NAMED_MAX).collect();
    if let more @ 1.. = keys.len().saturating_sub(NAMED_MAX) {
        named.push(format!("{more} more"));
    }
    named.join(", ")
}

fn told(charter: &Charter, step: Step<'_>) -> String {
    let all = charter.founders.len();
    match step {
        Step::Waits([]) => "all founders are heard".into(),
        Step::Waits(keys) => format!(
            "waits for {} of {all} founders: {}. Not running yet, not to be reached, with another charter than {}, or with a clock that is off by seconds",
            keys.len(),
            named(charter, keys),
            charter.digest()
        ),
        Step::Begins => "the founders make the network's key".into(),
        Step::Made([]) => "all founders have it".into(),
        Step::Made(keys) => format!(
            "the key is made and this founder's share kept; waits until {} have theirs",
            named(charter, keys)
        ),
    }
}

fn failed(args: &Found, charter: &Charter, error: FoundError) -> Failure {
    let what = format!("found network {}", charter.name);
    let again = format!(
        "runrig network found --charter {} --data {}",
        args.charter.display(),
        args.data.display()
    );
    match error {
        FoundError::Missing(keys) => Failure::new(
            failure::TIMED_OUT,
            what,
            format!(
                "{} of {} founders were not there in time: {}",
                keys.len(),
                charter.founders.len(),
                named(charter, &keys)
            ),
            format!(
                "Nothing was made. Ask them whether they run it, with charter {}, can be reached and have their clocks right; then run `{again}` again.",
                charter.digest()
            ),
        ),
        FoundError::Stalled(keys) => Failure::new(
            failure::TIMED_OUT,
            what,
            match keys.is_empty() {
                true => "it was begun, and is not done in time".into(),
                false => format!(
                    "it was begun, and these founders are gone: {}",
                    named(charter, &keys)
                ),
            },
            format!("Run `{again}` again, all of you: it goes on from where it is."),
        ),
        FoundError::Failed => Failure::new(
            failure::FAILED,
            what,
            "too few founders were connected all the time: there is no key",
            "Write a new charter with `runrig network charter`, and run with that.",
        ),
        FoundError::Differs(key) => Failure::new(
            failure::CONFLICT,
            what,
            format!(
                "founder {} has another network.json than this one",
                named(charter, &[key])
            ),
            "Compare versions of runrig and the files before anybody runs a validator; then write a new charter with new founders' folders.",
        ),
        FoundError::Other(error) => Failure::new(
            failure::FAILED,
            what,
            format!("{error:#}"),
            format!("Put that right, then run `{again}` again."),
        ),
    }
}

/// Writes the network file, or finds it there as it would be: its digest.
fn keep(target: &Path, file: &api::NetworkFile) -> anyhow::Result<Digest> {
    if !target.exists() {
        network::write_file(target, file).map_err(|f| anyhow::anyhow!("{f}"))?;
    }
    let kept: api::NetworkFile = serde_json::from_slice(&std::fs::read(target)?)?;
    anyhow::ensure!(
        kept == *file,
        "{} is there and says something else than what was made; it is not written over",
        target.display()
    );
    Ok(Digest::of(&std::fs::read(target)?))
}

pub fn run(args: &Found, json: bool) -> Result {
    // The engine's own words only when they are asked for.
    if std::env::var_os("RUST_LOG").is_some() {
        crate::roles::log();
    }
    let Some(begun) = begin(args, units::now_ms())? else {
        let target = args.data.join("network.json");
        return done(args, &Charter::read(&args.charter)?, &target, None, json);
    };
    let Begun {
        charter,
        ceremony,
        target,
    } = begun;
    output::say(format!(
        "charter {} of network {}",
        charter.digest(),
        charter.name
    ));
    let founded = consensus::found(
        &ceremony,
        |committee| keep(&target, &charter.network(committee)),
        |step| output::say(told(&charter, step)),
    )
    .map_err(|error| failed(args, &charter, error))?;
    done(args, &charter, &target, Some(founded), json)
}

/// What each founder compares. `founded`: unless it was done before.
fn done(
    args: &Found,
    charter: &Charter,
    target: &Path,
    founded: Option<Founded>,
    json: bool,
) -> Result {
    let file = network::read_file(target)?;
    let bytes = std::fs::read(target).map_err(anyhow::Error::from)?;
    let digest = Digest::of(&bytes);
    if json {
        let keys = |keys: &[[u8; 32]]| keys.iter().map(|k| PublicKey(*k)).collect::<Vec<_>>();
        output::json(&serde_json::json!({
            "network": file.genesis.digest(),
            "network_key": file.network_key,
            "network_file": target,
            "network_file_digest": digest,
            "charter": charter.digest(),
            "holds_share": founded.as_ref().map(|f| f.holds_share),
            "shown": founded.as_ref().map(|f| keys(&f.shown)),
            "silent": founded.as_ref().map(|f| keys(&f.silent)),
        }));
        return Ok(());
    }
    output::data(target.display());
    let mut lines = Vec::new();
    match &founded {
        None => lines.push("founded before; nothing was changed".into()),
        Some(founded) => {
            if !founded.holds_share {
                lines.push("this founder was away while the key was made and has no share: its validator votes after the first handing on".into());
            }
            if !founded.shown.is_empty() {
                lines.push(format!(
                    "the shares of {} were shown to all founders, as they were away for a moment: they are worth nothing after the first handing on, if fewer than a third of all are",
                    named(charter, &founded.shown)
                ));
            }
            if !founded.silent.is_empty() {
                lines.push(format!(
                    "{} did not say that they are done. If one of them is not, run this again together with it, or give it {}: its validator votes after the first handing on. When all are, remove {}: what the secret was made of lies there, sealed",
                    named(charter, &founded.silent),
                    target.display(),
                    args.data.join("founding").display()
                ));
            }
        }
    }
    lines.push(format!(
        "network {}, {}\nnetwork key {}\nnetwork.json {digest}\n\
         Compare these with all other founders, by a way that you trust. Then: runrig validator run --data {} --network {}",
        file.genesis.name,
        file.genesis.digest(),
        file.network_key,
        args.data.display(),
        target.display()
    ));
    lines.iter().for_each(output::say);
    Ok(())
}
