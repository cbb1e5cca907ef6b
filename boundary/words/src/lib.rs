//! What the ledger was asked and what it did, as sentences; its figures, times and ids, short.
//!
//! The command line, the portal and its index say the same of the same event. A sentence has no
//! full stop. Names, memos and reasons in it were written by strangers: who shows it escapes it
//! for where it is shown.

mod both;
mod call;
mod event;
mod figures;
mod state;
mod times;

use std::collections::BTreeMap;

use types::{AccountId, DeploymentId, HostId, Hours, Resources};

pub use call::{KINDS, call, kind};
pub use event::event;
pub use figures::{brief, bytes, cores, credits, grouped, image, percent, plural, span};
pub use state::{state, state_word};
pub use times::{MONTHS, clock, day, month_of, utc};

/// What hosts and deployments are called; of one that is not here, its id is said.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub hosts: BTreeMap<HostId, String>,
    pub projects: BTreeMap<DeploymentId, String>,
}

impl Names {
    pub fn host(&self, id: &HostId) -> String {
        match self.hosts.get(id) {
            Some(name) => name.clone(),
            None => brief(&id.to_string()),
        }
    }

    pub fn project(&self, id: &DeploymentId) -> String {
        match self.projects.get(id) {
            Some(name) => name.clone(),
            None => id.to_string(),
        }
    }
}

/// `mon-fri 20-8 (UTC)`, or `always`.
pub fn in_hours(hours: Option<&Hours>) -> String {
    hours.map_or("always".into(), |hours| format!("{hours} (UTC)"))
}

/// `2 cores, 4.0 GiB of memory, 10 GiB of disk and 100 Mbit/s`.
pub fn resources(r: &Resources) -> String {
    format!(
        "{} cores, {} of memory, {} of disk and {} Mbit/s",
        cores(r.cpu_millis.into()),
        bytes(r.memory_bytes.into()),
        bytes(r.disk_bytes.into()),
        f64::from(r.bandwidth_kbps) / 1_000.0
    )
}

fn account(id: &AccountId) -> String {
    format!("account {}", brief(&id.to_string()))
}

fn validator(key: &types::PublicKey) -> String {
    format!("validator {}", brief(&key.to_string()))
}

fn sentence(text: String) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_uppercase().chain(letters).collect(),
        None => text,
    }
}
