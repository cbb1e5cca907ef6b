//! Refusals in the words of the distribution specification.

use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

pub struct Refused {
    pub status: StatusCode,
    code: &'static str,
    why: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

pub type Answer = Result<Response, Refused>;

/// `code`: one that the specification names.
pub fn refused(status: u16, code: &'static str, why: impl ToString) -> Refused {
    Refused {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST),
        code,
        why: why.to_string(),
        headers: Vec::new(),
    }
}

/// Too much at once; the client may try again.
pub fn busy(why: &str) -> Refused {
    refused(429, "TOOMANYREQUESTS", why).with("retry-after", "2")
}

/// The disk is not the client's fault, and none of its business.
pub fn disk(error: std::io::Error) -> Refused {
    tracing::error!(%error, "the registry's disk");
    refused(500, "UNKNOWN", "the registry's disk failed")
}

impl Refused {
    pub fn with(mut self, name: &'static str, value: impl AsRef<str>) -> Self {
        if let Ok(value) = HeaderValue::from_str(value.as_ref()) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = json!({ "errors": [{ "code": self.code, "message": self.why }] });
        let kind = [("content-type", "application/json")];
        let mut response = (self.status, kind, body.to_string()).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}
