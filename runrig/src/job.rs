//! What a user means by JOB: an allocation `a-12`, a deployment `d-3`, a service, a project,
//! or `project/service`.

use api::{AllocationView, DeploymentView};
use sdk::Client;
use types::{AccountId, AllocationId, RunState};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::verified;

/// The user's live deployments, in which JOBs are looked up.
pub struct Jobs {
    pub deployments: Vec<DeploymentView>,
}

/// What a JOB names: one allocation, one service, or all of a deployment.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub deployment: &'a DeploymentView,
    pub service: Option<&'a str>,
    pub allocation: Option<&'a AllocationView>,
}

impl<'a> Job<'a> {
    pub fn allocations(self) -> impl Iterator<Item = &'a AllocationView> {
        self.deployment.allocations.iter().filter(move |a| {
            self.service.is_none_or(|s| a.service == s)
                && self
                    .allocation
                    .is_none_or(|one| one.allocation == a.allocation)
        })
    }

    /// How many ended so long ago that they are listed no more.
    pub fn earlier(self) -> u64 {
        let all = self.deployment.earlier.iter();
        let own = all.filter(|(name, _)| self.service.is_none_or(|s| s == name.as_str()));
        match self.allocation {
            Some(_) => 0,
            None => own.map(|(_, earlier)| earlier.allocations).sum(),
        }
    }

    /// A replica of it that runs.
    pub fn running(self) -> Result<&'a AllocationView> {
        let running = |a: &&AllocationView| a.status.state == RunState::Running;
        self.allocations().find(running).ok_or_else(|| {
            let why = match self.allocations().next() {
                Some(a) => format!("{} is {}", a.allocation, crate::ps::word(&a.status.state)),
                None => "it has no replica".into(),
            };
            Failure::new(
                failure::CONFLICT,
                format!("nothing of {} runs", self.name()),
                why,
                "See `runrig ps` and `runrig logs`; `runrig start` starts what was stopped.",
            )
        })
    }

    pub fn name(self) -> String {
        match (self.allocation, self.service) {
            (Some(one), _) => one.allocation.to_string(),
            (None, Some(service)) => format!("{}/{service}", self.deployment.project),
            (None, None) => self.deployment.project.clone(),
        }
    }
}

/// Deployments of `account`, with those that are removed if `all`; verified if that is asked for.
pub async fn deployments(
    session: &Session,
    account: AccountId,
    all: bool,
) -> Result<Vec<DeploymentView>> {
    let fetch = async || Ok(session.client.deployments(account, all).await?);
    verified::read(session, fetch, async |verifier, found| {
        let rows: Vec<_> = found.iter().map(|d| (d.deployment, d)).collect();
        if let Err(why) = verifier.rows("deployments", &rows).await? {
            return Ok(Err(why));
        }
        let parts = found.iter().flat_map(|d| &d.allocations);
        let parts: Vec<_> = parts.map(|a| (a.allocation, a)).collect();
        verifier.rows("allocations", &parts).await
    })
    .await
}

impl Jobs {
    pub async fn of(session: &Session) -> Result<Self> {
        let deployments = deployments(session, session.account()?, false).await?;
        Ok(Self { deployments })
    }

    pub async fn read(client: &Client, account: AccountId) -> Result<Self> {
        let deployments = client.deployments(account, false).await?;
        Ok(Self { deployments })
    }

    pub fn find(&self, job: &str) -> Result<Job<'_>> {
        let found = self.matching(job);
        match found[..] {
            [one] => Ok(one),
            [] => Err(Failure::new(
                failure::NOT_FOUND,
                format!("\"{job}\""),
                "no allocation, service, project or deployment of yours is called that",
                "See `runrig ps -a`.",
            )),
            _ => {
                let names: Vec<String> = found.iter().map(|j| j.name()).collect();
                Err(Failure::usage(
                    format!("\"{job}\" is ambiguous"),
                    format!("it could be {}", names.join(" or ")),
                    format!("Say which, for example `{}`.", names[0]),
                ))
            }
        }
    }

    fn matching(&self, job: &str) -> Vec<Job<'_>> {
        let whole = |deployment| Job {
            deployment,
            service: None,
            allocation: None,
        };
        if job.starts_with("a-")
            && let Ok(id) = job.parse()
        {
            let all = self.deployments.iter();
            let found = all.flat_map(|d| d.allocations.iter().map(move |a| (d, a)));
            let one = found.filter(|(_, a)| a.allocation == id).map(|(d, a)| Job {
                deployment: d,
                service: Some(&a.service),
                allocation: Some(a),
            });
            return one.collect();
        }
        if job.starts_with("d-")
            && let Ok(id) = job.parse()
        {
            let all = self.deployments.iter();
            return all.filter(|d| d.deployment == id).map(whole).collect();
        }
        let (project, service) = match job.split_once('/') {
            Some((project, service)) => (Some(project), service),
            None => (None, job),
        };
        let services = self.deployments.iter().filter_map(|deployment| {
            let (name, _) = deployment.spec.services.get_key_value(service)?;
            project
                .is_none_or(|p| p == deployment.project)
                .then_some(Job {
                    deployment,
                    service: Some(name),
                    allocation: None,
                })
        });
        let services: Vec<Job<'_>> = services.collect();
        if !services.is_empty() || project.is_some() {
            return services;
        }
        let all = self.deployments.iter();
        all.filter(|d| d.project == job).map(whole).collect()
    }

    /// Where only whole projects can be meant: also one that has a service of its own name, as
    /// `run --name` makes them.
    pub fn find_whole(&self, job: &str) -> Result<Job<'_>> {
        match self.deployments.iter().find(|d| d.project == job) {
            Some(deployment) => Ok(Job {
                deployment,
                service: None,
                allocation: None,
            }),
            None => self.find(job),
        }
    }

    /// Those named; or all, if none is.
    pub fn select(&self, jobs: &[String]) -> Result<Vec<Job<'_>>> {
        if jobs.is_empty() {
            return Ok(self
                .deployments
                .iter()
                .map(|deployment| Job {
                    deployment,
                    service: None,
                    allocation: None,
                })
                .collect());
        }
        jobs.iter().map(|job| self.find(job)).collect()
    }

    /// Allocations of [`Jobs::select`], each once.
    pub fn allocations(&self, jobs: &[String]) -> Result<Vec<&AllocationView>> {
        let mut all: Vec<&AllocationView> = self
            .select(jobs)?
            .into_iter()
            .flat_map(Job::allocations)
            .collect();
        all.sort_by_key(|a| a.allocation);
        all.dedup_by_key(|a| a.allocation);
        Ok(all)
    }
}

/// Allocations that JOBs name, also those that are gone; of what is removed if nothing else is
/// called so. In order of their numbers.
pub async fn past(session: &Session, jobs: &[String]) -> Result<Vec<AllocationView>> {
    let account = session.account()?;
    let client = &session.client;
    let mut all = Vec::new();
    let mut named = Vec::new();
    for job in jobs {
        // One that ended is in no deployment's list any more.
        if let (true, Ok(id)) = (job.starts_with("a-"), job.parse::<AllocationId>()) {
            match client.allocation(id).await {
                Ok(allocation) => all.push(allocation),
                Err(error) => return Err(error.into()),
            }
        } else {
            named.push(job.clone());
        }
    }
    if all.is_empty() || !named.is_empty() {
        let live = Jobs::read(client, account).await?;
        let ended;
        let selected = match live.select(&named) {
            Err(failure) if failure.exit == failure::NOT_FOUND => {
                let mut deployments = client.deployments(account, true).await?;
                // Several may have had the name: the last one is meant.
                deployments.sort_by_key(|d| std::cmp::Reverse(d.deployment));
                let mut names = std::collections::BTreeSet::new();
                deployments.retain(|d| names.insert(d.project.clone()));
                ended = Jobs { deployments };
                ended.select(&named)?
            }
            selected => selected?,
        };
        for job in selected {
            let had = client.allocations_of(job.deployment.deployment).await?;
            all.extend(had.into_iter().filter(|a| {
                job.service.is_none_or(|s| a.service == s)
                    && job
                        .allocation
                        .is_none_or(|one| one.allocation == a.allocation)
            }));
        }
    }
    all.sort_by_key(|a| a.allocation);
    all.dedup_by_key(|a| a.allocation);
    Ok(all)
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A deployment with one replica of each service, numbered from `first`.
    pub fn deployment(number: u64, project: &str, services: &[&str], first: u64) -> DeploymentView {
        let spec = types::ServiceSpec {
            image: types::ImageRef {
                reference: "docker.io/library/nginx:1".into(),
                digest: types::Digest::default(),
            },
            ports: vec![types::PortSpec {
                target: 80,
                published: Some(8080),
                protocol: types::Protocol::Tcp,
            }],
            ..types::ServiceSpec::default()
        };
        let owner = AccountId([1; 20]);
        let allocations = services
            .iter()
            .enumerate()
            .map(|(i, service)| AllocationView {
                allocation: types::AllocationId(first + i as u64),
                deployment: types::DeploymentId(number),
                project: project.into(),
                owner,
                release: 1,
                service: (*service).into(),
                replica: 1,
                host: AccountId([2; 20]),
                host_name: "dev-1".into(),
                heard: true,
                desired: ledger::lease::Desired::Run,
                generation: 1,
                reserved: types::Resources::default(),
                placed_ms: 0,
                status: types::AllocationStatus {
                    state: types::RunState::Running,
                    pid: 42,
                    ..Default::default()
                },
                status_ms: 0,
                usage: types::Usage::default(),
                charged: types::Amount::ZERO,
                closed: false,
                image: "docker.io/library/nginx:1".into(),
            });
        DeploymentView {
            deployment: types::DeploymentId(number),
            owner,
            project: project.into(),
            label: project.into(),
            release: 1,
            allocations: allocations.collect(),
            spec: types::DeploymentSpec {
                project: project.into(),
                services: services
                    .iter()
                    .map(|s| ((*s).into(), spec.clone()))
                    .collect(),
                networks: BTreeMap::new(),
                volumes: BTreeMap::new(),
                logs: Default::default(),
            },
            created_ms: 0,
            removed: false,
            volumes_removed: false,
            funding: ledger::deployment::Funding::Good,
            limited: false,
            escrow: types::Amount::ZERO,
            charged: types::Amount::ZERO,
            dry_ms: 0,
            good: 1,
            rollout: None,
            setback: None,
            unplaced: Vec::new(),
            tried: Vec::new(),
            scales: BTreeMap::new(),
            earlier: BTreeMap::new(),
        }
    }

    #[test]
    fn a_project_may_have_a_service_of_its_name() {
        let jobs = Jobs {
            deployments: vec![deployment(1, "web", &["web"], 1)],
        };
        assert_eq!(jobs.find("web").map(|j| j.service), Ok(Some("web")));
        assert_eq!(jobs.find_whole("web").map(|j| j.service), Ok(None));
        assert_eq!(
            jobs.find_whole("none")
                .map(|j| j.service)
                .map_err(|f| f.exit),
            Err(3)
        );
    }

    #[test]
    fn names_mean_what_people_mean() {
        let jobs = Jobs {
            deployments: vec![
                deployment(1, "shop", &["web", "db"], 1),
                deployment(2, "blog", &["web"], 3),
            ],
        };
        let ids = |job: &str| {
            let found = jobs.find(job).map_err(|f| f.exit)?;
            Ok(found
                .allocations()
                .map(|a| a.allocation.0)
                .collect::<Vec<_>>())
        };
        for (job, expected) in [
            ("a-2", Ok(vec![2])),
            ("d-1", Ok(vec![1, 2])),
            ("db", Ok(vec![2])),
            ("blog/web", Ok(vec![3])),
            ("shop", Ok(vec![1, 2])),
            ("web", Err(2)),
            ("a-9", Err(3)),
            ("shop/none", Err(3)),
            ("none", Err(3)),
        ] {
            assert_eq!(ids(job), expected, "{job}");
        }
        let both = ["shop".to_string(), "db".to_string()];
        assert_eq!(jobs.allocations(&both).expect("found").len(), 2);
        assert_eq!(jobs.allocations(&[]).expect("all").len(), 3);
    }
}
