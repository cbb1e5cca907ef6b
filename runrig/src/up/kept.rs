//! Images that are not looked up anew: those of services whose `pull_policy` would rather have
//! what the project runs already.

use std::collections::BTreeMap;

use api::ReleaseView;
use manifest::{Project, PullPolicy};
use types::ImageRef;

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::{image, units};

/// By their names as written.
///
/// Errors: `NOT_FOUND` if one must be there (`never`), and is not.
pub async fn images(session: &Session, project: &Project) -> Result<BTreeMap<String, ImageRef>> {
    let wanted = project.rather_kept();
    if wanted.is_empty() {
        return Ok(BTreeMap::new());
    }
    let account = session.account()?;
    let own = session.client.deployments(account, false).await?;
    let running = own.iter().find(|d| d.project == project.name);
    let mut releases = match running {
        Some(running) => session.client.releases(running.deployment).await?,
        None => Vec::new(),
    };
    releases.sort_by_key(|r| std::cmp::Reverse(r.release));
    let now_ms = units::now_ms();
    let mut kept = BTreeMap::new();
    for (reference, policy) in wanted {
        let names = image::names(session, &reference)?;
        match (taken_up(&releases, &names), policy) {
            (Some((image, at_ms)), PullPolicy::Every { ms }) => {
                if now_ms.saturating_sub(at_ms) < ms {
                    kept.insert(reference, image);
                }
            }
            (Some((image, _)), _) => {
                kept.insert(reference, image);
            }
            (None, PullPolicy::Never) => {
                return Err(Failure::new(
                    failure::NOT_FOUND,
                    format!("image {reference}"),
                    format!(
                        "its pull_policy is never, and project {} does not run it yet",
                        project.name
                    ),
                    "Write pull_policy: missing.",
                ));
            }
            (None, _) => {}
        }
    }
    Ok(kept)
}

/// What the newest of `releases`, which are in order, runs by one of `names`, and since when.
fn taken_up(releases: &[ReleaseView], names: &[String]) -> Option<(ImageRef, u64)> {
    let of = |release: &ReleaseView| -> Option<ImageRef> {
        let services = release.spec.services.values();
        let mut images = services.map(|s| &s.image);
        images.find(|i| names.contains(&i.reference)).cloned()
    };
    let newest = of(releases.first()?)?;
    let same = releases
        .iter()
        .take_while(|r| of(r).as_ref() == Some(&newest));
    let at_ms = same.last().map_or(0, |release| release.made_ms);
    Some((newest, at_ms))
}

#[cfg(test)]
mod tests {
    use ledger::deployment::Cause;
    use types::{DeploymentSpec, Digest, ServiceSpec};

    use super::*;

    fn release(release: u32, digest: &str) -> ReleaseView {
        let mut spec: DeploymentSpec = DeploymentSpec {
            project: "p".into(),
            services: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            logs: Default::default(),
        };
        let image = ImageRef {
            reference: "docker.io/library/a:1".into(),
            digest: Digest::of(digest.as_bytes()),
        };
        let service = ServiceSpec {
            image,
            ..ServiceSpec::default()
        };
        spec.services.insert("web".into(), service);
        ReleaseView {
            release,
            made_ms: u64::from(release) * 1_000,
            cause: Cause::Deployed,
            latest: false,
            good: false,
            spec,
        }
    }

    #[test]
    fn an_image_counts_from_the_first_release_in_a_row_that_has_it() {
        let releases = [
            release(4, "b"),
            release(3, "b"),
            release(2, "a"),
            release(1, "b"),
        ];
        let names = ["docker.io/library/a:1".to_string()];
        let found = taken_up(&releases, &names).map(|(image, at)| (image.digest, at));
        assert_eq!(found, Some((Digest::of(b"b"), 3_000)));
        assert_eq!(taken_up(&releases, &["docker.io/library/b:1".into()]), None);
        assert_eq!(taken_up(&[], &names), None);
    }
}
