//! Votes and lotteries: what is open, and what was decided.

use api::{LotteryExport, LotteryView, ProposalView};
use types::{LotteryId, ProposalId};

use crate::{Client, SdkError};

impl Client {
    /// The latest ones, as many as one answer holds.
    pub async fn proposals(&self) -> Result<Vec<ProposalView>, SdkError> {
        self.get("/v1/proposals").await
    }

    pub async fn proposal(&self, id: ProposalId) -> Result<ProposalView, SdkError> {
        self.get(&format!("/v1/proposals/{id}")).await
    }

    /// The latest ones, as many as one answer holds.
    pub async fn lotteries(&self) -> Result<Vec<LotteryView>, SdkError> {
        self.get("/v1/lotteries").await
    }

    pub async fn lottery(&self, id: LotteryId) -> Result<LotteryView, SdkError> {
        self.get(&format!("/v1/lotteries/{id}")).await
    }

    pub async fn lottery_export(&self, id: LotteryId) -> Result<LotteryExport, SdkError> {
        self.get(&format!("/v1/lotteries/{id}/export")).await
    }
}
