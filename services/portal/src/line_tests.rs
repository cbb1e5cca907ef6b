//! Every page shows the same act, or the same figures, as a line of the command line. That the command
//! line understands such lines is tested where it is.

use crate::hostile_tests::stage;
use crate::routes;
use crate::tests::filled;
use crate::web::Who;

/// Pages without such a line, and why.
const WITHOUT: [(&str, &str); 4] = [
    ("/settings/space", "the command line edits no space"),
    ("/o/{handle}", "it is an organisation's own, for anybody"),
    ("/explorer/search", "what it finds has a line of its own"),
    ("/docs/{name}", "its text has the lines"),
];

#[tokio::test]
async fn every_page_shows_the_same_as_a_line_of_the_command_line() {
    let (site, cookie, _) = stage().await;
    let mut lacking = Vec::new();
    let mut looked = 0;
    for route in routes::table() {
        let endless = route.path.starts_with("/live") || route.path.ends_with("/stream");
        if route.method != "GET" || endless || !matches!(route.who, Who::Member | Who::Anyone) {
            continue;
        }
        let answer = site.get(&filled(route.path), &cookie).await;
        let shown = answer.status().is_success();
        let page = answer.text().await.expect("text");
        // Files and parts of pages are not pages.
        if !shown || !page.contains("<h1") || route.path.starts_with("/parts/") {
            continue;
        }
        looked += 1;
        let without = WITHOUT.iter().any(|(path, _)| *path == route.path);
        if page.contains("class=\"cli\"") == without {
            lacking.push(route.path);
        }
    }
    assert!(looked > 50, "{looked}");
    assert_eq!(lacking, Vec::<&str>::new(), "with and without");
}
