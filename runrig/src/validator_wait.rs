//! `validator status --wait`: when one has come back, and the next may be stopped.
//!
//! Following is not voting: a validator that missed the handing on of the key hears all and says
//! nothing. So it has to have made a block, which it cannot without its part of the key, after the
//! height at which the others were when the command was given.

use std::time::{Duration, Instant};

use api::{ChainStatus, MembersView, NetworkFile};
use futures::future::join_all;
use sdk::Client;
use types::PublicKey;

use crate::failure::{self, Failure, Result};
use crate::output;
use crate::validator_join::short;

const LOOK: Duration = Duration::from_millis(300);
/// Who has not answered within so long counts as away.
const ANSWER: Duration = Duration::from_secs(5);
/// Who is so many blocks behind counts as away.
const BEHIND_MAX: u64 = 32;

/// What is seen of the network at a moment.
struct Seen<'a> {
    /// The others' height when the command was given.
    asked: u64,
    /// ... and now.
    height: u64,
    own: Option<&'a ChainStatus>,
    /// Who sits, and how many of them, this one left out, are not there.
    seats: usize,
    away: usize,
}

impl Seen<'_> {
    /// Why the next one may not be stopped yet.
    fn missing(&self) -> Option<String> {
        let Some((status, own)) = self.own.and_then(|s| Some((s, s.own.as_ref()?))) else {
            return Some("it does not answer".into());
        };
        if let Some(why) = &own.stuck {
            return Some(why.clone());
        }
        if status.height < self.asked || status.height + BEHIND_MAX < self.height {
            return Some(format!(
                "it is at height {}, the others at {}",
                status.height, self.height
            ));
        }
        if own.sits && !own.holds_share {
            return Some(
                "it has no part of the network's key and cannot vote: it is given one with the next epoch".into(),
            );
        }
        if own.sits && own.led.is_none_or(|led| led <= self.asked) {
            return Some(format!("it has made no block after height {}", self.asked));
        }
        let spare = self.seats.saturating_sub(1) / 3;
        if spare > 0 && self.away >= spare {
            return Some(format!(
                "{} of {} others that sit do not answer or are behind: with one more away, fewer than two thirds would be left",
                self.away,
                self.seats.saturating_sub(usize::from(own.sits)),
            ));
        }
        None
    }
}

async fn status_of(url: &str) -> Option<ChainStatus> {
    let client = Client::new([url.to_string()]).ok()?;
    let asked = tokio::time::timeout(ANSWER, client.status()).await;
    asked.ok()?.ok()
}

/// `urls`: of the network, this validator's own among them or not.
pub async fn wait(
    file: &NetworkFile,
    urls: &[String],
    key: PublicKey,
    within: Duration,
    json: bool,
) -> Result {
    let until = Instant::now() + within;
    let mut asked = None;
    let mut told = String::new();
    loop {
        let why = match look(file, urls, key, &mut asked).await {
            Ok(Look::Ready { height, spare }) => {
                if json {
                    output::json(&serde_json::json!({
                        "ready": true, "validator": key, "height": height, "spare": spare,
                    }));
                    return Ok(());
                }
                output::data(format!(
                    "validator {} takes part at height {height}",
                    short(&key)
                ));
                output::say(match spare {
                    0 => "fewer than four sit: while the next one is stopped, the network stands still".into(),
                    _ => format!("the next one may be stopped; {spare} may be away at a time"),
                });
                return Ok(());
            }
            Ok(Look::NotYet(why)) => why,
            Err(error) => error.to_string(),
        };
        if Instant::now() >= until {
            return Err(Failure::new(
                failure::TIMED_OUT,
                format!("validator {}", short(&key)),
                why,
                "Do not stop another one. See its log; wait again, longer with --wait 30m.",
            ));
        }
        if why != told {
            output::say(format!("not yet: {why}"));
            told = why;
        }
        tokio::time::sleep(LOOK).await;
    }
}

enum Look {
    Ready { height: u64, spare: usize },
    NotYet(String),
}

async fn look(
    file: &NetworkFile,
    urls: &[String],
    key: PublicKey,
    asked: &mut Option<u64>,
) -> Result<Look> {
    let client = Client::new(urls.iter().cloned())?;
    let view: MembersView = client.members().await?;
    let url = |key: PublicKey| {
        let entered = view.members.iter().find(|m| m.key == key);
        let entered = entered.map(|m| m.api.clone()).filter(|u| !u.is_empty());
        let founder = || {
            let founder = file.validators.iter().find(|v| v.key == hex::encode(key.0));
            founder.map(|v| v.api.clone())
        };
        entered.or_else(founder)
    };
    let Some(own) = url(key) else {
        return Err(Failure::new(
            failure::NOT_FOUND,
            format!("validator {}", short(&key)),
            "the network knows no address of its API",
            "Enter it with `runrig validator join`.",
        ));
    };
    let sitting = view.members.iter().filter(|m| m.place.is_some());
    let others = sitting.clone().filter(|m| m.key != key);
    let others: Vec<String> = others.filter_map(|m| url(m.key)).collect();
    let (own, statuses) = tokio::join!(
        status_of(&own),
        join_all(others.iter().map(|url| status_of(url)))
    );
    let heights: Vec<u64> = statuses.iter().flatten().map(|s| s.height).collect();
    let alone = others.is_empty().then_some(own.as_ref()).flatten();
    let Some(height) = heights.iter().copied().chain(alone.map(|s| s.height)).max() else {
        return Ok(Look::NotYet("no other validator answers".into()));
    };
    let there = heights
        .iter()
        .filter(|h| **h + BEHIND_MAX >= height)
        .count();
    let seats = sitting.count();
    let seen = Seen {
        asked: *asked.get_or_insert(height),
        height,
        own: own.as_ref(),
        seats,
        away: others.len() - there,
    };
    Ok(match seen.missing() {
        Some(why) => Look::NotYet(why),
        None => Look::Ready {
            height: own.map_or(height, |s| s.height),
            spare: seats.saturating_sub(1) / 3,
        },
    })
}

#[cfg(test)]
mod tests {
    use api::OwnView;
    use types::{Digest, SecretKey};

    use super::*;

    fn status(height: u64, sits: bool, holds_share: bool, led: Option<u64>) -> ChainStatus {
        ChainStatus {
            network: Digest::default(),
            name: String::new(),
            height,
            time_ms: 0,
            block: Digest::default(),
            state_root: Digest::default(),
            network_key: String::new(),
            validators: Vec::new(),
            queued: 0,
            own: Some(OwnView {
                key: SecretKey::from_seed([1; 32]).public(),
                sits,
                holds_share,
                led,
                follows: false,
                stuck: None,
            }),
        }
    }

    #[test]
    fn the_next_one_may_go_when_this_one_votes_and_enough_others_are_there() {
        let seen = |own: Option<&ChainStatus>, away| {
            let seen = Seen {
                asked: 100,
                height: 120,
                own,
                seats: 4,
                away,
            };
            seen.missing().unwrap_or_default()
        };
        assert!(seen(None, 0).contains("does not answer"));
        assert!(seen(Some(&status(90, true, true, None)), 0).contains("height 90"));
        assert!(seen(Some(&status(120, true, false, Some(99))), 0).contains("no part"));
        // It follows again; what it made was made before.
        assert!(seen(Some(&status(120, true, true, Some(100))), 0).contains("no block"));
        assert!(seen(Some(&status(120, true, true, Some(101))), 1).contains("two thirds"));
        assert_eq!(seen(Some(&status(120, true, true, Some(101))), 0), "");
        // Who does not sit has no turn to wait for.
        assert_eq!(seen(Some(&status(120, false, false, None)), 0), "");
    }
}
