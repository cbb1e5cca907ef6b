//! What a validator lacks that did not begin with the network, or keeps only the last blocks.

use axum::http::StatusCode;

use crate::answer::Refused;
use crate::http::Validator;

/// Others that are named.
const NAMED_MAX: usize = 3;

impl Validator {
    /// Why `what` is not here, which is of block `height`, or of any that is past; and who may have
    /// it. As [`Refused::not_found`] with `next` if blocks from the beginning on are kept here.
    pub fn gone(&self, what: &str, height: Option<u64>, next: &str) -> Refused {
        let (begins, head) = (self.handle.begins(), self.handle.head().header.height);
        let is_past = height.is_none_or(|height| height < begins);
        if begins == 0 || !is_past {
            return Refused::not_found(what, next);
        }
        self.before(what, &format!("blocks from {begins} to {head}"))
    }

    /// `what` is older than what is `kept` here.
    pub fn before(&self, what: &str, kept: &str) -> Refused {
        let own = hex::encode(self.own);
        let others = self.network.validators.iter();
        let others = others.filter(|v| v.key != own && !v.api.is_empty());
        let others: Vec<&str> = others.take(NAMED_MAX).map(|v| v.api.as_str()).collect();
        let next = match others.is_empty() {
            true => "Ask one that keeps all: `--url URL`.".into(),
            false => format!(
                "Ask one that keeps all, as founders do unless they say otherwise, with `--url`: {}.",
                others.join(", ")
            ),
        };
        let what: String = what.chars().take(100).collect();
        let why = format!(
            "this validator keeps {kept} only: it began later, or forgets what is older; whether that was ever there it cannot say"
        );
        Refused::new(StatusCode::GONE, "not_found", what, why, &next)
    }
}
