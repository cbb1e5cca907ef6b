//! The design system: one function per component, and the frame that every page has.
//!
//! Text that comes from outside is escaped by `maud`; nothing here writes raw markup of others.
//! No component has a style or script of its own: `assets/portal.css` dresses them by class.

mod approval;
mod chart;
mod check;
mod part;
mod prose;
mod shell;

#[cfg(test)]
mod tests;

pub use approval::{approval, passkey_fields, passkey_script};
pub use chart::{
    Bar, LINES_MAX, Line, Slice, bars, bound, counts, donut, hbars, legend, lines, meter, spark,
};
pub use check::{Check, check};
pub use part::{
    Figure, Tone, alert, badge, cli, copy, credits, crumbs, empty, feed, field, icon, if_may,
    image, kpi, no_right, pager, replica_dots, skeleton, stale, status, submit, trouble, turner,
    when,
};
pub use prose::prose;
#[cfg(test)]
pub use shell::menu;
pub use shell::{Place, initials, page, page_of, stand};
