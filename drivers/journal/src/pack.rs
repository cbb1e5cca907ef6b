//! Lines with their numbers as bytes that leave the machine: blocks, compressed.

use crate::Line;
use crate::block::{self, BODY_MAX, Position};

/// Lines read from one pack, and bytes that they take; what claims more is none of ours.
const LINES_MAX: usize = 1 << 20;
const TEXT_MAX: usize = 64 << 20;

/// `lines` in order; their numbers may leave some out.
pub fn pack(lines: &[(u64, Line)]) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let (mut run, mut first, mut size) = (Vec::new(), 0, 0);
    for (at, (number, line)) in lines.iter().enumerate() {
        if run.is_empty() {
            first = *number;
        }
        run.push(line.clone());
        size += line.text.len() + 13;
        let next = lines.get(at + 1).map(|(next, _)| *next);
        if size >= BODY_MAX || next != Some(number + 1) {
            block::write(&mut bytes, first, &run, Position::default(), true, true)?;
            run.clear();
            size = 0;
        }
    }
    Ok(bytes)
}

/// `None` if that is no pack.
pub fn unpack(mut bytes: &[u8]) -> Option<Vec<(u64, Line)>> {
    let (mut all, mut size) = (Vec::new(), 0);
    while !bytes.is_empty() {
        let (head, body, length) = block::read(bytes)?;
        let lines = block::lines(&head, body)?;
        size += lines.iter().map(|l| l.text.len()).sum::<usize>();
        if all.len() + lines.len() > LINES_MAX || size > TEXT_MAX {
            return None;
        }
        head.first.checked_add(lines.len() as u64)?;
        all.extend((head.first..).zip(lines));
        bytes = &bytes[length..];
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    #[test]
    fn lines_come_back_with_their_numbers() {
        let line = |number: u64| Line {
            at_ms: number * 10,
            source: Source::Stderr,
            text: format!("{number} {}", "x".repeat(number as usize % 5_000)),
        };
        let numbers = (3..500).chain(700..701).chain(9_000..9_200);
        let lines: Vec<(u64, Line)> = numbers.map(|n| (n, line(n))).collect();
        let packed = pack(&lines).expect("packed");
        assert_eq!(unpack(&packed).as_ref(), Some(&lines));
        assert_eq!(unpack(&pack(&[]).expect("packed")), Some(Vec::new()));
        for end in [1, 40, packed.len() - 1] {
            assert_eq!(unpack(&packed[..end]), None, "{end}");
        }
        let mut bad = packed.clone();
        bad[100] ^= 1;
        assert_eq!(unpack(&bad), None);
    }
}
