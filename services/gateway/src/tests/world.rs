//! Loopback processes that stand for validators, agents, registries and replicas.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use api::{Route, Routes, Upstream};
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use types::{AccountId, AllocationId, DeploymentId, Digest, PortSpec, Protocol};

use crate::table::{Trust, machine};
use crate::{Certificates, Config, Secure, serve};

/// A server whose connections end with it, as those of a killed process do.
pub struct Process {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Process {
    pub async fn start(at: SocketAddr, router: Router) -> Self {
        let listener = TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = TowerToHyperService::new(router.clone());
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .timer(TokioTimer::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                });
            }
        });
        Self { address, task }
    }

    pub async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

pub fn loopback(last: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(127, 0, 0, last), port).into()
}

#[derive(Clone)]
pub struct Chain {
    pub routes: watch::Sender<Routes>,
    pub agent: Arc<std::sync::Mutex<String>>,
    pub asked: Arc<AtomicU32>,
    /// Who may see what is anybody's.
    pub viewer: AccountId,
}

impl Chain {
    pub fn new(routes: Vec<Route>) -> Self {
        Self {
            routes: watch::Sender::new(Routes {
                height: 1,
                routes,
                ..Routes::default()
            }),
            agent: Arc::default(),
            asked: Arc::default(),
            viewer: AccountId([3; 20]),
        }
    }

    pub fn set(&self, routes: Vec<Route>) {
        self.routes.send_modify(|now| {
            now.height += 1;
            now.routes = routes;
        });
    }
}

async fn account(
    State(chain): State<Chain>,
    Path(account): Path<AccountId>,
) -> Json<api::AccountView> {
    let grant = ledger::account::Grant {
        role: ledger::account::Role::Viewer,
        limit: None,
        expires_ms: None,
        label: String::new(),
        since_ms: 0,
        spent: types::Amount::ZERO,
        counted_ms: 0,
    };
    Json(api::AccountView {
        account,
        balance: types::Amount::ZERO,
        spendable: types::Amount::ZERO,
        held: types::Amount::ZERO,
        nonce: 0,
        height: 1,
        gift: types::Amount::ZERO,
        grants: [(chain.viewer, grant)].into(),
        retired: false,
    })
}

pub async fn validator(chain: Chain) -> Process {
    validator_at(chain, 0).await
}

/// One whose head is of `time_ms`.
pub async fn validator_at(chain: Chain, time_ms: u64) -> Process {
    let head = api::Head { height: 1, time_ms };
    let router = Router::new()
        .route(
            "/v1/status",
            get(move || async move { ([(api::Head::HEADER, head.to_string())], "{}") }),
        )
        .route("/v1/routes", get(routes))
        .route("/v1/events", get(events))
        .route("/v1/transactions", post(|body: Bytes| async { body }))
        .route("/v1/accounts/{id}", get(account))
        .route(
            "/v1/where",
            get(|State(chain): State<Chain>| async move {
                chain.asked.fetch_add(1, Ordering::Relaxed);
                "a validator"
            }),
        )
        .route(
            "/v1/allocations/{id}",
            get(|Path(id): Path<String>| async move {
                match id.as_str() {
                    "a-1" => {
                        Json(serde_json::json!({ "host": AccountId::default() })).into_response()
                    }
                    _ => StatusCode::NOT_FOUND.into_response(),
                }
            }),
        )
        .route(
            "/v1/hosts/{id}",
            get(|State(chain): State<Chain>| async move {
                let address = chain.agent.lock().unwrap().clone();
                Json(serde_json::json!({ "address": address }))
            }),
        )
        .with_state(chain);
    Process::start(loopback(1, 0), router).await
}

async fn routes(
    State(chain): State<Chain>,
    Query(query): Query<BTreeMap<String, u64>>,
) -> Json<Routes> {
    let mut heard = chain.routes.subscribe();
    let after = query.get("after").copied();
    let newer = heard.wait_for(|r| Some(r.height) != after);
    let _ = tokio::time::timeout(Duration::from_secs(5), newer).await;
    Json(chain.routes.borrow().clone())
}

/// One event at once, and no second one.
async fn events() -> Response {
    let first = futures::stream::once(async { Ok::<_, std::io::Error>("data: one\n\n") });
    let never = futures::stream::pending();
    let body = Body::from_stream(futures::StreamExt::chain(first, never));
    ([("content-type", "text/event-stream")], body).into_response()
}

/// Answers with `name`, what it was sent, or another protocol.
pub fn replica_router(name: &'static str) -> Router {
    Router::new()
        .route("/", get(move || async move { name }))
        .route("/echo", any(|body: Body| async { body }))
        .route("/whole", any(|body: Bytes| async { body }))
        .route("/lazy", any(lazy))
        .route("/headers", any(headers))
        .route("/switch", any(switch))
        .route(
            "/late",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(300)).await;
                "late"
            }),
        )
}

async fn headers(uri: Uri, headers: HeaderMap) -> String {
    let mut out = format!("{uri}\n");
    for (name, value) in &headers {
        out.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
    }
    out
}

/// Reads nothing for longer than a client may pause, then all.
async fn lazy(body: Body) -> String {
    tokio::time::sleep(crate::limits::BODY_PAUSE + Duration::from_millis(500)).await;
    body.collect().await.unwrap().to_bytes().len().to_string()
}

/// Speaks "echo" after the switch.
async fn switch(mut request: Request) -> Response {
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgraded.await.unwrap());
        let mut buffer = [0; 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            stream.write_all(&buffer[..n]).await.unwrap();
        }
    });
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", "echo")
        .body(Body::empty())
        .unwrap()
}

/// An agent that tunnels to `upstream` and shows what else it is asked.
pub async fn agent(upstream: SocketAddr) -> Process {
    let tunnel = move |mut request: Request| async move {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut client = TokioIo::new(upgraded.await.unwrap());
            let mut stream = TcpStream::connect(upstream).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut stream).await;
        });
        Response::builder()
            .status(101)
            .header("connection", "upgrade")
            .header("upgrade", "runrig-tunnel")
            .body(Body::empty())
            .unwrap()
    };
    let router = Router::new()
        .route("/v1/allocations/{id}/tunnel/{port}", get(tunnel))
        .route("/v1/allocations/{id}/logs", get(headers))
        .route("/v1/allocations/{id}/exec", get(switch));
    Process::start(loopback(1, 0), router).await
}

pub const LOCAL: [u8; 4] = [127, 0, 0, 1];

pub fn upstream(number: u64, address: [u8; 4]) -> Upstream {
    Upstream {
        allocation: AllocationId(number),
        host: AccountId::default(),
        host_address: "http://127.0.0.1:1".into(),
        machine: machine().unwrap(),
        address,
        ready: true,
        unheard: false,
        leaving: false,
    }
}

pub fn tunnelled(number: u64, agent: &Process) -> Upstream {
    Upstream {
        host_address: agent.url(),
        machine: Digest::of(b"another machine"),
        ..upstream(number, [10, 64, 0, 2])
    }
}

pub fn route(domain: &str, http_port: u16, replicas: Vec<Upstream>) -> Route {
    Route {
        deployment: DeploymentId(1),
        owner: AccountId::default(),
        service: domain.split('.').next().unwrap().into(),
        domain: domain.into(),
        ports: Vec::new(),
        http_port: Some(http_port),
        frozen: false,
        scale: None,
        replicas,
    }
}

pub fn publishing(mut route: Route, published: u16, protocol: Protocol) -> Route {
    route.ports.push(PortSpec {
        target: route.http_port.unwrap(),
        published: Some(published),
        protocol,
    });
    route
}

pub struct Running {
    pub address: SocketAddr,
    /// Where TLS is spoken.
    pub secure: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<anyhow::Result<()>>,
}

/// `web.app` with one replica, `web`, on this machine.
pub fn chain_of(web: &Process) -> Chain {
    let replicas = vec![upstream(1, LOCAL)];
    Chain::new(vec![route("web.app", web.address.port(), replicas)])
}

/// A validator that tells of `chain`, and a gateway that has heard it.
pub async fn gateway_with(chain: &Chain) -> (Process, Running) {
    let validator = validator(chain.clone()).await;
    let gateway = Running::start(&[&validator], None).await;
    gateway.heard(chain).await;
    (validator, gateway)
}

impl Running {
    pub async fn start(validators: &[&Process], registry: Option<&Process>) -> Self {
        let urls = validators.iter().map(|v| v.url()).collect();
        Self::with_validators(urls, registry).await
    }

    pub async fn with_validators(validators: Vec<String>, registry: Option<&Process>) -> Self {
        Self::with_tls(validators, registry, None).await
    }

    /// One that writes down what was asked in `folder`.
    pub async fn writing(validator: &Process, folder: &std::path::Path) -> Self {
        Self::serving(vec![validator.url()], None, None, Some(folder.into())).await
    }

    pub async fn with_tls(
        validators: Vec<String>,
        registry: Option<&Process>,
        certificates: Option<Certificates>,
    ) -> Self {
        Self::serving(validators, registry, certificates, None).await
    }

    async fn serving(
        validators: Vec<String>,
        registry: Option<&Process>,
        certificates: Option<Certificates>,
        data: Option<std::path::PathBuf>,
    ) -> Self {
        let listener = TcpListener::bind(loopback(1, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config {
            validators,
            registry: registry.map(Process::url),
            listen: address,
            publish: IpAddr::V4(Ipv4Addr::LOCALHOST),
            domain: "localhost".into(),
            key: Some(types::SecretKey::from_seed([7; 32])),
            data,
            tls: certificates.map(|certificates| Secure {
                listen: loopback(1, 0),
                certificates,
            }),
        };
        let secure = match &config.tls {
            Some(_) => Some(TcpListener::bind(loopback(1, 0)).await.unwrap()),
            None => None,
        };
        let secure_address = secure.as_ref().map(|l| l.local_addr().unwrap());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(serve(listener, secure, config, Trust::Loopback, async {
            let _ = stopped.await;
        }));
        Self {
            address,
            secure: secure_address,
            stop: Some(stop),
            task,
        }
    }

    pub fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    pub async fn ended(self) {
        let ended = tokio::time::timeout(Duration::from_secs(15), self.task);
        ended.await.expect("ends in time").unwrap().unwrap();
    }

    pub async fn get(&self, host: &str, path: &str) -> Answer {
        self.send("GET", host, path, &[], Bytes::new()).await
    }

    pub async fn send(
        &self,
        method: &str,
        host: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub async fn status(&self) -> serde_json::Value {
        serde_json::from_slice(&self.get("localhost", "/v1/gateway").await.body).unwrap()
    }

    /// Waits until the gateway has heard `chain`.
    pub async fn heard(&self, chain: &Chain) {
        let height = chain.routes.borrow().height;
        eventually("routes are heard", async || {
            self.status().await["height"] == height
        })
        .await;
    }

    /// Opens a connection and writes `head` as it is.
    pub async fn raw(&self, head: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let until = tokio::time::Instant::now() + Duration::from_secs(20);
    while !check().await {
        assert!(tokio::time::Instant::now() < until, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads until `end` has come, or the stream ends.
pub async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    let reading = async {
        while !String::from_utf8_lossy(&text).contains(end) {
            match stream.read(&mut buffer).await {
                Ok(n @ 1..) => text.extend_from_slice(&buffer[..n]),
                _ => break,
            }
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(10), reading).await;
    String::from_utf8_lossy(&text).into_owned()
}
