//! Keep this validator's entry on the ledger fresh: its ticket, and where it is.
//!
//! Asked of the other validators rather than of this one's own head, which may be behind.

use std::time::Duration;

use api::{MemberView, MembersView};
use sdk::Client;
use types::{AccountId, SecretKey};

/// Where others find this validator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// `ip:port` of the peer listener.
    pub address: String,
    /// URL of the HTTP API.
    pub api: String,
}

const LOOK: Duration = Duration::from_secs(5);
/// After a renewal was refused, and while nobody answers.
const AGAIN: Duration = Duration::from_secs(60);

/// Whether `member` should say anew who and where it is: when half of its ticket's time is gone,
/// or it has moved.
pub fn is_due(view: &MembersView, member: &MemberView, at: &Whereabouts) -> bool {
    let ahead = view.epoch + ledger::lots::AHEAD;
    let worn = member.until < ahead.saturating_add(view.ticket_epochs / 2);
    // A founder need not say at once what the network file says.
    let moved = member.address != at.address || !member.api.is_empty() && member.api != at.api;
    let fresher = view
        .ticket
        .as_ref()
        .is_some_and(|t| t.epoch + view.ticket_epochs > member.until);
    member.leaving.is_none() && (moved || worn && fresher)
}

/// Renews for as long as it runs.
pub async fn keep(urls: Vec<String>, identity: SecretKey, at: Whereabouts) {
    let mut wait = LOOK;
    loop {
        tokio::time::sleep(wait).await;
        wait = match renew(&urls, &identity, &at).await {
            Ok(()) => LOOK,
            Err(error) => {
                tracing::warn!(%error, "this validator's ticket is not renewed: it may lose its seat");
                AGAIN
            }
        };
    }
}

async fn renew(
    urls: &[String],
    identity: &SecretKey,
    at: &Whereabouts,
) -> Result<(), sdk::SdkError> {
    let client = Client::new(urls.iter().cloned())?;
    let view = client.members().await?;
    let key = identity.public();
    let Some(member) = view.members.iter().find(|m| m.key == key) else {
        return Ok(());
    };
    // A bond that has become too small is its owner's to fill up.
    let own = member.owner == AccountId::of(&key);
    if !is_due(&view, member, at) || member.bond < view.bond && !own {
        return Ok(());
    }
    if member.bond < view.bond {
        let purse = client.account(member.owner).await?.balance;
        if purse.0 + member.bond.0 < view.bond.0 {
            return Ok(());
        }
    }
    client
        .register_validator(identity, identity, &at.address, &at.api)
        .await?;
    tracing::info!("this validator's ticket is renewed");
    Ok(())
}
