//! Two connections made one, the way a gateway, a tunnel and `port-forward` join them.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};

const CHUNK_BYTES: usize = 16 << 10;
/// After one direction broke, the other is given up when it moved nothing for so long.
const LINGER: Duration = Duration::from_secs(5);

/// Carries bytes both ways until both sides have ended.
///
/// A side that ends in order is told so on the other and may still be answered. When one
/// direction breaks, what is under way in the other still arrives: a server may well answer
/// and close before it has read all that it was sent.
pub async fn splice<A, B>(one: &mut A, other: &mut B)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (mut read_one, mut write_one) = split(one);
    let (mut read_other, mut write_other) = split(other);
    let moved = AtomicU64::new(0);
    let mut forth = pin!(carry(&mut read_one, &mut write_other, &moved));
    let mut back = pin!(carry(&mut read_other, &mut write_one, &moved));
    tokio::select! {
        done = &mut forth => rest(done, back, &moved).await,
        done = &mut back => rest(done, forth, &moved).await,
    }
}

async fn carry<R: AsyncRead, W: AsyncWrite>(
    from: &mut ReadHalf<R>,
    to: &mut WriteHalf<W>,
    moved: &AtomicU64,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut chunk).await;
        let Ok(count @ 1..) = read else {
            // Whoever listens learns that no more comes.
            to.shutdown().await?;
            return read.map(|_| ());
        };
        to.write_all(&chunk[..count]).await?;
        to.flush().await?;
        moved.fetch_add(1, Ordering::Relaxed);
    }
}

/// The direction that is left when the first is `done`.
async fn rest(
    done: io::Result<()>,
    mut left: impl Future<Output = io::Result<()>> + Unpin,
    moved: &AtomicU64,
) {
    if done.is_ok() {
        let _ = left.await;
        return;
    }
    loop {
        let before = moved.load(Ordering::Relaxed);
        tokio::select! {
            _ = &mut left => return,
            () = tokio::time::sleep(LINGER) => {}
        }
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// Through a splice to a server that does as `serve` says.
    async fn client_of<F>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> TcpStream
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let far = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let near = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let addresses = [&far, &near].map(|l| l.local_addr().expect("bound"));
        tokio::spawn(async move { serve(far.accept().await.expect("a peer").0).await });
        tokio::spawn(async move {
            let (mut client, _) = near.accept().await.expect("a client");
            let mut server = TcpStream::connect(addresses[0]).await.expect("open");
            splice(&mut client, &mut server).await;
        });
        TcpStream::connect(addresses[1]).await.expect("open")
    }

    #[tokio::test]
    async fn an_answer_arrives_although_the_server_reads_no_more() {
        for _ in 0..20 {
            let client = client_of(|mut server| async move {
                let mut first = [0; 1];
                server.read_exact(&mut first).await.expect("a byte");
                // Closed with much unread: its system resets the connection.
                server.write_all(b"answer").await.expect("written");
            });
            let (mut read, mut write) = split(client.await);
            let sending =
                tokio::spawn(async move { while write.write_all(&[7; 4096]).await.is_ok() {} });
            let mut answer = [0; 6];
            read.read_exact(&mut answer).await.expect("answered");
            assert_eq!(&answer, b"answer");
            sending.await.expect("it ends");
        }
    }

    #[tokio::test]
    async fn who_has_said_all_is_still_answered() {
        let mut client = client_of(|mut server| async move {
            let mut said = Vec::new();
            server.read_to_end(&mut said).await.expect("all");
            server.write_all(&said).await.expect("written");
        })
        .await;
        client.write_all(b"all").await.expect("written");
        client.shutdown().await.expect("said");
        let mut back = Vec::new();
        client.read_to_end(&mut back).await.expect("answered");
        assert_eq!(back, b"all");
    }
}
