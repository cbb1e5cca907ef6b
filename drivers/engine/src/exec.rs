//! A process beside the container's own, its ends held by the agent.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::process::Stdio;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use crate::{ExecInput, ExecOutput, ExecRequest, ExecSession, terminal};

const CHANNEL: usize = 64;
/// How long what a command said is waited for after it has ended: others may still hold its
/// output.
const DRAIN: Duration = Duration::from_secs(1);

/// `command` is the shim's; it and what it runs end with the session.
pub fn session(mut command: Command, request: &ExecRequest) -> std::io::Result<ExecSession> {
    let (input, inputs) = mpsc::channel(CHANNEL);
    let (outputs, output) = mpsc::channel(CHANNEL);
    command.stderr(Stdio::piped());
    if request.terminal {
        let (ours, theirs) = UnixStream::pair()?;
        command
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null());
        let child = command.spawn()?;
        // With it goes our copy of the shim's end: the shim alone can hand a terminal over.
        drop(command);
        tokio::spawn(at_terminal(child, ours, inputs, outputs));
    } else {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        pipes(command.spawn()?, inputs, outputs);
    }
    Ok(ExecSession { input, output })
}

/// Waits for the shim, or lets it go when nobody listens: it ends what it runs.
async fn end_of(child: &mut Child, outputs: &mpsc::Sender<ExecOutput>) -> i32 {
    let status = tokio::select! {
        status = child.wait() => status,
        () = outputs.closed() => {
            if let Some(pid) = child.id() {
                // SAFETY: sends a signal to a child of ours that has not been waited for.
                unsafe { libc::kill(pid as i32, libc::SIGTERM) };
            }
            child.wait().await
        }
    };
    status.ok().and_then(|s| s.code()).unwrap_or(255)
}

fn pipes(
    mut child: Child,
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
        let (end, ended) = watch::channel(false);
        let out = forward(stdout, outputs.clone(), ExecOutput::Stdout, ended.clone());
        let err = forward(stderr, outputs.clone(), ExecOutput::Stderr, ended);
        let waited = async {
            let code = end_of(&mut child, &outputs).await;
            end.send_replace(true);
            code
        };
        let (code, (), ()) = tokio::join!(waited, out, err);
        let _ = outputs.send(ExecOutput::Exit(code)).await;
    });
}

/// Until the end of what is read, or, once the command has ended, until nothing came for a
/// while. A slow listener loses nothing.
async fn forward(
    from: Option<impl AsyncRead + Unpin>,
    to: mpsc::Sender<ExecOutput>,
    wrap: fn(Vec<u8>) -> ExecOutput,
    mut ended: watch::Receiver<bool>,
) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; 16 << 10];
    loop {
        let late = async {
            // The sender lives as long as we do.
            let _ = ended.wait_for(|e| *e).await;
            tokio::time::sleep(DRAIN).await;
        };
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            () = late => return,
        };
        match read {
            Ok(read @ 1..) => {
                if to.send(wrap(buffer[..read].to_vec())).await.is_err() {
                    return;
                }
            }
            // A terminal answers EIO when nobody holds its other end.
            _ => return,
        }
    }
}

async fn at_terminal(
    mut child: Child,
    socket: UnixStream,
    inputs: mpsc::Receiver<ExecInput>,
    outputs: mpsc::Sender<ExecOutput>,
) {
    let taken = tokio::task::spawn_blocking(move || terminal::receive(&socket));
    let (end, ended) = watch::channel(false);
    // Without a terminal the shim says why, and ends.
    let stderr = child.stderr.take();
    let complaints = forward(stderr, outputs.clone(), ExecOutput::Stderr, ended.clone());
    let master = async {
        let master = taken.await.ok()?.ok()??;
        Master::new(master).ok()
    };
    let shown = async {
        let Some(master) = master.await else { return };
        let typed = type_in(&master, inputs);
        let said = forward(Some(&master), outputs.clone(), ExecOutput::Stdout, ended);
        tokio::select! {
            () = said => {}
            () = async { typed.await; std::future::pending().await } => {}
        }
    };
    let waited = async {
        let code = end_of(&mut child, &outputs).await;
        end.send_replace(true);
        code
    };
    let (code, (), ()) = tokio::join!(waited, complaints, shown);
    let _ = outputs.send(ExecOutput::Exit(code)).await;
}

/// Our end of a terminal; what waits for it holds no thread.
struct Master(AsyncFd<OwnedFd>);

impl Master {
    fn new(fd: OwnedFd) -> std::io::Result<Self> {
        // SAFETY: sets a flag of a descriptor of ours.
        unsafe {
            libc::fcntl(
                fd.as_raw_fd(),
                libc::F_SETFL,
                libc::O_RDWR | libc::O_NONBLOCK,
            )
        };
        // SAFETY: the descriptor is owned and lives as long as its registration.
        let registered = unsafe { AsyncFd::register(fd) };
        Ok(Self(registered?))
    }

    async fn write_all(&self, mut bytes: &[u8]) -> std::io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(written) = ready.try_io(|fd| Ok(nix::unistd::write(fd, bytes)?)) {
                bytes = &bytes[written?..];
            }
        }
        Ok(())
    }
}

impl AsyncRead for &Master {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        loop {
            let mut ready = std::task::ready!(self.0.poll_read_ready(context))?;
            let unfilled = buffer.initialize_unfilled();
            if let Ok(read) = ready.try_io(|fd| Ok(nix::unistd::read(fd, unfilled)?)) {
                buffer.advance(read?);
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Until nobody types any more, or nobody reads it.
async fn type_in(master: &Master, mut inputs: mpsc::Receiver<ExecInput>) {
    while let Some(input) = inputs.recv().await {
        let typed = match input {
            ExecInput::Stdin(bytes) => master.write_all(&bytes).await,
            // End of transmission, as a keyboard says it.
            ExecInput::StdinClosed => master.write_all(&[4]).await,
            ExecInput::Resize { rows, columns } => {
                terminal::resize(master.0.get_ref(), rows, columns);
                Ok(())
            }
        };
        if typed.is_err() {
            return;
        }
    }
}
