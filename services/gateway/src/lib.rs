//! Take requests from outside to healthy replicas; one address for the API.

mod config;

pub use config::Config;
