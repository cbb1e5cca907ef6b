//! `secret`: values kept outside of projects, for compose files that say `external: true`.
//!
//! The index is the list of tags of one repository of the account, each `NAME.VERSION.MARK` and
//! of the image with the sealed bytes. So there is nothing else to keep, nothing in the clear,
//! and a release that names an older version goes on with it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use images::NETWORK_REGISTRY;
use manifest::{CONTENT, Sealed};
use secrets::{VALUE_BYTES_MAX, Zeroizing};
use serde::Serialize;
use types::Digest;

use super::{read, sealed};
use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::{content, image, output};

/// The account's repository of them.
const REPOSITORY: &str = "external-secrets";
/// Stands for the project when such a value is sealed; no project is called so.
const NO_PROJECT: &str = "";
const NAME_MAX: usize = 40;

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  runrig secret create api_key key.txt\n  printf %s \"$TOKEN\" | runrig secret create npm -\n  runrig secret ls\n  runrig secret rm npm"
)]
pub enum Secret {
    /// Seal a value to the network and keep it; under a name that is there, as its next version
    Create {
        name: String,
        /// Has the value; - is stdin
        #[arg(default_value = "-")]
        file: PathBuf,
    },
    /// The secrets that are kept outside of projects
    #[command(alias = "list")]
    Ls,
    /// What is known of some, as JSON; never a value
    Inspect {
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Forget some, with all versions; what runs goes on with what it has
    #[command(alias = "remove")]
    Rm {
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Version {
    version: u32,
    mark: Digest,
    #[serde(skip)]
    tag: String,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    /// The newest one's.
    version: u32,
    mark: Digest,
    versions: &'a [Version],
}

/// By name, and by version; each has at least one.
type Index = BTreeMap<String, Vec<Version>>;

/// `api_key.3.0f1e…`.
fn parse(tag: &str) -> Option<(String, Version)> {
    let (rest, mark) = tag.rsplit_once('.')?;
    let (name, version) = rest.rsplit_once('.')?;
    let version = Version {
        version: version.parse().ok()?,
        mark: mark.parse().ok()?,
        tag: tag.to_string(),
    };
    Some((name.to_string(), version))
}

async fn index(session: &Session) -> Result<Index> {
    let mut index = Index::new();
    for tag in image::tags(session, REPOSITORY).await? {
        if let Some((name, version)) = parse(&tag) {
            index.entry(name).or_default().push(version);
        }
    }
    for versions in index.values_mut() {
        versions.sort_by_key(|v| (v.version, v.mark));
    }
    Ok(index)
}

fn none(name: &str) -> Failure {
    Failure::new(
        failure::NOT_FOUND,
        format!("secret {}", output::printable(name)),
        "none is kept under that name",
        "See `runrig secret ls`; keep one with `runrig secret create NAME FILE`.",
    )
}

/// The newest version of one that is kept.
pub async fn newest(session: &Session, name: &str) -> Result<Sealed> {
    let index = index(session).await?;
    let version = index.get(name).and_then(|versions| versions.last());
    let version = version.ok_or_else(|| none(name))?;
    let account = session.account()?;
    let reference = format!("{NETWORK_REGISTRY}/{account}/{REPOSITORY}:{}", version.tag);
    Ok(Sealed {
        image: image::own(session, &reference)
            .await?
            .ok_or_else(|| none(name))?,
        mark: version.mark,
    })
}

pub async fn run(session: &Session, command: &Secret, json: bool) -> Result {
    match command {
        Secret::Create { name, file } => create(session, name, file, json).await,
        Secret::Ls => list(session, json).await,
        Secret::Inspect { names } => inspect(session, names).await,
        Secret::Rm { names } => remove(session, names).await,
    }
}

async fn create(session: &Session, name: &str, file: &Path, json: bool) -> Result {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if name.len() > NAME_MAX
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric())
        || !name.bytes().all(plain)
    {
        return Err(Failure::usage(
            format!("\"{}\" cannot name a secret", output::printable(name)),
            "a name has 1 to 40 letters, digits, '.', '_' and '-', and begins with a letter or digit",
            "Choose another.",
        ));
    }
    let value = match file == Path::new("-") {
        true => stdin(name)?,
        false => read(name, file)?,
    };
    if value.is_empty() {
        return Err(Failure::usage(
            format!("secret {name}"),
            "its value is empty",
            "Name a file that has one, or give it on stdin.",
        ));
    }
    let index = index(session).await?;
    let known = index.get(name).and_then(|versions| versions.last());
    let sealed = sealed(session, NO_PROJECT, name, &value).await?;
    let version = match known {
        Some(known) if known.mark == sealed.mark => known.version,
        known => {
            let version = known.map_or(1, |v| v.version.saturating_add(1));
            let tag = format!("{name}.{version}.{}", sealed.mark.hex());
            let packed = images::pack_text(&sealed.bytes, CONTENT, None)?;
            content::kept_as(session, REPOSITORY, &tag, packed, None).await?;
            version
        }
    };
    if json {
        output::json(&serde_json::json!({"name": name, "version": version, "mark": sealed.mark}));
        return Ok(());
    }
    if known.is_some_and(|k| k.version == version) {
        output::say(format!("{name} has that value already"));
    } else if version > 1 {
        output::say("services that use it have the new value with the next `runrig up`");
    }
    output::data(format!("{name}  {version}"));
    Ok(())
}

fn stdin(name: &str) -> Result<Zeroizing<Vec<u8>>> {
    let mut value = Zeroizing::new(Vec::new());
    let most = VALUE_BYTES_MAX as u64 + 1;
    let read = std::io::stdin().take(most).read_to_end(&mut value);
    read.map_err(|error| {
        Failure::usage(
            format!("secret {name}"),
            format!("stdin cannot be read: {error}"),
            "Name a file that has its value.",
        )
    })?;
    Ok(value)
}

fn listed<'a>(name: &'a str, versions: &'a [Version]) -> Option<Listed<'a>> {
    let newest = versions.last()?;
    Some(Listed {
        name,
        version: newest.version,
        mark: newest.mark,
        versions,
    })
}

async fn list(session: &Session, json: bool) -> Result {
    let index = index(session).await?;
    let all = index.iter().filter_map(|(name, all)| listed(name, all));
    if json {
        output::json(&all.collect::<Vec<_>>());
        return Ok(());
    }
    let row = |one: Listed<'_>| {
        let mark = one.mark.hex()[..12].to_string();
        vec![one.name.to_string(), one.version.to_string(), mark]
    };
    let rows: Vec<Vec<String>> = all.map(row).collect();
    output::data(output::table(&["NAME", "VERSION", "MARK"], &rows, &[1]));
    Ok(())
}

async fn inspect(session: &Session, names: &[String]) -> Result {
    let index = index(session).await?;
    let mut all = Vec::new();
    for name in names {
        let versions = index.get(name).map_or(&[][..], Vec::as_slice);
        all.push(listed(name, versions).ok_or_else(|| none(name))?);
    }
    output::json(&all);
    Ok(())
}

async fn remove(session: &Session, names: &[String]) -> Result {
    let index = index(session).await?;
    if let Some(unknown) = names.iter().find(|name| !index.contains_key(*name)) {
        return Err(none(unknown));
    }
    let (account, key) = (session.account()?, session.key()?);
    for name in names {
        for version in &index[name] {
            let path = format!("/v2/{account}/{REPOSITORY}/manifests/{}", version.tag);
            session.client.delete_signed(&path, &key).await?;
        }
        output::data(name);
    }
    let _ = std::io::stdout().flush();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_the_index() {
        let mark = Digest::of(b"a");
        for name in ["npm", "api.key", "7", "a-b_c"] {
            let tag = format!("{name}.12.{}", mark.hex());
            let version = Version {
                version: 12,
                mark,
                tag: tag.clone(),
            };
            assert_eq!(parse(&tag), Some((name.to_string(), version)));
        }
        for other in ["latest", "npm.1", "npm.x.00", "npm.1.00"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
