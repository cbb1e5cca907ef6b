//! An organisation's own space: a page that everyone may open, in its name and colour.
//!
//! What stands there it chose itself, but for money: sums are the ledger's ([`books`]). Where it is
//! kept and who sees what: RFD 26.

pub mod books;
pub mod settings;

use api::DeploymentView;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::IntoResponse;
use maud::{Markup, html};
use types::AccountId;

use super::job::addresses;
use super::jobs::{tone, word};
use crate::app::App;
use crate::approve::now_ms;
use crate::people::{Audience, Look, Space, SpaceApp};
use crate::ui::{self, Place, Tone, alert, badge, empty, icon, initials, prose};
use crate::web::{Page, Right, Trouble, Visitor};

/// Addresses of one app that a tile shows.
const ADDRESSES_MAX: usize = 4;

/// In the same words where nobody has the handle and where no space was opened.
async fn of(app: &App, handle: &str) -> Result<Space, Trouble> {
    let found = app.people.space(handle).await?;
    found.ok_or_else(|| Trouble::missing("There is no such space"))
}

/// Who looks at a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looker {
    Stranger,
    Member,
    /// May change it.
    Ruler,
}

/// As the ledger says now: one of whom it says nothing is a stranger.
async fn looker(app: &App, visitor: &Visitor, account: AccountId) -> Looker {
    let Some(login) = &visitor.login else {
        return Looker::Stranger;
    };
    let role = app.grants.role(login.person.account, account, now_ms(app));
    match role.await {
        // Its form is that of whom he acts for.
        Ok(Some(role)) if Right::Rule.is_of(role) && login.account() == account => Looker::Ruler,
        Ok(Some(_)) => Looker::Member,
        Ok(None) => Looker::Stranger,
        Err(error) => {
            tracing::warn!("roles are not known just now: {error}");
            Looker::Stranger
        }
    }
}

/// An app as the space shows it: its title, and what of it is deployed now.
fn tile(app: &App, one: &SpaceApp, view: Option<&DeploymentView>, tagged: bool) -> Markup {
    let urls = view.map_or_else(Vec::new, |view| addresses(app, view));
    let state = view.map(DeploymentView::state);
    html! {
        li {
            span.disc aria-hidden="true" { (initials(one.title())) }
            div.tx {
                p.strong.wrap { (one.title()) }
                @for (service, url) in urls.iter().take(ADDRESSES_MAX) {
                    // What no browser opens is no link.
                    @if url.starts_with("http://") || url.starts_with("https://") {
                        a.second.wrap href=(url) rel="noopener nofollow noreferrer" { (url) }
                    } @else { span.second.wrap { (service) " " (url) } }
                }
                @if urls.len() > ADDRESSES_MAX { span.second { "and " (urls.len() - ADDRESSES_MAX) " more" } }
                @if view.is_some() && urls.is_empty() { span.second { "No address of its own" } }
                p.tags {
                    @match state {
                        Some(state) => { (badge(tone(state), word(state))) }
                        None => { (badge(Tone::Plain, "Not deployed")) }
                    }
                    @if tagged && one.audience == Audience::Members { (badge(Tone::Info, "Members only")) }
                }
            }
        }
    }
}

/// Apps of a space for who may see them; `None`: there is none for him.
async fn tiles(app: &App, space: &Space, member: bool) -> Option<Markup> {
    let seen = |one: &&SpaceApp| member || one.audience == Audience::Everyone;
    let apps: Vec<&SpaceApp> = space.apps.iter().filter(seen).collect();
    if apps.is_empty() {
        return None;
    }
    let names: Vec<&str> = apps.iter().map(|one| one.project.as_str()).collect();
    let Ok(live) = app.client.deployments_named(space.account, &names).await else {
        return Some(alert(
            Tone::Warn,
            html! { p { "The network does not answer: where the apps are is not known just now." } },
        ));
    };
    let of = |project: &str| live.iter().find(|d| d.project == project);
    Some(html! {
        ul.tiles { @for one in apps { (tile(app, one, of(&one.project), member)) } }
    })
}

/// On the overview of who acts for an organisation: its apps, under the names that it gave them.
pub async fn on_overview(app: &App, look: &Look) -> Result<Markup, Trouble> {
    let space = of(app, &look.handle).await?;
    let tiles = tiles(app, &space, true).await;
    Ok(html! {
        section.card.gap-below {
            header { div { h2 { "Apps of " (look.name) } p.sub { "As its space shows them to members" } } div.more { a href=(format!("/o/{}", look.handle)) { "Space" } (icon("chevron-right")) } }
            @match tiles {
                Some(tiles) => { (tiles) }
                None => { p.ink2 { "None is shown yet. Owners and admins choose them in the " a href="/settings/space" { "space’s settings" } "." } }
            }
        }
    })
}

/// `GET /o/{handle}`
pub async fn home(State(app): State<App>, visitor: Visitor, Path(handle): Path<String>) -> Page {
    let space = of(&app, &handle).await?;
    let looker = looker(&app, &visitor, space.account).await;
    let account = space.account.to_string();
    let tiles = tiles(&app, &space, looker != Looker::Stranger).await;
    let sums = books::of(&app, space.account).await?;
    let own = looker == Looker::Ruler;
    let content = html! {
        div.pagehead.space {
            span.disc.solid.large aria-hidden="true" { (initials(&space.name)) }
            div { h1 { (space.name) } p.sub { "@" (space.handle) " on " (app.network_name()) } }
            div.acts {
                a.btn href=(format!("/o/{}/books", space.handle)) { (icon("receipt-text")) "Books" }
                @if own { a.btn href="/settings/space" { (icon("settings")) "Change it" } }
            }
        }
        div.grid {
            section.card.s8 {
                @if space.home.is_empty() { (empty("building-2", "Nothing is written here yet", "An organisation says on its home page who it is and what it does.", None)) }
                @else { (prose(&space.home)) }
            }
            section.card.s4 {
                header { div { h2 { "On the ledger" } p.sub { "What it runs, pays and earns, anyone can check" } } }
                dl.facts.narrow {
                    dt { "Handle" } dd { "@" (space.handle) }
                    dt { "Account" } dd.mono { a href=(format!("/explorer/accounts/{account}")) { (words::brief(&account)) } }
                    dt { "You are" } dd { @match looker { Looker::Stranger => "a visitor", Looker::Member => "a member", Looker::Ruler => "a member who may change it" } }
                }
            }
        }
        section.card.gap-below {
            header { div { h2 { "Apps" } p.sub { @if looker == Looker::Stranger { "Those that it shows to everyone" } @else { "Those that it shows to you" } } } }
            @match tiles {
                Some(tiles) => { (tiles) }
                None if looker == Looker::Stranger => { p.ink2 { "It shows none to everyone. Members who are logged in may see more." } }
                None => { p.ink2 { "It shows none." } }
            }
        }
        (books::sums(&app, &space, &sums))
    };
    let (look, title) = (space.look(), space.name.clone());
    Ok(ui::page_of(&app, &visitor, Some(&look), Place::Space, &title, content).await)
}

/// `GET /o/{handle}/style.css`: what makes pages wear its colour; six digits in a fixed text.
pub async fn style(State(app): State<App>, Path(handle): Path<String>) -> Page {
    let sheet = of(&app, &handle).await?.colour.sheet();
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        // Another colour has another address.
        (header::CACHE_CONTROL, "private, max-age=86400"),
    ];
    Ok((headers, sheet).into_response())
}
