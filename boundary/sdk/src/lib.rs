//! Call the public API: sign, submit, follow, verify.
