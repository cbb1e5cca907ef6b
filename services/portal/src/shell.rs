//! A shell in a replica, in the browser: between its WebSocket and that of the replica's host, which
//! hears the session's key and checks its role by itself.
//!
//! Binary frames are bytes of the terminal both ways. Text frames are JSON: a browser's
//! [`Told`], and what it hears at the end: `{"exit": 0}` or `{"over": "why"}`. What the browser has
//! not drawn yet is bounded by [`UNDRAWN_MAX`], so that the command waits instead of memory growing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::ExecFrame;
use axum::body::Bytes;
use axum::extract::ws::{Message, WebSocket};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use sdk::{ExecOutput, ExecStream};
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::{interval, sleep, timeout};
use types::{AccountId, AllocationId, SecretKey};

use crate::app::App;
use crate::people::Token;
use crate::web::{self, Right};

/// Shells of one person, and of all, at once.
const OF_PERSON_MAX: usize = 8;
const ALL_MAX: usize = 256;
/// What a browser sends at once: something pasted is sent in parts.
pub const INPUT_MAX: usize = 64 << 10;
/// Bytes on their way to a browser that it has not said it has drawn.
const UNDRAWN_MAX: u64 = 1 << 20;
/// A browser that does not say its size, and a host that does not answer, are let go.
const START: Duration = Duration::from_secs(15);
/// Nothing was typed for so long.
const IDLE: Duration = Duration::from_secs(30 * 60);
/// How often it is looked whether the person may still do this, and whether the browser is there.
const LOOK: Duration = Duration::from_secs(20);
const FAREWELL: Duration = Duration::from_secs(5);
const SIDE_MAX: u16 = 1_000;
/// The best shell that an image has.
const COMMAND: &str = "command -v bash >/dev/null 2>&1 && exec bash; exec sh";

/// The people who have shells open, one entry for each.
#[derive(Clone, Default)]
pub struct Seats(Arc<Mutex<Vec<i64>>>);

/// Taken until it is dropped.
pub struct Seat {
    seats: Seats,
    person: i64,
}

impl Seats {
    /// `None`: he has as many as he may, or all are taken.
    pub fn take(&self, person: i64) -> Option<Seat> {
        let mut taken = self.0.lock().unwrap_or_else(|e| e.into_inner());
        let own = taken.iter().filter(|p| **p == person).count();
        if own >= OF_PERSON_MAX || taken.len() >= ALL_MAX {
            return None;
        }
        taken.push(person);
        Some(Seat {
            seats: self.clone(),
            person,
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.0.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(at) = taken.iter().position(|p| *p == self.person) {
            taken.swap_remove(at);
        }
    }
}

/// What is opened, and by whom.
pub struct Shell {
    pub app: App,
    pub client: sdk::Client,
    pub key: SecretKey,
    /// Of the session, which must not end.
    pub token: Token,
    /// Whose replica it is.
    pub owner: AccountId,
    pub allocation: AllocationId,
}

/// What a browser says beside what is typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Told {
    Size {
        rows: u16,
        columns: u16,
    },
    /// Bytes that it has drawn in all.
    Drawn {
        drawn: u64,
    },
}

enum End {
    Exit(i32),
    Over(String),
    /// The browser went away: nobody is there to hear why.
    Gone,
}

/// What both directions know of each other.
struct State {
    typed_ms: AtomicU64,
    drawn: AtomicU64,
    drew: Notify,
}

pub async fn serve(shell: Shell, _seat: Seat, socket: WebSocket) {
    let (mut to, mut from) = socket.split();
    let end = match run(&shell, &mut to, &mut from).await {
        End::Exit(code) => serde_json::json!({ "exit": code }),
        End::Over(why) => serde_json::json!({ "over": why }),
        End::Gone => return,
    };
    let _ = timeout(FAREWELL, async {
        to.send(Message::Text(end.to_string().into())).await?;
        to.send(Message::Close(None)).await
    })
    .await;
}

async fn run(
    shell: &Shell,
    to: &mut SplitSink<WebSocket, Message>,
    from: &mut SplitStream<WebSocket>,
) -> End {
    let over = |why: &str| End::Over(why.into());
    let Ok(Some(Ok(Message::Text(first)))) = timeout(START, from.next()).await else {
        return over("The browser did not say how large its window is.");
    };
    let Ok(Told::Size { rows, columns }) = serde_json::from_str(&first) else {
        return over("The browser did not say how large its window is.");
    };
    let opened = timeout(START, shell.client.exec(&shell.key, shell.allocation)).await;
    let ExecStream {
        mut input,
        mut output,
    } = match opened {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return End::Over(error.to_string()),
        Err(_) => return over("The host does not answer. Try again in a moment."),
    };
    let start = ExecFrame::Start {
        command: ["sh", "-c", COMMAND].map(str::to_string).into(),
        env: vec!["TERM=xterm-256color".into()],
        user: None,
        working_dir: None,
        terminal: true,
        rows: rows.clamp(1, SIDE_MAX),
        columns: columns.clamp(1, SIDE_MAX),
    };
    if !ExecStream::send(&mut input, &start).await {
        return over("The host was lost.");
    }
    let state = State {
        typed_ms: AtomicU64::new(api::now_ms()),
        drawn: AtomicU64::new(0),
        drew: Notify::new(),
    };
    // Each waits for its own other end only: a command that does not read still prints.
    let typed = async {
        while let Some(Ok(message)) = from.next().await {
            let frame = match message {
                Message::Binary(bytes) => {
                    state.typed_ms.store(api::now_ms(), Ordering::Relaxed);
                    let data = BASE64.encode(bytes);
                    ExecFrame::Stdin { data }
                }
                Message::Text(text) => match serde_json::from_str(&text) {
                    Ok(Told::Size { rows, columns }) => ExecFrame::Resize {
                        rows: rows.clamp(1, SIDE_MAX),
                        columns: columns.clamp(1, SIDE_MAX),
                    },
                    Ok(Told::Drawn { drawn }) => {
                        state.drawn.store(drawn, Ordering::Relaxed);
                        state.drew.notify_one();
                        continue;
                    }
                    Err(_) => return over("The browser said what is not understood."),
                },
                Message::Close(_) => return End::Gone,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            if !ExecStream::send(&mut input, &frame).await {
                return over("The host was lost.");
            }
        }
        End::Gone
    };
    tokio::select! {
        end = typed => end,
        end = printed(&mut output, to, &state) => end,
        end = looked_after(shell, &state) => end,
    }
}

/// What the command prints, on to the browser, as fast as that draws it.
async fn printed(
    output: &mut ExecOutput,
    to: &mut SplitSink<WebSocket, Message>,
    state: &State,
) -> End {
    let mut sent = 0u64;
    let mut pulse = interval(LOOK);
    loop {
        let frame = tokio::select! {
            frame = ExecStream::receive(output) => frame,
            _ = pulse.tick() => {
                if to.send(Message::Ping(Bytes::new())).await.is_err() {
                    return End::Gone;
                }
                continue;
            }
        };
        let data = match frame {
            Some(ExecFrame::Stdout { data } | ExecFrame::Stderr { data }) => data,
            Some(ExecFrame::Exit { code }) => return End::Exit(code),
            Some(ExecFrame::Failed { problem }) => {
                return End::Over(format!("{}: {}", problem.what, problem.why));
            }
            Some(_) => continue,
            None => return End::Over("The container or its host has ended.".into()),
        };
        let bytes = BASE64.decode(data).unwrap_or_default();
        sent += bytes.len() as u64;
        if to.send(Message::Binary(bytes.into())).await.is_err() {
            return End::Gone;
        }
        while sent.saturating_sub(state.drawn.load(Ordering::Relaxed)) > UNDRAWN_MAX {
            state.drew.notified().await;
        }
    }
}

/// Ends it when nobody types any more, or the person may no more.
async fn looked_after(shell: &Shell, state: &State) -> End {
    loop {
        sleep(LOOK).await;
        let typed_ms = state.typed_ms.load(Ordering::Relaxed);
        if api::now_ms().saturating_sub(typed_ms) > IDLE.as_millis() as u64 {
            return End::Over("Nothing was typed for half an hour.".into());
        }
        let over = web::over(&shell.app, &shell.token, shell.owner, Right::Deploy);
        if let Some(why) = over.await {
            return End::Over(why.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shells_of_one_and_of_all_are_bounded() {
        let seats = Seats::default();
        let own: Vec<_> = (0..OF_PERSON_MAX).map(|_| seats.take(1)).collect();
        assert!(own.iter().all(Option::is_some));
        assert!(seats.take(1).is_none());
        let others: Vec<_> = (2..).map_while(|person| seats.take(person)).collect();
        assert_eq!(own.len() + others.len(), ALL_MAX);
        drop(own);
        assert!(seats.take(1).is_some());
    }

    #[test]
    fn a_browser_says_its_size_and_what_it_has_drawn() {
        let read = |text| serde_json::from_str::<Told>(text).ok();
        let size = Told::Size {
            rows: 24,
            columns: 80,
        };
        assert_eq!(read(r#"{"rows":24,"columns":80}"#), Some(size));
        assert_eq!(read(r#"{"drawn":7}"#), Some(Told::Drawn { drawn: 7 }));
        for wrong in [
            "",
            "{}",
            r#"{"rows":-1,"columns":80}"#,
            r#"{"rows":70000,"columns":1}"#,
        ] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }
}
