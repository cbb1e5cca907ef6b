//! `runrig login`: a machine asks; somebody who is logged in reads which, and lets its key act.
//!
//! A code does nothing by itself, and no link carries one: who types it is told who asks, says how
//! far its key may go, and signs that with his own key.

use api::{DeviceAnswer, DeviceAsk, DevicePoll};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use ledger::account::Role;
use maud::{Markup, html};

use super::explorer::now_of;
use super::members::{duties, grant_of};
use super::slowly;
use crate::app::App;
use crate::approve::Unsubmitted;
use crate::limits::Act;
use crate::people::Device;
use crate::ui::{self, Place, Tone, alert, badge, cli, field, icon};
use crate::web::{Form, Page, Trouble, Visitor};

/// `POST /device/ask`, by a command.
pub async fn ask(
    State(app): State<App>,
    visitor: Visitor,
    Json(asked): Json<DeviceAsk>,
) -> Result<Response, Trouble> {
    let address = visitor.address;
    slowly(&app, Act::Knock, &visitor.whence())?;
    let code = app
        .people
        .device_asks(asked.key, &asked.machine, address, api::now_ms());
    let code = code.await?.ok_or_else(|| {
        Trouble::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many machines ask",
            "This portal keeps no more codes at once.",
            "Try again in some minutes.",
        )
    })?;
    Ok(Json(code).into_response())
}

/// `POST /device/poll`, by the same command.
pub async fn poll(
    State(app): State<App>,
    visitor: Visitor,
    Json(asked): Json<DevicePoll>,
) -> Result<Response, Trouble> {
    slowly(&app, Act::Poll, &visitor.whence())?;
    let answer = app.people.poll_device(&asked.secret, api::now_ms()).await?;
    Ok(Json(answer).into_response())
}

fn frame(title: &str, lead: &str, content: Markup) -> Markup {
    html! {
        div.approve { section.card { h1 { (title) } p.lead { (lead) } (content) } }
    }
}

async fn shown(app: &App, visitor: &Visitor, status: StatusCode, content: Markup) -> Page {
    let mut response = ui::page(app, visitor, Place::Settings, "Let a machine in", content).await;
    *response.status_mut() = status;
    Ok(response)
}

fn code_form(visitor: &Visitor, wrong: Option<&str>) -> Markup {
    let told_by = if wrong.is_some() {
        "code-error"
    } else {
        "code-hint"
    };
    let content = html! {
        form method="post" action="/device" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            (field("code", "Code", html! {
                input.in.code-in id="code" name="code" autocomplete="off" autocapitalize="characters" spellcheck="false" maxlength="12" required autofocus placeholder="BCDF-GHJK" aria-invalid=[wrong.map(|_| "true")] aria-describedby=(told_by);
            }, "Eight letters, as your terminal shows them", wrong))
            button.btn.primary.wide name="act" value="look" { "Show which machine asks" }
        }
        p.foot-note { "Type only a code that " code { "runrig login" } " has shown you, in a terminal of your own. Who sends you a code wants to use your account." }
        (cli("runrig login"))
    };
    frame(
        "Let a machine act for you",
        "A terminal in which you typed “runrig login” shows a code.",
        content,
    )
}

fn device_form(visitor: &Visitor, form: &Form, device: &Device, wrong: Option<&str>) -> Markup {
    let said = |name: &str, else_: &str| {
        let text = form.text(name);
        match form.has(name) {
            true => text.to_string(),
            false => else_.to_string(),
        }
    };
    let here = device.address == visitor.address;
    let role = said("role", Role::Developer.name());
    let input = |name: &str, value: String, max: u32| {
        html! {
            input.in id=(name) name=(name) value=(value) maxlength=(max) autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby=(format!("{name}-hint"));
        }
    };
    let machine = match device.machine.as_str() {
        "" => "a machine without a name",
        name => name,
    };
    let title = visitor.login.as_ref().map_or("", |l| l.title());
    let content = html! {
        @if let Some(wrong) = wrong { (alert(Tone::Bad, html! { p.strong { "Nothing was changed" } p { (wrong) } })) }
        dl.facts {
            dt { "Calls itself" } dd.strong { (machine) }
            dt { "Asks from" } dd {
                span.mono { (device.address) } " "
                @if here { (badge(Tone::Ok, "your address")) } @else { (badge(Tone::Warn, "not your address")) }
            }
            dt { "Asked" } dd { (words::span(api::now_ms().saturating_sub(device.asked_ms))) " ago" }
            dt { "Its key" } dd.mono { (words::brief(&device.account().to_string())) }
            dt { "Would act for" } dd.strong { (title) }
        }
        div.gap { (alert(Tone::Warn, html! {
            p.strong { "Did you start this yourself, on this machine, just now?" }
            p { "Its terminal shows the same key. Whoever gave you the code gets what you allow here; nobody who helps you needs it." }
        })) }
        form method="post" action="/device" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            input type="hidden" name="code" value=(form.text("code"));
            (field("label", "Name", input("label", said("label", &device.machine), 60), "Public, on the ledger", None))
            div.field {
                label.lab for="role" { "May" }
                select id="role" name="role" {
                    @for one in Role::ALL { option value=(one.name()) selected[role == one.name()] { (one.name()) ": " (duties(one)) } }
                }
            }
            div.two {
                (field("limit", "Credits in 30 days", input("limit", said("limit", "50"), 20), "Empty: no limit", None))
                (field("days", "Ends after days", input("days", said("days", "30"), 4), "Empty: when you revoke it", None))
            }
            button.btn.primary.wide name="act" value="allow" { (icon("shield-check")) "I started it: let it act" }
            button.btn.wide.gap name="act" value="refuse" formnovalidate { "It is not mine: refuse it" }
        }
    };
    frame(
        "A machine asks to act for you",
        "Nothing has been changed yet. You sign it in the next step.",
        content,
    )
}

fn done(title: &str, lead: &str, next: Markup) -> Markup {
    frame(title, lead, html! { div.row { (next) } })
}

/// `GET /device`
pub async fn page(State(app): State<App>, visitor: Visitor) -> Page {
    let content = code_form(&visitor, None);
    shown(&app, &visitor, StatusCode::OK, content).await
}

/// `POST /device`
pub async fn act(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    let code = form.text("code");
    // Guesses at codes, by whoever is logged in.
    let guesses = format!("device {}", login.person.handle);
    if !app.limits.allows(Act::Guess, &guesses) {
        let why = "Too many codes. Wait half a minute.";
        let content = code_form(&visitor, Some(why));
        return shown(&app, &visitor, StatusCode::TOO_MANY_REQUESTS, content).await;
    }
    let Some(device) = app.people.device_waiting(code, api::now_ms()).await? else {
        let _ = app.limits.take(Act::Guess, &guesses);
        let why = "No machine waits with this code. Codes end after ten minutes and are used once: run `runrig login` again.";
        let content = code_form(&visitor, Some(why));
        return shown(&app, &visitor, StatusCode::UNPROCESSABLE_ENTITY, content).await;
    };
    match form.text("act") {
        "allow" => allow(&app, &visitor, &form, &device).await,
        "refuse" => {
            app.people
                .answer_device(code, &DeviceAnswer::Refused)
                .await?;
            let content = done(
                "Refused",
                "The machine is told so. Its key may do nothing here.",
                html! { a.btn href="/" { "Overview" } },
            );
            shown(&app, &visitor, StatusCode::OK, content).await
        }
        _ => {
            let content = device_form(&visitor, &form, &device, None);
            shown(&app, &visitor, StatusCode::OK, content).await
        }
    }
}

async fn allow(app: &App, visitor: &Visitor, form: &Form, device: &Device) -> Page {
    let login = visitor.login()?;
    slowly(app, Act::Submit, &login.person.handle)?;
    let wrong = |why: String| {
        let content = device_form(visitor, form, device, Some(&why));
        shown(app, visitor, StatusCode::UNPROCESSABLE_ENTITY, content)
    };
    let call = match grant_of(form, device.account(), now_of(app)) {
        Ok(call) => call,
        Err(why) => return wrong(why.into()).await,
    };
    match login.submit(app, ledger::Call::Account(call)).await {
        Ok(_) => {}
        Err(Unsubmitted::Sdk(sdk::SdkError::Refused(problem))) => {
            return wrong(format!("{}. {}", problem.why, problem.next)).await;
        }
        Err(error) => return Err(error.into()),
    }
    let handle = match &login.acting {
        None => login.person.handle.clone(),
        Some(workspace) => words::brief(&workspace.account.to_string()),
    };
    let answer = DeviceAnswer::Allowed {
        account: login.account(),
        handle,
        network: app.network_name().to_string(),
        url: app.gateway.clone(),
    };
    app.people.answer_device(form.text("code"), &answer).await?;
    let content = done(
        "It may act for you",
        "Go back to your terminal: it goes on by itself. Take the key back here at any time, or there by “runrig logout”.",
        html! { a.btn.primary href="/members" { (icon("users")) "Keys and members" } a.btn href="/" { "Overview" } },
    );
    shown(app, visitor, StatusCode::OK, content).await
}
