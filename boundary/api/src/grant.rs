//! A token that lets its bearer read one thing of an owner's, for programs that cannot sign.

use types::{AccountId, Digest, PublicKey, SecretKey, Signature};

use crate::AuthError;

/// `Authorization: Bearer rg1.<key hex>.<milliseconds>.<signature hex>`, good for one scope until
/// a time, and only as long as the ledger says that the owner lets the key see: each token has a
/// key of its own, so the owner sees which there are and calls back the one that he means. Whoever
/// checks a token is to check that, too.
pub struct Grant;

impl Grant {
    pub const HEADER: &'static str = "authorization";
    const MARK: &'static str = "rg1";

    /// What lets figures of a deployment be read.
    pub fn metrics(deployment: types::DeploymentId) -> String {
        format!("metrics {deployment}")
    }

    pub fn issue(key: &SecretKey, scope: &str, until_ms: u64) -> String {
        let signature = key.sign(&digest(scope, until_ms).0);
        format!("{}.{}.{until_ms}.{signature}", Self::MARK, key.public())
    }

    /// The account of the key of the token in `header`, if it is for `scope` and still good.
    pub fn check(header: Option<&str>, scope: &str, now_ms: u64) -> Result<AccountId, AuthError> {
        let header = header.ok_or(AuthError::Missing)?;
        let token = header
            .strip_prefix("Bearer ")
            .ok_or(AuthError::Unreadable)?;
        let mut parts = token.trim().splitn(4, '.');
        let mut next = || parts.next().ok_or(AuthError::Unreadable);
        if next()? != Self::MARK {
            return Err(AuthError::Unreadable);
        }
        let key: PublicKey = next()?.parse().map_err(|_| AuthError::Unreadable)?;
        let until_ms: u64 = next()?.parse().map_err(|_| AuthError::Unreadable)?;
        let signature: Signature = next()?.parse().map_err(|_| AuthError::Unreadable)?;
        if until_ms < now_ms {
            return Err(AuthError::Over { until_ms });
        }
        key.verify(&digest(scope, until_ms).0, &signature)
            .map_err(|_| AuthError::Wrong)?;
        Ok(AccountId::of(&key))
    }
}

fn digest(scope: &str, until_ms: u64) -> Digest {
    Digest::of_value("runrig-grant", &(scope, until_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_one_scope_until_its_time() {
        let key = SecretKey::from_seed([1; 32]);
        let scope = Grant::metrics(types::DeploymentId(1));
        let token = format!("Bearer {}", Grant::issue(&key, &scope, 1_000));
        let check = |header: &str, scope: &str, now| Grant::check(Some(header), scope, now);
        assert_eq!(
            check(&token, &scope, 1_000),
            Ok(AccountId::of(&key.public()))
        );
        assert_eq!(check(&token, "metrics d-2", 0), Err(AuthError::Wrong));
        assert_eq!(
            check(&token, &scope, 1_001),
            Err(AuthError::Over { until_ms: 1_000 })
        );
        let longer = token.replace(".1000.", ".2000.");
        assert_eq!(check(&longer, &scope, 0), Err(AuthError::Wrong));
        for header in ["", "Bearer ", "Bearer a.b.c.d", &token["Bearer ".len()..]] {
            assert_eq!(check(header, &scope, 0), Err(AuthError::Unreadable));
        }
        assert_eq!(Grant::check(None, &scope, 0), Err(AuthError::Missing));
    }
}
