//! Have the bond with which a host enters the network.

use std::time::Duration;

use ledger::{Call, account};
use sdk::SdkError;
use types::Amount;

use crate::config::Config;
use crate::ledger_link::LedgerLink;

const AGAIN: Duration = Duration::from_secs(3);

/// Returns once this host's account can pay the bond, or has paid it. A test network's gift to
/// newcomers is taken for it; else somebody must send it, and is told so.
pub async fn have(config: &Config, link: &LedgerLink) {
    let mut told = Amount::ZERO;
    let mut pause = Duration::from_millis(200);
    loop {
        let lacks = match lacks(link).await {
            Ok(lacks) if lacks.is_zero() => return,
            Ok(lacks) => lacks,
            Err(error) => {
                tracing::warn!(%error, network = %config.network, "the network does not answer yet");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN);
                continue;
            }
        };
        if lacks != told {
            tracing::warn!(
                "host {} lacks {lacks} credits of the bond that it enters with: send them, `runrig wallet send {} {lacks}`; it waits",
                config.name,
                link.host
            );
            told = lacks;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// After the gift was taken, if there is one.
async fn lacks(link: &LedgerLink) -> Result<Amount, SdkError> {
    let client = link.client();
    let bond = client.params().await?.host_bond;
    let is_known = || async { client.host(&link.host.to_string()).await.is_ok() };
    if bond.is_zero() || is_known().await {
        return Ok(Amount::ZERO);
    }
    let account = client.account(link.host).await?;
    let lacks = bond.saturating_sub(account.spendable);
    if lacks.is_zero() || account.gift < lacks {
        return Ok(lacks);
    }
    let gift = Call::Account(account::Call::Faucet { to: link.host });
    link.submit(gift).await?;
    Ok(Amount::ZERO)
}
