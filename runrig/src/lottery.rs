//! `lottery`: rounds that anyone may open, enter and check.

use api::LotteryView;
use clap::{Args, Subcommand};
use ledger::lottery::{Call, MILLION};
use types::{Amount, LotteryId};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;
use crate::proof;
use crate::verified;

/// How long `draw` waits for a beacon, and how often it looks.
const LOOKS_MAX: u32 = 900;
const LOOK: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  runrig lottery create summer --price 1 --prizes 60%,30% --close +200\n  runrig lottery enter l-1 --count 3\n  runrig lottery show l-1\n  runrig lottery export l-1 > round.json\n  runrig lottery verify round.json"
)]
pub enum Lottery {
    /// Open a round; a deposit of 1 credit comes back when it is over
    Create(Create),
    /// Buy entries
    Enter {
        lottery: LotteryId,
        #[arg(long, default_value_t = 1)]
        count: u32,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// Fix the entries before the close height (its owner only)
    Close { lottery: LotteryId },
    /// Wait until it is drawn or paid back, and show who won
    Draw {
        lottery: LotteryId,
        /// Say what is missing instead of waiting
        #[arg(long)]
        no_wait: bool,
    },
    /// Rounds, the latest first
    #[command(alias = "list")]
    Ls,
    /// One round: terms, entries, who won
    Show { lottery: LotteryId },
    /// All that proves a round, as a file for `verify`
    Export { lottery: LotteryId },
    /// Draw again from an exported file, trusting only the network key; needs no network
    Verify {
        file: std::path::PathBuf,
        /// The key to trust, hex; the context's if not said
        #[arg(long, value_name = "HEX")]
        network_key: Option<String>,
    },
}

#[derive(Args, Debug)]
pub struct Create {
    name: String,
    /// Of one entry, in credits
    #[arg(long)]
    price: Amount,
    /// Shares of the pot, the first prize first: 60%,30%; what is left is the owner's
    #[arg(long, value_delimiter = ',', required = true, value_parser = share)]
    prizes: Vec<u32>,
    /// What you add to the pot
    #[arg(long, default_value = "0")]
    stake: Amount,
    /// With fewer entries, all is paid back
    #[arg(long, default_value_t = 1)]
    min: u32,
    #[arg(long, default_value_t = 1_000)]
    max: u32,
    #[arg(long, default_value_t = 100)]
    per_account: u32,
    /// Height from which no more entries are taken, or +N: so many blocks from now
    #[arg(long, value_name = "HEIGHT|+N")]
    close: String,
    /// Drawn with the beacon of the first epoch that begins at this height or later
    #[arg(long, value_name = "HEIGHT|+N", default_value = "+0")]
    draw: String,
}

/// `12.5%` in millionths.
fn share(text: &str) -> std::result::Result<u32, String> {
    let bad = || format!("\"{text}\" is not a share: write for example 60% or 12.5%");
    let number = text.trim().strip_suffix('%').ok_or_else(bad)?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 3 || part.len() > 4 || !digits(whole) || !digits(part) {
        return Err(bad());
    }
    let millionths: u32 = format!("{whole}{part:0<4}").parse().map_err(|_| bad())?;
    if millionths > MILLION {
        return Err(bad());
    }
    Ok(millionths)
}

/// `1234`, or `+10` from `now`.
fn height(text: &str, now: u64, option: &str) -> Result<u64> {
    let (digits, from) = match text.strip_prefix('+') {
        Some(digits) => (digits, now),
        None => (text, 0),
    };
    let number: u64 = digits.parse().map_err(|_| {
        let why = format!("\"{text}\" is not a height");
        Failure::usage(
            option,
            why,
            "Write for example 1234, or +200 for 200 blocks from now.",
        )
    })?;
    Ok(from.saturating_add(number))
}

pub async fn run(session: &Session, command: &Lottery, json: bool) -> Result {
    match command {
        Lottery::Create(args) => create(session, args, json).await,
        Lottery::Enter {
            lottery,
            count,
            yes,
        } => enter(session, *lottery, *count, *yes, json).await,
        Lottery::Close { lottery } => {
            let call = Call::Close { lottery: *lottery };
            ask(session, call).await?;
            show(session, *lottery, json).await
        }
        Lottery::Draw { lottery, no_wait } => draw(session, *lottery, *no_wait, json).await,
        Lottery::Ls => ls(session, json).await,
        Lottery::Show { lottery } => show(session, *lottery, json).await,
        Lottery::Export { lottery } => {
            output::json(&session.client.lottery_export(*lottery).await?);
            Ok(())
        }
        Lottery::Verify { file, network_key } => {
            verify(session, file, network_key.as_ref(), json).await
        }
    }
}

async fn ask(session: &Session, call: Call) -> Result<api::TransactionView> {
    let call = ledger::Call::Lottery(call);
    Ok(session
        .client
        .submit_and_wait(&session.key()?, call)
        .await?)
}

async fn create(session: &Session, args: &Create, json: bool) -> Result {
    let now = session.client.status().await?.height;
    let close_height = height(&args.close, now, "--close")?;
    let draw_height = height(&args.draw, now, "--draw")?.max(close_height);
    let call = Call::Create {
        name: args.name.clone(),
        price: args.price,
        stake: args.stake,
        prizes: args.prizes.clone(),
        entries_min: args.min,
        entries_max: args.max,
        per_account_max: args.per_account.min(args.max),
        close_height,
        draw_height,
    };
    let applied = ask(session, call).await?;
    let made = applied.events.iter().find_map(|event| match event {
        ledger::Event::Lottery(ledger::lottery::Event::Created { lottery, .. }) => Some(*lottery),
        _ => None,
    });
    let id = made.ok_or_else(|| {
        let next = "See `runrig lottery ls`.";
        Failure::new(
            failure::FAILED,
            "lottery create",
            "its block does not name the round",
            next,
        )
    })?;
    if output::ids_only() {
        output::data(id);
        return Ok(());
    }
    show(session, id, json).await
}

async fn enter(session: &Session, id: LotteryId, count: u32, yes: bool, json: bool) -> Result {
    let view = session.client.lottery(id).await?;
    let price = Amount(view.round.terms.price.0.saturating_mul(count.into()));
    if !yes {
        let name = output::printable(&view.round.terms.name);
        let question = format!("Pay {price} credits for {count} entries in {id} ({name})?");
        output::confirm(&question, "lottery enter").await?;
    }
    let applied = ask(session, Call::Enter { lottery: id, count }).await?;
    let bought = applied.events.iter().find_map(|event| match event {
        ledger::Event::Lottery(ledger::lottery::Event::Entered { first, count, .. }) => {
            Some((*first, *count))
        }
        _ => None,
    });
    let (first, count) = bought.unwrap_or((0, count));
    if json {
        output::json(&serde_json::json!({
            "lottery": id, "first": first, "count": count, "paid": price,
            "transaction": applied.id, "height": applied.height,
        }));
    } else {
        let last = first + count.saturating_sub(1);
        output::data(format!(
            "{id}: entries {first} to {last} are yours, for {price} credits"
        ));
    }
    Ok(())
}

async fn draw(session: &Session, id: LotteryId, no_wait: bool, json: bool) -> Result {
    let mut view = session.client.lottery(id).await?;
    for _ in 0..LOOKS_MAX {
        if view.round.over_at.is_some() || no_wait {
            break;
        }
        tokio::time::sleep(LOOK).await;
        view = session.client.lottery(id).await?;
    }
    if view.round.over_at.is_none() {
        // The ledger says what is missing; if nothing is, it draws.
        ask(session, Call::Draw { lottery: id }).await?;
    }
    show(session, id, json).await
}

/// Rounds, verified if that is asked for.
async fn read(
    session: &Session,
    fetch: impl AsyncFn() -> Result<Vec<LotteryView>>,
) -> Result<Vec<LotteryView>> {
    verified::read(session, fetch, async |verifier, all| {
        let rows: Vec<_> = all.iter().map(|view| (view.lottery, view)).collect();
        verifier.rows("lotteries", &rows).await
    })
    .await
}

async fn ls(session: &Session, json: bool) -> Result {
    let all = read(session, async || Ok(session.client.lotteries().await?)).await?;
    if output::ids_only() {
        all.iter().for_each(|v| output::data(v.lottery));
        return Ok(());
    }
    if json {
        output::json(&all);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|v| {
            vec![
                v.lottery.to_string(),
                output::printable(&v.round.terms.name),
                crate::ps::word(&v.round.phase),
                v.round.terms.price.to_string(),
                v.round.entries.to_string(),
                v.pot.to_string(),
                v.round.terms.close_height.to_string(),
            ]
        })
        .collect();
    let headers = [
        "LOTTERY",
        "NAME",
        "STATE",
        "PRICE",
        "ENTRIES",
        "POT",
        "CLOSES AT",
    ];
    output::data(output::table(&headers, &rows, &[3, 4, 5, 6]));
    Ok(())
}

async fn show(session: &Session, id: LotteryId, json: bool) -> Result {
    let one = async || Ok(vec![session.client.lottery(id).await?]);
    let Some(view) = read(session, one).await?.pop() else {
        return Ok(());
    };
    if json {
        output::json(&view);
        return Ok(());
    }
    let (round, terms) = (&view.round, &view.round.terms);
    output::data(format!(
        "{id} {} is {}: {} entries at {} credits, {} in the pot",
        output::printable(&terms.name),
        crate::ps::word(&round.phase),
        round.entries,
        terms.price,
        view.pot
    ));
    match (round.closed_at, &round.root) {
        (Some(height), Some(root)) => output::data(format!(
            "closed at height {height}, entries fixed by {}",
            root.hex()
        )),
        _ => output::data(format!("closes at height {}", terms.close_height)),
    }
    match &round.draw {
        None if round.over_at.is_some() => output::data(format!(
            "fewer than {} had entered: each has its price back",
            terms.entries_min
        )),
        None => output::data(format!(
            "drawn with the beacon of epoch {}, which begins at height {}",
            view.draw_epoch, view.draw_from
        )),
        Some(draw) => {
            output::data(format!(
                "drawn with the beacon of epoch {}, told at height {}: {}",
                draw.epoch,
                draw.told_at,
                draw.beacon.hex()
            ));
            let rows: Vec<Vec<String>> = (1..)
                .zip(&draw.wins)
                .map(|(place, win): (u32, _)| {
                    vec![
                        place.to_string(),
                        win.entry.to_string(),
                        win.account.to_string(),
                        win.amount.to_string(),
                    ]
                })
                .collect();
            let headers = ["PRIZE", "ENTRY", "ACCOUNT", "CREDITS"];
            output::data(output::table(&headers, &rows, &[0, 1, 3]));
            output::data(format!("{} to its owner: what no prize took", draw.rest));
        }
    }
    Ok(())
}

async fn verify(
    session: &Session,
    path: &std::path::Path,
    key: Option<&String>,
    json: bool,
) -> Result {
    let key = proof::trusted_key(session, key).await?;
    let wrong = |why: String| {
        Failure::usage(
            format!("round {}", path.display()),
            why,
            "Name a file that `runrig lottery export` made.",
        )
    };
    let text = std::fs::read_to_string(path).map_err(|e| wrong(e.to_string()))?;
    let export: api::LotteryExport =
        serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
    let steps = sdk::verify_lottery(&key, &export);
    let verified = steps.iter().all(|s| s.good);
    if json {
        output::json(&serde_json::json!({
            "lottery": export.lottery, "verified": verified, "steps": steps,
        }));
    } else {
        proof::tell(&steps);
    }
    proof::verdict(
        verified,
        &steps,
        format!("round {} does not hold", export.lottery),
        "Do not trust who made the file; export it anew from another with --url.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_heights_are_read() {
        assert_eq!(share("60%"), Ok(600_000));
        assert_eq!(share("12.5%"), Ok(125_000));
        assert_eq!(share("0.0001%"), Ok(1));
        assert_eq!(share("100%"), Ok(MILLION));
        for bad in ["60", "%", "101%", "-1%", "1.23456%", "a%", "1000%"] {
            assert!(share(bad).is_err(), "{bad}");
        }
        assert_eq!(height("7", 100, "--close").ok(), Some(7));
        assert_eq!(height("+7", 100, "--close").ok(), Some(107));
        assert!(height("soon", 100, "--close").is_err());
    }
}
