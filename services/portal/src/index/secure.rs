//! TLS to the index's server, as its URL asks for.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use tokio_postgres_rustls::MakeRustlsConnect;

/// Takes `sslmode` and `sslrootcert` out of the URL.
///
/// With `sslmode=require`, `verify-ca` or `verify-full` the server must show a certificate for its
/// name: by an authority in the file `sslrootcert`, or else by one that this machine trusts. (libpq
/// takes any certificate at `require`: then whoever is in between reads along.) Without it, or with
/// `disable`, `allow` or `prefer`, there is no TLS.
///
/// Errors never repeat the URL.
pub fn of(url: &str) -> Result<(String, Option<MakeRustlsConnect>)> {
    let (server, query) = url.split_once('?').unwrap_or((url, ""));
    let (mut rest, mut mode, mut file) = (Vec::new(), "prefer".to_string(), None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let read: Vec<(String, String)> =
            serde_urlencoded::from_str(pair).context("the URL of the index")?;
        match read.into_iter().next() {
            Some((name, value)) if name == "sslmode" => mode = value,
            Some((name, value)) if name == "sslrootcert" => file = Some(value),
            _ => rest.push(pair),
        }
    }
    let with = |mode: &'static str| {
        let all: Vec<&str> = rest.iter().copied().chain([mode]).collect();
        format!("{server}?{}", all.join("&"))
    };
    match &mode[..] {
        "disable" | "allow" | "prefer" => {
            ensure!(
                file.is_none(),
                "the URL of the index has sslrootcert and asks for no TLS: say sslmode=verify-full too"
            );
            Ok((with("sslmode=disable"), None))
        }
        "require" | "verify-ca" | "verify-full" => {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let begun = ClientConfig::builder_with_provider(provider);
            let begun = begun.with_safe_default_protocol_versions()?;
            let config = match file {
                Some(file) => begun.with_root_certificates(authorities(&file)?),
                None => begun
                    .with_platform_verifier()
                    .context("the authorities that this machine trusts")?,
            };
            let config = config.with_no_client_auth();
            let tls = MakeRustlsConnect::new(config);
            Ok((with("sslmode=require"), Some(tls)))
        }
        _ => bail!(
            "the URL of the index has an sslmode that is none: disable, require or verify-full"
        ),
    }
}

fn authorities(file: &str) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let read = CertificateDer::pem_file_iter(file)
        .with_context(|| format!("sslrootcert {file} of the index"))?;
    for certificate in read {
        let certificate =
            certificate.with_context(|| format!("sslrootcert {file} of the index"))?;
        roots.add(certificate)?;
    }
    ensure!(
        !roots.is_empty(),
        "sslrootcert {file} of the index has no certificate in it"
    );
    Ok(roots)
}
