//! A command in a running container, over a WebSocket.

use std::sync::Arc;
use std::time::Duration;

use api::{ExecFrame, Problem};
use axum::extract::ws::{Message, WebSocket};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use engine::{ExecInput, ExecOutput, ExecRequest};

use crate::shared::Shared;

/// A client that says nothing at first is let go.
const START: Duration = Duration::from_secs(10);
/// How often a client is asked whether it is still there.
const PULSE: Duration = Duration::from_secs(10);
/// So long a client may take to close its end.
const FAREWELL: Duration = Duration::from_secs(5);

pub async fn serve(
    shared: Arc<Shared>,
    planned: api::PlannedAllocation,
    container: String,
    mut socket: WebSocket,
) {
    if let Err(problem) = session(&shared, &planned, &container, &mut socket).await {
        let _ = send(&mut socket, &ExecFrame::Failed { problem }).await;
    }
    if socket.send(Message::Close(None)).await.is_ok() {
        // Closed with input unread, the system would reset the connection, and what was said
        // last be lost on its way.
        let _ = tokio::time::timeout(FAREWELL, async {
            while let Some(Ok(_)) = socket.recv().await {}
        })
        .await;
    }
}

async fn session(
    shared: &Shared,
    planned: &api::PlannedAllocation,
    container: &str,
    socket: &mut WebSocket,
) -> Result<(), Problem> {
    let first = tokio::time::timeout(START, receive(socket))
        .await
        .ok()
        .flatten();
    let Some(ExecFrame::Start {
        command,
        env,
        user,
        working_dir,
        terminal,
        rows,
        columns,
    }) = first
    else {
        return Err(problem(
            "no start frame",
            "the first frame must say what to run",
        ));
    };
    if command.is_empty() {
        return Err(problem("no command", "say what to run after --"));
    }
    let user = match user {
        Some(name) => {
            let image = shared
                .images
                .ensure(&planned.spec.image, |_, _| ())
                .await
                .map_err(|e| problem("the image cannot be read", &e.to_string()))?;
            Some(
                engine::resolve_user(&image.layers, &name)
                    .map_err(|why| problem(&format!("user {name}"), &why))?,
            )
        }
        None => None,
    };
    let request = ExecRequest {
        args: command,
        env,
        cwd: working_dir,
        user,
        terminal,
        rows,
        columns,
    };
    let mut session = shared
        .engine
        .exec(container, request)
        .await
        .map_err(|e| problem("the command cannot be run", &e.to_string()))?;
    // An input that the command has not taken yet; meanwhile its output is heard all the same.
    let mut waiting = None;
    // Who has gone while his input waits is noticed by what is sent to him.
    let mut pulse = tokio::time::interval(PULSE);
    loop {
        tokio::select! {
            _ = pulse.tick() => {
                if socket.send(Message::Ping(Bytes::new())).await.is_err() {
                    return Ok(());
                }
            }
            output = session.output.recv() => {
                let frame = match output {
                    Some(ExecOutput::Stdout(data)) => ExecFrame::Stdout { data: BASE64.encode(data) },
                    Some(ExecOutput::Stderr(data)) => ExecFrame::Stderr { data: BASE64.encode(data) },
                    Some(ExecOutput::Exit(code)) => {
                        let _ = send(socket, &ExecFrame::Exit { code }).await;
                        return Ok(());
                    }
                    None => return Err(problem("the command was cut off", "its container ended")),
                };
                if send(socket, &frame).await.is_err() {
                    return Ok(());
                }
            }
            frame = receive(socket), if waiting.is_none() => {
                waiting = Some(match frame {
                    Some(ExecFrame::Stdin { data }) => match BASE64.decode(data) {
                        Ok(bytes) => ExecInput::Stdin(bytes),
                        Err(_) => return Err(problem("unreadable input", "stdin data is base64")),
                    },
                    Some(ExecFrame::StdinClosed) => ExecInput::StdinClosed,
                    Some(ExecFrame::Resize { rows, columns }) => ExecInput::Resize { rows, columns },
                    Some(_) => return Err(problem("unexpected frame", "stdin, stdin_closed or resize")),
                    None => return Ok(()),
                });
            }
            place = session.input.reserve(), if waiting.is_some() => {
                // What the command does not read any more is dropped.
                if let (Ok(place), Some(input)) = (place, waiting.take()) {
                    place.send(input);
                }
                waiting = None;
            }
        }
    }
}

async fn receive(socket: &mut WebSocket) -> Option<ExecFrame> {
    loop {
        match socket.recv().await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

async fn send(socket: &mut WebSocket, frame: &ExecFrame) -> Result<(), axum::Error> {
    let text = serde_json::to_string(frame).map_err(axum::Error::new)?;
    socket.send(Message::Text(text.into())).await
}

fn problem(what: &str, why: &str) -> Problem {
    Problem {
        kind: "invalid".into(),
        what: what.into(),
        why: why.into(),
        next: "See `runrig exec --help`.".into(),
    }
}
