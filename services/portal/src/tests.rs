//! Who may do what, over all routes; what strangers write, on every page that shows it.
//!
//! The network does not answer here: a page that needs it says so, which is how it is seen
//! that a visitor was let in.

use std::net::SocketAddr;

use axum::Router;
use reqwest::{Client, Response, StatusCode, redirect};
use types::AccountId;

use crate::app::App;
use crate::people::{Kind, NewPerson, Token};
use crate::web::Who;
use crate::{Config, routes, ui};

pub(crate) const EVIL: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>";

/// Its URL, for as long as the test runs.
pub(crate) async fn served(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let _ = axum::serve(listener, service).await;
    });
    url
}

pub(crate) struct Site {
    url: String,
    pub(crate) app: App,
    http: Client,
    _data: tempfile::TempDir,
}

impl Site {
    pub(crate) async fn open() -> Self {
        // Nobody listens there.
        Self::on("http://127.0.0.1:1".into()).await
    }

    /// Over a network.
    pub(crate) async fn on(network: String) -> Self {
        Self::with(network, false).await
    }

    pub(crate) async fn with(network: String, secure: bool) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let app = App::open(&Config {
            network: vec![network],
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: data.path().into(),
            index: None,
            secure,
            trusted_proxies: Vec::new(),
        })
        .await
        .expect("opened");
        let url = served(routes::router(app.clone())).await;
        let http = Client::builder()
            .redirect(redirect::Policy::none())
            .no_proxy()
            .build()
            .expect("a client");
        Self {
            url,
            app,
            http,
            _data: data,
        }
    }

    /// A member's cookie, and a token for his forms.
    pub(crate) async fn member(&self, handle: &str, kind: Kind) -> (String, String) {
        let company = (kind == Kind::Company).then(|| EVIL.to_string());
        let (person, keys) = self
            .app
            .people
            .sign_up(
                NewPerson {
                    kind,
                    handle: handle.into(),
                    email: format!("{handle}@example.org"),
                    company_name: company.clone(),
                    company_address: company,
                },
                "four plain words here",
            )
            .await
            .expect("stored")
            .expect("free");
        let token = self
            .app
            .people
            .begin(&person, &keys.web, EVIL, "::1")
            .await
            .expect("begun");
        let bound = if self.app.secure { "__Host-" } else { "" };
        let cookie = format!("{bound}runrig_session={}", token.hex());
        let form = self.form_token("/settings", &cookie).await;
        (cookie, form)
    }

    /// A token of a form on a page.
    pub(crate) async fn form_token(&self, path: &str, cookie: &str) -> String {
        let page = self.get(path, cookie).await.text().await.expect("a page");
        token_in(&page)
    }

    pub(crate) async fn get(&self, path: &str, cookie: &str) -> Response {
        let request = self
            .http
            .get(format!("{}{path}", self.url))
            .header("cookie", cookie);
        request.send().await.expect("answered")
    }

    /// Asks for a WebSocket as browsers do, with one header more.
    pub(crate) async fn upgrade(&self, path: &str, cookie: &str, with: (&str, &str)) -> Response {
        let request = self.http.get(format!("{}{path}", self.url));
        let request = request
            .header("cookie", cookie)
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
            .header(with.0, with.1);
        request.send().await.expect("answered")
    }

    pub(crate) async fn put(&self, path: &str, cookie: &str) -> Response {
        let request = self.http.put(format!("{}{path}", self.url));
        let request = request.header("cookie", cookie);
        request.send().await.expect("answered")
    }

    /// As a command does, in JSON; what it is told.
    pub(crate) async fn tell(&self, path: &str, body: &str) -> String {
        let request = self.http.post(format!("{}{path}", self.url));
        let request = request
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = request.send().await.expect("answered");
        answer.text().await.expect("text")
    }

    pub(crate) async fn post(&self, path: &str, cookie: &str, form: &str) -> Response {
        self.http
            .post(format!("{}{path}", self.url))
            .header("cookie", cookie)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_string())
            .send()
            .await
            .expect("answered")
    }
}

/// The token of the first form on a page.
fn token_in(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"csrf\" value=\"").expect("a form");
    rest.split('"').next().unwrap_or("").to_string()
}

/// A route's path with something in its holes.
pub(crate) fn filled(path: &str) -> String {
    path.replace("docs/{name}", "docs/deploy")
        .replace("{name}", "shop")
        .replace("{height}", "1")
        .replace("{epoch}", "1")
        .replace("new/{token}", &format!("new/{}", AccountId::default()))
        .replace("{token}", &"ab".repeat(32))
        .replace("lotteries/{id}", "lotteries/l-1")
        .replace("votes/{id}", "votes/p-1")
        .replace("receipts/{id}", "receipts/r-1")
        .replace(
            "accounts/{id}",
            &format!("accounts/{}", AccountId::default()),
        )
        .replace(
            "transactions/{id}",
            &format!("transactions/{}", "00".repeat(32)),
        )
        .replace(
            "proofs/hosts/{id}",
            &format!("proofs/hosts/{}", AccountId::default()),
        )
        .replace("{id}", "dev-1")
        .replace("{handle}", "acme")
}

pub(crate) fn to(response: &Response) -> String {
    let location = response.headers().get("location");
    location
        .and_then(|v| v.to_str().ok())
        .unwrap_or("")
        .to_string()
}

#[tokio::test]
async fn every_route_is_for_whom_the_table_says() {
    let site = Site::open().await;
    let (person, person_token) = site.member("ada", Kind::Personal).await;
    let (company, company_token) = site.member("acme", Kind::Company).await;
    let forged = format!("runrig_session={}", Token::random().hex());
    let visitors = [
        ("nobody", "", "", false),
        ("a forged session", forged.as_str(), "", false),
        ("a person", person.as_str(), person_token.as_str(), true),
        ("a company", company.as_str(), company_token.as_str(), true),
    ];
    for route in routes::table() {
        // Ends the session; streams do not end. Both have tests of their own.
        if route.path == "/logout" || route.path.starts_with("/live") {
            continue;
        }
        let path = filled(route.path);
        for (who, cookie, token, member) in visitors {
            let case = format!("{} {path} by {who}", route.method);
            let response = match route.method {
                "GET" => site.get(&path, cookie).await,
                _ => {
                    site.post(&path, cookie, &format!("csrf={token}&session=none"))
                        .await
                }
            };
            let status = response.status();
            let location = to(&response);
            match (route.who, member, route.method) {
                // Neither a session nor a form's token says anything to it: only JSON does.
                (Who::Program, _, _) => {
                    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{case}");
                    assert!(response.headers().get("set-cookie").is_none(), "{case}");
                }
                (Who::Member, false, "GET") => {
                    assert_eq!(status, StatusCode::SEE_OTHER, "{case}");
                    assert!(location.starts_with("/login?next="), "{case}: {location}");
                }
                (Who::Member, false, _) => assert_eq!(status, StatusCode::UNAUTHORIZED, "{case}"),
                (Who::Stranger, true, _) => assert_eq!(
                    (status, location.as_str()),
                    (StatusCode::SEE_OTHER, "/"),
                    "{case}"
                ),
                (_, false, "POST") => assert_eq!(status, StatusCode::FORBIDDEN, "{case}: no token"),
                _ => {
                    // A wrong password is refused too, but by the page itself.
                    let asks_again = [
                        "/settings/recovery",
                        "/settings/factor",
                        "/settings/password",
                        "/settings/own-key",
                        "/login/passkey",
                        "/passkey/prepare",
                    ];
                    let refused =
                        status == StatusCode::UNAUTHORIZED && !asks_again.contains(&route.path);
                    let let_in = !refused
                        && status != StatusCode::FORBIDDEN
                        && !location.starts_with("/login");
                    assert!(let_in, "{case}: {status} {location}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_machine_waits_until_somebody_who_is_logged_in_answers() {
    let site = Site::open().await;
    let tell = async |path: &str, body: String| {
        let request = site.http.post(format!("{}{path}", site.url));
        let request = request
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.expect("answered");
        (answer.status(), answer.text().await.expect("text"))
    };
    let key = types::SecretKey::from_seed([7; 32]).public();
    let ask = format!(r#"{{"key":"{key}","machine":{EVIL:?}}}"#);
    let (status, text) = tell("/device/ask", ask.clone()).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let code: api::DeviceCode = serde_json::from_str(&text).expect("a code");
    let poll = format!(r#"{{"secret":"{}"}}"#, code.secret);
    let (_, text) = tell("/device/poll", poll.clone()).await;
    assert_eq!(text, r#"{"state":"waiting"}"#);

    // A stranger sees nothing; a link does not fill the code in.
    let page = site.get(&format!("/device?code={}", code.code), "").await;
    assert_eq!(
        to(&page),
        format!("/login?next=/device%3Fcode%3D{}", code.code)
    );
    let (ada, token) = site.member("ada", Kind::Personal).await;
    let page = site.get(&format!("/device?code={}", code.code), &ada).await;
    let filled = format!("value=\"{}\"", code.code);
    assert!(!page.text().await.expect("a page").contains(&filled));
    let look = format!("csrf={token}&act=look&code={}", code.code);
    let page = site.post("/device", &ada, &look).await;
    let text = page.text().await.expect("a page");
    assert!(text.contains("&lt;script&gt;") && !text.contains("<script>alert"));
    let refuse = format!("csrf={token}&act=refuse&code={}", code.code);
    site.post("/device", &ada, &refuse).await;
    let (_, text) = tell("/device/poll", poll).await;
    assert_eq!(text, r#"{"state":"refused"}"#);
    let page = site.post("/device", &ada, &look).await;
    assert_eq!(page.status(), StatusCode::UNPROCESSABLE_ENTITY, "used");

    // Guesses are few; what is too large or senseless is said to a command in its own words.
    let guess = format!("csrf={token}&act=look&code=BBBBBBBB");
    let mut last = StatusCode::OK;
    for _ in 0..25 {
        last = site.post("/device", &ada, &guess).await.status();
        if last == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    let (status, _) = tell("/device/ask", "x".repeat(5_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    for _ in 0..200 {
        let (status, text) = tell("/device/ask", ask.clone()).await;
        if status == StatusCode::TOO_MANY_REQUESTS {
            let problem: api::Problem = serde_json::from_str(&text).expect("a problem");
            assert_eq!(problem.kind, "unavailable");
            return;
        }
    }
    panic!("asked without end");
}

#[tokio::test]
async fn a_form_is_bounded() {
    let site = Site::open().await;
    let (ada, token) = site.member("ada", Kind::Personal).await;
    for (kib, expected) in [
        (511, StatusCode::UNPROCESSABLE_ENTITY),
        (513, StatusCode::PAYLOAD_TOO_LARGE),
    ] {
        let compose = "x".repeat(kib << 10);
        let form = format!("csrf={token}&way=quote&compose={compose}");
        let answer = site.post("/jobs/new", &ada, &form).await;
        assert_eq!(answer.status(), expected, "{kib} KiB");
    }
}

#[tokio::test]
async fn a_form_is_taken_only_from_the_session_that_it_was_made_for() {
    let site = Site::open().await;
    let (ada, token) = site.member("ada", Kind::Personal).await;
    let (bob, other) = site.member("bob", Kind::Personal).await;
    for (cookie, token, good) in [
        (&ada, "", false),
        (&ada, "00", false),
        (&ada, other.as_str(), false),
        (&bob, token.as_str(), false),
        (&ada, token.as_str(), true),
    ] {
        let answer = site
            .post(
                "/settings/sessions",
                cookie,
                &format!("csrf={token}&session=x"),
            )
            .await;
        assert_eq!(answer.status() != StatusCode::FORBIDDEN, good, "{token}");
    }
    let foreign = site
        .http
        .post(format!("{}/settings/sessions", site.url))
        .header("cookie", &ada)
        .header("sec-fetch-site", "cross-site")
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("csrf={token}&session=x"));
    let answer = foreign.send().await.expect("answered");
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    // Nobody ends another's session by naming it.
    let sessions = site.app.people.sessions(2).await.expect("listed");
    let form = format!("csrf={token}&session={}", sessions[0].id);
    site.post("/settings/sessions", &ada, &form).await;
    assert_eq!(site.app.people.sessions(2).await.expect("listed").len(), 1);
}

#[tokio::test]
async fn who_signs_up_goes_on_to_what_he_came_for() {
    let site = Site::open().await;
    let example = "/jobs/new?example=site";
    for (handle, next, goes) in [
        ("ada", example, example),
        ("bob", "//evil.example", "/?welcome=1"),
        ("cyd", "", "/?welcome=1"),
    ] {
        let at = format!("/signup?next={}", crate::web::escaped(next));
        let page = site.get(&at, "").await;
        let cookie = page
            .headers()
            .get("set-cookie")
            .and_then(|v| v.to_str().ok());
        let cookie = cookie
            .and_then(|c| c.split(';').next())
            .unwrap_or("")
            .to_string();
        let page = page.text().await.expect("text");
        let csrf = token_in(&page);
        assert_eq!(page.contains("example=site"), goes == example, "{next}");
        let next = crate::web::escaped(next);
        let form = format!(
            "csrf={csrf}&kind=personal&handle={handle}&email={handle}%40example.org\
             &password=four+plain+words+here&next={next}"
        );
        let made = site.post("/signup", &cookie, &form).await;
        assert_eq!(to(&made), goes);
    }
}

#[tokio::test]
async fn what_strangers_write_is_text_and_pages_have_nothing_inline() {
    let site = Site::open().await;
    let (company, token) = site.member("acme", Kind::Company).await;
    let evil = crate::web::escaped(EVIL);
    let login = site.form_token("/login", "").await;
    let pages = [
        site.get("/settings", &company).await,
        site.get(&format!("/explorer/search?q={evil}"), "").await,
        site.get(&format!("/login?next={evil}"), "").await,
        site.get(&format!("/jobs/{evil}"), &company).await,
        site.get(&format!("/explorer/accounts/{evil}"), "").await,
        site.get(&format!("/signup?next={evil}"), "").await,
        site.get("/nowhere", "").await,
        site.post(
            "/jobs/new",
            &company,
            &format!("csrf={token}&act=quote&compose={evil}"),
        )
        .await,
        site.post("/login", "", &format!("csrf={login}&handle={evil}"))
            .await,
    ];
    for page in pages {
        let path = page.url().path().to_string();
        let policy = page.headers().get("content-security-policy");
        let policy = policy
            .and_then(|p| p.to_str().ok())
            .unwrap_or("")
            .to_string();
        assert!(
            policy.contains("default-src 'none'") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        let text = page.text().await.expect("a page");
        for bad in [
            "<script>",
            "<img",
            " style=\"",
            "<style",
            " onclick",
            "javascript:",
        ] {
            assert!(!text.contains(bad), "{path} has {bad}");
        }
        assert_eq!(text.matches("<h1").count(), 1, "{path}");
    }
}

/// Links of the menu.
fn entries(page: &str) -> Vec<&str> {
    let (_, nav) = page.split_once("<nav class=\"nav\"").expect("a menu");
    let (nav, _) = nav.split_once("</nav>").expect("its end");
    let items = nav.split("<li>").skip(1);
    items
        .map(|item| {
            let (_, href) = item.split_once("href=\"").expect("a link");
            href.split('"').next().unwrap_or("")
        })
        .collect()
}

#[tokio::test]
async fn a_menu_is_short_and_invites_to_what_was_not_used() {
    let site = Site::open().await;
    let (acme, _) = site.member("acme", Kind::Company).await;
    let token = acme.strip_prefix("runrig_session=").and_then(Token::parse);
    let login = site.app.people.login(&token.expect("a token")).await;
    let account = login.expect("read").expect("in").account();
    let space = crate::hostile_tests::space(account);
    site.app.people.set_space(space).await.expect("stored");
    let page = async |path: &str, cookie: &str| {
        let page = site.get(path, cookie).await;
        page.text().await.expect("a page")
    };
    let new = page("/settings", &acme).await;
    let menu = entries(&new);
    for there in [
        "/",
        "/jobs/new",
        "/hosts/new",
        "/wallet",
        "/explorer",
        "/docs",
        "/o/acme",
    ] {
        assert!(menu.contains(&there), "{there}: {menu:?}");
    }
    assert!(
        !menu.contains(&"/jobs") && !menu.contains(&"/earnings"),
        "{menu:?}"
    );
    // Whoever looks at a page finds the others of its group.
    let jobs = page("/analytics", &acme).await;
    assert!(jobs.contains("<title>") && entries(&jobs).len() <= 12);
    let host = AccountId([6; 20]);
    let events = vec![
        ledger::Event::Deployment(ledger::deployment::Event::Deployed {
            deployment: types::DeploymentId(1),
            owner: account,
            project: "shop".into(),
            release: 1,
            changed: Vec::new(),
        }),
        ledger::Event::Host(ledger::host::Event::HostRegistered {
            host,
            name: "barn".into(),
            owner: account,
            offer: types::Offer {
                capacity: types::Resources::default(),
                architecture: String::new(),
                region: String::new(),
                price_multiplier_milli: 1_000,
                builds: false,
            },
            bond: types::Amount::ZERO,
        }),
    ];
    site.app.index.hear(1, Vec::new(), events).await;
    let used = page("/settings", &acme).await;
    let menu = entries(&used);
    assert_eq!(menu.len(), 12, "{menu:?}");
    for there in [
        "/jobs",
        "/analytics",
        "/hosts",
        "/earnings",
        "/bills",
        "/operate",
    ] {
        assert!(menu.contains(&there), "{there}: {menu:?}");
    }
    assert!(entries(&page("/docs", "").await).len() <= 12);
    // What is in no menu stands above the pages of its group.
    for (path, parts) in [
        (
            "/explorer/blocks",
            [
                "/explorer/transactions",
                "/explorer/hosts",
                "/explorer/network",
            ],
        ),
        (
            "/operate/audit",
            ["/operate", "/operate/incidents", "/operate/audit"],
        ),
    ] {
        let page = page(path, "").await;
        let (_, nav) = page.split_once("<nav class=\"parts\"").expect(path);
        let (nav, _) = nav.split_once("</nav>").expect("its end");
        for part in parts {
            assert!(nav.contains(&format!("href=\"{part}\"")), "{path}: {part}");
        }
    }
}

#[tokio::test]
async fn a_first_visit_is_small_and_every_menu_entry_is_a_page() {
    let site = Site::open().await;
    let paths: Vec<&str> = routes::table().iter().map(|r| r.path).collect();
    for entry in ui::menu() {
        assert!(paths.contains(&entry), "{entry}");
    }
    let page = site.get("/login", "").await.text().await.expect("a page");
    let mut bytes = 0;
    for name in [
        "portal.css",
        "portal.js",
        "live.js",
        "icons.svg",
        "logo.svg",
        "geist.woff2",
        "geist-mono.woff2",
        "uplot.js",
        "uplot.css",
    ] {
        let request = site
            .http
            .get(format!("{}{}", site.url, crate::web::url(name)));
        let asset = request
            .header("accept-encoding", "gzip")
            .send()
            .await
            .expect("answered");
        assert_eq!(asset.status(), StatusCode::OK, "{name}");
        bytes += asset.bytes().await.expect("read").len();
    }
    assert!(page.contains(crate::web::url("portal.css")));
    assert!(bytes < 130 << 10, "{bytes} bytes of assets");
}

#[tokio::test]
async fn guesses_do_not_lock_out_a_browser_that_the_owner_uses() {
    let site = Site::open().await;
    site.member("ada", Kind::Personal).await;
    let guest = format!("runrig_guest={}", Token::random().hex());
    let token = site.form_token("/login", &guest).await;
    let wrong = format!("csrf={token}&handle=ada&password=wrong+wrong+wrong");
    let mut last = StatusCode::OK;
    // On a slow machine some tries come back in between.
    for _ in 0..25 {
        last = site.post("/login", &guest, &wrong).await.status();
        if last == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
    }
    assert_eq!(last, StatusCode::TOO_MANY_REQUESTS);
    // A handle that nobody has is answered in the same words.
    let nobody = format!("csrf={token}&handle=nobody&password=wrong+wrong+wrong");
    let answer = site.post("/login", &guest, &nobody).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let device = Token::random();
    site.app.people.remember(1, &device).await.expect("kept");
    let known = format!("{guest}; runrig_device={}", device.hex());
    let right = format!("csrf={token}&handle=ada&password=four+plain+words+here");
    let answer = site.post("/login", &known, &right).await;
    assert_eq!(
        (answer.status(), to(&answer).as_str()),
        (StatusCode::SEE_OTHER, "/")
    );
}
