//! The site that a drill is about, the load on it, and the verdict.

use std::time::{Duration, Instant};

use fixtures::{Cloud, Load, Outcome, credits, get, until};
use serde_json::Value;

/// Its name at the gateway.
pub const SITE: &str = "web.site.localhost";

/// The compose file.
pub fn site(colour: &str, command: &str) -> String {
    format!(
        r#"
name: site
services:
  web:
    image: busybox
    command: {command}
    environment: {{ COLOUR: "{colour}" }}
    ports: ["8080"]
    stop_grace_period: 1s
    restart: unless-stopped
    healthcheck:
      test: ["CMD", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1:8080/"]
      interval: 1s
      timeout: 2s
      retries: 10
    deploy:
      replicas: 2
"#
    )
}

/// Serves its colour, and says the time once a second.
pub const SERVES: &str = r#"["sh", "-c", "mkdir -p /srv && echo $$COLOUR > /srv/index.html && { while :; do date +%s; sleep 1; done & } && exec httpd -f -p 8080 -h /srv"]"#;

pub struct Drill<'a> {
    cloud: &'a Cloud,
    name: &'static str,
    load: Load,
    began: Instant,
    /// How long until the cloud was whole again.
    recovered: Option<Duration>,
    /// More for the line of verdict.
    figures: Vec<String>,
}

impl<'a> Drill<'a> {
    pub fn begin(cloud: &'a Cloud, name: &'static str) -> Self {
        until("the site answers", || {
            get(&cloud.gateway(), SITE, "/").status == 200
        });
        Self {
            cloud,
            name,
            load: Load::begin(cloud.gateway(), SITE),
            began: Instant::now(),
            recovered: None,
            figures: Vec::new(),
        }
    }

    /// One more figure for the line of verdict.
    pub fn tells(&mut self, figure: String) {
        self.figures.push(figure);
    }

    pub fn strikes(&mut self) {
        self.began = Instant::now();
    }

    pub fn is_over_when(&mut self, what: &str, good: impl FnMut() -> bool) {
        until(what, good);
        self.recovered = Some(self.began.elapsed());
    }

    /// One line of verdict; no request may have failed, and no unit may be charged twice.
    pub fn end(self) -> Outcome {
        let outcome = self.load.end();
        let supply = self.cloud.json(&["chain", "supply"]);
        let recovered = self.recovered.unwrap_or_default().as_secs_f64();
        println!(
            "drill {}: {} requests, {} failed, slowest {:.0} ms, whole again after {recovered:.1} s, \
             units charged twice: {}{}",
            self.name,
            outcome.sent,
            outcome.failed.len(),
            outcome.slowest.as_secs_f64() * 1e3,
            credits(&supply["sum"]) - credits(&supply["expected"]),
            self.figures
                .iter()
                .map(|f| format!(", {f}"))
                .collect::<String>(),
        );
        assert_eq!(supply["sum"], supply["expected"]);
        assert!(outcome.sent > 0);
        let told = outcome.failed.first();
        assert!(told.is_none(), "{}: the first failed: {told:?}", self.name);
        outcome
    }
}

pub fn deployment(cloud: &Cloud) -> Value {
    cloud.json(&["inspect", "site"])[0].clone()
}

pub fn healthy(row: &Value) -> bool {
    row["state"] == "running" && row["health"] == "healthy"
}

/// Replicas of the site that are meant to run: allocation → host.
pub fn replicas(cloud: &Cloud) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("text").to_string();
    let rows = cloud.rows("web");
    let serving = rows.iter().filter(|r| healthy(r));
    serving
        .map(|r| (text(&r["allocation"]), text(&r["host"])))
        .collect()
}

/// Says what is waited for when it has changed: the only trace when it does not come to be.
#[derive(Default)]
pub struct Trace(String);

impl Trace {
    pub fn see(&mut self, now: String) {
        if now != self.0 {
            eprintln!("{now}");
            self.0 = now;
        }
    }
}

/// `dev-2` is the role `host-2`.
pub fn role(host: &str) -> String {
    host.replace("dev-", "host-")
}

pub fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("not text: {value}"))
}

pub fn pid(row: &Value) -> u32 {
    let pid = row["pid"].as_u64().expect("a pid");
    u32::try_from(pid).expect("a pid")
}

pub fn alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// As `host ls` has the host `name`; null if it is not there.
pub fn named(cloud: &Cloud, name: &str) -> Value {
    let hosts = cloud.json(&["host", "ls"]);
    let mut all = hosts.as_array().expect("a list").iter();
    all.find(|h| h["name"] == name).cloned().unwrap_or_default()
}
