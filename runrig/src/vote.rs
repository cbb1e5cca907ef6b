//! `vote`: the network's parameters, changed by those who have sat.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use ledger::vote::{Call, Change, Event, Phase};
use types::{ProposalId, Resource, SecretKey};

use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::output;
use crate::verified;

#[derive(Subcommand, Debug)]
#[command(
    before_help = "Examples:\n  runrig vote propose fee=0.001 --seat net/validator-1/seat\n  runrig vote ls\n  runrig vote cast p-1 yes --seat net/validator-2/seat\n\nWhat may be changed: fee=CREDITS, rate.cpu=CREDITS (memory, storage, bandwidth, transfer), faucet=CREDITS, validator_bond=CREDITS, host_bond=CREDITS, block_ms=IDLE/BUSY, seats=N, ticket_epochs=N, ticket_bits=N, bond_epochs=N, witness_ms=N, vote_blocks=OPEN/DELAY, version=N; and once, out of the network's fund: pay=CREDITS/ACCOUNT"
)]
pub enum Vote {
    /// Propose a change: NAME=VALUE
    Propose {
        change: String,
        #[command(flatten)]
        signer: Signer,
    },
    /// Proposals, the latest first
    #[command(alias = "list")]
    Ls,
    /// One proposal: what, how it stands, who has said what
    Show { proposal: ProposalId },
    /// Say yes or no; may be changed until it is decided
    Cast {
        proposal: ProposalId,
        #[arg(value_parser = ["yes", "no"])]
        vote: String,
        #[command(flatten)]
        signer: Signer,
    },
}

#[derive(Args, Debug)]
pub struct Signer {
    /// Sign by this validator's identity (its file `seat`) instead of the context's account
    #[arg(long, value_name = "FILE")]
    seat: Option<PathBuf>,
}

impl Signer {
    fn key(&self, session: &Session) -> Result<SecretKey> {
        let Some(path) = &self.seat else {
            return session.key();
        };
        let read = || -> anyhow::Result<consensus::Seat> {
            consensus::Seat::from_bytes(&std::fs::read(path)?)
        };
        let seat = read().map_err(|error| {
            Failure::usage(
                format!("seat {}", path.display()),
                format!("{error:#}"),
                "Name the file `seat` in a validator's folder.",
            )
        })?;
        Ok(SecretKey::from_seed(seat.secret()))
    }
}

/// `fee=0.5` and the like.
fn change(text: &str) -> Result<Change> {
    let wrong = |why: String| {
        Failure::usage(
            format!("change {text}"),
            why,
            "Write for example fee=0.001 or rate.cpu=0.000003; `runrig vote --help` lists all.",
        )
    };
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| wrong("it is not NAME=VALUE".into()))?;
    let amount = || {
        value
            .parse()
            .map_err(|e: types::AmountError| wrong(e.to_string()))
    };
    let number = |text: &str| {
        let read = text.parse::<u64>();
        read.map_err(|_| wrong(format!("\"{text}\" is not a whole number")))
    };
    let small = |text: &str| number(text).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let pair = |shape: &str| value.split_once('/').ok_or_else(|| wrong(shape.into()));
    if let Some(wanted) = name.strip_prefix("rate.") {
        let resource = Resource::ALL.into_iter().find(|r| r.name() == wanted);
        let resource = resource.ok_or_else(|| wrong(format!("there is no resource {wanted}")))?;
        let rate = amount()?;
        return Ok(Change::Rate { resource, rate });
    }
    match name {
        "fee" => Ok(Change::Fee(amount()?)),
        "faucet" => Ok(Change::Faucet(amount()?)),
        "validator_bond" => Ok(Change::ValidatorBond(amount()?)),
        "host_bond" => Ok(Change::HostBond(amount()?)),
        "block_ms" => {
            let (idle, busy) = pair("block times are two: IDLE/BUSY")?;
            let (idle, busy) = (number(idle)?, number(busy)?);
            Ok(Change::BlockMs { idle, busy })
        }
        "vote_blocks" => {
            let (open, delay) = pair("two numbers of blocks are voted on together: OPEN/DELAY")?;
            let (open, delay) = (number(open)?, number(delay)?);
            Ok(Change::VoteBlocks { open, delay })
        }
        "pay" => {
            let (amount, to) = pair("say how much and to whom: CREDITS/ACCOUNT")?;
            let amount = amount
                .parse()
                .map_err(|e: types::AmountError| wrong(e.to_string()))?;
            let to = to
                .parse()
                .map_err(|e: types::IdError| wrong(e.to_string()))?;
            Ok(Change::Pay { to, amount })
        }
        "seats" => Ok(Change::Seats(small(value)?)),
        "ticket_epochs" => Ok(Change::TicketEpochs(number(value)?)),
        "ticket_bits" => Ok(Change::TicketBits(small(value)?)),
        "bond_epochs" => Ok(Change::BondEpochs(number(value)?)),
        "witness_ms" => Ok(Change::WitnessMs(number(value)?)),
        "version" => Ok(Change::Version(small(value)?)),
        _ => Err(wrong(format!(
            "there is no parameter {name} that is voted on"
        ))),
    }
}

fn standing(phase: &Phase) -> String {
    match phase {
        Phase::Open => "open".into(),
        Phase::Accepted { from } => format!("accepted, counts from height {from}"),
        Phase::Rejected => "rejected".into(),
        Phase::Done { since } => format!("counts since height {since}"),
    }
}

pub async fn run(session: &Session, command: &Vote, json: bool) -> Result {
    match command {
        Vote::Propose {
            change: text,
            signer,
        } => {
            let call = ledger::Call::Vote(Call::Propose {
                change: change(text)?,
            });
            let key = signer.key(session)?;
            let applied = session.client.submit_and_wait(&key, call).await?;
            let made = applied.events.iter().find_map(|event| match event {
                ledger::Event::Vote(Event::Proposed { proposal, .. }) => Some(*proposal),
                _ => None,
            });
            let id = made.ok_or_else(|| {
                let next = "See `runrig vote ls`.";
                Failure::new(
                    failure::FAILED,
                    "vote propose",
                    "its block names no proposal",
                    next,
                )
            })?;
            show(session, id, json).await
        }
        Vote::Cast {
            proposal,
            vote,
            signer,
        } => {
            let call = ledger::Call::Vote(Call::Cast {
                proposal: *proposal,
                yes: vote == "yes",
            });
            let key = signer.key(session)?;
            session.client.submit_and_wait(&key, call).await?;
            show(session, *proposal, json).await
        }
        Vote::Show { proposal } => show(session, *proposal, json).await,
        Vote::Ls => ls(session, json).await,
    }
}

async fn show(session: &Session, id: ProposalId, json: bool) -> Result {
    let fetch = async || Ok(session.client.proposal(id).await?);
    let view = verified::read(session, fetch, async |verifier, view| {
        verifier.rows("proposals", &[(id, view)]).await
    })
    .await?;
    if json {
        output::json(&view);
        return Ok(());
    }
    let p = &view.proposal;
    output::data(format!(
        "{id}: {} — {}; {} yes, {} no of {} members, open until height {}",
        p.change,
        standing(&p.phase),
        view.yes,
        view.no,
        view.members,
        p.closes
    ));
    let rows: Vec<Vec<String>> = p
        .votes
        .iter()
        .map(|(account, vote)| {
            let vote = vote.map_or("", |yes| if yes { "yes" } else { "no" });
            vec![account.to_string(), vote.into()]
        })
        .collect();
    output::data(output::table(&["MEMBER", "VOTE"], &rows, &[]));
    Ok(())
}

async fn ls(session: &Session, json: bool) -> Result {
    let fetch = async || Ok(session.client.proposals().await?);
    let all = verified::read(session, fetch, async |verifier, all| {
        let rows: Vec<_> = all.iter().map(|view| (view.id, view)).collect();
        verifier.rows("proposals", &rows).await
    })
    .await?;
    if output::ids_only() {
        all.iter().for_each(|v| output::data(v.id));
        return Ok(());
    }
    if json {
        output::json(&all);
        return Ok(());
    }
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|v| {
            vec![
                v.id.to_string(),
                v.proposal.change.to_string(),
                standing(&v.proposal.phase),
                v.yes.to_string(),
                v.no.to_string(),
                v.members.to_string(),
            ]
        })
        .collect();
    let headers = ["PROPOSAL", "CHANGE", "STATE", "YES", "NO", "MEMBERS"];
    output::data(output::table(&headers, &rows, &[3, 4, 5]));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_they_are_shown() {
        for text in [
            "fee=0.001",
            "rate.cpu=0.000003",
            "faucet=0",
            "validator_bond=500",
            "host_bond=5",
            "block_ms=900/60",
            "version=2",
            "seats=31",
            "ticket_epochs=16",
            "ticket_bits=14",
            "bond_epochs=8",
            "witness_ms=30000",
            "vote_blocks=20000/512",
            "pay=12.5/6f6673f4c628d55b50bd2a3fe2db427d7de283c3",
        ] {
            let read = change(text).ok().map(|c| c.to_string());
            assert_eq!(read.as_deref(), Some(text));
        }
        for text in [
            "fee",
            "fee=x",
            "rate.gold=1",
            "block_ms=9",
            "height=3",
            "version=-1",
            "seats=many",
            "vote_blocks=7",
            "pay=12.5",
            "pay=12.5/nobody",
        ] {
            assert!(change(text).is_err(), "{text}");
        }
    }
}
