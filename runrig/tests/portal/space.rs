//! An organisation's own space: made by a form, worn by its members' pages, open to strangers as far
//! as it says; its books are the ledger's.

use fixtures::{Page, get, until};

use super::{Stage, look};

/// `company` has a stopped job `journey`; `member` acts for it as a viewer.
pub fn of_an_organisation(stage: &Stage, company: &Page, member: &Page) {
    let stranger = stage.browser.visitor(&stage.site);
    stranger.go("/o/charles");
    assert!(stranger.text("main").contains("There is no such space"));
    member.go("/settings/space");
    assert!(member.text("main").contains("Your role does not do this"));
    // To be refused is what was asked for.
    member.faults(&["status of 403"]);

    company.go("/settings/space");
    look::here(stage, company, "space-settings-new");
    company.fill("#name", "Charles & Sons");
    company.eval("document.querySelector('#colour').value = '#ffcc00'");
    company.fill(
        "#home",
        "# Engines of brass\nWe compute tables for those who sail.\n\n- accurate\n- on time\n\n\
         Write to [the office](https://charles.example/office).\n<b>Not bold</b>",
    );
    company.fill("[name=title_journey]", "Tables of logarithms");
    company.eval("document.querySelector('[name=app_journey]').value = 'everyone'");
    company.follow("form:has([value=save]) button.primary");
    company.at("/o/charles");
    let said = company.text("main");
    for words in [
        "Charles & Sons",
        "@charles",
        "Tables of logarithms",
        "Spent",
        "<b>Not bold</b>",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    // Chosen as yellow, it is read on white: the button's ground has the contrast of text.
    let ground =
        company.eval("getComputedStyle(document.querySelector('.disc.solid')).backgroundColor");
    assert!(
        ground.as_str().is_some_and(|g| g.starts_with("rgb(")),
        "{ground}"
    );
    assert_ne!(ground, "rgb(12, 107, 92)", "the portal's own");

    stranger.go("/o/charles");
    let said = stranger.text("main");
    assert!(
        said.contains("Tables of logarithms") && said.contains("a visitor"),
        "{said}"
    );
    assert!(
        stranger.text("nav").contains("Runrig"),
        "{}",
        stranger.text("nav")
    );
    let link = stranger.eval("document.querySelector('.prose a').rel");
    assert_eq!(link, "noopener nofollow noreferrer");
    look::check(&stranger, "/o/charles");
    look::here(stage, &stranger, "space");
    stranger.go("/o/charles/books");
    assert!(stranger.text("main").contains("not open to you"));

    // Who acts for it wears its look, and finds its apps first.
    member.go("/");
    assert!(member.text(".brand").contains("Charles & Sons"));
    let said = member.text("main");
    assert!(said.contains("Tables of logarithms"), "{said}");
    look::here(stage, member, "space-overview");
    look::check(member, "/o/charles/books");
    look::here(stage, member, "space-books");
    look::check(company, "/settings/space");
    look::here(stage, company, "space-settings");

    // Open to everyone; once nothing runs, they say to the last digit what the ledger does.
    company.click("[name=books][value=everyone]");
    company.follow("form:has([value=save]) button.primary");
    super::journeys::remove(company, "journey");
    company.go("/settings");
    let account = company.eval("document.querySelector('dd.mono').innerText.trim().slice(0, 40)");
    let account = account.as_str().expect("an account").to_string();
    let (_, site) = stage.site.split_once("://").expect("a URL");
    let site = site.trim_end_matches('/').replace("localhost", "127.0.0.1");
    let nano = |credits: &str| {
        let (whole, part) = credits.split_once('.').unwrap_or((credits, ""));
        format!("{whole}{part:0<12}")
            .parse::<u128>()
            .expect("an amount")
    };
    until("the books agree with the ledger", || {
        let books = get(&site, "localhost", "/o/charles/books.csv");
        let rows = books.text();
        let spent = rows.lines().filter(|row| row.contains(",spent,"));
        let sums = spent.filter_map(|row| row.rsplit(',').next());
        let spent: u128 = sums.map(nano).sum();
        let bill = stage.cloud.json(&["--account", &account, "bill"]);
        spent > 0 && spent == nano(bill["total"].as_str().expect("a total"))
    });
    let faults = stranger.faults(&["status of 4"]);
    assert!(faults.is_empty(), "{faults:?}");
}
