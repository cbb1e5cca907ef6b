//! The portal's bars (axe, weight, Lighthouse), measured on a cloud of this build.
//!
//! `testing/portal-bars/bars.mjs`, run by Node, drives Chromium; npm brings axe-core and Lighthouse into
//! the target folder. None is part of the program; its browser test uses axe-core too.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command;

/// What npm brings.
const TOOLS: [&str; 2] = ["axe-core@4.14.1", "lighthouse@12.8.2"];

/// `what`: `lighthouse` (a quarter of an hour) or `live`; else axe, weight and outside requests.
///
/// Errors: a tool is missing, the cloud does not start, a bar is not met.
pub fn run(what: Option<&str>) -> Result<()> {
    let folder = command::root().join("target/portal-bars");
    bring(&folder, &TOOLS)?;
    let program = match std::env::var_os("RUNRIG") {
        Some(program) => Path::new(&program)
            .canonicalize()
            .with_context(|| format!("RUNRIG={}", program.display()))?,
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
            .args(what)
            .env("XDG_CONFIG_HOME", folder.join("config"))
            .current_dir(&folder),
    )
}

/// What the browser's test looks at a few pages with: brought once into the target folder.
///
/// Errors: npm is missing, or does not bring it.
pub fn axe() -> Result<()> {
    let folder = command::root().join("target/axe");
    let script = folder.join("node_modules/axe-core/axe.min.js");
    match script.exists() {
        true => Ok(()),
        false => bring(&folder, &TOOLS[..1]),
    }
}

fn bring(folder: &Path, tools: &[&str]) -> Result<()> {
    std::fs::create_dir_all(folder)?;
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
        .args(tools)
        .current_dir(folder)
        .status();
    if !install
        .context("run npm: install Debian's nodejs and npm")?
        .success()
    {
        bail!("npm does not bring {}", tools.join(" and "));
    }
    Ok(())
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
    for name in ["/bin/sh", "/bin/sleep", "/bin/mkdir", "/bin/httpd"] {
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
            .args(["dev", "--json", "--listen", "127.0.0.1:0", "--data"])
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
