//! How the services of a job are reached, whom they reach, and what they keep: by its specification
//! and where its replicas are.

use std::collections::BTreeSet;

use api::DeploymentView;
use axum::extract::{Path, State};
use maud::{Markup, html};
use types::{MountSource, MountSpec, ServiceSpec};
use words::bytes;

use super::job::{addresses, head};
use super::jobs::{live, own_deployment};
use super::shown;
use crate::app::App;
use crate::ui::{Place, cli, copy, empty};
use crate::web::{Page, Visitor};

fn ports(view: &DeploymentView, urls: &[(String, String)]) -> Markup {
    let services = || {
        let all = view.spec.services.iter();
        all.filter(|(_, s)| !s.ports.is_empty() || !s.expose.is_empty())
    };
    html! {
        section.card.flush {
            header { div { h2 { "Ports" } p.sub { "Through the network's gateway, by port or by name" } } }
            @if services().next().is_none() { (empty("globe", "None", "No service publishes or exposes a port: nobody outside reaches this job.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Service" } th { "Port in the container" } th { "On the gateway" } } }
                tbody { @for (name, service) in services() {
                    @for port in &service.ports { tr {
                        td.wrap { span.strong { (name) } }
                        td.mono data-l="Port in the container" { (port.target) "/" (port.protocol) }
                        td data-l="On the gateway" { @match port.published { Some(published) => { span.mono { (published) "/" (port.protocol) } } None => { "by name only" } } }
                    } }
                    @for port in &service.expose { tr {
                        td.wrap { span.strong { (name) } }
                        td.mono data-l="Port in the container" { (port) "/tcp" }
                        td data-l="On the gateway" { "by name only" }
                    } }
                } }
            } } }
            @if !urls.is_empty() { ul.feed { @for (service, url) in urls { li { div.tx { span.wrap { a href=(url) rel="noreferrer" { (url) } } span.second.wrap { (service) } } (copy(url, "the address")) } } } }
        }
    }
}

/// Names by which the others on a network reach a service.
fn names(name: &str, further: &[String]) -> String {
    let all: BTreeSet<&str> = std::iter::once(name)
        .chain(further.iter().map(String::as_str))
        .collect();
    all.into_iter().collect::<Vec<_>>().join(", ")
}

fn networks(view: &DeploymentView) -> Markup {
    let services = &view.spec.services;
    let offline: Vec<&str> = services
        .iter()
        .filter(|(_, s)| s.offline)
        .map(|(name, _)| name.as_str())
        .collect();
    html! {
        section.card.flush {
            header { div { h2 { "Private networks" } p.sub { "Encrypted between hosts, and of this job alone: services of one network reach each other by name" } } }
            @if view.spec.networks.is_empty() { (empty("network", "None", "No service has a network to others.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Network" } th { "Who is in it" } th { "Answers to" } th { "Way out" } } }
                tbody { @for (network, spec) in &view.spec.networks {
                    @let members: Vec<_> = services.iter().filter_map(|(name, s)| Some((name, s.networks.get(network)?))).collect();
                    @if members.is_empty() { tr { td.wrap { span.strong { (network) } } td.dim data-l="Who is in it" { "nobody" } td data-l="Answers to" { "–" } td data-l="Way out" { (way_out(spec.internal)) } } }
                    @for (name, further) in members { tr {
                        td.wrap { span.strong { (network) } }
                        td.wrap data-l="Who is in it" { (name) }
                        td.wrap.mono data-l="Answers to" { (names(name, further)) }
                        td data-l="Way out" { (way_out(spec.internal)) }
                    } }
                } }
            } } }
            @if !offline.is_empty() { p.foot-note.wrap { "Without any network, by their own wish: " (offline.join(", ")) } }
        }
    }
}

fn way_out(internal: bool) -> &'static str {
    if internal { "none" } else { "to the internet" }
}

/// What a mount keeps and how long, of those that a service can write to.
fn kept(mount: &MountSpec) -> Option<(String, &'static str)> {
    match &mount.source {
        MountSource::Volume(name) => Some((name.clone(), "a named volume")),
        MountSource::Part(part) => Some((
            format!("{}/{}", part.volume, part.path),
            "in a named volume",
        )),
        MountSource::Anonymous => Some(("–".into(), "goes with the container")),
        MountSource::Tmpfs(memory) if memory.bytes > 0 => Some((
            bytes(memory.bytes.into()),
            "in memory, goes with the container",
        )),
        MountSource::Tmpfs(_) => Some(("–".into(), "in memory, goes with the container")),
        MountSource::Image(_) | MountSource::Secret(_) => None,
    }
}

fn volumes(view: &DeploymentView) -> Markup {
    let hosts = |service: &str| {
        let on: BTreeSet<&str> = live(view)
            .filter(|a| a.service == service)
            .map(|a| a.host_name.as_str())
            .collect();
        on.into_iter().collect::<Vec<_>>().join(", ")
    };
    let mounts: Vec<_> = view
        .spec
        .services
        .iter()
        .flat_map(|(name, s)| {
            let all = s.mounts.iter();
            all.filter_map(move |m| Some((name, m, kept(m)?)))
        })
        .collect();
    let used: BTreeSet<&String> = mounts
        .iter()
        .filter_map(|(_, mount, _)| mount.source.volume())
        .collect();
    let unused: Vec<&str> = view
        .spec
        .volumes
        .keys()
        .filter(|name| !used.contains(name))
        .map(String::as_str)
        .collect();
    html! {
        section.card.flush {
            header {
                div { h2 { "Volumes" } p.sub { "A named volume lies on the host of its replica and nowhere else; how much is in it is not known here" } }
                div.more { a href="/docs/volumes" { "Back up a volume" } }
            }
            @if mounts.is_empty() { (empty("hard-drive", "None", "No service keeps anything beside its image.", None)) }
            @else { div.tablewrap { table.cards {
                thead { tr { th { "Volume" } th { "What it is" } th { "Service" } th { "In the container" } th { "On" } } }
                tbody { @for (service, mount, (volume, what)) in &mounts { tr {
                    td.wrap { span.strong { (volume) } }
                    td data-l="What it is" { (what) @if mount.read_only { ", read-only" } }
                    td.wrap data-l="Service" { (service) }
                    td.wrap.mono data-l="In the container" { (mount.target) }
                    td.wrap data-l="On" { @let on = hosts(service); @if on.is_empty() { span.dim { "no host now" } } @else { (on) } }
                } } }
            } } }
            @if !unused.is_empty() { p.foot-note.wrap { "Declared, and mounted by no service: " (unused.join(", ")) } }
        }
    }
}

/// A port of it that somebody may want to reach from his own machine.
fn port_of(service: &ServiceSpec) -> Option<u16> {
    let tcp = |p: &&types::PortSpec| p.protocol == types::Protocol::Tcp;
    let published = service.ports.iter().find(tcp).map(|p| p.target);
    published.or(service.expose.first().copied())
}

fn lines(view: &DeploymentView) -> Markup {
    let project = &view.project;
    let reached = view
        .spec
        .services
        .iter()
        .find_map(|(name, s)| Some((name, port_of(s)?)));
    let keeps = view.spec.services.iter().find_map(|(name, s)| {
        let mut named = s.mounts.iter().filter(|m| m.source.volume().is_some());
        Some((name, &named.next()?.target))
    });
    html! {
        (cli(&format!("runrig port {project}")))
        @if let Some((service, port)) = reached { (cli(&format!("runrig port-forward {project}/{service} {port}"))) }
        @if let Some((service, target)) = keeps { (cli(&format!("runrig cp {project}/{service}:{target} ."))) }
    }
}

fn content(view: &DeploymentView, urls: &[(String, String)]) -> Markup {
    html! {
        div.stack { (ports(view, urls)) (networks(view)) (volumes(view)) }
        p.foot-note { "To change any of it, edit the compose file and deploy again; volumes stay where they are." }
        (lines(view))
    }
}

/// `GET /jobs/{name}/network`
pub async fn page(State(app): State<App>, visitor: Visitor, Path(name): Path<String>) -> Page {
    let view = own_deployment(&app, visitor.login()?, &name).await?;
    let content = html! {
        (head(&visitor, &view, "/network"))
        (content(&view, &addresses(&app, &view)))
    };
    let title = format!("Network of {name}");
    shown(&app, &visitor, Place::Jobs, &title, content).await
}

#[cfg(test)]
mod tests {
    use types::{AccountId, DeploymentSpec, NetworkSpec, PortSpec, Protocol, VolumePart};

    use super::*;
    use crate::hostile_tests::deployment;
    use crate::tests::EVIL;

    fn shop() -> DeploymentView {
        let mount = |source, target: &str| MountSpec {
            source,
            target: target.into(),
            read_only: false,
        };
        let web = ServiceSpec {
            ports: vec![PortSpec {
                target: 80,
                published: Some(8_080),
                protocol: Protocol::Tcp,
            }],
            networks: [("front".to_string(), vec!["shop-front".to_string()])].into(),
            mounts: vec![mount(MountSource::Tmpfs(Default::default()), "/run")],
            ..ServiceSpec::default()
        };
        let part = VolumePart {
            volume: "data".into(),
            path: "pg".into(),
        };
        let db = ServiceSpec {
            expose: vec![5_432],
            networks: [("back".to_string(), Vec::new())].into(),
            mounts: vec![mount(MountSource::Part(part), "/var/lib/data")],
            ..ServiceSpec::default()
        };
        let once = ServiceSpec {
            offline: true,
            ..ServiceSpec::default()
        };
        let old = deployment(AccountId::default());
        DeploymentView {
            spec: DeploymentSpec {
                services: [("web", web), ("db", db), ("once", once)]
                    .map(|(name, s)| (name.to_string(), s))
                    .into(),
                networks: [("front", false), ("back", true), ("idle", false)]
                    .map(|(name, internal)| (name.to_string(), NetworkSpec { internal }))
                    .into(),
                volumes: ["data", "spare"]
                    .map(|name| (name.to_string(), Default::default()))
                    .into(),
                ..old.spec.clone()
            },
            allocations: Vec::new(),
            ..old
        }
    }

    #[test]
    fn who_reaches_whom_and_what_is_kept_where() {
        let view = shop();
        let urls = [("web".to_string(), "http://127.0.0.1:8080".to_string())];
        let text = content(&view, &urls).into_string();
        for expected in [
            "80/tcp",
            "8080/tcp",
            "5432/tcp",
            "by name only",
            "shop-front, web",
            "nobody",
            "data/pg",
            "goes with the container",
            "no host now",
            "by their own wish: once",
            "mounted by no service: spare",
            "href=\"http://127.0.0.1:8080\"",
            "runrig port shop<",
            "runrig port-forward shop/db 5432",
            "runrig cp shop/db:/var/lib/data .",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        let back = text.split("<tr>").find(|row| row.contains(">back<"));
        assert!(back.is_some_and(|row| row.contains(">none<")));
    }

    #[test]
    fn nothing_is_said_to_be_nothing_and_hostile_names_are_text() {
        let mut view = deployment(AccountId::default());
        view.spec.volumes.clear();
        let text = content(&view, &[]).into_string();
        assert_eq!(text.matches("class=\"title\">None<").count(), 3, "{text}");
        let evil = || EVIL.to_string();
        view.spec.networks = [(evil(), NetworkSpec { internal: true })].into();
        view.spec.volumes = [(evil(), Default::default())].into();
        for service in view.spec.services.values_mut() {
            service.networks = [(evil(), vec![evil()])].into();
            service.expose = vec![1];
            service.mounts = vec![MountSpec {
                source: MountSource::Volume(evil()),
                target: evil(),
                read_only: true,
            }];
        }
        let text = content(&view, &[]).into_string();
        assert!(!text.contains(EVIL) && text.contains("read-only"), "{text}");
    }
}
