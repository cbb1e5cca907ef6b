//! Prove to a host who asks: one signed header per request, good for a minute.

use types::{AccountId, Digest, PublicKey, SecretKey, Signature};

/// `Runrig-Auth: <public key hex>.<milliseconds>.<signature hex>[.<account>]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestAuth {
    pub key: PublicKey,
    pub at_ms: u64,
    pub signature: Signature,
    /// See [`Caller::through`].
    pub through: Option<AccountId>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Of the key that signed.
    pub account: AccountId,
    /// Whom the key says that it acts for: somebody's laptop says whose it is, so that it reaches
    /// what was given to that person. Only a claim: the ledger knows the grant, or there is none.
    pub through: Option<AccountId>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("no signature: send a Runrig-Auth header (the runrig command does)")]
    Missing,
    #[error("the Runrig-Auth header cannot be read: it is key.milliseconds.signature")]
    Unreadable,
    #[error("the signature does not fit this request")]
    Wrong,
    #[error("the request was signed at {at_ms} but it is {now_ms}: set this machine's clock")]
    Stale { at_ms: u64, now_ms: u64 },
    #[error("the token was good until {until_ms}: make a new one")]
    Over { until_ms: u64 },
}

impl RequestAuth {
    pub const HEADER: &'static str = "runrig-auth";
    const AGE_MS_MAX: u64 = 60_000;

    /// `path` with its query, as sent.
    pub fn sign(key: &SecretKey, method: &str, path: &str, at_ms: u64) -> Self {
        Self {
            key: key.public(),
            at_ms,
            signature: key.sign(&digest(method, path, at_ms).0),
            through: None,
        }
    }

    /// The key acts for this account.
    pub fn through(self, account: Option<AccountId>) -> Self {
        Self {
            through: account,
            ..self
        }
    }

    /// The account of the key that asks.
    pub fn check(
        header: Option<&str>,
        method: &str,
        path: &str,
        now_ms: u64,
    ) -> Result<AccountId, AuthError> {
        Self::caller(header, method, path, now_ms).map(|caller| caller.account)
    }

    /// As [`Self::check`], with whom it says that it acts for.
    pub fn caller(
        header: Option<&str>,
        method: &str,
        path: &str,
        now_ms: u64,
    ) -> Result<Caller, AuthError> {
        let auth = Self::parse(header.ok_or(AuthError::Missing)?)?;
        if now_ms.abs_diff(auth.at_ms) > Self::AGE_MS_MAX {
            return Err(AuthError::Stale {
                at_ms: auth.at_ms,
                now_ms,
            });
        }
        auth.key
            .verify(&digest(method, path, auth.at_ms).0, &auth.signature)
            .map_err(|_| AuthError::Wrong)?;
        Ok(Caller {
            account: AccountId::of(&auth.key),
            through: auth.through,
        })
    }

    fn parse(text: &str) -> Result<Self, AuthError> {
        let mut parts = text.splitn(4, '.');
        let mut next = || parts.next().ok_or(AuthError::Unreadable);
        let (key, at_ms, signature) = (next()?, next()?, next()?);
        let through = parts.next().map(str::parse).transpose();
        Ok(Self {
            key: key.parse().map_err(|_| AuthError::Unreadable)?,
            at_ms: at_ms.parse().map_err(|_| AuthError::Unreadable)?,
            signature: signature.parse().map_err(|_| AuthError::Unreadable)?,
            through: through.map_err(|_| AuthError::Unreadable)?,
        })
    }
}

impl std::fmt::Display for RequestAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.key, self.at_ms, self.signature)?;
        self.through
            .map_or(Ok(()), |account| write!(f, ".{account}"))
    }
}

fn digest(method: &str, path: &str, at_ms: u64) -> Digest {
    Digest::of_value("runrig-http", &(method, path, at_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_fits_one_request_for_a_minute() {
        let key = SecretKey::from_seed([1; 32]);
        let header = RequestAuth::sign(&key, "GET", "/v1/x?a=1", 1_000_000).to_string();
        let check = |method, path, now| RequestAuth::check(Some(&header), method, path, now);
        assert_eq!(
            check("GET", "/v1/x?a=1", 1_030_000),
            Ok(AccountId::of(&key.public()))
        );
        assert_eq!(check("POST", "/v1/x?a=1", 1_030_000), Err(AuthError::Wrong));
        assert_eq!(check("GET", "/v1/x?a=2", 1_030_000), Err(AuthError::Wrong));
        assert!(matches!(
            check("GET", "/v1/x?a=1", 1_060_001),
            Err(AuthError::Stale { .. })
        ));
        let person = AccountId([9; 20]);
        let said = RequestAuth::sign(&key, "GET", "/", 7).through(Some(person));
        let caller = Caller {
            account: AccountId::of(&key.public()),
            through: Some(person),
        };
        let said = said.to_string();
        assert_eq!(RequestAuth::caller(Some(&said), "GET", "/", 7), Ok(caller));
        let bent = format!("{said}0");
        assert_eq!(
            RequestAuth::caller(Some(&bent), "GET", "/", 7),
            Err(AuthError::Unreadable)
        );
        assert_eq!(
            RequestAuth::check(Some("a.b"), "GET", "/", 0),
            Err(AuthError::Unreadable)
        );
        assert_eq!(
            RequestAuth::check(None, "GET", "/", 0),
            Err(AuthError::Missing)
        );
    }
}
