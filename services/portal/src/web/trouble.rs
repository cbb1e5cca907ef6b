//! What goes wrong, as a page: what, why, the next act.

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use sdk::SdkError;

use crate::approve::{Ask, Unsubmitted};

/// What a page answers.
pub type Page = Result<Response, Trouble>;

#[derive(Debug)]
pub enum Trouble {
    /// Nobody is logged in, or the session has ended.
    LoginNeeded,
    /// The person is to approve it first.
    Ask(Box<Ask>),
    Said {
        status: StatusCode,
        what: String,
        why: String,
        next: String,
    },
}

impl Trouble {
    pub fn new(
        status: StatusCode,
        what: impl Into<String>,
        why: impl Into<String>,
        next: impl Into<String>,
    ) -> Self {
        Self::Said {
            status,
            what: what.into(),
            why: why.into(),
            next: next.into(),
        }
    }

    pub fn missing(what: impl Into<String>) -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            what,
            "There is nothing here under this name.",
            "Search for it above, or go back.",
        )
    }
}

/// In the response of a request that failed, for whoever dresses it as a page.
#[derive(Clone)]
pub struct Said {
    pub what: String,
    pub why: String,
    pub next: String,
}

impl From<SdkError> for Trouble {
    fn from(error: SdkError) -> Self {
        match error {
            SdkError::Refused(problem) => {
                let status = match problem.kind.as_str() {
                    "not_found" => StatusCode::NOT_FOUND,
                    "forbidden" | "login" | "signature" => StatusCode::FORBIDDEN,
                    "invalid" => StatusCode::BAD_REQUEST,
                    "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::CONFLICT,
                };
                Self::new(status, problem.what, problem.why, problem.next)
            }
            error => Self::new(
                StatusCode::BAD_GATEWAY,
                "The network does not answer",
                error.to_string(),
                "Nothing was changed. Try again in a moment.",
            ),
        }
    }
}

impl From<Unsubmitted> for Trouble {
    fn from(error: Unsubmitted) -> Self {
        match error {
            Unsubmitted::Ask(ask) => Self::Ask(ask),
            Unsubmitted::Sdk(error) => error.into(),
        }
    }
}

impl From<anyhow::Error> for Trouble {
    fn from(error: anyhow::Error) -> Self {
        tracing::error!("{error:#}");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "Something went wrong here",
            "The portal could not read or write its own records.",
            "Try again; whoever runs this portal finds the cause in its log.",
        )
    }
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        match self {
            Self::LoginNeeded => Redirect::to("/login").into_response(),
            Self::Ask(ask) => {
                let mut response = StatusCode::OK.into_response();
                response.extensions_mut().insert(*ask);
                response
            }
            Self::Said {
                status,
                what,
                why,
                next,
            } => {
                let mut headers = HeaderMap::new();
                headers.insert(
                    header::CONTENT_TYPE,
                    header::HeaderValue::from_static("text/plain; charset=utf-8"),
                );
                let text = format!("{what}: {why} {next}\n");
                let mut response = (status, headers, text).into_response();
                response.extensions_mut().insert(Said { what, why, next });
                response
            }
        }
    }
}
