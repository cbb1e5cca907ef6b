//! How-tos: the texts of `docs/how-to`, as they are written.

use axum::extract::{Path, State};
use maud::html;

use super::shown;
use crate::app::App;
use crate::ui::{Place, cli, crumbs, icon};
use crate::web::{Page, Trouble, Visitor};

macro_rules! texts {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../../docs/how-to/", $name, ".md")))),*]
    };
}

/// In the order in which people need them: the name in an address, and the text.
const TEXTS: &[(&str, &str)] = texts! {
    "deploy" "logs" "releases" "volumes" "secrets" "builds" "autoscale" "limits" "login" "passkeys"
    "space" "join" "price" "hours" "drain" "upgrade" "operate" "upgrade-validators" "https"
};

fn title(text: &str) -> &str {
    text.lines().next().unwrap_or("").trim_start_matches("# ")
}

/// `GET /docs`
pub async fn list(State(app): State<App>, visitor: Visitor) -> Page {
    let content = html! {
        div.pagehead { div { h1 { "How to" } p.sub { "Short texts, one for each thing to do; they are those of this version" } } }
        section.card {
            ul.feed { @for (name, text) in TEXTS {
                li { span.ic { (icon("book-open")) } div.tx { span { a href=(format!("/docs/{name}")) { (title(text)) } } } }
            } }
        }
        (cli("runrig help"))
    };
    shown(&app, &visitor, Place::Docs, "How to", content).await
}

/// `GET /docs/{name}`
pub async fn one(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let found = TEXTS.iter().find(|(known, _)| *known == name);
    let Some((_, text)) = found else {
        return Err(Trouble::missing("There is no such text"));
    };
    let (_, rest) = text.split_once('\n').unwrap_or((text, ""));
    let content = html! {
        (crumbs(&[("/docs", "How to")]))
        div.pagehead { div { h1 { (title(text)) } } }
        div.code.soft tabindex="0" { (rest.trim()) }
    };
    shown(&app, &visitor, Place::Docs, title(text), content).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_how_to_is_there() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/how-to");
        for entry in std::fs::read_dir(folder).expect("the folder") {
            let name = entry.expect("a file").file_name();
            let name = name.to_str().expect("text").trim_end_matches(".md");
            let known = name == "README" || TEXTS.iter().any(|(known, _)| *known == name);
            assert!(known, "{name}");
        }
        assert!(TEXTS.iter().all(|(_, text)| text.starts_with("# ")));
    }
}
