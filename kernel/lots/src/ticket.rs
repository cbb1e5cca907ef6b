//! Tickets: eased work that a laptop does in a moment, so that places are not asked for by the
//! million. Capped: whoever has more machines has no better ticket.

use types::{Digest, PublicKey};

/// Nonces that may be tried. With `bits` up to 16, hardly anyone finds none.
pub const NONCE_MAX: u64 = 1 << 20;

/// `beacon`: an epoch's, known when the ticket is looked for.
pub fn ticket(beacon: &Digest, key: &PublicKey, nonce: u64) -> Digest {
    Digest::of_value("runrig-ticket", &(beacon, key, nonce))
}

/// Whether it begins with so many zero bits.
pub fn is_ticket(ticket: &Digest, bits: u32) -> bool {
    let mut zeros = 0;
    for byte in ticket.0 {
        zeros += byte.leading_zeros();
        if byte != 0 {
            break;
        }
    }
    zeros >= bits
}

/// The first nonce that gives a ticket.
pub fn find_ticket(beacon: &Digest, key: &PublicKey, bits: u32) -> Option<u64> {
    (0..NONCE_MAX).find(|nonce| is_ticket(&ticket(beacon, key, *nonce), bits))
}
