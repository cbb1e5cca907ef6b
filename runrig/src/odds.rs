//! `lots odds`: how likely a committee is drawn in which more than a third are against the network.
//!
//! Nobody is drawn twice, so among a known number of candidates the count of bad seats is
//! hypergeometric; among very many, binomial. Sums are of logarithms: the rarest odds are far below
//! what a product of floats holds.

use clap::Args;

use crate::failure::{Failure, Result};
use crate::output;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig lots odds\n  runrig lots odds --seats 100 --bad 20,25 --candidates 1000"
)]
pub struct Odds {
    /// Sizes of the committee
    #[arg(long, value_delimiter = ',', default_values_t = [16, 31, 64, 100, 128, 200], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    seats: Vec<u32>,
    /// Percents of the candidates that are bad
    #[arg(long, value_delimiter = ',', default_values_t = [10, 15, 20, 25, 30], value_parser = clap::value_parser!(u32).range(0..=100))]
    bad: Vec<u32>,
    /// How many candidates there are; very many if not said
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    candidates: Option<u64>,
}

/// ln n!, for all n up to `most`.
fn factorials(most: u64) -> Vec<f64> {
    let mut sum = 0.0;
    let each = (1..=most).map(|n| {
        sum += (n as f64).ln();
        sum
    });
    std::iter::once(0.0).chain(each).collect()
}

/// Seats that may be bad without harm: with n = 3f + 1 at most f.
fn harmless(seats: u64) -> u64 {
    seats.saturating_sub(1) / 3
}

/// Probability that more than a third of `seats` are bad.
fn odds(seats: u64, bad: f64, candidates: Option<u64>, factorial: &[f64]) -> f64 {
    let ln = |n: u64| factorial[n as usize];
    let choose = |n: u64, k: u64| ln(n) - ln(k) - ln(n - k);
    let term = |k: u64| match candidates {
        None if bad <= 0.0 => 0.0,
        None if bad >= 1.0 => f64::from(u8::from(k == seats)),
        None => {
            let rest = (seats - k) as f64;
            (choose(seats, k) + k as f64 * bad.ln() + rest * (1.0 - bad).ln()).exp()
        }
        Some(all) => {
            let wicked = (bad * all as f64).round() as u64;
            let (good, rest) = (all - wicked, seats - k);
            if k > wicked || rest > good {
                return 0.0;
            }
            (choose(wicked, k) + choose(good, rest) - choose(all, seats)).exp()
        }
    };
    // The smallest first: nothing small is lost beside something large.
    (harmless(seats) + 1..=seats).rev().map(term).sum()
}

pub fn run(args: &Odds, json: bool) -> Result {
    let largest = args.seats.iter().copied().max().unwrap_or(1);
    if args.candidates.is_some_and(|all| all < u64::from(largest)) {
        return Err(Failure::usage(
            "--candidates",
            format!("{largest} seats cannot be drawn from fewer"),
            "Name fewer --seats, or more candidates.",
        ));
    }
    let most = args.candidates.unwrap_or(0).max(largest.into());
    let factorial = factorials(most);
    let of = |seats: u32, bad: u32| {
        odds(
            seats.into(),
            f64::from(bad) / 100.0,
            args.candidates,
            &factorial,
        )
    };
    if json {
        let rows = args
            .bad
            .iter()
            .flat_map(|bad| args.seats.iter().map(move |seats| (*bad, *seats)));
        let rows: Vec<_> = rows
            .map(|(bad, seats)| {
                serde_json::json!({
                    "bad_percent": bad, "seats": seats,
                    "harmless": harmless(seats.into()), "probability": of(seats, bad),
                })
            })
            .collect();
        output::json(&rows);
        return Ok(());
    }
    let mut headers = vec!["BAD CANDIDATES".to_string()];
    headers.extend(args.seats.iter().map(|n| format!("{n} SEATS")));
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = args
        .bad
        .iter()
        .map(|bad| {
            let cells = args
                .seats
                .iter()
                .map(|seats| format!("{:.0e}", of(*seats, *bad)));
            std::iter::once(format!("{bad} %")).chain(cells).collect()
        })
        .collect();
    let right: Vec<usize> = (1..headers.len()).collect();
    output::data(output::table(&headers, &rows, &right));
    output::say(
        "how likely one drawing gives more than a third of the seats to bad candidates, were all seats drawn anew",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_odds() {
        let factorial = factorials(1_000);
        for (seats, percent, low, high) in [
            (16, 10, 2.5e-3, 3.5e-3),
            (31, 15, 3.5e-3, 4.5e-3),
            (64, 20, 4.5e-3, 5.5e-3),
            (100, 20, 6.5e-4, 7.5e-4),
            (200, 10, 1.5e-19, 2.5e-19),
            (128, 25, 1.5e-2, 2.5e-2),
        ] {
            let found = odds(seats, f64::from(percent) / 100.0, None, &factorial);
            assert!((low..high).contains(&found), "{seats} {percent}: {found:e}");
        }
        assert_eq!(odds(4, 0.0, None, &factorial), 0.0);
        assert!((odds(4, 1.0, None, &factorial) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn drawing_from_few_is_counted_exactly() {
        let factorial = factorials(1_000);
        // Two of four seats from five candidates, two of whom are bad: three of the five ways to
        // leave one out leave both in.
        let found = odds(4, 0.4, Some(5), &factorial);
        assert!((found - 0.6).abs() < 1e-12, "{found}");
        // All sit: what they are is certain.
        assert!(odds(100, 0.33, Some(100), &factorial) < 1e-9);
        assert!((odds(100, 0.34, Some(100), &factorial) - 1.0).abs() < 1e-9);
        // Very many candidates are as good as endless ones.
        let (few, endless) = (
            odds(31, 0.2, Some(1_000), &factorial),
            odds(31, 0.2, None, &factorial),
        );
        assert!(few < endless && few > endless / 2.0, "{few} {endless}");
    }
}
