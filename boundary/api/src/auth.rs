//! Prove to a host who asks: one signed header per request, good for a minute.

use types::{AccountId, Digest, PublicKey, SecretKey, Signature};

/// `Runrig-Auth: <public key hex>.<milliseconds>.<signature hex>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestAuth {
    pub key: PublicKey,
    pub at_ms: u64,
    pub signature: Signature,
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
        }
    }

    /// The account that asks.
    pub fn check(
        header: Option<&str>,
        method: &str,
        path: &str,
        now_ms: u64,
    ) -> Result<AccountId, AuthError> {
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
        Ok(AccountId::of(&auth.key))
    }

    fn parse(text: &str) -> Result<Self, AuthError> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(AuthError::Unreadable);
        let (key, at_ms, signature) = (next()?, next()?, next()?);
        Ok(Self {
            key: key.parse().map_err(|_| AuthError::Unreadable)?,
            at_ms: at_ms.parse().map_err(|_| AuthError::Unreadable)?,
            signature: signature.parse().map_err(|_| AuthError::Unreadable)?,
        })
    }
}

impl std::fmt::Display for RequestAuth {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.key, self.at_ms, self.signature)
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
