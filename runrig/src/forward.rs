//! `port-forward`: a local port that leads to a port of a replica, through the API.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use types::{AllocationId, SecretKey};

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::job::Jobs;
use crate::output;

/// Connections at once; more wait.
const CONNECTIONS_MAX: usize = 256;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig port-forward db 5432\n  runrig port-forward shop/web 9000:8080 9001:8081\n  runrig port-forward a-1 0:6379"
)]
pub struct Forward {
    /// Service, project/service or a-1; the first running replica is taken
    job: String,
    /// [LOCAL:]PORT; LOCAL 0 takes a free one
    #[arg(required = true)]
    ports: Vec<Pair>,
    /// Address that is listened on
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pair {
    local: u16,
    target: u16,
}

impl FromStr for Pair {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let (local, target) = text.split_once(':').unwrap_or((text, text));
        let port = |text: &str| {
            let port: std::result::Result<u16, _> = text.parse();
            port.map_err(|_| format!("\"{text}\" is no port: write 5432 or 9000:5432"))
        };
        let (local, target) = (port(local)?, port(target)?);
        if target == 0 {
            return Err("port 0 leads nowhere: write 0:5432 for a free local port".into());
        }
        Ok(Self { local, target })
    }
}

#[derive(serde::Serialize)]
struct Forwarded {
    local: SocketAddr,
    target: u16,
    allocation: AllocationId,
}

async fn listen(address: IpAddr, pair: Pair) -> Result<TcpListener> {
    let wanted = SocketAddr::new(address, pair.local);
    TcpListener::bind(wanted).await.map_err(|e| {
        Failure::usage(
            format!("listen on {wanted}"),
            e.to_string(),
            format!("Choose another: `0:{}` takes a free one.", pair.target),
        )
    })
}

/// Until it is interrupted.
pub async fn forward(session: &Session, args: &Forward, json: bool) -> Result {
    let key = session.key()?;
    let first = find(session, &args.job).await?;
    let open = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut listeners = JoinSet::new();
    for pair in &args.ports {
        let listener = listen(args.address, *pair).await?;
        let local = listener.local_addr().map_err(anyhow::Error::from)?;
        let forwarded = Forwarded {
            local,
            target: pair.target,
            allocation: first,
        };
        if json {
            output::json_line(&forwarded);
        } else {
            output::data(format!("{local} -> {first} port {}", pair.target));
        }
        let (session, job, key) = (session.clone(), args.job.clone(), key.clone());
        let (open, target) = (open.clone(), pair.target);
        listeners.spawn(async move {
            let mut to = first;
            let mut connections = JoinSet::new();
            loop {
                let Ok(permit) = open.clone().acquire_owned().await else {
                    return;
                };
                let Ok((stream, peer)) = listener.accept().await else {
                    continue;
                };
                // One that has ended may be answered for by another.
                if !alive(&session, to).await
                    && let Ok(other) = find(&session, &job).await
                {
                    output::say(format!("{to} does not run any more: {other} takes over"));
                    to = other;
                }
                let (session, key) = (session.clone(), key.clone());
                connections.spawn(async move {
                    if let Err(failure) = carry(&session, &key, to, target, stream).await {
                        output::shout(format!("{peer}: {failure}"));
                    }
                    drop(permit);
                });
                while connections.try_join_next().is_some() {}
            }
        });
    }
    while listeners.join_next().await.is_some() {}
    Ok(())
}

async fn find(session: &Session, job: &str) -> Result<AllocationId> {
    let jobs = Jobs::read(&session.client, session.account()?).await?;
    Ok(jobs.find(job)?.running()?.allocation)
}

async fn alive(session: &Session, id: AllocationId) -> bool {
    match session.client.allocation(id).await {
        Ok(view) => view.status.state == types::RunState::Running,
        // Who does not know better goes on with what was true.
        Err(error) => error.is_transient(),
    }
}

async fn carry(
    session: &Session,
    key: &SecretKey,
    id: AllocationId,
    port: u16,
    mut stream: TcpStream,
) -> Result {
    let mut tunnel = session.client.tunnel(key, id, port).await?;
    sdk::splice(&mut stream, &mut tunnel).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_in_pairs() {
        let pair = |local, target| Ok(Pair { local, target });
        assert_eq!("5432".parse(), pair(5432, 5432));
        assert_eq!("9000:5432".parse(), pair(9000, 5432));
        assert_eq!("0:5432".parse(), pair(0, 5432));
        for wrong in ["", "x", "1:", ":1", "0", "70000", "1:0"] {
            assert!(wrong.parse::<Pair>().is_err(), "{wrong}");
        }
    }
}
