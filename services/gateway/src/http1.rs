//! HTTP/1.1 heads and bodies as bytes: what is regular is read and written again for the other
//! side in one pass, without a table of headers.
//!
//! Invariants: a request is taken only if there is one way to read it ([`Parsed::Request`]);
//! everything else, from an upgrade to a smuggled length, is left to the general server. No
//! byte is passed on whose place in the framing is not known, so both sides always agree where
//! a message ends. Headers of a hop end here; what a stranger says about its origin too.

use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::ops::Range;

use httparse::Status;

use crate::limits::HEADERS_MAX;

/// Between the size of a chunk and its end of line.
const EXTENSION_MAX: u32 = 256;
/// After the last chunk.
const TRAILERS_MAX: u32 = 8 * 1024;

/// What requests of one connection are given on their way.
pub struct Forward {
    /// `x-forwarded-…` and `via`, up to the value of the host.
    lines: Vec<u8>,
    via: Box<[u8]>,
}

impl Forward {
    /// `pseudonym` names this gateway in `via`.
    pub fn new(client: IpAddr, is_secure: bool, pseudonym: &str) -> Self {
        let scheme = if is_secure { "https" } else { "http" };
        let lines = format!(
            "x-forwarded-for: {client}\r\nx-forwarded-proto: {scheme}\r\nvia: 1.1 {pseudonym}\r\nx-forwarded-host: "
        );
        Self {
            lines: lines.into(),
            via: pseudonym.as_bytes().into(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Patch,
    Options,
}

impl Method {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "DELETE" => Self::Delete,
            "PATCH" => Self::Patch,
            "OPTIONS" => Self::Options,
            _ => return None,
        })
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Patch => "PATCH",
            Self::Options => "OPTIONS",
        }
    }

    /// Doing it twice does no harm.
    pub fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch)
    }
}

/// A regular request at the start of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: Method,
    /// With query.
    pub path: Range<usize>,
    /// As the client wrote it, with port.
    pub host: Range<usize>,
    pub head_bytes: usize,
    pub body_bytes: usize,
    /// The client closes after the answer.
    pub closes: bool,
    pub wants_html: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The head has not come whole.
    More,
    /// Not for here: see the module.
    Unusual,
    /// `out` has its head for a replica.
    Request(Request),
}

/// Where `part` is in `whole`, which it was cut from.
fn range_in(whole: &[u8], part: &[u8]) -> Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

fn line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Digits alone: no sign, no list, no space.
fn length(value: &[u8]) -> Option<u64> {
    match value.len() {
        1..=18 => {}
        _ => return None,
    }
    value.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => Some(sum * 10 + u64::from(byte - b'0')),
        _ => None,
    })
}

/// What strangers may not say of themselves: `_` counts as `-`, as it does to many programs.
pub fn is_about_origin(name: &str) -> bool {
    let Some(first) = name.as_bytes().first() else {
        return false;
    };
    if !matches!(first, b'x' | b'X' | b'f' | b'F') {
        return false;
    }
    let is = |known: &str| {
        name.len() == known.len()
            && name
                .bytes()
                .zip(known.bytes())
                .all(|(a, b)| a.to_ascii_lowercase() == b || (a == b'_' && b == b'-'))
    };
    is("forwarded")
        || is("x-real-ip")
        || (name.len() > 12
            && name.is_char_boundary(12)
            && name[..12]
                .bytes()
                .zip("x-forwarded-".bytes())
                .all(|(a, b)| a.to_ascii_lowercase() == b || (a == b'_' && b == b'-')))
}

/// Reads the request at the start of `buffer` and writes its head for a replica to `out`.
pub fn request(buffer: &[u8], forward: &Forward, out: &mut Vec<u8>) -> Parsed {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut []);
    let head_bytes = match head.parse_with_uninit_headers(buffer, &mut headers) {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Parsed::More,
        Err(_) => return Parsed::Unusual,
    };
    rewritten(buffer, head_bytes, &head, forward, out).map_or(Parsed::Unusual, Parsed::Request)
}

fn rewritten(
    buffer: &[u8],
    head_bytes: usize,
    head: &httparse::Request<'_, '_>,
    forward: &Forward,
    out: &mut Vec<u8>,
) -> Option<Request> {
    let (method, path) = (Method::parse(head.method?)?, head.path?);
    if head.version != Some(1) || !path.starts_with('/') {
        return None;
    }
    out.clear();
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let (mut host, mut body, mut closes, mut wants_html) = (None, None, false, false);
    for header in head.headers.iter() {
        let (name, value) = (header.name, header.value);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        // By length, so that most names are compared with few others.
        match name.len() {
            2 if is("te") => return None,
            3 if is("via") && contains(value, &forward.via) => return None,
            4 if is("host") => host = only(host, range_in(buffer, value))?,
            6 if is("expect") => return None,
            6 if is("accept") => wants_html = value.starts_with(b"text/html"),
            7 if is("upgrade") || is("trailer") => return None,
            10 if is("connection") => {
                match value {
                    v if v.eq_ignore_ascii_case(b"keep-alive") => {}
                    v if v.eq_ignore_ascii_case(b"close") => closes = true,
                    _ => return None,
                }
                continue;
            }
            10 if is("keep-alive") => continue,
            14 if is("content-length") => body = only(body, length(value)?)?,
            14 if is("http2-settings") => return None,
            16 if is("proxy-connection") => continue,
            17 if is("transfer-encoding") => return None,
            18 if is("proxy-authenticate") => continue,
            19 if is("proxy-authorization") => continue,
            9.. if is_about_origin(name) => continue,
            _ => {}
        }
        line(out, name, value);
    }
    let host = host.filter(|host| !host.is_empty())?;
    out.extend_from_slice(&forward.lines);
    out.extend_from_slice(&buffer[host.clone()]);
    out.extend_from_slice(b"\r\n\r\n");
    Some(Request {
        method,
        path: range_in(buffer, path.as_bytes()),
        host,
        head_bytes,
        body_bytes: usize::try_from(body.unwrap_or(0)).ok()?,
        closes,
        wants_html,
    })
}

/// `value` in a place that is free; `None` if it is taken.
fn only<T>(place: Option<T>, value: T) -> Option<Option<T>> {
    place.is_none().then_some(Some(value))
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len().max(1)).any(|w| w == part)
}

/// A replica's answer at the start of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head_bytes: usize,
    pub framing: Framing,
    /// The replica keeps the connection.
    pub is_kept: bool,
    /// The client is told that this connection ends.
    pub closes: bool,
}

/// Where a body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// So many bytes are still to come.
    Length(u64),
    Chunked(Chunks),
    /// With the connection.
    Close,
}

impl Framing {
    /// How many of `bytes` belong to the body, and whether it ends with them.
    ///
    /// Errors: the chunks are malformed.
    pub fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        match self {
            Self::Length(left) => {
                let part = (*left).min(bytes.len() as u64);
                *left -= part;
                Ok((part as usize, *left == 0))
            }
            Self::Chunked(chunks) => chunks.take(bytes),
            Self::Close => Ok((bytes.len(), false)),
        }
    }
}

/// Reads the answer at the start of `buffer` and writes its head for the client to `out`;
/// `None` while it has not come whole. `closes`: the client's connection ends with the answer.
///
/// Errors: there is no one way to read it.
pub fn answer(
    buffer: &[u8],
    to_head: bool,
    closes: bool,
    date: fn() -> [u8; 29],
    out: &mut Vec<u8>,
) -> Result<Option<Answer>, &'static str> {
    let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut head,
        buffer,
        &mut headers,
    );
    let head_bytes = match parsed {
        Ok(Status::Complete(length)) => length,
        Ok(Status::Partial) => return Ok(None),
        Err(_) => return Err("its answer is not HTTP"),
    };
    let (Some(status), Some(version)) = (head.code, head.version) else {
        return Err("its answer is not HTTP");
    };
    out.clear();
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(&digits(status));
    out.push(b' ');
    out.extend_from_slice(head.reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
    let (mut body, mut chunked, mut has_date) = (None, false, false);
    let mut is_kept = version == 1;
    let named = named(head.headers, &mut is_kept)?;
    for header in head.headers.iter() {
        let (name, value) = (header.name, header.value);
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match name.len() {
            4 if is("date") => has_date = true,
            7 if is("upgrade") || is("trailer") => continue,
            10 if is("connection") || is("keep-alive") => continue,
            14 if is("content-length") => {
                let length = length(value).ok_or("its answer's length is no number")?;
                if body.replace(length).is_some_and(|before| before != length) {
                    return Err("its answer has two lengths");
                }
                continue;
            }
            16 if is("proxy-connection") => continue,
            17 if is("transfer-encoding") => {
                if chunked || version == 0 || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err("its answer's transfer encoding is unknown");
                }
                chunked = true;
                continue;
            }
            _ if named
                .iter()
                .flatten()
                .any(|n| n.eq_ignore_ascii_case(name.as_bytes())) =>
            {
                continue;
            }
            _ => {}
        }
        line(out, name, value);
    }
    let bodiless = to_head || status < 200 || matches!(status, 204 | 304);
    // Two ways to read the length: the chunks are believed, the connection is not used again.
    is_kept &= !(chunked && body.is_some());
    let framing = match (bodiless, chunked, body) {
        (true, ..) => Framing::Length(0),
        (false, true, _) => Framing::Chunked(Chunks::default()),
        (false, false, Some(length)) => Framing::Length(length),
        (false, false, None) => Framing::Close,
    };
    match (chunked, body) {
        _ if status < 200 || status == 204 => {}
        (true, _) => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        (false, Some(length)) => {
            out.extend_from_slice(b"content-length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        (false, None) => {}
    }
    if !has_date {
        line(out, "date", &date());
    }
    let closes = closes || framing == Framing::Close;
    if closes {
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    Ok(Some(Answer {
        status,
        head_bytes,
        is_kept: is_kept && framing != Framing::Close,
        framing,
        closes,
    }))
}

/// Headers that `connection` says are for this hop; clears `is_kept` if it says `close`.
fn named<'a>(
    headers: &[httparse::Header<'a>],
    is_kept: &mut bool,
) -> Result<[Option<&'a [u8]>; 8], &'static str> {
    let mut named = [None; 8];
    let tokens = headers
        .iter()
        .filter(|h| h.name.len() == 10 && h.name.eq_ignore_ascii_case("connection"))
        .flat_map(|h| h.value.split(|b| *b == b','))
        .map(|token| token.trim_ascii());
    let mut at = 0;
    for token in tokens {
        if token.eq_ignore_ascii_case(b"close") {
            *is_kept = false;
        } else if !token.eq_ignore_ascii_case(b"keep-alive") && !token.is_empty() {
            let slot = named.get_mut(at);
            *slot.ok_or("its answer names too many headers of its connection")? = Some(token);
            at += 1;
        }
    }
    Ok(named)
}

fn digits(status: u16) -> [u8; 3] {
    let digit = |n: u16| b'0' + (n % 10) as u8;
    [digit(status / 100), digit(status / 10), digit(status)]
}

pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut text = [0; 20];
    let mut at = text.len();
    loop {
        at -= 1;
        text[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&text[at..]);
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// In a size, after so many digits.
    #[default]
    Size,
    Extension,
    SizeEnd,
    Data,
    DataCr,
    DataLf,
    /// At the start of a line after the last chunk.
    Trailer,
    TrailerLine,
    TrailerLf,
    End,
}

/// A chunked body on its way: where in it we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chunks {
    place: Place,
    /// Of the chunk, still to come.
    left: u64,
    digits: u8,
    /// Bytes of extension or trailers seen.
    extra: u32,
}

impl Chunks {
    fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        const BAD: &str = "its answer's chunks are malformed";
        let mut at = 0;
        while let Some(byte) = bytes.get(at) {
            if self.place == Place::Data {
                let part = self.left.min((bytes.len() - at) as u64);
                self.left -= part;
                at += part as usize;
                if self.left == 0 {
                    self.place = Place::DataCr;
                }
                continue;
            }
            at += 1;
            self.place = match (self.place, byte) {
                (Place::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                    let digit = (*byte as char).to_digit(16).ok_or(BAD)?;
                    self.digits += 1;
                    if self.digits > 15 {
                        return Err(BAD);
                    }
                    self.left = self.left * 16 + u64::from(digit);
                    Place::Size
                }
                (Place::Size, b'\r') if self.digits > 0 => Place::SizeEnd,
                (Place::Size, b';' | b' ' | b'\t') if self.digits > 0 => Place::Extension,
                (Place::Extension, b'\r') => Place::SizeEnd,
                (Place::Extension, b'\t' | b' '..=b'~') => {
                    self.extra += 1;
                    if self.extra > EXTENSION_MAX {
                        return Err(BAD);
                    }
                    Place::Extension
                }
                (Place::SizeEnd, b'\n') => {
                    (self.digits, self.extra) = (0, 0);
                    match self.left {
                        0 => Place::Trailer,
                        _ => Place::Data,
                    }
                }
                (Place::DataCr, b'\r') => Place::DataLf,
                (Place::DataLf, b'\n') => Place::Size,
                (Place::Trailer, b'\r') => Place::End,
                (Place::TrailerLine, b'\r') => Place::TrailerLf,
                (Place::Trailer | Place::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => {
                    self.extra += 1;
                    if self.extra > TRAILERS_MAX {
                        return Err(BAD);
                    }
                    Place::TrailerLine
                }
                (Place::TrailerLf, b'\n') => Place::Trailer,
                (Place::End, b'\n') => return Ok((at, true)),
                _ => return Err(BAD),
            };
        }
        Ok((at, false))
    }
}

#[cfg(test)]
#[path = "tests/http1.rs"]
mod tests;
