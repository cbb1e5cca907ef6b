//! A replica that makes an image instead of running one.
//!
//! Placed, metered and paid like any other; only hosts that offer building take it. What it is
//! made of travels as mounts of the service: the recipe at [`RECIPE`], the context at
//! [`CONTEXT`], further ones below [`CONTEXTS`].

use std::collections::{BTreeMap, BTreeSet};

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::ImageRef;

/// Where the Dockerfile is.
pub const RECIPE: &str = "/recipe/Dockerfile";
/// Where what `COPY` copies from is.
pub const CONTEXT: &str = "/context";
/// Folder of the further contexts, each by its name.
pub const CONTEXTS: &str = "/contexts";
/// Folder of the secrets, each a file by its name.
pub const BUILD_SECRETS: &str = "/run/secrets";

/// What is built, and where the result goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct BuildSpec {
    /// Names under the owner's account in the network's registry: `shop-web:latest`. At least
    /// one.
    pub outputs: BTreeSet<String>,
    /// Images that the recipe begins with or copies from, as it names them, variables and all.
    pub bases: BTreeMap<String, ImageRef>,
    /// Names of further contexts that are folders.
    pub contexts: BTreeSet<String>,
    /// The stage that is wanted; the last one if not said.
    pub target: Option<String>,
    pub args: BTreeMap<String, String>,
    pub labels: BTreeMap<String, String>,
    /// Files in [`BUILD_SECRETS`] that `RUN --mount=type=secret` may see.
    pub secrets: BTreeSet<String>,
    /// Every step is done anew.
    pub no_cache: bool,
    /// It is ended after so many seconds: 1 to [`BuildSpec::SECONDS_MAX`].
    pub seconds_max: u32,
}

impl BuildSpec {
    pub const SECONDS_MAX: u32 = 4 * 3600;

    /// `shop-web` of `shop-web:latest`.
    pub fn repositories(&self) -> impl Iterator<Item = &str> {
        let names = self.outputs.iter();
        names.map(|name| name.split_once(':').map_or(name.as_str(), |(name, _)| name))
    }
}

impl Default for BuildSpec {
    fn default() -> Self {
        Self {
            outputs: BTreeSet::new(),
            bases: BTreeMap::new(),
            contexts: BTreeSet::new(),
            target: None,
            args: BTreeMap::new(),
            labels: BTreeMap::new(),
            secrets: BTreeSet::new(),
            no_cache: false,
            seconds_max: 1800,
        }
    }
}
