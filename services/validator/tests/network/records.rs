//! Records as a stranger checks them: there or not, now, and not otherwise.

use api::RecordsProof;
use ledger::account::Account;
use sdk::{Checkpoint, Trust, verify_records};
use types::{AccountId, Amount, DeploymentId, Digest};

use super::{Network, id, key, transfer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_account_has_now_is_proved_and_that_another_is_not_there() {
    let network = Network::new(1);
    let running = network.start(0).await;
    let client = running.client();
    let paid = client.submit_and_wait(&key(200), transfer(id(3), 1)).await;
    let height = paid.expect("applied").height.expect("included");
    let trust = Trust {
        network_key: hex::decode(&network.file.network_key).expect("hex"),
        age_max_ms: 3_600_000,
        checkpoint: None,
    };
    let keys = [id(3), id(77), id(200)];
    let shown = client.records("accounts", &keys).await.expect("proved");
    let now = api::now_ms();
    let check = |trust: &Trust, keys: &[AccountId], shown: &RecordsProof, now| {
        verify_records::<_, Account>(trust, "accounts", keys, shown, now)
    };
    let (sight, records) = check(&trust, &keys, &shown, now).expect("holds");
    assert!(sight.checkpoint.height >= height);
    let has = |at: usize| records[at].as_ref().map(|a| a.spendable);
    assert_eq!(has(0), Some(Amount::credits(1)));
    assert_eq!(has(1), None);
    assert_eq!(has(2), Some(Amount::credits(999_999)));
    assert!(sight.proof_bytes_max + sight.certificate_bytes + light::Header::BYTES <= 2_048);

    // Absence is proved of any table's keys.
    let none = client.records("deployments", &[DeploymentId(9)]).await;
    let none = none.expect("proved");
    let read = verify_records::<_, ledger::deployment::Deployment>(
        &trust,
        "deployments",
        &[DeploymentId(9)],
        &none,
        now,
    );
    assert_eq!(read.expect("holds").1, [None]);

    // Nothing else is proved by it.
    let refused = |trust: &Trust, keys: &[AccountId], shown: &RecordsProof, now, why: &str| {
        let error = check(trust, keys, shown, now).expect_err(why);
        assert!(error.contains(why), "{why}: {error}");
    };
    let changed = |change: &dyn Fn(&mut RecordsProof)| {
        let mut other = shown.clone();
        change(&mut other);
        other
    };
    let swapped = changed(&|s| s.records.swap(0, 2));
    refused(
        &trust,
        &keys,
        &swapped,
        now,
        "the record is not in the state",
    );
    let denied = changed(&|s| s.records[0].record = None);
    refused(
        &trust,
        &keys,
        &denied,
        now,
        "the record is not in the state",
    );
    let made_up = changed(&|s| s.records[1].record = s.records[0].record.clone());
    refused(
        &trust,
        &keys,
        &made_up,
        now,
        "the record is not in the state",
    );
    let fewer = changed(&|s| s.records.truncate(1));
    refused(&trust, &keys, &fewer, now, "were asked for");
    let later = now + 2 * trust.age_max_ms;
    refused(&trust, &keys, &shown, later, "s old");
    let seen = |height, block| Trust {
        checkpoint: Some(Checkpoint {
            height,
            time_ms: 0,
            block,
        }),
        ..trust.clone()
    };
    let ahead = seen(sight.checkpoint.height + 1, Digest::default());
    refused(&ahead, &keys, &shown, now, "which was seen before");
    let forked = seen(sight.checkpoint.height, Digest::default());
    refused(&forked, &keys, &shown, now, "has signed two");
    let cut = Trust {
        network_key: trust.network_key[1..].to_vec(),
        ..trust.clone()
    };
    refused(&cut, &keys, &shown, now, "network key");

    let many = vec![id(1); RecordsProof::KEYS_MAX + 1];
    for (table, keys) in [
        ("accounts", &many[..]),
        ("nothing", &keys[..]),
        ("hosts", &[]),
    ] {
        let error = client.records(table, keys).await.expect_err(table);
        assert_eq!(error.kind(), "invalid", "{table}: {error}");
    }
    running.stop().await;
}
