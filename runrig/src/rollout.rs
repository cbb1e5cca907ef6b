//! A deployment on its way: each step shown, until it stands, fails or time is up.
//!
//! The ledger decides whether a release is good: every replica ready for as long as its
//! service's `update_config.monitor` says, which is 3 s where no health check tells more. What
//! this shows of a replica comes from its host's reports, and so may be a moment ahead.

use std::time::{Duration, Instant};

use api::{AllocationView, DeploymentView};
use ledger::deployment::Funding;
use ledger::lease::Desired;
use types::{DeploymentId, Health, RunState};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::progress::Progress;
use crate::{logs, output, ps, units};

const POLL: Duration = Duration::from_millis(200);
/// A replica that was started again so often is failing, whatever its restart policy hopes.
const RESTARTS_MAX: u32 = 3;
const LAST_LINES: usize = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Every container has been started once.
    Started,
    /// The release is good: every service is healthy, stays up, or has ended well.
    Good,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    Reached,
    OnTheWay,
    Failed(String),
}

fn standing(a: &AllocationView, goal: Goal) -> Standing {
    let status = &a.status;
    // The host was there: its words are better than ours.
    let failed = |why: String| {
        let message = status.message.trim();
        Standing::Failed(match message.is_empty() {
            true => why,
            false => message.to_string(),
        })
    };
    let code = status.exit_code.unwrap_or(0);
    let ended = || match status.oom_killed {
        true => format!(
            "it ran out of memory ({} reserved)",
            units::bytes(a.reserved.memory_bytes)
        ),
        false => format!("it ended with exit code {code}"),
    };
    match status.state {
        RunState::Failed => failed("it could not be started".into()),
        RunState::Frozen => failed("it is frozen, for lack of funds or by the limit".into()),
        RunState::Exited if code == 0 && !status.oom_killed => Standing::Reached,
        RunState::Exited => failed(ended()),
        RunState::Restarting if status.restarts >= RESTARTS_MAX => failed(format!(
            "it was started {} times; {}",
            status.restarts + 1,
            ended()
        )),
        RunState::Running if goal == Goal::Started => Standing::Reached,
        RunState::Running => match status.health {
            Health::Healthy | Health::None => Standing::Reached,
            Health::Unhealthy => failed("its health check fails".into()),
            Health::Starting => Standing::OnTheWay,
        },
        _ => Standing::OnTheWay,
    }
}

/// What is to be said of a deployment as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Reached,
    /// What is waited for.
    OnTheWay(Vec<String>),
    /// Index of the replica among the allocations, and why.
    ReplicaFailed(usize, String),
    /// The release as a whole: why, and what became of it.
    ReleaseFailed(String, String),
}

fn verdict(view: &DeploymentView, release: u32, goal: Goal) -> Verdict {
    let failed = view.setback.as_ref().filter(|s| s.release == release);
    if let Some(setback) = failed {
        let became = match view.release > release {
            true => format!("It went back to what it was, as release {}", view.release),
            false => "It was left as it is".into(),
        };
        return Verdict::ReleaseFailed(setback.why.clone(), became);
    }
    if view.release > release {
        let became = format!("Release {} took its place", view.release);
        return Verdict::ReleaseFailed("somebody deployed another".into(), became);
    }
    if let Some(why) = view.rollout.as_ref().and_then(|r| r.stuck.clone()) {
        return Verdict::ReleaseFailed(why, "Old and new replicas are left as they are".into());
    }
    let rolling = view.rollout.is_some();
    let mut waiting: Vec<String> = view
        .unplaced
        .iter()
        .map(|u| format!("{}.{} has no place: {}", u.service, u.replica, u.why))
        .collect();
    let mut current = 0;
    for (index, allocation) in view.allocations.iter().enumerate() {
        if allocation.desired != Desired::Run {
            continue;
        }
        current += 1;
        match standing(allocation, goal) {
            Standing::Reached => {}
            // What is being replaced may be as bad as it likes.
            _ if rolling && allocation.release < release => {}
            Standing::OnTheWay => waiting.push(allocation.allocation.to_string()),
            Standing::Failed(why) => return Verdict::ReplicaFailed(index, why),
        }
    }
    let wanted = view.wanted_all();
    if rolling && goal == Goal::Good && waiting.is_empty() {
        waiting.push("replicas that must stay up for a moment".into());
    }
    if waiting.is_empty() && current >= wanted {
        return Verdict::Reached;
    }
    Verdict::OnTheWay(waiting)
}

/// Shows each step until the latest release has reached `goal`, fails, or time is up. Ctrl-C
/// ends the watching only: what is on the ledger goes on.
pub async fn follow_until(
    session: &Session,
    id: DeploymentId,
    goal: Goal,
    timeout: Duration,
) -> Result<DeploymentView> {
    let progress = Progress::new();
    let watched = tokio::select! {
        watched = watch(session, id, goal, timeout, &progress) => watched,
        _ = tokio::signal::ctrl_c() => Err(left_alone(id)),
    };
    progress.end();
    let (view, verdict) = watched?;
    match verdict {
        Verdict::ReplicaFailed(index, why) => {
            Err(failed_replica(session, &view, &view.allocations[index], why).await)
        }
        Verdict::ReleaseFailed(why, became) => {
            let bad = |a: &&AllocationView| a.status.restarts > 0 || a.status.exit_code > Some(0);
            let lines = match view.allocations.iter().rev().find(bad) {
                Some(allocation) => last_words(session, allocation).await,
                None => Vec::new(),
            };
            let failure = Failure::new(
                failure::FAILED,
                format!("{} did not come good", view.project),
                output::printable(&why),
                format!("{became}. Correct it and run `runrig up` again."),
            );
            Err(failure.detailed(lines))
        }
        Verdict::Reached | Verdict::OnTheWay(_) => Ok(view),
    }
}

fn left_alone(id: DeploymentId) -> Failure {
    Failure::new(
        failure::INTERRUPTED,
        format!("{id} is no longer watched"),
        "interrupted; the deployment itself goes on",
        format!(
            "See `runrig ps {id}` and `runrig logs -f {id}`; take it back with `runrig down {id}`."
        ),
    )
}

async fn watch(
    session: &Session,
    id: DeploymentId,
    goal: Goal,
    timeout: Duration,
    progress: &Progress,
) -> Result<(DeploymentView, Verdict)> {
    let started = Instant::now();
    let mut release = None;
    loop {
        let view = match session.client.deployment(id).await {
            Ok(view) => view,
            // The network may miss a beat; the deployment does not mind.
            Err(error) if error.is_transient() && started.elapsed() < timeout => {
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if view.limited {
            return Err(crate::limit::stopped(&view.project));
        }
        if view.funding == Funding::Frozen {
            return Err(Failure::new(
                failure::FUNDS,
                format!("{} is frozen", view.project),
                "its funds have run out; its data is kept",
                crate::money::next_for_funds(session).await,
            ));
        }
        let release = *release.get_or_insert(view.release);
        for allocation in view
            .allocations
            .iter()
            .filter(|a| a.desired == Desired::Run)
        {
            let status = &allocation.status;
            let words = ps::describe(
                status.state,
                status.health,
                status.exit_code,
                status.oom_killed,
            );
            let words = format!("{words} {}", status.message);
            progress.step(allocation, words.trim_end());
        }
        let waiting = match verdict(&view, release, goal) {
            Verdict::OnTheWay(waiting) => waiting,
            verdict => return Ok((view, verdict)),
        };
        if started.elapsed() > timeout {
            return Err(Failure::new(
                failure::TIMED_OUT,
                format!(
                    "{} is deployed, but not ready within {} s",
                    view.project,
                    timeout.as_secs()
                ),
                format!("it waits for {}", waiting.join(", ")),
                "It goes on: see `runrig ps` and `runrig logs`; give it longer with --timeout.",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

async fn last_words(session: &Session, a: &AllocationView) -> Vec<String> {
    let lines = logs::last_lines(session, a.allocation, LAST_LINES).await;
    lines
        .iter()
        .map(|line| format!("{}.{} | {line}", a.service, a.replica))
        .collect()
}

async fn failed_replica(
    session: &Session,
    view: &DeploymentView,
    a: &AllocationView,
    why: String,
) -> Failure {
    let lines = last_words(session, a).await;
    let back = match view.good {
        good if good > 0 && good < view.release => {
            format!("Release {good} was good, and is gone back to by itself. ")
        }
        _ => String::new(),
    };
    Failure::new(
        failure::FAILED,
        format!(
            "{}.{} ({}) on {} fails",
            a.service, a.replica, a.allocation, a.host_name
        ),
        output::printable(&why),
        format!(
            "{back}See `runrig logs {}`; correct it and run `runrig up` again.",
            a.allocation
        ),
    )
    .detailed(lines)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::tests::deployment;

    #[test]
    fn a_replica_stands_where_its_host_says() {
        use Goal::{Good as G, Started as S};
        use RunState as R;
        let mut view = deployment(1, "shop", &["web"], 1);
        let a = &mut view.allocations[0];
        for (state, health, code, oom, restarts, goal, expected) in [
            (R::Running, Health::None, None, false, 0, G, "reached"),
            (
                R::Running,
                Health::Starting,
                None,
                false,
                0,
                G,
                "on the way",
            ),
            (R::Running, Health::Starting, None, false, 0, S, "reached"),
            (R::Running, Health::Unhealthy, None, false, 0, G, "failed"),
            (R::Exited, Health::None, Some(0), false, 0, G, "reached"),
            (R::Exited, Health::None, Some(1), false, 0, S, "failed"),
            (R::Exited, Health::None, Some(137), true, 0, G, "failed"),
            (
                R::Restarting,
                Health::None,
                Some(1),
                false,
                1,
                G,
                "on the way",
            ),
            (R::Restarting, Health::None, Some(1), false, 3, G, "failed"),
            (R::Failed, Health::None, None, false, 0, G, "failed"),
            (R::Pulling, Health::None, None, false, 0, G, "on the way"),
        ] {
            a.status.state = state;
            a.status.health = health;
            a.status.exit_code = code;
            a.status.oom_killed = oom;
            a.status.restarts = restarts;
            let seen = match standing(a, goal) {
                Standing::Reached => "reached",
                Standing::OnTheWay => "on the way",
                Standing::Failed(_) => "failed",
            };
            assert_eq!(seen, expected, "{state:?}");
        }
    }

    #[test]
    fn the_ledger_says_whether_a_release_is_good() {
        let mut view = deployment(1, "shop", &["web"], 1);
        view.release = 2;
        let rollout = |stuck: Option<&str>| {
            Some(api::Rollout {
                since_ms: 0,
                back: false,
                stuck: stuck.map(Into::into),
            })
        };
        // It runs, but not for long enough yet.
        view.rollout = rollout(None);
        view.allocations[0].release = 2;
        assert!(matches!(
            verdict(&view, 2, Goal::Good),
            Verdict::OnTheWay(_)
        ));
        assert_eq!(verdict(&view, 2, Goal::Started), Verdict::Reached);
        // What is replaced may fail; what replaces it may not.
        view.allocations[0].status.state = RunState::Failed;
        assert!(matches!(
            verdict(&view, 2, Goal::Good),
            Verdict::ReplicaFailed(0, _)
        ));
        view.allocations[0].release = 1;
        assert!(matches!(
            verdict(&view, 2, Goal::Good),
            Verdict::OnTheWay(_)
        ));
        view.allocations[0].status.state = RunState::Running;
        view.rollout = None;
        assert_eq!(verdict(&view, 2, Goal::Good), Verdict::Reached);
        view.rollout = rollout(Some("no place"));
        assert!(matches!(
            verdict(&view, 2, Goal::Good),
            Verdict::ReleaseFailed(..)
        ));
        view.rollout = None;
        view.release = 3;
        view.setback = Some(api::Setback {
            release: 2,
            why: "it ended".into(),
        });
        let Verdict::ReleaseFailed(why, became) = verdict(&view, 2, Goal::Good) else {
            panic!("it failed");
        };
        assert_eq!(why, "it ended");
        assert!(became.contains("release 3"), "{became}");
    }
}
