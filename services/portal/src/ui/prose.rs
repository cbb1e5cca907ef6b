//! Text that people wrote for a page, in a markup so small that nothing can be meant by it but text.
//!
//! An empty line ends a paragraph; lines that begin with `# ` are headings, with `- ` items of a
//! list; `[words](https://address)` and bare addresses are links. Everything else is as it stands.

use maud::{Markup, html};

const ADDRESS_BYTES_MAX: usize = 500;

enum Piece<'a> {
    Text(&'a str),
    Link { words: &'a str, address: &'a str },
}

/// `address`, if it leads to the web and shows where: no other scheme, nobody's name before the host's.
fn web_address(address: &str) -> Option<&str> {
    let rest = address
        .strip_prefix("https://")
        .or_else(|| address.strip_prefix("http://"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or("");
    let strange = |c: char| {
        c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"' | '\'' | '\\' | '`')
    };
    let of_host = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let fits = address.len() <= ADDRESS_BYTES_MAX
        && host.starts_with(|c: char| c.is_alphanumeric() || c == '[')
        && host.chars().all(of_host)
        && !address.contains(strange);
    fits.then_some(address)
}

/// Where the next `http://` or `https://` of a line is.
fn next_bare(line: &str) -> Option<usize> {
    [line.find("https://"), line.find("http://")]
        .into_iter()
        .flatten()
        .min()
}

/// `[words](address)` at the beginning of `line`, and what follows.
fn bracketed(line: &str) -> Option<(Piece<'_>, &str)> {
    let (words, rest) = line.strip_prefix('[')?.split_once("](")?;
    let (address, rest) = rest.split_once(')')?;
    let link = Piece::Link {
        words: words.trim(),
        address: web_address(address)?,
    };
    let readable = !words.trim().is_empty() && !words.contains('[');
    readable.then_some((link, rest))
}

fn pieces(line: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let (mut rest, mut from) = (line, 0);
    loop {
        let ahead = &rest[from..];
        let bracket = ahead.find('[');
        let bare = next_bare(ahead);
        let Some(at) = [bracket, bare].into_iter().flatten().min() else {
            break;
        };
        let at = from + at;
        let found = if bracket.is_some_and(|b| from + b == at) {
            bracketed(&rest[at..])
        } else {
            let end = rest[at..]
                .find(char::is_whitespace)
                .unwrap_or(rest.len() - at);
            // What ends a sentence ends the address too.
            let address = rest[at..at + end].trim_end_matches(['.', ',', ';', ':', '!', '?', ')']);
            let link = web_address(address);
            link.map(|address| {
                let words = address;
                (Piece::Link { words, address }, &rest[at + address.len()..])
            })
        };
        match found {
            Some((link, after)) => {
                pieces.push(Piece::Text(&rest[..at]));
                pieces.push(link);
                (rest, from) = (after, 0);
            }
            // It is text: on from its first character, which is one byte.
            None => from = at + 1,
        }
    }
    pieces.push(Piece::Text(rest));
    pieces
}

fn line(text: &str) -> Markup {
    html! {
        @for piece in pieces(text) {
            @match piece {
                Piece::Text(text) => { (text) }
                Piece::Link { words, address } => { a href=(address) rel="noopener nofollow noreferrer" { (words) } }
            }
        }
    }
}

enum Block<'a> {
    Heading(&'a str),
    List(Vec<&'a str>),
    Paragraph(Vec<&'a str>),
}

fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut open = false;
    for line in text.lines().map(str::trim) {
        let last = blocks.last_mut().filter(|_| open);
        open = true;
        match (line.strip_prefix("# "), line.strip_prefix("- "), last) {
            _ if line.is_empty() => open = false,
            (Some(heading), _, _) => blocks.push(Block::Heading(heading)),
            (_, Some(item), Some(Block::List(items))) => items.push(item),
            (_, Some(item), _) => blocks.push(Block::List(vec![item])),
            (_, _, Some(Block::Paragraph(lines))) => lines.push(line),
            _ => blocks.push(Block::Paragraph(vec![line])),
        }
    }
    blocks
}

/// What a stranger wrote, as a part of a page under a heading of the first order.
pub fn prose(text: &str) -> Markup {
    html! {
        div.prose {
            @for block in blocks(text) {
                @match block {
                    Block::Heading(text) => { h2 { (line(text)) } }
                    Block::List(items) => { ul { @for item in items { li { (line(item)) } } } }
                    Block::Paragraph(lines) => { p { @for (at, text) in lines.iter().enumerate() { @if at > 0 { br; } (line(text)) } } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        prose(text).into_string()
    }

    #[test]
    fn the_little_there_is() {
        let rel = "rel=\"noopener nofollow noreferrer\"";
        for (text, expected) in [
            ("", String::new()),
            (
                "# We\nprint.\nDaily.\n\nYes",
                "<h2>We</h2><p>print.<br>Daily.</p><p>Yes</p>".into(),
            ),
            (
                "- a\n- b\n\n- c",
                "<ul><li>a</li><li>b</li></ul><ul><li>c</li></ul>".into(),
            ),
            (
                "See [our site](https://a.example/x?y=1&z).",
                format!("<p>See <a href=\"https://a.example/x?y=1&amp;z\" {rel}>our site</a>.</p>"),
            ),
            (
                "(http://a.example/b), and",
                format!(
                    "<p>(<a href=\"http://a.example/b\" {rel}>http://a.example/b</a>), and</p>"
                ),
            ),
            ("[a] [b](c) ] ](", "<p>[a] [b](c) ] ](</p>".into()),
        ] {
            assert_eq!(
                of(text),
                format!("<div class=\"prose\">{expected}</div>"),
                "{text}"
            );
        }
    }

    #[test]
    fn nothing_else_is_a_link() {
        for text in [
            "[x](javascript:alert(1))",
            "[x](JAVASCRIPT:alert(1))",
            "[x](data:text/html,x)",
            "[x](//evil.example)",
            "[x](/settings)",
            "[x](https://)",
            "[x](https:///evil.example)",
            "[x](https://bank.example@evil.example)",
            "[x](https://a.example/\"onmouseover=x)",
            "[](https://a.example)x]",
            "http://",
            "ftp://a.example",
        ] {
            let made = of(text);
            assert!(!made.contains("href"), "{made}");
        }
        let long = format!("https://a.example/{}", "a".repeat(500));
        assert!(!of(&long).contains("href"));
        let evil = of("<script>x</script> [<b>](https://a.example) \u{1f9ed}[\u{1f9ed}");
        assert!(!evil.contains("<script") && !evil.contains("<b>"), "{evil}");
    }
}
