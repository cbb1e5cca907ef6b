//! Look at a replica as gateways reach it: through the tunnel of its host's agent.
//!
//! What is looked at is strangers': every step has a time, every answer a length, and of what is
//! answered only that it is there counts. Which answers speak for or against a host is in RFD 21.

use std::time::{Duration, Instant};

use ledger::witness::{Saw, Statement, Target};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// For a connection to the agent.
const CONNECT: Duration = Duration::from_secs(3);
/// For the agent's answer: it has three seconds to reach the replica.
const TUNNEL: Duration = Duration::from_secs(6);
/// For the replica's first byte.
const ANSWER: Duration = Duration::from_secs(5);
/// Of an agent's answer.
const HEAD_MAX: usize = 4 * 1024;
const PROMPT: Duration = Duration::from_secs(1);
/// Before it is said that no answer came.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);

/// What the agent said of its tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    /// Bytes go to the replica from here.
    Open,
    /// The replica's machine says that nobody listens: it can be reached.
    NobodyListens,
    Unreached,
    /// Of something else: it is busy, or has no such plan yet.
    Other,
}

/// What an agent's answer means; `None`: its head is not there yet.
fn told(answer: &[u8]) -> Option<Told> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(answer) {
        Ok(httparse::Status::Partial) => None,
        Err(_) => Some(Told::Other),
        Ok(httparse::Status::Complete(at)) => match response.code {
            Some(101) => Some(Told::Open),
            Some(502) => {
                let body = String::from_utf8_lossy(&answer[at..]);
                let length = response
                    .headers
                    .iter()
                    .find(|h| h.name.eq_ignore_ascii_case("content-length"));
                let length = length.and_then(|h| std::str::from_utf8(h.value).ok()?.parse().ok());
                match body.contains(api::NOBODY_LISTENS) {
                    true => Some(Told::NobodyListens),
                    false if length.is_some_and(|length: usize| answer.len() - at < length) => None,
                    false => Some(Told::Unreached),
                }
            }
            _ => Some(Told::Other),
        },
    }
}

/// Looks at `target`; `None`: nothing is to be said.
pub async fn look(target: &Target, nonce: &[u8; 16]) -> Option<Saw> {
    let mut last = None;
    for attempt in 0..TRIES {
        if attempt > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        let began = Instant::now();
        let saw = once(target, nonce).await?;
        if saw.is_answer() {
            let prompt = attempt == 0 && began.elapsed() < PROMPT;
            return Some(if prompt { Saw::Prompt } else { Saw::Slow });
        }
        last = Some(saw);
    }
    last
}

async fn once(target: &Target, nonce: &[u8; 16]) -> Option<Saw> {
    let agent = target.address.strip_prefix("http://")?;
    let Ok(Ok(mut stream)) = timeout(CONNECT, TcpStream::connect(agent)).await else {
        return Some(Saw::Unreachable);
    };
    let request = format!(
        "GET /v1/allocations/{}/tunnel/{} HTTP/1.1\r\nhost: {agent}\r\nconnection: upgrade\r\nupgrade: runrig-tunnel\r\n\r\n",
        target.allocation, target.port
    );
    let Ok(answer) = timeout(TUNNEL, ask(&mut stream, request.as_bytes())).await else {
        return Some(Saw::Unreachable);
    };
    match answer {
        Err(_) => Some(Saw::Unreachable),
        Ok(Told::Other) => None,
        Ok(Told::NobodyListens) => Some(Saw::Prompt),
        Ok(Told::Unreached) => Some(Saw::Refused),
        Ok(Told::Open) => {
            let answered = timeout(ANSWER, greet(&mut stream, target, nonce)).await;
            Some(if answered.is_ok() {
                Saw::Prompt
            } else {
                Saw::Silent
            })
        }
    }
}

/// Errors: the agent went away before it had answered.
async fn ask(stream: &mut TcpStream, request: &[u8]) -> std::io::Result<Told> {
    stream.write_all(request).await?;
    let mut answer = Vec::new();
    // Byte by byte would do; what follows the head of a tunnel is the replica's, and speaks for it.
    let mut piece = [0; 1024];
    loop {
        let read = stream.read(&mut piece).await?;
        answer.extend_from_slice(&piece[..read]);
        if let Some(told) = told(&answer) {
            return Ok(told);
        }
        match read {
            0 if answer.is_empty() => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            0 => return Ok(Told::Other),
            _ if answer.len() > HEAD_MAX => return Ok(Told::Other),
            _ => {}
        }
    }
}

/// Returns at the first byte, or the end, from the replica's side.
async fn greet(stream: &mut TcpStream, target: &Target, nonce: &[u8; 16]) {
    let trace = hex::encode(Statement::trace(nonce, target.allocation));
    let request = format!(
        "HEAD / HTTP/1.1\r\nhost: {}\r\naccept: */*\r\ntraceparent: 00-{trace}-{}-01\r\nconnection: close\r\n\r\n",
        target.service,
        &trace[..16]
    );
    if stream.write_all(request.as_bytes()).await.is_ok() {
        let _ = stream.read(&mut [0; 256]).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use types::{AccountId, AllocationId, DeploymentId};

    use super::*;

    fn target(address: String) -> Target {
        Target {
            host: AccountId([1; 20]),
            address,
            allocation: AllocationId(7),
            deployment: DeploymentId(1),
            service: "web".into(),
            port: 80,
        }
    }

    /// An agent that answers each tunnel like this, and then what it is sent.
    async fn agent(answer: &'static str, then: Option<&'static str>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let at = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream.write_all(answer.as_bytes()).await;
                if let Some(then) = then {
                    let read = stream.read(&mut request).await.unwrap_or(0);
                    let asked = String::from_utf8_lossy(&request[..read]).to_string();
                    let trace = hex::encode(Statement::trace(&[9; 16], AllocationId(7)));
                    assert!(asked.contains(&trace), "{asked}");
                    let _ = stream.write_all(then.as_bytes()).await;
                }
                open.push(stream);
            }
        });
        target(format!("http://{at}"))
    }

    const OPEN: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: runrig-tunnel\r\n\r\n";

    #[tokio::test]
    async fn any_answer_of_the_replicas_side_is_one() {
        for then in ["HTTP/1.1 500 Internal Server Error\r\n\r\n", "-ERR\r\n"] {
            let saw = look(&agent(OPEN, Some(then)).await, &[9; 16]).await;
            assert!(saw.is_some_and(Saw::is_answer), "{then}: {saw:?}");
        }
        let nobody = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 60\r\n\r\n{\"why\":\"nobody listens there\"";
        let saw = look(&agent(nobody, None).await, &[9; 16]).await;
        assert!(saw.is_some_and(Saw::is_answer), "{saw:?}");
    }

    #[tokio::test]
    async fn what_the_agent_cannot_reach_is_refused_and_what_it_does_not_know_nothing() {
        let cannot = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 2\r\n\r\n{}";
        let refused = agent(cannot, None).await;
        assert_eq!(look(&refused, &[9; 16]).await, Some(Saw::Refused));
        for other in [
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "HTTP/1.1 503 x\r\n\r\n",
            "what?",
        ] {
            let saw = look(&agent(other, None).await, &[9; 16]).await;
            assert_eq!(saw, None, "{other}");
        }
    }

    #[tokio::test]
    async fn an_agent_that_is_not_there_is_unreachable() {
        // Bound, so that nobody else listens there.
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind("127.0.0.1:0".parse().expect("an address"))
            .expect("bound");
        let at = socket.local_addr().expect("bound");
        let saw = look(&target(format!("http://{at}")), &[9; 16]).await;
        assert_eq!(saw, Some(Saw::Unreachable));
        assert_eq!(look(&target("ftp://x".into()), &[9; 16]).await, None);
    }
}
