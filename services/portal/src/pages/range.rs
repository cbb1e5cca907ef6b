//! How far back figures go: what there is to choose from, in an address and on the command line.

use maud::{Markup, html};

#[derive(Clone, Copy, Debug)]
pub struct Range {
    /// As an address has it.
    pub name: &'static str,
    pub title: &'static str,
    /// As the command line takes it.
    pub since: &'static str,
    pub hours: u64,
    /// Hours of one bar.
    pub step: u64,
}

const fn range(
    name: &'static str,
    title: &'static str,
    since: &'static str,
    hours: u64,
    step: u64,
) -> Range {
    Range {
        name,
        title,
        since,
        hours,
        step,
    }
}

pub const ALL: [Range; 4] = [
    range("24h", "24 hours", "24h", 24, 1),
    range("7d", "7 days", "7d", 24 * 7, 24),
    range("4w", "4 weeks", "28d", 24 * 28, 24),
    range("12m", "12 months", "366d", 24 * 366, 24 * 31),
];

impl Range {
    pub fn find(name: &str) -> Option<Self> {
        ALL.into_iter().find(|range| range.name == name)
    }

    /// A day, where none or none that there is was named.
    pub fn of(name: Option<&str>) -> Self {
        name.and_then(Self::find).unwrap_or(ALL[0])
    }

    pub fn since_ms(self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.hours * 3_600_000)
    }
}

/// All of them; `href` is an address whose query goes on with a range, `at` the one that is shown.
pub fn links(href: &str, at: &str) -> Markup {
    links_of(href, at, ALL.iter().map(|range| range.name))
}

/// As [`links`], of these names.
pub fn links_of(href: &str, at: &str, names: impl IntoIterator<Item = &'static str>) -> Markup {
    html! {
        nav.seg aria-label="Range" { @for name in names { a href=(format!("{href}range={name}")) aria-current=[(name == at).then_some("true")] { (name) } } }
    }
}
