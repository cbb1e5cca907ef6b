//! Keep images for the network: the OCI distribution API.

mod config;

pub use config::Config;
