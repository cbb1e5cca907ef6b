//! A job's compose file, to be edited: the text, what it would change and cost, and then a release.

use api::DeploymentView;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use ledger::deployment::Call as Deployments;
use maud::{Markup, html};
use types::DeploymentSpec;
use words::plural;

use super::deploy::{price, read};
use super::job::{diff, head};
use super::jobs::{address, own_deployment};
use super::slowly;
use crate::app::App;
use crate::limits::Act;
use crate::ui::{self, Place, Tone, alert, cli, icon, no_right};
use crate::web::{Form, Page, Right, Visitor};

/// What came of a text.
enum Found {
    Nothing,
    Wrong(Vec<String>),
    /// The job has another release than the text was made from.
    Changed,
    Same,
    Quoted {
        quote: Box<api::Quote>,
        spec: Box<DeploymentSpec>,
        warnings: Vec<String>,
    },
}

impl Found {
    fn status(&self) -> StatusCode {
        match self {
            Self::Wrong(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Changed => StatusCode::CONFLICT,
            Self::Nothing | Self::Same | Self::Quoted { .. } => StatusCode::OK,
        }
    }
}

/// `spec`, which was read from a text, as a release of this job.
///
/// Errors: it would be another job.
fn checked(view: &DeploymentView, spec: &DeploymentSpec) -> Result<(), Vec<String>> {
    match spec.project == view.project {
        true => Ok(()),
        false => Err(vec![format!(
            "name: it says {}, and this job is {}. A job keeps its name: write {} again, or create another job from this text.",
            spec.project, view.project, view.project
        )]),
    }
}

fn asked(visitor: &Visitor, view: &DeploymentView, text: &str, found: &Found) -> Markup {
    let action = format!("{}/compose", address(&view.project, view.deployment));
    html! {
        section class={ "card " (if matches!(found, Found::Quoted { .. }) { "s6" } else { "s12" }) } {
            form method="post" action=(action) {
                input type="hidden" name="csrf" value=(visitor.form_token());
                input type="hidden" name="release" value=(view.release);
                div.field {
                    label.lab for="compose" { "Compose file" }
                    textarea id="compose" name="compose" rows="24" maxlength="200000" spellcheck="false" required aria-describedby="compose-hint" aria-invalid=[matches!(found, Found::Wrong(_)).then_some("true")] { (text) }
                    span.hint id="compose-hint" { "As the ledger keeps release " (view.release) ". An image stays at its digest; without @sha256:… its tag is looked up anew. A secret stays as it was sealed." }
                }
                button.btn.primary name="act" value="quote" { (icon("coins")) "Show the price and what changes" }
            }
        }
    }
}

fn quoted(
    visitor: &Visitor,
    view: &DeploymentView,
    text: &str,
    (quote, spec, warnings): (&api::Quote, &DeploymentSpec, &[String]),
) -> Markup {
    let action = format!("{}/compose", address(&view.project, view.deployment));
    html! {
        (price(quote, warnings, html! {
            form method="post" action=(action) {
                input type="hidden" name="csrf" value=(visitor.form_token());
                input type="hidden" name="act" value="deploy";
                input type="hidden" name="release" value=(view.release);
                input type="hidden" name="compose" value=(text);
                input type="hidden" name="max" value=(quote.total_hour);
                p.foot-note { "Replicas of services that change are replaced by their update policy; others stay. It is refused if it would cost more than this by then." }
                button.btn.primary.wide { (icon("rocket")) "Deploy it as a release" }
            }
        }))
        section.card {
            header { div { h2 { "What changes" } p.sub { "Against release " (view.release) ", as the ledger would keep it" } } }
            (diff(&manifest::to_compose(&view.spec), &manifest::to_compose(spec)))
        }
    }
}

fn content(visitor: &Visitor, view: &DeploymentView, text: &str, found: &Found) -> Markup {
    html! {
        @match found {
            Found::Wrong(problems) => { (alert(Tone::Bad, html! { p.strong { (plural(problems.len() as u64, "problem", "problems")) "; nothing was changed" } @for problem in problems { p { (problem) } } })) }
            Found::Changed => { (alert(Tone::Warn, html! { p.strong { "Nothing was changed" } p { "The job has another release since this text was shown: " (view.release) ". Your text is below; look at the price and what it would change again." } })) }
            Found::Same => { (alert(Tone::Info, html! { p { "This is what runs already: nothing was changed." } })) }
            Found::Nothing | Found::Quoted { .. } => {}
        }
        @let lack = visitor.lack(Right::Deploy, "edit this file and deploy it").filter(|_| !view.removed);
        @if let Some(lack) = &lack { (no_right(lack)) }
        @if view.removed || lack.is_some() {
            section.card { div.code tabindex="0" { (text) } }
        } @else {
            div.grid {
                (asked(visitor, view, text, found))
                @if let Found::Quoted { quote, spec, warnings } = found { div.s6.stack { (quoted(visitor, view, text, (quote, spec, warnings))) } }
            }
        }
        (cli("runrig up -f compose.yaml"))
    }
}

async fn page(
    app: &App,
    visitor: &Visitor,
    view: &DeploymentView,
    text: &str,
    found: &Found,
) -> Page {
    let content = html! {
        (head(visitor, view, "/compose"))
        (content(visitor, view, text, found))
    };
    let title = format!("Compose file of {}", view.project);
    let mut response = ui::page(app, visitor, Place::Jobs, &title, content).await;
    *response.status_mut() = found.status();
    Ok(response)
}

/// `GET /jobs/{name}/compose`
pub async fn form(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    let text = manifest::to_compose(&view.spec);
    page(&app, &visitor, &view, &text, &Found::Nothing).await
}

/// `POST /jobs/{name}/compose`: what it would change and cost, or the release.
pub async fn submit(
    State(app): State<App>,
    visitor: Visitor,
    Path(name): Path<String>,
    form: Form,
) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let view = own_deployment(&app, login, &name).await?;
    // Browsers send lines as CRLF.
    let text = form.exact("compose").replace("\r\n", "\n");
    let now = Some(&view.spec);
    let read = match form.text("release") == view.release.to_string() {
        false => Err(Found::Changed),
        true => match read(&app, login, &text, now).await {
            Ok((spec, warnings)) => checked(&view, &spec)
                .map(|()| (spec, warnings))
                .map_err(Found::Wrong),
            Err(wrong) => Err(Found::Wrong(wrong)),
        },
    };
    let found = match read {
        Err(found) => found,
        Ok((spec, _)) if spec == view.spec => Found::Same,
        Ok((spec, _)) if form.text("act") == "deploy" => {
            let call = Deployments::Deploy {
                spec,
                price_max_hour: form.text("max").parse().ok(),
            };
            login.submit(&app, ledger::Call::Deployment(call)).await?;
            let at = address(&view.project, view.deployment);
            return Ok(Redirect::to(&at).into_response());
        }
        Ok((spec, warnings)) => {
            let request = api::QuoteRequest {
                owner: login.account(),
                spec: spec.clone(),
            };
            let quote = Box::new(app.client.quote(&request).await?);
            let spec = Box::new(spec);
            Found::Quoted {
                quote,
                spec,
                warnings,
            }
        }
    };
    page(&app, &visitor, &view, &text, &found).await
}

#[cfg(test)]
mod tests {
    use types::AccountId;

    use super::*;
    use crate::hostile_tests::deployment;

    #[test]
    fn a_job_keeps_its_name() {
        let view = deployment(AccountId::default());
        assert_eq!(checked(&view, &view.spec), Ok(()));
        let mut other = view.spec.clone();
        other.project = "other".into();
        let wrong = checked(&view, &other).expect_err("another job");
        assert!(wrong[0].contains("other") && wrong[0].contains(&view.project));
    }

    #[test]
    fn what_came_of_a_text_is_told_by_the_status_too() {
        for (found, status) in [
            (Found::Nothing, 200),
            (Found::Same, 200),
            (Found::Wrong(Vec::new()), 422),
            (Found::Changed, 409),
        ] {
            assert_eq!(found.status().as_u16(), status);
        }
    }
}
