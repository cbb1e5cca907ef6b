//! A ledger's past in which every word that somebody chose is evil: what the index is made of, and
//! what the API answers of blocks, transactions, receipts and proposals.

use std::path::Path;

use api::{TransactionStatus, TransactionView};
use axum::routing::get;
use axum::{Json, Router};
use ledger::account::Call as Accounts;
use ledger::deployment::{Call as Deployments, DemandLine, Event as Deployment};
use ledger::host::{Call as Hosts, Event as Host};
use ledger::lease::{Call as Leases, Charge, Event as Lease, Receipt};
use ledger::lottery::Event as Lottery;
use ledger::validator::{Call as Validators, Event as Validator, Registration};
use ledger::{Call, Event, account, limit};
use types::{
    AccountId, AllocationId, AllocationStatus, Amount, DeploymentId, Digest, Offer, PublicKey,
    ReceiptId, Resource, Resources, RunState, Signature, Usage,
};

use super::network::{lottery, spec};
use crate::app::App;
use crate::tests::EVIL;

const JOB: DeploymentId = DeploymentId(1);
const REPLICA: AllocationId = AllocationId(1);
const KEY: PublicKey = PublicKey([1; 32]);

fn evil() -> String {
    EVIL.into()
}

fn offer() -> Offer {
    Offer {
        capacity: Resources::default(),
        architecture: evil(),
        region: evil(),
        price_multiplier_milli: 1_000,
        builds: false,
    }
}

fn status() -> AllocationStatus {
    AllocationStatus {
        state: RunState::Failed,
        message: evil(),
        addresses: [(evil(), [127, 0, 0, 1])].into(),
        ..AllocationStatus::default()
    }
}

fn receipt(owner: AccountId) -> Receipt {
    let charge = |resource| Charge {
        resource,
        counted: 10,
        rate: Amount(1),
        amount: Amount(1),
    };
    Receipt {
        id: ReceiptId(1),
        deployment: JOB,
        release: 1,
        service: evil(),
        allocation: REPLICA,
        host: AccountId::default(),
        payer: owner,
        payee: owner,
        interval: 1,
        root: Digest::default(),
        record: Digest::default(),
        sequence: 1,
        from_ms: 0,
        until_ms: api::now_ms(),
        total: Usage::default(),
        charges: Resource::ALL.map(charge).to_vec(),
        amount: Amount(5),
    }
}

/// One of each that carries a text, and what begins incidents.
fn events(owner: AccountId) -> Vec<Event> {
    let host = AccountId::default();
    let (service, replica) = (evil(), 1);
    let terms = || lottery().round.terms;
    let deployment = |event| Event::Deployment(event);
    vec![
        Event::Host(Host::HostRegistered {
            host,
            name: evil(),
            owner,
            offer: offer(),
            bond: Amount::ZERO,
        }),
        Event::Host(Host::HostOffline {
            host,
            last_seen_ms: 0,
            excused: false,
        }),
        deployment(Deployment::Deployed {
            deployment: JOB,
            owner,
            project: evil(),
            release: 1,
            changed: vec![evil()],
        }),
        deployment(Deployment::SetRunning {
            deployment: JOB,
            service: Some(evil()),
            running: true,
        }),
        deployment(Deployment::Restarted {
            deployment: JOB,
            service: Some(evil()),
        }),
        deployment(Deployment::AllocationPlaced {
            deployment: JOB,
            allocation: REPLICA,
            service: service.clone(),
            replica,
            host,
        }),
        deployment(Deployment::AllocationLeaves {
            deployment: JOB,
            allocation: REPLICA,
            service: service.clone(),
            replica,
        }),
        deployment(Deployment::AllocationStays {
            deployment: JOB,
            allocation: REPLICA,
            service: service.clone(),
            replica,
        }),
        deployment(Deployment::Unplaced {
            deployment: JOB,
            service: service.clone(),
            replica,
            why: format!("no host fits replica 1; hosts dropped: 1 by {EVIL}"),
        }),
        deployment(Deployment::TriedAgain {
            deployment: JOB,
            allocation: REPLICA,
            service: service.clone(),
            replica,
            host,
            times: 1,
            why: evil(),
        }),
        deployment(Deployment::Scaled {
            deployment: JOB,
            service,
            from: 1,
            to: 2,
            why: evil(),
        }),
        deployment(Deployment::ReleaseStuck {
            deployment: JOB,
            release: 1,
            why: evil(),
        }),
        deployment(Deployment::RolledBack {
            deployment: JOB,
            from: 2,
            to: 1,
            release: 3,
            why: evil(),
        }),
        Event::Lease(Lease::StatusChanged {
            deployment: JOB,
            allocation: REPLICA,
            service: evil(),
            replica,
            host,
            status: status(),
        }),
        Event::Lease(Lease::Settled(receipt(owner))),
        Event::Account(account::Event::Transferred {
            from: owner,
            to: owner,
            amount: Amount(1),
            memo: evil(),
        }),
        Event::Limit(limit::Event::Set {
            account: owner,
            alert: None,
            limit: None,
            order: vec![evil()],
        }),
        Event::Validator(Validator::ValidatorRegistered {
            key: KEY,
            owner,
            address: evil(),
            bond: Amount::ZERO,
            until: 9,
        }),
        Event::Lottery(Lottery::Created {
            lottery: types::LotteryId(1),
            terms: terms(),
        }),
        Event::Lottery(Lottery::Closed {
            lottery: types::LotteryId(1),
            terms: terms(),
            entries: 1,
            root: Digest::default(),
            draw_epoch: 1,
        }),
    ]
}

/// One of each that carries a text.
fn calls(owner: AccountId) -> Vec<Call> {
    vec![
        Call::Account(Accounts::Transfer {
            to: owner,
            amount: Amount(1),
            memo: evil(),
        }),
        Call::Account(Accounts::Grant {
            to: owner,
            role: account::Role::Viewer,
            limit: None,
            expires_ms: None,
            label: evil(),
        }),
        Call::Deployment(Deployments::Deploy {
            spec: spec(),
            price_max_hour: None,
        }),
        Call::Deployment(Deployments::SetRunning {
            deployment: JOB,
            service: Some(evil()),
            running: false,
        }),
        Call::Deployment(Deployments::Restart {
            deployment: JOB,
            service: Some(evil()),
        }),
        Call::Deployment(Deployments::ReportDemand {
            lines: vec![DemandLine {
                deployment: JOB,
                service: evil(),
                under_way_milli: 1,
                per_second_milli: 1,
                waiting: 1,
                open: Vec::new(),
            }],
        }),
        Call::Host(Hosts::Register {
            name: evil(),
            address: evil(),
            offer: offer(),
            owner,
            machine: Digest::default(),
            invitation: None,
        }),
        Call::Lease(Leases::ReportStatus {
            plan: 1,
            statuses: vec![(REPLICA, status())],
        }),
        Call::Limit(limit::Call::Set {
            alert: None,
            limit: None,
            order: vec![evil()],
        }),
        Call::Lottery(ledger::lottery::Call::Create {
            name: evil(),
            price: Amount(1),
            stake: Amount::ZERO,
            prizes: vec![1],
            entries_min: 1,
            entries_max: 1,
            per_account_max: 1,
            close_height: 9,
            draw_height: 9,
        }),
        Call::Validator(Validators::Register(Registration {
            key: KEY,
            address: evil(),
            api: evil(),
            epoch: 1,
            nonce: 1,
            proof: Signature([0; 64]),
        })),
    ]
}

fn transactions(owner: AccountId) -> Vec<TransactionView> {
    let view = |(at, call)| TransactionView {
        id: Digest([at; 32]),
        status: TransactionStatus::Rejected,
        height: Some(1),
        rejection: Some(ledger::Rejection {
            kind: ledger::RejectKind::Invalid,
            what: evil(),
            why: evil(),
            next: evil(),
        }),
        fee: Amount::ZERO,
        sender: Some(owner),
        signer: Some(owner),
        on_behalf: Vec::new(),
        call: Some(call),
        events: events(owner),
    };
    (0u8..).zip(calls(owner)).map(view).collect()
}

/// The portal's index has heard it all, just now.
pub(super) async fn tell(app: &App, owner: AccountId) {
    let heard = app
        .index
        .hear(api::now_ms(), transactions(owner), events(owner));
    heard.await;
}

/// Columns of the index that nobody's words come into: ids, amounts, kinds. A cause is one of the
/// scheduler's rules.
const PLAIN: [&str; 11] = [
    "accounts.",
    "activity.",
    "counters.",
    "days.",
    "facts.",
    "hours.",
    "months.",
    "seats.",
    "blocks.",
    "causes.",
    "failures.",
];
const PLAIN_COLUMNS: &str = "account actor amount bandwidth cpu digest host id kind memory owner \
    payee payer proposer sender signer storage subject transfer";

#[tokio::test]
async fn every_text_of_the_index_is_evil() {
    let site = crate::tests::Site::open().await;
    tell(&site.app, AccountId([7; 20])).await;
    for (column, holds) in site.app.index.texts("<script>").await {
        let name = column.split('.').next_back().unwrap_or("");
        let plain = PLAIN.iter().any(|table| column.starts_with(table))
            || PLAIN_COLUMNS.split_whitespace().any(|plain| plain == name);
        assert!(holds || plain, "{column} has nothing hostile in it");
    }
}

/// What a variant of an enum in the ledger's sources is called, if one of its fields is a text.
fn with_texts(source: &str) -> Vec<String> {
    let mut named = Vec::new();
    let mut variant = "";
    for line in source.lines().filter(|l| !l.trim_start().starts_with("//")) {
        let word = line.trim().split([' ', '{', '(', ',']).next().unwrap_or("");
        let begins = line.starts_with("    ") && !line.starts_with("     ");
        if begins && word.starts_with(|c: char| c.is_ascii_uppercase()) {
            variant = word;
        }
        if line.contains("String") && !variant.is_empty() && !line.contains("pub ") {
            named.push(variant.to_string());
        }
    }
    named
}

#[test]
fn no_text_of_the_ledger_is_left_out() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../kernel/ledger/src");
    let own = include_str!("ledger.rs");
    let mut seen = 0;
    for domain in std::fs::read_dir(root).expect("the ledger's sources") {
        for file in ["event.rs", "call.rs"] {
            let path = domain.as_ref().expect("a file").path().join(file);
            let Ok(source) = std::fs::read_to_string(path) else {
                continue;
            };
            for variant in with_texts(&source) {
                assert!(own.contains(&format!("::{variant} {{")), "{variant}");
                seen += 1;
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

/// The API's answers about it.
pub(super) fn routes(owner: impl Fn() -> AccountId + Clone + Send + Sync + 'static) -> Router {
    let of = owner.clone();
    let block = move || {
        let transactions = transactions(of());
        async move {
            Json(api::BlockView {
                height: 1,
                time_ms: 1,
                block: Digest::default(),
                parent: Digest::default(),
                state_root: Digest::default(),
                events_root: Digest::default(),
                header: evil(),
                seal: evil(),
                certificate: evil(),
                transactions,
                handing: None,
            })
        }
    };
    let of = owner.clone();
    let transaction = move || {
        let first = transactions(of()).swap_remove(0);
        async move { Json(first) }
    };
    let proof = || async {
        Json(api::EventProof {
            header: evil(),
            descendants: vec![evil()],
            certificate: evil(),
            event: evil(),
            index: 0,
            count: 1,
            path: Vec::new(),
        })
    };
    let when = || async {
        Json(api::WhenView {
            height: 1,
            transaction: None,
            not_before_ms: 1,
            not_after_ms: None,
            made: api::DutyProof {
                header: evil(),
                descendants: vec![evil()],
                certificate: evil(),
                duty: evil(),
            },
            seen: None,
        })
    };
    let records = || async {
        Json(api::RecordsProof {
            header: evil(),
            certificate: evil(),
            records: vec![api::ProvedRecord {
                record: Some(evil()),
                proof: evil(),
            }],
        })
    };
    let proposal = api::ProposalView {
        id: types::ProposalId(1),
        yes: 1,
        no: 0,
        members: 2,
        proposal: ledger::vote::Proposal {
            proposer: AccountId([7; 20]),
            change: ledger::vote::Change::Version(2),
            phase: ledger::vote::Phase::Open,
            closes: 9,
            votes: Default::default(),
        },
    };
    let proposals = vec![proposal.clone()];
    let members = || async {
        Json(serde_json::json!({
            "height": 1, "epoch": 1, "epoch_blocks": 256, "bond": "1", "ticket_bits": 1,
            "ticket_epochs": 1, "ticket": null,
            "members": [{
                "key": KEY, "owner": AccountId::default(), "address": EVIL, "api": EVIL,
                "bond": "1", "until": 9, "place": 1, "other_duties": false, "seats": [1],
                "led": 1, "earned": "0", "convicted": null,
            }],
        }))
    };
    let queues = || async {
        Json([api::ValidatorQueue {
            address: evil(),
            queue: None,
            why: evil(),
        }])
    };
    let supply = || async {
        Json(serde_json::json!({
            "height": 1, "expected": "1", "sum": "1", "spendable": "1", "escrow": "0",
        }))
    };
    Router::new()
        .route("/v1/blocks/{height}", get(block))
        .route("/v1/transactions/{id}", get(transaction))
        .route(
            "/v1/receipts/{id}",
            get(move || async move { Json(receipt(owner())) }),
        )
        .route("/v1/receipts/{id}/proof", get(proof))
        .route("/v1/when/{what}", get(when))
        .route("/v1/records/{table}", get(records))
        .route("/v1/proposals", get(|| async { Json(proposals) }))
        .route("/v1/proposals/{id}", get(|| async { Json(proposal) }))
        .route("/v1/validators", get(members))
        .route("/v1/gateway/queues", get(queues))
        .route("/v1/supply", get(supply))
}
