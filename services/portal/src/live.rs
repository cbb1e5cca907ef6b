//! Streams: the chain's height for all tabs, a deployment's log, what an account's replicas use.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use api::AllocationView;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use futures::stream::{self, BoxStream, StreamExt};
use sdk::{News, Note, Watched};
use serde::{Deserialize, Serialize};
use types::{AccountId, AllocationId, RunState};

use crate::app::App;
use crate::limits::Act;
use crate::pages::jobs::own_deployment;
use crate::web::{self, Page, Right, Visitor};

/// Replicas of one deployment whose logs are followed at once, and of one account whose use
/// is asked for.
const FOLLOWED_MAX: usize = 32;
/// New replicas of a log are looked for so often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// A log begins with so many lines of each replica.
const TAIL: usize = 200;
const USE_EVERY: Duration = Duration::from_secs(2);
/// A stream ends after so long; browsers open it again where it was.
const STREAM_MAX: Duration = Duration::from_secs(3600);
/// So often it is looked whether who opened a stream may still read it.
const LOOK: Duration = Duration::from_secs(5);

type Events = BoxStream<'static, Result<Event, Infallible>>;

fn answer(events: Events) -> Response {
    let bounded = events.take_until(tokio::time::sleep(STREAM_MAX));
    Sse::new(bounded)
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// As [`answer`], for as long as who opened it may read it.
fn answer_while(events: Events, app: App, visitor: &Visitor, owner: AccountId) -> Response {
    let token = visitor.token.clone();
    let over = async move {
        loop {
            tokio::time::sleep(LOOK).await;
            if let Some(why) = web::over(&app, &token, owner, Right::Look).await {
                return why;
            }
        }
    };
    let over = over.boxed().shared();
    let last = stream::once(over.clone()).filter_map(async |why| {
        let event = Event::default().event("over");
        event.json_data(why).ok().map(Ok)
    });
    answer(events.take_until(over).chain(last).boxed())
}

fn allowed(app: &App, visitor: &Visitor) -> Result<(), crate::web::Trouble> {
    crate::pages::slowly(app, Act::Stream, &visitor.whence())
}

/// `GET /live`: height and time of the chain, whenever they change.
pub async fn height(State(app): State<App>, visitor: Visitor) -> Page {
    allowed(&app, &visitor)?;
    let ticks = tokio_stream::wrappers::WatchStream::new(app.tick.subscribe());
    let events =
        ticks.filter_map(|tick| async move { Event::default().json_data(tick).ok().map(Ok) });
    Ok(answer(events.boxed()))
}

#[derive(Deserialize)]
pub struct After {
    after: Option<String>,
}

/// For each replica: the number of the line that comes next.
type Cursors = BTreeMap<AllocationId, u64>;

/// `a-1:17,a-2:4`
fn read_cursors(text: &str) -> Cursors {
    let one = |part: &str| {
        let (id, next) = part.split_once(':')?;
        Some((id.parse().ok()?, next.parse().ok()?))
    };
    text.split(',')
        .take(4 * FOLLOWED_MAX)
        .filter_map(one)
        .collect()
}

fn write_cursors(cursors: &Cursors) -> String {
    let all: Vec<String> = cursors
        .iter()
        .map(|(id, next)| format!("{id}:{next}"))
        .collect();
    all.join(",")
}

/// `GET /jobs/{name}/logs/stream`: lines of all replicas as they come. Each carries where every
/// replica's log is, so that a reader who was cut off misses nothing and sees nothing twice.
pub async fn logs(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(query): Query<After>,
    headers: HeaderMap,
) -> Page {
    allowed(&app, &visitor)?;
    let login = visitor.login()?;
    let owner = login.account();
    let deployment = own_deployment(&app, login, &name).await?;
    let said = headers.get("last-event-id").and_then(|v| v.to_str().ok());
    let cursors = read_cursors(said.or(query.after.as_deref()).unwrap_or(""));
    let watch = sdk::Watch::new(login.client(&app), login.key.clone(), FOLLOWED_MAX);
    let client = app.client.clone();
    let id = deployment.deployment;
    let begun = client.allocations_of(id).await?;
    let mut seen = Seen {
        watch,
        cursors,
        said: None,
    };
    seen.look(&begun);
    if seen.watch.is_idle() {
        let nothing = Event::default()
            .event("over")
            .data("\"Nothing has started yet\"");
        seen.said = Some(nothing);
    }
    let looks = tokio::time::interval(LOOK_AGAIN);
    let events = stream::unfold(
        (seen, client, looks),
        move |(mut seen, client, mut looks)| async move {
            let event = loop {
                if let Some(said) = seen.said.take() {
                    break said;
                }
                tokio::select! {
                    news = seen.watch.next() => match seen.told(news) {
                        Some(event) => break event,
                        None => continue,
                    },
                    _ = looks.tick() => {
                        if let Ok(all) = client.allocations_of(id).await {
                            seen.look(&all);
                        }
                    }
                }
            };
            Some((Ok(event), (seen, client, looks)))
        },
    );
    Ok(answer_while(events.boxed(), app, &visitor, owner))
}

/// What a reader of a log has seen.
struct Seen {
    watch: sdk::Watch,
    cursors: Cursors,
    /// To be said before anything else.
    said: Option<Event>,
}

impl Seen {
    fn look(&mut self, all: &[AllocationView]) {
        // Of one that has ended nothing is read again: its place is for those that print.
        self.cursors
            .retain(|id, _| all.iter().any(|a| a.allocation == *id && !a.closed));
        let cursors = &self.cursors;
        self.watch.look(all, |id, later| sdk::LogQuery {
            // Only the end of what is there: an old log is long. Who goes on misses nothing.
            tail: (!later && cursors.is_empty()).then_some(TAIL),
            from: cursors.get(&id).copied(),
            ..sdk::LogQuery::default()
        });
    }

    fn told(&mut self, news: Watched) -> Option<Event> {
        match news {
            Watched::Line(line) => {
                self.cursors.insert(line.allocation, line.sequence + 1);
                let event = Event::default().id(write_cursors(&self.cursors));
                event.json_data(&line).ok()
            }
            Watched::Note(note) => {
                let event = Event::default().event("note");
                event.json_data(note_words(&note)).ok()
            }
        }
    }
}

fn note_words(note: &Note) -> String {
    let of = &note.of;
    let name = format!("{}.{} ({})", of.service, of.replica, of.allocation);
    let host = &of.host_name;
    match &note.news {
        News::Copied(copy) => {
            let mut text = format!(
                "{name}: its host {host} is lost. Lines from the copy on {} follow, up to {} UTC; what came after that is missing until the host is back",
                copy.keepers.join(", "),
                words::utc(copy.newest_ms),
            );
            if copy.missing > 0 {
                text += &format!(
                    "; {} before that are in no copy",
                    words::plural(copy.missing, "line", "lines")
                );
            }
            if let Some(why) = &copy.closed {
                text += &format!("; not all of it could be read: {why}");
            }
            text
        }
        News::Lost => {
            format!("{name}: its host {host} is lost, and no copy of its log can be opened here")
        }
        News::Back => format!("{name}: its host {host} is back"),
        News::Follows(before, from) => {
            format!("{name} takes the place of {before}, which ran on {from}; it is on {host}")
        }
        News::Ended(why) => format!("{name}: its log is not to be had: {why}"),
    }
}

/// What an account's replicas use now, of what they reserved.
#[derive(Serialize)]
struct Use {
    at_ms: u64,
    /// Percent of the reservation.
    cpu: f64,
    memory: f64,
    words: String,
}

/// `GET /live/use`: measured by the hosts, every other second, over all running replicas.
pub async fn usage(State(app): State<App>, visitor: Visitor) -> Page {
    allowed(&app, &visitor)?;
    let login = visitor.login()?;
    let (key, owner) = (login.key.clone(), login.account());
    let client = login.client(&app);
    let events = stream::unfold(
        (client, key, true),
        move |(client, key, first)| async move {
            if !first {
                tokio::time::sleep(USE_EVERY).await;
            }
            let event = match measure(&client, &key, owner).await {
                Some(sample) => Event::default().json_data(sample).ok(),
                None => None,
            };
            let event = event.unwrap_or_else(|| Event::default().comment("nothing runs"));
            Some((Ok(event), (client, key, false)))
        },
    );
    Ok(answer_while(events.boxed(), app, &visitor, owner))
}

async fn measure(client: &sdk::Client, key: &types::SecretKey, owner: AccountId) -> Option<Use> {
    let query = sdk::JobQuery {
        state: Some(api::JobState::Running.name().into()),
        count: Some(FOLLOWED_MAX),
        ..sdk::JobQuery::default()
    };
    let jobs = client.jobs(owner, &query).await.ok()?;
    let running: Vec<AllocationId> = jobs
        .rows
        .iter()
        .flat_map(|job| &job.replicas)
        .filter(|a| a.status.state == RunState::Running)
        .take(FOLLOWED_MAX)
        .map(|a| a.allocation)
        .collect();
    let samples: Vec<api::Stats> = stream::iter(running)
        .map(|id| async move {
            let sample = tokio::time::timeout(Duration::from_secs(2), async {
                let stats = client.stats(key, id, false).await.ok()?;
                std::pin::pin!(stats).next().await?.ok()
            });
            sample.await.ok().flatten()
        })
        .buffer_unordered(8)
        .filter_map(futures::future::ready)
        .collect()
        .await;
    if samples.is_empty() {
        return None;
    }
    let sum = |of: fn(&api::Stats) -> u64| samples.iter().map(of).sum::<u64>();
    let (cpu, cpu_limit) = (sum(|s| s.cpu_millis), sum(|s| s.cpu_limit_millis));
    let (memory, memory_limit) = (sum(|s| s.memory_bytes), sum(|s| s.memory_limit_bytes));
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    Some(Use {
        at_ms: api::now_ms(),
        cpu: percent(cpu, cpu_limit),
        memory: percent(memory, memory_limit),
        words: format!(
            "Now {} of {} cores and {} of {} of memory, over {}",
            words::cores(cpu),
            words::cores(cpu_limit),
            words::bytes(memory.into()),
            words::bytes(memory_limit.into()),
            match samples.len() as u64 {
                some if some < jobs.ready => format!(
                    "{} of {} replicas",
                    words::grouped(some.into()),
                    words::grouped(jobs.ready.into())
                ),
                all => words::plural(all, "replica", "replicas"),
            },
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_read_as_they_were_written() {
        let cursors: Cursors = [(AllocationId(1), 5), (AllocationId(7), 9)].into();
        assert_eq!(read_cursors(&write_cursors(&cursors)), cursors);
        assert!(read_cursors("a-1:x:2,,nonsense,:::").is_empty());
    }
}
