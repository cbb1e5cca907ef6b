//! Call the public API: sign, submit, follow, verify.
//!
//! Start at [`Client`].

mod client;
mod error;
mod exec;
mod tunnel;
mod verify;

pub use client::{Client, LogQuery};
pub use error::SdkError;
pub use exec::ExecStream;
pub use verify::{Step, verify_lots, verify_receipt};

#[cfg(test)]
mod tests;
