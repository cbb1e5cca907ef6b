//! A command in a container, over a WebSocket.

use api::{ExecFrame, RequestAuth};
use futures::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use types::{AllocationId, SecretKey};

use crate::client::Client;
use crate::error::SdkError;

type Socket =
    tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

/// A key typed or a frame is sent at once, not collected.
const NO_DELAY: bool = true;

/// Frames to a command.
pub type ExecInput = futures::stream::SplitSink<Socket, Message>;
/// Frames from it.
pub type ExecOutput = futures::stream::SplitStream<Socket>;

/// Frames both ways. Send [`ExecFrame::Start`] first.
pub struct ExecStream {
    pub input: ExecInput,
    pub output: ExecOutput,
}

impl ExecStream {
    pub async fn send(input: &mut ExecInput, frame: &ExecFrame) -> bool {
        match serde_json::to_string(frame) {
            Ok(text) => input.send(Message::Text(text.into())).await.is_ok(),
            Err(_) => false,
        }
    }

    /// `None` when the other side has closed.
    pub async fn receive(output: &mut ExecOutput) -> Option<ExecFrame> {
        loop {
            match output.next().await?.ok()? {
                Message::Text(text) => return serde_json::from_str(&text).ok(),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }
}

impl Client {
    pub async fn exec(&self, key: &SecretKey, id: AllocationId) -> Result<ExecStream, SdkError> {
        let path = format!("/v1/allocations/{id}/exec");
        let url = format!("{}{path}", self.url().replacen("http", "ws", 1));
        let unreachable = |why: String| SdkError::Unreachable {
            url: url.clone(),
            why,
        };
        let mut request = url
            .as_str()
            .into_client_request()
            .map_err(|e| unreachable(e.to_string()))?;
        let auth = self.signed(key, "GET", &path);
        let auth = auth.parse().map_err(|_| unreachable("no header".into()))?;
        request.headers_mut().insert(RequestAuth::HEADER, auth);
        match tokio_tungstenite::connect_async_with_config(request, None, NO_DELAY).await {
            Ok((socket, _)) => {
                let (input, output) = socket.split();
                Ok(ExecStream { input, output })
            }
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                match serde_json::from_slice(&body) {
                    Ok(problem) => Err(SdkError::Refused(problem)),
                    Err(_) => Err(unreachable(format!("HTTP {}", response.status()))),
                }
            }
            Err(error) => Err(unreachable(error.to_string())),
        }
    }
}
