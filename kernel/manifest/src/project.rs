//! What a compose file says, before the images' digests are known.

use std::collections::{BTreeMap, BTreeSet};

use types::{DeploymentSpec, ImageRef, NetworkSpec, ServiceSpec, VolumeSpec};

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

/// A service whose image is not pinned yet: `spec.image` has the reference as written, and
/// no digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceDraft {
    pub spec: ServiceSpec,
    /// It has a `build:`; the image is what that makes.
    pub built: bool,
}

impl Project {
    /// References to resolve, as written.
    pub fn images(&self) -> BTreeSet<String> {
        let services = self.services.values();
        services.map(|s| s.spec.image.reference.clone()).collect()
    }

    /// The deployment, once each reference (as written) has its digest.
    ///
    /// Errors: one per reference that `images` lacks.
    pub fn pin(self, images: &BTreeMap<String, ImageRef>) -> Result<DeploymentSpec, Problems> {
        let mut problems = Vec::new();
        let mut services = BTreeMap::new();
        for (name, draft) in self.services {
            let mut spec = draft.spec;
            match images.get(&spec.image.reference) {
                Some(image) => {
                    spec.image = image.clone();
                    services.insert(name, spec);
                }
                None => problems.push(Problem {
                    file: self.file.clone(),
                    line: 0,
                    column: 0,
                    key: format!("services.{name}.image"),
                    what: format!("no digest is known for {}", spec.image.reference),
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
