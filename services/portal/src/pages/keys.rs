//! API keys: for programs, each within a role, a limit and a time that the ledger holds to.
//!
//! A key is made from the session's own and a seed in the form, so that the form can be sent again
//! with its approval; it is shown once, and kept nowhere here.

use api::AccountView;
use axum::extract::State;
use axum::http::StatusCode;
use ledger::account::{Call, Role};
use maud::{Markup, html};
use types::{AccountId, DeploymentId, SecretKey};

use super::explorer::now_of;
use super::jobs::own_deployment;
use super::members::{Known, duties, grant_of, head, row};
use super::{shown, slowly};
use crate::app::App;
use crate::approve::Unsubmitted;
use crate::limits::Act;
use crate::people::{Login, Token};
use crate::ui::{self, Place, Tone, alert, cli, copy, crumbs, empty, field, icon, if_may};
use crate::web::{Form, Page, Right, Trouble, Visitor};

/// In the order of what they may.
const SCOPES: [Role; 4] = [Role::Viewer, Role::Developer, Role::Billing, Role::Admin];
/// Scope of a token for one job's figures.
const FIGURES: &str = "figures";

fn key_of(login: &Login, seed: &Token) -> SecretKey {
    login.secret_for("runrig-portal-api-key", seed)
}

fn form(visitor: &Visitor, said: &Form) -> Markup {
    let scope = match said.text("scope") {
        "" => Role::Developer.name(),
        scope => scope,
    };
    let input = |name: &str, else_: &str, max: u32, required: bool| {
        let value = match said.has(name) {
            true => said.text(name),
            false => else_,
        };
        html! {
            input.in id=(name) name=(name) value=(value) maxlength=(max) required[required] autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby=(format!("{name}-hint"));
        }
    };
    html! {
        form method="post" action="/settings/keys" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            input type="hidden" name="seed" value=(Token::random().hex());
            (field("label", "Name", input("label", "", 60, true), "What it is for; public, on the ledger", None))
            div.field {
                label.lab for="scope" { "May" }
                select id="scope" name="scope" {
                    @for role in SCOPES { option value=(role.name()) selected[scope == role.name()] { (role.name()) ": " (duties(role)) } }
                    option value=(FIGURES) selected[scope == FIGURES] { "only figures of one job, for Prometheus" }
                }
            }
            (field("job", "Job", input("job", "", 63, false), "Whose figures, if it is only for those", None))
            div.two {
                (field("limit", "Credits in 30 days", input("limit", "5", 20, false), "Empty: no limit", None))
                (field("days", "Ends after days", input("days", "90", 4, false), "Empty: when you revoke it", None))
            }
            button.btn.primary { (icon("plus")) "Make it" }
        }
    }
}

async fn page(app: &App, visitor: &Visitor, said: &Form, wrong: Option<&str>) -> Page {
    let login = visitor.login()?;
    let view: AccountView = app.client.account(login.account()).await?;
    let known = Known::of(app, &view).await?;
    let now = now_of(app);
    let keys: Vec<_> = view
        .grants
        .iter()
        .filter(|(key, _)| !known.is_person(key))
        .collect();
    let content = html! {
        (crumbs(&[("/settings", "Settings")]))
        div.pagehead { div { h1 { "API keys" } p.sub { "For programs that act for " (login.title()) ", by the ledger at block " (words::grouped(view.height.into())) } } }
        @if let Some(wrong) = wrong { (alert(Tone::Bad, html! { p.strong { "Nothing was changed" } p { (wrong) } })) }
        div.grid {
            section.card.flush.s8 {
                header { div { h2 { "Keys" } p.sub { "Who of this portal may act stands under " a href="/members" { "Keys and members" } } } }
                @if keys.is_empty() { (empty("key-round", "No key yet", "Make one for what deploys, pays or looks without you.", None)) }
                @else { div.tablewrap { table.cards {
                    (head())
                    tbody { @for (key, grant) in &keys { (row(visitor, key, grant, &known, now)) } }
                } } }
                p.foot-note.in-card { "The last act is the last transaction, by this portal’s index; what is only looked at, nobody writes down." }
            }
            section.card.s4 {
                header { div { h2 { "Make one" } p.sub { "You sign it in the next step" } } }
                (if_may(visitor.lack(Right::Rule, "make API keys"), || form(visitor, said)))
            }
        }
        (cli("runrig account keys add --new ci.key --role developer --limit 5 --every 30d --expires 90d --label ci"))
    };
    let mut response = ui::page(app, visitor, Place::Settings, "API keys", content).await;
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// `GET /settings/keys`
pub async fn list(State(app): State<App>, visitor: Visitor) -> Page {
    page(&app, &visitor, &Form::default(), None).await
}

/// `POST /settings/keys`: makes one, and shows it this once.
pub async fn make(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let scope = form.text("scope");
    let of: Option<DeploymentId> = match scope == FIGURES {
        true => match own_deployment(&app, login, form.text("job")).await {
            Ok(job) => Some(job.deployment),
            Err(Trouble::Said {
                status: StatusCode::NOT_FOUND,
                ..
            }) => {
                let why = "Say of which job: you have none of this name.";
                return page(&app, &visitor, &form, Some(why)).await;
            }
            Err(trouble) => return Err(trouble),
        },
        false => None,
    };
    let role = match of {
        Some(_) => Some(Role::Viewer),
        None => Role::parse(scope).filter(|role| SCOPES.contains(role)),
    };
    let (Some(role), Some(seed)) = (role, Token::parse(form.text("seed"))) else {
        let why = "Choose what it may.";
        return page(&app, &visitor, &form, Some(why)).await;
    };
    if form.text("label").is_empty() {
        let why = "Give it a name, so that you know later what it is for.";
        return page(&app, &visitor, &form, Some(why)).await;
    }
    let key = key_of(login, &seed);
    let to = AccountId::of(&key.public());
    let asked = form.clone().with("role", role.name());
    let call = match grant_of(&asked, to, now_of(&app)) {
        Ok(call) => call,
        Err(why) => return page(&app, &visitor, &form, Some(why)).await,
    };
    let until_ms = match &call {
        Call::Grant { expires_ms, .. } => *expires_ms,
        _ => None,
    };
    if of.is_some() && until_ms.is_none() {
        let why = "A token for figures ends by itself: say after how many days.";
        return page(&app, &visitor, &form, Some(why)).await;
    }
    match login.submit(&app, ledger::Call::Account(call)).await {
        Ok(_) => {}
        Err(Unsubmitted::Sdk(sdk::SdkError::Refused(problem))) => {
            let why = format!("{}. {}", problem.why, problem.next);
            return page(&app, &visitor, &form, Some(&why)).await;
        }
        Err(error) => return Err(error.into()),
    }
    let made = match (of, until_ms) {
        (Some(of), Some(until_ms)) => Made::Token {
            path: format!("{}/v1/deployments/{of}/metrics", app.gateway),
            token: api::Grant::issue(&key, &api::Grant::metrics(of), until_ms),
        },
        _ => Made::Key(key.to_hex()),
    };
    once(&app, &visitor, form.text("label"), to, &made).await
}

enum Made {
    Key(String),
    Token { path: String, token: String },
}

async fn once(app: &App, visitor: &Visitor, label: &str, to: AccountId, made: &Made) -> Page {
    let account = visitor.login()?.account();
    let (secret, use_it) = match made {
        Made::Key(key) => (
            key,
            format!(
                "runrig --url {} --account {account} --key ci.key up --yes",
                app.gateway
            ),
        ),
        Made::Token { path, token } => (
            token,
            format!("curl -H 'Authorization: Bearer TOKEN' {path}"),
        ),
    };
    let content = html! {
        div.approve {
            section.card {
                h1 { (label) " is made" }
                p.lead { "This is the only time that it is shown: put it where the program finds it." }
                div.row { code.code.wrap { (secret) } (copy(secret, "the key")) }
                @if matches!(made, Made::Key(_)) {
                    p.ink2 { "In a file that only its owner may read: " code { "(umask 077; cat > ci.key)" } ", then" }
                } @else {
                    p.ink2 { "For a Prometheus, under " code { "authorization: { credentials: TOKEN }" } "; to try it:" }
                }
                div.row { code.code.wrap { (use_it) } (copy(&use_it, "the command")) }
                p.ink2 { "To take it back: the list, or " code.wrap { "runrig account keys revoke " (to) } }
                div.row { a.btn.primary href="/settings/keys" { "I have it" } }
            }
        }
    };
    shown(app, visitor, Place::Settings, "Your new key", content).await
}
