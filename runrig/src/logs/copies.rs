//! What is said between the lines: of copies, of hosts that are lost, of successors.

use api::AllocationView;
use sdk::{CopiedLog, News, Note};

use crate::units;

/// What who reads it should know.
pub fn told(copy: &CopiedLog, of: &AllocationView) -> String {
    let mut text = format!(
        "{} ({}.{} on {}): from its copy on {}, up to {}; what came after that is missing until its host is back",
        of.allocation,
        of.service,
        of.replica,
        of.host_name,
        copy.keepers.join(", "),
        units::time(copy.newest_ms),
    );
    if copy.missing > 0 {
        text.push_str(&format!(
            "; {} lines before that are in no copy",
            copy.missing
        ));
    }
    if let Some(why) = &copy.closed {
        text.push_str(&format!("; not all of it could be read: {why}"));
    }
    text
}

/// What who follows it should know.
pub fn note(note: &Note) -> String {
    let of = &note.of;
    let name = format!("{} ({}.{})", of.allocation, of.service, of.replica);
    match &note.news {
        News::Copied(copy) => told(copy, of),
        News::Lost => format!(
            "{name}: its host {} is lost, and no copy of its log can be opened",
            of.host_name
        ),
        News::Back => format!("{name}: its host {} is back", of.host_name),
        News::Follows(before, from) => format!(
            "{name} on {} takes the place of {before}, which ran on {from}",
            of.host_name
        ),
        News::Ended(why) => format!("{} is followed no more: {why}", of.allocation),
    }
}
