//! A service's own commands beside its process: after it has started, before it is stopped.

use std::time::Duration;

use api::PlannedAllocation;
use engine::{ExecInput, ExecOutput, ExecRequest};
use types::HookSpec;

use crate::shared::Shared;

/// A command that has not ended by then has failed.
pub const TIME_MAX: Duration = Duration::from_secs(600);
/// Of what a command printed, its last bytes go into the message.
const WORDS_MAX: usize = 200;

/// How a command failed.
pub struct Failed {
    pub why: String,
    /// As a shell reports it.
    pub code: i32,
}

/// Runs the commands one after another; the first that fails is the last. `key` names them.
pub async fn run(
    shared: &Shared,
    planned: &PlannedAllocation,
    container: &str,
    (key, hooks): (&str, &[HookSpec]),
) -> Result<(), Failed> {
    for hook in hooks {
        let ran = tokio::time::timeout(TIME_MAX, one(shared, planned, container, hook)).await;
        let command = hook.command.first().map_or("", String::as_str);
        let (code, said) = match ran {
            Ok(Ok((0, _))) => continue,
            Ok(Ok(ended)) => ended,
            Ok(Err(why)) => (126, why),
            Err(_) => (124, "it did not end within ten minutes".into()),
        };
        let why = match said.is_empty() {
            true => format!("{key} `{command}` ended with code {code}"),
            false => format!("{key} `{command}` ended with code {code}: {said}"),
        };
        return Err(Failed { why, code });
    }
    Ok(())
}

/// Its exit code and its last words.
async fn one(
    shared: &Shared,
    planned: &PlannedAllocation,
    container: &str,
    hook: &HookSpec,
) -> Result<(i32, String), String> {
    let user = match &hook.user {
        Some(name) => {
            let image = shared.images.ensure(&planned.spec.image, |_, _| ()).await;
            let image = image.map_err(|e| e.to_string())?;
            let user = engine::resolve_user(&image.layers, name);
            Some(user.map_err(|why| format!("user {name}: {why}"))?)
        }
        None => None,
    };
    let variables = hook.environment.iter();
    let request = ExecRequest {
        args: hook.command.clone(),
        env: variables.map(|(k, v)| format!("{k}={v}")).collect(),
        cwd: hook.working_dir.clone(),
        user,
        terminal: false,
        rows: 0,
        columns: 0,
    };
    let started = shared.engine.exec(container, request).await;
    let mut session = started.map_err(|e| e.to_string())?;
    let _ = session.input.send(ExecInput::StdinClosed).await;
    let mut words = Vec::new();
    while let Some(output) = session.output.recv().await {
        match output {
            ExecOutput::Stdout(bytes) | ExecOutput::Stderr(bytes) => {
                words.extend_from_slice(&bytes);
                words.drain(..words.len().saturating_sub(WORDS_MAX));
            }
            ExecOutput::Exit(code) => {
                let words = String::from_utf8_lossy(&words).trim().to_string();
                return Ok((code, words));
            }
        }
    }
    Err("its container ended".into())
}
