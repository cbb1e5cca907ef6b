//! A network's state is exported at an epoch's end; another network, of other validators, goes on
//! from it with the same balances. A file that was changed is refused.

use std::path::Path;
use std::time::{Duration, Instant};

use fixtures::{Founded, Program};
use ledger::{Call, account};
use sdk::Client;
use types::{AccountId, Amount, SecretKey};

const PATIENCE: Duration = Duration::from_secs(240);

/// A network whose validators run.
struct Network {
    client: Client,
    founded: Founded,
}

fn found(program: &Program, name: &str, validators: usize, more: &[&str]) -> Network {
    let founded = Founded::start(program, name, validators, more);
    Network {
        client: Client::new(founded.urls.iter().cloned()).expect("a client"),
        founded,
    }
}

impl Network {
    async fn height(&self, least: u64) {
        let from = Instant::now();
        loop {
            let height = self.client.status().await.map(|s| s.height);
            if height.as_ref().is_ok_and(|height| *height >= least) {
                return;
            }
            assert!(
                from.elapsed() < PATIENCE,
                "height {least} not in time: {height:?}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn pay(&self, from: &SecretKey, to: AccountId, amount: Amount) {
        let memo = String::new();
        let call = Call::Account(account::Call::Transfer { to, amount, memo });
        let paid = self.client.submit_and_wait(from, call).await;
        let paid = paid.expect("submitted");
        assert!(paid.rejection.is_none(), "{paid:?}");
    }

    async fn balance(&self, of: AccountId) -> Amount {
        self.client.account(of).await.expect("an account").balance
    }
}

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed([n; 32])
}

fn id(n: u8) -> AccountId {
    AccountId::of(&key(n).public())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_goes_on_from_what_another_came_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::new(env!("CARGO_BIN_EXE_runrig"), folder.path());
    let path = |name: &str| program.file(name);
    let old = found(
        &program,
        "old",
        2,
        &["--epoch-blocks", "16", "--fee", "0.5"],
    );
    old.height(1).await;
    let text = std::fs::read_to_string(path("old/keys/founder")).expect("a key");
    let founder = SecretKey::from_hex(text.trim()).expect("a key");
    for n in 1..=3u8 {
        old.pay(&founder, id(n), Amount::credits(100 * u64::from(n)))
            .await;
    }
    let before = old.client.supply().await.expect("a supply");
    let network = old.client.network().await.expect("a file");
    let export = path("state.export");
    let url = network.validators[0].api.clone();
    let args = [
        "chain", "export", "--out", &export, "--epoch", "0", "--url", &url,
    ];
    let key_of_old = ["--network-key", &network.network_key];
    program.good(&[&args[..], &key_of_old[..]].concat());
    let (code, _, err) = program.run(&args);
    assert!(code != 0 && err.contains("is not written over"), "{err}");
    let founders = old.balance(AccountId::of(&founder.public())).await;
    drop(old.founded);

    // One bit, anywhere: nothing is made of it.
    let bytes = std::fs::read(&export).expect("reads");
    for at in [5, 200, 400, bytes.len() / 2, bytes.len() - 1] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        std::fs::write(path("changed"), changed).expect("writes");
        let out = path("none");
        let init = ["network", "init", "--from", &path("changed"), "--out", &out];
        let (code, _, err) = program.run(&[&init[..], &key_of_old[..]].concat());
        assert!(
            code != 0 && err.contains("nothing was made"),
            "byte {at}: {err}"
        );
        assert!(!Path::new(&out).exists(), "byte {at}");
    }

    let from = [&["--from", &export][..], &key_of_old[..]].concat();
    let mut new = found(&program, "new", 3, &from);
    new.height(1).await;
    for n in 1..=3u8 {
        assert_eq!(
            new.balance(id(n)).await,
            Amount::credits(100 * u64::from(n))
        );
    }
    assert_eq!(
        new.balance(AccountId::of(&founder.public())).await,
        founders
    );
    let after = new.client.supply().await.expect("a supply");
    assert_eq!((after.expected, after.sum), (before.expected, before.sum));
    assert_eq!(after.bonds, Amount::ZERO);
    let renamed = new.client.network().await.expect("a file");
    assert_ne!(renamed.network_key, network.network_key);

    // Who holds the new key takes nobody's word for it.
    let (at, file) = (renamed.validators[0].api.clone(), path("new/network.json"));
    let create = ["context", "create", "new", "--at", &at, "--network", &file];
    program.good(&create);
    for (n, words) in [(2, "200 credits"), (9, "0 credits")] {
        let account = id(n).to_string();
        let args = ["chain", "account", &account, "--verify"];
        let (code, out, err) = program.run(&args);
        assert!(code == 0 && out.contains(words), "{out}{err}");
        assert!(err.contains("verified against block"), "{err}");
    }
    let (code, _, err) = program.run(&["chain", "status", "--verify"]);
    assert!(
        code != 0 && err.contains("nothing that can be verified"),
        "{err}"
    );

    // Money moves as before, through the end of an epoch; a validator that was killed comes back.
    new.pay(&key(1), id(2), Amount::credits(7)).await;
    new.founded.validators[2].kill();
    new.founded.validators[2] = new.founded.run(&program, 3);
    new.height(17).await;
    assert_eq!(new.balance(id(2)).await, Amount::credits(207));
    new.pay(&key(2), id(3), Amount::credits(7)).await;
    assert_eq!(new.balance(id(3)).await, Amount::credits(307));
}
