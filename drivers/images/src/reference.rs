//! Names of images, as Docker writes them.

use oci_spec::distribution::{ParseError, Reference};
use types::{Digest, ImageRef};

use crate::ImageError;

/// Host part of references to the network's own registry: reached through the gateway.
pub const NETWORK_REGISTRY: &str = "registry.runrig";

pub fn parse(text: &str) -> Result<Reference, ImageError> {
    text.parse().map_err(|e: ParseError| {
        let small = text.to_ascii_lowercase();
        let why = match small != text && small.parse::<Reference>().is_ok() {
            true => "names of images are written in lowercase".into(),
            false => format!("its name cannot be read: {e}"),
        };
        ImageError::Unusable {
            reference: text.chars().take(200).collect(),
            why,
        }
    })
}

/// `nginx` → `docker.io/library/nginx:latest`.
pub fn normalise(text: &str) -> Result<String, ImageError> {
    parse(text).map(|r| r.whole())
}

pub fn pinned(image: &ImageRef) -> Result<Reference, ImageError> {
    Ok(parse(&image.reference)?.clone_with_digest(image.digest.to_string()))
}

pub fn digest(text: &str) -> Option<Digest> {
    text.starts_with("sha256:").then(|| text.parse().ok())?
}
