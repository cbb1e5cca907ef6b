//! Every bound of the gateway, in one place.

use std::time::Duration;

/// With strangers: seconds; in tests, where they are meant to run out, 2.
const fn patience(seconds: u64) -> Duration {
    Duration::from_secs(if cfg!(test) { 2 } else { seconds })
}

/// Connections of clients at once; further ones wait to be accepted.
pub const CONNECTIONS_MAX: usize = 8_192;
/// Of one client.
pub const CONNECTIONS_SHARE: usize = CONNECTIONS_MAX / 4;
/// Of a request's line and headers together.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
pub const HEADERS_MAX: usize = 100;
/// For a whole head to arrive, and for the next one on a kept connection.
pub const HEADER_TIME: Duration = patience(15);
/// Between two pieces of a request's body.
pub const BODY_PAUSE: Duration = patience(60);
/// For a client to read some of what it is sent.
pub const WRITE_PAUSE: Duration = patience(60);
/// Requests under way have this long to end when the gateway does.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);

pub const CONNECT_TIME: Duration = Duration::from_secs(2);
/// For a tunnel to open: the agent connects in its turn.
pub const TUNNEL_TIME: Duration = Duration::from_secs(5);
/// Until a replica, a registry or a host begins its answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(120);
/// Until a validator begins an answer that it may hold back.
pub const LONG_POLL_TIME: Duration = Duration::from_secs(45);
/// Until a validator begins any other answer.
pub const VALIDATOR_TIME: Duration = Duration::from_secs(10);
/// Replicas, or validators, tried for one request.
pub const ATTEMPTS_MAX: usize = 3;
/// A replica that could not be reached is passed over for so long.
pub const REST: Duration = Duration::from_secs(2);
/// Unused connections kept per upstream, and for how long.
pub const IDLE_MAX: usize = 64;
pub const IDLE_TIME: Duration = Duration::from_secs(30);
pub const PROBE_EVERY: Duration = Duration::from_secs(1);
pub const PROBE_TIME: Duration = Duration::from_secs(2);

/// A validator that did not answer is asked last for so long: until two probes have told.
pub const VALIDATOR_REST: Duration = Duration::from_secs(6);

/// Spliced connections (published ports) at once.
pub const SPLICED_MAX: usize = 4_096;
/// Of one client.
pub const SPLICED_SHARE: usize = SPLICED_MAX / 4;
pub const PUBLISHED_MAX: usize = 4_096;
/// A published port that could not be opened is tried again.
pub const REOPEN: Duration = Duration::from_secs(2);
/// Clients of one UDP port at once.
pub const UDP_SESSIONS_MAX: usize = 1_024;
pub const UDP_IDLE: Duration = Duration::from_secs(60);

/// Allocations whose host is remembered, and for how long.
pub const DIRECTORY_MAX: usize = 4_096;
pub const DIRECTORY_TIME: Duration = Duration::from_secs(10);
/// Of a validator's answer that the gateway itself reads.
pub const ANSWER_BYTES_MAX: usize = 4 << 20;

/// How long a route may be asked to be held back.
pub const ROUTES_WAIT_MS: u64 = 25_000;
pub const KEEPALIVE: Duration = Duration::from_secs(60);
