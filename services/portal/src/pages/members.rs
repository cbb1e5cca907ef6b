//! Who else may act for the account: keys, and a company's members, as the ledger has them; and
//! for whom somebody acts in this session.

use std::collections::BTreeMap;

use api::AccountView;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use ledger::account::{Call, Grant, Role, SpendingLimit};
use maud::{Markup, html};
use types::{AccountId, Amount};

use super::auth::anew;
use super::explorer::now_of;
use super::{invitations, slowly};
use crate::app::App;
use crate::approve::Unsubmitted;
use crate::index;
use crate::limits::Act;
use crate::ui::{
    self, Place, Tone, alert, badge, cli, copy, credits, crumbs, empty, field, icon, if_may, when,
};
use crate::web::{Form, Page, Right, Trouble, Visitor};

const DAY_MS: u64 = 86_400_000;

/// What a role may, in words.
pub(super) fn duties(role: Role) -> &'static str {
    match role {
        Role::Owner => "everything, and says who else may act",
        Role::Admin => "everything but owners and admins",
        Role::Developer => "deploys, changes, removes; logs and shells",
        Role::Billing => "pays and is paid",
        Role::Viewer => "sees logs and figures",
    }
}

fn tone(role: Role) -> Tone {
    match role {
        Role::Owner => Tone::Ok,
        Role::Admin => Tone::Info,
        _ => Tone::Plain,
    }
}

fn limit_words(grant: &Grant) -> Markup {
    html! {
        @match grant.limit {
            None => { span.dim { "no limit" } }
            Some(limit) => {
                (credits(grant.spent)) " of " (credits(limit.amount))
                @if limit.every_ms > 0 { span.second { "in " (words::span(limit.every_ms)) } }
            }
        }
    }
}

/// What stands beside a grant: who has it, as this portal knows, and when he used it last.
#[derive(Default)]
pub(super) struct Known {
    people: BTreeMap<AccountId, String>,
    acts: BTreeMap<AccountId, u64>,
}

impl Known {
    pub(super) async fn of(app: &App, view: &AccountView) -> Result<Self, Trouble> {
        let account = view.account;
        let keys = view.grants.keys().copied().collect();
        Ok(Self {
            people: app.people.handles(keys).await?,
            acts: app
                .index
                .ask(move |c| index::query::last_acts(c, &account))
                .await?,
        })
    }

    /// A person of this portal; else it is a key, or somebody from elsewhere.
    pub(super) fn is_person(&self, key: &AccountId) -> bool {
        self.people.contains_key(key)
    }
}

/// Above rows of [`row`].
pub(super) fn head() -> Markup {
    html! { thead { tr { th { "Who" } th { "Role" } th { "Spent" } th { "Last act" } th { "Ends" } th { span.sr { "Take it back" } } } } }
}

pub(super) fn row(
    visitor: &Visitor,
    key: &AccountId,
    grant: &Grant,
    known: &Known,
    now: u64,
) -> Markup {
    let id = key.to_string();
    let rules = visitor.lack(Right::Rule, "change roles").is_none();
    html! {
        tr {
            td.wrap {
                span.strong { @if grant.label.is_empty() { "No name" } @else { (grant.label) } }
                span.second { a.mono href=(format!("/explorer/accounts/{id}")) { (words::brief(&id)) } @if let Some(handle) = known.people.get(key) { " · @" (handle) } }
            }
            td data-l="Role" {
                @if rules && known.is_person(key) {
                    form.inline method="post" action="/members/role" {
                        input type="hidden" name="csrf" value=(visitor.form_token());
                        input type="hidden" name="key" value=(id);
                        select.short name="role" aria-label=(format!("Role of {}", grant.label)) {
                            @for one in Role::ALL { option value=(one.name()) selected[one == grant.role] { (one.name()) } }
                        }
                        " " button.btn.small { "Change" }
                    }
                } @else { (badge(tone(grant.role), grant.role.name())) }
            }
            td data-l="Spent" { span { (limit_words(grant)) } }
            td data-l="Last act" {
                @match known.acts.get(key) {
                    None => { span.dim { "none" } }
                    Some(at) => { span { (when(*at, now)) " ago" } }
                }
            }
            td data-l="Ends" {
                @match grant.expires_ms {
                    None => { span.dim { "never" } }
                    Some(at) if at <= now => { (badge(Tone::Warn, "over")) }
                    Some(at) => { "in " (words::span(at - now)) }
                }
            }
            td { @if rules { form.inline method="post" action="/members/revoke" {
                input type="hidden" name="csrf" value=(visitor.form_token());
                input type="hidden" name="key" value=(id);
                button.btn.small.danger { "Revoke" }
            } } }
        }
    }
}

fn add_form(visitor: &Visitor, form: &Form) -> Markup {
    let role = form.text("role");
    let input = |name: &str, kind: &str, max: u32, required: bool| {
        html! {
            input.in id=(name) name=(name) type=(kind) value=(form.text(name)) maxlength=(max) required[required] autocomplete="off" autocapitalize="none" spellcheck="false";
        }
    };
    html! {
        form method="post" action="/members" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            (field("key", "Account", input("key", "text", 40, true), "40 characters: a colleague's, from his wallet; or a key's, from the command line", None))
            (field("label", "Name", input("label", "text", 60, false), "Public, on the ledger", None))
            div.field {
                label.lab for="role" { "Role" }
                select id="role" name="role" {
                    @for one in Role::ALL { option value=(one.name()) selected[role == one.name() || role.is_empty() && one == Role::Developer] { (one.name()) ": " (duties(one)) } }
                }
            }
            div.two {
                (field("limit", "Credits in 30 days", input("limit", "text", 20, false), "Empty: no limit", None))
                (field("days", "Ends after days", input("days", "text", 4, false), "Empty: when you revoke it", None))
            }
            button.btn.primary { (icon("plus")) "Let it act" }
        }
    }
}

async fn page(app: &App, visitor: &Visitor, form: &Form, wrong: Option<&str>) -> Page {
    let login = visitor.login()?;
    let view: AccountView = app.client.account(login.account()).await?;
    let now = now_of(app);
    let known = Known::of(app, &view).await?;
    let invited = app.people.invitations_of(login.account()).await?;
    let title = login.title();
    let content = html! {
        (crumbs(&[("/settings", "Settings")]))
        div.pagehead { div { h1 { "Keys and members" } p.sub { "Who may act for " (title) ", by the ledger at block " (words::grouped(view.height.into())) } } @if login.organisation.is_some() { div.acts { a.btn href="/settings/space" { (icon("building-2")) "Space" } } } }
        @if let Some(wrong) = wrong { (alert(Tone::Bad, html! { p.strong { "Nothing was changed" } p { (wrong) } })) }
        div.grid {
            section.card.flush.s8 {
                header { div { h2 { "May act" } p.sub { "Each by its own key, as long as you let it" } } div.more { @if view.retired { (badge(Tone::Warn, "First key retired")) } @else { (badge(Tone::Ok, "First key signs")) } } }
                @if view.grants.is_empty() { (empty("key-round", "Only the account's own key", "Add a colleague, or a key for a machine that deploys.", None)) }
                @else { div.tablewrap { table.cards {
                    (head())
                    tbody { @for (key, grant) in &view.grants { (row(visitor, key, grant, &known, now)) } }
                } } }
            }
            section.card.s4 {
                header { div { h2 { "Invite somebody" } p.sub { "Who says yes, you let in" } } }
                (if_may(visitor.lack(Right::Rule, "invite somebody"), || invitations::form(visitor)))
            }
            @if !invited.is_empty() {
                section.card.flush.s12 {
                    header { div { h2 { "Invitations" } p.sub { "Nothing is on the ledger before you let in who says yes" } } }
                    (invitations::list(visitor, &invited, api::now_ms()))
                }
            }
            section.card.s4 {
                header { div { h2 { "Add one" } p.sub { "Or change what one may: name it again" } } }
                (if_may(visitor.lack(Right::Rule, "say who else may act"), || add_form(visitor, form)))
            }
            section.card.s8 {
                header { div { h2 { "For the command line" } p.sub { "A key for a machine, made there and never shown" } } }
                p.ink2 { "For a machine with a person at it: " code { "runrig login" } ". For a program: " a href="/settings/keys" { "API keys" } ", or make it with " code { "runrig account keys add --new ci.key --role developer" } ", then use it: " code.wrap { "runrig --account " (view.account) " --key ci.key up" } }
                p.foot-note { "The account: " span.mono.wrap { (view.account) } " " (copy(&view.account.to_string(), "the account")) }
            }
        }
        (cli("runrig account keys ls"))
    };
    let mut response = ui::page(app, visitor, Place::Settings, "Keys and members", content).await;
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

/// `GET /members`
pub async fn list(State(app): State<App>, visitor: Visitor) -> Page {
    page(&app, &visitor, &Form::default(), None).await
}

fn read(form: &Form, now_ms: u64) -> Result<Call, &'static str> {
    let to = form.text("key").parse();
    let to = to.map_err(|_| "An account has 40 characters, digits and a to f.")?;
    grant_of(form, to, now_ms)
}

/// The grant that a form asks for, to the key of the account `to`: `role`, `limit`, `days`, `label`.
pub(super) fn grant_of(form: &Form, to: AccountId, now_ms: u64) -> Result<Call, &'static str> {
    let role = Role::parse(form.text("role")).ok_or("Choose a role.")?;
    let limit = match form.text("limit") {
        "" => None,
        text => {
            let amount: Amount = text
                .parse()
                .map_err(|_| "A limit is a number of credits.")?;
            Some(SpendingLimit {
                amount,
                every_ms: 30 * DAY_MS,
            })
        }
    };
    let expires_ms = match form.text("days") {
        "" => None,
        text => {
            let days: u16 = text.parse().map_err(|_| "Days are a whole number.")?;
            Some(now_ms + u64::from(days) * DAY_MS)
        }
    };
    Ok(Call::Grant {
        to,
        role,
        limit,
        expires_ms,
        label: form
            .text("label")
            .chars()
            .filter(|c| !c.is_control())
            .collect(),
    })
}

/// `POST /members`
pub async fn add(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let call = match read(&form, now_of(&app)) {
        Ok(call) => call,
        Err(wrong) => return page(&app, &visitor, &form, Some(wrong)).await,
    };
    let member = match &call {
        Call::Grant { to, .. } => *to,
        _ => login.account(),
    };
    match login.submit(&app, ledger::Call::Account(call)).await {
        Ok(_) => {
            app.people
                .note_member(login.account(), member, true)
                .await?;
            // It has been answered and signed.
            app.people
                .drop_invitation(login.account(), form.text("invitation"))
                .await?;
            Ok(Redirect::to("/members").into_response())
        }
        Err(Unsubmitted::Sdk(sdk::SdkError::Refused(problem))) => {
            let why = format!("{}. {}", problem.why, problem.next);
            page(&app, &visitor, &form, Some(&why)).await
        }
        Err(error) => Err(error.into()),
    }
}

/// The page again, with what was wrong about an invitation.
pub(super) async fn refused(app: &App, visitor: &Visitor, why: &str) -> Page {
    page(app, visitor, &Form::default(), Some(why)).await
}

/// `POST /members/role`: another role within the limit and the time that stand.
pub async fn change(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let view = app.client.account(login.account()).await?;
    let to = form.text("key").parse::<AccountId>().unwrap_or_default();
    let (Some(grant), Some(role)) = (view.grants.get(&to), Role::parse(form.text("role"))) else {
        let why = "There is no such member, or no such role.";
        return refused(&app, &visitor, why).await;
    };
    let call = Call::Grant {
        to,
        role,
        limit: grant.limit,
        expires_ms: grant.expires_ms,
        label: grant.label.clone(),
    };
    match login.submit(&app, ledger::Call::Account(call)).await {
        Ok(_) => Ok(Redirect::to("/members").into_response()),
        Err(Unsubmitted::Sdk(sdk::SdkError::Refused(problem))) => {
            let why = format!("{}. {}", problem.why, problem.next);
            refused(&app, &visitor, &why).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /members/revoke`
pub async fn revoke(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let Ok(from) = form.text("key").parse::<AccountId>() else {
        let why = "An account has 40 characters, digits and a to f.";
        return page(&app, &visitor, &Form::default(), Some(why)).await;
    };
    let call = ledger::Call::Account(Call::Revoke { from });
    match login.submit(&app, call).await {
        Ok(_) => {
            app.people.note_member(login.account(), from, false).await?;
            Ok(Redirect::to("/members").into_response())
        }
        Err(Unsubmitted::Sdk(sdk::SdkError::Refused(problem))) => {
            let why = format!("{}. {}", problem.why, problem.next);
            page(&app, &visitor, &Form::default(), Some(&why)).await
        }
        Err(error) => Err(error.into()),
    }
}

/// `POST /workspace`: acts for another account from now on, if it lets him; or for himself again.
pub async fn switch(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    let own = login.person.account;
    let Ok(account) = form.text("account").parse::<AccountId>() else {
        return Err(Trouble::missing("There is no such account"));
    };
    if account == own {
        app.people.act_for(&login.session, None).await?;
        return anew(&app, login, "/").await;
    }
    let view = app.client.account(account).await?;
    let grant = view.grants.get(&own);
    if grant.is_none_or(|grant| !grant.is_good(now_of(&app))) {
        app.people.note_member(account, own, false).await?;
        return Err(Trouble::new(
            StatusCode::FORBIDDEN,
            "You may not act for this account",
            "It gave you no role, or took it back.",
            "Ask its owner, who finds the form under Keys and members.",
        ));
    }
    app.people.note_member(account, own, true).await?;
    app.people.act_for(&login.session, Some(account)).await?;
    anew(&app, login, "/").await
}
