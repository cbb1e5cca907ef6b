//! What is different for an allocation that makes an image.

use std::sync::Arc;
use std::time::Duration;

use api::PlannedAllocation;
use types::{BuildSpec, RunState};

use super::{StartError, Worker};
use crate::builds::{self, Ready};

impl Worker {
    /// Waits for the account's turn, then gets what a build needs; nothing for what is no
    /// build.
    pub(super) async fn prepare_build(
        &mut self,
        planned: &Arc<PlannedAllocation>,
    ) -> Result<Option<Arc<Ready>>, StartError> {
        let Some(build) = &planned.spec.build else {
            return Ok(None);
        };
        let shared = self.shared.clone();
        let Some(builds) = &shared.builds else {
            let why = "this host does not build any more: `runrig host ls` shows which do";
            return Err(StartError::Never(why.into(), None));
        };
        self.set(RunState::Waiting, "waits for another build of yours here");
        self.say();
        let turn = tokio::select! {
            turn = builds.turn(planned.owner) => turn,
            () = self.changed() => return Err(StartError::Interrupted),
        };
        self.set(RunState::Pulling, "");
        self.say();
        let ready = tokio::select! {
            ready = builds.ready(&shared.images, planned.owner, build, turn) => ready,
            () = self.changed() => return Err(StartError::Interrupted),
        };
        match ready {
            Ok(ready) => Ok(Some(Arc::new(ready))),
            Err(error) if error.is_temporary() => Err(StartError::Later(error.to_string())),
            Err(error) => Err(StartError::Never(error.to_string(), None)),
        }
    }

    /// What was built goes into the registry; its digest.
    pub(super) async fn publish(
        &self,
        planned: &PlannedAllocation,
        build: &BuildSpec,
    ) -> Result<String, String> {
        let pushed = tokio::select! {
            pushed = builds::publish(&self.shared, planned, build) => pushed,
            () = self.changed() => return Err("something else was wanted meanwhile".into()),
        };
        match pushed {
            Ok(digest) => Ok(digest.to_string()),
            Err(error) => Err(format!("what was built cannot be kept: {error:#}")),
        }
    }

    /// The account's next build may begin, with what this one left if that is sound.
    pub(super) async fn settle_build(&mut self, planned: &PlannedAllocation, cut_off: bool) {
        if planned.spec.build.is_none() {
            return;
        }
        let (shared, owner) = (self.shared.clone(), planned.owner);
        let settled = tokio::task::spawn_blocking(move || match &shared.builds {
            Some(builds) => builds.settle(owner, cut_off),
            None => Ok(()),
        });
        if let Ok(Err(error)) = settled.await {
            tracing::warn!(%error, %owner, "what a build left");
        }
        self.build = None;
    }
}

/// Resolves when a build has taken all its time, with how many seconds that is.
pub(super) async fn out_of_time(planned: &PlannedAllocation, since: std::time::Instant) -> u32 {
    let Some(build) = &planned.spec.build else {
        return std::future::pending().await;
    };
    let most = Duration::from_secs(build.seconds_max.into());
    tokio::time::sleep(most.saturating_sub(since.elapsed())).await;
    build.seconds_max
}

pub(super) fn too_long(seconds: u32) -> String {
    format!("out of time: stopped after {seconds} s; raise build.x-runrig.timeout")
}
