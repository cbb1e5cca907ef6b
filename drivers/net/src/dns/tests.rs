use hickory_proto::rr::Name;

use super::*;
use crate::DirectoryEntry;

fn key(network: &str) -> NetworkKey {
    NetworkKey {
        deployment: "d-1".into(),
        network: network.into(),
    }
}

fn entry(network: &str, name: &str, last: u8, ready: bool) -> DirectoryEntry {
    DirectoryEntry {
        network: key(network),
        names: vec![name.into()],
        address: Ipv4Addr::new(10, 64, 0, last),
        ready,
    }
}

/// 10.64.0.2 sits on `front` and on the internal `back`, 10.64.0.3 on `back` only.
fn zone(entries: Vec<DirectoryEntry>) -> Zone {
    let names = Arc::new(Names::default());
    names.replace(Directory { entries }, |_| ());
    let both: Membership = Arc::new([(key("front"), false), (key("back"), true)]);
    let back: Membership = Arc::new([(key("back"), true)]);
    names.set_members(BTreeMap::from([
        (Ipv4Addr::new(10, 64, 0, 2), both),
        (Ipv4Addr::new(10, 64, 0, 3), back),
    ]));
    Zone::new(key("front"), false, names, Vec::new())
}

const BOTH: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
const BACK: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 3);
const UNKNOWN: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 9);

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).expect("a name"), kind));
    message
}

/// The last number of each address, in order; the code if there is none.
fn ask_a(zone: &Zone, from: Ipv4Addr, name: &str) -> Result<Vec<u8>, ResponseCode> {
    match zone.answer(&question(name, RecordType::A), from.into()) {
        Answer::Ours(answer) if answer.metadata.response_code == ResponseCode::NoError => {
            let last = |record: &Record| match &record.data {
                RData::A(a) => a.octets()[3],
                other => panic!("{other:?}"),
            };
            Ok(answer.answers.iter().map(last).collect())
        }
        Answer::Ours(answer) => Err(answer.metadata.response_code),
        Answer::Elsewhere => Err(ResponseCode::Refused),
        Answer::None => Err(ResponseCode::FormErr),
    }
}

#[test]
fn a_container_finds_names_of_all_its_networks_and_of_no_other() {
    let zone = zone(vec![
        entry("front", "web", 20, true),
        entry("back", "db", 30, true),
    ]);
    assert_eq!(ask_a(&zone, BOTH, "web."), Ok(vec![20]));
    assert_eq!(ask_a(&zone, BOTH, "DB."), Ok(vec![30]));
    assert_eq!(ask_a(&zone, BACK, "db."), Ok(vec![30]));
    assert_eq!(ask_a(&zone, BACK, "web."), Err(ResponseCode::NXDomain));
    assert_eq!(ask_a(&zone, UNKNOWN, "web."), Ok(vec![20]));
    assert_eq!(ask_a(&zone, UNKNOWN, "db."), Err(ResponseCode::NXDomain));
}

#[test]
fn ready_replicas_take_turns() {
    let zone = zone(vec![
        entry("front", "web", 20, true),
        entry("front", "web", 21, true),
        entry("front", "web", 22, false),
        entry("front", "cold", 40, false),
    ]);
    let mut first = Vec::new();
    for _ in 0..4 {
        first.push(ask_a(&zone, BOTH, "web.").expect("known")[0]);
        // As C libraries do, at the same time.
        let aaaa = zone.answer(&question("web.", RecordType::AAAA), BOTH.into());
        let Answer::Ours(aaaa) = aaaa else {
            panic!("known")
        };
        assert_eq!(aaaa.metadata.response_code, ResponseCode::NoError);
        assert!(aaaa.answers.is_empty());
    }
    assert_eq!(first, [20, 21, 20, 21]);
    assert_eq!(
        ask_a(&zone, BOTH, "cold."),
        Ok(vec![40]),
        "better than none"
    );
}

#[test]
fn only_containers_with_a_way_out_ask_outside() {
    let zone = zone(Vec::new());
    assert_eq!(
        ask_a(&zone, BOTH, "example.org."),
        Err(ResponseCode::Refused)
    );
    assert_eq!(
        ask_a(&zone, BACK, "example.org."),
        Err(ResponseCode::NXDomain)
    );
    assert_eq!(ask_a(&zone, BOTH, "nobody."), Err(ResponseCode::NXDomain));
}

#[test]
fn many_replicas_fit_into_one_datagram() {
    let many = (10..200).map(|n| entry("front", "web", n, true)).collect();
    let zone = zone(many);
    let Answer::Ours(answer) = zone.answer(&question("web.", RecordType::A), BOTH.into()) else {
        panic!("known")
    };
    assert!(answer.to_vec().expect("bytes").len() <= 512);
}

#[tokio::test]
async fn garbage_gets_no_answer_and_hurts_nobody() {
    let zone = zone(vec![entry("front", "web", 20, true)]);
    let good = question("web.", RecordType::A).to_vec().expect("bytes");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..20_000usize {
        let mut bytes = good[..good.len() - round % 5].to_vec();
        for _ in 0..1 + round % 4 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let at = state as usize % bytes.len();
            bytes[at] = (state >> 32) as u8;
        }
        // There is no upstream: whatever goes there fails at once.
        let _ = zone.respond(&bytes, BOTH.into(), round % 2 == 0).await;
    }
    for bytes in [&b""[..], &[0; 1], &[0xff; 4_096]] {
        assert_eq!(zone.respond(bytes, BOTH.into(), false).await, None);
    }
    assert!(zone.respond(&good, BOTH.into(), false).await.is_some());
}
