//! Who holds credits. An account exists from the moment it is first paid or first signs.

mod apply;
mod call;
mod event;
mod grant;
mod state;

pub(crate) use apply::apply;
pub use call::Call;
pub use event::Event;
pub use grant::{Grant, Role, SpendingLimit};
pub use state::Account;

#[cfg(test)]
mod grant_tests;
#[cfg(test)]
mod tests;
