//! What a path is about.

use types::Digest;

use crate::limits::NAME_BYTES_MAX;

#[derive(Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    Health,
    Metrics,
    Ping,
    Token,
    /// Ours: names of an account's repositories.
    Catalogue(&'a str),
    Blob(&'a str, &'a str),
    Uploads(&'a str),
    Upload(&'a str, &'a str),
    Manifest(&'a str, &'a str),
    Tags(&'a str),
    Referrers(&'a str, &'a str),
}

impl<'a> Asked<'a> {
    pub fn parse(path: &'a str) -> Option<Self> {
        match path {
            "/healthz" => return Some(Self::Health),
            "/metrics" => return Some(Self::Metrics),
            "/v2" | "/v2/" => return Some(Self::Ping),
            "/v2/token" => return Some(Self::Token),
            _ => {}
        }
        let path = path.strip_prefix("/v2/")?;
        if let Some(account) = path.strip_prefix("_accounts/") {
            return is_name(account).then_some(Self::Catalogue(account));
        }
        let ends = |word: &str| path.strip_suffix(word).filter(|name| is_name(name));
        if let Some(name) = ends("/blobs/uploads/").or_else(|| ends("/blobs/uploads")) {
            return Some(Self::Uploads(name));
        }
        if let Some(name) = ends("/tags/list") {
            return Some(Self::Tags(name));
        }
        let (before, last) = path.rsplit_once('/')?;
        let named = |word: &str| before.strip_suffix(word).filter(|name| is_name(name));
        if let Some(name) = named("/blobs/uploads") {
            return Some(Self::Upload(name, last));
        }
        if let Some(name) = named("/blobs") {
            return Some(Self::Blob(name, last));
        }
        if let Some(name) = named("/referrers") {
            return Some(Self::Referrers(name, last));
        }
        named("/manifests").map(|name| Self::Manifest(name, last))
    }

    pub fn repository(&self) -> Option<&'a str> {
        match *self {
            Self::Health | Self::Metrics | Self::Ping | Self::Token | Self::Catalogue(_) => None,
            Self::Blob(name, _)
            | Self::Uploads(name)
            | Self::Upload(name, _)
            | Self::Manifest(name, _)
            | Self::Tags(name)
            | Self::Referrers(name, _) => Some(name),
        }
    }
}

/// Lower-case parts between slashes; letters or digits, between them `.`, `_`, `__` or dashes.
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let part = |part: &str| {
        let bytes = part.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.iter().all(|b| b.is_some_and(|b| plain(*b)))
            && bytes.iter().all(|b| plain(*b) || b"._-".contains(b))
            && !["..", "._", "_.", ".-", "-.", "_-", "-_", "___"]
                .iter()
                .any(|pair| part.contains(pair))
    };
    name.len() <= NAME_BYTES_MAX && name.split('/').all(part)
}

pub fn is_tag(tag: &str) -> bool {
    !tag.is_empty()
        && tag.len() <= 128
        && !tag.starts_with(['.', '-'])
        && tag
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// With its algorithm: a tag may look like 64 digits.
pub fn digest(text: &str) -> Option<Digest> {
    text.starts_with("sha256:").then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_told_apart() {
        for (path, asked) in [
            ("/v2/", Some(Asked::Ping)),
            ("/v2", Some(Asked::Ping)),
            ("/v2/token", Some(Asked::Token)),
            ("/v2/_accounts/ab", Some(Asked::Catalogue("ab"))),
            ("/v2/a/b/tags/list", Some(Asked::Tags("a/b"))),
            (
                "/v2/a/b/blobs/sha256:1",
                Some(Asked::Blob("a/b", "sha256:1")),
            ),
            ("/v2/a/blobs/uploads/", Some(Asked::Uploads("a"))),
            ("/v2/a/blobs/uploads", Some(Asked::Uploads("a"))),
            ("/v2/a/blobs/uploads/1f", Some(Asked::Upload("a", "1f"))),
            ("/v2/a/manifests/v1", Some(Asked::Manifest("a", "v1"))),
            ("/v2/a/referrers/x", Some(Asked::Referrers("a", "x"))),
            // Words of the specification may be names as well.
            (
                "/v2/a/blobs/manifests/v1",
                Some(Asked::Manifest("a/blobs", "v1")),
            ),
            (
                "/v2/a/tags/list/tags/list",
                Some(Asked::Tags("a/tags/list")),
            ),
            ("/v3/", None),
            ("/v2/a", None),
            ("/v2/A/tags/list", None),
            ("/v2/../../etc/passwd", None),
            ("/v2/a/../b/tags/list", None),
            ("/v2/_tags/tags/list", None),
            ("/v2/a//tags/list", None),
        ] {
            assert_eq!(Asked::parse(path), asked, "{path}");
        }
        for (name, good) in [
            ("a", true),
            ("a/b-c_d.e__f--g/0", true),
            ("a/.b", false),
            ("a/b.", false),
            ("a..b", false),
            ("a___b", false),
            ("_a", false),
            ("", false),
            ("a/", false),
            ("ä", false),
        ] {
            assert_eq!(is_name(name), good, "{name}");
        }
        assert!(!is_name(&"a".repeat(201)));
        assert!(is_tag("v1.writing") && is_tag("_a") && !is_tag(".a") && !is_tag("a/b"));
        assert!(digest(&"0".repeat(64)).is_none());
    }
}
