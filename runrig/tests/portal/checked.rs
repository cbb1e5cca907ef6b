//! Proofs that the browser checks by itself, by the program that the portal brings.

use fixtures::{Certified, Page};

use super::{Stage, look};

const BUTTON: &str = "[data-check] button";

/// Presses the button; what is said then.
fn press(page: &Page) -> String {
    page.eval("document.querySelector('[data-part=said]').replaceChildren()");
    page.click(BUTTON);
    page.until(
        "an answer",
        "!!document.querySelector('[data-part=said] .alert')",
    );
    page.text("[data-part=said]")
}

/// Opens a page and has its proof checked.
fn holds(page: &Page, path: &str, words: &str) {
    page.until_says(path, "main", "Check it in this browser");
    let said = press(page);
    assert!(
        said.contains("Checked in this browser") && said.contains(words),
        "{path}: {said}"
    );
    let steps = page.eval("document.querySelectorAll('[data-part=steps] .ic.ok').length");
    assert!(steps.as_u64() >= Some(2), "{path}: {steps}");
}

/// Of a receipt, a transaction, a block, an account and a host; and what does not hold.
pub fn in_the_browser(stage: &Stage) {
    let page = stage.browser.visitor(&stage.site);
    let receipt = "/explorer/receipts/r-1";
    page.until_says(receipt, "main", "Check it in this browser");
    assert!(page.text("main").contains("runrig receipt r-1 --verify"));
    if page.eval(&format!("!document.querySelector({BUTTON:?})")) == true {
        let said = page.text("main");
        assert!(said.contains("without the program for that"), "{said}");
        eprintln!("skipped: this build has no program that checks proofs in browsers");
        return;
    }
    // Nothing is loaded before somebody asks.
    let loaded = "performance.getEntriesByType('resource').some(r => r.name.endsWith('.wasm'))";
    assert_eq!(page.eval(loaded), false);
    holds(&page, receipt, "Receipt r-1:");
    assert_eq!(page.eval(loaded), true);
    look::here(stage, &page, "receipt-checked");

    page.go("/explorer/transactions");
    page.follow("table a.row");
    let path = page.eval("location.pathname");
    let path = path.as_str().expect("a path");
    holds(&page, path, "in block");
    holds(&page, "/explorer/blocks/2", "Block 2 is final");
    page.go(receipt);
    let payee = "[...document.querySelectorAll('a[href^=\"/explorer/accounts/\"]')].pop().pathname";
    let account = page.eval(payee);
    holds(&page, account.as_str().expect("a path"), "The account has ");

    page.go(receipt);
    let host = page.eval("document.querySelector('a[href^=\"/explorer/hosts/\"]').pathname");
    holds(&page, host.as_str().expect("a path"), "and has earned");

    another_key(stage, &page, receipt);
    page.scripts(false);
    page.go(receipt);
    let said = page.text("main");
    assert!(
        said.contains("It takes a script") && !said.contains("Check it here"),
        "{said}"
    );
    assert!(said.contains("runrig receipt r-1 --verify"), "{said}");
    page.scripts(true);
    let faults = page.faults(&[]);
    assert!(faults.is_empty(), "{faults:?}");
}

/// Whoever brings the key of another network is told that this is not its proof, on every page until
/// he lets go of it.
fn another_key(stage: &Stage, page: &Page, receipt: &str) {
    let other: String = Certified::by(9)
        .network_key()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    page.go(receipt);
    page.click("[data-check] summary");
    page.fill("#check-key", &other);
    page.click("label:has(#check-keep)");
    let said = press(page);
    assert!(
        said.contains("not made by this network's committee"),
        "{said}"
    );
    look::here(stage, page, "receipt-refused");
    page.go("/explorer/blocks/2");
    let said = page.text("[data-check]");
    assert!(
        said.contains("is not the one that this portal says"),
        "{said}"
    );
    assert!(press(page).contains("not made by this network's committee"));
    // A proof that was changed on its way, by the right key.
    page.click("[data-check] summary");
    page.click("label:has(#check-keep)");
    page.eval("document.querySelector('#check-key').value = document.querySelector('[data-check]').dataset.networkKey");
    page.eval("document.querySelector('[data-check]').dataset.proof = '/explorer/proofs/blocks/3'");
    let said = press(page);
    assert!(said.contains("It does not hold"), "{said}");
    holds(page, "/explorer/blocks/2", "Block 2 is final");
}
