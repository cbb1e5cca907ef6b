//! A command line that is not understood: said in the same words and codes as other failures,
//! and, for a word of Docker's or Compose's that is called otherwise here, with what to say.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Failure;

/// Word → why it is none here, and what to say instead.
const ELSEWHERE: [(&str, &str, &str); 17] = [
    (
        "kill",
        "a container is stopped, with its own signal and grace first",
        "Run `runrig stop JOB`, or send a signal with `runrig exec JOB -- kill -HUP 1`.",
    ),
    (
        "pause",
        "what stands still is stopped",
        "Run `runrig stop JOB`; place and data are kept.",
    ),
    (
        "unpause",
        "what stands still is stopped",
        "Run `runrig start JOB`.",
    ),
    (
        "attach",
        "a container's input is not kept open",
        "Run `runrig logs -f JOB`, or `runrig exec -it JOB -- sh`.",
    ),
    (
        "pull",
        "hosts pull what they are to run",
        "Name the image in a compose file; `runrig up` pins its digest.",
    ),
    (
        "push",
        "images are put into the network's registry",
        "Run `runrig image push REFERENCE`, or `docker save NAME | runrig image load -`.",
    ),
    (
        "load",
        "images are a noun of their own",
        "Run `runrig image load FILE`.",
    ),
    (
        "create",
        "what is deployed is started",
        "Run `runrig up`, then `runrig stop`.",
    ),
    (
        "commit",
        "a container is no image",
        "Build an image, then `runrig image load FILE`.",
    ),
    (
        "rename",
        "a project's name is its identity",
        "Run `runrig up -p NAME`, then `runrig down OLD`.",
    ),
    (
        "update",
        "what is to change is said in the compose file",
        "Change deploy.resources and run `runrig up`.",
    ),
    (
        "volume",
        "volumes belong to their project",
        "Name them in the compose file; `runrig down -v` removes them.",
    ),
    (
        "compose",
        "Compose's words are runrig's own",
        "Leave the word out: `runrig up`, `runrig ps`, `runrig logs`.",
    ),
    (
        "container",
        "containers are called by their service or allocation",
        "Leave the word out: `runrig ps`, `runrig logs JOB`.",
    ),
    ("deploy", "it is Compose's word here", "Run `runrig up`."),
    (
        "status",
        "it depends on what is meant",
        "Run `runrig ps` for what runs, `runrig chain status` for the network.",
    ),
    (
        "list",
        "it is Docker's word here",
        "Run `runrig ps`, or `runrig ls` for projects.",
    ),
];

/// What is to be said instead of clap's own error; `None` for help, the version, and mistakes
/// that clap explains best (on stderr, exit 2).
pub fn failure(error: &clap::Error, json: bool) -> Option<Failure> {
    if !error.use_stderr() {
        return None;
    }
    let word = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(word))) => word.as_str(),
        _ => "",
    };
    let known = ELSEWHERE.iter().find(|(name, ..)| *name == word);
    match known {
        Some((word, why, next)) => Some(Failure::usage(
            format!("`runrig {word}` is no command"),
            *why,
            *next,
        )),
        None if json => {
            let text = error.to_string();
            let what = text.lines().next().unwrap_or_default();
            let what = what.strip_prefix("error: ").unwrap_or(what);
            Some(Failure::usage(what, "", "See `runrig help`."))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[test]
    fn a_word_of_docker_is_answered_with_ours() {
        let error = crate::Cli::try_parse_from(["runrig", "kill", "web"]).expect_err("no command");
        let failure = failure(&error, false).expect("known");
        assert_eq!(failure.exit, 2);
        assert!(failure.next.contains("runrig stop"), "{failure}");
    }

    #[test]
    fn no_word_is_both_ours_and_elsewhere() {
        let command = crate::Cli::command();
        for (word, ..) in ELSEWHERE {
            let ours = command
                .get_subcommands()
                .any(|c| c.get_name() == word || c.get_all_aliases().any(|alias| alias == word));
            assert!(!ours, "{word}");
        }
    }

    #[test]
    fn with_json_a_mistake_is_json_and_help_is_help() {
        let wrong = crate::Cli::try_parse_from(["runrig", "ps", "--json", "--nope"]);
        let wrong = wrong.expect_err("no such flag");
        let told = failure(&wrong, true).expect("told");
        assert_eq!(told.to_json()["error"]["kind"], "usage");
        assert!(told.what.contains("--nope"), "{told}");
        assert!(failure(&wrong, false).is_none());
        let help = crate::Cli::try_parse_from(["runrig", "ps", "--help"]).expect_err("help");
        assert!(failure(&help, true).is_none());
    }
}
