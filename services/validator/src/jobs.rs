//! An account's deployments as a list that is looked through here, so that who asks gets a page.
//!
//! Costs a look at each deployment that the account ever made, once in a block, and the rows of one
//! page.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use api::{Facts, JobOrder, JobRow, JobState, JobsView, UseRow, UseView, is_live};
use axum::Json;
use axum::extract::State as From;
use ledger::State;
use ledger::deployment::Deployment;
use ledger::lease::Allocation;
use serde::Deserialize;
use types::{AccountId, AllocationId, Amount, DeploymentId};

use crate::answer::{Answer, Asked, Refused};
use crate::http::App;
use crate::views;

/// Rows of looks that are kept, 16 bytes each.
const ROWS_KEPT: usize = 1_000_000;

/// Which of them, and which page.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Filter {
    pub owner: Option<AccountId>,
    pub state: Option<String>,
    pub name: Option<String>,
    pub text: Option<String>,
    pub sort: Option<String>,
    pub from: Option<usize>,
    pub count: Option<usize>,
}

/// By what, and whether the most comes first.
type Order = (JobOrder, bool);

const LATEST: Order = (JobOrder::Age, false);

/// What a filter's `state` means.
#[derive(Clone, Copy)]
enum Wanted {
    All,
    Active,
    Only(JobState),
}

impl Wanted {
    fn read(name: Option<&str>) -> Result<Self, Refused> {
        match name {
            None | Some("active") => Ok(Self::Active),
            Some("all") => Ok(Self::All),
            Some(name) => JobState::named(name).map(Self::Only).ok_or_else(|| {
                let names = JobState::ALL.map(JobState::name).join(", ");
                Refused::invalid("state", format!("it is one of active, all, {names}"))
            }),
        }
    }

    fn takes(self, state: JobState) -> bool {
        match self {
            Self::All => true,
            Self::Active => !matches!(state, JobState::Removed | JobState::Completed),
            Self::Only(only) => state == only,
        }
    }
}

/// `GET /v1/jobs`
pub async fn jobs(From(app): From<App>, Asked(filter): Asked<Filter>) -> Answer<JobsView> {
    let Some(owner) = filter.owner else {
        return Err(Refused::invalid("jobs", "say whose: owner="));
    };
    let wanted = Wanted::read(filter.state.as_deref())?;
    let long = |text: &Option<String>| text.as_ref().is_some_and(|t| t.len() > JobsView::TEXT_MAX);
    if long(&filter.text) || long(&filter.name) {
        let why = format!("it has more than {} bytes", JobsView::TEXT_MAX);
        return Err(Refused::invalid("text", why));
    }
    let order = match filter.sort.as_deref() {
        None => LATEST,
        Some(text) => JobOrder::read(text).ok_or_else(|| {
            let names = JobOrder::ALL.map(JobOrder::name).join(", ");
            Refused::invalid(
                "sort",
                format!("it is one of {names}, or that with a - in front"),
            )
        })?,
    };
    let looks = app.looks.clone();
    app.compute(move |state| Json(list(&state, &looks, owner, wanted, order, &filter)))
        .await
}

/// Whose use, and which page.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct UseFilter {
    owner: Option<AccountId>,
    #[serde(default)]
    since_ms: u64,
    from: Option<usize>,
    count: Option<usize>,
}

/// `GET /v1/jobs/use`
pub async fn use_of(From(app): From<App>, Asked(filter): Asked<UseFilter>) -> Answer<UseView> {
    let Some(owner) = filter.owner else {
        return Err(Refused::invalid("jobs", "say whose: owner="));
    };
    app.compute(move |state| Json(used(&state, owner, &filter)))
        .await
}

fn used(state: &State, owner: AccountId, filter: &UseFilter) -> UseView {
    let now_ms = state.time_ms();
    let mut sums: BTreeMap<&str, Share> = BTreeMap::new();
    let mut sum = Share::default();
    for (_, one) in state.deployments_of(&owner) {
        let all = one.allocations.iter().chain(&one.ended);
        for a in all.filter_map(|id| state.allocations.get(id)) {
            if !a.closed || a.status_ms >= filter.since_ms {
                sums.entry(&one.spec.project).or_default().add(a, now_ms);
                sum.add(a, now_ms);
            }
        }
    }
    let count = filter.count.unwrap_or(UseView::ROWS_MAX);
    UseView {
        sum: sum.row(""),
        found: sums.len() as u64,
        rows: sums
            .into_iter()
            .skip(filter.from.unwrap_or(0))
            .take(count.min(UseView::ROWS_MAX))
            .map(|(name, share)| share.row(name))
            .collect(),
    }
}

/// What was used and held: thousandths of a core × milliseconds, bytes × milliseconds.
#[derive(Default)]
struct Share {
    replicas: u64,
    cpu: (u128, u128),
    memory: (u128, u128),
}

impl Share {
    fn add(&mut self, one: &Allocation, now_ms: u64) {
        // The reserved rate is counted by time alone, so it says how long use was counted.
        let by_rate = one
            .usage
            .bandwidth_bits
            .checked_div(one.reserved.bandwidth_kbps.into());
        let ms = by_rate.unwrap_or_else(|| now_ms.saturating_sub(one.placed_ms).into());
        let add = |to: &mut u128, more: u128| *to = to.saturating_add(more);
        let held = |rate: u128| rate.saturating_mul(ms);
        self.replicas += 1;
        // Nanoseconds of a core are millionths of a thousandth × millisecond.
        add(&mut self.cpu.0, u128::from(one.usage.cpu_ns) / 1_000);
        add(&mut self.cpu.1, held(one.reserved.cpu_millis.into()));
        add(&mut self.memory.0, one.usage.memory_byte_ms);
        add(&mut self.memory.1, held(one.reserved.memory_bytes.into()));
    }

    fn row(&self, project: &str) -> UseRow {
        let small = |n: u128| u64::try_from(n).unwrap_or(u64::MAX);
        UseRow {
            project: project.into(),
            replicas: self.replicas,
            cpu_used: small(self.cpu.0),
            cpu_held: small(self.cpu.1),
            memory_used: small(self.memory.0 / 1_024_000),
            memory_held: small(self.memory.1 / 1_024_000),
        }
    }
}

/// Its replicas that are not over, with their numbers.
fn live<'a>(
    state: &'a State,
    deployment: &'a Deployment,
) -> impl Iterator<Item = (AllocationId, &'a Allocation)> + Clone {
    deployment
        .allocations
        .iter()
        .take(api::DeploymentView::LISTED_MAX)
        .filter_map(|id| Some((*id, state.allocations.get(id)?)))
        .filter(|(_, a)| is_live(a.closed, a.desired))
}

fn wanted_all(state: &State, id: DeploymentId, deployment: &Deployment) -> u32 {
    let services = deployment.spec.services.iter();
    services
        .map(|(name, service)| state.wanted(id, name, service))
        .sum()
}

/// What each deployment of an account comes to, in the order in which they were made.
#[derive(Default)]
struct Look {
    counts: BTreeMap<JobState, u64>,
    ready: u64,
    charged: Amount,
    jobs: Vec<(DeploymentId, JobState)>,
}

impl Look {
    fn take(&mut self, state: &State, id: DeploymentId, one: &Deployment) {
        let live: Vec<&Allocation> = live(state, one).map(|(_, a)| a).collect();
        let now = JobState::of(Facts {
            removed: one.removed,
            funding: &one.funding,
            limited: one.limited,
            unplaced: !one.unplaced.is_empty(),
            wanted: wanted_all(state, id, one),
            live: live.iter().map(|a| (a.desired, &a.status)),
        });
        *self.counts.entry(now).or_default() += 1;
        self.ready += live.iter().filter(|a| a.status.is_ready()).count() as u64;
        self.charged.0 = self.charged.0.saturating_add(one.charged.0);
        self.jobs.push((id, now));
    }

    fn at_all(state: &State, owner: AccountId) -> Self {
        let mut look = Self::default();
        let all = state.deployments_of(&owner);
        all.for_each(|(id, one)| look.take(state, id, one));
        look
    }

    /// Of those with one name.
    fn at_named(state: &State, owner: AccountId, name: &str) -> Self {
        let mut look = Self::default();
        let all = state.deployments_of(&owner);
        let named = all.filter(|(_, one)| one.spec.project == name);
        named.for_each(|(id, one)| look.take(state, id, one));
        look
    }
}

/// The looks at all of an account's deployments that the latest block was asked for: pages ask several
/// times, and many of them in a block's time.
#[derive(Default)]
pub struct Looks(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    height: u64,
    of: BTreeMap<AccountId, Arc<Look>>,
    rows: usize,
}

impl Looks {
    fn at(&self, state: &State, owner: AccountId) -> Arc<Look> {
        let height = state.height();
        let kept = || self.0.lock().expect("not poisoned");
        let known = {
            let kept = kept();
            let fits = kept.height == height;
            fits.then(|| kept.of.get(&owner).cloned()).flatten()
        };
        if let Some(known) = known {
            return known;
        }
        let look = Arc::new(Look::at_all(state, owner));
        let mut kept = kept();
        if kept.height < height {
            *kept = Kept {
                height,
                ..Kept::default()
            };
        }
        // One row is there for whoever has no deployments.
        let rows = look.jobs.len() + 1;
        if kept.height == height && kept.rows + rows <= ROWS_KEPT {
            kept.rows += rows;
            kept.of.insert(owner, look.clone());
        }
        look
    }
}

fn list(
    state: &State,
    looks: &Looks,
    owner: AccountId,
    wanted: Wanted,
    order: Order,
    filter: &Filter,
) -> JobsView {
    let text = filter.text.as_deref().unwrap_or("").trim().to_lowercase();
    let look = match &filter.name {
        None => looks.at(state, owner),
        Some(name) => Arc::new(Look::at_named(state, owner, name)),
    };
    let fits = |id: &DeploymentId| {
        let known = || state.deployments.get(id);
        text.is_empty() || known().is_some_and(|one| has(state, one, &text))
    };
    let chosen = look.jobs.iter().copied();
    let chosen = chosen.filter(|(id, now)| wanted.takes(*now) && fits(id));
    let (mut removed, mut alive): (Vec<_>, Vec<_>) =
        chosen.partition(|(_, now)| *now == JobState::Removed);
    let found = alive.len() + removed.len();
    for some in [&mut alive, &mut removed] {
        sort(state, some, order);
    }
    let count = filter.count.unwrap_or(JobsView::ROWS_MAX);
    let rows = alive
        .into_iter()
        .chain(removed)
        .skip(filter.from.unwrap_or(0))
        .take(count.min(JobsView::ROWS_MAX))
        .filter_map(|(id, now)| Some(row(state, id, state.deployments.get(&id)?, now)));
    JobsView {
        counts: look.counts.clone(),
        ready: look.ready,
        charged: look.charged,
        found: found as u64,
        rows: rows.collect(),
    }
}

/// Of equals the latest is first. `all`: in the order in which they were made.
fn sort(state: &State, all: &mut [(DeploymentId, JobState)], (order, most_first): Order) {
    all.reverse();
    let known = |id: &DeploymentId| state.deployments.get(id);
    let reserved = |id: &DeploymentId, of: fn(&Allocation) -> u64| {
        let all = known(id).into_iter().flat_map(|one| live(state, one));
        all.map(|(_, a)| of(a)).fold(0u64, u64::saturating_add)
    };
    let number = |(id, now): &(DeploymentId, JobState)| match order {
        JobOrder::Name => 0,
        JobOrder::State => *now as u128,
        JobOrder::Cpu => reserved(id, |a| a.reserved.cpu_millis.into()).into(),
        JobOrder::Memory => reserved(id, |a| a.reserved.memory_bytes).into(),
        JobOrder::Charged => known(id).map_or(0, |one| one.charged.0),
        JobOrder::Age => u128::from(u64::MAX - id.0),
    };
    let name = |(id, _): &(DeploymentId, JobState)| match order {
        JobOrder::Name => known(id).map_or("", |one| one.spec.project.as_str()),
        _ => "",
    };
    match (order, most_first) {
        (JobOrder::Age, false) => {}
        (_, false) => all.sort_by_cached_key(|one| (name(one), number(one))),
        (_, true) => all.sort_by_cached_key(|one| std::cmp::Reverse((name(one), number(one)))),
    }
}

/// Whether its name, an image or a host of it has `text`, which is in small letters.
fn has(state: &State, one: &Deployment, text: &str) -> bool {
    let has = |name: &str| name.to_lowercase().contains(text);
    text.is_empty()
        || has(&one.spec.project)
        || one.spec.services.values().any(|s| has(&s.image.reference))
        || live(state, one).any(|(_, a)| state.hosts.get(&a.host).is_some_and(|h| has(&h.name)))
}

/// Of all replicas that it ever had, those too of which only sums are kept.
fn charged_by(state: &State, one: &Deployment) -> [Amount; 5] {
    let all = one.ended.iter().chain(&one.allocations);
    let kept = all.filter_map(|id| Some(state.allocations.get(id)?.charged));
    let earlier = one.earlier.values().map(|earlier| earlier.charged);
    let mut sums = [Amount::ZERO; 5];
    for charged in kept.chain(earlier) {
        for (sum, amount) in sums.iter_mut().zip(charged) {
            sum.0 = sum.0.saturating_add(amount.0);
        }
    }
    sums
}

fn row(state: &State, id: DeploymentId, one: &Deployment, now: JobState) -> JobRow {
    let live = live(state, one);
    let hosts: BTreeSet<_> = live.clone().map(|(_, a)| a.host).collect();
    let mut names: Vec<String> = hosts
        .iter()
        .map(|id| {
            state
                .hosts
                .get(id)
                .map_or_else(|| id.to_string(), |h| h.name.clone())
        })
        .collect();
    names.sort();
    names.truncate(JobRow::HOSTS_MAX);
    let sum = |of: fn(&Allocation) -> u64| {
        let all = live.clone().map(|(_, a)| of(a));
        all.fold(0u64, u64::saturating_add)
    };
    JobRow {
        deployment: id,
        project: one.spec.project.clone(),
        state: now,
        services: one.spec.services.len() as u64,
        image: one
            .spec
            .services
            .values()
            .next()
            .map(|s| s.image.reference.clone())
            .unwrap_or_default(),
        wanted: wanted_all(state, id, one),
        live: live.clone().count() as u64,
        ready: live.clone().filter(|(_, a)| a.status.is_ready()).count() as u64,
        replicas: live
            .clone()
            .take(JobRow::REPLICAS_MAX)
            .filter_map(|(id, _)| views::allocation(state, id))
            .collect(),
        hosts: names,
        hosts_all: hosts.len() as u64,
        cpu_millis: sum(|a| a.reserved.cpu_millis.into()),
        memory_bytes: sum(|a| a.reserved.memory_bytes),
        charged: one.charged,
        charged_by: charged_by(state, one),
        created_ms: one.created_ms,
    }
}

#[cfg(test)]
mod tests {
    use ledger::{BlockEnv, Call, Genesis, Params, Transaction, TransactionBody, deployment, host};
    use types::{DeploymentSpec, Digest, ImageRef, Offer, Resources, SecretKey, ServiceSpec};

    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed([n; 32])
    }

    fn id(n: u8) -> AccountId {
        AccountId::of(&key(n).public())
    }

    /// The state after blocks of one call each.
    fn after(calls: Vec<(u8, Call)>) -> State {
        let mut state = State::genesis(&Genesis {
            name: "test".into(),
            time_ms: 1_700_000_000_000,
            params: Params::dev(),
            balances: vec![(id(1), Amount::credits(1_000_000))],
            faucet: id(1),
            watchers: Vec::new(),
            origin: None,
            validators: Vec::new(),
        });
        for (who, call) in calls {
            state = next(&state, who, call);
        }
        state
    }

    /// The state after one more block, of that call.
    fn next(state: &State, who: u8, call: Call) -> State {
        let body = TransactionBody {
            network: state.globals.network,
            key: key(who).public().into(),
            on_behalf: Vec::new(),
            nonce: state.account(&id(who)).nonce + 1,
            expires: state.height() + 100,
            tip: types::Amount::ZERO,
            call,
        };
        let env = BlockEnv {
            height: state.height() + 1,
            time_ms: state.time_ms() + 10,
            ..BlockEnv::default()
        };
        let bytes = borsh::to_vec(&Transaction::sign(body, &key(who))).expect("bytes");
        let done = state.execute(env, &[bytes], &|_| false).expect("a block");
        let refused = done.outcomes.iter().find_map(|o| o.rejection.as_ref());
        assert!(refused.is_none(), "{refused:?}");
        done.state
    }

    fn deploy(name: &str, replicas: u32) -> (u8, Call) {
        let service = ServiceSpec {
            image: ImageRef {
                reference: format!("docker.io/library/{name}-Image:1"),
                digest: Digest::of(b"image"),
            },
            replicas,
            ..ServiceSpec::default()
        };
        let spec = DeploymentSpec {
            project: name.into(),
            services: [("web".to_string(), service)].into(),
            networks: Default::default(),
            volumes: Default::default(),
            logs: Default::default(),
        };
        let call = deployment::Call::Deploy {
            spec,
            price_max_hour: None,
        };
        (1, Call::Deployment(call))
    }

    fn stage() -> State {
        let offer = Offer {
            capacity: Resources {
                cpu_millis: 64_000,
                memory_bytes: 64 << 30,
                disk_bytes: 1 << 40,
                bandwidth_kbps: 10_000_000,
            },
            architecture: "amd64".into(),
            region: "eu".into(),
            price_multiplier_milli: 1_000,
            builds: false,
        };
        let host = host::Call::Register {
            name: "helsinki".into(),
            address: "http://127.0.0.1:1".into(),
            offer,
            owner: id(3),
            machine: Digest::default(),
            invitation: None,
        };
        let remove = deployment::Call::Remove {
            deployment: DeploymentId(1),
            volumes: false,
        };
        after(vec![
            (2, Call::Host(host)),
            deploy("old", 1),
            (1, Call::Deployment(remove)),
            deploy("shop", 2),
            deploy("blog", 1),
        ])
    }

    #[test]
    fn a_page_has_what_was_asked_for_the_latest_first_the_removed_last() {
        let state = stage();
        let of = |wanted, filter: Filter| {
            let view = list(&state, &Looks::default(), id(1), wanted, LATEST, &filter);
            assert_eq!(view.all(), 3);
            assert_eq!((view.alive(), view.count(JobState::Removed)), (2, 1));
            let names = view.rows.iter().map(|r| r.project.clone());
            (view.found, names.collect::<Vec<_>>())
        };
        let text = |text: &str| Filter {
            text: Some(text.into()),
            ..Filter::default()
        };
        let names = |all: &[&str]| all.iter().map(|n| n.to_string()).collect::<Vec<_>>();
        let any = Filter::default;
        assert_eq!(of(Wanted::All, any()), (3, names(&["blog", "shop", "old"])));
        assert_eq!(of(Wanted::Active, any()), (2, names(&["blog", "shop"])));
        let removed = Wanted::Only(JobState::Removed);
        assert_eq!(of(removed, any()), (1, names(&["old"])));
        assert_eq!(of(Wanted::All, text("SHOP-im")), (1, names(&["shop"])));
        assert_eq!(
            of(Wanted::Active, text("hel")),
            (2, names(&["blog", "shop"]))
        );
        let page = Filter {
            from: Some(1),
            count: Some(1),
            ..Filter::default()
        };
        assert_eq!(of(Wanted::All, page), (3, names(&["shop"])));
        let far = Filter {
            from: Some(usize::MAX),
            ..Filter::default()
        };
        assert_eq!(of(Wanted::All, far), (3, Vec::new()));
        let named = |name: &str| Filter {
            name: Some(name.into()),
            ..Filter::default()
        };
        let looks = Looks::default();
        let view = |who, filter| list(&state, &looks, id(who), Wanted::All, LATEST, &filter);
        assert_eq!(view(1, named("sho")).found, 0, "a name is whole");
        let shop = view(1, named("shop"));
        assert_eq!((shop.found, shop.all()), (1, 1));
        assert_eq!(view(9, any()).all(), 0);
    }

    #[test]
    fn a_list_is_sorted_by_what_was_asked_for_and_the_removed_are_last() {
        let state = stage();
        for (sort, expected) in [
            ("name", ["blog", "shop", "old"]),
            ("-name", ["shop", "blog", "old"]),
            ("age", ["blog", "shop", "old"]),
            ("-age", ["shop", "blog", "old"]),
            ("cpu", ["blog", "shop", "old"]),
            ("-memory", ["shop", "blog", "old"]),
            ("charged", ["blog", "shop", "old"]),
            ("state", ["blog", "shop", "old"]),
        ] {
            let order = JobOrder::read(sort).expect(sort);
            let (looks, filter) = (Looks::default(), Filter::default());
            let view = list(&state, &looks, id(1), Wanted::All, order, &filter);
            let names: Vec<&str> = view.rows.iter().map(|r| r.project.as_str()).collect();
            assert_eq!(names, expected, "{sort}");
        }
        for wrong in ["", "-", "--name", "names", "<b>"] {
            assert!(JobOrder::read(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_look_is_of_one_block_and_of_one_account() {
        let state = stage();
        let looks = Looks::default();
        let there = |state: &State, who| looks.at(state, id(who)).jobs.len();
        assert_eq!((there(&state, 1), there(&state, 2)), (3, 0));
        assert!(Arc::ptr_eq(
            &looks.at(&state, id(1)),
            &looks.at(&state, id(1))
        ));
        let gone = deployment::Call::Remove {
            deployment: DeploymentId(2),
            volumes: false,
        };
        let later = next(&state, 1, Call::Deployment(gone));
        assert_eq!(looks.at(&later, id(1)).counts[&JobState::Removed], 2);
        // One who still looks at the block before.
        assert_eq!(looks.at(&state, id(1)).counts[&JobState::Removed], 1);
        assert_eq!(looks.at(&later, id(1)).counts[&JobState::Removed], 2);
    }

    #[test]
    fn deployments_are_found_by_their_names_and_stops_are_counted_though_not_listed() {
        let state = stage();
        let names = ["shop", "old", "none"].into();
        let found = crate::lists::named(&state, id(1), &names, 0).expect("rows");
        let found: Vec<api::DeploymentView> = serde_json::from_slice(&found.json).expect("a list");
        let found: Vec<&str> = found.iter().map(|one| one.project.as_str()).collect();
        assert_eq!(found, ["shop"]);
        for count in [0, 1] {
            let limit = views::limit(&state, id(1), count);
            assert_eq!((limit.stops.len(), limit.projects), (count, 2));
            assert_eq!(limit.limited, 0);
        }
    }

    #[test]
    fn a_row_says_what_the_whole_record_says() {
        let state = stage();
        for row in list(
            &state,
            &Looks::default(),
            id(1),
            Wanted::All,
            LATEST,
            &Filter::default(),
        )
        .rows
        {
            let whole = views::deployment(&state, row.deployment).expect("a record");
            assert_eq!(row.state, whole.state());
            assert_eq!(row.wanted, whole.wanted_all());
            assert_eq!((&row.project, row.charged), (&whole.project, whole.charged));
            let by = row.charged_by.iter().map(|amount| amount.0).sum();
            assert_eq!(Amount(by), row.charged);
        }
    }
}
