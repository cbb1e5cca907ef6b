//! What every request goes through: who asks, whether he may, and what browsers are told.

mod assets;
mod form;
mod guard;
mod right;
mod trouble;
mod visitor;
mod whence;

pub use assets::{asset, url};
pub use form::Form;
pub use guard::{
    DEVICE, Programs, SESSION, STRANGER, THEME, Who, escaped, guard, sealed, set_cookie,
};
pub use right::{Lack, Right, certain, over};
pub use trouble::{Page, Trouble};
#[cfg(test)]
pub use visitor::Asking;
pub use visitor::{Theme, Visitor};
pub use whence::Range;
