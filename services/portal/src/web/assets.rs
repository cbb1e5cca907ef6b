//! Styles, scripts, fonts and icons: in the binary, under names that change with their content,
//! compressed once.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::LazyLock;

use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use types::Digest;

struct Asset {
    media: &'static str,
    plain: Vec<u8>,
    /// `None` for what is compressed already.
    gzip: Option<Vec<u8>>,
}

macro_rules! embedded {
    ($($name:literal = $path:literal, $media:literal;)*) => {
        [$(($name, include_bytes!(concat!("../../assets/", $path)).as_slice(), $media)),*]
    };
}

/// Name → content, under the name that browsers ask for.
struct Assets {
    urls: BTreeMap<&'static str, String>,
    by_name: BTreeMap<String, Asset>,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let fonts_first = embedded! {
        "geist.woff2" = "vendor/geist.woff2", "font/woff2";
        "geist-ext.woff2" = "vendor/geist-ext.woff2", "font/woff2";
        "geist-mono.woff2" = "vendor/geist-mono.woff2", "font/woff2";
        "icons.svg" = "vendor/icons.svg", "image/svg+xml";
        "logo.svg" = "logo.svg", "image/svg+xml";
        "uplot.js" = "vendor/uplot.min.js", "text/javascript; charset=utf-8";
        "uplot.css" = "vendor/uplot.min.css", "text/css; charset=utf-8";
        "portal.js" = "portal.js", "text/javascript; charset=utf-8";
        "passkey.js" = "passkey.js", "text/javascript; charset=utf-8";
        "terminal.js" = "vendor/xterm-headless.mjs", "text/javascript; charset=utf-8";
        "shell.js" = "shell.js", "text/javascript; charset=utf-8";
        "check.js" = "check.js", "text/javascript; charset=utf-8";
        "live.js" = "live.js", "text/javascript; charset=utf-8";
        "portal.css" = "portal.css", "text/css; charset=utf-8";
    };
    let mut assets = Assets {
        urls: BTreeMap::new(),
        by_name: BTreeMap::new(),
    };
    // Where this build has it.
    let program = browser::PROGRAM.map(|program| ("check.wasm", program, "application/wasm"));
    for (name, content, media) in fonts_first.into_iter().chain(program.ok()) {
        let mut plain = content.to_vec();
        if name == "portal.css" {
            // Fonts are known by their own changing names.
            let mut text = String::from_utf8_lossy(&plain).into_owned();
            for font in ["geist.woff2", "geist-ext.woff2", "geist-mono.woff2"] {
                if let Some(url) = assets.urls.get(font) {
                    text = text.replace(&format!("url({font})"), &format!("url({url})"));
                }
            }
            plain = text.into_bytes();
        }
        let (stem, end) = name.rsplit_once('.').unwrap_or((name, ""));
        let named = format!("{stem}.{}.{end}", &Digest::of(&plain).hex()[..10]);
        assets.urls.insert(name, format!("/a/{named}"));
        let gzip = (!name.ends_with(".woff2")).then(|| gzip(&plain, 9));
        assets.by_name.insert(named, Asset { media, plain, gzip });
    }
    assets
});

/// `bytes` compressed, `level` 1 to 9.
pub fn gzip(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

pub fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get(header::ACCEPT_ENCODING)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|v| v.split(',').any(|e| e.trim().starts_with("gzip")))
}

/// Where a browser finds an asset; empty for an unknown one.
pub fn url(name: &str) -> &'static str {
    ASSETS.urls.get(name).map_or("", String::as_str)
}

/// `GET /a/{name}`
pub async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    let Some(asset) = ASSETS.by_name.get(&name) else {
        return (StatusCode::NOT_FOUND, "no such file").into_response();
    };
    let mut out = HeaderMap::new();
    let value = header::HeaderValue::from_static;
    out.insert(header::CONTENT_TYPE, value(asset.media));
    out.insert(
        header::CACHE_CONTROL,
        value("public, max-age=31536000, immutable"),
    );
    out.insert(header::VARY, value("accept-encoding"));
    match &asset.gzip {
        Some(gzip) if accepts_gzip(&headers) => {
            out.insert(header::CONTENT_ENCODING, value("gzip"));
            (out, gzip.as_slice()).into_response()
        }
        _ => (out, asset.plain.as_slice()).into_response(),
    }
}
