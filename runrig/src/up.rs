//! `up`: a compose file becomes a deployment.
//!
//! Read the file, pin its images, show the price, ask, deploy, follow until it runs. A file
//! that is wrong, an image that is missing or a "no" changes nothing.

mod kept;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use api::{DeploymentView, Quote, QuoteRequest};
use clap::Args;
use ledger::deployment::{Call as Deployments, Change};
use ledger::lease::Desired;
use ledger::{Call, Event};
use sdk::SdkError;
use types::{Amount, DeploymentId, DeploymentSpec, ImageRef};

use crate::build::{self, How, When};
use crate::compose_file::{ComposeFiles, read_project, wrong_file};
use crate::context::Session;
use crate::endpoint::endpoints;
use crate::failure::{self, Failure, Result};
use crate::rollout::{Goal, follow_until};
use crate::{content, image, output, ps, secret, units};

/// Of the hosts that would be chosen, in the line of the price.
const HOSTS_SHOWN: usize = 5;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig up\n  runrig up -f shop/compose.yaml --yes --wait\n  runrig up --yes --wait --json | jq -r '.endpoints[].url'"
)]
pub struct Up {
    #[command(flatten)]
    compose: ComposeFiles,
    /// Return once it is on the ledger, before anything has started
    #[arg(short, long, conflicts_with = "wait")]
    detach: bool,
    /// Return when the release is good: all services healthy, ended well, or, without a health
    /// check, up for 3 s (deploy.update_config.monitor); fail when it is not
    #[arg(long)]
    wait: bool,
    /// Build what has build:, also where nothing of it has changed
    #[arg(long, conflicts_with = "no_build")]
    build: bool,
    /// Build nothing: take the newest images that there are
    #[arg(long)]
    no_build: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Show the price and what would change, and do nothing
    #[arg(long, conflicts_with_all = ["detach", "wait"])]
    dry_run: bool,
    /// Refuse above so many credits per hour; the quoted price if not said
    #[arg(long, value_name = "CREDITS")]
    max_price: Option<Amount>,
    /// Wait at most so long
    #[arg(long, default_value = "5m", value_parser = units::duration)]
    timeout: Duration,
}

/// Every image's digest as it is now, beside those that are `built`; files of the project are
/// pushed.
pub async fn pin(
    session: &Session,
    mut project: manifest::Project,
    built: BTreeMap<String, ImageRef>,
) -> Result<DeploymentSpec> {
    let mut images = built;
    let kept = kept::images(session, &project).await?;
    for reference in project.images() {
        let pinned = match kept.get(&reference) {
            Some(kept) => kept.clone(),
            None => image::resolve(session, &reference).await?,
        };
        images.insert(reference, pinned);
    }
    ports::choose(session, &mut project).await?;
    let files = content::resolve(session, &project).await?;
    let secrets = secret::resolve(session, &project).await?;
    let mut spec = project
        .pin(&images, &files, &secrets)
        .map_err(|problems| wrong_file(Path::new("compose file"), &problems.0))?;
    // Copies of its logs are sealed to who deploys it.
    let reader = session.key()?.public();
    if !spec.logs.alone {
        spec.logs.copy_to = vec![reader];
    }
    Ok(spec)
}

pub async fn up(session: &Session, args: &Up, json: bool) -> Result {
    let project = read_project(&args.compose)?;
    let how = How {
        when: match (args.dry_run, args.build, args.no_build) {
            (_, _, true) => When::Never,
            (true, ..) => When::Pretended,
            (_, true, _) => When::Always,
            _ => When::Missing,
        },
        no_cache: false,
        args: BTreeMap::new(),
        terms: Terms {
            max_price: None,
            brief: true,
            ..args.terms()
        },
        only: BTreeSet::new(),
    };
    let built = build::built(session, &project, &how).await?;
    let spec = pin(session, project, built).await?;
    if args.dry_run {
        let quote = quote(session, &spec, &args.terms()).await?;
        if json {
            output::json(&quote);
        }
        return Ok(());
    }
    let id = agree(session, spec, &args.terms()).await?;
    start_stopped(session, id).await?;
    let view = if args.detach {
        session.client.deployment(id).await?
    } else {
        let goal = if args.wait { Goal::Good } else { Goal::Started };
        follow_until(session, id, goal, args.timeout).await?
    };
    report(session, &view, json);
    Ok(())
}

/// What the user agrees to without being asked.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub yes: bool,
    pub max_price: Option<Amount>,
    /// Who asks.
    pub command: &'static str,
    /// The price in one line instead of a table.
    pub brief: bool,
}

impl Up {
    fn terms(&self) -> Terms {
        Terms {
            yes: self.yes,
            max_price: self.max_price,
            command: "up",
            brief: false,
        }
    }
}

/// Shows what it would cost and change; fails if the ledger would refuse it.
pub async fn quote(session: &Session, spec: &DeploymentSpec, terms: &Terms) -> Result<Quote> {
    let request = QuoteRequest {
        owner: session.account()?,
        spec: spec.clone(),
    };
    let mut quote = session.client.quote(&request).await?;
    if !terms.brief {
        output::say(quote_table(spec, &quote));
    }
    output::say(price_words(&quote));
    if let Some(refusal) = quote.refusal.take() {
        return Err(SdkError::rejected(refusal).into());
    }
    match terms.max_price {
        Some(max) if quote.total_hour > max => Err(Failure::new(
            failure::FUNDS,
            format!("{} credits per hour", quote.total_hour),
            format!("--max-price is {max}"),
            "Ask for less under deploy.resources, or raise --max-price.",
        )),
        _ => Ok(quote),
    }
}

/// Shows the price, asks, deploys; or finds that there is nothing to change.
pub async fn agree(session: &Session, spec: DeploymentSpec, terms: &Terms) -> Result<DeploymentId> {
    let quote = quote(session, &spec, terms).await?;
    let unchanged = !quote.changes.is_empty() && quote.changes.values().all(|c| *c == Change::Kept);
    if unchanged {
        let own = session
            .client
            .deployments(session.account()?, false)
            .await?;
        if let Some(known) = own.into_iter().find(|d| d.spec == spec) {
            output::say(format!(
                "{} is up to date (release {})",
                spec.project, known.release
            ));
            return Ok(known.deployment);
        }
    }
    if !terms.yes {
        let question = format!(
            "Deploy {} for at most {} credits per hour ({})?",
            spec.project, quote.total_hour, session.name
        );
        output::confirm(&question, terms.command).await?;
    }
    let max = terms.max_price.unwrap_or(quote.total_hour);
    deploy(session, spec, max).await
}

pub async fn deploy(session: &Session, spec: DeploymentSpec, max: Amount) -> Result<DeploymentId> {
    let call = Call::Deployment(Deployments::Deploy {
        spec,
        price_max_hour: Some(max),
    });
    let applied = session.submit(call).await?;
    let deployed = applied.events.iter().find_map(|event| match event {
        Event::Deployment(ledger::deployment::Event::Deployed {
            deployment,
            release,
            ..
        }) => Some((*deployment, *release)),
        _ => None,
    });
    let (id, release) = deployed.ok_or_else(|| {
        Failure::new(
            failure::FAILED,
            "the ledger applied it, but does not say as what",
            format!("transaction {}", applied.id),
            "See `runrig ps`.",
        )
    })?;
    let height = applied.height.unwrap_or(0);
    output::say(format!(
        "{id} release {release} is on the ledger at height {height}"
    ));
    Ok(id)
}

/// `up` starts what `stop` had stopped.
async fn start_stopped(session: &Session, id: DeploymentId) -> Result {
    let view = session.client.deployment(id).await?;
    if view.allocations.iter().any(|a| a.desired == Desired::Stop) {
        let call = Call::Deployment(Deployments::SetRunning {
            deployment: id,
            service: None,
            running: true,
        });
        session.submit(call).await?;
    }
    Ok(())
}

fn quote_table(spec: &DeploymentSpec, quote: &Quote) -> String {
    let rows: Vec<Vec<String>> = quote
        .lines
        .iter()
        .map(|l| {
            let change = quote
                .changes
                .get(&l.service)
                .map(ps::word)
                .unwrap_or_default();
            vec![
                l.service.clone(),
                change,
                l.replicas.to_string(),
                l.resource.name().into(),
                l.usage.clone(),
                l.unit.clone(),
                l.rate.to_string(),
                l.amount_hour.to_string(),
            ]
        })
        .collect();
    let headers = [
        "SERVICE",
        "CHANGE",
        "REPLICAS",
        "RESOURCE",
        "USE PER HOUR",
        "UNIT",
        "RATE",
        "CREDITS/H",
    ];
    let mut text = format!("project {}\n", spec.project);
    text.push_str(&output::table(&headers, &rows, &[2, 4, 6, 7]));
    for (service, _) in quote.changes.iter().filter(|(_, c)| **c == Change::Removed) {
        text.push_str(&format!("\n{service} is removed"));
    }
    text
}

/// What the hosts ask that it would be placed on now, and the ceiling: the network's rates.
fn price_words(quote: &Quote) -> String {
    let mut asked = String::new();
    if !quote.places.is_empty() {
        let hosts = quote.hosts();
        let shown = hosts.iter().take(HOSTS_SHOWN);
        let mut names: Vec<String> = shown
            .map(|(name, milli)| format!("{name} asks {}", crate::host_price::words(*milli)))
            .collect();
        if hosts.len() > HOSTS_SHOWN {
            names.push(format!("{} more", hosts.len() - HOSTS_SHOWN));
        }
        asked = format!(
            "{} credits per hour when fully used, where it would be now ({}); ",
            quote.asked_hour,
            names.join(", ")
        );
    }
    format!(
        "{asked}at most {} credits per hour{}, transfer {} per GiB; {} held in escrow of {} you have",
        quote.total_hour,
        if asked.is_empty() {
            " when fully used"
        } else {
            " wherever it goes"
        },
        quote.transfer_gib,
        quote.escrow,
        quote.balance
    )
}

pub fn report(session: &Session, view: &DeploymentView, json: bool) {
    let endpoints = endpoints(view, session.client.url());
    if json {
        let mut value = serde_json::to_value(view).unwrap_or_default();
        value["endpoints"] = serde_json::to_value(&endpoints).unwrap_or_default();
        output::json(&value);
        return;
    }
    for endpoint in endpoints {
        output::data(format!("{}  {}", endpoint.service, endpoint.url));
    }
}
