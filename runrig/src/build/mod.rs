//! `build`, and what `up` does with `build:`.
//!
//! The recipe is read, the context packed, the base images pinned; if an image of the same
//! inputs is in the registry, that is it. Else what is packed goes there, and a host that
//! offers building makes the image as a deployment of its own.

mod ignore;
mod job;
mod recipe;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use images::{ImageError, NETWORK_REGISTRY, Pack};
use manifest::{BuildContext, BuildDraft, CONTENT, Project, PullPolicy};
use rand::Rng;
use serde_json::json;
use types::{
    Amount, BuildSpec, CONTEXT, CONTEXTS, DeploymentSpec, Digest, ImageMount, ImageRef,
    MountSource, MountSpec, NetworkSpec, RECIPE, RestartPolicy, ServiceSpec,
};

use self::ignore::Ignore;
use self::recipe::Recipe;
use crate::compose_file::{ComposeFiles, read_project};
use crate::context::Session;
use crate::failure::{self, Failure, Result};
use crate::up::Terms;
use crate::{content, image, output, secret};

/// Of a Dockerfile, of a .dockerignore.
const TEXT_BYTES_MAX: u64 = 1 << 20;
const PIDS: u32 = 4_096;

#[derive(Args, Debug)]
#[command(
    before_help = "Examples:\n  runrig build\n  runrig build web --no-cache --build-arg MODE=dev"
)]
pub struct Build {
    #[command(flatten)]
    compose: ComposeFiles,
    /// Services whose images are built; all if not said
    services: Vec<String>,
    /// Do every step anew
    #[arg(long)]
    no_cache: bool,
    /// A build argument over those of the file; from the environment without a value
    #[arg(long = "build-arg", value_name = "NAME[=VALUE]")]
    build_args: Vec<String>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Refuse above so many credits per hour; the quoted price if not said
    #[arg(long, value_name = "CREDITS")]
    max_price: Option<Amount>,
    /// Base images are looked up at every build
    #[arg(long, hide = true)]
    pull: bool,
}

/// When something is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// There is no image of the same inputs yet.
    Missing,
    Always,
    /// The newest that there is is taken.
    Never,
    /// Nothing is sent; what is not there yet has a digest that stands for it.
    Pretended,
}

pub struct How {
    pub when: When,
    pub no_cache: bool,
    pub args: BTreeMap<String, String>,
    pub terms: Terms,
    /// Of the services that are built; all if empty.
    pub only: BTreeSet<String>,
}

pub async fn build(session: &Session, args: &Build, json: bool) -> Result {
    let project = read_project(&args.compose)?;
    let services: BTreeSet<String> = args.services.iter().cloned().collect();
    let known = project.builds();
    if let Some(unknown) = services.iter().find(|s| !known.contains_key(s.as_str())) {
        return Err(Failure::usage(
            format!("\"{unknown}\""),
            "no service of that name has build:",
            "See the compose file.",
        ));
    }
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) => Some((name.to_string(), value.to_string())),
        None => Some((text.clone(), std::env::var(text).ok()?)),
    };
    let how = How {
        when: When::Always,
        no_cache: args.no_cache,
        args: args.build_args.iter().filter_map(pair).collect(),
        terms: Terms {
            yes: args.yes,
            max_price: args.max_price,
            command: "build",
            brief: true,
        },
        only: services,
    };
    let built = built(session, &project, &how).await?;
    if built.is_empty() {
        output::say("nothing has build: here");
    }
    if json {
        let all: Vec<_> = built
            .iter()
            .map(|(name, i)| json!({"image": name, "reference": i.reference, "digest": i.digest}))
            .collect();
        output::json(&all);
        return Ok(());
    }
    for (name, image) in &built {
        output::data(format!("{name}  {}", image.digest));
    }
    Ok(())
}

/// The images that the project's builds make, by what they are called in it.
pub async fn built(
    session: &Session,
    project: &Project,
    how: &How,
) -> Result<BTreeMap<String, ImageRef>> {
    let builds = project.builds();
    let mut left: BTreeSet<&str> = builds
        .keys()
        .copied()
        .filter(|name| how.only.is_empty() || how.only.contains(*name))
        .collect();
    // Whose images others begin with are built too.
    let mut waiting: Vec<&str> = left.iter().copied().collect();
    while let Some(name) = waiting.pop() {
        for needed in builds[name].1.services() {
            if left.insert(needed) {
                waiting.push(needed);
            }
        }
    }
    let mut done: BTreeMap<&str, ImageRef> = BTreeMap::new();
    while let Some(name) = left
        .iter()
        .copied()
        .find(|name| builds[name].1.services().all(|s| done.contains_key(s)))
    {
        left.remove(name);
        let (image, draft) = builds[name];
        // Two services may be one image.
        let same = builds
            .iter()
            .find(|(other, _)| done.contains_key(*other) && builds[**other] == (image, draft));
        let made = match same {
            Some((other, _)) => done[*other].clone(),
            None => {
                let one = One {
                    session,
                    project,
                    name,
                    image,
                    draft,
                };
                one.made(how, &done).await?
            }
        };
        done.insert(name, made);
    }
    let named = done.into_iter();
    Ok(named
        .map(|(name, made)| (builds[name].0.to_string(), made))
        .collect())
}

/// One image to be made.
struct One<'a> {
    session: &'a Session,
    project: &'a Project,
    name: &'a str,
    image: &'a str,
    draft: &'a BuildDraft,
}

/// Packed, not sent.
struct Packed {
    recipe: Pack,
    context: Pack,
    further: BTreeMap<String, Pack>,
}

impl One<'_> {
    fn folder(&self) -> PathBuf {
        Path::new(&self.project.folder).join(&self.draft.context)
    }

    async fn made(&self, how: &How, done: &BTreeMap<&str, ImageRef>) -> Result<ImageRef> {
        let account = self.session.account()?;
        let (path, tag) = image::target(self.image)?;
        let reference = format!("{NETWORK_REGISTRY}/{account}/{path}:{tag}");
        if how.when == When::Never {
            let newest = image::resolve(self.session, &reference).await;
            return newest.map_err(|error| match error.exit {
                failure::NOT_FOUND => Failure::new(
                    failure::NOT_FOUND,
                    format!("{} is not built", self.name),
                    format!("there is no {path}:{tag} among your images"),
                    "Leave --no-build out.",
                ),
                _ => error,
            });
        }
        let (file, text, ignore) = self.texts()?;
        let problem = |wrong: recipe::Wrong| {
            Failure::usage(
                format!("{}:{}", file.display(), wrong.line),
                wrong.what,
                "Correct the line; nothing was changed.",
            )
        };
        let recipe = Recipe::parse(&text).map_err(problem)?;
        let mut args = self.draft.args.clone();
        args.extend(how.args.clone());
        let contexts: BTreeSet<String> = self.draft.contexts.keys().cloned().collect();
        let target = self.draft.target.as_deref();
        let words = recipe.bases(&args, target, &contexts).map_err(problem)?;
        let bases = self.bases(words, done).await?;
        let mut packed = self.pack(text.clone(), ignore).await?;
        let inputs = self.inputs(&packed, &bases, &args);
        let own = format!("in-{}", &inputs.hex()[..32]);
        let known = format!("{NETWORK_REGISTRY}/{account}/{path}:{own}");
        let find = || image::own(self.session, &known);
        let named = |digest| ImageRef {
            reference: reference.clone(),
            digest,
        };
        let always = self.project.services[self.name].pull == PullPolicy::Build;
        if how.when != When::Always
            && !always
            && let Some(found) = find().await?
        {
            output::say(format!(
                "{}: {path}:{tag} is built of these inputs already",
                self.name
            ));
            return Ok(named(found.digest));
        }
        if how.when == When::Pretended {
            output::say(format!("{}: {path}:{tag} would be built", self.name));
            return Ok(named(inputs));
        }
        if !self.draft.anew.is_empty() {
            let mark = format!("RUNRIG_ANEW={:016x}", rand::rng().random::<u64>());
            let text = recipe.anew(&text, &self.draft.anew, &mark);
            let text = text.map_err(problem)?;
            packed.recipe = images::pack_text(text.as_bytes(), CONTENT, None)?;
        }
        let mut outputs = BTreeSet::from([format!("{path}:{tag}"), format!("{path}:{own}")]);
        for further in &self.draft.tags {
            let (path, tag) = image::target(further)?;
            outputs.insert(format!("{path}:{tag}"));
        }
        let build = BuildSpec {
            outputs,
            bases,
            contexts: packed.further.keys().cloned().collect(),
            target: self.draft.target.clone(),
            args,
            labels: self.draft.labels.clone(),
            secrets: self.draft.secrets.keys().cloned().collect(),
            no_cache: how.no_cache || self.draft.no_cache,
            seconds_max: self.draft.seconds_max,
        };
        let spec = self.spec(build, packed).await?;
        let file = file.file_name().unwrap_or_default().to_string_lossy();
        job::build(self.session, self.name, spec, &how.terms, (&recipe, &file)).await?;
        let made = find().await?.ok_or_else(|| {
            Failure::new(
                failure::FAILED,
                format!("{} is not built", self.name),
                format!("its host says so, but {known} is not in the registry"),
                "Try again; see `runrig image ls`.",
            )
        })?;
        output::say(format!("{}: {path}:{tag} is {}", self.name, made.digest));
        Ok(named(made.digest))
    }

    /// The Dockerfile's path and text, and what is ignored.
    fn texts(&self) -> Result<(PathBuf, String, Ignore)> {
        let folder = self.folder();
        let unreadable = |path: &Path, why: String| {
            Failure::usage(
                format!("{} of service {}", path.display(), self.name),
                why,
                "Correct build: in the compose file; nothing was changed.",
            )
        };
        if !folder.is_dir() {
            return Err(unreadable(&folder, "there is no such folder".into()));
        }
        let read = |path: &Path| -> Result<Option<String>> {
            let file = match std::fs::File::open(path) {
                Ok(file) => file,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(unreadable(path, e.to_string())),
            };
            let mut text = String::new();
            let read = file.take(TEXT_BYTES_MAX + 1).read_to_string(&mut text);
            match read {
                Err(e) => Err(unreadable(path, e.to_string())),
                Ok(bytes) if bytes as u64 > TEXT_BYTES_MAX => {
                    Err(unreadable(path, "it is larger than 1 MiB".into()))
                }
                Ok(_) => Ok(Some(text)),
            }
        };
        let (file, text) = match &self.draft.recipe {
            manifest::Recipe::Inline(text) => (folder.join("dockerfile_inline"), text.clone()),
            manifest::Recipe::File(named) => {
                let names = match named {
                    Some(name) => vec![name.as_str()],
                    None => vec!["Dockerfile", "Containerfile"],
                };
                let mut found = None;
                for name in &names {
                    let path = folder.join(name);
                    if let Some(text) = read(&path)? {
                        found = Some((path, text));
                        break;
                    }
                }
                found.ok_or_else(|| {
                    unreadable(&folder.join(names[0]), "there is no such file".into())
                })?
            }
        };
        let mut beside = file.clone().into_os_string();
        beside.push(".dockerignore");
        let mut ignore = Ignore::default();
        for path in [beside.into(), folder.join(".dockerignore")] {
            if let Some(text) = read(&path)? {
                ignore = Ignore::parse(&text).map_err(|why| unreadable(&path, why))?;
                break;
            }
        }
        Ok((file, text, ignore))
    }

    /// The images that the recipe begins with, by digest.
    async fn bases(
        &self,
        words: BTreeMap<String, String>,
        done: &BTreeMap<&str, ImageRef>,
    ) -> Result<BTreeMap<String, ImageRef>> {
        let mut bases = BTreeMap::new();
        for (word, reference) in words {
            let base = image::resolve(self.session, &reference).await?;
            bases.insert(word, base);
        }
        for (name, context) in &self.draft.contexts {
            let base = match context {
                BuildContext::Folder(_) => continue,
                BuildContext::Image(reference) => image::resolve(self.session, reference).await?,
                BuildContext::Service(service) => done[service.as_str()].clone(),
            };
            bases.insert(name.clone(), base);
        }
        Ok(bases)
    }

    async fn pack(&self, text: String, ignore: Ignore) -> Result<Packed> {
        let context = self.folder();
        let further = self.draft.contexts.iter().filter_map(|(name, c)| match c {
            BuildContext::Folder(path) => {
                let path = Path::new(&self.project.folder).join(path);
                Some((name.clone(), path))
            }
            _ => None,
        });
        let further: BTreeMap<String, PathBuf> = further.collect();
        let packed = tokio::task::spawn_blocking(move || {
            let pack = |path: &Path, ignore: &Ignore| images::pack_context(path, CONTENT, ignore);
            let further = further.into_iter();
            Ok::<_, ImageError>(Packed {
                recipe: images::pack_text(text.as_bytes(), CONTENT, None)?,
                context: pack(&context, &ignore)?,
                further: further
                    .map(|(name, path)| Ok((name, pack(&path, &Ignore::default())?)))
                    .collect::<std::result::Result<_, ImageError>>()?,
            })
        });
        Ok(packed.await.map_err(anyhow::Error::from)??)
    }

    /// Digest of all that the image depends on.
    fn inputs(
        &self,
        packed: &Packed,
        bases: &BTreeMap<String, ImageRef>,
        args: &BTreeMap<String, String>,
    ) -> Digest {
        let bases: BTreeMap<&String, Digest> = bases.iter().map(|(w, b)| (w, b.digest)).collect();
        let further = packed.further.iter().map(|(name, p)| (name, p.content));
        let further: BTreeMap<&String, Digest> = further.collect();
        let content = (packed.recipe.content, packed.context.content, further);
        Digest::of_value(
            "runrig-inputs",
            &(content, bases, args, self.draft.digest()),
        )
    }

    /// The deployment that builds; what is packed is in the registry then.
    async fn spec(&self, build: BuildSpec, packed: Packed) -> Result<DeploymentSpec> {
        let mount = |target: String, image: &ImageRef| MountSpec {
            source: MountSource::Image(ImageMount {
                image: image.clone(),
                path: CONTENT.into(),
            }),
            target,
            read_only: true,
        };
        let keep = async |what: &str, pack| {
            let what = format!("{what} of {}", self.name);
            content::kept(self.session, content::REPOSITORY, pack, Some(&what)).await
        };
        let context = keep("the context", packed.context).await?;
        let mut mounts = vec![
            mount(CONTEXT.into(), &context),
            mount(RECIPE.into(), &keep("the Dockerfile", packed.recipe).await?),
        ];
        for (name, pack) in packed.further {
            let target = format!("{CONTEXTS}/{name}");
            mounts.push(mount(target, &keep(&name, pack).await?));
        }
        mounts.extend(secret::of_build(self.session, self.project, self.draft).await?);
        let mut service = ServiceSpec {
            image: context,
            mounts,
            restart: RestartPolicy::No,
            resources: self.draft.resources,
            pids: PIDS,
            stop_grace_ms: 2_000,
            build: Some(build),
            process: self.draft.process.clone(),
            ..ServiceSpec::default()
        };
        let mut networks = BTreeMap::new();
        if self.draft.offline {
            networks.insert("default".to_string(), NetworkSpec { internal: true });
            service.networks.insert("default".into(), Vec::new());
        }
        service.names.extra_hosts = self.draft.extra_hosts.clone();
        let constraints = &mut service.placement.constraints;
        constraints.extend(self.draft.platform.clone());
        // Two builds of one project at a time are two.
        let number: u16 = rand::rng().random();
        let project: String = self.project.name.chars().take(28).collect();
        let project = format!(
            "build-{}-{number:04x}",
            project.trim_end_matches(['-', '_'])
        );
        Ok(DeploymentSpec {
            project,
            services: [(self.name.to_string(), service)].into(),
            networks,
            volumes: BTreeMap::new(),
            logs: types::LogPolicy::default(),
        })
    }
}
