//! Change the network's parameters by vote.
//!
//! A *member* is an account that has done a validator's duties through an epoch, not more than
//! 64 epochs ago: one account, one vote, however many validators or credits it has. Any member
//! proposes one change; who is a member then may vote on it. More than half of all of them must say
//! yes. What is accepted takes effect with the first epoch that begins after the delay, so that
//! nobody is surprised.

mod apply;
mod call;
mod event;
mod state;

pub(crate) use apply::{apply, note_member, pass_time};
pub use call::Call;
pub use event::Event;
pub use state::{Change, Member, Phase, Proposal, VERSION};

#[cfg(test)]
mod tests;
