//! How many replicas each service of a job has: a number, its price, and then a release.

use std::collections::BTreeMap;

use api::DeploymentView;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use ledger::deployment::Call as Deployments;
use maud::{Markup, html};
use types::DeploymentSpec;

use super::deploy::price;
use super::job::head;
use super::jobs::{address, own_deployment};
use super::slowly;
use crate::app::App;
use crate::limits::Act;
use crate::ui::{self, Place, Tone, alert, cli, empty, field, icon, if_may};
use crate::web::{Form, Page, Right, Visitor};

/// Services that a number is asked for: what follows the load keeps its bounds.
fn fixed(view: &DeploymentView) -> impl Iterator<Item = (&String, u32)> {
    let all = view.spec.services.iter();
    all.filter(|(_, s)| s.autoscale.is_none())
        .map(|(name, s)| (name, s.replicas))
}

fn field_of(service: &str) -> String {
    format!("replicas-{service}")
}

/// The numbers of a form that differ from what there is.
///
/// Errors: by service, what is no number of replicas.
fn wishes(
    view: &DeploymentView,
    form: &Form,
) -> Result<BTreeMap<String, u32>, BTreeMap<String, &'static str>> {
    let (mut wishes, mut wrong) = (BTreeMap::new(), BTreeMap::new());
    for (name, now) in fixed(view) {
        let field = field_of(name);
        let text = form.text(&field);
        match text.parse::<u32>() {
            _ if text.is_empty() => {}
            Ok(count) if count == now => {}
            Ok(count) => {
                wishes.insert(name.clone(), count);
            }
            Err(_) => {
                wrong.insert(
                    name.clone(),
                    "This is no number of replicas; write for example 3",
                );
            }
        }
    }
    if wrong.is_empty() {
        Ok(wishes)
    } else {
        Err(wrong)
    }
}

fn scaled(view: &DeploymentView, wishes: &BTreeMap<String, u32>) -> DeploymentSpec {
    let mut spec = view.spec.clone();
    for (name, count) in wishes {
        if let Some(service) = spec.services.get_mut(name) {
            service.replicas = *count;
        }
    }
    spec
}

/// The same on the command line.
fn line(view: &DeploymentView, wishes: &BTreeMap<String, u32>) -> Option<String> {
    let now: BTreeMap<String, u32> = fixed(view).map(|(name, n)| (name.clone(), n)).collect();
    let said = if wishes.is_empty() { &now } else { wishes };
    let parts: Vec<String> = said
        .iter()
        .map(|(name, count)| format!("{}/{name}={count}", view.project))
        .collect();
    (!parts.is_empty()).then(|| format!("runrig scale {}", parts.join(" ")))
}

/// What came of a form.
enum Found {
    Nothing,
    /// By service.
    Wrong(BTreeMap<String, &'static str>),
    /// The job has another release than when the price was shown.
    Changed,
    Same,
    Quoted(Box<api::Quote>, BTreeMap<String, u32>),
}

fn asked(visitor: &Visitor, view: &DeploymentView, form: &Form, found: &Found) -> Markup {
    let action = format!("{}/scale", address(&view.project, view.deployment));
    let wrong = |name: &str| match found {
        Found::Wrong(wrong) => wrong.get(name).copied(),
        _ => None,
    };
    html! {
        section class={ "card " (if matches!(found, Found::Quoted(..)) { "s6" } else { "s12" }) } {
            header { div { h2 { "Replicas" } p.sub { "Nothing changes before you have seen the price" } } }
            @for (name, spec) in view.spec.services.iter().filter_map(|(n, s)| Some((n, s.autoscale?))) {
                p.dim.wrap { (name) " follows the load: " (spec) }
            }
            @if fixed(view).next().is_none() { (empty("layers", "No number to choose", "Every service of this job follows the load.", None)) }
            @else {
                form method="post" action=(action) {
                    input type="hidden" name="csrf" value=(visitor.form_token());
                    @for (at, (name, now)) in fixed(view).enumerate() {
                        @let (id, called) = (format!("replicas-of-{at}"), field_of(name));
                        @let said = form.text(&called);
                        (field(&id, name, html! {
                            input.in id=(id) name=(called) type="number" min="0" max=(u32::MAX) inputmode="numeric" value=(if said.is_empty() { now.to_string() } else { said.to_string() }) aria-invalid=[wrong(name).map(|_| "true")];
                        }, &format!("{now} now"), wrong(name)))
                    }
                    button.btn.primary name="act" value="quote" { (icon("coins")) "Show the price" }
                }
            }
        }
    }
}

fn quoted(
    visitor: &Visitor,
    view: &DeploymentView,
    quote: &api::Quote,
    wishes: &BTreeMap<String, u32>,
) -> Markup {
    let action = format!("{}/scale", address(&view.project, view.deployment));
    price(
        quote,
        &[],
        html! {
            form method="post" action=(action) {
                input type="hidden" name="csrf" value=(visitor.form_token());
                input type="hidden" name="act" value="scale";
                input type="hidden" name="release" value=(view.release);
                input type="hidden" name="max" value=(quote.total_hour);
                @for (name, count) in wishes { input type="hidden" name=(field_of(name)) value=(count); }
                p.foot-note.wrap { @for (at, (name, count)) in wishes.iter().enumerate() { @if at > 0 { ", " } (name) ": " (count) } ". It is refused if it would cost more than this by then." }
                button.btn.primary.wide { (icon("layers")) "Scale" }
            }
        },
    )
}

fn content(visitor: &Visitor, view: &DeploymentView, form: &Form, found: &Found) -> Markup {
    let none = BTreeMap::new();
    let wishes = match found {
        Found::Quoted(_, wishes) => wishes,
        _ => &none,
    };
    html! {
        @match found {
            Found::Wrong(_) => { (alert(Tone::Bad, html! { p.strong { "Nothing was changed" } p { "Correct the numbers below." } })) }
            Found::Changed => { (alert(Tone::Warn, html! { p.strong { "Nothing was changed" } p { "The job has another release since the price was shown: " (view.release) ". Look at the price again." } })) }
            Found::Same => { (alert(Tone::Info, html! { p { "These are the numbers that there are: nothing was changed." } })) }
            Found::Nothing | Found::Quoted(..) => {}
        }
        @if view.removed { (empty("layers", "It was removed", "What is removed has no replicas.", None)) }
        @else {
            (if_may(visitor.lack(Right::Deploy, "scale jobs"), || html! {
                div.grid {
                    (asked(visitor, view, form, found))
                    @if let Found::Quoted(quote, wishes) = found { div.s6 { (quoted(visitor, view, quote, wishes)) } }
                }
            }))
        }
        @if let Some(line) = line(view, wishes) { (cli(&line)) }
    }
}

async fn page(
    app: &App,
    visitor: &Visitor,
    view: &DeploymentView,
    form: &Form,
    found: &Found,
    status: StatusCode,
) -> Page {
    let content = html! {
        (head(visitor, view, "/scale"))
        (content(visitor, view, form, found))
    };
    let title = format!("Scale {}", view.project);
    let mut response = ui::page(app, visitor, Place::Jobs, &title, content).await;
    *response.status_mut() = status;
    Ok(response)
}

/// `GET /jobs/{name}/scale`
pub async fn form(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    let (form, found) = (Form::default(), Found::Nothing);
    page(&app, &visitor, &view, &form, &found, StatusCode::OK).await
}

/// `POST /jobs/{name}/scale`: a price, or the release.
pub async fn submit(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    form: Form,
) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let view = own_deployment(&app, login, &name).await?;
    let act = form.text("act") == "scale";
    let (status, found) = match wishes(&view, &form) {
        Err(wrong) => (StatusCode::UNPROCESSABLE_ENTITY, Found::Wrong(wrong)),
        Ok(_) if act && form.text("release") != view.release.to_string() => {
            (StatusCode::CONFLICT, Found::Changed)
        }
        Ok(wishes) if wishes.is_empty() => (StatusCode::OK, Found::Same),
        Ok(wishes) if act => {
            let call = Deployments::Deploy {
                spec: scaled(&view, &wishes),
                price_max_hour: form.text("max").parse().ok(),
            };
            login.submit(&app, ledger::Call::Deployment(call)).await?;
            let at = address(&view.project, view.deployment);
            return Ok(Redirect::to(&at).into_response());
        }
        Ok(wishes) => {
            let request = api::QuoteRequest {
                owner: login.account(),
                spec: scaled(&view, &wishes),
            };
            let quote = Box::new(app.client.quote(&request).await?);
            (StatusCode::OK, Found::Quoted(quote, wishes))
        }
    };
    page(&app, &visitor, &view, &form, &found, status).await
}

#[cfg(test)]
mod tests {
    use types::{AccountId, AutoscaleSpec, ServiceSpec};

    use super::*;
    use crate::hostile_tests::deployment;

    fn shop() -> DeploymentView {
        let mut view = deployment(AccountId::default());
        let follows = ServiceSpec {
            autoscale: Some(AutoscaleSpec {
                min: 0,
                max: 4,
                target: Default::default(),
                idle_ms: AutoscaleSpec::IDLE_MS,
            }),
            ..ServiceSpec::default()
        };
        view.spec.services = [
            ("db", ServiceSpec::default()),
            ("web", ServiceSpec::default()),
            ("worker", follows),
        ]
        .map(|(name, s)| (name.to_string(), s))
        .into();
        view
    }

    #[test]
    fn only_what_differs_is_wished_and_only_numbers_are() {
        let view = shop();
        let wished = |text: &str| wishes(&view, &Form::read(text.as_bytes()));
        assert_eq!(wished(""), Ok(BTreeMap::new()));
        assert_eq!(
            wished("replicas-db=1&replicas-web=3&replicas-worker=9&replicas-none=2"),
            Ok([("web".to_string(), 3)].into())
        );
        for wrong in ["-1", "many", "4294967296", "1.5", "<b>"] {
            let found = wished(&format!("replicas-web=2&replicas-db={wrong}"));
            let wrongs = found.expect_err(wrong);
            assert_eq!(wrongs.keys().collect::<Vec<_>>(), ["db"]);
        }
        let none = wished("replicas-web=0").expect("a number");
        let spec = scaled(&view, &none);
        assert_eq!(spec.services["web"].replicas, 0);
        assert_eq!(spec.services["worker"], view.spec.services["worker"]);
        assert_eq!(
            line(&view, &none).as_deref(),
            Some("runrig scale shop/web=0")
        );
        let now = line(&view, &BTreeMap::new());
        assert_eq!(now.as_deref(), Some("runrig scale shop/db=1 shop/web=1"));
    }
}
