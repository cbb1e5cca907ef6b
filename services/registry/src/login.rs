//! Who asks: by a signed header, by a token, or by user and password.
//!
//! The `runrig` command signs each request ([`RequestAuth`]). Clients that know only passwords
//! are told of the token service (`/v2/token`), show it the account's [`RegistryLogin`] and get
//! a token of five minutes; without a password they get one that is nobody's. The registry
//! keeps neither passwords nor tokens: tokens are signed with a key of this process.

use api::{Caller, RegistryLogin, RequestAuth};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use types::{AccountId, Digest, PublicKey, SecretKey, Signature};

use crate::answer::{Answer, Refused, refused};
use crate::limits::TOKEN_SECONDS;

pub const SERVICE: &str = "runrig-registry";

pub struct Tokens {
    key: SecretKey,
    public: PublicKey,
}

fn digest(account: Option<AccountId>, until_s: u64) -> Digest {
    Digest::of_value("runrig-registry-token", &(account, until_s))
}

fn now_s() -> u64 {
    api::now_ms() / 1_000
}

impl Tokens {
    /// With a key of its own: tokens of an earlier run are asked for anew.
    pub fn new() -> Self {
        let key = SecretKey::random(&mut rand::rng());
        let public = key.public();
        Self { key, public }
    }

    fn make(&self, account: Option<AccountId>) -> String {
        let until_s = now_s() + TOKEN_SECONDS;
        let signature = self.key.sign(&digest(account, until_s).0);
        let account = account.map_or("-".into(), |a| a.to_string());
        format!("{account}.{until_s}.{signature}")
    }

    /// `None`: not a token of this process, or too old. `Some(None)`: nobody's.
    fn read(&self, text: &str) -> Option<Option<AccountId>> {
        let mut parts = text.splitn(3, '.');
        let account = match parts.next()? {
            "-" => None,
            account => Some(account.parse().ok()?),
        };
        let until_s: u64 = parts.next()?.parse().ok()?;
        let signature: Signature = parts.next()?.parse().ok()?;
        self.public
            .verify(&digest(account, until_s).0, &signature)
            .ok()?;
        (until_s >= now_s()).then_some(account)
    }

    /// Who asks; `None`: nobody in particular.
    ///
    /// `path` with its query, as sent. Errors: what was shown is no good.
    pub fn caller(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<Option<Caller>, Refused> {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
        if let Some(signed) = text(RequestAuth::HEADER) {
            return RequestAuth::caller(Some(signed), method.as_str(), path, api::now_ms())
                .map(Some)
                .map_err(|e| refused(401, "UNAUTHORIZED", e));
        }
        let Some(shown) = text("authorization") else {
            return Ok(None);
        };
        let account = match shown.split_once(' ') {
            Some((kind, token)) if kind.eq_ignore_ascii_case("bearer") => self
                .read(token.trim())
                .ok_or_else(|| refused(401, "UNAUTHORIZED", "the token is not good any more")),
            Some((kind, pair)) if kind.eq_ignore_ascii_case("basic") => password(pair.trim()),
            _ => Err(refused(
                401,
                "UNAUTHORIZED",
                "show a token, or a user and a password",
            )),
        }?;
        Ok(account.map(|account| Caller {
            account,
            through: None,
        }))
    }

    /// `GET /v2/token`: user and password in the header.
    pub fn answer(&self, headers: &HeaderMap) -> Answer {
        let shown = headers.get("authorization").and_then(|v| v.to_str().ok());
        let account = match shown.and_then(|s| s.split_once(' ')) {
            Some((kind, pair)) if kind.eq_ignore_ascii_case("basic") => password(pair.trim())?,
            _ => None,
        };
        Ok(self.token(account))
    }

    /// `POST /v2/token`: a form, as OAuth 2 has it. The password is its own refresh token.
    pub fn answer_form(&self, fields: &[(String, String)]) -> Answer {
        let field = |name: &str| {
            fields
                .iter()
                .find(|(n, _)| n == name)
                .map(|(_, v)| v.as_str())
        };
        let account = match field("grant_type") {
            Some("password") => login(
                field("username").unwrap_or_default(),
                field("password").unwrap_or_default(),
            )?,
            Some("refresh_token") => {
                let token = field("refresh_token").unwrap_or_default();
                Some(checked(token)?)
            }
            _ => {
                return Err(refused(
                    400,
                    "UNSUPPORTED",
                    "grant_type is password or refresh_token",
                ));
            }
        };
        Ok(self.token(account))
    }

    fn token(&self, account: Option<AccountId>) -> Response {
        let token = self.make(account);
        let body = json!({ "token": token, "access_token": token, "expires_in": TOKEN_SECONDS });
        let mut response = axum::Json(body).into_response();
        response
            .headers_mut()
            .insert("cache-control", HeaderValue::from_static("no-store"));
        response
    }
}

fn password(pair: &str) -> Result<Option<AccountId>, Refused> {
    let decoded = BASE64
        .decode(pair)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded =
        decoded.ok_or_else(|| refused(401, "UNAUTHORIZED", "user and password cannot be read"))?;
    let (user, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    login(user, password)
}

/// Some clients without a password send two empty words.
fn login(user: &str, password: &str) -> Result<Option<AccountId>, Refused> {
    if user.is_empty() && password.is_empty() {
        return Ok(None);
    }
    let account = checked(password)?;
    // `<token>` is what clients say who have only a token.
    if user == account.to_string() || user == "<token>" {
        return Ok(Some(account));
    }
    let why = format!("the password is account {account}'s: log in as that user");
    Err(refused(401, "UNAUTHORIZED", why))
}

fn checked(password: &str) -> Result<AccountId, Refused> {
    RegistryLogin::check(password, now_s()).map_err(|e| refused(401, "UNAUTHORIZED", e))
}

/// Tells a client how to show who it is.
pub fn challenge(headers: &HeaderMap, repository: Option<&str>) -> String {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    let plain = |host: &&str| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b".:-_[]".contains(&b))
    };
    let host = text("host").filter(plain).unwrap_or("localhost");
    let scheme = match text("x-forwarded-proto") {
        Some("https") => "https",
        _ => "http",
    };
    let scope = repository.map_or(String::new(), |name| {
        format!(",scope=\"repository:{name}:pull,push\"")
    });
    format!("Bearer realm=\"{scheme}://{host}/v2/token\",service=\"{SERVICE}\"{scope}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_of_one_process_and_one_account() {
        let (tokens, others) = (Tokens::new(), Tokens::new());
        let account = AccountId([3; 20]);
        let token = tokens.make(Some(account));
        assert_eq!(tokens.read(&token), Some(Some(account)));
        assert_eq!(others.read(&token), None);
        assert_eq!(tokens.read(&tokens.make(None)), Some(None));
        let other = token.replace(&account.to_string(), &AccountId([4; 20]).to_string());
        assert_eq!(tokens.read(&other), None);
        let until = token.split('.').nth(1).expect("a time").to_string();
        assert_eq!(tokens.read(&token.replace(&until, "9999999999")), None);
        for text in ["", ".", "..", "-.1.x", "a.b.c.d"] {
            assert_eq!(tokens.read(text), None, "{text}");
        }
    }

    #[test]
    fn a_challenge_quotes_nothing_strange() {
        let mut headers = HeaderMap::new();
        headers.insert("host", HeaderValue::from_static("a\",evil=\"b"));
        assert_eq!(
            challenge(&headers, None),
            format!("Bearer realm=\"http://localhost/v2/token\",service=\"{SERVICE}\"")
        );
        headers.insert("host", HeaderValue::from_static("r.example:8700"));
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert_eq!(
            challenge(&headers, Some("a/b")),
            format!(
                "Bearer realm=\"https://r.example:8700/v2/token\",service=\"{SERVICE}\",scope=\"repository:a/b:pull,push\""
            )
        );
    }
}
