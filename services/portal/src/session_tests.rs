//! Sessions over HTTP: which cookie opens what after a login, another password, another role.

use reqwest::{Response, StatusCode};

use crate::people::{Kind, Token};
use crate::tests::{Site, to};

/// The session's cookie that an answer sets.
fn session(answer: &Response) -> Option<String> {
    let set = answer.headers().get_all("set-cookie").into_iter();
    let mut pairs = set.filter_map(|v| v.to_str().ok()?.split(';').next());
    pairs
        .find(|pair| pair.starts_with("runrig_session="))
        .map(str::to_string)
}

async fn is_in(site: &Site, cookie: &str) -> bool {
    site.get("/settings", cookie).await.status() == StatusCode::OK
}

/// The cookie of a new session of Ada's.
async fn log_in(site: &Site, password: &str) -> Option<String> {
    // What a stranger brought along opens nothing afterwards.
    let brought = format!(
        "runrig_guest={0}; runrig_session={0}",
        Token::random().hex()
    );
    let form = site.form_token("/login", &brought).await;
    let form = format!("csrf={form}&handle=ada&password={password}");
    let answer = site.post("/login", &brought, &form).await;
    session(&answer).filter(|own| !brought.contains(own))
}

#[tokio::test]
async fn a_login_and_another_password_begin_under_a_cookie_of_their_own() {
    let site = Site::open().await;
    let (ada, token) = site.member("ada", Kind::Personal).await;
    let other = log_in(&site, "four+plain+words+here").await.expect("in");
    assert!(is_in(&site, &other).await && is_in(&site, &ada).await);

    let change = |old: &str, new: &str| format!("csrf={token}&password={old}&new_password={new}");
    for (old, new) in [
        ("wrong+words+are+here", "five+other+plain+words+here"),
        ("four+plain+words+here", "short"),
    ] {
        let answer = site
            .post("/settings/password", &ada, &change(old, new))
            .await;
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(session(&answer), None);
    }
    let form = change("four+plain+words+here", "five+other+plain+words+here");
    let answer = site.post("/settings/password", &ada, &form).await;
    assert_eq!(to(&answer), "/settings");
    let new = session(&answer).expect("a new cookie");
    assert!(is_in(&site, &new).await);
    for gone in [&ada, &other] {
        assert!(!is_in(&site, gone).await);
    }
    assert_eq!(log_in(&site, "four+plain+words+here").await, None);
    assert!(log_in(&site, "five+other+plain+words+here").await.is_some());

    // Everywhere is here too.
    let token = site.form_token("/settings", &new).await;
    site.post("/settings/sessions", &new, &format!("csrf={token}"))
        .await;
    assert!(!is_in(&site, &new).await);
}

#[tokio::test]
async fn a_page_of_another_site_opens_no_shell() {
    let site = Site::open().await;
    let (ada, _) = site.member("ada", Kind::Personal).await;
    for (name, value, foreign) in [
        ("origin", "http://evil.example", true),
        ("sec-fetch-site", "cross-site", true),
        ("sec-fetch-site", "same-site", true),
        ("sec-fetch-site", "same-origin", false),
    ] {
        let answer = site
            .upgrade("/jobs/shop/shell/a-1", &ada, (name, value))
            .await;
        let refused = answer.status() == StatusCode::FORBIDDEN;
        assert_eq!(refused, foreign, "{name}: {value}: {}", answer.status());
    }
}

#[tokio::test]
async fn behind_https_cookies_are_bound_to_the_host() {
    let site = Site::with("http://127.0.0.1:1".into(), true).await;
    let answer = site.get("/login", "").await;
    let set = answer.headers().get("set-cookie").expect("a guest's");
    let set = set.to_str().expect("text");
    assert!(set.starts_with("__Host-runrig_guest="), "{set}");
    assert!(
        set.contains("; Path=/;") && set.ends_with("; Secure"),
        "{set}"
    );
    let (bound, _) = site.member("ada", Kind::Personal).await;
    assert!(is_in(&site, &bound).await);
    let plain = bound.trim_start_matches("__Host-");
    assert!(!is_in(&site, plain).await, "another host may have set it");
}

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let site = Site::open().await;
    let (ada, token) = site.member("ada", Kind::Personal).await;
    let mut stream = site.get("/live/use", &ada).await;
    assert_eq!(stream.status(), StatusCode::OK);
    assert!(stream.chunk().await.expect("read").is_some());
    site.post("/logout", &ada, &format!("csrf={token}")).await;
    let rest = async {
        let mut said = Vec::new();
        while let Ok(Some(chunk)) = stream.chunk().await {
            said.extend_from_slice(&chunk);
        }
        String::from_utf8_lossy(&said).into_owned()
    };
    let said = tokio::time::timeout(std::time::Duration::from_secs(60), rest).await;
    let said = said.expect("the stream goes on after the logout");
    assert!(said.contains("Your session has ended."), "{said}");
}
