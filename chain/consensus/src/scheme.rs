//! How votes are signed and checked; certificates are what [`light`] reads.
//!
//! In a simulation all validators are in one process, and each checks the same votes and the same
//! certificates: half of a run was pairings. What one of them has found to be good the next takes
//! from it, by its bytes. Bad is not remembered: whoever is told something bad looks himself.

#[cfg(feature = "simulation")]
mod shared;

#[cfg(feature = "simulation")]
pub(crate) use shared::Scheme;

use commonware_consensus::simplex::scheme::bls12381_threshold::vrf;
#[cfg(not(feature = "simulation"))]
use commonware_cryptography::bls12381::primitives::sharing::Sharing;
use commonware_cryptography::bls12381::primitives::variant::MinSig;
use commonware_cryptography::ed25519;

/// Threshold scheme of votes and certificates.
pub(crate) type Plain = vrf::Scheme<ed25519::PublicKey, MinSig>;
#[cfg(not(feature = "simulation"))]
pub(crate) type Scheme = Plain;

/// What simulated validators have found to be good; nothing, and shared by nobody, by default.
#[derive(Clone, Debug, Default)]
pub struct Known(#[cfg(feature = "simulation")] Option<std::sync::Arc<shared::Found>>);

#[cfg(not(feature = "simulation"))]
impl Known {
    pub(crate) fn dress(&self, plain: Scheme, _: Option<&Sharing<MinSig>>) -> Scheme {
        plain
    }
}
