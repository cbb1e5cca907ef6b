//! What strangers write, on every page, part, stream and file: it is text there and nothing else.
//!
//! A ledger and a host that answer with [`EVIL`] wherever somebody else chose the words; the same in
//! every part of every address, in every query and every form. Each answer is taken apart: which
//! elements and attributes it has, where it leads, what browsers are told with it.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use api::{AllocationView, Bill, BillLine, DeploymentView, HostView, LogLine, ReleaseView};
use axum::extract::{Path, Query};
use axum::http::StatusCode as Status;
use axum::routing::get;
use axum::{Json, Router};
use ledger::account::{Grant, Role};
use ledger::deployment::{Cause, Funding, Setback, Tried, Unplaced};
use ledger::lease::Desired;
use reqwest::{Response, StatusCode};
use types::{
    AccountId, AllocationId, AllocationStatus, Amount, DeploymentId, DeploymentSpec, Digest,
    HostId, ImageRef, Offer, Resource, Resources, RunState, ServiceSpec, Usage,
};

use crate::people::{Audience, Books, Kind, Space, SpaceApp, Token};
use crate::routes;
use crate::tests::{EVIL, Site, filled, served, to};
use crate::web::{Who, escaped};

/// Names of the ledger that its own rules do not let be anything.
const PROJECT: &str = "shop";
const FORMULA: &str = "=HYPERLINK(\"http://evil.example\")";

fn evil() -> String {
    EVIL.into()
}

fn service() -> ServiceSpec {
    ServiceSpec {
        image: ImageRef {
            reference: evil(),
            digest: Digest::default(),
        },
        command: Some(vec![evil()]),
        environment: [(evil(), evil())].into(),
        labels: [(evil(), evil())].into(),
        user: Some(evil()),
        hostname: Some(evil()),
        ..ServiceSpec::default()
    }
}

fn spec() -> DeploymentSpec {
    DeploymentSpec {
        project: PROJECT.into(),
        services: [(evil(), service())].into(),
        networks: BTreeMap::new(),
        volumes: [(evil(), Default::default())].into(),
        logs: Default::default(),
    }
}

fn allocation(owner: AccountId) -> AllocationView {
    AllocationView {
        allocation: AllocationId(1),
        deployment: DeploymentId(1),
        project: PROJECT.into(),
        owner,
        release: 1,
        service: evil(),
        replica: 1,
        host: HostId::default(),
        host_name: evil(),
        heard: true,
        desired: Desired::Run,
        generation: 1,
        reserved: Resources::default(),
        placed_ms: 0,
        status: AllocationStatus {
            state: RunState::Running,
            message: evil(),
            ..AllocationStatus::default()
        },
        status_ms: 0,
        usage: Usage::default(),
        charged: Amount::ZERO,
        closed: false,
        image: evil(),
    }
}

pub(crate) fn deployment(owner: AccountId) -> DeploymentView {
    DeploymentView {
        deployment: DeploymentId(1),
        owner,
        project: PROJECT.into(),
        label: evil(),
        release: 2,
        spec: spec(),
        created_ms: 0,
        removed: false,
        volumes_removed: false,
        funding: Funding::Good,
        limited: false,
        escrow: Amount::ZERO,
        charged: Amount::ZERO,
        dry_ms: 0,
        good: 1,
        rollout: None,
        setback: Some(Setback {
            release: 2,
            why: evil(),
        }),
        unplaced: vec![Unplaced {
            service: evil(),
            replica: 2,
            why: evil(),
            since_ms: 0,
        }],
        tried: vec![Tried {
            service: evil(),
            replica: 2,
            release: 1,
            times: 2,
            hosts: Vec::new(),
        }],
        scales: BTreeMap::new(),
        allocations: vec![allocation(owner)],
        earlier: BTreeMap::new(),
    }
}

fn host(owner: AccountId) -> HostView {
    HostView {
        host: HostId::default(),
        name: evil(),
        address: evil(),
        owner,
        offer: Offer {
            capacity: Resources::default(),
            architecture: evil(),
            region: evil(),
            price_multiplier_milli: 1_000,
            builds: false,
        },
        free: Resources::default(),
        allotment: None,
        online: true,
        cordoned: false,
        draining: false,
        hours: None,
        closed: false,
        trusted_ms: 0,
        last_seen_ms: 0,
        allocations: 1,
        earned: Amount::ZERO,
        bond: Amount::ZERO,
        interval: 1,
        reputation: api::Reputation::default(),
        flag: None,
        joined: Some(ledger::host::Joined {
            token: AccountId::default(),
            made_ms: 0,
            joined_ms: 0,
        }),
    }
}

fn token(owner: AccountId) -> api::TokenView {
    api::TokenView {
        token: AccountId([7; 20]),
        owner,
        made_ms: 0,
        until_ms: 1,
    }
}

fn releases() -> Vec<ReleaseView> {
    let mut other = spec();
    other.services.insert("second".into(), service());
    let release = |release, cause, spec| ReleaseView {
        release,
        made_ms: 0,
        cause,
        latest: release == 2,
        good: true,
        spec,
    };
    let why = evil();
    vec![
        release(2, Cause::RolledBack { to: 1, why }, other),
        release(1, Cause::Deployed, spec()),
    ]
}

fn bill(owner: AccountId) -> Bill {
    let line = |name: &str| BillLine {
        deployment: DeploymentId(1),
        project: name.into(),
        release: 1,
        service: name.into(),
        allocation: AllocationId(1),
        host: HostId::default(),
        resource: Resource::Cpu,
        usage: name.into(),
        unit: name.into(),
        rate: Amount::ZERO,
        amount: Amount::ZERO,
        receipts: Vec::new(),
    };
    Bill {
        owner,
        height: 1,
        total: Amount::ZERO,
        lines: vec![line(EVIL), line(FORMULA)],
        earlier: Vec::new(),
        tariff: ledger::Params::dev().tariff,
    }
}

fn account(account: AccountId) -> api::AccountView {
    let grant = Grant {
        role: Role::Developer,
        limit: None,
        expires_ms: None,
        label: evil(),
        since_ms: 0,
        spent: Amount::ZERO,
        counted_ms: 0,
    };
    api::AccountView {
        account,
        balance: Amount::ZERO,
        spendable: Amount::ZERO,
        held: Amount::ZERO,
        nonce: 0,
        height: 1,
        gift: Amount::ZERO,
        grants: [(AccountId([7; 20]), grant)].into(),
        retired: false,
    }
}

fn limit(account: AccountId) -> api::LimitView {
    let stop = |project: &str| api::StopView {
        deployment: DeploymentId(1),
        project: project.into(),
        at: Some(Amount::ZERO),
        limited: true,
    };
    api::LimitView {
        account,
        height: 1,
        from_ms: 0,
        until_ms: 1,
        spent: Amount::ZERO,
        alert: Some(Amount::ZERO),
        limit: Some(Amount::ZERO),
        most: Some(Amount::ZERO),
        order: vec![evil()],
        stops: vec![stop(EVIL), stop(FORMULA)],
        projects: 3,
        limited: 2,
    }
}

fn why() -> api::WhyView {
    api::WhyView {
        allocation: AllocationId(1),
        service: evil(),
        replica: 1,
        host: HostId::default(),
        reason: scheduler::Reason {
            height: 1,
            seed: 1,
            probed: 1,
            dropped: Vec::new(),
            candidates: Vec::new(),
            scored: 1,
            relaxed: vec![evil()],
        },
        names: [(HostId::default().to_string(), evil())].into(),
    }
}

fn status() -> api::ChainStatus {
    api::ChainStatus {
        network: Digest::default(),
        name: evil(),
        height: 1,
        time_ms: 1,
        block: Digest::default(),
        state_root: Digest::default(),
        network_key: evil(),
        validators: vec![api::ValidatorView {
            key: evil(),
            address: evil(),
            led: 1,
        }],
        queued: 0,
        own: None,
    }
}

fn lottery() -> api::LotteryView {
    use ledger::lottery::{Phase, Round, Terms};
    api::LotteryView {
        lottery: types::LotteryId(1),
        pot: Amount::ZERO,
        draw_epoch: 1,
        draw_from: 256,
        round: Round {
            terms: Terms {
                owner: AccountId([7; 20]),
                name: evil(),
                price: Amount::ZERO,
                stake: Amount::ZERO,
                prizes: vec![1],
                entries_min: 1,
                entries_max: 1,
                per_account_max: 1,
                close_height: 9,
                draw_height: 9,
            },
            phase: Phase::Open,
            opened_at: 1,
            entries: 0,
            closed_at: None,
            root: None,
            draw: None,
            over_at: None,
        },
    }
}

fn jobs(owner: AccountId) -> api::JobsView {
    let view = deployment(owner);
    let row = api::JobRow {
        deployment: view.deployment,
        project: evil(),
        state: view.state(),
        services: 2,
        image: evil(),
        wanted: 2,
        live: 1,
        ready: 1,
        replicas: vec![allocation(owner)],
        hosts: vec![evil()],
        hosts_all: 2,
        cpu_millis: 1,
        memory_bytes: 1,
        charged: view.charged,
        charged_by: [Amount::ZERO; 5],
        created_ms: view.created_ms,
    };
    api::JobsView {
        counts: [(view.state(), 1)].into(),
        ready: 1,
        charged: view.charged,
        found: 1,
        rows: vec![row],
    }
}

fn used() -> api::UseView {
    let row = api::UseRow {
        project: evil(),
        ..api::UseRow::default()
    };
    api::UseView {
        sum: row.clone(),
        found: 1,
        rows: vec![row],
    }
}

/// A line that would be a stream's own, and one for a terminal.
fn log() -> String {
    let line = LogLine {
        allocation: AllocationId(1),
        service: evil(),
        replica: 1,
        release: 1,
        sequence: 0,
        at_ms: 0,
        stream: evil(),
        text: format!("{EVIL}\n\nevent: over\ndata: \"forged\"\r\r\u{1b}]0;owned\u{7}\u{1b}[31m"),
    };
    let line = serde_json::to_string(&line).expect("JSON");
    format!("{line}\n")
}

/// Whose the hosts are.
type Owner = Arc<OnceLock<AccountId>>;

#[derive(serde::Deserialize)]
struct Of {
    owner: AccountId,
}

async fn refused() -> (Status, Json<api::Problem>) {
    let problem = api::Problem {
        kind: "not_found".into(),
        what: evil(),
        why: evil(),
        next: evil(),
    };
    (Status::NOT_FOUND, Json(problem))
}

/// A ledger and a host in one, all of whose words are evil; what is not here fails with such words.
async fn network(owner: Owner) -> String {
    let own = move || owner.get().copied().unwrap_or_default();
    let (listed, shown) = (own.clone(), own.clone());
    let (listed_of, deployed) = (own.clone(), own);
    let router = Router::new()
        .route(
            "/v1/accounts/{id}",
            get(|Path(id): Path<AccountId>| async move { Json(account(id)) }),
        )
        .route(
            "/v1/accounts/{id}/limit",
            get(|Path(id): Path<AccountId>| async move { Json(limit(id)) }),
        )
        .route(
            "/v1/accounts/{id}/tokens",
            get(|Path(id): Path<AccountId>| async move { Json([token(id)]) }),
        )
        .route("/v1/status", get(|| async { Json(status()) }))
        .route(
            "/v1/jobs",
            get(|Query(of): Query<Of>| async move { Json(jobs(of.owner)) }),
        )
        .route("/v1/jobs/use", get(|| async { Json(used()) }))
        .route(
            "/v1/deployments",
            get(|Query(of): Query<Of>| async move { Json([deployment(of.owner)]) }),
        )
        .route(
            "/v1/deployments/{id}",
            get(move || async move { Json(deployment(deployed())) }),
        )
        .route(
            "/v1/deployments/{id}/releases",
            get(|| async { Json(releases()) }),
        )
        .route(
            "/v1/allocations",
            get(move || async move { Json([allocation(listed_of())]) }),
        )
        .route("/v1/allocations/{id}/why", get(|| async { Json(why()) }))
        .route("/v1/allocations/{id}/logs", get(|| async { log() }))
        .route("/v1/hosts", get(|| async move { Json([host(listed())]) }))
        .route("/v1/hosts/{id}", get(|| async move { Json(host(shown())) }))
        .route(
            "/v1/bill",
            get(|Query(of): Query<Of>| async move { Json(bill(of.owner)) }),
        )
        .route("/v1/lotteries", get(|| async { Json([lottery()]) }))
        .route("/v1/lotteries/{id}", get(|| async { Json(lottery()) }))
        .route("/v1/params", get(|| async { Json(ledger::Params::dev()) }))
        .fallback(refused);
    served(router).await
}

/// Of the company, all of whose words are evil.
fn space(account: AccountId) -> Space {
    let links = [
        "javascript:alert(1)",
        "//evil.example",
        "https://a.example/\"onclick=x",
        "https://a.example/x",
    ];
    let links = links.map(|to| format!("- [{EVIL}]({to}) {to}"));
    Space {
        account,
        handle: "acme".into(),
        name: evil(),
        colour: "#ffff00".parse().expect("a colour"),
        home: format!("# {EVIL}\n{EVIL}\n\n{}", links.join("\n")),
        books: Books::Everyone,
        named: vec![evil()],
        apps: vec![SpaceApp {
            project: PROJECT.into(),
            title: evil(),
            audience: Audience::Everyone,
        }],
    }
}

/// A portal of that network, and a company's cookie and form token there.
async fn stage() -> (Site, String, String) {
    let owner = Owner::default();
    let site = Site::on(network(owner.clone()).await).await;
    let (cookie, token) = site.member("acme", Kind::Company).await;
    let session = cookie
        .strip_prefix("runrig_session=")
        .and_then(Token::parse);
    let login = site.app.people.login(&session.expect("a token")).await;
    let account = login.expect("read").expect("logged in").account();
    owner.set(account).expect("once");
    let space = space(account);
    site.app.people.set_space(space).await.expect("stored");
    (site, cookie, token)
}

/// Elements that pages are made of; what else stands after `<` came from somebody.
const ELEMENTS: &str = "a article aside b blockquote body br button caption circle code dd defs \
    details div dl dt ellipse em fieldset figcaption figure footer form g h1 h2 h3 head header hr \
    html i input kbd label legend li line link main meta nav noscript ol option p path polygon \
    polyline pre rect script section select small span strong sub summary sup svg symbol table \
    tbody td template text textarea tfoot th thead time title tr tspan ul use";

/// What is wrong with the elements of a page.
fn wrongs(html: &str) -> Vec<String> {
    let mut wrongs = Vec::new();
    for tag in html.split('<').skip(1) {
        let (tag, _) = tag.split_once('>').unwrap_or((tag, ""));
        let name: String = tag
            .trim_start_matches(['/', '!'])
            .chars()
            .take_while(char::is_ascii_alphanumeric)
            .collect();
        if name != "DOCTYPE" && !ELEMENTS.split_whitespace().any(|e| e == name) {
            wrongs.push(format!("element <{tag}>"));
        }
        if name == "script" && !tag.starts_with('/') && !tag.contains(" src=\"/a/") {
            wrongs.push(format!("inline <{tag}>"));
        }
        // Values stand in quotes, and have none of their own.
        let mut parts = tag.split('"');
        while let Some(before) = parts.next() {
            let attribute = before
                .trim_end_matches('=')
                .rsplit(' ')
                .next()
                .unwrap_or("");
            let value = parts.next().unwrap_or("").trim().to_lowercase();
            if attribute.starts_with("on") || matches!(attribute, "style" | "srcdoc") {
                wrongs.push(format!("attribute in <{tag}>"));
            }
            let leads = matches!(attribute, "href" | "src" | "action" | "formaction");
            let fits = ["/", "#", "http://", "https://", "udp://"];
            if leads && (!fits.iter().any(|f| value.starts_with(f)) || value.starts_with("//")) {
                wrongs.push(format!("address in <{tag}>"));
            }
        }
    }
    wrongs
}

/// Cells of CSV, without their quotes.
fn cells(csv: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut quoted = false;
    for c in csv.chars() {
        match c {
            '"' => quoted = !quoted,
            ',' | '\n' if !quoted => cells.push(String::new()),
            c => cells.last_mut().expect("one").push(c),
        }
    }
    cells
}

/// What every answer of the portal has, whatever it is.
async fn is_sound(case: &str, answer: Response) {
    let header = |name: &str| {
        let value = answer.headers().get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or("").to_string()
    };
    let whole = header("content-security-policy");
    let policy = whole.replace(" 'wasm-unsafe-eval'", "");
    for part in [
        "default-src 'none'; script-src 'self'; style-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(part), "{case}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{case}: {policy}");
    assert_eq!(header("x-frame-options"), "DENY", "{case}");
    assert_eq!(header("x-content-type-options"), "nosniff", "{case}");
    assert_eq!(header("referrer-policy"), "same-origin", "{case}");
    assert_ne!(header("cache-control"), "", "{case}");
    for cookie in answer.headers().get_all("set-cookie") {
        let cookie = cookie.to_str().expect("text");
        assert!(
            cookie.contains("; Path=/; HttpOnly; SameSite=Lax"),
            "{case}: {cookie}"
        );
    }
    let location = to(&answer);
    let inside = location.is_empty() || location.starts_with('/');
    let outside = location.starts_with("//") || location.contains('\\');
    assert!(inside && !outside, "{case}: leads to {location}");
    let media = header("content-type");
    let text = answer.text().await.expect("text");
    let loads = text.contains("data-program=");
    assert_eq!(whole != policy, loads, "{case}: {whole}");
    if media.starts_with("text/html") {
        let wrongs = wrongs(&text);
        assert!(wrongs.is_empty(), "{case}: {wrongs:?}");
        assert!(!text.contains(EVIL), "{case}");
    } else if media.starts_with("text/csv") {
        for cell in cells(&text) {
            let computed = cell.trim_start().starts_with(['=', '+', '-', '@']);
            assert!(!computed, "{case}: {cell}");
        }
    } else if media.starts_with("text/css") {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b":{}-(),#;\n".contains(&b);
        assert!(text.bytes().all(plain), "{case}: {text}");
    } else {
        let known = [
            "application/json",
            "text/plain",
            "application/octet-stream",
            "",
        ];
        let known = known
            .iter()
            .any(|k| media.starts_with(k) && (k.len() > 1) == (media.len() > 1));
        assert!(known, "{case}: {media}");
    }
}

#[test]
fn what_would_run_is_seen() {
    for bad in [
        "<script>alert(1)</script>",
        "<p onclick=\"x\">",
        "<p class=\"a\" style=\"x\">",
        "<a href=\"javascript:x\">",
        "<a href=\"//evil.example\">",
        "<img src=\"/a/x\">",
        "<script src=\"http://evil.example\"></script>",
    ] {
        assert!(!wrongs(bad).is_empty(), "{bad}");
    }
    assert!(
        wrongs("<p class=\"a\">&lt;img onerror=&quot;x&quot;&gt; <a href=\"/b\">c</a></p>")
            .is_empty()
    );
    assert_eq!(cells("a,\"b,\"\"c\"\n=d"), ["a", "b,c", "=d"]);
}

/// Every parameter of a query that any page reads, with something that is not meant.
fn queries() -> [String; 3] {
    let evil = escaped(EVIL);
    let texts = [
        "q", "next", "replica", "from", "range", "status", "all", "welcome", "after", "code",
        "cause", "kind", "sort",
    ];
    let all = |value: &str| {
        let pairs = texts.map(|name| format!("{name}={value}"));
        pairs.join("&")
    };
    [
        all(&evil),
        format!("{}&before={evil}&page={evil}", all(&evil)),
        all("//evil.example/%5C%0D%0ASet-Cookie%3A%20a=b"),
    ]
}

#[tokio::test]
async fn what_strangers_write_is_text_on_every_route() {
    let (site, company, token) = stage().await;
    let guest = format!("runrig_guest={}", Token::random().hex());
    let guest_token = site.form_token("/login", &guest).await;
    let evil = escaped(EVIL);
    for route in routes::table() {
        // They end the session, or never end.
        if matches!(
            route.path,
            "/logout" | "/live" | "/live/use" | "/jobs/{name}/logs/stream"
        ) {
            continue;
        }
        let (cookie, token) = match route.who {
            Who::Stranger => (&guest, &guest_token),
            _ => (&company, &token),
        };
        let mut holes = route.path.to_string();
        for hole in ["{name}", "{id}", "{token}", "{height}", "{handle}"] {
            holes = holes.replace(hole, &evil);
        }
        for path in [filled(route.path), holes] {
            let case = format!("{} {path}", route.method);
            if route.method == "GET" {
                is_sound(&case, site.get(&path, cookie).await).await;
                for query in queries() {
                    let path = format!("{path}?{query}");
                    is_sound(&case, site.get(&path, cookie).await).await;
                }
                continue;
            }
            let names = [
                "handle",
                "email",
                "company_name",
                "company_address",
                "kind",
                "name",
                "image",
                "compose",
                "label",
                "key",
                "role",
                "limit",
                "days",
                "invited",
                "note",
                "to",
                "amount",
                "account",
                "code",
                "act",
                "theme",
                "from",
                "percent",
                "cpus",
                "memory",
                "invitation",
                "password",
                "passkey_id",
                "passkey_point",
                "passkey",
                "approve_body",
                "max",
                "release",
                "colour",
                "home",
                "books",
                "named",
                "app_shop",
                "title_shop",
                "seed",
            ];
            let fields: Vec<String> = names.iter().map(|n| format!("{n}={evil}")).collect();
            let form = fields.join("&");
            let next = "next=//evil.example&back=//evil.example&session=none";
            let form = format!("csrf={token}&{next}&{form}");
            is_sound(&case, site.post(&path, cookie, &form).await).await;
            // Refused before it is read.
            is_sound(&case, site.post(&path, cookie, &form[5..]).await).await;
        }
        // In a way that it is not for.
        let case = format!("PUT {}", route.path);
        is_sound(&case, site.put(&filled(route.path), cookie).await).await;
    }
    for path in [
        "/nowhere",
        "/healthz",
        "/a/none",
        crate::web::url("logo.svg"),
    ] {
        let answer = site.get(path, "").await;
        let media = answer.headers().get("content-type").cloned();
        if media.is_some_and(|m| m.to_str().unwrap_or("").starts_with("image/")) {
            assert!(answer.headers().contains_key("content-security-policy"));
            continue;
        }
        is_sound(path, answer).await;
    }
}

#[tokio::test]
async fn a_line_of_a_log_is_one_event_of_its_stream() {
    let (site, company, _) = stage().await;
    let mut stream = site.get("/jobs/shop/logs/stream", &company).await;
    assert_eq!(stream.status(), StatusCode::OK);
    assert!(stream.headers().contains_key("content-security-policy"));
    let mut said = String::new();
    while !said.contains("\n\n") {
        let part = stream.chunk().await.expect("read").expect("more");
        said += &String::from_utf8_lossy(&part);
    }
    let (event, _) = said.split_once("\n\n").expect("whole");
    assert!(!event.contains(['\r', '\u{1b}', '\u{7}']), "{event}");
    let data: Vec<&str> = event
        .lines()
        .filter_map(|l| l.strip_prefix("data: "))
        .collect();
    let [data] = data.as_slice() else {
        panic!("{event}")
    };
    let line: LogLine = serde_json::from_str(data).expect("a line");
    assert!(line.text.contains("forged"));
    assert_eq!(event.lines().filter(|l| l.starts_with("event:")).count(), 0);
}
