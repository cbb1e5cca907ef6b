//! `run`: one container of an image, as `docker run` has it: a project of one service.
//!
//! What the flags say is written as a compose file and deployed as any other, so everything
//! else (`ps`, `logs`, `exec`, `bill`, `rm`) knows it too.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use clap::Args;
use rand::Rng;
use serde_json::{Map, Value, json};
use types::{AllocationId, Amount, DeploymentId, RunState};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::rollout::{Goal, follow_until};
use crate::up::{Terms, agree, pin, report};
use crate::{compose_file, control, logs, output, units};

/// How often it is looked whether it has ended.
const POLL: Duration = Duration::from_millis(300);

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig run --rm -y alpine echo hello\n  runrig run -d --name web -p 8080:80 nginx\n  runrig run --rm -e A=b -m 64m --cpus 0.1 busybox env"
)]
pub struct Run {
    /// Return once it has started
    #[arg(short, long)]
    detach: bool,
    /// Remove it when it has ended
    #[arg(long, conflicts_with = "detach")]
    rm: bool,
    /// Name of its project and service; made up if not said
    #[arg(long)]
    name: Option<String>,
    /// NAME=value; may be given again
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = crate::exec::env)]
    env: Vec<String>,
    /// PUBLISHED:PORT on the gateway; may be given again
    #[arg(short, long, value_name = "PORTS")]
    publish: Vec<String>,
    /// NAME:/PATH of a volume; may be given again
    #[arg(short, long, value_name = "VOLUME")]
    volume: Vec<String>,
    /// Cores at most
    #[arg(long, value_parser = units::cores_millis)]
    cpus: Option<u32>,
    /// Memory at most, for example 512m
    #[arg(short, long, value_parser = units::size)]
    memory: Option<u64>,
    /// user[:group], names or numbers
    #[arg(short, long)]
    user: Option<String>,
    #[arg(short, long)]
    workdir: Option<String>,
    #[arg(long)]
    entrypoint: Option<String>,
    /// no, always, unless-stopped or on-failure[:N]
    #[arg(long, default_value = "no")]
    restart: String,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Refuse above so many credits per hour; the quoted price if not said
    #[arg(long, value_name = "CREDITS")]
    max_price: Option<Amount>,
    /// Wait at most so long for it to start
    #[arg(long, default_value = "5m", value_parser = units::duration)]
    timeout: Duration,
    /// Input and a terminal are given by `exec` only
    #[arg(short, long, hide = true)]
    interactive: bool,
    #[arg(short, long, hide = true)]
    tty: bool,
    image: String,
    /// The command and its arguments; the image's own if not said
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// `$` is Compose's sign; here it is the user's.
fn literal(text: &str) -> Value {
    Value::from(text.replace('$', "$$"))
}

fn literals(texts: &[String]) -> Value {
    texts.iter().map(|t| literal(t)).collect()
}

/// The compose file of it: JSON is YAML.
fn compose(args: &Run, name: &str) -> String {
    let mut service = Map::new();
    let mut set = |key: &str, value: Value| service.insert(key.into(), value);
    set("image", literal(&args.image));
    set("restart", literal(&args.restart));
    for (key, list) in [
        ("command", &args.command),
        ("environment", &args.env),
        ("ports", &args.publish),
        ("volumes", &args.volume),
    ] {
        if !list.is_empty() {
            set(key, literals(list));
        }
    }
    for (key, text) in [("user", &args.user), ("working_dir", &args.workdir)] {
        if let Some(text) = text {
            set(key, literal(text));
        }
    }
    if let Some(entrypoint) = &args.entrypoint {
        set("entrypoint", literals(std::slice::from_ref(entrypoint)));
    }
    let mut limits = Map::new();
    if let Some(millis) = args.cpus {
        limits.insert(
            "cpus".into(),
            format!("{}.{:03}", millis / 1000, millis % 1000).into(),
        );
    }
    if let Some(bytes) = args.memory {
        limits.insert("memory".into(), format!("{bytes}b").into());
    }
    if !limits.is_empty() {
        set("deploy", json!({"resources": {"limits": limits}}));
    }
    // Volumes with a name are declared; what else it may be is for the reader of the file.
    let named = args.volume.iter().filter_map(|v| {
        let (name, _) = v.split_once(':')?;
        (!name.starts_with(['/', '.', '~'])).then(|| (name.to_string(), Value::Null))
    });
    let volumes: Map<String, Value> = named.collect();
    json!({"name": name, "services": {name: service}, "volumes": volumes}).to_string()
}

/// `run-nginx-3fa2`: what it is, and not twice.
fn made_up(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let last: String = last
        .split([':', '@'])
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric())
        .take(20)
        .collect();
    let number: u16 = rand::rng().random();
    format!("run-{}-{number:04x}", last.to_ascii_lowercase())
}

/// Returns the command's exit code.
pub async fn run(session: &Session, args: &Run, json: bool) -> Result<u8> {
    if args.interactive || args.tty {
        return Err(Failure::usage(
            "run -it",
            "a container's own input is not kept open",
            "Start it with -d, then `runrig exec -it NAME -- sh`.",
        ));
    }
    let name = args.name.clone().unwrap_or_else(|| made_up(&args.image));
    let own = session
        .client
        .deployments(session.account()?, false)
        .await?;
    if own.iter().any(|d| d.project == name) {
        return Err(Failure::new(
            failure::CONFLICT,
            format!("project {name}"),
            "you have one of that name",
            format!("Choose another --name, or `runrig rm {name}` first."),
        ));
    }
    let project = compose_file::read_made(&compose(args, &name))?;
    let spec = pin(session, project, BTreeMap::new()).await?;
    let terms = Terms {
        yes: args.yes,
        max_price: args.max_price,
        command: "run",
        brief: true,
    };
    let id = agree(session, spec, &terms).await?;
    if args.detach {
        let view = follow_until(session, id, Goal::Started, args.timeout).await?;
        report(session, &view, json);
        return Ok(0);
    }
    let ended = tokio::select! {
        ended = attached(session, id, args.timeout, json) => ended,
        _ = tokio::signal::ctrl_c() => {
            output::say("");
            Err(Failure::new(
                failure::INTERRUPTED,
                format!("{name} is no longer watched"),
                "interrupted; it goes on",
                format!("See `runrig logs -f {name}`; end it with `runrig rm -f {name}`."),
            ))
        }
    };
    // Asked to leave nothing: however it ended, and if it was interrupted as well.
    if args.rm {
        control::remove_quietly(session, id).await?;
    }
    ended
}

/// Its output as it comes, until it has ended for good.
async fn attached(
    session: &Session,
    id: DeploymentId,
    timeout: Duration,
    json: bool,
) -> Result<u8> {
    let first = placed(session, id, timeout).await?;
    let next = AtomicU64::new(0);
    let printing = async {
        if let Err(failure) = logs::print(session, first, json, &next).await {
            output::say(format!("its output is not followed: {failure}"));
        }
        std::future::pending().await
    };
    let code = tokio::select! {
        code = ended(session, id, first, timeout) => code?,
        never = printing => never,
    };
    // What it said last may still be on its way.
    logs::print_rest(session, first, json, next.into_inner()).await;
    Ok(code)
}

pub async fn placed(
    session: &Session,
    id: DeploymentId,
    timeout: Duration,
) -> Result<AllocationId> {
    let started = Instant::now();
    loop {
        let view = session.client.deployment(id).await?;
        if let Some(allocation) = view.allocations.first() {
            return Ok(allocation.allocation);
        }
        if started.elapsed() > timeout {
            return Err(Failure::new(
                failure::TIMED_OUT,
                format!("{} has no place", view.project),
                "no host took it in time",
                "See `runrig events` and `runrig host ls`.",
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Its exit code, once it has ended and is not started again.
async fn ended(
    session: &Session,
    id: DeploymentId,
    first: AllocationId,
    timeout: Duration,
) -> Result<u8> {
    let asked = Instant::now();
    let mut started = false;
    loop {
        let view = match session.client.allocation(first).await {
            Ok(view) => view,
            Err(error) if error.is_transient() => {
                tokio::time::sleep(POLL).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let status = &view.status;
        match status.state {
            RunState::Exited => {
                if status.oom_killed {
                    output::shout(format!(
                        "it ran out of memory ({} reserved): ask for more with -m",
                        units::bytes(view.reserved.memory_bytes)
                    ));
                }
                let code = status.exit_code.unwrap_or(0);
                return Ok(u8::try_from(code).unwrap_or(failure::FAILED));
            }
            RunState::Failed => {
                return Err(Failure::new(
                    failure::FAILED,
                    format!("{id} could not be started"),
                    output::printable(&status.message),
                    format!("See `runrig inspect {first}`; remove it with `runrig rm {id}`."),
                ));
            }
            RunState::Running | RunState::Restarting => started = true,
            _ => {}
        }
        if !started && asked.elapsed() > timeout {
            return Err(Failure::new(
                failure::TIMED_OUT,
                format!("{id} has not started"),
                format!("it is {}", crate::ps::word(&status.state)),
                format!("It goes on: see `runrig ps {id}`; give it longer with --timeout."),
            ));
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: Run,
    }

    fn project(line: &str) -> manifest::Project {
        let args = Line::try_parse_from(line.split(' '))
            .expect("understood")
            .run;
        compose_file::read_made(&compose(&args, "x")).expect("a project")
    }

    #[test]
    fn flags_become_a_project_of_one_service() {
        let project = project(
            "run -e A=$b -e C=d -p 9000:80 -v data:/d --cpus 0.25 -m 64m -u 1000 -w /tmp --restart on-failure:2 nginx:1 sh -c $x",
        );
        assert_eq!((project.name.as_str(), project.services.len()), ("x", 1));
        let spec = &project.services["x"].spec;
        assert_eq!(spec.image.reference, "nginx:1");
        assert_eq!(spec.environment["A"], "$b");
        let command = spec.command.clone().expect("a command");
        assert_eq!(command, ["sh", "-c", "$x"]);
        assert_eq!(
            (spec.ports[0].target, spec.ports[0].published),
            (80, Some(9000))
        );
        assert_eq!(spec.resources.cpu_millis, 250);
        assert_eq!(spec.resources.memory_bytes, 64 << 20);
        assert_eq!(spec.restart, types::RestartPolicy::OnFailure(2));
        assert!(project.volumes.contains_key("data"));
    }

    #[test]
    fn a_name_is_made_of_the_image() {
        let name = made_up("ghcr.io/acme/Web_1:2@sha256:aa");
        assert!(name.starts_with("run-web1-") && name.len() == 13, "{name}");
        assert!(made_up("").starts_with("run--"));
    }
}
