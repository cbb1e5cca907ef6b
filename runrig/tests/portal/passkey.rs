//! An account whose key is a passkey: the browser signs, the portal never has it.

use fixtures::Page;
use serde_json::json;

use super::Stage;

/// Gives the tab an authenticator whose owner always agrees; its id.
fn authenticator(page: &Page, transport: &str) -> String {
    let made = page.command(
        "WebAuthn.addVirtualAuthenticator",
        json!({ "options": {
            "protocol": "ctap2", "transport": transport, "hasResidentKey": true,
            "hasUserVerification": true, "isUserVerified": true,
            "automaticPresenceSimulation": true } }),
    );
    let id = made["authenticatorId"].as_str().expect("an id");
    id.to_string()
}

/// Whether somebody touches it when he is asked to.
fn touched(page: &Page, authenticator: &str, is: bool) {
    page.command(
        "WebAuthn.setAutomaticPresenceSimulation",
        json!({ "authenticatorId": authenticator, "enabled": is }),
    );
}

/// Sends credits to an account that nobody has.
fn send(page: &Page, amount: &str) {
    page.go("/wallet");
    page.fill("#to", &"ab".repeat(20));
    page.fill("#amount", amount);
    page.follow("form[action='/wallet/send'] button");
}

pub fn signs_for_its_account(stage: &Stage) -> Page {
    let page = stage.browser.visitor(&stage.site);
    page.command("WebAuthn.enable", json!({}));
    let first = authenticator(&page, "internal");
    page.go("/signup");
    page.fill("#handle", "hedy");
    page.fill("#email", "hedy@example.org");
    page.follow("[data-passkey=create]");
    page.at("/");
    let said = page.text("main");
    assert!(said.contains("Welcome, hedy"), "{said}");
    page.go("/settings");
    let said = page.text("main");
    assert!(said.contains("your passkey"), "{said}");
    page.go("/members");
    let said = page.text("main");
    assert!(said.contains("browser") && said.contains("500"), "{said}");

    // What is small, the session's own key signs.
    send(&page, "1");
    page.at("/wallet");
    // What is more than that may spend, the passkey signs in the browser.
    send(&page, "600");
    let said = page.text("main");
    assert!(said.contains("Sign this with your own key"), "{said}");
    assert!(
        said.contains("600") && said.contains("to account"),
        "{said}"
    );
    super::look::here(stage, &page, "approval-passkey");
    page.follow("[data-passkey=sign]");
    page.at("/wallet");
    page.until_says("/wallet", "main", "600");

    // Out and in again, by the passkey alone; this browser still may act.
    page.click("header .pop summary");
    page.follow("form[action='/logout'] button");
    page.at("/login");
    page.follow("[data-passkey=login]");
    page.at("/");
    send(&page, "2");
    page.at("/wallet");
    // Taken back, it may no more; the passkey says so, and lets it again.
    page.go("/members");
    page.follow("form[action='/members/revoke'] button");
    page.follow("[data-passkey=sign]");
    page.at("/members");
    super::look::check(&page, "/settings/browser");
    super::look::here(stage, &page, "browser");
    super::look::check(&page, "/settings");
    super::look::here(stage, &page, "settings-passkey");
    page.go("/settings/browser");
    page.follow("form[action='/settings/browser'] button");
    page.follow("[data-passkey=sign]");
    page.at("/");
    a_second_takes_over(stage, &page, &first);
    let faults = page.faults(&["status of 4"]);
    assert!(faults.is_empty(), "{faults:?}");
    page
}

/// Another device signs and logs in as the first does; then the first is lost, and taken away.
fn a_second_takes_over(stage: &Stage, page: &Page, first: &str) {
    super::look::check(page, "/settings/passkeys");
    let said = page.text("main");
    assert!(said.contains("You have one way in"), "{said}");
    super::look::here(stage, page, "passkeys-one");

    // The first is not touched while the other is made; then it signs that the other may act.
    touched(page, first, false);
    let second = authenticator(page, "usb");
    page.fill("#name", "Key on the ring");
    page.follow("[data-passkey=add]");
    let said = page.text("main");
    assert!(said.contains("Sign this with your own key"), "{said}");
    assert!(said.contains("owner"), "{said}");
    touched(page, &second, false);
    touched(page, first, true);
    page.follow("[data-passkey=sign]");
    page.at("/settings/passkeys");
    let said = page.text("main");
    assert!(
        said.contains("Key on the ring") && said.contains("not yet"),
        "{said}"
    );
    assert!(!said.contains("You have one way in"), "{said}");
    super::look::here(stage, page, "passkeys");

    // Either approves.
    page.go("/settings/browser");
    page.follow("form[action='/settings/browser'] button");
    let said = page.text("main");
    for name in ["Sign with First passkey", "Sign with Key on the ring"] {
        assert!(said.contains(name), "{said}");
    }
    super::look::here(stage, page, "approval-passkeys");
    touched(page, first, false);
    touched(page, &second, true);
    page.follow("[data-passkey=sign]:nth-of-type(2)");
    page.at("/");

    // The first is lost. The other logs in, and signs that the lost one may no more.
    page.command(
        "WebAuthn.removeVirtualAuthenticator",
        json!({ "authenticatorId": first }),
    );
    page.click("header .pop summary");
    page.follow("form[action='/logout'] button");
    page.at("/login");
    page.follow("[data-passkey=login]");
    page.at("/settings/browser");
    page.follow("form[action='/settings/browser'] button");
    page.follow("[data-passkey=sign]");
    page.at("/");
    page.go("/settings/passkeys");
    page.follow("[aria-label='Remove First passkey']");
    let buttons = page.eval("document.querySelectorAll('[data-passkey=sign]').length");
    assert_eq!(buttons, 1, "the one that is lost does not sign it");
    page.follow("[data-passkey=sign]");
    page.at("/settings/passkeys");
    let said = page.text("main");
    assert!(
        said.contains("the only way in") && !said.contains("First passkey"),
        "{said}"
    );
    page.go("/members");
    let said = page.text("main");
    assert!(said.contains("First key retired"), "{said}");
    send(page, "3");
    page.at("/wallet");
    page.until_says("/wallet", "main", "3");
}
