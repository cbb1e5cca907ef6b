//! What was used, in units that never round.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

use crate::{AllocationId, Digest};

/// The five metered resources.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Resource {
    Cpu,
    Memory,
    Storage,
    Bandwidth,
    Transfer,
}

impl Resource {
    pub const ALL: [Self; 5] = [
        Self::Cpu,
        Self::Memory,
        Self::Storage,
        Self::Bandwidth,
        Self::Transfer,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Storage => "storage",
            Self::Bandwidth => "bandwidth",
            Self::Transfer => "transfer",
        }
    }

    /// The unit that a rate is quoted in.
    pub fn unit(self) -> &'static str {
        match self {
            Self::Cpu => "core_s",
            Self::Memory | Self::Storage => "gib_s",
            Self::Bandwidth => "mbit_s",
            Self::Transfer => "bytes",
        }
    }

    /// Counted units as a decimal number of quoted ones, exactly.
    pub fn quoted(self, counted: u128) -> String {
        let per_unit = self.counted_per_unit();
        let (whole, mut rest) = (counted / per_unit, counted % per_unit);
        let mut text = whole.to_string();
        if rest > 0 {
            text.push('.');
        }
        // Ends: every divisor is a product of twos and fives.
        while rest > 0 {
            rest *= 10;
            text.push(char::from(b'0' + (rest / per_unit) as u8));
            rest %= per_unit;
        }
        text
    }

    /// How many counted units ([`Usage`]) make one quoted unit ([`Resource::unit`]).
    pub fn counted_per_unit(self) -> u128 {
        match self {
            Self::Cpu => 1_000_000_000,
            Self::Memory | Self::Storage => (1 << 30) * 1000,
            Self::Bandwidth => 1_000_000,
            Self::Transfer => 1,
        }
    }
}

/// Cumulative counters of one allocation since its lease began. They only grow.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Usage {
    pub cpu_ns: u64,
    /// Working set × milliseconds.
    pub memory_byte_ms: u128,
    /// Writable layer and volumes × milliseconds.
    pub storage_byte_ms: u128,
    /// Reserved rate × time: kilobit/s × milliseconds = bits.
    pub bandwidth_bits: u128,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
}

impl Usage {
    /// The counter that `resource` is charged by, in counted units.
    pub fn counted(&self, resource: Resource) -> u128 {
        match resource {
            Resource::Cpu => self.cpu_ns.into(),
            Resource::Memory => self.memory_byte_ms,
            Resource::Storage => self.storage_byte_ms,
            Resource::Bandwidth => self.bandwidth_bits,
            Resource::Transfer => u128::from(self.rx_bytes) + u128::from(self.tx_bytes),
        }
    }

    /// Whether no counter went back since `earlier`.
    pub fn continues(&self, earlier: &Self) -> bool {
        self.cpu_ns >= earlier.cpu_ns
            && self.memory_byte_ms >= earlier.memory_byte_ms
            && self.storage_byte_ms >= earlier.storage_byte_ms
            && self.bandwidth_bits >= earlier.bandwidth_bits
            && self.rx_bytes >= earlier.rx_bytes
            && self.tx_bytes >= earlier.tx_bytes
    }
}

/// One link of an allocation's chain of readings, kept by the host, committed to by the
/// Merkle root of the interval in which it was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct UsageRecord {
    pub allocation: AllocationId,
    /// 0, 1, 2 … over the life of the lease.
    pub sequence: u64,
    /// Which start of the container (0 = first) the reading was taken in.
    pub instance: u32,
    /// Ledger milliseconds up to which `total` counts.
    pub until_ms: u64,
    pub total: Usage,
    /// Digest of the record before; all zero for the first.
    pub previous: Digest,
}

impl UsageRecord {
    pub fn digest(&self) -> Digest {
        Digest::of_value("runrig-usage", self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_exactly() {
        for (resource, counted, text) in [
            (Resource::Cpu, 1_500_000_000, "1.5"),
            (Resource::Cpu, 1, "0.000000001"),
            (Resource::Memory, 1 << 40, "1.024"),
            (Resource::Transfer, 7, "7"),
            (Resource::Bandwidth, 10_000_000, "10"),
            (Resource::Storage, 0, "0"),
        ] {
            assert_eq!(resource.quoted(counted), text);
        }
        assert!(Resource::Memory.quoted(1).len() < 40);
    }
}
