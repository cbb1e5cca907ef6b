//! How long the portal takes for a page, for somebody with ten thousand jobs.
//!
//! **Real**: four validators, the portal, its index in a file, the account that signed up on its
//! page, and every transaction, each final before it counts: ten thousand deployments of that
//! account, what hosts report of them, and the receipts. **Simulated**: the hosts; they are keys that
//! sign what an agent would say, and answer nobody who asks them for a log or a sample.
//!
//! Times are from the request to the last byte of the page, over loopback and compressed as browsers
//! ask for it, one request after the other.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ledger::lease::UsageLine;
use ledger::{Call, Transaction, TransactionBody, account, deployment, host, lease};
use reqwest::header::{COOKIE, SET_COOKIE};
use reqwest::redirect::Policy;
use sdk::Client;
use types::{
    AccountId, Amount, DeploymentSpec, Digest, ImageRef, Offer, Resources, RunState, SecretKey,
    ServiceSpec, Usage,
};

use crate::figure::{Bound, Figure, Found, milliseconds, quantile};
use crate::network::{Network, free_ports};
use crate::process::Process;

const JOBS: u64 = 10_000;
const HOSTS: u64 = 100;
/// Reports of use of each host.
const REPORTS: u64 = 2;
/// Transactions of one account at once: below the nonces that one may be ahead.
const BATCH: u64 = 50;
/// Requests for each page in a round.
const ASKED: usize = 100;
const GOAL_MS: f64 = 50.0;
const LIMIT: Duration = Duration::from_secs(1_800);
const LOOK: Duration = Duration::from_millis(50);
const HANDLE: &str = "bench";
const PASSWORD: &str = "four plain words here";
const EXPIRES: u64 = 1 << 40;

/// Pages of who has the jobs; `JOB` is one in the middle, `ME` the account, `HANDLE` its name.
const PAGES: [&str; 37] = [
    "/",
    "/jobs",
    "/jobs?status=all&page=100",
    "/jobs?q=job-77",
    "/jobs?status=failing",
    "/jobs/new",
    "/jobs/JOB",
    "/jobs/JOB/logs",
    "/jobs/JOB/releases",
    "/jobs/JOB/events",
    "/jobs/JOB/receipts",
    "/analytics",
    "/analytics?range=4w",
    "/analytics?range=12m",
    "/analytics/use",
    "/analytics/requests",
    "/hosts",
    "/earnings",
    "/wallet",
    "/bills",
    "/bills/limits",
    "/settings",
    "/settings/keys",
    "/settings/space",
    "/o/HANDLE",
    "/o/HANDLE/books",
    "/members",
    "/explorer",
    "/explorer/blocks",
    "/explorer/transactions",
    "/explorer/accounts/ME",
    "/explorer/hosts",
    "/explorer/network",
    "/explorer/lots",
    "/operate",
    "/operate/placements",
    "/operate/audit",
];

/// `program` is a `runrig`.
///
/// Errors: the network or the portal does not come up, a transaction is refused, a page is no page.
pub(crate) async fn portal(program: &Path, rounds: usize) -> Result<Found> {
    let network = Network::of(program, 1, Amount::credits(1_000_000), |params| {
        // Who is silent is not what is measured.
        params.host_timeout_ms = 86_400_000;
    })
    .await?;
    let folder = tempfile::tempdir().context("make a folder")?;
    let mut site = Site::open(program, &network, folder.path()).await?;
    let owner = site.sign_up().await?;
    let stage = Stage {
        client: network.clients[0].clone(),
        network: network.clients[0].status().await?.network,
        hosts: (0..HOSTS)
            .map(|n| crate::network::key(1_000_000 + n))
            .collect(),
    };
    stage.fund(&network.keys[0], &owner).await?;
    stage.register().await?;
    stage.deploy(&owner).await?;
    stage.run().await?;
    for _ in 0..REPORTS {
        stage.report().await?;
    }
    let me = AccountId::of(&owner.public()).to_string();
    let job = name_of(JOBS / 2);
    let pages = PAGES.map(|page| {
        page.replace("JOB", &job)
            .replace("ME", &me)
            .replace("HANDLE", HANDLE)
    });
    let mut found = vec![(Vec::new(), Vec::new()); pages.len()];
    let mut first = Vec::new();
    for _ in 0..rounds {
        // As it is after a start: nothing is in its memory.
        site.restart(&network).await?;
        site.caught_up(&stage.client).await?;
        let mut slowest = 0f64;
        for page in &pages {
            slowest = slowest.max(site.page(page).await?);
        }
        first.push(slowest);
        for (page, (halves, most)) in pages.iter().zip(&mut found) {
            let mut times = Vec::with_capacity(ASKED);
            for _ in 0..ASKED {
                times.push(site.page(page).await?);
            }
            halves.extend(quantile(&times, 0.5));
            most.extend(quantile(&times, 0.99));
        }
    }
    let figure = |name: String, rounds| Figure::of("portal", name, "ms", rounds);
    let mut figures = Vec::new();
    for (page, (halves, most)) in PAGES.iter().zip(found) {
        figures.extend(figure(format!("{page}, p50"), halves));
        let most = figure(format!("{page}, p99"), most);
        figures.extend(most.map(|f| f.goal(Bound::AtMost(GOAL_MS))));
    }
    figures.extend(figure(
        "slowest page of the first after a start".into(),
        first,
    ));
    Ok(Found {
        figures,
        left_out: Vec::new(),
    })
}

fn name_of(n: u64) -> String {
    format!("job-{n}")
}

/// The account that has the jobs, hosts, and a validator to say it to.
struct Stage {
    client: Client,
    network: Digest,
    hosts: Vec<SecretKey>,
}

impl Stage {
    fn sign(&self, key: &SecretKey, nonce: u64, call: Call) -> Result<Vec<u8>> {
        let body = TransactionBody {
            network: self.network,
            key: key.public().into(),
            on_behalf: Vec::new(),
            nonce,
            expires: EXPIRES,
            tip: types::Amount::ZERO,
            call,
        };
        Ok(borsh::to_vec(&Transaction::sign(body, key))?)
    }

    /// All applied when it returns.
    async fn submit(&self, key: &SecretKey, calls: Vec<Call>) -> Result<()> {
        let sender = AccountId::of(&key.public());
        let before = self.client.account(sender).await?.nonce;
        let signed = calls
            .into_iter()
            .zip(before + 1..)
            .map(|(call, nonce)| self.sign(key, nonce, call))
            .collect::<Result<Vec<_>>>()?;
        let last = before + signed.len() as u64;
        for answer in self.client.submit_many(&signed).await? {
            ensure!(answer.problem.is_none(), "refused: {:?}", answer.problem);
        }
        let started = Instant::now();
        while self.client.account(sender).await?.nonce < last {
            ensure!(
                started.elapsed() < LIMIT,
                "transactions wait for over {LIMIT:?}"
            );
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// The same for all hosts at once, one call of each.
    async fn all_say(&self, calls: Vec<Call>) -> Result<()> {
        for (hosts, calls) in self.hosts.chunks(10).zip(calls.chunks(10)) {
            let all = hosts.iter().zip(calls);
            let said = all.map(|(key, call)| self.submit(key, vec![call.clone()]));
            futures::future::try_join_all(said).await?;
        }
        Ok(())
    }

    async fn fund(&self, from: &SecretKey, owner: &SecretKey) -> Result<()> {
        let call = account::Call::Transfer {
            to: AccountId::of(&owner.public()),
            amount: Amount::credits(900_000),
            memo: String::new(),
        };
        self.submit(from, vec![Call::Account(call)]).await
    }

    async fn register(&self) -> Result<()> {
        let calls = (0..HOSTS).map(|n| {
            Call::Host(host::Call::Register {
                name: format!("host-{n}"),
                // Nobody listens there.
                address: "http://127.0.0.1:1".into(),
                offer: Offer {
                    capacity: Resources {
                        cpu_millis: 64_000,
                        memory_bytes: 512 << 30,
                        disk_bytes: 8 << 40,
                        bandwidth_kbps: 10_000_000,
                    },
                    architecture: "amd64".into(),
                    region: ["eu", "us", "as"][(n % 3) as usize].into(),
                    price_multiplier_milli: 1_000,
                    builds: false,
                },
                owner: AccountId::of(&crate::network::key(2_000_000 + n / 3).public()),
                machine: Digest::of(&n.to_le_bytes()),
                invitation: None,
            })
        });
        self.all_say(calls.collect()).await
    }

    async fn deploy(&self, owner: &SecretKey) -> Result<()> {
        for first in (0..JOBS).step_by(BATCH as usize) {
            let calls = (first..first + BATCH).map(|n| {
                let service = ServiceSpec {
                    image: ImageRef {
                        reference: format!("docker.io/library/app-{}:latest", n % 50),
                        digest: Digest::of(b"image"),
                    },
                    replicas: 1,
                    ..ServiceSpec::default()
                };
                Call::Deployment(deployment::Call::Deploy {
                    spec: DeploymentSpec {
                        project: name_of(n),
                        services: [("web".to_string(), service)].into(),
                        networks: Default::default(),
                        volumes: Default::default(),
                        logs: Default::default(),
                    },
                    price_max_hour: None,
                })
            });
            self.submit(owner, calls.collect()).await?;
        }
        let me = AccountId::of(&owner.public());
        let jobs = self.client.jobs(me, &sdk::JobQuery::default()).await?;
        ensure!(jobs.alive() == JOBS, "{} jobs are there", jobs.alive());
        Ok(())
    }

    /// What hosts would say once containers run; one of a hundred has failed.
    async fn run(&self) -> Result<()> {
        let mut calls = Vec::new();
        for key in &self.hosts {
            let plan = self
                .client
                .host_plan(AccountId::of(&key.public()), 0, 0)
                .await?;
            let statuses = plan.allocations.iter().map(|a| {
                let mut status = a.status.clone();
                status.state = match a.allocation.0 % 100 {
                    0 => RunState::Failed,
                    _ => RunState::Running,
                };
                (a.allocation, status)
            });
            calls.push(Call::Lease(lease::Call::ReportStatus {
                plan: plan.plan,
                statuses: statuses.collect(),
            }));
        }
        self.all_say(calls).await
    }

    /// A tenth of what is reserved, since they were placed.
    async fn report(&self) -> Result<()> {
        let mut calls = Vec::new();
        for key in &self.hosts {
            let id = AccountId::of(&key.public());
            let plan = self.client.host_plan(id, 0, 0).await?;
            let host = self.client.host(&id.to_string()).await?;
            let lines = plan.allocations.iter().map(|a| UsageLine {
                allocation: a.allocation,
                sequence: a.sequence + 1,
                until_ms: plan.time_ms,
                total: Usage {
                    cpu_ns: a.usage.cpu_ns + 1_000_000,
                    memory_byte_ms: a.usage.memory_byte_ms + (1 << 30),
                    ..a.usage
                },
                record: Digest::of(&a.allocation.0.to_le_bytes()),
                last: false,
            });
            calls.push(Call::Lease(lease::Call::ReportUsage {
                interval: host.interval + 1,
                root: Digest::default(),
                lines: lines.collect(),
            }));
        }
        self.all_say(calls).await
    }
}

/// A portal, and a browser that is logged in there.
struct Site<'a> {
    program: &'a Path,
    folder: &'a Path,
    listen: SocketAddr,
    http: reqwest::Client,
    cookie: String,
    process: Option<Process>,
}

impl<'a> Site<'a> {
    async fn open(program: &'a Path, network: &Network, folder: &'a Path) -> Result<Self> {
        let http = reqwest::Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .build()?;
        let mut site = Self {
            program,
            folder,
            listen: free_ports(1)?[0],
            http,
            cookie: String::new(),
            process: None,
        };
        site.restart(network).await?;
        Ok(site)
    }

    async fn restart(&mut self, network: &Network) -> Result<()> {
        self.process = None;
        let mut command = Command::new(self.program);
        command.args(["portal", "run", "--network", network.clients[0].url()]);
        command.args(["--listen", &self.listen.to_string(), "--data"]);
        command.arg(self.folder.join("portal"));
        self.process = Some(Process::start(command, &self.folder.join("portal.log"))?);
        let started = Instant::now();
        while self.get("/healthz").await.is_err() {
            let said = || std::fs::read_to_string(self.folder.join("portal.log"));
            ensure!(started.elapsed() < LIMIT, "the portal says: {:?}", said());
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response> {
        let request = self.http.get(format!("http://{}{path}", self.listen));
        let request = request.header(COOKIE, &self.cookie);
        Ok(request.header("accept-encoding", "gzip").send().await?)
    }

    /// Milliseconds that it took.
    async fn page(&self, path: &str) -> Result<f64> {
        let started = Instant::now();
        let answer = self.get(path).await?;
        let status = answer.status();
        let bytes = answer.bytes().await?;
        let took = milliseconds(started.elapsed());
        ensure!(status.is_success() && !bytes.is_empty(), "{path}: {status}");
        Ok(took)
    }

    async fn text(&self, path: &str) -> Result<String> {
        let request = self.http.get(format!("http://{}{path}", self.listen));
        let answer = request.header(COOKIE, &self.cookie).send().await?;
        Ok(answer.text().await?)
    }

    async fn form_token(&self, path: &str) -> Result<String> {
        let page = self.text(path).await?;
        let (_, rest) = page
            .split_once("name=\"csrf\" value=\"")
            .context("a form")?;
        Ok(rest.split('"').next().unwrap_or("").to_string())
    }

    async fn post(&self, path: &str, form: String) -> Result<reqwest::Response> {
        let request = self.http.post(format!("http://{}{path}", self.listen));
        let request = request
            .header(COOKIE, &self.cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form);
        Ok(request.send().await?)
    }

    /// As a person does; returns the account's own key, from the recovery file.
    async fn sign_up(&mut self) -> Result<SecretKey> {
        let guest = self.get("/signup").await?;
        self.cookie = cookies(&guest);
        let token = self.form_token("/signup").await?;
        let form = format!(
            "csrf={token}&kind=company&company_name=Bench&company_address=Bench&handle={HANDLE}&email=bench%40example.org&password={}",
            PASSWORD.replace(' ', "+")
        );
        let answer = self.post("/signup", form).await?;
        let status = answer.status();
        self.cookie = cookies(&answer);
        if !self.cookie.contains("runrig_session") {
            bail!("signing up was answered by {status}");
        }
        let token = self.form_token("/settings").await?;
        let space = "act=save&name=Bench&colour=%23aa3300&books=everyone&home=Bench";
        let space = self.post("/settings/space", format!("csrf={token}&{space}"));
        let status = space.await?.status();
        ensure!(status.is_redirection(), "opening the space: {status}");
        let form = format!("csrf={token}&password={}", PASSWORD.replace(' ', "+"));
        let file = self.post("/settings/recovery", form).await?.text().await?;
        SecretKey::from_hex(file.trim()).context("read the recovery file")
    }

    /// Returns when the index has what there is.
    async fn caught_up(&self, client: &Client) -> Result<()> {
        let head = client.status().await?.height;
        let started = Instant::now();
        loop {
            let page = self.text("/explorer/network").await?;
            let (_, rest) = page
                .split_once("Index of this portal")
                .context("the page")?;
            let digits = |text: &str| -> String {
                let until = text.split(" of ").next().unwrap_or("");
                until.chars().filter(char::is_ascii_digit).collect()
            };
            let (_, rest) = rest.split_once("block ").context("the page")?;
            if digits(rest)
                .parse::<u64>()
                .is_ok_and(|height| height >= head)
            {
                return Ok(());
            }
            ensure!(started.elapsed() < LIMIT, "the index does not catch up");
            tokio::time::sleep(LOOK).await;
        }
    }
}

fn cookies(answer: &reqwest::Response) -> String {
    let all = answer.headers().get_all(SET_COOKIE).iter();
    let pairs = all.filter_map(|v| v.to_str().ok()?.split(';').next());
    pairs.collect::<Vec<_>>().join("; ")
}
