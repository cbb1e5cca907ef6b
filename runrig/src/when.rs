//! `chain when`, `chain duties`: the time that validators agree on, and what they do for it.

use crate::context::Session;
use crate::failure::Result;
use crate::output;
use crate::proof;
use crate::units;

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

pub async fn duties(session: &Session, epoch: Option<u64>, json: bool) -> Result {
    let epoch = match epoch {
        Some(epoch) => epoch,
        None => {
            let blocks = session.client.params().await?.epoch_blocks.max(1);
            session.client.status().await?.height / blocks
        }
    };
    let view = session.client.duties(epoch).await?;
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
