//! What a host has and a replica asks for.

use borsh::{BorshDeserialize, BorshSerialize};
use serde::{Deserialize, Serialize};

/// An amount of each resource: a reservation, a capacity, or what is free of one.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    BorshSerialize,
    BorshDeserialize,
)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_millis: u32,
    pub memory_bytes: u64,
    /// Writable layer and volumes together.
    pub disk_bytes: u64,
    /// Reserved network rate, kilobits (1000 bits) per second, each way.
    pub bandwidth_kbps: u32,
}

impl Resources {
    pub fn fits_in(&self, free: &Self) -> bool {
        self.cpu_millis <= free.cpu_millis
            && self.memory_bytes <= free.memory_bytes
            && self.disk_bytes <= free.disk_bytes
            && self.bandwidth_kbps <= free.bandwidth_kbps
    }

    /// Of each the smaller one.
    pub fn at_most(&self, other: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.min(other.cpu_millis),
            memory_bytes: self.memory_bytes.min(other.memory_bytes),
            disk_bytes: self.disk_bytes.min(other.disk_bytes),
            bandwidth_kbps: self.bandwidth_kbps.min(other.bandwidth_kbps),
        }
    }

    pub fn checked_sub(&self, other: &Self) -> Option<Self> {
        Some(Self {
            cpu_millis: self.cpu_millis.checked_sub(other.cpu_millis)?,
            memory_bytes: self.memory_bytes.checked_sub(other.memory_bytes)?,
            disk_bytes: self.disk_bytes.checked_sub(other.disk_bytes)?,
            bandwidth_kbps: self.bandwidth_kbps.checked_sub(other.bandwidth_kbps)?,
        })
    }

    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        Some(Self {
            cpu_millis: self.cpu_millis.checked_add(other.cpu_millis)?,
            memory_bytes: self.memory_bytes.checked_add(other.memory_bytes)?,
            disk_bytes: self.disk_bytes.checked_add(other.disk_bytes)?,
            bandwidth_kbps: self.bandwidth_kbps.checked_add(other.bandwidth_kbps)?,
        })
    }
}

/// What a host offers for sale.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, BorshSerialize, BorshDeserialize)]
pub struct Offer {
    pub capacity: Resources,
    /// `amd64` or `arm64`, as in an OCI image index.
    pub architecture: String,
    /// Free text chosen by the owner; empty if not said.
    pub region: String,
    /// Times the base rate, in thousandths: 500 to 2000. Fixed-rate mode counts it as 1000.
    pub price_multiplier_milli: u32,
    /// It takes services that build images.
    pub builds: bool,
}
