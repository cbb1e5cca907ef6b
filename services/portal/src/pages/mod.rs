//! The pages, by what they are about.

pub mod account;
pub mod analytics;
pub mod auth;
pub mod compose;
pub mod deploy;
pub mod device;
pub mod docs;
pub mod drawn;
pub mod earn;
mod examples;
pub mod explorer;
mod host_list;
pub mod hosts;
pub mod hours;
pub mod invitations;
pub mod job;
pub mod jobs;
pub mod jobs_overview;
pub mod keys;
pub mod lend;
pub mod limit;
mod lines;
pub mod measured;
pub mod members;
pub mod metrics;
pub mod money;
pub mod network;
pub mod newcomer;
mod notices;
pub mod operate;
pub mod overview;
pub mod passkeys;
pub mod payouts;
pub mod proof;
mod range;
pub mod requests;
pub mod scale;
pub mod search;
mod settled;
pub mod shell;
pub mod space;
pub mod variables;
mod welcome;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::Markup;

use crate::app::App;
use crate::limits::Act;
use crate::ui::{self, Place};
use crate::web::{Page, Trouble, Visitor};

/// A page in the frame, as an answer.
async fn shown(app: &App, visitor: &Visitor, at: Place, title: &str, content: Markup) -> Page {
    Ok(ui::page(app, visitor, at, title, content).await)
}

/// Errors: `who` has done that too often lately.
pub fn slowly(app: &App, act: Act, who: &str) -> Result<(), Trouble> {
    app.limits.take(act, who).map_err(|wait| {
        Trouble::new(
            StatusCode::TOO_MANY_REQUESTS,
            "A little slower",
            "This was done too often from here just now.",
            format!("Try again in {} s.", wait.as_secs() + 1),
        )
    })
}

/// No route.
pub async fn lost() -> Page {
    Err(Trouble::new(
        StatusCode::NOT_FOUND,
        "There is no such page",
        "The address is wrong, or what was here is gone.",
        "",
    ))
}

/// A file to keep.
fn file(name: &str, media: &'static str, content: impl IntoResponse) -> Response {
    use axum::http::header;
    let safe: String = name
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        .collect();
    let headers = [
        (header::CONTENT_TYPE, media.to_string()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{safe}\""),
        ),
    ];
    (headers, content).into_response()
}
