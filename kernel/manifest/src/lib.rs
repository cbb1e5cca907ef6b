//! Read a compose file into a deployment; say what is not supported.
//!
//! Pure: the caller gives the texts and the environment. Nothing is ignored in silence: a key
//! is obeyed, or it is a warning, or it is a [`Problem`] with its line. Everything wrong with a
//! file is said at once. Whatever text comes in, reading it ends soon and never panics: bytes,
//! depth, nodes behind aliases and interpolated text are bounded.
//!
//! Start at [`read`], then [`Project::pin`] once the images' digests are known; [`to_compose`]
//! goes the other way, [`normal`] only makes one file of all. What is supported, key by key: `docs/compose.md`.

mod build;
mod check;
mod deploy;
mod dotenv;
mod environment;
mod export;
mod field;
mod files;
mod fixed;
mod health;
mod hooks;
mod load;
mod logs;
mod merge;
mod mount;
mod near;
mod normal;
mod peers;
mod plain;
mod port;
mod problem;
mod process;
mod project;
mod reader;
mod refused;
mod secrets;
mod sections;
mod service;
mod sizing;
mod template;
mod top;
mod tree;
mod value;
mod yaml;

#[cfg(test)]
mod collection_tests;
#[cfg(test)]
mod files_tests;
#[cfg(test)]
mod table_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use build::{BuildContext, BuildDraft, Recipe};
pub use dotenv::{parse_env_file, parse_env_file_with};
pub use export::{pinned, to_compose};
pub use normal::{Normal, normal};
pub use plain::Plain;
pub use port::PortChoice;
pub use problem::{Problem, Problems};
pub use project::{
    CONTENT, Content, FileMount, FileOwner, FileSource, Project, PullPolicy, Sealed, SecretDraft,
    SecretSource, ServiceDraft, Veiled,
};
pub use sizing::{cpu_target, request_target};
pub use top::read;

/// A file's name, for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// What is asked of the project's folder. Paths are relative to it, or absolute.
pub trait Folder {
    /// The text of a file; `None` if there is none. Errors: why it cannot be read.
    fn text(&self, path: &str) -> Result<Option<String>, String>;
    /// What is there; symbolic links are followed.
    fn kind(&self, path: &str) -> Kind;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Missing,
    File,
    /// With something in it.
    Folder,
    /// A folder with nothing in it.
    Empty,
    /// Or it cannot be looked at.
    Other,
}

/// All that a project depends on.
pub struct Inputs<'a> {
    /// In the order of `-f`: each is laid over those before it. At least one.
    pub files: Vec<Source<'a>>,
    /// What `$NAME` stands for: the process's environment over that of `.env`
    /// (see [`parse_env_file_with`]).
    pub environment: BTreeMap<String, String>,
    /// Asked for by name (`-p`, `COMPOSE_PROJECT_NAME`): goes before the file's own `name`.
    pub project: Option<String>,
    /// Services of these profiles take part, beside those without any; `*` is all of them.
    pub profiles: BTreeSet<String>,
    /// Path of the project's folder, that of the first file: its last part, made fit, is the
    /// project's name when nothing else names it.
    pub directory: &'a str,
    pub folder: &'a dyn Folder,
}
