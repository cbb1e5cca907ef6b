//! Lies, half-made attachments, and a machine that was restarted. Runs as root.

mod ground;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ground::*;
use net::{AttachRequest, Directory, Network};

fn ip(args: &[&str]) -> bool {
    let status = Command::new("ip").args(args).status();
    status.expect("ip is installed (iproute2)").success()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_speaks_for_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let one = Network::open(config(folder.path(), "u1"))
        .await
        .expect("opens");
    let two = Network::open(config(folder.path(), "u2"))
        .await
        .expect("opens");
    one.probe().await.expect("this machine can");
    let (shop, bank) = (key("d-1", "default"), key("d-2", "default"));
    let a = attach(&one, "a", &[(shop.clone(), false)]).await;
    let victim = attach(&one, "victim", &[(bank, false)]).await;
    let far = attach(&two, "far", &[(shop.clone(), false)]).await;
    let entries = vec![entry(&shop, "a", &a, true), entry(&shop, "far", &far, true)];
    for network in [&one, &two] {
        let entries = entries.clone();
        network
            .set_directory(Directory { entries })
            .await
            .expect("set");
    }
    let listener = inside(&far.netns, || UdpSocket::bind("0.0.0.0:99").expect("bound"));
    listener.set_read_timeout(Some(10 * LIMIT)).expect("set");
    let to = SocketAddr::from((far.interfaces[0].address, 99));
    let own = a.interfaces[0].address;
    let lies = [
        victim.interfaces[0].address,
        Ipv4Addr::new(203, 0, 113, 77),
        far.interfaces[0].address,
    ];
    inside(&a.netns, || {
        for lie in lies {
            assert!(ip(&["address", "add", &format!("{lie}/32"), "dev", "lo"]));
            let socket = UdpSocket::bind((lie, 0)).expect("bound");
            // To itself, if it is its own address here; else on its way.
            let _ = socket.send_to(b"lie", to);
            assert!(ip(&["address", "del", &format!("{lie}/32"), "dev", "lo"]));
        }
        let socket = UdpSocket::bind((own, 0)).expect("bound");
        socket.send_to(b"truth", to).expect("sent");
    });
    // What was sent first comes first, if it comes at all.
    let mut words = [0; 16];
    let (length, from) = listener.recv_from(&mut words).expect("the truth comes");
    assert_eq!((&words[..length], from.ip()), (&b"truth"[..], own.into()));
    one.close(true).await.expect("closed");
    two.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["u1", "u2"]), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_an_attachment_is_taken_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::open(config(folder.path(), "u3"))
        .await
        .expect("opens");
    let (shop, vault) = (key("d-1", "default"), key("d-1", "vault"));
    let whole = attach(&network, "whole", &[(shop.clone(), false)]).await;
    // The name of its second interface is somebody else's.
    let serial: u32 = whole.interfaces[0].host_name[4..]
        .parse()
        .expect("a number");
    let taken = format!("ru3v{}", serial + 2);
    assert!(ip(&["link", "add", &taken, "type", "bridge"]));
    let request = AttachRequest {
        container: "half".into(),
        networks: vec![(shop.clone(), false), (vault, true)],
        former: Vec::new(),
        bandwidth_kbps: 10_000,
    };
    let error = network
        .attach(&request)
        .await
        .expect_err("it cannot be made");
    assert!(error.to_string().contains("veth"), "{error}");
    let known = network.attachments().await;
    assert_eq!(known.keys().collect::<Vec<_>>(), ["whole"]);
    let links: Vec<String> = left_behind(Path::new("/nowhere"), &["u3"]);
    let ours = links.iter().filter(|l| l.starts_with("ru3v"));
    assert_eq!(ours.collect::<Vec<_>>(), [&whole.interfaces[0].host_name]);
    assert_eq!(
        links.iter().filter(|l| l.starts_with("ru3b")).count(),
        1,
        "{links:?}"
    );
    // Nothing stands in the way of another try.
    let both = network.attach(&request).await.expect("made");
    assert_eq!(both.interfaces.len(), 2);
    let other = attach(&network, "other", &[(shop, false)]).await;
    listen(&other, 80);
    assert!(reaches(&both, (other.interfaces[0].address, 80).into()));
    network.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["u3"]), [""; 0]);
}

/// The claim on a range of addresses of the agent whose state lies in `state`.
fn claim(state: &Path) -> PathBuf {
    let claims = std::fs::read_dir("/run/runrig").expect("read").flatten();
    let mine = state.canonicalize().expect("there").display().to_string();
    let mut mine = claims
        .map(|c| c.path())
        .filter(|c| std::fs::read_to_string(c).is_ok_and(|text| text == mine));
    mine.next().expect("a claim")
}

/// What `claim` is a claim on.
fn range(claim: &Path) -> String {
    let name = claim.file_name().expect("a name").to_string_lossy();
    let second = name.strip_prefix("pool-").expect("a range");
    format!("10.{second}.0.0/16")
}

/// Is the range of `claim` closed off, so that nothing for it leaves the machine?
fn is_closed_off(claim: &Path) -> bool {
    let show = Command::new("ip")
        .args(["route", "show", "type", "unreachable"])
        .output();
    let routes = show.expect("ip is installed (iproute2)").stdout;
    String::from_utf8_lossy(&routes).contains(&range(claim))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_of_agents_that_are_gone_are_opened_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = |tag| Network::open(config(folder.path(), tag));
    let (killed, stopped) = (open("u5").await.expect("opens"), open("u6"));
    let stopped = stopped.await.expect("opens");
    let state = folder.path().join("u5");
    let (gone, kept) = (claim(&state), claim(&folder.path().join("u6")));
    for agent in [killed, stopped] {
        agent.close(false).await.expect("closed");
    }
    assert!(is_closed_off(&gone) && is_closed_off(&kept));
    std::fs::remove_dir_all(state).expect("its data goes");

    let next = open("u7").await.expect("opens");
    assert!(!is_closed_off(&gone), "nobody's any more");
    assert!(is_closed_off(&kept), "that agent comes again");
    next.close(true).await.expect("closed");
    let again = open("u6").await.expect("opens again");
    again.close(true).await.expect("closed");
    assert!(!is_closed_off(&kept) && !kept.exists());
    assert_eq!(left_behind(folder.path(), &["u5", "u6", "u7"]), [""; 0]);
}

/// Many agents of one process begin while another's holds the claims.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_the_claims_holds_up_nobody_else() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir_all("/run/runrig").expect("made");
    let held = std::fs::File::create("/run/runrig/lock").expect("made");
    held.lock().expect("locked");
    let tags = ["u8", "u9", "ua"];
    let opening = tags.map(|tag| tokio::spawn(Network::open(config(folder.path(), tag))));
    let pid = format!(" {} ", std::process::id());
    let waits = |line: &&str| line.contains("-> FLOCK") && line.contains(&pid);
    let waiting = || {
        let locks = std::fs::read_to_string("/proc/locks").expect("read");
        locks.lines().filter(waits).count()
    };
    while waiting() < 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let (answer, heard) = std::sync::mpsc::channel();
    tokio::spawn(async move { answer.send(()) });
    let alive = heard.recv_timeout(Duration::from_secs(20));
    drop(held);
    for network in opening {
        let network = network.await.expect("no panic").expect("opens");
        network.close(true).await.expect("closed");
    }
    alive.expect("the others go on");
    assert_eq!(left_behind(folder.path(), &tags), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_restart_of_the_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = key("d-1", "default");
    let first = Network::open(config(folder.path(), "u4"))
        .await
        .expect("opens");
    let old = attach(&first, "a", &[(shop.clone(), false)]).await;
    first.close(false).await.expect("closed");
    drop(first);
    // What a restart takes: interfaces, routes, rules, namespaces, /run. What stays: the disk.
    let claimed = claim(&folder.path().join("u4"));
    nix::mount::umount2(&old.netns, nix::mount::MntFlags::MNT_DETACH).expect("gone");
    for link in left_behind(Path::new("/nowhere"), &["u4"]) {
        // One end goes with the other.
        let _ = Command::new("ip").args(["link", "del", &link]).output();
    }
    assert!(ip(&["route", "del", "unreachable", &range(&claimed)]));
    let table = ["delete", "table", "inet", "runrig_u4"];
    assert!(
        Command::new("nft")
            .args(table)
            .status()
            .expect("nft")
            .success()
    );
    // Another agent came first and has our range now.
    let other = folder.path().join("other");
    std::fs::create_dir(&other).expect("made");
    std::fs::write(&claimed, other.display().to_string()).expect("taken");

    let again = Network::open(config(folder.path(), "u4"))
        .await
        .expect("opens again");
    assert!(
        again.attachments().await.is_empty(),
        "its containers are gone"
    );
    assert_ne!(claim(&folder.path().join("u4")), claimed);
    assert!(!old.netns.exists(), "an empty file is no namespace");
    let a = attach(&again, "a", &[(shop.clone(), false)]).await;
    let b = attach(&again, "b", &[(shop, false)]).await;
    assert_ne!(
        a.interfaces[0].address.octets()[..2],
        old.interfaces[0].address.octets()[..2]
    );
    listen(&b, 80);
    assert!(reaches(&a, (b.interfaces[0].address, 80).into()));
    again.close(true).await.expect("closed");
    std::fs::remove_file(&claimed).expect("ours to remove");
    assert!(!is_closed_off(&claimed));
    assert_eq!(left_behind(folder.path(), &["u4"]), [""; 0]);
}
