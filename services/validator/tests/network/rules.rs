//! Time, duties, votes and lotteries on real validators, each checked as a stranger would.

use std::time::{Duration, Instant};

use ledger::{Call, Params};
use sdk::Client;
use types::Amount;

use super::{Network, PATIENCE, id, key, transfer};

#[tokio::test(flavor = "multi_thread")]
async fn between_which_times_something_came_about_is_checked_from_two_blocks() {
    let network = Network::new(2);
    let running = [network.start(0).await, network.start(1).await];
    let client = running[0].client();
    let trusted = hex::decode(&network.file.network_key).expect("hex");
    let paid = client.submit_and_wait(&key(200), transfer(id(3), 1)).await;
    let paid = paid.expect("applied");
    let what = paid.id.to_string();
    let from = Instant::now();
    let view = loop {
        assert!(from.elapsed() < PATIENCE, "nobody has seen it final");
        let view = client.when(&what).await.expect("known");
        if view.seen.is_some() {
            break view;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let steps = sdk::verify_when(&trusted, &what, &view);
    assert!(steps.iter().all(|s| s.good), "{steps:?}");
    // As the explorer writes it.
    let steps = sdk::verify_when(&trusted, &paid.id.hex(), &view);
    assert!(steps.iter().all(|s| s.good), "{steps:?}");
    let applied = steps.iter().any(|s| s.what.ends_with("it was applied"));
    assert!(applied, "{steps:?}");
    assert_eq!(Some(view.height), paid.height);
    assert!(view.not_after_ms >= Some(view.not_before_ms), "{view:?}");
    let now = api::now_ms();
    let ago = now - view.not_before_ms;
    assert!(ago < PATIENCE.as_millis() as u64, "{view:?} at {now}");

    let doubt = |change: &dyn Fn(&mut api::WhenView)| {
        let mut other = view.clone();
        change(&mut other);
        let steps = sdk::verify_when(&trusted, &what, &other);
        assert!(!steps.last().expect("a step").good, "{steps:?}");
    };
    doubt(&|v| v.not_before_ms += 1);
    doubt(&|v| v.not_after_ms = Some(now));
    doubt(&|v| v.seen = Some(v.made.clone()));
    doubt(&|v| v.made = v.seen.clone().expect("seen"));
    doubt(&|v| v.transaction = None);
    doubt(&|v| v.transaction.as_mut().expect("asked for").index += 1);
    doubt(&|v| v.transaction.as_mut().expect("asked for").outcome = Some("AAAA".into()));
    let height = view.height.to_string();
    let block = client.when(&height).await.expect("a block");
    let steps = sdk::verify_when(&trusted, &height, &block);
    assert!(steps.iter().all(|s| s.good), "{steps:?}");

    let duties = client.duties(0).await.expect("counted");
    assert_eq!(duties.validators.len(), 2);
    assert!(duties.validators.iter().all(|v| v.stated > 0), "{duties:?}");
    assert!(client.duties(7).await.is_err());
    for nothing in ["0", "99999999", "soon", &"f".repeat(64)] {
        assert!(client.when(nothing).await.is_err(), "{nothing}");
    }
    for one in running {
        one.stop().await;
    }
}

/// Transfers until `done`, so that blocks come fast.
pub(crate) async fn busy(client: &Client, mut done: impl AsyncFnMut() -> bool) {
    let from = Instant::now();
    while !done().await {
        assert!(from.elapsed() < 2 * PATIENCE, "it does not come");
        let paid = client.submit_and_wait(&key(200), transfer(id(3), 1)).await;
        paid.expect("applied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lottery_is_drawn_again_from_its_file_alone() {
    use ledger::lottery::{Call as Ask, Phase};
    let network = Network::with(
        2,
        Params {
            epoch_blocks: 16,
            ..Params::dev()
        },
    );
    let running = [network.start(0).await, network.start(1).await];
    let client = running[0].client();
    let now = client.status().await.expect("a head").height;
    let create = |close_height| {
        Call::Lottery(Ask::Create {
            name: "fair".into(),
            price: Amount::credits(1),
            stake: Amount(0),
            prizes: vec![500_000, 250_000],
            entries_min: 2,
            entries_max: 10,
            per_account_max: 10,
            close_height,
            draw_height: close_height,
        })
    };
    for _ in 0..2 {
        let made = client.submit_and_wait(&key(200), create(now + 12)).await;
        made.expect("created");
    }
    let (drawn, paid_back) = (types::LotteryId(1), types::LotteryId(2));
    for (lottery, count) in [(drawn, 5), (paid_back, 1)] {
        let enter = Call::Lottery(Ask::Enter { lottery, count });
        let entered = client.submit_and_wait(&key(200), enter).await;
        entered.expect("entered");
    }
    busy(&client, async || {
        let view = client.lottery(drawn).await.expect("there");
        view.round.phase == Phase::Drawn
    })
    .await;
    let trusted = hex::decode(&network.file.network_key).expect("hex");
    for id in [drawn, paid_back] {
        let export = client.lottery_export(id).await.expect("exported");
        let text = serde_json::to_string(&export).expect("encodes");
        let export: api::LotteryExport = serde_json::from_str(&text).expect("reads");
        let steps = sdk::verify_lottery(&trusted, &export);
        assert!(steps.iter().all(|s| s.good), "{steps:?}");
    }
    let export = client.lottery_export(drawn).await.expect("exported");
    let other = client.lottery_export(paid_back).await.expect("exported");
    let doubt = |change: &dyn Fn(&mut api::LotteryExport)| {
        let mut false_one = export.clone();
        change(&mut false_one);
        let steps = sdk::verify_lottery(&trusted, &false_one);
        assert!(!steps.last().expect("a step").good, "{steps:?}");
    };
    doubt(&|e| e.lottery = paid_back);
    doubt(&|e| e.entries[0].account = id(9));
    doubt(&|e| e.entries.truncate(4));
    doubt(&|e| e.closed.clone_from(&other.closed));
    doubt(&|e| e.over.clone_from(&other.over));
    doubt(&|e| e.told = None);
    doubt(&|e| e.over.as_mut().expect("drawn").event.push('A'));
    let steps = sdk::verify_lottery(&[1; 96], &export);
    assert!(!steps[0].good);
    assert_eq!(client.lotteries().await.expect("listed").len(), 2);
    assert!(client.lottery(types::LotteryId(9)).await.is_err());
    for one in running {
        one.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn duties_are_paid_out_of_fees_and_a_vote_changes_them() {
    use ledger::vote::{Call as Ask, Change, Phase};
    let network = Network::with(
        2,
        Params {
            epoch_blocks: 16,
            vote_delay_blocks: 1,
            fee: Amount(1_001),
            ..Params::dev()
        },
    );
    let running = [network.start(0).await, network.start(1).await];
    let client = running[0].client();
    busy(&client, async || {
        client.duties(0).await.is_ok_and(|d| d.ended)
    })
    .await;
    let duties = client.duties(0).await.expect("counted");
    assert!(!duties.fees.is_zero(), "{duties:?}");
    let earned: u128 = duties.validators.iter().map(|v| v.earned.0).sum();
    assert_eq!(earned, duties.fees.0, "{duties:?}");
    for one in &duties.validators {
        let account = client.account(types::AccountId::of(&one.key)).await;
        let balance = account.expect("an account").balance;
        assert!(!one.earned.is_zero() && balance >= one.earned, "{one:?}");
    }

    let seats = network.seats.iter();
    let keys: Vec<types::SecretKey> = seats
        .map(|seat| consensus::Seat::from_bytes(seat).expect("a seat").secret())
        .map(types::SecretKey::from_seed)
        .collect();
    let change = Change::Fee(Amount(5));
    let propose = || Call::Vote(Ask::Propose { change });
    let rich = client.submit_and_wait(&key(200), propose()).await;
    assert_eq!(rich.expect_err("credits are no votes").kind(), "forbidden");
    let proposed = client.submit_and_wait(&keys[0], propose()).await;
    proposed.expect("proposed");
    let cast = Call::Vote(Ask::Cast {
        proposal: types::ProposalId(1),
        yes: true,
    });
    client.submit_and_wait(&keys[1], cast).await.expect("cast");
    busy(&client, async || {
        let view = client.proposal(types::ProposalId(1)).await.expect("there");
        matches!(view.proposal.phase, Phase::Done { .. })
    })
    .await;
    assert_eq!(client.params().await.expect("read").fee, Amount(5));
    assert_eq!(client.proposals().await.expect("listed").len(), 1);
    for one in running {
        one.stop().await;
    }
}
