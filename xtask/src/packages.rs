//! System packages that tests run: installed where missing, and said so.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{command, wasm};

struct Package {
    name: &'static str,
    /// A file that is there when it is installed; looked for along PATH, if it is a name. `*` is any
    /// one folder.
    program: &'static str,
    /// Which tests need it.
    purpose: &'static str,
}

const PACKAGES: &[Package] = &[
    Package {
        name: "nftables",
        program: "nft",
        purpose: "keep networks apart",
    },
    Package {
        name: "iproute2",
        program: "ip",
        purpose: "machines that are network namespaces",
    },
    Package {
        name: "runc",
        program: "runc",
        purpose: "an engine under the conformance suite",
    },
    Package {
        name: "crun",
        program: "crun",
        purpose: "an engine under the conformance suite",
    },
    Package {
        name: "busybox-static",
        program: "busybox",
        purpose: "a container's programs",
    },
    Package {
        name: "skopeo",
        program: "skopeo",
        purpose: "copy images between formats",
    },
    Package {
        name: "docker-registry",
        program: "docker-registry",
        purpose: "pull from a private registry",
    },
    Package {
        name: "umoci",
        program: "umoci",
        purpose: "make images",
    },
    Package {
        name: "mmdebstrap",
        program: "mmdebstrap",
        purpose: "make images of Debian packages",
    },
    Package {
        name: "buildah",
        program: "buildah",
        purpose: "build images",
    },
    Package {
        name: "clang",
        program: "clang",
        purpose: "check proofs in a browser",
    },
    Package {
        name: "chromium",
        program: "chromium",
        purpose: "go through the pages as people do",
    },
    Package {
        name: "npm",
        program: "npm",
        purpose: "look for what shuts people out of pages, with axe-core",
    },
    Package {
        name: "docker-compose",
        program: "docker-compose",
        purpose: "compare how compose files are read",
    },
    Package {
        name: "postgresql",
        program: "/usr/lib/postgresql/*/bin/initdb",
        purpose: "keep an index on a server",
    },
    Package {
        name: "curl",
        program: "curl",
        purpose: "ask the gateway as people do",
    },
    Package {
        name: "python3-grpcio",
        program: "/usr/lib/python3/dist-packages/grpc/__init__.py",
        purpose: "ask and serve by gRPC's own library",
    },
    Package {
        name: "python3-websockets",
        program: "/usr/lib/python3/dist-packages/websockets/__init__.py",
        purpose: "ask and serve by a WebSocket library",
    },
];

/// Makes sure that all of [`PACKAGES`] are there, and tries to have rustc's target for browsers.
///
/// Errors: names what is missing when this user or system cannot install it.
pub fn install() -> Result<()> {
    packages()?;
    wasm::add_target();
    Ok(())
}

fn packages() -> Result<()> {
    let missing: Vec<&Package> = PACKAGES.iter().filter(|p| !found(p.program)).collect();
    // The tests make namespaces, mounts and cgroups of their own.
    let root = unsafe { libc::geteuid() } == 0;
    let names: Vec<&str> = missing.iter().map(|p| p.name).collect();
    let install = format!("apt-get install {}", names.join(" "));
    if !root {
        let also = match names.is_empty() {
            true => String::new(),
            false => format!("; missing as well: {install}"),
        };
        bail!("the tests run real containers and need root: run this as root (sudo -E){also}");
    }
    if missing.is_empty() {
        return Ok(());
    }
    for package in &missing {
        eprintln!(
            "missing: {} (for tests that {})",
            package.name, package.purpose
        );
    }
    if !Path::new("/etc/debian_version").exists() || !found("apt-get") {
        let programs: Vec<&str> = missing.iter().map(|p| p.program).collect();
        bail!(
            "this is neither Debian nor Ubuntu: install {} by hand, then run this again",
            programs.join(", ")
        );
    }
    eprintln!("installing: {}", names.join(" "));
    let _quiet = NoServices::new()?;
    apt(&["update", "-q"])?;
    let arguments = ["install", "-q", "-y", "--no-install-recommends"];
    apt(&[arguments.as_slice(), &names].concat())?;
    match missing.iter().find(|p| !found(p.program)) {
        Some(package) => bail!(
            "{} is installed, but there is no {} on PATH",
            package.name,
            package.program
        ),
        None => Ok(()),
    }
}

fn apt(arguments: &[&str]) -> Result<()> {
    command::run(
        Command::new("apt-get")
            .args(arguments)
            .env("DEBIAN_FRONTEND", "noninteractive")
            // apt's talk is not the result.
            .stdout(std::io::stderr()),
    )
}

fn found(program: &str) -> bool {
    if let Some((above, below)) = program.split_once("/*/") {
        let folders = std::fs::read_dir(above).into_iter().flatten().flatten();
        return folders.map(|f| f.path().join(below)).any(|f| f.is_file());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|folder| folder.join(program).is_file())
}

/// While it lives, packages start no services; a machine's own policy stays.
struct NoServices {
    ours: bool,
}

impl NoServices {
    const POLICY: &str = "/usr/sbin/policy-rc.d";

    fn new() -> Result<Self> {
        let ours = !Path::new(Self::POLICY).exists();
        if ours {
            // 101: action forbidden by policy.
            std::fs::write(Self::POLICY, "#!/bin/sh\nexit 101\n")
                .and_then(|()| {
                    std::fs::set_permissions(Self::POLICY, std::fs::Permissions::from_mode(0o755))
                })
                .with_context(|| format!("write {}", Self::POLICY))?;
        }
        Ok(Self { ours })
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // If it is gone already, that is what is wanted.
            let _ = std::fs::remove_file(Self::POLICY);
        }
    }
}
