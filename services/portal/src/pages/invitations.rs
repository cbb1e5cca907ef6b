//! Invitations to act for an account: made, answered, withdrawn. What comes of a yes is signed on
//! the members' page, by whoever invited.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use ledger::account::Role;
use maud::{Markup, html};

use super::explorer::now_of;
use super::members::{duties, grant_of, refused};
use super::{shown, slowly};
use crate::app::App;
use crate::limits::Act;
use crate::people::{Invitation, Terms, Token};
use crate::ui::{Place, Tone, badge, copy, field, icon};
use crate::web::{Form, Page, Right, Trouble, Visitor};

/// The form of the members' page.
pub(super) fn form(visitor: &Visitor) -> Markup {
    let input = |id: &str, name: &str, max: u32, value: &str| {
        html! { input.in id=(id) name=(name) maxlength=(max) value=(value) autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby=(format!("{id}-hint")); }
    };
    html! {
        form method="post" action="/members/invite" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            (field("invited", "Handle", input("invited", "handle", 30, ""), "Of this portal; empty: whoever has the link", None))
            div.field {
                label.lab for="invited-role" { "Role" }
                select id="invited-role" name="role" {
                    @for one in Role::ALL { option value=(one.name()) selected[one == Role::Developer] { (one.name()) ": " (duties(one)) } }
                }
            }
            div.two {
                (field("invited-limit", "Credits in 30 days", input("invited-limit", "limit", 20, ""), "Empty: no limit", None))
                (field("invited-days", "Ends after days", input("invited-days", "days", 4, ""), "Empty: when you revoke it", None))
            }
            button.btn { (icon("send")) "Make a link" }
        }
    }
}

/// Those that are out, with what is to be done about each.
pub(super) fn list(visitor: &Visitor, all: &[Invitation], now: u64) -> Markup {
    let rules = visitor.lack(Right::Rule, "answer them").is_none();
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "For" } th { "Role" } th { "Made" } th { "Answer" } th { span.sr { "What to do" } } } }
            tbody { @for one in all { tr {
                td.wrap { span.strong { @match &one.handle { Some(handle) => { "@" (handle) } None => { "Whoever has the link" } } } }
                td data-l="Role" { span { (badge(Tone::Plain, &one.terms.role)) } }
                td data-l="Made" { span { (words::span(now.saturating_sub(one.created_ms))) " ago" } }
                td data-l="Answer" { span { @match &one.accepted { Some((_, handle)) => { (badge(Tone::Ok, &format!("@{handle} says yes"))) } None => { span.dim { "none yet" } } } } }
                td { @if rules { div.row {
                    @if let Some((account, handle)) = &one.accepted {
                        form.inline method="post" action="/members" {
                            input type="hidden" name="csrf" value=(visitor.form_token());
                            input type="hidden" name="invitation" value=(one.id);
                            input type="hidden" name="key" value=(account);
                            input type="hidden" name="label" value=(handle);
                            input type="hidden" name="role" value=(one.terms.role);
                            input type="hidden" name="limit" value=(one.terms.limit);
                            input type="hidden" name="days" value=(one.terms.days);
                            button.btn.small.primary { "Let in" }
                        }
                    }
                    form.inline method="post" action="/members/uninvite" {
                        input type="hidden" name="csrf" value=(visitor.form_token());
                        input type="hidden" name="invitation" value=(one.id);
                        button.btn.small.danger { "Withdraw" }
                    }
                } } }
            } } }
        } }
    }
}

/// `POST /members/invite`: makes a link, and shows it this once.
pub async fn invite(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    // As it will be read when it is signed.
    if let Err(why) = grant_of(&form, login.account(), now_of(&app)) {
        return refused(&app, &visitor, why).await;
    }
    let text = |name: &str| form.text(name).chars().take(30).collect::<String>();
    let terms = Terms {
        role: text("role"),
        limit: text("limit"),
        days: text("days"),
    };
    let handle = text("handle").trim_start_matches('@').to_string();
    let handle = (!handle.is_empty()).then_some(handle);
    let made = app
        .people
        .invite(login.account(), login.title(), handle.as_deref(), &terms)
        .await?;
    let Some(token) = made else {
        let why = "A hundred invitations are out. Withdraw some first.";
        return refused(&app, &visitor, why).await;
    };
    let scheme = if app.secure { "https" } else { "http" };
    let link = format!("{scheme}://{}/invitation/{}", visitor.host, token.hex());
    let content = html! {
        div.approve {
            section.card {
                h1 { "An invitation" }
                p.lead { "Send this link to " @match &handle { Some(handle) => { "@" (handle) ", whom alone it lets answer" } None => { "one person: who has it first may answer" } } ". It is shown once, and ends after 14 days." }
                div.row { code.code.wrap { (link) } (copy(&link, "the link")) }
                p.ink2 { "Nothing is on the ledger yet. When it is answered with yes, you see by whom under Keys and members, and sign." }
                div.row { a.btn.primary href="/members" { "Keys and members" } }
            }
        }
    };
    shown(&app, &visitor, Place::Settings, "An invitation", content).await
}

/// `POST /members/uninvite`
pub async fn withdraw(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    let id = form.text("invitation");
    app.people.drop_invitation(login.account(), id).await?;
    Ok(Redirect::to("/members").into_response())
}

/// In the same words for what never was, what is another's, and what is over.
fn none() -> Trouble {
    Trouble::new(
        StatusCode::NOT_FOUND,
        "There is no such invitation",
        "It was answered or withdrawn, is older than 14 days, or is for somebody else.",
        "Ask whoever invited you for another.",
    )
}

async fn of(app: &App, visitor: &Visitor, token: &str) -> Result<Invitation, Trouble> {
    let login = visitor.login()?;
    slowly(app, Act::Knock, &visitor.whence())?;
    let token = Token::parse(token).ok_or_else(none)?;
    let found = app.people.invitation(&token, &login.person).await?;
    found.ok_or_else(none)
}

/// `GET /invitation/{token}`
pub async fn page(State(app): State<App>, visitor: Visitor, Path(token): Path<String>) -> Page {
    let one = of(&app, &visitor, &token).await?;
    let role = Role::parse(&one.terms.role).map_or("", duties);
    let content = html! {
        div.approve {
            section.card {
                h1 { "Act for " (one.title) "?" }
                p.lead { "You are invited to act for this account, in your own name and by your own key." }
                dl.facts {
                    dt { "Account" } dd.mono { (one.account) }
                    dt { "As" } dd { span.strong { (one.terms.role) } ": " (role) }
                    dt { "Credits in 30 days" } dd { @if one.terms.limit.is_empty() { "no limit" } @else { (one.terms.limit) } }
                    dt { "Ends" } dd { @if one.terms.days.is_empty() { "when it is revoked" } @else { "after " (one.terms.days) " days" } }
                }
                form method="post" action=(visitor.path) {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    button.btn.primary.wide name="act" value="accept" { (icon("check")) "Yes, tell them" }
                    button.btn.wide.gap name="act" value="decline" { "No" }
                }
                p.foot-note { "They see your handle and your account, and sign. The account then stands in the corner above the menu." }
            }
        }
    };
    shown(&app, &visitor, Place::Settings, "An invitation", content).await
}

/// `POST /invitation/{token}`
pub async fn answer(
    State(app): State<App>,
    visitor: Visitor,
    Path(token): Path<String>,
    form: Form,
) -> Page {
    let one = of(&app, &visitor, &token).await?;
    let person = &visitor.login()?.person;
    let (title, lead) = if form.text("act") == "accept" {
        if person.account == one.account {
            return Err(none());
        }
        if !app.people.accept(&one, person).await? {
            return Err(none());
        }
        let lead = "They see it and sign. The account then stands in the corner above the menu.";
        (format!("{} knows that you say yes", one.title), lead)
    } else {
        app.people.drop_invitation(one.account, &one.id).await?;
        ("You said no".to_string(), "The invitation is gone.")
    };
    let content = html! {
        div.approve { section.card {
            h1 { (title) }
            p.lead { (lead) }
            div.row { a.btn.primary href="/" { "Overview" } }
        } }
    };
    shown(&app, &visitor, Place::Settings, "An invitation", content).await
}
