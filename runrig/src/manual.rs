//! Pages for people and shells, made of the one definition of the command line.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::failure::{Failure, Result};
use crate::output;

#[derive(Args, Debug)]
#[command(before_help = "Examples:\n  runrig man ~/.local/share/man/man1\n  man runrig-up")]
pub struct Man {
    /// Folder that the pages are written to
    dir: PathBuf,
}

/// One page for each command: `runrig.1`, `runrig-up.1`, …
pub fn man(args: &Man, json: bool) -> Result {
    let written = std::fs::create_dir_all(&args.dir)
        .and_then(|()| clap_mangen::generate_to(crate::Cli::command(), &args.dir));
    written.map_err(|e| {
        Failure::usage(
            format!("manual pages in {}", args.dir.display()),
            e.to_string(),
            "Name a folder that you may write to.",
        )
    })?;
    let pages = std::fs::read_dir(&args.dir).map_err(anyhow::Error::from)?;
    let pages = pages.flatten().filter(|page| {
        let name = page.file_name();
        name.to_string_lossy().starts_with("runrig") && page.path().extension().is_some()
    });
    let count = pages.count();
    if json {
        output::json(&serde_json::json!({"dir": args.dir, "pages": count}));
    } else {
        output::say(format!("{count} pages in {}", args.dir.display()));
    }
    Ok(())
}
