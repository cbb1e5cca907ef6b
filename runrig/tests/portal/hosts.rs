//! Who may rule over hosts says what they ask and lend, and when, and empties one, on its page; a
//! machine joins by one command, and its owner watches its first job arrive.

use fixtures::{Page, until};

use super::{Stage, journeys, look};

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

fn compose(host: &str) -> String {
    format!(
        r#"name: first
services:
  web:
    image: busybox
    command: ["sh", "-c", "while :; do :; done"]
    deploy:
      placement:
        constraints: ["node.id == {host}"]
      resources:
        limits: {{ cpus: "0.1", memory: 32m }}
"#
    )
}

/// `page`: of who owns the image `busybox`.
pub fn a_newcomer_joins(stage: &Stage, page: &Page) {
    page.go("/hosts/new");
    page.fill("#name", "barn");
    page.follow("form[action='/hosts/new'] button");
    let line = page.text("#command");
    let secret = line.rsplit(' ').next().expect("a token").to_string();
    assert_eq!(secret.len(), 64, "{line}");
    let steps = page.text("ol.steps");
    assert!(steps.contains("Waiting for the machine"), "{steps}");
    look::here(stage, page, "host-command");
    let watch = page.eval("document.querySelector('[data-refresh]').dataset.refresh");
    let watch = watch.as_str().expect("a path").to_string();

    // As it is shown, but for where its state lies; several hosts are on this machine.
    let data = stage.cloud.data().join("barn").display().to_string();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[..2], ["sudo", "runrig"]);
    let mut args: Vec<&str> = words[2..]
        .iter()
        .map(|word| match *word {
            "/var/lib/runrig" => data.as_str(),
            word => word,
        })
        .collect();
    args.extend(["--uid-base", "1000000"]);
    let mut agent = stage.cloud.spawn(&args);
    // By itself: the page is not loaded again.
    let says =
        |words: &str| format!("document.querySelector('main').innerText.includes({words:?})");
    page.until("it has joined", &says("barn has joined"));

    page.go(&watch);
    let said = page.text("main");
    assert!(said.contains("Deploy something yourself"), "{said}");
    assert!(!page.text("html").contains(&secret));
    look::here(stage, page, "host-joined");
    let host = stage.cloud.json(&["host", "show", "barn"]);
    let id = host["host"].as_str().expect("an id").to_string();
    assert_eq!(
        watch,
        format!(
            "/hosts/new/{}",
            host["joined"]["token"].as_str().expect("a token")
        )
    );

    journeys::deploy(page, &compose(&id));
    page.at("/jobs/first");
    page.go(&watch);
    page.until("it is paid", &says("receipt r-"));
    let said = page.text("ol.steps");
    assert!(said.contains("A replica runs on it"), "{said}");
    assert_eq!(
        page.eval("document.querySelectorAll('ol.steps li.done').length"),
        4
    );
    look::here(stage, page, "host-paid");
    page.follow("ol.steps a[href^='/explorer/receipts/']");
    assert!(page.text("main").contains("barn"), "{}", page.text("main"));

    // Another machine does not join by it.
    let other = stage.cloud.data().join("other").display().to_string();
    for word in &mut args {
        if *word == data {
            *word = &other;
        } else if *word == "barn" {
            *word = "other";
        }
    }
    let (code, _, why) = stage.cloud.run(&args);
    assert_ne!(code, 0);
    assert!(why.contains("the token lets no machine join"), "{why}");
    assert!(!why.contains(&secret), "{why}");

    journeys::remove(page, "first");
    let key = format!("{data}/host.key");
    stage.cloud.good(&["--key", &key, "host", "leave", "barn"]);
    assert!(agent.wait().expect("it ends").success());
    page.until_says(&watch, "main", "No machine joins with this token");
    let faults = page.faults(&["status of 4"]);
    assert!(faults.is_empty(), "{faults:?}");
}
