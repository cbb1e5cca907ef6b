//! Who holds credits. An account exists from the moment it is first paid or first signs.

mod apply;
mod call;
mod event;
mod state;

pub(crate) use apply::apply;
pub use call::Call;
pub use event::Event;
pub use state::Account;

#[cfg(test)]
mod tests;
