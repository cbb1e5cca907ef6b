//! Read a compose file into a deployment; say what is not supported.
