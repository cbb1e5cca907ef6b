//! Small parts: icons, badges, figures, fields, empty states.

use api::{AllocationView, JobRow};
use maud::{Markup, html};
use types::{Amount, Health, RunState};

use crate::web::{Lack, Visitor, url};

/// An icon of the sprite; says nothing to screen readers.
pub fn icon(name: &str) -> Markup {
    html! {
        svg class="i" aria-hidden="true" { use href=(format!("{}#{name}", url("icons.svg"))) {} }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    Plain,
    Ok,
    Info,
    Warn,
    Bad,
}

impl Tone {
    pub fn class(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }

    fn icon(self) -> &'static str {
        match self {
            Self::Ok => "circle-check",
            Self::Warn => "triangle-alert",
            Self::Bad => "circle-x",
            Self::Plain | Self::Info => "info",
        }
    }
}

pub fn badge(tone: Tone, text: &str) -> Markup {
    html! { span class={ "badge " (tone.class()) } { (text) } }
}

/// What stays on the page and can be selected: never a thing that fades.
pub fn alert(tone: Tone, content: Markup) -> Markup {
    let role = if tone == Tone::Bad { "alert" } else { "status" };
    html! {
        div class={ "alert " (tone.class()) } role=(role) { (icon(tone.icon())) div { (content) } }
    }
}

pub fn trouble(what: &str, why: &str, next: &str) -> Markup {
    html! {
        div.card {
            div.empty {
                div.ic { (icon("triangle-alert")) }
                h1 { (what) }
                p.wrap { (why) }
                @if !next.is_empty() { p.ink2.wrap { (next) } }
                a.btn href="/explorer" { (icon("search")) "Look around in the explorer" }
            }
        }
    }
}

/// Nothing here yet, and the one act that changes it.
pub fn empty(picture: &str, title: &str, words: &str, act: Option<(&str, &str)>) -> Markup {
    html! {
        div.empty {
            div.ic { (icon(picture)) }
            p.title { (title) }
            p { (words) }
            @if let Some((href, label)) = act { a.btn.primary href=(href) { (label) } }
        }
    }
}

/// Instead of a form, for whom his role keeps from it: what it takes, and who gives it.
pub fn no_right(lack: &Lack) -> Markup {
    html! {
        div.noright role="note" {
            (icon("key-round"))
            div {
                p.strong { "You may not " (lack.act) " for " (lack.account) }
                p {
                    @match lack.role {
                        Some(role) => { "You are " (role.name()) " there; this takes the role " (lack.right.roles()) ". " }
                        None => { "It gave you no role, or took it back; this takes the role " (lack.right.roles()) ". " }
                    }
                    "Its owners and admins give roles, under " a href="/members" { "Keys and members" } "."
                }
            }
        }
    }
}

/// Where a script draws: as large as what comes, which then takes its place.
pub fn skeleton(words: &str) -> Markup {
    html! {
        div.skeleton {
            svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true" {
                @for y in [20, 40, 60, 80] { line x1="0" x2="100" y1=(y) y2=(y) {} }
            }
            p role="status" { (words) }
            noscript { p { "What is drawn here needs scripts." } }
        }
    }
}

/// That what moves by itself stands still, and since when; hidden while it moves. The script shows it
/// when the stream is lost; `since_ms`: the network does not answer the portal itself.
pub fn stale(since_ms: Option<u64>) -> Markup {
    html! {
        div.alert.warn.stale-note role="status" data-stale hidden[since_ms.is_none()] {
            (icon("wifi-off"))
            div {
                p.strong { "Not live since " time { @match since_ms { Some(0) | None => { "it was opened" } Some(at) => { (words::utc(at)) " UTC" } } } }
                p { "The network, or the way to it, does not answer. What is shown is as it was then, and moves again by itself." }
            }
        }
    }
}

/// A form, or [`no_right`] for whom something lacks.
pub fn if_may(lack: Option<Lack>, form: impl FnOnce() -> Markup) -> Markup {
    match lack {
        Some(lack) => no_right(&lack),
        None => form(),
    }
}

fn unknown() -> Markup {
    html! { span.unknown { "not known" } }
}

/// A figure that matters, with what it was before.
pub struct Figure<'a> {
    pub label: &'a str,
    /// `None`: nobody has measured it.
    pub value: Option<String>,
    pub unit: &'a str,
    pub note: Markup,
    pub spark: Option<Markup>,
}

pub fn kpi(figure: Figure) -> Markup {
    html! {
        section.card.kpi.s3.keep6 {
            p.lab { (figure.label) }
            p.val {
                @match &figure.value {
                    Some(value) => { (value) @if !figure.unit.is_empty() { " " small { (figure.unit) } } }
                    None => { (unknown()) }
                }
            }
            p.note { (figure.note) }
            @if let Some(spark) = figure.spark { (spark) }
        }
    }
}

/// An amount to read at a glance; the exact one on hover and for copying.
pub fn credits(amount: Amount) -> Markup {
    html! { span.nowrap title=(format!("{amount} credits")) { (words::credits(amount)) } }
}

/// A time as its age, the moment itself on hover.
pub fn when(at_ms: u64, now_ms: u64) -> Markup {
    html! {
        time.nowrap title=(format!("{} UTC", words::utc(at_ms))) { (words::span(now_ms.saturating_sub(at_ms))) }
    }
}

pub fn image(reference: &str) -> Markup {
    html! { span.mono.second.clip title=(reference) { (words::image(reference)) } }
}

pub fn copy(text: &str, what: &str) -> Markup {
    html! {
        button.iconbtn type="button" data-copy=(text) aria-label=(format!("Copy {what}")) { (icon("copy")) }
    }
}

/// The same act on the command line.
pub fn cli(line: &str) -> Markup {
    html! {
        div.cli { (icon("terminal")) code tabindex="0" { (line) } (copy(line, "the command")) }
    }
}

/// Where a page lies: ancestors with their addresses.
pub fn crumbs(ancestors: &[(&str, &str)]) -> Markup {
    html! {
        nav.crumb aria-label="Path" {
            @for (at, (href, label)) in ancestors.iter().enumerate() {
                @if at > 0 { (icon("chevron-right")) }
                a href=(href) { (label) }
            }
        }
    }
}

/// State of a replica as a tone and a word.
pub fn status(view: &AllocationView) -> (Tone, &'static str) {
    let status = &view.status;
    match (status.state, status.health) {
        (RunState::Running, Health::Healthy) => (Tone::Ok, "Healthy"),
        (RunState::Running, Health::None) => (Tone::Ok, "Running"),
        (RunState::Running, Health::Starting) => (Tone::Info, "Starting"),
        (RunState::Running, Health::Unhealthy) => (Tone::Bad, "Unhealthy"),
        (RunState::Exited, _) if status.exit_code.is_some_and(|c| c != 0) => (Tone::Bad, "Exited"),
        (RunState::Exited, _) => (Tone::Plain, "Ended"),
        (RunState::Failed, _) => (Tone::Bad, "Failed"),
        (RunState::Frozen, _) => (Tone::Warn, "Frozen"),
        (RunState::Removed, _) => (Tone::Plain, "Removed"),
        (RunState::Restarting, _) => (Tone::Warn, "Restarting"),
        (RunState::Placed, _) => (Tone::Info, "Placed"),
        (RunState::Pulling, _) => (Tone::Info, "Pulling"),
        (RunState::Waiting, _) => (Tone::Info, "Waiting"),
        (RunState::Creating, _) => (Tone::Info, "Creating"),
    }
}

/// Replicas as dots, and how many of how many are ready.
pub fn replica_dots(job: &JobRow) -> Markup {
    let missing = u64::from(job.wanted).saturating_sub(job.live) as usize;
    let room = JobRow::REPLICAS_MAX.saturating_sub(job.replicas.len());
    html! {
        span.nowrap {
            span.replicas aria-hidden="true" {
                @for one in &job.replicas {
                    i class=(match status(one).0 { Tone::Ok => "ok", Tone::Bad => "bad", Tone::Info => "wait", _ => "" }) {}
                }
                @for _ in 0..missing.min(room) { i.none {} }
            }
            span.ink2 { (job.ready) "/" (job.wanted) }
        }
    }
}

/// One line of a list of happenings.
pub fn feed(picture: &str, words: &str, second: Markup, amount: Option<Markup>) -> Markup {
    html! {
        li {
            span.ic { (icon(picture)) }
            div.tx { span.wrap { (words) } span.second { (second) } }
            @if let Some(amount) = amount { span.amt { (amount) } }
        }
    }
}

/// A labelled field with its hint and what is wrong with it.
pub fn field(id: &str, label: &str, input: Markup, hint: &str, wrong: Option<&str>) -> Markup {
    html! {
        div.field {
            label.lab for=(id) { (label) }
            (input)
            @if let Some(wrong) = wrong {
                span.err id=(format!("{id}-error")) { (icon("circle-x")) span { (wrong) } }
            } @else if !hint.is_empty() {
                span.hint id=(format!("{id}-hint")) { (hint) }
            }
        }
    }
}

/// A form that is only a button.
pub fn submit(visitor: &Visitor, action: &str, class: &str, content: Markup) -> Markup {
    html! {
        form.inline method="post" action=(action) {
            input type="hidden" name="csrf" value=(visitor.form_token());
            button class={ "btn " (class) } { (content) }
        }
    }
}

/// Where the rest of a list by time is.
pub fn pager(shown: &str, first: Option<&str>, next: Option<&str>) -> Markup {
    pages(shown, ("Newest", first), ("Older", next))
}

/// Where the rest of any other list is.
pub fn turner(shown: &str, before: Option<&str>, after: Option<&str>) -> Markup {
    pages(shown, ("Before", before), ("After", after))
}

fn pages(shown: &str, back: (&str, Option<&str>), on: (&str, Option<&str>)) -> Markup {
    html! {
        nav.pager aria-label="Pages" {
            span { (shown) }
            span.acts {
                @if let (label, Some(href)) = back { a.btn.small href=(href) { (icon("chevron-left")) (label) } }
                @if let (label, Some(href)) = on { a.btn.small href=(href) { (label) (icon("chevron-right")) } }
            }
        }
    }
}
