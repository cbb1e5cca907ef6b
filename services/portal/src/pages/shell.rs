//! `/jobs/NAME/shell`: a shell in a replica.

use api::{AllocationView, DeploymentView};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use maud::html;
use serde::Deserialize;
use types::RunState;

use super::job::head;
use super::jobs::{live, own_deployment};
use super::{shown, slowly};
use crate::app::App;
use crate::limits::Act;
use crate::shell::{INPUT_MAX, Shell, serve};
use crate::ui::{Place, cli, empty};
use crate::web::{Page, Trouble, Visitor, url};

#[derive(Deserialize)]
pub struct Chosen {
    replica: Option<String>,
}

fn running(view: &DeploymentView) -> impl Iterator<Item = &AllocationView> {
    live(view).filter(|a| a.status.state == RunState::Running)
}

/// `GET /jobs/{name}/shell`
pub async fn page(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    Query(chosen): Query<Chosen>,
) -> Page {
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    let all: Vec<_> = running(&view).collect();
    let said = chosen.replica.unwrap_or_default();
    let one = all.iter().find(|a| a.allocation.to_string() == said);
    let one = one.or(all.first());
    let base = format!("/jobs/{}/shell", view.project);
    let content = html! {
        (head(&visitor, &view, "/shell"))
        @if let Some(one) = one {
            @let replica = format!("{}.{}", one.service, one.replica);
            div.row.shell-head {
                span.badge id="shell-state" role="status" { "Opening" }
                @if all.len() > 1 { nav.seg aria-label="Replica" {
                    @for other in all.iter().take(20) { a href=(format!("{base}?replica={}", other.allocation)) aria-current=[(other.allocation == one.allocation).then_some("true")] { (other.service) "." (other.replica) } }
                } }
                span.dim { "On " (one.host_name) ". Shift and Tab leaves it; it ends when nothing is typed for half an hour." }
            }
            div.term data-socket=(format!("{base}/{}", one.allocation)) data-state="shell-state" data-library=(url("terminal.js")) data-label=(format!("Shell in {replica}")) {
                noscript { p { "A shell needs scripts. On the command line: runrig exec -it " (one.allocation) " -- sh" } }
            }
            script type="module" src=(url("shell.js")) {}
            (cli(&format!("runrig exec -it {} -- sh", one.allocation)))
        } @else {
            section.card { (empty("terminal", "No replica runs", "A shell opens in one that does.", None)) }
        }
    };
    let title = format!("Shell of {}", view.project);
    shown(&app, &visitor, Place::Jobs, &title, content).await
}

/// `GET /jobs/{name}/shell/{id}`: a WebSocket.
pub async fn connect(
    State(app): State<App>,
    visitor: Visitor,
    Path((name, id)): Path<(String, String)>,
    upgrade: WebSocketUpgrade,
) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let seat = app.shells.take(login.person.id).ok_or_else(|| {
        Trouble::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many shells",
            "You have eight open, or this portal has as many as it keeps.",
            "Close one, or use `runrig exec`.",
        )
    })?;
    let view = own_deployment(&app, login, &name).await?;
    let allocation = running(&view).find(|a| a.allocation.to_string() == id);
    let allocation = allocation
        .ok_or_else(|| Trouble::missing("No such replica runs"))?
        .allocation;
    let shell = Shell {
        client: login.client(&app),
        key: login.key.clone(),
        token: visitor.token.clone(),
        owner: login.account(),
        allocation,
        app,
    };
    Ok(upgrade
        .max_message_size(INPUT_MAX)
        .max_frame_size(INPUT_MAX)
        .on_upgrade(move |socket| serve(shell, seat, socket))
        .into_response())
}
