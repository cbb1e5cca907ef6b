//! `logs`: what replicas print and printed, in one order, also of those that are gone.

mod copies;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use api::{AllocationView, LogLine};
use clap::Args;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use journal::Merge;
use sdk::{LogQuery, SdkError, Watch, Watched};
use types::{AllocationId, RunState, SecretKey};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;
use crate::{access_log, job, units};

/// How often new replicas are looked for while following.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// So often in a row nothing runs before following ends.
const ENDED_LOOKS: u32 = 3;
/// Replicas that are read, the newest ones.
const SOURCES_MAX: usize = 200;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig logs web\n  runrig logs -f -n 100 shop\n  runrig logs --since 1h --until 30m --grep 'error|panic' web\n  runrig logs --json --resume shop.cursor shop\n  runrig logs --access web"
)]
pub struct Logs {
    /// Service, project, project/service, d-1 or a-1; all of yours if not said
    jobs: Vec<String>,
    /// Go on with what is to come
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines of each replica
    #[arg(short = 'n', long, value_name = "N", value_parser = tail)]
    tail: Option<Tail>,
    /// Only from then on: 10m, 2026-01-31T12:00:00Z, or seconds since 1970
    #[arg(long)]
    since: Option<String>,
    /// Only before then
    #[arg(long)]
    until: Option<String>,
    /// Only lines in which this regular expression is found; (?i) in front ignores case
    #[arg(long, value_name = "PATTERN")]
    grep: Option<String>,
    /// Only stdout, stderr, or runrig: what hosts say about the log
    #[arg(long, value_parser = ["stdout", "stderr", "runrig"])]
    stream: Option<String>,
    /// Go on where the last call with this file stopped, and keep in it where this one does
    #[arg(long, value_name = "FILE", conflicts_with = "tail")]
    resume: Option<PathBuf>,
    /// The requests that the gateway has served for a service, instead of what it printed
    #[arg(long, conflicts_with_all = ["stream", "resume"])]
    access: bool,
    /// Show when each line was written
    #[arg(short, long)]
    timestamps: bool,
    /// No names before the lines
    #[arg(long)]
    no_prefix: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tail(Option<usize>);

fn tail(text: &str) -> std::result::Result<Tail, String> {
    if text == "all" {
        return Ok(Tail(None));
    }
    let number = text
        .parse()
        .map_err(|_| "write a number, or all".to_string())?;
    Ok(Tail(Some(number)))
}

const PREFIX_COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

struct LogPrinter {
    json: bool,
    timestamps: bool,
    prefix: bool,
    width: usize,
}

impl LogPrinter {
    fn plain(json: bool) -> Self {
        Self {
            json,
            timestamps: false,
            prefix: false,
            width: 0,
        }
    }

    fn print(&self, line: &LogLine) {
        if self.json {
            return output::json_line(line);
        }
        let mut text = String::new();
        if self.prefix {
            let name = format!("{}.{}", line.service, line.replica);
            let padded = format!("{name:<width$} |", width = self.width);
            if output::colour() {
                let colour =
                    PREFIX_COLOURS[(line.allocation.0 % PREFIX_COLOURS.len() as u64) as usize];
                text.push_str(&format!("\x1b[{colour}m{padded}\x1b[0m "));
            } else {
                text.push_str(&padded);
                text.push(' ');
            }
        }
        if self.timestamps {
            text.push_str(&units::time(line.at_ms));
            text.push(' ');
        }
        text.push_str(&output::tame(&line.text));
        output::data(text);
    }
}

/// Number of the next line of each replica, in a file.
#[derive(Default)]
struct Cursor {
    file: Option<PathBuf>,
    next: BTreeMap<AllocationId, u64>,
    moved: bool,
}

impl Cursor {
    fn open(file: Option<&Path>) -> Result<Self> {
        let mut cursor = Self {
            file: file.map(Path::to_path_buf),
            ..Self::default()
        };
        let Some(file) = file else { return Ok(cursor) };
        let wrong = |why: String| {
            let next = "Name another file, or remove it to begin at the oldest line.";
            Failure::usage(format!("--resume {}", file.display()), why, next)
        };
        match std::fs::read(file) {
            Ok(bytes) => {
                cursor.next = serde_json::from_slice(&bytes).map_err(|e| wrong(e.to_string()))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(error.to_string())),
        }
        Ok(cursor)
    }

    fn passed(&mut self, line: &LogLine) {
        self.next.insert(line.allocation, line.sequence + 1);
        self.moved = true;
    }

    /// Called when all that was passed has been printed.
    fn keep(&mut self) -> Result {
        let Some(file) = self.file.as_ref().filter(|_| self.moved) else {
            return Ok(());
        };
        let fresh = file.with_extension("new");
        let bytes = serde_json::to_vec(&self.next).unwrap_or_default();
        std::fs::write(&fresh, bytes)
            .and_then(|()| std::fs::rename(&fresh, file))
            .map_err(|error| {
                Failure::new(
                    failure::FAILED,
                    format!("keep where the log was left in {}", file.display()),
                    error.to_string(),
                    "Name a file that can be written with --resume.",
                )
            })?;
        self.moved = false;
        Ok(())
    }
}

pub async fn logs(session: &Session, args: &Logs, json: bool) -> Result {
    let key = session.key()?;
    let query = LogQuery {
        follow: false,
        tail: args.tail.and_then(|t| t.0),
        from: None,
        since_ms: units::moment("--since", args.since.as_deref())?,
        until_ms: units::moment("--until", args.until.as_deref())?,
        grep: args.grep.clone(),
        stream: args.stream.clone(),
    };
    if args.access {
        let wanted = access_log::Wanted {
            jobs: &args.jobs,
            follow: args.follow,
            query: &query,
            json,
        };
        return access_log::show(session, &wanted).await;
    }
    let mut cursor = Cursor::open(args.resume.as_deref())?;
    let mut chosen = job::past(session, &args.jobs).await?;
    if chosen.len() > SOURCES_MAX {
        let all = chosen.len();
        chosen.drain(..all - SOURCES_MAX);
        output::say(format!(
            "{all} replicas have logs; those of the newest {SOURCES_MAX} are shown: name one for an older one"
        ));
    }
    let width = chosen.iter().map(|a| a.service.len() + 3).max();
    let printer = LogPrinter {
        json,
        timestamps: args.timestamps,
        prefix: !args.no_prefix,
        width: width.unwrap_or(0),
    };
    let of = |id: AllocationId, cursor: &Cursor| LogQuery {
        from: cursor.next.get(&id).copied(),
        ..query.clone()
    };
    let (failures, silent) = past(session, &key, &chosen, &printer, &mut cursor, &of).await?;
    cursor.keep()?;
    if !args.follow {
        let none_answered = !failures.is_empty() && failures.len() == chosen.len();
        return match failures.into_iter().next() {
            Some((_, error)) if none_answered => Err(error.into()),
            _ => Ok(()),
        };
    }
    let now_ms = units::now_ms();
    let mut watch = Watch::new(session.client.clone(), key, SOURCES_MAX);
    // What is gone for good and was read has nothing more to say.
    chosen
        .iter()
        .filter(|a| a.closed)
        .for_each(|a| watch.pass(a.allocation));
    let mut look = tokio::time::interval(LOOK_AGAIN);
    let mut ended = 0;
    loop {
        tokio::select! {
            news = watch.next() => {
                match news {
                    Watched::Line(line) => {
                        printer.print(&line);
                        cursor.passed(&line);
                    }
                    Watched::Note(note) => output::say(copies::note(&note)),
                }
                if watch.is_empty() {
                    cursor.keep()?;
                }
            }
            _ = look.tick() => {
                let chosen = match job::past(session, &args.jobs).await {
                    Ok(chosen) => chosen,
                    // What was named is removed, or all of it.
                    Err(failure) if failure.exit == failure::NOT_FOUND => Vec::new(),
                    Err(_) => continue,
                };
                // As with Compose: over once nothing that was named will write any more. What a
                // host has not sent yet gets a moment.
                ended = match chosen.iter().all(has_ended) && !args.jobs.is_empty() {
                    true => ended + 1,
                    false => 0,
                };
                if ended >= ENDED_LOOKS && watch.is_empty() {
                    return cursor.keep();
                }
                watch.look(&chosen, |id, later| {
                    let query = LogQuery { tail: None, ..of(id, &cursor) };
                    // Of a host that did not answer only what is new is shown, if not all was
                    // asked for.
                    let new_only = !later && silent.contains(&id) && args.tail.is_some();
                    LogQuery {
                        since_ms: query.since_ms.or(new_only.then_some(now_ms)),
                        ..query
                    }
                });
            }
        }
    }
}

type Lines = BoxStream<'static, std::result::Result<LogLine, SdkError>>;

/// Replicas of which nothing could be read, with the reason.
type Failures = Vec<(AllocationId, SdkError)>;

/// Prints what there is of `chosen`, by time; returns those of which there was nothing, and
/// those whose hosts did not answer.
async fn past(
    session: &Session,
    key: &SecretKey,
    chosen: &[AllocationView],
    printer: &LogPrinter,
    cursor: &mut Cursor,
    of: &impl Fn(AllocationId, &Cursor) -> LogQuery,
) -> Result<(Failures, BTreeSet<AllocationId>)> {
    let opening = chosen.iter().map(|a| {
        let (id, query) = (a.allocation, of(a.allocation, cursor));
        async move {
            let opened = session.client.logs(key, id, &query).await;
            (a, opened.map(|lines| -> Lines { lines.boxed() }))
        }
    });
    let opened: Vec<_> = futures::stream::iter(opening).buffered(16).collect().await;
    let (mut open, mut failures) = (BTreeMap::new(), Vec::new());
    let failed = |id, error: SdkError, failures: &mut Vec<(AllocationId, SdkError)>| {
        output::say(format!("{id}: {error}"));
        failures.push((id, error));
    };
    for (a, lines) in opened {
        match lines {
            Ok(lines) => {
                open.insert(a.allocation, lines);
            }
            // Let go by policy, or never started.
            Err(error) if error.kind() == "not_found" && chosen.len() > 1 => {}
            Err(error) => failed(a.allocation, error, &mut failures),
        }
    }
    let silent = failures.iter().map(|(id, _)| *id).collect();
    // What a host does not tell, or has lost, its copy may.
    for a in chosen {
        if open.contains_key(&a.allocation) {
            continue;
        }
        let query = of(a.allocation, cursor);
        let copy = match session.client.copied_log(key, a, &query).await {
            Ok(Some(copy)) => copy,
            Ok(None) => continue,
            Err(error) => {
                output::say(format!("{}: of its copy: {error}", a.allocation));
                continue;
            }
        };
        output::say(copies::told(&copy, a));
        failures.retain(|(id, _)| *id != a.allocation);
        let lines = futures::stream::iter(copy.lines.into_iter().map(Ok));
        open.insert(a.allocation, lines.boxed());
    }
    let mut merge = Merge::new(open.keys().copied());
    loop {
        while let Some(id) = merge.wants() {
            let next = match open.get_mut(&id) {
                Some(lines) => lines.next().await,
                None => None,
            };
            match next {
                Some(Ok(line)) => merge.give(id, line.at_ms, line),
                Some(Err(error)) => {
                    merge.end(&id);
                    failed(id, error, &mut failures);
                }
                None => merge.end(&id),
            }
        }
        let Some(line) = merge.pop() else {
            return Ok((failures, silent));
        };
        printer.print(&line);
        cursor.passed(&line);
    }
}

/// For good: it is not started again unless somebody says so.
fn has_ended(a: &AllocationView) -> bool {
    a.closed || matches!(a.status.state, RunState::Exited | RunState::Failed)
}

/// Prints what one replica wrote and writes, without names, until it is gone; `next` is the
/// number of the line after the last one shown.
pub async fn print(session: &Session, id: AllocationId, json: bool, next: &AtomicU64) -> Result {
    let query = LogQuery::default();
    let lines = session.client.follow_logs(&session.key()?, id, query);
    print_all(lines, json, next).await
}

/// All that one replica wrote; empty if its host does not answer.
pub async fn all(session: &Session, id: AllocationId) -> Vec<LogLine> {
    lines(session, id, &LogQuery::default()).await
}

async fn lines(session: &Session, id: AllocationId, query: &LogQuery) -> Vec<LogLine> {
    let Ok(key) = session.key() else {
        return Vec::new();
    };
    let Ok(lines) = session.client.logs(&key, id, query).await else {
        return Vec::new();
    };
    lines
        .filter_map(|line| async move { line.ok() })
        .collect()
        .await
}

/// What came from line `next` on.
pub async fn print_rest(session: &Session, id: AllocationId, json: bool, next: u64) {
    let Ok(key) = session.key() else { return };
    let query = LogQuery {
        from: Some(next),
        ..LogQuery::default()
    };
    if let Ok(lines) = session.client.logs(&key, id, &query).await {
        let _ = print_all(lines, json, &AtomicU64::new(next)).await;
    }
}

async fn print_all(
    lines: impl Stream<Item = std::result::Result<LogLine, SdkError>>,
    json: bool,
    next: &AtomicU64,
) -> Result {
    let printer = LogPrinter::plain(json);
    let mut lines = pin!(lines);
    while let Some(line) = lines.next().await {
        let line = line?;
        printer.print(&line);
        next.store(line.sequence + 1, Ordering::Relaxed);
    }
    Ok(())
}

/// The last lines of one replica, for reports of failure; empty if its host does not answer.
pub async fn last_lines(session: &Session, id: AllocationId, count: usize) -> Vec<String> {
    let query = LogQuery {
        tail: Some(count),
        ..LogQuery::default()
    };
    let lines = lines(session, id, &query).await;
    lines.iter().map(|l| output::tame(&l.text)).collect()
}
