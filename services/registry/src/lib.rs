//! Keep images for the network: the OCI distribution API, for unmodified clients.
//!
//! A repository is `<account>/<name>`; its account alone writes it and reads it by tag.
//! Reading by digest is open: a digest cannot be guessed, and hosts that were told one fetch
//! without credentials. Content becomes visible only after its bytes were found to be what
//! their digest says. Start at [`run`].

mod accounts;
mod answer;
mod blobs;
mod builders;
mod config;
mod http;
mod keep;
mod limits;
mod login;
mod manifests;
mod route;
mod serve;
mod uploads;

pub use config::Config;
pub use http::{router, run};

#[cfg(test)]
mod tests;
