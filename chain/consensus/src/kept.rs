//! Where the engine keeps final blocks and their certificates: all of them, or only the last ones.
//!
//! What keeps all has its index on disk, and cannot forget; what forgets has it in memory, which
//! what it keeps bounds. A folder is of one kind for good: see [`crate::store`].

use commonware_consensus::marshal::store::{Blocks, Certificates};
use commonware_consensus::simplex::types::Finalization;
use commonware_consensus::types::Height;
use commonware_cryptography::Digestible;
use commonware_runtime::Handle;
use commonware_storage::archive::Identifier;

pub(crate) enum Kept<A, P> {
    All(A),
    Part(P),
}

macro_rules! both {
    ($kept:expr, $store:ident => $act:expr) => {
        Ok(match $kept {
            Kept::All($store) => Kept::All($act),
            Kept::Part($store) => Kept::Part($act),
        })
    };
    ($kept:expr, $store:ident, $with:ident => $act:expr) => {
        Ok(match $kept {
            Kept::All($store) => {
                let ($store, $with) = $act;
                (Kept::All($store), $with)
            }
            Kept::Part($store) => {
                let ($store, $with) = $act;
                (Kept::Part($store), $with)
            }
        })
    };
}

macro_rules! either {
    ($kept:expr, $store:ident => $act:expr) => {
        match $kept {
            Kept::All($store) => $act,
            Kept::Part($store) => $act,
        }
    };
}

impl<A, P> Certificates for Kept<A, P>
where
    A: Certificates,
    P: Certificates<
            BlockDigest = A::BlockDigest,
            Commitment = A::Commitment,
            Scheme = A::Scheme,
            Error = A::Error,
        >,
{
    type BlockDigest = A::BlockDigest;
    type Commitment = A::Commitment;
    type Scheme = A::Scheme;
    type Error = A::Error;

    async fn put(
        self,
        height: Height,
        digest: Self::BlockDigest,
        finalization: &Finalization<Self::Scheme, Self::Commitment>,
    ) -> Result<Self, Self::Error> {
        both!(self, store => store.put(height, digest, finalization).await?)
    }

    async fn sync(self) -> Result<Self, Self::Error> {
        both!(self, store => store.sync().await?)
    }

    async fn start_sync(self) -> Result<(Self, Handle<()>), Self::Error> {
        both!(self, store, under_way => store.start_sync().await?)
    }

    async fn get(
        &self,
        id: Identifier<'_, Self::BlockDigest>,
    ) -> Result<Option<Finalization<Self::Scheme, Self::Commitment>>, Self::Error> {
        either!(self, store => store.get(id).await)
    }

    async fn has(&self, height: Height) -> Result<bool, Self::Error> {
        either!(self, store => store.has(height).await)
    }

    async fn prune(self, min: Height) -> Result<Self, Self::Error> {
        both!(self, store => store.prune(min).await?)
    }

    fn last_index(&self) -> Option<Height> {
        either!(self, store => store.last_index())
    }

    fn ranges_from(&self, from: Height) -> impl Iterator<Item = (Height, Height)> {
        let ranges: Vec<_> = either!(self, store => store.ranges_from(from).collect());
        ranges.into_iter()
    }
}

impl<A, P> Blocks for Kept<A, P>
where
    A: Blocks,
    P: Blocks<Block = A::Block, Error = A::Error>,
{
    type Block = A::Block;
    type Error = A::Error;

    async fn put(
        self,
        digest: <Self::Block as Digestible>::Digest,
        block: &Self::Block,
    ) -> Result<Self, Self::Error> {
        both!(self, store => store.put(digest, block).await?)
    }

    async fn sync(self) -> Result<Self, Self::Error> {
        both!(self, store => store.sync().await?)
    }

    async fn start_sync(self) -> Result<(Self, Handle<()>), Self::Error> {
        both!(self, store, under_way => store.start_sync().await?)
    }

    async fn get(
        &self,
        id: Identifier<'_, <Self::Block as Digestible>::Digest>,
    ) -> Result<Option<Self::Block>, Self::Error> {
        either!(self, store => store.get(id).await)
    }

    async fn prune(self, min: Height) -> Result<Self, Self::Error> {
        both!(self, store => store.prune(min).await?)
    }

    fn missing_items(&self, start: Height, max: usize) -> Vec<Height> {
        either!(self, store => store.missing_items(start, max))
    }

    fn next_gap(&self, value: Height) -> (Option<Height>, Option<Height>) {
        either!(self, store => store.next_gap(value))
    }

    fn last_index(&self) -> Option<Height> {
        either!(self, store => store.last_index())
    }
}
