//! What a host's agent says of what runs there.

use serde::{Deserialize, Serialize};
use types::{AllocationId, DeploymentId, HostId, PublicKey};
use utoipa::ToSchema;

use crate::Problem;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    pub service: String,
    pub replica: u32,
    pub release: u32,
    /// Number of the line among those of its allocation, from 0, without a gap.
    pub sequence: u64,
    pub at_ms: u64,
    /// `stdout`, `stderr`; `runrig` for what the host has to say about the log.
    pub stream: String,
    pub text: String,
}

/// What a replica used from `at_ms` on, for `step_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatsSample {
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    pub service: String,
    pub replica: u32,
    pub at_ms: u64,
    pub step_ms: u64,
    /// Mean, of one core, in thousandths.
    pub cpu_millis: u64,
    pub cpu_millis_max: u64,
    /// Mean.
    pub memory_bytes: u64,
    pub memory_bytes_max: u64,
    /// At the end.
    pub disk_bytes: u64,
    /// Within the step.
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    /// At the end.
    pub pids: u64,
}

/// What a gateway saw of the requests to one replica, from `at_ms` on, for `step_ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestSample {
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    pub service: String,
    pub at_ms: u64,
    pub step_ms: u64,
    /// That ended within the step.
    pub requests: u64,
    /// Of them: answered with a status from 500 up.
    pub errors: u64,
    /// Bytes of bodies, from and to clients.
    pub received: u64,
    pub sent: u64,
    /// From the request to the answer's end, in microseconds: what half and 95 in 100 did not
    /// exceed, at most √2 times too much. Absent if there was no request.
    pub p50_us: Option<u64>,
    pub p95_us: Option<u64>,
}

/// Of a deployment's replicas, as one gateway saw them since it started. A replica that is not in
/// it was not measured there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestFigures {
    /// The last 10 s that are over, of each replica that takes requests.
    pub now: Vec<RequestSample>,
    /// Minutes of the last hour in which there was a request; empty unless it is asked for.
    pub history: Vec<RequestSample>,
}

/// How long a step of the past is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PastStep {
    /// Kept for 35 days.
    Hour,
    /// Kept for 400 days.
    Day,
}

impl PastStep {
    pub fn name(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// What a gateway saw of the requests to one service, from `at_ms` on, for `step_ms`: it need not run
/// any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestPast {
    #[schema(value_type = String)]
    pub deployment: DeploymentId,
    pub service: String,
    pub at_ms: u64,
    pub step_ms: u64,
    /// By the first digit of the status: 1xx to 5xx.
    pub answers: [u64; 5],
    /// Bytes of bodies, from and to clients.
    pub received: u64,
    pub sent: u64,
    /// As in [`RequestSample`].
    pub p50_us: Option<u64>,
    pub p95_us: Option<u64>,
}

/// Of an account's services, as one gateway saw them, some seconds ago.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RequestsPast {
    /// Since when it writes down, in milliseconds since 1970; absent: it does not.
    pub begun_ms: Option<u64>,
    /// There are more rows than are told.
    pub cut: bool,
    /// Steps with a request.
    pub rows: Vec<RequestPast>,
}

impl RequestsPast {
    pub const ROWS_MAX: usize = 20_000;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    #[schema(value_type = String)]
    pub allocation: AllocationId,
    pub service: String,
    pub at_ms: u64,
    /// Of one core, in thousandths, since the sample before.
    pub cpu_millis: u64,
    pub cpu_limit_millis: u64,
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    pub disk_bytes: u64,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub pids: u64,
}

/// WebSocket text frames; bytes are base64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ExecFrame {
    /// First from the client.
    Start {
        command: Vec<String>,
        env: Vec<String>,
        user: Option<String>,
        working_dir: Option<String>,
        terminal: bool,
        rows: u16,
        columns: u16,
    },
    Stdin {
        data: String,
    },
    StdinClosed,
    Resize {
        rows: u16,
        columns: u16,
    },
    Stdout {
        data: String,
    },
    Stderr {
        data: String,
    },
    /// Last from the host.
    Exit {
        code: i32,
    },
    Failed {
        problem: Problem,
    },
}

/// In the words by which an agent refuses a tunnel to a port that nobody listens at: the replica
/// itself can be reached.
pub const NOBODY_LISTENS: &str = "nobody listens there";

/// What `GET /v1/status` of a host agent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentStatus {
    #[schema(value_type = String)]
    pub host: HostId,
    #[schema(value_type = String)]
    pub key: PublicKey,
    pub engine: String,
    pub plan: u64,
    pub running: u32,
}
