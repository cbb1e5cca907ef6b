//! Lenders: their hosts, what they earned.

use api::HostView;
use axum::extract::{Query, State};
use axum::response::IntoResponse;
use maud::{Markup, html};
use types::{AccountId, Amount, HostId};

use super::explorer::now_of;
use super::host_list::Filter;
use super::notices::notices;
use super::overview::{RESOURCES, length, sum};
use super::{payouts, shown};
use crate::app::App;
use crate::index::lent::{self, PayoutFilter, Runs};
use crate::index::query::{self, Side, Spent};
use crate::ui::{self, Bar, Figure, Place, cli, empty, icon, kpi, legend};
use crate::web::{Page, Trouble, Visitor};

/// Hosts of which it is shown what each earned.
const HOSTS_SHOWN: usize = 50;
/// The latest payments.
const LATEST: usize = 8;

/// The account's own, and all there are.
struct Lent {
    me: AccountId,
    all: Vec<HostView>,
}

impl Lent {
    async fn read(app: &App, visitor: &Visitor) -> Result<Self, Trouble> {
        let me = visitor.login()?.account();
        let all = app.client.hosts().await?;
        Ok(Self { me, all })
    }

    fn own(&self) -> Vec<&HostView> {
        let own = self.all.iter().filter(|host| host.owner == self.me);
        own.collect()
    }

    /// Notices and figures.
    async fn head(&self, app: &App) -> Result<Markup, Trouble> {
        let (me, own) = (self.me, self.own());
        let ids: Vec<HostId> = own.iter().map(|host| host.host).collect();
        let (earned, runs) = app
            .index
            .ask(move |c| Ok((query::ever(c, Side::Payee, &me)?, lent::runs(c, &ids)?)))
            .await?;
        let runs = Runs::sum(runs.into_values());
        let online = own.iter().filter(|host| host.online).count();
        let replicas = own.iter().map(|host| u64::from(host.allocations)).sum();
        let let_out = |host: &&HostView| {
            let (has, free) = (host.offer.capacity.cpu_millis, host.free.cpu_millis);
            u64::from(has.saturating_sub(free))
        };
        let cores: u64 = own.iter().map(let_out).sum();
        Ok(html! {
            (notices(&own, &self.all, now_of(app)))
            div.grid {
                (kpi(Figure { label: "Online", value: Some(words::grouped(online as u128)), unit: &format!("of {}", words::grouped(own.len() as u128)), note: html! {}, spark: None }))
                (kpi(Figure { label: "Cores let", value: Some(words::cores(cores)), unit: "", note: html! { "to " (words::plural(replicas, "replica", "replicas")) }, spark: None }))
                (kpi(Figure { label: "Earned in all", value: Some(words::credits(earned)), unit: "credits", note: html! { a href="/earnings" { "Earnings" } }, spark: None }))
                (kpi(Figure { label: "Ended well", value: runs.milli().map(words::percent), unit: "", note: html! { "of " (words::plural(runs.ended, "run that has ended", "runs that have ended")) ", by the index" }, spark: None }))
            }
        })
    }

    async fn rows(&self, app: &App, filter: &Filter) -> Result<Markup, Trouble> {
        let now = now_of(app);
        let listed = filter.of(self.own(), now);
        let ids = listed.ids();
        let runs = app.index.ask(move |c| lent::runs(c, &ids)).await?;
        Ok(listed.table("/hosts", now, Some(&runs)))
    }
}

/// `GET /parts/hosts`: the rows, as the page reads them again.
pub async fn rows(State(app): State<App>, visitor: Visitor, Query(filter): Query<Filter>) -> Page {
    let lent = Lent::read(&app, &visitor).await?;
    Ok(lent.rows(&app, &filter).await?.into_response())
}

/// `GET /parts/hosts/now`: notices and figures.
pub async fn now(State(app): State<App>, visitor: Visitor) -> Page {
    let lent = Lent::read(&app, &visitor).await?;
    Ok(lent.head(&app).await?.into_response())
}

/// `GET /hosts`
pub async fn hosts(State(app): State<App>, visitor: Visitor, Query(filter): Query<Filter>) -> Page {
    let lent = Lent::read(&app, &visitor).await?;
    let own = lent.own();
    let listed = filter.of(own.clone(), now_of(&app));
    let again = format!("/parts/hosts?{}", listed.again());
    let content = html! {
        div.pagehead { div { h1 { "My hosts" } p.sub { "Machines whose pay goes to your account" } } @if !own.is_empty() { div.acts { a.btn href="/earnings/payouts" { (icon("receipt-text")) "Payouts" } a.btn.primary href="/hosts/new" { (icon("plus")) "Lend a machine" } } } }
        @if own.is_empty() {
            div.card { (empty("server", "You lend no machine yet", "Any Linux machine joins with one command and earns for what runs on it.", Some(("/hosts/new", "Lend a machine")))) }
        } @else {
            div data-refresh="/parts/hosts/now" data-every="4" { (lent.head(&app).await?) }
            div.card.flush {
                header { (listed.form("/hosts")) }
                div data-refresh=(again) data-every="4" { (lent.rows(&app, &filter).await?) }
            }
            p.foot-note { "A run ended well unless the host was silent, or the replica had failed, when it was wanted last." }
        }
        (cli("runrig host ls"))
    };
    shown(&app, &visitor, Place::Hosts, "My hosts", content).await
}

/// `GET /earnings`
pub async fn earnings(State(app): State<App>, visitor: Visitor) -> Page {
    let me = visitor.login()?.account();
    let all = app.client.hosts().await?;
    let own: Vec<&api::HostView> = all.iter().filter(|h| h.owner == me).collect();
    let now = now_of(&app);
    let hour = now / 3_600_000;
    let since = hour.saturating_sub(24 * 28);
    let filter = PayoutFilter {
        payee: me,
        ..PayoutFilter::default()
    };
    let (rows, by_host, lifetime, latest, names) = app
        .index
        .ask(move |c| {
            let names = query::names(c)?;
            let paid = query::top(c, &me, Spent::Paid, since / 24, HOSTS_SHOWN)?;
            let name = |(id, amount): (String, Amount)| {
                let name = id.parse().map_or(id, |id| names.host(&id));
                (name, amount)
            };
            Ok((
                query::by_hour(c, Side::Payee, &me, since)?,
                paid.into_iter().map(name).collect::<Vec<_>>(),
                query::ever(c, Side::Payee, &me)?,
                lent::payouts(c, &filter, LATEST)?,
                names,
            ))
        })
        .await?;
    let within = |hours: u64| {
        sum(&rows
            .iter()
            .filter(|r| r.hour + hours > hour)
            .cloned()
            .collect::<Vec<_>>())
    };
    let bars: Vec<Bar> = (0..28u64)
        .rev()
        .map(|back| {
            let day = hour / 24 - back.min(hour / 24);
            let mut parts = vec![0.0; 5];
            for row in rows.iter().filter(|r| r.hour / 24 == day) {
                for (part, amount) in parts.iter_mut().zip(row.amounts) {
                    *part += length(amount);
                }
            }
            let label = words::day(day * 86_400_000);
            Bar {
                title: format!("{label}: {:.6} credits", parts.iter().sum::<f64>()),
                label,
                parts,
                plan: None,
            }
        })
        .collect();
    let ranked: Vec<_> = by_host
        .into_iter()
        .map(|(n, a)| (n, length(a), words::credits(a)))
        .collect();
    let content = html! {
        div.pagehead { div { h1 { "Earnings" } p.sub { "What hosts of yours were paid, receipt by receipt" } } }
        @if own.is_empty() && rows.is_empty() {
            div.card { (empty("hand-coins", "Nothing earned yet", "Lend a machine; it is paid every few seconds for what runs on it.", Some(("/hosts/new", "Lend a machine")))) }
        } @else {
            (notices(&own, &all, now))
            div.grid {
                (kpi(Figure { label: "This hour", value: Some(words::credits(within(1))), unit: "credits", note: html! { "by the index" }, spark: None }))
                (kpi(Figure { label: "Last 24 hours", value: Some(words::credits(within(24))), unit: "credits", note: html! { "by the index" }, spark: None }))
                (kpi(Figure { label: "Last 7 days", value: Some(words::credits(within(168))), unit: "credits", note: html! { "by the index" }, spark: None }))
                (kpi(Figure { label: "Lifetime", value: Some(words::credits(lifetime)), unit: "credits", note: html! { "hosts that have left too" }, spark: None }))
            }
            div.grid {
                section.card.s8 { header { div { h2 { "By day" } p.sub { "Credits, by what was used" } } div.more { (legend(&RESOURCES)) } } (ui::bars(&bars, &RESOURCES.map(|r| r.1), "Earnings by day", false)) }
                section.card.s4 { header { div { h2 { "By host" } p.sub { "The last 4 weeks" } } } @if ranked.is_empty() { (empty("server", "None", "No receipt in this time.", None)) } @else { (ui::hbars(&ranked, 1)) } }
                section.card.flush.s12 {
                    header { div { h2 { "Latest payouts" } p.sub { "Each with its receipt" } } div.more { a href="/earnings/payouts" { "All payouts" } (icon("chevron-right")) } }
                    @if latest.is_empty() { (empty("receipt-text", "Nothing was paid yet", "Each report of use of what runs on your hosts is paid at once.", None)) } @else { (payouts::table(&latest, &names, now)) }
                }
            }
        }
        (cli("runrig wallet history"))
    };
    shown(&app, &visitor, Place::Earnings, "Earnings", content).await
}
