//! Fetch, verify, keep and unpack OCI images.

mod archive;
mod client;
mod credentials;
mod demo;
mod fetch;
mod folder;
mod health;
mod outside;
mod pack;
mod platform;
mod push;
mod reference;
mod shelf;
mod store;
mod tape;
mod tree;
mod unpack;

use std::path::PathBuf;

use types::Digest;

pub use archive::{LocalImage, LocalImages, open_archive};
pub use client::{Access, Signer};
pub use credentials::Credentials;
pub use demo::demo_image;
pub use fetch::resolve;
pub use folder::take_folder;
pub use pack::{
    CONTEXT_BYTES_MAX, CONTEXT_ENTRIES_MAX, Ignored, PACK_BYTES_MAX, PACK_ENTRIES_MAX, Pack,
    PackOwner, pack, pack_context, pack_text,
};
pub use platform::architecture;
pub use push::{copy, push};
pub use reference::{NETWORK_REGISTRY, normalise};
pub use shelf::{ListedImage, Pruned, Room, list};
pub use store::{Store, StoreConfig};

#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    #[error(
        "image {reference} not found: {why}. Check the name, or run `runrig image load` for a local one"
    )]
    NotFound { reference: String, why: String },
    #[error(
        "no access to {reference}: {why}. Check the name; if it is private, run `docker login` for its registry and try again"
    )]
    Denied { reference: String, why: String },
    /// The registry asked to be left alone for a while, and is.
    #[error(
        "{registry} limits requests: {reference} can be asked for again in {seconds} s. Log in there for a higher limit, or keep a copy with `runrig image push`"
    )]
    Limited {
        reference: String,
        registry: String,
        seconds: u64,
    },
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

impl ImageError {
    /// Whether asking again later may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Limited { .. })
    }
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
    /// `HEALTHCHECK` of its Dockerfile; `None` without one and with `NONE`.
    pub healthcheck: Option<types::HealthCheck>,
}
