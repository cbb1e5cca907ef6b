//! From the first page to a running container and back out.

use std::os::unix::fs::PermissionsExt;

use fixtures::{Page, get, until};

use super::Stage;

const PASSWORD: &str = "four plain words here";
/// The button that makes an account with a password.
pub const SIGN_UP: &str = "form[action='/signup'] button.primary:not([type=button])";

fn compose(image: &str) -> String {
    format!(
        r#"name: journey
services:
  web:
    image: {image}
    command: ["sh", "-c", "echo hello from the journey; exec httpd -f -p 8080 -h /etc"]
    ports: ["8080"]
    deploy:
      replicas: 2
      resources:
        limits: {{ cpus: "0.1", memory: 32m }}
"#
    )
}

/// A page's own trouble; that a form was refused is none.
fn sound(page: &Page, what: &str) {
    let faults = page.faults(&["status of 4"]);
    assert!(faults.is_empty(), "{what}: {faults:?}");
}

/// Signs with the account's own key what a session's may not.
pub fn approve(page: &Page) {
    assert!(
        page.text("main").contains("Sign this with your own key"),
        "{}",
        page.text("main")
    );
    page.fill("#approve_password", PASSWORD);
    page.follow("main form button.primary");
}

/// Asks for the price until it fits: a host that is busy counts as silent for a while.
fn priced(page: &Page) {
    until("it fits", || {
        page.follow("button[value=quote]");
        page.text("main").contains("Fits now")
    });
}

/// Deploys a compose file by the form.
pub fn deploy(page: &Page, compose: &str) {
    page.go("/jobs/new");
    page.fill("#compose", compose);
    priced(page);
    page.follow("form:has(input[value=deploy]) button");
}

/// Makes room for those who come after.
pub fn remove(page: &Page, job: &str) {
    page.go(&format!("/jobs/{job}"));
    page.click(".acts summary");
    page.follow(".acts button.bad");
}

pub fn fill_in(page: &Page, handle: &str) {
    page.fill("#handle", handle);
    page.fill("#email", &format!("{handle}@example.org"));
    page.fill("#password", PASSWORD);
}

/// Saves the recovery file and puts an image into the account's repositories with it; its name.
fn bring_image(stage: &Stage, page: &Page) -> &'static str {
    page.go("/settings");
    let key = page.eval(&format!(
        "(async () => {{
            const form = document.querySelector('form[action=\"/settings/recovery\"]');
            form.querySelector('#password').value = {PASSWORD:?};
            const body = new URLSearchParams(new FormData(form));
            return (await fetch(form.action, {{ method: 'POST', body }})).text(); }})()"
    ));
    let key = key.as_str().expect("a key");
    let file = stage.cloud.file("recovery.key", key);
    let own = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(&file, own).expect("kept for its owner");
    let layout = stage.image.display().to_string();
    stage
        .cloud
        .good(&["--key", &file, "image", "load", &layout]);
    "busybox"
}

pub fn from_sign_up_to_a_bill(stage: &Stage) -> Page {
    let page = stage.browser.visitor(&stage.site);
    page.go("/signup");
    let send = SIGN_UP;
    // A company says who it is, a person does not.
    page.click("label:has(input[value=company])");
    fill_in(&page, "ada");
    page.follow(send);
    let said = page.text("main");
    assert!(said.contains("needs the company's name"), "{said}");
    assert!(said.contains("needs the company's address"), "{said}");
    page.fill("#company_name", "Analytical Engines");
    page.click("label:has(input[value=personal])");
    fill_in(&page, "ada");
    page.follow(send);
    let said = page.text("main");
    assert!(said.contains("A personal account has no company"), "{said}");
    page.fill("#company_name", "");
    page.fill("#password", PASSWORD);
    assert_eq!(
        page.eval("document.querySelector('[data-strength]').dataset.score"),
        "4"
    );
    page.follow(send);
    page.at("/");
    assert!(
        page.text("main").contains("Welcome, ada"),
        "{}",
        page.text("main")
    );
    assert!(
        page.text(".balance").contains("000"),
        "{}",
        page.text(".balance")
    );

    let image = bring_image(stage, &page);
    page.go("/jobs/new");
    page.fill(
        "#compose",
        "name: journey\nservices:\n  web:\n    image: x\n    privilegd: true\n",
    );
    page.follow("button[value=quote]");
    assert!(
        page.text("main").contains("privilegd"),
        "{}",
        page.text("main")
    );
    deploy(&page, &compose(image));
    page.at("/jobs/journey");
    // The page moves by itself.
    page.eval("window.unmoved = true");
    page.until(
        "both replicas are ready",
        "document.querySelector('main').textContent.includes('2 of 2') && window.unmoved",
    );

    // It answers where the page says.
    let url = page.eval("document.querySelector('main .feed a').href");
    let url = url.as_str().expect("a URL");
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    let (name, _) = host.rsplit_once(':').expect("with a port");
    until("it answers", || {
        get(&stage.cloud.gateway(), name, "/hostname").status == 200
    });

    // One click from the list to lines that are there, and stay there once after the tab was away.
    page.go("/jobs/journey");
    page.follow(".tabs a[href$='/logs']");
    let lines = "document.querySelectorAll('.log p time').length";
    page.until("both replicas' lines", &format!("{lines} === 2"));
    assert!(page.text(".log").contains("hello from the journey"));
    for hidden in [true, false] {
        page.eval(&format!(
            "Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});
             document.dispatchEvent(new Event('visibilitychange'))"
        ));
    }
    page.until("it is live again", "document.getElementById(document.querySelector('.log').dataset.state).textContent === 'Live'");
    assert_eq!(page.eval(lines), 2);

    // What the gateway counted, and what the ledger has of use and reservation.
    page.until_says("/analytics/requests", "tbody", "journey");
    page.until_says(
        "/analytics/requests?range=7d",
        ".tablewrap tbody",
        "journey",
    );
    page.until_says("/analytics/use", "tbody", "journey");
    page.until_says("/bills", "main", "journey");
    sound(&page, "the newcomer");
    page
}

pub fn out(page: &Page) {
    page.go("/");
    page.click("header .pop summary");
    page.follow("form[action='/logout'] button");
    page.at("/login");
    page.go("/jobs");
    page.at("/login");
    sound(page, "the way out");
}

/// Only the Tab key, Enter, Space and letters.
pub fn by_keyboard_alone(stage: &Stage) {
    let page = stage.browser.visitor(&stage.site);
    page.go("/login");
    page.tab_to("a[href='/signup']");
    page.enter();
    for (field, text) in [
        ("#handle", "grace"),
        ("#email", "grace@example.org"),
        ("#password", PASSWORD),
    ] {
        page.tab_to(field);
        page.write(text);
    }
    page.enter();
    page.at("/");
    let image = bring_image(stage, &page);
    page.go("/");
    page.tab_to("a[href='/jobs/new']");
    page.enter();
    page.tab_to(".seg a[href='/jobs/new?from=image']");
    page.enter();
    page.tab_to("#name");
    page.write("typed");
    page.tab_to("#image");
    page.write(image);
    page.tab_to("button[value=quote]");
    page.enter();
    page.tab_to("form:has(input[value=deploy]) button");
    page.enter();
    page.at("/jobs/typed");
    page.tab_to(".tabs a[href$='/events']");
    page.enter();
    page.at("/jobs/typed/events");
    page.tab_to(".acts summary");
    page.press("Space");
    page.tab_to("button.bad");
    page.enter();
    page.tab_to("header .pop summary");
    page.press("Enter");
    page.tab_to("form[action='/logout'] button");
    page.enter();
    page.at("/login");
    sound(&page, "the keyboard");
}

pub fn without_scripts(stage: &Stage) -> Page {
    let page = stage.browser.visitor(&stage.site);
    page.scripts(false);
    page.go("/signup");
    page.click("label:has(input[value=company])");
    page.fill("#company_name", "Charles & Sons <Ltd>");
    page.fill("#company_address", "1 Dorset Street, London");
    fill_in(&page, "charles");
    page.follow(SIGN_UP);
    page.at("/");
    page.scripts(true);
    let image = bring_image(stage, &page);
    page.scripts(false);
    page.go("/");
    assert!(page.text("nav").contains("Charles & Sons <Ltd>"));
    deploy(&page, &compose(image));
    page.at("/jobs/journey");
    page.follow("form:has(input[value=stop]) button");
    page.go("/wallet");
    page.follow("form.theme button");
    assert_eq!(page.eval("document.documentElement.dataset.theme"), "dark");
    page.click("header .pop summary");
    page.follow("form[action='/logout'] button");
    page.at("/login");
    page.fill("#handle", "charles");
    page.fill("#password", PASSWORD);
    page.follow("form[action='/login'] button.primary:not([type=button])");
    page.at("/");
    sound(&page, "without scripts");
    page
}

/// A colleague gets a role, does what it allows for the company, and loses it; in the end he is a viewer.
pub fn in_a_company(stage: &Stage, company: &Page) -> Page {
    let emil = stage.browser.visitor(&stage.site);
    emil.go("/signup");
    fill_in(&emil, "emil");
    emil.follow(SIGN_UP);
    emil.at("/");
    emil.go("/settings");
    let account = emil.eval("document.querySelector('dd.mono').innerText.trim().slice(0, 40)");
    let account = account.as_str().expect("an account");
    company.go("/members");
    company.fill("#key", account);
    company.fill("#label", "Emil <of the press>");
    company.follow("form[action='/members'] button");
    super::look::here(stage, company, "approval");
    approve(company);
    company.at("/members");
    let said = company.text("main");
    assert!(
        said.contains("Emil <of the press> ") && said.contains("developer"),
        "{said}"
    );

    emil.go("/");
    emil.click("summary.who");
    emil.follow("form[action='/workspace']:nth-of-type(2) button");
    emil.at("/");
    assert!(
        emil.text("nav").contains("Charles & Sons <Ltd>"),
        "{}",
        emil.text("nav")
    );
    emil.go("/jobs/journey");
    emil.follow("form:has(input[value=start]) button");
    emil.until_says("/jobs/journey", "main", "2 of 2");
    emil.go("/jobs/journey/logs");
    emil.until(
        "the company's log",
        "document.querySelectorAll('.log p time').length > 0",
    );
    emil.go("/wallet");
    let said = emil.text("main");
    assert!(said.contains("You may not send credits"), "{said}");
    emil.go("/members");

    company.go("/members");
    company.follow(&format!(
        "form[action='/members/revoke']:has([value='{account}']) button"
    ));
    approve(company);
    emil.go("/");
    assert!(
        !emil.text("nav").contains("Charles"),
        "{}",
        emil.text("nav")
    );

    // Invited by a link, he says yes; only then is it signed. His role changes and is held to.
    company.go("/members");
    company.fill("#invited", "emil");
    company.follow("form[action='/members/invite'] button");
    super::look::here(stage, company, "invitation-made");
    let link = company.text("main .row .code");
    let (_, path) = link.rsplit_once("/invitation/").expect("a link");
    emil.go(&format!("/invitation/{path}"));
    let said = emil.text("main");
    assert!(said.contains("Charles & Sons <Ltd>"), "{said}");
    super::look::here(stage, &emil, "invitation");
    emil.follow("button[value=accept]");
    company.go("/members");
    let said = company.text("main");
    assert!(said.contains("@emil says yes"), "{said}");
    super::look::here(stage, company, "members-invited");
    company.follow("form:has([name=invitation][value]) button.primary");
    approve(company);
    company.at("/members");
    let said = company.text("main");
    assert!(
        !said.contains("emil says yes") && said.contains("@emil"),
        "{said}"
    );
    emil.go("/");
    emil.click("summary.who");
    emil.follow("form[action='/workspace']:nth-of-type(2) button");
    emil.go("/jobs/new");
    assert!(emil.text("main").contains("Create a job"));
    company
        .eval("document.querySelector('form[action=\"/members/role\"] select').value = 'viewer'");
    company.follow("form[action='/members/role'] button");
    approve(company);
    company.at("/members");
    emil.until_says("/jobs/new", "main", "Your role does not do this");
    emil.go("/jobs/journey");
    assert!(!emil.text("main").contains("Your role"));
    sound(&emil, "a colleague");
    sound(company, "a company");
    emil
}
