//! What a compose file says, before the images' digests are known.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    DependencyCondition, DeploymentSpec, HealthCheck, ImageRef, MountSpec, NetworkSpec, PortSpec,
    Resources, RestartPolicy, ServiceSpec, VolumeSpec,
};

use crate::problem::{Problem, Problems};

/// A compose file understood: everything but the digests of its images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub name: String,
    pub services: BTreeMap<String, ServiceDraft>,
    pub networks: BTreeMap<String, NetworkSpec>,
    pub volumes: BTreeMap<String, VolumeSpec>,
    /// What the user should know before going on.
    pub warnings: Vec<Problem>,
    pub(crate) file: String,
}

/// A [`ServiceSpec`] whose image is not pinned yet; field for field the same otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceDraft {
    /// As written.
    pub image: String,
    pub entrypoint: Option<Vec<String>>,
    pub command: Option<Vec<String>>,
    pub environment: BTreeMap<String, String>,
    pub user: Option<String>,
    pub working_dir: Option<String>,
    pub hostname: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub ports: Vec<PortSpec>,
    pub expose: Vec<u16>,
    pub mounts: Vec<MountSpec>,
    pub networks: BTreeMap<String, Vec<String>>,
    pub depends_on: BTreeMap<String, DependencyCondition>,
    pub healthcheck: Option<HealthCheck>,
    pub restart: RestartPolicy,
    pub stop_signal: Option<String>,
    pub stop_grace_ms: u32,
    pub read_only: bool,
    pub tty: bool,
    pub replicas: u32,
    pub resources: Resources,
    pub pids: u32,
}

/// What a replica gets when the file does not say.
pub const RESOURCES: Resources = Resources {
    cpu_millis: 500,
    memory_bytes: 256 << 20,
    disk_bytes: 1 << 30,
    bandwidth_kbps: 10_000,
};

impl Default for ServiceDraft {
    fn default() -> Self {
        Self {
            image: String::new(),
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
            networks: BTreeMap::new(),
            depends_on: BTreeMap::new(),
            healthcheck: None,
            restart: RestartPolicy::No,
            stop_signal: None,
            stop_grace_ms: 10_000,
            read_only: false,
            tty: false,
            replicas: 1,
            resources: RESOURCES,
            pids: 512,
        }
    }
}

impl ServiceDraft {
    fn pin(self, image: ImageRef) -> ServiceSpec {
        ServiceSpec {
            image,
            entrypoint: self.entrypoint,
            command: self.command,
            environment: self.environment,
            user: self.user,
            working_dir: self.working_dir,
            hostname: self.hostname,
            labels: self.labels,
            ports: self.ports,
            expose: self.expose,
            mounts: self.mounts,
            networks: self.networks,
            depends_on: self.depends_on,
            healthcheck: self.healthcheck,
            restart: self.restart,
            stop_signal: self.stop_signal,
            stop_grace_ms: self.stop_grace_ms,
            read_only: self.read_only,
            tty: self.tty,
            replicas: self.replicas,
            resources: self.resources,
            pids: self.pids,
            update: types::UpdatePolicy::default(),
            ..ServiceSpec::default()
        }
    }
}

impl Project {
    /// References to resolve, as written.
    pub fn images(&self) -> BTreeSet<String> {
        self.services.values().map(|s| s.image.clone()).collect()
    }

    /// The deployment, once each reference (as written) has its digest.
    ///
    /// Errors: one per reference that `images` lacks.
    pub fn pin(self, images: &BTreeMap<String, ImageRef>) -> Result<DeploymentSpec, Problems> {
        let mut problems = Vec::new();
        let mut services = BTreeMap::new();
        for (name, draft) in self.services {
            match images.get(&draft.image) {
                Some(image) => {
                    services.insert(name, draft.pin(image.clone()));
                }
                None => problems.push(Problem {
                    file: self.file.clone(),
                    line: 0,
                    column: 0,
                    key: format!("services.{name}.image"),
                    what: format!("no digest is known for {}", draft.image),
                    why: "a deployment names each image by its digest".into(),
                    next: "resolve it at its registry, or load it with `runrig image load`".into(),
                }),
            }
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(DeploymentSpec {
            project: self.name,
            services,
            networks: self.networks,
            volumes: self.volumes,
        })
    }
}
