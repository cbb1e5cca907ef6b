//! Look at hosts when drawn to, and say what was seen: RFD 21.
//!
//! By this validator's own head as long as that follows the chain; else by what the others say over
//! their API.

use std::collections::BTreeSet;
use std::time::Duration;

use api::now_ms;
use futures::StreamExt as _;
use ledger::Call;
use ledger::witness::{Call as Act, LINES_MAX, Line, Look, Saw, Statement, Target};
use sdk::Client;
use tokio::sync::watch;
use types::{DeploymentId, HostId, PublicKey, SecretKey, Signature};

use crate::index::Handle;
use crate::probe;

const PAUSE: Duration = Duration::from_secs(1);
/// Others are asked whether there is something to do this often.
const ASK: Duration = Duration::from_secs(10);
/// A head that is older does not follow.
const FRESH_MS: u64 = 15_000;
/// Looks at once.
const AT_ONCE: usize = 16;
/// Nonces left to votes on silence and accusations that may be under way.
const AHEAD: u64 = 2;
/// Hosts and services that are remembered to have answered; then all are forgotten.
const KNOWN_MAX: usize = 1 << 16;

/// What has answered this witness before. Only where something did, its absence says something:
/// a host's agent may be out of reach from here, a protocol may be one of few words.
#[derive(Debug, Default)]
pub struct Known {
    hosts: BTreeSet<HostId>,
    services: BTreeSet<(DeploymentId, String)>,
}

impl Known {
    /// What is to be said of what was seen, and learns from it.
    pub fn say(&mut self, target: &Target, saw: Saw) -> Option<Line> {
        if self.hosts.len() + self.services.len() > KNOWN_MAX {
            *self = Self::default();
        }
        let service = (target.deployment, target.service.clone());
        let says = match saw {
            Saw::Prompt | Saw::Slow => {
                self.services.insert(service);
                true
            }
            Saw::Refused => true,
            Saw::Silent => self.services.contains(&service),
            Saw::Unreachable => self.hosts.contains(&target.host),
        };
        if saw != Saw::Unreachable {
            self.hosts.insert(target.host);
        }
        says.then_some(Line {
            allocation: target.allocation,
            saw,
        })
    }
}

/// What one round's looks come to; `None`: this witness itself seems to be cut off.
pub fn lines(known: &mut Known, seen: &[(Target, Saw)]) -> Option<Vec<Line>> {
    let hosts: BTreeSet<HostId> = seen.iter().map(|(target, _)| target.host).collect();
    let said = seen.iter().filter_map(|(t, saw)| known.say(t, *saw));
    let mut said: Vec<Line> = said.collect();
    let alone = hosts.len() > 1 && seen.iter().all(|(_, saw)| *saw == Saw::Unreachable);
    said.sort_unstable_by_key(|line| line.allocation);
    said.truncate(LINES_MAX);
    (!alone).then_some(said)
}

/// Where a witness learns what to do.
pub struct Witness {
    pub handle: Handle,
    pub key: SecretKey,
    /// Of the other validators.
    pub others: Vec<String>,
    pub own: String,
}

impl Witness {
    /// Looks and tells, round by round, until `stop`.
    pub async fn keep(self, mut stop: watch::Receiver<bool>) {
        let mut known = Known::default();
        let mut done = None;
        let mut wait = PAUSE;
        loop {
            tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(wait) => {}
            }
            wait = if self.follows() { PAUSE } else { ASK };
            let look = match self.asked().await {
                Ok(Some(look)) if !look.told && done != Some(look.round) => look,
                Ok(_) => continue,
                Err(error) => {
                    tracing::debug!(%error, "nobody says what this witness is to look at");
                    continue;
                }
            };
            done = Some(look.round);
            if let Err(error) = self.round(&look, &mut known).await {
                tracing::warn!(%error, round = look.round, "what was seen of hosts is not told");
            }
        }
    }

    fn follows(&self) -> bool {
        now_ms().saturating_sub(self.handle.head().state.time_ms()) < FRESH_MS
    }

    /// Those who answer, the nearest first.
    fn client(&self) -> Result<Client, sdk::SdkError> {
        let own = [self.own.clone()];
        match self.follows() {
            true => Client::new(own.into_iter().chain(self.others.iter().cloned())),
            false => Client::new(self.others.iter().cloned().chain(own)),
        }
    }

    async fn asked(&self) -> Result<Option<Look>, sdk::SdkError> {
        let key: PublicKey = self.key.public();
        match self.follows() {
            true => Ok(self.handle.head().state.look_of(&key)),
            false => self.client()?.look_of(&key).await,
        }
    }

    async fn targets(&self, look: &Look, lot: &Signature) -> Result<Vec<Target>, sdk::SdkError> {
        if !self.follows() {
            return self.client()?.look_at(&self.key.public(), lot).await;
        }
        let (handle, lot) = (self.handle.clone(), *lot);
        let (epoch, round) = (look.epoch, look.round);
        let targets = move || handle.head().state.targets(&lot, epoch, round);
        Ok(tokio::task::spawn_blocking(targets)
            .await
            .unwrap_or_default())
    }

    async fn round(&self, look: &Look, known: &mut Known) -> Result<(), sdk::SdkError> {
        let lot = self.key.sign(&look.message.0);
        // At a time that nobody else knows.
        let left = look.ends_ms.saturating_sub(look.time_ms);
        let wait = rand::random::<u64>() % (left / 3).max(1);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let targets = self.targets(look, &lot).await?;
        if targets.is_empty() {
            return Ok(());
        }
        let nonce: [u8; 16] = rand::random();
        let looks = targets.into_iter().map(async |target| {
            let saw = probe::look(&target, &nonce).await;
            saw.map(|saw| (target, saw))
        });
        let looks = futures::stream::iter(looks).buffer_unordered(AT_ONCE);
        let seen: Vec<_> = looks.filter_map(std::future::ready).collect().await;
        let Some(lines) = lines(known, &seen) else {
            tracing::warn!(
                "none of several hosts can be reached: this witness takes itself to be cut off, and says nothing of them"
            );
            return Ok(());
        };
        for line in lines.iter().filter(|line| !line.saw.is_answer()) {
            tracing::info!(allocation = %line.allocation, "as a witness: {}", line.saw);
        }
        if lines.is_empty() {
            return Ok(());
        }
        let statement = Statement {
            epoch: look.epoch,
            round: look.round,
            height: look.height,
            lot,
            nonce,
            lines,
        };
        let call = Call::Witness(Act::State(statement));
        let client = self.client()?;
        client.submit_ahead(&self.key, &[], call, AHEAD).await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use types::{AccountId, AllocationId};

    use super::*;

    fn target(host: u8, allocation: u64) -> Target {
        Target {
            host: AccountId([host; 20]),
            address: "http://10.0.0.1:1".into(),
            allocation: AllocationId(allocation),
            deployment: DeploymentId(1),
            service: "web".into(),
            port: 80,
        }
    }

    fn said(known: &mut Known, seen: &[(u8, Saw)]) -> Option<Vec<Saw>> {
        let seen: Vec<_> = seen
            .iter()
            .map(|(host, saw)| (target(*host, (*host).into()), *saw))
            .collect();
        let lines = lines(known, &seen)?;
        Some(lines.iter().map(|line| line.saw).collect())
    }

    #[test]
    fn absence_says_something_only_where_something_was() {
        let mut known = Known::default();
        assert_eq!(said(&mut known, &[(1, Saw::Unreachable)]), Some(vec![]));
        assert_eq!(said(&mut known, &[(1, Saw::Silent)]), Some(vec![]));
        let refused = said(&mut known, &[(1, Saw::Refused)]);
        assert_eq!(refused, Some(vec![Saw::Refused]), "by the agent's own word");
        assert_eq!(
            said(&mut known, &[(1, Saw::Prompt)]),
            Some(vec![Saw::Prompt])
        );
        for saw in [Saw::Silent, Saw::Unreachable] {
            assert_eq!(said(&mut known, &[(1, saw)]), Some(vec![saw]));
        }
    }

    #[test]
    fn who_reaches_nobody_is_cut_off_himself() {
        let mut known = Known::default();
        let well = [(1, Saw::Prompt), (2, Saw::Prompt)];
        assert!(said(&mut known, &well).is_some());
        let cut = [(1, Saw::Unreachable), (2, Saw::Unreachable)];
        assert_eq!(said(&mut known, &cut), None);
        let one = [(1, Saw::Unreachable), (2, Saw::Slow)];
        assert_eq!(
            said(&mut known, &one),
            Some(vec![Saw::Unreachable, Saw::Slow])
        );
    }
}
