//! `image`, and how references of a compose file are pinned to digests.
//!
//! A name without a registry is looked for among the account's own images in the network's
//! registry first (`registry.runrig/<account>/<name>:<tag>`), then where it names. What needs
//! a login to be read is copied into the network's registry, so that hosts need none.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use images::{Access, Credentials, ImageError, NETWORK_REGISTRY, Signer};
use serde::{Deserialize, Serialize};
use types::{AccountId, ImageRef, SecretKey};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;
use crate::units;

/// Images listed at most.
const LISTED_MAX: usize = 1_000;

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  docker save web:1 | runrig image load -\n  runrig image load web.tar --name web:1\n  runrig image push ghcr.io/acme/web:1\n  runrig image ls\n  runrig image password | docker login 127.0.0.1:8700 -u ACCOUNT --password-stdin"
)]
pub enum Image {
    /// Put images of an OCI layout, an OCI archive or a docker archive into the network's registry
    Load(Load),
    /// Copy an image from the registry that it is in into the network's
    Push(Push),
    /// Your images in the network's registry
    #[command(alias = "list")]
    Ls,
    /// A password for docker, podman, skopeo and others at the network's registry
    Password(Password),
}

#[derive(Args, Debug)]
pub struct Load {
    /// Folder or file; - is stdin
    file: PathBuf,
    /// name:tag; what the file says if not said
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub struct Push {
    /// The image, for example ghcr.io/acme/web:1
    reference: String,
    /// name:tag in the network's registry; its own if not said
    #[arg(long)]
    name: Option<String>,
}

#[derive(Args, Debug)]
pub struct Password {
    /// Good for so long; nothing takes it back before
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=api::RegistryLogin::DAYS_MAX))]
    days: u64,
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        let exit = match &error {
            ImageError::NotFound { .. } => failure::NOT_FOUND,
            ImageError::Denied { .. } => failure::LOGIN,
            ImageError::Corrupt { .. } => failure::SIGNATURE,
            ImageError::Unusable { .. } => failure::USAGE,
            ImageError::Limited { .. } | ImageError::Failed { .. } => failure::FAILED,
        };
        Self::new(exit, error.to_string(), "", "")
    }
}

/// Signs requests to the registry as `key`'s account.
pub fn signer(key: SecretKey) -> Signer {
    Arc::new(move |method, path| {
        let auth = api::RequestAuth::sign(&key, method, path, units::now_ms());
        (api::RequestAuth::HEADER.to_string(), auth.to_string())
    })
}

/// Reads the network's registry, and others with `credentials`.
fn access(session: &Session, credentials: Credentials) -> Access {
    Access {
        network: Some(session.client.url().to_string()),
        signer: session.key().ok().map(signer),
        credentials,
        ..Access::default()
    }
}

/// `docker.io/library/web:1` → (`docker.io`, `library/web`, `1`).
fn parts(normalised: &str) -> (&str, &str, &str) {
    let rest = normalised.split('@').next().unwrap_or(normalised);
    let (registry, rest) = rest.split_once('/').unwrap_or(("docker.io", rest));
    let (name, tag) = rest.rsplit_once(':').unwrap_or((rest, "latest"));
    (registry, name, tag)
}

/// What a short name would be called among the account's own images.
fn own_reference(account: AccountId, reference: &str) -> Result<Option<String>> {
    let first = reference.split('/').next().unwrap_or(reference);
    let names_registry =
        reference.contains('/') && (first.contains(['.', ':']) || first == "localhost");
    if names_registry {
        return Ok(None);
    }
    let normalised = images::normalise(reference)?;
    let (_, name, tag) = parts(&normalised);
    let name = match reference.contains('/') {
        true => name,
        false => name.trim_start_matches("library/"),
    };
    Ok(Some(match reference.split_once('@') {
        Some((_, digest)) => format!("{NETWORK_REGISTRY}/{account}/{name}@{digest}"),
        None => format!("{NETWORK_REGISTRY}/{account}/{name}:{tag}"),
    }))
}

/// Other clients call the network's registry by the gateway's address; hosts know it by name.
fn by_name(url: &str, reference: &str) -> Option<String> {
    let rest = reference.strip_prefix(authority(url))?.strip_prefix('/')?;
    Some(format!("{NETWORK_REGISTRY}/{rest}"))
}

/// One of the account's own images, if it is there.
pub async fn own(session: &Session, reference: &str) -> Result<Option<ImageRef>> {
    match images::resolve(reference, &access(session, Credentials::default())).await {
        Ok(found) => Ok(Some(found)),
        Err(ImageError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// All that `reference` may be called once it is pinned.
pub fn names(session: &Session, reference: &str) -> Result<Vec<String>> {
    let named = by_name(session.client.url(), reference);
    let reference = named.as_deref().unwrap_or(reference);
    let account = session.account()?;
    let normalised = images::normalise(reference)?;
    let (_, name, tag) = parts(&normalised);
    // Where it was copied to if it needs a login.
    let copied = format!("{NETWORK_REGISTRY}/{account}/{name}:{tag}");
    let own = own_reference(account, reference)?;
    Ok([normalised.clone(), copied]
        .into_iter()
        .chain(own)
        .collect())
}

/// The digest behind a reference now.
pub async fn resolve(session: &Session, reference: &str) -> Result<ImageRef> {
    let named = by_name(session.client.url(), reference);
    let reference = named.as_deref().unwrap_or(reference);
    let account = session.account()?;
    let open = access(session, Credentials::default());
    if let Some(own) = own_reference(account, reference)? {
        match images::resolve(&own, &open).await {
            Ok(pinned) => return Ok(pinned),
            Err(ImageError::NotFound { .. } | ImageError::Denied { .. }) => {}
            Err(error) => output::say(format!(
                "the network's registry was not asked for {reference}: {error}"
            )),
        }
    }
    match images::resolve(reference, &open).await {
        Ok(pinned) => Ok(pinned),
        Err(denied @ (ImageError::Denied { .. } | ImageError::NotFound { .. })) => {
            // Registries hide private images behind either answer.
            let login = access(session, Credentials::of_user());
            let private = match images::resolve(reference, &login).await {
                Ok(private) => private,
                // What was wrong with the login says more than that there was need of one.
                Err(error @ ImageError::Denied { .. }) => return Err(error.into()),
                Err(_) => return Err(denied.into()),
            };
            output::say(format!(
                "copying {reference}, which needs a login, into the network's registry"
            ));
            let (_, name, tag) = parts(&private.reference);
            let repository = format!("{account}/{name}");
            let signer = signer(session.key()?);
            let url = session.client.url();
            Ok(images::copy(&private, &login, url, &repository, tag, &signer).await?)
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Serialize)]
struct Loaded<'a> {
    image: &'a str,
    reference: &'a str,
    digest: types::Digest,
}

fn loaded(image: &ImageRef, json: bool) {
    let (_, name, tag) = parts(&image.reference);
    // In a compose file the account is understood.
    let short = name.split_once('/').map_or(name, |(_, rest)| rest);
    let short = format!("{short}:{tag}");
    if json {
        output::json_line(&Loaded {
            image: &short,
            reference: &image.reference,
            digest: image.digest,
        });
    } else {
        output::data(format!("{short}  {}", image.digest));
    }
}

/// (`acme/web`, `1`) of a name as a user says it; registries are left out.
pub fn target(name: &str) -> Result<(String, String)> {
    let normalised = images::normalise(name)?;
    let (_, path, tag) = parts(&normalised);
    let path = path.trim_start_matches("library/");
    Ok((path.to_string(), tag.to_string()))
}

pub async fn run(session: &Session, command: &Image, json: bool) -> Result {
    match command {
        Image::Load(load) => load_file(session, load, json).await,
        Image::Push(push) => {
            let (path, tag) = target(push.name.as_deref().unwrap_or(&push.reference))?;
            let login = access(session, Credentials::of_user());
            let pinned = images::resolve(&push.reference, &login).await?;
            let repository = format!("{}/{path}", session.account()?);
            let signer = signer(session.key()?);
            let url = session.client.url();
            let copied = images::copy(&pinned, &login, url, &repository, &tag, &signer).await?;
            loaded(&copied, json);
            Ok(())
        }
        Image::Ls => list(session, json).await,
        Image::Password(args) => password(session, args, json),
    }
}

#[derive(Serialize)]
struct Login<'a> {
    registry: &'a str,
    user: String,
    password: String,
}

fn password(session: &Session, args: &Password, json: bool) -> Result {
    let key = session.key()?;
    let login = api::RegistryLogin::sign(&key, units::now_ms() / 1_000, args.days);
    let login = Login {
        registry: authority(session.client.url()),
        user: AccountId::of(&key.public()).to_string(),
        password: login.to_string(),
    };
    if json {
        output::json(&login);
        return Ok(());
    }
    output::say(format!(
        "good for {} days: docker login {} -u {} --password-stdin; then name images {}/{}/NAME:TAG",
        args.days, login.registry, login.user, login.registry, login.user
    ));
    output::data(login.password);
    Ok(())
}

#[derive(Args, Debug)]
pub struct HostImages {
    /// The host's --data; that of the first host of `runrig dev` is host-1 in its data
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// Reads the folder: the host need not run.
pub fn of_host(args: &HostImages, json: bool) -> Result {
    let store = args.data.join("images");
    if !store.is_dir() {
        return Err(Failure::usage(
            format!("no host keeps its state in {}", args.data.display()),
            "there is no folder \"images\" in it",
            "Name the folder that `runrig host join` was given as --data.",
        ));
    }
    let images = images::list(&store);
    if output::ids_only() {
        images
            .iter()
            .for_each(|image| output::data(&image.reference));
        return Ok(());
    }
    if json {
        output::json(&images);
        return Ok(());
    }
    let now = units::now_ms();
    let rows: Vec<Vec<String>> = images
        .iter()
        .map(|image| {
            vec![
                image.reference.clone(),
                image.digest.to_string().chars().take(19).collect(),
                units::bytes(image.bytes),
                format!("{} ago", units::age(now.saturating_sub(image.used_ms))),
            ]
        })
        .collect();
    output::data(output::table(
        &["IMAGE", "DIGEST", "SIZE", "USED"],
        &rows,
        &[2],
    ));
    Ok(())
}

/// `http://127.0.0.1:8700/` → `127.0.0.1:8700`.
fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

async fn load_file(session: &Session, load: &Load, json: bool) -> Result {
    let stdin;
    let path = if load.file.as_os_str() == "-" {
        stdin = tempfile::NamedTempFile::new().map_err(anyhow::Error::from)?;
        let mut file = stdin.as_file();
        std::io::copy(&mut std::io::stdin().lock(), &mut file).map_err(anyhow::Error::from)?;
        stdin.path().to_path_buf()
    } else {
        load.file.clone()
    };
    let opened = images::open_archive(&path)?;
    if load.name.is_some() && opened.images.len() > 1 {
        return Err(Failure::usage(
            format!(
                "{} holds {} images",
                load.file.display(),
                opened.images.len()
            ),
            "--name fits only one",
            "Leave --name out: each keeps its own.",
        ));
    }
    let signer = signer(session.key()?);
    for image in &opened.images {
        let names = match &load.name {
            Some(name) => std::slice::from_ref(name),
            None => image.names.as_slice(),
        };
        if names.is_empty() {
            return Err(Failure::usage(
                format!(
                    "{} does not say what its image is called",
                    load.file.display()
                ),
                "",
                "Say it with --name NAME:TAG.",
            ));
        }
        for name in names {
            let (path, tag) = target(name)?;
            let repository = format!("{}/{path}", session.account()?);
            output::say(format!("pushing {path}:{tag}"));
            let url = session.client.url();
            let pushed = images::push(image, url, &repository, &tag, &signer).await?;
            loaded(&pushed, json);
        }
    }
    Ok(())
}

#[derive(Deserialize)]
struct Catalogue {
    repositories: Vec<String>,
}

#[derive(Deserialize)]
struct Tags {
    tags: Vec<String>,
}

#[derive(Serialize)]
struct Listed {
    image: String,
    reference: String,
}

/// The account's repositories, called as in a compose file: without the account.
async fn repositories(session: &Session) -> Result<Vec<String>> {
    let path = format!("/v2/_accounts/{}", session.account()?);
    let catalogue: Catalogue = session.client.get_signed(&path, &session.key()?).await?;
    Ok(catalogue.repositories)
}

/// Of one of the account's repositories; none if there is no such.
pub async fn tags(session: &Session, repository: &str) -> Result<Vec<String>> {
    match repositories(session).await?.iter().any(|r| r == repository) {
        true => tags_of(session, repository).await,
        false => Ok(Vec::new()),
    }
}

async fn tags_of(session: &Session, repository: &str) -> Result<Vec<String>> {
    let path = format!("/v2/{}/{repository}/tags/list", session.account()?);
    let tags: Tags = session.client.get_signed(&path, &session.key()?).await?;
    Ok(tags.tags)
}

async fn list(session: &Session, json: bool) -> Result {
    let account = session.account()?;
    let mut all = Vec::new();
    for name in repositories(session).await?.iter().take(LISTED_MAX) {
        for tag in tags_of(session, name).await? {
            all.push(Listed {
                image: format!("{name}:{tag}"),
                reference: format!("{NETWORK_REGISTRY}/{account}/{name}:{tag}"),
            });
        }
    }
    if output::ids_only() {
        all.iter().for_each(|listed| output::data(&listed.image));
    } else if json {
        output::json(&all);
    } else {
        let rows: Vec<Vec<String>> = all
            .into_iter()
            .map(|l| vec![l.image, l.reference])
            .collect();
        output::data(output::table(&["IMAGE", "REFERENCE"], &rows, &[]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_may_be_ones_own() {
        let account = AccountId([1; 20]);
        for (text, own) in [
            (
                "web",
                Some(format!("{NETWORK_REGISTRY}/{account}/web:latest")),
            ),
            (
                "acme/web:1",
                Some(format!("{NETWORK_REGISTRY}/{account}/acme/web:1")),
            ),
            ("ghcr.io/acme/web:v1", None),
            ("localhost/web", None),
            ("localhost:5000/web", None),
        ] {
            assert_eq!(own_reference(account, text), Ok(own), "{text}");
        }
        assert_eq!(
            target("docker.io/library/web:1"),
            Ok(("web".into(), "1".into()))
        );
        assert_eq!(target("acme/web"), Ok(("acme/web".into(), "latest".into())));
        assert!(target("Not A Name").is_err());
        let url = "http://127.0.0.1:8700";
        for (reference, expected) in [
            ("127.0.0.1:8700/ab/web:1", Some("registry.runrig/ab/web:1")),
            ("127.0.0.1:87001/ab/web:1", None),
            ("127.0.0.1:8700", None),
            ("web", None),
        ] {
            let expected = expected.map(str::to_string);
            assert_eq!(by_name(url, reference), expected, "{reference}");
        }
    }
}
