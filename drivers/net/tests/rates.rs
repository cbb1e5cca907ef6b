//! The limit of a container's bandwidth, and how long attaching one takes. Runs as root.

mod ground;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ground::*;
use net::{AttachRequest, Network};

const TRIES: usize = 10;
/// In a try that says how slow it is at the least.
const AWAY_MAX: Duration = Duration::from_millis(100);
/// Whoever sleeps for a moment is back within this time, if the machine is there.
const BLINK: Duration = Duration::from_millis(10);

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
        // Nothing makes it faster; that the machine has no time for it makes it slower.
        let tries = (0..TRIES).map(|_| {
            let (rate, away) = with_absence(|| inside(&from.netns, || sends(to, &taken)));
            println!("{way}: {rate:.1} Mbit/s of 40, the machine was away for {away:?}");
            assert!(rate < 44.0, "{way}: {rate} Mbit/s");
            (rate, away)
        });
        let mut slower = Vec::new();
        for (rate, away) in tries {
            if rate > 36.0 {
                slower.clear();
                break;
            }
            slower.push((rate, away));
        }
        slower.retain(|(_, away)| *away < AWAY_MAX);
        assert!(slower.is_empty(), "{way}: no more than {slower:?}");
    }
    network.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["t5"]), [""; 0]);
}

/// What `work` gives, and how long this machine had no time for anybody meanwhile.
fn with_absence<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut away = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let before = Instant::now();
                std::thread::sleep(Duration::from_millis(1));
                away += before.elapsed().checked_sub(BLINK).unwrap_or_default();
            }
            away
        });
        let done = work();
        over.store(true, Ordering::Relaxed);
        (done, watch.join().expect("watched"))
    })
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
async fn containers_are_attached_one_after_the_other() {
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
    network.close(true).await.expect("closed");
    assert_eq!(left_behind(folder.path(), &["t6"]), [""; 0]);
}
