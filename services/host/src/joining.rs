//! For whom this host registers, and what shows that its owner asked for it.

use std::time::Duration;

use anyhow::{Result, bail};
use ledger::host::Invitation;
use sdk::SdkError;
use tokio::time::Instant;
use types::{AccountId, SecretKey};

use crate::config::Config;
use crate::ledger_link::LedgerLink;

/// A validator that lags behind may not know a token yet that was made a moment ago.
const UNKNOWN: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// Who is paid: whom the configuration names, or its token; else whoever owns the host already.
///
/// Returns when the network has answered.
///
/// Errors: the token lets nobody in.
pub async fn owner(config: &Config, link: &LedgerLink) -> Result<(AccountId, Option<Invitation>)> {
    if let Some(owner) = config.owner {
        return Ok((owner, None));
    }
    let began = Instant::now();
    let mut pause = PAUSE_MIN;
    loop {
        match asked(config.token.as_ref(), link).await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) if began.elapsed() > UNKNOWN => bail!(
                "the token lets no machine join: one has joined with it, its time is over, or it was \
                 never made on this network. Make another with `runrig host invite`, or on the \
                 portal's page /hosts/new"
            ),
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, network = %config.network, "the network does not answer yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// `None`: there is no such token.
async fn asked(
    token: Option<&SecretKey>,
    link: &LedgerLink,
) -> Result<Option<(AccountId, Option<Invitation>)>, SdkError> {
    let client = link.client();
    let known = match client.host(&link.host.to_string()).await {
        Ok(host) => Some(host),
        Err(SdkError::Refused(problem)) if problem.kind == "not_found" => None,
        Err(error) => return Err(error),
    };
    let Some(secret) = token else {
        return Ok(Some((known.map_or(link.host, |host| host.owner), None)));
    };
    let id = AccountId::of(&secret.public());
    // It has joined with it already: the agent has only started anew.
    if let Some(host) = known.filter(|host| host.joined.is_some_and(|j| j.token == id)) {
        return Ok(Some((host.owner, None)));
    }
    let Some(open) = client.token(id).await? else {
        return Ok(None);
    };
    let network = client.status().await?.network;
    let invitation = Invitation::of(secret, &network, &link.host);
    Ok(Some((open.owner, Some(invitation))))
}
