//! Keep images for the network: the OCI distribution API.
//!
//! A repository is `<account>/<name>`; its account alone writes it and reads it by tag.
//! Reading by digest is open: a digest cannot be guessed, and hosts that were told one fetch
//! without credentials. Content becomes visible only after its bytes were found to be what
//! their digest says.

mod config;
mod http;
mod keep;

pub use config::Config;
pub use http::{router, run};

#[cfg(test)]
mod tests;
