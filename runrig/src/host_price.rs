//! `host price`: what part of the network's rates a host asks.

use clap::Args;
use ledger::Call;

use crate::context::Session;
use crate::failure::Result;
use crate::output;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig host price rack-7 80 --key /var/lib/runrig/host.key\n  runrig host price rack-7 100\n\nReplicas that run there keep the rates that they began with."
)]
pub struct Price {
    /// Host, by name or id
    host: String,
    /// Percent of the network's rates: 50 to 100
    #[arg(value_parser = thousandths)]
    percent: u32,
}

/// `72.5` percent are 725 thousandths.
fn thousandths(text: &str) -> std::result::Result<u32, String> {
    let wrong = || "write a number from 50 to 100, such as 80 or 72.5".to_string();
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    if whole.len() > 3 || tenth.len() != 1 {
        return Err(wrong());
    }
    let whole: u32 = whole.parse().map_err(|_| wrong())?;
    let tenth: u32 = tenth.parse().map_err(|_| wrong())?;
    let milli = whole * 10 + tenth;
    match milli {
        500..=1_000 => Ok(milli),
        _ => Err(wrong()),
    }
}

/// For leases that begin from now on.
pub async fn price(session: &Session, args: &Price, json: bool) -> Result {
    let host = session.client.host(&args.host).await?;
    let call = Call::Host(ledger::host::Call::SetPrice {
        host: host.host,
        price_multiplier_milli: args.percent,
    });
    session.submit(call).await?;
    let host = session.client.host(&host.host.to_string()).await?;
    if json {
        output::json(&host);
        return Ok(());
    }
    output::say(format!(
        "{} asks {} for what begins there from now on; what runs keeps its rates",
        host.name,
        words(host.offer.price_multiplier_milli)
    ));
    Ok(())
}

/// `72.5 %`
pub fn words(milli: u32) -> String {
    match milli % 10 {
        0 => format!("{} %", milli / 10),
        tenth => format!("{}.{tenth} %", milli / 10),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_a_part_of_the_networks_rates() {
        assert_eq!(thousandths("80"), Ok(800));
        assert_eq!(thousandths("72.5"), Ok(725));
        assert_eq!(thousandths("100"), Ok(1_000));
        for text in [
            "",
            "49",
            "49.9",
            "100.1",
            "72.55",
            "-5",
            "8e1",
            "99999999999",
        ] {
            assert!(thousandths(text).is_err(), "{text}");
        }
        assert_eq!((words(725), words(800)), ("72.5 %".into(), "80 %".into()));
    }
}
