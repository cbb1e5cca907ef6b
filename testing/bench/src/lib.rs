//! Measure how fast the parts are on this machine.
//!
//! A measurement makes its own load from a fixed seed and returns figures; whoever calls it
//! prints them. Start at [`scheduler()`] or
//! [`gateway()`].

mod gateway;
mod scheduler;

pub use gateway::{GatewayFigure, GatewayOptions, gateway};
pub use scheduler::{SchedulerFigure, scheduler};
