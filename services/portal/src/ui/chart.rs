//! Charts as SVG: themed by class, printable, without a script. Colour is never alone: each
//! mark has a title, each legend its numbers.

use maud::{Markup, html};

/// One part of a whole; `colour` is 1 to 6.
#[derive(Clone, Debug)]
pub struct Slice {
    pub label: String,
    pub count: u64,
    pub colour: u8,
}

/// One bar of parts, in the order of the legend.
#[derive(Clone, Debug)]
pub struct Bar {
    pub label: String,
    pub parts: Vec<f64>,
    /// Where it will end, if it goes on so.
    pub plan: Option<f64>,
    pub title: String,
}

/// One line over time, in the unit of its chart; `colour` is 1 to 6.
#[derive(Clone, Debug)]
pub struct Line {
    pub label: String,
    pub colour: u8,
    /// One for each step; `None` where nothing was measured.
    pub points: Vec<Option<f64>>,
    /// Its numbers, for the legend.
    pub figures: String,
    /// Not measured: where it will go, if it goes on so.
    pub projected: bool,
}

/// Lines of one chart: more are not told apart.
pub const LINES_MAX: usize = 6;

/// The next round number above: 1, 2 or 5 times a power of ten.
fn ceiling(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let scaled = value / power;
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .find(|s| scaled <= *s + 1e-9)
        .unwrap_or(10.0);
    step * power
}

fn tick(value: f64) -> String {
    if value == 0.0 {
        return "0".into();
    }
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 12.0) as usize;
    let text = format!("{value:.digits$}");
    if !text.contains('.') {
        return text;
    }
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

pub fn legend(labels: &[(&str, u8)]) -> Markup {
    html! {
        div.legend { @for (label, colour) in labels { span { i class={ "key k" (colour) } {} (label) } } }
    }
}

/// Shares of a whole, with a table of the numbers beside it.
pub fn donut(slices: &[Slice], one: &str, many: &str) -> Markup {
    const RADIUS: f64 = 54.0;
    let around = std::f64::consts::TAU * RADIUS;
    let total: u64 = slices.iter().map(|s| s.count).sum();
    let unit = if total == 1 { one } else { many };
    let mut at = 0.0;
    let mut arcs = Vec::new();
    for slice in slices.iter().filter(|s| s.count > 0) {
        let share = slice.count as f64 / total as f64;
        let gap = if share < 1.0 { 2.0 } else { 0.0 };
        let length = (share * around - gap).max(1.0);
        arcs.push((slice, at, length));
        at += share * around;
    }
    html! {
        div.donut {
            svg viewBox="0 0 138 138" role="img" aria-label=(format!("{total} {unit}")) {
                @if total == 0 {
                    circle class="l5" cx="69" cy="69" r=(RADIUS) fill="none" stroke-width="19" opacity=".35" {}
                }
                @for (slice, at, length) in &arcs {
                    circle class={ "l" (slice.colour) } cx="69" cy="69" r=(RADIUS) fill="none" stroke-width="19"
                        stroke-dasharray=(format!("{length:.2} {:.2}", around - length))
                        stroke-dashoffset=(format!("{:.2}", around / 4.0 - at)) {
                        title { (slice.label) ": " (slice.count) }
                    }
                }
                text.big x="69" y="72" { (total) }
                text.small x="69" y="90" { (unit) }
            }
            table {
                tbody {
                    @for slice in slices {
                        tr {
                            td { i class={ "key k" (slice.colour) } {} (slice.label) }
                            td.num.strong { (slice.count) }
                            td.num.dim { @if total > 0 { (slice.count * 100 / total) "%" } @else { "–" } }
                        }
                    }
                }
            }
        }
    }
}

/// Bars of stacked parts over time; the axis starts at 0.
pub fn bars(bars: &[Bar], colours: &[u8], words: &str, wide: bool) -> Markup {
    drawn(bars, colours, words, wide, None)
}

/// The same, of what is counted in `unit`.
pub fn counts(bars: &[Bar], colours: &[u8], words: &str, unit: &str, wide: bool) -> Markup {
    drawn(bars, colours, words, wide, Some(unit))
}

fn drawn(bars: &[Bar], colours: &[u8], words: &str, wide: bool, unit: Option<&str>) -> Markup {
    let (width, class) = if wide {
        (1060.0, "chart wide")
    } else {
        (620.0, "chart")
    };
    const HEIGHT: f64 = 210.0;
    const LEFT: f64 = 46.0;
    const TOP: f64 = 22.0;
    const BOTTOM: f64 = 24.0;
    let most = bars
        .iter()
        .map(|b| b.parts.iter().sum::<f64>().max(b.plan.unwrap_or(0.0)))
        .fold(0.0, f64::max);
    let top = match unit {
        None => ceiling(most),
        // Nothing is counted in halves: four whole steps.
        Some(_) => (ceiling(most) / 4.0).ceil() * 4.0,
    };
    // Small amounts are counted in a smaller unit, so that the axis stays readable.
    let (unit, per_unit) = match top {
        _ if unit.is_some() => (unit.unwrap_or_default(), 1.0),
        t if t >= 0.01 => ("credits", 1.0),
        t if t >= 0.000_01 => ("millionths of a credit", 1e6),
        _ => ("billionths of a credit", 1e9),
    };
    let scale = (HEIGHT - TOP - BOTTOM) / top;
    let step = (width - LEFT) / bars.len().max(1) as f64;
    let wide = (step * 0.56).clamp(2.0, 30.0);
    let base = HEIGHT - BOTTOM;
    let every = bars.len().div_ceil(8).max(1);
    html! {
        div.chartwrap tabindex="0" { svg class=(class) viewBox=(format!("0 0 {width} {HEIGHT}")) role="img" aria-label=(words) {
            text x="0" y="10" { "in " (unit) }
            @for line in 0..=4 {
                @let value = top * f64::from(line) / 4.0;
                @let y = base - value * scale;
                line.grid-line x1=(LEFT) x2=(width) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) {}
                text x=(LEFT - 8.0) y=(format!("{:.1}", y + 4.0)) text-anchor="end" { (tick(value * per_unit)) }
            }
            @for (at, bar) in bars.iter().enumerate() {
                @let x = LEFT + step * at as f64 + (step - wide) / 2.0;
                g {
                    title { (bar.title) }
                    @if let Some(plan) = bar.plan {
                        rect.plan x=(format!("{x:.1}")) width=(format!("{wide:.1}")) rx="3"
                            y=(format!("{:.1}", base - plan * scale)) height=(format!("{:.1}", plan * scale)) {}
                    }
                    @for (part, value, below) in stacked(&bar.parts) {
                        @let height = (value * scale - 1.0).max(0.6);
                        rect class={ "f" (colours.get(part).copied().unwrap_or(5)) } x=(format!("{x:.1}")) width=(format!("{wide:.1}"))
                            rx="2" y=(format!("{:.1}", base - (below + value) * scale)) height=(format!("{height:.1}")) {}
                    }
                }
                @if at % every == 0 || at + 1 == bars.len() && at % every > every * 2 / 3 {
                    text x=(format!("{:.1}", (x + wide / 2.0).min(width - 17.0))) y=(HEIGHT - 6.0) text-anchor="middle" { (bar.label) }
                }
            }
        } }
    }
}

/// Lines over steps of time that `labels` name, from 0 upwards. `unit` is of all points.
/// Those beyond [`LINES_MAX`] are not drawn.
pub fn lines(all: &[Line], labels: &[String], unit: &str, words: &str, wide: bool) -> Markup {
    let (width, class) = if wide {
        (1060.0, "chart wide")
    } else {
        (620.0, "chart")
    };
    const HEIGHT: f64 = 210.0;
    const RIGHT: f64 = 8.0;
    const TOP: f64 = 22.0;
    const BASE: f64 = HEIGHT - 24.0;
    let all = &all[..all.len().min(LINES_MAX)];
    let known = all.iter().flat_map(|line| line.points.iter().flatten());
    let top = ceiling(known.copied().filter(|v| v.is_finite()).fold(0.0, f64::max));
    let ticks = [0.0, 0.25, 0.5, 0.75, 1.0].map(|share| top * share);
    let longest = ticks.iter().map(|value| tick(*value).len()).max();
    // As wide as digits are at most.
    let left = (longest.unwrap_or_default() as f64 * 7.0 + 10.0).max(46.0);
    let step = (width - left - RIGHT) / labels.len().saturating_sub(1).max(1) as f64;
    let across = |at: usize| left + at as f64 * step;
    let up = |value: f64| BASE - value.max(0.0) / top * (BASE - TOP);
    let every = labels.len().div_ceil(8).max(1);
    html! {
        div.chartwrap tabindex="0" { svg class=(class) viewBox=(format!("0 0 {width} {HEIGHT}")) role="img" aria-label=(words) {
            text x="0" y="10" { "in " (unit) }
            @for value in ticks {
                @let y = up(value);
                line.grid-line x1=(left) x2=(width) y1=(format!("{y:.1}")) y2=(format!("{y:.1}")) {}
                text x=(left - 8.0) y=(format!("{:.1}", y + 4.0)) text-anchor="end" { (tick(value)) }
            }
            @for (at, label) in labels.iter().enumerate().step_by(every) {
                text x=(format!("{:.1}", across(at).min(width - 17.0))) y=(HEIGHT - 6.0) text-anchor="middle" { (label) }
            }
            @for line in all {
                g {
                    title { (line.label) ": " (line.figures) }
                    @for (from, run) in runs(&line.points) {
                        @if let [one] = run.as_slice() {
                            circle class={ "f" (line.colour) } cx=(format!("{:.1}", across(from))) cy=(format!("{:.1}", up(*one))) r="2" {}
                        } @else {
                            @let points: Vec<String> = run.iter().enumerate().map(|(n, v)| format!("{:.1} {:.1}", across(from + n), up(*v))).collect();
                            path class={ "line l" (line.colour) (if line.projected { " projected" } else { "" }) } d=(format!("M{}", points.join(" L"))) {}
                        }
                    }
                }
            }
        } }
        div.legend { @for line in all { span { i class={ "key k" (line.colour) } {} (line.label) " " b { (line.figures) } } } }
    }
}

/// What was measured without a gap: number of the first step, values.
fn runs(points: &[Option<f64>]) -> Vec<(usize, Vec<f64>)> {
    let mut out: Vec<(usize, Vec<f64>)> = Vec::new();
    for (at, point) in points.iter().enumerate() {
        let Some(value) = point.filter(|v| v.is_finite()) else {
            continue;
        };
        match out.last_mut() {
            Some((from, run)) if *from + run.len() == at => run.push(value),
            _ => out.push((at, vec![value])),
        }
    }
    out
}

/// Number of a part, its value, and the sum of those below; parts of nothing are left out.
fn stacked(parts: &[f64]) -> Vec<(usize, f64, f64)> {
    let mut below = 0.0;
    let mut out = Vec::new();
    for (at, value) in parts.iter().enumerate() {
        if *value > 0.0 {
            out.push((at, *value, below));
            below += value;
        }
    }
    out
}

/// A quiet line in the corner of a figure.
pub fn spark(values: &[f64]) -> Option<Markup> {
    if values.len() < 2 || values.iter().all(|v| *v == values[0]) {
        return None;
    }
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    let least = values.iter().copied().fold(f64::MAX, f64::min).min(0.0);
    let step = 100.0 / (values.len() - 1) as f64;
    let points: Vec<String> = values
        .iter()
        .enumerate()
        .map(|(at, v)| {
            let y = 36.0 - (v - least) / (most - least).max(f64::EPSILON) * 32.0;
            format!("{:.1} {y:.1}", at as f64 * step)
        })
        .collect();
    let line = points.join(" L");
    Some(html! {
        svg.spark viewBox="0 0 100 40" preserveAspectRatio="none" aria-hidden="true" {
            path.area d=(format!("M0 40 L{line} L100 40 Z")) {}
            path d=(format!("M{line}")) {}
        }
    })
}

/// How much of something is used: a bar of `part` in `whole`.
pub fn meter(part: u128, whole: u128, class: &str) -> Markup {
    let percent = part
        .saturating_mul(100)
        .checked_div(whole)
        .unwrap_or(0)
        .min(100);
    html! {
        svg class={ "meter " (class) } viewBox="0 0 100 4" preserveAspectRatio="none" role="img"
            aria-label=(format!("{percent}%")) {
            rect.t width="100" height="4" {}
            rect class=(if percent >= 90 { "v hot" } else { "v" }) width=(percent) height="4" {}
        }
    }
}

/// A sum on its way to where it will end, if it goes on so, and to marks that it should not pass.
pub fn bound(spent: f64, plan: Option<f64>, marks: &[(&str, f64)]) -> Markup {
    let most = marks.iter().map(|m| m.1).fold(spent, f64::max);
    let scale = 1_000.0 / (most.max(plan.unwrap_or(0.0)) * 1.02).max(f64::EPSILON);
    let at = |value: f64| format!("{:.1}", value * scale);
    let words: Vec<String> = marks
        .iter()
        .map(|(label, value)| format!(", {label} {value:.6}"))
        .collect();
    html! {
        svg.bound viewBox="0 0 1000 20" preserveAspectRatio="none" role="img"
            aria-label=(format!("Spent {spent:.6}{}", words.concat())) {
            rect.t width="1000" height="20" {}
            @if let Some(plan) = plan { rect.plan y="1" width=(at(plan)) height="18" { title { "If it goes on so: " (format!("{plan:.6}")) } } }
            rect class={ "f" (if marks.iter().any(|m| spent >= m.1) { 2 } else { 1 }) } width=(at(spent)) height="20" { title { "Spent: " (format!("{spent:.6}")) } }
            @for (label, value) in marks { line.mark x1=(at(*value)) x2=(at(*value)) y1="0" y2="20" { title { (label) ": " (format!("{value:.6}")) } } }
        }
    }
}

/// Bars side by side: label, length, number.
pub fn hbars(rows: &[(String, f64, String)], colour: u8) -> Markup {
    let most = rows
        .iter()
        .map(|r| r.1)
        .fold(0.0, f64::max)
        .max(f64::EPSILON);
    html! {
        div.hbars {
            @for (label, value, words) in rows {
                span.clip { (label) }
                svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                    rect.t width="100" height="8" {}
                    rect class={ "f" (colour) } width=(format!("{:.1}", value / most * 100.0)) height="8" {}
                }
                span.num.strong { (words) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        for (value, top) in [
            (0.0, 1.0),
            (0.013, 0.02),
            (3.2, 5.0),
            (180.0, 200.0),
            (5.0, 5.0),
        ] {
            assert!((ceiling(value) - top).abs() < 1e-9, "{value}");
        }
        assert_eq!(tick(0.0125), "0.0125");
        assert_eq!(tick(50.0), "50");
        assert_eq!(tick(0.0000025), "0.0000025");
    }

    #[test]
    fn what_is_counted_has_whole_numbers_at_its_axis() {
        for (most, ticks) in [(1.0, "3"), (5.0, "6"), (17.0, "15"), (2_000.0, "1500")] {
            let bar = Bar {
                label: "now".into(),
                parts: vec![most],
                plan: None,
                title: "now".into(),
            };
            let drawn = counts(&[bar], &[1], "words", "requests", false).into_string();
            assert!(drawn.contains(&format!(">{ticks}</text>")), "{drawn}");
            assert!(!drawn.contains(".5</text>"), "{drawn}");
        }
    }

    #[test]
    fn what_was_not_measured_is_a_gap() {
        let points = [Some(1.0), Some(2.0), None, Some(f64::NAN), Some(0.0)];
        assert_eq!(runs(&points), [(0, vec![1.0, 2.0]), (4, vec![0.0])]);
        assert!(runs(&[None, None]).is_empty());
    }

    #[test]
    fn lines_begin_at_nothing_and_carry_their_numbers() {
        let line = |points: &[Option<f64>], projected| Line {
            label: "web.1".into(),
            colour: 1,
            points: points.to_vec(),
            figures: "most 2".into(),
            projected,
        };
        let labels: Vec<String> = ["10:00", "10:01", "10:02", "10:03"]
            .map(String::from)
            .into();
        let measured = line(&[Some(1.0), Some(2.0), None, Some(0.5)], false);
        let drawn = lines(&[measured], &labels, "cores", "CPU", false).into_string();
        for part in [
            "role=\"img\" aria-label=\"CPU\"",
            ">in cores</text>",
            "text-anchor=\"end\">0</text>",
            "text-anchor=\"end\">2</text>",
            "<g><title>web.1: most 2</title><path class=\"line l1\" d=\"M46.0 104.0 L234.7 22.0\"></path><circle class=\"f1\" cx=\"612.0\" cy=\"145.0\" r=\"2\"></circle></g>",
            "<div class=\"legend\"><span><i class=\"key k1\"></i>web.1 <b>most 2</b></span></div>",
        ] {
            assert!(drawn.contains(part), "{part}: {drawn}");
        }
        let planned = line(&[Some(1.0), Some(2.0)], true);
        let many = vec![planned; LINES_MAX + 1];
        let drawn = lines(&many, &labels, "cores", "CPU", true).into_string();
        assert_eq!(drawn.matches("line l1 projected").count(), LINES_MAX);
        let none = lines(&[line(&[], false)], &[], "cores", "nothing", false).into_string();
        assert!(!none.contains("NaN") && !none.contains("inf"), "{none}");
    }

    #[test]
    fn a_flat_line_is_no_line() {
        assert!(spark(&[1.0, 1.0, 1.0]).is_none());
        assert!(spark(&[1.0]).is_none());
        assert!(spark(&[0.0, 3.0]).is_some());
    }
}
