//! Copies of logs on second hosts.

use std::time::Duration;

use api::{CopySpan, Keeper, LogCopy};
use reqwest::Method;
use types::{AllocationId, HostId, SecretKey};

use crate::{Client, SdkError};

/// For one part of a copy; who takes longer is passed over.
const LIMIT: Duration = Duration::from_secs(10);

impl Client {
    /// Hosts that keep copies of an allocation's log, or would, best first.
    pub async fn keepers(&self, id: AllocationId) -> Result<Vec<Keeper>, SdkError> {
        self.get(&format!("/v1/allocations/{id}/keepers")).await
    }

    /// The parts that `host` keeps, in order.
    pub async fn copies(
        &self,
        key: &SecretKey,
        host: HostId,
        id: AllocationId,
    ) -> Result<Vec<CopySpan>, SdkError> {
        let path = format!("/v1/hosts/{host}/copies/{id}");
        self.get_signed(&path, key).await
    }

    /// The part that begins with line `first`.
    pub async fn copy(
        &self,
        key: &SecretKey,
        host: HostId,
        id: AllocationId,
        first: u64,
    ) -> Result<Vec<u8>, SdkError> {
        let path = format!("/v1/hosts/{host}/copies/{id}/{first}");
        let mut response = self
            .send(Method::GET, &path, None, Some(key), Some(LIMIT))
            .await?;
        let mut bytes = Vec::new();
        let unreadable = |why: String| SdkError::Unreadable {
            url: self.url().into(),
            why,
        };
        while let Some(more) = response
            .chunk()
            .await
            .map_err(|e| unreadable(e.to_string()))?
        {
            bytes.extend_from_slice(&more);
            if bytes.len() > LogCopy::BYTES_MAX {
                return Err(unreadable("a part of a log is too large".into()));
            }
        }
        Ok(bytes)
    }

    /// Gives a part to `host`, which this client is of, to keep until `until_ms`. It takes the
    /// place of one that begins with the same line.
    pub async fn keep_copy(
        &self,
        key: &SecretKey,
        host: HostId,
        id: AllocationId,
        (span, until_ms): (&CopySpan, u64),
        bytes: Vec<u8>,
    ) -> Result<(), SdkError> {
        let CopySpan {
            first,
            next,
            newest_ms,
        } = span;
        let path = format!(
            "/v1/hosts/{host}/copies/{id}/{first}?next={next}&newest_ms={newest_ms}&until_ms={until_ms}"
        );
        self.send(Method::PUT, &path, Some(bytes), Some(key), Some(LIMIT))
            .await?;
        Ok(())
    }
}
