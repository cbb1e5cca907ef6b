//! Two agents on one machine, real namespaces: who reaches whom. Runs as root.

mod ground;

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use ground::*;
use net::{Attachment, Directory, Network};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reaches_whom() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = Network::open(config(folder.path(), "t1"))
        .await
        .expect("opens");
    let two = Network::open(config(folder.path(), "t2"))
        .await
        .expect("opens");
    one.probe().await.expect("this machine can");
    let (shop, bank, vault) = (
        key("d-1", "default"),
        key("d-2", "default"),
        key("d-1", "vault"),
    );
    let a = attach(&one, "a", &[(shop.clone(), false)]).await;
    let b = attach(&one, "b", &[(shop.clone(), false), (vault.clone(), true)]).await;
    let c = attach(&one, "c", &[(bank.clone(), false)]).await;
    let far = attach(&two, "far", &[(vault.clone(), true), (shop.clone(), false)]).await;
    let stranger = attach(&two, "stranger", &[(bank.clone(), false)]).await;
    let kept = attach(&one, "kept", &[(vault.clone(), true)]).await;
    for at in [&a, &b, &c, &far, &stranger, &kept] {
        listen(at, 80);
    }
    let directory = |far_ready: bool| Directory {
        entries: vec![
            entry(&shop, "a", &a, true),
            entry(&shop, "web", &b, true),
            entry(&vault, "store", &b, true),
            entry(&vault, "kept", &kept, true),
            entry(&shop, "web", &far, far_ready),
            entry(&vault, "store", &far, far_ready),
            entry(&bank, "c", &c, true),
        ],
    };
    one.set_directory(directory(false)).await.expect("set");
    two.set_directory(directory(true)).await.expect("set");
    let port = |at: &Attachment, n: usize| SocketAddr::from((at.interfaces[n].address, 80));

    assert!(reaches(&a, port(&b, 0)), "one network, one agent");
    assert!(reaches(&a, port(&far, 1)), "one network, two agents");
    assert!(reaches(&far, port(&a, 0)), "and back");
    assert!(reaches(&kept, port(&b, 1)), "the internal network");
    assert!(reaches(&kept, port(&far, 0)), "and on another agent");
    assert!(reaches(&b, port(&far, 0)), "by the second network");
    assert!(reaches(&far, port(&b, 1)), "and back");
    assert!(is_cut_off(&a, port(&c, 0)), "two projects, one agent");
    assert!(is_cut_off(&c, port(&far, 1)), "two projects, two agents");
    assert!(
        is_cut_off(&a, port(&stranger, 0)),
        "two projects, two agents"
    );
    assert!(is_cut_off(&c, port(&stranger, 0)), "not in the directory");
    assert!(
        is_cut_off(&a, port(&kept, 0)),
        "another network of the project"
    );

    // The machine's own services, by any of its addresses.
    let host = TcpListener::bind("0.0.0.0:0").expect("bound");
    let own = host.local_addr().expect("bound").port();
    for address in [a.dns, c.dns] {
        assert!(
            is_cut_off(&a, (address, own).into()),
            "a bridge is no way in"
        );
    }
    assert!(
        TcpStream::connect_timeout(&port(&a, 0), PATIENCE).is_ok(),
        "the gateway gets in"
    );

    // Names: ready replicas only, none of another project, known names never fail for AAAA.
    assert_eq!(resolve(&a, "web", 1), (0, vec![b.interfaces[0].address]));
    let (code, found) = resolve(&far, "WEB", 1);
    assert_eq!((code, found.len()), (0, 2));
    assert_eq!(resolve(&a, "web", 28), (0, vec![]));
    assert_eq!(resolve(&a, "c", 1).0, 3);
    assert_eq!(resolve(&b, "kept", 1).1, [kept.interfaces[0].address]);
    assert_eq!(resolve(&kept, "example.org", 1).0, 3, "no way out");
    assert_eq!(ask(&c, a.dns, "web", 1), None, "another project's names");

    // What a stranger writes into the directory opens no way between our own networks.
    let mut forged = directory(false);
    forged.entries.push(entry(&shop, "a", &a, true));
    for (network, victim) in [(&bank, &a), (&shop, &c), (&bank, &far)] {
        let mut lie = entry(network, "lie", network_end(network, &[&a, &c]), true);
        lie.address = victim.interfaces[0].address;
        forged.entries.push(lie);
    }
    one.set_directory(forged).await.expect("set");
    assert!(is_cut_off(&c, port(&a, 0)) && is_cut_off(&a, port(&c, 0)));
    assert!(
        is_cut_off(&c, port(&far, 0)),
        "the other agent does not agree"
    );
    one.set_directory(directory(false)).await.expect("set");

    // A replica that left is no peer any more, whatever address follows it.
    let mut without = directory(false);
    without.entries.retain(|e| {
        !far.interfaces
            .iter()
            .any(|interface| interface.address == e.address)
    });
    one.set_directory(without).await.expect("set");
    assert!(is_cut_off(&a, port(&far, 1)) && is_cut_off(&b, port(&far, 0)));

    one.close(true).await.expect("closed");
    two.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["t1", "t2"]), [""; 0]);
}

fn network_end<'a>(network: &net::NetworkKey, all: &[&'a Attachment]) -> &'a Attachment {
    let on = |a: &&&Attachment| a.interfaces.iter().any(|i| i.network == *network);
    all.iter().find(on).expect("somebody is on it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_keeps_the_address_if_it_is_free() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::open(config(folder.path(), "t7"))
        .await
        .expect("opens");
    let shop = key("d-1", "default");
    let first = attach(&network, "a1-1", &[(shop.clone(), false)]).await;
    let address = first.interfaces[0].address;
    // From the machine, which then knows its hardware address.
    let reached = |at: &Attachment| {
        listen(at, 80);
        let to = SocketAddr::from((address, 80));
        TcpStream::connect_timeout(&to, std::time::Duration::from_secs(5)).is_ok()
    };
    assert!(reached(&first));
    let again = |container: &str| net::AttachRequest {
        container: container.into(),
        networks: vec![(shop.clone(), false)],
        former: vec![address, "192.0.2.1".parse().expect("an address")],
        bandwidth_kbps: 10_000,
    };
    let beside = network.attach(&again("a2-1")).await.expect("attached");
    assert_ne!(beside.interfaces[0].address, address, "it is taken");
    network.detach("a1-1").await.expect("detached");
    let after = network.attach(&again("a1-2")).await.expect("attached");
    assert_eq!(after.interfaces[0].address, address);
    assert!(reached(&after), "though it has said nothing yet");
    // Also when its network had gone meanwhile; and nothing leaves the machine until then.
    network.detach("a2-1").await.expect("detached");
    network.detach("a1-2").await.expect("detached");
    let refused = std::net::TcpStream::connect((address, 80)).expect_err("nobody is there");
    let kinds = [
        std::io::ErrorKind::HostUnreachable,
        std::io::ErrorKind::NetworkUnreachable,
    ];
    assert!(kinds.contains(&refused.kind()), "{refused}");
    let after = network.attach(&again("a1-3")).await.expect("attached");
    assert_eq!(after.interfaces[0].address, address);
    network.close(true).await.expect("closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::open(config(folder.path(), "t3"))
        .await
        .expect("opens");
    network.probe().await.expect("this machine can");
    let outside = Outside::new("rout0").await;
    let (open, closed) = (key("d-1", "default"), key("d-1", "inner"));
    let a = attach(&network, "a", &[(open.clone(), false)]).await;
    let b = attach(&network, "b", &[(closed.clone(), true)]).await;
    let both = attach(&network, "both", &[(closed.clone(), true), (open, false)]).await;
    listen(&a, 80);
    let lies = [PRIVATE, METADATA].map(|address| net::DirectoryEntry {
        address,
        ..entry(&closed, "lie", &b, true)
    });
    for entries in [vec![], lies.to_vec()] {
        let directory = Directory { entries };
        network.set_directory(directory).await.expect("set");
        assert!(reaches(&a, (PUBLIC, 80).into()), "out to the world");
        assert!(reaches(&both, (PUBLIC, 80).into()), "by its second network");
        for (from, who) in [(&a, "a"), (&b, "b"), (&both, "both")] {
            for to in [PRIVATE, METADATA, Ipv4Addr::new(203, 0, 113, 1)] {
                assert!(is_cut_off(from, (to, 80).into()), "{who} reaches {to}");
            }
        }
        assert!(is_cut_off(&b, (PUBLIC, 80).into()), "internal");
    }
    let inward = SocketAddr::from((a.interfaces[0].address, 80));
    assert!(!outside.reaches(inward).await, "the world comes not in");
    outside.close().await;
    network.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["t3"]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_agent_over_the_same_state_finds_all_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = Network::open(config(folder.path(), "t4"))
        .await
        .expect("opens");
    first.probe().await.expect("this machine can");
    let (shop, bank) = (key("d-1", "default"), key("d-2", "default"));
    let a = attach(&first, "a", &[(shop.clone(), false)]).await;
    let b = attach(&first, "b", &[(shop.clone(), false)]).await;
    let c = attach(&first, "c", &[(bank.clone(), false)]).await;
    listen(&b, 80);
    listen(&c, 80);
    first.refill().await.expect("made ahead");
    first.close(false).await.expect("closed");
    drop(first);

    let second = Network::open(config(folder.path(), "t4"))
        .await
        .expect("opens again");
    let entries = vec![entry(&shop, "web", &b, true)];
    let directory = Directory { entries };
    second.set_directory(directory).await.expect("set");
    assert_eq!(second.attachments().await.get("a"), Some(&a));
    assert_eq!(attach(&second, "a", &[(shop.clone(), false)]).await, a);
    let port = |at: &Attachment| SocketAddr::from((at.interfaces[0].address, 80));
    assert!(reaches(&a, port(&b)) && is_cut_off(&a, port(&c)));
    assert_eq!(resolve(&a, "web", 1), (0, vec![b.interfaces[0].address]));
    let d = attach(&second, "d", &[(shop, false)]).await;
    assert!(reaches(&d, port(&b)));

    second.detach("c").await.expect("detached");
    second.detach("c").await.expect("again");
    assert!(!c.netns.exists());
    assert!(reaches(&a, port(&b)), "others stay");
    second.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["t4"]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_without_rights_over_its_network_serves_low_ports() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::open(config(folder.path(), "t6"))
        .await
        .expect("opens");
    let at = attach(&network, "a", &[(key("d-5", "default"), false)]).await;
    inside(&at.netns, || {
        // SAFETY: of this thread only, which ends right after; libc's own would be of all.
        let given_up = unsafe { libc::syscall(libc::SYS_setresuid, 1_000, 1_000, 1_000) };
        assert_eq!(given_up, 0);
        TcpListener::bind(("0.0.0.0", 80)).expect("a low port");
    });
    network.detach("a").await.expect("detached");
    network.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["t6"]), [""; 0]);
}
