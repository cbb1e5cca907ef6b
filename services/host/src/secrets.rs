//! The secrets of a replica, opened by what validators release for as long as the ledger
//! places it here. Kept in memory only: an agent that is started anew asks anew.

use std::collections::BTreeMap;

use ::secrets::{Asking, Label, Release, SecretError};
use anyhow::{Context, Result, bail};
use api::{PlannedAllocation, SecretShares};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use engine::Hidden;
use images::ReadyImage;
use types::Digest;

use crate::shared::Shared;
use crate::volume;

/// Where its image has the sealed bytes.
const CONTENT: &str = "content";
/// Sealed, with room for what sealing adds.
const SEALED_BYTES_MAX: u64 = ::secrets::VALUE_BYTES_MAX as u64 + 1024;
/// Validators that are asked one by one when the first cannot reach enough of the others.
const ASKED_MAX: usize = 16;

/// The values, in the order of the service's mounts. Blocks nobody while it computes.
///
/// Errors: a message that names secrets and validators, never a value.
pub async fn open(
    shared: &Shared,
    planned: &PlannedAllocation,
    mounted: &BTreeMap<Digest, ReadyImage>,
) -> Result<Vec<Hidden>> {
    let mut sealed = Vec::new();
    for secret in planned.spec.secrets() {
        let image = &secret.image;
        let ready = mounted.get(&image.digest);
        let ready = ready.with_context(|| format!("{} was not fetched", image.reference))?;
        let label = Label {
            owner: planned.owner,
            mark: secret.mark,
        };
        sealed.push((label, read(ready).with_context(|| secret.name.clone())?));
    }
    if sealed.is_empty() {
        return Ok(Vec::new());
    }
    let asking = Asking::new(planned.allocation)?;
    let to = hex::encode(asking.to());
    let path = format!("/v1/allocations/{}/secrets?to={to}", planned.allocation);
    let link = &shared.link;
    let mut answers = vec![link.ask(link.client(), &path).await];
    let (mut releases, mut why) = (Vec::new(), String::new());
    let mut others = None;
    loop {
        for answer in answers.drain(..) {
            let shares: SecretShares = match answer {
                Ok(shares) => shares,
                Err(error) => {
                    why = error.to_string();
                    continue;
                }
            };
            let decoded = shares.releases.iter().map(|r| BASE64.decode(r));
            releases.extend(decoded.flatten().map(Release));
            let network = hex::decode(&shares.sharing).unwrap_or_default();
            let secrets: Vec<(Label, &[u8])> = sealed.iter().map(|(l, s)| (*l, &s[..])).collect();
            // Some ten milliseconds per share, seldom.
            let opened = tokio::task::block_in_place(|| asking.open(&network, &releases, &secrets));
            match opened {
                Ok(opened) => {
                    let hide =
                        |mut value: ::secrets::Opened| Hidden::new(std::mem::take(&mut *value.0));
                    return Ok(opened.into_iter().map(hide).collect());
                }
                Err(SecretError::Unreadable) => bail!(SecretError::Unreadable),
                Err(error) => why = error.to_string(),
            }
        }
        // Its way to the others may be cut where ours is not.
        let others = match &mut others {
            Some(others) => others,
            None => {
                let known = link.client().network().await?.validators;
                let known = known.into_iter().take(ASKED_MAX).map(|v| v.api);
                others.insert(known.collect::<Vec<String>>().into_iter())
            }
        };
        let Some(url) = others.next() else {
            bail!("{why}");
        };
        answers.push(link.ask(&sdk::Client::new([url])?, &path).await);
    }
}

fn read(image: &ReadyImage) -> Result<Vec<u8>> {
    use std::io::Read;
    let none = std::path::Path::new("");
    let path = volume::content(none, image, CONTENT, None, 0)?;
    let file = std::fs::File::open(&path).context("read what is sealed")?;
    if !file.metadata()?.is_file() {
        bail!("it is not a sealed secret");
    }
    let mut bytes = Vec::new();
    file.take(SEALED_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SEALED_BYTES_MAX {
        bail!("it is too large for a sealed secret");
    }
    Ok(bytes)
}
