//! `lots`: who was drawn to vote, and whether rightly.

use api::LotsView;
use clap::{Args, Subcommand};
use ledger::Genesis;
use serde::{Deserialize, Serialize};

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::output;
use crate::proof;

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  runrig lots show\n  runrig lots show 7 --json > seven.json\n  runrig lots verify 7\n  runrig lots verify 7 --file seven.json\n  runrig lots odds"
)]
pub enum Lots {
    /// Who may be drawn for an epoch, by what chance, and who was; the latest drawn if not said
    Show { epoch: Option<u64> },
    /// Draw again, from certified headers alone, and compare
    Verify(Verify),
    /// How likely a committee is drawn in which more than a third are bad
    Odds(crate::odds::Odds),
}

#[derive(Args, Debug)]
pub struct Verify {
    epoch: u64,
    /// What `lots show --json` said, instead of asking
    #[arg(long)]
    file: Option<std::path::PathBuf>,
    /// The key to trust, hex; the context's if not said
    #[arg(long, value_name = "HEX")]
    network_key: Option<String>,
}

/// A drawing, and what the network began with: all that its check needs beside the network's key.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    view: &'a LotsView,
    genesis: Genesis,
}

/// Of the same, what is no part of the view.
#[derive(Deserialize)]
struct Beside {
    genesis: Genesis,
}

pub async fn run(session: &Session, command: &Lots, json: bool) -> Result {
    match command {
        Lots::Show { epoch } => show(session, *epoch, json).await,
        Lots::Verify(args) => verify(session, args, json).await,
        Lots::Odds(args) => crate::odds::run(args, json),
    }
}

async fn show(session: &Session, epoch: Option<u64>, json: bool) -> Result {
    let epoch = match epoch {
        Some(epoch) => epoch,
        None => {
            let blocks = session.client.params().await?.epoch_blocks.max(1);
            let height = session.client.status().await?.height;
            // Decided in the middle of an epoch, for the third after it.
            let ahead = ledger::lots::AHEAD - u64::from(height % blocks < blocks / 2);
            height / blocks + ahead
        }
    };
    let view = session.client.lots(epoch).await?;
    if json {
        let genesis = session.client.network().await?.genesis;
        let view = &view;
        output::json(&Shown { view, genesis });
        return Ok(());
    }
    output::data(format!(
        "epoch {epoch}: {} candidates for {} seats at most (root {})",
        view.candidates.len(),
        view.seats,
        lots::candidates_root(&view.candidates, lots::Rules::of(view.seats)).hex()
    ));
    match (&view.beacon, &view.lineup) {
        (Some(beacon), _) => output::data(format!("beacon {}", beacon.hex())),
        (None, None) => output::data("no beacon yet"),
        (None, Some(_)) => output::data("no beacon was used: those who sat go on"),
    }
    let Some(lineup) = &view.lineup else {
        output::data("the lot has not fallen");
        return Ok(());
    };
    let seated = lineup.committee.iter().enumerate().map(|(at, seat)| {
        vec![
            (at + 1).to_string(),
            seat.key.to_string().chars().take(12).collect(),
            seat.address.clone(),
            format!("sits since epoch {}", seat.since),
        ]
    });
    let others = lineup.payroll.iter().enumerate().map(|(at, key)| {
        vec![
            (lineup.committee.len() + at + 1).to_string(),
            key.to_string().chars().take(12).collect(),
            String::new(),
            "other duties".into(),
        ]
    });
    let rows: Vec<Vec<String>> = seated.chain(others).collect();
    output::data(output::table(
        &["PLACE", "VALIDATOR", "ADDRESS", "DUTY"],
        &rows,
        &[0],
    ));
    let witnesses = lots::witnesses(lineup, &view.beacon.unwrap_or_default());
    let short = |keys: Vec<types::PublicKey>| -> Vec<String> {
        let names = keys.iter().map(|key| key.to_string());
        names.map(|name| name.chars().take(12).collect()).collect()
    };
    let names = short(witnesses);
    output::data(format!(
        "witnesses of hosts, in the order drawn ({} flag one): {}",
        lots::quorum(names.len()),
        names.join(" ")
    ));
    let screeners = short(lots::screeners(lineup, &view.beacon.unwrap_or_default()));
    output::data(match screeners.is_empty() {
        true => "no screeners: all candidates sit".into(),
        false => format!(
            "screeners of transactions, in the order drawn: {}",
            screeners.join(" ")
        ),
    });
    Ok(())
}

async fn verify(session: &Session, args: &Verify, json: bool) -> Result {
    let key = proof::trusted_key(session, args.network_key.as_ref()).await?;
    let (view, genesis) = match &args.file {
        None => {
            let view = session.client.lots(args.epoch).await?;
            (view, session.client.network().await?.genesis)
        }
        Some(path) => {
            let wrong = |why: String| {
                Failure::usage(
                    format!("drawing {}", path.display()),
                    why,
                    "Name a file that `runrig lots show EPOCH --json` made.",
                )
            };
            let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
            let view: LotsView = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
            if view.epoch != args.epoch {
                return Err(wrong(format!("it is of epoch {}", view.epoch)));
            }
            let beside: Beside = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
            (view, beside.genesis)
        }
    };
    let steps = sdk::verify_lots(&key, &genesis, &view);
    let verified = steps.iter().all(|s| s.good);
    if json {
        output::json(&serde_json::json!({
            "epoch": args.epoch, "verified": verified, "steps": steps,
        }));
    } else {
        proof::tell(&steps);
    }
    proof::verdict(
        verified,
        &steps,
        format!("the drawing of epoch {} does not hold", args.epoch),
        "Do not trust who served it; ask another with --url.",
    )
}
