use proptest::prelude::*;

use super::*;

/// 2026-11-23, a Monday, 0 h.
const MONDAY: u64 = 1_795_392_000_000;

fn hours(text: &str) -> Hours {
    text.parse().expect(text)
}

#[test]
fn texts_are_read_and_written_in_one_form() {
    for (text, canonical) in [
        ("mon-fri 20-8, sat-sun 0-24", "mon-fri 20-8, sat-sun 0-24"),
        ("SAT-Sun 00-24,mon-fri 20-08", "mon-fri 20-8, sat-sun 0-24"),
        ("mon-sun 0-24", "mon-sun 0-24"),
        ("mon-sun 8-18", "mon-sun 8-18"),
        ("mon-sun 12-0", "mon-sun 12-24"),
        ("sun 20-8", "sun 20-8"),
        ("sun 20-24, mon 0-8", "sun 20-8"),
        ("fri-mon 9-12 14-17", "mon 9-12 14-17, fri-sun 9-12 14-17"),
        ("mon 8-12, mon 11-18", "mon 8-18"),
        // More than a day in one piece is cut at midnight.
        (
            "mon 20-24, tue 0-24, wed 0-8",
            "mon 20-24, tue 0-24, wed 0-8",
        ),
        ("mon 8-24, tue 0-10", "mon 8-24, tue 0-10"),
        ("wed 3-4,", "wed 3-4"),
    ] {
        assert_eq!(hours(text).to_string(), canonical, "{text}");
    }
}

#[test]
fn what_is_no_text_is_told_why() {
    for (text, why) in [
        ("", HoursError::Never),
        (" , ", HoursError::Never),
        ("mo 8-18", HoursError::Day("mo".into())),
        ("mon-fry 8-18", HoursError::Day("mon-fry".into())),
        ("8-18", HoursError::Day("8-18".into())),
        ("mon", HoursError::NoSpan("mon".into())),
        ("mon 8", HoursError::Span("8".into())),
        ("mon 8-25", HoursError::Span("8-25".into())),
        ("mon 24-8", HoursError::Span("24-8".into())),
        ("mon 8-8", HoursError::Span("8-8".into())),
        ("mon +8-9", HoursError::Span("+8-9".into())),
        ("mon 8-9-10", HoursError::Span("8-9-10".into())),
        ("mon 8:30-9", HoursError::Span("8:30-9".into())),
        ("mon 008-9", HoursError::Span("008-9".into())),
    ] {
        assert_eq!(text.parse::<Hours>(), Err(why), "{text}");
    }
    let long = "mon 8-9,".repeat(200);
    assert_eq!(long.parse::<Hours>(), Err(HoursError::Long));
}

#[test]
fn a_week_opens_and_closes_in_utc() {
    const HOUR: u64 = HOUR_MS;
    let hours = hours("mon-fri 20-8, sat-sun 0-24");
    // Monday 0 h: the weekend is over.
    assert!(!hours.is_open(MONDAY) && hours.is_open(MONDAY - 1));
    assert_eq!(hours.changes_after(MONDAY), Some(MONDAY + 20 * HOUR));
    assert_eq!(hours.since(MONDAY + 5), Some(MONDAY));
    let evening = MONDAY + 20 * HOUR;
    assert!(hours.is_open(evening) && !hours.is_open(evening - 1));
    assert_eq!(hours.changes_after(evening), Some(MONDAY + 32 * HOUR));
    assert_eq!(hours.changes_after(evening - 1), Some(evening));
    // From Friday evening to the end of Sunday in one piece.
    let friday = MONDAY + (4 * 24 + 20) * HOUR;
    assert_eq!(hours.changes_after(friday), Some(MONDAY + 168 * HOUR));
    assert_eq!(hours.since(MONDAY + 167 * HOUR), Some(friday));
    assert_eq!(Hours::moment(evening + 90_000), "Mon 20:01 UTC");
    assert_eq!(Hours::moment(0), "Thu 00:00 UTC");
}

#[test]
fn a_week_without_a_closed_hour_never_changes() {
    let always = hours("mon-sun 0-24");
    assert_eq!(always.changes_after(MONDAY), None);
    assert_eq!(always.since(MONDAY), None);
    assert_eq!(Hours::new([0; 21]), None);
    // Nor can an empty one come out of bytes.
    assert!(borsh::from_slice::<Hours>(&[0; 21]).is_err());
    // No time is out of reach.
    for text in ["mon-sun 0-24", "mon 0-1", "mon-sun 0-1 2-3 4-5"] {
        let hours = hours(text);
        for ms in [0, 1, HOUR_MS, u64::MAX] {
            let _ = (hours.changes_after(ms), hours.since(ms), Hours::moment(ms));
        }
    }
}

/// Any week: hours by chance, and times as people say them.
fn any_hours() -> impl Strategy<Value = Hours> {
    let bits = prop::array::uniform21(any::<u8>());
    let said = prop::collection::vec((0usize..7, 1usize..8, 0usize..24, 1usize..25), 1..6);
    prop_oneof![
        bits.prop_filter_map("some hour", Hours::new),
        said.prop_map(|entries| {
            let mut bits = [0u8; 21];
            for (day, days, from, length) in entries {
                for hour in
                    (day..day + days).flat_map(|d| (from..from + length).map(move |h| d * 24 + h))
                {
                    bits[hour % WEEK / 8] |= 1 << (hour % WEEK % 8);
                }
            }
            Hours::new(bits).expect("some hour")
        }),
    ]
}

proptest! {
    #[test]
    fn any_week_is_read_as_it_is_written(hours in any_hours()) {
        let text = hours.to_string();
        prop_assert_eq!(text.parse::<Hours>(), Ok(hours), "{}", text);
        prop_assert!(text.len() <= TEXT_BYTES_MAX);
        let bytes = borsh::to_vec(&hours).expect("encodes");
        prop_assert_eq!(borsh::from_slice::<Hours>(&bytes).expect("decodes"), hours);
    }

    #[test]
    fn it_changes_when_it_says_and_not_before(hours in any_hours(), ms in 0u64..4_000_000_000_000) {
        let open = hours.is_open(ms);
        if let Some(at) = hours.changes_after(ms) {
            prop_assert!(at > ms && at - ms <= WEEK as u64 * HOUR_MS);
            prop_assert_ne!(hours.is_open(at), open);
            prop_assert_eq!(hours.is_open(at - 1), open);
            prop_assert_eq!(hours.since(at), Some(at));
            if let Some(since) = hours.since(ms) {
                prop_assert!(since <= ms);
                prop_assert_eq!(hours.changes_after(since), Some(at));
                prop_assert_ne!(hours.is_open(since.saturating_sub(1)), open);
            }
        }
    }

    #[test]
    fn no_text_of_strangers_panics(text in "\\PC{0,40}", words in "[a-z0-9, -]{0,40}") {
        let _ = (text.parse::<Hours>(), words.parse::<Hours>());
    }
}
