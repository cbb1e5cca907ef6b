//! The engine over OCI bundles: orders to shims, and the files that they leave.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::process::Command;

use crate::fault::Failure;
use crate::shim::{Order, Process, State, write_file};
use crate::zygote::Zygote;
use crate::{
    Capabilities, ContainerSpec, ContainerStatus, Engine, EngineError, ExecRequest, ExecSession,
    Exit, Missing, Phase, cgroup, exec, hidden, probe,
};

/// How long a probe's container may take.
const PROBE: Duration = Duration::from_secs(30);
/// In a container's folder: its shim was killed and could not tidy up.
const ORPHANED: &str = "orphaned";

/// What creates and starts a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Runtime {
    /// Inside the shim; needs nothing installed.
    Libcontainer,
    Runc,
    Crun,
}

impl Runtime {
    pub const ALL: [Self; 3] = [Self::Libcontainer, Self::Runc, Self::Crun];

    pub fn name(self) -> &'static str {
        match self {
            Self::Libcontainer => "libcontainer",
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    /// The program on the PATH.
    pub(crate) fn program(self) -> &'static str {
        self.name()
    }
}

#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// State, logs and the runtime's own folder.
    pub root: PathBuf,
    pub runtime: Runtime,
    /// Program and first arguments that reach [`crate::shim_main`].
    pub shim: Vec<String>,
    /// `/runrig/<host>`: where containers' cgroups are made, under every controller.
    pub cgroup_parent: String,
}

pub struct OciEngine {
    config: EngineConfig,
    zygote: Arc<Zygote>,
}

impl Drop for OciEngine {
    fn drop(&mut self) {
        cgroup::remove_empty(cgroup::hierarchies(), &self.config.cgroup_parent);
    }
}

fn failed(operation: &'static str, id: &str, why: impl ToString) -> EngineError {
    EngineError::Failed {
        operation,
        id: id.into(),
        why: why.to_string(),
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

impl OciEngine {
    pub fn open(config: EngineConfig) -> Result<Self, EngineError> {
        let zygote = Arc::new(Zygote::new(&config.shim, &config.root));
        let engine = Self { config, zygote };
        for folder in ["containers", "logs", "runtime"] {
            let path = engine.config.root.join(folder);
            std::fs::create_dir_all(&path).map_err(|e| failed("open", folder, e))?;
        }
        if engine.config.shim.is_empty() {
            return Err(failed("open", "shim", "no program was named"));
        }
        cgroup::make(&engine.config.cgroup_parent);
        Ok(engine)
    }

    fn folder(&self, id: &str) -> PathBuf {
        self.config.root.join("containers").join(id)
    }

    fn states(&self) -> PathBuf {
        self.config.root.join("runtime")
    }

    fn cgroup(&self, id: &str) -> String {
        format!("{}/{id}", self.config.cgroup_parent.trim_end_matches('/'))
    }

    fn shim(&self) -> Command {
        let mut command = Command::new(&self.config.shim[0]);
        command.args(&self.config.shim[1..]);
        command
    }

    fn state(&self, id: &str) -> Result<State, EngineError> {
        read(&self.folder(id).join("state.json")).ok_or_else(|| EngineError::NotFound(id.into()))
    }

    fn status_now(&self, id: &str) -> Result<ContainerStatus, EngineError> {
        let state = self.state(id)?;
        let exit = match read::<Exit>(&self.folder(id).join("exit.json")) {
            Some(exit) => Some(exit),
            None if state.shim.lives() => None,
            None => Some(self.without_shim(id, &state)),
        };
        Ok(ContainerStatus {
            id: id.into(),
            phase: if exit.is_some() {
                Phase::Exited
            } else {
                Phase::Running
            },
            pid: if exit.is_some() {
                0
            } else {
                state.container.pid as u32
            },
            cgroups: cgroup::directories(&self.cgroup(id)),
            started_ms: state.started_ms,
            exit,
        })
    }

    /// Starts a tiny container; says what it takes and is not there.
    async fn try_in(&self, folder: &Path) -> Result<(), EngineError> {
        let output = self.shim().arg("probe").arg(folder).output().await;
        let output = output.map_err(|e| failed("probe", "", e))?;
        serde_json::from_slice::<Result<(), Missing>>(&output.stdout)
            .unwrap_or_else(|_| {
                Err(Missing {
                    missing: "the shim did not answer".into(),
                    why: String::from_utf8_lossy(&output.stderr).trim().into(),
                    next: "Start the host by the program that `runrig` is".into(),
                })
            })
            .map_err(EngineError::Missing)?;
        let spec = probe::container(folder);
        // One that a probe left which was killed.
        let _ = self.remove(&spec.id).await;
        let started = tokio::time::timeout(PROBE, async {
            self.start(&spec).await?;
            self.wait(&spec.id).await
        });
        let ended = started.await;
        let said = self.remove(&spec.id).await;
        let _ = std::fs::remove_file(self.log_path(&spec.id));
        let why = match ended {
            Ok(Ok(exit)) if exit.code == 0 => return said,
            Ok(Ok(exit)) => format!("it ended with code {}", exit.code),
            Ok(Err(EngineError::Failed { why, .. })) => why,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("nothing happened within {} s", PROBE.as_secs()),
        };
        Err(probe::not_started(self.config.runtime, &why))
    }

    /// The shim has ended: with the word how its container did, or because somebody killed it.
    /// Then nobody keeps the log any more, so the container ends too.
    fn without_shim(&self, id: &str, state: &State) -> Exit {
        let kept = self.folder(id).join("exit.json");
        // It may have been written since it was looked for.
        if let Some(exit) = read::<Exit>(&kept) {
            return exit;
        }
        let oom_killed = cgroup::oom_killed(&cgroup::directories(&self.cgroup(id)));
        signal(&state.container, libc::SIGKILL);
        let exit = Exit {
            code: 128 + libc::SIGKILL,
            oom_killed,
            lost: true,
            at_ms: crate::shim::now_ms(),
        };
        tracing::warn!(%id, "its shim was killed; the container is ended");
        let marked = std::fs::write(self.folder(id).join(ORPHANED), "");
        if let Err(error) = marked.and_then(|()| write_file(&kept, &exit)) {
            tracing::warn!(%id, %error, "how it ended cannot be kept");
        }
        exit
    }

    /// Resolves when the shim, or without it the container, has ended.
    async fn end_of(&self, state: &State) {
        let process = if state.shim.lives() {
            state.shim
        } else {
            state.container
        };
        let Some(fd) = process.open() else {
            return;
        };
        // SAFETY: the descriptor is owned and lives as long as its registration.
        match unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) } {
            // An error means that there is nothing left to wait for.
            Ok(fd) => drop(fd.readable().await),
            Err(_) => {
                while process.lives() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
}

fn signal(process: &Process, signal: i32) {
    if process.lives() {
        // SAFETY: sends a signal, touches no memory.
        unsafe { libc::kill(process.pid, signal) };
    }
}

#[async_trait]
impl Engine for OciEngine {
    async fn probe(&self) -> Result<Capabilities, EngineError> {
        probe::machine(&self.config.cgroup_parent)?;
        let runtime = self.config.runtime;
        let version = if runtime == Runtime::Libcontainer {
            "0.7".to_string()
        } else {
            let output = Command::new(runtime.program())
                .arg("--version")
                .output()
                .await;
            let output = output.map_err(|_| {
                EngineError::Missing(Missing {
                    missing: format!("{} is not installed", runtime.program()),
                    why: "this host is set to run containers with it".into(),
                    next: format!(
                        "Install it (apt install {}), or choose --engine libcontainer",
                        runtime.program()
                    ),
                })
            })?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            text.lines().next().unwrap_or_default().to_string()
        };
        let folder = self.config.root.join("probe");
        std::fs::create_dir_all(&folder).map_err(|e| failed("probe", "", e))?;
        let tried = self.try_in(&folder).await;
        // Only what the probe itself made.
        let _ = std::fs::remove_dir_all(&folder);
        tried?;
        Ok(Capabilities {
            engine: runtime.name().into(),
            version,
            cgroup: cgroup::version(),
            user_namespace: true,
            seccomp: true,
        })
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<ContainerStatus, EngineError> {
        let id = spec.id.as_str();
        if self.state(id).is_ok() {
            return self.status_now(id);
        }
        drop(tokio::task::spawn_blocking(cgroup::announce_move));
        let folder = self.folder(id);
        std::fs::create_dir_all(&folder).map_err(|e| failed("start", id, e))?;
        let order = Order {
            spec: spec.clone(),
            runtime: self.config.runtime,
            folder: folder.clone(),
            states: self.states(),
            log: self.log_path(id),
            cgroup: self.cgroup(id),
        };
        let path = folder.join("order.json");
        write_file(&path, &order).map_err(|e| failed("start", id, e))?;
        let secrets = hidden::handed(spec);
        if secrets.bytes().len() > hidden::BYTES_MAX {
            return Err(failed("start", id, "its secrets are too large"));
        }
        let zygote = self.zygote.clone();
        let follow = move || zygote.follow(&path, secrets.bytes());
        let answer = tokio::task::spawn_blocking(follow).await;
        let answer = answer
            .unwrap_or_else(|e| Err(std::io::Error::other(e)))
            .map_err(|e| failed("start", id, format!("make a shim: {e}")))?;
        let started = serde_json::from_str::<Result<State, Failure>>(&answer)
            .unwrap_or_else(|_| Err("the shim ended without an answer".to_string().into()));
        if let Err(failure) = started {
            let _ = self.remove(id).await;
            let _ = std::fs::remove_dir_all(&folder);
            return Err(match failure {
                Failure::Fault(fault) => EngineError::Start {
                    id: id.into(),
                    fault,
                },
                Failure::Other(why) => failed("start", id, why),
            });
        }
        self.status_now(id)
    }

    async fn status(&self, id: &str) -> Result<ContainerStatus, EngineError> {
        self.status_now(id)
    }

    async fn list(&self) -> Result<Vec<ContainerStatus>, EngineError> {
        let folder = self.config.root.join("containers");
        let entries = std::fs::read_dir(&folder).map_err(|e| failed("list", "", e))?;
        let mut all: Vec<_> = entries
            .flatten()
            .filter_map(|e| self.status_now(e.file_name().to_str()?).ok())
            .collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(all)
    }

    async fn wait(&self, id: &str) -> Result<Exit, EngineError> {
        loop {
            let state = self.state(id)?;
            if let Some(exit) = self.status_now(id)?.exit {
                return Ok(exit);
            }
            self.end_of(&state).await;
        }
    }

    async fn stop(&self, id: &str, number: i32, grace: Duration) -> Result<Exit, EngineError> {
        let state = self.state(id)?;
        if self.status_now(id)?.exit.is_none() {
            signal(&state.container, number);
            if tokio::time::timeout(grace, self.wait(id)).await.is_err() {
                signal(&state.container, libc::SIGKILL);
            }
        }
        self.wait(id).await
    }

    async fn remove(&self, id: &str) -> Result<(), EngineError> {
        if let Ok(state) = self.state(id)
            && self.status_now(id)?.exit.is_none()
        {
            signal(&state.container, libc::SIGKILL);
            self.wait(id).await?;
        }
        if self.config.runtime == Runtime::Crun && self.folder(id).join(ORPHANED).exists() {
            let released = self.shim().arg("release").arg(self.cgroup(id)).status();
            released.await.map_err(|e| failed("remove", id, e))?;
        }
        let (cgroup, folders) = (self.cgroup(id), [self.states().join(id), self.folder(id)]);
        let removed = tokio::task::spawn_blocking(move || -> std::io::Result<()> {
            cgroup::remove(&cgroup)?;
            for folder in folders {
                if folder.exists() {
                    std::fs::remove_dir_all(folder)?;
                }
            }
            Ok(())
        })
        .await;
        match removed {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(failed("remove", id, error)),
            Err(error) => Err(failed("remove", id, error)),
        }
    }

    async fn exec(&self, id: &str, request: ExecRequest) -> Result<ExecSession, EngineError> {
        if self.status_now(id)?.phase != Phase::Running {
            return Err(failed("exec", id, "the container does not run"));
        }
        let json = serde_json::to_string(&request).map_err(|e| failed("exec", id, e))?;
        let mut command = self.shim();
        command.arg("exec").arg(&self.config.root).args([id, &json]);
        exec::session(command, &request).map_err(|e| failed("exec", id, e))
    }

    fn log_path(&self, id: &str) -> PathBuf {
        self.config.root.join("logs").join(format!("{id}.log"))
    }
}
