//! What a container and its owner write is text in the browser: nothing of it runs, nothing of it
//! is an element.

use fixtures::Page;

use super::{Stage, journeys, look};

const SCRIPT: &str = "<script>window.owned=1</script><img src=x onerror=window.owned=1>";

fn compose() -> String {
    format!(
        r#"name: hostile
services:
  web:
    image: busybox
    command:
      - sh
      - -c
      - |
        printf '\033]0;owned\007\033[31m%s\033[0m \033[2Jend\n' "$$EVIL"
        exec sleep inf
    environment:
      EVIL: "{SCRIPT}"
    labels:
      "evil.label": "\"'>{SCRIPT}"
"#
    )
}

/// `page`: of who owns the image `busybox`.
pub fn is_shown_as_text(stage: &Stage, page: &Page) {
    journeys::deploy(page, &compose());
    page.at("/jobs/hostile");
    page.until_says("/jobs/hostile", "main", "1 of 1");
    page.go("/jobs/hostile/logs");
    page.until("its line", "!!document.querySelector('.log p time')");
    let line = page.eval("document.querySelector('.log p').lastChild.textContent");
    assert_eq!(
        line,
        format!("{SCRIPT} end"),
        "without what is for terminals"
    );
    look::here(stage, page, "job-logs-hostile");
    page.go("/jobs/hostile/releases");
    let text = page.eval("document.querySelector('main').textContent");
    assert!(text.as_str().is_some_and(|t| t.contains(SCRIPT)), "{text}");
    for path in ["", "/logs", "/releases", "/events", "/receipts", "/shell"] {
        page.go(&format!("/jobs/hostile{path}"));
        assert_eq!(page.eval("window.owned === undefined"), true, "{path}");
        let strange = page.eval("document.querySelectorAll('img, script:not([src])').length");
        assert_eq!(strange, 0, "{path}");
    }
    // The policy holds even if something were forgotten.
    page.eval(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.owned=1\">')",
    );
    page.eval("new Promise(done => setTimeout(done, 200))");
    assert_eq!(page.eval("window.owned === undefined"), true);
    journeys::remove(page, "hostile");
    let faults = page.faults(&["Content Security Policy", "status of 404"]);
    assert!(faults.is_empty(), "{faults:?}");
}
