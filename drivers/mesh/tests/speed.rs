//! How fast it is, beside a plain TCP connection on the same way. Prints figures and asserts
//! nothing about them: `cargo test -p mesh --release --test speed -- --ignored --nocapture`.

mod ground;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use ground::*;
use mesh::Link;

const SPAN: Duration = Duration::from_secs(5);
const ROUNDS: usize = 2_000;

/// First byte `s`: swallows; else sends each byte back.
fn serve(space: &Path, port: u16) {
    let listener = inside(space, || {
        TcpListener::bind(("0.0.0.0", port)).expect("bound")
    });
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.set_nodelay(true);
                let mut buffer = vec![0; 256 << 10];
                let mut kind = [0];
                if stream.read_exact(&mut kind).is_err() {
                    return;
                }
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    if kind != *b"s" && stream.write_all(&buffer[..read]).is_err() {
                        return;
                    }
                }
                let _ = stream.write_all(b"e");
            });
        }
    });
}

/// Processor time of this process: both ends' agents, and the two programs that talk.
fn cpu() -> Duration {
    // SAFETY: fills a value of ours.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn measure(what: &str, from: &Path, to: SocketAddr, streams: usize) {
    let open = || inside(from, || TcpStream::connect(to).expect("connected"));
    let started = Instant::now();
    let used = cpu();
    let total: u64 = std::thread::scope(|scope| {
        let all: Vec<_> = (0..streams)
            .map(|_| {
                let mut stream = open();
                scope.spawn(move || {
                    stream.write_all(b"s").expect("sent");
                    let chunk = vec![7; 256 << 10];
                    let mut sent = 0;
                    while started.elapsed() < SPAN {
                        stream.write_all(&chunk).expect("sent");
                        sent += chunk.len() as u64;
                    }
                    stream.shutdown(std::net::Shutdown::Write).expect("shut");
                    let mut end = [0];
                    stream.read_exact(&mut end).expect("all arrived");
                    sent
                })
            })
            .collect();
        all.into_iter().map(|t| t.join().expect("sent")).sum()
    });
    let seconds = started.elapsed().as_secs_f64();
    let mib = total as f64 / f64::from(1 << 20);
    let cpu = (cpu() - used).as_secs_f64() / (mib / 1024.0);
    let mut stream = open();
    stream.set_nodelay(true).expect("set");
    stream.write_all(b"e").expect("sent");
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let started = Instant::now();
            let mut byte = [1];
            stream.write_all(&byte).expect("sent");
            stream.read_exact(&mut byte).expect("came back");
            started.elapsed()
        })
        .collect();
    times.sort();
    println!(
        "{what}, {streams} streams: {:.0} MiB/s, {cpu:.1} CPU-s per GiB; round trip p50 {:?}, p99 {:?}",
        mib / seconds,
        times[ROUNDS / 2],
        times[ROUNDS * 99 / 100],
    );
}

#[test]
#[ignore = "takes a minute and asserts nothing"]
fn mesh_beside_plain_tcp() {
    let folder = tempfile::tempdir().expect("a folder");
    let (left, right) = (Space::new("s1"), Space::new("s2"));
    left.wire("w0", "192.0.2.1/24", &right, "192.0.2.2/24");
    let one = Agent::new(&left, folder.path(), "s1", &[]);
    let two = Agent::new(&right, folder.path(), "s2", &[]);
    let relay = RelayHere::new(&right, "192.0.2.2:8440");
    relay.admit(&[one.id, two.id]);
    let shop = key("d-1", "default");
    let web = one.attach(1, std::slice::from_ref(&shop));
    let near = one.attach(3, std::slice::from_ref(&shop));
    let store = two.attach(2, std::slice::from_ref(&shop));
    let replica = |number, agent: &Agent, name| Replica {
        number,
        host: agent.id,
        network: shop.clone(),
        name,
        ready: true,
    };
    let plan = [
        replica(1, &one, "web"),
        replica(2, &two, "store"),
        replica(3, &one, "near"),
    ];
    let places = BTreeMap::from([
        (one.id, one.place(Some("192.0.2.1"), None)),
        (two.id, two.place(Some("192.0.2.2"), None)),
    ]);
    one.follow(&plan, &places);
    two.follow(&plan, &places);
    until("a link", || {
        one.mesh().links().values().all(|l| *l != Link::Down)
    });
    for space in [&store.netns, &near.netns, &right.path()] {
        serve(space, 9_000);
    }
    let far = (resolve(&web, "store")[0], 9_000).into();
    let bridge = (resolve(&web, "near")[0], 9_000).into();
    let plain = SocketAddr::from(([192, 0, 2, 2], 9_000));
    for streams in [1, 4] {
        measure(
            "plain TCP between the machines",
            &left.path(),
            plain,
            streams,
        );
        measure("one bridge", &web.netns, bridge, streams);
        measure("the mesh", &web.netns, far, streams);
    }
    relay.close();
    one.close();
    two.close();
}
