//! The builder's container: what it runs, sees and may.

use std::path::Path;

use anyhow::{Context, Result};
use engine::{ContainerSpec, Mount, MountFrom, UserSpec};
use types::{BUILD_SECRETS, BuildSpec, CONTEXT, CONTEXTS, RECIPE, ServiceSpec};

use super::{Ready, root};

/// Where the result is put, and in which folder there.
const OUT: &str = "/out";
pub const IMAGE: &str = "image";
/// The builder's own state of one run.
const RUN_BYTES: u64 = 64 << 20;
/// What the builder keeps of a step while it runs, copies of the secrets that it may see among
/// it: in memory, unlike the layers beside it.
const STEPS: &str = "/var/lib/containers/storage/overlay-containers";

/// Where the result lies outside.
pub fn out(upper: &Path) -> std::path::PathBuf {
    upper.join("out")
}

/// Makes a container of the service's mounts into one that builds.
pub fn wrap(
    mut spec: ContainerSpec,
    service: &ServiceSpec,
    ready: &Ready,
) -> Result<ContainerSpec> {
    let build = service.build.as_ref().context("the service builds")?;
    let result = out(&spec.upper);
    super::remove(&result)?;
    root::own_folder(&result, spec.uid_base)?;
    let memory = |target: &str| Mount {
        target: target.into(),
        source: MountFrom::Tmpfs(types::TmpfsSpec::of(RUN_BYTES)),
        read_only: false,
    };
    let mut mounts = vec![
        memory("/run"),
        memory(STEPS),
        folder("/var/lib/containers", &ready.cache, false),
        folder(OUT, &result, false),
    ];
    mounts.extend(
        ready
            .bases
            .iter()
            .map(|b| folder(&b.target, &b.folder, true)),
    );
    for mount in &mut spec.mounts {
        mount.read_only = true;
    }
    // `/run` before what lies in it.
    mounts.append(&mut spec.mounts);
    mounts.sort_by_key(|m| m.target.split('/').filter(|p| !p.is_empty()).count());
    mounts.dedup_by(|a, b| a.target == b.target);
    let env = [
        "PATH=/usr/bin",
        "HOME=/root",
        "TMPDIR=/var/tmp",
        "STORAGE_DRIVER=overlay",
        "BUILDAH_ISOLATION=chroot",
    ];
    spec.args = args(build, service, ready);
    spec.env = env.map(str::to_string).to_vec();
    spec.cwd = "/".into();
    spec.user = UserSpec::default();
    spec.terminal = false;
    spec.stdin_open = false;
    spec.init = true;
    spec.read_only = false;
    spec.lower = vec![ready.root.clone()];
    spec.mounts = mounts;
    // Of the steps; the rest of it is not for a builder.
    spec.process = types::ProcessSpec {
        ulimits: service.process.ulimits.clone(),
        shm_bytes: service.process.shm_bytes,
        ..types::ProcessSpec::default()
    };
    spec.nests = true;
    Ok(spec)
}

fn folder(target: &str, path: &Path, read_only: bool) -> Mount {
    Mount {
        target: target.into(),
        source: MountFrom::Directory(path.into()),
        read_only,
    }
}

/// Everything of the user's is one argument with its option: none can pass for another.
fn args(build: &BuildSpec, service: &ServiceSpec, ready: &Ready) -> Vec<String> {
    let mut args: Vec<String> = [
        root::PROGRAM,
        "build",
        "--isolation=chroot",
        // So that health checks stay in the image.
        "--format=docker",
        "--layers",
        "--identity-label=false",
    ]
    .map(str::to_string)
    .to_vec();
    args.push(format!("--file={RECIPE}"));
    args.push(format!("--tag=dir:{OUT}/{IMAGE}"));
    if build.no_cache {
        args.push("--no-cache".into());
    }
    if let Some(target) = &build.target {
        args.push(format!("--target={target}"));
    }
    for (name, value) in &build.args {
        args.push(format!("--build-arg={name}={value}"));
    }
    for (name, value) in &build.labels {
        args.push(format!("--label={name}={value}"));
    }
    for name in &build.secrets {
        args.push(format!("--secret=id={name},src={BUILD_SECRETS}/{name}"));
    }
    for base in &ready.bases {
        let (word, target) = (&base.word, &base.target);
        args.push(format!(
            "--build-context={word}=container-image://dir:{target}"
        ));
    }
    for name in &build.contexts {
        args.push(format!("--build-context={name}={CONTEXTS}/{name}"));
    }
    let process = &service.process;
    if process.shm_bytes > 0 {
        args.push(format!("--shm-size={}b", process.shm_bytes));
    }
    for (name, limit) in &process.ulimits {
        let number = |n: Option<u64>| n.map_or("-1".to_string(), |n| n.to_string());
        let (soft, hard) = (number(limit.soft), number(limit.hard));
        args.push(format!("--ulimit={name}={soft}:{hard}"));
    }
    for (name, addresses) in &service.names.extra_hosts {
        for address in addresses {
            args.push(format!("--add-host={name}:{address}"));
        }
    }
    args.push(CONTEXT.into());
    args
}
