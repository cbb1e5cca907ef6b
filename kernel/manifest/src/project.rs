//! What compose files say, before the digests of images and files are known.

use std::collections::{BTreeMap, BTreeSet};

use types::{
    DeploymentSpec, Digest, ImageMount, ImageRef, LogPolicy, MountSource, MountSpec, NetworkSpec,
    SecretMount, ServiceSpec, VolumeSpec,
};

use crate::build::BuildDraft;
use crate::port::PortChoice;
use crate::problem::{Problem, Problems};

/// Compose files understood: everything but the digests of images and files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    pub name: String,
    /// Path of the project's folder, as it was given.
    pub folder: String,
    pub services: BTreeMap<String, ServiceDraft>,
    pub networks: BTreeMap<String, NetworkSpec>,
    pub volumes: BTreeMap<String, VolumeSpec>,
    pub logs: LogPolicy,
    /// What the user should know before going on.
    pub warnings: Vec<Problem>,
    pub(crate) file: String,
    /// What the file says of its secrets, mounted or not.
    pub(crate) declared: BTreeMap<String, SecretSource>,
}

/// A service whose images are not pinned yet: `spec.image`, and the image of each mount, has
/// the reference as written, and no digest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceDraft {
    pub spec: ServiceSpec,
    /// Its image is made by this; the reference says what it is called.
    pub build: Option<BuildDraft>,
    /// Files of the project, which become mounts of an image.
    pub files: Vec<FileMount>,
    pub secrets: Vec<SecretDraft>,
    pub pull: PullPolicy,
    /// Ports that are published at one of several; by now, at the first that the project leaves
    /// free.
    pub port_choices: Vec<PortChoice>,
}

/// When what its image is called is looked up, or made, anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// At each `up`: looked up, or built where its inputs have changed.
    #[default]
    Usual,
    /// Built at each `up`, in any case.
    Build,
    /// Where the project does not run an image of that name yet.
    Missing,
    /// Not at all: it must be what the project runs already.
    Never,
    /// Where what the project runs was taken up so long ago.
    Every { ms: u64 },
}

impl PullPolicy {
    /// More where it is looked up sooner; most at each `up`.
    fn eagerness(self) -> u64 {
        match self {
            Self::Usual | Self::Build => u64::MAX,
            Self::Every { ms } => u64::MAX - 1 - ms.min(u64::MAX - 3),
            Self::Missing => 1,
            Self::Never => 0,
        }
    }
}

/// A secret that a service mounts, not sealed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretDraft {
    /// A key of `secrets` at the top of the file.
    pub name: String,
    pub source: SecretSource,
    /// Absolute path in the container.
    pub target: String,
    /// The service's own user if not said.
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub mode: u32,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file of the project's folder, or an absolute path.
    Path(String),
    /// Of a variable.
    Value(Veiled),
    /// Sealed for the account under this name.
    External(String),
    /// Sealed by an earlier release.
    Sealed(Sealed),
}

/// A value that no message shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Veiled(pub String);

impl std::fmt::Debug for Veiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("veiled")
    }
}

/// A secret that is sealed: the image that has it, and its mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub image: ImageRef,
    pub mark: Digest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileMount {
    pub source: FileSource,
    /// Absolute path in the container.
    pub target: String,
    /// Else each replica has a copy of its own.
    pub read_only: bool,
}

/// A file, or a folder with all in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileSource {
    pub content: Content,
    /// As they are if not said: root's, and readable by all.
    pub owner: Option<FileOwner>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Content {
    /// From the project's folder.
    Path(String),
    /// A file of this text.
    Text(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileOwner {
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

/// Where in their image the files are.
pub const CONTENT: &str = "content";

impl Project {
    /// References to resolve, as written; those that are built are not among them.
    pub fn images(&self) -> BTreeSet<String> {
        let images = self.services.values().flat_map(|s| s.spec.images());
        let mut images: BTreeSet<String> = images.map(|image| image.reference.clone()).collect();
        for (reference, _) in self.builds().values() {
            images.remove(*reference);
        }
        images
    }

    /// Of the images to resolve those that need not be looked up each time, and when they are:
    /// as the most eager of the services says that run one.
    pub fn rather_kept(&self) -> BTreeMap<String, PullPolicy> {
        let mut found: BTreeMap<String, PullPolicy> = BTreeMap::new();
        for service in self.services.values() {
            for (at, image) in service.spec.images().enumerate() {
                let policy = match at {
                    0 => service.pull,
                    _ => PullPolicy::Usual,
                };
                let eager = found.entry(image.reference.clone()).or_insert(policy);
                if policy.eagerness() > eager.eagerness() {
                    *eager = policy;
                }
            }
        }
        let kept = self.images();
        found.retain(|name, policy| kept.contains(name) && policy.eagerness() < u64::MAX);
        found
    }

    /// Services whose image is built: its name, and what it is made of.
    pub fn builds(&self) -> BTreeMap<&str, (&str, &BuildDraft)> {
        let services = self.services.iter();
        services
            .filter_map(|(name, service)| {
                let image = service.spec.image.reference.as_str();
                Some((name.as_str(), (image, service.build.as_ref()?)))
            })
            .collect()
    }

    /// Files that must be put into images, each once.
    pub fn files(&self) -> BTreeSet<FileSource> {
        let files = self.services.values().flat_map(|s| &s.files);
        files.map(|file| file.source.clone()).collect()
    }

    /// Secrets that must be sealed, each once, by name.
    pub fn secrets(&self) -> BTreeMap<String, SecretSource> {
        let secrets = self.services.values().flat_map(|s| &s.secrets);
        secrets
            .map(|secret| (secret.name.clone(), secret.source.clone()))
            .collect()
    }

    /// Where the value of a secret is that a build names.
    pub fn secret(&self, name: &str) -> Option<&SecretSource> {
        self.declared.get(name)
    }

    /// The deployment, once each reference (as written) and each file has its digest, and each
    /// secret is sealed. The image of a file or secret has it at [`CONTENT`].
    ///
    /// Errors: one per reference that `images` lacks, per file that `files` and per secret that
    /// `secrets` does.
    pub fn pin(
        self,
        images: &BTreeMap<String, ImageRef>,
        files: &BTreeMap<FileSource, ImageRef>,
        secrets: &BTreeMap<String, Sealed>,
    ) -> Result<DeploymentSpec, Problems> {
        let mut problems = Vec::new();
        let mut services = BTreeMap::new();
        let mut unknown = |service: &str, what: String| {
            problems.push(Problem {
                file: self.file.clone(),
                line: 0,
                column: 0,
                key: format!("services.{service}"),
                what,
                why: "a deployment names each image by its digest".into(),
                next: "resolve it at its registry, or load it with `runrig image load`".into(),
            });
        };
        for (name, draft) in self.services {
            let mut spec = draft.spec;
            let mounted = spec.mounts.iter_mut().filter_map(|m| match &mut m.source {
                MountSource::Image(mount) => Some(&mut mount.image),
                _ => None,
            });
            for image in std::iter::once(&mut spec.image).chain(mounted) {
                match images.get(&image.reference) {
                    Some(known) => *image = known.clone(),
                    None => unknown(&name, format!("no digest is known for {}", image.reference)),
                }
            }
            for file in draft.files {
                let Some(image) = files.get(&file.source) else {
                    unknown(
                        &name,
                        format!("the files at {} are not packed", file.target),
                    );
                    continue;
                };
                spec.mounts.push(MountSpec {
                    source: MountSource::Image(ImageMount {
                        image: image.clone(),
                        path: CONTENT.into(),
                    }),
                    target: file.target,
                    read_only: file.read_only,
                });
            }
            for secret in draft.secrets {
                let Some(sealed) = secrets.get(&secret.name) else {
                    unknown(&name, format!("the secret {} is not sealed", secret.name));
                    continue;
                };
                spec.mounts.push(MountSpec {
                    source: MountSource::Secret(SecretMount {
                        name: secret.name,
                        image: sealed.image.clone(),
                        mark: sealed.mark,
                        uid: secret.uid,
                        gid: secret.gid,
                        mode: secret.mode,
                    }),
                    target: secret.target,
                    read_only: true,
                });
            }
            services.insert(name, spec);
        }
        if !problems.is_empty() {
            return Err(Problems(problems));
        }
        Ok(DeploymentSpec {
            project: self.name,
            services,
            networks: self.networks,
            volumes: self.volumes,
            logs: self.logs,
        })
    }
}
