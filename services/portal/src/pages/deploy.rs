//! Create a job: an image or a compose file becomes a quote, then a deployment.

use std::collections::BTreeMap;
use std::net::IpAddr;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use images::{Access, Credentials, NETWORK_REGISTRY};
use ledger::deployment::Call as Deployments;
use manifest::{Kind, SecretSource};
use maud::{Markup, html};
use serde::Deserialize;
use types::{Amount, DeploymentSpec, ImageRef};

use super::examples::{self, Example};
use super::slowly;
use crate::app::App;
use crate::limits::Act;
use crate::people::Login;
use crate::ui::{self, Place, Tone, alert, badge, cli, credits, field, icon};
use crate::web::{Form, Page, Visitor};

/// A project that is only a text: no files stand beside it.
struct Nowhere;

impl manifest::Folder for Nowhere {
    fn kind(&self, _: &str) -> Kind {
        Kind::Missing
    }

    fn text(&self, _: &str) -> Result<Option<String>, String> {
        Ok(None)
    }
}

#[derive(Deserialize)]
pub struct From {
    from: Option<String>,
    /// Of an [`Example`].
    example: Option<String>,
}

/// What was found out about a file: its price, or what is wrong with it.
enum Found {
    Nothing,
    Wrong(Vec<String>),
    Quoted {
        quote: Box<api::Quote>,
        warnings: Vec<String>,
    },
}

/// A text as YAML has it in quotes: JSON's are the same.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into())
}

/// A text as it is, in quotes, where a compose file would fill in variables.
fn verbatim(text: &str) -> String {
    quoted(&text.replace('$', "$$"))
}

/// Lines `NAME=VALUE`, empty ones left out.
///
/// Errors: by line, what is no variable.
fn variables(text: &str) -> Result<BTreeMap<&str, &str>, Vec<String>> {
    let (mut found, mut wrong) = (BTreeMap::new(), Vec::new());
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let pair = line
            .split_once('=')
            .map(|(name, value)| (name.trim(), value));
        match pair {
            Some((name, value)) if !name.is_empty() => {
                if found.insert(name, value).is_some() {
                    wrong.push(format!(
                        "Variables, line {}: {name} is there twice; keep one.",
                        at + 1
                    ));
                }
            }
            _ => wrong.push(format!(
                "Variables, line {}: there is no NAME=VALUE; write for example MODE=fast.",
                at + 1
            )),
        }
    }
    if wrong.is_empty() {
        Ok(found)
    } else {
        Err(wrong)
    }
}

/// The compose file that the short form stands for.
///
/// Errors: what cannot be written into one.
fn compose_of(form: &Form) -> Result<String, Vec<String>> {
    let number = |name: &str| {
        form.text(name)
            .chars()
            .filter(|c| c.is_ascii_digit())
            .take(5)
            .collect::<String>()
    };
    let replicas = number("replicas");
    let port = number("port");
    let mut text = format!(
        "name: {}\nservices:\n  web:\n    image: {}\n",
        quoted(form.text("name")),
        quoted(form.text("image"))
    );
    if !port.is_empty() {
        text.push_str(&format!("    ports: [\"{port}\"]\n"));
    }
    let variables = variables(form.exact("variables"))?;
    if !variables.is_empty() {
        text.push_str("    environment:\n");
        for (name, value) in variables {
            text.push_str(&format!("      {}: {}\n", quoted(name), verbatim(value)));
        }
    }
    let check = form.text("check");
    if !check.is_empty() {
        let interval = match form.text("interval") {
            "" => "30s",
            said => said,
        };
        text.push_str(&format!(
            "    healthcheck:\n      test: [CMD-SHELL, {}]\n      interval: {}\n",
            verbatim(check),
            quoted(interval)
        ));
    }
    text.push_str(&format!(
        "    deploy:\n      replicas: {}\n      resources:\n        limits: {{ cpus: {}, memory: {} }}\n",
        if replicas.is_empty() { "1" } else { &replicas },
        quoted(form.text("cpus")),
        quoted(form.text("memory")),
    ));
    Ok(text)
}

/// Whether a registry may be asked on a stranger's word: one with a name. That the name leads to
/// nothing inside is seen to where it is connected to.
fn is_named(reference: &str) -> Result<(), String> {
    let normalised = images::normalise(reference).map_err(|e| e.to_string())?;
    let registry = normalised.split('/').next().unwrap_or("");
    if matches!(registry, NETWORK_REGISTRY | "docker.io") {
        return Ok(());
    }
    let name = registry.split(':').next().unwrap_or("");
    if name.parse::<IpAddr>().is_ok() || registry.starts_with('[') || !name.contains('.') {
        return Err(format!(
            "{reference}: this portal asks public registries only; deploy it with `runrig up`"
        ));
    }
    Ok(())
}

/// The digest behind a reference: among the account's own images first, then anybody's.
async fn resolve(app: &App, login: &Login, reference: &str) -> Result<ImageRef, String> {
    let (signing, client) = (login.key.clone(), login.client(app));
    let access = Access {
        network: Some(app.client.url().to_string()),
        signer: Some(std::sync::Arc::new(move |method: &str, path: &str| {
            let auth = client.signed(&signing, method, path);
            (api::RequestAuth::HEADER.to_string(), auth)
        })),
        credentials: Credentials::default(),
        public_only: true,
    };
    is_named(reference)?;
    let first = reference.split('/').next().unwrap_or(reference);
    let names_registry = reference.contains('/') && first.contains(['.', ':']);
    if !names_registry {
        let account = login.account();
        let own = format!("{NETWORK_REGISTRY}/{account}/{reference}");
        if let Ok(found) = images::resolve(&own, &access).await {
            return Ok(found);
        }
    }
    images::resolve(reference, &access)
        .await
        .map_err(|e| e.to_string())
}

/// A compose file without anything beside it.
pub(super) fn parse(text: &str) -> Result<manifest::Project, manifest::Problems> {
    manifest::read(manifest::Inputs {
        files: vec![manifest::Source {
            name: "compose.yaml",
            text,
        }],
        environment: BTreeMap::new(),
        project: None,
        profiles: Default::default(),
        directory: "",
        folder: &Nowhere,
    })
}

/// A compose file as a deployment, every image pinned; and its warnings.
///
/// `now`: the deployment as it is, if there is one: an image that the file names by the digest that it
/// has there is not looked up, and the readers of its logs stay.
pub(super) async fn read(
    app: &App,
    login: &Login,
    text: &str,
    now: Option<&DeploymentSpec>,
) -> Result<(DeploymentSpec, Vec<String>), Vec<String>> {
    let said = |problems: manifest::Problems| {
        problems
            .0
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let project = parse(text).map_err(said)?;
    if !project.files().is_empty() {
        return Err(vec!["This file mounts files beside it, which a text alone does not bring. Deploy it with `runrig up` in its folder.".into()]);
    }
    let warnings = project.warnings.iter().map(ToString::to_string).collect();
    let known = known_images(now);
    let mut pinned = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut sealed = BTreeMap::new();
    for (name, source) in project.secrets() {
        match source {
            SecretSource::Sealed(one) => {
                sealed.insert(name, one);
            }
            _ => wrong.push(format!(
                "The secret {name} is to be sealed first, which a page does not do. Deploy the file with `runrig up`."
            )),
        }
    }
    for reference in project.images() {
        if let Some(image) = known.get(&reference) {
            pinned.insert(reference, image.clone());
            continue;
        }
        match resolve(app, login, &reference).await {
            Ok(image) => {
                pinned.insert(reference, image);
            }
            Err(why) => wrong.push(why),
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let mut spec = project
        .pin(&pinned, &BTreeMap::new(), &sealed)
        .map_err(said)?;
    // Copies of its logs are sealed to the key that reads them here.
    if !spec.logs.alone {
        spec.logs.copy_to = match now {
            Some(now) if !now.logs.copy_to.is_empty() => now.logs.copy_to.clone(),
            _ => vec![login.key.public()],
        };
    }
    Ok((spec, warnings))
}

/// What a deployment runs, by the names that its compose file has for it.
fn known_images(now: Option<&DeploymentSpec>) -> BTreeMap<String, ImageRef> {
    let services = now.into_iter().flat_map(|spec| spec.services.values());
    services
        .flat_map(|service| service.images())
        .map(|image| (manifest::pinned(image), image.clone()))
        .collect()
}

fn short_form(visitor: &Visitor, form: &Form) -> Markup {
    let value = |name: &str, otherwise: &'static str| match form.text(name) {
        "" => otherwise.to_string(),
        text => text.to_string(),
    };
    let input = |name: &str, value: String, max: u32| html! { input.in id=(name) name=(name) value=(value) maxlength=(max) required[!matches!(name, "port" | "check" | "interval")] spellcheck="false" autocapitalize="none"; };
    html! {
        form method="post" action="/jobs/new" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            input type="hidden" name="from" value="image";
            div.two {
                (field("name", "Name", input("name", value("name", ""), 40), "Small letters, digits and -", None))
                (field("image", "Image", input("image", value("image", ""), 300), "nginx:1.27, or your own in the network's registry", None))
            }
            div.two {
                (field("replicas", "Replicas", input("replicas", value("replicas", "1"), 4), "", None))
                (field("port", "Port in the container", input("port", value("port", ""), 5), "Empty if it answers nobody", None))
            }
            div.two {
                (field("cpus", "Cores for each", input("cpus", value("cpus", "0.25"), 6), "", None))
                (field("memory", "Memory for each", input("memory", value("memory", "128m"), 8), "", None))
            }
            (field("variables", "Variables", html! {
                textarea id="variables" name="variables" rows="4" maxlength="20000" spellcheck="false" autocapitalize="none" aria-describedby="variables-hint" { (form.exact("variables")) }
            }, "One a line: NAME=VALUE, as it stands. Whoever reads the ledger reads them: what is secret is deployed with the command line.", None))
            div.two {
                (field("check", "Health check", input("check", value("check", ""), 500), "A command in the container that ends with 0 while it is well: wget -qO- localhost:8080/healthz. Empty: the image's own", None))
                (field("interval", "Checked every", input("interval", value("interval", "30s"), 8), "", None))
            }
            button.btn.primary name="act" value="quote" { (icon("coins")) "Show the price" }
        }
    }
}

/// What a release comes to, and what can be done about it if it fits.
pub(super) fn price(quote: &api::Quote, warnings: &[String], then: Markup) -> Markup {
    html! {
        section.card {
            header { div { h2 { "Price" } p.sub { "By the ledger, which tried it out on a copy of its state" } } div.more { @if quote.refusal.is_none() { (badge(Tone::Ok, "Fits now")) } @else { (badge(Tone::Bad, "Refused")) } } }
            @for warning in warnings { (alert(Tone::Warn, html! { p { (warning) } })) }
            @if let Some(refusal) = &quote.refusal { (alert(Tone::Bad, html! { p.strong { (refusal.why) } p { (refusal.next) } })) }
            @if !quote.places.is_empty() {
                p.sentence { (credits(quote.asked_hour)) " credits an hour where it would be placed now, when everything is fully used." }
                dl.facts { @for (host, milli) in quote.hosts().into_iter().take(8) { dt { (host) } dd { "asks " (words::percent(milli)) " of the network's rates" } } }
            }
            p.sentence { "At most " (credits(quote.total_hour)) " credits an hour wherever it goes: the ceiling. You pay for what is used." }
            dl.facts {
                dt { "Transfer" } dd { (credits(quote.transfer_gib)) " per GiB" }
                dt { "Held in escrow" } dd { (credits(quote.escrow)) " of " (credits(quote.balance)) " you have" }
                @for (service, change) in &quote.changes { dt { (service) } dd { (format!("{change:?}").to_lowercase()) } }
            }
            div.tablewrap tabindex="0" { table {
                thead { tr { th { "Service" } th { "Resource" } th.num { "Credits an hour" } } }
                tbody { @for line in &quote.lines { tr { td { (line.service) " × " (line.replicas) } td { (line.resource.name()) } td.num.mono { (line.amount_hour) } } } }
            } }
            @if quote.refusal.is_none() { (then) }
        }
    }
}

fn quote_card(visitor: &Visitor, text: &str, quote: &api::Quote, warnings: &[String]) -> Markup {
    price(
        quote,
        warnings,
        html! {
            form method="post" action="/jobs/new" {
                input type="hidden" name="csrf" value=(visitor.form_token());
                input type="hidden" name="act" value="deploy";
                input type="hidden" name="compose" value=(text);
                input type="hidden" name="max" value=(quote.total_hour);
                p.foot-note { "It is refused if it would cost more than this by then." }
                button.btn.primary.wide { (icon("rocket")) "Deploy" }
            }
        },
    )
}

async fn page(
    app: &App,
    visitor: &Visitor,
    form: &Form,
    text: &str,
    short: bool,
    found: Found,
    status: StatusCode,
) -> Page {
    let content = html! {
        div.pagehead {
            div { h1 { "Create a job" } p.sub { "Nothing starts before you have seen the price." } }
            div.acts { nav.seg aria-label="Made from" {
                a href="/jobs/new" aria-current=[(!short).then_some("true")] { "Compose file" }
                a href="/jobs/new?from=image" aria-current=[short.then_some("true")] { "Image" }
            } }
        }
        (super::jobs::tabs("/jobs/new"))
        @if let Found::Wrong(problems) = &found {
            (alert(Tone::Bad, html! { p.strong { (words::plural(problems.len() as u64, "problem", "problems")) "; nothing was changed" } @for problem in problems { p { (problem) } } }))
        }
        div.grid {
            section class={ "card " (if matches!(found, Found::Quoted { .. }) { "s6" } else { "s12" }) } {
                @if short { (short_form(visitor, form)) }
                @else {
                    form method="post" action="/jobs/new" {
                        input type="hidden" name="csrf" value=(visitor.form_token());
                        div.field {
                            label.lab for="compose" { "Compose file" }
                            @if matches!(found, Found::Nothing) { (examples::links(text)) }
                            textarea id="compose" name="compose" rows="18" maxlength="200000" spellcheck="false" required aria-invalid=[matches!(found, Found::Wrong(_)).then_some("true")] { (text) }
                            span.hint { "As it is: images are pinned to the digests that they have now. A key that is not supported is named, never ignored." }
                        }
                        button.btn.primary name="act" value="quote" { (icon("coins")) "Show the price" }
                    }
                }
            }
            @if let Found::Quoted { quote, warnings } = &found { div.s6 { (quote_card(visitor, text, quote, warnings)) } }
        }
        (cli("runrig up -f compose.yaml"))
    };
    let mut response = ui::page(app, visitor, Place::Jobs, "Create a job", content).await;
    *response.status_mut() = status;
    Ok(response)
}

/// `GET /jobs/new`
pub async fn form(State(app): State<App>, visitor: Visitor, Query(from): Query<From>) -> Page {
    visitor.login()?;
    let short = from.from.as_deref() == Some("image");
    let example = from.example.as_deref().and_then(Example::find);
    page(
        &app,
        &visitor,
        &Form::default(),
        example.unwrap_or(&examples::ALL[0]).compose,
        short,
        Found::Nothing,
        StatusCode::OK,
    )
    .await
}

/// `POST /jobs/new`: a quote, or the deployment.
pub async fn submit(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let short = form.text("from") == "image";
    let text = match short {
        true => compose_of(&form),
        false => Ok(form.exact("compose").to_string()),
    };
    let shown = text.clone().unwrap_or_default();
    let read = match text {
        Ok(text) => read(&app, login, &text, None).await,
        Err(wrong) => Err(wrong),
    };
    let (spec, warnings) = match read {
        Ok(read) => read,
        Err(wrong) => {
            return page(
                &app,
                &visitor,
                &form,
                &shown,
                short,
                Found::Wrong(wrong),
                StatusCode::UNPROCESSABLE_ENTITY,
            )
            .await;
        }
    };
    if form.text("act") == "deploy" {
        return deploy(&app, login, spec, form.text("max").parse().ok()).await;
    }
    let request = api::QuoteRequest {
        owner: login.account(),
        spec,
    };
    let quote = Box::new(app.client.quote(&request).await?);
    page(
        &app,
        &visitor,
        &form,
        &shown,
        short,
        Found::Quoted { quote, warnings },
        StatusCode::OK,
    )
    .await
}

async fn deploy(app: &App, login: &Login, spec: DeploymentSpec, max: Option<Amount>) -> Page {
    let project = spec.project.clone();
    let call = Deployments::Deploy {
        spec,
        price_max_hour: max,
    };
    login.submit(app, ledger::Call::Deployment(call)).await?;
    Ok(Redirect::to(&format!("/jobs/{project}")).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_form_cannot_break_out_of_its_file() {
        let form = Form::read(
            b"name=a%22%0Aservices%3A&image=x%22%7D%0A&replicas=2&port=80%0Ax&cpus=0.5&memory=64m",
        );
        let text = compose_of(&form).expect("a file");
        assert!(text.contains("ports: [\"80\"]"), "{text}");
        assert_eq!(
            text.lines().filter(|l| l.starts_with("services:")).count(),
            1,
            "{text}"
        );
    }

    #[test]
    fn variables_and_a_check_arrive_as_they_were_typed() {
        let form = Form::read(
            b"name=a&image=nginx&cpus=1&memory=64m&check=test+%22%24UP%22&interval=5s\
              &variables=A%3D1%0D%0A%0D%0Aodd+key%3D%22x%22%3A+%24HOME+%23%3D%0D%0AEMPTY%3D",
        );
        let text = compose_of(&form).expect("a file");
        let project = parse(&text).unwrap_or_else(|e| panic!("{e:?}: {text}"));
        let web = &project.services["web"].spec;
        let said: Vec<(&str, &str)> = web
            .environment
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        assert_eq!(
            said,
            [("A", "1"), ("EMPTY", ""), ("odd key", "\"x\": $HOME #=")]
        );
        let check = web.healthcheck.as_ref().expect("a check");
        assert_eq!(check.test.last().map(String::as_str), Some("test \"$UP\""));
        assert_eq!(check.interval_ms, 5_000);
    }

    #[test]
    fn what_is_no_variable_is_named_by_its_line() {
        let wrong = variables("A=1\n\nsecret\n=x\nA=2").expect_err("three");
        assert_eq!(wrong.len(), 3);
        assert!(wrong[0].contains("line 3"), "{wrong:?}");
        assert!(wrong[2].contains("A is there twice"), "{wrong:?}");
        let form = Form::read(b"name=a&image=x&variables=nothing");
        assert!(compose_of(&form).is_err());
        assert_eq!(variables(""), Ok(BTreeMap::new()));
    }

    #[test]
    fn what_runs_is_known_by_its_digest() {
        let spec = crate::hostile_tests::deployment(Default::default()).spec;
        let known = known_images(Some(&spec));
        for service in spec.services.values() {
            let named = manifest::pinned(&service.image);
            assert_eq!(known.get(&named), Some(&service.image));
        }
        assert!(known_images(None).is_empty());
    }

    #[test]
    fn registries_inside_are_not_asked() {
        for reference in [
            "127.0.0.1:5000/a",
            "localhost:22/a",
            "[::1]:80/a",
            "10.0.0.1/a/b",
            "registry:5000/a",
        ] {
            assert!(is_named(reference).is_err(), "{reference}");
        }
        assert!(is_named("nginx:1.27").is_ok());
        assert!(is_named("registry.runrig/abc/x").is_ok());
    }
}
