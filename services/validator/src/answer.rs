//! Errors as the API says them; bodies, queries and paths that are refused in its words.

use api::Problem;
use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;

/// Characters of a client's own words that an error repeats.
const SHOWN_MAX: usize = 100;

/// An error as the API says it.
#[derive(Debug)]
pub struct Refused(pub StatusCode, pub Problem);

pub type Answer<T> = Result<Json<T>, Refused>;

impl Refused {
    pub fn new(
        code: StatusCode,
        kind: &str,
        what: impl Into<String>,
        why: impl Into<String>,
        next: &str,
    ) -> Self {
        let problem = Problem {
            kind: kind.into(),
            what: what.into(),
            why: why.into(),
            next: next.into(),
        };
        Self(code, problem)
    }

    pub fn not_found(what: &str, next: &str) -> Self {
        let what: String = what.chars().take(SHOWN_MAX).collect();
        let code = StatusCode::NOT_FOUND;
        Self::new(code, "not_found", what, "there is none", next)
    }

    pub fn invalid(what: &str, why: impl Into<String>) -> Self {
        let why: String = why.into();
        let why: String = why.chars().take(4 * SHOWN_MAX).collect();
        let next = "Correct the request: see /openapi.json.";
        Self::new(StatusCode::BAD_REQUEST, "invalid", what, why, next)
    }

    pub fn busy(why: &str) -> Self {
        let code = StatusCode::SERVICE_UNAVAILABLE;
        let next = "Try again in a moment, or ask another validator.";
        Self::new(code, "unavailable", "this validator", why, next)
    }

    pub fn internal(error: &anyhow::Error) -> Self {
        tracing::error!(error = format!("{error:#}"), "answering a request");
        let code = StatusCode::INTERNAL_SERVER_ERROR;
        let why = "it cannot read its own data";
        Self::new(code, "unavailable", "this validator", why, "Ask another.")
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

/// The query, read.
pub struct Asked<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Asked<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read = Query::from_request_parts(parts, state).await;
        read.map(|Query(value)| Self(value))
            .map_err(|e: QueryRejection| Refused::invalid("query", e.body_text()))
    }
}

/// What the path names.
pub struct Named<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Named<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        let read = Path::from_request_parts(parts, state).await;
        read.map(|Path(value)| Self(value))
            .map_err(|e: PathRejection| Refused::invalid("path", e.body_text()))
    }
}

/// The JSON body, read.
pub struct Sent<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Sent<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refused> {
        match Json::from_request(request, state).await {
            Ok(Json(value)) => Ok(Self(value)),
            Err(error) => Err(unreadable(&error)),
        }
    }
}

fn unreadable(error: &JsonRejection) -> Refused {
    let mut refused = Refused::invalid("body", error.body_text());
    if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
        refused.1.why = "it is larger than 512 KiB".into();
        refused.1.next = "Send less at once.".into();
    }
    refused.0 = error.status();
    refused
}
