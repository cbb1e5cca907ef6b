//! Compiles this crate for browsers, where this machine can: with the same cargo and lock file, from what is
//! on disk already.
//!
//! `RUNRIG_BROWSER_CHECK`: `off` leaves it out; `on` fails where it cannot be made; not said, a release build
//! tries, and others leave it out: whoever changes the kernel need not wait for it at each `cargo check`, and
//! a build script does not know a check from a build. Never an error but with `on`: what is lacking is said on
//! the pages.

use std::path::{Path, PathBuf};
use std::process::Command;

const SWITCH: &str = "RUNRIG_BROWSER_CHECK";
const TARGET: &str = "wasm32-unknown-unknown";
const COMPILER: &str = "CC_wasm32_unknown_unknown";
/// What cargo and this build's caller say of another compilation than ours.
const NOT_OURS: &[&str] = &[
    "CARGO_BUILD_",
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "CARGO_PROFILE_",
    "CFLAGS",
    "CLIPPY_",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTDOCFLAGS",
    "RUSTFLAGS",
    "TARGET_CFLAGS",
];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={SWITCH}");
    println!("cargo::rerun-if-env-changed={COMPILER}");
    if variable("TARGET") == TARGET {
        // It is being compiled for browsers just now.
        return;
    }
    let switch = std::env::var(SWITCH).unwrap_or_default();
    let made = match (switch.as_str(), variable("PROFILE").as_str()) {
        ("off", _) => Err(format!("it was made with {SWITCH}=off")),
        ("on", _) | ("", "release") => program(),
        ("", profile) => Err(format!("it is a {profile} build, without {SWITCH}=on")),
        (other, _) => panic!("{SWITCH} is `on` or `off`, not `{other}`"),
    };
    let source = match &made {
        Ok(path) => format!("Ok(include_bytes!({path:?}))"),
        Err(why) if switch == "on" => panic!("{SWITCH}=on, but: {why}"),
        Err(why) => format!("Err({why:?})"),
    };
    let file = PathBuf::from(variable("OUT_DIR")).join("program.rs");
    std::fs::write(file, source).expect("the build's own folder is written");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"))
}

/// Where the program is.
///
/// Errors: what this machine lacks, or that it was not compiled.
fn program() -> Result<PathBuf, String> {
    let out = PathBuf::from(variable("OUT_DIR"));
    knows_target()?;
    let compiler = std::env::var(COMPILER).unwrap_or_else(|_| "clang".into());
    knows_browsers(&compiler, &out)?;
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().map_err(|e| format!("{root:?}: {e}"))?;
    // `target/PROFILE/build/THIS/out`: one for all profiles, and never the one whose lock our caller holds.
    let folder = out.ancestors().nth(4).unwrap_or(&out).join("wasm");
    let mut cargo = Command::new(variable("CARGO"));
    for (name, _) in std::env::vars_os() {
        let foreign = |begin: &&str| name.to_string_lossy().starts_with(*begin);
        if NOT_OURS.iter().any(foreign) {
            cargo.env_remove(name);
        }
    }
    cargo
        .current_dir(&root)
        .args(["rustc", "--quiet", "--offline", "--locked"])
        .args(["--package", "browser", "--lib", "--crate-type", "cdylib"])
        .args(["--profile", "browser", "--target", TARGET, "--target-dir"])
        .arg(&folder)
        // Else a user's own choice may be one for both: our caller waits for us, and holds its lock.
        .env("CARGO_BUILD_BUILD_DIR", &folder)
        .env(COMPILER, &compiler)
        .env("CARGO_ENCODED_RUSTFLAGS", without_folders(&root))
        .env_remove("CARGO_INCREMENTAL");
    let done = cargo.output().map_err(|e| format!("run cargo: {e}"))?;
    let made = folder.join(TARGET).join("browser");
    if !done.status.success() {
        // Until somebody changes what is wrong.
        for sources in ["kernel", "chain/light", "boundary"] {
            println!("cargo::rerun-if-changed={}", root.join(sources).display());
        }
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        for line in said.lines().take(40) {
            println!("cargo::warning={line}");
        }
        return Err("it did not compile for browsers".into());
    }
    sources(&made.join("browser.d"));
    let program = out.join("browser.wasm");
    std::fs::copy(made.join("browser.wasm"), &program).map_err(|e| format!("{program:?}: {e}"))?;
    Ok(program)
}

fn knows_target() -> Result<(), String> {
    let asked = Command::new(variable("RUSTC"))
        .args(["--print", "sysroot"])
        .output();
    let asked = asked.map_err(|e| format!("run rustc: {e}"))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    let targets = sysroot.join("lib/rustlib");
    if targets.join(TARGET).is_dir() {
        return Ok(());
    }
    println!("cargo::rerun-if-changed={}", targets.display());
    Err(format!("it needs `rustup target add {TARGET}`"))
}

/// Clang knows browsers as a rule; Apple's and gcc do not.
fn knows_browsers(compiler: &str, out: &Path) -> Result<(), String> {
    let (source, object) = (out.join("probe.c"), out.join("probe.o"));
    std::fs::write(&source, "int one(void) { return 1; }\n").map_err(|e| e.to_string())?;
    let done = Command::new(compiler)
        .args(["--target=wasm32-unknown-unknown", "-c", "-o"])
        .args([&object, &source])
        .output();
    match done {
        Ok(done) if done.status.success() => Ok(()),
        _ => Err(format!(
            "{compiler} does not compile for browsers: install clang, then `cargo clean -p browser`"
        )),
    }
}

/// The same program whoever makes it, wherever: folders of this machine are not in it.
fn without_folders(root: &Path) -> String {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let crates = home.map(|home| home.join("registry/src"));
    let folders = [Some(root.to_path_buf()), crates].into_iter().flatten();
    let flags = folders.map(|folder| format!("--remap-path-prefix={}=.", folder.display()));
    flags.collect::<Vec<_>>().join("\x1f")
}

/// The script runs again when one of the files changes that the program was made of.
fn sources(list: &Path) {
    let text = std::fs::read_to_string(list).unwrap_or_default();
    let (_, files) = text.split_once(": ").unwrap_or_default();
    // Spaces that are part of a name are escaped.
    for file in files.replace("\\ ", "\0").split_whitespace() {
        println!("cargo::rerun-if-changed={}", file.replace('\0', " "));
    }
    for file in ["Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed=../../{file}");
    }
}
