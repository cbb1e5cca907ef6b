//! Order and finalise blocks (Commonware).
//!
//! The state machine stands behind [`Machine`] and knows nothing of the engine; the engine
//! knows nothing of accounts or containers. The first committee makes its key together
//! ([`found`]) or is dealt it ([`deal`]); in each epoch the key is handed on to whom the
//! machine seats ([`Machine::committee`]). Each validator runs [`start`] on its seat and is
//! spoken to through a [`Handle`].
//!
//! Deviations from the engine's own layers: state is executed in memory and saved by us, not
//! by its state store (RFD 1).

mod app;
mod block;
mod boundary;
mod clock;
mod committee;
mod epochs;
mod finalizer;
mod follower;
mod founding;
mod kept;
mod leaders;
mod lineup;
mod machine;
#[cfg(feature = "simulation")]
mod malice;
#[cfg(feature = "simulation")]
mod medium;
mod mempool;
mod node;
mod once;
mod scheme;
mod sightings;
#[cfg(feature = "simulation")]
pub mod simulation;
mod store;
mod vault;
mod wiring;

pub use app::Finalized;
pub use block::{Block, Handing, SCREENERS_MAX, handing};
pub use boundary::{
    Boundary, OFFER_BYTES_MAX, Offer, PIECE_BYTES_MAX, PIECES_MAX, Piece, adopt, reached,
};
pub use committee::{Committee, MEMBERS_MAX, Member, Seat, deal, is_identity};
pub use epochs::KeyShare;
pub use follower::{Checked, Follower, Outbox, PASSED_BYTES_MAX, follow, may_vote};
pub use founding::{Ceremony, FoundError, Founded, Step, found};
pub use machine::{Admitted, Env, Executed, Machine, Pace, Stated};
pub use mempool::{Queue, SubmitError};
pub use node::{Config, Handle, damaged, spend_seat, start};
pub use store::{Record, open_database};

#[cfg(test)]
mod tests;
