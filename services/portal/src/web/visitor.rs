//! Who asks: his session, his theme, the token of his forms.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use types::Digest;

use super::Trouble;
use super::right::{Lack, Right};
use super::whence::neighbourhood;
use crate::people::{Login, Token};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Theme {
    Light,
    Dark,
}

impl Theme {
    pub fn name(self) -> &'static str {
        match self {
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "light" => Some(Self::Light),
            "dark" => Some(Self::Dark),
            _ => None,
        }
    }
}

pub struct Asking {
    pub login: Option<Login>,
    /// As the browser's cookie says; else the system's.
    pub theme: Option<Theme>,
    /// Of the session, or of a stranger's cookie: what form tokens are made of.
    pub token: Token,
    /// With its query.
    pub path: String,
    pub address: IpAddr,
    pub browser: String,
    /// Name and port of this site, as the browser has them.
    pub host: String,
    /// A browser that somebody has logged in with before.
    pub device: Option<Token>,
    /// Asked for by a script that puts the answer into the page.
    pub partial: bool,
}

/// Handed to every page.
#[derive(Clone)]
pub struct Visitor(pub Arc<Asking>);

impl std::ops::Deref for Visitor {
    type Target = Asking;
    fn deref(&self) -> &Asking {
        &self.0
    }
}

impl<S: Sync> FromRequestParts<S> for Visitor {
    type Rejection = StatusCode;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, StatusCode> {
        let visitor = parts.extensions.get::<Self>().cloned();
        visitor.ok_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The value of a cookie that was sent.
pub fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

impl Visitor {
    /// From where he asks, as limits count it.
    pub fn whence(&self) -> String {
        neighbourhood(self.address)
    }

    /// Errors: nobody is logged in.
    pub fn login(&self) -> Result<&Login, Trouble> {
        self.login.as_ref().ok_or(Trouble::LoginNeeded)
    }

    /// What he lacks to `act` for whom he acts; nothing for himself. A role that is not known just
    /// now keeps nobody from a form: the ledger holds to it all the same.
    pub fn lack(&self, right: Right, act: &'static str) -> Option<Lack> {
        let login = self.login.as_ref()?;
        let workspace = login.acting.as_ref()?;
        let role = *login.role.get()?;
        if role.is_some_and(|role| right.is_of(role)) {
            return None;
        }
        let account = workspace.title.clone();
        Some(Lack {
            act,
            right,
            role,
            account,
        })
    }

    /// A token for one form. Differs each time, so that compression does not betray it.
    pub fn form_token(&self) -> String {
        let nonce: [u8; 8] = rand::random();
        let mark = mark(&self.token, &nonce);
        format!("{}{}", hex::encode(nonce), hex::encode(mark))
    }

    /// Whether a form was made for this visitor.
    pub fn owns(&self, form_token: &str) -> bool {
        let Ok(bytes) = hex::decode(form_token) else {
            return false;
        };
        let Some((nonce, sent)) = bytes.split_at_checked(8) else {
            return false;
        };
        let Ok(nonce) = <[u8; 8]>::try_from(nonce) else {
            return false;
        };
        let own = mark(&self.token, &nonce);
        // As long for a near miss as for a far one.
        let differ = own.iter().zip(sent).fold(0, |d, (a, b)| d | (a ^ b));
        sent.len() == own.len() && differ == 0
    }
}

fn mark(token: &Token, nonce: &[u8; 8]) -> [u8; 16] {
    let digest = Digest::of_value("runrig-portal-form", &(token.0, nonce));
    let mut mark = [0; 16];
    mark.copy_from_slice(&digest.0[..16]);
    mark
}
