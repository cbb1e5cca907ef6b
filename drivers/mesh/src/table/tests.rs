use super::*;

const HERE: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
const ALIAS: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 9);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 64, 1, 9);
const NEIGHBOUR: HostId = types::AccountId([1; 20]);
const STRANGER: HostId = types::AccountId([2; 20]);

fn front() -> NetworkId {
    NetworkId::of("d-1", "front")
}

fn back() -> NetworkId {
    NetworkId::of("d-1", "back")
}

/// Replica 1 is here on `front`; 2 is at the neighbour on `front`, 3 there on `back`.
fn table() -> Table {
    let local = Local {
        network: front(),
        replica: 1,
        address: HERE,
    };
    let remote = |network, replica, alias| Remote {
        network,
        replica,
        host: NEIGHBOUR,
        alias,
    };
    Table::new(
        [local],
        [remote(front(), 2, ALIAS), remote(back(), 3, OTHER)],
    )
}

fn packet(from: Ipv4Addr, to: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 20, 0, 0, 0, 0, 64, 132, 0, 0];
    packet.extend_from_slice(&from.octets());
    packet.extend_from_slice(&to.octets());
    packet
}

#[test]
fn what_may_leave() {
    let label = Label {
        network: front(),
        from: 1,
        to: 2,
    };
    let sent = table().outward(&packet(HERE, ALIAS));
    assert_eq!(sent, Some((NEIGHBOUR, label)));
    for (from, to, why) in [
        (HERE, OTHER, "another network of the project"),
        (OTHER, ALIAS, "no container of this host"),
        (HERE, Ipv4Addr::new(8, 8, 8, 8), "nobody of the project"),
    ] {
        assert_eq!(table().outward(&packet(from, to)), None, "{why}");
    }
}

#[test]
fn what_may_come_in() {
    let label = |network, from, to| Label { network, from, to };
    let good = label(front(), 2, 1);
    let ends = Ends {
        from: ALIAS,
        to: HERE,
    };
    assert_eq!(table().inward(&NEIGHBOUR, &good), Some(ends));
    for (host, label, why) in [
        (STRANGER, good, "the sender is placed on another host"),
        (NEIGHBOUR, label(front(), 3, 1), "the sender's network"),
        (NEIGHBOUR, label(back(), 3, 1), "the receiver's network"),
        (NEIGHBOUR, label(front(), 2, 2), "the receiver is not here"),
        (NEIGHBOUR, label(front(), 1, 1), "our own replica"),
        (NEIGHBOUR, label(front(), 9, 1), "no such replica"),
    ] {
        assert_eq!(table().inward(&host, &label), None, "{why}");
    }
    assert_ne!(NetworkId::of("d-1", "front"), NetworkId::of("d-2", "front"));
}

#[test]
fn labels() {
    let label = Label {
        network: front(),
        from: 7,
        to: u64::MAX,
    };
    let mut frame = Vec::new();
    label.write(&mut frame);
    assert_eq!(frame.len(), Label::LENGTH);
    frame.push(9);
    assert_eq!(Label::split(&mut frame), Some((label, &mut [9][..])));
    assert_eq!(Label::split(&mut frame[..24]), None);
    frame[0] = 2;
    assert_eq!(Label::split(&mut frame), None, "another version");
}
