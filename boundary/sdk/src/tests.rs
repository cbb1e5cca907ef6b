//! The client against small servers that lose answers, repeat and cut.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use api::{
    AccountView, ChainStatus, EventView, LogLine, Problem, Submit, Submitted, TransactionStatus,
    TransactionView,
};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::StreamExt;
use ledger::{Call, Event, Transaction};
use types::{AccountId, AllocationId, Amount, Digest, SecretKey};

use crate::{Client, EventFilter, SdkError};

pub(crate) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

fn key() -> SecretKey {
    SecretKey::from_seed([3; 32])
}

fn call() -> Call {
    let to = AccountId::of(&key().public());
    Call::Account(ledger::account::Call::Faucet { to })
}

pub(crate) fn problem(code: StatusCode, kind: &str) -> Response {
    let problem = Problem {
        kind: kind.into(),
        what: "transaction".into(),
        why: "because".into(),
        next: "Try again.".into(),
    };
    (code, Json(problem)).into_response()
}

/// A ledger of one account that can be told how to misbehave.
#[derive(Default)]
struct Ledger {
    nonce: u64,
    applied: BTreeMap<Digest, TransactionView>,
    posts: u32,
    /// Applies the first transaction, but its answer is lost.
    loses_first: bool,
    /// Somebody else uses the first nonce.
    races_first: bool,
    /// Says no to everything, with this kind.
    refuses: Option<&'static str>,
}

type Shared = Arc<Mutex<Ledger>>;

fn view(id: Digest, status: TransactionStatus) -> TransactionView {
    TransactionView {
        id,
        status,
        height: Some(7),
        rejection: None,
        fee: types::Amount::ZERO,
        sender: None,
        signer: None,
        on_behalf: Vec::new(),
        call: None,
        events: Vec::new(),
    }
}

async fn submit(State(ledger): State<Shared>, Json(submit): Json<Submit>) -> Response {
    let mut ledger = ledger.lock().expect("not poisoned");
    ledger.posts += 1;
    if let Some(kind) = ledger.refuses {
        return problem(StatusCode::BAD_REQUEST, kind);
    }
    let bytes = BASE64.decode(submit.transaction).expect("base64");
    let transaction: Transaction = borsh::from_slice(&bytes).expect("a transaction");
    if ledger.races_first && ledger.posts == 1 {
        ledger.nonce += 1;
    }
    let id = transaction.id();
    if let Some(known) = ledger.applied.get(&id) {
        let result = Some(known.clone());
        return Json(Submitted { id, result }).into_response();
    }
    if transaction.body.nonce <= ledger.nonce {
        return problem(StatusCode::CONFLICT, "stale");
    }
    ledger.nonce = transaction.body.nonce;
    let applied = view(id, TransactionStatus::Applied);
    ledger.applied.insert(id, applied.clone());
    if ledger.loses_first && ledger.posts == 1 {
        return (StatusCode::BAD_GATEWAY, "lost").into_response();
    }
    let result = Some(applied);
    Json(Submitted { id, result }).into_response()
}

fn ledger_router(shared: Shared) -> Router {
    let status = || async {
        Json(ChainStatus {
            network: Digest::of(b"network"),
            name: "test".into(),
            height: 1,
            time_ms: 0,
            block: Digest::default(),
            state_root: Digest::default(),
            network_key: String::new(),
            validators: Vec::new(),
            queued: 0,
            own: None,
        })
    };
    let account = |State(ledger): State<Shared>, Path(id): Path<AccountId>| async move {
        let nonce = ledger.lock().expect("not poisoned").nonce;
        Json(AccountView {
            account: id,
            balance: Amount::ZERO,
            spendable: Amount::ZERO,
            held: Amount::ZERO,
            nonce,
            height: 1,
            gift: Amount::ZERO,
            grants: Default::default(),
            retired: false,
        })
    };
    Router::new()
        .route("/v1/status", get(status))
        .route("/v1/accounts/{id}", get(account))
        .route("/v1/transactions", post(submit))
        .with_state(shared)
}

async fn submitted(ledger: Ledger) -> (Result<TransactionView, SdkError>, Shared) {
    let shared = Arc::new(Mutex::new(ledger));
    let url = serve(ledger_router(shared.clone())).await;
    let client = Client::new([url]).expect("a client");
    (client.submit_and_wait(&key(), call()).await, shared)
}

#[tokio::test]
async fn a_transaction_whose_answer_was_lost_counts_once() {
    let (result, ledger) = submitted(Ledger {
        loses_first: true,
        ..Ledger::default()
    })
    .await;
    assert_eq!(result.expect("applied").status, TransactionStatus::Applied);
    let ledger = ledger.lock().expect("not poisoned");
    assert_eq!((ledger.applied.len(), ledger.posts), (1, 2));
}

#[tokio::test]
async fn a_nonce_that_was_used_is_chosen_anew() {
    let (result, ledger) = submitted(Ledger {
        races_first: true,
        ..Ledger::default()
    })
    .await;
    assert!(result.is_ok());
    let ledger = ledger.lock().expect("not poisoned");
    assert_eq!(
        (ledger.nonce, ledger.applied.len(), ledger.posts),
        (2, 1, 2)
    );
}

#[tokio::test]
async fn a_refusal_is_tried_again_only_if_signing_anew_may_help() {
    for (kind, posts) in [("signature", 1), ("funds", 1), ("stale", 5)] {
        let refuses = Some(kind);
        let (result, ledger) = submitted(Ledger {
            refuses,
            ..Ledger::default()
        })
        .await;
        assert_eq!(result.expect_err("refused").kind(), kind);
        assert_eq!(ledger.lock().expect("not poisoned").posts, posts, "{kind}");
    }
}

#[tokio::test]
async fn the_next_is_asked_when_one_does_not_answer() {
    let good = serve(ledger_router(Shared::default())).await;
    let broken = serve(Router::new().route(
        "/v1/status",
        get(|| async { StatusCode::SERVICE_UNAVAILABLE }),
    ))
    .await;
    let client = Client::new(["http://127.0.0.1:1".to_string(), broken, good.clone()]);
    let client = client.expect("a client");
    assert_eq!(client.status().await.expect("answered").name, "test");
    assert_eq!(client.url(), good);
}

#[tokio::test]
async fn a_refusal_is_told_apart_from_silence() {
    let refusing = Router::new().route(
        "/v1/status",
        get(|| async { problem(StatusCode::PAYMENT_REQUIRED, "funds") }),
    );
    let client = Client::new([serve(refusing).await]).expect("a client");
    let error = client.status().await.expect_err("refused");
    assert_eq!((error.kind(), error.is_transient()), ("funds", false));
    let client = Client::new(["http://127.0.0.1:1".to_string()]).expect("a client");
    let error = client.status().await.expect_err("nobody there");
    assert_eq!((error.kind(), error.is_transient()), ("unavailable", true));
    assert!(Client::new(Vec::new()).is_err());
}

fn event(sequence: u64) -> EventView {
    EventView {
        sequence,
        height: sequence,
        index: 0,
        time_ms: sequence,
        event: Event::Host(ledger::host::Event::HostLeft {
            host: AccountId::default(),
            bond: Amount::ZERO,
            owner: AccountId::default(),
        }),
    }
}

/// Three events at most per answer; as a stream it is then cut in the middle of one.
async fn events(
    Query(query): Query<BTreeMap<String, String>>,
    headers: axum::http::HeaderMap,
) -> Response {
    let from: u64 = query
        .get("from")
        .map_or(0, |f| f.parse().expect("a number"));
    if headers
        .get("accept")
        .is_some_and(|a| a == "application/json")
    {
        // Numbers 3 to 5 are somebody else's.
        let next = (from + 3).min(9);
        let own = (from..next).filter(|n| !(3..6).contains(n));
        let page: Vec<EventView> = own.map(event).collect();
        return ([("runrig-next", next.to_string())], Json(page)).into_response();
    }
    let mut body = String::new();
    for number in from..from + 3 {
        let json = serde_json::to_string(&event(number)).expect("json");
        body.push_str(&format!("id: {number}\ndata: {json}\n\n"));
    }
    body.push_str("data: {\"sequ");
    body.into_response()
}

#[tokio::test]
async fn a_stream_that_is_cut_before_its_first_event_goes_on_where_it_began() {
    let cut_first = |query: Query<BTreeMap<String, String>>, headers| async move {
        match query.get("from") {
            None => ([("runrig-next", "5")], ": alive\n\n").into_response(),
            Some(_) => events(query, headers).await,
        }
    };
    let url = serve(Router::new().route("/v1/events", get(cut_first))).await;
    let client = Client::new([url]).expect("a client");
    let seen: Vec<u64> = client
        .events(EventFilter::ALL, None)
        .map(|e| e.expect("an event").sequence)
        .take(2)
        .collect()
        .await;
    assert_eq!(seen, [5, 6]);
}

#[tokio::test]
async fn events_have_no_gap_and_no_repeat() {
    let url = serve(Router::new().route("/v1/events", get(events))).await;
    let client = Client::new([url]).expect("a client");
    let numbers = |e: Result<EventView, SdkError>| e.expect("an event").sequence;
    let live: Vec<u64> = client
        .events(EventFilter::ALL, Some(2))
        .map(numbers)
        .take(7)
        .collect()
        .await;
    assert_eq!(live, (2..9).collect::<Vec<_>>());
    let past: Vec<u64> = client
        .past_events(EventFilter::ALL, 0)
        .map(numbers)
        .collect()
        .await;
    assert_eq!(past, [0, 1, 2, 6, 7, 8]);
}

/// Seven lines; each answer is cut off after three, the last one ends as it should.
async fn logs(Query(query): Query<BTreeMap<String, String>>) -> Response {
    let from: u64 = query
        .get("from")
        .map_or(0, |s| s.parse().expect("a number"));
    assert_eq!(query["grep"], "a+b &c");
    let lines = (from..7).take(3).map(|sequence| {
        let line = LogLine {
            allocation: AllocationId(1),
            service: "web".into(),
            replica: 1,
            release: 1,
            sequence,
            at_ms: 1,
            stream: "stdout".into(),
            text: sequence.to_string(),
        };
        Ok(serde_json::to_string(&line).expect("json") + "\n")
    });
    let lines: Vec<std::io::Result<String>> = lines.collect();
    // Cut off once the lines are on their way: the server throws away what is not.
    let cut = futures::stream::once(async {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        Err(std::io::Error::other("cut"))
    });
    let cut = cut.take(usize::from(from + 3 < 7));
    axum::body::Body::from_stream(futures::stream::iter(lines).chain(cut)).into_response()
}

#[tokio::test]
async fn logs_resume_after_the_last_line_and_end() {
    let url = serve(Router::new().route("/v1/allocations/{id}/logs", get(logs))).await;
    let client = Client::new([url]).expect("a client");
    let query = crate::LogQuery {
        grep: Some("a+b &c".into()),
        ..Default::default()
    };
    let lines: Vec<String> = client
        .follow_logs(&key(), AllocationId(1), query)
        .map(|l| l.expect("a line").text)
        .collect()
        .await;
    assert_eq!(lines, ["0", "1", "2", "3", "4", "5", "6"]);
}

#[tokio::test]
async fn following_the_log_of_what_is_gone_ends() {
    let gone = || async { problem(StatusCode::NOT_FOUND, "not_found") };
    let url = serve(Router::new().route("/v1/allocations/{id}/logs", get(gone))).await;
    let client = Client::new([url]).expect("a client");
    let all: Vec<_> = client
        .follow_logs(&key(), AllocationId(1), crate::LogQuery::default())
        .collect()
        .await;
    assert!(matches!(&all[..], [Err(error)] if error.kind() == "not_found"));
}

/// A replica of a deployment whose host is heard, or not.
pub(crate) fn replica(number: u64, heard: bool) -> api::AllocationView {
    api::AllocationView {
        allocation: AllocationId(number),
        deployment: types::DeploymentId(1),
        project: "shop".into(),
        owner: AccountId::default(),
        release: 1,
        service: "web".into(),
        replica: 1,
        host: AccountId::default(),
        host_name: format!("host-{number}"),
        heard,
        desired: ledger::lease::Desired::Run,
        generation: 1,
        reserved: Default::default(),
        placed_ms: 1,
        status: types::AllocationStatus {
            state: types::RunState::Running,
            ..Default::default()
        },
        status_ms: 1,
        usage: Default::default(),
        charged: Amount(0),
        closed: false,
        image: String::new(),
    }
}

/// Five lines of each replica, from the one that is asked for on; then nothing, for ever.
async fn printed(
    Path(id): Path<AllocationId>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let from: u64 = query
        .get("from")
        .map_or(0, |s| s.parse().expect("a number"));
    let until = if from == 0 { 3 } else { 5 };
    let lines = (from..until).map(move |sequence| {
        let line = LogLine {
            allocation: id,
            service: "web".into(),
            replica: 1,
            release: 1,
            sequence,
            at_ms: 1,
            stream: "stdout".into(),
            text: format!("{id} {sequence}"),
        };
        Ok::<_, std::io::Error>(serde_json::to_string(&line).expect("json") + "\n")
    });
    let lines: Vec<_> = lines.collect();
    let open = futures::stream::iter(lines).chain(futures::stream::pending());
    axum::body::Body::from_stream(open).into_response()
}

/// What a watcher sees next.
async fn sees(watch: &mut crate::Watch, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    for _ in 0..count {
        seen.push(match watch.next().await {
            crate::Watched::Line(line) => line.text,
            crate::Watched::Note(note) => match note.news {
                crate::News::Lost => format!("{} lost", note.of.host_name),
                crate::News::Back => format!("{} back", note.of.host_name),
                crate::News::Follows(before, from) => {
                    format!("{} after {before} on {from}", note.of.allocation)
                }
                news => panic!("{news:?}"),
            },
        });
    }
    seen
}

/// One of `places` replicas at once, of hosts whose lines nobody else keeps.
async fn watching(places: usize) -> crate::Watch {
    let router = Router::new()
        .route("/v1/allocations/{id}/logs", get(printed))
        .route(
            "/v1/allocations/{id}/keepers",
            get(|| async { Json(Vec::<api::Keeper>::new()) }),
        );
    let client = Client::new([serve(router).await]).expect("a client");
    crate::Watch::new(client, key(), places)
}

#[tokio::test]
async fn a_watched_log_goes_on_with_the_successor_and_with_a_host_that_is_back() {
    let mut watch = watching(8).await;
    let all = |_, _| crate::LogQuery::default();
    watch.look(&[replica(1, true)], all);
    assert_eq!(sees(&mut watch, 3).await, ["a-1 0", "a-1 1", "a-1 2"]);
    watch.look(&[replica(1, false)], all);
    assert_eq!(sees(&mut watch, 1).await, ["host-1 lost"]);
    watch.look(&[replica(1, false), replica(2, true)], all);
    let then = ["a-2 after a-1 on host-1", "a-2 0", "a-2 1", "a-2 2"];
    assert_eq!(sees(&mut watch, 4).await, then);
    // What it wrote that nobody had, behind what was seen.
    watch.look(&[replica(1, true), replica(2, true)], all);
    assert_eq!(sees(&mut watch, 3).await, ["host-1 back", "a-1 3", "a-1 4"]);
    assert!(watch.is_empty() && !watch.is_idle());
}

#[tokio::test]
async fn a_replica_that_is_lost_for_good_takes_no_place_from_its_successor() {
    let mut watch = watching(1).await;
    let all = |_, _| crate::LogQuery::default();
    watch.look(&[replica(1, true)], all);
    assert_eq!(sees(&mut watch, 3).await, ["a-1 0", "a-1 1", "a-1 2"]);
    watch.look(&[replica(1, false)], all);
    assert_eq!(sees(&mut watch, 1).await, ["host-1 lost"]);
    let mut lost = replica(1, false);
    lost.closed = true;
    watch.look(&[lost.clone()], all);
    watch.look(&[lost, replica(2, true), replica(3, true)], all);
    let then = ["a-2 after a-1 on host-1", "a-2 0", "a-2 1", "a-2 2"];
    assert_eq!(sees(&mut watch, 4).await, then);
    assert!(watch.is_empty());
}

#[tokio::test]
async fn a_list_is_read_page_after_page() {
    async fn page(Query(query): Query<BTreeMap<String, String>>) -> Response {
        let from: u64 = query["from"].parse().expect("a number");
        let rows: Vec<_> = (from..5).take(2).map(|n| replica(n, true)).collect();
        let next = [("runrig-next", (from + 2).to_string())];
        match from + 2 < 5 {
            true => (next, Json(rows)).into_response(),
            false => Json(rows).into_response(),
        }
    }
    let url = serve(Router::new().route("/v1/allocations", get(page))).await;
    let client = Client::new([url]).expect("a client");
    let all = client.allocations(AccountId::default(), true).await;
    let numbers: Vec<u64> = all
        .expect("listed")
        .iter()
        .map(|a| a.allocation.0)
        .collect();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
}
