//! What the gateway itself says: short pages, problems as JSON.

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::outgoing::Reply;
use crate::table::{Absent, Service};

pub fn own(status: StatusCode, kind: &'static str, body: String) -> Response<Reply> {
    let mut response = Response::new(Reply::own(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.insert(RETRY_AFTER, HeaderValue::from_static("2"));
    }
    response
}

pub fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Reply> {
    let body = serde_json::to_string(value).unwrap_or_default();
    own(status, "application/json", body)
}

/// Figures, and that the gateway is there.
pub fn text(body: String) -> Response<Reply> {
    own(StatusCode::OK, api::PROMETHEUS, body)
}

/// An error of the API.
pub fn problem(
    status: StatusCode,
    kind: &str,
    what: &str,
    why: impl Into<String>,
    next: &str,
) -> Response<Reply> {
    let problem = api::Problem {
        kind: kind.into(),
        what: what.chars().take(200).collect(),
        why: why.into(),
        next: next.into(),
    };
    json(status, &problem)
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars().take(300) {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

fn wants_html(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.contains("text/html"))
}

/// For whoever called a service: HTML for browsers, else a line of text.
pub struct Page {
    status: StatusCode,
    kind: &'static str,
    body: String,
}

impl Page {
    pub fn new(html: bool, status: StatusCode, what: &str, why: &str) -> Self {
        if !html {
            let what: String = what.chars().take(300).collect();
            return Self {
                status,
                kind: "text/plain; charset=utf-8",
                body: format!("{what}: {why}\n"),
            };
        }
        let (what, why) = (escaped(what), escaped(why));
        let code = status.as_u16();
        Self {
            status,
            kind: "text/html; charset=utf-8",
            body: format!(
                "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
                 <meta name=\"viewport\" content=\"width=device-width\"><title>{code} {what}</title>\
                 <body style=\"font:1rem system-ui;max-width:40rem;margin:15vh auto;padding:0 1rem\">\
                 <h1 style=\"font-size:1.4rem\">{what}</h1><p>{why}</p>\
                 <p style=\"color:#777\">{code}, said by the Runrig gateway</p>\n"
            ),
        }
    }

    /// As bytes of HTTP/1.1.
    pub fn write(&self, with_body: bool, closes: bool, out: &mut Vec<u8>) {
        let (status, kind, length) = (self.status, self.kind, self.body.len());
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncache-control: no-store\r\ncontent-length: {length}\r\n"
        );
        out.extend_from_slice(head.as_bytes());
        if closes {
            out.extend_from_slice(b"connection: close\r\n");
        }
        out.extend_from_slice(b"\r\n");
        if with_body {
            out.extend_from_slice(self.body.as_bytes());
        }
    }
}

/// A [`Page`] as an answer.
pub fn page(headers: &HeaderMap, status: StatusCode, what: &str, why: &str) -> Response<Reply> {
    let page = Page::new(wants_html(headers), status, what, why);
    own(page.status, page.kind, page.body)
}

/// Why a service has no replica to send a request to.
pub fn absent(headers: &HeaderMap, service: &Service) -> Response<Reply> {
    let why = match service.absent() {
        Absent::Frozen => {
            "it is stopped for lack of funds, or by its owner's limit; its data is kept"
        }
        Absent::Unplaced => "none of its replicas runs yet",
        Absent::NoneReady => "it is starting, or unhealthy: no replica is ready",
    };
    page(
        headers,
        StatusCode::SERVICE_UNAVAILABLE,
        &service.domain,
        why,
    )
}
