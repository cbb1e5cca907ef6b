//! Follow the chain into the index: blocks whose chain of headers ends in a certificate of the
//! network key, and the events that their roots name.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::{BlockView, EventView};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::{StreamExt, TryStreamExt};
use sdk::EventFilter;
use types::{PublicKey, merkle_root};

use super::incidents;
use super::store::Store;
use super::write::{self, Certified};
use crate::app::{App, Network, Tick};

/// Blocks asked for at once, and taken in one step.
const AT_ONCE: usize = 8;
const STEP: u64 = 100;
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_AFTER_TROUBLE: Duration = Duration::from_secs(2);
/// Pages of events that one step may take: more means that a server repeats itself.
const PAGES_MAX: usize = 1_000;

/// Follows for ever; says in `app.progress` how far it is and what is wrong.
pub async fn follow(app: App) {
    loop {
        let trouble = match step(&app).await {
            Ok(more) => {
                if more {
                    continue;
                }
                None
            }
            Err(error) => Some(format!("{error:#}")),
        };
        let pause = if trouble.is_some() {
            PAUSE_AFTER_TROUBLE
        } else {
            PAUSE
        };
        if let Some(trouble) = &trouble {
            tracing::warn!(%trouble, "the index does not go on");
            app.tick.send_modify(|tick| tick.stale = true);
        }
        app.progress.send_modify(|p| p.trouble = trouble);
        tokio::time::sleep(pause).await;
    }
}

/// Takes the next blocks. `true`: there are more.
async fn step(app: &App) -> Result<bool> {
    let status = app.client.status().await?;
    let network = Network {
        name: status.name.clone(),
        digest: status.network,
        key: hex::decode(&status.network_key).context("read the network's key")?,
    };
    let known = app.network.get_or_init(|| network.clone());
    if known.digest != network.digest {
        bail!("the address answers for another network now: start the portal anew");
    }
    if app.index.is_old().await? {
        app.client.block(1).await.context(
            "the index is of another version of the portal and is to be made anew from all blocks: \
             name a validator that keeps all with --network, or start the version that made it",
        )?;
    }
    let digest = known.digest.hex();
    let done = app.index.begin(digest).await?;
    app.tick.send_if_modified(|tick| {
        let now = Tick {
            height: status.height,
            time_ms: status.time_ms,
            stale: false,
        };
        let changed = *tick != now;
        *tick = now;
        changed
    });
    app.progress.send_if_modified(|p| {
        let changed = p.height != done.height || p.head != status.height;
        p.height = done.height;
        p.head = status.height;
        changed
    });
    if done.height >= status.height {
        return Ok(false);
    }
    if done.height == 0 {
        seat_founders(app).await?;
    }
    let last = status.height.min(done.height + STEP);
    let blocks = fetch(app, done.height + 1, last).await?;
    let certified = certified(&known.key, done.tip.as_deref(), blocks)?;
    let Some(top) = certified.last().map(|b| b.view.height) else {
        return Ok(false);
    };
    let events = events(app, done.events, top).await?;
    let certified = with_events(certified, events)?;
    // Or another portal took some meanwhile: then there may be more.
    let taken = app
        .index
        .change(move |store| write::take(store, &done, certified))
        .await?;
    Ok(!taken || top < status.height)
}

/// Who votes in the first epoch is in no block: the founders, as the genesis draws them.
async fn seat_founders(app: &App) -> Result<()> {
    let genesis = app.client.network().await?.genesis;
    let begun = ledger::State::genesis(&genesis);
    let seats = begun.committee(0).unwrap_or_default();
    let seats: Vec<PublicKey> = seats.iter().map(|seat| seat.key).collect();
    let seat = move |store: &Store| incidents::seat(store, 0, &seats);
    app.index.change(seat).await
}

async fn fetch(app: &App, from: u64, to: u64) -> Result<Vec<BlockView>> {
    let blocks = futures::stream::iter(from..=to)
        .map(|height| {
            let client = app.client.clone();
            async move { client.block(height).await }
        })
        .buffered(AT_ONCE);
    Ok(blocks.try_collect().await?)
}

/// Those blocks that follow on `tip` and are under a certificate: up to the last that has one.
fn certified(key: &[u8], tip: Option<&str>, mut blocks: Vec<BlockView>) -> Result<Vec<Certified>> {
    while blocks.last().is_some_and(|b| b.certificate.is_empty()) {
        blocks.pop();
    }
    let headers: Vec<Vec<u8>> = blocks
        .iter()
        .map(|b| BASE64.decode(&b.header).context("read a header"))
        .collect::<Result<_>>()?;
    let (Some(first), Some(last)) = (headers.first(), blocks.last()) else {
        return Ok(Vec::new());
    };
    let certificate = BASE64
        .decode(&last.certificate)
        .context("read a certificate")?;
    light::verify_block(key, first, &headers[1..], &certificate)?;
    let mut out = Vec::with_capacity(blocks.len());
    for (view, header) in blocks.into_iter().zip(&headers) {
        let header = light::Header::from_bytes(header)?;
        if header.height != view.height {
            bail!("block {} was answered with another", view.height);
        }
        out.push(Certified {
            view,
            header,
            events: Vec::new(),
        });
    }
    if let (Some(tip), Some(first)) = (tip, out.first())
        && first.header.parent.hex() != tip
    {
        bail!(
            "block {} does not follow on the one that was indexed before it",
            first.view.height
        );
    }
    Ok(out)
}

/// Events from number `from` up to those of block `height`.
async fn events(app: &App, from: u64, height: u64) -> Result<Vec<EventView>> {
    let mut all = Vec::new();
    let mut next = Some(from);
    for _ in 0..PAGES_MAX {
        let Some(at) = next else { return Ok(all) };
        let (page, following) = app.client.events_page(EventFilter::ALL, at).await?;
        let past = page.last().is_some_and(|e| e.height > height);
        all.extend(page.into_iter().filter(|e| e.height <= height));
        if past {
            return Ok(all);
        }
        next = following;
    }
    bail!("the pages of events do not end")
}

/// Puts each event into its block, and checks them against the block's root.
fn with_events(mut blocks: Vec<Certified>, events: Vec<EventView>) -> Result<Vec<Certified>> {
    let mut events = events.into_iter().peekable();
    for block in &mut blocks {
        while let Some(event) = events.next_if(|e| e.height == block.view.height) {
            block.events.push(event);
        }
        let leaves: Vec<Vec<u8>> = block
            .events
            .iter()
            .map(|e| borsh::to_vec(&e.event))
            .collect::<Result<_, _>>()?;
        if merkle_root(&leaves) != block.header.events_root {
            bail!(
                "the events of block {} are not those that it was certified with",
                block.view.height
            );
        }
    }
    if events.peek().is_some() {
        bail!("an event belongs to no block");
    }
    Ok(blocks)
}
