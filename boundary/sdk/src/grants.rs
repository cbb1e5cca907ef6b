//! Who may act for whom, asked of the ledger and remembered for a moment: for services that let
//! in whom an account lets in.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::Caller;
use ledger::account::{Grant, Role};
use types::AccountId;

use crate::client::Client;
use crate::error::SdkError;

/// What was taken back is over after so long.
const KEPT: Duration = Duration::from_secs(3);
const ACCOUNTS_MAX: usize = 4_096;
const PATIENCE: Duration = Duration::from_secs(5);

type Given = Arc<BTreeMap<AccountId, Grant>>;

/// Clones share what they remember.
#[derive(Clone, Debug)]
pub struct Grants {
    ledger: Client,
    known: Arc<Mutex<BTreeMap<AccountId, (Instant, Given)>>>,
}

impl Grants {
    pub fn new(ledger: Client) -> Self {
        Self {
            ledger,
            known: Arc::default(),
        }
    }

    /// Errors: the ledger does not answer.
    async fn given(&self, by: AccountId) -> Result<Given, SdkError> {
        {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((at, given)) = known.get(&by)
                && at.elapsed() < KEPT
            {
                return Ok(given.clone());
            }
        }
        let asked = tokio::time::timeout(PATIENCE, self.ledger.account(by)).await;
        let given = match asked.map_err(|_| SdkError::Late(PATIENCE.as_secs()))? {
            Ok(view) => Arc::new(view.grants),
            Err(error) if error.kind() == "not_found" => Given::default(),
            Err(error) => return Err(error),
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= ACCOUNTS_MAX {
            known.clear();
        }
        known.insert(by, (Instant::now(), given.clone()));
        Ok(given)
    }

    /// What `who` may do for `account`: its owner what he likes, others by a grant that is good
    /// at `now_ms`. Errors: the ledger does not answer.
    pub async fn role(
        &self,
        who: AccountId,
        account: AccountId,
        now_ms: u64,
    ) -> Result<Option<Role>, SdkError> {
        if who == account {
            return Ok(Some(Role::Owner));
        }
        let given = self.given(account).await?;
        let grant = given.get(&who).filter(|grant| grant.is_good(now_ms));
        Ok(grant.map(|grant| grant.role))
    }

    /// Whether who asks may do for `owner` what takes a role from `least` up: by himself, or by a
    /// grant, or through an account that has one. Errors: the ledger does not answer.
    pub async fn may(
        &self,
        caller: Caller,
        owner: AccountId,
        least: Role,
        now_ms: u64,
    ) -> Result<bool, SdkError> {
        let enough = |role: Option<Role>| role.is_some_and(|role| role <= least);
        if enough(self.role(caller.account, owner, now_ms).await?) {
            return Ok(true);
        }
        let Some(person) = caller.through else {
            return Ok(false);
        };
        // Both steps are to allow it.
        Ok(enough(self.role(caller.account, person, now_ms).await?)
            && enough(self.role(person, owner, now_ms).await?))
    }
}
