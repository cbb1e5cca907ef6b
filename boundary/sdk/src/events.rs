//! What the ledger did: page by page, or as it happens.

use std::time::Duration;

use api::EventView;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use reqwest::Method;
use types::{AccountId, DeploymentId};

use crate::client::{AGAIN, Client, FAILURES_MAX, checked, lines, next_of};
use crate::error::SdkError;

/// A server that sends events says every 15 s that it is still there.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Which events: everybody's, if nothing is said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only what concerns this account.
    pub owner: Option<AccountId>,
    /// Only what concerns this deployment.
    pub deployment: Option<DeploymentId>,
}

impl EventFilter {
    pub const ALL: Self = Self {
        owner: None,
        deployment: None,
    };

    pub fn of(owner: AccountId) -> Self {
        Self {
            owner: Some(owner),
            ..Self::ALL
        }
    }

    fn query(&self) -> String {
        let owner = self.owner.map(|id| format!("&owner={id}"));
        let deployment = self.deployment.map(|id| format!("&deployment={id}"));
        owner.unwrap_or_default() + &deployment.unwrap_or_default()
    }
}

impl Client {
    /// Past events from number `from`, one page; and the number to go on from, `None` at
    /// the end.
    pub async fn events_page(
        &self,
        filter: EventFilter,
        from: u64,
    ) -> Result<(Vec<EventView>, Option<u64>), SdkError> {
        let url = format!("{}/v1/events?from={from}{}", self.url(), filter.query());
        let response = self
            .http
            .get(&url)
            .header("accept", "application/json")
            .timeout(Duration::from_secs(30))
            .send()
            .await
            .map_err(|e| self.unreachable(&e))?;
        let response = checked(self.url(), response).await?;
        // A page may be empty and yet not the last: others' events are passed over.
        let next = next_of(&response);
        let events: Vec<EventView> = self.read(response).await?;
        let next = next.or(events.last().map(|e| e.sequence + 1));
        Ok((events, next.filter(|next| *next > from)))
    }

    /// All past events from number `from` on.
    pub fn past_events(
        &self,
        filter: EventFilter,
        from: u64,
    ) -> impl Stream<Item = Result<EventView, SdkError>> + Send + use<> {
        let state = (self.clone(), Some(from));
        futures::stream::try_unfold(state, move |(client, from)| async move {
            let Some(from) = from else { return Ok(None) };
            let (events, next) = client.events_page(filter, from).await?;
            let events = futures::stream::iter(events.into_iter().map(Ok));
            Ok(Some((events, (client, next))))
        })
        .try_flatten()
    }

    /// Events as they happen, from number `from` or from now; resumed after a cut with no gap
    /// and no repeat.
    pub fn events(
        &self,
        filter: EventFilter,
        from: Option<u64>,
    ) -> impl Stream<Item = Result<EventView, SdkError>> + Send {
        let client = self.clone();
        let filter = filter.query();
        let state = (client, from, None::<BoxStream<'static, EventView>>, 0u32);
        futures::stream::unfold(state, move |(client, mut from, mut open, mut failures)| {
            let filter = filter.clone();
            async move {
                loop {
                    if let Some(stream) = &mut open {
                        if let Some(event) = stream.next().await {
                            from = Some(event.sequence + 1);
                            return Some((Ok(event), (client, from, open, 0)));
                        }
                        open = None;
                    }
                    let at = from.map(|f| format!("from={f}")).unwrap_or_default();
                    let path = format!("/v1/events?{at}{filter}");
                    match client.send(Method::GET, &path, None, None, None).await {
                        Ok(response) => {
                            // Where "from now on" began, should the stream be cut before its
                            // first event.
                            from = from.or(next_of(&response));
                            open = Some(server_events(response).boxed());
                        }
                        Err(error) if failures >= FAILURES_MAX => {
                            return Some((Err(error), (client, from, open, 0)));
                        }
                        Err(_) => {
                            failures += 1;
                            tokio::time::sleep(AGAIN).await;
                        }
                    }
                }
            }
        })
    }
}

/// The `data:` lines of a server-sent stream; ends when the server is silent for too long.
fn server_events(response: reqwest::Response) -> impl Stream<Item = EventView> + Send {
    let lines = lines(response).boxed();
    let alive = futures::stream::unfold(lines, |mut lines| async move {
        let line = tokio::time::timeout(SILENCE_MAX, lines.next()).await;
        Some((line.ok()??, lines))
    });
    alive.filter_map(|line| async move {
        let line = line.ok()?;
        let data = line.strip_prefix(b"data:")?;
        serde_json::from_slice(data.trim_ascii()).ok()
    })
}
