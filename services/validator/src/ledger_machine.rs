//! The ledger behind the trait that consensus asks for.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use bytes::Bytes;
use consensus::{Admitted, Env, Executed, Machine, Member, Pace};
use ledger::duty::Seen;
use ledger::{BlockEnv, Genesis, Origin, Rejection, State, decode};
use types::{Digest, PublicKey};

const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

pub struct LedgerMachine {
    genesis: Genesis,
    /// Where the state lies that the network goes on from, if it does.
    origin: PathBuf,
}

impl LedgerMachine {
    pub fn new(genesis: Genesis) -> Self {
        Self::in_folder(genesis, Path::new(""))
    }

    /// Of the validator whose state lies in `data`.
    pub fn in_folder(genesis: Genesis, data: &Path) -> Self {
        Self {
            genesis,
            origin: data.join(ORIGIN_FILE),
        }
    }

    fn restarted(&self, origin: &Origin) -> Result<State> {
        let path = self.origin.display();
        let bytes = std::fs::read(&self.origin).with_context(|| {
            format!("read {path}: this network goes on from another one's state, which `runrig network init --from` has put beside each validator's seat")
        })?;
        let export = light::Export::from_bytes(&bytes).with_context(|| path.to_string())?;
        anyhow::ensure!(
            light::snapshot_root(&export.state) == origin.state,
            "{path} is not the state that the network file names: take the file of `runrig chain export` that the network was made from"
        );
        State::restarted(&self.genesis, &export.state).with_context(|| format!("go on from {path}"))
    }
}

/// In a validator's folder: the export that its network was made from.
pub const ORIGIN_FILE: &str = "origin.export";

/// A rejection as its JSON: what a submitter is answered.
fn as_json(rejection: &Rejection) -> String {
    serde_json::to_string(rejection).unwrap_or_else(|_| rejection.to_string())
}

// A block has room for the words of all that are drawn.
const _: () = assert!(lots::SCREENERS_MAX <= consensus::SCREENERS_MAX);

impl Machine for LedgerMachine {
    type State = State;

    fn genesis(&self) -> Result<Executed<State>> {
        let state = match &self.genesis.origin {
            None => State::genesis(&self.genesis),
            Some(origin) => self.restarted(origin)?,
        };
        Ok(Executed {
            ids: Vec::new(),
            candidates: state.drawings.get(&3).map(ledger::lots::Drawing::root),
            events: Vec::new(),
            outcomes: Vec::new(),
            state,
        })
    }

    fn admit(
        &self,
        state: &State,
        transactions: &[Bytes],
        verified: &dyn Fn(&Digest) -> bool,
    ) -> Vec<Result<Admitted, String>> {
        let read = |bytes: &Bytes| {
            let transaction = decode(bytes)?;
            state.admit(&transaction)?;
            Ok((transaction.id(), transaction))
        };
        let read: Vec<_> = transactions.iter().map(read).collect();
        let signed = ledger::check_signatures(&read, verified);
        let answers = read.into_iter().zip(signed).map(|(read, signed)| {
            let (id, transaction) = read.map_err(|r| as_json(&r))?;
            if !signed {
                return Err(as_json(&ledger::bad_signature()));
            }
            Ok(Admitted {
                id,
                sender: transaction.signer().0,
                tip: transaction.body.tip.0,
                urgent: transaction.body.call.is_urgent(),
            })
        });
        answers.collect()
    }

    fn screeners(&self, state: &State, epoch: u64) -> Vec<[u8; 32]> {
        state.screeners(epoch).iter().map(|key| key.0).collect()
    }

    fn execute(
        &self,
        parent: &State,
        env: Env,
        transactions: &[Bytes],
        verified: &dyn Fn(&Digest) -> bool,
    ) -> Executed<State> {
        if let Some(why) = parent.too_old(env.height) {
            // Before it votes on a block by rules that it does not know.
            tracing::error!("this validator stops: {why}");
            std::process::exit(1);
        }
        let env = BlockEnv {
            height: env.height,
            time_ms: env.time_ms,
            beacon: env.beacon,
            seen: Seen {
                leader: Some(PublicKey(env.leader)),
                dealt: env.dealt,
                stated: env
                    .stated
                    .iter()
                    .map(|s| (PublicKey(s.key), s.within))
                    .collect(),
                screened: env
                    .screened
                    .iter()
                    .map(|(key, at)| (PublicKey(*key), *at))
                    .collect(),
            },
        };
        let executed = match parent.execute(env, transactions, verified) {
            Ok(executed) => executed,
            Err(broken) => {
                // Going on would sign a state in which money appeared or vanished.
                tracing::error!(%broken, "the ledger's invariant is broken: this node stops");
                std::process::abort();
            }
        };
        let encode = |value: &dyn Fn() -> std::io::Result<Vec<u8>>| {
            value().expect("writing to memory does not fail")
        };
        Executed {
            ids: executed.outcomes.iter().map(|o| o.transaction).collect(),
            events: executed
                .events
                .iter()
                .map(|e| encode(&|| borsh::to_vec(e)))
                .collect(),
            outcomes: executed
                .outcomes
                .iter()
                .map(|o| encode(&|| borsh::to_vec(o)))
                .collect(),
            candidates: executed.candidates,
            state: executed.state,
        }
    }

    fn committee(&self, state: &State, epoch: u64) -> Option<Vec<Member>> {
        let seats = state.committee(epoch)?;
        Some(
            seats
                .iter()
                .map(|seat| Member {
                    key: seat.key.0,
                    // Read when it was registered; who wrote it otherwise is not reached.
                    address: seat.address.parse().unwrap_or(NOWHERE),
                })
                .collect(),
        )
    }

    fn wants_beacon(&self, state: &State) -> bool {
        state.wants_beacon()
    }

    fn is_barred(&self, state: &State, key: &[u8; 32]) -> bool {
        state.is_convicted(&types::PublicKey(*key))
    }

    fn pace(&self, state: &State) -> Pace {
        let params = state.params();
        Pace {
            idle_ms: params.block_idle_ms,
            busy_ms: params.block_busy_ms,
        }
    }

    fn root(&self, state: &State) -> Digest {
        state.root()
    }

    fn save(&self, state: &State) -> Vec<u8> {
        state.save()
    }

    fn load(&self, bytes: &[u8]) -> Result<State> {
        State::load(bytes).context("the saved ledger")
    }
}
