//! An allocation waits for those that its service depends on.

use std::sync::Arc;

use api::{HostPlan, PlannedAllocation};
use types::{DependencyCondition, Health, RunState};

use super::{StartError, Worker};

impl Worker {
    pub(super) async fn wait_for_dependencies(
        &mut self,
        planned: &Arc<PlannedAllocation>,
    ) -> Result<(), StartError> {
        loop {
            let missing = match self.plans.borrow_and_update().as_ref() {
                Some(plan) => unmet(planned, plan),
                None => Ok(None),
            };
            let Some(reason) = missing.map_err(|why| StartError::Never(why, None))? else {
                return Ok(());
            };
            if self.memory.status.state != RunState::Waiting || self.memory.status.message != reason
            {
                self.set(RunState::Waiting, &reason);
                self.say();
            }
            let mut plans = self.plans.clone();
            plans.mark_unchanged();
            tokio::select! {
                _ = plans.changed() => {}
                () = self.changed() => return Err(StartError::Interrupted),
            }
        }
    }
}

/// What `planned` still waits for, in words; an error if it will never come.
fn unmet(planned: &PlannedAllocation, plan: &HostPlan) -> Result<Option<String>, String> {
    for (service, condition) in &planned.spec.depends_on {
        let mut replicas = plan
            .peers
            .iter()
            .filter(|p| p.deployment == planned.deployment && p.service == *service)
            .peekable();
        if replicas.peek().is_none() {
            return Ok(Some(format!("waits for {service} to be placed")));
        }
        for peer in replicas {
            let status = &peer.status;
            let met = match condition {
                DependencyCondition::ServiceStarted => {
                    matches!(status.state, RunState::Running | RunState::Exited)
                }
                DependencyCondition::ServiceHealthy => {
                    if status.state == RunState::Running && status.health == Health::None {
                        return Err(format!(
                            "{service} has no health check, so it never becomes healthy; give it `healthcheck:`, or wait for service_started"
                        ));
                    }
                    status.is_ready()
                }
                DependencyCondition::ServiceCompletedSuccessfully => {
                    if status.state == RunState::Exited && status.exit_code.unwrap_or(0) != 0 {
                        return Err(format!(
                            "{service} ended with code {}, but had to succeed first",
                            status.exit_code.unwrap_or_default()
                        ));
                    }
                    status.state == RunState::Exited && status.exit_code == Some(0)
                }
            };
            if !met {
                let what = match condition {
                    DependencyCondition::ServiceStarted => "start",
                    DependencyCondition::ServiceHealthy => "be healthy",
                    DependencyCondition::ServiceCompletedSuccessfully => "complete",
                };
                return Ok(Some(format!("waits for {service} to {what}")));
            }
        }
    }
    Ok(None)
}
