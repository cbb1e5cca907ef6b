//! Read a compose file into a deployment; say what is not supported.
//!
//! Pure: the caller gives the texts and the environment. Nothing is ignored in silence: a key
//! is obeyed, or it is a warning, or it is a [`Problem`] with its line. Everything wrong with a
//! file is said at once. Whatever text comes in, reading it ends soon and never panics: bytes,
//! depth, nodes behind aliases and interpolated text are bounded.
//!
//! Start at [`read`], then [`Project::pin`] once the images' digests are known; [`to_compose`]
//! goes the other way. What is supported, key by key: `docs/compose.md`.

mod dotenv;
mod export;
mod field;
mod mount;
mod port;
mod problem;
mod project;
mod reader;
mod refused;
mod service;
mod sizing;
mod template;
mod top;
mod value;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

pub use dotenv::{parse_env_file, parse_env_file_with};
pub use export::to_compose;
pub use problem::{Problem, Problems};
pub use project::{Project, ServiceDraft};
pub use top::read;

/// A file's name, for messages, and its text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    pub name: &'a str,
    pub text: &'a str,
}

/// All that a project depends on.
pub struct Inputs<'a> {
    pub compose: Source<'a>,
    /// What `$NAME` stands for: the process's environment over that of `.env`
    /// (see [`parse_env_file_with`]).
    pub environment: BTreeMap<String, String>,
    /// Asked for by name (`-p`, `COMPOSE_PROJECT_NAME`): goes before the file's own `name`.
    pub project: Option<String>,
    /// Name of the folder that the file lies in: taken, made fit, when nothing else names the
    /// project.
    pub directory: &'a str,
    /// Reads a path of `env_file`, relative to the project's folder; `None` if there is no such
    /// file.
    pub env_files: &'a dyn Fn(&str) -> Result<Option<String>, String>,
}
