//! An image made on the spot, of a program of this machine.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::archive::{oci_manifest, put, unusable};
use crate::{ImageError, LocalImage};

/// Makes an image of a program of this machine and the libraries that it needs, without a
/// network: so that a newcomer sees an app run who owns no image.
pub fn demo_image(
    program: &Path,
    command: &[String],
    into: &Path,
) -> Result<LocalImage, ImageError> {
    let io = |e: std::io::Error| unusable(program, e);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |path: &str, from: &Path, mode: u32| -> std::io::Result<()> {
        let bytes = std::fs::read(from)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(mode);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        tar.append_data(&mut header, path.trim_start_matches('/'), &bytes[..])
    };
    let name = program
        .file_name()
        .map(|n| n.to_string_lossy().into_owned())
        .unwrap_or_default();
    add(&format!("bin/{name}"), program, 0o755).map_err(io)?;
    for library in libraries(program).map_err(io)? {
        add(&library.display().to_string(), &library, 0o755).map_err(io)?;
    }
    for folder in ["tmp/", "proc/", "sys/", "dev/", "etc/"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        header.set_mode(if folder == "tmp/" { 0o1777 } else { 0o755 });
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_cksum();
        tar.append_data(&mut header, folder, std::io::empty())
            .map_err(io)?;
    }
    let layer = tar.into_inner().map_err(io)?;
    let size = layer.len() as u64;
    let diff = put(into, &layer).map_err(io)?;
    let mut entrypoint = vec![format!("/bin/{name}")];
    entrypoint.extend_from_slice(command);
    let config = json!({
        "architecture": crate::architecture(),
        "os": "linux",
        "config": { "Entrypoint": entrypoint, "Env": ["PATH=/bin"], "ExposedPorts": { "8080/tcp": {} } },
        "rootfs": { "type": "layers", "diff_ids": [diff] },
    });
    let config = serde_json::to_vec(&config).map_err(|e| unusable(program, e))?;
    let manifest = oci_manifest(into, &config, &[(diff, size)]).map_err(io)?;
    Ok(LocalImage {
        names: vec![name],
        manifest,
        layout: into.into(),
    })
}

/// The dynamic loader's own word; nothing for a static program.
fn libraries(program: &Path) -> std::io::Result<Vec<PathBuf>> {
    let output = std::process::Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter_map(|line| {
            line.split_whitespace()
                .find(|word| word.starts_with('/'))
                .map(PathBuf::from)
        })
        .filter(|path| path.is_file())
        .collect())
}
