//! A host that reports more than was reserved, or what runs elsewhere.

use fixtures::until;
use ledger::{Call, host, lease};
use types::{AllocationId, Digest, Usage};

use crate::World;
use crate::transactions::{bytes, signed, submit};

pub fn send(world: &World) {
    let view = world.view(&format!("/v1/allocations/{}", world.allocation));
    let allocation: AllocationId = world.allocation.parse().expect("an id");
    let now = view["placed_ms"].as_u64().expect("a time");
    let interval = |key: &types::SecretKey| {
        let id = types::AccountId::of(&key.public());
        let host = world.view(&format!("/v1/hosts/{id}"));
        host["interval"].as_u64().expect("a number") + 1
    };
    let line = |total: Usage, until_ms: u64| lease::UsageLine {
        allocation,
        sequence: 1_000_000,
        until_ms,
        total,
        record: Digest([1; 32]),
        last: false,
    };
    let much = |make: fn(&mut Usage)| {
        let mut usage = Usage::default();
        make(&mut usage);
        line(usage, now + 1)
    };
    let (own, other) = (world.host_key(world.host), world.host_key(world.other_host));
    let excess = [
        much(|u| u.cpu_ns = u64::MAX),
        much(|u| u.memory_byte_ms = u128::MAX),
        much(|u| u.storage_byte_ms = 1 << 90),
        much(|u| u.bandwidth_bits = 1 << 90),
        much(|u| u.rx_bytes = 1 << 50),
        much(|u| u.tx_bytes = u64::MAX),
        // Dated far ahead, and less than before.
        line(Usage::default(), u64::MAX),
        line(Usage::default(), now + 1),
    ];
    let charged =
        || world.view(&format!("/v1/allocations/{}", world.allocation))["charged"].clone();
    let report = |key: &types::SecretKey, lines: Vec<lease::UsageLine>| {
        let call = lease::Call::ReportUsage {
            interval: interval(key),
            root: Digest([2; 32]),
            lines,
        };
        let transaction = signed(world, key, 20, Call::Lease(call));
        submit(world, &bytes(&transaction))
    };
    // At least one usual report first, so that "less than before" is less.
    until("something was charged", || charged() != "0");
    for line in &excess {
        assert!(report(&own, vec![line.clone()]).is_some(), "{line:?}");
    }
    // Another host's lease, an account that is no host, a lease that is none, no line at all
    // and far too many.
    let fair = line(Usage::default(), now + 1);
    assert!(report(&other, vec![fair.clone()]).is_some());
    let mut none = fair.clone();
    none.allocation = AllocationId(u64::MAX);
    assert!(report(&own, vec![none]).is_some());
    assert!(report(&own, vec![fair.clone(); 1_200]).is_some());
    for key in [&world.owner, &world.stranger] {
        let call = lease::Call::ReportUsage {
            interval: 1,
            root: Digest::default(),
            lines: vec![fair.clone()],
        };
        let transaction = signed(world, key, 3, Call::Lease(call));
        assert!(submit(world, &bytes(&transaction)).is_some());
    }
    // A stranger moves no host.
    let id = types::AccountId::of(&own.public());
    let drain = host::Call::Drain {
        host: id,
        draining: true,
    };
    let transaction = signed(world, &world.stranger, 4, Call::Host(drain));
    assert!(submit(world, &bytes(&transaction)).is_some());
    // The honest agent behind that key goes on being paid.
    let before = charged();
    until("the host's own reports are taken", || charged() != before);
}
