//! Who may be drawn to vote: anyone with a bond, an address and a ticket.
//!
//! Nobody admits and nobody expels. A validator is entered by its owner, who bonds credits for
//! it; it may be drawn while its ticket is fresh, and renews that by itself. When its owner takes
//! it off, it sits through the epochs that it is drawn for; then, after a delay, the bond goes
//! back. A leader of two blocks for one view loses it, by proof and not by anyone's word. Bonds are part of the supply: what they add up to is checked with every block.

mod accuse;
mod apply;
mod call;
mod event;
mod state;

pub use accuse::fund_account;
pub(crate) use apply::{apply, founders, return_bonds};
pub use call::{Call, Registration};
pub use event::Event;
pub use state::{Conviction, Leaving, Validator};

#[cfg(test)]
mod tests;
