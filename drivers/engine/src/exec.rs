//! A process beside the container's own, its ends held by the agent.

use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Stdio;
use std::sync::Arc;

use nix::pty::{Winsize, openpty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::mpsc;

use crate::{ExecInput, ExecOutput, ExecRequest, ExecSession};

const CHANNEL: usize = 64;

fn window(rows: u16, columns: u16) -> Winsize {
    Winsize {
        ws_row: rows.max(1),
        ws_col: columns.max(1),
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// `command` is the shim's; it ends with the session.
pub fn session(mut command: Command, request: &ExecRequest) -> std::io::Result<ExecSession> {
    let (input, inputs) = mpsc::channel(CHANNEL);
    let (outputs, output) = mpsc::channel(CHANNEL);
    command.kill_on_drop(true);
    if request.terminal {
        let size = window(request.rows, request.columns);
        let pty = openpty(Some(&size), None)?;
        command
            .stdin(Stdio::from(pty.slave.try_clone()?))
            .stdout(Stdio::from(pty.slave.try_clone()?))
            .stderr(Stdio::from(pty.slave));
        let child = command.spawn()?;
        drop(command);
        terminal(child, Arc::new(pty.master), inputs, outputs);
    } else {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        pipes(command.spawn()?, inputs, outputs);
    }
    Ok(ExecSession { input, output })
}

fn pipes(
    mut child: tokio::process::Child,
    mut inputs: mpsc::Receiver<ExecInput>,
    outputs: mpsc::Sender<ExecOutput>,
) {
    let mut stdin = child.stdin.take();
    tokio::spawn(async move {
        while let Some(input) = inputs.recv().await {
            match input {
                ExecInput::Stdin(bytes) => {
                    if let Some(pipe) = &mut stdin
                        && pipe.write_all(&bytes).await.is_err()
                    {
                        stdin = None;
                    }
                }
                ExecInput::StdinClosed => stdin = None,
                ExecInput::Resize { .. } => {}
            }
        }
    });
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    tokio::spawn(async move {
        let out = forward(stdout, outputs.clone(), ExecOutput::Stdout);
        let err = forward(stderr, outputs.clone(), ExecOutput::Stderr);
        let read = async { tokio::join!(out, err) };
        let code = tokio::select! {
            (_, status) = async { tokio::join!(read, child.wait()) } => {
                status.ok().and_then(|s| s.code()).unwrap_or(255)
            }
            // Nobody listens: dropping the child ends it.
            () = outputs.closed() => return,
        };
        let _ = outputs.send(ExecOutput::Exit(code)).await;
    });
}

async fn forward(
    from: Option<impl tokio::io::AsyncRead + Unpin>,
    to: mpsc::Sender<ExecOutput>,
    wrap: fn(Vec<u8>) -> ExecOutput,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer).await {
        if read == 0 || to.send(wrap(buffer[..read].to_vec())).await.is_err() {
            return;
        }
    }
}

fn terminal(
    mut child: tokio::process::Child,
    master: Arc<OwnedFd>,
    mut inputs: mpsc::Receiver<ExecInput>,
    outputs: mpsc::Sender<ExecOutput>,
) {
    let reader = {
        let (master, outputs) = (master.clone(), outputs.clone());
        tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; 16 << 10];
            loop {
                // The terminal answers EIO once nobody holds its other end.
                match nix::unistd::read(master.as_ref(), &mut buffer) {
                    Err(nix::errno::Errno::EINTR) => {}
                    Ok(read) if read > 0 => {
                        let data = ExecOutput::Stdout(buffer[..read].to_vec());
                        if outputs.blocking_send(data).is_err() {
                            return;
                        }
                    }
                    _ => return,
                }
            }
        })
    };
    tokio::task::spawn_blocking(move || {
        while let Some(input) = inputs.blocking_recv() {
            match input {
                ExecInput::Stdin(bytes) => {
                    let mut rest = &bytes[..];
                    while !rest.is_empty() {
                        match nix::unistd::write(master.as_ref(), rest) {
                            Ok(written) => rest = &rest[written..],
                            Err(nix::errno::Errno::EINTR) => {}
                            Err(_) => return,
                        }
                    }
                }
                // End of transmission, as a keyboard says it.
                ExecInput::StdinClosed => {
                    let _ = nix::unistd::write(master.as_ref(), &[4]);
                }
                ExecInput::Resize { rows, columns } => {
                    let size = window(rows, columns);
                    // SAFETY: passes a window size that lives through the call.
                    unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
                }
            }
        }
    });
    tokio::spawn(async move {
        let code = tokio::select! {
            status = child.wait() => status.ok().and_then(|s| s.code()).unwrap_or(255),
            () = outputs.closed() => return,
        };
        // What it said last is still in the terminal.
        let _ = tokio::time::timeout(std::time::Duration::from_secs(1), reader).await;
        let _ = outputs.send(ExecOutput::Exit(code)).await;
    });
}
