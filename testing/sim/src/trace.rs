//! What happened, one line for each event, for people who look for a bug.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Lines that are kept: the last ones.
const KEPT: usize = 4_096;

/// What the lines mean.
pub const LEGEND: &str = "\
legend: seconds of virtual time since the start, then what happened
  FAULT ..             the scenario does something to the network, a validator or its disk
  start N              validator N starts, or starts again, on what is on its disk
  end N                validator N ended by itself, and is started again
  proof N              two blocks that N sealed for one view are known
  block H by N: ..     block H is final with validator N, the first to say so; its epoch, view,
                       leader, transactions and what it carries besides (L: log of a dealing,
                       B: beacon, C: frozen candidates, S: name of the whole state)
  done                 all that was promised was kept";

/// Cloned, it is the same.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<VecDeque<String>>>);

impl Trace {
    pub fn note(&self, at: Duration, what: impl fmt::Display) {
        let mut lines = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        if lines.len() == KEPT {
            lines.pop_front();
        }
        lines.push_back(format!("{:9.3} {what}", at.as_secs_f64()));
    }

    pub fn lines(&self) -> Vec<String> {
        let lines = self.0.lock().unwrap_or_else(|broken| broken.into_inner());
        lines.iter().cloned().collect()
    }
}
