//! Many hosts of a `dev` in one process: one runtime, one allocator, one store of images.
//!
//! Each is an agent as `host join` runs it, with its own key, name, data folder, networks and
//! real containers; what they share is the process. One that fails is started again by itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::failure::{Failure, Result};
use crate::host_join::Join;
use crate::{output, roles};

/// An agent that ran so long has not failed at its start.
const SETTLED: Duration = Duration::from_secs(20);
const BACKOFF_MIN: Duration = Duration::from_millis(250);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// The folder of the images, beside the hosts' own folders.
const IMAGES: &str = "images";

#[derive(Args, Debug)]
pub struct Together {
    /// A list in JSON: for each host the arguments of `runrig host join`
    file: PathBuf,
}

/// One line of the file.
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Line {
    #[command(flatten)]
    join: Join,
}

/// Writes what [`run`] reads.
pub fn write(path: &Path, hosts: &[Vec<String>]) -> anyhow::Result<()> {
    let bytes = serde_json::to_vec_pretty(hosts)?;
    crate::context::write_private(path, &bytes)?;
    Ok(())
}

fn read(path: &Path) -> anyhow::Result<Vec<Join>> {
    let text = std::fs::read_to_string(path)?;
    let lines: Vec<Vec<String>> = serde_json::from_str(&text)?;
    ensure!(!lines.is_empty(), "it names no host");
    let join = |line| Ok(Line::try_parse_from(line)?.join);
    lines.into_iter().map(join).collect()
}

pub fn run(args: &Together) -> Result {
    let wrong = |e: anyhow::Error| {
        let what = format!("hosts of {}", args.file.display());
        Failure::usage(what, format!("{e:#}"), "`runrig dev` makes this file.")
    };
    let joins = read(&args.file).map_err(wrong)?;
    let mut configs = joins.iter().map(Join::config).collect::<Result<Vec<_>>>()?;
    let first = &configs[0];
    let folder = args.file.with_file_name(IMAGES);
    let shelf = host::Shelf::open(folder, first.uid_base, &first.network, configs.len())
        .map_err(anyhow::Error::from)?;
    let shelf = Arc::new(shelf);
    for config in &mut configs {
        config.images = Some(shelf.clone());
    }
    // Each agent has some twenty files and sockets open, and some per container.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(anyhow::Error::from)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(anyhow::Error::from)?;
    output::say(format!("{} hosts in one process", configs.len()));
    roles::foreground(|asked| async move {
        let (stop, stopped) = watch::channel(false);
        let mut agents = JoinSet::new();
        for config in configs {
            agents.spawn(keep(config, stopped.clone()));
        }
        asked.await;
        stop.send_replace(true);
        while let Some(ended) = agents.join_next().await {
            ended.context("an agent broke off")?;
        }
        Ok(())
    })
}

/// Runs an agent until `stopped`, again and again.
async fn keep(config: host::Config, stopped: watch::Receiver<bool>) {
    let mut pause = BACKOFF_MIN;
    while !*stopped.borrow() {
        let began = Instant::now();
        let mut asked = stopped.clone();
        // A task of its own: a panic in one agent ends only that one.
        let asked = Box::pin(async move {
            let _ = asked.wait_for(|stop| *stop).await;
        });
        let agent = host::run(config.clone(), asked);
        let why = match tokio::spawn(agent).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        if began.elapsed() > SETTLED {
            pause = BACKOFF_MIN;
        }
        tracing::error!(
            host = config.name,
            why,
            again_in = ?pause,
            "an agent has ended; it is started again"
        );
        let mut asked = stopped.clone();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = asked.wait_for(|stop| *stop) => {}
        }
        pause = (pause * 2).min(BACKOFF_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_host_join_would_be_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hosts.json");
        assert!(read(&path).is_err());
        write(&path, &[]).expect("written");
        assert!(read(&path).is_err(), "no host at all");
        let line = |name: &str| {
            let words = format!("--network http://127.0.0.1:1 --data /x --name {name}");
            words.split(' ').map(str::to_string).collect::<Vec<_>>()
        };
        write(&path, &[line("a"), line("b")]).expect("written");
        assert_eq!(read(&path).expect("read").len(), 2);
        write(&path, &[vec!["--no-such".into()]]).expect("written");
        assert!(read(&path).is_err());
    }
}
