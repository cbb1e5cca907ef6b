//! Watch the logs of a service across its replicas: those that come later, and what those wrote whose
//! host is lost.
//!
//! One task follows each replica, so that lines of one are always in order: from its host while that
//! is heard, from the copy on another host when it is not (RFD 17), from its host again when it is
//! back. It goes on behind the last line that it had; nothing comes twice. Who watches says again and
//! again what there is ([`Watch::look`]); a successor is followed from its first line.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use api::{AllocationView, LogLine};
use futures::StreamExt;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use types::{AllocationId, RunState, SecretKey};

use crate::{Client, CopiedLog, LogQuery};

/// Lines that wait for who watches.
const QUEUED_MAX: usize = 1_000;
/// Copies that are held at once: each may be large.
const COPIES_MAX: usize = 2;
/// A log that is not to be had now is asked for again after so long.
const AGAIN: Duration = Duration::from_secs(1);

/// What a watcher sees.
#[derive(Clone, Debug)]
pub enum Watched {
    Line(LogLine),
    Note(Box<Note>),
}

/// What a watcher should know, between the lines.
#[derive(Clone, Debug)]
pub struct Note {
    /// The replica that it is about, as it was then.
    pub of: AllocationView,
    pub news: News,
}

#[derive(Clone, Debug)]
pub enum News {
    /// Its host is lost: what follows is from a copy, whose lines are taken out here.
    Copied(CopiedLog),
    /// Its host is lost, and nobody has a copy that can be opened.
    Lost,
    /// Its host, which was lost, answers again.
    Back,
    /// It takes the place of this one, which ran on the host of that name.
    Follows(AllocationId, String),
    /// It is followed no more.
    Ended(String),
}

/// Ends what it started when it is dropped.
pub struct Watch {
    client: Client,
    key: SecretKey,
    most: usize,
    copies: Arc<Semaphore>,
    tasks: JoinSet<()>,
    followed: BTreeMap<AllocationId, watch::Sender<AllocationView>>,
    /// The newest replica of each place that is known.
    seats: BTreeMap<(String, u32), AllocationView>,
    /// Whose end is behind who watches.
    passed: BTreeSet<AllocationId>,
    looked: bool,
    sender: mpsc::Sender<Watched>,
    news: mpsc::Receiver<Watched>,
}

impl Watch {
    /// Follows at most `most` replicas at once.
    pub fn new(client: Client, key: SecretKey, most: usize) -> Self {
        let (sender, news) = mpsc::channel(QUEUED_MAX);
        Self {
            client,
            key,
            most,
            copies: Arc::new(Semaphore::new(COPIES_MAX)),
            tasks: JoinSet::new(),
            followed: BTreeMap::new(),
            seats: BTreeMap::new(),
            passed: BTreeSet::new(),
            looked: false,
            sender,
            news,
        }
    }

    /// What comes next; held back while there is nothing. Nothing is lost when it is dropped.
    pub async fn next(&mut self) -> Watched {
        // The sender is here, so this never ends.
        match self.news.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }

    /// Whether nothing waits to be seen.
    pub fn is_empty(&self) -> bool {
        self.news.is_empty()
    }

    /// Whether nothing is followed.
    pub fn is_idle(&self) -> bool {
        self.tasks.is_empty()
    }

    /// Of a replica that nobody needs to follow: all of it has been seen.
    pub fn pass(&mut self, id: AllocationId) {
        self.passed.insert(id);
    }

    /// Tells it which replicas there are, those that have ended too. `query`: what is wanted of one
    /// that is not followed yet; and whether it was not there at the first look, so that all of it is
    /// news.
    pub fn look(&mut self, all: &[AllocationView], query: impl Fn(AllocationId, bool) -> LogQuery) {
        while self.tasks.try_join_next().is_some() {}
        for a in all {
            if let Some(known) = self.followed.get(&a.allocation) {
                known.send_if_modified(|last| {
                    let news = last.heard != a.heard || last.closed != a.closed;
                    *last = a.clone();
                    news
                });
                continue;
            }
            let never = matches!(a.status.state, RunState::Placed | RunState::Removed);
            let old = !self.looked && a.closed;
            if self.passed.contains(&a.allocation) || never || old || self.printing() >= self.most {
                continue;
            }
            let seat = (a.service.clone(), a.replica);
            let before = match self.seats.get(&seat) {
                Some(known) if known.allocation < a.allocation => {
                    self.seats.insert(seat, a.clone())
                }
                Some(_) => None,
                None => {
                    self.seats.insert(seat, a.clone());
                    None
                }
            };
            let (seen, changes) = watch::channel(a.clone());
            self.followed.insert(a.allocation, seen);
            let one = One {
                client: self.client.clone(),
                key: self.key.clone(),
                view: changes,
                query: query(a.allocation, self.looked),
                before: before.filter(|_| self.looked),
                copies: self.copies.clone(),
                sender: self.sender.clone(),
            };
            self.tasks.spawn(async move {
                // Who watches has gone.
                let _ = one.follow().await;
            });
        }
        self.looked = true;
    }

    /// Those that are followed and may still print: one whose host is lost for good takes no place
    /// from its successor.
    fn printing(&self) -> usize {
        let may = |seen: &&watch::Sender<AllocationView>| {
            let a = seen.borrow();
            !seen.is_closed() && (a.heard || !a.closed)
        };
        self.followed.values().filter(may).count()
    }
}

/// One replica that is followed.
struct One {
    client: Client,
    key: SecretKey,
    view: watch::Receiver<AllocationView>,
    /// Moves on with each line.
    query: LogQuery,
    before: Option<AllocationView>,
    copies: Arc<Semaphore>,
    sender: mpsc::Sender<Watched>,
}

/// Nobody listens.
struct Gone;

impl One {
    fn seen(&self) -> AllocationView {
        self.view.borrow().clone()
    }

    async fn note(&self, news: News) -> Result<(), Gone> {
        let of = self.seen();
        let note = Watched::Note(Box::new(Note { of, news }));
        self.sender.send(note).await.map_err(|_| Gone)
    }

    async fn line(&mut self, line: LogLine) -> Result<(), Gone> {
        self.query.from = Some(line.sequence + 1);
        self.query.tail = None;
        let line = Watched::Line(line);
        self.sender.send(line).await.map_err(|_| Gone)
    }

    async fn follow(mut self) -> Result<(), Gone> {
        if let Some(before) = self.before.take() {
            let news = News::Follows(before.allocation, before.host_name);
            self.note(news).await?;
        }
        // Who begins without its host has been told, or asks for what is old.
        let mut lost = false;
        let mut begun = self.seen().heard;
        loop {
            if self.seen().heard {
                if std::mem::take(&mut lost) {
                    self.note(News::Back).await?;
                }
                if self.read_host().await? {
                    return Ok(());
                }
            } else if !lost {
                lost = self.read_copy(begun).await?;
                begun |= lost;
            }
            let changed = tokio::time::timeout(AGAIN, self.view.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return Err(Gone);
            }
        }
    }

    /// `true`: there is no more. Else its host is not heard now, or has nothing yet.
    async fn read_host(&mut self) -> Result<bool, Gone> {
        let id = self.seen().allocation;
        let query = self.query.clone();
        let mut lines = Box::pin(self.client.follow_logs(&self.key, id, query));
        loop {
            tokio::select! {
                line = lines.next() => match line {
                    Some(Ok(line)) => self.line(line).await?,
                    // The answer was whole.
                    None => return Ok(true),
                    Some(Err(error)) if error.is_transient() => return Ok(false),
                    // Let go by policy, or not begun.
                    Some(Err(error)) if error.kind() == "not_found" => {
                        return Ok(self.seen().closed);
                    }
                    Some(Err(error)) => {
                        self.note(News::Ended(error.to_string())).await?;
                        return Ok(true);
                    }
                },
                changed = self.view.changed() => match changed {
                    Ok(()) if self.seen().heard => {}
                    Ok(()) => return Ok(false),
                    Err(_) => return Err(Gone),
                },
            }
        }
    }

    /// `begun`: it was followed before. `false`: who may have a copy does not answer just now.
    async fn read_copy(&mut self, begun: bool) -> Result<bool, Gone> {
        let copies = self.copies.clone();
        let _held = copies.acquire().await;
        let of = self.seen();
        if of.heard {
            return Ok(false);
        }
        let mut copied = match self.client.copied_log(&self.key, &of, &self.query).await {
            Ok(Some(copied)) => copied,
            Err(error) if error.is_transient() => return Ok(false),
            Ok(None) | Err(_) => {
                if begun {
                    self.note(News::Lost).await?;
                }
                return Ok(true);
            }
        };
        let lines = std::mem::take(&mut copied.lines);
        if lines.is_empty() && !begun {
            return Ok(true);
        }
        self.note(News::Copied(copied)).await?;
        for line in lines {
            self.line(line).await?;
        }
        Ok(true)
    }
}
