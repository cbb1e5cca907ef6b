//! The engine's suite under cgroup v2, in a virtual machine: on most machines that build
//! this the controllers are mounted as v1, and only a kernel of its own can have both.
//!
//! Debian's cloud kernel, software emulation, a root file system in memory with the tests,
//! the shim, runc and crun. Takes some eight minutes; nothing of the machine is changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::command;

/// For all tests inside, in seconds: emulation is some ten times slower.
const LIMIT_S: &str = "900";
const DONE: &str = "every test program has run";

const INIT: &str = r#"#!/bin/sh
export PATH=/bin:/usr/bin:/usr/sbin
if [ ! -e /moved ]; then
  # The first root cannot be pivoted away from.
  mount -t proc proc /proc
  insmod /overlay.ko
  mount -t tmpfs -o mode=755 tmpfs /new
  for d in bin etc lib lib64 usr work tests init; do [ -e /$d ] && cp -a /$d /new/; done
  cd /new && mkdir -p proc sys dev tmp run mnt && touch moved
  exec switch_root /new /init
fi
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /tmp
mount -t cgroup2 none /sys/fs/cgroup
ip link set lo up
for t in /tests/*; do echo "== $t"; "$t" --test-threads 1 2>&1; done
echo DONE
poweroff -f
"#;

pub fn run() -> Result<()> {
    for (program, package) in [
        ("qemu-system-x86_64", "qemu-system-x86"),
        ("cpio", "cpio"),
        ("strip", "binutils"),
        ("busybox", "busybox-static"),
        ("runc", "runc"),
        ("crun", "crun"),
    ] {
        let mut look = Command::new("sh");
        look.args(["-c", &format!("command -v {program}")]);
        let found = look.stdout(Stdio::null()).status()?.success();
        ensure!(found, "{program} is missing: apt-get install {package}");
    }
    let programs = build()?;
    let folder = target()?.join("unified");
    fs::create_dir_all(&folder)?;
    kernel(&folder)?;
    pack(&folder, &programs)?;
    let said = boot(&folder)?;
    let results = said.lines().filter(|l| l.starts_with("test result:"));
    let failed = results.filter(|l| !l.contains(" 0 failed")).count();
    ensure!(said.contains(DONE), "the machine ended before its tests");
    ensure!(failed == 0, "{failed} test programs failed under cgroup v2");
    Ok(())
}

fn target() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    // target/debug/xtask
    let target = own
        .ancestors()
        .nth(2)
        .context("xtask lies in the target folder")?;
    Ok(target.to_path_buf())
}

/// The tests by name, and the shim.
fn build() -> Result<Vec<(String, PathBuf)>> {
    let asked = ["test", "-p", "engine", "--no-run", "--message-format=json"];
    let messages = command::read(command::new_cargo().args(asked))?;
    let built = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        let kind = message["target"]["kind"][0].as_str()?;
        let name = message["target"]["name"].as_str()?.to_string();
        let wanted =
            kind == "test" || name == "engine-shim" && !message["profile"]["test"].as_bool()?;
        Some((name, message["executable"].as_str()?.into())).filter(|_| wanted)
    });
    Ok(built.collect())
}

fn kernel(folder: &Path) -> Result<()> {
    if folder.join("vmlinuz").exists() && folder.join("overlay.ko").exists() {
        return Ok(());
    }
    shell(
        folder,
        "set -e
         name=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: //p' | head -1)
         test -n \"$name\" || { echo 'no kernel: apt-get update' >&2; exit 1; }
         apt-get download -q \"$name\" && dpkg-deb -x linux-image-*.deb kernel
         cp kernel/boot/vmlinuz-* vmlinuz
         cp $(find kernel -name overlay.ko) .
         rm -rf kernel linux-image-*.deb",
    )
}

fn pack(folder: &Path, programs: &[(String, PathBuf)]) -> Result<()> {
    let root = folder.join("root");
    let _ = fs::remove_dir_all(&root);
    for name in [
        "bin", "usr/bin", "usr/sbin", "proc", "sys", "dev", "new", "tests", "etc",
    ] {
        fs::create_dir_all(root.join(name))?;
    }
    fs::write(
        root.join("init"),
        INIT.replace("DONE", &format!("'{DONE}'")),
    )?;
    shell(&root, "chmod +x init; cp ../overlay.ko .; cp $(command -v busybox) bin/busybox
        for a in sh mount mkdir insmod switch_root poweroff cp ip touch; do ln -s busybox bin/$a; done
        cp $(command -v runc) $(command -v crun) usr/bin/")?;
    for (name, path) in programs {
        // The tests look for the shim where it was built.
        let at = match name.as_str() {
            "engine-shim" => root.join(path.strip_prefix("/")?),
            name => root.join("tests").join(name),
        };
        fs::create_dir_all(at.parent().context("a place has a folder")?)?;
        let (from, to) = (path.display(), at.display());
        shell(folder, &format!("strip -o '{to}' '{from}'"))?;
    }
    shell(
        &root,
        "for p in tests/* usr/bin/*; do ldd $p 2>/dev/null; done | grep -o '/[^ ]*' | sort -u |
        while read l; do mkdir -p .$(dirname $l); cp -L $l .$l; done
        find . | cpio -o -H newc 2>/dev/null | gzip -1 > ../initramfs",
    )
}

/// What it says, which is shown as it comes.
fn boot(folder: &Path) -> Result<String> {
    let log = folder.join("log");
    shell(
        folder,
        &format!(
            "timeout {LIMIT_S} qemu-system-x86_64 -M pc -accel tcg -cpu max -m 1024 -smp 2 \
             -nodefaults -nographic -no-reboot -kernel vmlinuz -initrd initramfs \
             -append 'console=ttyS0 quiet reboot=t panic=-1 rdinit=/init' -serial stdio \
             </dev/null | tee log"
        ),
    )?;
    Ok(String::from_utf8_lossy(&fs::read(log)?).into_owned())
}

fn shell(folder: &Path, script: &str) -> Result<()> {
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder)
        .status()?;
    if !status.success() {
        bail!(
            "{} failed",
            script
                .split_whitespace()
                .take(6)
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    Ok(())
}
