//! A terminal that logs in by a code: from "not logged in" to a deployment and back out; with a
//! password and with a passkey.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use fixtures::{Page, Program, until};
use serde_json::Value;

use super::{Stage, journeys, look};

const COMPOSE: &str =
    "name: away\nservices:\n  web:\n    image: busybox\n    command: [sleep, inf]\n";

/// `runrig login` of a machine, and what it has said so far.
struct Asking {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
    asked: Value,
}

impl Asking {
    fn start(machine: &Program, args: &[&str]) -> Self {
        let mut command = machine.command(&[&["login", "--json"], args].concat());
        let mut child = command.stdout(Stdio::piped()).spawn().expect("runrig runs");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let asked = next(&mut lines);
        Self {
            child,
            lines,
            asked,
        }
    }

    fn code(&self) -> &str {
        self.asked["code"].as_str().expect("a code")
    }

    /// Its exit code, and what it said last.
    fn end(mut self) -> (i32, Value) {
        let last = self.lines.next().map(|line| line.expect("text"));
        let status = self.child.wait().expect("it ends");
        let last = last.map(|line| serde_json::from_str(&line).expect("JSON"));
        (status.code().unwrap_or(-1), last.unwrap_or_default())
    }
}

fn next(lines: &mut std::io::Lines<BufReader<ChildStdout>>) -> Value {
    let line = lines.next().expect("a line").expect("text");
    serde_json::from_str(&line).expect("JSON")
}

fn typed(page: &Page, code: &str) {
    page.go("/device");
    page.fill("#code", code);
    page.follow("button[value=look]");
}

pub fn by_a_code(stage: &Stage, folder: &std::path::Path) {
    let folder = folder.join("laptop");
    std::fs::create_dir(&folder).expect("a folder");
    let laptop = Program::new(env!("CARGO_BIN_EXE_runrig"), &folder);
    std::fs::write(folder.join("compose.yaml"), COMPOSE).expect("written");
    let up = ["up", "--yes", "--wait"];
    let (code, _, err) = laptop.run(&up);
    assert!(code == 4 && err.contains("runrig login"), "{code} {err}");

    let page = stage.browser.visitor(&stage.site);
    page.go("/device");
    page.at("/login");
    page.go("/signup");
    journeys::fill_in(&page, "lise");
    page.follow(journeys::SIGN_UP);
    page.at("/");

    let evil = "lise@laptop <b>";
    let asking = Asking::start(&laptop, &[&stage.site, "--name", evil]);
    // Who waits goes on waiting while the portal is started anew.
    stage.cloud.without("portal", || {});
    until("the portal answers", || {
        page.eval("fetch('/healthz').then(a => a.ok, () => false)") == true
    });
    typed(&page, "BBBB-BBBB");
    let said = page.text("main");
    assert!(said.contains("No machine waits"), "{said}");
    typed(&page, &asking.code().to_lowercase());
    let said = page.text("main");
    assert!(
        said.contains(evil) && said.contains("your address"),
        "{said}"
    );
    let key = asking.asked["key"].as_str().expect("a key").to_string();
    assert!(said.contains(&key[..6]), "{said}");
    look::here(stage, &page, "device-asks");
    page.follow("button[value=allow]");
    journeys::approve(&page);
    let said = page.text("main");
    assert!(said.contains("It may act for you"), "{said}");
    look::here(stage, &page, "device-done");
    let (code, done) = asking.end();
    assert_eq!(
        (code, &done["context"]),
        (0, &Value::from("dev-lise")),
        "{done}"
    );
    let who: Value = serde_json::from_str(&laptop.good(&["whoami", "--json"])).expect("JSON");
    assert_eq!(who["account"], done["account"]);
    assert_eq!(who["key"], done["key"]);
    assert_eq!(who["grant"]["role"], "developer");
    assert_eq!(who["grant"]["limit"]["amount"], "50");

    // It does what a developer does, from the registry to a shell, and nothing else.
    let image = stage.image.display().to_string();
    laptop.good(&["image", "load", &image]);
    until("it fits", || laptop.run(&up).0 == 0);
    until("the host lets it in", || {
        laptop
            .run(&["exec", "web", "--", "echo", "inside"])
            .1
            .trim()
            == "inside"
    });
    let (code, _, err) = laptop.run(&["wallet", "send", &key, "1", "--yes"]);
    assert!(code != 0 && err.contains("which does not do this"), "{err}");
    page.until_says("/jobs", "main", "away");
    laptop.good(&["down", "away"]);

    // Out: nothing is left here or there.
    laptop.good(&["logout"]);
    let (code, _, err) = laptop.run(&["whoami"]);
    assert!(code == 4 && err.contains("not logged in"), "{code} {err}");
    let config = folder.join("config/runrig");
    let keys = std::fs::read_dir(config.join("keys")).expect("a folder");
    assert_eq!(keys.count(), 0, "the key is gone");
    page.go("/members");
    assert!(!page.text("main").contains(evil), "{}", page.text("main"));

    // What is refused is nothing; what is taken back ends here with a word what to do.
    let asking = Asking::start(&laptop, &[&stage.site]);
    typed(&page, asking.code());
    page.follow("button[value=refuse]");
    assert_eq!(asking.end().0, 4);
    let asking = Asking::start(&laptop, &[&stage.site, "--name", "desk"]);
    typed(&page, asking.code());
    page.follow("button[value=allow]");
    journeys::approve(&page);
    let (code, done) = asking.end();
    assert_eq!(code, 0);
    let key = done["key"].as_str().expect("a key");
    page.go("/members");
    page.follow(&format!(
        "form[action='/members/revoke']:has([value='{key}']) button"
    ));
    journeys::approve(&page);
    page.at("/members");
    for command in [&["whoami"][..], &up] {
        let (code, _, err) = laptop.run(command);
        assert!(code == 4 && err.contains("runrig login"), "{code} {err}");
    }
    laptop.good(&["logout"]);
    let faults = page.faults(&[
        "status of 4",
        "ERR_CONNECTION",
        "ERR_INCOMPLETE",
        "ERR_EMPTY",
    ]);
    assert!(faults.is_empty(), "{faults:?}");
}

/// A key made in the portal, shown once, used by a program, taken back.
pub fn by_a_key_of_the_portal(stage: &Stage, folder: &std::path::Path) {
    let folder = folder.join("program");
    std::fs::create_dir(&folder).expect("a folder");
    let program = Program::new(env!("CARGO_BIN_EXE_runrig"), &folder);
    let page = stage.browser.visitor(&stage.site);
    page.go("/signup");
    journeys::fill_in(&page, "konrad");
    page.follow(journeys::SIGN_UP);
    page.at("/");
    page.go("/settings/keys");
    page.fill("#label", "ci <of the press>");
    page.follow("form[action='/settings/keys'] button.primary");
    journeys::approve(&page);
    let said = page.text("main");
    assert!(said.contains("only time that it is shown"), "{said}");
    look::here(stage, &page, "api-key-made");
    let texts =
        page.eval("[...document.querySelectorAll('main .row .code')].map(n => n.innerText)");
    let (key, line) = (
        texts[0].as_str().expect("a key"),
        texts[1].as_str().expect("a line"),
    );
    let file = folder.join("ci.key");
    std::fs::write(&file, key).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .expect("kept for its owner");
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    let (globals, _) = words.split_at(6);
    let by_key = |args: &[&str]| program.run(&[globals, args].concat());
    let (code, out, err) = by_key(&["whoami", "--json"]);
    assert_eq!(code, 0, "{err}");
    let who: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(who["grant"]["role"], "developer");
    assert_eq!(who["grant"]["limit"]["amount"], "5");
    // What it did last stands in the list, once the index has it.
    let image = stage.image.display().to_string();
    assert_eq!(by_key(&["image", "load", &image]).0, 0);
    std::fs::write(folder.join("compose.yaml"), COMPOSE).expect("written");
    until("it fits", || by_key(&["up", "--yes"]).0 == 0);
    let key = who["key"].as_str().expect("a key");
    let last_act = format!("tr:has([value='{key}']) td[data-l='Last act']");
    page.until_says("/settings/keys", &last_act, "ago");
    assert_eq!(by_key(&["down", "away"]).0, 0);
    let revoke = format!("form[action='/members/revoke']:has([value='{key}']) button");
    page.follow(&revoke);
    journeys::approve(&page);
    let (code, _, err) = by_key(&["whoami"]);
    assert!(code == 4 && err.contains("may not act for"), "{code} {err}");
    let faults = page.faults(&["status of 4"]);
    assert!(faults.is_empty(), "{faults:?}");
}

/// A passkey signs for a machine; `page` is its owner's.
pub fn with_a_passkey(stage: &Stage, folder: &std::path::Path, page: &Page) {
    let folder = folder.join("desk");
    std::fs::create_dir(&folder).expect("a folder");
    let desk = Program::new(env!("CARGO_BIN_EXE_runrig"), &folder);
    let asking = Asking::start(&desk, &[&stage.site]);
    typed(page, asking.code());
    page.follow("button[value=allow]");
    page.follow("[data-passkey=sign]");
    let (code, done) = asking.end();
    assert_eq!(
        (code, &done["context"]),
        (0, &Value::from("dev-hedy")),
        "{done}"
    );
    desk.good(&["ls"]);
    desk.good(&["logout"]);
}
