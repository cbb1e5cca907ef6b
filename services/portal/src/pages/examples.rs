//! Compose files to begin with: one click on the first page, and Create is filled in.

use maud::{Markup, html};

use crate::ui::icon;

pub struct Example {
    pub name: &'static str,
    title: &'static str,
    says: &'static str,
    icon: &'static str,
    pub compose: &'static str,
}

/// All from public registries.
pub const ALL: [Example; 3] = [
    Example {
        name: "site",
        title: "A web page",
        says: "nginx, two copies on two hosts, one address.",
        icon: "globe",
        compose: include_str!("examples/site.yaml"),
    },
    Example {
        name: "whoami",
        title: "Who answers?",
        says: "Three copies; each says which of them it is. Stop one and look again.",
        icon: "boxes",
        compose: include_str!("examples/whoami.yaml"),
    },
    Example {
        name: "watch",
        title: "Watch your sites",
        says: "Uptime Kuma, with a volume that keeps what it saw.",
        icon: "hard-drive",
        compose: include_str!("examples/watch.yaml"),
    },
];

impl Example {
    pub fn find(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|example| example.name == name)
    }

    fn create(&self) -> String {
        format!("/jobs/new?example={}", self.name)
    }
}

/// Links that fill Create in, where `text` stands now.
pub fn links(text: &str) -> Markup {
    html! {
        p.examples {
            span.dim { "Begin with " }
            @for example in &ALL {
                a.chip href=(example.create()) aria-current=[(text == example.compose).then_some("true")] { (icon(example.icon)) (example.title) }
            }
        }
    }
}

/// For who has no account yet: it comes between.
pub fn cards() -> Markup {
    html! {
        @for example in &ALL {
            section.card.s4 {
                span.disc aria-hidden="true" { (icon(example.icon)) }
                h2.step { (example.title) }
                p.ink2 { (example.says) }
                div.row { a.btn href={ "/signup?next=" (example.create()) } { (icon("play")) "Run this" span.sr { ": " (example.title) } } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_example_is_a_file_without_a_warning() {
        for example in &ALL {
            let project = crate::pages::deploy::parse(example.compose)
                .unwrap_or_else(|wrong| panic!("{}: {wrong:?}", example.name));
            assert!(
                project.warnings.is_empty(),
                "{}: {:?}",
                example.name,
                project.warnings
            );
            assert!(project.files().is_empty(), "{}", example.name);
        }
    }
}
