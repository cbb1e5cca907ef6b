//! Files of the project, put into the network's registry as images of their own.
//!
//! Each is found again by its content: what was packed once, by whatever release, is not
//! pushed a second time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use images::{Access, ImageError, NETWORK_REGISTRY, Pack, PackOwner};
use manifest::{CONTENT, Content, FileSource, Project};
use types::ImageRef;

use crate::context::Session;
use crate::failure::Result;
use crate::{image, output};

/// The account's repository of them.
pub const REPOSITORY: &str = "files";

/// Every file's image.
pub async fn resolve(
    session: &Session,
    project: &Project,
) -> Result<BTreeMap<FileSource, ImageRef>> {
    let mut images = BTreeMap::new();
    for source in project.files() {
        let (folder, wanted) = (PathBuf::from(&project.folder), source.clone());
        let packed = tokio::task::spawn_blocking(move || pack(&folder, &wanted))
            .await
            .map_err(anyhow::Error::from)??;
        let shown = match &source.content {
            Content::Path(path) => Some(path.as_str()),
            Content::Text(_) => None,
        };
        let image = kept(session, REPOSITORY, packed, shown).await?;
        images.insert(source, image);
    }
    Ok(images)
}

fn pack(folder: &std::path::Path, source: &FileSource) -> std::result::Result<Pack, ImageError> {
    let owner = source.owner.map(|owner| PackOwner {
        uid: owner.uid,
        gid: owner.gid,
        mode: owner.mode,
    });
    match &source.content {
        Content::Path(path) => images::pack(&folder.join(path), CONTENT, owner),
        Content::Text(text) => images::pack_text(text.as_bytes(), CONTENT, owner),
    }
}

/// The image in the account's `repository`, pushed if it is not there yet; `shown` is said
/// then.
pub async fn kept(
    session: &Session,
    repository: &str,
    packed: Pack,
    shown: Option<&str>,
) -> Result<ImageRef> {
    let tag = packed.content.hex()[..32].to_string();
    kept_as(session, repository, &tag, packed, shown).await
}

/// The same under a tag that names nothing else.
pub async fn kept_as(
    session: &Session,
    repository: &str,
    tag: &str,
    packed: Pack,
    shown: Option<&str>,
) -> Result<ImageRef> {
    let account = session.account()?;
    let signer = image::signer(session.key()?);
    let access = Access {
        network: Some(session.client.url().to_string()),
        signer: Some(signer.clone()),
        ..Access::default()
    };
    let reference = format!("{NETWORK_REGISTRY}/{account}/{repository}:{tag}");
    match images::resolve(&reference, &access).await {
        Ok(known) => return Ok(known),
        Err(ImageError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    if let Some(path) = shown {
        output::say(format!("pushing {}", output::printable(path)));
    }
    let layout = tempfile::tempdir().map_err(anyhow::Error::from)?;
    let image = packed.write(layout.path())?;
    let repository = format!("{account}/{repository}");
    Ok(images::push(&image, session.client.url(), &repository, tag, &signer).await?)
}
