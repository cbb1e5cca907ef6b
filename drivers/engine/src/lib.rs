//! Run OCI containers on this machine.
//!
//! One trait, three backends over the same bundle (libcontainer in a re-executed shim,
//! `runc`, `crun`), one conformance suite. Containers are children of a shim, not of the
//! agent: an agent that restarts finds them again with [`Engine::list`].

mod bundle;
mod cgroup;
mod enter;
mod exec;
mod face;
mod fault;
mod folder;
mod handover;
mod hidden;
mod log;
mod oci;
mod payload;
mod probe;
mod rights;
mod runtime;
mod seccomp;
mod shim;
mod terminal;
mod users;
mod zygote;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use types::{Resources, TmpfsSpec};

pub use fault::StartFault;
pub use hidden::Hidden;
pub use oci::{EngineConfig, OciEngine, Runtime};
pub use shim::shim_main;
pub use users::{resolve_groups, resolve_user};

/// Of a container's log; with its predecessor it takes twice as much on disk.
pub const LOG_BYTES_MAX: u64 = 10 << 20;

/// Name of a container on this host: `[a-z0-9-]+`, at most 60 characters.
pub type ContainerId = String;

/// All that is needed to start a container. Resolved: nothing is looked up in the image any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub id: ContainerId,
    /// Entrypoint and command together.
    pub args: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    pub cwd: String,
    pub user: UserSpec,
    pub hostname: String,
    pub terminal: bool,
    /// Standard input stays open, though nobody types; else it is at its end.
    #[serde(default)]
    pub stdin_open: bool,
    /// The first process is ours: it starts the command, passes signals on and reaps.
    #[serde(default)]
    pub init: bool,
    pub read_only: bool,
    /// Lower layers, topmost first, as unpacked by the image store (owners already shifted
    /// by `uid_base`), and where the writable layer lives.
    pub lower: Vec<PathBuf>,
    pub upper: PathBuf,
    pub mounts: Vec<Mount>,
    /// Path of a network namespace made by `net`.
    pub netns: PathBuf,
    /// Contents of /etc/hosts and /etc/resolv.conf.
    pub hosts: String,
    pub resolv_conf: String,
    /// Root in the container is this uid and gid on the host; 65536 ids follow.
    pub uid_base: u32,
    pub limits: Resources,
    pub pids: u32,
    /// Number: 15 for SIGTERM.
    pub stop_signal: i32,
    pub labels: BTreeMap<String, String>,
    /// Groups are resolved already: they are in [`ContainerSpec::user`].
    #[serde(default)]
    pub process: types::ProcessSpec,
    /// It makes namespaces and mounts of its own, as a builder does: inside of its user
    /// namespace, in which it has `SYS_ADMIN` for that.
    #[serde(default)]
    pub nests: bool,
}

/// As in the image or compose file, names resolved in the container's own /etc/passwd.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserSpec {
    pub uid: u32,
    pub gid: u32,
    pub additional: Vec<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub target: String,
    pub source: MountFrom,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountFrom {
    /// A directory or a file on the host, owned in the shifted range.
    Directory(PathBuf),
    /// What lies at `path` inside of such a directory, whose content is not trusted: no link
    /// leads out of it. A folder of the container's user is made if nothing is there.
    Part { directory: PathBuf, path: String },
    /// With the container's own ids for its owner; its size is said.
    Tmpfs(TmpfsSpec),
    /// One file in memory, with the container's own ids for its owner. Its content is handed
    /// to the shim and never lies on a disk.
    Memory {
        content: Hidden,
        uid: u32,
        gid: u32,
        /// Permission bits.
        mode: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub phase: Phase,
    /// Of the container's first process, on the host; 0 if none.
    pub pid: u32,
    /// Directories of the container's cgroup, one per controller (v1) or one (v2).
    pub cgroups: BTreeMap<String, PathBuf>,
    pub started_ms: u64,
    pub exit: Option<Exit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    Created,
    Running,
    Exited,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As a shell reports it: 128 + signal if killed.
    pub code: i32,
    pub oom_killed: bool,
    /// It did not end by itself: the machine was restarted, or its shim was killed.
    #[serde(default)]
    pub lost: bool,
    pub at_ms: u64,
}

/// What this machine can do, found by doing it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    pub engine: String,
    pub version: String,
    /// 1 or 2.
    pub cgroup: u8,
    pub user_namespace: bool,
    pub seccomp: bool,
}

/// What is missing, why it is needed, what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{missing}: {why}. {next}")]
pub struct Missing {
    pub missing: String,
    pub why: String,
    pub next: String,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error(transparent)]
    Missing(#[from] Missing),
    #[error("no container {0}")]
    NotFound(ContainerId),
    /// Nothing ran, and nothing will: see [`StartFault::exit_code`].
    #[error("cannot start {id}: {fault}")]
    Start { id: ContainerId, fault: StartFault },
    #[error("{operation} {id}: {why}")]
    Failed {
        operation: &'static str,
        id: ContainerId,
        why: String,
    },
}

/// A process started beside the container's own, its ends held by the agent.
pub struct ExecSession {
    pub input: tokio::sync::mpsc::Sender<ExecInput>,
    pub output: tokio::sync::mpsc::Receiver<ExecOutput>,
}

#[derive(Clone, Debug)]
pub enum ExecInput {
    Stdin(Vec<u8>),
    StdinClosed,
    Resize { rows: u16, columns: u16 },
}

#[derive(Clone, Debug)]
pub enum ExecOutput {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    /// Last.
    Exit(i32),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExecRequest {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: Option<String>,
    pub user: Option<UserSpec>,
    pub terminal: bool,
    pub rows: u16,
    pub columns: u16,
}

/// Drives one runtime. Every call may be repeated: same id, same result.
#[async_trait]
pub trait Engine: Send + Sync {
    /// What this machine can really do, or the first thing that is missing.
    async fn probe(&self) -> Result<Capabilities, EngineError>;
    /// Creates and starts. Its log goes to [`Engine::log_path`].
    async fn start(&self, spec: &ContainerSpec) -> Result<ContainerStatus, EngineError>;
    async fn status(&self, id: &str) -> Result<ContainerStatus, EngineError>;
    /// Those that have not been removed, after a restart of the agent too.
    async fn list(&self) -> Result<Vec<ContainerStatus>, EngineError>;
    /// Returns when the container has exited.
    async fn wait(&self, id: &str) -> Result<Exit, EngineError>;
    /// Signal, then SIGKILL after `grace`.
    async fn stop(&self, id: &str, signal: i32, grace: Duration) -> Result<Exit, EngineError>;
    /// Removes what is left of an exited container: cgroup, mounts, bundle. The writable
    /// layer and the log stay. Read the meter before.
    async fn remove(&self, id: &str) -> Result<(), EngineError>;
    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecSession, EngineError>;
    /// NDJSON file of [`LogLine`]s, rotated to `<path>.1` at [`LOG_BYTES_MAX`].
    fn log_path(&self, id: &str) -> PathBuf;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Without the line end; bytes that are not UTF-8 are replaced.
    pub text: String,
    /// Lines of this container before it; none of a container that an older shim looks after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<u64>,
}
