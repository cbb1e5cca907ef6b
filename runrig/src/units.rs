//! Read and show sizes, rates, durations and ages.

use std::time::Duration;

pub use api::now_ms;

fn split(text: &str) -> Option<(f64, String)> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let number: f64 = text[..end].parse().ok()?;
    Some((number, text[end..].trim().to_ascii_lowercase()))
}

fn whole(number: f64) -> Option<u64> {
    (number.is_finite() && number >= 1.0 && number < u64::MAX as f64).then_some(number as u64)
}

/// `512m`, `4GiB`, `1.5g`, `1048576`: powers of 1024, as Docker reads them.
pub fn size(text: &str) -> Result<u64, String> {
    let bad = || format!("\"{text}\" is not a size: write for example 512m or 4g");
    let (number, unit) = split(text).ok_or_else(bad)?;
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(bad()),
    };
    whole(number * (1u64 << shift) as f64).ok_or_else(bad)
}

/// `100mbit`, `1gbit`, `500kbit`: powers of 1000, each way. In kilobits per second.
pub fn rate_kbps(text: &str) -> Result<u32, String> {
    let bad = || format!("\"{text}\" is not a rate: write for example 100mbit or 1gbit");
    let (number, unit) = split(text).ok_or_else(bad)?;
    let kbps = match unit.trim_end_matches("/s").trim_end_matches("ps") {
        "k" | "kbit" | "kb" => number,
        "m" | "mbit" | "mb" => number * 1e3,
        "g" | "gbit" | "gb" => number * 1e6,
        _ => return Err(bad()),
    };
    whole(kbps)
        .and_then(|k| u32::try_from(k).ok())
        .ok_or_else(bad)
}

/// `2`, `0.5`: cores. In thousandths.
pub fn cores_millis(text: &str) -> Result<u32, String> {
    let bad = || format!("\"{text}\" is not a number of cores: write for example 2 or 0.5");
    let cores: f64 = text.parse().map_err(|_| bad())?;
    whole(cores * 1e3)
        .and_then(|m| u32::try_from(m).ok())
        .ok_or_else(bad)
}

/// `90`, `90s`, `5m`, `1h30m`, `2d`, `250ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("\"{text}\" is not a duration: write for example 30s, 5m or 1h30m");
    if let Ok(seconds) = text.parse::<u64>() {
        return Ok(Duration::from_secs(seconds));
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(bad)?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        rest = &rest[digits..];
        let letters = rest
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let seconds = match &rest[..letters] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return Err(bad()),
        };
        rest = &rest[letters..];
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad())?;
        total = total.checked_add(part).ok_or_else(bad)?;
    }
    (!text.is_empty()).then_some(total).ok_or_else(bad)
}

/// A point in time: `10m` ago, `1763700000` (seconds), `2026-11-21T06:00:00Z`. In milliseconds.
pub fn since_ms(text: &str, now_ms: u64) -> Result<u64, String> {
    if text.len() >= 9 && text.bytes().all(|b| b.is_ascii_digit()) {
        let number: u64 = text.parse().map_err(|_| format!("\"{text}\" is no time"))?;
        // Thirteen digits are milliseconds already.
        return Ok(if text.len() >= 12 {
            number
        } else {
            number * 1000
        });
    }
    if text.contains('T') {
        return rfc3339_ms(text)
            .ok_or_else(|| format!("\"{text}\" is not a time: write 2026-01-31T12:00:00Z or 10m"));
    }
    Ok(now_ms.saturating_sub(duration(text)?.as_millis() as u64))
}

fn rfc3339_ms(text: &str) -> Option<u64> {
    let text = text.strip_suffix('Z')?;
    let (date, time) = text.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<i64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':');
    let hour: u64 = time.next()?.parse().ok()?;
    let minute: u64 = time.next()?.parse().ok()?;
    let second: f64 = time.next().unwrap_or("0").parse().ok()?;
    let good = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && (0.0..61.0).contains(&second);
    let days = u64::try_from(types::days_from_civil(year, month, day)).ok()?;
    good.then(|| (days * 86_400 + hour * 3600 + minute * 60) * 1000 + (second * 1e3) as u64)
}

/// The time that an option names, if it is given.
pub fn moment(option: &str, text: Option<&str>) -> crate::failure::Result<Option<u64>> {
    text.map(|t| since_ms(t, now_ms()))
        .transpose()
        .map_err(|why| {
            let next = "Write for example 10m, or 2026-01-31T12:00:00Z.";
            crate::failure::Failure::usage(option, why, next)
        })
}

/// `2026-11-21T06:26:36.123Z`.
pub fn time(ms: u64) -> String {
    let (year, month, day) = types::civil((ms / 86_400_000) as i64);
    let rest = ms % 86_400_000;
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        rest / 3_600_000,
        rest / 60_000 % 60,
        rest / 1000 % 60,
        rest % 1000
    )
}

/// `3s`, `5m`, `2h`, `4d`: for people.
pub fn age(ms: u64) -> String {
    match ms / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..86_400 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        s => format!("{}d{:02}h", s / 86_400, s / 3600 % 24),
    }
}

/// `1.5MiB`: for people.
pub fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n}B")
    } else if value >= 100.0 {
        format!("{value:.0}{}", UNITS[unit])
    } else {
        format!("{value:.1}{}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_rates_as_docker_writes_them() {
        for (text, bytes) in [
            ("1", 1),
            ("512m", 512 << 20),
            ("1.5G", 3 << 29),
            ("4GiB", 4 << 30),
            ("2 tb", 2 << 40),
            ("10k", 10 << 10),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "-1g", "0", "1x", "1e9", "999999999999t", "1..2"] {
            assert!(size(text).is_err(), "{text}");
        }
        for (text, kbps) in [
            ("100mbit", 100_000),
            ("1Gbit/s", 1_000_000),
            ("500kbps", 500),
            ("2.5g", 2_500_000),
        ] {
            assert_eq!(rate_kbps(text), Ok(kbps), "{text}");
        }
        assert!(rate_kbps("100").is_err() && rate_kbps("9999999g").is_err());
        assert_eq!(cores_millis("0.5"), Ok(500));
        assert!(cores_millis("0").is_err() && cores_millis("NaN").is_err());
    }

    #[test]
    fn durations_and_times() {
        for (text, ms) in [
            ("90", 90_000),
            ("90s", 90_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "5x", "m", "1h30", "-5m"] {
            assert!(duration(text).is_err(), "{text}");
        }
        for ms in [0, 951_782_399_999, 1_795_242_396_123, 4_107_542_400_000] {
            assert_eq!(rfc3339_ms(&time(ms)), Some(ms));
        }
        assert_eq!(time(1_795_242_396_123), "2026-11-21T06:26:36.123Z");
        assert_eq!(since_ms("10m", 1_000_000), Ok(400_000));
        assert_eq!(since_ms("1763700000", 0), Ok(1_763_700_000_000));
        assert!(since_ms("2026-13-01T00:00:00Z", 0).is_err());
        assert_eq!(age(3_725_000), "1h02m");
    }

    #[test]
    fn shown_for_people() {
        assert_eq!(bytes(1023), "1023B");
        assert_eq!(bytes(3 << 29), "1.5GiB");
    }
}
