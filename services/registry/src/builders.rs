//! Hosts that build for an account: they may write what the ledger says that they build.
//!
//! A host signs with its own key. Whose image it makes, and under which names, stands in what
//! is placed on it; once that is taken from it, it may write no more.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Instant;

use api::HostPlan;
use types::AccountId;

use crate::limits::{BUILDERS_REMEMBERED_MAX, BUILDERS_TIME, LEDGER_TIME};

/// Of a host: owner and `name:tag` of each image that it builds.
type Grants = Vec<(AccountId, String)>;

#[derive(Default)]
pub struct Builders {
    known: Mutex<BTreeMap<AccountId, (Instant, Grants)>>,
}

/// What the host of this plan may write.
fn grants(plan: &HostPlan) -> Grants {
    let mut all = Grants::new();
    for placed in &plan.allocations {
        if let Some(build) = &placed.spec.build {
            all.extend(build.outputs.iter().map(|o| (placed.owner, o.clone())));
        }
    }
    all
}

fn covers(grants: &Grants, owner: AccountId, repository: &str, tag: Option<&str>) -> bool {
    grants.iter().any(|(account, output)| {
        let (name, named) = output.split_once(':').unwrap_or((output, ""));
        *account == owner && name == repository && tag.is_none_or(|tag| tag == named)
    })
}

impl Builders {
    /// May `host` write to `repository` (without the account in front) of `owner`? With a
    /// `tag`: that one of it?
    ///
    /// Asks the ledger unless it did a moment ago. Errors: why it cannot be asked.
    pub async fn may_write(
        &self,
        ledger: &sdk::Client,
        host: AccountId,
        owner: AccountId,
        repository: &str,
        tag: Option<&str>,
    ) -> Result<bool, String> {
        {
            let known = self.known.lock().expect("not poisoned");
            if let Some((at, grants)) = known.get(&host)
                && at.elapsed() < BUILDERS_TIME
                && covers(grants, owner, repository, tag)
            {
                return Ok(true);
            }
        }
        let plan = match tokio::time::timeout(LEDGER_TIME, ledger.host_plan(host, 0, 0)).await {
            Ok(Ok(plan)) => plan,
            // No host at all.
            Ok(Err(error)) if error.kind() == "not_found" => return Ok(false),
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("no answer in time".into()),
        };
        let grants = grants(&plan);
        let may = covers(&grants, owner, repository, tag);
        let mut known = self.known.lock().expect("not poisoned");
        if known.len() >= BUILDERS_REMEMBERED_MAX {
            known.clear();
        }
        known.insert(host, (Instant::now(), grants));
        Ok(may)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_builder_writes_only_what_it_builds() {
        let (owner, other) = (AccountId([1; 20]), AccountId([2; 20]));
        let grants = vec![(owner, "shop-web:latest".to_string())];
        for (account, repository, tag, may) in [
            (owner, "shop-web", None, true),
            (owner, "shop-web", Some("latest"), true),
            (owner, "shop-web", Some("1.0"), false),
            (owner, "shop", None, false),
            (owner, "shop-web:latest", None, false),
            (other, "shop-web", None, false),
        ] {
            assert_eq!(
                covers(&grants, account, repository, tag),
                may,
                "{account} {repository} {tag:?}"
            );
        }
    }
}
