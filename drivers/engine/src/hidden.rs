//! Bytes that are shown to nobody and written to no disk: the content of secrets.
//!
//! What is written of a container's spec says nothing of them. The shim is handed them apart,
//! on the way that its answer comes back, in the order of the mounts: of each its length and its bytes.

use std::io::Read;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ContainerSpec, MountFrom};

/// Of all secrets of one container.
pub(crate) const BYTES_MAX: usize = 16 << 20;

/// Overwritten when the last who holds it lets go.
#[derive(Clone, Default)]
pub struct Hidden(Arc<Wiped>);

#[derive(Default)]
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        for byte in &mut self.0 {
            // SAFETY: a plain write to a byte of ours, which the compiler may not leave out.
            unsafe { std::ptr::write_volatile(byte, 0) };
        }
    }
}

impl Hidden {
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Wiped(bytes)))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("hidden")
    }
}

impl PartialEq for Hidden {
    /// Not by content: whoever compares specs compares what may be shown of them.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Hidden {}

impl Serialize for Hidden {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <()>::deserialize(deserializer).map(|()| Self::default())
    }
}

fn of(spec: &ContainerSpec) -> impl Iterator<Item = &Hidden> {
    spec.mounts.iter().filter_map(|mount| match &mount.source {
        MountFrom::Memory { content, .. } => Some(content),
        _ => None,
    })
}

/// What the shim is handed; empty if there is nothing to hide.
pub(crate) fn handed(spec: &ContainerSpec) -> Hidden {
    let mut bytes = Vec::with_capacity(of(spec).map(|h| h.bytes().len() + 8).sum());
    for hidden in of(spec) {
        bytes.extend_from_slice(&(hidden.bytes().len() as u64).to_be_bytes());
        bytes.extend_from_slice(hidden.bytes());
    }
    Hidden::new(bytes)
}

pub(crate) fn forget(spec: &mut ContainerSpec) {
    for mount in &mut spec.mounts {
        if let MountFrom::Memory { content, .. } = &mut mount.source {
            *content = Hidden::default();
        }
    }
}

/// Puts what was handed over into its places.
pub(crate) fn take(spec: &mut ContainerSpec, from: impl Read) -> Result<(), String> {
    let mut from = from.take(BYTES_MAX as u64);
    for mount in &mut spec.mounts {
        let MountFrom::Memory { content, .. } = &mut mount.source else {
            continue;
        };
        let mut read = || -> std::io::Result<Hidden> {
            let mut length = [0; 8];
            from.read_exact(&mut length)?;
            let length = u64::from_be_bytes(length).min(BYTES_MAX as u64);
            let mut bytes = vec![0; length as usize];
            from.read_exact(&mut bytes)?;
            Ok(Hidden::new(bytes))
        };
        *content = read().map_err(|e| format!("take over a secret: {e}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mount;

    #[test]
    fn what_is_hidden_is_handed_over_and_not_written() {
        let mut spec = crate::probe::container(std::path::Path::new("/nowhere"));
        for content in ["hunter2", "", "second"] {
            spec.mounts.push(Mount {
                target: "/run/secrets/a".into(),
                source: MountFrom::Memory {
                    content: Hidden::new(content.into()),
                    uid: 0,
                    gid: 0,
                    mode: 0o400,
                },
                read_only: true,
            });
        }
        let written = serde_json::to_string(&spec).expect("written");
        let shown = format!("{spec:?}");
        assert!(!written.contains("hunter2") && !shown.contains("hunter2"));
        let mut read: ContainerSpec = serde_json::from_str(&written).expect("read");
        let handed = handed(&spec);
        take(&mut read, handed.bytes()).expect("taken");
        let contents: Vec<&[u8]> = of(&read).map(Hidden::bytes).collect();
        assert_eq!(contents, [&b"hunter2"[..], b"", b"second"]);
        assert!(take(&mut read, &handed.bytes()[..10]).is_err());
    }
}
