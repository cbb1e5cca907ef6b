//! A proof that is checked in the browser which shows it.

use maud::{Markup, html};

use super::{Tone, alert, field, icon};
use crate::web::url;

pub struct Check<'a> {
    /// What is checked, as the program takes it: JSON.
    pub about: &'a str,
    /// Where the proof is.
    pub proof: &'a str,
    /// Where the program is, or why this build has none.
    pub program: Result<&'a str, &'a str>,
    /// Hex; empty while this portal does not know it.
    pub network_key: &'a str,
}

/// One line of what was checked; the script fills it in.
fn step(tone: &str, picture: &str) -> Markup {
    html! {
        template data-part=(tone) {
            li { span class={ "ic " (tone) } { (icon(picture)) } div.tx { span.wrap {} } }
        }
    }
}

/// The button, where there is a program and a script to press it with; the command below does the same.
pub fn check(check: &Check<'_>) -> Markup {
    let key = check.network_key;
    html! {
        section.card.s12 {
            header { div { h2 { "Check it in this browser" } p.sub { "The proof is read anew, and held against the network’s key and nothing else" } } }
            @match check.program {
                Err(why) => { p.ink2 { "This build of the portal came without the program for that: " (why) ". The command below does the same on your own machine." } }
                Ok(program) => {
                    noscript { p.ink2 { "It takes a script. The command below does the same on your own machine." } }
                    div.stack hidden data-check=(check.about) data-proof=(check.proof) data-program=(program) data-network-key=(key) {
                        details {
                            summary { "By the network’s key " span.mono data-part="key" { (words::brief(key)) } }
                            (field("check-key", "Network’s key", html! {
                                textarea id="check-key" rows="4" maxlength="1000" spellcheck="false" autocomplete="off" aria-describedby="check-key-hint" { (key) }
                            }, "In hex, as this portal says it. Compare it with what the network’s founders say, or paste theirs.", None))
                            label.check { input type="checkbox" id="check-keep"; span { "Keep this key in this browser, for all proofs of this portal" } }
                        }
                        p.ink2 data-part="other" hidden { "The key that is kept here is not the one that this portal says." }
                        div.row { button.btn.primary type="button" { (icon("circle-check")) "Check it here" } }
                        div data-part="said" role="status" {}
                        ul.feed data-part="steps" {}
                        template data-part="holds" { (alert(Tone::Ok, html! { p.strong {} p {} })) }
                        template data-part="fails" { (alert(Tone::Bad, html! { p.strong {} p {} })) }
                        (step("ok", "circle-check"))
                        (step("bad", "circle-x"))
                        p.ink2 { "The program comes from this portal, and the key too unless you brought one. Who does not trust the portal runs the command below." }
                    }
                    script defer src=(url("check.js")) {}
                }
            }
        }
    }
}
