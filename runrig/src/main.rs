//! The binary: the CLI, and every role as a subcommand.
fn main() {}
