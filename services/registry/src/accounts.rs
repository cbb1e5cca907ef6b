//! Who exists on the ledger. Reading needs no ledger; writing does.

use std::collections::BTreeSet;
use std::sync::Mutex;

use api::Caller;
use ledger::account::Role;
use types::AccountId;

use crate::answer::{Refused, refused};
use crate::builders::Builders;
use crate::limits::{ACCOUNTS_REMEMBERED_MAX, LEDGER_TIME};

pub struct Accounts {
    ledger: Option<sdk::Client>,
    grants: Option<sdk::Grants>,
    /// An account never goes away.
    known: Mutex<BTreeSet<AccountId>>,
    builders: Builders,
}

fn unavailable(why: String) -> Refused {
    tracing::warn!(why, "the ledger cannot be asked for an account");
    refused(503, "UNKNOWN", "the ledger does not answer").with("retry-after", "5")
}

impl Accounts {
    /// Without URLs every account counts as existing.
    pub fn new(network: &[String]) -> anyhow::Result<Self> {
        let ledger = match network {
            [] => None,
            urls => Some(sdk::Client::new(urls.iter().cloned())?),
        };
        Ok(Self {
            grants: ledger.clone().map(sdk::Grants::new),
            ledger,
            known: Mutex::default(),
            builders: Builders::default(),
        })
    }

    /// May who asks do for `owner` what takes a role from `least` up? Himself he may.
    ///
    /// Errors: the ledger does not answer (the client may try again).
    pub async fn lets(
        &self,
        caller: Caller,
        owner: AccountId,
        least: Role,
    ) -> Result<bool, Refused> {
        match &self.grants {
            _ if caller.account == owner => Ok(true),
            None => Ok(false),
            Some(grants) => {
                let may = grants.may(caller, owner, least, api::now_ms());
                may.await.map_err(|e| unavailable(e.to_string()))
            }
        }
    }

    /// Does the ledger let `host` write this for `owner`? See [`Builders`].
    ///
    /// Errors: the ledger does not answer (the client may try again).
    pub async fn builds(
        &self,
        host: AccountId,
        owner: AccountId,
        repository: &str,
        tag: Option<&str>,
    ) -> Result<bool, Refused> {
        let Some(ledger) = &self.ledger else {
            return Ok(false);
        };
        self.builders
            .may_write(ledger, host, owner, repository, tag)
            .await
            .map_err(unavailable)
    }

    /// The account has had credits or done something.
    ///
    /// Errors: it has not; the ledger does not answer (the client may try again).
    pub async fn must_exist(&self, account: AccountId) -> Result<(), Refused> {
        let Some(ledger) = &self.ledger else {
            return Ok(());
        };
        if self.known.lock().expect("not poisoned").contains(&account) {
            return Ok(());
        }
        let view = tokio::time::timeout(LEDGER_TIME, ledger.account(account))
            .await
            .map_err(|_| unavailable("no answer in time".into()))?
            .map_err(|e| unavailable(e.to_string()))?;
        if view.nonce == 0 && view.balance == types::Amount::default() {
            let why = format!(
                "there is no account {account} on the ledger; it begins with its first credits (`runrig wallet topup` on a test network)"
            );
            return Err(refused(403, "DENIED", why));
        }
        let mut known = self.known.lock().expect("not poisoned");
        if known.len() >= ACCOUNTS_REMEMBERED_MAX {
            known.clear();
        }
        known.insert(account);
        Ok(())
    }
}
