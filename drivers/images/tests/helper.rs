//! Credential programs, as Docker's desktop and clouds bring them. Alone in its process: they
//! are looked for along PATH.

mod world;

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use images::{Access, Credentials, ImageError};
use serde_json::json;
use world::{Fake, Faults, Guard, PASSWORD, USER, umoci_image};

fn program(folder: &std::path::Path, name: &str, script: &str) {
    let path = folder.join(format!("docker-credential-{name}"));
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("written");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&path, mode).expect("set");
}

#[test]
fn credential_programs_are_asked_and_not_waited_for_forever() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = std::env::var("PATH").unwrap_or_default();
    // SAFETY: no other thread runs yet that reads the environment.
    unsafe { std::env::set_var("PATH", format!("{}:{path}", dir.path().display())) };
    let answer = format!(r#"echo '{{"Username":"{USER}","Secret":"{PASSWORD}"}}'"#);
    program(
        dir.path(),
        "right",
        &format!(r#"read host; case "$1 $host" in "get 127.0.0.1:"*) {answer};; *) exit 1;; esac"#),
    );
    program(
        dir.path(),
        "empty",
        "echo 'credentials not found in native keychain'; exit 1",
    );
    program(
        dir.path(),
        "broken",
        "echo 'the keychain is locked'; exit 1",
    );
    program(dir.path(), "hanging", "exec sleep 600");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let layout = dir.path().join("layout");
        umoci_image(&layout, "v1", "hello", 1);
        let fake = Fake::start(&layout, Guard::Basic, Faults::default()).await;
        let file = dir.path().join("config.json");
        let address = fake.address();
        for (config, expected) in [
            (json!({ "credHelpers": { &address: "right" } }), Ok(())),
            (json!({ "credsStore": "right" }), Ok(())),
            (json!({ "credsStore": "empty" }), Err("docker login")),
            (
                json!({ "credsStore": "broken" }),
                Err("the keychain is locked"),
            ),
            (
                json!({ "credsStore": "hanging" }),
                Err("did not answer within"),
            ),
            (json!({ "credsStore": "missing" }), Err("does not start")),
            (json!({ "credsStore": "../right" }), Err("is no name")),
        ] {
            std::fs::write(&file, config.to_string()).expect("written");
            let credentials = Credentials::of_file(&file).with_program_time(Duration::from_secs(2));
            let access = Access {
                credentials,
                ..Access::default()
            };
            let got = images::resolve(&fake.reference("v1"), &access).await;
            match (got, expected) {
                (Ok(_), Ok(())) => {}
                (Err(error @ ImageError::Denied { .. }), Err(words)) => {
                    assert!(error.to_string().contains(words), "{error}");
                }
                (got, _) => panic!("{config}: {got:?}"),
            }
        }
    });
}
