//! How-tos: the texts of `docs/how-to`, which are Markdown.

use axum::extract::{Path, State};
use maud::{Markup, PreEscaped, html};
use pulldown_cmark::{CowStr, Event, Options, Parser, Tag, TagEnd};

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

/// Where a link of these texts leads on a portal: to another of them, or into the web; `None`: to a file
/// that no portal has.
fn leads(to: &str) -> Option<String> {
    if to.starts_with("https://") {
        return Some(to.into());
    }
    let (file, part) = to.split_once('#').unwrap_or((to, ""));
    let name = file.strip_suffix(".md")?;
    let known = TEXTS.iter().any(|(known, _)| *known == name);
    let part = if part.is_empty() {
        ""
    } else {
        &to[file.len()..]
    };
    known.then(|| format!("/docs/{name}{part}"))
}

/// A text of this repository: what is HTML in it stays HTML.
fn rendered(text: &str) -> Markup {
    // Links never lie in one another.
    let mut linked = true;
    let events = Parser::new_ext(text, Options::ENABLE_TABLES).filter_map(|event| match event {
        Event::Start(Tag::Link {
            link_type,
            dest_url,
            title,
            id,
        }) => {
            let to = leads(&dest_url);
            linked = to.is_some();
            to.map(|to| {
                Event::Start(Tag::Link {
                    link_type,
                    dest_url: to.into(),
                    title,
                    id,
                })
            })
        }
        Event::End(TagEnd::Link) => linked.then_some(event),
        // Whoever has no mouse scrolls it, too.
        Event::Start(Tag::CodeBlock(_)) => Some(raw("<pre class=\"code\" tabindex=\"0\">")),
        Event::End(TagEnd::CodeBlock) => Some(raw("</pre>")),
        other => Some(other),
    });
    let mut page = String::new();
    pulldown_cmark::html::push_html(&mut page, events);
    PreEscaped(page)
}

fn raw(html: &'static str) -> Event<'static> {
    Event::Html(CowStr::Borrowed(html))
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
        section.card { div.prose.laid { (rendered(rest)) } }
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

    #[test]
    fn a_text_is_laid_out_and_its_links_lead_somewhere() {
        let page = rendered(
            "Do [this](drain.md#now) or [that](../rfd/0001.md), see <https://runrig.example>:\n\n```console\n$ a < b\n```\n\n- `one`\n",
        );
        assert_eq!(
            page.into_string(),
            "<p>Do <a href=\"/docs/drain#now\">this</a> or that, see \
             <a href=\"https://runrig.example\">https://runrig.example</a>:</p>\n\
             <pre class=\"code\" tabindex=\"0\">$ a &lt; b\n</pre>\n<ul>\n<li><code>one</code></li>\n</ul>\n"
        );
        for (name, text) in TEXTS {
            let page = rendered(text).into_string();
            assert!(!page.contains(".md\""), "{name} leads to a file");
        }
    }
}
