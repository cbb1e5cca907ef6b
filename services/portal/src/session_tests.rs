//! Sessions over HTTP: which cookie opens what after a login, another password, another role.

use ledger::account::Role;
use reqwest::{Response, StatusCode};

use crate::people::{Factor, Kind, Token};
use crate::role_tests::{Grants, grant, ledger_of, person};
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
async fn another_workspace_and_a_second_factor_begin_under_a_cookie_of_their_own() {
    let grants = Grants::default();
    let site = Site::on(ledger_of(grants.clone()).await).await;
    let (company, _) = person(&site, "acme", Kind::Company).await;
    let (ada, token) = person(&site, "ada", Kind::Personal).await;
    let granted = grant(Role::Developer);
    grants.lock().expect("held").insert(ada.account, granted);
    let noted = site
        .app
        .people
        .note_member(company.account, ada.account, true);
    noted.await.expect("noted");
    let mut cookie = format!("runrig_session={}", token.hex());
    let brought = cookie.clone();
    // To the company and back; what did not change anything leaves the cookie as it is.
    let nobody = "nobody".to_string();
    for (account, goes) in [
        (company.account.to_string(), true),
        (nobody, false),
        (ada.account.to_string(), true),
    ] {
        let form = site.form_token("/settings", &cookie).await;
        let form = format!("csrf={form}&account={account}");
        let answer = site.post("/workspace", &cookie, &form).await;
        assert_eq!(to(&answer) == "/", goes, "{account}");
        let new = session(&answer);
        assert_eq!(new.is_some(), goes, "{account}");
        if let Some(new) = new {
            assert!(is_in(&site, &new).await);
            assert!(!is_in(&site, &cookie).await, "the old cookie is let in");
            cookie = new;
            let token = cookie
                .strip_prefix("runrig_session=")
                .and_then(Token::parse);
            let login = site.app.people.login(&token.expect("a token")).await;
            let acting = login.expect("read").expect("in").account();
            assert_eq!(acting.to_string(), account);
        }
    }
    let elsewhere = log_in(&site, "four+plain+words+here").await.expect("in");
    let form = site.form_token("/settings", &cookie).await;
    let factor = Factor::random();
    let code = |step: u64| factor.now(api::now_ms() + step * 30_000);
    let begin = |code: &str| format!("csrf={form}&act=begin&secret={}&code={code}", factor.text());
    let answer = site
        .post("/settings/factor", &cookie, &begin("000000x"))
        .await;
    assert_eq!(
        (answer.status(), session(&answer)),
        (StatusCode::UNAUTHORIZED, None)
    );
    let answer = site
        .post("/settings/factor", &cookie, &begin(&code(0)))
        .await;
    let begun = session(&answer).expect("a new cookie");
    for gone in [&brought, &cookie, &elsewhere] {
        assert!(!is_in(&site, gone).await);
    }
    assert!(is_in(&site, &begun).await);
    // Its end too.
    let form = site.form_token("/settings", &begun).await;
    let end = format!(
        "csrf={form}&act=end&password=four+plain+words+here&code={}",
        code(1)
    );
    let answer = site.post("/settings/factor", &begun, &end).await;
    let ended = session(&answer).expect("a new cookie");
    assert!(is_in(&site, &ended).await && !is_in(&site, &begun).await);
}

/// What a stranger is told, without what differs each time.
async fn told(answer: Response) -> (StatusCode, String, bool, String) {
    let (status, to, begun) = (answer.status(), to(&answer), session(&answer).is_some());
    let text = answer.text().await.expect("text");
    let mut parts = text.split("name=\"csrf\" value=\"");
    let first = parts.next().unwrap_or("").to_string();
    let rest = parts.map(|part| part.split_once('"').map_or("", |(_, rest)| rest));
    let text = rest.fold(first, |text, part| text + part);
    // A passkey's challenge is another each time.
    let text = match text.split_once("<form class=\"with-passkey\"") {
        Some((before, rest)) => before.to_string() + rest.split_once("</form>").map_or("", |r| r.1),
        None => text,
    };
    (status, to, begun, text)
}

#[tokio::test]
async fn strangers_learn_of_no_email_whether_somebody_here_has_it() {
    let site = Site::open().await;
    site.member("ada", Kind::Personal).await;
    let guest = format!("runrig_guest={}", Token::random().hex());
    let form = site.form_token("/signup", &guest).await;
    let sign_up = async |handle: &str, email: &str| {
        let form = format!(
            "csrf={form}&kind=personal&handle={handle}&email={email}%40example.org\
             &password=some+other+plain+words"
        );
        told(site.post("/signup", &guest, &form).await).await
    };
    let (taken, free) = (sign_up("bob", "ada").await, sign_up("cyd", "nobody").await);
    assert_eq!(taken, free);
    assert_eq!(taken.1, "/?welcome=1");
    assert!(taken.2, "a session begins");
    // A handle is public on the ledger.
    let handle = sign_up("ada", "new").await;
    assert_eq!((handle.0, handle.2), (StatusCode::CONFLICT, false));
    assert!(handle.3.contains("This handle is taken"), "{}", handle.3);

    let log_in = async |email: &str, password: &str| {
        let form = format!("csrf={form}&handle={email}%40example.org&password={password}");
        let (status, to, begun, text) = told(site.post("/login", &guest, &form).await).await;
        (status, to, begun, text.replace(email, "EMAIL"))
    };
    let wrong = "wrong+wrong+wrong";
    assert_eq!(log_in("ada", wrong).await, log_in("nemo", wrong).await);
    assert_eq!(log_in("nobody", wrong).await.0, StatusCode::UNAUTHORIZED);
    // Whoever wrote another's email comes to his own account by it, as if nobody else had.
    let own = "some+other+plain+words";
    assert_eq!(log_in("ada", own).await, log_in("nobody", own).await);
    // And so often: a browser that has logged in by it is not counted apart.
    let mut tries = Vec::new();
    for email in ["ada", "nobody"] {
        let mut count = 0u32;
        while log_in(email, wrong).await.0 == StatusCode::UNAUTHORIZED {
            count += 1;
            assert!(count < 40, "{email}: guesses have no end");
        }
        tries.push(count);
    }
    // On a slow machine some tries come back in between.
    assert!(tries[0].abs_diff(tries[1]) <= 2, "{tries:?}");
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
