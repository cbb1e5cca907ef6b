//! `networks` and `volumes` at the top of the file.

use std::collections::BTreeMap;

use types::{NetworkSpec, VolumeSpec};

use crate::field::Field;
use crate::reader::Reader;

const ENTRIES_MAX: usize = 256;

pub(crate) fn networks(
    reader: &mut Reader,
    field: &Field<'_>,
    networks: &mut BTreeMap<String, NetworkSpec>,
) {
    let found = reader.map_or_null(field);
    too_many(reader, field, found.len());
    for (name, inner) in found {
        reader.is_name(&inner, name);
        let mut spec = NetworkSpec::default();
        for (key, inner) in reader.map_or_null(&inner) {
            match key {
                "internal" => spec.internal = reader.boolean(&inner).unwrap_or_default(),
                "driver" => {
                    let driver = reader.text(&inner);
                    if driver
                        .is_some_and(|d| !matches!(d.as_str(), "bridge" | "default" | "overlay"))
                    {
                        reader.wrong_at(
                            &inner,
                            "this network driver is not supported",
                            "the network gives each project its own",
                            "remove it",
                        );
                    }
                }
                "name" | "labels" | "attachable" | "enable_ipv4" => reader.warn_at(
                    &inner,
                    format!("{key} has no effect on a network"),
                    "networks are private to their project",
                    "remove it",
                ),
                "external" => {
                    if inner.is_map() || reader.boolean(&inner) == Some(true) {
                        reader.wrong_at(
                            &inner,
                            "a network from outside the project is not supported",
                            "two projects cannot reach each other, except by published ports",
                            "put the services into one project",
                        );
                    }
                }
                "ipam" => {
                    if !inner.is_null() {
                        reader.warn_at(
                            &inner,
                            "ipam has no effect",
                            "addresses are given by the hosts",
                            "remove it",
                        );
                    }
                }
                "enable_ipv6" if reader.boolean(&inner) != Some(true) => {}
                "driver_opts" if inner.is_null() => {}
                "driver_opts" | "enable_ipv6" => reader.wrong_at(
                    &inner,
                    format!("{key} is not supported"),
                    "addresses are given by the hosts",
                    "remove it",
                ),
                _ if key.starts_with("x-") => {}
                _ => reader.unknown(&inner, key, "internal, driver"),
            }
        }
        networks.insert(name.to_string(), spec);
    }
}

pub(crate) fn volumes(
    reader: &mut Reader,
    field: &Field<'_>,
    volumes: &mut BTreeMap<String, VolumeSpec>,
) {
    let found = reader.map_or_null(field);
    too_many(reader, field, found.len());
    for (name, inner) in found {
        reader.is_name(&inner, name);
        let mut spec = VolumeSpec::default();
        for (key, inner) in reader.map_or_null(&inner) {
            match key {
                "labels" => spec.labels = reader.labels(&inner),
                "driver" => {
                    if reader.text(&inner).is_some_and(|d| d != "local") {
                        reader.wrong_at(
                            &inner,
                            "this volume driver is not supported",
                            "volumes lie on the host of their replica",
                            "remove it",
                        );
                    }
                }
                "name" => reader.warn_at(
                    &inner,
                    "name has no effect on a volume",
                    "volumes are private to their project",
                    "remove it",
                ),
                "external" => {
                    if inner.is_map() || reader.boolean(&inner) == Some(true) {
                        reader.wrong_at(
                            &inner,
                            "a volume from outside the project is not supported",
                            "volumes belong to one project",
                            "remove external: and fill the volume from a service",
                        );
                    }
                }
                "driver_opts" => {
                    if !inner.is_null() {
                        reader.wrong_at(
                            &inner,
                            "driver_opts is not supported",
                            "volumes lie on the host of their replica",
                            "remove it",
                        );
                    }
                }
                _ if key.starts_with("x-") => {}
                _ => reader.unknown(&inner, key, "labels, driver"),
            }
        }
        volumes.insert(name.to_string(), spec);
    }
}

fn too_many(reader: &mut Reader, field: &Field<'_>, count: usize) {
    if count > ENTRIES_MAX {
        reader.wrong_at(
            field,
            format!("{count} entries"),
            &format!("at most {ENTRIES_MAX} are taken"),
            "split the project",
        );
    }
}
