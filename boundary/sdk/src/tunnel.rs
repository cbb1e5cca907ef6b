//! Bytes to a port of a replica, through the gateway and its host.

use api::RequestAuth;
use reqwest::{StatusCode, Upgraded};
use types::{AllocationId, SecretKey};

use crate::client::{Client, checked};
use crate::error::SdkError;

const PROTOCOL: &str = "runrig-tunnel";

impl Client {
    /// A connection to `port` in the container, for its owner: any TCP port that something
    /// listens on there.
    pub async fn tunnel(
        &self,
        key: &SecretKey,
        id: AllocationId,
        port: u16,
    ) -> Result<Upgraded, SdkError> {
        let path = format!("/v1/allocations/{id}/tunnel/{port}");
        let auth = self.signed(key, "GET", &path);
        let response = self
            .http
            .get(format!("{}{path}", self.url()))
            .header(RequestAuth::HEADER, auth)
            .header("connection", "upgrade")
            .header("upgrade", PROTOCOL)
            .send()
            .await
            .map_err(|e| self.unreachable(&e))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let answered = checked(self.url(), response).await?;
            return Err(SdkError::Unreadable {
                url: self.url().into(),
                why: format!("HTTP {} instead of a tunnel", answered.status()),
            });
        }
        response.upgrade().await.map_err(|e| self.unreachable(&e))
    }
}
