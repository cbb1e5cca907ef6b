//! A ledger and a host, all of whose words are evil.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use api::{AllocationView, Bill, BillLine, DeploymentView, HostView, LogLine, ReleaseView};
use axum::extract::{Path, Query};
use axum::http::StatusCode as Status;
use axum::routing::get;
use axum::{Json, Router};
use ledger::account::{Grant, Role};
use ledger::deployment::{Cause, Funding, Setback, Tried, Unplaced};
use ledger::lease::Desired;
use types::{
    AccountId, AllocationId, AllocationStatus, Amount, DeploymentId, DeploymentSpec, Digest,
    HostId, ImageRef, Offer, Resource, Resources, RunState, ServiceSpec, Usage,
};

use crate::people::{Audience, Books, Space, SpaceApp};
use crate::role_tests::Grants;
use crate::tests::{EVIL, served};

/// Names of the ledger that its own rules do not let be anything.
pub(crate) const PROJECT: &str = "shop";
const FORMULA: &str = "=HYPERLINK(\"http://evil.example\")";

fn evil() -> String {
    EVIL.into()
}

fn service() -> ServiceSpec {
    ServiceSpec {
        image: ImageRef {
            reference: evil(),
            digest: Digest::default(),
        },
        command: Some(vec![evil()]),
        environment: [(evil(), evil())].into(),
        labels: [(evil(), evil())].into(),
        user: Some(evil()),
        hostname: Some(evil()),
        ..ServiceSpec::default()
    }
}

pub(super) fn spec() -> DeploymentSpec {
    DeploymentSpec {
        project: PROJECT.into(),
        services: [(evil(), service())].into(),
        networks: BTreeMap::new(),
        volumes: [(evil(), Default::default())].into(),
        logs: Default::default(),
    }
}

fn allocation(owner: AccountId) -> AllocationView {
    AllocationView {
        allocation: AllocationId(1),
        deployment: DeploymentId(1),
        project: PROJECT.into(),
        owner,
        release: 1,
        service: evil(),
        replica: 1,
        host: HostId::default(),
        host_name: evil(),
        heard: true,
        desired: Desired::Run,
        generation: 1,
        reserved: Resources::default(),
        placed_ms: 0,
        status: AllocationStatus {
            state: RunState::Running,
            message: evil(),
            ..AllocationStatus::default()
        },
        status_ms: 0,
        usage: Usage::default(),
        charged: Amount::ZERO,
        closed: false,
        image: evil(),
    }
}

pub(crate) fn deployment(owner: AccountId) -> DeploymentView {
    DeploymentView {
        deployment: DeploymentId(1),
        owner,
        project: PROJECT.into(),
        label: evil(),
        release: 2,
        spec: spec(),
        created_ms: 0,
        removed: false,
        volumes_removed: false,
        funding: Funding::Good,
        limited: false,
        escrow: Amount::ZERO,
        charged: Amount::ZERO,
        dry_ms: 0,
        good: 1,
        rollout: None,
        setback: Some(Setback {
            release: 2,
            why: evil(),
        }),
        unplaced: vec![Unplaced {
            service: evil(),
            replica: 2,
            why: evil(),
            since_ms: 0,
        }],
        tried: vec![Tried {
            service: evil(),
            replica: 2,
            release: 1,
            times: 2,
            hosts: Vec::new(),
        }],
        scales: BTreeMap::new(),
        allocations: vec![allocation(owner)],
        earlier: BTreeMap::new(),
    }
}

pub(crate) fn host(owner: AccountId) -> HostView {
    HostView {
        host: HostId::default(),
        name: evil(),
        address: evil(),
        owner,
        offer: Offer {
            capacity: Resources::default(),
            architecture: evil(),
            region: evil(),
            price_multiplier_milli: 1_000,
            builds: false,
        },
        free: Resources::default(),
        allotment: None,
        online: true,
        cordoned: false,
        draining: false,
        hours: None,
        closed: false,
        trusted_ms: 0,
        last_seen_ms: 0,
        allocations: 1,
        earned: Amount::ZERO,
        bond: Amount::ZERO,
        interval: 1,
        reputation: api::Reputation::default(),
        flag: None,
        joined: Some(ledger::host::Joined {
            token: AccountId::default(),
            made_ms: 0,
            joined_ms: 0,
        }),
    }
}

fn token(owner: AccountId) -> api::TokenView {
    api::TokenView {
        token: AccountId([7; 20]),
        owner,
        made_ms: 0,
        until_ms: 1,
    }
}

fn releases() -> Vec<ReleaseView> {
    let mut other = spec();
    other.services.insert("second".into(), service());
    let release = |release, cause, spec| ReleaseView {
        release,
        made_ms: 0,
        cause,
        latest: release == 2,
        good: true,
        spec,
    };
    let why = evil();
    vec![
        release(2, Cause::RolledBack { to: 1, why }, other),
        release(1, Cause::Deployed, spec()),
    ]
}

fn bill(owner: AccountId) -> Bill {
    let line = |name: &str| BillLine {
        deployment: DeploymentId(1),
        project: name.into(),
        release: 1,
        service: name.into(),
        allocation: AllocationId(1),
        host: HostId::default(),
        resource: Resource::Cpu,
        usage: name.into(),
        unit: name.into(),
        rate: Amount::ZERO,
        amount: Amount::ZERO,
        receipts: Vec::new(),
    };
    Bill {
        owner,
        height: 1,
        total: Amount::ZERO,
        lines: vec![line(EVIL), line(FORMULA)],
        earlier: Vec::new(),
        tariff: ledger::Params::dev().tariff,
    }
}

fn account(account: AccountId, mut grants: BTreeMap<AccountId, Grant>) -> api::AccountView {
    let grant = Grant {
        role: Role::Developer,
        limit: None,
        expires_ms: None,
        label: evil(),
        since_ms: 0,
        spent: Amount::ZERO,
        counted_ms: 0,
    };
    grants.insert(AccountId([7; 20]), grant);
    api::AccountView {
        account,
        balance: Amount::ZERO,
        spendable: Amount::ZERO,
        held: Amount::ZERO,
        nonce: 0,
        height: 1,
        gift: Amount(1),
        grants,
        retired: false,
    }
}

fn limit(account: AccountId) -> api::LimitView {
    let stop = |project: &str| api::StopView {
        deployment: DeploymentId(1),
        project: project.into(),
        at: Some(Amount::ZERO),
        limited: true,
    };
    api::LimitView {
        account,
        height: 1,
        from_ms: 0,
        until_ms: 1,
        spent: Amount::ZERO,
        alert: Some(Amount::ZERO),
        limit: Some(Amount::ZERO),
        most: Some(Amount::ZERO),
        order: vec![evil()],
        stops: vec![stop(EVIL), stop(FORMULA)],
        projects: 3,
        limited: 2,
    }
}

fn why() -> api::WhyView {
    api::WhyView {
        allocation: AllocationId(1),
        service: evil(),
        replica: 1,
        host: HostId::default(),
        reason: scheduler::Reason {
            height: 1,
            seed: 1,
            probed: 1,
            dropped: Vec::new(),
            candidates: Vec::new(),
            scored: 1,
            relaxed: vec![evil()],
        },
        names: [(HostId::default().to_string(), evil())].into(),
    }
}

fn status() -> api::ChainStatus {
    api::ChainStatus {
        network: Digest::default(),
        name: evil(),
        height: 1,
        time_ms: 1,
        block: Digest::default(),
        state_root: Digest::default(),
        network_key: evil(),
        validators: vec![api::ValidatorView {
            key: evil(),
            address: evil(),
            led: 1,
        }],
        queued: 0,
        own: None,
    }
}

pub(super) fn lottery() -> api::LotteryView {
    use ledger::lottery::{Phase, Round, Terms};
    api::LotteryView {
        lottery: types::LotteryId(1),
        pot: Amount::ZERO,
        draw_epoch: 1,
        draw_from: 256,
        round: Round {
            terms: Terms {
                owner: AccountId([7; 20]),
                name: evil(),
                price: Amount::ZERO,
                stake: Amount::ZERO,
                prizes: vec![1],
                entries_min: 1,
                entries_max: 1,
                per_account_max: 1,
                close_height: 9,
                draw_height: 9,
            },
            phase: Phase::Open,
            opened_at: 1,
            entries: 0,
            closed_at: None,
            root: None,
            draw: None,
            over_at: None,
        },
    }
}

fn jobs(owner: AccountId) -> api::JobsView {
    let view = deployment(owner);
    let row = api::JobRow {
        deployment: view.deployment,
        project: evil(),
        state: view.state(),
        services: 2,
        image: evil(),
        wanted: 2,
        live: 1,
        ready: 1,
        replicas: vec![allocation(owner)],
        hosts: vec![evil()],
        hosts_all: 2,
        cpu_millis: 1,
        memory_bytes: 1,
        charged: view.charged,
        charged_by: [Amount::ZERO; 5],
        created_ms: view.created_ms,
    };
    api::JobsView {
        counts: [(view.state(), 1)].into(),
        ready: 1,
        charged: view.charged,
        found: 1,
        rows: vec![row],
    }
}

fn used() -> api::UseView {
    let row = api::UseRow {
        project: evil(),
        ..api::UseRow::default()
    };
    api::UseView {
        sum: row.clone(),
        found: 1,
        rows: vec![row],
    }
}

/// A line that would be a stream's own, and one for a terminal.
fn log() -> String {
    let line = LogLine {
        allocation: AllocationId(1),
        service: evil(),
        replica: 1,
        release: 1,
        sequence: 0,
        at_ms: 0,
        stream: evil(),
        text: format!("{EVIL}\n\nevent: over\ndata: \"forged\"\r\r\u{1b}]0;owned\u{7}\u{1b}[31m"),
    };
    let line = serde_json::to_string(&line).expect("JSON");
    format!("{line}\n")
}

/// What a replica of such a name used.
fn history() -> String {
    let sample = serde_json::json!({
        "allocation": AllocationId(1), "service": EVIL, "replica": 1, "at_ms": 0, "step_ms": 10_000,
        "cpu_millis": 1, "cpu_millis_max": 1, "memory_bytes": 1, "memory_bytes_max": 1,
        "disk_bytes": 1, "rx_bytes": 1, "tx_bytes": 1, "pids": 1,
    });
    format!("{sample}\n")
}

/// Whose the hosts are.
pub(crate) type Owner = Arc<OnceLock<AccountId>>;

#[derive(serde::Deserialize)]
struct Of {
    owner: AccountId,
}

async fn refused() -> (Status, Json<api::Problem>) {
    let problem = api::Problem {
        kind: "not_found".into(),
        what: evil(),
        why: evil(),
        next: evil(),
    };
    (Status::NOT_FOUND, Json(problem))
}

/// Both in one, for accounts that let those of `grants` act; what is not here fails with such words.
pub(crate) async fn network(owner: Owner, grants: Grants) -> String {
    let own = move || owner.get().copied().unwrap_or_default();
    let (listed, shown) = (own.clone(), own.clone());
    let (listed_of, deployed) = (own.clone(), own.clone());
    let router = Router::new()
        .route(
            "/v1/accounts/{id}",
            get(move |Path(id): Path<AccountId>| async move {
                Json(account(id, grants.lock().expect("unpoisoned").clone()))
            }),
        )
        .route(
            "/v1/accounts/{id}/limit",
            get(|Path(id): Path<AccountId>| async move { Json(limit(id)) }),
        )
        .route(
            "/v1/accounts/{id}/tokens",
            get(|Path(id): Path<AccountId>| async move { Json([token(id)]) }),
        )
        .route("/v1/status", get(|| async { Json(status()) }))
        .route(
            "/v1/jobs",
            get(|Query(of): Query<Of>| async move { Json(jobs(of.owner)) }),
        )
        .route("/v1/jobs/use", get(|| async { Json(used()) }))
        .route(
            "/v1/deployments",
            get(|Query(of): Query<Of>| async move { Json([deployment(of.owner)]) }),
        )
        .route(
            "/v1/deployments/{id}",
            get(move || async move { Json(deployment(deployed())) }),
        )
        .route(
            "/v1/deployments/{id}/releases",
            get(|| async { Json(releases()) }),
        )
        .route(
            "/v1/allocations",
            get(move || async move { Json([allocation(listed_of())]) }),
        )
        .route("/v1/allocations/{id}/why", get(|| async { Json(why()) }))
        .route("/v1/allocations/{id}/logs", get(|| async { log() }))
        .route("/v1/allocations/{id}/history", get(|| async { history() }))
        .route("/v1/hosts", get(|| async move { Json([host(listed())]) }))
        .route("/v1/hosts/{id}", get(|| async move { Json(host(shown())) }))
        .route(
            "/v1/bill",
            get(|Query(of): Query<Of>| async move { Json(bill(of.owner)) }),
        )
        .route("/v1/lotteries", get(|| async { Json([lottery()]) }))
        .route("/v1/lotteries/{id}", get(|| async { Json(lottery()) }))
        .route("/v1/params", get(|| async { Json(ledger::Params::dev()) }))
        .merge(super::ledger::routes(own))
        .fallback(refused);
    served(router).await
}

/// Of the company, all of whose words are evil.
pub(crate) fn space(account: AccountId) -> Space {
    let links = [
        "javascript:alert(1)",
        "//evil.example",
        "https://a.example/\"onclick=x",
        "https://a.example/x",
    ];
    let links = links.map(|to| format!("- [{EVIL}]({to}) {to}"));
    Space {
        account,
        handle: "acme".into(),
        name: evil(),
        colour: "#ffff00".parse().expect("a colour"),
        home: format!("# {EVIL}\n{EVIL}\n\n{}", links.join("\n")),
        books: Books::Everyone,
        named: vec![evil()],
        apps: vec![SpaceApp {
            project: PROJECT.into(),
            title: evil(),
            audience: Audience::Everyone,
        }],
    }
}
