//! The page on which a person approves one transaction, and the parts that passkeys need.

use maud::{Markup, html};

use super::{Tone, alert, copy, field, icon};
use crate::approve::{Ask, Challenge, FIELDS, Way};
use crate::web::{Form, Visitor, url};

/// The script of passkeys. Whatever has the class `with-passkey` is shown by it, where the
/// browser has such keys.
pub fn passkey_script() -> Markup {
    html! { script defer src=(url("passkey.js")) {} }
}

/// Fields that the script fills in, and where it says what went wrong.
pub fn passkey_fields() -> Markup {
    html! {
        @for name in ["approve_authenticator", "approve_client", "approve_signature"] {
            input type="hidden" name=(name) disabled;
        }
        p.passkey-said.err role="alert" {}
    }
}

fn by_passkey(all: &[Challenge]) -> Markup {
    html! {
        @if all.is_empty() {
            (alert(Tone::Warn, html! {
                p.strong { "None of your passkeys may sign this" }
                p { "One that is taken away is not signed away by itself, and those that were taken back on the ledger sign nothing." }
            }))
        }
        (passkey_fields())
        input type="hidden" name="approve_body" disabled;
        div.with-passkey hidden {
            @for (at, one) in all.iter().enumerate() {
                button.btn.wide.primary[at == 0].gap[at > 0] type="button" data-passkey="sign" data-challenge=(one.challenge) data-body=(one.body) data-allow=(one.allow) {
                    (icon("key-round")) @if all.len() == 1 { "Sign with your passkey" } @else { span.clip { "Sign with " (one.name) } }
                }
            }
        }
        noscript { p { "A passkey signs by a script of this page: allow scripts, or use the command line." } }
        (passkey_script())
    }
}

fn by_password(coded: bool) -> Markup {
    html! {
        (field("approve_password", "Your password", html! { input.in id="approve_password" name="approve_password" type="password" autocomplete="current-password" maxlength="200" required autofocus; }, "It opens the account's own key for this one transaction", None))
        @if coded { (field("approve_code", "Code of your second factor", html! { input.in id="approve_code" name="approve_code" inputmode="numeric" autocomplete="one-time-code" maxlength="10" required; }, "", None)) }
        button.btn.primary.wide { (icon("key-round")) "Sign it" }
    }
}

/// Names what is asked, and sends `form` again with the approval.
pub fn approval(visitor: &Visitor, ask: &Ask, form: &Form) -> Markup {
    let account = visitor.login.as_ref().map(|l| l.account().to_string());
    let account = account.unwrap_or_default();
    let command = format!("runrig --key RECOVERY-FILE --account {account} whoami");
    let kept = form
        .fields()
        .filter(|(name, _)| *name != "csrf" && !name.starts_with(FIELDS));
    html! {
        div.approve {
            section.card {
                h1 { "Sign this with your own key" }
                p.lead { @if ask.why.is_empty() { "Nothing has been changed yet." } @else { (ask.why) } }
                @if let Some(wrong) = &ask.wrong { (alert(Tone::Bad, html! { p { (wrong) } })) }
                blockquote.sentence { (ask.words) "." }
                p.dim { "So it will stand on the ledger, for all to read." }
                @if matches!(ask.way, Way::File) {
                    (alert(Tone::Info, html! {
                        p.strong { "This portal does not have the account's own key" }
                        p { "You took it away: it is in your recovery file. Sign it on the command line, where the file is." }
                    }))
                    div.row { code.code.wrap { (command) } (copy(&command, "the command")) }
                } @else {
                    form method="post" action=(visitor.path) {
                        input type="hidden" name="csrf" value=(visitor.form_token());
                        @for (name, value) in kept { input type="hidden" name=(name) value=(value); }
                        @match &ask.way {
                            Way::Password { coded } => { (by_password(*coded)) }
                            Way::Passkey(all) => { (by_passkey(all)) }
                            Way::File => {}
                        }
                    }
                }
                p.alt { a href="/" { "Leave it as it is" } }
            }
        }
    }
}
