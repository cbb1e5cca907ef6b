//! What was settled over time, as lines: credits for CPU, memory and all, and bytes moved.

use maud::{Markup, html};
use types::Amount;
use words::bytes;

use super::overview::{RESOURCES, length};
use super::range::Range;
use crate::index::HourRow;
use crate::ui::{Line, empty, lines};

const HOUR_MS: u64 = 3_600_000;
const WEEK: u64 = 24 * 7;
/// In [`RESOURCES`].
const SHOWN: [usize; 2] = [0, 1];

/// One step of time; `None` where there is no receipt.
type Step = Option<([Amount; 5], u64)>;

/// Hours of one step: a year is drawn by weeks.
fn step_of(range: Range) -> u64 {
    range.step.min(WEEK)
}

/// Hours from the first of a range's steps on: whole steps.
pub(super) fn hours(range: Range) -> u64 {
    let step = step_of(range);
    range.hours.div_ceil(step) * step
}

/// Sums of `rows` by step, the last one with the hour of `now_ms`; and the steps' names.
fn stepped(rows: &[HourRow], now_ms: u64, range: Range) -> (Vec<Step>, Vec<String>) {
    let step = step_of(range);
    let count = hours(range) / step;
    let first = (now_ms / HOUR_MS + 1).saturating_sub(hours(range));
    let mut steps: Vec<Step> = vec![None; count as usize];
    for row in rows {
        let at = row.hour.checked_sub(first).map(|hours| hours / step);
        let Some(sums) = at.and_then(|at| steps.get_mut(at as usize)) else {
            continue;
        };
        let (amounts, moved) = sums.get_or_insert_default();
        for (sum, amount) in amounts.iter_mut().zip(row.amounts) {
            sum.0 = sum.0.saturating_add(amount.0);
        }
        *moved = moved.saturating_add(row.moved);
    }
    let label = |at: u64| {
        let ms = (first + at * step) * HOUR_MS;
        match step {
            1 => words::clock(ms)[..5].to_string(),
            _ => words::day(ms),
        }
    };
    (steps, (0..count).map(label).collect())
}

fn sum_of(amounts: &[Amount]) -> Amount {
    Amount(amounts.iter().map(|a| a.0).sum())
}

fn credits_line(label: &str, colour: u8, steps: &[Step], of: impl Fn(&[Amount]) -> Amount) -> Line {
    let known = steps
        .iter()
        .map(|step| step.as_ref().map(|(all, _)| of(all)));
    let points: Vec<Option<Amount>> = known.collect();
    let total = sum_of(&points.iter().flatten().copied().collect::<Vec<_>>());
    Line {
        label: label.into(),
        colour,
        points: points.into_iter().map(|p| p.map(length)).collect(),
        figures: format!("{} credits", words::credits(total)),
        projected: false,
    }
}

fn moved_line(steps: &[Step]) -> Line {
    let moved: u128 = steps.iter().flatten().map(|(_, m)| u128::from(*m)).sum();
    Line {
        label: "In and out".into(),
        colour: 2,
        points: steps
            .iter()
            .map(|step| step.as_ref().map(|(_, m)| *m as f64 / f64::from(1 << 20)))
            .collect(),
        figures: bytes(moved),
        projected: false,
    }
}

/// `rows`: of the payer, of the last [`hours`].
pub(super) fn charts(rows: &[HourRow], now_ms: u64, range: Range) -> Markup {
    let (steps, labels) = stepped(rows, now_ms, range);
    let each = match step_of(range) {
        1 => "hour",
        WEEK => "week",
        _ => "day",
    };
    let mut spent = vec![credits_line("All", 4, &steps, sum_of)];
    for at in SHOWN {
        let (label, colour) = RESOURCES[at];
        spent.push(credits_line(label, colour, &steps, |all| all[at]));
    }
    let drawn = |all: &[Line], unit: &str, what: &str| {
        let said: Vec<String> = all
            .iter()
            .map(|line| format!("{}: {}", line.label, line.figures))
            .collect();
        lines(
            all,
            &labels,
            unit,
            &format!("{what} {}", said.join("; ")),
            false,
        )
    };
    let none = steps.iter().all(Option::is_none);
    html! {
        div.grid {
            section.card.s6 {
                header { div { h2 { "Spent by " (each) } p.sub { "Settled for CPU, memory and all; a gap has no receipt" } } }
                @if none { (empty("chart-area", "No receipt in this time", "A line comes with the first settled receipt.", None)) }
                @else { (drawn(&spent, "credits", "Spent.")) }
            }
            section.card.s6 {
                header { div { h2 { "Traffic by " (each) } p.sub { "In and out of all jobs, settled; a gap has no receipt" } } }
                @if none { (empty("chart-area", "No receipt in this time", "A line comes with the first settled receipt.", None)) }
                @else { (drawn(&[moved_line(&steps)], "MiB", "Traffic.")) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::range::ALL;
    use super::*;

    fn row(hour: u64, cpu: u64, moved: u64) -> HourRow {
        let mut amounts = [Amount::ZERO; 5];
        amounts[0] = Amount(cpu.into());
        HourRow {
            hour,
            amounts,
            moved,
            receipts: 1,
        }
    }

    #[test]
    fn what_is_settled_falls_into_its_step_and_the_rest_is_a_gap() {
        let now = 10_000 * HOUR_MS + 5;
        let day = ALL[0];
        let rows = [
            row(9_000, 9, 9),
            row(9_977, 1, 2),
            row(10_000, 3, 4),
            row(10_001, 9, 9),
        ];
        let (steps, labels) = stepped(&rows, now, day);
        assert_eq!((steps.len(), labels.len()), (24, 24));
        let known: Vec<usize> = (0..24).filter(|at| steps[*at].is_some()).collect();
        assert_eq!(known, [0, 23]);
        let last = steps[23].as_ref().expect("known");
        assert_eq!((last.0[0], last.1), (Amount(3), 4));
        for (range, count) in ALL.into_iter().zip([24, 7, 28, 53]) {
            let (steps, _) = stepped(&rows, now, range);
            assert_eq!(steps.len(), count, "{}", range.name);
        }
        // Nothing is known of a time before there was any.
        assert_eq!(stepped(&[], 0, ALL[3]).0, vec![None; 53]);
    }

    #[test]
    fn without_a_receipt_nothing_is_drawn() {
        let none = charts(&[], 0, ALL[1]).into_string();
        assert!(none.contains("No receipt") && !none.contains("<svg class=\"chart"));
        let some = charts(&[row(0, 1, 1 << 20)], 0, ALL[1]).into_string();
        assert!(some.contains("Spent by day") && some.contains("<svg class=\"chart"));
    }
}
