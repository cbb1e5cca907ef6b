//! Copies of good and of hostile keepers.

use std::sync::{Arc, Mutex};

use api::Keeper;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use types::{AccountId, AllocationId, SecretKey};

use super::*;
use crate::tests::{problem, replica, serve};

fn reader() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

fn host() -> SecretKey {
    SecretKey::from_seed([8; 32])
}

/// A replica of the host that made the copies.
fn copied(number: u64) -> AllocationView {
    AllocationView {
        host: AccountId::of(&host().public()),
        ..replica(number, false)
    }
}

/// What one keeper has, and what was asked of it.
#[derive(Default)]
struct Kept {
    parts: Vec<(CopySpan, Vec<u8>)>,
    asked: Vec<u64>,
    /// So many questions get no answer first.
    silent: u32,
}

type Shared = Arc<Mutex<Kept>>;

/// Lines `first..next` of `width` bytes.
fn part(id: u64, first: u64, next: u64, width: usize) -> (CopySpan, Vec<u8>) {
    let span = CopySpan {
        first,
        next,
        newest_ms: next,
    };
    let line = |number: u64| Line {
        at_ms: number,
        source: Source::Stdout,
        text: "x".repeat(width),
    };
    let lines: Vec<(u64, Line)> = (first..next).map(|n| (n, line(n))).collect();
    let text = journal::pack(&lines).expect("packed");
    let context = LogCopy::context(AllocationId(id), &span);
    let sealed = secrets::seal_to(&[reader().public()], &context, &text).expect("sealed");
    let copy = LogCopy::sign(&host(), AllocationId(id), &span, sealed);
    (span, copy.to_bytes())
}

async fn keeper(parts: Vec<(CopySpan, Vec<u8>)>, silent: u32) -> (Client, Shared) {
    let kept = Shared::new(Mutex::new(Kept {
        parts,
        silent,
        ..Kept::default()
    }));
    let keepers = |State(kept): State<Shared>| async move {
        let mut kept = kept.lock().expect("not poisoned");
        if kept.silent > 0 {
            kept.silent -= 1;
            return problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable");
        }
        let keeper = Keeper {
            host: AccountId::default(),
            name: "keeper".into(),
            address: String::new(),
            online: true,
        };
        Json([keeper]).into_response()
    };
    let spans = |State(kept): State<Shared>| async move {
        let kept = kept.lock().expect("not poisoned");
        Json(kept.parts.iter().map(|(s, _)| *s).collect::<Vec<_>>())
    };
    let one = |State(kept): State<Shared>, Path((_, _, first)): Path<(String, String, u64)>| async move {
        let mut kept = kept.lock().expect("not poisoned");
        kept.asked.push(first);
        let found = kept.parts.iter().find(|(s, _)| s.first == first);
        let answer: Response = match found {
            Some((_, bytes)) => bytes.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        };
        answer
    };
    let router = Router::new()
        .route("/v1/allocations/{id}/keepers", get(keepers))
        .route("/v1/hosts/{host}/copies/{id}", get(spans))
        .route("/v1/hosts/{host}/copies/{id}/{first}", get(one))
        .with_state(kept.clone());
    let client = Client::new([serve(router).await]).expect("a client");
    (client, kept)
}

async fn read(client: &Client, query: &LogQuery) -> Option<CopiedLog> {
    let copy = client.copied_log(&reader(), &copied(1), query).await;
    copy.expect("answered")
}

#[tokio::test]
async fn a_span_that_ends_before_it_begins_is_none() {
    let mut hostile = part(1, 9, 12, 1);
    hostile.0.next = 3;
    let (client, _) = keeper(vec![hostile.clone()], 0).await;
    assert!(read(&client, &LogQuery::default()).await.is_none());
    let (client, _) = keeper(vec![hostile, part(1, 0, 4, 1)], 0).await;
    let copy = read(&client, &LogQuery::default()).await.expect("a copy");
    assert_eq!(copy.lines.len(), 4);
}

#[tokio::test]
async fn who_wants_the_end_reads_no_more() {
    let parts = (0..6).map(|n| part(1, n * 10, n * 10 + 10, 1)).collect();
    let (client, kept) = keeper(parts, 0).await;
    let query = LogQuery {
        tail: Some(15),
        ..LogQuery::default()
    };
    let copy = read(&client, &query).await.expect("a copy");
    let numbers: Vec<u64> = copy.lines.iter().map(|l| l.sequence).collect();
    assert_eq!(numbers, (45..60).collect::<Vec<_>>());
    assert_eq!(kept.lock().expect("not poisoned").asked, [50, 40]);
    // What has to be looked for may be anywhere.
    let query = LogQuery {
        grep: Some("nowhere".into()),
        ..query
    };
    let copy = read(&client, &query).await.expect("a copy");
    assert!(copy.lines.is_empty() && copy.closed.is_none());
    assert_eq!(kept.lock().expect("not poisoned").asked.len(), 8);
}

#[tokio::test]
async fn no_more_text_is_held_than_there_is_room_for() {
    let parts = (0..8)
        .map(|n| part(1, n * 512, n * 512 + 512, 8 << 10))
        .collect();
    let (client, kept) = keeper(parts, 0).await;
    let copy = read(&client, &LogQuery::default()).await.expect("a copy");
    let held: usize = copy.lines.iter().map(|l| l.text.len()).sum();
    assert!(held <= TEXT_MAX && held > TEXT_MAX / 2, "{held}");
    assert_eq!(copy.lines.last().map(|l| l.sequence), Some(4_095));
    assert_eq!(
        copy.closed.as_deref(),
        Some("it is more than is read at once")
    );
    assert!(kept.lock().expect("not poisoned").asked.len() <= 5);
}

#[tokio::test]
async fn a_copy_that_ends_before_what_is_asked_for_is_one() {
    let parts = vec![part(1, 0, 10, 1), part(1, 10, 20, 1), part(1, 30, 40, 1)];
    let (client, _) = keeper(parts, 0).await;
    let from = |from| LogQuery {
        from: Some(from),
        ..LogQuery::default()
    };
    let copy = read(&client, &from(50)).await.expect("a copy");
    assert_eq!((copy.lines.len(), copy.newest_ms, copy.missing), (0, 40, 0));
    let copy = read(&client, &from(24)).await.expect("a copy");
    assert_eq!((copy.lines.len(), copy.missing), (10, 6));
    let copy = read(&client, &from(5)).await.expect("a copy");
    assert_eq!((copy.lines.len(), copy.missing), (25, 10));
}

#[tokio::test]
async fn a_watcher_asks_again_for_a_copy_of_whom_does_not_answer() {
    let (client, _) = keeper(vec![part(1, 0, 3, 1)], 2).await;
    let mut watch = crate::Watch::new(client, reader(), 8);
    let all = |_, _| LogQuery::default();
    watch.look(&[copied(1)], all);
    let crate::Watched::Note(note) = watch.next().await else {
        panic!("a note comes first");
    };
    assert!(matches!(note.news, crate::News::Copied(_)), "{note:?}");
    for _ in 0..3 {
        assert!(matches!(watch.next().await, crate::Watched::Line(_)));
    }
}
