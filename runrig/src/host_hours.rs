//! `host hours`: when in a week a host takes work.

use api::HostView;
use clap::Args;
use ledger::Call;
use types::Hours;

use crate::context::Session;
use crate::failure::{Failure, Result};
use crate::{output, units};

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig host hours rack-7 'mon-fri 20-8, sat-sun 0-24' --key /var/lib/runrig/host.key\n  runrig host hours rack-7 --always\n  runrig host hours rack-7\n\nHours are whole ones, in UTC; 20-8 runs over midnight. Outside them what runs there moves as with a\ndrain, what has named volumes stays, and nothing new comes; nor in the ten minutes before."
)]
pub struct HoursOf {
    /// Host, by name or id
    host: String,
    /// Days and hours; without them it says which stand
    #[arg(value_name = "HOURS", conflicts_with = "always")]
    hours: Vec<String>,
    /// Take work at any time again
    #[arg(long)]
    always: bool,
}

impl HoursOf {
    /// What is to be set, if anything is.
    fn wish(&self) -> Result<Option<Option<Hours>>> {
        if self.always {
            return Ok(Some(None));
        }
        if self.hours.is_empty() {
            return Ok(None);
        }
        // As one word or as several.
        let text = self.hours.join(" ");
        let hours = text.parse::<Hours>().map_err(|wrong| {
            Failure::usage(
                "the hours cannot be read",
                wrong.to_string(),
                format!(
                    "Write days and hours: runrig host hours {} 'mon-fri 20-8, sat-sun 0-24'",
                    self.host
                ),
            )
        })?;
        Ok(Some(Some(hours)))
    }
}

/// Errors: `USAGE` if the text is none; what the ledger refuses.
pub async fn hours(session: &Session, args: &HoursOf, json: bool) -> Result {
    let wish = args.wish()?;
    let mut host = session.client.host(&args.host).await?;
    if let Some(hours) = wish {
        let call = Call::Host(ledger::host::Call::SetHours {
            host: host.host,
            hours,
        });
        session.submit(call).await?;
        host = session.client.host(&host.host.to_string()).await?;
    }
    match (json, wish) {
        (true, _) => output::json(&host),
        (false, Some(_)) => output::say(words(&host)),
        (false, None) => output::data(words(&host)),
    }
    Ok(())
}

fn words(host: &HostView) -> String {
    let Some(hours) = &host.hours else {
        return format!("{} takes work at any time", host.name);
    };
    let now = match (closed(host), hours.changes_after(units::now_ms())) {
        (Some(closed), _) => match host.allocations {
            0 => format!("{closed}, nothing is left there"),
            1 => format!("{closed}, 1 replica is left there"),
            left => format!("{closed}, {left} replicas are left there"),
        },
        (None, Some(ms)) => format!("open until {}", Hours::moment(ms)),
        (None, None) => "open".into(),
    };
    format!("{} takes work {hours} (UTC): {now}", host.name)
}

/// `closed until Mon 20:00 UTC`, of one that is outside its hours.
pub fn closed(host: &HostView) -> Option<String> {
    let until = host.closed_until_ms(units::now_ms())?;
    Some(format!("closed until {}", Hours::moment(until)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_one_word_or_several() {
        let wish = |hours: &[&str], always| {
            let args = HoursOf {
                host: "rack-7".into(),
                hours: hours.iter().map(ToString::to_string).collect(),
                always,
            };
            args.wish()
        };
        let said = |hours: &[&str]| wish(hours, false).ok().flatten().flatten();
        let one = said(&["mon-fri 20-8, sat-sun 0-24"]);
        assert!(one.is_some());
        assert_eq!(said(&["mon-fri", "20-8,", "sat-sun", "0-24"]), one);
        assert_eq!(wish(&[], true).ok(), Some(Some(None)));
        assert_eq!(wish(&[], false).ok(), Some(None));
        assert!(wish(&["never"], false).is_err());
    }
}
