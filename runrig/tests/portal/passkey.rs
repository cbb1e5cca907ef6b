//! An account whose key is a passkey: the browser signs, the portal never has it.

use fixtures::Page;
use serde_json::json;

use super::Stage;

/// Gives the tab an authenticator whose owner always agrees.
fn authenticator(page: &Page) {
    page.command("WebAuthn.enable", json!({}));
    page.command(
        "WebAuthn.addVirtualAuthenticator",
        json!({ "options": {
            "protocol": "ctap2", "transport": "internal", "hasResidentKey": true,
            "hasUserVerification": true, "isUserVerified": true,
            "automaticPresenceSimulation": true } }),
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
    authenticator(&page);
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
    let faults = page.faults(&["status of 4"]);
    assert!(faults.is_empty(), "{faults:?}");
    page
}
