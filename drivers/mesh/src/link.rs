//! The link to one other host: the connections there are, and the one that is used.
//!
//! Both ends may open a connection at the same time; whatever either end sends on comes in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use iroh::endpoint::{Connection, SendDatagramError, VarInt};
use tokio::sync::{Notify, Semaphore};
use tokio::task::AbortHandle;
use types::HostId;

use crate::Place;
use crate::limits::{CONNECTIONS_MAX, LARGE_MAX, LARGE_TIME};

/// What is known of the way to another host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    #[default]
    Down,
    Relayed(Duration),
    /// With the time of a round trip.
    Direct(Duration),
}

impl Link {
    fn of(connection: &Connection) -> Self {
        let paths = connection.paths();
        let selected = paths.iter().find(|p| p.is_selected());
        match selected {
            Some(path) if path.is_ip() => Self::Direct(path.rtt()),
            Some(path) => Self::Relayed(path.rtt()),
            // Between two paths.
            None => Self::Relayed(Duration::ZERO),
        }
    }
}

#[derive(Debug)]
pub struct Peer {
    pub id: HostId,
    place: Mutex<Option<Place>>,
    /// Oldest first.
    connections: Mutex<Vec<Connection>>,
    used: ArcSwapOption<Connection>,
    large: Arc<Semaphore>,
    /// Its place or its connections have changed.
    pub changed: Notify,
    keeper: Mutex<Option<AbortHandle>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.part(b"the agent ends");
    }
}

impl Peer {
    pub fn new(id: HostId, place: Option<Place>) -> Self {
        Self {
            id,
            place: Mutex::new(place),
            connections: Mutex::default(),
            used: ArcSwapOption::empty(),
            large: Arc::new(Semaphore::new(LARGE_MAX as usize)),
            changed: Notify::new(),
            keeper: Mutex::default(),
        }
    }

    pub fn place(&self) -> Option<Place> {
        let place = self.place.lock();
        place.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn set_place(&self, place: Option<Place>) {
        let mut known = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != place {
            *known = place;
            self.changed.notify_one();
        }
    }

    pub fn keep_by(&self, keeper: AbortHandle) {
        let mut known = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(keeper);
    }

    pub fn is_up(&self) -> bool {
        self.used.load().is_some()
    }

    pub fn link(&self) -> Link {
        self.used.load().as_deref().map_or(Link::Down, Link::of)
    }

    /// The newest connection is used: whoever opened it knows that it works.
    pub fn add(&self, connection: Connection) {
        let mut all = self.connections();
        if all.len() >= CONNECTIONS_MAX {
            all.remove(0).close(VarInt::from_u32(0), b"replaced");
        }
        self.used.store(Some(Arc::new(connection.clone())));
        all.push(connection);
        drop(all);
        self.changed.notify_one();
    }

    pub fn remove(&self, connection: &Connection) {
        let mut all = self.connections();
        all.retain(|c| c.stable_id() != connection.stable_id());
        self.used.store(all.last().cloned().map(Arc::new));
        drop(all);
        self.changed.notify_one();
    }

    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// For good.
    pub fn part(&self, why: &[u8]) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper.as_ref() {
            keeper.abort();
        }
        drop(keeper);
        self.used.store(None);
        for connection in self.connections().drain(..) {
            connection.close(VarInt::from_u32(0), why);
        }
    }

    /// Sends what there is room for. Tells whether there is a link at all.
    pub fn send(&self, frames: &[Bytes]) -> bool {
        let Some(connection) = self.used.load_full() else {
            return false;
        };
        match connection.send_many_datagrams(frames) {
            Err(SendDatagramError::TooLarge) => {
                for frame in frames {
                    if let Err(SendDatagramError::TooLarge) =
                        connection.send_datagram(frame.clone())
                    {
                        self.send_large(&connection, frame.clone());
                    }
                }
                true
            }
            sent => sent.is_ok(),
        }
    }

    /// On a stream of its own: before the path's size is known, and where it is small.
    fn send_large(&self, connection: &Connection, frame: Bytes) {
        let Ok(place) = self.large.clone().try_acquire_owned() else {
            return;
        };
        let connection = connection.clone();
        tokio::spawn(async move {
            let _place = place;
            let send = async {
                let mut stream = connection.open_uni().await.ok()?;
                stream.write_all(&frame).await.ok()?;
                stream.finish().ok()
            };
            // A packet that does not get through is lost.
            let _ = tokio::time::timeout(LARGE_TIME, send).await;
        });
    }
}
