//! A machine joins by the command of the page, over a ledger that executes what is signed.

use std::sync::{Arc, Mutex};

use axum::extract::{Path, State};
use axum::http::StatusCode as Status;
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ledger::host::{Call, Invitation};
use ledger::{BlockEnv, Genesis, Params, Transaction, TransactionBody};
use reqwest::StatusCode;
use types::{AccountId, Amount, Digest, Offer, Resources, SecretKey};

use crate::approve::pass;
use crate::people::{Kind, NewPerson, Token};
use crate::tests::{Site, served, to};

pub(crate) type Chain = Arc<Mutex<ledger::State>>;

fn executed(chain: &Chain, bytes: &[u8]) -> api::TransactionView {
    let mut state = chain.lock().expect("unpoisoned");
    let env = BlockEnv {
        height: state.height() + 1,
        time_ms: state.time_ms() + 100,
        ..BlockEnv::default()
    };
    let block = [bytes.to_vec()];
    let done = state.execute(env, &block, &|_| false).expect("conserved");
    let outcome = done.outcomes[0].clone();
    *state = done.state;
    api::TransactionView {
        id: outcome.transaction,
        status: match outcome.rejection {
            None => api::TransactionStatus::Applied,
            Some(_) => api::TransactionStatus::Rejected,
        },
        height: Some(state.height()),
        rejection: outcome.rejection,
        fee: outcome.fee,
        sender: None,
        signer: None,
        on_behalf: Vec::new(),
        call: None,
        events: Vec::new(),
    }
}

fn signed(chain: &Chain, key: &SecretKey, call: ledger::Call) {
    let (network, expires) = {
        let state = chain.lock().expect("unpoisoned");
        (state.globals.network, state.height() + 10)
    };
    let account = AccountId::of(&key.public());
    let nonce = chain.lock().expect("unpoisoned").account(&account).nonce + 1;
    let body = TransactionBody {
        network,
        key: key.public().into(),
        on_behalf: Vec::new(),
        nonce,
        expires,
        tip: types::Amount::ZERO,
        call,
    };
    let bytes = borsh::to_vec(&Transaction::sign(body, key)).expect("encodes");
    let view = executed(chain, &bytes);
    assert_eq!(view.rejection, None);
}

async fn status(State(chain): State<Chain>) -> Json<api::ChainStatus> {
    let state = chain.lock().expect("unpoisoned");
    Json(api::ChainStatus {
        network: state.globals.network,
        name: "test".into(),
        height: state.height(),
        time_ms: state.time_ms(),
        block: Digest::default(),
        state_root: Digest::default(),
        network_key: String::new(),
        validators: Vec::new(),
        queued: 0,
        own: None,
    })
}

async fn account(State(chain): State<Chain>, Path(id): Path<AccountId>) -> Json<api::AccountView> {
    let state = chain.lock().expect("unpoisoned");
    let account = state.account(&id);
    Json(api::AccountView {
        account: id,
        balance: account.balance(),
        spendable: account.spendable,
        held: account.held,
        nonce: account.nonce,
        height: state.height(),
        gift: Amount::ZERO,
        grants: account.grants,
        retired: account.retired,
    })
}

async fn hosts(State(chain): State<Chain>) -> Json<Vec<api::HostView>> {
    let state = chain.lock().expect("unpoisoned");
    let view = |(id, host): (&AccountId, &ledger::host::Host)| api::HostView {
        host: *id,
        name: host.name.clone(),
        address: host.address.clone(),
        owner: host.owner,
        offer: host.offer.clone(),
        free: host.free,
        allotment: host.allotment,
        online: host.online,
        cordoned: host.cordoned,
        draining: host.draining,
        hours: host.hours,
        closed: host.closed,
        trusted_ms: host.trusted_ms,
        last_seen_ms: host.last_seen_ms,
        allocations: 0,
        earned: host.earned,
        bond: host.bond,
        interval: host.interval,
        reputation: api::Reputation::default(),
        flag: None,
        joined: host.joined,
    };
    Json(state.hosts.iter().map(view).collect())
}

fn token_view(id: AccountId, token: &ledger::host::Token) -> api::TokenView {
    api::TokenView {
        token: id,
        owner: token.owner,
        made_ms: token.made_ms,
        until_ms: token.until_ms,
    }
}

async fn token(
    State(chain): State<Chain>,
    Path(id): Path<AccountId>,
) -> Result<Json<api::TokenView>, (Status, Json<api::Problem>)> {
    let state = chain.lock().expect("unpoisoned");
    let problem = api::Problem {
        kind: "not_found".into(),
        what: String::new(),
        why: String::new(),
        next: String::new(),
    };
    let found = state.tokens.get(&id).map(|t| Json(token_view(id, t)));
    found.ok_or((Status::NOT_FOUND, Json(problem)))
}

async fn tokens_of(
    State(chain): State<Chain>,
    Path(owner): Path<AccountId>,
) -> Json<Vec<api::TokenView>> {
    let state = chain.lock().expect("unpoisoned");
    let open = state.tokens_of(&owner);
    Json(open.map(|(id, t)| token_view(id, t)).collect())
}

async fn submit(
    State(chain): State<Chain>,
    Json(submit): Json<api::Submit>,
) -> Json<api::Submitted> {
    let bytes = BASE64.decode(submit.transaction).expect("base64");
    let view = executed(&chain, &bytes);
    Json(api::Submitted {
        id: view.id,
        result: Some(view),
    })
}

/// Its URL, and what it executes on.
pub(crate) async fn network() -> (String, Chain) {
    let genesis = Genesis {
        name: "test".into(),
        time_ms: api::now_ms(),
        params: Params::dev(),
        balances: Vec::new(),
        faucet: AccountId::default(),
        validators: Vec::new(),
        watchers: Vec::new(),
        origin: None,
    };
    let chain: Chain = Arc::new(Mutex::new(ledger::State::genesis(&genesis)));
    let router = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/params", get(|| async { Json(Params::dev()) }))
        .route("/v1/accounts/{id}", get(account))
        .route("/v1/accounts/{id}/tokens", get(tokens_of))
        .route("/v1/tokens/{id}", get(token))
        .route("/v1/hosts", get(hosts))
        .route(
            "/v1/allocations",
            get(|| async { Json(Vec::<api::AllocationView>::new()) }),
        )
        .route("/v1/transactions", post(submit))
        .fallback(|| async { Status::SERVICE_UNAVAILABLE })
        .with_state(chain.clone());
    (served(router).await, chain)
}

/// His cookie; his sessions act for his account by the ledger.
async fn member(site: &Site, chain: &Chain, handle: &str) -> (AccountId, String) {
    let new = NewPerson {
        kind: Kind::Personal,
        handle: handle.into(),
        email: format!("{handle}@example.org"),
        company_name: None,
        company_address: None,
    };
    let people = &site.app.people;
    let signed_up = people.sign_up(new, "four plain words here").await;
    let (person, keys) = signed_up.expect("stored").expect("free");
    let web = AccountId::of(&keys.web.public());
    let own = keys.own.as_ref().expect("its own key");
    signed(chain, own, pass(web, api::now_ms(), "portal"));
    let token = people.begin(&person, &keys.web, "", "::1").await;
    let cookie = format!("runrig_session={}", token.expect("begun").hex());
    (person.account, cookie)
}

fn join(chain: &Chain, secret: &SecretKey, owner: AccountId) {
    let host = SecretKey::from_seed([10; 32]);
    let network = chain.lock().expect("unpoisoned").globals.network;
    let id = AccountId::of(&host.public());
    let call = Call::Register {
        name: "barn".into(),
        address: "http://127.0.0.1:8730".into(),
        offer: Offer {
            capacity: Resources {
                cpu_millis: 4_000,
                memory_bytes: 8 << 30,
                disk_bytes: 100 << 30,
                bandwidth_kbps: 1_000_000,
            },
            architecture: "arm64".into(),
            region: String::new(),
            price_multiplier_milli: 1_000,
            builds: false,
        },
        owner,
        machine: Digest::default(),
        invitation: Some(Invitation::of(secret, &network, &id)),
    };
    signed(chain, &host, ledger::Call::Host(call));
}

fn open(chain: &Chain) -> Vec<AccountId> {
    let state = chain.lock().expect("unpoisoned");
    state.tokens.iter().map(|(id, _)| *id).collect()
}

#[tokio::test]
async fn a_machine_joins_by_the_command_and_the_page_watches_without_its_secret() {
    let (url, chain) = network().await;
    let site = Site::on(url).await;
    let (ada, cookie) = member(&site, &chain, "ada").await;
    let (_, eve) = member(&site, &chain, "eve").await;

    // What could mean something to a shell, or comes without a seed, makes nothing.
    let form = site.form_token("/hosts/new", &cookie).await;
    let seed = Token::random().hex();
    for bad in ["", "a%3Breboot", "%24%28id%29", "Barn", "-x", "a%20b"] {
        let body = format!("csrf={form}&seed={seed}&name={bad}");
        let answer = site.post("/hosts/new", &cookie, &body).await;
        assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY, "{bad}");
    }
    let body = format!("csrf={form}&name=barn");
    let answer = site.post("/hosts/new", &cookie, &body).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert!(open(&chain).is_empty());

    let body = format!("csrf={form}&seed={seed}&name=barn");
    let page = site.post("/hosts/new", &cookie, &body).await;
    assert_eq!(page.status(), StatusCode::OK);
    assert_eq!(page.headers()["cache-control"], "no-store");
    let page = page.text().await.expect("a page");
    let (_, rest) = page.split_once("--name barn --token ").expect("a command");
    let secret = rest[..64].to_string();
    let key = SecretKey::from_hex(&secret).expect("a secret");
    let token = AccountId::of(&key.public());
    assert_eq!(open(&chain), [token]);
    assert_eq!(
        chain
            .lock()
            .expect("unpoisoned")
            .tokens
            .get(&token)
            .map(|t| t.owner),
        Some(ada)
    );

    // Loaded again it is the same; the page that watches has no secret, whoever looks.
    let again = site.post("/hosts/new", &cookie, &body).await;
    assert!(again.text().await.expect("a page").contains(&secret));
    assert_eq!(open(&chain), [token]);
    let watch = format!("/hosts/new/{token}");
    let look = async |cookie: &str| {
        let page = site.get(&watch, cookie).await;
        assert_eq!(page.status(), StatusCode::OK);
        assert_eq!(page.headers()["cache-control"], "no-store");
        let page = page.text().await.expect("a page");
        assert!(!page.contains(&secret), "{page}");
        page
    };
    assert!(look(&cookie).await.contains("Waiting for the machine"));
    assert!(
        look(&eve)
            .await
            .contains("No machine joins with this token")
    );
    let list = site.get("/hosts/new", &cookie).await;
    let list = list.text().await.expect("a page");
    assert!(list.contains(&watch) && !list.contains(&secret));
    // Another's seed makes another's token: the secret is made of the session's key, too.
    let form = site.form_token("/hosts/new", &eve).await;
    let body_of_eve = format!("csrf={form}&seed={seed}&name=barn");
    let page = site.post("/hosts/new", &eve, &body_of_eve).await;
    assert!(!page.text().await.expect("a page").contains(&secret));
    assert_eq!(open(&chain).len(), 2);

    // Only who made it takes it back; the same form makes it again.
    let back = async |cookie: &str| {
        let form = site.form_token("/hosts/new", cookie).await;
        let body = format!("csrf={form}&token={token}");
        site.post("/hosts/uninvite", cookie, &body).await
    };
    assert_ne!(back(&eve).await.status(), StatusCode::SEE_OTHER);
    assert!(open(&chain).contains(&token));
    assert_eq!(to(&back(&cookie).await), "/hosts/new");
    assert!(!open(&chain).contains(&token));
    let page = look(&cookie).await;
    assert!(page.contains("No machine joins with this token"), "{page}");
    site.post("/hosts/new", &cookie, &body).await;
    assert!(open(&chain).contains(&token));

    join(&chain, &key, ada);
    let page = look(&cookie).await;
    for words in ["barn", "has joined", "4 cores", "arm64", "/jobs/new"] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(page.contains("nobody has deployed anything"), "{page}");
    assert!(
        look(&eve)
            .await
            .contains("No machine joins with this token")
    );
    // The form is sent once more: nothing is made, and nothing is shown of what was.
    let again = site.post("/hosts/new", &cookie, &body).await;
    assert_eq!(to(&again), watch);
    assert!(!open(&chain).contains(&token));
    let gone = site.get("/hosts/new/none", &cookie).await;
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}
