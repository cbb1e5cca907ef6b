//! Secrets of a project: read, sealed to the network, pushed as ciphertext.
//!
//! A value never leaves this process but sealed, and nothing that is said names more of it than
//! where it was looked for.

mod kept;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::Context;
use manifest::{BuildDraft, CONTENT, Project, Sealed, SecretSource};
use secrets::{VALUE_BYTES_MAX, Zeroizing};
use types::{BUILD_SECRETS, MountSource, MountSpec, SecretMount};

use crate::content;
use crate::context::Session;
use crate::failure::{Failure, Result};

pub use kept::{Secret, run};

/// The account's repository of them.
pub const REPOSITORY: &str = "secrets";

/// Every secret that the project's services mount, sealed.
pub async fn resolve(session: &Session, project: &Project) -> Result<BTreeMap<String, Sealed>> {
    let mut sealed = BTreeMap::new();
    for (name, source) in project.secrets() {
        let one = one(session, project, &name, &source).await?;
        sealed.insert(name, one);
    }
    Ok(sealed)
}

/// Those that a build names, as mounts of what builds.
pub async fn of_build(
    session: &Session,
    project: &Project,
    draft: &BuildDraft,
) -> Result<Vec<MountSpec>> {
    let mut mounts = Vec::new();
    for (id, name) in &draft.secrets {
        let source = project.secret(name).context("it was declared")?;
        let sealed = one(session, project, name, source).await?;
        mounts.push(MountSpec {
            source: MountSource::Secret(SecretMount {
                name: name.clone(),
                image: sealed.image,
                mark: sealed.mark,
                uid: None,
                gid: None,
                mode: 0o400,
            }),
            target: format!("{BUILD_SECRETS}/{id}"),
            read_only: true,
        });
    }
    Ok(mounts)
}

async fn one(
    session: &Session,
    project: &Project,
    name: &str,
    source: &SecretSource,
) -> Result<Sealed> {
    match source {
        SecretSource::Sealed(known) => Ok(known.clone()),
        SecretSource::Path(path) => {
            let value = read(name, &Path::new(&project.folder).join(path))?;
            seal(session, &project.name, name, &value).await
        }
        SecretSource::Value(value) => seal(session, &project.name, name, value.0.as_bytes()).await,
        SecretSource::External(kept) => kept::newest(session, kept).await,
    }
}

fn read(name: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |error: std::io::Error| {
        Failure::usage(
            format!("secret {name}"),
            format!("{} cannot be read: {error}", path.display()),
            "Correct the path or its rights.",
        )
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut value = Zeroizing::new(Vec::new());
    file.take(VALUE_BYTES_MAX as u64 + 1)
        .read_to_end(&mut value)
        .map_err(failed)?;
    Ok(value)
}

/// Seals, and pushes what is sealed.
async fn seal(session: &Session, project: &str, name: &str, value: &[u8]) -> Result<Sealed> {
    let sealed = sealed(session, project, name, value).await?;
    let packed = images::pack_text(&sealed.bytes, CONTENT, None)?;
    Ok(Sealed {
        image: content::kept(session, REPOSITORY, packed, None).await?,
        mark: sealed.mark,
    })
}

/// Seals to the key of the network that the context names.
async fn sealed(
    session: &Session,
    project: &str,
    name: &str,
    value: &[u8],
) -> Result<secrets::Sealed> {
    let network_key = match &session.network_key {
        Some(key) => key.clone(),
        None => session.client.status().await?.network_key,
    };
    let unreadable = || {
        Failure::usage(
            "the network's key",
            "it cannot be read",
            "See `runrig context show`; make the context anew with `runrig context create`.",
        )
    };
    let network_key = hex::decode(network_key).map_err(|_| unreadable())?;
    let sealed = secrets::seal(&network_key, &session.key()?, project, name, value);
    sealed.map_err(|error| match error {
        secrets::SecretError::NetworkKey => unreadable(),
        error => Failure::usage(
            format!("secret {name}"),
            error.to_string(),
            "Keep large files in a volume or an image; seal the key to them.",
        ),
    })
}
