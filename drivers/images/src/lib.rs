//! Fetch, verify, keep and unpack OCI images.

mod archive;
mod fetch;
mod reference;
mod store;
mod unpack;

use std::path::PathBuf;

use types::Digest;

pub use archive::{LocalImage, LocalImages, demo_image, open_archive};
pub use fetch::{Access, Signer, copy, push, resolve};
pub use reference::{NETWORK_REGISTRY, normalise};
pub use store::{Store, StoreConfig, architecture};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(
        "image {reference} not found: {why}. Check the name, or run `runrig image load` for a local one"
    )]
    NotFound { reference: String, why: String },
    #[error("no access to {reference}: {why}. Run `docker login` for that registry and try again")]
    Denied { reference: String, why: String },
    /// Bytes that are not what their digest says. Never started.
    #[error(
        "{what} of {reference} is corrupt: expected {expected}, got {actual}. It was not started; pull it again or ask its publisher"
    )]
    Corrupt {
        reference: String,
        what: String,
        expected: Digest,
        actual: Digest,
    },
    #[error("image {reference} is not usable: {why}")]
    Unusable { reference: String, why: String },
    #[error("{operation} {reference}: {why}")]
    Failed {
        operation: &'static str,
        reference: String,
        why: String,
    },
}

/// An image ready to run on this host.
#[derive(Clone, Debug)]
pub struct ReadyImage {
    /// Of the image manifest for this architecture.
    pub manifest: Digest,
    pub config: ImageConfig,
    /// Unpacked layers, topmost first, owners shifted.
    pub layers: Vec<PathBuf>,
}

/// The parts of the OCI image config that matter for running.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageConfig {
    pub entrypoint: Vec<String>,
    pub command: Vec<String>,
    pub env: Vec<String>,
    pub working_dir: String,
    pub user: String,
    pub stop_signal: Option<String>,
    pub exposed_ports: Vec<String>,
    pub volumes: Vec<String>,
}
