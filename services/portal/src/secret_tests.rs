//! What is secret stands in no log and on no page after the one that is for it: passwords, sessions,
//! keys, codes.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use reqwest::{Response, StatusCode};
use tracing_subscriber::fmt::MakeWriter;
use types::SecretKey;

use crate::newcomer_tests;
use crate::people::{Factor, Token};
use crate::routes;
use crate::tests::{Site, filled, to};

/// Everything that was logged in this process, whatever its level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// What a browser keeps.
#[derive(Default)]
struct Jar(BTreeMap<String, String>);

impl Jar {
    fn keep(&mut self, answer: &Response) {
        for set in answer.headers().get_all("set-cookie") {
            let pair = set.to_str().expect("text").split(';').next();
            let (name, value) = pair.and_then(|p| p.split_once('=')).expect("a pair");
            self.0.insert(name.into(), value.into());
        }
    }

    fn text(&self) -> String {
        let pairs = self.0.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join("; ")
    }
}

/// Ada, her browser, and what nobody else may read.
struct Story<'a> {
    site: &'a Site,
    jar: Jar,
    secrets: Vec<(&'static str, String)>,
}

impl Story<'_> {
    fn keep(&mut self, what: &'static str, secret: &str) {
        assert!(secret.len() >= 6, "{what}: {secret}");
        self.secrets.push((what, secret.to_string()));
    }

    /// Sends a form of a page, with what the browser keeps.
    async fn send(&mut self, page: &str, path: &str, form: &str) -> Response {
        let looked = self.site.get(page, &self.jar.text()).await;
        self.jar.keep(&looked);
        let token = self.site.form_token(page, &self.jar.text()).await;
        let form = format!("csrf={token}&{form}");
        let answer = self.site.post(path, &self.jar.text(), &form).await;
        self.jar.keep(&answer);
        for name in ["runrig_session", "runrig_device", "runrig_guest"] {
            if let Some(value) = self.jar.0.get(name).filter(|v| !v.is_empty()).cloned() {
                self.keep(name, &value);
            }
        }
        answer
    }
}

/// What a page shows to be copied, the first of it.
fn shown(page: &str) -> String {
    let (_, rest) = page
        .split_once("<code class=\"code wrap\">")
        .expect("a code");
    rest.split('<').next().unwrap_or("").to_string()
}

const PASSWORD: &str = "seldom quiet lanterns drift";
const OTHER: &str = "eleven brass kettles sing";

fn sent(text: &str) -> String {
    text.replace(' ', "+")
}

async fn live(story: &mut Story<'_>) {
    let (password, other) = (sent(PASSWORD), sent(OTHER));
    story.keep("password", PASSWORD);
    story.keep("another password", OTHER);
    story.keep("password, as it was sent", &password);
    let form = format!("kind=personal&handle=ada&email=ada%40example.org&password={password}");
    let answer = story.send("/signup", "/signup", &form).await;
    assert_eq!(to(&answer), "/?welcome=1");
    let wrong = "password=wrong+words+are+wrong";
    let answer = story.send("/settings", "/settings/recovery", wrong).await;
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    let form = format!("password={password}");
    let answer = story.send("/settings", "/settings/recovery", &form).await;
    let recovery = answer.text().await.expect("a file");
    story.keep("recovery file", recovery.trim());

    // Logged out and in again, first with a password that is not hers.
    story.send("/settings", "/logout", "").await;
    let wrong = format!("handle=ada&password={other}");
    story.send("/login", "/login", &wrong).await;
    let form = format!("handle=ada&password={password}");
    let answer = story.send("/login", "/login", &form).await;
    assert_eq!(to(&answer), "/");

    let seed = Token::random().hex();
    let approve = format!("approve_password={password}");
    let form = format!("label=ci&scope=developer&limit=5&days=90&seed={seed}&{approve}");
    let answer = story.send("/settings", "/settings/keys", &form).await;
    if answer.status() == StatusCode::OK {
        let page = answer.text().await.expect("a page");
        let key = shown(&page);
        assert!(SecretKey::from_hex(&key).is_ok(), "{page}");
        story.keep("API key", &key);
    }
    device(story, &approve).await;

    let form = format!("password={password}&new_password={other}");
    let answer = story.send("/settings", "/settings/password", &form).await;
    assert_eq!(to(&answer), "/settings");
    let factor = Factor::random();
    story.keep("second factor", &factor.text());
    let code = factor.now(api::now_ms());
    let form = format!("act=begin&secret={}&code={code}", factor.text());
    let answer = story.send("/settings", "/settings/factor", &form).await;
    assert_eq!(to(&answer), "/settings");
    let next = factor.now(api::now_ms() + 30_000);
    let form = format!("password={other}&code={next}");
    let answer = story.send("/settings", "/settings/own-key", &form).await;
    assert_eq!(to(&answer), "/settings");
}

/// A terminal asks, and is let in where the ledger answers.
async fn device(story: &mut Story<'_>, approve: &str) {
    let key = SecretKey::from_seed([9; 32]).public();
    let ask = format!(r#"{{"key":"{key}","machine":"laptop"}}"#);
    let answer = story.site.tell("/device/ask", &ask).await;
    let code: api::DeviceCode = serde_json::from_str(&answer).expect("a code");
    story.keep("secret of a terminal", &code.secret);
    let form = format!(
        "act=allow&code={}&role=developer&label=laptop&{approve}",
        code.code
    );
    story.send("/settings", "/device", &form).await;
    let poll = format!(r#"{{"secret":"{}"}}"#, code.secret);
    story.site.tell("/device/poll", &poll).await;
}

#[tokio::test]
async fn no_secret_is_logged_or_shown_again() {
    let log = Log::default();
    let heard = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    tracing::subscriber::set_global_default(heard).expect("the only one");
    tracing::debug!("the log is heard");
    let (url, _chain) = newcomer_tests::network().await;
    // On a network that answers, and on one that does not: there is more to log.
    let mut secrets = Vec::new();
    for site in [Site::on(url).await, Site::open().await] {
        let mut story = Story {
            site: &site,
            jar: Jar::default(),
            secrets: Vec::new(),
        };
        live(&mut story).await;
        let cookie = story.jar.text();
        let mut pages = 0;
        for route in routes::table() {
            let endless = route.path.starts_with("/live") || route.path.ends_with("/stream");
            if route.method != "GET" || endless {
                continue;
            }
            let path = filled(route.path);
            for cookie in [cookie.as_str(), ""] {
                let page = site.get(&path, cookie).await.text().await.expect("text");
                for (what, secret) in &story.secrets {
                    assert!(!page.contains(secret.as_str()), "{path} shows: {what}");
                }
                pages += usize::from(page.contains("<h1"));
            }
        }
        assert!(pages > 50, "{pages}");
        secrets.extend(story.secrets);
    }
    for what in [
        "recovery file",
        "API key",
        "second factor",
        "secret of a terminal",
    ] {
        assert!(secrets.iter().any(|(of, _)| *of == what), "no {what}");
    }
    let logged = log.0.lock().expect("unpoisoned");
    let logged = String::from_utf8_lossy(&logged);
    for known in ["the log is heard", "no starter credits"] {
        assert!(logged.contains(known), "{known}");
    }
    for (what, secret) in secrets {
        let line = logged.lines().find(|line| line.contains(&secret));
        assert_eq!(line, None, "{what}");
    }
}
