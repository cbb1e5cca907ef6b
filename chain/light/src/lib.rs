//! Check certificates and proofs; nothing else.
