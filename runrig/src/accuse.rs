//! `validator accuse`: prove that a leader made two blocks for one view.

use std::path::PathBuf;

use clap::Args;
use types::DoubleProposal;

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::output;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  curl -s $URL/v1/validators/doubles > double.json && runrig validator accuse double.json\n\nValidators accuse by themselves whom they saw; this is for what was seen elsewhere. Who is first gets a tenth of the bond, the network's fund the rest."
)]
pub struct Accuse {
    /// Two seals of one leader for one view, as JSON, or a list of such
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

fn read(args: &Accuse) -> Result<Vec<DoubleProposal>> {
    let wrong = |why: String| {
        Failure::usage(
            format!("proof {}", args.file.display()),
            why,
            "Name a file with what a validator answers at /v1/validators/doubles.",
        )
    };
    let text = std::fs::read_to_string(&args.file).map_err(|e| wrong(e.to_string()))?;
    let one = serde_json::from_str(&text).map(|one| vec![one]);
    let all: Vec<DoubleProposal> = one
        .or_else(|_| serde_json::from_str(&text))
        .map_err(|e| wrong(e.to_string()))?;
    match all.is_empty() {
        true => Err(wrong("it accuses nobody".into())),
        false => Ok(all),
    }
}

pub async fn run(session: &Session, args: &Accuse, json: bool) -> Result {
    let doubles = read(args)?;
    let network = session.client.status().await?.network;
    for double in &doubles {
        double.check(&network).map_err(|why| {
            Failure::usage(
                format!("proof {}", args.file.display()),
                why.to_string(),
                "Two seals convict: of one leader, for one view, on two blocks, on this network.",
            )
        })?;
    }
    let key = session.key()?;
    for double in doubles {
        let applied = session.client.accuse_validator(&key, double).await?;
        if json {
            output::json(&applied);
            continue;
        }
        output::data(double.leader);
        output::say(format!(
            "validator {} is convicted; `runrig validator status` says what it lost",
            double.leader
        ));
    }
    Ok(())
}
