//! Every bound of the registry, in one place.

use std::time::Duration;

pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
pub const NAME_BYTES_MAX: usize = 200;
pub const KIND_BYTES_MAX: usize = 200;

pub const CONNECTIONS_MAX: usize = 2_048;
/// For a whole head to arrive, and for the next one on a kept connection.
pub const HEAD_TIME: Duration = Duration::from_secs(60);
/// For a client to read some of what it is sent.
pub const UNREAD_TIME_MS: u32 = 60_000;
/// Between two pieces of a blob.
pub const PIECE_TIME: Duration = Duration::from_secs(60);
/// For a whole manifest, or a form.
pub const SMALL_BODY_TIME: Duration = Duration::from_secs(60);
/// Requests under way have this long to end when the registry does.
pub const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Begun and not finished.
pub const UPLOADS_MAX: usize = 1_000;
pub const UPLOADS_PER_ACCOUNT_MAX: usize = 50;
/// Bodies of blobs being received.
pub const STREAMS_MAX: usize = 128;
pub const STREAMS_PER_ACCOUNT_MAX: usize = 16;
/// An upload that nobody goes on with is forgotten.
pub const UPLOAD_IDLE: Duration = Duration::from_secs(3_600);
pub const UPLOADS_SWEPT_EVERY: Duration = Duration::from_secs(60);

/// A blob that no manifest of its repository names is forgotten.
pub const ORPHAN_AGE: Duration = Duration::from_secs(24 * 3_600);
pub const ORPHANS_SWEPT_EVERY: Duration = Duration::from_secs(3_600);

pub const REPOSITORIES_PER_ACCOUNT_MAX: usize = 1_000;
/// Of tags, of manifests, of blobs, and of referrers of one manifest.
pub const ENTRIES_PER_REPOSITORY_MAX: usize = 20_000;
pub const PAGE_MAX: usize = 1_000;

/// Accounts that are known to exist are remembered.
pub const ACCOUNTS_REMEMBERED_MAX: usize = 100_000;
pub const LEDGER_TIME: Duration = Duration::from_secs(5);
pub const TOKEN_SECONDS: u64 = 300;
/// What hosts build is asked of the ledger again after a while.
pub const BUILDERS_REMEMBERED_MAX: usize = 1_000;
pub const BUILDERS_TIME: Duration = Duration::from_secs(10);
