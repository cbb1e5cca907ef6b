//! Figures as Prometheus reads them.

/// Content type of [`prometheus`].
pub const PROMETHEUS: &str = "text/plain; version=0.0.4";

/// A number that may go up and down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// `runrig_…`
    pub name: &'static str,
    pub help: &'static str,
    pub value: u64,
}

impl Gauge {
    pub fn new(name: &'static str, help: &'static str, value: u64) -> Self {
        Self { name, help, value }
    }
}

/// The text exposition format.
pub fn prometheus(gauges: &[Gauge]) -> String {
    gauges.iter().fold(String::new(), |text, gauge| {
        let Gauge { name, help, value } = gauge;
        format!("{text}# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_told_with_its_kind() {
        let text = prometheus(&[Gauge::new("runrig_height", "Height of the head.", 7)]);
        assert_eq!(
            text,
            "# HELP runrig_height Height of the head.\n# TYPE runrig_height gauge\nrunrig_height 7\n"
        );
    }
}
