//! `events`: what the ledger did, in words.

use std::collections::btree_map::Entry;
use std::pin::pin;

use api::EventView;
use clap::Args;
use futures::StreamExt;
use ledger::Event;
use sdk::{Client, EventFilter};
use words::Names;

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::job::Jobs;
use crate::{output, units};

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig events\n  runrig events shop --since 1h\n  runrig events -f --json\n  runrig events --since 1h --all"
)]
pub struct Events {
    /// Only those of this project; of one that is removed, say its id (d-12)
    #[arg(value_name = "PROJECT", conflicts_with = "all")]
    project: Option<String>,
    /// Go on with what is to come
    #[arg(short, long)]
    follow: bool,
    /// Only from then on: 10m, 2026-01-31T12:00:00Z, or seconds since 1970
    #[arg(long)]
    since: Option<String>,
    /// Everyone's, not only those of your account
    #[arg(long)]
    all: bool,
}

pub async fn events(session: &Session, args: &Events, json: bool) -> Result {
    let filter = filter(session, args).await?;
    let since = units::moment("--since", args.since.as_deref())?;
    let mut known = Known::default();
    let mut show = async |event: &EventView| {
        if json {
            output::json_line(event);
        } else {
            known.learn(&session.client, &event.event).await;
            let words = words::event(&event.event, &known.0);
            let time = output::dim(&units::time(event.time_ms));
            output::data(format!("{time}  {}", output::printable(&words)));
        }
    };
    // Following alone starts now; the past is asked for by --since, as `docker events` has it.
    let mut next = None;
    if !args.follow || since.is_some() {
        let mut past = pin!(session.client.past_events(filter, 0));
        while let Some(event) = past.next().await {
            let event = event?;
            next = Some(event.sequence + 1);
            if since.is_none_or(|since| event.time_ms >= since) {
                show(&event).await;
            }
        }
    }
    if !args.follow {
        return Ok(());
    }
    let mut stream = pin!(session.client.events(filter, next));
    while let Some(event) = stream.next().await {
        show(&event?).await;
    }
    Err(Failure::new(
        failure::FAILED,
        "the stream of events has ended",
        "",
        "Try again.",
    ))
}

async fn filter(session: &Session, args: &Events) -> Result<EventFilter> {
    if args.all {
        return Ok(EventFilter::ALL);
    }
    let Some(project) = &args.project else {
        return Ok(EventFilter::of(session.account()?));
    };
    let deployment = match project.strip_prefix("d-").map(|_| project.parse()) {
        Some(Ok(id)) => id,
        _ => {
            let jobs = Jobs::of(session).await?;
            jobs.find_whole(project)?.deployment.deployment
        }
    };
    Ok(EventFilter {
        owner: None,
        deployment: Some(deployment),
    })
}

/// What events speak of is asked for once.
#[derive(Default)]
struct Known(Names);

impl Known {
    async fn learn(&mut self, client: &Client, event: &Event) {
        match event {
            Event::Host(ledger::host::Event::HostRegistered { host, name, .. }) => {
                self.0.hosts.insert(*host, name.clone());
            }
            Event::Deployment(ledger::deployment::Event::Deployed {
                deployment,
                project,
                ..
            }) => {
                self.0.projects.insert(*deployment, project.clone());
            }
            _ => {}
        }
        if let Some(id) = event.host()
            && let Entry::Vacant(unknown) = self.0.hosts.entry(id)
        {
            let host = client.host(&id.to_string()).await;
            // One that has left is known by its id.
            unknown.insert(host.map_or_else(|_| words::brief(&id.to_string()), |h| h.name));
        }
        if let Some(id) = event.deployment()
            && let Entry::Vacant(unknown) = self.0.projects.entry(id)
        {
            let deployment = client.deployment(id).await;
            unknown.insert(deployment.map_or_else(|_| id.to_string(), |d| d.project));
        }
    }
}
