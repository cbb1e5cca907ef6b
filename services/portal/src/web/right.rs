//! What a page or an act takes of whoever acts for somebody else's account.
//!
//! The ledger and the hosts hold to roles by themselves; here they are asked first, so that a page
//! says what is missing before anything is filled in, and so that a role that was taken back ends.

use axum::http::StatusCode;
use ledger::account::Role;
use sdk::SdkError;
use types::AccountId;

use super::trouble::Trouble;
use crate::app::App;
use crate::approve::now_ms;
use crate::people::{Login, Token};

/// What a route is about, for members of a company.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// One's own: sessions, password, for whom one acts.
    Own,
    /// To see.
    Look,
    /// To deploy, change and remove.
    Deploy,
    /// To pay and be paid.
    Pay,
    /// To say who else may act, what hosts ask and lend, and that one joins.
    Rule,
}

impl Right {
    /// As the ledger has it.
    pub fn is_of(self, role: Role) -> bool {
        match self {
            Self::Own | Self::Look => true,
            Self::Deploy => matches!(role, Role::Owner | Role::Admin | Role::Developer),
            Self::Pay => matches!(role, Role::Owner | Role::Admin | Role::Billing),
            Self::Rule => matches!(role, Role::Owner | Role::Admin),
        }
    }

    /// Who has it, as `owner, admin or billing`.
    pub fn roles(self) -> String {
        let names = Role::ALL.into_iter().filter(|role| self.is_of(*role));
        let names: Vec<&str> = names.map(Role::name).collect();
        match names.split_last() {
            Some((last, [])) => (*last).into(),
            Some((last, rest)) => format!("{} or {last}", rest.join(", ")),
            None => String::new(),
        }
    }
}

/// Why somebody finds a note where others find a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lack {
    /// What the form is for, as `send credits`.
    pub act: &'static str,
    pub right: Right,
    /// The one he has; `None`: it was taken back.
    pub role: Option<Role>,
    /// Whose the account is, for people.
    pub account: String,
}

/// In which role he acts for another account, asked once in a request; `None`: in none any more.
///
/// Errors: the ledger does not answer.
pub async fn role(app: &App, login: &Login) -> Result<Option<Role>, SdkError> {
    let Some(workspace) = &login.acting else {
        return Ok(Some(Role::Owner));
    };
    if let Some(role) = login.role.get() {
        return Ok(*role);
    }
    let (own, account) = (login.person.account, workspace.account);
    let role = app.grants.role(own, account, now_ms(app)).await?;
    Ok(*login.role.get_or_init(|| role))
}

/// Errors: he acts for an account that gave him no role, or one that does not do this. A ledger that
/// does not answer forbids nothing: pages then say that it does not, and acts go through it.
pub async fn check(app: &App, login: &Login, right: Right) -> Result<(), Trouble> {
    let Some(workspace) = login.acting.as_ref().filter(|_| right != Right::Own) else {
        return Ok(());
    };
    let (own, account) = (login.person.account, workspace.account);
    let refused = |what: &str, why: String, next: &str| {
        Err(Trouble::new(StatusCode::FORBIDDEN, what, why, next))
    };
    match role(app, login).await {
        Ok(Some(role)) if right.is_of(role) => Ok(()),
        Ok(Some(role)) => refused(
            "Your role does not do this",
            format!(
                "You are {} of {}, which does not do this.",
                role.name(),
                workspace.title
            ),
            "Ask its owner for another role, or choose your own account above the menu.",
        ),
        Ok(None) => {
            app.people.act_for(&login.session, None).await?;
            app.people.note_member(account, own, false).await?;
            refused(
                "You act no more for this account",
                format!(
                    "{} has taken your role back, or its time is over.",
                    workspace.title
                ),
                "You act for yourself again.",
            )
        }
        Err(error) => {
            tracing::warn!("roles are not known just now: {error}");
            Ok(())
        }
    }
}

/// Why what a session began for `owner` is over: he has logged out, acts for somebody else, or lost
/// his role. What lasts, as streams do, asks again and again.
pub async fn over(
    app: &App,
    token: &Token,
    owner: AccountId,
    right: Right,
) -> Option<&'static str> {
    let login = match app.people.login(token).await {
        Ok(login) => login.filter(|login| login.account() == owner),
        Err(error) => {
            tracing::error!("{error:#}");
            return None;
        }
    };
    match login {
        None => Some("Your session has ended."),
        Some(login) if check(app, &login, right).await.is_err() => {
            Some("Your role does not do this any more.")
        }
        Some(_) => None,
    }
}

/// The same for what no ledger looks at afterwards: a role that is not known is none, and the
/// session's own key must have it too, as where it signs.
///
/// Errors: those of [`check`], that the ledger does not answer, and that the key was taken back.
pub async fn certain(app: &App, login: &Login, right: Right) -> Result<(), Trouble> {
    let own = login.person.account;
    if let Some(workspace) = &login.acting {
        app.grants.role(own, workspace.account, now_ms(app)).await?;
    }
    check(app, login, right).await?;
    let session = AccountId::of(&login.key.public());
    match app.grants.role(session, own, now_ms(app)).await? {
        Some(role) if right.is_of(role) => Ok(()),
        _ => Err(Trouble::new(
            StatusCode::FORBIDDEN,
            "This session's key does not do this any more",
            "It was taken back, or its time is over.",
            "Log out, and log in again.",
        )),
    }
}
