//! A relay: passes on what hosts send each other where no direct way leads.
//!
//! It sees who sends to whom and how much; what is sent is encrypted from host to host. It
//! tells hosts how they are seen, which helps them to a direct way ([`crate::mirror`]). It
//! serves those that it is told to admit, each by the key that it proves to have. Clients,
//! greetings at once, the rate of each client and what waits for each are bounded.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::{HeaderMap, Method, StatusCode};
use http_body_util::Empty;
use iroh::EndpointId;
use iroh_relay::KeyCache;
use iroh_relay::server::http_server::{BytesBody, Handlers, RelayService};
use iroh_relay::server::{
    Access, AccessControl, ClientRateLimit, ClientRequest, ConnectionId, Metrics,
};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use types::{AccountId, HostId, PublicKey};

use crate::MeshError;
use crate::limits::{ACCEPT_PAUSE, GREETING_TIME, GREETINGS_MAX, RELAYED_MAX};
use crate::mirror::Mirror;

/// Tells whether a host may be served.
pub type Admit = dyn Fn(HostId) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync;

pub struct Relay {
    service: RelayService,
    mirror: Mirror,
    listener: TcpListener,
}

struct Doorkeeper {
    admit: Box<Admit>,
    inside: AtomicUsize,
}

impl fmt::Debug for Doorkeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "doorkeeper of {:?} clients", self.inside)
    }
}

impl AccessControl for Doorkeeper {
    async fn on_connect(&self, request: &ClientRequest) -> Access {
        let deny = |why: &str| Access::Deny {
            reason: Some(why.into()),
        };
        let host = AccountId::of(&PublicKey(*request.endpoint_id().as_bytes()));
        if !(self.admit)(host).await {
            return deny("not a host of this network");
        }
        let entered = self
            .inside
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| {
                (n < RELAYED_MAX).then_some(n + 1)
            });
        match entered {
            Ok(_) => Access::Allow,
            Err(_) => deny("this relay is full"),
        }
    }

    fn on_disconnect(&self, _: EndpointId, _: ConnectionId) {
        self.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Relay {
    /// `listen`: TCP and UDP. `bytes_per_second`: what one host may send through it.
    pub async fn open(
        listen: SocketAddr,
        bytes_per_second: NonZeroU32,
        admit: Box<Admit>,
    ) -> Result<Self, MeshError> {
        let listener = TcpListener::bind(listen).await.map_err(|e| {
            let next = "Choose another with --listen, or end what uses it";
            MeshError::new(&format!("open {listen}"), e, next)
        })?;
        let mirror = Mirror::open(listener.local_addr().unwrap_or(listen))?;
        let mut handlers = Handlers::default();
        let probe = (Method::GET, iroh_relay::http::RELAY_PROBE_PATH);
        handlers.insert(
            probe,
            Box::new(|_, response| {
                let body: BytesBody = Box::new(Empty::new());
                Ok(response.status(StatusCode::OK).body(body)?)
            }),
        );
        let doorkeeper = Doorkeeper {
            admit,
            inside: AtomicUsize::new(0),
        };
        let service = RelayService::new(
            handlers,
            HeaderMap::new(),
            Some(ClientRateLimit::new(bytes_per_second)),
            KeyCache::new(RELAYED_MAX),
            Arc::new(doorkeeper),
            Arc::new(Metrics::default()),
        );
        Ok(Self {
            service,
            mirror,
            listener,
        })
    }

    /// Until [`Relay::close`].
    pub async fn serve(&self) {
        tokio::select! {
            () = self.mirror.serve() => {}
            never = self.greet() => match never {},
        }
    }

    async fn greet(&self) -> Infallible {
        let greetings = Arc::new(Semaphore::new(GREETINGS_MAX));
        loop {
            let accepted = self.listener.accept().await;
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(place) = greetings.clone().try_acquire_owned() else {
                continue;
            };
            let service = self.service.clone();
            tokio::spawn(async move {
                let _place = place;
                service.handle_connection(stream, None, GREETING_TIME).await;
            });
        }
    }

    /// Sends everybody away.
    pub async fn close(&self) {
        self.mirror.close();
        self.service.shutdown().await;
    }
}
