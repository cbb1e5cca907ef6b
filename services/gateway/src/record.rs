//! What is written down when a request that went the general way ends.

use std::sync::Arc;
use std::time::Instant;

use api::Access;

use crate::load::InFlight;
use crate::outgoing::Outgoing;
use crate::table::Service;

/// Held until the answer has ended; then its figures are counted.
pub struct Record {
    pub service: Arc<Service>,
    pub access: Access,
    pub started: Instant,
    /// The request's body: bytes of it are counted as they pass.
    pub body: Outgoing,
    /// Counts as under way at its replica so long.
    pub _held: Option<InFlight>,
}

impl Drop for Record {
    fn drop(&mut self) {
        let mut access = self.access.clone();
        access.received += self.body.bytes();
        access.duration_us = self.started.elapsed().as_micros() as u64;
        self.service.tally.ended(access);
    }
}
