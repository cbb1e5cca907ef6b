//! Who votes after an epoch's end, and that the network's key went on to them.
//!
//! An epoch's last block carries what the handing on of the key gave, in the engine's form
//! (`commonware-glue`, an `EpochInfo`): read here by hand for the reason given in `certificate`, and held
//! against the engine by a test of `chain/consensus`.

use crate::certificate::{number, take};
use crate::{Duty, LightError, NetworkKey, lineup, verify_block};

/// Most who vote in one epoch.
const SEATS_MAX: u32 = 128;
/// A point of the larger group, compressed, as a network key is.
const POINT_BYTES: usize = 96;
/// What the engine marks an epoch's result with, among other contents.
const EPOCH_INFO: u8 = 1;

type Key = [u8; 32];

/// What an epoch's last block says of the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EpochChange {
    /// The one that begins.
    pub epoch: u64,
    /// The key went on to new shares. `false`: that failed, and who had it goes on.
    pub handed_on: bool,
    /// Identity keys of who votes, each with a share of the network's key, in the order in which they
    /// lead ([`crate::turn_of`]).
    pub seats: Vec<Key>,
    /// Of those, whose share was shown to all while it was made, since they did not confirm it.
    pub revealed: Vec<Key>,
    /// Who gets shares next, in this epoch; ascending.
    pub next: Vec<Key>,
}

/// Who votes after the block of `header`, an epoch's last.
///
/// `duty`: canonical bytes of the block's [`Duty`]; the rest as of [`verify_block`].
///
/// Errors: it is not certified, ends no epoch, or hands on another key than the network's.
pub fn verify_epoch_change(
    network_key: &[u8],
    header: &[u8],
    descendants: &[Vec<u8>],
    certificate: &[u8],
    duty: &[u8],
) -> Result<EpochChange, LightError> {
    let header = verify_block(network_key, header, descendants, certificate)?;
    let duty = Duty::from_bytes(&header, duty)?;
    let unsaid = LightError::NoChange(header.height);
    let bytes = duty.ceremony.ok_or(unsaid.clone())?;
    let (mut change, key) = read(&bytes).ok_or(unsaid.clone())?;
    let order = duty
        .lineup
        .and_then(|places| lineup(&change.seats, &places));
    change.seats = order.ok_or(unsaid.clone())?;
    if change.epoch != header.epoch + 1 {
        return Err(unsaid);
    }
    NetworkKey::from_bytes(&key)?;
    match key == network_key {
        true => Ok(change),
        false => Err(LightError::OtherKey(header.height)),
    }
}

/// With the key that the shares are of. `None`: it is something else, or not in its form.
fn read(mut bytes: &[u8]) -> Option<(EpochChange, [u8; POINT_BYTES])> {
    let rest = &mut bytes;
    let [kind, outcome] = take(rest)?;
    let epoch = number(rest)?;
    // Names the ceremony.
    take::<32>(rest)?;
    let [mode] = take(rest)?;
    let total = u32::from_be_bytes(take(rest)?);
    // Commits to the polynomial that shares lie on: its value at zero is the key.
    let points = length(rest)?;
    let key = take(rest)?;
    for _ in 1..points {
        take::<POINT_BYTES>(rest)?;
    }
    let _dealers = keys(rest)?;
    let seats = keys(rest)?;
    let revealed = keys(rest)?;
    let next = keys(rest)?;
    // Then who comes after those, and where all of them are.
    let change = EpochChange {
        epoch,
        handed_on: outcome == 0,
        seats,
        revealed,
        next,
    };
    let good = kind == EPOCH_INFO
        && outcome <= 1
        && mode == 0
        && points >= 1
        && total as usize == change.seats.len();
    good.then_some((change, key))
}

/// How many follow.
fn length(rest: &mut &[u8]) -> Option<u32> {
    let length = u32::try_from(number(rest)?).ok()?;
    (length <= SEATS_MAX).then_some(length)
}

/// Ascending, each once.
fn keys(rest: &mut &[u8]) -> Option<Vec<Key>> {
    let many = length(rest)?;
    let keys: Vec<Key> = (0..many).map(|_| take(rest)).collect::<Option<_>>()?;
    keys.is_sorted_by(|a, b| a < b).then_some(keys)
}
