//! A limit that is set on its page is the ledger's, and what it stops says so everywhere.

use fixtures::Page;

use super::{Stage, journeys, look};

/// `page`: of somebody who runs `journey`.
pub fn are_set_on_their_page(stage: &Stage, page: &Page) {
    let set = |alert: &str, limit: &str, order: &str| {
        page.go("/bills/limits");
        for (field, text) in [("#alert", alert), ("#limit", limit), ("#order", order)] {
            page.eval(&format!("document.querySelector('{field}').value = ''"));
            if !text.is_empty() {
                page.fill(field, text);
            }
        }
        page.follow("form[action='/bills/limits'] button");
    };
    // What makes no sense is said where it was typed, before anything is approved.
    set("lots", "", "");
    page.at("/bills/limits");
    assert!(page.text("main").contains("lots"), "{}", page.text("main"));

    set("20", "50", "journey");
    journeys::approve(page);
    page.at("/bills/limits");
    page.until_says("/bills/limits", "tbody", "50");
    let cli = page.text("main");
    assert!(
        cli.contains("runrig limit set --alert 20 --limit 50 --order journey"),
        "{cli}"
    );
    page.until_says("/bills", "main", "Set limits");
    look::here(stage, page, "bills-limited");

    set("", "0", "journey");
    journeys::approve(page);
    page.until_says("/jobs/journey", "main", "Stopped by the limit");
    look::here(stage, page, "job-limited");
    page.until_says("/", "main", "stopped by the limit");
    page.until_says("/bills/limits", "tbody", "Stopped by the limit");
    look::here(stage, page, "limits-reached");

    set("", "", "");
    journeys::approve(page);
    page.until_says("/jobs/journey", ".pagehead", "Running");
    let faults = page.faults(&["status of 4"]);
    assert!(faults.is_empty(), "{faults:?}");
}
