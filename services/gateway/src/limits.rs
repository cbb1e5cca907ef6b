//! Every bound of the gateway, in one place.

use std::time::Duration;

/// With strangers: seconds; in tests, where they are meant to run out, 4.
const fn patience(seconds: u64) -> Duration {
    Duration::from_secs(if cfg!(test) { 4 } else { seconds })
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
/// A client that is still sending when its answer is whole is heard for so long, and so much of it
/// thrown away: closed at once, its connection would be reset and the answer lost.
pub const LINGER_TIME: Duration = patience(10);
pub const LINGER_BYTES: usize = 32 << 20;
/// Requests under way have this long to end when the gateway does.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);

pub const CONNECT_TIME: Duration = Duration::from_secs(2);
/// For a tunnel to open: the agent connects in its turn.
pub const TUNNEL_TIME: Duration = Duration::from_secs(5);
/// Until a replica, a registry or a host begins its answer.
pub const ANSWER_TIME: Duration = Duration::from_secs(if cfg!(test) { 6 } else { 120 });
/// Until a validator begins an answer that it may hold back.
pub const LONG_POLL_TIME: Duration = Duration::from_secs(45);
/// Until a validator begins any other answer.
pub const VALIDATOR_TIME: Duration = Duration::from_secs(10);
/// Replicas told in one answer to a Prometheus, and asked of their hosts at a time.
pub const SCRAPED_MAX: usize = 1_000;
pub const SCRAPED_AT_ONCE: usize = 32;
/// For one of them.
pub const SCRAPE_TIME: Duration = Duration::from_secs(3);
/// Requests that wait for a service to start: of all services, and of one.
pub const WAITING_MAX: usize = 4_096;
pub const WAITING_SHARE: u32 = 256;
/// A request waits so long for a service to start.
pub const WAKE_TIME: Duration = patience(30);
/// The ledger is told again of services that requests wait for, at first and at last.
pub const WAKE_AGAIN: Duration = Duration::from_millis(300);
pub const WAKE_AGAIN_MAX: Duration = Duration::from_secs(4);
/// A replica that has just come and has never answered may not listen yet for so long; it is
/// asked again after a pause.
pub const STARTING_TIME: Duration = Duration::from_secs(10);
pub const STARTING_PAUSE: Duration = Duration::from_millis(40);
/// Replicas, or validators, tried for one request.
pub const ATTEMPTS_MAX: usize = 3;
/// A replica that failed is passed over for so long, and for twice as long each time after.
pub const REST: Duration = Duration::from_secs(1);
pub const REST_MAX: Duration = Duration::from_secs(30);
/// So many answers in a row that say 502, 503 or 504 are a failure.
pub const UNWELL_MAX: u32 = 5;
/// Retries kept in store per service: as many requests may be under way at a replica that dies.
pub const RETRY_STORE: u32 = 1_024;
/// One more retry for so many requests.
pub const RETRY_EVERY: u32 = 5;
/// Further retries per second.
pub const RETRY_SECOND: u32 = 10;
/// Unused connections kept per upstream and worker, and for how long.
pub const IDLE_MAX: usize = 128;
pub const IDLE_TIME: Duration = Duration::from_secs(30);
/// One unused for longer is not given a request that may not be sent twice.
pub const FRESH_TIME: Duration = Duration::from_secs(1);
pub const PROBE_EVERY: Duration = Duration::from_secs(1);
pub const PROBE_TIME: Duration = Duration::from_secs(2);

/// A validator whose head is older than the others' by more is asked after them.
pub const BEHIND_MS: u64 = 5_000;

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

/// Ended requests kept for the owner of a service; all services together; at least.
pub const ACCESS_MAX: usize = 1_000;
pub const ACCESS_ALL_MAX: usize = 200_000;
pub const ACCESS_MIN: usize = 16;
/// Bytes kept of a path.
pub const ACCESS_PATH_MAX: usize = 256;
/// How long the answer to who follows the requests may be held back.
pub const ACCESS_WAIT: Duration = Duration::from_secs(25);

/// Threads that serve clients: as many as cores, at most.
pub const WORKERS_MAX: usize = 64;
/// Buffer for heads, and for a request that goes the short way.
pub const HEAD_BYTES: usize = 16 * 1024;
/// Buffer for answers on their way.
pub const BUFFER_BYTES: usize = 64 * 1024;
/// Unused buffers kept per worker and size.
pub const BUFFERS_MAX: usize = 256;
/// Idle connections are looked through.
pub const TIDY_EVERY: Duration = Duration::from_secs(1);
/// An answer's body up to here is written with its head in one piece.
pub const SMALL_BODY: usize = 8 * 1024;
/// Room kept by a connection for the heads of its next request.
pub const SPARE_BYTES_MAX: usize = 8 * 1024;

/// For a TLS handshake.
pub const HANDSHAKE_TIME: Duration = patience(10);
/// Requests of one HTTP/2 client at once.
pub const STREAMS_MAX: u32 = 128;
/// Of an HTTP/2 stream, waiting to be sent.
pub const FRAMES_BYTES_MAX: usize = 256 * 1024;
/// HTTP/2 connections are asked whether they live.
pub const PING_EVERY: Duration = Duration::from_secs(30);
pub const PING_TIME: Duration = Duration::from_secs(15);
/// Connections of a worker to replicas that speak gRPC.
pub const GRPC_KEPT_MAX: usize = 4_096;
/// Certificates of the own authority kept; each is made anew after so long.
pub const CERTIFICATES_MAX: usize = 4_096;
pub const CERTIFICATE_AGE: Duration = Duration::from_secs(7 * 86_400);
/// Replicas that requests are counted for: of one service, of all, and of one when services are
/// very many.
pub const SERVED_MAX: usize = 256;
pub const SERVED_ALL_MAX: usize = 8_192;
pub const SERVED_MIN: usize = 2;
/// Of them, in one answer to a Prometheus.
pub const SERVED_TOLD_MAX: usize = 2_000;
/// Services whose figures are told.
pub const METERED_MAX: usize = 10_000;
