//! The stage: files in memory, read.

mod export;
mod keys;
mod refusals;
mod secrets;
mod text;

use std::collections::{BTreeMap, BTreeSet};

use types::{DeploymentSpec, Digest, ImageRef, ServiceSpec};

use super::*;

const ENVIRONMENT: [(&str, &str); 4] = [
    ("SET", "value"),
    ("EMPTY", ""),
    ("OTHER", "other"),
    ("PORT", "8080"),
];

fn environment() -> BTreeMap<String, String> {
    ENVIRONMENT
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

/// A folder in memory.
pub(crate) struct Files<'a>(pub &'a [(&'a str, &'a str)]);

impl Folder for Files<'_> {
    fn text(&self, path: &str) -> Result<Option<String>, String> {
        if path == "locked.env" {
            return Err("permission denied".into());
        }
        let found = self.0.iter().find(|(name, _)| *name == path);
        Ok(found.map(|(_, text)| text.to_string()))
    }

    fn kind(&self, path: &str) -> Kind {
        let below = |name: &str| path.is_empty() || name.starts_with(&format!("{path}/"));
        match path {
            "empty" => Kind::Empty,
            "socket" => Kind::Other,
            _ if self.0.iter().any(|(name, _)| *name == path) => Kind::File,
            _ if self.0.iter().any(|(name, _)| below(name)) => Kind::Folder,
            _ => Kind::Missing,
        }
    }
}

const FOLDER: &[(&str, &str)] = &[
    ("web.env", "A=1\nB=\"two $SET\"\n"),
    ("more.env", "B=3\nC=$B\n"),
    ("raw.env", "A='as $it' # is\nSET\n"),
    ("bad.env", "A=1\nnot a line\n"),
    ("labels.env", "one=1\nboth=file\n"),
];

/// `files`, one over the other, in a folder that holds `folder`. Whatever they are, what is
/// printed of them comes to the same.
pub(crate) fn read_files(
    files: &[(&str, &str)],
    folder: &[(&str, &str)],
    profiles: &[&str],
) -> Result<Project, Problems> {
    let folder = Files(folder);
    let inputs = inputs(files, &folder, profiles);
    let printed = normal(&inputs).map(|normal| normal.whole.yaml());
    let project = read(inputs)?;
    let text = printed.unwrap_or_else(|e| panic!("it is read, but not printed: {e}"));
    let again = [("printed.yaml", text.as_str())];
    let again = read(super::tests::inputs(&again, &folder, profiles));
    let again = again.unwrap_or_else(|e| panic!("{text}\n{e}"));
    assert_eq!(project.name, again.name);
    assert_eq!(project.networks, again.networks, "{text}");
    assert_eq!(project.volumes, again.volumes, "{text}");
    assert_eq!(project.services.len(), again.services.len(), "{text}");
    for (name, service) in &project.services {
        let same = &again.services[name];
        assert_eq!(service.spec, same.spec, "{text}");
        assert_eq!(service.files, same.files, "{text}");
        assert_eq!(service.secrets, same.secrets, "{text}");
    }
    Ok(project)
}

fn inputs<'a>(files: &'a [(&str, &str)], folder: &'a Files<'_>, profiles: &[&str]) -> Inputs<'a> {
    Inputs {
        files: files
            .iter()
            .map(|(name, text)| Source { name, text })
            .collect(),
        environment: environment(),
        project: None,
        profiles: profiles.iter().map(|p| p.to_string()).collect(),
        directory: "/home/me/My Project",
        folder,
    }
}

fn try_read(text: &str) -> Result<Project, Problems> {
    read_files(&[("compose.yaml", text)], FOLDER, &[])
}

/// A file with one service `web` of these further lines (at its depth).
fn with(lines: &str) -> String {
    let lines: Vec<String> = lines.lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "services:\n  web:\n    image: nginx\n{}  db:\n    image: redis\nvolumes: {{ data: }}\nnetworks: {{ back: }}\n",
        lines.concat()
    )
}

fn service(lines: &str) -> ServiceSpec {
    let text = with(lines);
    let mut project = try_read(&text).unwrap_or_else(|e| panic!("{text}\n{e}"));
    project.services.remove("web").unwrap().spec
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|w| w.to_string()).collect()
}

/// With digests, files and secrets made up.
fn pinned(project: Project) -> DeploymentSpec {
    let files = project.files().into_iter().map(|source| {
        let digest = Digest::of(format!("{source:?}").as_bytes());
        let reference = "registry.runrig/me/files:x".to_string();
        (source, ImageRef { reference, digest })
    });
    let files = files.collect();
    let images = project
        .images()
        .into_iter()
        .map(|written| {
            let (reference, digest) = match written.split_once('@') {
                Some((reference, digest)) => (reference.to_string(), digest.parse().unwrap()),
                None => (written.clone(), Digest::of(written.as_bytes())),
            };
            (written, ImageRef { reference, digest })
        })
        .collect();
    let sealed = project.secrets().into_iter().map(|(name, source)| {
        let sealed = match source {
            SecretSource::Sealed(known) => known,
            _ => Sealed {
                image: ImageRef {
                    reference: "registry.runrig/me/secrets:x".into(),
                    digest: Digest::of(name.as_bytes()),
                },
                mark: Digest::of(b"mark"),
            },
        };
        (name, sealed)
    });
    let sealed = sealed.collect();
    project.pin(&images, &files, &sealed).unwrap()
}
