//! `chain when`, `chain duties`: the time that validators agree on, and what they do for it.

use api::{BlockView, TransactionStatus, TransactionView, WhenView};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use light::Header;

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;
use crate::proof;
use crate::units;
use crate::verified;

const UNVERIFIED: &str = "what was answered is not verified";
const ELSEWHERE: &str = "Ask another gateway or validator with --url.";

pub async fn when(session: &Session, what: &str, key: Option<&String>, json: bool) -> Result {
    let key = proof::trusted_key(session, key).await?;
    let view = session.client.when(what).await?;
    let steps = sdk::verify_when(&key, what, &view);
    let verified = steps.iter().all(|s| s.good);
    if json {
        output::json(&serde_json::json!({
            "what": what, "height": view.height, "verified": verified,
            "not_before_ms": view.not_before_ms, "not_after_ms": view.not_after_ms,
            "steps": steps,
        }));
    } else {
        output::data(format!("not before {}", units::time(view.not_before_ms)));
        match view.not_after_ms {
            Some(ms) => output::data(format!("not after  {}", units::time(ms))),
            None => output::data("not after  is told by the blocks to come: ask again"),
        }
        proof::tell(&steps);
    }
    proof::verdict(
        verified,
        &steps,
        "these times do not hold",
        "Do not trust who served them; ask another with --url.",
    )
}

/// Whether what `view` says came of a transaction is what a certified block says.
///
/// Errors: it is not.
pub async fn came(session: &Session, view: &TransactionView) -> Result {
    let what = view.id.to_string();
    let proof = certified(session, &what).await?;
    let shown = proof.transaction.as_ref().and_then(sdk::outcome).flatten();
    let good = shown.is_some_and(|outcome| {
        let applied = view.status == TransactionStatus::Applied;
        view.height == Some(proof.height)
            && view.fee == outcome.fee
            && view.rejection == outcome.rejection
            && applied == outcome.rejection.is_none()
    });
    agreed(good, "the certified outcome")
}

/// Whether `view` is of a certified block.
///
/// Errors: it is not.
pub async fn made(session: &Session, view: &BlockView) -> Result {
    let proof = certified(session, &view.height.to_string()).await?;
    let header = BASE64.decode(&proof.made.header).unwrap_or_default();
    let good = Header::from_bytes(&header).is_ok_and(|header| {
        header.digest() == view.block
            && header.parent == view.parent
            && header.time_ms == view.time_ms
            && header.state_root == view.state_root
            && header.events_root == view.events_root
    });
    agreed(good, "the certified header")?;
    if !view.transactions.is_empty() {
        output::say("Its transactions are checked one by one: `runrig --verify chain tx ID`.");
    }
    Ok(())
}

/// What proves it, all steps told.
async fn certified(session: &Session, what: &str) -> Result<WhenView> {
    let key = proof::trusted_key(session, None).await?;
    let view = session.client.when(what).await?;
    let steps = sdk::verify_when(&key, what, &view);
    for step in steps.iter().filter(|step| step.good) {
        output::say(format!("✓ {}", step.what));
    }
    let verified = steps.iter().all(|step| step.good);
    proof::verdict(verified, &steps, UNVERIFIED, ELSEWHERE)?;
    Ok(view)
}

fn agreed(good: bool, with: &str) -> Result {
    match good {
        true => Ok(()),
        false => Err(Failure::new(
            failure::SIGNATURE,
            UNVERIFIED,
            format!("{with} says otherwise"),
            ELSEWHERE,
        )),
    }
}

pub async fn duties(session: &Session, epoch: Option<u64>, json: bool) -> Result {
    let epoch = match epoch {
        Some(epoch) => epoch,
        None => {
            let blocks = session.client.params().await?.epoch_blocks.max(1);
            session.client.status().await?.height / blocks
        }
    };
    let fetch = async || Ok(session.client.duties(epoch).await?);
    let view = verified::read(session, fetch, async |verifier, view| {
        verifier.rows("duties", &[(epoch, view)]).await
    })
    .await?;
    if json {
        output::json(&view);
        return Ok(());
    }
    let so_far = if view.ended { "" } else { ", so far" };
    output::data(format!(
        "epoch {epoch}{so_far}: {} credits of fees",
        view.fees
    ));
    let rows: Vec<Vec<String>> = view
        .validators
        .iter()
        .map(|v| {
            vec![
                v.key.to_string().chars().take(12).collect(),
                v.led.to_string(),
                v.stated.to_string(),
                v.off.to_string(),
                if v.dealt { "yes" } else { "" }.into(),
                v.witnessed.to_string(),
                v.screened.to_string(),
                v.earned.to_string(),
            ]
        })
        .collect();
    let headers = [
        "VALIDATOR",
        "LED",
        "CLOCK USED",
        "CLOCK OFF",
        "DEALT",
        "WITNESSED",
        "SCREENED",
        "EARNED",
    ];
    output::data(output::table(&headers, &rows, &[1, 2, 3, 5, 6, 7]));
    Ok(())
}
