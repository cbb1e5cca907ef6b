//! No page shows a form that whoever looks at it may not send: every page × every role of a company.

use std::collections::BTreeSet;

use ledger::account::Role;

use crate::hostile_tests::{Owner, network};
use crate::people::{Kind, Terms};
use crate::role_tests::{Grants, grant, let_session, person};
use crate::routes::{self, Route};
use crate::tests::{Site, filled};
use crate::web::{Right, Who};

/// Where the forms of a page are sent to.
fn actions(page: &str) -> Vec<&str> {
    let tags = page.split("<form").skip(1);
    let tags = tags.filter_map(|tag| tag.split_once('>').map(|(tag, _)| tag));
    let posts = tags.filter(|tag| tag.contains("method=\"post\""));
    posts
        .map(|tag| {
            let (_, action) = tag.split_once("action=\"").expect("says where to");
            action.split(['"', '?']).next().unwrap_or("")
        })
        .collect()
}

/// The route that takes what is sent there: of those that fit, the one with the fewest holes.
fn route_of<'a>(table: &'a [Route], path: &str) -> Option<&'a Route> {
    let hole = |part: &str| part.starts_with('{');
    let fits = |route: &&Route| {
        let parts: Vec<&str> = route.path.split('/').collect();
        let said: Vec<&str> = path.split('/').collect();
        let mut pairs = parts.iter().zip(&said);
        parts.len() == said.len() && pairs.all(|(part, said)| hole(part) || part == said)
    };
    let posts = table.iter().filter(|route| route.method == "POST");
    let holes = |route: &&Route| route.path.split('/').filter(|part| hole(part)).count();
    posts.filter(fits).min_by_key(holes)
}

#[tokio::test]
async fn nobody_fills_in_a_form_that_his_role_may_not_send() {
    let (grants, owner) = (Grants::default(), Owner::default());
    let site = Site::on(network(owner.clone(), grants.clone()).await).await;
    let (company, _) = person(&site, "acme", Kind::Company).await;
    owner.set(company.account).expect("once");
    let people = &site.app.people;
    let terms = Terms {
        role: "viewer".into(),
        limit: String::new(),
        days: String::new(),
    };
    let invited = people.invite(company.account, "Acme", None, &terms).await;
    invited.expect("stored").expect("few");
    let table = routes::table();
    let mut found = BTreeSet::new();
    // All of them before anybody looks: who may act is remembered for some seconds.
    let mut members = Vec::new();
    for role in Role::ALL {
        let (one, token) = person(&site, role.name(), Kind::Personal).await;
        let granted = grant(role);
        grants.lock().expect("held").insert(one.account, granted);
        let_session(&site, &grants, &token).await;
        members.push((role, one, token));
    }
    for (role, one, token) in members {
        let login = people.login(&token).await.expect("read").expect("in");
        let noted = people.note_member(company.account, one.account, true);
        noted.await.expect("noted");
        let acting = people.act_for(&login.session, Some(company.account));
        acting.await.expect("noted");
        let cookie = format!("runrig_session={}", token.hex());
        for route in &table {
            let endless = route.path.starts_with("/live") || route.path.ends_with("/stream");
            if route.method != "GET" || endless {
                continue;
            }
            let path = filled(route.path);
            let page = site.get(&path, &cookie).await;
            let shown = page.status().is_success();
            let page = page.text().await.expect("text");
            for action in actions(&page) {
                let case = format!("{path} shows {} a form for {action}", role.name());
                let to = route_of(&table, action).unwrap_or_else(|| panic!("{case}: no route"));
                assert!(to.right.is_of(role), "{case}");
                if role == Role::Owner {
                    found.insert(to.path);
                }
            }
            // Instead he reads what it takes; the same act as a line of the command line stays.
            let told = page.contains("class=\"noright\"");
            if told {
                assert!(role != Role::Owner && role != Role::Admin, "{path}");
                let part = path.starts_with("/parts/");
                assert!(part || page.contains("class=\"cli\""), "{path}");
                assert!(
                    page.contains(&format!("You are {} there", role.name())),
                    "{path}"
                );
            }
            let forms = [
                "/wallet",
                "/bills/limits",
                "/hosts/new",
                "/settings/keys",
                "/members",
            ];
            let forms = forms.contains(&route.path) || route.path == "/explorer/hosts/{id}";
            if role == Role::Viewer && forms {
                assert!(shown && told, "{path}: {page}");
            }
        }
    }
    // What the owner may, he finds: else nothing was looked at above.
    for route in table {
        let taken = route.method == "POST" && route.who == Who::Member;
        if taken && !matches!(route.right, Right::Own | Right::Look) {
            assert!(
                found.contains(route.path),
                "no page has a form for {}",
                route.path
            );
        }
    }
}
