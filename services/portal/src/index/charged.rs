//! What the receipts of a step add to sums: each row is read and written once, however many of them
//! fall on it.
//!
//! Amounts are texts, added up here, as no integer of SQL holds them.

use std::collections::BTreeMap;

use anyhow::Result;
use ledger::lease::Receipt;
use types::{AccountId, Amount, DeploymentId, Resource};

use super::query::{Side, Spent, month_number, subject_of};
use super::store::{Row, Store, Value, values};

const HOUR_MS: u64 = 3_600_000;

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    amounts: [u128; 5],
    moved: u64,
    receipts: u64,
}

impl Sums {
    fn of(receipt: &Receipt) -> Self {
        let mut sums = Self {
            receipts: 1,
            ..Self::default()
        };
        for charge in &receipt.charges {
            if let Some(at) = Resource::ALL.iter().position(|r| *r == charge.resource) {
                sums.amounts[at] = sums.amounts[at].saturating_add(charge.amount.0);
            }
            if charge.resource == Resource::Transfer {
                let moved = u64::try_from(charge.counted).unwrap_or(u64::MAX);
                sums.moved = sums.moved.saturating_add(moved);
            }
        }
        sums
    }

    fn add(&mut self, other: &Self) {
        for (sum, more) in self.amounts.iter_mut().zip(other.amounts) {
            *sum = sum.saturating_add(more);
        }
        self.moved = self.moved.saturating_add(other.moved);
        self.receipts = self.receipts.saturating_add(other.receipts);
    }

    /// With what a row of `cpu, memory, storage, bandwidth, transfer` had.
    fn and(&self, before: Option<&Row>) -> Result<[Value; 5]> {
        let mut amounts = self.amounts;
        if let Some(row) = before {
            for (at, sum) in amounts.iter_mut().enumerate() {
                *sum = sum.saturating_add(row.get::<String>(at)?.parse().unwrap_or(0));
            }
        }
        Ok(amounts.map(|sum| sum.to_string().into()))
    }

    /// With what a row had whose last column is `moved`. What no column can hold stays the largest.
    fn and_moved(&self, before: Option<&Row>) -> Result<u64> {
        let before = before.map_or(Ok(0), |row| row.get(5))?;
        Ok(self.moved.saturating_add(before))
    }
}

/// Hour, deployment, service, host; who pays whom.
type Place = (u64, DeploymentId, String, String);
type Parties = (AccountId, AccountId);

#[derive(Default)]
pub struct Charged {
    charges: BTreeMap<Place, (Parties, Sums)>,
    hours: BTreeMap<(AccountId, &'static str, u64), Sums>,
    days: BTreeMap<(AccountId, &'static str, u64, String), u128>,
    months: BTreeMap<(AccountId, &'static str, u64, String), Sums>,
    receipts: u64,
    paid: u128,
}

/// What all receipts come to.
pub fn paid(store: &Store) -> Result<Amount> {
    let row = store.row("SELECT value FROM facts WHERE name = 'paid'", &[])?;
    let text = row.map_or(Ok(String::new()), |row| row.get::<String>(0))?;
    Ok(Amount(text.parse().unwrap_or(0)))
}

impl Charged {
    pub fn add(&mut self, receipt: &Receipt) {
        let hour = receipt.until_ms / HOUR_MS;
        let host = receipt.host.to_string();
        let sums = Sums::of(receipt);
        let place = (
            hour,
            receipt.deployment,
            receipt.service.clone(),
            host.clone(),
        );
        let parties = (receipt.payer, receipt.payee);
        let (_, sum) = self
            .charges
            .entry(place)
            .or_insert((parties, Sums::default()));
        sum.add(&sums);
        let job = receipt.deployment.0.to_string();
        let amount = sums.amounts.into_iter().fold(0, u128::saturating_add);
        for (account, of, subject) in [
            (receipt.payer, Spent::Job, &job),
            (receipt.payer, Spent::Host, &host),
            (receipt.payee, Spent::Paid, &host),
        ] {
            let day = (account, of.name(), hour / 24, subject.clone());
            let sum = self.days.entry(day).or_default();
            *sum = sum.saturating_add(amount);
        }
        let month = month_number(receipt.until_ms);
        for (account, side, subject) in [
            (receipt.payer, Side::Payer, subject_of(receipt.deployment)),
            (receipt.payee, Side::Payee, host),
        ] {
            let side = side.name();
            let of_hour = self.hours.entry((account, side, hour));
            of_hour.or_default().add(&sums);
            for subject in [String::new(), subject] {
                let of_month = self.months.entry((account, side, month, subject));
                of_month.or_default().add(&sums);
            }
        }
        self.receipts += 1;
        self.paid = self.paid.saturating_add(receipt.amount.0);
    }

    pub fn write(self, store: &Store) -> Result<()> {
        if self.receipts == 0 {
            return Ok(());
        }
        self.write_charges(store)?;
        self.write_hours(store)?;
        self.write_days(store)?;
        self.write_months(store)?;
        store.execute(
            "INSERT INTO counters VALUES ('receipts', $1)
             ON CONFLICT (name) DO UPDATE SET count = counters.count + excluded.count",
            values![self.receipts],
        )?;
        let sum = paid(store)?.0.saturating_add(self.paid);
        store.execute(
            "INSERT INTO facts VALUES ('paid', $1)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            values![sum.to_string()],
        )?;
        Ok(())
    }

    fn write_charges(&self, store: &Store) -> Result<()> {
        for ((hour, deployment, service, host), ((payer, payee), sums)) in &self.charges {
            let (service, host) = (service.as_str(), host.as_str());
            let before = store.row(
                "SELECT cpu, memory, storage, bandwidth, transfer, moved FROM charges
                 WHERE hour = $1 AND deployment = $2 AND service = $3 AND host = $4",
                values![*hour, deployment.0, service, host],
            )?;
            let [cpu, memory, storage, bandwidth, transfer] = sums.and(before.as_ref())?;
            store.execute(
                "INSERT INTO charges VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
                 ON CONFLICT (hour, deployment, service, host) DO UPDATE SET cpu = excluded.cpu,
                 memory = excluded.memory, storage = excluded.storage,
                 bandwidth = excluded.bandwidth, transfer = excluded.transfer,
                 moved = excluded.moved,
                 receipts = charges.receipts + excluded.receipts",
                values![
                    *hour,
                    deployment.0,
                    service,
                    host,
                    payer.to_string(),
                    payee.to_string(),
                    cpu,
                    memory,
                    storage,
                    bandwidth,
                    transfer,
                    sums.and_moved(before.as_ref())?,
                    sums.receipts,
                ],
            )?;
        }
        Ok(())
    }

    fn write_hours(&self, store: &Store) -> Result<()> {
        for ((account, side, hour), sums) in &self.hours {
            let account = account.to_string();
            let before = store.row(
                "SELECT cpu, memory, storage, bandwidth, transfer, moved FROM hours
                 WHERE account = $1 AND side = $2 AND hour = $3",
                values![account.as_str(), *side, *hour],
            )?;
            let [cpu, memory, storage, bandwidth, transfer] = sums.and(before.as_ref())?;
            store.execute(
                "INSERT INTO hours VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
                 ON CONFLICT (account, side, hour) DO UPDATE SET cpu = excluded.cpu,
                 memory = excluded.memory, storage = excluded.storage,
                 bandwidth = excluded.bandwidth, transfer = excluded.transfer,
                 moved = excluded.moved,
                 receipts = hours.receipts + excluded.receipts",
                values![
                    account,
                    *side,
                    *hour,
                    cpu,
                    memory,
                    storage,
                    bandwidth,
                    transfer,
                    sums.and_moved(before.as_ref())?,
                    sums.receipts,
                ],
            )?;
        }
        Ok(())
    }

    fn write_days(&self, store: &Store) -> Result<()> {
        for ((account, spent, day, subject), amount) in &self.days {
            let (account, subject) = (account.to_string(), subject.as_str());
            let before = store.row(
                "SELECT amount FROM days
                 WHERE account = $1 AND spent = $2 AND day = $3 AND subject = $4",
                values![account.as_str(), *spent, *day, subject],
            )?;
            let before = before.map_or(Ok(String::new()), |row| row.get::<String>(0))?;
            let sum = amount.saturating_add(before.parse().unwrap_or(0));
            store.execute(
                "INSERT INTO days VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (account, spent, day, subject) DO UPDATE SET amount = excluded.amount",
                values![account, *spent, *day, subject, sum.to_string()],
            )?;
        }
        Ok(())
    }

    fn write_months(&self, store: &Store) -> Result<()> {
        for ((account, side, month, subject), sums) in &self.months {
            let (account, subject) = (account.to_string(), subject.as_str());
            let before = store.row(
                "SELECT cpu, memory, storage, bandwidth, transfer FROM months
                 WHERE account = $1 AND side = $2 AND month = $3 AND subject = $4",
                values![account.as_str(), *side, *month, subject],
            )?;
            let [cpu, memory, storage, bandwidth, transfer] = sums.and(before.as_ref())?;
            store.execute(
                "INSERT INTO months VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 ON CONFLICT (account, side, month, subject) DO UPDATE SET cpu = excluded.cpu,
                 memory = excluded.memory, storage = excluded.storage,
                 bandwidth = excluded.bandwidth, transfer = excluded.transfer",
                values![
                    account, *side, *month, subject, cpu, memory, storage, bandwidth, transfer
                ],
            )?;
        }
        Ok(())
    }
}
