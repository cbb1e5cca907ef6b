//! `dev --demo`: an app made from this very program, deployed as a user would.

use std::path::Path;
use std::time::Duration;

use types::Amount;

use crate::compose_file::{ComposeFiles, read_project};
use crate::context::{Session, create_private_dir};
use crate::failure::{Failure, Result};
use crate::rollout::{Goal, follow_until};
use crate::{endpoint, image, output, up};

const COMPOSE: &str = include_str!("../../../examples/hello/compose.yaml");
const IMAGE: &str = "hello";
const READY_LIMIT: Duration = Duration::from_secs(90);

/// Returns the URL under which it answers.
pub async fn deploy(session: &Session, data: &Path) -> Result<String> {
    let folder = data.join("demo");
    create_private_dir(&folder).map_err(anyhow::Error::from)?;
    // Named for its use inside, whatever this program is called here.
    let program = folder.join("runrig");
    let own = std::env::current_exe().map_err(anyhow::Error::from)?;
    let _ = std::fs::remove_file(&program);
    std::fs::copy(own, &program).map_err(anyhow::Error::from)?;
    let layout = folder.join("image");
    let _ = std::fs::remove_dir_all(&layout);
    create_private_dir(&layout).map_err(anyhow::Error::from)?;
    let made = images::demo_image(&program, &["demo-app".into()], &layout)?;
    let repository = format!("{}/{IMAGE}", session.account()?);
    let signer = image::signer(session.key()?);
    images::push(&made, session.client.url(), &repository, "latest", &signer).await?;
    // All of it is in the registry now.
    let _ = std::fs::remove_dir_all(&folder);
    let path = data.join("demo.compose.yaml");
    std::fs::write(&path, COMPOSE).map_err(anyhow::Error::from)?;
    let project = read_project(&ComposeFiles {
        files: vec![path],
        ..ComposeFiles::default()
    })?;
    let spec = up::pin(session, project, std::collections::BTreeMap::new()).await?;
    let id = up::deploy(session, spec, Amount::credits(1)).await?;
    let view = follow_until(session, id, Goal::Good, READY_LIMIT).await?;
    let endpoints = endpoint::endpoints(&view, session.client.url());
    let url = endpoints.into_iter().map(|e| e.url).next();
    output::say("the demo is deployed: see `runrig ps` and `runrig logs -f hello`");
    url.ok_or_else(|| Failure::new(1, "the demo has no address", "", "See `runrig ps`."))
}
