//! What the services of a job are told when they start: variables with their values, secrets by
//! name. From the releases, which the ledger keeps for everybody to read.

use api::{DeploymentView, ReleaseView};
use axum::extract::{Path, State};
use maud::{Markup, html};
use types::{DeploymentSpec, SecretMount, ServiceSpec};

use super::job::head;
use super::jobs::{address, own_deployment};
use super::shown;
use crate::app::App;
use crate::ui::{Place, Tone, alert, cli, empty};
use crate::web::{Page, Visitor};

/// The repository of secrets that are kept outside of projects, as references name it.
const OUTSIDE: &str = "/external-secrets";

/// Since which release something is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    Release(u32),
    /// As it was in this one already, and none before is kept.
    OrBefore(u32),
}

/// `releases`: the latest first. `None`: the latest does not have it.
fn since<'a, T: PartialEq>(
    releases: &'a [ReleaseView],
    of: impl Fn(&'a DeploymentSpec) -> Option<T>,
) -> Option<Since> {
    let is = of(&releases.first()?.spec)?;
    let same = releases
        .iter()
        .take_while(|r| of(&r.spec).as_ref() == Some(&is));
    let (count, first) = same.fold((0, 0), |(count, _), r| (count + 1, r.release));
    Some(match count == releases.len() && first > 1 {
        true => Since::OrBefore(first),
        false => Since::Release(first),
    })
}

fn words(since: Option<Since>) -> Markup {
    html! {
        @match since {
            Some(Since::Release(1)) => { "Release 1, the first" }
            Some(Since::Release(release)) => { "Release " (release) }
            Some(Since::OrBefore(release)) => { "Release " (release) " or before" }
            None => { span.unknown { "not known" } }
        }
    }
}

fn is_outside(secret: &SecretMount) -> bool {
    secret.image.reference.contains(OUTSIDE)
}

fn service_card(name: &str, service: &ServiceSpec, releases: &[ReleaseView]) -> Markup {
    let variable = |variable: &str| {
        since(releases, |spec| {
            spec.services.get(name)?.environment.get(variable)
        })
    };
    // Equal marks, equal values.
    let secret = |secret: &str| {
        since(releases, |spec| {
            let mut all = spec.services.get(name)?.secrets();
            all.find(|s| s.name == secret).map(|s| s.mark)
        })
    };
    let secrets: Vec<(&SecretMount, &str)> = service
        .mounts
        .iter()
        .filter_map(|mount| match &mount.source {
            types::MountSource::Secret(secret) => Some((secret, mount.target.as_str())),
            _ => None,
        })
        .collect();
    html! {
        section.card.flush {
            header { div { h2.wrap { (name) } p.sub { "What its replicas are told when they start; its image may say more" } } }
            @if service.environment.is_empty() && secrets.is_empty() { (empty("key-round", "Nothing", "This service has neither variables nor secrets of its own.", None)) }
            @if !service.environment.is_empty() { div.tablewrap { table.cards {
                thead { tr { th { "Variable" } th { "Value" } th { "As it is since" } } }
                tbody { @for (key, value) in &service.environment { tr {
                    td.wrap { span.mono.strong { (key) } }
                    td.wrap.mono data-l="Value" { @if value.is_empty() { span.dim { "empty" } } @else { (value) } }
                    td data-l="As it is since" { (words(variable(key))) }
                } } }
            } } }
            @if !secrets.is_empty() { div.tablewrap { table.cards {
                thead { tr { th { "Secret" } th { "Read from" } th { "Kept" } th { "As it is since" } } }
                tbody { @for (one, target) in &secrets { tr {
                    td.wrap { span.mono.strong { (one.name) } }
                    td.wrap.mono data-l="Read from" { (target) }
                    td data-l="Kept" { @if is_outside(one) { "Outside of the project" } @else { "With the project" } }
                    td data-l="As it is since" { (words(secret(&one.name))) }
                } } }
            } } }
        }
    }
}

fn content(view: &DeploymentView, releases: &[ReleaseView]) -> Markup {
    let outside: std::collections::BTreeSet<&str> = view
        .spec
        .services
        .values()
        .flat_map(ServiceSpec::secrets)
        .filter(|s| is_outside(s))
        .map(|s| s.name.as_str())
        .collect();
    html! {
        (alert(Tone::Info, html! {
            p.strong { "Variables are public, secrets are not" }
            p { "Whoever reads the ledger reads variables, in every release that had them. A secret is opened in memory on the hosts of its replicas alone: nobody is shown its value, here or elsewhere. " a href="/docs/secrets" { "How to keep secrets" } }
        }))
        div.stack { @for (name, service) in &view.spec.services { (service_card(name, service, releases)) } }
        p.foot-note { "To change a variable, edit " a href=(format!("{}/compose", address(&view.project, view.deployment))) { "the compose file" } "; to change a secret, its file, and deploy again: a release like any other." }
        (cli("runrig up -f compose.yaml"))
        @for name in outside { (cli(&format!("runrig secret create {name}"))) }
        (cli(&format!("runrig diff {}", view.project)))
    }
}

/// `GET /jobs/{name}/variables`
pub async fn page(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    let releases = app.client.releases(view.deployment).await?;
    let content = html! {
        (head(&visitor, &view, "/variables"))
        (content(&view, &releases))
    };
    let title = format!("Variables of {name}");
    shown(&app, &visitor, Place::Jobs, &title, content).await
}

#[cfg(test)]
mod tests {
    use ledger::deployment::Cause;
    use types::{AccountId, Digest, ImageRef, MountSource, MountSpec};

    use super::*;
    use crate::hostile_tests::deployment;
    use crate::tests::EVIL;

    fn secret(name: &str, mark: u8, repository: &str) -> MountSpec {
        MountSpec {
            source: MountSource::Secret(SecretMount {
                name: name.into(),
                image: ImageRef {
                    reference: format!("network/ab{repository}:1"),
                    digest: Digest([0xab; 32]),
                },
                mark: Digest([mark; 32]),
                uid: None,
                gid: None,
                mode: 0o400,
            }),
            target: format!("/run/secrets/{name}"),
            read_only: true,
        }
    }

    fn release(number: u32, colour: &str, mark: u8) -> ReleaseView {
        let service = ServiceSpec {
            environment: [
                ("COLOUR".to_string(), colour.to_string()),
                ("MODE".into(), String::new()),
            ]
            .into(),
            mounts: vec![
                secret("pass", mark, "/secrets"),
                secret("npm", 7, "/external-secrets"),
            ],
            ..ServiceSpec::default()
        };
        ReleaseView {
            release: number,
            made_ms: 0,
            cause: Cause::Deployed,
            latest: false,
            good: false,
            spec: DeploymentSpec {
                services: [("web".to_string(), service)].into(),
                ..deployment(AccountId::default()).spec
            },
        }
    }

    #[test]
    fn each_says_which_release_set_it_and_a_secret_only_its_name() {
        let colour =
            |spec: &'static DeploymentSpec| spec.services.get("web")?.environment.get("COLOUR");
        let of = |releases: Vec<ReleaseView>| since(Vec::leak(releases), colour);
        let first = || release(1, "red", 1);
        assert_eq!(of(Vec::new()), None);
        assert_eq!(of(vec![first()]), Some(Since::Release(1)));
        let back = vec![release(3, "red", 1), release(2, "blue", 1), first()];
        assert_eq!(of(back), Some(Since::Release(3)));
        let kept = vec![release(9, "red", 1), release(8, "red", 1)];
        assert_eq!(of(kept), Some(Since::OrBefore(8)));

        let releases = [release(3, "blue", 2), release(2, "blue", 1), first()];
        let view = DeploymentView {
            spec: releases[0].spec.clone(),
            ..deployment(AccountId::default())
        };
        let text = content(&view, &releases).into_string();
        let row = |name: &str| {
            let (_, rest) = text.split_once(&format!(">{name}</span>")).expect(name);
            rest.split("</tr>").next().unwrap_or("").to_string()
        };
        assert!(row("COLOUR").contains("blue") && row("COLOUR").contains("Release 2"));
        assert!(row("MODE").contains("empty") && row("MODE").contains("the first"));
        assert!(row("pass").contains("/run/secrets/pass") && row("pass").contains("Release 3"));
        assert!(row("npm").contains("Outside of the project"));
        assert!(text.contains("runrig secret create npm") && !text.contains("create pass"));
        for mark in [Digest([2; 32]), Digest([7; 32])] {
            assert!(!text.contains(&mark.hex()), "a mark");
        }
    }

    #[test]
    fn hostile_names_are_text_and_nothing_is_said_to_be_nothing() {
        let view = deployment(AccountId::default());
        let text = content(&view, &[]).into_string();
        assert!(!text.contains(EVIL) && text.contains("not known"), "{text}");
        let mut bare = view.clone();
        for service in bare.spec.services.values_mut() {
            service.environment.clear();
        }
        assert!(content(&bare, &[]).into_string().contains("neither"));
    }
}
