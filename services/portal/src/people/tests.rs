use super::password::Weakness;
use super::*;

const SECRET: &str = "four plain words here";

fn new(handle: &str, email: &str) -> NewPerson {
    NewPerson {
        kind: Kind::Personal,
        handle: handle.into(),
        email: email.into(),
        company_name: None,
        company_address: None,
    }
}

#[test]
fn passwords_are_judged() {
    for (password, expected) in [
        ("short", Err(Weakness::Short)),
        ("aaaaaaaaaaaa", Err(Weakness::Plain)),
        ("password1234", Err(Weakness::Common)),
        ("i-am-ada.lovelace", Err(Weakness::Own)),
        ("abcdefghij", Ok(1)),
        ("correct horse battery staple", Ok(4)),
    ] {
        assert_eq!(
            strength(password, &["ada.lovelace"]),
            expected,
            "{password}"
        );
    }
    assert_eq!(strength(&"ab1 x".repeat(50), &[]), Err(Weakness::Long));
}

#[tokio::test]
async fn a_person_logs_in_and_a_session_holds_the_same_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let people = People::open(&folder.path().join("people.sqlite")).expect("open");
    let (ada, keys) = people
        .sign_up(new("ada", "ada@example.org"), SECRET)
        .await
        .expect("stored")
        .expect("free");
    let (web, own) = (keys.web.clone(), keys.own.clone().expect("its own"));
    assert_eq!(ada.account, AccountId::of(&own.public()));
    // The same handle, in whatever case, is taken.
    let again = people.sign_up(new("ADA", "x@example.org"), SECRET).await;
    assert!(again.expect("asked").is_none());
    for name in ["ada", "Ada", "ada@example.org"] {
        let found = people
            .log_in(name, "four plain words here", "")
            .await
            .expect("asked");
        let opened = found.expect("logged in").1;
        assert_eq!(opened.web.to_hex(), web.to_hex());
        assert_eq!(opened.own.expect("its own").to_hex(), own.to_hex());
    }
    assert!(
        people
            .log_in("ada", "four plain words", "")
            .await
            .expect("asked")
            .is_none()
    );
    assert!(
        people
            .log_in("bob", "four plain words here", "")
            .await
            .expect("asked")
            .is_none()
    );

    let token = people
        .begin(&ada, &keys.web, "Firefox\n", "::1")
        .await
        .expect("begun");
    let login = people.login(&token).await.expect("asked").expect("there");
    assert_eq!(login.key.to_hex(), web.to_hex());
    assert!(
        people
            .login(&Token::random())
            .await
            .expect("asked")
            .is_none()
    );
    let all = people.sessions(ada.id).await.expect("listed");
    assert_eq!((all.len(), all[0].browser.as_str()), (1, "Firefox"));
    // The file has the key in no form that the session's token does not open.
    let kept = std::fs::read(folder.path().join("people.sqlite")).expect("read");
    for key in [&web, &own] {
        let hex = key.to_hex();
        assert!(!kept.windows(hex.len()).any(|w| w == hex.as_bytes()));
    }

    let browser = Token::random();
    assert!(!people.knows("ada", &browser).await.expect("asked"));
    people.remember(ada.id, &browser).await.expect("kept");
    assert!(people.knows("Ada", &browser).await.expect("asked"));
    people.end(ada.id, None).await.expect("ended");
    assert!(people.login(&token).await.expect("asked").is_none());
}

#[tokio::test]
async fn sessions_are_bounded() {
    let folder = tempfile::tempdir().expect("a folder");
    let people = People::open(&folder.path().join("people.sqlite")).expect("open");
    let (ada, keys) = people
        .sign_up(new("ada", "ada@example.org"), SECRET)
        .await
        .expect("stored")
        .expect("free");
    for _ in 0..SESSIONS_MAX + 3 {
        people.begin(&ada, &keys.web, "", "").await.expect("begun");
    }
    assert_eq!(
        people.sessions(ada.id).await.expect("listed").len(),
        SESSIONS_MAX
    );
}

#[tokio::test]
async fn who_has_a_second_factor_logs_in_with_its_codes_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let people = People::open(&folder.path().join("people.sqlite")).expect("open");
    let (ada, keys) = people
        .sign_up(new("ada", "ada@example.org"), SECRET)
        .await
        .expect("stored")
        .expect("free");
    let token = people.begin(&ada, &keys.web, "", "").await.expect("begun");
    let other = people.begin(&ada, &keys.web, "", "").await.expect("begun");
    let login = people.login(&token).await.expect("asked").expect("there");
    let factor = Factor::random();
    let set = people.set_factor(&login, &factor, "000000x").await;
    assert!(!set.expect("asked"), "only with a code of it");
    let code = factor.now(api::now_ms());
    assert!(
        people
            .set_factor(&login, &factor, &code)
            .await
            .expect("set")
    );
    assert!(people.login(&other).await.expect("asked").is_none());
    let secret = "four plain words here";
    // The code that set it up counts once; so does every other.
    for wrong in ["", "123", code.as_str()] {
        let opened = people.log_in("ada", secret, wrong).await.expect("asked");
        assert!(opened.is_none(), "{wrong}");
    }
    let next = factor.now(api::now_ms() + 30_000);
    assert!(
        people
            .log_in("ada", "wrong words here", &next)
            .await
            .expect("asked")
            .is_none()
    );
    assert!(
        people
            .log_in("ada", secret, &next)
            .await
            .expect("asked")
            .is_some()
    );
    assert!(
        people
            .log_in("ada", secret, &next)
            .await
            .expect("asked")
            .is_none()
    );
    people.drop_factor(&login).await.expect("dropped");
    assert!(
        people
            .log_in("ada", secret, "")
            .await
            .expect("asked")
            .is_some()
    );
}

#[tokio::test]
async fn another_password_and_another_token_end_what_was_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let people = People::open(&folder.path().join("people.sqlite")).expect("open");
    let signed_up = people.sign_up(new("ada", "ada@example.org"), SECRET).await;
    let (ada, keys) = signed_up.expect("stored").expect("free");
    let token = people.begin(&ada, &keys.web, "", "").await.expect("begun");
    let other = people.begin(&ada, &keys.web, "", "").await.expect("begun");
    let (mine, thief) = (Token::random(), Token::random());
    for browser in [&mine, &thief] {
        people.remember(ada.id, browser).await.expect("kept");
    }
    let login = people.login(&token).await.expect("asked").expect("there");
    let set = people.set_password(&login, &keys, "another four plain words");
    set.await.expect("set");
    assert!(people.login(&other).await.expect("asked").is_none());
    assert!(!people.knows("ada", &thief).await.expect("asked"));
    let old = people.log_in("ada", SECRET, "").await.expect("asked");
    assert!(old.is_none());
    let opened = people.log_in("ada", "another four plain words", "").await;
    let (_, opened) = opened.expect("asked").expect("the same keys");
    assert_eq!(opened.web.to_hex(), keys.web.to_hex());
    assert!(opened.own.is_some());

    // The session goes on under another token, with the account that it acts for and its age.
    people
        .note_member(AccountId::default(), ada.account, true)
        .await
        .expect("noted");
    people
        .act_for(&login.session, Some(AccountId::default()))
        .await
        .expect("noted");
    let began = people.sessions(ada.id).await.expect("listed")[0].created_ms;
    let new = people.rotate(&login).await.expect("anew");
    assert!(people.login(&token).await.expect("asked").is_none());
    let again = people.login(&new).await.expect("asked").expect("there");
    assert_eq!(again.key.to_hex(), login.key.to_hex());
    assert_eq!(again.account(), AccountId::default());
    let sessions = people.sessions(ada.id).await.expect("listed");
    assert_eq!((sessions.len(), sessions[0].created_ms), (1, began));
    // A request that was on its way with the old one begins nothing.
    assert!(people.rotate(&login).await.is_err());
}

#[tokio::test]
async fn a_session_acts_for_whom_it_is_a_member_of_and_no_longer() {
    let folder = tempfile::tempdir().expect("a folder");
    let people = People::open(&folder.path().join("people.sqlite")).expect("open");
    let mut company = new("acme", "acme@example.org");
    (company.kind, company.company_name) = (Kind::Company, Some("Acme".into()));
    let (acme, _) = people
        .sign_up(company, SECRET)
        .await
        .expect("stored")
        .expect("free");
    let (ada, keys) = people
        .sign_up(new("ada", "ada@example.org"), SECRET)
        .await
        .expect("stored")
        .expect("free");
    let token = people.begin(&ada, &keys.web, "", "").await.expect("begun");
    let login = async || people.login(&token).await.expect("asked").expect("there");
    // Not a member yet: nothing comes of it.
    let session = login().await.session;
    people
        .act_for(&session, Some(acme.account))
        .await
        .expect("noted");
    assert_eq!(login().await.account(), ada.account);
    people
        .note_member(acme.account, ada.account, true)
        .await
        .expect("noted");
    let acting = login().await;
    assert_eq!((acting.account(), acting.title()), (acme.account, "Acme"));
    people
        .note_member(acme.account, ada.account, false)
        .await
        .expect("noted");
    assert_eq!(login().await.account(), ada.account);
    people.end(ada.id, None).await.expect("ended");
}

#[tokio::test]
async fn the_own_key_can_leave_and_sessions_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let people = People::open(&folder.path().join("people.sqlite")).expect("open");
    let made = people.sign_up(new("ada", "ada@example.org"), SECRET).await;
    let (ada, keys) = made.expect("stored").expect("free");
    people
        .forget_own(&ada, &keys, SECRET)
        .await
        .expect("forgotten");
    let opened = people.log_in("ada", SECRET, "").await.expect("asked");
    let opened = opened.expect("logged in").1;
    assert!(opened.own.is_none());
    assert_eq!(opened.web.to_hex(), keys.web.to_hex());
}

#[tokio::test]
async fn a_passkey_is_one_persons_and_a_browsers_key_is_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("people.sqlite");
    let people = People::open(&path).expect("open");
    let key = types::PasskeyKey([2; 33]);
    for name in ["", "a b", "<x>", &"a".repeat(500)] {
        assert!(Passkey::new(name, key).is_none(), "{name}");
    }
    let passkey = Passkey::new("cred-1_x", key).expect("a name");
    let made = people.sign_up_with(new("ada", "ada@example.org"), passkey.clone());
    let ada = made.await.expect("stored").expect("free");
    assert!(ada.has_passkey());
    assert_eq!(ada.account, passkey.account());
    // Another person with the same credential is not made at all.
    let again = people.sign_up_with(new("bob", "bob@example.org"), passkey.clone());
    assert!(again.await.expect("asked").is_none());
    assert!(
        people
            .sign_up(new("bob", "bob@example.org"), SECRET)
            .await
            .expect("asked")
            .is_some()
    );
    let found = people.of_passkey("cred-1_x").await.expect("asked");
    let (person, found) = found.expect("known");
    assert_eq!((person.id, found), (ada.id, passkey.clone()));
    assert!(people.of_passkey("cred-2").await.expect("asked").is_none());
    // No password opens what has none.
    for password in ["", SECRET] {
        let opened = people.log_in("ada", password, "").await.expect("asked");
        assert!(opened.is_none());
    }
    let (one, other) = (Token::random(), Token::random());
    let of = |people: &People, browser| people.browser_key(browser, ada.account).to_hex();
    assert_ne!(of(&people, &one), of(&people, &other));
    let reopened = People::open(&path).expect("open");
    assert_eq!(of(&people, &one), of(&reopened, &one));
    let elsewhere = People::open(&folder.path().join("other.sqlite")).expect("open");
    assert_ne!(of(&people, &one), of(&elsewhere, &one));
    let challenge = Digest::of(b"x");
    assert!(people.once(challenge, u64::MAX) && !people.once(challenge, u64::MAX));
}

#[tokio::test]
async fn a_person_has_several_passkeys_and_loses_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("people.sqlite");
    let people = People::open(&file).expect("open");
    let key = |n: u8| types::PasskeyKey([n; 33]);
    let made = |name: &str, key| Passkey::new(name, key).expect("a name");
    let (first, second) = (made("first", key(2)), made("second", key(3)));
    let signed_up = people.sign_up_with(new("ada", "ada@example.org"), first.clone());
    let ada = signed_up.await.expect("stored").expect("free");
    let add = |passkey: Passkey, name: &'static str| {
        let (people, id) = (people.clone(), ada.id);
        async move { people.add_passkey(id, passkey, name).await.expect("stored") }
    };
    assert!(add(second.clone(), "Telephone").await);
    // Neither the same credential again nor the same key under another.
    assert!(!add(second.clone(), "again").await);
    assert!(!add(made("third", key(3)), "again").await);
    people.note_use(&second).await.expect("noted");
    let kept = people.passkeys(ada.id).await.expect("read");
    let names: Vec<&str> = kept.iter().map(|k| k.name()).collect();
    assert_eq!(names, ["Telephone", "First passkey"]);
    let (person, found) = people
        .of_passkey("second")
        .await
        .expect("asked")
        .expect("his");
    assert_eq!((person.id, found), (ada.id, second.clone()));

    let session = people.browser_key(&Token::random(), ada.account);
    let here = people.begin(&ada, &session, "", "").await.expect("begun");
    let lost = people.begin(&ada, &session, "", "").await.expect("begun");
    let login = people.login(&here).await.expect("read").expect("in");
    people.drop_passkey(&login, &first).await.expect("dropped");
    assert!(people.of_passkey("first").await.expect("asked").is_none());
    assert!(people.login(&lost).await.expect("read").is_none());
    assert!(people.login(&here).await.expect("read").is_some());
    // As it was before there were several: opened again, names and times are there.
    drop(people);
    let connection = Connection::open(&file).expect("open");
    let old = "ALTER TABLE passkeys DROP COLUMN name; ALTER TABLE passkeys DROP COLUMN used_ms;";
    connection.execute_batch(old).expect("older");
    drop(connection);
    let people = People::open(&file).expect("open");
    let kept = people.passkeys(ada.id).await.expect("read");
    assert_eq!((kept[0].name(), kept[0].used_ms), ("First passkey", 0));
}
