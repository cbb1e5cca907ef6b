//! Settings: who you are here, your sessions, the recovery file.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use maud::html;

use super::auth::anew;
use super::explorer::now_of;
use super::file;
use crate::app::App;
use crate::limits::Act;
use crate::people::{Factor, Keys, Login, strength};
use crate::ui::{self, Place, Tone, alert, badge, cli, copy, field, icon, submit, when};
use crate::web::{Form, Page, Trouble, Visitor};

async fn page(app: &App, visitor: &Visitor, wrong: Option<&str>) -> Page {
    let login = visitor.login()?;
    let person = &login.person;
    let sessions = app.people.sessions(person.id).await?;
    let coded = app.people.has_factor(person.id).await?;
    let now = now_of(app);
    let id = person.account.to_string();
    let content = html! {
        div.pagehead { div { h1 { "Settings" } } }
        div.grid {
            section.card.s6 {
                header { div { h2 { "You" } } div.more { span.tag { (person.kind.name()) } } }
                dl.facts {
                    dt { "Handle" } dd { "@" (person.handle) }
                    dt { "Email" } dd { (person.email) " " span.dim { "(not verified: this portal sends no mail)" } }
                    @if let Some(name) = &person.company_name { dt { "Company" } dd { (name) } }
                    @if let Some(address) = &person.company_address { dt { "Address" } dd { (address) } }
                    dt { "Account" } dd.mono { (id) (copy(&id, "your account")) }
                    dt { "Since" } dd { (words::utc(person.created_ms)) " UTC" }
                }
            }
            section.card.s6 {
                header { div { h2 { @if person.has_passkey() { "Passkeys" } @else { "Recovery file" } } p.sub { "The account key itself: whoever has it can spend what you have" } } }
                @if let Some(wrong) = wrong { (alert(Tone::Bad, html! { p { (wrong) } })) }
                @if person.has_passkey() {
                    p.ink2 { "The account's key is your passkey: it is on your device, or where your device keeps its keys, and this portal never has it. It signs what your sessions may not do by themselves. A second one, on another device, is a way back if the first is lost." }
                    div.row { a.btn href="/settings/passkeys" { (icon("key-round")) "Passkeys" } }
                }
                @else {
                p.ink2 { "Nobody can reset your password, as it seals your key. Keep this file where you keep other keys. The command line takes it as it is, once only you may read it: " code { "chmod 600 FILE; runrig --key FILE whoami" } "." }
                form method="post" action="/settings/recovery" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    @if coded { (field("code", "Code of your second factor", html! { input.in id="code" name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="10" required; }, "", None)) }
                    (field("password", "Your password, once more", html! { input.in id="password" name="password" type="password" autocomplete="current-password" maxlength="200" required; }, "", None))
                    button.btn { (icon("arrow-down-to-line")) "Save the recovery file" }
                }
                }
            }
            @if person.has_passkey() { (browser_card()) } @else { (factor_card(visitor, coded)) (password_card(visitor, coded)) (own_key_card(visitor, coded)) }
            section.card.s6 {
                header { div { h2 { "Keys and members" } p.sub { "Who else may act for the account, by the ledger" } } }
                p.ink2 { "A key for each machine, a role for each colleague, within a limit and a time. Taken back at once." }
                div.row { a.btn href="/members" { (icon("users")) "Keys and members" } }
            }
            section.card.s6 {
                header { div { h2 { "API keys" } p.sub { "For programs: each within a role, a limit and a time" } } }
                p.ink2 { "Shown once, then only their owner has them. On a machine with a person at it, " code { "runrig login" } " does without." }
                div.row { a.btn href="/settings/keys" { (icon("key-round")) "API keys" } a.btn href="/device" { (icon("terminal")) "Let a terminal in" } }
            }
            @if let Some(of) = &login.organisation {
                section.card.s6 {
                    header { div { h2 { "Space" } p.sub { "The organisation’s own page, for everyone" } } div.more { @if of.look.is_some() { (badge(Tone::Ok, "Open")) } @else { (badge(Tone::Plain, "Not open")) } } }
                    p.ink2 { "Its name, its colour, a home page, its apps, and to whom its books are open." }
                    div.row { a.btn href="/settings/space" { (icon("building-2")) "Space of " (of.title) } }
                }
            }
            section.card.flush.s12 {
                header { div { h2 { "Sessions" } p.sub { "Each ends two weeks after it began" } } div.more { (submit(visitor, "/settings/sessions", "small danger", html! { (icon("log-out")) "Log out everywhere" })) } }
                div.tablewrap { table.cards {
                    thead { tr { th { "Browser" } th { "Address" } th { "Began" } th { "Last seen" } th { span.sr { "End it" } } } }
                    tbody { @for session in &sessions { tr {
                        td.wrap { span.strong { (browser(&session.browser)) } " " @if session.id == login.session { (badge(Tone::Ok, "This one")) } }
                        td.mono data-l="Address" { (session.address) }
                        td data-l="Began" { (words::utc(session.created_ms)) }
                        td data-l="Last seen" { span { (when(session.seen_ms, now)) " ago" } }
                        td { form.inline method="post" action="/settings/sessions" {
                            input type="hidden" name="csrf" value=(visitor.form_token());
                            input type="hidden" name="session" value=(session.id);
                            button.btn.small { "End" }
                        } }
                    } } }
                } }
            }
        }
        (cli("runrig whoami"))
    };
    let mut response = ui::page(app, visitor, Place::Settings, "Settings", content).await;
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNAUTHORIZED;
    }
    Ok(response)
}

/// What this browser may do by itself, where the account key is a passkey.
fn browser_card() -> maud::Markup {
    html! {
        section.card.s6 {
            header { div { h2 { "This browser" } p.sub { "Acts for you within a limit and a time, by the ledger" } } }
            p.ink2 { "What is larger, and who else may act, your passkey signs each time. Under Keys and members you see what it spent, and take it back." }
            div.row { a.btn href="/settings/browser?next=/settings" { (icon("shield-check")) "Let it act for longer" } }
        }
    }
}

/// Sessions hold a bounded key; the account's own can leave this portal for good.
fn own_key_card(visitor: &Visitor, coded: bool) -> maud::Markup {
    html! {
        section.card.s6 {
            header { div { h2 { "The account's own key" } p.sub { "Sealed by your password, opened only for what you approve with it" } } }
            p.ink2 { "Your sessions hold another key, which acts within a limit and a time. If you keep the recovery file, this portal need not have the account's own at all: what takes it you then sign on the command line." }
            details {
                summary { "Take it away from this portal" }
                form method="post" action="/settings/own-key" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    (field("away-password", "Your password", html! { input.in id="away-password" name="password" type="password" autocomplete="current-password" maxlength="200" required; }, "Save the recovery file first: nothing else has the key then", None))
                    @if coded { (field("away-code", "Code of your second factor", html! { input.in id="away-code" name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="10" required; }, "", None)) }
                    button.btn.danger { "I have the file: take the key away" }
                }
            }
        }
    }
}

/// Another password, for who knows the one that is.
fn password_card(visitor: &Visitor, coded: bool) -> maud::Markup {
    let input = |id: &str, name: &str, complete: &str| html! { input.in id=(id) name=(name) type="password" autocomplete=(complete) maxlength="200" required; };
    html! {
        section.card.s6 {
            header { div { h2 { "Password" } p.sub { "Seals your keys anew; every other session ends" } } }
            details {
                summary { "Change it" }
                form method="post" action="/settings/password" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    (field("changed-password", "Your password", input("changed-password", "password", "current-password"), "", None))
                    (field("new-password", "A new one", input("new-password", "new_password", "new-password"), "10 characters or more; three or four words are best", None))
                    @if coded { (field("changed-code", "Code of your second factor", html! { input.in id="changed-code" name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="10" required; }, "", None)) }
                    button.btn { (icon("key-round")) "Change the password" }
                }
            }
        }
    }
}

/// The second factor: set up by a secret that his device keeps, proved by a code of it.
fn factor_card(visitor: &Visitor, coded: bool) -> maud::Markup {
    let input = |id: &str| html! { input.in id=(id) name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="10" required; };
    html! {
        section.card.s6 {
            header {
                div { h2 { "Second factor" } p.sub { "A code of your device beside the password" } }
                div.more { @if coded { (badge(Tone::Ok, "On")) } @else { (badge(Tone::Plain, "Off")) } }
            }
            @if coded {
                form method="post" action="/settings/factor" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    input type="hidden" name="act" value="end";
                    (field("old-password", "Your password", html! { input.in id="old-password" name="password" type="password" autocomplete="current-password" maxlength="200" required; }, "", None))
                    (field("old-code", "A code, to take it away", input("old-code"), "", None))
                    button.btn { "Log in without codes again" }
                }
            } @else {
                @let secret = Factor::random().text();
                p.ink2 { "Add this secret to an app for codes (time-based, six digits), then prove it." }
                div.row { span.code.wrap { (secret) } (copy(&secret, "the secret")) }
                form method="post" action="/settings/factor" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    input type="hidden" name="act" value="begin";
                    input type="hidden" name="secret" value=(secret);
                    (field("new-code", "The code that it shows now", input("new-code"), "Other sessions of yours end", None))
                    button.btn { (icon("shield-check")) "Log in with codes" }
                }
            }
        }
    }
}

/// His keys, if password and code of a form are right; else what is to be said of them.
async fn opened(
    app: &App,
    login: &Login,
    form: &Form,
) -> Result<Result<Keys, &'static str>, Trouble> {
    let bucket = format!("{} true", login.person.handle);
    if app.limits.take(Act::Guess, &bucket).is_err() {
        return Ok(Err("Too many tries. Wait half a minute."));
    }
    let (password, code) = (form.exact("password"), form.text("code"));
    let opened = app.people.log_in(&login.person.handle, password, code);
    let Some((_, keys)) = opened.await? else {
        return Ok(Err("Password or code do not fit."));
    };
    app.limits.give_back(Act::Guess, &bucket);
    Ok(Ok(keys))
}

/// `POST /settings/factor`: codes from now on, or no more.
pub async fn factor(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    let wrong = |why: &'static str| page(&app, &visitor, Some(why));
    match (form.text("act"), Factor::parse(form.text("secret"))) {
        // Who is in has proved the old one; a new one takes its place only after its end.
        ("begin", Some(new)) if !app.people.has_factor(login.person.id).await? => {
            let set = app.people.set_factor(login, &new, form.text("code"));
            if !set.await? {
                return wrong("The code does not fit.").await;
            }
        }
        ("end", _) => match opened(&app, login, &form).await? {
            Ok(_) => app.people.drop_factor(login).await?,
            Err(why) => return wrong(why).await,
        },
        _ => return wrong("You log in with codes already, or the secret cannot be read.").await,
    }
    anew(&app, login, "/settings").await
}

/// `POST /settings/password`: another password for the same keys.
pub async fn password(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    let new = form.exact("new_password");
    let name = login.person.email.split('@').next().unwrap_or("");
    if let Err(weakness) = strength(new, &[&login.person.handle, name]) {
        return page(&app, &visitor, Some(&weakness.to_string())).await;
    }
    match opened(&app, login, &form).await? {
        Err(why) => page(&app, &visitor, Some(why)).await,
        Ok(keys) => {
            app.people.set_password(login, &keys, new).await?;
            if let Some(device) = &visitor.device {
                app.people.remember(login.person.id, device).await?;
            }
            anew(&app, login, "/settings").await
        }
    }
}

/// The name in a user agent that people know.
fn browser(agent: &str) -> &str {
    let known = [
        ("Edg/", "Edge"),
        ("Firefox/", "Firefox"),
        ("HeadlessChrome/", "Chromium without a screen"),
        ("Chrome/", "Chrome"),
        ("Safari/", "Safari"),
        ("curl/", "curl"),
    ];
    match known.iter().find(|(mark, _)| agent.contains(mark)) {
        Some((_, name)) => name,
        None if agent.is_empty() => "Unknown",
        None => agent,
    }
}

/// `GET /settings`
pub async fn settings(State(app): State<App>, visitor: Visitor) -> Page {
    page(&app, &visitor, None).await
}

/// `POST /settings/sessions`: ends one of the person's sessions, or all.
pub async fn end_sessions(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    let one = form
        .has("session")
        .then(|| form.text("session").to_string());
    let gone = one.as_ref().is_none_or(|id| *id == login.session);
    app.people.end(login.person.id, one).await?;
    Ok(Redirect::to(if gone { "/login" } else { "/settings" }).into_response())
}

/// `POST /settings/recovery`: the account key, to who knows the password.
pub async fn recovery(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    let why = match opened(&app, login, &form).await? {
        Ok(Keys { own: Some(own), .. }) => {
            return Ok(file(
                &format!("runrig-{}.key", login.person.handle),
                "application/octet-stream",
                own.to_hex(),
            ));
        }
        Ok(_) => "The key is not here any more: it is in the file that you saved.",
        Err(why) => why,
    };
    page(&app, &visitor, Some(why)).await
}

/// `POST /settings/own-key`: the portal keeps the account's own key no more.
pub async fn forget_own(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    let keys = match opened(&app, login, &form).await? {
        Ok(keys) => keys,
        Err(why) => return page(&app, &visitor, Some(why)).await,
    };
    let password = form.exact("password");
    app.people
        .forget_own(&login.person, &keys, password)
        .await?;
    anew(&app, login, "/settings").await
}
