//! Organisations' spaces: who changes one, who sees which app, to whom the books are open.

use ledger::account::Role;
use reqwest::StatusCode;

use crate::people::{Audience, Books, Kind, Person, Space, SpaceApp, Token};
use crate::role_tests::{Grants, grant, ledger_of, let_session, person};
use crate::tests::Site;

const FORM: &str = "act=save&name=Acme&colour=%23aa3300&home=Hello&books=named&named=@Nina&\
    app_shop=everyone&title_shop=Shop&app_pay=members&title_pay=Payroll&app_old=none";

fn cookie(token: &Token) -> String {
    format!("runrig_session={}", token.hex())
}

/// A company, and people: one in each role, one whom its books name, one of no concern.
struct Stage {
    site: Site,
    acme: Person,
    company: String,
    visitors: Vec<(&'static str, String)>,
    grants: Grants,
}

async fn stage() -> Stage {
    let grants = Grants::default();
    let site = Site::on(ledger_of(grants.clone()).await).await;
    let (acme, token) = person(&site, "acme", Kind::Company).await;
    let_session(&site, &grants, &token).await;
    let mut visitors = vec![("stranger", String::new()), ("company", cookie(&token))];
    for (handle, role) in [
        ("admin", Some(Role::Admin)),
        ("viewer", Some(Role::Viewer)),
        ("nina", None),
        ("otto", None),
    ] {
        let (one, token) = person(&site, handle, Kind::Personal).await;
        let_session(&site, &grants, &token).await;
        if let Some(role) = role {
            let mut given = grants.lock().expect("unpoisoned");
            given.insert(one.account, grant(role));
        }
        visitors.push((handle, cookie(&token)));
    }
    Stage {
        site,
        acme,
        company: cookie(&token),
        visitors,
        grants,
    }
}

impl Stage {
    async fn save(&self, cookie: &str, form: &str) -> StatusCode {
        let token = self.site.form_token("/settings", cookie).await;
        let form = format!("csrf={token}&{form}");
        self.site
            .post("/settings/space", cookie, &form)
            .await
            .status()
    }

    async fn space(&self) -> Option<Space> {
        self.site.app.people.space("acme").await.expect("read")
    }

    async fn text(&self, path: &str, cookie: &str) -> (StatusCode, String) {
        let answer = self.site.get(path, cookie).await;
        (answer.status(), answer.text().await.expect("text"))
    }
}

#[tokio::test]
async fn a_space_is_open_once_it_was_made_and_shows_each_what_is_for_him() {
    let stage = stage().await;
    let paths = [
        "/o/acme",
        "/o/acme/style.css",
        "/o/acme/books",
        "/o/acme/books.csv",
    ];
    // The same as of a person, and as of nobody.
    for handle in ["acme", "nina", "nobody"] {
        for path in paths.map(|path| path.replace("acme", handle)) {
            assert_eq!(
                stage.text(&path, "").await.0,
                StatusCode::NOT_FOUND,
                "{path}"
            );
        }
    }
    assert_eq!(
        stage.save(&stage.company, FORM).await,
        StatusCode::SEE_OTHER
    );
    let space = stage.space().await.expect("open");
    assert_eq!((space.name.as_str(), space.books), ("Acme", Books::Named));
    assert_eq!(space.named, ["nina"]);
    let shown = |project: &str, title: &str, audience| SpaceApp {
        project: project.into(),
        title: title.into(),
        audience,
    };
    let apps = [
        shown("pay", "Payroll", Audience::Members),
        shown("shop", "Shop", Audience::Everyone),
    ];
    assert_eq!(space.apps, apps);
    let (status, sheet) = stage.text("/o/acme/style.css", "").await;
    assert_eq!((status, sheet), (StatusCode::OK, space.colour.sheet()));

    for (who, cookie) in &stage.visitors {
        let (status, _) = stage.text("/o/acme", cookie).await;
        assert_eq!(status, StatusCode::OK, "{who}");
        let member = matches!(*who, "company" | "admin" | "viewer");
        for path in ["/o/acme/books", "/o/acme/books.csv"] {
            let open = member || *who == "nina";
            let expected = if open {
                StatusCode::OK
            } else {
                StatusCode::FORBIDDEN
            };
            assert_eq!(
                stage.text(path, cookie).await.0,
                expected,
                "{path} by {who}"
            );
        }
    }
    let apps_of = |form: &'static str| async { stage.save(&stage.company, form).await };
    let everyone = "act=save&name=Acme&colour=%23aa3300&books=everyone";
    assert_eq!(apps_of(everyone).await, StatusCode::SEE_OTHER);
    assert_eq!(stage.text("/o/acme/books", "").await.0, StatusCode::OK);
    assert_eq!(
        stage.save(&stage.company, "act=close").await,
        StatusCode::SEE_OTHER
    );
    assert_eq!(stage.text("/o/acme", "").await.0, StatusCode::NOT_FOUND);
    assert_eq!(stage.space().await, None);
}

#[tokio::test]
async fn a_form_that_is_out_of_bounds_changes_nothing() {
    let stage = stage().await;
    assert_eq!(
        stage.save(&stage.company, FORM).await,
        StatusCode::SEE_OTHER
    );
    let before = stage.space().await;
    let many_apps: String = (0..51).map(|n| format!("&app_p{n}=members")).collect();
    let long = "a".repeat(4_001);
    for bad in [
        "name=&colour=%23aa3300&books=members".into(),
        format!("name={}&colour=%23aa3300&books=members", "n".repeat(61)),
        "name=A&colour=red&books=members".into(),
        "name=A&colour=%23aa3300%3B%7D&books=members".into(),
        "name=A&colour=%23aa3300&books=some".into(),
        format!("name=A&colour=%23aa3300&books=members&home={long}"),
        "name=A&colour=%23aa3300&books=named&named=no+such!".into(),
        format!(
            "name=A&colour=%23aa3300&books=named&named={}",
            "abc+".repeat(51)
        ),
        format!("name=A&colour=%23aa3300&books=members{many_apps}"),
        "name=A&colour=%23aa3300&books=members&app_%3Cb%3E=members".into(),
        format!(
            "name=A&colour=%23aa3300&books=members&app_x=members&title_x={}",
            "t".repeat(61)
        ),
    ] {
        let status = stage.save(&stage.company, &format!("act=save&{bad}")).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
        assert_eq!(stage.space().await, before);
    }
    // What turns text around is left out.
    let turned = "act=save&name=A%E2%80%AEcme&colour=%23AA3300&books=members";
    assert_eq!(
        stage.save(&stage.company, turned).await,
        StatusCode::SEE_OTHER
    );
    assert_eq!(stage.space().await.expect("open").name, "Acme");
    // A person has none.
    let nina = &stage.visitors[4].1;
    assert_eq!(stage.save(nina, FORM).await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pages_wear_the_look_of_whom_one_acts_for_and_a_lost_role_changes_nothing() {
    let stage = stage().await;
    assert_eq!(
        stage.save(&stage.company, FORM).await,
        StatusCode::SEE_OTHER
    );
    let sheet = "/o/acme/style.css?c=aa3300";
    let (_, own) = stage.text("/settings", &stage.company).await;
    assert!(own.contains(sheet) && own.contains(">Acme<"), "{own}");
    let (who, admin) = &stage.visitors[2];
    let (_, before) = stage.text("/settings", admin).await;
    assert!(!before.contains(sheet), "{who}");
    let people = &stage.site.app.people;
    let token = Token::parse(admin.trim_start_matches("runrig_session=")).expect("a token");
    let login = people.login(&token).await.expect("read").expect("in");
    let noted = people.note_member(stage.acme.account, login.person.account, true);
    noted.await.expect("noted");
    let acting = people.act_for(&login.session, Some(stage.acme.account));
    acting.await.expect("acts");
    let (_, after) = stage.text("/settings", admin).await;
    assert!(after.contains(sheet), "{after}");
    assert_eq!(stage.save(admin, FORM).await, StatusCode::SEE_OTHER);
    // The role is taken back; the ledger is asked again after a moment.
    stage.grants.lock().expect("unpoisoned").clear();
    tokio::time::sleep(std::time::Duration::from_millis(3_200)).await;
    let form = FORM.replace("Acme", "Mine");
    assert_eq!(stage.save(admin, &form).await, StatusCode::FORBIDDEN);
    // So is the key of the company's own session.
    let own = stage.save(&stage.company, &form).await;
    assert_eq!(own, StatusCode::FORBIDDEN);
    let closed = stage.save(&stage.company, "act=close").await;
    assert_eq!(closed, StatusCode::FORBIDDEN);
    assert_eq!(stage.space().await.expect("open").name, "Acme");
}

#[tokio::test]
async fn without_the_ledger_nobody_is_a_member() {
    let site = Site::open().await;
    let (acme, token) = person(&site, "acme", Kind::Company).await;
    let space = Space {
        account: acme.account,
        handle: "acme".into(),
        name: "Acme".into(),
        colour: "#aa3300".parse().expect("a colour"),
        home: String::new(),
        books: Books::Members,
        named: Vec::new(),
        apps: Vec::new(),
    };
    site.app.people.set_space(space).await.expect("stored");
    let (emil, emil_token) = person(&site, "emil", Kind::Personal).await;
    let people = &site.app.people;
    let noted = people.note_member(acme.account, emil.account, true);
    noted.await.expect("noted");
    let emil = cookie(&emil_token);
    let login = people.login(&emil_token).await.expect("read").expect("in");
    let acting = people.act_for(&login.session, Some(acme.account));
    acting.await.expect("acts");
    let books = site.get("/o/acme/books", &emil).await;
    assert_eq!(books.status(), StatusCode::FORBIDDEN);
    let form = site.form_token("/settings", &emil).await;
    let save = format!("csrf={form}&{FORM}");
    let answer = site.post("/settings/space", &emil, &save).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    // The company itself needs nobody's word.
    let own = site.get("/o/acme/books", &cookie(&token)).await;
    assert_eq!(own.status(), StatusCode::OK);
}
