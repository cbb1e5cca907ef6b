//! `config`: the compose files as one, for people, for scripts, and for other programs.

use clap::{Args, ValueEnum};
use manifest::{Normal, Plain};
use serde_json::{Value, json};
use types::Digest;

use crate::compose_file::{ComposeFiles, read_normal};
use crate::failure::{Failure, Result};
use crate::output;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig config\n  runrig config -f compose.yaml -f production.yaml --format json\n  runrig config --services"
)]
pub struct Config {
    #[command(flatten)]
    compose: ComposeFiles,
    #[arg(long, value_enum, default_value_t = Format::Yaml)]
    format: Format,
    /// Only the names of the services
    #[arg(long, conflicts_with_all = ["images", "volumes", "hash"])]
    services: bool,
    /// Only the names of the images
    #[arg(long, conflicts_with_all = ["volumes", "hash"])]
    images: bool,
    /// Only the names of the volumes
    #[arg(long, conflicts_with = "hash")]
    volumes: bool,
    /// Only a digest of what is said of each service, or of one
    #[arg(long, value_name = "SERVICE", num_args = 0..=1, default_missing_value = "*")]
    hash: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Yaml,
    Json,
}

/// Prints what the files come to, then fails if `up` would refuse it.
pub fn config(args: &Config, json: bool) -> Result {
    let (normal, checked) = read_normal(&args.compose)?;
    let none = std::collections::BTreeMap::new();
    let section = |name: &str| match normal.whole.get(name) {
        Some(Plain::Map(entries)) => entries,
        _ => &none,
    };
    let services = section("services");
    if let Some(wanted) = &args.hash {
        if wanted != "*" && !services.contains_key(wanted) {
            return Err(Failure::usage(
                format!("\"{}\"", output::printable(wanted)),
                "no service of that name takes part",
                "See `runrig config --services`.",
            ));
        }
        for (name, service) in services
            .iter()
            .filter(|(n, _)| wanted == "*" || *n == wanted)
        {
            let digest = Digest::of(service.yaml().as_bytes());
            output::data(format!("{name} {}", digest.hex()));
        }
    } else if args.services || args.volumes {
        let of = if args.services { "services" } else { "volumes" };
        section(of).keys().for_each(output::data);
    } else if args.images {
        for (name, service) in services {
            output::data(image(&normal, name, service));
        }
    } else if json || args.format == Format::Json {
        output::json(&value(&normal.whole));
    } else {
        output::data(normal.whole.yaml().trim_end());
    }
    checked
}

fn image(normal: &Normal, name: &str, service: &Plain) -> String {
    match service.get("image") {
        Some(Plain::Text(image)) => image.clone(),
        // As what it builds is called.
        _ => format!("{}-{name}", normal.name),
    }
}

fn value(plain: &Plain) -> Value {
    match plain {
        Plain::Null => Value::Null,
        Plain::Bool(yes) => json!(yes),
        Plain::Number(number) => json!(number),
        // As in YAML: read again, it is not filled in a second time.
        Plain::Text(text) => json!(text.replace('$', "$$")),
        Plain::List(items) => items.iter().map(value).collect(),
        Plain::Map(entries) => {
            let entries = entries.iter();
            entries.map(|(key, v)| (key.clone(), value(v))).collect()
        }
    }
}
