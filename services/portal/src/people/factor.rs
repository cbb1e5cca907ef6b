//! A second factor: codes of six digits that change every half minute (RFC 6238).

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// What the person's device and the portal share.
#[derive(Clone, PartialEq, Eq)]
pub struct Factor(pub [u8; SECRET]);

const SECRET: usize = 20;
const STEP_MS: u64 = 30_000;
const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

impl Factor {
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// As apps take it: base 32.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for group in self.0.chunks(5) {
            let mut bytes = [0; 8];
            bytes[3..3 + group.len()].copy_from_slice(group);
            let bits = u64::from_be_bytes(bytes);
            text.extend((0..8).map(|n| char::from(DIGITS[(bits >> (35 - 5 * n) & 31) as usize])));
        }
        text
    }

    pub fn parse(text: &str) -> Option<Self> {
        let digit = |c: u8| DIGITS.iter().position(|d| *d == c.to_ascii_uppercase());
        let mut out = [0; SECRET];
        if text.len() != SECRET * 8 / 5 {
            return None;
        }
        for (group, bytes) in text.as_bytes().chunks(8).zip(out.chunks_mut(5)) {
            let mut bits = 0u64;
            for c in group {
                bits = bits << 5 | digit(*c)? as u64;
            }
            bytes.copy_from_slice(&bits.to_be_bytes()[3..]);
        }
        Some(Self(out))
    }

    fn code(&self, step: u64) -> u32 {
        let Ok(mut mac) = Hmac::<Sha1>::new_from_slice(&self.0) else {
            return u32::MAX;
        };
        mac.update(&step.to_be_bytes());
        let digest = mac.finalize().into_bytes();
        let at = usize::from(digest[digest.len() - 1] & 15);
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&digest[at..at + 4]);
        (u32::from_be_bytes(bytes) & 0x7fff_ffff) % 1_000_000
    }

    #[cfg(test)]
    pub fn now(&self, now_ms: u64) -> String {
        format!("{:06}", self.code(now_ms / STEP_MS))
    }

    /// The step that `code` is of: now or one beside it, and after `last`, as each counts once.
    pub fn check(&self, code: &str, now_ms: u64, last: u64) -> Option<u64> {
        let digits: String = code.chars().filter(|c| !c.is_whitespace()).collect();
        if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let code: u32 = digits.parse().ok()?;
        let now = now_ms / STEP_MS;
        (now.saturating_sub(1)..=now + 1).find(|step| *step > last && self.code(*step) == code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of RFC 6238, appendix B, their last six digits.
    #[test]
    fn codes_are_those_of_the_standard_and_each_counts_once() {
        let factor = Factor(*b"12345678901234567890");
        for (seconds, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_234_567_890, "005924"),
            (20_000_000_000, "353130"),
        ] {
            let now = seconds * 1_000;
            let step = factor.check(code, now, 0).expect("good");
            assert_eq!(step, seconds / 30);
            assert_eq!(factor.check(code, now + 30_000, 0), Some(step));
            assert_eq!(factor.check(code, now + 90_000, 0), None, "too late");
            assert_eq!(factor.check(code, now, step), None, "again");
        }
        for wrong in ["", "28708", "2870820", "-87082", "abcdef"] {
            assert_eq!(factor.check(wrong, 59_000, 0), None, "{wrong}");
        }
        assert_eq!(factor.text(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        assert!(Factor::parse(&factor.text()) == Some(factor));
        assert!(Factor::parse("GEZ").is_none() && Factor::parse(&"1".repeat(32)).is_none());
    }
}
