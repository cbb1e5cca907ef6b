//! Every component as it is drawn, in `snapshots.txt`: a change is seen there before it is seen on
//! twenty pages. `UPDATE_SNAPSHOTS=1 cargo test -p portal --lib ui` writes the file anew.

use std::path::PathBuf;
use std::sync::Arc;

use api::{JobRow, JobState};
use types::{AllocationStatus, DeploymentId, Health, RunState};

use super::*;
use crate::approve::{Ask, Challenge, Way};
use crate::hostile_tests::deployment;
use crate::people::Token;
use crate::web::{Asking, Form, Visitor, url};

fn visitor() -> Visitor {
    Visitor(Arc::new(Asking {
        login: None,
        theme: None,
        token: Token([7; 32]),
        path: "/wallet/send".into(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        browser: String::new(),
        host: "portal.example".into(),
        device: None,
        partial: false,
    }))
}

fn ask(way: Way, wrong: Option<&str>) -> Ask {
    Ask {
        why: String::new(),
        words: "Account 0707…0707 sends 5 credits".into(),
        wrong: wrong.map(str::to_string),
        way,
    }
}

fn job() -> JobRow {
    let view = deployment(types::AccountId::default());
    JobRow {
        deployment: DeploymentId(1),
        project: "shop".into(),
        state: JobState::Running,
        services: 1,
        image: "nginx".into(),
        wanted: 3,
        live: 1,
        ready: 1,
        replicas: view.allocations,
        hosts: vec!["barn".into()],
        hosts_all: 1,
        cpu_millis: 1,
        memory_bytes: 1,
        charged: Amount::ZERO,
        charged_by: [Amount::ZERO; 5],
        created_ms: 0,
    }
}

fn slices() -> [Slice; 2] {
    let slice = |label: &str, count, colour| Slice {
        label: label.into(),
        count,
        colour,
    };
    [slice("Running", 3, 1), slice("Failing", 1, 4)]
}

fn hours() -> Vec<String> {
    (0..5).map(|hour| format!("1{hour}:00")).collect()
}

fn two_lines() -> [Line; 2] {
    let line = |label: &str, colour, points: [Option<f64>; 5]| Line {
        label: label.into(),
        colour,
        points: points.into(),
        figures: "so much".into(),
        projected: colour == 2,
    };
    [
        line("web.1", 1, [Some(0.5), Some(1.0), None, Some(0.25), None]),
        line(
            "web.2",
            2,
            [None, Some(0.5), Some(0.5), Some(0.75), Some(0.0)],
        ),
    ]
}

fn two_bars() -> [Bar; 2] {
    let bar = |label: &str, parts: [f64; 2], plan| Bar {
        label: label.into(),
        parts: parts.into(),
        plan,
        title: format!("{label}: so much"),
    };
    [
        bar("Oct", [1.0, 0.5], None),
        bar("Nov", [0.5, 0.25], Some(2.0)),
    ]
}

/// Each with its name and what it was given.
fn parts() -> Vec<(&'static str, Markup)> {
    let form = Form::read(b"to=ada&amount=5&csrf=x&approve_code=1");
    let passkey = Way::Passkey(vec![Challenge {
        name: "Telephone".into(),
        challenge: "AAAA".into(),
        body: "BBBB".into(),
        allow: "cred".into(),
    }]);
    let figure = |value: Option<&str>| Figure {
        label: "Requests",
        value: value.map(str::to_string),
        unit: "a minute",
        note: html! { "by the gateway" },
        spark: spark(&[0.0, 2.0, 1.0]),
    };
    let lack = Lack {
        act: "send credits",
        right: Right::Pay,
        role: Some(ledger::account::Role::Viewer),
        account: "Acme".into(),
    };
    let mut all = vec![
        ("icon", icon("box")),
        ("badge", badge(Tone::Ok, "Running")),
        ("credits", credits(Amount(5_237_112))),
        ("when", when(0, 65_000)),
        ("image", image("registry.example/shop/web:1@sha256:00")),
        ("copy", copy("runrig ls", "the command")),
        ("cli", cli("runrig ls")),
        (
            "crumbs",
            crumbs(&[("/explorer", "Explorer"), ("/explorer/hosts", "Hosts")]),
        ),
        (
            "trouble",
            trouble("It is gone", "Nobody has it.", "Go back."),
        ),
        ("trouble", trouble("It is gone", "Nobody has it.", "")),
        (
            "empty",
            empty(
                "box",
                "Nothing yet",
                "It comes here.",
                Some(("/jobs/new", "Create job")),
            ),
        ),
        ("empty", empty("box", "Nothing yet", "It comes here.", None)),
        ("kpi", kpi(figure(Some("3")))),
        ("kpi", kpi(figure(None))),
        (
            "lines",
            lines(&two_lines(), &hours(), "cores", "CPU by hour", false),
        ),
        (
            "feed",
            feed(
                "box",
                "It was placed",
                html! { "block 3" },
                Some(credits(Amount(1))),
            ),
        ),
        (
            "field",
            field(
                "to",
                "To account",
                html! { input id="to"; },
                "40 characters",
                None,
            ),
        ),
        (
            "field",
            field(
                "to",
                "To account",
                html! { input id="to"; },
                "40 characters",
                Some("That is none."),
            ),
        ),
        (
            "submit",
            submit(&visitor(), "/wallet/topup", "small", html! { "Get them" }),
        ),
        (
            "pager",
            pager("Blocks 9 to 5", Some("/b"), Some("/b?before=5")),
        ),
        ("pager", pager("5 blocks", None, None)),
        (
            "turner",
            turner("Page 2 of 3", Some("/h?page=1"), Some("/h?page=3")),
        ),
        ("replica_dots", replica_dots(&job())),
        ("no_right", no_right(&lack)),
        ("if_may", if_may(None, || html! { form {} })),
        ("if_may", if_may(Some(lack.clone()), || html! { form {} })),
        ("skeleton", skeleton("Asking the hosts")),
        ("stale", stale(None)),
        ("stale", stale(Some(65_000))),
        ("legend", legend(&[("CPU", 1), ("Memory", 3)])),
        ("donut", donut(&slices(), "job", "jobs")),
        ("donut", donut(&[], "job", "jobs")),
        ("bars", bars(&two_bars(), &[1, 3], "Cost by month", false)),
        (
            "counts",
            counts(&two_bars(), &[1, 3], "Requests by month", "requests", true),
        ),
        (
            "spark",
            html! { @if let Some(line) = spark(&[0.0, 2.0, 1.0]) { (line) } },
        ),
        ("meter", meter(95, 100, "full")),
        (
            "bound",
            bound(2.0, Some(4.0), &[("Alert", 3.0), ("Limit", 5.0)]),
        ),
        (
            "hbars",
            hbars(
                &[
                    ("barn".into(), 2.0, "2".into()),
                    ("rack".into(), 1.0, "1".into()),
                ],
                1,
            ),
        ),
        (
            "prose",
            prose("# Welcome\nWe make <b>things</b>.\n\n- [Here](https://a.example/x)\n- there"),
        ),
        ("passkey_script", passkey_script()),
        ("passkey_fields", passkey_fields()),
        (
            "approval",
            approval(
                &visitor(),
                &ask(Way::Password { coded: true }, Some("That is not it.")),
                &form,
            ),
        ),
        ("approval", approval(&visitor(), &ask(passkey, None), &form)),
        (
            "approval",
            approval(&visitor(), &ask(Way::Passkey(Vec::new()), None), &form),
        ),
        (
            "approval",
            approval(&visitor(), &ask(Way::File, None), &form),
        ),
    ];
    for tone in [Tone::Plain, Tone::Ok, Tone::Info, Tone::Warn, Tone::Bad] {
        all.push(("alert", alert(tone, html! { p { "So it is." } })));
    }
    for (state, health) in [
        (RunState::Running, Health::Healthy),
        (RunState::Running, Health::Unhealthy),
        (RunState::Failed, Health::None),
        (RunState::Pulling, Health::None),
    ] {
        let mut one = job().replicas.swap_remove(0);
        one.status = AllocationStatus {
            state,
            health,
            ..AllocationStatus::default()
        };
        let (tone, word) = status(&one);
        all.push(("status", badge(tone, word)));
    }
    all
}

/// Without what differs from build to build and from form to form.
fn steady(markup: &str) -> String {
    let mut text = markup.to_string();
    for name in ["icons.svg", "passkey.js"] {
        text = text.replace(url(name), &format!("/a/{name}"));
    }
    let mut parts = text.split("name=\"csrf\" value=\"");
    let first = parts.next().unwrap_or("").to_string();
    let rest = parts.map(|part| part.split_once('"').map_or("", |(_, rest)| rest));
    let text = rest.fold(first, |text, part| {
        text + "name=\"csrf\" value=\"…\"" + part
    });
    text.replace("><", ">\n<")
}

fn drawn() -> String {
    let parts = parts();
    let parts = parts
        .iter()
        .map(|(name, markup)| format!("## {name}\n{}\n\n", steady(&markup.0)));
    parts.collect()
}

#[test]
fn components_are_as_they_were() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/ui/tests/snapshots.txt");
    let is = drawn();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &is).expect("written");
    }
    let was = std::fs::read_to_string(&path).expect("snapshots.txt");
    for (is, was) in is.split("## ").zip(was.split("## ")) {
        assert_eq!(is, was, "UPDATE_SNAPSHOTS=1 writes it anew");
    }
    assert_eq!(is.len(), was.len(), "UPDATE_SNAPSHOTS=1 writes it anew");
}

#[test]
fn every_component_has_a_snapshot() {
    let sources = [
        include_str!("../approval.rs"),
        include_str!("../chart.rs"),
        include_str!("../part.rs"),
        include_str!("../prose.rs"),
    ];
    let known: Vec<&str> = parts().into_iter().map(|(name, _)| name).collect();
    for source in sources {
        for part in source.split("\npub fn ").skip(1) {
            let name = part.split(['(', '<']).next().unwrap_or("");
            assert!(known.contains(&name), "{name}: give it one in snapshots.rs");
        }
    }
}
