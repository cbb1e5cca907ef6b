//! What strangers write, on every page, part, stream and file: it is text there and nothing else.
//!
//! A [`network`] that answers with [`EVIL`] wherever somebody else chose the words; the same in
//! every part of every address, in every query and every form. Each answer is taken apart: which
//! elements and attributes it has, where it leads, what browsers are told with it.

mod ledger;
mod network;
mod said;

use api::LogLine;
use reqwest::{Response, StatusCode};

pub(crate) use self::network::{Owner, deployment, host, network, space};
use crate::people::{Kind, Token};
use crate::role_tests::Grants;
use crate::routes;
use crate::tests::{EVIL, Site, filled, to};
use crate::web::{Who, escaped};

/// A portal of that network, and a company's cookie and form token there.
pub(crate) async fn stage() -> (Site, String, String) {
    let owner = Owner::default();
    let site = Site::on(network(owner.clone(), Grants::default()).await).await;
    let (cookie, token) = site.member("acme", Kind::Company).await;
    let session = cookie
        .strip_prefix("runrig_session=")
        .and_then(Token::parse);
    let login = site.app.people.login(&session.expect("a token")).await;
    let account = login.expect("read").expect("logged in").account();
    owner.set(account).expect("once");
    let space = space(account);
    site.app.people.set_space(space).await.expect("stored");
    ledger::tell(&site.app, account).await;
    (site, cookie, token)
}

/// Elements that pages are made of; what else stands after `<` came from somebody.
const ELEMENTS: &str = "a article aside b blockquote body br button caption circle code dd defs \
    details div dl dt ellipse em fieldset figcaption figure footer form g h1 h2 h3 head header hr \
    html i input kbd label legend li line link main meta nav noscript ol option p path polygon \
    polyline pre rect script section select small span strong sub summary sup svg symbol table \
    tbody td template text textarea tfoot th thead time title tr tspan ul use";

/// What is wrong with the elements of a page.
fn wrongs(html: &str) -> Vec<String> {
    let mut wrongs = Vec::new();
    for tag in html.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or((tag, ""));
        let name: String = tag
            .trim_start_matches(['/', '!'])
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        if name != "DOCTYPE" && !ELEMENTS.split_whitespace().any(|e| e == name) {
            wrongs.push(format!("element <{tag}>"));
        }
        if name == "script" && !tag.starts_with('/') && !tag.contains(" src=\"/a/") {
            wrongs.push(format!("inline <{tag}>"));
        }
        // Values stand in quotes, and have none of their own.
        let mut parts = tag.split('"');
        while let Some(before) = parts.next() {
            let attribute = before
                .trim_end_matches('=')
                .rsplit(' ')
                .next()
                .unwrap_or("");
            let value = parts.next().unwrap_or("").trim().to_lowercase();
            if attribute.starts_with("on") || matches!(attribute, "style" | "srcdoc") {
                wrongs.push(format!("attribute in <{tag}>"));
            }
            let leads = matches!(attribute, "href" | "src" | "action" | "formaction");
            let fits = ["/", "#", "http://", "https://", "udp://"];
            if leads && (!fits.iter().any(|f| value.starts_with(f)) || value.starts_with("//")) {
                wrongs.push(format!("address in <{tag}>"));
            }
        }
    }
    wrongs
}

/// Cells of CSV, without their quotes.
fn cells(csv: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for c in csv.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' | '\n' if !quoted => cells.push(String::new()),
            c => cells.last_mut().expect("one").push(c),
        }
    }
    cells
}

/// What every answer of the portal has, whatever it is.
async fn is_sound(case: &str, answer: Response) {
    let header = |name: &str| {
        let value = answer.headers().get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or("").to_string()
    };
    let whole = header("content-security-policy");
    let policy = whole.replace(" 'wasm-unsafe-eval'", "");
    for part in [
        "default-src 'none'; script-src 'self'; style-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{case}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{case}: {policy}");
    assert_eq!(header("x-frame-options"), "DENY", "{case}");
    assert_eq!(header("x-content-type-options"), "nosniff", "{case}");
    assert_eq!(header("referrer-policy"), "same-origin", "{case}");
    assert_ne!(header("cache-control"), "", "{case}");
    for cookie in answer.headers().get_all("set-cookie") {
        let cookie = cookie.to_str().expect("text");
        assert!(
            cookie.contains("; Path=/; HttpOnly; SameSite=Lax"),
            "{case}: {cookie}"
        );
    }
    let location = to(&answer);
    let inside = location.is_empty() || location.starts_with('/');
    let outside = location.starts_with("//") || location.contains('\\');
    assert!(inside && !outside, "{case}: leads to {location}");
    let media = header("content-type");
    let text = answer.text().await.expect("text");
    let loads = text.contains("data-program=");
    assert_eq!(whole != policy, loads, "{case}: {whole}");
    if media.starts_with("text/html") {
        let wrongs = wrongs(&text);
        assert!(wrongs.is_empty(), "{case}: {wrongs:?}");
        assert!(!text.contains(EVIL), "{case}");
    } else if media.starts_with("text/csv") {
        for cell in cells(&text) {
            let computed = cell.trim_start().starts_with(['=', '+', '-', '@']);
            assert!(!computed, "{case}: {cell}");
        }
    } else if media.starts_with("text/css") {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b":{}-(),#;\n".contains(&b);
        assert!(text.bytes().all(plain), "{case}: {text}");
    } else {
        let known = [
            "application/json",
            "text/plain",
            "application/octet-stream",
            "",
        ];
        let known = known
            .iter()
            .any(|k| media.starts_with(k) && (k.len() > 1) == (media.len() > 1));
        assert!(known, "{case}: {media}");
    }
}

#[test]
fn what_would_run_is_seen() {
    for bad in [
        "<script>alert(1)</script>",
        "<p onclick=\"x\">",
        "<p class=\"a\" style=\"x\">",
        "<a href=\"javascript:x\">",
        "<a href=\"//evil.example\">",
        "<img src=\"/a/x\">",
        "<script src=\"http://evil.example\"></script>",
    ] {
        assert!(!wrongs(bad).is_empty(), "{bad}");
    }
    assert!(
        wrongs("<p class=\"a\">&lt;img onerror=&quot;x&quot;&gt; <a href=\"/b\">c</a></p>")
            .is_empty()
    );
    assert_eq!(cells("a,\"b,\"\"c\"\n=d"), ["a", "b,c", "=d"]);
}

/// Every parameter of a query that any page reads, with something that is not meant.
fn queries() -> [String; 3] {
    let evil = escaped(EVIL);
    let all = |value: &str, numbers: bool| {
        let of = |name: &str| numbers || !matches!(name, "before" | "page" | "job");
        let names = said::parameters().into_iter().filter(|name| of(name));
        let pairs: Vec<String> = names.map(|name| format!("{name}={value}")).collect();
        pairs.join("&")
    };
    [
        all(&evil, false),
        all(&evil, true),
        all("//evil.example/%5C%0D%0ASet-Cookie%3A%20a=b", false),
    ]
}

/// What a field takes at all, where that is more than any text: so that what stands behind its check
/// is reached too.
fn fitting(name: &str) -> Option<&'static str> {
    Some(match name {
        "to" | "key" | "account" | "token" => "0707070707070707070707070707070707070707",
        "amount" | "limit" | "alert" | "percent" | "cpus" | "memory" | "disk" | "bandwidth"
        | "days" | "release" | "max" => "60",
        "handle" => "evil-co",
        "email" => "evil%40example.org",
        "kind" => "company",
        "approve_password" => "four+plain+words+here",
        "role" | "scope" => "viewer",
        "seed" => "abababababababababababababababababababababababababababababababab",
        "hours" => "mon+0-24",
        "name" => "machine-1",
        "act" => "deploy",
        "colour" => "%23ffff00",
        "books" => "everyone",
        _ => return None,
    })
}

/// Every field that any form has, and another time with what fits where something must.
fn forms() -> [String; 2] {
    let evil = escaped(EVIL);
    let names = said::fields();
    let unsaid = ["csrf", "next", "back", "session", "approve_body", "way"];
    let names: Vec<&String> = names
        .iter()
        .filter(|n| !unsaid.contains(&n.as_str()))
        .collect();
    let all = names.iter().map(|name| format!("{name}={evil}"));
    let next = "&next=//evil.example&back=//evil.example&session=none";
    let fit = names
        .iter()
        .map(|name| format!("{name}={}", fitting(name).unwrap_or(&evil)));
    [all.collect::<Vec<_>>(), fit.collect()].map(|fields| fields.join("&") + next)
}

#[tokio::test]
async fn what_strangers_write_is_text_on_every_route() {
    let (site, company, token) = stage().await;
    let guest = format!("runrig_guest={}", Token::random().hex());
    let guest_token = site.form_token("/login", &guest).await;
    let (evil, queries, forms) = (escaped(EVIL), queries(), forms());
    let mut refused = Vec::new();
    for route in routes::table() {
        // They end the session, or never end.
        if matches!(
            route.path,
            "/logout" | "/live" | "/live/use" | "/jobs/{name}/logs/stream"
        ) {
            continue;
        }
        let (cookie, token) = match route.who {
            Who::Stranger => (&guest, &guest_token),
            _ => (&company, &token),
        };
        let holes = route
            .path
            .split('/')
            .map(|part| match part.starts_with('{') {
                true => evil.as_str(),
                false => part,
            });
        let holes = holes.collect::<Vec<_>>().join("/");
        for path in [filled(route.path), holes] {
            let case = format!("{} {path}", route.method);
            if route.method == "GET" {
                let answer = site.get(&path, cookie).await;
                // Of lots nothing is anybody's word; a shell is no page; the others are for whom it
                // invites, and for who has a passkey.
                let none = [
                    "/explorer/lots",
                    "/shell/",
                    "/invitation/",
                    "/settings/browser",
                    "/settings/passkeys",
                ];
                let none = none.iter().any(|none| path.contains(none));
                if path == filled(route.path) && !none && !answer.status().is_success() {
                    refused.push(format!("{path}: {}", answer.status()));
                }
                is_sound(&case, answer).await;
                for query in &queries {
                    let path = format!("{path}?{query}");
                    is_sound(&case, site.get(&path, cookie).await).await;
                }
                continue;
            }
            for form in &forms {
                let form = format!("csrf={token}&{form}");
                is_sound(&case, site.post(&path, cookie, &form).await).await;
                // Refused before it is read.
                is_sound(&case, site.post(&path, cookie, &form[5..]).await).await;
            }
        }
        // In a way that it is not for.
        let case = format!("PUT {}", route.path);
        is_sound(&case, site.put(&filled(route.path), cookie).await).await;
    }
    assert_eq!(refused, Vec::<String>::new(), "pages that show nothing");
    for path in [
        "/nowhere",
        "/healthz",
        "/a/none",
        crate::web::url("logo.svg"),
    ] {
        let answer = site.get(path, "").await;
        let media = answer.headers().get("content-type").cloned();
        if media.is_some_and(|m| m.to_str().unwrap_or("").starts_with("image/")) {
            assert!(answer.headers().contains_key("content-security-policy"));
            continue;
        }
        is_sound(path, answer).await;
    }
}

#[tokio::test]
async fn a_line_of_a_log_is_one_event_of_its_stream() {
    let (site, company, _) = stage().await;
    let mut stream = site.get("/jobs/shop/logs/stream", &company).await;
    assert_eq!(stream.status(), StatusCode::OK);
    assert!(stream.headers().contains_key("content-security-policy"));
    let mut said = String::new();
    while !said.contains("\n\n") {
        let part = stream.chunk().await.expect("read").expect("more");
        said += &String::from_utf8_lossy(&part);
    }
    let (event, _) = said.split_once("\n\n").expect("whole");
    assert!(!event.contains(['\r', '\u{1b}', '\u{7}']), "{event}");
    let data: Vec<&str> = event
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .collect();
    let [data] = data.as_slice() else {
        panic!("{event}")
    };
    let line: LogLine = serde_json::from_str(data).expect("a line");
    assert!(line.text.contains("forged"));
    assert_eq!(event.lines().filter(|l| l.starts_with("event:")).count(), 0);
}
