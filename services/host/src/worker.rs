//! The life of one allocation on this host.
//!
//! ```text
//!          ┌──────────── restart policy, new generation ───────────┐
//!          ▼                                                       │
//! pull ─► wait for dependencies ─► create ─► running ─► exited ────┤
//!          desired: stop, freeze ──────────────┘          └► rests ┘
//!          desired: remove ─► stopped, last reading, data gone, lease closed
//! ```

mod building;
mod dependencies;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use anyhow::Result;
use api::{HostPlan, PlannedAllocation};
use engine::{EngineError, Exit, Hidden, Phase};
use ledger::lease::Desired;
use net::Attachment;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use types::{AllocationId, Health, RunState};

use self::building::{out_of_time, too_long};
use crate::book::Book;
use crate::builds::Ready;
use crate::durable::{self, Memory, Watch, container_id};
use crate::policy::{self, Pauses};
use crate::shared::Shared;
use crate::{health, hooks, logs, prepare, secrets, volume};

/// Containers of this process that are made and started at once: more would only make each
/// slower, and everything else on the machine.
static STARTS: LazyLock<Semaphore> = LazyLock::new(|| {
    Semaphore::new(2 * std::thread::available_parallelism().map_or(1, usize::from))
});

pub struct Worker {
    shared: Arc<Shared>,
    planned: watch::Receiver<Arc<PlannedAllocation>>,
    plans: watch::Receiver<Option<Arc<HostPlan>>>,
    memory: Memory,
    book: Arc<Mutex<Book>>,
    running: Option<Running>,
    /// Once they were opened; they are the same as long as it is here.
    secrets: Option<Vec<Hidden>>,
    pauses: Pauses,
    /// How many bytes more than its limit it holds on disk.
    over_disk: watch::Receiver<Option<u64>>,
    /// While it builds: what it builds with, and the account's turn.
    build: Option<Arc<Ready>>,
}

struct Running {
    container: String,
    since: std::time::Instant,
    stop_signal: i32,
    health: watch::Receiver<Health>,
    check: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(check) = &self.check {
            check.abort();
        }
    }
}

/// Why a start did not come about.
enum StartError {
    /// Something else is wanted meanwhile.
    Interrupted,
    /// Trying again may help.
    Later(String),
    /// Trying again will not help.
    Never(String, Option<i32>),
}

impl Worker {
    pub fn open(
        shared: Arc<Shared>,
        planned: watch::Receiver<Arc<PlannedAllocation>>,
        book: Arc<Mutex<Book>>,
    ) -> Result<Self> {
        let allocation = planned.borrow().allocation;
        let memory = durable::read(&shared.memory_path(allocation))?
            .unwrap_or_else(|| Memory::new(allocation));
        let over_disk = book.lock().expect("not poisoned").over_disk();
        Ok(Self {
            plans: shared.plans.clone(),
            shared,
            planned,
            memory,
            over_disk,
            build: None,
            book,
            running: None,
            secrets: None,
            pauses: Pauses::default(),
        })
    }

    /// Returns when the allocation is gone for good.
    pub async fn run(mut self) {
        self.adopt().await;
        loop {
            let planned = self.planned.borrow_and_update().clone();
            match planned.desired {
                Desired::Remove => return self.finish(&planned).await,
                Desired::Stop => {
                    self.rest(&planned, RunState::Exited, "stopped on request")
                        .await
                }
                Desired::Freeze => {
                    self.rest(
                        &planned,
                        RunState::Frozen,
                        "stopped for lack of funds or by its owner's limit: everything is kept; `runrig ps` says which",
                    )
                    .await;
                }
                Desired::Run | Desired::Drain => self.serve(&planned).await,
            }
        }
    }

    /// Finds again what a former agent left running.
    async fn adopt(&mut self) {
        let planned = self.planned.borrow().clone();
        let container = self.memory.container();
        self.book
            .lock()
            .expect("not poisoned")
            .keep(prepare::storage(&self.shared, &planned));
        let Ok(status) = self.shared.engine.status(&container).await else {
            return;
        };
        let attachments = self.shared.net.attachments().await;
        match (status.phase, attachments.get(&container)) {
            (Phase::Running, Some(attachment)) => {
                tracing::info!(%container, pid = status.pid, "found running");
                self.attach_book(&planned, &status, attachment, self.now_ms());
                self.memory.status.pid = status.pid;
                let health = self.memory.status.health;
                self.watch(container, health);
                self.say();
            }
            (Phase::Exited, attachment) => {
                let exit = status.exit.unwrap_or_else(lost);
                // It may have ended long ago; its counters are still there.
                if let Some(attachment) = attachment {
                    self.attach_book(&planned, &status, attachment, self.when(&exit));
                }
                self.watch(container, Health::None);
                self.exited(&planned, exit).await;
            }
            _ => self.clean(&container, self.now_ms()).await,
        }
    }

    /// Desired: run.
    async fn serve(&mut self, planned: &Arc<PlannedAllocation>) {
        if self.memory.generation != planned.generation {
            if self.running.is_some() {
                self.stop(planned).await;
            }
            self.memory.generation = planned.generation;
            self.memory.restarts = 0;
            self.memory.forgiven = 0;
            self.memory.ended = false;
            self.pauses = Pauses::default();
            self.save();
        }
        if self.running.is_some() {
            return self.watch_running(planned).await;
        }
        if self.memory.ended {
            return self.changed().await;
        }
        let started = self.start(planned).await;
        if started.is_err() {
            // Others of the account need not wait for it.
            self.build = None;
        }
        match started {
            Ok(()) => {}
            Err(StartError::Interrupted) => {}
            Err(StartError::Never(why, code)) => {
                self.memory.ended = true;
                self.set(RunState::Failed, &why);
                self.memory.status.exit_code = code;
                self.say();
            }
            Err(StartError::Later(why)) => {
                let state = self.memory.status.state;
                self.set(state, &format!("{why}; trying again"));
                self.say();
                let pause = self.pauses.after_trouble();
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.changed() => {}
                }
            }
        }
    }

    async fn start(&mut self, planned: &Arc<PlannedAllocation>) -> Result<(), StartError> {
        self.memory.status.exit_code = None;
        self.memory.status.oom_killed = false;
        if self.memory.restarts == 0 {
            self.set(RunState::Pulling, "");
            self.say();
        }
        let shared = self.shared.clone();
        let pull = async {
            let image = shared.images.ensure(&planned.spec.image, |_, _| ()).await?;
            let mut mounted = BTreeMap::new();
            for wanted in planned.spec.images().skip(1) {
                let ready = shared.images.ensure(wanted, |_, _| ()).await?;
                mounted.insert(wanted.digest, ready);
            }
            Ok::<_, images::ImageError>((image, mounted))
        };
        let (image, mounted) = tokio::select! {
            image = pull => image.map_err(|error| match error.is_temporary() {
                true => StartError::Later(error.to_string()),
                false => StartError::Never(error.to_string(), None),
            })?,
            () = self.changed() => return Err(StartError::Interrupted),
        };
        self.wait_for_dependencies(planned).await?;
        let build = self.prepare_build(planned).await?;
        self.build.clone_from(&build);
        if self.secrets.is_none() {
            let opened = tokio::select! {
                opened = secrets::open(&self.shared, planned, &mounted) => opened,
                () = self.changed() => return Err(StartError::Interrupted),
            };
            let said = |e| StartError::Later(format!("its secrets cannot be opened: {e:#}"));
            self.secrets = Some(opened.map_err(said)?);
        }
        // Never closed; without a turn it would only be slower.
        let turn = tokio::select! {
            turn = STARTS.acquire() => turn.ok(),
            () = self.changed() => return Err(StartError::Interrupted),
        };

        self.set(RunState::Creating, "");
        self.memory.instance += 1;
        // No later start may have its number.
        self.save_with(durable::write);
        let container = self.memory.container();
        let attach = net::AttachRequest {
            container: container.clone(),
            networks: prepare::networks(planned),
            former: self.memory.former.clone(),
            bandwidth_kbps: planned.spec.resources.bandwidth_kbps,
        };
        let later = |error: &dyn std::fmt::Display| StartError::Later(error.to_string());
        let attachment = self
            .shared
            .net
            .attach(&attach)
            .await
            .map_err(|e| later(&e))?;
        let spec = {
            let (shared, planned, image) = (self.shared.clone(), planned.clone(), image.clone());
            let (id, attachment) = (container.clone(), attachment.clone());
            let secrets = self.secrets.clone().unwrap_or_default();
            tokio::task::spawn_blocking(move || {
                let build = build.as_deref();
                prepare::container(
                    &shared,
                    &planned,
                    id,
                    &image,
                    (&mounted, &secrets),
                    &attachment,
                    build,
                )
            })
            .await
            .map_err(|e| later(&e))?
        };
        let spec = match spec {
            Ok(spec) => spec,
            Err(error) => {
                self.clean(&container, self.now_ms()).await;
                return Err(StartError::Never(format!("{error:#}"), None));
            }
        };
        match self.shared.engine.start(&spec).await {
            Ok(status) => {
                self.attach_book(planned, &status, &attachment, self.now_ms());
                self.memory.watch = Watch {
                    stop_signal: Some(spec.stop_signal),
                    check: prepare::health_check(planned, &image),
                };
                let interfaces = attachment.interfaces.iter();
                self.memory.former = interfaces.map(|i| i.address).collect();
                self.memory.status = types::AllocationStatus {
                    state: RunState::Running,
                    health: match self.memory.watch.check {
                        Some(_) => Health::Starting,
                        None => Health::None,
                    },
                    pid: status.pid,
                    restarts: self.memory.restarts,
                    exit_code: None,
                    oom_killed: false,
                    addresses: attachment
                        .interfaces
                        .iter()
                        .map(|i| (i.network.network.clone(), i.address.octets()))
                        .collect(),
                    message: String::new(),
                };
                let health = self.memory.status.health;
                self.watch(container, health);
                self.save();
                drop(turn);
                self.greet(planned).await;
                Ok(())
            }
            Err(error) => {
                self.clean(&container, self.now_ms()).await;
                Err(match error {
                    EngineError::Start { fault, .. } => {
                        StartError::Never(fault.to_string(), Some(fault.exit_code()))
                    }
                    other => later(&other),
                })
            }
        }
    }

    /// Runs what its service wants run once it has started; only then it counts as running.
    async fn greet(&mut self, planned: &Arc<PlannedAllocation>) {
        let commands = &planned.spec.hooks.post_start[..];
        let container = self.memory.container();
        if !commands.is_empty() {
            let shared = self.shared.clone();
            let ran = tokio::select! {
                ran = hooks::run(&shared, planned, &container, ("post_start", commands)) => ran,
                () = self.changed() => Ok(()),
            };
            if let Err(failed) = ran {
                return self.turn_back(planned, failed).await;
            }
        }
        self.say();
    }

    /// What was to be run after the start has failed: so has the start.
    async fn turn_back(&mut self, planned: &PlannedAllocation, failed: hooks::Failed) {
        let Some(running) = &self.running else {
            return;
        };
        let (container, signal) = (running.container.clone(), running.stop_signal);
        let grace = Duration::from_millis(planned.spec.stop_grace_ms.into());
        let stopped = self.shared.engine.stop(&container, signal, grace).await;
        let exit = Exit {
            code: failed.code,
            ..stopped.unwrap_or_else(|_| lost())
        };
        let exit = Exit {
            lost: false,
            ..exit
        };
        self.ended(planned, exit, failed.why).await;
    }

    fn attach_book(
        &self,
        planned: &PlannedAllocation,
        status: &engine::ContainerStatus,
        attachment: &Attachment,
        at_ms: u64,
    ) {
        let source = meter::Source {
            cgroups: status.cgroups.clone(),
            interfaces: attachment
                .interfaces
                .iter()
                .map(|i| i.host_name.clone())
                .collect(),
            directories: prepare::storage(&self.shared, planned),
        };
        let mut book = self.book.lock().expect("not poisoned");
        book.attach(self.memory.instance, source);
        book.sample(at_ms, None);
    }

    fn watch(&mut self, container: String, now: Health) {
        let (sender, health) = watch::channel(now);
        let Watch { stop_signal, check } = self.memory.watch.clone();
        let stop_signal = stop_signal.unwrap_or(libc::SIGTERM);
        let check = check.map(|check| {
            let (engine, container) = (self.shared.engine.clone(), container.clone());
            tokio::spawn(async move {
                health::watch(engine, container, check, sender).await;
            })
        });
        self.running = Some(Running {
            container,
            since: std::time::Instant::now(),
            stop_signal,
            health,
            check,
        });
    }

    /// Until it exits, its health changes or something else is wanted.
    async fn watch_running(&mut self, planned: &Arc<PlannedAllocation>) {
        let Some(running) = &self.running else {
            return;
        };
        let (engine, container) = (self.shared.engine.clone(), running.container.clone());
        let mut health = running.health.clone();
        let checked = running.check.is_some();
        let mut disk = self.over_disk.clone();
        let since = running.since;
        tokio::select! {
            seconds = out_of_time(planned, since) => self.cut_off(planned, &too_long(seconds)).await,
            exit = engine.wait(&container) => {
                let exit = exit.unwrap_or_else(|error| {
                    tracing::error!(%container, %error, "lost sight of a container");
                    lost()
                });
                self.exited(planned, exit).await;
            }
            more = over_disk(&mut disk) => {
                let why = too_much(planned.spec.resources.disk_bytes, more);
                self.cut_off(planned, &why).await;
            }
            changed = health.changed(), if checked => {
                if changed.is_ok() {
                    let now = *health.borrow_and_update();
                    if let Some(running) = &mut self.running {
                        running.health = health;
                    }
                    self.memory.status.health = now;
                    self.save();
                    self.say();
                }
            }
            () = self.changed() => {}
        }
    }

    /// It ended by itself: by policy it starts again or rests.
    async fn exited(&mut self, planned: &PlannedAllocation, exit: Exit) {
        let how = how_it_ended(&exit, planned);
        self.ended(planned, exit, how).await;
    }

    async fn ended(&mut self, planned: &PlannedAllocation, exit: Exit, how: String) {
        let Some(running) = self.running.take() else {
            return;
        };
        let ran = running.since.elapsed();
        let usual = self.pauses.after(ran);
        self.clean(&running.container, self.when(&exit)).await;
        self.memory.status.pid = 0;
        self.memory.status.health = Health::None;
        self.memory.status.addresses = BTreeMap::new();
        self.memory.status.exit_code = Some(exit.code);
        self.memory.status.oom_killed = exit.oom_killed;
        if let Some(build) = &planned.spec.build {
            let cut_off = exit.oom_killed || exit.lost || exit.code > 128;
            let made = match exit.code {
                0 => self.publish(planned, build).await,
                _ => Ok(how),
            };
            self.settle_build(planned, cut_off).await;
            self.memory.ended = true;
            match made {
                Ok(said) => self.set(RunState::Exited, &said),
                Err(why) => self.set(RunState::Failed, &why),
            }
            self.save();
            self.say();
            self.shared.usage_due.notify_one();
            return;
        }
        let window = Duration::from_millis(planned.spec.restart_window_ms.into());
        if !window.is_zero() && ran >= window {
            self.memory.forgiven = self.memory.restarts;
        }
        let counted = self.memory.restarts.saturating_sub(self.memory.forgiven);
        if !policy::again(planned.spec.restart, &exit, counted) {
            self.memory.ended = true;
            self.set(RunState::Exited, &how);
            self.save();
            self.say();
            self.shared.usage_due.notify_one();
            return;
        }
        self.memory.restarts += 1;
        self.memory.status.restarts = self.memory.restarts;
        self.set(RunState::Restarting, &how);
        self.save();
        self.say();
        let pause = match planned.spec.restart_delay_ms {
            0 => usual,
            ms => Duration::from_millis(ms.into()),
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.changed() => {}
        }
    }

    /// It rests until somebody asks for it again, or gives it more.
    async fn cut_off(&mut self, planned: &PlannedAllocation, why: &str) {
        self.stop(planned).await;
        self.memory.ended = true;
        self.set(RunState::Failed, why);
        self.save();
        self.say();
        self.shared.usage_due.notify_one();
    }

    /// Desired: stop or freeze.
    async fn rest(&mut self, planned: &Arc<PlannedAllocation>, state: RunState, why: &str) {
        if self.running.is_some() {
            self.stop(planned).await;
        }
        if self.memory.status.state != state || self.memory.status.message != why {
            self.set(state, why);
            self.save();
            self.say();
            self.shared.usage_due.notify_one();
        }
        // Started again, it begins as if new.
        self.memory.ended = false;
        self.memory.restarts = 0;
        self.memory.forgiven = 0;
        self.save();
        self.changed().await;
    }

    async fn stop(&mut self, planned: &PlannedAllocation) {
        let Some(running) = self.running.take() else {
            return;
        };
        let grace = Duration::from_millis(planned.spec.stop_grace_ms.into());
        let left = self.bid_farewell(planned, &running.container, grace).await;
        let stopped = self
            .shared
            .engine
            .stop(&running.container, running.stop_signal, left)
            .await;
        let ended_ms = match stopped {
            Ok(exit) => {
                self.memory.status.exit_code = Some(exit.code);
                self.memory.status.oom_killed = exit.oom_killed;
                self.when(&exit)
            }
            Err(error) => {
                tracing::error!(container = %running.container, %error, "stop");
                self.now_ms()
            }
        };
        self.clean(&running.container, ended_ms).await;
        self.settle_build(planned, true).await;
        self.memory.status.pid = 0;
        self.memory.status.health = Health::None;
        self.memory.status.addresses = BTreeMap::new();
    }

    /// Runs what its service wants run before it is stopped; what is left of `grace` then.
    async fn bid_farewell(
        &self,
        planned: &PlannedAllocation,
        container: &str,
        grace: Duration,
    ) -> Duration {
        let commands = &planned.spec.hooks.pre_stop[..];
        if commands.is_empty() {
            return grace;
        }
        let began = std::time::Instant::now();
        let run = hooks::run(&self.shared, planned, container, ("pre_stop", commands));
        match tokio::time::timeout(grace, run).await {
            Ok(Ok(())) => {}
            Ok(Err(failed)) => tracing::warn!(%container, why = %failed.why, "before its stop"),
            Err(_) => tracing::warn!(%container, "pre_stop took all of its grace"),
        }
        grace.saturating_sub(began.elapsed())
    }

    /// Desired: remove.
    async fn finish(mut self, planned: &Arc<PlannedAllocation>) {
        self.stop(planned).await;
        if self.shared.planned(planned.allocation).is_some() {
            self.account(planned).await;
        }
        // What the ledger does not place here it does not want to hear of.
        self.shared
            .statuses
            .lock()
            .expect("not poisoned")
            .remove(&planned.allocation);
        let (shared, planned, instance) =
            (self.shared.clone(), planned.clone(), self.memory.instance);
        let deleted =
            tokio::task::spawn_blocking(move || delete(&shared, &planned, instance)).await;
        if let Ok(Err(error)) = deleted {
            tracing::error!(%error, "what an allocation left behind");
        }
    }

    /// Tells the ledger its end and its last usage; returns when that is settled.
    async fn account(&mut self, planned: &PlannedAllocation) {
        {
            let mut book = self.book.lock().expect("not poisoned");
            book.sample(self.now_ms(), None);
            book.finish();
        }
        self.set(RunState::Removed, "");
        self.save();
        self.say();
        self.shared.usage_due.notify_one();
        // The ledger drops it from the plan once the last usage is settled.
        while !self.book.lock().expect("not poisoned").is_closed() {
            let gone = self.shared.plan().is_some_and(|p| {
                p.allocations
                    .iter()
                    .all(|a| a.allocation != planned.allocation)
            });
            if gone {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Last reading first, then cgroup, mounts, interfaces. What is paid by the time that a
    /// container runs counts up to `ended_ms`, however much later this is.
    async fn clean(&mut self, container: &str, ended_ms: u64) {
        let (book, now) = (self.book.clone(), self.now_ms());
        let detached = tokio::task::spawn_blocking(move || {
            let directories = book.lock().expect("not poisoned").directories().to_vec();
            let disk = meter::disk_bytes(&directories);
            let mut book = book.lock().expect("not poisoned");
            book.detach(ended_ms.min(now), Some(disk));
            book.save()
        })
        .await;
        if let Ok(Err(error)) = detached {
            tracing::error!(%container, %error, "last reading");
        }
        if let Err(error) = self.shared.engine.remove(container).await
            && !matches!(error, EngineError::NotFound(_))
        {
            tracing::error!(%container, %error, "remove");
        }
        if let Err(error) = self.shared.net.detach(container).await {
            tracing::error!(%container, %error, "detach");
        }
    }

    /// Something else may be wanted.
    async fn changed(&self) {
        let mut planned = self.planned.clone();
        if planned.has_changed().unwrap_or(false) {
            return;
        }
        if planned.changed().await.is_err() {
            // The agent ends.
            std::future::pending::<()>().await;
        }
    }

    fn now_ms(&self) -> u64 {
        self.shared.clock.now_ms()
    }

    /// It ended, by the agent's time.
    fn when(&self, exit: &Exit) -> u64 {
        self.shared.clock.of_wall(exit.at_ms)
    }

    fn set(&mut self, state: RunState, message: &str) {
        self.memory.status.state = state;
        self.memory.status.message = shortened(message);
    }

    fn say(&self) {
        self.shared.report(
            self.memory.allocation,
            self.memory.instance,
            &self.memory.status,
        );
    }

    fn save(&self) {
        self.save_with(durable::write_whole);
    }

    fn save_with(&self, write: fn(&Path, &Memory) -> Result<()>) {
        let path = self.shared.memory_path(self.memory.allocation);
        if let Err(error) = write(&path, &self.memory) {
            tracing::error!(%error, "worker's memory");
        }
    }
}

/// Nobody saw it end.
fn lost() -> Exit {
    Exit {
        code: 255,
        oom_killed: false,
        lost: true,
        at_ms: api::now_ms(),
    }
}

/// Resolves when it holds more on disk than it may, with how much.
async fn over_disk(disk: &mut watch::Receiver<Option<u64>>) -> u64 {
    let over = disk.wait_for(Option::is_some).await.ok().and_then(|o| *o);
    match over {
        Some(more) => more,
        // The book is closed.
        None => std::future::pending().await,
    }
}

fn too_much(limit: u64, more: u64) -> String {
    format!(
        "out of disk: stopped with {} MiB over its limit of {} MiB; raise `x-runrig: {{ disk: … }}`, or remove it to begin anew",
        more.div_ceil(1 << 20),
        limit >> 20
    )
}

/// At most 400 bytes, on a character's edge.
fn shortened(text: &str) -> String {
    let mut end = text.len().min(400);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_string()
}

fn how_it_ended(exit: &Exit, planned: &PlannedAllocation) -> String {
    if exit.lost {
        return "cut off: its machine was restarted, or its keeper there was killed".into();
    }
    if exit.oom_killed {
        let mib = planned.spec.resources.memory_bytes >> 20;
        let next = match planned.spec.build {
            Some(_) => "build.x-runrig.memory",
            None => "deploy.resources.limits.memory",
        };
        return format!("out of memory: killed at its limit of {mib} MiB; raise {next}");
    }
    match exit.code {
        0 => String::new(),
        code if code > 128 => format!("killed by signal {}", code - 128),
        code => format!(
            "exited with code {code}; see `runrig logs {}`",
            planned.allocation
        ),
    }
}

fn delete(shared: &Shared, planned: &PlannedAllocation, instances: u32) -> Result<()> {
    if planned.remove_volumes {
        volume::delete(
            &shared
                .folder("volumes")
                .join(planned.deployment.to_string()),
        )?;
    }
    forget(shared, planned.allocation, instances)
}

/// Everything that lies here of an allocation with so many `instances`, but its volumes,
/// what it printed and what proves its usage.
pub fn forget(shared: &Shared, allocation: AllocationId, instances: u32) -> Result<()> {
    volume::delete(&shared.upper(allocation))?;
    keep_log(shared, allocation, instances);
    for path in [shared.memory_path(allocation), shared.book_path(allocation)] {
        std::fs::remove_file(path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
    }
    Ok(())
}

/// Takes in what its containers printed last; what is kept of it stays, by policy.
fn keep_log(shared: &Shared, allocation: AllocationId, instances: u32) {
    if let Some(stream) = shared.logs.find(allocation)
        && let Err(error) = logs::take(shared, &stream, allocation, instances)
    {
        tracing::error!(%allocation, %error, "its last lines are lost");
    }
    shared.logs.end(allocation);
    for instance in 1..=instances {
        let container = container_id(allocation, instance);
        logs::remove_file(&shared.engine.log_path(&container));
    }
}
