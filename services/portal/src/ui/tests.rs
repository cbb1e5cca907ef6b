//! Components, as markup: a change of one is seen here before it is seen on twenty pages.

mod snapshots;

use maud::{Markup, html};
use types::Amount;

use super::*;
use crate::web::{Lack, Right};

#[test]
fn parts_are_what_they_were() {
    for (is, was) in [
        (
            badge(Tone::Ok, "Running").0,
            "<span class=\"badge ok\">Running</span>",
        ),
        (
            credits(Amount(5_237_112)).0,
            "<span class=\"nowrap\" title=\"0.000005237112 credits\">0.0000052</span>",
        ),
        (
            when(0, 65_000).0,
            "<time class=\"nowrap\" title=\"1970-01-01 00:00:00 UTC\">1 min</time>",
        ),
        (
            meter(1, 4, "full").0,
            "<svg class=\"meter full\" viewBox=\"0 0 100 4\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"25%\"><rect class=\"t\" width=\"100\" height=\"4\"></rect><rect class=\"v\" width=\"25\" height=\"4\"></rect></svg>",
        ),
        (
            legend(&[("CPU", 1)]).0,
            "<div class=\"legend\"><span><i class=\"key k1\"></i>CPU</span></div>",
        ),
    ] {
        assert_eq!(is, was);
    }
}

#[test]
fn a_figure_that_is_not_known_says_so() {
    let figure = |value| {
        kpi(Figure {
            label: "Requests",
            value,
            unit: "a minute",
            note: html! {},
            spark: None,
        })
        .0
    };
    assert!(figure(None).contains("not known") && !figure(None).contains("a minute"));
    assert!(figure(Some("3".into())).contains("3 <small>a minute</small>"));
}

#[test]
fn who_lacks_a_role_reads_which_it_takes_and_who_gives_it() {
    let lack = |role| Lack {
        act: "send credits",
        right: Right::Pay,
        role,
        account: "Acme & Sons".into(),
    };
    let icon = icon("key-round").0;
    let note = |said: &str| {
        format!(
            "<div class=\"noright\" role=\"note\">{icon}<div><p class=\"strong\">You may not send \
             credits for Acme &amp; Sons</p><p>{said}; this takes the role owner, admin or billing. \
             Its owners and admins give roles, under <a href=\"/members\">Keys and members</a>.</p>\
             </div></div>"
        )
    };
    let viewer = Some(ledger::account::Role::Viewer);
    assert_eq!(no_right(&lack(viewer)).0, note("You are viewer there"));
    let none = no_right(&lack(None)).0;
    assert_eq!(none, note("It gave you no role, or took it back"));
    let form = || html! { form {} };
    assert_eq!(if_may(None, form).0, "<form></form>");
    assert_eq!(if_may(Some(lack(None)), form).0, none);
}

#[test]
fn what_moves_says_what_it_waits_for_and_since_when_it_stands() {
    let lines = "<line x1=\"0\" x2=\"100\" y1=\"20\" y2=\"20\"></line>\
        <line x1=\"0\" x2=\"100\" y1=\"40\" y2=\"40\"></line>\
        <line x1=\"0\" x2=\"100\" y1=\"60\" y2=\"60\"></line>\
        <line x1=\"0\" x2=\"100\" y1=\"80\" y2=\"80\"></line>";
    assert_eq!(
        skeleton("Asking & waiting").0,
        format!(
            "<div class=\"skeleton\"><svg viewBox=\"0 0 100 100\" preserveAspectRatio=\"none\" \
             aria-hidden=\"true\">{lines}</svg><p role=\"status\">Asking &amp; waiting</p>\
             <noscript><p>What is drawn here needs scripts.</p></noscript></div>"
        )
    );
    let note = |hidden: &str, since: &str| {
        format!(
            "<div class=\"alert warn stale-note\" role=\"status\" data-stale{hidden}>{}<div>\
             <p class=\"strong\">Not live since <time>{since}</time></p><p>The network, or the way \
             to it, does not answer. What is shown is as it was then, and moves again by itself.</p>\
             </div></div>",
            icon("wifi-off").0
        )
    };
    assert_eq!(stale(None).0, note(" hidden", "it was opened"));
    assert_eq!(stale(Some(0)).0, note("", "it was opened"));
    assert_eq!(stale(Some(65_000)).0, note("", "1970-01-01 00:01:05 UTC"));
}

#[test]
fn charts_carry_their_numbers_and_survive_nothing() {
    let none = donut(&[], "job", "jobs").0;
    assert!(none.contains("aria-label=\"0 jobs\""));
    let slices = [
        Slice {
            label: "Running".into(),
            count: 1,
            colour: 1,
        },
        Slice {
            label: "Failing".into(),
            count: 3,
            colour: 4,
        },
    ];
    let some = donut(&slices, "job", "jobs").0;
    for part in ["<title>Failing: 3</title>", "75%", "25%", "4 jobs"] {
        assert!(some.contains(part), "{part}: {some}");
    }
    let bar = |parts| Bar {
        label: "Nov".into(),
        parts,
        plan: None,
        title: "November".into(),
    };
    let empty =
        bars(&[], &[1], "nothing", false).0 + &bars(&[bar(vec![0.0])], &[1], "zero", true).0;
    assert!(!empty.contains("NaN") && !empty.contains("inf"), "{empty}");
    let small = bars(&[bar(vec![0.000_003])], &[1], "small", false).0;
    assert!(small.contains("billionths of a credit") || small.contains("millionths of a credit"));
}

#[test]
fn text_of_others_is_escaped() {
    for part in [
        feed("box", "<b>", html! {}, None).0,
        cli("<b>").0,
        empty("box", "<b>", "<b>", None).0,
        trouble("<b>", "<b>", "<b>").0,
    ] {
        assert!(!part.contains("<b>"), "{part}");
    }
}

#[test]
fn a_check_has_a_button_only_where_there_is_a_program() {
    let of = |program| {
        let about = "{\"receipt\":\"r-3\"}";
        let proof = "/explorer/proofs/receipts/r-3";
        let network_key = &"8c".repeat(96);
        check(&Check {
            about,
            proof,
            program,
            network_key,
        })
        .0
    };
    let with = of(Ok("/a/check.0123456789.wasm"));
    for part in [
        "<div class=\"stack\" hidden data-check=\"{&quot;receipt&quot;:&quot;r-3&quot;}\" data-proof=\"/explorer/proofs/receipts/r-3\" data-program=\"/a/check.0123456789.wasm\" data-network-key=\"8c8c",
        "<span class=\"mono\" data-part=\"key\">8c8c8c…8c8c</span>",
        "<button class=\"btn primary\" type=\"button\">",
        "<noscript><p class=\"ink2\">It takes a script. The command below",
        "<div data-part=\"said\" role=\"status\"></div>",
    ] {
        assert!(with.contains(part), "{part}: {with}");
    }
    let without = of(Err("it is a debug build"));
    assert!(
        !without.contains("<button") && !without.contains("<script"),
        "{without}"
    );
    assert!(
        without.contains("without the program for that: it is a debug build."),
        "{without}"
    );
}
