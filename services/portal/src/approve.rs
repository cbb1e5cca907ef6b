//! What a session signs, and what only the account's own key may.
//!
//! A session's key acts for the account by a grant: within a limit and a time, and never saying
//! who else may act. For the rest the person approves one transaction: his password opens the
//! account's own key for it, or his passkey signs it in the browser. Whoever asks for such an act
//! gets a page that names it ([`Ask`]); that sends the same form again with the [`Approval`], so
//! that pages need not know how something was signed.

use api::{AccountView, TransactionView};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ledger::account::{Call as Account, Grant, Role, SpendingLimit};
use ledger::{Call, Transaction, TransactionBody};
use sdk::SdkError;
use types::{AccountId, AccountKey, Amount, Assertion, Proof};
use words::Names;

use crate::app::App;
use crate::limits::Act;
use crate::people::{Keys, Login};
use crate::web::Form;

/// A session's key acts so long, unless it is let act anew.
pub const PASS_MS: u64 = 90 * DAY_MS;
/// At a login within so long of the end it is let act anew.
pub const PASS_LEFT_MS: u64 = 30 * DAY_MS;
/// Leaves the purse by a session's key in [`PERIOD_MS`] at most.
pub const PASS_LIMIT: Amount = Amount::credits(500);
const PERIOD_MS: u64 = 30 * DAY_MS;
const DAY_MS: u64 = 86_400_000;
/// A person takes his time over a page.
const BLOCKS: u64 = 3_000;
/// Fields of an approval begin so; they are not sent on.
pub const FIELDS: &str = "approve_";

/// What is to be approved, and how.
#[derive(Clone, Debug)]
pub struct Ask {
    pub why: String,
    /// As the ledger will say it.
    pub words: String,
    pub wrong: Option<String>,
    pub way: Way,
}

#[derive(Clone, Debug)]
pub enum Way {
    /// `coded`: he has a second factor.
    Password { coded: bool },
    /// One for each passkey that may sign it, the one that was used last first.
    Passkey(Vec<Challenge>),
    /// The account's own key is in its owner's file only.
    File,
}

/// What a browser is to sign.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Challenge {
    /// What its owner calls the passkey.
    pub name: String,
    pub challenge: String,
    pub body: String,
    /// The credential that may sign it.
    pub allow: String,
}

impl Challenge {
    fn new(body: &TransactionBody, name: String, allow: String) -> Self {
        Self {
            name,
            challenge: BASE64URL.encode(body.signed_digest().0),
            body: BASE64URL.encode(borsh::to_vec(body).unwrap_or_default()),
            allow,
        }
    }
}

/// What a form brings with it.
pub enum Approval {
    Password { password: String, code: String },
    Passkey(Box<Transaction>),
    Unreadable,
}

/// An authenticator's answer, as the script puts it into a form.
pub fn assertion(form: &Form) -> Option<Assertion> {
    let bytes = |name| BASE64URL.decode(form.text(name)).ok();
    Assertion::from_browser(
        bytes("approve_authenticator")?,
        bytes("approve_client")?,
        &bytes("approve_signature")?,
    )
    .ok()
}

impl Approval {
    /// `None`: nothing was approved.
    pub fn read(form: &Form) -> Option<Self> {
        if form.has("approve_body") {
            let read = || {
                let body = BASE64URL.decode(form.text("approve_body")).ok()?;
                let signature = Proof::Passkey(assertion(form)?);
                let body = borsh::from_slice(&body).ok()?;
                Some(Self::Passkey(Box::new(Transaction { body, signature })))
            };
            return Some(read().unwrap_or(Self::Unreadable));
        }
        form.has("approve_password").then(|| Self::Password {
            password: form.exact("approve_password").to_string(),
            code: form.text("approve_code").to_string(),
        })
    }
}

/// Why a call was not applied.
#[derive(Debug)]
pub enum Unsubmitted {
    Ask(Box<Ask>),
    Sdk(SdkError),
}

impl From<SdkError> for Unsubmitted {
    fn from(error: SdkError) -> Self {
        Self::Sdk(error)
    }
}

/// Lets a session's key act for its account.
pub fn pass(to: AccountId, now_ms: u64, label: &str) -> Call {
    Call::Account(Account::Grant {
        to,
        role: Role::Owner,
        limit: Some(SpendingLimit {
            amount: PASS_LIMIT,
            every_ms: PERIOD_MS,
        }),
        expires_ms: Some(now_ms + PASS_MS),
        label: label.into(),
    })
}

/// By the ledger's clock; by the machine's before the ledger was heard.
pub fn now_ms(app: &App) -> u64 {
    match app.tick.borrow().time_ms {
        0 => api::now_ms(),
        time => time,
    }
}

/// What the first transaction by a new passkey would be.
pub async fn challenge(app: &App, key: AccountKey, call: Call) -> Result<Challenge, SdkError> {
    let body = app.client.prepare(key, &[], call, BLOCKS).await?;
    Ok(Challenge::new(&body, String::new(), String::new()))
}

/// Whether a passkey signs for an account all that its own key may, by the ledger.
pub fn signs(view: &AccountView, passkey: AccountId, now_ms: u64) -> bool {
    if passkey == view.account {
        return !view.retired;
    }
    let whole = |g: &Grant| {
        g.role == Role::Owner && g.limit.is_none() && g.expires_ms.is_none() && g.is_good(now_ms)
    };
    view.grants.get(&passkey).is_some_and(whole)
}

/// Whether a passkey may approve `call` here: one that is taken away does not say so itself, so
/// that whoever has the other is there.
fn approves(passkey: AccountId, call: &Call) -> bool {
    !matches!(call, Call::Account(Account::Revoke { from }) if *from == passkey)
}

/// Whether what was signed is what the form asks for. An end counts from when it was asked.
fn is_same(signed: &Call, asked: &Call) -> bool {
    match asked {
        Call::Account(
            Account::Revoke { .. }
            | Account::Grant {
                expires_ms: None, ..
            },
        ) => signed == asked,
        _ => words::kind(signed) == words::kind(asked),
    }
}

/// Lets the key of a person's sessions act for a while longer, where the portal has his own.
pub async fn renew(app: &App, account: AccountId, keys: &Keys) -> Result<(), SdkError> {
    let Some(own) = &keys.own else {
        return Ok(());
    };
    let web = AccountId::of(&keys.web.public());
    let now = now_ms(app);
    let view = app.client.account(account).await?;
    let good = view.grants.get(&web);
    if good.is_some_and(|grant| grant.is_good(now + PASS_LEFT_MS)) {
        return Ok(());
    }
    let call = pass(web, now, "portal");
    app.client.submit_and_wait(own, call).await?;
    Ok(())
}

/// Nobody who is bounded says who else may act, or how much may be spent.
fn needs_own_key(call: &Call) -> bool {
    matches!(
        call,
        Call::Account(Account::Grant { .. } | Account::Revoke { .. }) | Call::Limit(_)
    )
}

/// The portal's own records could not be read.
fn unread(error: anyhow::Error) -> SdkError {
    tracing::error!("{error:#}");
    SdkError::Unreadable {
        url: "people.sqlite".into(),
        why: "the portal's own records".into(),
    }
}

impl Login {
    /// Signs a call of [`Login::account`] and returns when it is applied: with the session's key
    /// where that is enough, with the account's own where the person approved it.
    pub async fn submit(&self, app: &App, call: Call) -> Result<TransactionView, Unsubmitted> {
        let acting: Vec<AccountId> = self.acting.iter().map(|w| w.account).collect();
        match self.approval.get() {
            Some(Approval::Password { password, code }) => {
                return self.by_password(app, &acting, call, password, code).await;
            }
            Some(Approval::Passkey(signed)) => return self.by_passkey(app, call, signed).await,
            Some(Approval::Unreadable) => {
                let wrong = "The passkey's answer cannot be read.".to_string();
                return self.ask(app, &acting, call, "", Some(wrong)).await;
            }
            None => {}
        }
        if needs_own_key(&call) {
            let why = "Who may act for an account is said by its own key.";
            return self.ask(app, &acting, call, why, None).await;
        }
        let web = AccountId::of(&self.key.public());
        let mut path = vec![self.person.account];
        path.extend(&acting);
        let submitted = app.client.submit_for(&self.key, &path, call.clone()).await;
        let Err(SdkError::Refused(problem)) = &submitted else {
            return Ok(submitted?);
        };
        let of_key = problem.why.starts_with(&web.to_string())
            && problem.why.contains(&self.person.account.to_string());
        let over = problem.why.contains("the key may spend");
        if of_key || over {
            let why = match over {
                true => "It is more than your sessions may spend by themselves.",
                false => "Your sessions may not act for the account just now.",
            };
            return self.ask(app, &acting, call, why, None).await;
        }
        Ok(submitted?)
    }

    async fn by_password(
        &self,
        app: &App,
        acting: &[AccountId],
        call: Call,
        password: &str,
        code: &str,
    ) -> Result<TransactionView, Unsubmitted> {
        let handle = &self.person.handle;
        let bucket = format!("{handle} true");
        let again = |wrong: &str| self.ask(app, acting, call.clone(), "", Some(wrong.into()));
        if app.limits.take(Act::Guess, &bucket).is_err() {
            return again("Too many tries. Wait half a minute.").await;
        }
        let opened = app.people.log_in(handle, password, code).await;
        let opened = opened.unwrap_or_else(|error| {
            tracing::error!("{error:#}");
            None
        });
        if opened.is_some() {
            app.limits.give_back(Act::Guess, &bucket);
        }
        match opened {
            None => again("Password or code do not fit.").await,
            Some((_, Keys { own: None, .. })) => again("").await,
            Some((_, Keys { own: Some(own), .. })) => {
                Ok(app.client.submit_for(&own, acting, call).await?)
            }
        }
    }

    /// For whom a passkey of this person signs: the account's own key needs no grant of it.
    fn path_of(&self, passkey: AccountId, acting: &[AccountId]) -> Vec<AccountId> {
        let own = (passkey != self.person.account).then_some(self.person.account);
        own.into_iter().chain(acting.iter().copied()).collect()
    }

    async fn by_passkey(
        &self,
        app: &App,
        call: Call,
        signed: &Transaction,
    ) -> Result<TransactionView, Unsubmitted> {
        let acting: Vec<AccountId> = self.acting.iter().map(|w| w.account).collect();
        let kept = app.people.passkeys(self.person.id).await.map_err(unread)?;
        let by = kept.iter().find(|k| k.passkey.account() == signed.signer());
        let fits = by.is_some()
            && signed.body.on_behalf == self.path_of(signed.signer(), &acting)
            && approves(signed.signer(), &call)
            && is_same(&signed.body.call, &call);
        let digest = signed.body.signed_digest();
        if !fits || signed.body.key.verify(&digest, &signed.signature).is_err() {
            let wrong = "The passkey signed something else, or it is not this account's.";
            return self.ask(app, &acting, call, "", Some(wrong.into())).await;
        }
        match app.client.submit_signed(signed).await {
            Err(error) if error.kind() == "stale" => {
                let wrong = "That took too long. Sign it once more.".to_string();
                self.ask(app, &acting, call, "", Some(wrong)).await
            }
            submitted => {
                let submitted = submitted?;
                if let Some(by) = by {
                    app.people.note_use(&by.passkey).await.map_err(unread)?;
                }
                Ok(submitted)
            }
        }
    }

    /// What each passkey of the person that the ledger knows would sign.
    async fn challenges(
        &self,
        app: &App,
        acting: &[AccountId],
        call: &Call,
    ) -> Result<Vec<Challenge>, Unsubmitted> {
        let kept = app.people.passkeys(self.person.id).await.map_err(unread)?;
        let view = app.client.account(self.person.account).await?;
        let now = now_ms(app);
        let mut all = Vec::new();
        for one in &kept {
            let account = one.passkey.account();
            if !signs(&view, account, now) || !approves(account, call) {
                continue;
            }
            let key = AccountKey::Passkey(one.passkey.key);
            let path = self.path_of(account, acting);
            let body = app.client.prepare(key, &path, call.clone(), BLOCKS).await?;
            let allow = one.passkey.credential.clone();
            all.push(Challenge::new(&body, one.name().to_string(), allow));
        }
        Ok(all)
    }

    async fn ask(
        &self,
        app: &App,
        acting: &[AccountId],
        call: Call,
        why: &str,
        wrong: Option<String>,
    ) -> Result<TransactionView, Unsubmitted> {
        let words = words::call(&call, &self.account(), &Names::default());
        let way = if self.person.has_passkey() {
            Way::Passkey(self.challenges(app, acting, &call).await?)
        } else if wrong.as_deref() == Some("") {
            Way::File
        } else {
            let coded = app.people.has_factor(self.person.id).await;
            Way::Password {
                coded: coded.map_err(unread)?,
            }
        };
        Err(Unsubmitted::Ask(Box::new(Ask {
            why: why.into(),
            words,
            wrong: wrong.filter(|wrong| !wrong.is_empty()),
            way,
        })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: AccountId = AccountId([1; 20]);
    const SECOND: AccountId = AccountId([2; 20]);

    fn grant(role: Role) -> Grant {
        Grant {
            role,
            limit: None,
            expires_ms: None,
            label: String::new(),
            since_ms: 0,
            spent: Amount::ZERO,
            counted_ms: 0,
        }
    }

    #[test]
    fn a_passkey_signs_while_the_ledger_lets_it_do_everything() {
        let limited = Grant {
            limit: Some(SpendingLimit {
                amount: Amount::ZERO,
                every_ms: 0,
            }),
            ..grant(Role::Owner)
        };
        let ending = Grant {
            expires_ms: Some(99),
            ..grant(Role::Owner)
        };
        for (given, retired, who, expected) in [
            (None, false, OWN, true),
            (None, true, OWN, false),
            (None, false, SECOND, false),
            (Some(grant(Role::Owner)), true, SECOND, true),
            (Some(grant(Role::Admin)), false, SECOND, false),
            (Some(limited), false, SECOND, false),
            (Some(ending), false, SECOND, false),
        ] {
            let view = AccountView {
                account: OWN,
                balance: Amount::ZERO,
                spendable: Amount::ZERO,
                held: Amount::ZERO,
                nonce: 0,
                height: 1,
                gift: Amount::ZERO,
                grants: given.into_iter().map(|g| (SECOND, g)).collect(),
                retired,
            };
            assert_eq!(signs(&view, who, 10), expected, "{view:?}");
        }
    }

    #[test]
    fn what_says_who_may_act_is_signed_to_the_letter() {
        let revoke = |from| Call::Account(Account::Revoke { from });
        assert!(is_same(&revoke(OWN), &revoke(OWN)));
        assert!(!is_same(&revoke(OWN), &revoke(SECOND)));
        assert!(!approves(SECOND, &revoke(SECOND)) && approves(OWN, &revoke(SECOND)));
        let let_in = |to, expires_ms| {
            Call::Account(Account::Grant {
                to,
                role: Role::Owner,
                limit: None,
                expires_ms,
                label: String::new(),
            })
        };
        assert!(!is_same(&let_in(OWN, None), &let_in(SECOND, None)));
        assert!(!is_same(&let_in(SECOND, Some(9)), &let_in(SECOND, None)));
        assert!(is_same(&let_in(SECOND, Some(9)), &let_in(SECOND, Some(10))));
    }
}
