//! A host's sign of life, as it goes to validators over UDP (RFD 12).
//!
//! A host draws a secret, hashes it [`BEATS`] times and signs the last hash, the *anchor*, once.
//! Beat i shows the hash i steps before the anchor: only the host can know it before it is shown,
//! and whoever saw beat j checks beat i by hashing i - j times. So a beat costs a validator one
//! hash, not a signature check, as long as none is lost. All of the beat goes into one small
//! datagram; a validator that has not seen the anchor yet checks its signature.

use borsh::{BorshDeserialize, BorshSerialize};
use types::{AccountId, Digest, HostId, PublicKey, SecretKey, Signature};

/// Beats of one anchor.
pub const BEATS: u32 = 256;
/// No datagram is longer.
pub const BEAT_BYTES_MAX: usize = 256;
const MAGIC: [u8; 4] = *b"rrb1";

#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Beat {
    magic: [u8; 4],
    /// The host is the account of this key.
    pub key: PublicKey,
    pub anchor: Anchor,
    /// Of the anchor, over the network and the anchor.
    pub signature: Signature,
    /// From 1 to [`BEATS`].
    pub number: u32,
    pub link: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub struct Anchor {
    /// Milliseconds since 1970 by the host's clock; beat i is sent i periods later.
    pub began_ms: u64,
    pub period_ms: u32,
    pub hash: Digest,
}

impl Anchor {
    fn signed(&self, network: &Digest) -> Digest {
        Digest::of_value("runrig-beats", &(network, self))
    }

    /// When beat `number` is to be sent.
    pub fn due_ms(&self, number: u32) -> u64 {
        let after = u64::from(self.period_ms).saturating_mul(number.into());
        self.began_ms.saturating_add(after)
    }
}

/// One step towards the anchor.
fn step(link: Digest) -> Digest {
    Digest::of(&link.0)
}

/// The beats of one anchor, in the hands of their host.
pub struct Beats {
    key: PublicKey,
    anchor: Anchor,
    signature: Signature,
    /// From the anchor back to the secret.
    links: Vec<Digest>,
}

impl Beats {
    /// `secret` is drawn by chance and used once.
    pub fn new(
        key: &SecretKey,
        network: &Digest,
        secret: [u8; 32],
        began_ms: u64,
        period_ms: u32,
    ) -> Self {
        let mut links = vec![Digest(secret)];
        for _ in 0..BEATS {
            links.push(step(*links.last().expect("not empty")));
        }
        links.reverse();
        let anchor = Anchor {
            began_ms,
            period_ms,
            hash: links[0],
        };
        Self {
            key: key.public(),
            anchor,
            signature: key.sign(&anchor.signed(network).0),
            links,
        }
    }

    pub fn anchor(&self) -> &Anchor {
        &self.anchor
    }

    fn beat(&self, number: u32) -> Beat {
        let number = number.min(BEATS);
        Beat {
            magic: MAGIC,
            key: self.key,
            anchor: self.anchor,
            signature: self.signature,
            number,
            link: self.links[number as usize],
        }
    }

    /// The datagram of beat `number`; the last one's beyond [`BEATS`].
    pub fn datagram(&self, number: u32) -> Vec<u8> {
        borsh::to_vec(&self.beat(number)).expect("writing to memory does not fail")
    }

    /// What a validator that took beat `number` sends back.
    pub fn answer(&self, number: u32) -> [u8; 8] {
        self.beat(number).answer()
    }
}

impl Beat {
    /// What a datagram says; `None` if it is none of ours.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > BEAT_BYTES_MAX || !bytes.starts_with(&MAGIC) {
            return None;
        }
        let beat = Self::try_from_slice(bytes).ok()?;
        (1..=BEATS).contains(&beat.number).then_some(beat)
    }

    pub fn host(&self) -> HostId {
        AccountId::of(&self.key)
    }

    /// Whether it follows from what is known of the same anchor: the link of beat `known`, or
    /// the anchor itself as beat 0.
    pub fn follows(&self, known: u32, link: &Digest) -> bool {
        let steps = self.number.saturating_sub(known);
        let reached = (0..steps).fold(self.link, |link, _| step(link));
        steps > 0 && reached == *link
    }

    /// Whether the host signed the anchor, for this network.
    pub fn is_signed(&self, network: &Digest) -> bool {
        let message = self.anchor.signed(network);
        self.key.verify(&message.0, &self.signature).is_ok()
    }

    /// What a validator that took the beat sends back.
    pub fn answer(&self) -> [u8; 8] {
        self.link.0[..8].try_into().expect("eight of 32 bytes")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_follow_from_their_anchor_and_from_each_other() {
        let key = SecretKey::from_seed([7; 32]);
        let network = Digest::of(b"net");
        let beats = Beats::new(&key, &network, [9; 32], 1_000, 500);
        let beat = |n| Beat::read(&beats.datagram(n)).expect("readable");
        assert!(beats.datagram(1).len() <= BEAT_BYTES_MAX);
        assert_eq!(beats.anchor().due_ms(3), 2_500);
        let first = beat(1);
        assert!(first.is_signed(&network) && !first.is_signed(&Digest::of(b"other")));
        assert_eq!(first.host(), AccountId::of(&key.public()));
        assert!(first.follows(0, &beats.anchor().hash));
        assert!(beat(5).follows(1, &first.link) && beat(BEATS).follows(0, &beats.anchor().hash));
        assert!(!first.follows(1, &first.link), "the same again");
        assert!(!first.follows(5, &beat(5).link), "an earlier one");
        let mut forged = beat(6);
        forged.link = Digest::of(b"guess");
        assert!(!forged.follows(5, &beat(5).link));
        assert_eq!(first.answer(), beats.answer(1));
    }

    #[test]
    fn what_is_not_a_beat_is_nothing() {
        let key = SecretKey::from_seed([7; 32]);
        let beats = Beats::new(&key, &Digest::of(b"net"), [9; 32], 1_000, 500);
        let good = beats.datagram(2);
        assert!(Beat::read(&good[..good.len() - 1]).is_none());
        assert!(Beat::read(&[good.as_slice(), &[0]].concat()).is_none());
        assert!(Beat::read(&[0; 2_000]).is_none() && Beat::read(&[]).is_none());
        assert!(Beat::read(&beats.datagram(0)).is_none());
    }
}
