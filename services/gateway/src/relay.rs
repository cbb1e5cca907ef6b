//! The short way: a client's HTTP/1.1 connection, request after request, to replicas.
//!
//! One task has both connections and moves bytes between them; no request is taken apart into
//! a table of headers. What is regular and whole ([`http1::request`]) is served here. At the
//! first request that is not (an upgrade, a large body, the API, anything odd), the connection
//! goes on in the general server, with every byte that was read.
//!
//! ```text
//!  next ──request──▶ attempt ──answer's head──▶ pass its body ──▶ next
//!    │                 │  ▲ another replica
//!    ▼                 └──┘
//!  general server
//! ```

use std::future::{Future, poll_fn};
use std::io;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use api::{Access, now_ms};
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use types::AllocationId;

use crate::connect::{Stream, dial};
use crate::http1::{self, Answer, Forward, Framing, Method, Parsed};
use crate::limits::{
    ANSWER_TIME, ATTEMPTS_MAX, FRESH_TIME, HEAD_BYTES, HEADER_TIME, IDLE_TIME, SMALL_BODY,
    SPARE_BYTES_MAX, STARTING_PAUSE, WRITE_PAUSE,
};
use crate::load::Outcome;
use crate::page;
use crate::pool::{self, Buffer, poll_fill};
use crate::proxy::Gateway;
use crate::table::{Replica, Service, uptime_ms_at};
use crate::tally::shown;
use crate::wire::{Deadline, date, write_all, write_both};

/// The client as it is told to replicas.
pub struct Peer {
    pub ip: IpAddr,
    pub forward: Forward,
}

/// A request under way.
struct Exchange {
    service: Arc<Service>,
    method: Method,
    path: Box<str>,
    received: u64,
    started: Instant,
    closes: bool,
    wants_html: bool,
    allocation: Option<AllocationId>,
    retries: u8,
}

/// Why an attempt came to nothing.
enum Trouble {
    /// The client has gone.
    Gone,
    /// It could not be connected to: it has not seen the request.
    Unreached(String),
    Broken(String),
    Late,
}

impl Trouble {
    fn why(self) -> String {
        match self {
            Self::Gone => "the client has gone".into(),
            Self::Unreached(why) | Self::Broken(why) => why,
            Self::Late => "no answer in time".into(),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Late => StatusCode::GATEWAY_TIMEOUT,
            _ => StatusCode::BAD_GATEWAY,
        }
    }
}

enum Next {
    Exchange(Exchange),
    Handover,
    Closed,
}

/// What becomes of the client's connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Next,
    Shut,
    /// The answer is not whole: the client is to see that.
    Drop,
}

struct Relay<'a, S> {
    client: S,
    peer: &'a Peer,
    gateway: &'a Gateway,
    /// From the client, not yet used.
    input: Option<Buffer>,
    /// The request for the replica, whole.
    request: Vec<u8>,
    /// The answer's head for the client, and what follows it at once.
    answer: Vec<u8>,
    /// From the replica.
    output: Option<Buffer>,
    deadline: Deadline,
    /// When something last happened: the clock is not asked for each step.
    now: Instant,
}

/// Serves `client` until its connection ends (`None`) or a request needs the general server:
/// then the connection comes back with what was read of that request.
pub async fn serve<S>(
    client: S,
    peer: &Peer,
    gateway: &Gateway,
    mut ending: watch::Receiver<bool>,
) -> Option<(S, Vec<u8>)>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut relay = Relay {
        client,
        peer,
        gateway,
        input: None,
        request: Vec::new(),
        answer: Vec::new(),
        output: None,
        deadline: Deadline::new(),
        now: Instant::now(),
    };
    let mut ended = pin!(async move {
        let _ = ending.wait_for(|is| *is).await;
    });
    loop {
        match relay.next(ended.as_mut()).await {
            Next::Closed => {
                relay.shut().await;
                return None;
            }
            Next::Handover => {
                let read = relay.input.take().map(|b| b.bytes().to_vec());
                return Some((relay.client, read.unwrap_or_default()));
            }
            Next::Exchange(mut exchange) => match relay.exchange(&mut exchange).await {
                Then::Next => {}
                Then::Shut => {
                    relay.shut().await;
                    return None;
                }
                Then::Drop => return None,
            },
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Relay<'_, S> {
    /// Reads until there is a request, or something else.
    async fn next(&mut self, mut ended: Pin<&mut impl Future<Output = ()>>) -> Next {
        self.deadline.set(self.now, HEADER_TIME);
        // The head is there, of the body a part.
        let mut is_begun = false;
        loop {
            if let Some(input) = &self.input {
                match http1::request(input.bytes(), &self.peer.forward, &mut self.request) {
                    Parsed::More if input.is_full() => return Next::Handover,
                    Parsed::More => {}
                    Parsed::Unusual => return Next::Handover,
                    Parsed::Request(request) => {
                        let whole = request.head_bytes.saturating_add(request.body_bytes);
                        if whole <= input.bytes().len() {
                            return self
                                .take(&request, whole)
                                .map_or(Next::Handover, Next::Exchange);
                        }
                        if whole > HEAD_BYTES {
                            return Next::Handover;
                        }
                        is_begun = true;
                    }
                }
            }
            let read = poll_fn(|context| {
                let read = poll_fill(&mut self.input, Buffer::small, &mut self.client, context);
                if let Poll::Ready(read) = read {
                    return Poll::Ready(Some(read.unwrap_or(0)));
                }
                let is_idle = self.input.is_none();
                if is_idle && ended.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Some(0));
                }
                self.deadline.poll(context).map(|()| None)
            });
            match read.await {
                Some(1..) => {}
                // A body has longer, and whoever waits for it says so in the end.
                None if is_begun => return Next::Handover,
                Some(0) | None => return Next::Closed,
            }
        }
    }

    /// Takes the request out of the input; `None` if it is not for a replica.
    fn take(&mut self, request: &http1::Request, whole: usize) -> Option<Exchange> {
        let input = self.input.as_mut()?;
        let bytes = input.bytes();
        let host = std::str::from_utf8(&bytes[request.host.clone()]).ok()?;
        let service = self.gateway.service_of(host)?;
        if service.frozen || service.replicas.is_empty() || service.http_port.is_none() {
            return None;
        }
        self.request
            .extend_from_slice(&bytes[request.head_bytes..whole]);
        self.now = Instant::now();
        let exchange = Exchange {
            service,
            method: request.method,
            path: shown(&bytes[request.path.clone()]),
            received: request.body_bytes as u64,
            started: self.now,
            closes: request.closes,
            wants_html: request.wants_html,
            allocation: None,
            retries: 0,
        };
        input.consume(whole);
        if input.is_empty() {
            self.input = None;
        }
        Some(exchange)
    }

    /// Answers one request.
    async fn exchange(&mut self, exchange: &mut Exchange) -> Then {
        exchange.service.tally.budget.earn();
        let mut tried = [AllocationId(0); ATTEMPTS_MAX];
        let mut trouble = Trouble::Late;
        let mut at = 0;
        while at < ATTEMPTS_MAX {
            let service = exchange.service.clone();
            let Some(replica) = service.choose(&tried[..at]) else {
                break;
            };
            let Some(port) = service.http_port else { break };
            if at > 0 {
                if !service.tally.budget.spend() {
                    break;
                }
                exchange.retries += 1;
                self.now = Instant::now();
            }
            tried[at] = replica.allocation;
            at += 1;
            exchange.allocation = Some(replica.allocation);
            let _held = replica.begin();
            let started = self.now;
            match self.attempt(exchange, replica, port).await {
                Ok((upstream, answer)) => {
                    self.now = Instant::now();
                    let outcome = match answer.status {
                        502..=504 => Outcome::Unwell,
                        _ => Outcome::Answered(self.now - started),
                    };
                    replica.load.tell_at(outcome, uptime_ms_at(self.now));
                    let may_again = answer.status == 503
                        && exchange.method.is_idempotent()
                        && at < ATTEMPTS_MAX
                        && service.choose(&tried[..at]).is_some();
                    if may_again {
                        self.output = None;
                        trouble = Trouble::Broken("it answered 503".into());
                        continue;
                    }
                    let status = answer.status;
                    let closes = answer.closes;
                    let key = (replica.allocation, port);
                    let (sent, passed) = self.pass(key, upstream, answer).await;
                    self.record(exchange, if passed { status } else { 499 }, sent);
                    self.shrink();
                    return match (passed, closes) {
                        (true, false) => Then::Next,
                        (true, true) => Then::Shut,
                        (false, _) => Then::Drop,
                    };
                }
                Err(Trouble::Gone) => {
                    self.record(exchange, 499, 0);
                    return Then::Drop;
                }
                Err(Trouble::Unreached(why))
                    if replica.load.is_starting(uptime_ms_at(Instant::now()))
                        && service.choose(&tried[..at]).is_none() =>
                {
                    // It listens in a moment.
                    at -= 1;
                    trouble = Trouble::Unreached(why);
                    tokio::time::sleep(STARTING_PAUSE).await;
                    self.now = Instant::now();
                    if let Some(newer) = self.gateway.renewed(&exchange.service) {
                        exchange.service = newer;
                    }
                }
                Err(failed) => {
                    self.output = None;
                    replica.load.tell(Outcome::Failed);
                    // A slow replica is not the reason to make a second one slow.
                    let again = match &failed {
                        Trouble::Unreached(_) => true,
                        Trouble::Broken(_) => exchange.method.is_idempotent(),
                        Trouble::Late | Trouble::Gone => false,
                    };
                    trouble = failed;
                    if !again {
                        break;
                    }
                    // What has changed meanwhile is known to the newest routes.
                    if let Some(newer) = self.gateway.renewed(&exchange.service) {
                        exchange.service = newer;
                    }
                }
            }
        }
        self.refuse(exchange, trouble).await
    }

    /// Sends the request to `replica` and reads the head of its answer.
    async fn attempt(
        &mut self,
        exchange: &Exchange,
        replica: &Replica,
        port: u16,
    ) -> Result<(Stream, Answer), Trouble> {
        // What may not be sent twice must not meet a replica that is about to end an idle
        // connection.
        let within = match exchange.method.is_idempotent() {
            true => IDLE_TIME,
            false => FRESH_TIME,
        };
        let (key, now_ms) = ((replica.allocation, port), uptime_ms_at(self.now));
        if let Some(kept) = pool::take(key, now_ms, within.as_millis() as u64) {
            match self.ask(exchange, kept).await {
                // The replica may have ended it just then: that is no failure of its own.
                Err(Trouble::Broken(_))
                    if self.output.is_none() && exchange.method.is_idempotent() => {}
                done => return done,
            }
        }
        let fresh = dial(&replica.reach, replica.allocation, port)
            .await
            .map_err(|e| Trouble::Unreached(e.to_string()))?;
        self.ask(exchange, fresh).await
    }

    async fn ask(
        &mut self,
        exchange: &Exchange,
        mut upstream: Stream,
    ) -> Result<(Stream, Answer), Trouble> {
        let broken = |e: io::Error| Trouble::Broken(e.to_string());
        self.deadline.set(self.now, ANSWER_TIME);
        write_all(
            &mut upstream,
            &mut self.deadline,
            ANSWER_TIME,
            &self.request,
        )
        .await
        .map_err(broken)?;
        self.deadline.set(self.now, ANSWER_TIME);
        loop {
            if !self.fill(&mut upstream, true).await.map_err(broken_or)? {
                return Err(Trouble::Broken("it closed the connection".into()));
            }
            while let Some(output) = &mut self.output {
                let read = http1::answer(
                    output.bytes(),
                    exchange.method == Method::Head,
                    exchange.closes,
                    date,
                    &mut self.answer,
                );
                match read.map_err(|why| Trouble::Broken(why.into()))? {
                    Some(answer) if answer.status == 101 => {
                        return Err(Trouble::Broken("it changed the protocol unasked".into()));
                    }
                    Some(answer) if answer.status < 200 => output.consume(answer.head_bytes),
                    Some(answer) => return Ok((upstream, answer)),
                    None if output.is_full() => {
                        return Err(Trouble::Broken("its answer's head is too large".into()));
                    }
                    None => break,
                }
            }
        }
    }

    /// Reads from the replica while the client is there; false at the end.
    ///
    /// Errors: `TimedOut` at the deadline if it is `timed`, `Interrupted` if the client left.
    async fn fill(&mut self, upstream: &mut Stream, timed: bool) -> io::Result<bool> {
        poll_fn(|context| {
            let read = poll_fill(&mut self.output, Buffer::large, upstream, context);
            if let Poll::Ready(read) = read {
                return Poll::Ready(read.map(|count| count > 0));
            }
            while !self.input.as_ref().is_some_and(Buffer::is_full) {
                match poll_fill(&mut self.input, Buffer::small, &mut self.client, context) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(_) => return Poll::Ready(Err(io::ErrorKind::Interrupted.into())),
                    Poll::Pending => break,
                }
            }
            if timed && self.deadline.poll(context).is_ready() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Pending
        })
        .await
    }

    /// Passes the answer on: bytes of the body sent, and whether all went well.
    async fn pass(&mut self, key: pool::Key, mut upstream: Stream, answer: Answer) -> (u64, bool) {
        let mut framing = answer.framing;
        let mut sent = 0;
        let mut head = answer.head_bytes;
        loop {
            // Of the first buffer, a part is the head; it is written anew before the rest.
            let output = self.output.take();
            let bytes = output.as_ref().map_or(&[][..], |o| &o.bytes()[head..]);
            let Ok((count, mut ends)) = framing.take(bytes) else {
                return (sent, false);
            };
            let body = &bytes[..count];
            let written = if head > 0 {
                if body.len() <= SMALL_BODY {
                    self.answer.extend_from_slice(body);
                    write_all(
                        &mut self.client,
                        &mut self.deadline,
                        WRITE_PAUSE,
                        &self.answer,
                    )
                    .await
                } else {
                    write_both(&mut self.client, &mut self.deadline, &self.answer, body).await
                }
            } else {
                write_all(&mut self.client, &mut self.deadline, WRITE_PAUSE, body).await
            };
            if written.is_err() {
                return (sent, false);
            }
            sent += count as u64;
            ends |= framing == Framing::Length(0);
            let is_clean = count == bytes.len();
            head = 0;
            drop(output);
            if ends {
                if answer.is_kept && is_clean {
                    pool::keep(key, upstream, uptime_ms_at(self.now));
                }
                return (sent, true);
            }
            match self.fill(&mut upstream, false).await {
                Ok(true) => {}
                Ok(false) => return (sent, framing == Framing::Close),
                Err(_) => return (sent, false),
            }
        }
    }

    /// Says that no replica answered.
    async fn refuse(&mut self, exchange: &Exchange, trouble: Trouble) -> Then {
        let (status, replica) = (trouble.status(), exchange.allocation);
        let why = trouble.why();
        let domain = &exchange.service.domain;
        tracing::debug!(service = %domain, why, "no replica answered");
        let why = match replica {
            Some(replica) => format!("replica {replica} failed: {why}"),
            None => why,
        };
        let page = page::Page::new(exchange.wants_html, status, domain, &why);
        self.answer.clear();
        page.write(
            exchange.method != Method::Head,
            exchange.closes,
            &mut self.answer,
        );
        let written = write_all(
            &mut self.client,
            &mut self.deadline,
            WRITE_PAUSE,
            &self.answer,
        )
        .await;
        self.record(exchange, status.as_u16(), 0);
        match (written, exchange.closes) {
            (Ok(()), false) => Then::Next,
            (Ok(()), true) => Then::Shut,
            (Err(_), _) => Then::Drop,
        }
    }

    /// Ends the connection in order.
    async fn shut(&mut self) {
        self.deadline.set(Instant::now(), HEADER_TIME);
        poll_fn(|context| {
            let shut = Pin::new(&mut self.client).poll_shutdown(context);
            match shut.is_ready() || self.deadline.poll(context).is_ready() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    fn record(&mut self, exchange: &Exchange, status: u16, sent: u64) {
        self.now = Instant::now();
        let duration = self.now - exchange.started;
        exchange.service.tally.ended(Access {
            sequence: 0,
            at_ms: now_ms(),
            client: self.peer.ip,
            protocol: "HTTP/1.1".into(),
            method: exchange.method.as_str().into(),
            path: exchange.path.clone(),
            status,
            received: exchange.received,
            sent,
            duration_us: duration.as_micros() as u64,
            allocation: exchange.allocation,
            retries: exchange.retries,
        });
    }

    /// One large request does not keep its room for ever.
    fn shrink(&mut self) {
        for spare in [&mut self.request, &mut self.answer] {
            if spare.capacity() > SPARE_BYTES_MAX {
                *spare = Vec::new();
            }
        }
    }
}

fn broken_or(error: io::Error) -> Trouble {
    match error.kind() {
        io::ErrorKind::Interrupted => Trouble::Gone,
        io::ErrorKind::TimedOut => Trouble::Late,
        _ => Trouble::Broken(error.to_string()),
    }
}
