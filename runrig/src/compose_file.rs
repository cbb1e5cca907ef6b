//! The compose file that is meant: found, read with its `.env` and env files, told what is
//! wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use manifest::Kind;

use crate::failure::{Failure, Result};
use crate::output;

/// In the order that Compose looks for them.
const FILES: [&str; 4] = [
    "compose.yaml",
    "compose.yml",
    "docker-compose.yaml",
    "docker-compose.yml",
];
/// Laid over the one that was found, without being named.
const OVERRIDES: [&str; 4] = [
    "compose.override.yaml",
    "compose.override.yml",
    "docker-compose.override.yaml",
    "docker-compose.override.yml",
];
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Which files make the project, and what it is called.
#[derive(Args, Clone, Debug, Default)]
pub struct ComposeFiles {
    /// Compose file, each laid over those before; compose.yaml here or above if not said, - is
    /// stdin
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Project name; that of the file or its folder if not said
    #[arg(short, long, value_name = "NAME")]
    pub project: Option<String>,
    /// Services of this profile too, * for all; may be given again
    #[arg(long = "profile", value_name = "NAME")]
    pub profiles: Vec<String>,
    /// Variables are read from this file instead of .env; may be given again, the last counts
    /// most
    #[arg(long = "env-file", value_name = "FILE")]
    pub env_files: Vec<PathBuf>,
}

/// Files as they were named, or those of `COMPOSE_FILE`, or those that are found.
fn files(named: &[PathBuf], variables: &Variables) -> Result<Vec<PathBuf>> {
    if !named.is_empty() {
        return Ok(named.to_vec());
    }
    let Some(paths) = variables.said("COMPOSE_FILE") else {
        return find_files();
    };
    let separator = variables.said("COMPOSE_PATH_SEPARATOR");
    let paths = paths.split(separator.as_deref().unwrap_or(":"));
    Ok(paths.filter(|p| !p.is_empty()).map(PathBuf::from).collect())
}

/// What the files of a project name further, on disk.
struct Folder<'a>(&'a Path);

impl manifest::Folder for Folder<'_> {
    fn text(&self, path: &str) -> std::result::Result<Option<String>, String> {
        match read_text(&self.0.join(path)) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn kind(&self, path: &str) -> Kind {
        let path = self.0.join(path);
        let Ok(meta) = std::fs::metadata(&path) else {
            return match path.symlink_metadata() {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Kind::Missing,
                _ => Kind::Other,
            };
        };
        match std::fs::read_dir(&path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => Kind::Empty,
            Ok(false) => Kind::Folder,
            Err(_) if meta.is_file() => Kind::File,
            Err(_) => Kind::Other,
        }
    }
}

/// No files beside what was made here.
struct Nowhere;

impl manifest::Folder for Nowhere {
    fn kind(&self, _: &str) -> manifest::Kind {
        manifest::Kind::Missing
    }

    fn text(&self, _: &str) -> std::result::Result<Option<String>, String> {
        Ok(None)
    }
}

/// A compose file that this program wrote itself.
pub fn read_made(text: &str) -> Result<manifest::Project> {
    let name = "the command line";
    let read = manifest::read(manifest::Inputs {
        files: vec![manifest::Source { name, text }],
        environment: BTreeMap::new(),
        project: None,
        profiles: Default::default(),
        directory: "",
        folder: &Nowhere,
    });
    read.map_err(|problems| wrong_file(Path::new(name), &problems.0))
}

/// The compose file that is meant when none is named, here or in a folder above, and what lies
/// beside it to be laid over it.
fn find_files() -> Result<Vec<PathBuf>> {
    let here = std::env::current_dir().map_err(anyhow::Error::from)?;
    let found = (here.ancestors())
        .flat_map(|folder| FILES.map(|name| folder.join(name)))
        .find(|path| path.is_file());
    let Some(found) = found else {
        return Err(Failure::usage(
            "no compose file",
            format!("none of {} is here or above", FILES.join(", ")),
            "Name one with -f.",
        ));
    };
    let over = OVERRIDES.map(|name| found.with_file_name(name));
    let over = over.into_iter().find(|path| path.is_file());
    Ok(std::iter::once(found).chain(over).collect())
}

fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let read = if path == Path::new("-") {
        std::io::stdin()
            .take(FILE_BYTES_MAX + 1)
            .read_to_string(&mut text)?
    } else {
        let file = std::fs::File::open(path)?;
        file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?
    };
    if read as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 4 MiB"));
    }
    Ok(text)
}

/// The process's environment, over that of files.
#[derive(Default)]
struct Variables(BTreeMap<String, String>);

impl Variables {
    fn of_process() -> Self {
        let all = std::env::vars_os();
        Self(
            all.filter_map(|(name, value)| {
                Some((name.into_string().ok()?, value.into_string().ok()?))
            })
            .collect(),
        )
    }

    fn said(&self, name: &str) -> Option<String> {
        self.0.get(name).filter(|v| !v.is_empty()).cloned()
    }

    /// With what `path` says and is not said yet.
    fn with(&mut self, path: &Path) -> Result {
        let text = read_text(path).map_err(|e| {
            let next = "Name another file with --env-file, or make this one.";
            Failure::usage(
                format!("{} cannot be read", path.display()),
                e.to_string(),
                next,
            )
        })?;
        let outside = |name: &str| self.0.get(name).cloned();
        let file = manifest::parse_env_file_with(&path.to_string_lossy(), &text, &outside)
            .map_err(|problem| wrong_file(path, &[*problem]))?;
        for (name, value) in file {
            self.0.entry(name).or_insert(value);
        }
        Ok(())
    }

    /// With `.env` of `folder`, if there is one.
    fn with_dot_env(&mut self, folder: &Path) -> Result {
        let path = folder.join(".env");
        match path.exists() {
            true => self.with(&path),
            false => Ok(()),
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(
        format!("{} cannot be read", path.display()),
        error.to_string(),
        "Name another file with -f.",
    )
}

/// Wrong usage, with every problem and its line.
pub fn wrong_file(path: &Path, problems: &[manifest::Problem]) -> Failure {
    let details: Vec<String> = problems
        .iter()
        .map(|problem| output::printable(&problem.to_string()))
        .collect();
    let count = match details.len() {
        1 => "1 problem".to_string(),
        n => format!("{n} problems"),
    };
    Failure::usage(
        format!("{}: {count}", path.display()),
        "nothing was changed",
        "Correct the lines above and run `runrig up` again.",
    )
    .detailed(details)
}

/// The project, its warnings told.
pub fn read_project(args: &ComposeFiles) -> Result<manifest::Project> {
    with_inputs(args, |path, inputs| told(path, manifest::read(inputs)))
}

/// The files as one, and whether they are a project of which nothing is refused.
pub fn read_normal(args: &ComposeFiles) -> Result<(manifest::Normal, Result)> {
    with_inputs(args, |path, inputs| {
        let normal = manifest::normal(&inputs);
        let normal = normal.map_err(|problems| wrong_file(path, &problems.0))?;
        Ok((normal, told(path, manifest::read(inputs)).map(drop)))
    })
}

fn told(
    path: &Path,
    read: std::result::Result<manifest::Project, manifest::Problems>,
) -> Result<manifest::Project> {
    let project = read.map_err(|problems| wrong_file(path, &problems.0))?;
    for warning in &project.warnings {
        output::say(format!(
            "warning: {}",
            output::printable(&warning.to_string())
        ));
    }
    Ok(project)
}

fn with_inputs<T>(
    args: &ComposeFiles,
    work: impl FnOnce(&Path, manifest::Inputs<'_>) -> Result<T>,
) -> Result<T> {
    let mut variables = Variables::of_process();
    let mut env_files = args.env_files.clone();
    if env_files.is_empty() {
        let named = variables.said("COMPOSE_ENV_FILES").unwrap_or_default();
        let named = named.split(',').map(str::trim).filter(|p| !p.is_empty());
        env_files.extend(named.map(PathBuf::from));
    }
    for path in env_files.iter().rev() {
        variables.with(path)?;
    }
    if env_files.is_empty() && args.files.is_empty() && variables.said("COMPOSE_FILE").is_none() {
        // It may say where the files are.
        let mut here = Variables::of_process();
        here.with_dot_env(Path::new("."))?;
        for name in ["COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR"] {
            let said = here.said(name).map(|value| (name.to_string(), value));
            variables.0.extend(said);
        }
    }
    let paths = files(&args.files, &variables)?;
    let Some(path) = paths.first() else {
        let why = "COMPOSE_FILE names none";
        return Err(Failure::usage(
            "no compose file",
            why,
            "Correct it, or name one with -f.",
        ));
    };
    let mut texts = Vec::new();
    for path in &paths {
        texts.push((
            path.to_string_lossy(),
            read_text(path).map_err(|e| unreadable(path, &e))?,
        ));
    }
    let folder = match path.parent() {
        Some(parent) if path != Path::new("-") && parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let folder = folder.canonicalize().map_err(|e| unreadable(&folder, &e))?;
    if env_files.is_empty() {
        variables.with_dot_env(&folder)?;
    }
    let project = args
        .project
        .clone()
        .or_else(|| variables.said("COMPOSE_PROJECT_NAME"));
    let asked = variables.said("COMPOSE_PROFILES").unwrap_or_default();
    let profiles = asked.split(',').map(str::trim).filter(|p| !p.is_empty());
    let profiles = profiles.map(String::from).chain(args.profiles.clone());
    let inputs = manifest::Inputs {
        files: texts
            .iter()
            .map(|(name, text)| manifest::Source { name, text })
            .collect(),
        project: project.filter(|p| !p.is_empty()),
        profiles: profiles.collect(),
        directory: &folder.to_string_lossy(),
        folder: &Folder(&folder),
        environment: variables.0,
    };
    work(path, inputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_read_with_its_env_files() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("compose.yaml");
        let text = "services:\n  web:\n    image: nginx:${TAG}\n    env_file: web.env\n";
        std::fs::write(&path, text).expect("written");
        std::fs::write(folder.path().join(".env"), "TAG=1.27\n").expect("written");
        std::fs::write(folder.path().join("web.env"), "A=b\n").expect("written");
        let named = |path: &Path| ComposeFiles {
            files: vec![path.to_path_buf()],
            project: Some("shop".into()),
            ..ComposeFiles::default()
        };
        let project = read_project(&named(&path)).expect("read");
        assert_eq!(project.name, "shop");
        assert_eq!(project.services["web"].spec.image.reference, "nginx:1.27");
        assert_eq!(project.services["web"].spec.environment["A"], "b");
        let over = folder.path().join("over.yaml");
        let text = "services:\n  web: { tty: true }\n  tool: { image: t, profiles: [debug] }\n";
        std::fs::write(&over, text).expect("written");
        let mut two = named(&path);
        two.files.push(over);
        let project = read_project(&two).expect("read");
        assert!(project.services["web"].spec.tty && project.services.len() == 1);
        two.profiles.push("debug".into());
        assert_eq!(read_project(&two).expect("read").services.len(), 2);
        std::fs::write(&path, "services:\n  web:\n    imagee: x\n").expect("written");
        let exit = |path: &Path| read_project(&named(path)).map(|_| ()).map_err(|f| f.exit);
        assert_eq!(exit(&path), Err(2));
        assert_eq!(exit(&folder.path().join("none.yaml")), Err(2));
    }
}
