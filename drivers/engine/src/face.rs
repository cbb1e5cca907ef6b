//! The built-in engine behind the command line of an OCI runtime, for programs that check
//! runtimes: create, start, state, kill, delete of a bundle that somebody else has made.
//!
//! What Runrig adds to every container of its own (its seccomp filter, its cgroups, its log)
//! is not here: a bundle is taken at its word. What differs from `start` of the runtime module is
//! only that nobody waits between create and start.

use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use crate::payload;

const STATES: &str = "/run/runrig-oci";

/// Becomes the program that the bundle names.
#[derive(Clone)]
struct Plain;

impl Executor for Plain {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let process = spec.process().as_ref();
        let args = process.and_then(|p| p.args().clone()).unwrap_or_default();
        let env = process.and_then(|p| p.env().clone()).unwrap_or_default();
        let fault = payload::become_program(&args, &env);
        Err(ExecutorError::Other(fault.to_string()))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        match spec.process() {
            Some(process) if process.args().as_ref().is_none_or(Vec::is_empty) => Err(
                ExecutorValidationError::ArgValidationError("process has no args".into()),
            ),
            _ => Ok(()),
        }
    }
}

/// What was asked for on the command line.
#[derive(Default)]
struct Asked {
    states: Option<PathBuf>,
    bundle: Option<PathBuf>,
    pid_file: Option<PathBuf>,
    force: bool,
    words: Vec<String>,
}

impl Asked {
    fn read(args: &[String]) -> Result<Self, String> {
        let mut asked = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut path = || {
                let value = args.next().map(PathBuf::from);
                value.ok_or_else(|| format!("{arg} needs a value"))
            };
            match arg.as_str() {
                "--root" => asked.states = Some(path()?),
                "--bundle" | "-b" => asked.bundle = Some(path()?),
                "--pid-file" => asked.pid_file = Some(path()?),
                "--force" | "-f" => asked.force = true,
                other if other.starts_with('-') => return Err(format!("{other} is not known")),
                word => asked.words.push(word.into()),
            }
        }
        Ok(asked)
    }

    fn states(&self) -> PathBuf {
        self.states.clone().unwrap_or_else(|| STATES.into())
    }

    fn container(&self, id: &str) -> Result<Container, String> {
        let folder = self.states().join(id);
        if id.is_empty() || id.contains('/') || !folder.is_dir() {
            return Err(format!("container \"{id}\" does not exist"));
        }
        let mut container = Container::load(folder).map_err(|e| e.to_string())?;
        container.refresh_status().map_err(|e| e.to_string())?;
        Ok(container)
    }
}

fn create(asked: &Asked, id: &str) -> Result<(), String> {
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let states = asked.states();
    std::fs::create_dir_all(&states).map_err(|e| failed(&e))?;
    let here = || Path::new(".").to_path_buf();
    let bundle = asked.bundle.clone().unwrap_or_else(here);
    let built = ContainerBuilder::new(id.into(), SyscallType::default())
        .with_root_path(states)
        .and_then(|b| b.with_executor(Plain).with_pid_file(asked.pid_file.clone()))
        .and_then(ContainerBuilder::validate_id)
        .and_then(|b| {
            let init = b.as_init(bundle).with_systemd(false);
            init.with_detach(true).build()
        });
    built.map(drop).map_err(|e| crate::runtime::failed(&e))
}

fn act(args: &[String]) -> Result<(), String> {
    let asked = Asked::read(args)?;
    let words: Vec<&str> = asked.words.iter().map(String::as_str).collect();
    let failed = |e: libcontainer::error::LibcontainerError| crate::runtime::failed(&e);
    match words[..] {
        ["create", id] => create(&asked, id),
        ["start", id] => asked.container(id)?.start().map_err(failed),
        ["state", id] => {
            let state = asked.container(id)?.state;
            let text = serde_json::to_string(&state).map_err(|e| e.to_string())?;
            println!("{text}");
            Ok(())
        }
        ["kill", id] | ["kill", id, _] => {
            let signal = words.get(2).copied().unwrap_or("TERM");
            let signal = Signal::try_from(signal).map_err(|e| e.to_string())?;
            asked.container(id)?.kill(signal, false).map_err(failed)
        }
        ["delete", id] => asked.container(id)?.delete(asked.force).map_err(failed),
        _ => Err("say create, start, state, kill or delete, and a container".into()),
    }
}

/// Runs one command; its exit code.
pub fn run(args: &[String]) -> i32 {
    match act(args) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{why}");
            1
        }
    }
}
