//! Find out that nobody keeps the blocks any more with which this validator could go on.
//!
//! Only told, never acted upon: who answers falsely must not stop a validator.

use std::time::Duration;

use axum::http::StatusCode;
use futures::future::join_all;
use tokio::sync::watch;

use crate::http::{App, others_of};

/// A head that has not moved for so long is looked into.
const STILL: Duration = Duration::from_secs(10);
const ANSWER: Duration = Duration::from_secs(5);
/// The others' engines forget in sections, some blocks later than their APIs: those serve on for so
/// many.
const LATER: u64 = 256;

/// Keeps `App::stuck` true until `stop`.
pub(crate) async fn keep(app: App, mut stop: watch::Receiver<bool>) {
    let mut last = None;
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(STILL) => {}
        }
        let height = app.handle.head().header.height;
        let stuck = match last.replace(height) == Some(height) {
            true => gone(&app, height + 1).await,
            false => None,
        };
        if let Some(why) = &stuck {
            tracing::error!("{why}");
        }
        *app.stuck.lock().expect("not poisoned") = stuck;
    }
}

/// Why it cannot go on, if all who answer have forgotten the block at `height`.
async fn gone(app: &App, height: u64) -> Option<String> {
    let others = others_of(app);
    let asked = others.iter().map(|url| {
        let block = app.peers.get(format!("{url}/v1/blocks/{}", height + LATER));
        let answer = block.timeout(ANSWER).send();
        async move { Some(answer.await.ok()?.status()) }
    });
    let answers: Vec<StatusCode> = join_all(asked).await.into_iter().flatten().collect();
    let all = answers.iter().all(|status| *status == StatusCode::GONE);
    (all && !answers.is_empty()).then(|| {
        format!(
            "this validator was away for too long: the {} others that answer keep block {height} no more, with which it could go on. Stop it, move all in its folder but `seat` and `vault` away, and start it by `runrig validator join` with that folder: it fetches the newest state and keeps its seat and bond",
            answers.len()
        )
    })
}
