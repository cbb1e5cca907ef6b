//! What a measurement found: rounds, their median and spread, and what stands beside it.

use std::time::Duration;

use serde::Serialize;

/// One thing measured, over several rounds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// Which benchmark it is of.
    pub bench: &'static str,
    pub name: String,
    pub unit: &'static str,
    /// Of [`Self::rounds`].
    pub median: f64,
    /// Lowest and highest round.
    pub spread: (f64, f64),
    /// In the order they were taken.
    pub rounds: Vec<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub goal: Option<Goal>,
}

/// A peer or a physical limit, measured in the same run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Beside {
    pub name: String,
    pub median: f64,
    /// Ours over theirs.
    pub ratio: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    AtLeast(f64),
    AtMost(f64),
    /// Ours over the peer's.
    RatioAtMost(f64),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Goal {
    pub bound: Bound,
    pub met: bool,
}

/// What one benchmark brought, and what it could not measure: what is missing, and how to
/// have it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Found {
    pub figures: Vec<Figure>,
    pub left_out: Vec<String>,
}

impl Figure {
    /// `None` if there was no round.
    pub fn of(
        bench: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        rounds: Vec<f64>,
    ) -> Option<Self> {
        Some(Self {
            bench,
            name: name.into(),
            unit,
            median: median(&rounds)?,
            spread: (quantile(&rounds, 0.0)?, quantile(&rounds, 1.0)?),
            rounds,
            beside: None,
            goal: None,
        })
    }

    /// Sets it beside the median of `rounds`; without any it stays alone.
    pub fn beside(mut self, name: impl Into<String>, rounds: &[f64]) -> Self {
        self.beside = median(rounds)
            .filter(|theirs| *theirs > 0.0)
            .map(|theirs| Beside {
                name: name.into(),
                median: theirs,
                ratio: self.median / theirs,
            });
        self
    }

    pub fn goal(mut self, bound: Bound) -> Self {
        let met = match bound {
            Bound::AtLeast(least) => self.median >= least,
            Bound::AtMost(most) => self.median <= most,
            Bound::RatioAtMost(most) => self.beside.as_ref().is_some_and(|b| b.ratio <= most),
        };
        self.goal = Some(Goal { bound, met });
        self
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    quantile(values, 0.5)
}

/// With a straight line between neighbours; `share` from 0 (lowest) to 1 (highest).
pub fn quantile(values: &[f64], share: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = share.clamp(0.0, 1.0) * sorted.len().checked_sub(1)? as f64;
    let (below, above) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    Some(below + (above - below) * at.fract())
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles() {
        assert_eq!(median(&[]), None);
        for (values, share, expected) in [
            (vec![7.0], 0.99, 7.0),
            (vec![3.0, 1.0, 2.0], 0.5, 2.0),
            (vec![4.0, 1.0, 2.0, 3.0], 0.5, 2.5),
            (vec![1.0, 2.0, 3.0, 4.0, 5.0], 0.0, 1.0),
            (vec![1.0, 2.0, 3.0, 4.0, 5.0], 1.0, 5.0),
            (vec![0.0, 10.0], 0.25, 2.5),
            (vec![1.0, 2.0], 7.0, 2.0),
        ] {
            assert_eq!(
                quantile(&values, share),
                Some(expected),
                "{values:?} at {share}"
            );
        }
    }

    #[test]
    fn ratios_and_goals() {
        let figure = || Figure::of("x", "y", "ms", vec![30.0, 10.0, 20.0]).expect("rounds");
        assert_eq!((figure().median, figure().spread), (20.0, (10.0, 30.0)));
        let ratio = figure()
            .beside("peer", &[16.0])
            .goal(Bound::RatioAtMost(1.2));
        assert_eq!(ratio.beside.as_ref().map(|b| b.ratio), Some(1.25));
        for (figure, met) in [
            (ratio, false),
            (figure().goal(Bound::RatioAtMost(1.2)), false),
            (figure().beside("peer", &[]).goal(Bound::AtMost(20.0)), true),
            (figure().goal(Bound::AtLeast(20.5)), false),
            (figure().goal(Bound::AtLeast(20.0)), true),
        ] {
            assert_eq!(figure.goal.map(|g| g.met), Some(met), "{figure:?}");
        }
        assert_eq!(Figure::of("x", "y", "ms", Vec::new()), None);
    }
}
