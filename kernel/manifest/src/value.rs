//! Words that values are written in: durations, sizes, rates, cores, command lines.
//!
//! All are exact: integers in, integers out, nothing rounded but a thousandth of a core up.

/// `1h2m3.5s`, `90s`, `250ms` in milliseconds, as Compose writes durations.
pub(crate) fn duration_ms(text: &str) -> Option<u32> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut total_ns: u128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let letters = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit_ns: u128 = match unit {
            "ns" => 1,
            "us" | "µs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        total_ns = total_ns.checked_add(scaled(number, unit_ns)?)?;
        rest = after;
    }
    u32::try_from(total_ns / 1_000_000).ok()
}

/// A decimal number times `unit`, rounded down.
fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    if (whole.is_empty() && part.is_empty())
        || whole.len() > 18
        || part.len() > 9
        || !is_digits(whole)
        || !is_digits(part)
    {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        whole.parse().ok()?
    };
    let fraction: u128 = format!("{part:0<9}").parse().ok()?;
    whole
        .checked_mul(unit)?
        .checked_add(fraction.checked_mul(unit)? / 1_000_000_000)
}

/// Permission bits in octal: `1777`, `0o750`.
pub(crate) fn mode(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(digits, 8).ok();
    mode.filter(|mode| plain && *mode <= 0o7777)
}

fn number_and_unit(text: &str) -> (&str, String) {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim().to_ascii_lowercase())
}

/// `512m`, `1.5GiB`, `1024`: bytes. Every unit is binary, as in Docker (`1g` = 2³⁰).
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = number_and_unit(text.trim());
    let shift = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return None,
    };
    u64::try_from(scaled(number, 1 << shift)?).ok()
}

/// `10mbit`, `500kbit`, `1gbit`: kilobits of 1000 bits per second.
pub(crate) fn kilobits(text: &str) -> Option<u32> {
    let (number, unit) = number_and_unit(text.trim());
    let bits = match unit.as_str() {
        "bit" | "bps" => 1,
        "kbit" | "kbps" | "kbit/s" => 1_000,
        "mbit" | "mbps" | "mbit/s" => 1_000_000,
        "gbit" | "gbps" | "gbit/s" => 1_000_000_000,
        _ => return None,
    };
    u32::try_from(scaled(number, bits)? / 1_000).ok()
}

/// `0.5`, `2`: thousandths of a core, rounded up.
pub(crate) fn cpu_millis(text: &str) -> Option<u32> {
    let nanos = scaled(text.trim(), 1_000_000_000)?;
    u32::try_from(nanos.div_ceil(1_000_000)).ok()
}

pub(crate) fn boolean(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" | "1" => {
            Some(true)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N"
        | "0" => Some(false),
        _ => None,
    }
}

pub(crate) struct Words {
    pub words: Vec<String>,
    /// An operator of shells (`&&`, `|`, `>` …) stood outside quotes.
    pub shell_operator: Option<char>,
}

/// Splits a command line into its words: blanks part them, quotes and backslashes keep them
/// together. `None` if a quote is not closed. No shell: nothing else has a meaning.
pub(crate) fn words(text: &str) -> Option<Words> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut shell_operator = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        c => word.push(c),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' => match characters.next()? {
                            c @ ('"' | '\\' | '$' | '`') => word.push(c),
                            '\n' => {}
                            c => {
                                word.push('\\');
                                word.push(c);
                            }
                        },
                        c => word.push(c),
                    }
                }
            }
            '\\' => match characters.next()? {
                '\n' => {}
                c => word.get_or_insert_default().push(c),
            },
            ' ' | '\t' | '\n' | '\r' => words.extend(word.take()),
            c => {
                if matches!(c, ';' | '&' | '|' | '<' | '>') {
                    shell_operator = shell_operator.or(Some(c));
                }
                word.get_or_insert_default().push(c);
            }
        }
    }
    words.extend(word);
    Some(Words {
        words,
        shell_operator,
    })
}
