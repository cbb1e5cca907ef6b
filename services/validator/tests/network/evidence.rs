//! A leader of two blocks for one view is out, and the network goes on without it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use light::Header;
use types::{AccountId, Amount, Digest, DoubleProposal, PublicKey, Seal, SecretKey};

use super::{Network, eventually, id, key};

/// Blocks looked at after the conviction: each of four would lead some.
const AFTER: u64 = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_convicted_leads_no_more_and_the_others_go_on() {
    let mut network = Network::new(4);
    let identities: Vec<SecretKey> = network
        .seats
        .iter()
        .map(|seat| consensus::Seat::from_bytes(seat).expect("a seat"))
        .map(|seat| SecretKey::from_seed(seat.secret()))
        .collect();
    let bond = network.file.genesis.params.validator_bond;
    let purses = identities
        .iter()
        .map(|k| (AccountId::of(&k.public()), bond));
    network.file.genesis.balances.extend(purses);
    let running = network.start_all().await;
    let client = running[0].client();

    let culprit = &identities[3];
    let name = client.status().await.expect("answers").network;
    let seal = |block: &[u8]| Seal::put(culprit, &name, 0, 5, Digest::of(block));
    let double = DoubleProposal {
        leader: culprit.public(),
        seals: [seal(b"one"), seal(b"other")],
    };
    let mut forged = double;
    forged.leader = identities[2].public();
    let refused = client.accuse_validator(&key(200), forged).await;
    assert!(refused.is_err(), "another's seals convict nobody");
    let finder = client.account(id(200)).await.expect("known").balance;
    let told = client.accuse_validator(&key(200), double).await;
    let height = told.expect("convicted").height.expect("applied");
    assert!(client.accuse_validator(&key(200), double).await.is_err());

    let after = client.account(id(200)).await.expect("known").balance;
    assert_eq!(after.0 - finder.0, bond.0 / 10);
    for at in &running {
        let client = at.client();
        eventually("a validator follows", async || {
            let status = client.status().await;
            status.is_ok_and(|s| s.height >= height + AFTER)
        })
        .await;
        let view = client.members().await.expect("listed");
        for member in view.members {
            let lost = member.convicted.map(|c| c.lost);
            let convicted = member.key == culprit.public();
            assert_eq!(lost, convicted.then_some(bond));
            assert_eq!(member.bond, if convicted { Amount::ZERO } else { bond });
        }
    }
    for height in height + 1..=height + AFTER {
        let block = client.block(height).await.expect("there");
        let header = BASE64.decode(&block.header).expect("base64");
        let header = Header::from_bytes(&header).expect("a header");
        assert_ne!(header.proposer, culprit.public().0, "height {height}");
        let signature = BASE64.decode(&block.seal).expect("base64");
        let sealed = Seal {
            epoch: header.epoch,
            view: header.view,
            block: header.digest(),
            signature: types::Signature(signature.try_into().expect("64 bytes")),
        };
        assert!(sealed.is_by(&PublicKey(header.proposer), &name));
    }
    for at in running {
        at.stop().await;
    }
}
