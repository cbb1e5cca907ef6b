//! How much of anything there may be.

use std::time::Duration;

/// Hosts that links are kept to. A plan with more is served for the first of them.
pub const PEERS_MAX: usize = 1_024;
/// To and from one host: one that each end opened, and one more while they change over.
pub const CONNECTIONS_MAX: usize = 3;
/// Handshakes under way with whoever asks for one.
pub const HANDSHAKES_MAX: usize = 64;
/// Packets that are too large for a datagram, on their way to one host.
pub const LARGE_MAX: u32 = 32;
/// Bytes that wait to be sent to, or have come from, one host.
pub const BUFFER_BYTES: usize = 1 << 20;
/// Packets taken from the kernel at once.
pub const BATCH: usize = 64;
/// What the tun interface takes: with all that goes around it, it fits a datagram on a path
/// of 1420 bytes, and on one of 1500 within a relay.
pub const MTU: u16 = 1_280;
/// A segment of TCP in such a packet.
pub const MSS: u16 = MTU - 40;

pub const DIAL_TIME: Duration = Duration::from_secs(5);
/// The end that does not dial first waits so long.
pub const YIELD_TIME: Duration = Duration::from_millis(500);
pub const PAUSE_MIN: Duration = Duration::from_millis(250);
pub const PAUSE_MAX: Duration = Duration::from_secs(10);
/// A host that is silent so long is gone.
pub const IDLE_TIME: Duration = Duration::from_secs(5);
pub const KEEPALIVE: Duration = Duration::from_secs(1);
/// For one packet on a stream.
pub const LARGE_TIME: Duration = Duration::from_secs(5);

/// Hosts that one relay serves at once; for each, some hundred packets wait.
pub const RELAYED_MAX: usize = 4_096;
/// Strangers that a relay listens to before it knows who they are.
pub const GREETINGS_MAX: usize = 256;
/// Hosts that a relay tells how they are seen; strangers may ask as well.
pub const MIRRORED_MAX: usize = 8_192;
pub const GREETING_TIME: Duration = Duration::from_secs(10);
/// After a connection could not be accepted.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
