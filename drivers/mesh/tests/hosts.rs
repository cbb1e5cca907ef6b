//! Replicas of a project on machines that share nothing but a network: who reaches whom.

mod ground;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use ground::*;
use net::Attachment;

const LIMIT: Duration = Duration::from_secs(20);

/// Answers each connection with `word` and whatever it is sent.
fn echo(at: &Attachment, port: u16, word: &'static str) {
    let listener = inside(&at.netns, || {
        TcpListener::bind(("0.0.0.0", port)).expect("bound")
    });
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let _ = stream.write_all(word.as_bytes());
                let mut buffer = vec![0; 64 << 10];
                while let Ok(read @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..read]).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

fn connect(from: &Attachment, to: SocketAddr) -> std::io::Result<TcpStream> {
    inside(&from.netns, || {
        let stream = TcpStream::connect_timeout(&to, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        Ok(stream)
    })
}

/// What `to` says first.
fn greeting(from: &Attachment, to: SocketAddr) -> std::io::Result<String> {
    let mut stream = connect(from, to)?;
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    Ok(String::from_utf8_lossy(&word).into_owned())
}

#[test]
fn two_machines_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (left, right) = (Space::new("left"), Space::new("right"));
    left.wire("w0", "192.0.2.1/24", &right, "192.0.2.2/24");
    let one = Agent::new(&left, folder.path(), "m1", &[]);
    let two = Agent::new(&right, folder.path(), "m2", &[]);
    let shop = key("d-1", "default");
    let web = one.attach(1, std::slice::from_ref(&shop));
    let store = two.attach(2, std::slice::from_ref(&shop));
    echo(&store, 6379, "held");
    let replica = |number, host, name| Replica {
        number,
        host,
        network: shop.clone(),
        name,
        ready: true,
    };
    let plan = [replica(1, one.id, "web"), replica(2, two.id, "store")];
    let places = BTreeMap::from([
        (one.id, one.place(Some("192.0.2.1"), None)),
        (two.id, two.place(Some("192.0.2.2"), None)),
    ]);
    one.follow(&plan, &places);
    two.follow(&plan, &places);
    until("a link", || {
        one.mesh().links().values().all(|l| *l != mesh::Link::Down)
    });
    let found = resolve(&web, "store");
    assert_eq!(found.len(), 1, "{found:?}");
    let at = SocketAddr::from((found[0], 6379));
    assert_eq!(greeting(&web, at).expect("answers"), "held");
    one.close();
    two.close();
}
