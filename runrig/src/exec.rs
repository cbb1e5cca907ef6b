//! `exec`: a command in a running container, with a real terminal if asked for.

use std::io::IsTerminal;

use api::ExecFrame;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::Args;
use nix::sys::termios::{self, SetArg, Termios};
use sdk::{ExecStream, SdkError};
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::job::Jobs;
use crate::output;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig exec -it web -- sh\n  runrig exec a-1 -- cat /etc/hosts\n  echo hi | runrig exec -i web -- wc -c"
)]
pub struct Exec {
    /// Pass stdin on
    #[arg(short, long)]
    interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    tty: bool,
    /// NAME=value; may be given again
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = env)]
    env: Vec<String>,
    /// user[:group], names or numbers
    #[arg(short, long)]
    user: Option<String>,
    #[arg(short, long)]
    workdir: Option<String>,
    /// Service, project/service or a-1; the first running replica is taken
    job: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
}

/// Frames to the container that wait to be sent.
const FRAMES: usize = 16;

/// A name alone takes its value from here, as Docker does.
pub fn env(text: &str) -> std::result::Result<String, String> {
    if text.starts_with('=') || text.is_empty() {
        return Err("write NAME=value".into());
    }
    if text.contains('=') {
        return Ok(text.to_string());
    }
    let value = std::env::var(text).map_err(|_| format!("{text} is not set here"))?;
    Ok(format!("{text}={value}"))
}

/// The terminal as it was, put back when dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let stdin = std::io::stdin();
        let before = termios::tcgetattr(&stdin).ok()?;
        let mut raw = before.clone();
        termios::cfmakeraw(&mut raw);
        termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, &self.0);
    }
}

fn terminal_size() -> Option<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ fills exactly this structure, which outlives the call.
    let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &mut size) };
    (result == 0 && size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

pub fn cut() -> Failure {
    Failure::new(
        failure::FAILED,
        "the connection to the host was cut",
        "the container or its host has ended",
        "See `runrig ps -a`.",
    )
}

/// Returns the command's exit code.
pub async fn exec(session: &Session, args: &Exec) -> Result<u8> {
    if args.tty && !std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "-t needs a terminal",
            "stdin is none",
            "Leave -t out; -i passes stdin on.",
        ));
    }
    let jobs = Jobs::of(session).await?;
    let allocation = jobs.find(&args.job)?.running()?;
    let key = session.key()?;
    let ExecStream {
        mut input,
        mut output,
    } = session.client.exec(&key, allocation.allocation).await?;
    let (rows, columns) = terminal_size().unwrap_or((24, 80));
    let mut env = args.env.clone();
    if args.tty
        && !env.iter().any(|e| e.starts_with("TERM="))
        && let Ok(term) = std::env::var("TERM")
    {
        env.push(format!("TERM={term}"));
    }
    let start = ExecFrame::Start {
        command: args.command.clone(),
        env,
        user: args.user.clone(),
        working_dir: args.workdir.clone(),
        terminal: args.tty,
        rows,
        columns,
    };
    if !ExecStream::send(&mut input, &start).await {
        return Err(cut());
    }
    let raw = args.tty.then(Raw::enter).flatten();
    let (frames, mut queue) = mpsc::channel(FRAMES);
    // What is said is heard while what is typed still waits to be taken.
    tokio::spawn(async move {
        while let Some(frame) = queue.recv().await {
            if !ExecStream::send(&mut input, &frame).await {
                return;
            }
        }
    });
    tokio::spawn(pass_on(args.interactive, frames.clone()));
    let mut resized = signal(SignalKind::window_change()).map_err(anyhow::Error::from)?;
    loop {
        tokio::select! {
            frame = ExecStream::receive(&mut output) => match frame {
                Some(ExecFrame::Stdout { data }) => output::raw(&BASE64.decode(data).unwrap_or_default()),
                Some(ExecFrame::Stderr { data }) => {
                    use std::io::Write;
                    let _ = std::io::stderr().write_all(&BASE64.decode(data).unwrap_or_default());
                }
                Some(ExecFrame::Exit { code }) => {
                    drop(raw);
                    return Ok(u8::try_from(code).unwrap_or(failure::FAILED));
                }
                Some(ExecFrame::Failed { problem }) => {
                    drop(raw);
                    return Err(SdkError::Refused(problem).into());
                }
                Some(_) => {}
                None => {
                    drop(raw);
                    return Err(cut());
                }
            },
            _ = resized.recv(), if args.tty => {
                if let Some((rows, columns)) = terminal_size() {
                    let _ = frames.try_send(ExecFrame::Resize { rows, columns });
                }
            }
        }
    }
}

/// What comes on stdin, if it is wanted, and its end.
async fn pass_on(wanted: bool, frames: mpsc::Sender<ExecFrame>) {
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 16 * 1024];
    if wanted {
        while let Ok(count @ 1..) = stdin.read(&mut buffer).await {
            let data = BASE64.encode(&buffer[..count]);
            if frames.send(ExecFrame::Stdin { data }).await.is_err() {
                return;
            }
        }
    }
    let _ = frames.send(ExecFrame::StdinClosed).await;
}
