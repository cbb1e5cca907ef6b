//! Two agents on one machine, real namespaces: who reaches whom. Runs as root.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use net::{
    AttachRequest, Attachment, Directory, DirectoryEntry, Network, NetworkConfig, NetworkKey,
};

fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                let file = std::fs::File::open(netns).expect("the namespace is there");
                nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).expect("entered");
                work()
            })
            .join()
            .expect("no panic inside")
    })
}

const LIMIT: Duration = Duration::from_millis(700);

fn reaches(from: &Attachment, to: SocketAddr) -> bool {
    inside(&from.netns, || {
        TcpStream::connect_timeout(&to, LIMIT).is_ok()
    })
}

/// A listener inside, answering each connection with its first byte for ever.
fn listen(at: &Attachment, port: u16) {
    let netns = at.netns.clone();
    let listener = inside(&netns, || {
        TcpListener::bind(("0.0.0.0", port)).expect("bound")
    });
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = vec![0; 64 << 10];
                while stream.read(&mut buffer).is_ok_and(|n| n > 0) {}
            });
        }
    });
}

fn key(deployment: &str, network: &str) -> NetworkKey {
    NetworkKey {
        deployment: deployment.into(),
        network: network.into(),
    }
}

async fn attach(network: &Network, container: &str, networks: &[(NetworkKey, bool)]) -> Attachment {
    let request = AttachRequest {
        container: container.into(),
        networks: networks.to_vec(),
        bandwidth_kbps: 40_000,
    };
    network.attach(&request).await.expect("attached")
}

fn resolve(from: &Attachment, name: &str, kind: u16) -> (u8, Vec<Ipv4Addr>) {
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, kind as u8, 0, 1]);
    let dns = from.dns;
    inside(&from.netns, || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .expect("set");
        socket.send_to(&question, (dns, 53)).expect("sent");
        let mut answer = [0; 512];
        let read = socket.recv(&mut answer).expect("answered");
        let answers = u16::from_be_bytes([answer[6], answer[7]]);
        let mut found = Vec::new();
        for at in (0..usize::from(answers)).map(|n| read - 4 - n * 16) {
            found.push(Ipv4Addr::new(
                answer[at],
                answer[at + 1],
                answer[at + 2],
                answer[at + 3],
            ));
        }
        (answer[3] & 15, found)
    })
}

fn entry(network: NetworkKey, name: &str, at: &Attachment, ready: bool) -> DirectoryEntry {
    DirectoryEntry {
        network,
        names: vec![name.into()],
        address: at.interfaces[0].address,
        ready,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reaches_whom() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = |n: u8| NetworkConfig {
        state: folder.path().join(n.to_string()),
        tag: format!("t{n}"),
        upstreams: vec![],
    };
    let (one, two) = (
        Network::open(config(1)).await.expect("opens"),
        Network::open(config(2)).await.expect("opens"),
    );
    one.probe().await.expect("this machine can");
    let (shop, bank, vault) = (
        key("d-1", "default"),
        key("d-2", "default"),
        key("d-1", "vault"),
    );
    let a = attach(&one, "a", &[(shop.clone(), false)]).await;
    let b = attach(&one, "b", &[(shop.clone(), false), (vault.clone(), true)]).await;
    let c = attach(&one, "c", &[(bank.clone(), false)]).await;
    let far = attach(&two, "far", &[(shop.clone(), false)]).await;
    let stranger = attach(&two, "stranger", &[(bank.clone(), false)]).await;
    let kept = attach(&one, "kept", &[(vault.clone(), true)]).await;
    for at in [&a, &b, &c, &far, &stranger, &kept] {
        listen(at, 80);
    }
    let directory = |here: bool| Directory {
        entries: vec![
            entry(shop.clone(), "a", &a, true),
            entry(shop.clone(), "web", &b, true),
            entry(shop.clone(), "web", &far, here),
            entry(bank.clone(), "c", &c, true),
        ],
    };
    one.set_directory(directory(false)).await.expect("set");
    two.set_directory(directory(true)).await.expect("set");
    let port = |at: &Attachment, n: usize| SocketAddr::from((at.interfaces[n].address, 80));

    assert!(reaches(&a, port(&b, 0)), "one network, one agent");
    assert!(reaches(&a, port(&far, 0)), "one network, two agents");
    assert!(reaches(&far, port(&a, 0)), "and back");
    assert!(reaches(&kept, port(&b, 1)), "the internal network");
    assert!(!reaches(&a, port(&c, 0)), "two projects, one agent");
    assert!(!reaches(&c, port(&far, 0)), "two projects, two agents");
    assert!(!reaches(&a, port(&stranger, 0)), "two projects, two agents");
    assert!(!reaches(&c, port(&stranger, 0)), "not in the directory");
    assert!(
        !reaches(&a, port(&kept, 0)),
        "another network of the project"
    );
    // The machine's own services, by any of its addresses.
    let host = TcpListener::bind("0.0.0.0:0").expect("bound");
    let own = host.local_addr().expect("bound").port();
    assert!(!reaches(&a, (a.dns, own).into()), "the bridge is no way in");
    assert!(
        TcpStream::connect_timeout(&port(&a, 0), LIMIT).is_ok(),
        "the gateway gets in"
    );

    // Names: ready replicas only, none of another project, known names never fail for AAAA.
    assert_eq!(resolve(&a, "web", 1), (0, vec![b.interfaces[0].address]));
    let (code, found) = resolve(&far, "WEB", 1);
    assert_eq!((code, found.len()), (0, 2));
    assert_eq!(resolve(&a, "web", 28), (0, vec![]));
    assert_eq!(resolve(&a, "c", 1).0, 3);
    assert_eq!(
        resolve(&kept, "example.org", 1).0,
        3,
        "no way out of an internal network"
    );

    // 40 Mbit/s each way.
    for (from, to) in [(&a, port(&b, 0)), (&b, port(&a, 0))] {
        let rate = inside(&from.netns, || {
            let mut stream = TcpStream::connect(to).expect("connected");
            let (block, started) = (vec![7; 64 << 10], Instant::now());
            let mut sent = 0u64;
            while started.elapsed() < Duration::from_secs(2) {
                stream.write_all(&block).expect("sent");
                sent += block.len() as u64;
            }
            sent as f64 * 8.0 / started.elapsed().as_secs_f64() / 1e6
        });
        assert!((32.0..46.0).contains(&rate), "{rate} Mbit/s");
    }

    // Another agent over the same state finds all as it was.
    drop(one);
    let one = Network::open(config(1)).await.expect("opens again");
    one.set_directory(directory(false)).await.expect("set");
    assert_eq!(one.attachments().await.get("a"), Some(&a));
    assert!(reaches(&a, port(&b, 0)) && !reaches(&a, port(&c, 0)));
    one.refill().await.expect("made ahead");
    let mut times = Vec::new();
    for n in 0..9 {
        one.refill().await.expect("made ahead");
        let started = Instant::now();
        attach(&one, &format!("n{n}"), &[(shop.clone(), false)]).await;
        times.push(started.elapsed());
    }
    times.sort();
    println!("attach: median {:?}", times[4]);

    one.close(true).await.expect("closed");
    two.close(true).await.expect("closed");
    let links = std::fs::read_dir("/sys/class/net").expect("read").flatten();
    let left: Vec<_> = links
        .map(|l| l.file_name().to_string_lossy().into_owned())
        .filter(|l| l.starts_with("rt1") || l.starts_with("rt2"))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("read");
    assert!(!mounts.contains(&folder.path().display().to_string()));
}
