//! Figures, sizes and ids, short enough to be read at a glance.

use types::{Amount, CREDIT};

/// Digits in groups of three.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// Credits to read at a glance: two decimals above one, four below, and of a very small amount
/// its first two digits. Rounded down; the exact amount is its `Display`.
pub fn credits(amount: Amount) -> String {
    let (whole, part) = (amount.0 / CREDIT, amount.0 % CREDIT);
    if part == 0 {
        return grouped(whole);
    }
    let digits = format!("{part:012}");
    let zeros = digits.len() - digits.trim_start_matches('0').len();
    let kept = match whole {
        0 if zeros >= 3 => (zeros + 2).min(12),
        0 => 4,
        _ => 2,
    };
    format!("{}.{}", grouped(whole), &digits[..kept])
}

/// Bytes in powers of 1024, three digits.
pub fn bytes(count: u128) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut unit = 0;
    let mut scaled = count as f64;
    while scaled >= 1000.0 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    match unit {
        0 => format!("{count} B"),
        _ if scaled < 9.95 => format!("{scaled:.1} {}", UNITS[unit]),
        _ => format!("{scaled:.0} {}", UNITS[unit]),
    }
}

/// Thousandths of a core as cores.
pub fn cores(millis: u64) -> String {
    let text = format!("{}.{:03}", millis / 1000, millis % 1000);
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_string()
}

pub fn plural(count: u64, one: &str, many: &str) -> String {
    match count {
        1 => format!("1 {one}"),
        n => format!("{} {many}", grouped(n.into())),
    }
}

/// A span of time by its greatest unit: `12 d`.
pub fn span(ms: u64) -> String {
    let s = ms / 1000;
    match s {
        0..60 => format!("{s} s"),
        60..3_600 => format!("{} min", s / 60),
        3_600..172_800 => format!("{} h", s / 3_600),
        _ => format!("{} d", s / 86_400),
    }
}

/// Thousandths as percent.
pub fn percent(milli: u32) -> String {
    format!("{} %", f64::from(milli) / 10.0)
}

/// The first and last characters of a long id.
pub fn brief(id: &str) -> String {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    if id.len() <= 14 || !id.is_ascii() {
        return id.to_string();
    }
    format!("{}…{}", &id[..6], &id[id.len() - 4..])
}

/// An image as it was asked for, without the parts that are always the same.
pub fn image(reference: &str) -> String {
    let text = reference
        .strip_prefix("docker.io/library/")
        .or_else(|| reference.strip_prefix("docker.io/"))
        .unwrap_or(reference);
    let text = match text.strip_prefix("registry.runrig/") {
        Some(own) => own.split_once('/').map_or(own, |(_, name)| name),
        None => text,
    };
    match text.split_once("@sha256:") {
        Some((name, digest)) => format!("{name}@{}", brief(digest)),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_at_a_glance() {
        for (amount, text) in [
            (Amount::ZERO, "0"),
            (Amount::credits(1000), "1\u{202f}000"),
            (Amount(1_283_990_000_000_000), "1\u{202f}283.99"),
            (Amount(41_200_000_000), "0.0412"),
            (Amount(5_237_112), "0.0000052"),
            (Amount(1), "0.000000000001"),
        ] {
            assert_eq!(credits(amount), text);
        }
    }

    #[test]
    fn sizes_spans_and_ids() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(3 << 29), "1.5 GiB");
        assert_eq!(cores(250), "0.25");
        assert_eq!(cores(1500), "1.5");
        assert_eq!(cores(2000), "2");
        assert_eq!(span(59_999), "59 s");
        assert_eq!(span(3 * 86_400_000), "3 d");
        assert_eq!(
            brief("885fb15b4438c28ea154d9e1cd81eb9cc0605a83"),
            "885fb1…5a83"
        );
        assert_eq!(image("docker.io/library/nginx:1.27"), "nginx:1.27");
        assert_eq!(image("registry.runrig/abc/hello:latest"), "hello:latest");
    }
}
