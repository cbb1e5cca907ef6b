//! Turns that passed without a block, and whose they were.

use ledger::Params;
use sdk::Client;
use types::PublicKey;

use super::rules::busy;
use super::{Network, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_makes_no_block_in_its_turn_is_named_until_it_leads_again() {
    let network = Network::with(
        4,
        Params {
            epoch_blocks: 16,
            ..Params::dev()
        },
    );
    let mut running = network.start_all().await;
    let away = consensus::Seat::from_bytes(&network.seats[3]).expect("a seat");
    let away = PublicKey(away.key());
    running.remove(3).stop().await;
    let client: Client = running[0].client();
    let rows = async || client.turns(0).await.expect("told");
    busy(&client, async || {
        let rows = rows().await;
        let missed = rows.iter().flat_map(|row| &row.missed);
        let handed = rows.iter().any(|row| row.handed_on.is_some());
        handed && missed.filter(|m| m.validator == away).count() > 0
    })
    .await;
    for row in rows().await {
        assert!(!row.over.contains(&away), "{row:?}");
    }

    running.push(network.start(3).await);
    busy(&client, async || {
        rows().await.iter().any(|row| row.over.contains(&away))
    })
    .await;
    let newest = rows().await.last().expect("some").time_ms;
    assert!(
        client
            .turns(newest + 600_000)
            .await
            .expect("told")
            .is_empty()
    );

    // Each tells the same of the same blocks, also who was away meanwhile.
    let (told, late) = (rows().await, running[3].client());
    eventually("who came back knows less", async || {
        let own = late.turns(0).await.expect("told");
        own.starts_with(&told)
    })
    .await;
    for one in running {
        one.stop().await;
    }
}
