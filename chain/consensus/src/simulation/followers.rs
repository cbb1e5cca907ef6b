//! Validators that follow, without a seat: somebody brings them blocks, and takes what they send on.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Result;
use commonware_runtime::deterministic::Context;
use commonware_runtime::{Handle as Task, Spawner as _};

use super::Disk;
use crate::follower::{Follower, Outbox, follower, keep, prepare};
use crate::machine::Machine;
use crate::node::{Config, Handle, handle, open};
use crate::once::Sealer;
use crate::store::Store;

/// As [`crate::may_vote`], of what is on `disk`. No node may run on it.
pub fn may_vote<M: Machine>(config: &Config, machine: &M, disk: &Disk) -> Result<bool> {
    let store = Store::on(&disk.medium)?;
    prepare(config, machine, &store, || {
        disk.engines.fetch_add(1, Relaxed);
        Ok(())
    })
}

/// As [`crate::follow`], on `disk`. It ends with the task.
pub fn follow<M: Machine>(
    context: Context,
    config: &Config,
    disk: &Disk,
    machine: Arc<M>,
) -> Result<(Handle<M>, Follower<M>, Outbox<M>, Task<()>)> {
    let store = Store::on(&disk.medium)?;
    store.set_following()?;
    let sealer = Sealer::memory(disk.led.clone(), &config.seat, config.network);
    let core = Arc::new(open(config, machine, Arc::new(store), sealer)?);
    let (handle, ends, ended) = handle(core.clone());
    let (follower, outbox, taken) = follower(&core, ends.forwarded);
    let stopped = ends.stopped;
    let task = context.spawn(move |context| async move {
        tokio::select! {
            biased;
            _ = stopped => {}
            () = keep(context, core, taken) => {}
        }
        drop(ended);
    });
    Ok((handle, follower, outbox, task))
}
