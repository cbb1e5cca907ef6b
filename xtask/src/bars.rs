//! The portal's bars (axe, weight, Lighthouse), measured on a cloud of this build.
//!
//! Node is needed here only: `testing/portal-bars/bars.mjs` drives Chromium, and npm brings axe-core and
//! Lighthouse into the target folder. Neither is part of the program or of its tests.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command;

/// What npm brings.
const TOOLS: [&str; 2] = ["axe-core@4.14.1", "lighthouse@12.8.2"];
const LISTEN: &str = "127.0.0.1:18740";

/// With `lighthouse`, it as well: a quarter of an hour.
///
/// Errors: a tool is missing, the cloud does not start, a bar is not met.
pub fn run(lighthouse: bool) -> Result<()> {
    let folder = command::root().join("target/portal-bars");
    std::fs::create_dir_all(&folder)?;
    let npm = [
        "install",
        "--no-audit",
        "--no-fund",
        "--silent",
        "--prefix",
        ".",
    ];
    let install = Command::new("npm")
        .args(npm)
        .args(TOOLS)
        .current_dir(&folder)
        .status();
    if !install
        .context("run npm: install Debian's nodejs and npm")?
        .success()
    {
        bail!("npm does not bring {}", TOOLS.join(" and "));
    }
    let program = match std::env::var_os("RUNRIG") {
        Some(program) => program.into(),
        None => {
            command::cargo(&["build", "--bin", "runrig"])?;
            command::root().join("target/debug/runrig")
        }
    };
    let image = image(&folder)?;
    let cloud = Cloud::start(&program, &folder)?;
    command::run(
        Command::new("node")
            .arg(command::root().join("testing/portal-bars/bars.mjs"))
            .arg(&cloud.portal)
            .args([&image, &program])
            .args(lighthouse.then_some("lighthouse"))
            .env("XDG_CONFIG_HOME", folder.join("config"))
            .current_dir(&folder),
    )
}

/// An OCI layout with a shell and `sleep`.
fn image(folder: &Path) -> Result<std::path::PathBuf> {
    let layout = folder.join("image");
    let _ = std::fs::remove_dir_all(&layout);
    let umoci = |words: &[&str]| {
        command::run(
            Command::new("umoci")
                .args(words)
                .current_dir(folder)
                .stderr(Stdio::null()),
        )
    };
    umoci(&["init", "--layout", "image"])?;
    umoci(&["new", "--image", "image:latest"])?;
    for name in ["/bin/sh", "/bin/sleep"] {
        umoci(&["insert", "--image", "image:latest", "/bin/busybox", name])?;
    }
    Ok(layout)
}

/// Ended when it is dropped.
struct Cloud {
    dev: Child,
    portal: String,
}

impl Cloud {
    fn start(program: &Path, folder: &Path) -> Result<Self> {
        let data = folder.join("cloud");
        let _ = std::fs::remove_dir_all(&data);
        let mut dev = Command::new(program)
            .args(["dev", "--json", "--listen", LISTEN, "--data"])
            .arg(&data)
            .env("XDG_CONFIG_HOME", folder.join("config"))
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("run {}", program.display()))?;
        let output = dev.stdout.take().context("its output")?;
        let mut cloud = Self {
            dev,
            portal: String::new(),
        };
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let ready: serde_json::Value =
            serde_json::from_str(&line).context("the cloud does not start")?;
        let portal = ready["portal"].as_str().context("it names no portal")?;
        cloud.portal = portal.to_string();
        Ok(cloud)
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        // It ends what it started when it is asked to.
        unsafe { libc::kill(self.dev.id().cast_signed(), libc::SIGTERM) };
        let _ = self.dev.wait();
    }
}
