//! What state a replica is in.

use types::{AllocationStatus, Health, RunState};

pub fn state_word(state: RunState) -> &'static str {
    match state {
        RunState::Placed => "placed",
        RunState::Pulling => "pulling",
        RunState::Waiting => "waiting",
        RunState::Creating => "creating",
        RunState::Running => "running",
        RunState::Restarting => "restarting",
        RunState::Exited => "exited",
        RunState::Failed => "failed",
        RunState::Frozen => "frozen",
        RunState::Removed => "removed",
    }
}

/// One replica's state in a few words.
pub fn state(status: &AllocationStatus) -> String {
    let mut text = state_word(status.state).to_string();
    match status.health {
        Health::None => {}
        Health::Starting if status.state == RunState::Running => {
            text.push_str(", health not known yet")
        }
        Health::Healthy if status.state == RunState::Running => text.push_str(", healthy"),
        Health::Unhealthy if status.state == RunState::Running => text.push_str(", unhealthy"),
        _ => {}
    }
    if status.oom_killed {
        text.push_str(", out of memory");
    } else if let Some(code) = status.exit_code {
        text.push_str(&format!(", exit code {code}"));
    }
    text
}
