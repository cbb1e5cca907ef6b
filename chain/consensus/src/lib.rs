//! Order and finalise blocks (Commonware).
//!
//! The state machine stands behind [`Machine`] and knows nothing of the engine; the engine
//! knows nothing of accounts or containers. Start at [`Machine`], then [`Handle`].

mod machine;

pub use machine::{Admitted, Executed, Machine};
