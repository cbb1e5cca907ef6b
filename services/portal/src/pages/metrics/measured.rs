//! Samples of any length, laid on equal steps of time.

use std::collections::BTreeMap;

use api::StatsSample;

/// Steps of one chart.
pub const STEPS: usize = 60;

/// Use within one step, or in all of them: means weigh by how long they were measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Use {
    covered_ms: f64,
    cpu: f64,
    memory: f64,
    rx: f64,
    tx: f64,
    pub cpu_millis_max: u64,
    pub memory_bytes_max: u64,
}

impl Use {
    fn add(&mut self, sample: &StatsSample, overlap_ms: f64) {
        let share = overlap_ms / sample.step_ms as f64;
        self.covered_ms += overlap_ms;
        self.cpu += sample.cpu_millis as f64 * overlap_ms;
        self.memory += sample.memory_bytes as f64 * overlap_ms;
        self.rx += sample.rx_bytes as f64 * share;
        self.tx += sample.tx_bytes as f64 * share;
        self.cpu_millis_max = self.cpu_millis_max.max(sample.cpu_millis_max);
        self.memory_bytes_max = self.memory_bytes_max.max(sample.memory_bytes_max);
    }

    /// `None` where nothing was measured.
    fn mean(&self, of: f64) -> Option<f64> {
        (self.covered_ms > 0.0).then(|| of / self.covered_ms)
    }

    pub fn cpu_cores(&self) -> Option<f64> {
        Some(self.mean(self.cpu)? / 1_000.0)
    }

    pub fn memory_mib(&self) -> Option<f64> {
        Some(self.mean(self.memory)? / f64::from(1 << 20))
    }

    pub fn cpu_millis(&self) -> u64 {
        self.mean(self.cpu).unwrap_or_default() as u64
    }

    pub fn memory_bytes(&self) -> u64 {
        self.mean(self.memory).unwrap_or_default() as u64
    }

    pub fn received(&self) -> u64 {
        self.rx as u64
    }

    pub fn sent(&self) -> u64 {
        self.tx as u64
    }
}

/// By replica, as `web.1`: one that was replaced goes on as the same.
pub struct Measured {
    since_ms: u64,
    step_ms: u64,
    replicas: BTreeMap<String, (Use, Vec<Use>)>,
}

impl Measured {
    /// `length_ms` from `since_ms` on. What lies outside is left out, and what has no length.
    pub fn of(samples: &[StatsSample], since_ms: u64, length_ms: u64) -> Self {
        let step_ms = (length_ms / STEPS as u64).max(1);
        let mut replicas: BTreeMap<String, (Use, Vec<Use>)> = BTreeMap::new();
        for sample in samples.iter().filter(|s| s.step_ms > 0) {
            let begins = sample.at_ms.max(since_ms);
            let ends = sample.at_ms.saturating_add(sample.step_ms);
            let ends = ends.min(since_ms.saturating_add(step_ms * STEPS as u64));
            if begins >= ends {
                continue;
            }
            let name = format!("{}.{}", sample.service, sample.replica);
            let empty = || (Use::default(), vec![Use::default(); STEPS]);
            let (sum, steps) = replicas.entry(name).or_insert_with(empty);
            sum.add(sample, (ends - begins) as f64);
            let at = |ms: u64| ((ms - since_ms) / step_ms) as usize;
            let within = at(begins)..=at(ends - 1);
            for (number, step) in steps.iter_mut().enumerate() {
                if !within.contains(&number) {
                    continue;
                }
                let from = since_ms + number as u64 * step_ms;
                let overlap = ends.min(from + step_ms) - begins.max(from);
                step.add(sample, overlap as f64);
            }
        }
        Self {
            since_ms,
            step_ms,
            replicas,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.replicas.is_empty()
    }

    /// When a step begins.
    pub fn time_of(&self, step: usize) -> u64 {
        self.since_ms + step as u64 * self.step_ms
    }

    /// A line for each replica, those with the largest points first.
    pub fn lines(&self, of: impl Fn(&Use) -> Option<f64>) -> Vec<(String, Vec<Option<f64>>)> {
        let points = |steps: &[Use]| steps.iter().map(&of).collect::<Vec<_>>();
        let replicas = self.replicas.iter();
        let mut all: Vec<_> = replicas
            .map(|(name, (_, steps))| (name.clone(), points(steps)))
            .collect();
        let most = |line: &[Option<f64>]| line.iter().flatten().copied().fold(0.0, f64::max);
        all.sort_by(|a, b| most(&b.1).total_cmp(&most(&a.1)));
        all
    }

    /// What all received and sent, in KiB a second.
    pub fn network(&self) -> Vec<(String, Vec<Option<f64>>)> {
        let rate = |of: fn(&Use) -> f64| {
            let step = |number: usize| {
                let known = self.replicas.values().map(|(_, steps)| &steps[number]);
                let known = known.filter(|step| step.covered_ms > 0.0);
                let rates = known.map(|step| of(step) / step.covered_ms * 1_000.0 / 1_024.0);
                rates.reduce(|a, b| a + b)
            };
            (0..STEPS).map(step).collect()
        };
        vec![
            ("Received".into(), rate(|step| step.rx)),
            ("Sent".into(), rate(|step| step.tx)),
        ]
    }

    /// Of all steps together.
    pub fn sums(&self) -> impl Iterator<Item = (&String, &Use)> {
        self.replicas.iter().map(|(name, (sum, _))| (name, sum))
    }

    /// Cells of a file, a row for each step of each replica in which it was measured.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = Vec::new();
        for (name, (_, steps)) in &self.replicas {
            for (number, step) in steps.iter().enumerate() {
                if step.covered_ms > 0.0 {
                    rows.push(vec![
                        words::utc(self.time_of(number)),
                        name.clone(),
                        step.cpu_millis().to_string(),
                        step.memory_bytes().to_string(),
                        step.received().to_string(),
                        step.sent().to_string(),
                    ]);
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use types::AllocationId;

    use super::*;

    fn sample(replica: u32, at_ms: u64, step_ms: u64, cpu: u64, rx: u64) -> StatsSample {
        StatsSample {
            allocation: AllocationId(at_ms),
            service: "web".into(),
            replica,
            at_ms,
            step_ms,
            cpu_millis: cpu,
            cpu_millis_max: cpu,
            memory_bytes: 1 << 20,
            memory_bytes_max: 1 << 20,
            disk_bytes: 0,
            rx_bytes: rx,
            tx_bytes: 0,
            pids: 1,
        }
    }

    #[test]
    fn means_weigh_by_time_and_bytes_are_spread() {
        // Steps of a second.
        let samples = [
            // A quarter of the first step, and half of the second.
            sample(1, 10_750, 750, 1_000, 3_072),
            // The rest of the second: the same replica, elsewhere.
            sample(1, 11_500, 500, 0, 0),
            sample(2, 12_000, 1_000, 500, 1_024),
            // Before, after, and of no length.
            sample(3, 0, 10_000, 9, 9),
            sample(3, 70_000, 1_000, 9, 9),
            sample(3, 11_000, 0, 9, 9),
            sample(3, u64::MAX, u64::MAX, 9, 9),
        ];
        let found = Measured::of(&samples, 10_000, 60_000);
        let lines = found.lines(Use::cpu_cores);
        let names: Vec<&str> = lines.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["web.1", "web.2"]);
        assert_eq!(lines[0].1[..3], [Some(1.0), Some(0.5), None]);
        assert_eq!(lines[1].1[..3], [None, None, Some(0.5)]);
        let network = found.network();
        // A third of 3 KiB within a quarter of a second; then the rest within a whole one.
        assert_eq!(network[0].1[..4], [Some(4.0), Some(2.0), Some(1.0), None]);
        let sums: Vec<u64> = found.sums().map(|(_, sum)| sum.received()).collect();
        assert_eq!(sums, [3_072, 1_024]);
        assert_eq!(found.rows().len(), 3);
        assert!(Measured::of(&[], 0, 60_000).is_empty());
    }
}
