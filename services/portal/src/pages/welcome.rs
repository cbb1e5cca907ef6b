//! The first page of a stranger: what this is, in three steps, with the network's own figures.

use axum::response::Response;
use maud::html;

use crate::app::App;
use crate::ui::{self, icon};
use crate::web::Visitor;

/// `GET /` for who is not logged in.
pub async fn welcome(app: &App, visitor: &Visitor) -> Response {
    let params = app.client.params().await.ok();
    let hosts = app.client.hosts().await.ok();
    let online = hosts
        .as_ref()
        .map(|all| all.iter().filter(|h| h.online).count());
    let free = hosts.as_ref().map(|all| {
        let online = all.iter().filter(|h| h.online);
        online.map(|h| u64::from(h.free.cpu_millis)).sum::<u64>()
    });
    let tick = *app.tick.borrow();
    let steps = [
        (
            "scroll-text",
            "Bring a compose file",
            "As it is. Images are pinned to their digests; what is not supported is named, never ignored.",
        ),
        (
            "coins",
            "See the price",
            "The ledger tries the deployment out and says what it costs at most. Nothing starts before you agree.",
        ),
        (
            "receipt-text",
            "Pay for what was used",
            "Hosts meter every second. Each line of a bill has a receipt, and each receipt a proof that you can check.",
        ),
    ];
    let content = html! {
        div.hero {
            h1 { "Run containers on machines that nobody has to trust" }
            p.lead { "A ledger places them, meters them and pays the hosts. You bring a compose file; it runs a minute from now." }
            div.row {
                a.btn.primary.big href="/signup" { (icon("rocket")) "Create an account" }
                a.btn.big href="/login" { (icon("key-round")) "Log in" }
                a.btn.big href="/explorer" { (icon("blocks")) "Look around" }
            }
        }
        div.grid {
            (ui::kpi(ui::Figure { label: "Finalised block", value: (tick.height > 0).then(|| words::grouped(tick.height.into())), unit: "", note: html! { a href="/explorer/blocks" { "Every block" } }, spark: None }))
            (ui::kpi(ui::Figure { label: "Hosts online", value: online.map(|n| n.to_string()), unit: "", note: html! { a href="/explorer/hosts" { "Every host" } }, spark: None }))
            (ui::kpi(ui::Figure { label: "Free now", value: free.map(words::cores), unit: "cores", note: html! { "on hosts that answer" }, spark: None }))
            (ui::kpi(ui::Figure { label: "Starter credits", value: params.as_ref().filter(|p| !p.faucet.is_zero()).map(|p| words::credits(p.faucet)), unit: "test credits", note: html! { a href="/explorer/network" { "Prices" } }, spark: None }))
        }
        div.grid {
            h2.s12.part { "Run something now" }
            (super::examples::cards())
            h2.s12.part { "How it goes" }
            @for (picture, title, text) in steps {
                section.card.s4 {
                    span.disc aria-hidden="true" { (icon(picture)) }
                    h2.step { (title) }
                    p.ink2 { (text) }
                }
            }
            section.card.s8 {
                header { div { h2 { "From the command line" } p.sub { "One program; the same acts as on these pages" } } }
                div.code tabindex="0" { "runrig context create mine --url " (app.gateway) "\nrunrig wallet topup\nrunrig up -f compose.yaml" }
            }
            section.card.s4 {
                header { div { h2 { "Have a machine to spare?" } p.sub { "It earns for what runs on it" } } }
                p.ink2 { "Any Linux machine joins with one command and is paid every few seconds, with a receipt." }
                div.row { a.btn href="/hosts/new" { (icon("server")) "Lend a machine" } }
            }
        }
    };
    ui::page(
        app,
        visitor,
        ui::Place::Nowhere,
        "Containers on a public ledger",
        content,
    )
    .await
}
