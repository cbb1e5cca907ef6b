//! Which of an account's deployments, and which page of them.

use types::AccountId;

use crate::logs::escaped;

/// All that are neither removed nor completed, from the latest on, if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobQuery {
    /// Name of an [`api::JobState`], `active` or `all`.
    pub state: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
    /// Only those whose name, an image or a host has it in its name.
    pub text: Option<String>,
    /// Name of an [`api::JobOrder`], with a `-` in front for the other way round; the latest first if
    /// not said.
    pub sort: Option<String>,
    /// Number of the first row.
    pub from: usize,
    /// Rows at most.
    pub count: Option<usize>,
}

impl JobQuery {
    pub(crate) fn path(&self, owner: AccountId) -> String {
        let mut path = format!("/v1/jobs?owner={owner}&from={}", self.from);
        let texts = [
            ("state", &self.state),
            ("name", &self.name),
            ("text", &self.text),
            ("sort", &self.sort),
        ];
        for (key, value) in texts {
            if let Some(value) = value {
                path += &format!("&{key}={}", escaped(value));
            }
        }
        if let Some(count) = self.count {
            path += &format!("&count={count}");
        }
        path
    }
}
