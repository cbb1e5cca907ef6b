use clap::Parser;

use super::*;

fn founder(n: u8) -> Founder {
    Founder {
        key: PublicKey(Seat::from_secret([n; 32]).key()),
        account: AccountId([n; 20]),
        p2p: SocketAddr::new([10, 0, 0, n].into(), 8710),
        api: format!("http://10.0.0.{n}:8720"),
        gateway: (n == 1).then_some(AccountId([101; 20])),
    }
}

pub fn sample(count: u8) -> Charter {
    let mut founders: Vec<Founder> = (1..=count).map(founder).collect();
    founders.sort_by_key(|f| f.key);
    Charter {
        name: "acme".into(),
        time_ms: 1_000,
        params: Params::dev(),
        watched: true,
        gateway: None,
        founders,
    }
}

fn run(args: &str) -> Result {
    #[derive(Parser)]
    struct Line {
        #[command(subcommand)]
        verb: crate::network::Network,
    }
    let words = std::iter::once("network").chain(args.split(' '));
    match Line::try_parse_from(words).expect("understood").verb {
        crate::network::Network::Founder(args) => super::founder(&args, None, true),
        crate::network::Network::Charter(args) => super::charter(&args, true),
        crate::network::Network::Found(args) => crate::founding::run(&args, true),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_state_follows_from_the_charter_alone() {
    let charter = sample(3);
    charter.check().expect("good");
    let genesis = charter.genesis();
    let text = serde_json::to_string(&charter).expect("JSON");
    let again: Charter = serde_json::from_str(&text).expect("read");
    assert_eq!(again.digest(), charter.digest());
    assert_eq!(again.genesis().digest(), genesis.digest());
    let sum: u128 = genesis.balances.iter().map(|(_, a)| a.0).sum();
    assert_eq!(Amount(sum), Amount::credits(SUPPLY));
    assert_eq!(genesis.params.gateways, [AccountId([101; 20])]);
    assert_eq!(genesis.watchers.len(), 3);
    let of = |account| genesis.balances.iter().find(|(a, _)| *a == account);
    for founder in &charter.founders {
        let bond = of(AccountId::of(&founder.key)).expect("a bond").1;
        assert_eq!(bond, charter.params.validator_bond);
        let own = of(founder.account).expect("a part").1;
        let part = Amount::credits(FOUNDERS_SHARE).0 / 3;
        assert!(own.0 + bond.0 - part <= 1);
    }
    let mut poor = charter.clone();
    poor.params.faucet = Amount::ZERO;
    let sum: u128 = poor.genesis().balances.iter().map(|(_, a)| a.0).sum();
    assert_eq!(Amount(sum), Amount::credits(FOUNDERS_SHARE));
    assert_ne!(poor.digest(), charter.digest());
}

#[test]
fn what_nobody_may_found_on_is_refused() {
    type Change = fn(&mut Charter);
    let rows: &[(&str, Change)] = &[
        ("network init", |c| c.founders.truncate(1)),
        ("network init", |c| c.founders.clear()),
        ("129 founders; 128", |c| *c = sample(129)),
        ("an epoch of 16 blocks", |c| {
            *c = sample(100);
            c.params.epoch_blocks = 16;
        }),
        ("key", |c| c.founders[1].key = c.founders[0].key),
        ("address", |c| c.founders[1].p2p = c.founders[0].p2p),
        ("API", |c| c.founders[1].api = c.founders[0].api.clone()),
        ("account", |c| c.founders[1].account = c.founders[0].account),
        ("account", |c| {
            c.founders[1].account = AccountId::of(&c.founders[0].key)
        }),
        ("account", |c| {
            c.founders
                .iter_mut()
                .for_each(|f| f.gateway = Some(AccountId([9; 20])))
        }),
        ("no address", |c| {
            c.founders[1].p2p = SocketAddr::new([0, 0, 0, 0].into(), 1)
        }),
        ("no address", |c| c.founders[1].p2p.set_port(0)),
        ("its key is none", |c| {
            // About every second number is on no point of the curve.
            let none = (2..).map(|n| [[n; 1], [0; 1]].concat().repeat(16));
            let mut none = none.map(|k| <[u8; 32]>::try_from(k).expect("32 bytes"));
            let none = none.find(|key| !consensus::is_identity(key));
            c.founders[2].key = PublicKey(none.expect("one"))
        }),
        ("no http://", |c| {
            c.founders[1].api = "http://a\u{1b}[2J".into()
        }),
        ("no http://", |c| c.founders[1].api = "10.0.0.1:8720".into()),
        ("no http://", |c| c.gateway = Some("x".repeat(300))),
        ("1 to 256 letters", |c| c.name = String::new()),
        ("1 to 256 letters", |c| c.name = "a\nb".into()),
        ("order", |c| c.founders.reverse()),
        ("gateways", |c| c.params.gateways.push(AccountId([7; 20]))),
        ("seats_max", |c| c.params.seats_max = 0),
    ];
    for (why, change) in rows {
        let mut charter = sample(3);
        change(&mut charter);
        let said = charter.check().expect_err(why);
        assert!(said.contains(why), "{why}: {said}");
    }
}

/// In `folder`, by their commands; and the files of their public parts.
fn made(folder: &Path, count: u8) -> Vec<String> {
    (1..=count)
        .map(|n| {
            let data = folder.join(n.to_string()).display().to_string();
            let at = format!("10.0.0.{n}:8710");
            run(&format!(
                "founder --data {data} --advertise {at} --gateway-key"
            ))
            .expect("made");
            format!("{data}/{FOUNDER_FILE}")
        })
        .collect()
}

#[test]
fn public_parts_make_a_charter_and_hold_no_secret() {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = made(folder.path(), 3);
    let secret = ["seat", "owner.key", "gateway.key"].map(|name| {
        let path = folder.path().join("1").join(name);
        let mode = std::os::unix::fs::PermissionsExt::mode(
            &std::fs::metadata(&path).expect("there").permissions(),
        );
        assert_eq!(mode & 0o777, 0o600, "{name}");
        std::fs::read(path).expect("read")
    });
    let public = std::fs::read_to_string(&parts[0]).expect("read");
    for secret in &secret {
        let text = String::from_utf8_lossy(secret).trim().to_string();
        assert!(!public.contains(&hex::encode(secret)) && !public.contains(&text));
    }
    // Made again, it is the same founder.
    made(folder.path(), 1);
    assert_eq!(std::fs::read_to_string(&parts[0]).expect("read"), public);

    let out = folder.path().join("charter.json").display().to_string();
    let line = format!(
        "charter --out {out} --fee 0.001 --founder {}",
        parts.join(" --founder ")
    );
    run(&line).expect("written");
    let charter = Charter::read(Path::new(&out)).expect("read");
    assert_eq!(charter.founders.len(), 3);
    assert_eq!(charter.genesis().params.gateways.len(), 3);
    assert!(shown(Path::new(&out)).expect("read").is_some());
    let again = run(&line).expect_err("it is there");
    assert_eq!(again.exit, failure::CONFLICT);
    assert_eq!(Charter::read(Path::new(&out)), Ok(charter));
}

#[test]
fn founders_are_told_what_to_put_right_before_anything_is_made() {
    let folder = tempfile::tempdir().expect("a folder");
    let parts = made(folder.path(), 3);
    let path = |name: &str| folder.path().join(name).display().to_string();
    let refused = |line: &str, why: &str| {
        let failure = run(line).expect_err(line);
        let said = format!("{failure}");
        assert!(said.contains(why), "{line}: {said}");
        assert!(!failure.next.is_empty(), "{line}");
        failure.exit
    };
    let all = parts[..2].join(" --founder ");
    let (out, other) = (path("charter.json"), path("other.json"));
    run(&format!("charter --out {out} --founder {all}")).expect("written");
    for (more, why) in [
        (format!("--founder {all} --founder {}", parts[0]), "twice"),
        (format!("--founder {}", parts[0]), "network init"),
        (format!("--founder {all} --founder {out}"), "unknown field"),
        (
            format!("--founder {all} --founder {}", path("none")),
            "No such file",
        ),
        (
            format!("--founder {all} --founder {}", path("1/seat")),
            "part",
        ),
    ] {
        refused(&format!("charter --out {other} {more}"), why);
        assert!(!Path::new(&other).exists());
    }
    let (one, three) = (path("1"), path("3"));
    let found =
        |charter: &str, data: &str| format!("found --charter {charter} --data {data} --wait 0");
    refused(&found(&out, &three), "is not in it");
    refused(&found(&out, &path("nobody")), "seat");
    refused(&found(&path("none"), &one), "No such file");
    refused(&found(&path("1/seat"), &one), "charter");
    refused(
        "founder --data /nowhere/x --advertise 0.0.0.0:1",
        "no address",
    );
    refused(
        "founder --data /nowhere/x --advertise 10.0.0.1:1 --api-advertise x",
        "URL",
    );

    // Another account, or another time.
    let mut charter = Charter::read(Path::new(&out)).expect("read");
    let good = charter.clone();
    charter
        .founders
        .iter_mut()
        .for_each(|f| f.account.0[0] ^= 1);
    write(Path::new(&other), &charter).expect("written");
    let exit = refused(&found(&other, &one), "something else of this founder");
    assert_eq!(exit, failure::CONFLICT);
    charter = good.clone();
    charter.time_ms += 3_600_000;
    write(Path::new(&other), &charter).expect("written");
    refused(&found(&other, &one), "still to come");

    // A folder that is a validator's already.
    std::fs::create_dir(format!("{one}/vault")).expect("made");
    assert_eq!(
        refused(&found(&out, &one), "shares of another network"),
        failure::CONFLICT
    );
    let line = format!("founder --data {one} --advertise 10.0.0.1:1");
    assert_eq!(refused(&line, "already"), failure::CONFLICT);
    let (committee, _) = consensus::deal(2, [1; 32]).expect("dealt");
    let target = Path::new(&one).join("network.json");
    crate::network::write_file(&target, &sample(2).network(&committee)).expect("written");
    let before = std::fs::read(&target).expect("read");
    assert_eq!(
        refused(&found(&out, &one), "not written over"),
        failure::CONFLICT
    );
    assert_eq!(std::fs::read(&target).expect("read"), before);
    // Done already: nothing is asked of anybody.
    crate::network::write_file(&target, &good.network(&committee)).expect("written");
    run(&found(&out, &one)).expect("done before");
}
