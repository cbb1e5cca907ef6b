//! Sign up, log in, log out, choose a theme.

use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::{passkeys, slowly};
use crate::app::App;
use crate::approve::renew;
use crate::limits::Act;
use crate::people::{Kind, Login, NewPerson, Person, Token, strength};
use crate::ui::{self, Tone, alert, field, icon, passkey_fields, passkey_script};
use crate::web::{DEVICE, Form, Page, SESSION, STRANGER, THEME, Theme, Visitor, set_cookie};

pub(super) const YEAR_S: u64 = 365 * 86_400;
const SESSION_S: u64 = 14 * 86_400;

/// A form's fields as they were sent, and what is wrong with which.
#[derive(Default)]
struct Draft {
    form: Form,
    wrong: Vec<(&'static str, String)>,
}

impl Draft {
    fn wrong(&self, name: &str) -> Option<&str> {
        let found = self.wrong.iter().find(|(of, _)| *of == name);
        found.map(|(_, why)| why.as_str())
    }

    fn next(&self) -> &str {
        local(self.form.text("next"))
    }

    fn input(&self, name: &str, kind: &str, complete: &str, max: u32, required: bool) -> Markup {
        let wrong = self.wrong(name).is_some();
        let hinted = matches!(name, "handle" | "password");
        let told_by =
            (wrong || hinted).then(|| format!("{name}-{}", if wrong { "error" } else { "hint" }));
        html! {
            input.in id=(name) name=(name) type=(kind) value=[(kind != "password").then(|| self.form.text(name))]
                autocomplete=(complete) maxlength=(max) required[required] aria-invalid=[wrong.then_some("true")]
                aria-describedby=[told_by]
                autocapitalize="none" spellcheck="false";
        }
    }
}

fn summary(draft: &Draft) -> Markup {
    html! {
        @if let Some(first) = draft.wrong.first() {
            (alert(Tone::Bad, html! {
                p.strong { "That did not work yet" }
                @if draft.wrong.len() > 1 { p { (draft.wrong.len()) " fields need another look." } }
                @else { p { (first.1) } }
            }))
        }
    }
}

fn sign_up_page(app: &App, visitor: &Visitor, draft: &Draft, status: StatusCode) -> Response {
    let company = draft.form.text("kind") == "company";
    let content = html! {
        div.card {
            h1 { "Create an account" }
            p.lead { "Your first container runs a minute from now. Starter credits come at once." }
            (summary(draft))
            form method="post" action="/signup" {
                input type="hidden" name="csrf" value=(visitor.form_token());
                @if draft.next() != "/" { input type="hidden" name="next" value=(draft.next()); }
                fieldset.choice {
                    legend.sr { "Who is the account for?" }
                    label { input type="radio" name="kind" value="personal" checked[!company]; span.strong { (icon("user")) "Personal" } span.dim { "For yourself" } }
                    label { input type="radio" name="kind" value="company" checked[company]; span.strong { (icon("building-2")) "Company" } span.dim { "For an organisation" } }
                }
                (field("handle", "Handle", draft.input("handle", "text", "username", 30, true), "Small letters, digits and -; how others see you.", draft.wrong("handle")))
                (field("email", "Email", draft.input("email", "email", "email", 120, true), "", draft.wrong("email")))
                div.company {
                    (field("company_name", "Company name", draft.input("company_name", "text", "organization", 120, false), "", draft.wrong("company_name")))
                    (field("company_address", "Company address", draft.input("company_address", "text", "street-address", 200, false), "", draft.wrong("company_address")))
                }
                div.with-passkey hidden {
                    input type="hidden" name="way" disabled;
                    input type="hidden" name="passkey_id" disabled;
                    input type="hidden" name="approve_body" disabled;
                    button.btn.primary.wide type="button" data-passkey="create" data-prepare="/passkey/prepare" { (icon("key-round")) "Create it with a passkey" }
                    (passkey_fields())
                    p.hint { "The key of your account stays on your device: this portal never has it. Your browser asks twice." }
                    p.or { span { "or with a password" } }
                }
                div.field {
                    label.lab for="password" { "Password" }
                    (draft.input("password", "password", "new-password", 200, true))
                    div.strength data-strength="password" data-words="password-hint" aria-hidden="true" { i {} i {} i {} i {} }
                    @if let Some(wrong) = draft.wrong("password") { span.err id="password-error" { (icon("circle-x")) span { (wrong) } } }
                    span.hint id="password-hint" data-idle="10 characters or more; three or four words are best." aria-live="polite" { "10 characters or more; three or four words are best." }
                }
                button.btn.primary.wide { "Create it with a password" }
            }
            p.foot-note {
                "A password seals keys on the ledger. Nobody can open them for you: "
                "save the recovery file that is offered afterwards."
            }
            (passkey_script())
        }
        p.alt { "You have one already? " a href=(with_next("/login", draft.next())) { "Log in" } }
        @if let Some(network) = app.network.get() {
            p.alt.dim { "On the network " (network.name) ", whose credits are test credits." }
        }
    };
    let content = html! { div { (content) } };
    let mut response = ui::stand(visitor, "Create an account", content);
    *response.status_mut() = status;
    response
}

/// `GET /signup`
pub async fn sign_up_form(
    State(app): State<App>,
    visitor: Visitor,
    Query(query): Query<Next>,
) -> Page {
    let draft = Draft {
        form: Form::default().with("next", &query.next.unwrap_or_default()),
        ..Draft::default()
    };
    Ok(sign_up_page(&app, &visitor, &draft, StatusCode::OK))
}

pub(super) fn is_handle(text: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (3..=30).contains(&text.len())
        && text.chars().all(fits)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_email(text: &str) -> bool {
    let Some((name, domain)) = text.split_once('@') else {
        return false;
    };
    let plain = text.chars().all(|c| !c.is_control() && !c.is_whitespace());
    plain
        && text.len() <= 120
        && !name.is_empty()
        && domain.contains('.')
        && !domain.contains('@')
        && !domain.starts_with('.')
        && !domain.ends_with('.')
}

/// Checks every field; all that is wrong is said at once.
fn read(form: Form) -> Result<NewPerson, Draft> {
    let mut wrong = Vec::new();
    let mut bad = |name, why: &str| wrong.push((name, why.to_string()));
    let kind = match form.text("kind") {
        "personal" => Kind::Personal,
        "company" => Kind::Company,
        _ => {
            bad("kind", "Choose Personal or Company.");
            Kind::Personal
        }
    };
    let handle = form.text("handle").to_string();
    let email = form.text("email").to_string();
    if !is_handle(&handle) {
        bad(
            "handle",
            "Take 3 to 30 small letters, digits or -, beginning and ending with a letter or digit.",
        );
    }
    if !is_email(&email) {
        bad("email", "That is no email address.");
    }
    let company = |name: &'static str, max: usize| {
        let text = form.text(name);
        let fits = !text.chars().any(char::is_control) && text.chars().count() <= max;
        (text.to_string(), fits)
    };
    let (company_name, name_fits) = company("company_name", 120);
    let (company_address, address_fits) = company("company_address", 200);
    match kind {
        Kind::Company => {
            if company_name.is_empty() || !name_fits {
                bad(
                    "company_name",
                    "A company account needs the company's name, up to 120 characters.",
                );
            }
            if company_address.is_empty() || !address_fits {
                bad(
                    "company_address",
                    "A company account needs the company's address, up to 200 characters.",
                );
            }
        }
        Kind::Personal => {
            if !company_name.is_empty() {
                bad(
                    "company_name",
                    "A personal account has no company. Choose Company, or leave it empty.",
                );
            }
            if !company_address.is_empty() {
                bad(
                    "company_address",
                    "A personal account has no company. Choose Company, or leave it empty.",
                );
            }
        }
    }
    let own = [handle.as_str(), email.split('@').next().unwrap_or("")];
    if form.text("way") != "passkey"
        && let Err(weakness) = strength(form.exact("password"), &own)
    {
        bad("password", &weakness.to_string());
    }
    if !wrong.is_empty() {
        return Err(Draft { form, wrong });
    }
    let company = |text: String| (kind == Kind::Company).then_some(text);
    Ok(NewPerson {
        kind,
        handle,
        email,
        company_name: company(company_name),
        company_address: company(company_address),
    })
}

/// `POST /signup`
pub async fn sign_up(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    slowly(&app, Act::Knock, &visitor.whence())?;
    let new = match read(form.clone()) {
        Ok(new) => new,
        Err(mut draft) => {
            if let Some(why) = draft.wrong("kind").map(str::to_string) {
                draft.wrong.retain(|(name, _)| *name != "kind");
                draft.wrong.insert(0, ("kind", why));
            }
            return Ok(sign_up_page(
                &app,
                &visitor,
                &draft,
                StatusCode::UNPROCESSABLE_ENTITY,
            ));
        }
    };
    slowly(&app, Act::SignUp, &visitor.whence())?;
    if form.text("way") == "passkey" {
        return sign_up_with_passkey(&app, &visitor, form, new).await;
    }
    let (password, next) = (form.exact("password"), begin_at(&form));
    let Some((person, keys)) = app.people.sign_up(new, password).await? else {
        return Ok(taken(&app, &visitor, form));
    };
    gift(&app, &keys.web, person.account).await;
    if let Err(error) = renew(&app, person.account, &keys).await {
        tracing::warn!(account = %person.account, "sessions may not act yet: {error}");
    }
    let device = visitor.device.clone().unwrap_or_else(Token::random);
    enter(&app, &visitor, &person, &keys.web, device, &next).await
}

/// Where who has just signed up goes on: at what he came for.
fn begin_at(form: &Form) -> String {
    match local(form.text("next")) {
        "/" => "/?welcome=1".into(),
        next => next.into(),
    }
}

/// A page that goes on to `next` when it is done.
fn with_next(page: &str, next: &str) -> String {
    match next {
        "/" => page.into(),
        next => format!("{page}?next={}", crate::web::escaped(next)),
    }
}

/// A handle stands on the ledger for all to read; of emails nothing is ever told.
fn taken(app: &App, visitor: &Visitor, form: Form) -> Response {
    let why = "This handle is taken. Take another, or log in if it is yours.";
    let draft = Draft {
        form,
        wrong: vec![("handle", why.into())],
    };
    sign_up_page(app, visitor, &draft, StatusCode::CONFLICT)
}

/// The network's test credits. The account works without them: what went wrong stands in the
/// wallet, where he can ask again.
async fn gift(app: &App, by: &types::SecretKey, account: types::AccountId) {
    let faucet = ledger::account::Call::Faucet { to: account };
    let call = ledger::Call::Account(faucet);
    if let Err(error) = app.client.submit_and_wait(by, call).await {
        tracing::warn!(%account, "no starter credits: {error}");
    }
}

async fn sign_up_with_passkey(app: &App, visitor: &Visitor, form: Form, new: NewPerson) -> Page {
    let signed = passkeys::new(app, visitor, &form)?;
    let account = signed.passkey.account();
    let key = app.people.browser_key(&signed.device, account);
    let next = begin_at(&form);
    let Some(person) = app.people.sign_up_with(new, signed.passkey).await? else {
        return Ok(taken(app, visitor, form));
    };
    gift(app, &key, account).await;
    if let Err(error) = app.client.submit_signed(&signed.first).await {
        tracing::warn!(%account, "sessions may not act yet: {error}");
    }
    enter(app, visitor, &person, &key, signed.device, &next).await
}

/// Begins a session that signs with `key` and goes to `next`.
pub(super) async fn enter(
    app: &App,
    visitor: &Visitor,
    person: &Person,
    key: &types::SecretKey,
    device: Token,
    next: &str,
) -> Page {
    let address = visitor.address.to_string();
    let token = app
        .people
        .begin(person, key, &visitor.browser, &address)
        .await?;
    app.people.remember(person.id, &device).await?;
    let mut response = Redirect::to(next).into_response();
    let headers = response.headers_mut();
    headers.append(
        header::SET_COOKIE,
        set_cookie(app, SESSION, &token.hex(), SESSION_S),
    );
    headers.append(
        header::SET_COOKIE,
        set_cookie(app, DEVICE, &device.hex(), YEAR_S),
    );
    headers.append(header::SET_COOKIE, set_cookie(app, STRANGER, "", 0));
    Ok(response)
}

/// Goes on under a token that is new: whoever had the old one is out.
pub(super) async fn anew(app: &App, login: &Login, next: &str) -> Page {
    let token = app.people.rotate(login).await?;
    let mut response = Redirect::to(next).into_response();
    let cookie = set_cookie(app, SESSION, &token.hex(), SESSION_S);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Only a path of this site: `next` of a link may be anybody's.
pub(super) fn local(next: &str) -> &str {
    let fits = next.starts_with('/')
        && !next.starts_with("//")
        && !next.contains('\\')
        && !next.chars().any(char::is_control);
    if fits { next } else { "/" }
}

#[derive(Deserialize)]
pub struct Next {
    pub next: Option<String>,
}

pub(super) fn log_in_page(
    visitor: &Visitor,
    name: &str,
    next: &str,
    wrong: Option<&str>,
    status: StatusCode,
) -> Response {
    let content = html! {
        div {
            div.card {
                h1 { "Log in" }
                p.lead { "Welcome back." }
                @if let Some(wrong) = wrong { (alert(Tone::Bad, html! { p { (wrong) } })) }
                (passkeys::log_in_form(visitor, next))
                form method="post" action="/login" {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    input type="hidden" name="next" value=(local(next));
                    (field("handle", "Handle or email", html! {
                        input.in id="handle" name="handle" value=(name) autocomplete="username" maxlength="120" required autocapitalize="none" spellcheck="false";
                    }, "", None))
                    (field("password", "Password", html! {
                        input.in id="password" name="password" type="password" autocomplete="current-password" maxlength="200" required;
                    }, "", None))
                    (field("code", "Code of your second factor", html! {
                        input.in id="code" name="code" inputmode="numeric" autocomplete="one-time-code" maxlength="10" aria-describedby="code-hint";
                    }, "Empty, unless you have set one up in Settings", None))
                    button.btn.primary.wide { "Log in" }
                }
            }
            p.alt { "New here? " a href=(with_next("/signup", local(next))) { "Create an account" } }
        }
    };
    let mut response = ui::stand(visitor, "Log in", content);
    *response.status_mut() = status;
    response
}

/// `GET /login`
pub async fn log_in_form(visitor: Visitor, Query(query): Query<Next>) -> Page {
    let next = query.next.unwrap_or_else(|| "/".into());
    Ok(log_in_page(&visitor, "", &next, None, StatusCode::OK))
}

/// `POST /login`
pub async fn log_in(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    slowly(&app, Act::Knock, &visitor.whence())?;
    // Handles have no @, so whoever sends an email in its own field means the same.
    let name = match form.text("handle") {
        "" => form.text("email"),
        name => name,
    };
    let (name, next) = (name.to_lowercase(), local(form.text("next")).to_string());
    let password = form.exact("password");
    let again = |why: &str, status| Ok(log_in_page(&visitor, &name, &next, Some(why), status));
    if name.len() > 120 || password.len() > 1_000 {
        return again(
            "Handle, password and code do not fit.",
            StatusCode::UNAUTHORIZED,
        );
    }
    // Strangers' guesses do not count against a browser that the owner has used before.
    let known = match &visitor.device {
        Some(device) => app.people.knows(&name, device).await?,
        None => false,
    };
    let bucket = format!("{name} {known}");
    if app.limits.take(Act::Guess, &bucket).is_err() {
        return again(
            match name.contains('@') {
                true => {
                    "Too many tries for this email. Wait half a minute, or log in with your handle in a browser that you have logged in with before."
                }
                false => {
                    "Too many tries for this handle. Wait half a minute, or use a browser that you have logged in with before."
                }
            },
            StatusCode::TOO_MANY_REQUESTS,
        );
    }
    let Some((person, keys)) = app
        .people
        .log_in(&name, password, form.text("code"))
        .await?
    else {
        return again(
            "Handle, password and code do not fit.",
            StatusCode::UNAUTHORIZED,
        );
    };
    app.limits.give_back(Act::Guess, &bucket);
    if let Err(error) = renew(&app, person.account, &keys).await {
        tracing::warn!(account = %person.account, "sessions may not act yet: {error}");
    }
    let device = visitor.device.clone().unwrap_or_else(Token::random);
    enter(&app, &visitor, &person, &keys.web, device, &next).await
}

/// `POST /logout`
pub async fn log_out(State(app): State<App>, visitor: Visitor) -> Page {
    let login = visitor.login()?;
    app.people
        .end(login.person.id, Some(login.session.clone()))
        .await?;
    let mut response = Redirect::to("/login").into_response();
    let gone = set_cookie(&app, SESSION, "", 0);
    response.headers_mut().append(header::SET_COOKIE, gone);
    Ok(response)
}

/// `POST /theme`
pub async fn theme(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let theme = match Theme::parse(form.text("theme")) {
        Some(theme) => theme,
        // Without a script nobody knows what the system shows: the first press is dark.
        None if visitor.theme == Some(Theme::Dark) => Theme::Light,
        None => Theme::Dark,
    };
    let mut response = Redirect::to(local(form.text("back"))).into_response();
    let cookie = set_cookie(&app, THEME, theme.name(), YEAR_S);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Form {
        let text: Vec<String> = pairs
            .iter()
            .map(|(name, value)| format!("{name}={}", value.replace(' ', "+").replace('@', "%40")))
            .collect();
        Form::read(text.join("&").as_bytes())
    }

    const GOOD: [(&str, &str); 4] = [
        ("kind", "personal"),
        ("handle", "ada"),
        ("email", "ada@example.org"),
        ("password", "four plain words here"),
    ];

    #[test]
    fn a_company_has_a_name_and_an_address_and_a_person_has_neither() {
        assert!(read(form(&GOOD)).is_ok());
        let mut company = GOOD.to_vec();
        company[0].1 = "company";
        let refused = read(form(&company)).map(|_| ()).map_err(|d| d.wrong.len());
        assert_eq!(refused, Err(2));
        company.extend([("company_name", "Acme"), ("company_address", "Road 1")]);
        let read_company = read(form(&company)).map_err(|d| d.wrong).expect("good");
        assert_eq!(read_company.company_name.as_deref(), Some("Acme"));
        let mut person = GOOD.to_vec();
        person.push(("company_name", "Acme"));
        assert!(read(form(&person)).is_err());
        assert!(read(form(&GOOD[1..])).is_err());
    }

    #[test]
    fn names_and_addresses_are_checked() {
        for handle in ["ab", "-abc", "abc-", "Abc", "a b c", "<b>x", "ünï"] {
            assert!(!is_handle(handle), "{handle}");
        }
        assert!(is_handle("ada-99"));
        for email in [
            "", "a", "a@b", "@b.c", "a@.b.c", "a b@c.d", "a@b@c.d", "a@b.c.",
        ] {
            assert!(!is_email(email), "{email}");
        }
        assert!(is_email("ada+x@mail.example.org"));
    }

    #[test]
    fn a_link_leads_nowhere_else() {
        for next in [
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "javascript:x",
            "/a\nb",
            "",
        ] {
            assert_eq!(local(next), "/", "{next}");
        }
        assert_eq!(local("/jobs?a=1"), "/jobs?a=1");
    }
}
