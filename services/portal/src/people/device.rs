//! Machines that ask to act for somebody, until somebody says yes or no: kept for minutes, also
//! over a restart.
//!
//! A code is short, because people type it; it opens nothing by itself: who is logged in reads
//! with it which machine asks, and signs a grant. The machine hears what became of it by a secret,
//! of which only the digest is kept.

use std::net::IpAddr;

use anyhow::Result;
use api::{DeviceAnswer, DeviceCode};
use rusqlite::{Connection, OptionalExtension, params};
use types::{AccountId, Digest, PublicKey};

use super::{People, Token};

const GOOD_MS: u64 = 10 * 60_000;
/// The machine asks this often what became of it.
const EVERY_S: u64 = 2;
/// Of all machines, and of one address.
const WAITING_MAX: usize = 2_000;
const OF_ADDRESS_MAX: usize = 100;
/// No vowels: no words; nothing that looks like something else.
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
const CODE_LETTERS: usize = 8;
const MACHINE_CHARS_MAX: usize = 60;

/// A machine that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub key: PublicKey,
    /// What it calls itself: one line.
    pub machine: String,
    pub address: IpAddr,
    pub asked_ms: u64,
}

impl Device {
    pub fn account(&self) -> AccountId {
        AccountId::of(&self.key)
    }
}

/// What somebody typed, as codes are kept: letters only, all of them great.
fn code_of(typed: &str) -> String {
    let letters = typed.chars().filter(char::is_ascii_alphabetic);
    letters
        .take(CODE_LETTERS + 1)
        .map(|c| c.to_ascii_uppercase())
        .collect()
}

fn digest(secret: &Token) -> String {
    Digest::of_value("runrig-portal-device", &secret.0).hex()
}

fn random_code() -> String {
    use rand::seq::IndexedRandom;
    let letter = || LETTERS.choose(&mut rand::rng()).copied().unwrap_or(b'B');
    (0..CODE_LETTERS).map(|_| char::from(letter())).collect()
}

fn is_full(c: &Connection, address: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT count(*), coalesce(sum(address = ?1), 0) FROM devices";
    c.query_row(sql, [address], |r| {
        let (all, of_address): (usize, usize) = (r.get(0)?, r.get(1)?);
        Ok(all >= WAITING_MAX || of_address >= OF_ADDRESS_MAX)
    })
}

impl People {
    /// A machine begins to wait. `None`: too many do, in all or of this address.
    pub async fn device_asks(
        &self,
        key: PublicKey,
        machine: &str,
        address: IpAddr,
        now_ms: u64,
    ) -> Result<Option<DeviceCode>> {
        let secret = Token::random();
        let kept = digest(&secret);
        let machine: String = machine
            .chars()
            .filter(|c| !c.is_control())
            .take(MACHINE_CHARS_MAX)
            .collect();
        let code = self
            .with(move |c| {
                let (key, address) = (key.to_string(), address.to_string());
                let over = now_ms.saturating_sub(GOOD_MS);
                c.execute("DELETE FROM devices WHERE asked_ms <= ?1", [over])?;
                if is_full(c, &address)? {
                    return Ok(None);
                }
                loop {
                    let code = random_code();
                    let added = c.execute(
                        "INSERT OR IGNORE INTO devices VALUES (?1, ?2, ?3, ?4, ?5, ?6, NULL)",
                        params![code, kept, key, machine, address, now_ms],
                    )?;
                    if added > 0 {
                        return Ok(Some(code));
                    }
                }
            })
            .await?;
        Ok(code.map(|code| DeviceCode {
            code: format!("{}-{}", &code[..4], &code[4..]),
            secret: secret.hex(),
            page: "/device".into(),
            good_for_s: GOOD_MS / 1_000,
            every_s: EVERY_S,
        }))
    }

    /// Who waits under a code that somebody typed.
    pub async fn device_waiting(&self, typed: &str, now_ms: u64) -> Result<Option<Device>> {
        let code = code_of(typed);
        let found = self
            .with(move |c| {
                let sql = "SELECT key, machine, address, asked_ms FROM devices
                    WHERE code = ?1 AND asked_ms > ?2 AND answer IS NULL";
                c.query_row(sql, params![code, now_ms.saturating_sub(GOOD_MS)], |r| {
                    let text = |at| r.get::<_, String>(at);
                    Ok((text(0)?, text(1)?, text(2)?, r.get(3)?))
                })
                .optional()
            })
            .await?;
        Ok(found.and_then(|(key, machine, address, asked_ms)| {
            Some(Device {
                key: key.parse().ok()?,
                machine,
                address: address.parse().ok()?,
                asked_ms,
            })
        }))
    }

    /// Counts once: whoever waits hears it, and the code opens nothing more.
    pub async fn answer_device(&self, typed: &str, answer: &DeviceAnswer) -> Result<()> {
        let (code, answer) = (code_of(typed), serde_json::to_string(answer)?);
        self.with(move |c| {
            let sql = "UPDATE devices SET answer = ?2 WHERE code = ?1 AND answer IS NULL";
            c.execute(sql, [code, answer])
        })
        .await?;
        Ok(())
    }

    /// What became of the machine that has this secret.
    pub async fn poll_device(&self, secret: &str, now_ms: u64) -> Result<DeviceAnswer> {
        let Some(secret) = Token::parse(secret).map(|s| digest(&s)) else {
            return Ok(DeviceAnswer::Gone);
        };
        let found: Option<Option<String>> = self
            .with(move |c| {
                let sql = "SELECT answer FROM devices WHERE secret = ?1 AND asked_ms > ?2";
                let good = params![secret, now_ms.saturating_sub(GOOD_MS)];
                c.query_row(sql, good, |r| r.get(0)).optional()
            })
            .await?;
        Ok(match found {
            None => DeviceAnswer::Gone,
            Some(None) => DeviceAnswer::Waiting,
            Some(Some(answer)) => serde_json::from_str(&answer)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use types::SecretKey;

    use super::*;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn key() -> PublicKey {
        SecretKey::from_seed([1; 32]).public()
    }

    fn allowed() -> DeviceAnswer {
        DeviceAnswer::Allowed {
            account: AccountId::of(&key()),
            handle: "ada".into(),
            network: "dev".into(),
            url: "http://127.0.0.1:8700".into(),
        }
    }

    async fn ask(people: &People, address: IpAddr, now_ms: u64) -> Option<DeviceCode> {
        let asked = people.device_asks(key(), "box\n\u{1b}[31m", address, now_ms);
        asked.await.expect("stored")
    }

    async fn waiting(people: &People, typed: &str, now_ms: u64) -> Option<Device> {
        let waiting = people.device_waiting(typed, now_ms);
        waiting.await.expect("read")
    }

    async fn poll(people: &People, secret: &str, now_ms: u64) -> DeviceAnswer {
        people.poll_device(secret, now_ms).await.expect("read")
    }

    #[tokio::test]
    async fn a_code_is_good_once_for_minutes_and_over_a_restart() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("people.sqlite");
        let before = People::open(&path).expect("open");
        let start = 1_000_000;
        let asked = ask(&before, HOME, start).await.expect("room");
        drop(before);
        let people = People::open(&path).expect("open");
        assert_eq!(asked.code.len(), CODE_LETTERS + 1);
        let typed = asked.code.to_lowercase().replace('-', " ");
        let device = waiting(&people, &typed, start + 1).await.expect("it waits");
        assert_eq!((device.machine.as_str(), device.key), ("box[31m", key()));
        let state = poll(&people, &asked.secret, start + 1).await;
        assert_eq!(state, DeviceAnswer::Waiting);
        let late = start + GOOD_MS;
        assert_eq!(waiting(&people, &typed, late).await, None);
        let state = poll(&people, &asked.secret, late).await;
        assert_eq!(state, DeviceAnswer::Gone);
        for answer in [allowed(), DeviceAnswer::Refused] {
            let answered = people.answer_device(&typed, &answer);
            answered.await.expect("stored");
        }
        drop(people);
        let people = People::open(&path).expect("open");
        assert_eq!(poll(&people, &asked.secret, start + 2).await, allowed());
        assert_eq!(waiting(&people, &typed, start + 2).await, None, "used");
        // Neither a code nor another's secret is told what became of it.
        for other in [asked.code.as_str(), "", "00", &Token::random().hex()] {
            let state = poll(&people, other, start + 2).await;
            assert_eq!(state, DeviceAnswer::Gone);
        }
    }

    #[tokio::test]
    async fn strangers_in_any_number_fill_neither_memory_nor_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let people = People::open(&folder.path().join("people.sqlite")).expect("open");
        let start = 1_000_000;
        for _ in 0..OF_ADDRESS_MAX {
            assert!(ask(&people, HOME, start).await.is_some());
        }
        assert!(ask(&people, HOME, start).await.is_none());
        for n in 0..WAITING_MAX as u32 {
            ask(&people, IpAddr::V4(Ipv4Addr::from(n + 1)), start).await;
        }
        let far = IpAddr::V4(Ipv4Addr::BROADCAST);
        assert!(ask(&people, far, start + 1).await.is_none());
        assert!(ask(&people, far, start + GOOD_MS).await.is_some());
        let left: Result<u64> = people
            .with(|c| c.query_row("SELECT count(*) FROM devices", [], |r| r.get(0)))
            .await;
        assert_eq!(left.expect("counted"), 1);
    }
}
