//! Speak the OCI distribution API: credentials, patience, and plain words for what goes wrong.
//!
//! Our own rather than a library's: a host must obey `Retry-After`, go on where a connection
//! was cut, redeem identity tokens and tell a typo from an outage. Every size, wait and number
//! of tries is bounded. Credentials go only to the registry that they are for and to the token
//! service that it names, never from TLS to plain HTTP.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use futures::StreamExt;
use http_auth::parser::ChallengeParser;
use oci_spec::distribution::Reference;
use reqwest::header::{AUTHORIZATION, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, Response};
use serde_json::Value;

use crate::ImageError;
use crate::credentials::{Credentials, Login};
use crate::outside;
use crate::reference::NETWORK_REGISTRY;

const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Between two pieces of an answer.
const QUIET: Duration = Duration::from_secs(60);
/// For one piece of an upload, of at most [`crate::push`]'s size.
const UPLOAD_TIME: Duration = Duration::from_secs(600);
const TOKEN_TIME: Duration = Duration::from_secs(20);
const TRIES: u32 = 4;
/// Longest that a registry is waited for because it asked to.
const WAIT_MAX: Duration = Duration::from_secs(30);
/// Longest that a registry is left alone because it asked to.
const REST_MAX: Duration = Duration::from_secs(6 * 3_600);
const ANSWER_MAX: usize = 256 << 10;
/// Registries and repositories remembered at most.
const KNOWN_MAX: usize = 1_000;

/// Adds what proves who asks: name and value of a header for a method and a path.
pub type Signer = Arc<dyn Fn(&str, &str) -> (String, String) + Send + Sync>;

/// How registries are reached.
#[derive(Clone, Default)]
pub struct Access {
    /// URL behind which [`NETWORK_REGISTRY`] is: a gateway.
    pub network: Option<String>,
    /// For tags in the network's registry. Reading by digest needs none.
    pub signer: Option<Signer>,
    /// For other registries. Hosts have none.
    pub credentials: Credentials,
    /// Other registries, and whatever they lead to, are reached only at addresses of the public
    /// internet: for who asks on a stranger's word.
    pub public_only: bool,
}

/// A repository, and where requests for it go.
pub struct Place {
    /// What errors call it.
    pub name: String,
    pub repository: String,
    /// As its users write it: `docker.io`.
    registry: String,
    base: String,
    network: bool,
}

pub struct Ask<'a> {
    pub method: Method,
    /// With its query.
    pub path: &'a str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Option<Bytes>,
    /// Sending it twice does no harm.
    pub repeatable: bool,
}

impl<'a> Ask<'a> {
    pub fn get(path: &'a str) -> Self {
        Self {
            method: Method::GET,
            path,
            headers: Vec::new(),
            body: None,
            repeatable: true,
        }
    }
}

#[derive(Clone)]
enum Proof {
    Basic(String),
    Bearer { token: String, until: Instant },
}

pub struct Client {
    public: reqwest::Client,
    network: reqwest::Client,
    uploads: reqwest::Client,
    access: Access,
    /// By registry and repository.
    proofs: Mutex<HashMap<(String, String), Proof>>,
    /// Registries that asked to be left alone until then.
    resting: Mutex<HashMap<String, Instant>>,
}

pub fn failed(operation: &'static str, reference: &str, why: impl ToString) -> ImageError {
    ImageError::Failed {
        operation,
        reference: reference.into(),
        why: why.to_string(),
    }
}

impl Client {
    pub fn new(access: Access) -> Self {
        let builder = || reqwest::Client::builder().connect_timeout(CONNECT_TIME);
        let built = |builder: reqwest::ClientBuilder| builder.build().unwrap_or_default();
        Self {
            public: built(match access.public_only {
                true => outside::only(builder()).read_timeout(QUIET),
                false => builder().read_timeout(QUIET),
            }),
            network: built(builder().read_timeout(QUIET).no_proxy()),
            uploads: built(builder().timeout(UPLOAD_TIME).no_proxy()),
            access,
            proofs: Mutex::default(),
            resting: Mutex::default(),
        }
    }

    /// Errors: the reference is in the network's registry and no network is known.
    pub fn place(&self, reference: &Reference) -> Result<Place, ImageError> {
        let name = reference.whole();
        let network = reference.registry() == NETWORK_REGISTRY;
        let base = match (&self.access.network, network) {
            (Some(url), true) => url.trim_end_matches('/').to_string(),
            (None, true) => return Err(failed("find", &name, "no network is known here")),
            _ => match reference.resolve_registry() {
                "index.docker.io" | "docker.io" => "https://registry-1.docker.io".into(),
                host if speaks_plain_http(host) => format!("http://{host}"),
                host => format!("https://{host}"),
            },
        };
        Ok(Place {
            name,
            repository: reference.repository().into(),
            registry: reference.registry().into(),
            base,
            network,
        })
    }

    /// A successful answer (2xx), after as many tries as make sense.
    pub async fn send(&self, place: &Place, ask: Ask<'_>) -> Result<Response, ImageError> {
        self.awake(place)?;
        let mut pause = Duration::from_millis(200);
        let mut tries = 0;
        let mut challenged = false;
        loop {
            tries += 1;
            let last = tries >= TRIES || !ask.repeatable;
            let wait = match self.once(place, &ask).await {
                Ok(response) => match response.status().as_u16() {
                    200..=299 => return Ok(response),
                    401 if !challenged && !place.network => {
                        challenged = true;
                        tries -= 1;
                        self.authorize(place, response).await?;
                        continue;
                    }
                    code @ (429 | 503) => {
                        let wait = retry_after(&response).unwrap_or(pause);
                        if last || wait > WAIT_MAX {
                            return Err(match code {
                                429 => self.limited(place, wait),
                                _ => refusal(place, response).await,
                            });
                        }
                        wait
                    }
                    500..=599 if !last => pause,
                    _ => return Err(refusal(place, response).await),
                },
                Err(error) => {
                    let (why, typo) = fault(&place.registry, &error);
                    if last || typo {
                        return Err(failed("reach the registry of", &place.name, why));
                    }
                    pause
                }
            };
            tokio::time::sleep(wait).await;
            pause *= 3;
        }
    }

    async fn once(&self, place: &Place, ask: &Ask<'_>) -> reqwest::Result<Response> {
        let url = format!("{}{}", place.base, ask.path);
        let http = match (place.network, ask.body.is_some()) {
            (true, true) => &self.uploads,
            (true, false) => &self.network,
            _ => &self.public,
        };
        let mut request = http.request(ask.method.clone(), url);
        for (name, value) in &ask.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &ask.body {
            request = request.body(body.clone());
        }
        match self.proof(place) {
            Some(Proof::Basic(pair)) => {
                request = request.header(AUTHORIZATION, format!("Basic {pair}"));
            }
            Some(Proof::Bearer { token, .. }) => request = request.bearer_auth(token),
            None => {}
        }
        if let (true, Some(signer)) = (place.network, &self.access.signer) {
            let (header, value) = signer(ask.method.as_str(), ask.path);
            request = request.header(header, value);
        }
        request.send().await
    }

    fn proof(&self, place: &Place) -> Option<Proof> {
        let key = (place.registry.clone(), place.repository.clone());
        let proofs = self.proofs.lock().expect("not poisoned");
        let now = Instant::now();
        proofs
            .get(&key)
            .filter(|p| !matches!(p, Proof::Bearer { until, .. } if *until < now))
            .cloned()
    }

    fn awake(&self, place: &Place) -> Result<(), ImageError> {
        let mut resting = self.resting.lock().expect("not poisoned");
        let now = Instant::now();
        resting.retain(|_, until| *until > now);
        match resting.get(&place.registry) {
            Some(until) => Err(ImageError::Limited {
                reference: place.name.clone(),
                registry: place.registry.clone(),
                seconds: (*until - now).as_secs() + 1,
            }),
            None => Ok(()),
        }
    }

    fn limited(&self, place: &Place, wait: Duration) -> ImageError {
        let wait = wait.clamp(Duration::from_secs(1), REST_MAX);
        let mut resting = self.resting.lock().expect("not poisoned");
        if resting.len() < KNOWN_MAX {
            resting.insert(place.registry.clone(), Instant::now() + wait);
        }
        ImageError::Limited {
            reference: place.name.clone(),
            registry: place.registry.clone(),
            seconds: wait.as_secs(),
        }
    }

    /// Answers a challenge: what it leads to is sent with every later request.
    async fn authorize(&self, place: &Place, response: Response) -> Result<(), ImageError> {
        let denied = |why: String| ImageError::Denied {
            reference: place.name.clone(),
            why,
        };
        let login = self
            .access
            .credentials
            .of(&place.registry, &place.repository)
            .await
            .map_err(denied)?;
        let proof = match (challenge(&response), login) {
            (_, Some(Login::Token(token))) => Proof::Bearer {
                token,
                until: Instant::now() + REST_MAX,
            },
            (Some(Challenge::Bearer(bearer)), login) => self.token(place, &bearer, login).await?,
            (Some(Challenge::Basic), Some(Login::Password { user, password })) => {
                Proof::Basic(BASE64.encode(format!("{user}:{password}")))
            }
            (Some(Challenge::Basic), _) => {
                return Err(denied("the registry wants a user and a password".into()));
            }
            (None, _) => return Err(refusal(place, response).await),
        };
        let mut proofs = self.proofs.lock().expect("not poisoned");
        if proofs.len() >= KNOWN_MAX {
            proofs.clear();
        }
        proofs.insert((place.registry.clone(), place.repository.clone()), proof);
        Ok(())
    }

    async fn token(
        &self,
        place: &Place,
        bearer: &Bearer,
        login: Option<Login>,
    ) -> Result<Proof, ImageError> {
        let denied = |why: &str| ImageError::Denied {
            reference: place.name.clone(),
            why: why.into(),
        };
        let bad = |why: String| failed("get a token for", &place.name, why);
        if self.access.public_only && !outside::is_named(&bearer.realm) {
            let why = "its token service is a bare address";
            return Err(failed("log in to the registry of", &place.name, why));
        }
        if !(bearer.realm.starts_with("https://") || place.base.starts_with("http://")) {
            return Err(denied(
                "its token service is not behind TLS: no credentials are sent there",
            ));
        }
        let scope = match &bearer.scope {
            Some(scope) => scope.clone(),
            None => format!("repository:{}:pull", place.repository),
        };
        let mut fields = vec![("service", bearer.service.as_str()), ("scope", &scope)];
        let request = match &login {
            Some(Login::Identity(token)) => {
                fields.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "runrig"),
                    ("refresh_token", token),
                ]);
                self.public.post(&bearer.realm).form(&fields)
            }
            Some(Login::Password { user, password }) => {
                fields.push(("account", user));
                let get = self.public.get(&bearer.realm).query(&fields);
                get.basic_auth(user, Some(password))
            }
            _ => self.public.get(&bearer.realm).query(&fields),
        };
        let response = request.timeout(TOKEN_TIME).send().await.map_err(|e| {
            let host = bearer.realm.split('/').nth(2).unwrap_or_default();
            bad(fault(host, &e).0)
        })?;
        match response.status().as_u16() {
            200 => {}
            401 | 403 if login.is_some() => {
                return Err(denied(
                    "the registry refused the user and password kept for it",
                ));
            }
            401 | 403 => return Err(denied("the registry wants a login")),
            429 => {
                let wait = retry_after(&response).unwrap_or(WAIT_MAX);
                return Err(self.limited(place, wait));
            }
            code => return Err(bad(format!("its token service answered HTTP {code}"))),
        }
        let bytes = bounded(response, ANSWER_MAX).await.map_err(bad)?;
        let answer: Value = serde_json::from_slice(&bytes).map_err(|e| bad(e.to_string()))?;
        let token = answer["token"].as_str().or(answer["access_token"].as_str());
        let token = token.ok_or_else(|| bad("its token service sent no token".into()))?;
        let seconds = answer["expires_in"].as_u64().unwrap_or(60).clamp(15, 3_600);
        Ok(Proof::Bearer {
            token: token.into(),
            until: Instant::now() + Duration::from_secs(seconds - 10),
        })
    }
}

/// Registries on this machine speak plain HTTP, and those that its owner names.
fn speaks_plain_http(registry: &str) -> bool {
    let host = registry.rsplit_once(':').map_or(registry, |(host, _)| host);
    let here = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    here || std::env::var("RUNRIG_INSECURE_REGISTRIES")
        .is_ok_and(|all| all.split(',').any(|r| r.trim() == registry))
}

enum Challenge {
    Basic,
    Bearer(Bearer),
}

#[derive(Default)]
struct Bearer {
    realm: String,
    service: String,
    scope: Option<String>,
}

/// The strongest that the registry offers.
fn challenge(response: &Response) -> Option<Challenge> {
    let mut basic = None;
    for value in response.headers().get_all(WWW_AUTHENTICATE) {
        for challenge in ChallengeParser::new(value.to_str().ok()?).flatten() {
            if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            } else if challenge.scheme.eq_ignore_ascii_case("bearer") {
                let mut bearer = Bearer::default();
                for (name, value) in &challenge.params {
                    match name.to_ascii_lowercase().as_str() {
                        "realm" => bearer.realm = value.to_unescaped(),
                        "service" => bearer.service = value.to_unescaped(),
                        "scope" => bearer.scope = Some(value.to_unescaped()),
                        _ => {}
                    }
                }
                return Some(Challenge::Bearer(bearer));
            }
        }
    }
    basic
}

/// Seconds only: registries do not send dates.
fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// What the registry itself says, shortened.
async fn refusal(place: &Place, response: Response) -> ImageError {
    let status = response.status();
    let body = bounded(response, ANSWER_MAX).await.unwrap_or_default();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let error = &said["errors"][0];
    let words: Vec<&str> = ["code", "message"]
        .iter()
        .filter_map(|key| error[*key].as_str())
        .collect();
    let words: String = words
        .join(": ")
        .chars()
        .filter(|c| !c.is_control())
        .take(200)
        .collect();
    let why = match words.is_empty() {
        true => format!("HTTP {status}"),
        false => format!("{} answered {words}", place.registry),
    };
    let reference = place.name.clone();
    match status.as_u16() {
        401 | 403 => ImageError::Denied { reference, why },
        404 => ImageError::NotFound { reference, why },
        400..=499 => ImageError::Unusable { reference, why },
        _ => failed("ask for", &reference, why),
    }
}

/// In words, and whether it is hopeless to try again.
fn fault(registry: &str, error: &reqwest::Error) -> (String, bool) {
    let mut causes = Vec::new();
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(at) = cause {
        causes.push(at.to_string());
        cause = at.source();
    }
    let root = causes.last().cloned().unwrap_or_default();
    let all = causes.join(" ").to_ascii_lowercase();
    if all.contains("dns error") || all.contains("lookup address") {
        let why = format!("no machine is called {registry}: check the name ({root})");
        return (why, true);
    }
    if all.contains("certificate") {
        let why = format!(
            "the certificate of {registry} is not trusted ({root}). If the registry is yours, add its authority to those that this machine trusts"
        );
        return (why, true);
    }
    if all.contains("invalidcontenttype") || all.contains("corrupt message") {
        let why = format!(
            "{registry} does not speak TLS. If it is yours and speaks plain HTTP, name it in RUNRIG_INSECURE_REGISTRIES"
        );
        return (why, true);
    }
    if error.is_timeout() {
        return (format!("{registry} did not answer in time"), false);
    }
    (format!("{registry}: {root}"), false)
}

/// The whole body, or an error if it is longer than `most`.
pub async fn bounded(response: Response, most: usize) -> Result<Vec<u8>, String> {
    let mut stream = response.bytes_stream();
    let mut all = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|e| e.to_string())?;
        if all.len() + chunk.len() > most {
            return Err(format!("more than {most} bytes"));
        }
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machines_registries_speak_plainly() {
        for (registry, plain) in [
            ("localhost", true),
            ("localhost:5000", true),
            ("127.0.0.1:41234", true),
            ("127.9.9.9", true),
            ("10.0.0.1:5000", false),
            ("localhost.example", false),
            ("ghcr.io", false),
        ] {
            assert_eq!(speaks_plain_http(registry), plain, "{registry}");
        }
    }

    #[tokio::test]
    async fn faults_are_told_apart() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("bound");
        let address = listener.local_addr().expect("bound");
        let server = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        let plain = reqwest::get(format!("https://{address}/"))
            .await
            .expect_err("no TLS");
        let (why, hopeless) = fault("r.example", &plain);
        assert!(why.contains("does not speak TLS") && hopeless, "{why}");
        server.abort();
        let nobody = reqwest::get("https://no-such-machine.invalid/")
            .await
            .expect_err("no such name");
        let (why, hopeless) = fault("no-such-machine.invalid", &nobody);
        assert!(why.contains("check the name") && hopeless, "{why}");
    }
}
