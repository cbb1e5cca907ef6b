//! Enter validators, keep their tickets fresh, take them off.

use api::{MembersView, Problem, QueueView, TransactionView, TurnsView, ValidatorQueue};
use ledger::Call;
use ledger::validator::{Call as Act, Registration};
use types::{AccountId, DoubleProposal, PublicKey, SecretKey};

use crate::{Client, SdkError};

fn no_ticket(why: &str) -> SdkError {
    SdkError::Refused(Problem {
        kind: "unavailable".into(),
        what: "ticket".into(),
        why: why.into(),
        next: "Try again in the next epoch: see `runrig validator status`.".into(),
    })
}

impl Client {
    /// Who may be drawn to vote, and what the next one needs to enter.
    pub async fn members(&self) -> Result<MembersView, SdkError> {
        self.get("/v1/validators").await
    }

    /// How each validator of the gateway stands, and what waits there; of the validator alone,
    /// where the address is one's own.
    pub async fn queues(&self) -> Result<Vec<ValidatorQueue>, SdkError> {
        match self.get("/v1/gateway/queues").await {
            Err(error) if error.kind() == "not_found" => {
                let queue: QueueView = self.get("/v1/queue").await?;
                let address = self.url().split("://").last().unwrap_or_default();
                Ok(vec![ValidatorQueue {
                    address: address.into(),
                    queue: Some(queue),
                    why: String::new(),
                }])
            }
            answer => answer,
        }
    }

    /// Turns missed and ceremonies of epochs since then, in order: what the validator that answers
    /// has indexed.
    pub async fn turns(&self, since_ms: u64) -> Result<Vec<TurnsView>, SdkError> {
        let mut all: Vec<TurnsView> = Vec::new();
        loop {
            let until = all.first().map(|row| format!("&until={}", row.height - 1));
            let until = until.unwrap_or_default();
            let path = format!("/v1/turns?since_ms={since_ms}{until}");
            let earlier: Vec<TurnsView> = self.get(&path).await?;
            let more = earlier.len() >= TurnsView::MAX;
            all.splice(..0, earlier);
            if !more {
                return Ok(all);
            }
        }
    }

    /// Enters the validator of `identity`, or renews it, with a ticket from the newest beacon:
    /// looking for one takes a second of one core. `payer` bonds for a new one and owns it.
    pub async fn register_validator(
        &self,
        payer: &SecretKey,
        identity: &SecretKey,
        address: &str,
        api: &str,
    ) -> Result<TransactionView, SdkError> {
        let network = self.status().await?.network;
        let view = self.members().await?;
        let key = identity.public();
        let ticket = view
            .ticket
            .ok_or_else(|| no_ticket("no beacon is known yet that one could be made from"))?;
        let bits = view.ticket_bits;
        let found =
            tokio::task::spawn_blocking(move || lots::find_ticket(&ticket.beacon, &key, bits));
        let nonce = found.await.ok().flatten();
        let nonce = nonce.ok_or_else(|| no_ticket("the newest beacon gives this key none"))?;
        let sender = AccountId::of(&payer.public());
        let registration = Registration {
            key,
            address: address.into(),
            api: api.into(),
            epoch: ticket.epoch,
            nonce,
            proof: Registration::prove(&network, &sender, identity),
        };
        let call = Call::Validator(Act::Register(registration));
        self.submit_and_wait(payer, call).await
    }

    /// Convicts a leader of two blocks for one view.
    pub async fn accuse_validator(
        &self,
        key: &SecretKey,
        double: DoubleProposal,
    ) -> Result<TransactionView, SdkError> {
        let call = Call::Validator(Act::Accuse(double));
        self.submit_and_wait(key, call).await
    }

    /// Takes a validator off; its bond goes to `to` after the delay.
    pub async fn leave_validator(
        &self,
        owner: &SecretKey,
        key: PublicKey,
        to: AccountId,
    ) -> Result<TransactionView, SdkError> {
        let call = Call::Validator(Act::Leave { key, to });
        self.submit_and_wait(owner, call).await
    }
}
