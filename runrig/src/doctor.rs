//! `doctor`: what this machine can do as a host, found by doing it.

use std::path::PathBuf;

use clap::Args;
use engine::{Engine, EngineConfig, EngineError, OciEngine, Runtime};
use serde::Serialize;

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  sudo runrig doctor\n  sudo runrig doctor --engine crun --json"
)]
pub struct Doctor {
    /// libcontainer, runc or crun
    #[arg(long, default_value = "libcontainer", value_parser = runtime)]
    engine: Runtime,
}

pub fn runtime(name: &str) -> std::result::Result<Runtime, String> {
    [Runtime::Libcontainer, Runtime::Runc, Runtime::Crun]
        .into_iter()
        .find(|r| r.name() == name)
        .ok_or_else(|| "choose libcontainer, runc or crun".to_string())
}

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    good: bool,
    found: String,
    /// What to do about it; empty if it is good.
    next: String,
}

impl Check {
    fn good(what: &'static str, found: String) -> Self {
        Self {
            what,
            good: true,
            found,
            next: String::new(),
        }
    }

    fn bad(what: &'static str, found: String, next: String) -> Self {
        Self {
            what,
            good: false,
            found,
            next,
        }
    }
}

/// Program and first argument that reach the engine's shim.
pub fn shim() -> Result<Vec<String>> {
    let own = std::env::current_exe().map_err(anyhow::Error::from)?;
    Ok(vec![own.to_string_lossy().into_owned(), "shim".into()])
}

/// A folder that goes with the check.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("runrig-doctor-{}", std::process::id()));
        crate::context::create_private_dir(&path).map_err(anyhow::Error::from)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether containers can run here; else what is missing, why, and what to do.
pub async fn can_host(runtime: Runtime) -> Result {
    let check = check_engine(runtime, &Scratch::new()?).await?;
    match check.good {
        true => Ok(()),
        false => Err(Failure::new(
            failure::FAILED,
            "this machine cannot be a host",
            check.found,
            check.next,
        )),
    }
}

async fn check_engine(runtime: Runtime, scratch: &Scratch) -> Result<Check> {
    const WHAT: &str = "containers";
    let opened = OciEngine::open(EngineConfig {
        root: scratch.0.join("engine"),
        runtime,
        shim: shim()?,
        cgroup_parent: format!("/runrig/doctor-{}", std::process::id()),
    });
    let probed = match opened {
        Ok(engine) => engine.probe().await,
        Err(error) => Err(error),
    };
    Ok(match probed {
        Ok(found) => Check::good(
            WHAT,
            format!(
                "{} {}, cgroup v{}, user namespaces {}, seccomp {}",
                found.engine,
                found.version,
                found.cgroup,
                if found.user_namespace { "yes" } else { "no" },
                if found.seccomp { "yes" } else { "no" }
            ),
        ),
        Err(EngineError::Missing(missing)) => Check::bad(
            WHAT,
            format!("{}: {}", missing.missing, missing.why),
            missing.next,
        ),
        Err(error) => Check::bad(WHAT, error.to_string(), "See the line before.".into()),
    })
}

async fn check_net(scratch: &Scratch) -> Check {
    const WHAT: &str = "networks";
    let probe = async {
        let network = net::Network::open(net::NetworkConfig {
            state: scratch.0.join("net"),
            tag: "doct".into(),
            ..Default::default()
        })
        .await?;
        let probed = network.probe().await;
        // Leaves nothing behind, whatever was found.
        let closed = network.close(true).await;
        probed.and(closed)
    };
    match probe.await {
        Ok(()) => {
            let mut check = Check::good(
                WHAT,
                "bridges, veth pairs, namespaces, nftables and rates work".into(),
            );
            // Containers run all the same: the machine is still a host.
            for hindrance in net::hindrances().await {
                check.found = format!(
                    "{}, but {}: {}",
                    check.found, hindrance.operation, hindrance.why
                );
                check.next = hindrance.next;
            }
            check
        }
        Err(error) => Check::bad(
            WHAT,
            format!("{}: {}", error.operation, error.why),
            error.next,
        ),
    }
}

/// A host without a builder is a host all the same.
fn check_builds() -> Check {
    const WHAT: &str = "building";
    match host::builder() {
        Ok(builder) => Check::good(
            WHAT,
            format!(
                "buildah {} ({})",
                builder.version,
                builder.program.display()
            ),
        ),
        Err(missing) => Check::bad(
            WHAT,
            format!("{}: {}", missing.missing, missing.why),
            missing.next,
        ),
    }
}

async fn check_network(session: Result<Session>) -> Check {
    const WHAT: &str = "ledger";
    let session = match session {
        Ok(session) => session,
        Err(failure) => return Check::bad(WHAT, failure.what, failure.next),
    };
    match session.client.status().await {
        Ok(status) => Check::good(
            WHAT,
            format!(
                "{} at height {} by {}",
                status.name,
                status.height,
                session.client.url()
            ),
        ),
        Err(error) => {
            let failure = Failure::from(error);
            Check::bad(
                WHAT,
                format!("{}: {}", failure.what, failure.why),
                failure.next,
            )
        }
    }
}

pub async fn run(args: &Doctor, session: Result<Session>, json: bool) -> Result {
    let scratch = Scratch::new()?;
    let checks = vec![
        check_engine(args.engine, &scratch).await?,
        check_net(&scratch).await,
        check_builds(),
        check_network(session).await,
    ];
    drop(scratch);
    if json {
        output::json(&checks);
    } else {
        for check in &checks {
            let mark = if check.good { "✓" } else { "✗" };
            output::data(format!("{mark} {}: {}", check.what, check.found));
            if !check.next.is_empty() {
                output::data(format!("  {}", check.next));
            }
        }
    }
    // Without a network chosen, a machine may still be a good host.
    match checks.iter().take(2).find(|c| !c.good) {
        None => Ok(()),
        Some(bad) => Err(Failure::new(
            failure::FAILED,
            "this machine cannot be a host",
            format!("{} do not work", bad.what),
            bad.next.clone(),
        )),
    }
}
