//! Programs for browsers: what compiles them, and bringing it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use anyhow::Result;

use crate::command;

pub const TARGET: &str = "wasm32-unknown-unknown";
/// Has boundary/browser made, or fail; a run of `cargo` that says otherwise itself is left alone.
const SWITCH: &str = "RUNRIG_BROWSER_CHECK";

/// What is not here of it.
pub fn lacks() -> Result<Option<String>> {
    let sysroot = command::read(Command::new("rustc").args(["--print", "sysroot"]))?;
    let target = PathBuf::from(sysroot.trim())
        .join("lib/rustlib")
        .join(TARGET);
    let clang = Command::new("clang").arg("--version").output();
    Ok(match (target.is_dir(), clang) {
        (false, _) => Some(format!("`rustup target add {TARGET}`")),
        (_, Err(_)) => Some("clang, for the curve's C".to_string()),
        _ => None,
    })
}

/// Adds the target where rustup is. Nothing else needs it: whatever fails is said, and the portal's pages
/// then say that they came without the check.
pub fn add_target() {
    let here = lacks().is_ok_and(|lacks| lacks.is_none_or(|what| !what.contains(TARGET)));
    if here {
        return;
    }
    eprintln!("installing: {TARGET}, by rustup (for tests that check proofs in a browser)");
    let mut rustup = Command::new("rustup");
    rustup.args(["target", "add", TARGET]);
    if let Err(error) = command::run(rustup.stdout(std::io::stderr())) {
        eprintln!("{TARGET} is not installed, and what needs it is left out: {error:#}");
    }
}

/// Whether builds have the program in them, as all of one run of ours do or do not.
pub fn switch() -> Option<(&'static str, &'static str)> {
    static READY: OnceLock<bool> = OnceLock::new();
    let said = std::env::var_os(SWITCH).is_some();
    let ready = || matches!(lacks(), Ok(None));
    (!said && *READY.get_or_init(ready)).then_some((SWITCH, "on"))
}

/// Why no test presses the button, if none does.
pub fn left_out() -> Option<String> {
    match std::env::var(SWITCH) {
        Ok(said) if said == "on" => None,
        Ok(said) => Some(format!("{SWITCH}={said}")),
        Err(_) => match lacks() {
            Ok(lacks) => lacks.map(|what| format!("install {what}")),
            Err(error) => Some(format!("{error:#}")),
        },
    }
}
