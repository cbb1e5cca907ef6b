//! How fast: the limit of a container's bandwidth, and attaching it. Runs as root.

mod ground;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ground::*;
use net::{AttachRequest, Network};

const TRIES: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bandwidth_holds_each_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::open(config(folder.path(), "t5"))
        .await
        .expect("opens");
    network.probe().await.expect("this machine can");
    let shop = key("d-1", "default");
    // 40 Mbit/s; the other one is no bottleneck.
    let slow = attach(&network, "slow", &[(shop.clone(), false)]).await;
    let fast = AttachRequest {
        container: "fast".into(),
        networks: vec![(shop, false)],
        former: Vec::new(),
        bandwidth_kbps: 1_000_000,
    };
    let fast = network.attach(&fast).await.expect("attached");
    for (way, from, to) in [("out", &slow, &fast), ("in", &fast, &slow)] {
        let taken = listen(to, 80);
        let to = SocketAddr::from((to.interfaces[0].address, 80));
        let measured = || {
            let rate = inside(&from.netns, || sends(to, &taken));
            println!("{way}: {rate:.1} Mbit/s of 40");
            assert!(rate < 44.0, "{way}: {rate} Mbit/s");
            rate
        };
        // Nothing makes it faster; that the machine has no time for it makes it slower.
        let reached = (0..TRIES).any(|_| measured() > 36.0);
        assert!(reached, "{way}: less than 36 Mbit/s each time");
    }
    network.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["t5"]), [""; 0]);
}

/// Mbit/s of two seconds.
fn sends(to: SocketAddr, taken: &AtomicU64) -> f64 {
    let mut stream = TcpStream::connect(to).expect("connected");
    let (block, started) = (vec![7; 16 << 10], Instant::now());
    let mut warm = None;
    loop {
        stream.write_all(&block).expect("sent");
        let now = started.elapsed();
        let (at, bytes) = *match &mut warm {
            // The bucket is full at first.
            None if now < Duration::from_millis(500) => continue,
            warm => warm.get_or_insert((now, taken.load(Ordering::Relaxed))),
        };
        if now - at >= Duration::from_secs(2) {
            let more = taken.load(Ordering::Relaxed) - bytes;
            break more as f64 * 8.0 / (now - at).as_secs_f64() / 1e6;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attaching_is_quick() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = Network::open(config(folder.path(), "t6"))
        .await
        .expect("opens");
    network.probe().await.expect("this machine can");
    let shop = key("d-1", "default");
    attach(&network, "first", &[(shop.clone(), false)]).await;
    let mut times = Vec::new();
    for n in 0..21 {
        network.refill().await.expect("made ahead");
        let started = Instant::now();
        attach(&network, &format!("n{n}"), &[(shop.clone(), false)]).await;
        times.push(started.elapsed());
    }
    times.sort();
    println!("attach: median {:?}, least {:?}", times[10], times[0]);
    // Ten times the goal, for a machine that is busy with other things.
    assert!(times[10] < Duration::from_millis(150), "{times:?}");
    network.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["t6"]), [""; 0]);
}
