//! Resolve `user[:group]` in an image's own /etc/passwd and /etc/group.

use std::path::{Path, PathBuf};

use crate::UserSpec;

const FILE_MAX: u64 = 1 << 20;

/// `layers`: unpacked, topmost first. Numbers need no entry; an empty text is root.
pub fn resolve_user(layers: &[PathBuf], user: &str) -> Result<UserSpec, String> {
    let (name, group) = match user.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (user, None),
    };
    let passwd = read(layers, "etc/passwd");
    let groups = read(layers, "etc/group");
    let fields = |line: &str| -> Vec<String> { line.split(':').map(str::to_string).collect() };
    let number = name.parse::<u32>().ok();
    let entry = passwd
        .lines()
        .map(fields)
        .find(|f| f.len() >= 4 && (f[0] == name || number.is_some_and(|n| f[2].parse() == Ok(n))));
    let (uid, mut gid) = match (&entry, number) {
        (_, _) if name.is_empty() => (0, 0),
        (Some(f), _) => (
            f[2].parse()
                .map_err(|_| "its /etc/passwd entry has no number".to_string())?,
            f[3].parse().unwrap_or(0),
        ),
        (None, Some(n)) => (n, 0),
        (None, None) => return Err("the image has no such user in /etc/passwd".into()),
    };
    if let Some(group) = group {
        gid = match group.parse() {
            Ok(n) => n,
            Err(_) => groups
                .lines()
                .map(fields)
                .find(|f| f.len() >= 3 && f[0] == group)
                .and_then(|f| f[2].parse().ok())
                .ok_or("the image has no such group in /etc/group")?,
        };
    }
    let login = entry.map(|f| f[0].clone()).unwrap_or_else(|| name.into());
    let additional = if group.is_some() {
        Vec::new()
    } else {
        groups
            .lines()
            .map(fields)
            .filter(|f| f.len() >= 4 && f[3].split(',').any(|m| m == login && !m.is_empty()))
            .filter_map(|f| f[2].parse().ok())
            .filter(|g| *g != gid)
            .collect()
    };
    if uid > 65_535 || gid > 65_535 {
        return Err("numbers above 65535 do not fit the container's range".into());
    }
    Ok(UserSpec {
        uid,
        gid,
        additional,
    })
}

/// Further groups of a process, by the image's own /etc/group.
pub fn resolve_groups<'a>(
    layers: &[PathBuf],
    groups: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<u32>, String> {
    let known = read(layers, "etc/group");
    let resolve = |name: &String| {
        let entry = known.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        });
        let number = name.parse().ok().or(entry);
        number
            .filter(|n| *n <= 65_535)
            .ok_or_else(|| format!("the image has no group {name} in /etc/group"))
    };
    groups.into_iter().map(resolve).collect()
}

/// The file as the topmost layer that knows of it has it; never through a symbolic link.
///
/// A whiteout, a link or anything else in its place hides the layers below.
fn read(layers: &[PathBuf], path: &str) -> String {
    'layers: for layer in layers {
        let mut at: PathBuf = layer.clone();
        let mut opaque = false;
        for part in Path::new(path) {
            at.push(part);
            match at.symlink_metadata() {
                Ok(meta) if meta.is_dir() => opaque |= is_opaque(&at),
                Ok(meta) if meta.is_file() && meta.len() <= FILE_MAX => {
                    return std::fs::read_to_string(&at).unwrap_or_default();
                }
                Ok(_) => return String::new(),
                Err(_) if opaque => return String::new(),
                Err(_) => continue 'layers,
            }
        }
        return String::new();
    }
    String::new()
}

/// Does the directory hide those of the same name below?
fn is_opaque(directory: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = std::ffi::CString::new(directory.as_os_str().as_bytes()) else {
        return false;
    };
    let mut value = [0u8; 1];
    // SAFETY: both texts end in 0 and the buffer is as long as is said.
    let length = unsafe {
        libc::lgetxattr(
            path.as_ptr(),
            c"trusted.overlay.opaque".as_ptr(),
            value.as_mut_ptr().cast(),
            value.len(),
        )
    };
    length == 1 && value[0] == b'y'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_numbers_and_groups() {
        let dir = tempfile::tempdir().expect("a folder");
        let (top, low) = (dir.path().join("top"), dir.path().join("low"));
        std::fs::create_dir_all(top.join("etc")).expect("made");
        std::fs::create_dir_all(low.join("etc")).expect("made");
        std::fs::write(
            low.join("etc/passwd"),
            "root:x:0:0::/:/bin/sh\nold:x:7:7::/:\n",
        )
        .expect("written");
        std::fs::write(
            top.join("etc/passwd"),
            "root:x:0:0::/:\napp:x:1000:1000::/:\n",
        )
        .expect("written");
        std::fs::write(low.join("etc/group"), "app:x:1000:\nextra:x:44:app,other\n")
            .expect("written");
        let layers = [top, low];
        let user = |uid, gid, additional: &[u32]| UserSpec {
            uid,
            gid,
            additional: additional.to_vec(),
        };
        for (text, expected) in [
            ("", Ok(user(0, 0, &[]))),
            ("app", Ok(user(1000, 1000, &[44]))),
            ("1000", Ok(user(1000, 1000, &[44]))),
            ("app:extra", Ok(user(1000, 44, &[]))),
            ("42", Ok(user(42, 0, &[]))),
            ("42:43", Ok(user(42, 43, &[]))),
        ] {
            assert_eq!(resolve_user(&layers, text), expected, "{text}");
        }
        assert!(
            resolve_user(&layers, "old").is_err(),
            "hidden by the upper layer"
        );
        assert!(resolve_user(&layers, "app:none").is_err());
        let groups = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| n.to_string()).collect();
            resolve_groups(&layers, &names)
        };
        assert_eq!(groups(&["extra", "7"]), Ok(vec![44, 7]));
        assert!(groups(&["none"]).is_err() && groups(&["70000"]).is_err());
        assert!(resolve_user(&layers, "70000").is_err());
        let [top, low] = layers;
        std::fs::remove_file(top.join("etc/passwd")).expect("removed");
        std::os::unix::fs::symlink("/etc/passwd", top.join("etc/passwd")).expect("linked");
        let hidden = resolve_user(&[top.clone(), low.clone()], "old");
        assert!(hidden.is_err(), "hidden by a link, which is not followed");
        std::fs::remove_file(top.join("etc/passwd")).expect("removed");
        assert_eq!(resolve_user(&[top, low], "old"), Ok(user(7, 7, &[])));
    }
}
