//! How an organisation's space looks and who sees what of it: one form, for who rules there.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use sdk::JobQuery;
use types::AccountId;

use super::super::auth::is_handle;
use super::super::slowly;
use crate::app::App;
use crate::colour::Colour;
use crate::limits::Act;
use crate::people::{APPS_MAX, Audience, Books, Login, NAMED_MAX, Organisation, Space, SpaceApp};
use crate::ui::{self, Place, Tone, alert, badge, crumbs, empty, field, icon};
use crate::web::{Form, Page, Right, Trouble, Visitor, certain};

const NAME_CHARS_MAX: usize = 60;
const HOME_CHARS_MAX: usize = 4_000;
const TITLE_CHARS_MAX: usize = 60;
/// Fields of one project begin so.
const AUDIENCE: &str = "app_";
const TITLE: &str = "title_";
/// A project that is not listed.
const ANOTHER: &str = "another";

fn organisation(login: &Login) -> Result<&Organisation, Trouble> {
    login.organisation.as_ref().ok_or_else(|| {
        Trouble::new(
            StatusCode::NOT_FOUND,
            "A space is an organisation’s",
            "These pages are those of a personal account, or of a company of another portal.",
            "Choose a company above the menu, or sign up for one.",
        )
    })
}

/// Marks that turn what stands after them around, so that it reads as something else.
fn is_strange(c: char) -> bool {
    c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Bounds: see the constants above. Errors: what is wrong, as words for people.
fn read(form: &Form, of: &Organisation) -> Result<Space, String> {
    let one_line = |text: &str| -> String { text.chars().filter(|c| !is_strange(*c)).collect() };
    let name = one_line(form.text("name")).trim().to_string();
    if name.is_empty() || name.chars().count() > NAME_CHARS_MAX {
        return Err(format!("A name has 1 to {NAME_CHARS_MAX} characters."));
    }
    let colour: Colour = form
        .text("colour")
        .parse()
        .map_err(|error| format!("Choose a colour: {error}."))?;
    let home: String = form.text("home").replace("\r\n", "\n");
    let home: String = home
        .chars()
        .filter(|c| *c == '\n' || !is_strange(*c))
        .collect();
    if home.chars().count() > HOME_CHARS_MAX {
        return Err(format!(
            "The home page has at most {HOME_CHARS_MAX} characters."
        ));
    }
    let books = Books::parse(form.text("books")).ok_or("Choose to whom the books are open.")?;
    let split = |c: char| c.is_whitespace() || c == ',';
    let named: Vec<String> = form
        .text("named")
        .split(split)
        .map(|one| one.trim_start_matches('@').to_lowercase())
        .filter(|one| !one.is_empty())
        .collect();
    if named.len() > NAMED_MAX {
        return Err(format!("The books name at most {NAMED_MAX}."));
    }
    let is_account = |one: &str| one.parse::<types::AccountId>().is_ok();
    if let Some(wrong) = named.iter().find(|one| !is_handle(one) && !is_account(one)) {
        let wrong: String = wrong.chars().take(40).collect();
        return Err(format!(
            "{wrong} is neither a handle nor an account of 40 characters."
        ));
    }
    let mut apps: Vec<SpaceApp> = Vec::new();
    let listed = form.fields().filter_map(|(field, audience)| {
        let project = field.strip_prefix(AUDIENCE)?;
        Some((project, Audience::parse(audience)?))
    });
    // Of an account with many jobs not all are listed.
    let another = form.text(ANOTHER).trim();
    let another = Some((another, Audience::Members)).filter(|(name, _)| !name.is_empty());
    for (project, audience) in listed.chain(another) {
        if apps.iter().any(|one| one.project == project) {
            continue;
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if project.is_empty() || project.len() > 63 || !project.chars().all(plain) {
            return Err("A project’s name cannot be read.".into());
        }
        let title = one_line(form.text(&format!("{TITLE}{project}")));
        if title.chars().count() > TITLE_CHARS_MAX {
            return Err(format!("A title has at most {TITLE_CHARS_MAX} characters."));
        }
        apps.push(SpaceApp {
            project: project.to_string(),
            title: title.trim().to_string(),
            audience,
        });
    }
    if apps.len() > APPS_MAX {
        return Err(format!("A space shows at most {APPS_MAX} apps."));
    }
    apps.sort_by_key(|one: &SpaceApp| one.title().to_lowercase());
    Ok(Space {
        account: of.account,
        handle: of.handle.clone(),
        name,
        colour,
        home,
        books,
        named,
        apps,
    })
}

/// A colour as the accent that it becomes: a button's ground with its text.
fn sample(label: &str, accent: crate::colour::Accent, ground: &str) -> Markup {
    html! {
        svg.sample viewBox="0 0 132 46" role="img" aria-label=(format!("{label}: {}", accent.colour)) {
            rect width="132" height="46" rx="9" fill=(ground) {}
            rect x="9" y="9" width="66" height="28" rx="7" fill=(accent.colour) {}
            text x="42" y="28" text-anchor="middle" fill=(accent.ink) { (label) }
            text x="103" y="28" text-anchor="middle" fill=(accent.colour) { "Link" }
        }
    }
}

/// What a form says of itself: as it was sent, else as it is kept.
struct Draft<'a> {
    form: &'a Form,
    kept: Option<&'a Space>,
}

impl Draft<'_> {
    fn of(&self, name: &str, kept: impl Fn(&Space) -> String, else_: &str) -> String {
        match self.kept {
            _ if self.form.has(name) => self.form.exact(name).to_string(),
            Some(space) => kept(space),
            None => else_.to_string(),
        }
    }
}

fn app_rows(draft: &Draft, projects: &BTreeMap<String, bool>) -> Markup {
    let app = |project: &str| {
        let apps = draft.kept.map_or(&[][..], |space| &space.apps);
        apps.iter().find(|one| one.project == project)
    };
    html! {
        div.tablewrap { table.cards {
            thead { tr { th { "Project" } th { "Shown as" } th { "To" } } }
            tbody { @for (project, deployed) in projects {
                @let (seen, title) = (format!("{AUDIENCE}{project}"), format!("{TITLE}{project}"));
                @let audience = draft.of(&seen, |_| app(project).map_or("none", |a| a.audience.name()).into(), "none");
                tr {
                    td.wrap { span.strong { (project) } @if !deployed { " " (badge(Tone::Plain, "Not deployed")) } }
                    td data-l="Shown as" { input.in name=(title) value=(draft.of(&title, |_| app(project).map_or(String::new(), |a| a.title.clone()), "")) maxlength=(TITLE_CHARS_MAX) placeholder=(project) aria-label=(format!("Title of {project}")) autocomplete="off"; }
                    td data-l="To" { select.short name=(seen) aria-label=(format!("Who sees {project}")) {
                        option value="none" selected[audience == "none"] { "nobody" }
                        @for one in [Audience::Members, Audience::Everyone] { option value=(one.name()) selected[audience == one.name()] { (one.name()) } }
                    } }
                }
            } }
        } }
    }
}

/// Those of `shown` that are deployed, and the latest that are.
async fn deployed(
    app: &App,
    account: AccountId,
    shown: &[&str],
) -> Result<Vec<String>, sdk::SdkError> {
    let latest = JobQuery {
        count: Some(api::JobsView::ROWS_MAX),
        ..JobQuery::default()
    };
    let named = app.client.deployments_named(account, shown).await?;
    let latest = app.client.jobs(account, &latest).await?.rows;
    let named = named.into_iter().map(|one| one.project);
    Ok(named
        .chain(latest.into_iter().map(|one| one.project))
        .collect())
}

async fn shown(app: &App, visitor: &Visitor, form: &Form, wrong: Option<&str>) -> Page {
    let login = visitor.login()?;
    let of = organisation(login)?;
    let kept = app.people.space_of(of.account).await?;
    let draft = Draft {
        form,
        kept: kept.as_ref(),
    };
    let shown = kept.iter().flat_map(|space| &space.apps);
    let shown: Vec<&str> = shown.map(|one| one.project.as_str()).collect();
    let deployed = deployed(app, of.account, &shown).await;
    let silent = deployed.is_err();
    let mut projects: BTreeMap<String, bool> =
        shown.iter().map(|name| (name.to_string(), false)).collect();
    projects.extend(deployed.into_iter().flatten().map(|name| (name, true)));
    let name = draft.of("name", |s| s.name.clone(), &of.title);
    let colour = draft.of(
        "colour",
        |s| s.colour.to_string(),
        &Colour::OURS.to_string(),
    );
    let chosen: Colour = colour.parse().unwrap_or(Colour::OURS);
    let books = draft.of("books", |s| s.books.name().into(), Books::Members.name());
    let named = draft.of("named", |s| s.named.join(" "), "");
    let home = draft.of("home", |s| s.home.clone(), "");
    let address = format!("/o/{}", of.handle);
    let content = html! {
        (crumbs(&[("/settings", "Settings")]))
        div.pagehead {
            div { h1 { "Space of " (of.title) } p.sub { @if kept.is_some() { "Open at " a href=(address) { (address) } } @else { "Not open yet; it will be at " (address) ", for everyone" } } }
            @if kept.is_some() { div.acts { a.btn href=(address) { (icon("building-2")) "See it" } } }
        }
        @if let Some(wrong) = wrong { (alert(Tone::Bad, html! { p.strong { "Nothing was changed" } p { (wrong) } })) }
        form method="post" action="/settings/space" {
            input type="hidden" name="csrf" value=(visitor.form_token());
            input type="hidden" name="act" value="save";
            div.grid {
                section.card.s6 {
                    header { div { h2 { "Name and colour" } p.sub { "Members who act for it see both on every page" } } }
                    (field("name", "Name", html! { input.in id="name" name="name" value=(name) maxlength=(NAME_CHARS_MAX) required autocomplete="off" aria-describedby="name-hint"; }, "The handle always stands beside it", None))
                    (field("colour", "Colour", html! { input.in.colour id="colour" name="colour" type="color" value=(chosen) aria-describedby="colour-hint"; }, "Darkened in the light and lightened in the dark as far as it takes to be read", None))
                    div.row { (sample("Light", chosen.light(), "#ffffff")) (sample("Dark", chosen.dark(), "#14181a")) }
                }
                section.card.s6 {
                    header { div { h2 { "Books" } p.sub { "The sums of each month are open to all" } } }
                    fieldset {
                        legend.lab { "What each was for is open to" }
                        @for (one, words) in [(Books::Members, "Members only"), (Books::Named, "Members, and whom I name"), (Books::Everyone, "Everyone")] {
                            label.check { input type="radio" name="books" value=(one.name()) checked[books == one.name()]; span { (words) } }
                        }
                    }
                    (field("named", "Named", html! { input.in id="named" name="named" value=(named) maxlength="2200" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="named-hint"; }, "Handles or accounts, apart by spaces: an auditor, a sponsor. A handle opens them to whoever has it here; an account is surer", None))
                }
                section.card.s12 {
                    header { div { h2 { "Home page" } p.sub { "Plain text. An empty line ends a paragraph; # begins a heading, - an item; [words](https://…) is a link" } } }
                    div.field { label.sr for="home" { "Home page" } textarea id="home" name="home" rows="9" maxlength=(HOME_CHARS_MAX) { "\n" (home) } }
                }
                section.card.flush.s12 {
                    header { div { h2 { "Apps" } p.sub { "Which of its projects stand in the space, under which name, for whom" } } }
                    @if silent { div.in-card { (alert(Tone::Warn, html! { p { "The network does not answer: projects that are not shown yet are missing here." } })) } }
                    @if projects.is_empty() { (empty("rocket", "Nothing is deployed", "What the organisation runs can be shown here.", Some(("/jobs/new", "Create job")))) }
                    @else { (app_rows(&draft, &projects)) }
                    div.in-card { (field(ANOTHER, "Another project", html! { input.in id=(ANOTHER) name=(ANOTHER) value=(form.text(ANOTHER)) maxlength="63" autocomplete="off" autocapitalize="none" spellcheck="false" aria-describedby="another-hint"; }, "By its name, if it does not stand here: the latest hundred do. It is shown to members; title and audience can be changed then", None)) }
                    p.foot-note.in-card { "Members see them on their overview too. Whoever knows an app’s address can open it, shown or not." }
                }
            }
            button.btn.primary { (icon("check")) @if kept.is_some() { "Save" } @else { "Open the space" } }
        }
        @if kept.is_some() {
            div.gap { (submit_close(visitor)) }
        }
    };
    let mut response = ui::page(app, visitor, Place::Settings, "Space", content).await;
    if wrong.is_some() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}

fn submit_close(visitor: &Visitor) -> Markup {
    html! {
        details {
            summary { "Close the space" }
            p.ink2 { "Its address is nobody’s then, and what was written here is gone. Jobs and money stay as they are." }
            form method="post" action="/settings/space" {
                input type="hidden" name="csrf" value=(visitor.form_token());
                input type="hidden" name="act" value="close";
                button.btn.danger { "Close it" }
            }
        }
    }
}

/// `GET /settings/space`
pub async fn page(State(app): State<App>, visitor: Visitor) -> Page {
    shown(&app, &visitor, &Form::default(), None).await
}

/// `POST /settings/space`: `act` is `save` or `close`.
pub async fn save(State(app): State<App>, visitor: Visitor, form: Form) -> Page {
    let login = visitor.login()?;
    slowly(&app, Act::Submit, &login.person.handle)?;
    let of = organisation(login)?;
    // No ledger looks at it afterwards.
    certain(&app, login, Right::Rule).await?;
    if form.text("act") == "close" {
        app.people.close_space(of.account).await?;
        return Ok(Redirect::to("/settings/space").into_response());
    }
    match read(&form, of) {
        Ok(space) => {
            app.people.set_space(space).await?;
            Ok(Redirect::to(&format!("/o/{}", of.handle)).into_response())
        }
        Err(wrong) => shown(&app, &visitor, &form, Some(&wrong)).await,
    }
}
