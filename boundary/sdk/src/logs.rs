//! What replicas print, used and were asked: past and present, resumed by number.

use api::{Access, AccessLog, LogLine, PastStep, RequestFigures, RequestsPast, StatsSample};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use reqwest::Method;
use types::{AccountId, AllocationId, DeploymentId, SecretKey};

use crate::client::{AGAIN, Client, FAILURES_MAX, ndjson};
use crate::error::SdkError;

/// Which lines of a log; all if nothing is said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogQuery {
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail: Option<usize>,
    /// Only lines of this sequence and later: where a former reader stopped.
    pub from: Option<u64>,
    pub since_ms: Option<u64>,
    pub until_ms: Option<u64>,
    /// Only lines in which this regular expression is found.
    pub grep: Option<String>,
    /// `stdout`, `stderr` or `runrig`.
    pub stream: Option<String>,
}

/// As a value of a query.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) => out.push(char::from(b)),
            b => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
}

impl LogQuery {
    fn path(&self, id: AllocationId) -> String {
        let mut path = format!("/v1/allocations/{id}/logs?follow={}", self.follow);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", escaped(&value)));
            }
        };
        add("tail", self.tail.map(|n| n.to_string()));
        add("from", self.from.map(|n| n.to_string()));
        add("since_ms", self.since_ms.map(|n| n.to_string()));
        add("until_ms", self.until_ms.map(|n| n.to_string()));
        add("grep", self.grep.clone());
        add("stream", self.stream.clone());
        path
    }
}

impl Client {
    /// Log lines of one allocation, from its host.
    pub async fn logs(
        &self,
        key: &SecretKey,
        id: AllocationId,
        query: &LogQuery,
    ) -> Result<impl Stream<Item = Result<LogLine, SdkError>> + Send + use<>, SdkError> {
        let response = self
            .send(Method::GET, &query.path(id), None, Some(key), None)
            .await?;
        Ok(ndjson(self.url().to_string(), response))
    }

    /// Lines that fit `query`, and on; resumed after a cut with no gap and no repeat. Ends when
    /// the replica is gone for good and all is read; with an error when its host has nothing of
    /// it or stays silent for long.
    pub fn follow_logs(
        &self,
        key: &SecretKey,
        id: AllocationId,
        query: LogQuery,
    ) -> impl Stream<Item = Result<LogLine, SdkError>> + Send + use<> {
        let state = Tailing {
            client: self.clone(),
            key: key.clone(),
            id,
            query: LogQuery {
                follow: true,
                ..query
            },
            open: None,
            failures: 0,
            over: false,
        };
        futures::stream::unfold(state, |mut tailing| async move {
            let item = tailing.next().await?;
            Some((item, tailing))
        })
    }

    /// What a replica used between two times, oldest first.
    pub async fn history(
        &self,
        key: &SecretKey,
        id: AllocationId,
        since_ms: u64,
        until_ms: Option<u64>,
    ) -> Result<Vec<StatsSample>, SdkError> {
        let until = until_ms.map(|ms| format!("&until_ms={ms}"));
        let until = until.unwrap_or_default();
        let path = format!("/v1/allocations/{id}/history?since_ms={since_ms}{until}");
        let response = self.send(Method::GET, &path, None, Some(key), None).await?;
        let mut lines = std::pin::pin!(ndjson(self.url().to_string(), response));
        let mut all = Vec::new();
        while let Some(line) = lines.next().await {
            all.push(line?);
        }
        Ok(all)
    }

    /// The last requests that the gateway has served for a service, from sequence `from` on;
    /// held back for up to `wait_ms` while there is none.
    pub async fn access(
        &self,
        key: &SecretKey,
        id: DeploymentId,
        service: &str,
        from: Option<u64>,
        wait_ms: u64,
    ) -> Result<Vec<Access>, SdkError> {
        let from = from.map(|n| format!("&from={n}")).unwrap_or_default();
        let service = escaped(service);
        let path = format!("/v1/deployments/{id}/access?service={service}&wait_ms={wait_ms}{from}");
        let log: AccessLog = self.get_signed(&path, key).await?;
        let services = log.services.into_iter();
        Ok(services.flat_map(|s| s.requests).collect())
    }

    /// How many requests the replicas of a deployment answer, as the gateway sees it; with a
    /// `span` (milliseconds since 1970) also minutes of its last hour.
    pub async fn requests(
        &self,
        key: &SecretKey,
        id: DeploymentId,
        span: Option<(u64, Option<u64>)>,
    ) -> Result<RequestFigures, SdkError> {
        let mut path = format!("/v1/deployments/{id}/requests");
        if let Some((since, until)) = span {
            path += &format!("?since_ms={since}");
            path += &until
                .map(|ms| format!("&until_ms={ms}"))
                .unwrap_or_default();
        }
        self.get_signed(&path, key).await
    }
}

impl Client {
    /// What services of `owner` were asked in each step from `since_ms` on, as the gateway saw it.
    pub async fn requests_past(
        &self,
        key: &SecretKey,
        owner: AccountId,
        by: PastStep,
        since_ms: u64,
    ) -> Result<RequestsPast, SdkError> {
        let by = by.name();
        let path = format!("/v1/accounts/{owner}/requests?by={by}&since_ms={since_ms}");
        self.get_signed(&path, key).await
    }
}

/// A log that is being followed.
struct Tailing {
    client: Client,
    key: SecretKey,
    id: AllocationId,
    /// Moves on with each line.
    query: LogQuery,
    open: Option<BoxStream<'static, Result<LogLine, SdkError>>>,
    failures: u32,
    over: bool,
}

impl Tailing {
    async fn next(&mut self) -> Option<Result<LogLine, SdkError>> {
        while !self.over {
            if let Some(stream) = &mut self.open {
                match stream.next().await {
                    Some(Ok(line)) => {
                        self.failures = 0;
                        self.query.from = Some(line.sequence + 1);
                        self.query.tail = None;
                        return Some(Ok(line));
                    }
                    // The answer was whole: there will be no more.
                    None => {
                        self.over = true;
                        return None;
                    }
                    Some(Err(_)) => self.open = None,
                }
            } else {
                match self.client.logs(&self.key, self.id, &self.query).await {
                    Ok(stream) => {
                        self.open = Some(stream.boxed());
                        continue;
                    }
                    Err(error) if !error.is_transient() || self.failures >= FAILURES_MAX => {
                        self.over = true;
                        return Some(Err(error));
                    }
                    Err(_) => self.failures += 1,
                }
            }
            tokio::time::sleep(AGAIN).await;
        }
        None
    }
}
