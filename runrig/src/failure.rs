//! How a command fails: what, why, the next act, and the exit code that scripts read.
//!
//! | code | means |
//! |---|---|
//! | 1 | failed |
//! | 2 | wrong usage, or a file that is wrong |
//! | 3 | not found |
//! | 4 | no key for what was asked: log in |
//! | 5 | conflict |
//! | 6 | not enough credits |
//! | 7 | no host fits |
//! | 8 | a signature or a digest does not hold |
//! | 124 | timed out |
//! | 130 | interrupted |

use std::fmt;

use sdk::SdkError;

pub const FAILED: u8 = 1;
pub const USAGE: u8 = 2;
pub const NOT_FOUND: u8 = 3;
pub const LOGIN: u8 = 4;
pub const CONFLICT: u8 = 5;
pub const FUNDS: u8 = 6;
pub const NO_HOST: u8 = 7;
pub const SIGNATURE: u8 = 8;
pub const TIMED_OUT: u8 = 124;
pub const INTERRUPTED: u8 = 130;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: u8,
    pub what: String,
    pub why: String,
    /// A sentence, with the next command if there is one; may be empty.
    pub next: String,
    /// Lines told before it: each problem of a file, the last words of a container.
    pub details: Vec<String>,
    /// The ledger refused it for lack of credits, not for a limit that the account has set itself.
    broke: bool,
}

pub type Result<T = ()> = std::result::Result<T, Failure>;

impl Failure {
    pub fn new(
        exit: u8,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self {
            exit,
            what: what.into(),
            why: why.into(),
            next: next.into(),
            details: Vec::new(),
            broke: false,
        }
    }

    pub fn detailed(mut self, details: Vec<String>) -> Self {
        self.details = details;
        self
    }

    /// The ledger refused it for lack of credits: what helps depends on the account.
    pub fn lacks_credits(&self) -> bool {
        self.broke
    }

    /// The ledger knows no grant, or none any more, by which the key acts for the account.
    pub fn lacks_grant(&self) -> bool {
        self.why.contains(" may not act for ")
    }

    /// What `--json` says on stderr instead of words.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({"error": {
            "kind": kind_of(self.exit), "exit": self.exit,
            "what": self.what, "why": self.why, "next": self.next, "details": self.details,
        }})
    }

    pub fn usage(what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        Self::new(USAGE, what, why, next)
    }

    pub fn interrupted() -> Self {
        Self::new(INTERRUPTED, "interrupted", "", "")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        if !self.next.is_empty() {
            write!(f, "\n{}", self.next)?;
        }
        Ok(())
    }
}

fn exit_of(kind: &str) -> u8 {
    match kind {
        "invalid" => USAGE,
        "not_found" => NOT_FOUND,
        "login" => LOGIN,
        "conflict" | "stale" => CONFLICT,
        "funds" => FUNDS,
        "no_host" => NO_HOST,
        "signature" => SIGNATURE,
        "late" => TIMED_OUT,
        _ => FAILED,
    }
}

/// The exit code as a word.
fn kind_of(exit: u8) -> &'static str {
    match exit {
        USAGE => "usage",
        NOT_FOUND => "not_found",
        LOGIN => "login",
        CONFLICT => "conflict",
        FUNDS => "funds",
        NO_HOST => "no_host",
        SIGNATURE => "signature",
        TIMED_OUT => "timed_out",
        INTERRUPTED => "interrupted",
        _ => "failed",
    }
}

impl From<SdkError> for Failure {
    fn from(error: SdkError) -> Self {
        let exit = exit_of(error.kind());
        match error {
            SdkError::Refused(problem) => Self {
                // A limit is its owner's to raise: more credits do not help.
                broke: exit == FUNDS && !problem.next.contains("`runrig limit "),
                ..Self::new(exit, problem.what, problem.why, problem.next)
            },
            SdkError::Unreachable { url, why } => Self::new(
                exit,
                format!("{url} does not answer"),
                why,
                "Start a network with `runrig dev`, or choose another with `runrig context use`.",
            ),
            other => Self::new(exit, other.to_string(), "", ""),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<SdkError>() {
            Ok(error) => error.into(),
            Err(error) => {
                let mut causes = error.chain().map(ToString::to_string);
                let what = causes.next().unwrap_or_default();
                let why = causes.collect::<Vec<_>>().join(": ");
                Self::new(FAILED, what, why, "")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ledger_refuses_has_its_exit_code() {
        use ledger::RejectKind as K;
        for (kind, exit) in [
            (K::Invalid, 2),
            (K::NotFound, 3),
            (K::Forbidden, 1),
            (K::Conflict, 5),
            (K::Funds, 6),
            (K::NoHost, 7),
            (K::Stale, 5),
            (K::Signature, 8),
        ] {
            let rejection = ledger::Rejection {
                kind,
                what: "deploy".into(),
                why: "because".into(),
                next: "Do this.".into(),
            };
            let failure = Failure::from(SdkError::rejected(rejection));
            assert_eq!(failure.exit, exit);
            assert_eq!(failure.to_string(), "deploy: because\nDo this.");
        }
        assert_eq!(Failure::from(SdkError::Late(60)).exit, 124);
    }

    #[test]
    fn causes_are_told_in_order() {
        let error = anyhow::anyhow!("disk full").context("write state");
        assert_eq!(Failure::from(error).to_string(), "write state: disk full");
    }
}
