//! Who holds credits. An account exists from the moment it is first paid or first signs.

mod call;
mod event;
mod state;

pub use call::Call;
pub use event::Event;
pub use state::Account;
