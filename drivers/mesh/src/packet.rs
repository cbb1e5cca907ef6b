//! An IPv4 packet as it crosses from one host's addresses to another's.
//!
//! Each host has addresses of its own for the same replicas, so both ends are rewritten, and
//! with them the checksums that cover them. What a packet carries besides is left alone, but
//! for two things: the error messages of ICMP quote a packet, which is rewritten too, and TCP
//! is told in its first segments how much fits through. Any bytes at all may come in.

use std::net::Ipv4Addr;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const HEADER: usize = 20;

/// Who sent a packet to whom, in the words of the host that it left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
}

fn address(bytes: &[u8], at: usize) -> Option<Ipv4Addr> {
    let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some(four.into())
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    let two: [u8; 2] = bytes.get(at..at + 2)?.try_into().ok()?;
    Some(u16::from_be_bytes(two))
}

/// Length of the header, if `packet` begins with a whole one of IPv4.
fn header(packet: &[u8]) -> Option<usize> {
    let first = *packet.first()?;
    let length = usize::from(first & 15) * 4;
    (first >> 4 == 4 && length >= HEADER && packet.len() >= length).then_some(length)
}

/// Where the payload begins, if `packet` is one whole IPv4 packet and no more. Options that
/// would lead it elsewhere are not carried, nor are any others.
fn whole(packet: &[u8]) -> Option<usize> {
    let length = header(packet)?;
    let total = usize::from(number(packet, 2)?);
    (total == packet.len() && length == HEADER).then_some(length)
}

fn is_first_fragment(packet: &[u8]) -> bool {
    number(packet, 6).is_some_and(|f| f & 0x1fff == 0)
}

/// The packet that an ICMP error quotes begins here.
fn quoted(packet: &[u8], payload: usize) -> Option<usize> {
    let error = packet[9] == ICMP
        && is_first_fragment(packet)
        && matches!(packet.get(payload), Some(3 | 4 | 11 | 12));
    let at = payload + 8;
    (error && header(packet.get(at..)?).is_some()).then_some(at)
}

/// An ICMP error speaks for the one whom the quoted packet was sent to, even if a router on
/// that one's host says it.
pub fn ends(packet: &[u8]) -> Option<Ends> {
    let payload = whole(packet)?;
    let to = address(packet, 16)?;
    let from = match quoted(packet, payload) {
        Some(at) => address(packet, at + 16)?,
        None => address(packet, 12)?,
    };
    Some(Ends { from, to })
}

/// RFC 1624: the checksum after `old` has become `new`.
fn adjust(sum: u16, old: &[u8], new: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> Vec<u16> {
        let pairs = bytes.chunks_exact(2);
        pairs.map(|p| u16::from_be_bytes([p[0], p[1]])).collect()
    };
    let mut total = u32::from(!sum);
    for (old, new) in words(old).into_iter().zip(words(new)) {
        total += u32::from(!old) + u32::from(new);
    }
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut total: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        total += u32::from(u16::from_be_bytes([pair[0], low]));
        total = (total & 0xffff) + (total >> 16);
    }
    !(total as u16)
}

fn patch(packet: &mut [u8], at: usize, old: &[u8], new: &[u8]) {
    if let Some(sum) = number(packet, at) {
        packet[at..at + 2].copy_from_slice(&adjust(sum, old, new).to_be_bytes());
    }
}

/// Puts other addresses into a header, whole or quoted, at the start of `packet`.
fn readdress(packet: &mut [u8], length: usize, ends: Ends) {
    let old: [u8; 8] = packet[12..20].try_into().expect("a whole header");
    let mut new = [0; 8];
    new[..4].copy_from_slice(&ends.from.octets());
    new[4..].copy_from_slice(&ends.to.octets());
    packet[12..20].copy_from_slice(&new);
    patch(packet, 10, &old, &new);
    if !is_first_fragment(packet) {
        return;
    }
    match packet[9] {
        TCP => patch(packet, length + 16, &old, &new),
        // Zero is a packet without one.
        UDP if number(packet, length + 6).is_some_and(|sum| sum != 0) => {
            patch(packet, length + 6, &old, &new);
            if number(packet, length + 6) == Some(0) {
                packet[length + 6..length + 8].fill(0xff);
            }
        }
        _ => {}
    }
}

/// From now on `packet` goes between `ends`. Tells whether it is a packet at all.
pub fn rewrite(packet: &mut [u8], ends: Ends) -> bool {
    let Some(payload) = whole(packet) else {
        return false;
    };
    let quoted = quoted(packet, payload);
    readdress(packet, payload, ends);
    let Some(at) = quoted else { return true };
    let back = Ends {
        from: ends.to,
        to: ends.from,
    };
    if let Some(length) = header(&packet[at..]) {
        readdress(&mut packet[at..], length, back);
        packet[payload + 2..payload + 4].fill(0);
        let sum = checksum(&packet[payload..]);
        packet[payload + 2..payload + 4].copy_from_slice(&sum.to_be_bytes());
    }
    true
}

/// A TCP connection that begins with `packet` never sends more than `mss` bytes at once.
pub fn clamp(packet: &mut [u8], mss: u16) {
    const SYN: u8 = 2;
    let Some(payload) = whole(packet) else { return };
    let begins = packet[9] == TCP
        && is_first_fragment(packet)
        && packet.get(payload + 13).is_some_and(|f| f & SYN != 0);
    if !begins {
        return;
    }
    let end = (payload + usize::from(packet[payload + 12] >> 4) * 4).min(packet.len());
    let mut at = payload + 20;
    while at + 1 < end {
        match (packet[at], usize::from(packet[at + 1])) {
            (0, _) => return,
            (1, _) => at += 1,
            (2, 4) if at + 4 <= end => {
                let old = [packet[at + 2], packet[at + 3]];
                if u16::from_be_bytes(old) > mss {
                    let new = mss.to_be_bytes();
                    packet[at + 2..at + 4].copy_from_slice(&new);
                    // The sum counts in words from the header's start.
                    match (at - payload) % 2 {
                        0 => patch(packet, payload + 16, &old, &new),
                        _ => patch(
                            packet,
                            payload + 16,
                            &[0, old[0], old[1], 0],
                            &[0, new[0], new[1], 0],
                        ),
                    }
                }
                return;
            }
            (_, length) if length >= 2 => at += length,
            _ => return,
        }
    }
}

/// "That host is not reachable", in the name of whom `packet` goes to. None for packets that
/// nothing is said about.
pub fn unreachable(packet: &[u8]) -> Option<Vec<u8>> {
    let payload = whole(packet)?;
    let about_error = packet[9] == ICMP && !matches!(packet.get(payload), Some(0 | 8));
    if about_error || !is_first_fragment(packet) {
        return None;
    }
    let quote = &packet[..packet.len().min(payload + 8)];
    let total = u16::try_from(HEADER + 8 + quote.len()).ok()?;
    let mut answer = vec![0x45, 0xc0];
    answer.extend_from_slice(&total.to_be_bytes());
    answer.extend_from_slice(&[0, 0, 0, 0, 64, ICMP, 0, 0]);
    answer.extend_from_slice(&packet[16..20]);
    answer.extend_from_slice(&packet[12..16]);
    let sum = checksum(&answer);
    answer[10..12].copy_from_slice(&sum.to_be_bytes());
    // Destination unreachable, host.
    answer.extend_from_slice(&[3, 1, 0, 0, 0, 0, 0, 0]);
    answer.extend_from_slice(quote);
    let sum = checksum(&answer[HEADER..]);
    answer[HEADER + 2..HEADER + 4].copy_from_slice(&sum.to_be_bytes());
    Some(answer)
}

#[cfg(test)]
mod tests;
