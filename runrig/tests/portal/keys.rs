//! A second key of an account: it does what its role says, from the ledger to the hosts, until it
//! is taken back.

use fixtures::until;

use super::Stage;

const COMPOSE: &str =
    "name: keyed\nservices:\n  web:\n    image: busybox\n    command: [sleep, inf]\n";

pub fn of_an_account(stage: &Stage) {
    let cloud = &stage.cloud;
    cloud.load(&fixtures::busybox());
    cloud.up(COMPOSE);
    let who = cloud.json(&["whoami"]);
    let account = who["account"].as_str().expect("an account");
    let file = cloud.data().join("ci.key").display().to_string();
    let add = [
        "account",
        "keys",
        "add",
        "--new",
        &file,
        "--role",
        "developer",
        "--limit",
        "2",
        "--every",
        "30d",
        "--expires",
        "90d",
        "--label",
        "ci",
    ];
    let added = cloud.json(&add);
    let key = added["key"].as_str().expect("a key");
    let listed = cloud.good(&["account", "keys", "ls"]);
    assert!(
        listed.contains(key) && listed.contains("developer"),
        "{listed}"
    );

    let by_key = |args: &[&str]| {
        let mut all = vec!["--account", account, "--key", &file];
        all.extend(args);
        cloud.run(&all)
    };
    let shell = ["exec", "web", "--", "echo", "inside"];
    until("the host lets the key in", || {
        by_key(&shell).1.trim() == "inside"
    });
    let (code, _, err) = by_key(&["restart", "keyed"]);
    assert_eq!(code, 0, "{err}");
    let (code, _, err) = by_key(&["wallet", "send", key, "1", "--yes"]);
    assert!(code != 0 && err.contains("which does not do this"), "{err}");

    cloud.good(&["account", "keys", "revoke", key]);
    let (code, _, err) = by_key(&["restart", "keyed"]);
    assert!(code != 0 && err.contains("may not act for"), "{err}");
    until("the host lets the key in no more", || by_key(&shell).0 != 0);
    cloud.good(&["down", "keyed"]);
}
