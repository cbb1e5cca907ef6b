//! Replicas of a project on machines that share nothing but a network: who reaches whom.

mod ground;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use ground::*;
use mesh::{Link, Place};
use net::{Attachment, NetworkKey};
use types::HostId;

const LIMIT: Duration = Duration::from_secs(30);
/// For what is not to come.
const SHORT: Duration = Duration::from_millis(500);

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
    connect_within(from, to, LIMIT)
}

fn connect_within(
    from: &Attachment,
    to: SocketAddr,
    limit: Duration,
) -> std::io::Result<TcpStream> {
    inside(&from.netns, || {
        let stream = TcpStream::connect_timeout(&to, limit)?;
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

/// Answers each datagram with itself.
fn echo_datagrams(at: &Attachment, port: u16) {
    let socket = inside(&at.netns, || {
        UdpSocket::bind(("0.0.0.0", port)).expect("bound")
    });
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok((read, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..read], from);
        }
    });
}

fn connected(agents: &[&Agent]) {
    until("all links", || {
        agents.iter().all(|a| {
            let links = a.mesh().links();
            links.values().all(|l| *l != Link::Down)
        })
    });
}

/// The one address of `name`.
fn only(from: &Attachment, name: &str, port: u16) -> SocketAddr {
    let found = resolve(from, name);
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    (found[0], port).into()
}

struct Plan {
    replicas: Vec<Replica>,
    places: BTreeMap<HostId, Place>,
}

impl Plan {
    fn new() -> Self {
        Self {
            replicas: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    fn at(mut self, agent: &Agent, address: Option<&str>, relay: Option<&str>) -> Self {
        let place = agent.place(address, relay.map(String::from));
        self.places.insert(agent.id, place);
        self
    }

    fn with(
        mut self,
        number: u64,
        agent: &Agent,
        network: &NetworkKey,
        name: &'static str,
    ) -> Self {
        self.replicas.push(Replica {
            number,
            host: agent.id,
            network: network.clone(),
            name,
            ready: true,
        });
        self
    }

    fn tell(&self, agents: &[&Agent]) {
        for agent in agents {
            agent.follow(&self.replicas, &self.places);
        }
    }
}

#[test]
fn two_machines_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let (left, right) = (Space::new("left"), Space::new("right"));
    left.wire("w0", "192.0.2.1/24", &right, "192.0.2.2/24");
    let mut one = Agent::new(&left, folder.path(), "m1", &[]);
    let two = Agent::new(&right, folder.path(), "m2", &[]);
    let shop = key("d-1", "default");
    let web = one.attach(1, std::slice::from_ref(&shop));
    let store = two.attach(2, std::slice::from_ref(&shop));
    echo(&store, 6379, "held");
    echo_datagrams(&store, 53);
    let plan = Plan::new()
        .at(&one, Some("192.0.2.1"), None)
        .at(&two, Some("192.0.2.2"), None)
        .with(1, &one, &shop, "web")
        .with(2, &two, &shop, "store");
    plan.tell(&[&one, &two]);
    connected(&[&one, &two]);
    let at = only(&web, "store", 6379);
    assert_eq!(greeting(&web, at).expect("answers"), "held");

    // Nobody listens: told so at once, as by a neighbour on the bridge.
    let closed = connect(&web, (at.ip(), 81).into()).map(|_| ());
    assert_eq!(
        closed.map_err(|e| e.kind()),
        Err(ErrorKind::ConnectionRefused)
    );

    // Datagrams, small and in pieces.
    for size in [1, 1_200, 1_253, 1_472, 9_000, 30_000] {
        let sent: Vec<u8> = (0..size).map(|n| n as u8).collect();
        let same = inside(&web.netns, || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
            socket
                .set_read_timeout(Some(Duration::from_millis(500)))
                .expect("set");
            let mut buffer = vec![0; 64 << 10];
            // They may be lost, as anywhere.
            (0..20).any(|_| {
                socket.send_to(&sent, (at.ip(), 53)).expect("sent");
                socket
                    .recv(&mut buffer)
                    .is_ok_and(|read| buffer[..read] == sent)
            })
        });
        assert!(same, "{size} bytes come back");
    }

    // Many at once, more than fits into any buffer, byte for byte.
    std::thread::scope(|scope| {
        for n in 0..100u32 {
            let web = &web;
            scope.spawn(move || {
                let stream = connect(web, at).expect("connected");
                let mut reader = stream.try_clone().expect("cloned");
                let mut word = [0; 4];
                reader.read_exact(&mut word).expect("greeted");
                let sent: Vec<u8> = (0..300_000u32).map(|i| (i * 31 + n) as u8).collect();
                let mut writer = stream;
                let back = sent.clone();
                std::thread::scope(|both| {
                    both.spawn(|| writer.write_all(&sent).expect("sent"));
                    let mut got = vec![0; back.len()];
                    reader.read_exact(&mut got).expect("came back");
                    assert!(got == back, "stream {n} is as it was");
                });
            });
        }
    });

    // The agent is killed and another takes over: connections stand.
    let mut kept = connect(&web, at).expect("connected");
    let mut word = [0; 5];
    kept.read_exact(&mut word[..4]).expect("greeted");
    one.die();
    one.begin(&left);
    plan.tell(&[&one]);
    kept.write_all(b"still").expect("sent");
    kept.read_exact(&mut word).expect("answered");
    assert_eq!(&word, b"still");
    assert_eq!(only(&web, "store", 6379), at, "the same address as before");
    one.close();
    two.close();
    assert_eq!(left_behind(&folder, &[&left, &right]), [""; 0]);
}

#[test]
fn a_host_that_goes_away_is_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let (hub, left, right) = (Space::new("hub"), Space::new("a"), Space::new("b"));
    hub.wire("w1", "192.0.2.1/24", &left, "192.0.2.2/24");
    hub.wire("w2", "198.51.100.1/24", &right, "198.51.100.2/24");
    let one = Agent::new(&hub, folder.path(), "m3", &[]);
    let two = Agent::new(&left, folder.path(), "m4", &[]);
    let mut three = Agent::new(&right, folder.path(), "m5", &[]);
    let shop = key("d-1", "default");
    let web = one.attach(1, std::slice::from_ref(&shop));
    let (b, c) = (
        two.attach(2, std::slice::from_ref(&shop)),
        three.attach(3, std::slice::from_ref(&shop)),
    );
    echo(&b, 80, "left");
    echo(&c, 80, "rite");
    let mut plan = Plan::new()
        .at(&one, Some("192.0.2.1"), None)
        .at(&two, Some("192.0.2.2"), None)
        .at(&three, Some("198.51.100.2"), None)
        .with(1, &one, &shop, "web")
        .with(2, &two, &shop, "store")
        .with(3, &three, &shop, "store");
    plan.places.insert(one.id, one.place(None, None));
    plan.tell(&[&one, &two, &three]);
    // Those two do not reach each other.
    let up = |from: &Agent, to: &Agent| {
        from.mesh()
            .links()
            .get(&to.id)
            .is_some_and(|l| *l != Link::Down)
    };
    until("a link to each and back", || {
        [&two, &three]
            .iter()
            .all(|other| up(&one, other) && up(other, &one))
    });
    let mut said = BTreeSet::new();
    until("both are asked", || {
        let found = resolve(&web, "store");
        said.insert(greeting(&web, (found[0], 80).into()).expect("answers"));
        found.len() == 2 && said.len() == 2
    });
    let last = |word: &str| {
        let all = resolve(&web, "store").into_iter();
        let mut all = all.map(|ip| (ip, greeting(&web, (ip, 80).into())));
        all.find(|(_, said)| said.as_ref().is_ok_and(|s| s == word))
    };
    let (gone, _) = last("rite").expect("named");
    three.die();
    until("the silence is noticed", || {
        one.mesh().links().values().any(|l| *l == Link::Down)
    });
    let down: Vec<HostId> = one
        .mesh()
        .links()
        .into_iter()
        .collect::<Vec<_>>()
        .into_iter()
        .filter(|(_, l)| *l == Link::Down)
        .map(|(id, _)| id)
        .collect();
    assert_eq!(down, [three.id]);
    // As an agent does when links change.
    for replica in &mut plan.replicas {
        replica.ready = replica.host != three.id;
    }
    plan.tell(&[&one]);
    for _ in 0..10 {
        let found = only(&web, "store", 80);
        assert_eq!(greeting(&web, found).expect("answers"), "left");
    }
    // Whoever remembers the old address is told at once.
    let told = connect(&web, (gone, 80).into()).map(|_| ());
    assert_eq!(told.map_err(|e| e.kind()), Err(ErrorKind::HostUnreachable));
    one.close();
    two.close();
    three.begin(&right);
    three.close();
    assert_eq!(left_behind(&folder, &[&hub, &left, &right]), [""; 0]);
}

#[test]
fn only_what_the_plan_names_comes_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let (hub, left, right) = (Space::new("hub2"), Space::new("a2"), Space::new("b2"));
    hub.wire("w1", "192.0.2.1/24", &left, "192.0.2.2/24");
    hub.wire("w2", "198.51.100.1/24", &right, "198.51.100.2/24");
    let one = Agent::new(&hub, folder.path(), "m6", &[]);
    let two = Agent::new(&left, folder.path(), "m7", &[]);
    let evil = Agent::new(&right, folder.path(), "m8", &[]);
    let (shop, bank, vault) = (
        key("d-1", "default"),
        key("d-2", "default"),
        key("d-1", "vault"),
    );
    let web = one.attach(1, &[shop.clone(), vault.clone()]);
    let front = two.attach(2, std::slice::from_ref(&shop));
    let thief = evil.attach(2, &[shop.clone(), vault.clone()]);
    let other = one.attach(8, std::slice::from_ref(&bank));
    for at in [&web, &other] {
        echo(at, 80, "held");
    }
    let base = || {
        Plan::new()
            .at(&one, Some("192.0.2.1"), None)
            .at(&two, Some("192.0.2.2"), None)
            .at(&evil, Some("198.51.100.2"), None)
    };
    let truth = base()
        .with(1, &one, &shop, "web")
        .with(1, &one, &vault, "web")
        .with(2, &two, &shop, "front")
        .with(8, &one, &bank, "books");
    truth.tell(&[&one, &two]);
    connected(&[&one, &two]);
    let at = only(&front, "web", 80);
    assert_eq!(greeting(&front, at).expect("answers"), "held");

    // A stranger: the plan of those that it asks does not name it.
    let lie = base()
        .with(1, &one, &shop, "web")
        .with(1, &one, &vault, "web")
        .with(2, &evil, &shop, "front")
        .with(2, &evil, &vault, "front");
    Plan {
        places: lie.places.clone(),
        replicas: lie.replicas.clone(),
    }
    .tell(&[&evil]);
    let at = resolve(&thief, "web");
    assert_eq!(at.len(), 2, "as far as it believes");
    let tries = |from: &Attachment| {
        resolve(from, "web")
            .into_iter()
            .any(|ip| connect_within(from, (ip, 80).into(), SHORT).is_ok())
    };
    for _ in 0..3 {
        assert!(!tries(&thief), "a stranger is not heard");
    }

    // A neighbour, by another project: it may speak for what it holds and for nothing else.
    let truth = truth.with(9, &evil, &bank, "till");
    truth.tell(&[&one]);
    until("linked with it", || {
        evil.mesh()
            .links()
            .get(&one.id)
            .is_some_and(|l| *l != Link::Down)
    });
    for _ in 0..3 {
        assert!(!tries(&thief), "it does not hold replica 2");
    }
    // And now it does, but not on both networks.
    let moved = base()
        .with(1, &one, &shop, "web")
        .with(1, &one, &vault, "web")
        .with(2, &evil, &shop, "front");
    moved.tell(&[&one]);
    let heard = |network: &NetworkKey, within| {
        let places = evil.network().places().borrow().clone();
        let mut aliases = places.aliases.iter();
        let alias = aliases.find(|a| a.network == *network && a.replica == 1);
        let to = (alias.expect("named").address, 80).into();
        connect_within(&thief, to, within).is_ok()
    };
    until("what it holds is heard", || heard(&shop, LIMIT));
    assert!(!heard(&vault, SHORT), "another network of the project");
    for agent in [one, two, evil] {
        agent.close();
    }
    assert_eq!(left_behind(&folder, &[&hub, &left, &right]), [""; 0]);
}

#[test]
fn garbage_hurts_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let (left, right) = (Space::new("g1"), Space::new("g2"));
    left.wire("w0", "192.0.2.1/24", &right, "192.0.2.2/24");
    let one = Agent::new(&left, folder.path(), "m9", &[]);
    let two = Agent::new(&right, folder.path(), "ma", &[]);
    let shop = key("d-1", "default");
    let web = one.attach(1, std::slice::from_ref(&shop));
    let store = two.attach(2, std::slice::from_ref(&shop));
    echo(&store, 80, "held");
    Plan::new()
        .at(&one, Some("192.0.2.1"), None)
        .at(&two, Some("192.0.2.2"), None)
        .with(1, &one, &shop, "web")
        .with(2, &two, &shop, "store")
        .tell(&[&one, &two]);
    connected(&[&one, &two]);
    let at = only(&web, "store", 80);
    let mut kept = connect(&web, at).expect("connected");
    inside(&left.path(), || {
        let mut seed = 1u64;
        let socket = UdpSocket::bind("0.0.0.0:0").expect("bound");
        for n in 0..20_000usize {
            let mut bytes = vec![0; n % 1_400];
            for byte in &mut bytes {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(99);
                *byte = (seed >> 33) as u8;
            }
            if let (true, Some(first)) = (n % 2 == 0, bytes.first_mut()) {
                // What looks like the first packet of a connection.
                *first = 0xc3;
            }
            let _ = socket.send_to(&bytes, "192.0.2.2:7070");
        }
    });
    let mut word = [0; 4];
    kept.read_exact(&mut word).expect("an old connection");
    assert_eq!(greeting(&web, at).expect("a new one"), "held");
    one.close();
    two.close();
}

#[test]
fn behind_nats() {
    let folder = tempfile::tempdir().expect("a folder");
    // home ─ box ─┐
    //             ├─ net (the relay, an open host)
    // yard ─ wall ┘
    let net = Space::new("net");
    let (home, gate) = (Space::new("home"), Space::new("box"));
    let (yard, wall) = (Space::new("yard"), Space::new("wall"));
    net.wire("w1", "192.0.2.1/24", &gate, "192.0.2.2/24");
    net.wire("w2", "198.51.100.1/24", &wall, "198.51.100.2/24");
    net.route();
    gate.wire("in", "192.168.1.1/24", &home, "192.168.1.2/24");
    wall.wire("in", "192.168.1.1/24", &yard, "192.168.1.2/24");
    gate.ip("route add default via 192.0.2.1");
    wall.ip("route add default via 198.51.100.1");
    home.ip("route add default via 192.168.1.1");
    yard.ip("route add default via 192.168.1.1");
    gate.hide_behind("w1");
    wall.hide_behind("w2");

    let relay = RelayHere::new(&net, "192.0.2.1:8440");
    let url = "http://192.0.2.1:8440";
    let relays = [url.to_string()];
    let one = Agent::new(&home, folder.path(), "mb", &relays);
    let two = Agent::new(&yard, folder.path(), "mc", &relays);
    let open = Agent::new(&net, folder.path(), "md", &[]);
    let shop = key("d-1", "default");
    let attach = |agent: &Agent, n| agent.attach(n, std::slice::from_ref(&shop));
    let (a, b, c) = (attach(&one, 1), attach(&two, 2), attach(&open, 3));
    echo(&a, 80, "home");
    echo(&b, 80, "yard");
    echo(&c, 80, "open");
    relay.admit(&[one.id, two.id]);
    Plan::new()
        // As a host behind a NAT sees itself: others may have the very same address.
        .at(&one, Some("192.168.1.2"), Some(url))
        .at(&two, Some("192.168.1.2"), Some(url))
        .at(&open, Some("192.0.2.1"), None)
        .with(1, &one, &shop, "one")
        .with(2, &two, &shop, "two")
        .with(3, &open, &shop, "three")
        .tell(&[&one, &two, &open]);
    connected(&[&one, &two, &open]);
    for (from, name, word) in [
        (&a, "two", "yard"),
        (&b, "one", "home"),
        (&a, "three", "open"),
        (&c, "one", "home"),
        (&c, "two", "yard"),
    ] {
        let at = only(from, name, 80);
        until("answered", || {
            greeting(from, at).is_ok_and(|said| said == word)
        });
    }
    let link = |from: &Agent, to: &Agent| from.mesh().links().get(&to.id).copied();
    assert!(
        matches!(link(&open, &one), Some(Link::Direct(_))),
        "it came to us"
    );
    until("a direct way between two NATs", || {
        matches!(link(&one, &two), Some(Link::Direct(_)))
            && matches!(link(&two, &one), Some(Link::Direct(_)))
    });
    for (from, name, word) in [(&a, "two", "yard"), (&b, "one", "home")] {
        let at = only(from, name, 80);
        assert_eq!(greeting(from, at).expect("answers"), word);
    }
    for agent in [one, two, open] {
        agent.close();
    }
    relay.close();
    let spaces = [&net, &home, &gate, &yard, &wall];
    assert_eq!(left_behind(&folder, &spaces), [""; 0]);
}
