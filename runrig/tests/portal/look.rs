//! Every page, at a desk and on a phone: nothing is wrong, nothing is too wide; pictures.

use std::path::Path;

use fixtures::Page;

use super::Stage;

/// For who is logged in and has the job `journey`.
const MEMBERS: [(&str, &str); 38] = [
    ("overview", "/"),
    ("jobs", "/jobs"),
    ("jobs-none", "/jobs?q=nothing"),
    ("jobs-overview", "/jobs/overview"),
    ("jobs-overview-year", "/jobs/overview?range=12m"),
    ("job-new", "/jobs/new"),
    ("job-new-image", "/jobs/new?from=image"),
    ("job", "/jobs/journey"),
    ("job-logs", "/jobs/journey/logs"),
    ("job-shell", "/jobs/journey/shell"),
    ("job-releases", "/jobs/journey/releases"),
    ("job-events", "/jobs/journey/events"),
    ("job-receipts", "/jobs/journey/receipts"),
    ("job-metrics", "/jobs/journey/metrics"),
    ("job-variables", "/jobs/journey/variables"),
    ("job-network", "/jobs/journey/network"),
    ("job-compose", "/jobs/journey/compose"),
    ("job-scale", "/jobs/journey/scale"),
    ("job-missing", "/jobs/nothing"),
    ("analytics", "/analytics"),
    ("requests", "/analytics/requests"),
    ("requests-day", "/analytics/requests?range=24h"),
    ("requests-year", "/analytics/requests?range=12m"),
    ("use", "/analytics/use?range=7d"),
    ("hosts", "/hosts"),
    ("host-new", "/hosts/new"),
    ("hosts-none", "/hosts?q=nothing"),
    ("earnings", "/earnings"),
    ("payouts", "/earnings/payouts"),
    ("wallet", "/wallet"),
    ("bills", "/bills"),
    ("limits", "/bills/limits"),
    ("settings", "/settings"),
    ("members", "/members"),
    ("api-keys", "/settings/keys"),
    ("device", "/device"),
    ("search", "/explorer/search?q=d-1"),
    ("no-page", "/nowhere"),
];

const STRANGERS: [(&str, &str); 24] = [
    ("stranger", "/"),
    ("signup", "/signup"),
    ("login", "/login"),
    ("explorer", "/explorer"),
    ("blocks", "/explorer/blocks"),
    ("block", "/explorer/blocks/2"),
    ("transactions", "/explorer/transactions"),
    ("network-hosts", "/explorer/hosts"),
    (
        "network-hosts-none",
        "/explorer/hosts?q=nothing&status=silent",
    ),
    ("network", "/explorer/network"),
    ("lots", "/explorer/lots"),
    ("votes", "/explorer/votes"),
    ("lotteries", "/explorer/lotteries"),
    ("receipt", "/explorer/receipts/r-1"),
    ("search-deployment", "/explorer/search?q=d-1"),
    ("search-replica", "/explorer/search?q=a-1"),
    ("docs", "/docs"),
    ("docs-deploy", "/docs/deploy"),
    ("operate", "/operate"),
    ("operate-queue", "/operate/queue"),
    ("operate-placements", "/operate/placements?range=7d"),
    ("operate-incidents", "/operate/incidents"),
    ("operate-audit", "/operate/audit"),
    (
        "operate-audit-none",
        "/operate/audit?kind=rollback&result=refused",
    ),
];

/// What people print.
const PRINTED: [(&str, &str); 4] = [
    ("bills", "/bills"),
    ("job", "/jobs/journey"),
    ("use", "/analytics/use?range=7d"),
    ("receipt", "/explorer/receipts/r-1"),
];

/// A sheet of A4 within its margins, in CSS pixels.
const PAPER: (u32, u32) = (718, 1_000);

/// What a page must not have, as a list of words.
const WRONGS: &str = "(() => {
    const wrong = [], all = s => [...document.querySelectorAll(s)];
    if (all('h1').length !== 1) wrong.push(all('h1').length + ' headings of the first order');
    const ids = all('[id]').map(n => n.id);
    ids.filter((id, at) => ids.indexOf(id) !== at).forEach(id => wrong.push('two of #' + id));
    const named = n => n.getAttribute('aria-label') || n.innerText?.trim() || n.title
        || n.querySelector('[aria-label], .sr') || n.textContent.trim();
    all('a[href], button, summary').filter(n => !named(n)).forEach(n => wrong.push('no name: ' + n.outerHTML.slice(0, 90)));
    all('input:not([type=hidden]), textarea, select')
        .filter(n => !n.labels?.length && !n.getAttribute('aria-label'))
        .forEach(n => wrong.push('no label: ' + n.outerHTML.slice(0, 90)));
    all('[aria-describedby]').flatMap(n => n.getAttribute('aria-describedby').split(' '))
        .filter(id => !document.getElementById(id)).forEach(id => wrong.push('nothing is #' + id));
    return wrong; })()";

pub fn check(page: &Page, path: &str) {
    page.sized(1440, 900);
    page.go(path);
    let wrongs = page.eval(WRONGS);
    assert_eq!(wrongs.as_array().map(Vec::len), Some(0), "{path}: {wrongs}");
    for width in [1440, 390, 320] {
        page.sized(width, 900);
        let wide = page.too_wide();
        assert_eq!(wide, None, "{path} at {width}");
    }
    let faults = page.faults(&["status of 404"]);
    assert!(faults.is_empty(), "{path}: {faults:?}");
}

pub fn around(stage: &Stage, member: &Page) {
    for (_, path) in MEMBERS {
        check(member, path);
    }
    let stranger = stage.browser.visitor(&stage.site);
    for (_, path) in STRANGERS {
        check(&stranger, path);
    }
    let axe = axe();
    for path in ["/", "/jobs", "/jobs/new", "/jobs/journey", "/settings"] {
        shuts_nobody_out(member, path, &axe);
    }
    for path in ["/signup", "/explorer", "/operate"] {
        shuts_nobody_out(&stranger, path, &axe);
    }
    for (_, path) in PRINTED {
        on_paper(member, path);
    }
    member.sized(1440, 900);
}

/// The script of axe-core, which looks for what shuts people out.
fn axe() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../target/axe/node_modules/axe-core/axe.min.js");
    std::fs::read_to_string(&path).unwrap_or_else(|e| {
        let path = path.display();
        panic!("{path}: {e}: `cargo xtask test` brings it, by npm")
    })
}

/// axe finds nothing, in both themes, at a desk and on a phone. All pages are looked at by
/// `cargo xtask portal-bars`.
fn shuts_nobody_out(page: &Page, path: &str, axe: &str) {
    const FOUND: &str = "axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] })
        .then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html.slice(0, 120)).join(' | ')))";
    for theme in THEMES {
        in_theme(page, theme);
        for width in [1440, 390] {
            page.sized(width, 900);
            page.go(path);
            page.until("fonts", "document.fonts.status === 'loaded'");
            // By the debugger: the pages' policy forbids scripts of others.
            page.eval(&format!("{axe}; 0"));
            let found = page.eval(FOUND);
            let none = found.as_array().map(Vec::len);
            assert_eq!(none, Some(0), "{path} {theme} {width}: {found}");
        }
    }
    in_theme(page, "light");
}

/// `PAGE-THEME-WIDTH.png` of every page.
pub fn pictures(stage: &Stage, member: &Page, folder: &Path) {
    std::fs::create_dir_all(folder).expect("a folder");
    let stranger = stage.browser.visitor(&stage.site);
    for (page, all) in [(member, MEMBERS.as_slice()), (&stranger, &STRANGERS)] {
        for theme in THEMES {
            in_theme(page, theme);
            for (name, path) in all {
                page.sized(1440, 900);
                page.go(path);
                page.until("fonts", "document.fonts.status === 'loaded'");
                if *path == "/" && page.eval("!!document.querySelector('.live')") == true {
                    page.until("a few samples", "window.looked = (window.looked || 0) + 1, !!document.querySelector('.uplot') && window.looked > 60");
                }
                at_both_widths(page, folder, name, theme);
            }
        }
    }
    other_media(member, folder);
}

const THEMES: [&str; 2] = ["light", "dark"];

/// What is looked at stands still: the colours of a button half way to others are nobody's.
fn in_theme(page: &Page, theme: &str) {
    let features = serde_json::json!([
        { "name": "prefers-color-scheme", "value": theme },
        { "name": "prefers-reduced-motion", "value": "reduce" },
    ]);
    page.command(
        "Emulation.setEmulatedMedia",
        serde_json::json!({ "features": features }),
    );
}

fn at_both_widths(page: &Page, folder: &Path, name: &str, theme: &str) {
    for width in [1440, 390] {
        page.sized(width, 900);
        let height = page.height();
        page.sized(width, height.max(900));
        page.picture(&folder.join(format!("{name}-{theme}-{width}.png")));
    }
}

/// As on paper: what is of no use there is left out, and nothing is cut off.
fn on_paper(page: &Page, path: &str) {
    page.sized(PAPER.0, PAPER.1);
    page.go(path);
    page.command(
        "Emulation.setEmulatedMedia",
        serde_json::json!({ "media": "print" }),
    );
    let shown = page.eval(
        "[...document.querySelectorAll('.nav, .top, form, button, .cli')].filter(n => n.checkVisibility()).map(n => n.outerHTML.slice(0, 90))",
    );
    assert_eq!(shown.as_array().map(Vec::len), Some(0), "{path}: {shown}");
    assert_eq!(page.too_wide(), None, "{path} on paper");
    page.command(
        "Emulation.setEmulatedMedia",
        serde_json::json!({ "media": "" }),
    );
}

/// `PAGE-print.png`, and `PAGE-forced.png` in the system's colours.
fn other_media(page: &Page, folder: &Path) {
    let forced = serde_json::json!([{ "name": "forced-colors", "value": "active" }]);
    let media = [
        ("print", serde_json::json!({ "media": "print" })),
        (
            "forced",
            serde_json::json!({ "media": "", "features": forced }),
        ),
    ];
    for (name, path) in PRINTED {
        for (kind, media) in &media {
            page.sized(PAPER.0, PAPER.1);
            page.go(path);
            page.until("fonts", "document.fonts.status === 'loaded'");
            page.command("Emulation.setEmulatedMedia", media.clone());
            page.sized(PAPER.0, page.height().max(PAPER.1));
            page.picture(&folder.join(format!("{name}-{kind}.png")));
        }
    }
    in_theme(page, "light");
}

/// What the tab shows now, which cannot be asked for again: nothing is wrong with it; pictures of
/// it, where they are wanted.
pub fn here(stage: &Stage, page: &Page, name: &str) {
    let wrongs = page.eval(WRONGS);
    assert_eq!(wrongs.as_array().map(Vec::len), Some(0), "{name}: {wrongs}");
    for width in [390, 320, 1440] {
        page.sized(width, 900);
        assert_eq!(page.too_wide(), None, "{name} at {width}");
    }
    if let Some(folder) = &stage.pictures {
        std::fs::create_dir_all(folder).expect("a folder");
        // Whatever he has chosen before.
        page.eval("delete document.documentElement.dataset.theme");
        for theme in THEMES {
            in_theme(page, theme);
            // Buttons change their colour in a moment.
            std::thread::sleep(std::time::Duration::from_millis(250));
            at_both_widths(page, folder, name, theme);
        }
        page.sized(1440, 900);
    }
}
