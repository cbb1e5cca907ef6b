//! Who may rule over hosts says what they ask and lend, and when, and empties one, on its page.

use fixtures::{Page, until};

use super::{Stage, look};

/// `page`: of somebody with the account `account`, whom the owner of the hosts lets act.
pub fn are_ruled_by_forms(stage: &Stage, page: &Page) {
    page.go("/settings");
    let account = page.eval("document.querySelector('dd.mono').innerText.trim().slice(0, 40)");
    let account = account.as_str().expect("an account");
    let cloud = &stage.cloud;
    let key = cloud.data().join("keys/owner-1").display().to_string();
    let owner = cloud.json(&["--key", &key, "whoami"]);
    let owner = owner["account"].as_str().expect("an account");
    cloud.good(&["wallet", "send", owner, "1", "--yes"]);
    let keys = |args: &[&str]| cloud.good(&[&["--key", &key, "account", "keys"], args].concat());
    keys(&["add", account, "--role", "admin", "--label", "ada"]);
    // As the menu does it for accounts that it knows.
    page.eval(&format!(
        "(async () => {{
            const body = new URLSearchParams(new FormData(document.querySelector('form.theme')));
            body.set('account', {owner:?});
            await fetch('/workspace', {{ method: 'POST', body }}); }})()"
    ));
    let shown = || cloud.json(&["host", "show", "dev-1"]);
    let host = shown();
    let host = host["host"].as_str().expect("an id");
    let path = format!("/explorer/hosts/{host}");

    page.go(&path);
    page.fill("#percent", "72.5");
    page.follow("form[action$='/price'] button");
    page.at(&path);
    assert!(page.text("main").contains("72.5"), "{}", page.text("main"));
    assert_eq!(shown()["offer"]["price_multiplier_milli"], 725);

    let capacity = shown()["offer"]["capacity"]["cpu_millis"].clone();
    let millis = capacity.as_u64().expect("a number") - 10;
    page.fill("#cpus", &format!("{}", millis as f64 / 1_000.0));
    page.follow("form[action$='/allotment'] button");
    page.at(&path);
    assert_eq!(shown()["allotment"]["cpu_millis"], millis);
    look::here(stage, page, "host-own");

    page.go(&path);
    page.follow("form[action$='/drain'] button");
    page.at(&path);
    assert_eq!(shown()["draining"], true);
    page.until_says(&path, "main", "Draining");
    page.follow("form[action$='/drain'] button");
    until("it takes work again", || shown()["draining"] == false);

    page.go(&path);
    page.eval("document.querySelector('[name=from-6]').value = ''");
    page.follow("form[action$='/hours'] button[value=days]");
    page.at(&path);
    assert_eq!(shown()["hours"], "mon-sat 0-24");
    page.until_says(&path, "main", "mon-sat 0-24 (UTC)");
    page.follow("form[action$='/hours'] button[value=always]");
    until("it has no hours", || shown()["hours"].is_null());

    // As it was, for those who come after.
    page.go(&path);
    page.fill("#percent", "100");
    page.follow("form[action$='/price'] button");
    page.at(&path);
    page.fill("#cpus", &format!("{}", (millis + 10) as f64 / 1_000.0));
    page.follow("form[action$='/allotment'] button");
    page.at(&path);
    page.eval(
        "(async () => {
            const body = new URLSearchParams(new FormData(document.querySelector('form.theme')));
            body.set('account', document.querySelector('form[action=\"/workspace\"] [name=account]').value);
            await fetch('/workspace', { method: 'POST', body }); })()",
    );
    keys(&["revoke", account]);
    let faults = page.faults(&["status of 4"]);
    assert!(faults.is_empty(), "{faults:?}");
}
