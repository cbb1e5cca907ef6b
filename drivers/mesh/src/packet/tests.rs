use super::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 2);
const B: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 9);
const C: Ipv4Addr = Ipv4Addr::new(10, 99, 3, 7);
const D: Ipv4Addr = Ipv4Addr::new(10, 99, 3, 250);

/// From A to B, with all sums right.
fn packet(protocol: u8, mut payload: Vec<u8>) -> Vec<u8> {
    let at = match protocol {
        TCP => Some(16),
        UDP => Some(6),
        _ => None,
    };
    let total = (HEADER + payload.len()) as u16;
    if let Some(at) = at {
        let mut pseudo = [A.octets(), B.octets()].concat();
        pseudo.extend_from_slice(&[0, protocol]);
        pseudo.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        pseudo.extend_from_slice(&payload);
        payload[at..at + 2].copy_from_slice(&checksum(&pseudo).to_be_bytes());
    }
    let mut packet = vec![0x45, 0];
    packet.extend_from_slice(&total.to_be_bytes());
    packet.extend_from_slice(&[0, 1, 0x40, 0, 63, protocol, 0, 0]);
    packet.extend_from_slice(&A.octets());
    packet.extend_from_slice(&B.octets());
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

fn tcp(flags: u8, options: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0];
    segment.push((((20 + options.len()) / 4) as u8) << 4);
    segment.extend_from_slice(&[flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend_from_slice(options);
    segment
}

fn udp(data: &[u8]) -> Vec<u8> {
    let mut datagram = vec![0x9c, 0x40, 0, 53];
    datagram.extend_from_slice(&((8 + data.len()) as u16).to_be_bytes());
    datagram.extend_from_slice(&[0, 0]);
    datagram.extend_from_slice(data);
    datagram
}

/// Whether the sums of header and payload are right.
fn is_sound(packet: &[u8]) -> bool {
    let Some(payload) = whole(packet) else {
        return false;
    };
    let mut pseudo = packet[12..20].to_vec();
    pseudo.extend_from_slice(&[0, packet[9]]);
    pseudo.extend_from_slice(&((packet.len() - payload) as u16).to_be_bytes());
    pseudo.extend_from_slice(&packet[payload..]);
    let inner = match packet[9] {
        TCP | UDP => checksum(&pseudo) == 0,
        ICMP => checksum(&packet[payload..]) == 0,
        _ => true,
    };
    checksum(&packet[..payload]) == 0 && inner
}

#[test]
fn readdressed_packets_have_right_sums() {
    for mut packet in [
        packet(TCP, tcp(0x18, &[])),
        packet(UDP, udp(b"a question")),
        packet(UDP, udp(b"odd")),
        packet(ICMP, vec![8, 0, 0xf7, 0xff, 0, 0, 0, 0]),
        packet(132, vec![1; 40]),
    ] {
        assert!(is_sound(&packet));
        assert!(rewrite(&mut packet, Ends { from: C, to: D }));
        assert!(is_sound(&packet));
        assert_eq!(ends(&packet), Some(Ends { from: C, to: D }));
    }
}

#[test]
fn a_datagram_without_a_sum_stays_without() {
    let mut packet = packet(UDP, udp(b"x"));
    packet[HEADER + 6..HEADER + 8].fill(0);
    assert!(rewrite(&mut packet, Ends { from: C, to: D }));
    assert_eq!(packet[HEADER + 6..HEADER + 8], [0, 0]);
}

#[test]
fn an_error_quotes_what_its_reader_sent() {
    // A sent it; B's host says that nobody listens there.
    let sent = packet(UDP, udp(b"anybody?"));
    let mut error = unreachable(&sent).expect("said");
    assert!(is_sound(&error));
    assert_eq!(ends(&error), Some(Ends { from: B, to: A }));
    // Said by a router on the way, it still speaks for B.
    error[12..16].copy_from_slice(&[10, 64, 0, 1]);
    assert_eq!(ends(&error), Some(Ends { from: B, to: A }));
    error[12..16].copy_from_slice(&B.octets());
    assert!(rewrite(&mut error, Ends { from: C, to: D }));
    assert!(is_sound(&error));
    let quote = &error[HEADER + 8..];
    assert_eq!(&quote[12..20], [D.octets(), C.octets()].concat());
    assert_eq!(checksum(&quote[..HEADER]), 0);
    assert_eq!(unreachable(&error), None, "no errors about errors");
}

#[test]
fn segments_are_clamped_when_a_connection_begins() {
    const SYN: u8 = 2;
    let mss = |packet: &[u8], at: usize| number(packet, HEADER + 20 + at);
    let mut large = packet(TCP, tcp(SYN, &[2, 4, 5, 180, 1, 3, 3, 7]));
    clamp(&mut large, 1240);
    assert_eq!(mss(&large, 2), Some(1240));
    assert!(is_sound(&large));
    // At an odd place.
    let mut odd = packet(TCP, tcp(SYN | 16, &[1, 2, 4, 5, 180, 1, 1, 0]));
    clamp(&mut odd, 1240);
    assert_eq!(mss(&odd, 3), Some(1240));
    assert!(is_sound(&odd));
    for untouched in [
        packet(TCP, tcp(SYN, &[2, 4, 2, 0])),
        packet(TCP, tcp(16, &[2, 4, 5, 180])),
        packet(TCP, tcp(SYN, &[9, 0, 2, 4])),
        packet(UDP, udp(b"x")),
    ] {
        let mut clamped = untouched.clone();
        clamp(&mut clamped, 1240);
        assert_eq!(clamped, untouched);
    }
}

#[test]
fn no_routes_are_taken_from_packets() {
    let mut routed = packet(UDP, vec![131, 7, 4, 10, 0, 0, 1, 0]);
    routed[0] = 0x47;
    assert_eq!(ends(&routed), None);
    assert!(!rewrite(&mut routed, Ends { from: C, to: D }));
}

#[test]
fn any_bytes_at_all_may_come() {
    let mut seed = 7u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) as u8
    };
    let good = [
        packet(TCP, tcp(2, &[2, 4, 5, 180])),
        packet(UDP, udp(b"hello")),
        unreachable(&packet(UDP, udp(b"x"))).expect("said"),
    ];
    for round in 0..20_000 {
        let mut packet = good[round % 3].clone();
        let cut = usize::from(next()) % (packet.len() + 1);
        for _ in 0..next() % 4 {
            let at = usize::from(next()) % packet.len();
            packet[at] = next();
        }
        if next() % 2 == 0 {
            packet.truncate(cut);
        }
        let _ = ends(&packet);
        clamp(&mut packet, 1240);
        let _ = rewrite(&mut packet, Ends { from: C, to: D });
        let _ = unreachable(&packet);
    }
    for empty in [&mut [][..], &mut [0x45][..], &mut [0x4f; 20][..]] {
        assert!(!rewrite(empty, Ends { from: C, to: D }));
    }
}
