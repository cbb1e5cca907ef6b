//! A password for clients that know only passwords: `docker`, `podman`, `skopeo` at the
//! network's registry.

use types::{AccountId, Digest, PublicKey, SecretKey, Signature};

/// An account's signed word that whoever shows it may read and write its repositories until
/// then: `rr1.<public key hex>.<seconds since 1970>.<signature hex>`.
///
/// The registry keeps nothing of it, so nothing takes it back before its time: give it few days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistryLogin {
    pub key: PublicKey,
    pub until_s: u64,
    pub signature: Signature,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    #[error("this is no password for the registry: make one with `runrig image password`")]
    Unreadable,
    #[error("the password is not signed by its account: make one with `runrig image password`")]
    Wrong,
    #[error("the password was good until {until_s}: make a new one with `runrig image password`")]
    Expired { until_s: u64 },
    #[error(
        "the password is good for longer than {} days: make one with `runrig image password`",
        RegistryLogin::DAYS_MAX
    )]
    Long,
}

impl RegistryLogin {
    pub const DAYS_MAX: u64 = 366;
    const DAY_S: u64 = 86_400;

    /// Good from now for `days`, of which there are at most [`Self::DAYS_MAX`].
    pub fn sign(key: &SecretKey, now_s: u64, days: u64) -> Self {
        let until_s = now_s + days.min(Self::DAYS_MAX) * Self::DAY_S;
        Self {
            key: key.public(),
            until_s,
            signature: key.sign(&digest(until_s).0),
        }
    }

    /// The account that gave it.
    pub fn check(text: &str, now_s: u64) -> Result<AccountId, LoginError> {
        let login = Self::parse(text).ok_or(LoginError::Unreadable)?;
        let until_s = login.until_s;
        login
            .key
            .verify(&digest(until_s).0, &login.signature)
            .map_err(|_| LoginError::Wrong)?;
        if until_s < now_s {
            return Err(LoginError::Expired { until_s });
        }
        // An hour more for clocks that differ.
        if until_s - now_s > Self::DAYS_MAX * Self::DAY_S + 3_600 {
            return Err(LoginError::Long);
        }
        Ok(AccountId::of(&login.key))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("rr1.")?.splitn(3, '.');
        Some(Self {
            key: parts.next()?.parse().ok()?,
            until_s: parts.next()?.parse().ok()?,
            signature: parts.next()?.parse().ok()?,
        })
    }
}

impl std::fmt::Display for RegistryLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rr1.{}.{}.{}", self.key, self.until_s, self.signature)
    }
}

fn digest(until_s: u64) -> Digest {
    Digest::of_value("runrig-registry-login", &until_s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_good_for_its_account_and_its_days() {
        let key = SecretKey::from_seed([1; 32]);
        let account = AccountId::of(&key.public());
        let text = RegistryLogin::sign(&key, 1_000, 2).to_string();
        let day = 86_400;
        assert_eq!(RegistryLogin::check(&text, 1_000), Ok(account));
        assert_eq!(RegistryLogin::check(&text, 1_000 + 2 * day), Ok(account));
        assert!(matches!(
            RegistryLogin::check(&text, 1_001 + 2 * day),
            Err(LoginError::Expired { .. })
        ));
        let longer = text.replace(&(1_000 + 2 * day).to_string(), "99999999");
        assert_eq!(RegistryLogin::check(&longer, 0), Err(LoginError::Wrong));
        let other = SecretKey::from_seed([2; 32]).public().to_string();
        let stolen = text.replace(&key.public().to_string(), &other);
        assert_eq!(RegistryLogin::check(&stolen, 0), Err(LoginError::Wrong));
        let forever = RegistryLogin::sign(&key, 1_000 + 400 * day, 366).to_string();
        assert_eq!(RegistryLogin::check(&forever, 0), Err(LoginError::Long));
        for text in ["", "rr1", "rr1...", "hunter2", "rr1.a.b.c", "rr2.1.2.3"] {
            assert_eq!(
                RegistryLogin::check(text, 0),
                Err(LoginError::Unreadable),
                "{text}"
            );
        }
    }
}
