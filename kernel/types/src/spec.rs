//! What a user asked for: the deployment manifest that travels in a `Deploy` call.
//!
//! Already interpolated, pinned and defaulted: nothing here depends on the user's machine.
//! The compose reader (`kernel/manifest`) makes it, the ledger bounds it, hosts obey it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{
    AutoscaleSpec, BuildSpec, Digest, HooksSpec, LogPolicy, NamesSpec, ProcessSpec, Resources,
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct DeploymentSpec {
    /// Compose project name: `[a-z0-9][a-z0-9_-]*`, at most 40 characters.
    pub project: String,
    pub services: BTreeMap<String, ServiceSpec>,
    pub networks: BTreeMap<String, NetworkSpec>,
    /// Named volumes. Host-local: a replica keeps its volume while it stays on its host.
    pub volumes: BTreeMap<String, VolumeSpec>,
    #[serde(default)]
    pub logs: LogPolicy,
}

#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct NetworkSpec {
    /// No way out of the project.
    pub internal: bool,
}

#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct VolumeSpec {
    pub labels: BTreeMap<String, String>,
}

/// An image pinned by the digest of its manifest or index.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct ImageRef {
    /// As the user wrote it, normalised: `docker.io/library/nginx:1.27`.
    pub reference: String,
    pub digest: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct ServiceSpec {
    pub image: ImageRef,
    /// Replaces the image's entrypoint; `Some([])` clears it.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub hostname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<PortSpec>,
    pub expose: Vec<u16>,
    pub mounts: Vec<MountSpec>,
    /// Targets of volumes that begin empty, whatever the image has there.
    #[serde(default)]
    pub bare: BTreeSet<String>,
    /// Network name → further names this service answers to there.
    pub networks: BTreeMap<String, Vec<String>>,
    pub depends_on: BTreeMap<String, DependencyCondition>,
    /// Of those that it depends on: it is started again when one of them was updated or restarted.
    #[serde(default)]
    pub restart_with: BTreeSet<String>,
    /// Its replicas have no network but their own loopback: no `networks`, `ports` or `expose`.
    #[serde(default)]
    pub offline: bool,
    /// The image's own, if not said; [`HealthCheck::off`] for none at all.
    pub healthcheck: Option<HealthCheck>,
    pub restart: RestartPolicy,
    /// Signal name (`SIGTERM`) or number; the image's, else SIGTERM, if not said.
    pub stop_signal: Option<String>,
    pub stop_grace_ms: u32,
    pub read_only: bool,
    pub tty: bool,
    /// How many there are; with `autoscale`, how many it begins with.
    pub replicas: u32,
    pub autoscale: Option<AutoscaleSpec>,
    /// Reserved for each replica, paid for, and its limit.
    pub resources: Resources,
    pub pids: u32,
    /// How a later release takes the place of this one.
    pub update: UpdatePolicy,
    /// How this one comes back when a later one is undone; as `update` says if not said.
    pub rollback: Option<UpdatePolicy>,
    /// Pause before it is started again; 0: one that doubles.
    pub restart_delay_ms: u32,
    /// Once it has run so long, restarts before do not count any more; 0: they always do.
    pub restart_window_ms: u32,
    pub process: ProcessSpec,
    pub names: NamesSpec,
    pub placement: PlacementSpec,
    /// It makes an image: `image` is then only what its recipe is packed in.
    pub build: Option<BuildSpec>,
    /// Commands beside its own, when it starts and before it stops.
    pub hooks: HooksSpec,
}

/// Half a core, 256 MiB, 1 GiB of disk, 10 Mbit/s: what a replica gets when nothing is said.
impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            image: ImageRef::default(),
            entrypoint: None,
            command: None,
            environment: BTreeMap::new(),
            user: None,
            working_dir: None,
            hostname: None,
            labels: BTreeMap::new(),
            ports: Vec::new(),
            expose: Vec::new(),
            mounts: Vec::new(),
            bare: BTreeSet::new(),
            networks: BTreeMap::new(),
            depends_on: BTreeMap::new(),
            restart_with: BTreeSet::new(),
            offline: false,
            healthcheck: None,
            restart: RestartPolicy::No,
            stop_signal: None,
            stop_grace_ms: 10_000,
            read_only: false,
            tty: false,
            replicas: 1,
            autoscale: None,
            resources: Resources {
                cpu_millis: 500,
                memory_bytes: 256 << 20,
                disk_bytes: 1 << 30,
                bandwidth_kbps: 10_000,
            },
            pids: 512,
            update: UpdatePolicy::default(),
            rollback: None,
            restart_delay_ms: 0,
            restart_window_ms: 0,
            process: ProcessSpec::default(),
            names: NamesSpec::default(),
            placement: PlacementSpec::default(),
            build: None,
            hooks: HooksSpec::default(),
        }
    }
}

impl ServiceSpec {
    /// As many replicas as there may ever be.
    pub fn replicas_max(&self) -> u32 {
        self.autoscale.map_or(self.replicas, |a| a.max)
    }

    /// Its secrets, in the order of their mounts.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretMount> {
        self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Secret(secret) => Some(secret),
            _ => None,
        })
    }

    /// Every image that its replicas need: what they run, then what is mounted.
    pub fn images(&self) -> impl Iterator<Item = &ImageRef> {
        let mounted = self.mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Image(mount) => Some(&mount.image),
            MountSource::Secret(mount) => Some(&mount.image),
            _ => None,
        });
        std::iter::once(&self.image).chain(mounted)
    }
}

/// Where replicas may be.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct PlacementSpec {
    /// All must hold.
    pub constraints: Vec<PlacementConstraint>,
    /// Replicas of the service on one host; 0: as many as fit.
    pub replicas_per_host_max: u32,
    /// In as many regions as there are, before two are in one.
    pub spread_regions: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct PlacementConstraint {
    pub of: HostFeature,
    /// The feature must be `value`, or must not.
    pub equal: bool,
    pub value: String,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum HostFeature {
    /// As the host's owner calls it.
    Region,
    /// `amd64`, `arm64`.
    Architecture,
    /// The host's id.
    Host,
    /// Whether it builds images: `true` or `false`.
    Builds,
}

/// How replicas are replaced by those of a new release: Compose's `deploy.update_config`.
#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct UpdatePolicy {
    /// Replicas replaced at a time; 0: all at once.
    pub parallelism: u32,
    pub order: UpdateOrder,
    pub on_failure: UpdateFailure,
    /// A new replica counts as good once it has been ready for so long.
    /// `None`: at once if its health was checked, else after three seconds.
    pub monitor_ms: Option<u32>,
    /// Pause after a replica has come good, before the next is replaced.
    pub delay_ms: u32,
    /// So many replicas of a thousand may fail before the update as a whole has.
    #[serde(default)]
    pub failures_permille: u16,
}

impl UpdatePolicy {
    /// How many of `replicas` may fail before the update has.
    pub fn failures_of(&self, replicas: u32) -> u32 {
        (u64::from(replicas) * u64::from(self.failures_permille.min(1_000)) / 1_000) as u32
    }
}

impl Default for UpdatePolicy {
    fn default() -> Self {
        Self {
            parallelism: 1,
            order: UpdateOrder::StartFirst,
            on_failure: UpdateFailure::Rollback,
            monitor_ms: None,
            delay_ms: 0,
            failures_permille: 0,
        }
    }
}

#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum UpdateOrder {
    /// The old replica serves until the new one is good.
    StartFirst,
    /// The old one ends before the new one begins: always so where both would write to one
    /// named volume.
    StopFirst,
}

#[derive(
    Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum UpdateFailure {
    /// Back to the last release that came good.
    Rollback,
    /// Leave old and new replicas as they are.
    Pause,
    /// Go on with the next replica.
    Continue,
}

#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct PortSpec {
    /// Port inside the container.
    pub target: u16,
    /// Port on the gateway; `None` asks for reachability by name only.
    pub published: Option<u16>,
    pub protocol: Protocol,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct MountSpec {
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
#[serde(rename_all = "lowercase")]
pub enum MountSource {
    /// A key of [`DeploymentSpec::volumes`].
    Volume(String),
    /// Goes with the container.
    Anonymous,
    /// In memory, gone with the container.
    Tmpfs(TmpfsSpec),
    /// What an image has at a path: another service's, or one that was made of the project's
    /// files. Read-only, or a copy of the replica's own that goes with it.
    Image(ImageMount),
    /// A file in memory with what the owner sealed to the network. Read-only.
    Secret(SecretMount),
    /// A folder or a file inside of a volume.
    Part(VolumePart),
}

impl MountSource {
    /// The key of [`DeploymentSpec::volumes`] that it needs.
    pub fn volume(&self) -> Option<&String> {
        match self {
            Self::Volume(name) => Some(name),
            Self::Part(part) => Some(&part.volume),
            Self::Anonymous | Self::Tmpfs(_) | Self::Image(_) | Self::Secret(_) => None,
        }
    }
}

/// What a volume has at a path; a folder is made there if nothing is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct VolumePart {
    /// A key of [`DeploymentSpec::volumes`].
    pub volume: String,
    /// In the volume: not empty, without a slash in front, without `..`.
    pub path: String,
}

impl VolumePart {
    pub const PATH_MAX: usize = 512;

    /// Whether `path` names something inside of a volume.
    pub fn is_path(path: &str) -> bool {
        let mut parts = path.split('/');
        path.len() <= Self::PATH_MAX
            && !path.contains('\0')
            && parts.all(|part| !matches!(part, "" | "." | ".."))
    }
}

/// A folder in memory: how large it may get, whose it is, and what others may do there.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct TmpfsSpec {
    /// 0: half of the memory reservation.
    pub bytes: u64,
    pub uid: u32,
    pub gid: u32,
    /// Permission bits, with the sticky bit and those of set ids.
    pub mode: u32,
}

impl Default for TmpfsSpec {
    fn default() -> Self {
        Self {
            bytes: 0,
            uid: 0,
            gid: 0,
            mode: 0o1777,
        }
    }
}

impl TmpfsSpec {
    pub fn of(bytes: u64) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }
}

/// A secret: where its sealed form is, and what its key is bound to. Neither tells its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct SecretMount {
    /// As the compose file calls it.
    pub name: String,
    /// Has the sealed bytes in its one file.
    pub image: ImageRef,
    /// Keyed digest of project, name and value, which only the owner can make: equal marks,
    /// equal values. Validators release the key of this mark, and no other, to a host on which
    /// this service has a replica.
    pub mark: Digest,
    /// The service's own user if not said.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    /// Permission bits.
    pub mode: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct ImageMount {
    pub image: ImageRef,
    /// In the image, without a slash in front; empty for all of it.
    pub path: String,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum DependencyCondition {
    ServiceStarted,
    ServiceHealthy,
    ServiceCompletedSuccessfully,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct HealthCheck {
    /// Argument vector; a shell form has become `["/bin/sh", "-c", …]`.
    pub test: Vec<String>,
    pub interval_ms: u32,
    pub timeout_ms: u32,
    pub retries: u32,
    pub start_period_ms: u32,
    pub start_interval_ms: u32,
}

/// The usual times, and nothing to try.
impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            test: Vec::new(),
            interval_ms: 30_000,
            timeout_ms: 30_000,
            retries: 3,
            start_period_ms: 0,
            start_interval_ms: 5_000,
        }
    }
}

impl HealthCheck {
    /// No check, whatever the image says.
    pub fn off() -> Self {
        Self::default()
    }

    pub fn is_off(&self) -> bool {
        self.test.is_empty()
    }
}

#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    #[default]
    No,
    Always,
    /// At most this often; 0 = without limit.
    OnFailure(u32),
    UnlessStopped,
}

/// Where a replica stands, as its host reports it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Placed; its host has not taken it up yet.
    #[default]
    Placed,
    Pulling,
    /// Waits for what it depends on.
    Waiting,
    Creating,
    Running,
    /// Between two starts, by its restart policy.
    Restarting,
    /// Ended by itself (see the exit code) or stopped on request.
    Exited,
    /// Could not be started (see the message).
    Failed,
    /// Stopped for lack of funds; its data is kept.
    Frozen,
    Removed,
}

#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No health check: running is all that is known.
    #[default]
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// A host's word on one allocation.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize,
)]
pub struct AllocationStatus {
    pub state: RunState,
    pub health: Health,
    /// Process id on the host; 0 if none runs.
    pub pid: u32,
    /// How often the container was started again.
    pub restarts: u32,
    pub exit_code: Option<i32>,
    pub oom_killed: bool,
    /// Address on each network that is reachable from gateway and peers: network → IPv4.
    pub addresses: BTreeMap<String, [u8; 4]>,
    /// One sentence for people; empty if all is said above. At most 400 bytes.
    pub message: String,
}

impl AllocationStatus {
    /// May traffic go there?
    pub fn is_ready(&self) -> bool {
        self.state == RunState::Running && matches!(self.health, Health::None | Health::Healthy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_needs_what_it_mounts_too() {
        let image = |reference: &str| ImageRef {
            reference: reference.into(),
            digest: Digest::of(reference.as_bytes()),
        };
        let mount = |source| MountSpec {
            source,
            target: "/m".into(),
            read_only: true,
        };
        let files = ImageMount {
            image: image("files"),
            path: "content".into(),
        };
        let service = ServiceSpec {
            image: image("web"),
            mounts: vec![
                mount(MountSource::Anonymous),
                mount(MountSource::Image(files)),
            ],
            ..ServiceSpec::default()
        };
        let names: Vec<&str> = service.images().map(|i| i.reference.as_str()).collect();
        assert_eq!(names, ["web", "files"]);
    }
}
