//! What can go wrong with a call, and who must act.

use api::Problem;
use ledger::Rejection;

#[derive(Debug, thiserror::Error)]
pub enum SdkError {
    /// The ledger or a role said no; trying again as it is will not help.
    #[error("{}: {}. {}", .0.what, .0.why, .0.next)]
    Refused(Problem),
    /// Nobody answered, or not in time; trying again may help.
    #[error(
        "{url} does not answer: {why}. Is the network up? See `runrig dev`, or choose another with `runrig context use`."
    )]
    Unreachable { url: String, why: String },
    #[error(
        "{url} answered what this client does not understand: {why}. Update the older of the two."
    )]
    Unreadable { url: String, why: String },
    #[error("the transaction was not included within {0} s; see `runrig chain status`")]
    Late(u64),
}

impl SdkError {
    /// The ledger itself said no (not a network fault).
    pub fn is_rejection(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.kind != "unavailable")
    }

    /// Whether asking again may help.
    pub fn is_transient(&self) -> bool {
        self.kind() == "unavailable" && !matches!(self, Self::Unreadable { .. })
    }

    pub fn kind(&self) -> &str {
        match self {
            Self::Refused(problem) => &problem.kind,
            Self::Unreachable { .. } | Self::Unreadable { .. } => "unavailable",
            Self::Late(_) => "late",
        }
    }

    pub fn rejected(rejection: Rejection) -> Self {
        Self::Refused(Problem {
            kind: rejection.kind.name().into(),
            what: rejection.what,
            why: rejection.why,
            next: rejection.next,
        })
    }
}
