//! `x-runrig` at the top of the file: what becomes of the logs.

use types::{ExportKind, LogExport, LogPolicy, PublicKey};

use crate::field::Field;
use crate::problem::shown;
use crate::reader::Reader;
use crate::value;

const BYTES_MIN: u64 = 64 << 10;
const BYTES_MAX: u64 = 1 << 40;
const AGE_MS_MIN: u32 = 60_000;
const AGE_MS_MAX: u32 = 45 * 86_400_000;

pub(crate) fn extension(reader: &mut Reader, field: &Field<'_>, logs: &mut LogPolicy) {
    for (key, inner) in reader.map_or_null(field) {
        match key {
            "logs" => policy(reader, &inner, logs),
            _ => reader.unknown(&inner, key, "logs"),
        }
    }
}

fn policy(reader: &mut Reader, field: &Field<'_>, logs: &mut LogPolicy) {
    for (key, inner) in reader.map_or_null(field) {
        match key {
            "size" => {
                let bytes = reader.parsed(&inner, value::bytes, "100MiB");
                let bounds = "size is 64 KiB to 1 TiB";
                logs.bytes_max = reader.within(&inner, bytes, BYTES_MIN, BYTES_MAX, bounds);
            }
            "keep" => {
                let age = reader.parsed(&inner, value::duration_ms, "7d");
                let bounds = "keep is one minute to 45 days";
                let age = reader.within(&inner, age, AGE_MS_MIN, AGE_MS_MAX, bounds);
                logs.age_ms_max = age.map(u64::from);
            }
            "readers" => {
                for item in reader.list(&inner) {
                    let key = |text: &str| text.parse::<PublicKey>().ok();
                    let example = "the 64 digits that `runrig whoami` says as the public key";
                    logs.readers.extend(reader.parsed(&item, key, example));
                }
                if logs.readers.len() >= LogPolicy::READERS_MAX {
                    reader.wrong_at(
                        &inner,
                        "there are too many readers",
                        "at most 15",
                        "remove some",
                    );
                }
            }
            "export" => {
                for item in reader.list(&inner) {
                    logs.exports.extend(receiver(reader, &item));
                }
                if logs.exports.len() > LogPolicy::EXPORTS_MAX {
                    reader.wrong_at(
                        &inner,
                        "there are too many receivers",
                        "at most 4",
                        "remove some",
                    );
                }
            }
            "copy" => logs.alone = reader.boolean(&inner) == Some(false),
            _ => reader.unknown(&inner, key, "keep, size, readers, copy, export"),
        }
    }
}

/// What services say under `logging` for programs that keep files on one machine: how much of
/// their logs is wanted. It counts where every service says it and the project does not.
pub(crate) fn of_services(logs: &mut LogPolicy, wanted: &[Option<u64>]) {
    let sum = wanted
        .iter()
        .try_fold(0u64, |sum, bytes| Some(sum.saturating_add((*bytes)?)));
    if logs.bytes_max.is_none() && !wanted.is_empty() {
        logs.bytes_max = sum.map(|bytes| bytes.clamp(BYTES_MIN, BYTES_MAX));
    }
}

impl Reader {
    /// Bytes that a service's logs may have, if it says so.
    pub fn logging(&mut self, field: &Field<'_>) -> Option<u64> {
        let (mut size, mut files) = (None, 1);
        for (key, inner) in self.map_or_null(field) {
            match key {
                "driver" => {
                    let driver = self.text(&inner).unwrap_or_default();
                    if !matches!(driver.as_str(), "" | "json-file" | "local" | "journald") {
                        let what = format!("the driver {} has no effect", shown(&driver));
                        let why = "logs are kept by the host; `runrig logs` reads them";
                        let next = "remove it; to send lines elsewhere write x-runrig: { logs: { export: … } }";
                        self.warn_at(&inner, what, why, next);
                    }
                }
                "options" => {
                    for (key, inner) in self.map_or_null(&inner) {
                        match key {
                            "max-size" => size = self.parsed(&inner, value::bytes, "10m"),
                            "max-file" => {
                                let count = self.whole_number(&inner, "3");
                                files = u64::from(count.unwrap_or(1).max(1));
                            }
                            // Kept ones are compressed, and printing waits for nobody.
                            "compress" | "mode" | "max-buffer-size" => {}
                            _ => self.no_effect(&inner),
                        }
                    }
                }
                _ if key.starts_with("x-") => {}
                _ => self.unknown(&inner, key, "driver, options"),
            }
        }
        Some(size?.saturating_mul(files))
    }
}

fn receiver(reader: &mut Reader, field: &Field<'_>) -> Option<LogExport> {
    let mut to = None;
    for (key, inner) in reader.map(field) {
        match key {
            "loki" => to = reader.text(&inner).map(|url| (ExportKind::Loki, url)),
            "otlp" => to = reader.text(&inner).map(|url| (ExportKind::Otlp, url)),
            "metrics" => to = reader.text(&inner).map(|url| (ExportKind::Metrics, url)),
            _ => reader.unknown(&inner, key, "loki, otlp, metrics"),
        }
    }
    let Some((kind, url)) = to else {
        reader.wrong_at(
            field,
            "a receiver has no address",
            "lines and figures are sent to one",
            "write { loki: https://host/loki/api/v1/push }, { otlp: https://host } or { metrics: https://host }",
        );
        return None;
    };
    let export = LogExport { kind, url };
    if let Some(why) = export.fault() {
        reader.wrong_at(field, "the receiver cannot be taken", why, "correct it");
        return None;
    }
    Some(export)
}
